//! `pgward kill`

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::sessions::{age, login, program};
use super::table::{Heading, printable, render};
use super::{Exit, Output, load};
use crate::config::DEFAULT_PATH;
use crate::control::{
    Became, Chosen, Kill, KillAction, Killed, KilledSession, Request, Response, ask_within,
};

/// How long the agent may take: its disk has to take the record first.
const LIMIT: Duration = Duration::from_secs(60);

/// `pgward kill`
///
/// Sessions are those of which all that is given is true. In patterns `*` stands for any run of characters, `?` for one.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("chosen").multiple(true), group = ArgGroup::new("why").multiple(true))]
pub struct KillArgs {
    /// A session, as `pgward sessions` names it
    #[arg(value_name = "SESSION", required_unless_present = "chosen")]
    pub session: Option<String>,
    /// Sessions that this process opened
    #[arg(long, value_name = "PID", group = "chosen", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// Sessions of this program: its path, or its last part (a pattern)
    #[arg(long, value_name = "PROGRAM", group = "chosen")]
    pub exe: Option<String>,
    /// Sessions of this container (a pattern)
    #[arg(long, value_name = "CONTAINER", group = "chosen")]
    pub container: Option<String>,
    /// Sessions of this user of the database (a pattern)
    #[arg(long, value_name = "ROLE", group = "chosen")]
    pub role: Option<String>,
    /// Sessions to this destination: its name, or its address with or without port (a pattern)
    #[arg(long, value_name = "DESTINATION", group = "chosen")]
    pub destination: Option<String>,
    /// Cancel the statement that runs, and leave the session (the default)
    #[arg(long, group = "action")]
    pub cancel: bool,
    /// End the session as soon as it is idle outside of a transaction
    #[arg(long, group = "action", requires = "why")]
    pub wait: bool,
    /// End the session now
    #[arg(long, group = "action", requires = "why")]
    pub terminate: bool,
    /// Why: recorded, and told to the client whose session ends
    #[arg(long, value_name = "TEXT", group = "why")]
    pub reason: Option<String>,
    /// Only say which sessions it would be
    #[arg(long, group = "why")]
    pub dry_run: bool,
    /// Configuration file, which names the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Has the agent that the configuration names do it. A finding when there is no such session, or a server did not get a
/// cancel request.
pub fn run(args: &KillArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    match load(output, &args.config)? {
        Ok(config) => run_at(&config.agent.control_socket, args, output),
        Err(exit) => Ok(exit),
    }
}

/// The same for the agent at `socket`.
pub(super) fn run_at(socket: &Path, args: &KillArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let kill = Kill {
        chosen: Chosen {
            session: args.session.clone(),
            pid: args.pid,
            exe: args.exe.clone(),
            container: args.container.clone(),
            role: args.role.clone(),
            destination: args.destination.clone(),
        },
        action: match (args.wait, args.terminate) {
            (true, _) => KillAction::Wait,
            (false, true) => KillAction::Terminate,
            (false, false) => KillAction::Cancel,
        },
        reason: args.reason.clone(),
        dry_run: args.dry_run,
    };
    let killed = match ask_within(socket, Request::Kill { kill }, LIMIT) {
        Ok(Response::Killed { killed }) => killed,
        Ok(_) => return output.error(&super::status::WrongAnswer),
        Err(error) => return output.error(&error),
    };
    if args.json {
        serde_json::to_writer(&mut *output.data, &killed)?;
        writeln!(output.data)?;
    } else {
        if !killed.sessions.is_empty() {
            let rows = killed.sessions.iter().map(row).collect();
            write!(output.data, "{}", render(&HEADINGS, rows, output.width))?;
        }
        writeln!(output.notes, "{}", summary(&killed))?;
    }
    let failed = killed.sessions.iter().any(|hit| hit.became == Became::Failed);
    Ok(if killed.sessions.is_empty() || failed { Exit::Finding } else { Exit::Done })
}

const HEADINGS: [Heading; 8] = [
    heading("SESSION", false),
    heading("PID", true),
    heading("PROGRAM", false),
    heading("USER@DATABASE", false),
    heading("DESTINATION", false),
    heading("WAS", false),
    heading("FOR", true),
    heading("RESULT", false),
];

const fn heading(title: &'static str, right: bool) -> Heading {
    Heading { title, right, usual: 0 }
}

fn row(hit: &KilledSession) -> Vec<String> {
    let session = &hit.session;
    vec![
        super::short_session(&session.id),
        session.pid.to_string(),
        printable(&program(session)),
        printable(&login(session)),
        printable(&session.destination),
        printable(&session.state),
        age(Some(session.state_ms)),
        hit.became.name().to_owned(),
    ]
}

/// How many sessions were hit, and what became of them.
fn summary(killed: &Killed) -> String {
    let all = killed.sessions.len();
    let sessions = if all == 1 { "session" } else { "sessions" };
    if all == 0 {
        return "no session was hit".to_owned();
    }
    if killed.dry_run {
        return format!("{all} {sessions} would be hit");
    }
    let mut summary = format!("{all} {sessions} hit");
    for (became, shown) in [
        (Became::Cancelled, "cancelled"),
        (Became::Ended, "ended"),
        (Became::Told, "told, not done yet"),
        (Became::Idle, "with nothing to cancel"),
        (Became::Failed, "not reached"),
    ] {
        let count = killed.sessions.iter().filter(|hit| hit.became == became).count();
        if count > 0 {
            summary.push_str(&format!(", {count} {shown}"));
        }
    }
    summary
}
