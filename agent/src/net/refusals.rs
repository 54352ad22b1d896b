//! Records of refused connections, so that a client in a loop can't fill the log with them.
//!
//! The first refusal of a kind is recorded at once. Those of the same kind that follow within [`WINDOW`] are counted, and one
//! record says how many when the window ends; so does each further window until one passes without any. Cancel requests that are
//! refused are counted the same way; the first of them has a record of its own kind.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use pgward_common::Actor;
use tracing::warn;

use super::identify::Who;
use crate::audit::{Now, Refused, Sink, Stamp, Ticket};

/// Refusals of one kind within this time share a record.
pub const WINDOW: Duration = Duration::from_secs(1);
/// Kinds with an own record in a window: whoever makes a new process for each attempt has a new kind for each. Further ones
/// of the same reason share a record that names no process.
const KINDS_MAX: usize = 64;

/// A connection that was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Name of the reason, as the log has it.
    pub reason: &'static str,
    /// Number of the connect, when it has one; of the first of its kind.
    pub connect: Option<u64>,
    /// More about it; of the first of its kind.
    pub detail: Option<String>,
    /// The process that tried.
    pub actor: Option<Actor>,
    /// Where to.
    pub destination: Option<SocketAddr>,
    /// What the client is told, when it is told something.
    pub sqlstate: Option<[u8; 5]>,
}

/// Records refusals. Shared by all who refuse.
pub struct Refusals {
    sink: Sink,
    tally: Mutex<Tally>,
}

impl Refusals {
    /// Records into `sink`. Somebody has to call [`Refusals::flush`] about as often as [`WINDOW`] says.
    pub fn new(sink: Sink) -> Arc<Self> {
        Arc::new(Self { sink, tally: Mutex::default() })
    }

    /// Records a refusal, or counts it. `identify` is asked for the process where it is to be recorded now; it may block.
    ///
    /// Gives the ticket of the record, where one was made: who tells the client waits for it.
    pub fn add(
        &self,
        refusal: Refusal,
        identify: impl FnOnce(&Actor) -> Arc<Who>,
    ) -> Option<Ticket> {
        let kind = locked(&self.tally).count(&refusal, Instant::now())?;
        let who = refusal.actor.as_ref().map(identify);
        let detail = refusal.detail.as_deref();
        let ticket = self.record(&kind, who.as_deref(), detail, 1, refusal.connect);
        if let Some(who) = who {
            locked(&self.tally).identified(&kind, who);
        }
        ticket
    }

    /// Waits until a refusal is durable, or cannot be.
    pub async fn durable(&self, ticket: Ticket) {
        if let Err(error) = self.sink.durable(ticket).await {
            warn!(%error, "a refusal was not recorded");
        }
    }

    /// Counts one whose first of a kind has a record of another shape. `true`: it is the first, and the caller is to record
    /// it. The others are recorded here, as all are.
    pub fn is_first(&self, refusal: &Refusal, who: &Arc<Who>) -> bool {
        let mut tally = locked(&self.tally);
        let Some(kind) = tally.count(refusal, Instant::now()) else { return false };
        tally.identified(&kind, who.clone());
        true
    }

    /// Records what was counted in windows that have ended.
    pub fn flush(&self) {
        self.record_all(|tally| tally.due(Instant::now()));
    }

    /// Records all that was counted: the agent stops.
    pub fn flush_all(&self) {
        self.record_all(Tally::all);
    }

    fn record_all(&self, take: impl FnOnce(&mut Tally) -> Vec<Counted>) {
        let counted = take(&mut locked(&self.tally));
        for Counted { kind, who, count } in counted {
            let detail = match kind.process {
                Process::Many => Some("by further processes"),
                Process::One(..) | Process::Unknown => Some("repeated"),
            };
            let _ = self.record(&kind, who.as_deref(), detail, count, None);
        }
    }

