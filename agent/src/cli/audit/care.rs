//! What the agent is asked to do with the trail: prune, shred, hold, break-glass.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::args::{BreakGlassArgs, HoldCommand, HoldLiftArgs, HoldSetArgs, PruneArgs, ShredArgs};
use crate::audit::WallNanos;
use crate::cli::status::WrongAnswer;
use crate::cli::table::{Heading, printable, render};
use crate::cli::{AskArgs, Exit, Output, load, short_session, short_time};
use crate::control::{
    BreakGlass, Hold, HoldAction, HoldInfo, HoldScope, Prune, Pruned, Request, Response, Shred,
    ShredScope, ask_within,
};

/// How long the agent may take: it rewrites keys and deletes files.
const LIMIT: Duration = Duration::from_secs(600);
const DAY_NS: u64 = 86_400 * 1_000_000_000;

/// `pgward audit prune`. A finding when holds kept segments that are old enough.
pub(super) fn prune(args: &PruneArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let by_age = args.keep_days.map(|days| now.saturating_sub(days.saturating_mul(DAY_NS)));
    // The command line has exactly one of the two.
    let before_ns = args.before.map(|before| before.0).or(by_age).unwrap_or(0);
    let request = Request::AuditPrune { prune: Prune { before_ns, dry_run: args.dry_run } };
    let pruned = match asked(&args.config, request, output)? {
        Ok(Response::Pruned { pruned }) => pruned,
        Ok(_) => return output.error(&WrongAnswer),
        Err(exit) => return Ok(exit),
    };
    if args.json {
        serde_json::to_writer(
            &mut *output.data,
            &json!({"dry_run": args.dry_run, "pruned": pruned}),
        )?;
        writeln!(output.data)?;
    } else {
        print_pruned(&pruned, args.dry_run, output)?;
    }
    Ok(if pruned.held_by.is_empty() { Exit::Done } else { Exit::Finding })
}

fn print_pruned(pruned: &Pruned, dry_run: bool, output: &mut Output<'_>) -> io::Result<()> {
    let verb = if dry_run { "would delete" } else { "deleted" };
    let Pruned { segments, entries, bytes, minimum_index, held_by } = pruned;
    writeln!(
        output.data,
        "{verb} {segments} segments: {entries} entries, {bytes} bytes; the first entry is {minimum_index}"
    )?;
    for name in held_by {
        writeln!(output.notes, "kept by hold `{}`", printable(name))?;
    }
    Ok(())
}

/// `pgward audit shred`. A finding when there was no key to erase.
pub(super) fn shred(args: &ShredArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let session = match &args.session {
        None => None,
        Some(session) => match session.whole() {
            Some(whole) => Some((ShredScope::Session, whole.to_owned())),
            None => return output.error(&NotWhole),
        },
    };
    let subject = args.subject.clone().map(|value| (ShredScope::Subject, value));
    let day = args.day.clone().map(|day| (ShredScope::Day, day.0));
    let Some((scope, target)) = session.or(subject).or(day) else {
        return output.error(&NothingNamed);
    };
    let (reason, approver) = (args.reason.clone(), args.approver.clone());
    let request = Request::AuditShred { shred: Shred { scope, target, reason, approver } };
    match asked(&args.config, request, output)? {
        Ok(Response::Shredded { keys_erased: 0 }) => {
            writeln!(output.notes, "no key was found: nothing is held sealed under it")
                .map(|()| Exit::Finding)
        }
        Ok(Response::Shredded { keys_erased }) => {
            writeln!(output.data, "{keys_erased} keys erased").map(|()| Exit::Done)
        }
        Ok(_) => output.error(&WrongAnswer),
        Err(exit) => Ok(exit),
    }
}

/// `pgward audit hold`
pub(super) fn hold(command: &HoldCommand, output: &mut Output<'_>) -> io::Result<Exit> {
    match command {
        HoldCommand::Set(args) => set(args, output),
        HoldCommand::Lift(args) => lift(args, output),
        HoldCommand::List(args) => list(args, output),
    }
}

