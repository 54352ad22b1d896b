//! `pgward sessions`

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::table::{Heading, printable, render};
use super::{Exit, Output, load};
use crate::config::DEFAULT_PATH;
use crate::control::{Chosen, Request, Response, SessionInfo, ask};
use crate::grants::Pattern;

/// `pgward sessions`
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// Configuration file, which names the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// One JSON object instead of text, with all that is known
    #[arg(long)]
    pub json: bool,
    /// All columns
    #[arg(long, conflicts_with = "json")]
    pub wide: bool,
    /// Which sessions
    #[command(flatten)]
    pub only: Only,
}

/// Which sessions are listed: those of which all that is given is true. In patterns `*` stands for any run of characters, `?`
/// for one.
#[derive(Clone, Debug, Default, Args)]
pub struct Only {
    /// Only those of this user of the database (a pattern)
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Only those of this program: its path, or its last part (a pattern)
    #[arg(long, value_name = "PROGRAM")]
    pub exe: Option<String>,
    /// Only those of this container (a pattern)
    #[arg(long, value_name = "CONTAINER")]
    pub container: Option<String>,
    /// Only those in this state, such as `active` or `idle*` (a pattern)
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
}

/// How sessions are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A table within a usual terminal.
    Table,
    /// A table with all columns.
    Wide,
    /// One JSON array.
    Json,
}

/// Lists the sessions of the agent that the configuration names.
pub fn run(args: &SessionsArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let shape = match (args.json, args.wide) {
        (true, _) => Shape::Json,
        (false, true) => Shape::Wide,
        (false, false) => Shape::Table,
    };
    match load(output, &args.config)? {
        Ok(config) => run_at(&config.agent.control_socket, shape, &args.only, output),
        Err(exit) => Ok(exit),
    }
}

/// Lists the sessions of the agent at `socket`, oldest first.
pub(super) fn run_at(
    socket: &Path,
    shape: Shape,
    only: &Only,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    let mut sessions = match ask(socket, Request::Sessions {}) {
        Ok(Response::Sessions { sessions }) => sessions,
        Ok(_) => return output.error(&super::status::WrongAnswer),
        Err(error) => return output.error(&error),
    };
    sessions.retain(|session| only.matches(session));
    sessions.sort_by(|a, b| (&a.since, &a.id).cmp(&(&b.since, &b.id)));
    if shape == Shape::Json {
        serde_json::to_writer(&mut *output.data, &sessions)?;
        writeln!(output.data)?;
    } else if sessions.is_empty() {
        writeln!(output.notes, "no sessions")?;
    } else {
        let text = match shape {
            Shape::Wide => render(&WIDE, sessions.iter().map(wide_row).collect(), output.width),
            Shape::Table | Shape::Json => {
                render(&HEADINGS, sessions.iter().map(row).collect(), output.width)
            }
        };
        write!(output.data, "{text}")?;
    }
    Ok(Exit::Done)
}

impl Only {
    fn matches(&self, session: &SessionInfo) -> bool {
        let Self { role, exe, container, state } = self.clone();
        let in_state = state.is_none_or(|pattern| Pattern::new(&pattern).matches(&session.state));
        in_state && Chosen { role, exe, container, ..Chosen::default() }.matches(session)
    }
}

const HEADINGS: [Heading; 11] = [
    left("SESSION"),
    right("PID"),
    left("PROGRAM"),
    left("USER@DATABASE"),
    left("DESTINATION"),
    left("STATE"),
    right("FOR"),
    right("TRANSACTION"),
    left("LAST"),
    right("ROWS"),
    right("DENIED"),
];

const WIDE: [Heading; 20] = [
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
    right("FOR"),
    right("TRANSACTION"),
    left("LAST"),
    left("SINCE"),
    right("STATEMENTS"),
    right("ROWS"),
    right("DENIED"),
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

fn or_dash(text: &str) -> String {
    match printable(text) {
        empty if empty.is_empty() => "-".to_owned(),
        text => text,
    }
}

/// What people look for first: who, where to, and whether it holds something up.
fn row(session: &SessionInfo) -> Vec<String> {
    vec![
        super::short_session(&session.id),
        session.pid.to_string(),
        or_dash(&program(session)),
        or_dash(&login(session)),
        or_dash(&session.destination),
        or_dash(&session.state),
        age(Some(session.state_ms)),
        age(session.transaction_ms),
        or_dash(&session.last_class),
        session.rows.to_string(),
        session.denials.to_string(),
    ]
}

fn wide_row(session: &SessionInfo) -> Vec<String> {
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
        age(Some(session.state_ms)),
        age(session.transaction_ms),
        or_dash(&session.last_class),
        super::short_time(&session.since),
        session.statements.to_string(),
        session.rows.to_string(),
        session.denials.to_string(),
        or_dash(&session.tier),
    ]
}

/// Last part of the program's path, and its container: `psql@web`.
pub(super) fn program(session: &SessionInfo) -> String {
    let exe = session.exe.as_deref().and_then(|exe| exe.rsplit('/').next()).unwrap_or("");
    match &session.container {
        Some(container) => format!("{exe}@{container}"),
        None => exe.to_owned(),
    }
}

/// `app@shop`; nothing before the startup packet.
pub(super) fn login(session: &SessionInfo) -> String {
    match (session.database_user.as_str(), session.database.as_str()) {
        ("", "") => String::new(),
        (user, database) => format!("{user}@{database}"),
    }
}

/// A length of time in at most six characters, up to a hundred days.
pub(super) fn age(millis: Option<u64>) -> String {
    let Some(millis) = millis else { return "-".to_owned() };
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (seconds, days) {
        (0, _) => format!("{millis}ms"),
        (1..=59, _) => format!("{seconds}s"),
        (60..=3599, _) => format!("{minutes}m{:02}s", seconds % 60),
        (_, 0) => format!("{hours}h{:02}m", minutes % 60),
        (_, _) => format!("{days}d{:02}h", hours % 24),
    }
}
