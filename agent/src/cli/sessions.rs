//! `pgward sessions`

use std::io;
use std::path::Path;

use super::table::{Heading, printable, render};
use super::{AskArgs, Exit, Output, load};
use crate::control::{Request, Response, SessionInfo, ask};

/// Lists the sessions of the agent that the configuration names.
pub fn run(args: &AskArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    match load(output, &args.config)? {
        Ok(config) => run_at(&config.agent.control_socket, args.json, output),
        Err(exit) => Ok(exit),
    }
}

/// Lists the sessions of the agent at `socket`, oldest first.
pub(super) fn run_at(socket: &Path, json: bool, output: &mut Output<'_>) -> io::Result<Exit> {
    let mut sessions = match ask(socket, Request::Sessions {}) {
        Ok(Response::Sessions { sessions }) => sessions,
        Ok(_) => return output.error(&super::status::WrongAnswer),
        Err(error) => return output.error(&error),
    };
    sessions.sort_by(|a, b| (&a.since, &a.id).cmp(&(&b.since, &b.id)));
    if json {
        serde_json::to_writer(&mut *output.data, &sessions)?;
        writeln!(output.data)?;
    } else if sessions.is_empty() {
        writeln!(output.notes, "no sessions")?;
    } else {
        let rows = sessions.iter().map(row).collect();
        write!(output.data, "{}", render(&HEADINGS, rows, output.width))?;
    }
    Ok(Exit::Done)
}

const HEADINGS: [Heading; 16] = [
    left("SESSION"),
    right("PID"),
    left("EXE"),
    right("UID"),
    left("CONTAINER"),
    left("DESTINATION"),
    left("DATABASE"),
    left("USER"),
    left("CLIENT LEG"),
    left("SERVER LEG"),
    left("HANDSHAKE"),
    left("STATE"),
    left("SINCE"),
    right("STATEMENTS"),
    right("ROWS"),
    left("TIER"),
];

const fn left(title: &'static str) -> Heading {
    Heading { title, right: false, usual: 0 }
}

const fn right(title: &'static str) -> Heading {
    Heading { title, right: true, usual: 0 }
}

/// Of TLS in a few words, its version, which comes first.
fn leg(described: Option<&str>) -> &str {
    described.and_then(|leg| leg.split(' ').next()).unwrap_or("")
}

fn row(session: &SessionInfo) -> Vec<String> {
    let or_dash = |text: &str| match printable(text) {
        empty if empty.is_empty() => "-".to_owned(),
        text => text,
    };
    vec![
        super::short_session(&session.id),
        session.pid.to_string(),
        or_dash(session.exe.as_deref().unwrap_or("")),
        session.uid.to_string(),
        or_dash(session.container.as_deref().unwrap_or("")),
        or_dash(&session.destination),
        or_dash(&session.database),
        or_dash(&session.database_user),
        or_dash(leg(session.client_leg.as_deref())),
        or_dash(leg(session.server_leg.as_deref())),
        or_dash(session.handshake.as_deref().unwrap_or("")),
        or_dash(&session.state),
        super::short_time(&session.since),
        session.statements.to_string(),
        session.rows.to_string(),
        or_dash(&session.tier),
    ]
}