    fn record(
        &self,
        kind: &Kind,
        who: Option<&Who>,
        detail: Option<&str>,
        count: u64,
        connect: Option<u64>,
    ) -> Option<Ticket> {
        let record = Refused {
            reason: kind.reason,
            detail,
            sqlstate: kind.sqlstate,
            actor: who.map(|who| &who.full),
            destination: kind.destination,
            count,
            connect,
        };
        match self.sink.record(&Stamp::agent(Now::read()), &record) {
            Ok(put) => Some(put.ticket),
            Err(error) => {
                warn!(%error, reason = kind.reason, count, "refusals not recorded");
                None
            }
        }
    }
}

/// What refusals that share a record have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    reason: &'static str,
    process: Process,
    destination: Option<SocketAddr>,
    sqlstate: Option<[u8; 5]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Process {
    /// Nobody knows.
    Unknown,
    /// Pid, start, exec generation.
    One(u32, u64, u64),
    /// Those beyond [`KINDS_MAX`].
    Many,
}

/// Refusals of one kind in a window that ended.
#[derive(Debug)]
struct Counted {
    kind: Kind,
    who: Option<Arc<Who>>,
    count: u64,
}

/// What is counted now.
#[derive(Debug, Default)]
struct Tally {
    kinds: HashMap<Kind, Counting>,
}

#[derive(Debug)]
struct Counting {
    since: Instant,
    /// Behind those that were recorded.
    count: u64,
    who: Option<Arc<Who>>,
}

impl Tally {
    /// Counts one. Gives its kind when it is the first, which is to be recorded at once.
    fn count(&mut self, refusal: &Refusal, now: Instant) -> Option<Kind> {
        let process = match &refusal.actor {
            Some(actor) => Process::One(actor.tgid, actor.start_boottime_ns, actor.exec_id),
            None => Process::Unknown,
        };
        let Refusal { reason, destination, sqlstate, .. } = *refusal;
        let kind = Kind { reason, process, destination, sqlstate };
        if let Some(counting) = self.kinds.get_mut(&kind) {
            counting.count += 1;
            return None;
        }
        if self.kinds.len() < KINDS_MAX {
            // Until the process was looked up, its event tells who it is.
            let who = refusal.actor.as_ref().map(|actor| Arc::new(Who::told(actor)));
            self.kinds.insert(kind, Counting { since: now, count: 0, who });
            return Some(kind);
        }
        let rest = Kind { reason, process: Process::Many, destination: None, sqlstate: None };
        self.kinds.entry(rest).or_insert(Counting { since: now, count: 0, who: None }).count += 1;
        None
    }

    fn identified(&mut self, kind: &Kind, who: Arc<Who>) {
        if let Some(counting) = self.kinds.get_mut(kind) {
            counting.who = Some(who);
        }
    }

    /// Takes the counts of windows that have ended; kinds that had none are forgotten.
    fn due(&mut self, now: Instant) -> Vec<Counted> {
        let mut due = Vec::new();
        self.kinds.retain(|kind, counting| {
            if now.duration_since(counting.since) < WINDOW {
                return true;
            }
            let count = std::mem::take(&mut counting.count);
            if count == 0 {
                return false;
            }
            due.push(Counted { kind: *kind, who: counting.who.clone(), count });
            counting.since = now;
            // The rest makes room for kinds that have names.
            kind.process != Process::Many
        });
        due
    }

    fn all(&mut self) -> Vec<Counted> {
        let all = self.kinds.drain().filter(|(_, counting)| counting.count > 0);
        all.map(|(kind, Counting { count, who, .. })| Counted { kind, who, count }).collect()
    }
}