fn set(args: &HoldSetArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let scope = match (&args.session, args.all) {
        (Some(session), _) => match session.whole() {
            Some(whole) => HoldScope::Session(whole.to_owned()),
            None => return output.error(&NotWhole),
        },
        (None, true) => HoldScope::All,
        (None, false) => HoldScope::Time {
            since_ns: args.since.map_or(0, |since| since.0),
            until_ns: args.until.map_or(u64::MAX, |until| until.0),
        },
    };
    let hold = Hold {
        action: HoldAction::Set,
        name: args.name.clone(),
        scope,
        reason: args.reason.clone(),
        approver: args.approver.clone(),
    };
    accepted(&args.config, Request::AuditHold { hold }, "hold is set", output)
}

fn lift(args: &HoldLiftArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let hold = Hold {
        action: HoldAction::Lift,
        name: args.name.clone(),
        scope: HoldScope::All,
        reason: args.reason.clone(),
        approver: args.approver.clone(),
    };
    accepted(&args.config, Request::AuditHold { hold }, "hold is lifted", output)
}

fn list(args: &AskArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let mut holds = match asked(&args.config, Request::AuditHolds {}, output)? {
        Ok(Response::Holds { holds }) => holds,
        Ok(_) => return output.error(&WrongAnswer),
        Err(exit) => return Ok(exit),
    };
    holds.sort_by(|a, b| (&a.since, &a.name).cmp(&(&b.since, &b.name)));
    if args.json {
        serde_json::to_writer(&mut *output.data, &holds)?;
        writeln!(output.data)?;
    } else if holds.is_empty() {
        writeln!(output.notes, "no holds")?;
    } else {
        let heading = |title| Heading { title, right: false, usual: 0 };
        let headings = ["NAME", "KEEPS", "SINCE", "APPROVER", "REASON"].map(heading);
        let text = render(&headings, holds.iter().map(row).collect(), output.width);
        write!(output.data, "{text}")?;
    }
    Ok(Exit::Done)
}

fn row(hold: &HoldInfo) -> Vec<String> {
    let moment = |ns: u64| short_time(&String::from_utf8_lossy(&WallNanos(ns).rfc3339()));
    let keeps = match &hold.scope {
        HoldScope::All => "everything".to_owned(),
        HoldScope::Session(id) => format!("session {}", short_session(id)),
        HoldScope::Time { since_ns: 0, until_ns } => format!("before {}", moment(*until_ns)),
        HoldScope::Time { since_ns, until_ns: u64::MAX } => format!("from {}", moment(*since_ns)),
        HoldScope::Time { since_ns, until_ns } => {
            format!("{} to {}", moment(*since_ns), moment(*until_ns))
        }
    };
    let since = short_time(&hold.since);
    vec![printable(&hold.name), keeps, since, printable(&hold.approver), printable(&hold.reason)]
}

/// `pgward audit break-glass`
pub(super) fn break_glass(args: &BreakGlassArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    let break_glass = BreakGlass {
        minutes: args.minutes,
        reason: args.reason.clone(),
        approver: args.approver.clone(),
    };
    match asked(&args.config, Request::AuditBreakGlass { break_glass }, output)? {
        Ok(Response::BreakGlass { until }) => {
            let until = short_time(&until);
            writeln!(output.data, "recording is eased until {until} UTC").map(|()| Exit::Done)
        }
        Ok(_) => output.error(&WrongAnswer),
        Err(exit) => Ok(exit),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not one session: expected its 32 hexadecimal digits")]
struct NotWhole;

#[derive(Debug, thiserror::Error)]
#[error("nothing is named to be shredded")]
struct NothingNamed;

fn accepted(
    config: &Path,
    request: Request,
    done: &str,
    output: &mut Output<'_>,
) -> io::Result<Exit> {
    match asked(config, request, output)? {
        Ok(Response::Accepted {}) => writeln!(output.data, "{done}").map(|()| Exit::Done),
        Ok(_) => output.error(&WrongAnswer),
        Err(exit) => Ok(exit),
    }
}

/// The agent's answer, or the exit after printing why there is none.
fn asked(
    config: &Path,
    request: Request,
    output: &mut Output<'_>,
) -> io::Result<Result<Response, Exit>> {
    let config = match load(output, config)? {
        Ok(config) => config,
        Err(exit) => return Ok(Err(exit)),
    };
    match ask_within(&config.agent.control_socket, request, LIMIT) {
        Ok(response) => Ok(Ok(response)),
        Err(error) => output.error(&error).map(Err),
    }
}
