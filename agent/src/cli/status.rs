//! `pgward status`

use std::io;
use std::path::Path;

use super::table::{printable, render_pairs};
use super::{AskArgs, Exit, Output, load};
use crate::audit::store::Health;
use crate::control::{Connects, Request, Response, Status, ask};

/// Says how the agent is that the configuration names. A finding when it can't record, lost
/// records, or can't say what became of a connect.
pub fn run(args: &AskArgs, output: &mut Output<'_>) -> io::Result<Exit> {
    match load(output, &args.config)? {
        Ok(config) => run_at(&config.agent.control_socket, args.json, output),
        Err(exit) => Ok(exit),
    }
}

/// The agent answered something else than it was asked.
#[derive(Debug, thiserror::Error)]
#[error("answer of the agent does not fit the question: is it of another version?")]
pub(super) struct WrongAnswer;

/// Says how the agent at `socket` is.
pub(super) fn run_at(socket: &Path, json: bool, output: &mut Output<'_>) -> io::Result<Exit> {
    let status = match ask(socket, Request::Status {}) {
        Ok(Response::Status { status }) => status,
        Ok(_) => return output.error(&WrongAnswer),
        Err(error) => return output.error(&error),
    };
    if json {
        serde_json::to_writer(&mut *output.data, &status)?;
        writeln!(output.data)?;
    } else {
        write!(output.data, "{}", render_pairs(&pairs(&status), output.width))?;
    }
    let explained = status.connects.as_ref().is_none_or(|connects| connects.unexplained == 0);
    let good = (status.audit.store)
        .is_some_and(|store| store.health == Health::Good && store.lost == 0)
        && status.audit.anchors.iter().all(|anchor| anchor.alarm.is_none())
        && status.audit.eased_until.is_none()
        && explained;
    Ok(if good { Exit::Done } else { Exit::Finding })
}

fn pairs(status: &Status) -> Vec<(&str, String)> {
    let audit = &status.audit;
    let health = match audit.store.map_or(Health::Gone, |store| store.health) {
        Health::Good => "good",
        Health::Full => "disk full: nothing is recorded",
        Health::Broken => "i/o error: nothing is recorded",
        Health::Gone => "stopped: nothing is recorded",
    };
    let mut pairs = vec![
        ("version", printable(&status.version)),
        ("pid", status.pid.to_string()),
        ("since", super::short_time(&status.since)),
        ("cgroup", printable(&status.cgroup)),
        ("attribution", printable(&status.tiers.join(" "))),
        ("workers", status.workers.to_string()),
        ("sessions", format!("{} now, {} in all", status.sessions, status.sessions_total)),
        ("statements", status.statements_total.to_string()),
        (
            "logins",
            format!(
                "{} failed, {} refused, {} throttled",
                status.logins_failed, status.logins_refused, status.logins_throttled
            ),
        ),
        ("cancels", format!("{} dropped: unknown keys", status.cancels_dropped)),
        ("namespaces", status.namespaces.to_string()),
        ("audit trail", printable(&status.audit_directory)),
        ("  state", health.to_owned()),
        ("  origin", printable(&audit.origin)),
        ("  seal lag", audit.seal_lag_ms.map_or_else(|| "no seal yet".to_owned(), seconds)),
    ];
    if let Some(store) = &audit.store {
        let entries = format!("{} durable, {} lost", store.entries, store.lost);
        pairs.push(("  entries", entries));
        pairs.push(("  bytes", format!("{} of {}", store.used_bytes, audit.quota_bytes)));
    }
    if let Some(until) = &audit.eased_until {
        pairs.push(("  BREAK-GLASS", format!("recording is eased until {}", printable(until))));
    }
    if let Some(error) = &audit.checkpoint_error {
        pairs.push(("  checkpoint", printable(error)));
    }
    pairs.extend(audit.anchors.iter().map(|anchor| {
        let trouble = anchor.alarm.as_ref().or(anchor.error.as_ref());
        let trouble = trouble.map_or_else(String::new, |text| format!("; {}", printable(text)));
        let text = format!("{}: {}{trouble}", printable(&anchor.name), seconds(anchor.lag_ms));
        ("  anchor lag", text)
    }));
    if let Some(connects) = &status.connects {
        let Connects { seen, intercepted, refused, failed, allowed, open, unexplained, .. } =
            connects;
        let columns = format!(
            "{seen} seen: {intercepted} intercepted, {refused} refused, {failed} failed, \
             {allowed} allowed, {open} open, {unexplained} unexplained"
        );
        pairs.push(("connects", columns));
    }
    pairs.extend(status.counters.iter().map(|(name, count)| (name.as_str(), count.to_string())));
    pairs
}

/// A lag for people.
fn seconds(lag_ms: u64) -> String {
    format!("{}.{} s", lag_ms / 1000, lag_ms / 100 % 10)
}