/// The tally is whole whenever no call is under way.
fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::samples;

    fn by(tgid: u32) -> Refusal {
        let actor = Actor { tgid, ..Actor::default() };
        Refusal {
            reason: "no_identity",
            connect: None,
            detail: None,
            actor: Some(actor),
            destination: None,
            sqlstate: None,
        }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_when_their_window_ends() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        assert!(tally.count(&by(1), start).is_some());
        assert!(tally.count(&by(2), start).is_some(), "another process is another kind");
        for _ in 0..5 {
            assert!(tally.count(&by(1), start).is_none());
        }
        assert!(tally.due(start).is_empty(), "the window goes on");
        let due = tally.due(start + WINDOW);
        assert_eq!(due.iter().map(|c| c.count).collect::<Vec<_>>(), [5]);
        assert!(tally.count(&by(1), start + WINDOW).is_none(), "the next window");
        assert!(tally.count(&by(2), start + WINDOW).is_some(), "silence was forgotten");
        assert_eq!(tally.due(start + WINDOW * 2).iter().map(|c| c.count).sum::<u64>(), 1);
        tally.due(start + WINDOW * 4);
        assert!(tally.kinds.is_empty());
    }

    #[test]
    fn new_processes_without_end_share_a_record() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let many = KINDS_MAX as u32 + 1000;
        let first = (0..many).filter(|pid| tally.count(&by(*pid), start).is_some()).count();
        assert_eq!(first, KINDS_MAX);
        let due = tally.due(start + WINDOW);
        assert_eq!(due.iter().map(|c| c.count).collect::<Vec<_>>(), [1000]);
        assert!(due[0].who.is_none());
        assert!(tally.kinds.is_empty());
    }

    #[test]
    fn nothing_counted_is_lost_at_the_end() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        for _ in 0..3 {
            tally.count(&by(1), start);
        }
        assert_eq!(tally.all().iter().map(|c| c.count).sum::<u64>(), 2);
        assert!(tally.all().is_empty());
    }

    /// What is in the log of refusals that `refuse` made, in short: event, reason, detail, SQLSTATE, count.
    fn recorded(refuse: impl FnOnce(&Refusals)) -> Vec<[String; 5]> {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = samples::settings(folder.path());
        let trail = samples::trail(&audit);
        let refusals = Refusals::new(trail.sink());
        refuse(&refusals);
        refusals.flush_all();
        drop(refusals);
        trail.close().expect("everything is written");
        let refused = samples::joined(&audit).into_iter().filter(|r| r["event"] == "refused");
        let keys = ["event", "reason", "detail", "sqlstate", "count"];
        refused.map(|record| keys.map(|key| record[key].to_string())).collect()
    }

    #[test]
    fn what_clients_were_told_is_in_the_first_record_and_in_the_count() {
        let refused = |detail: &str, sqlstate: &[u8; 5]| Refusal {
            reason: "sessions_max",
            detail: Some(detail.to_owned()),
            sqlstate: Some(*sqlstate),
            ..by(1)
        };
        let found = recorded(|refusals| {
            for detail in ["first", "second", "third"] {
                refusals.add(refused(detail, b"53300"), |actor| Arc::new(Who::told(actor)));
            }
            refusals.add(refused("other", b"57P01"), |actor| Arc::new(Who::told(actor)));
        });
        let expected = |detail: &str, sqlstate: &str, count: &str| {
            let quoted = |text: &str| format!("\"{text}\"");
            let (event, reason) = (quoted("refused"), quoted("sessions_max"));
            [event, reason, quoted(detail), quoted(sqlstate), count.to_owned()]
        };
        assert_eq!(
            found,
            [
                expected("first", "53300", "1"),
                expected("other", "57P01", "1"),
                expected("repeated", "53300", "2")
            ]
        );
    }

    #[test]
    fn those_with_a_record_of_their_own_are_counted_behind_it() {
        let refusal = Refusal { reason: "cancel", ..by(1) };
        let who = Arc::new(Who::told(&Actor::default()));
        let found = recorded(|refusals| {
            assert!(refusals.is_first(&refusal, &who));
            for _ in 0..7 {
                assert!(!refusals.is_first(&refusal, &who));
            }
        });
        assert_eq!(found.len(), 1, "the first is the caller's to record: {found:?}");
        assert_eq!((found[0][1].as_str(), found[0][4].as_str()), ("\"cancel\"", "7"));
    }
}
