//! `pgward grant`

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::sessions::age;
use super::table::{Heading, printable, render, render_pairs};
use super::{AskArgs, Exit, Output, load, short_time};
use crate::config::DEFAULT_PATH;
use crate::control::{GrantAsked, GrantInfo, GrantState, Request, Response, ask_within};
use crate::grants::Patterns;

/// How long the agent may take: its disk has to take the record first.
const LIMIT: Duration = Duration::from_secs(90);

/// `pgward grant`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct GrantArgs {
    /// What else
    #[command(subcommand)]
    pub command: Option<GrantCommand>,
    /// What to grant
    #[command(flatten)]
    pub grant: NewGrant,
}

/// What is granted.
#[derive(Debug, Args)]
pub struct NewGrant {
    /// To whom: exe, exe_sha256, parent, container, image, label, pod, namespace, unit, uid, gid, user, loginuid, cgroup,
    /// db_user, database, destination, application. All must match; of one key any of its values
    #[arg(long, value_name = "KEY=VALUE,...", required = true, value_parser = subject)]
    pub to: Option<String>,
    /// Which role of the policy
    #[arg(long, value_name = "NAME", required = true)]
    pub role: Option<String>,
    /// For how long, in whole minutes: `30m`, `2h`
    #[arg(long = "for", value_name = "TIME", required = true, value_parser = minutes)]
    pub minutes: Option<u64>,
    /// Why
    #[arg(long, value_name = "TEXT", required = true)]
    pub reason: Option<String>,
    /// Who approved it, elsewhere
    #[arg(long, value_name = "NAME", conflicts_with = "request")]
    pub approver: Option<String>,
    /// Have a second person approve it, with `pgward grant approve`
    #[arg(long)]
    pub request: bool,
    /// Configuration file, which names the control socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What else is done about grants.
#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    /// List what is granted and asked for
    List(AskArgs),
    /// Approve what somebody else asked for
    Approve(ApproveArgs),
    /// End a grant, or withdraw a request
    Revoke(RevokeArgs),
}

/// `pgward grant approve`
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// Name of the grant
    #[arg(value_name = "ID")]
    pub id: String,
    /// Configuration file and form
    #[command(flatten)]
    pub ask: AskArgs,
}

/// `pgward grant revoke`
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Name of the grant
    #[arg(value_name = "ID")]
    pub id: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "revoked")]
    pub reason: String,
    /// Configuration file and form
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Does what is asked for with the agent that the configuration names.
pub fn run(args: &GrantArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let config = match &args.command {
        None => &args.grant.config,
        Some(GrantCommand::List(ask)) => &ask.config,
        Some(GrantCommand::Approve(approve)) => &approve.ask.config,
        Some(GrantCommand::Revoke(revoke)) => &revoke.ask.config,
    };
    match load(output, config)? {
        Ok(config) => run_at(&config.agent.control_socket, args, output),
        Err(exit) => Ok(exit),
    }
}

/// The same with the agent at `socket`.
pub(super) fn run_at(socket: &Path, args: &GrantArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let (request, json) = match &args.command {
        None => (Request::Grant { asked: args.grant.asked() }, args.grant.json),
        Some(GrantCommand::List(ask)) => (Request::Grants {}, ask.json),
        Some(GrantCommand::Approve(approve)) => {
            (Request::GrantApprove { id: approve.id.clone() }, approve.ask.json)
        }
        Some(GrantCommand::Revoke(revoke)) => {
            let (id, reason) = (revoke.id.clone(), revoke.reason.clone());
            (Request::GrantRevoke { id, reason }, revoke.ask.json)
        }
    };
    let revoked = matches!(args.command, Some(GrantCommand::Revoke(_)));
    match ask_within(socket, request, LIMIT) {
        Ok(Response::Grants { grants }) => list(&grants, json, output),
        Ok(Response::Grant { grant }) if json => {
            serde_json::to_writer(&mut *output.data, &grant)?;
            writeln!(output.data).map(|()| Exit::Done)
        }
        Ok(Response::Grant { grant }) => {
            write!(output.data, "{}", shown(&grant, revoked, output.width))?;
            if let (GrantState::Requested, false) = (grant.state, revoked) {
                let id = printable(&grant.id);
                writeln!(
                    output.notes,
                    "not in force: somebody else runs `pgward grant approve {id}`"
                )?;
            }
            Ok(Exit::Done)
        }
        Ok(_) => output.error(&super::status::WrongAnswer),
        Err(error) => output.error(&error),
    }
}

impl NewGrant {
    fn asked(&self) -> GrantAsked {
        GrantAsked {
            to: self.to.clone().unwrap_or_default(),
            role: self.role.clone().unwrap_or_default(),
            minutes: self.minutes.unwrap_or_default(),
            reason: self.reason.clone().unwrap_or_default(),
            approver: self.approver.clone(),
            request: self.request,
        }
    }
}

fn list(grants: &[GrantInfo], json: bool, output: &mut Output<'_>) -> io::Result<Exit> {
    if json {
        serde_json::to_writer(&mut *output.data, &grants)?;
        writeln!(output.data)?;
    } else if grants.is_empty() {
        writeln!(output.notes, "no grants")?;
    } else {
        let heading = |title| Heading { title, right: title == "LEFT", usual: 0 };
        let headings = ["ID", "STATE", "ROLE", "TO", "LEFT", "BY", "APPROVER", "REASON"];
        let rows = grants.iter().map(row).collect();
        write!(output.data, "{}", render(&headings.map(heading), rows, output.width))?;
    }
    Ok(Exit::Done)
}

fn row(grant: &GrantInfo) -> Vec<String> {
    vec![
        printable(&grant.id),
        grant.state.name().to_owned(),
        printable(&grant.role),
        printable(&grant.to),
        age(Some(grant.left_s.saturating_mul(1000))),
        grant.by.to_string(),
        printable(grant.approver.as_deref().unwrap_or("-")),
        printable(&grant.reason),
    ]
}

/// One grant, in full.
fn shown(grant: &GrantInfo, revoked: bool, width: Option<u16>) -> String {
    let state = match (revoked, grant.state) {
        (true, _) => "revoked",
        (false, state) => state.name(),
    };
    let mut pairs = vec![
        ("grant", printable(&grant.id)),
        ("state", state.to_owned()),
        ("role", printable(&grant.role)),
        ("to", printable(&grant.to)),
        ("for", format!("{} minutes", grant.minutes)),
    ];
    if let (Some(until), false) = (&grant.until, revoked) {
        pairs.push(("until", format!("{} UTC", short_time(until))));
    }
    if let Some(approver) = &grant.approver {
        pairs.push(("approver", printable(approver)));
    }
    pairs.push(("reason", printable(&grant.reason)));
    render_pairs(&pairs, width)
}

/// Checked here too, for an answer without an agent.
fn subject(text: &str) -> Result<String, String> {
    Patterns::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// `30m`, `2h`, `1d`, `90` as minutes.
fn minutes(text: &str) -> Result<u64, String> {
    let expected = || format!("found `{text}`, expected whole minutes, for example 30m or 2h");
    let (number, unit) = match text.strip_suffix(['m', 'h', 'd']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "m"),
    };
    let minutes = match unit {
        "h" => 60,
        "d" => 24 * 60,
        _ => 1,
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(minutes).filter(|minutes| *minutes > 0).ok_or_else(expected)
}
