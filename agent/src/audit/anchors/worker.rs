//! The thread of one anchor.

use std::{
    mem::discriminant,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    thread,
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{Alarm, Checkpoint, CopyError, Hear, Known, Notice, Place, Question, Ready};
use crate::{
    audit::{BootNanos, Now},
    net::error::chain,
};

/// Longest time until an attempt that failed is repeated.
pub const RETRY: Duration = Duration::from_secs(10);

/// How an anchor is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AnchorStatus {
    /// Its name.
    pub name: String,
    /// As the configuration calls its kind.
    pub kind: String,
    /// Size of the newest checkpoint that it holds.
    pub size: Option<u64>,
    /// When that was copied, in nanoseconds since 1970.
    pub copied: Option<u64>,
    /// How old the newest checkpoint is that it holds; before the first one, how long the agent has had
    /// one to copy.
    pub lag_ms: u64,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Attempts that failed, since the last that did not.
    pub failures: u64,
    /// How long the attempt has taken that is under way.
    pub busy_ms: Option<u64>,
    /// What it holds against us. It stays until the agent ends.
    pub alarm: Option<String>,
}

/// How old the newest checkpoint is that is held outside of the agent's own log, in milliseconds: what
/// root could still rewrite unseen. What was printed may be gone, and does not count. `None`: no other
/// anchor.
pub fn anchor_lag_ms(anchors: &[AnchorStatus]) -> Option<u64> {
    let counting = anchors.iter().filter(|anchor| anchor.kind != "print");
    counting.map(|anchor| anchor.lag_ms).min()
}

/// One anchor and its thread.
pub(super) struct Worker {
    name: String,
    shared: Arc<Shared>,
}

struct Shared {
    mailbox: Mutex<Mailbox>,
    changed: Condvar,
    record: Mutex<Record>,
    kind: &'static str,
}

#[derive(Default)]
struct Mailbox {
    newest: Option<Offered>,
    question: Option<(Question, SyncSender<Reply>)>,
    stop: bool,
}

type Reply = Result<Vec<Known>, String>;

#[derive(Clone)]
struct Offered {
    checkpoint: Arc<Checkpoint>,
    at: BootNanos,
}

/// What became of it so far.
#[derive(Default)]
struct Record {
    /// When the first checkpoint was offered.
    since: Option<BootNanos>,
    /// The newest checkpoint that was copied.
    copied: Option<Copied>,
    failing: Option<Failing>,
    busy: Option<BootNanos>,
    alarm: Option<Alarm>,
}

struct Copied {
    checkpoint: Arc<Checkpoint>,
    /// When it was newest for the last time.
    newest_at: BootNanos,
    /// When it was copied.
    at: Now,
}

struct Failing {
    since: BootNanos,
    failures: u64,
    error: String,
}

enum Task {
    Copy(Offered),
    Answer(Question, SyncSender<Reply>),
}

impl Worker {
    pub(super) fn start(ready: Ready, hear: Hear) -> std::io::Result<Self> {
        let Ready { name, kind, every, place } = ready;
        let shared = Arc::new(Shared {
            mailbox: Mutex::default(),
            changed: Condvar::new(),
            record: Mutex::default(),
            kind,
        });
        let thread = Thread { name: name.clone(), every, place, shared: shared.clone(), hear };
        thread::Builder::new().name(format!("anchor {name}")).spawn(move || thread.run())?;
        Ok(Self { name, shared })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn offer(&self, checkpoint: Arc<Checkpoint>) {
        let at = Now::read().boot;
        let mut record = self.shared.record();
        record.since.get_or_insert(at);
        // A log that did not grow is covered as it is.
        if let Some(copied) = &mut record.copied
            && copied.checkpoint.body() == checkpoint.body()
        {
            copied.newest_at = at;
        }
        drop(record);
        self.shared.mailbox().newest = Some(Offered { checkpoint, at });
        self.shared.changed.notify_one();
    }

    pub(super) fn ask(&self, question: Question, reply: SyncSender<Reply>) {
        self.shared.mailbox().question = Some((question, reply));
        self.shared.changed.notify_one();
    }

    pub(super) fn status(&self) -> AnchorStatus {
        let now = Now::read().boot;
        let record = self.shared.record();
        let age = |at: BootNanos| now.0.saturating_sub(at.0) / 1_000_000;
        let copied = record.copied.as_ref();
        AnchorStatus {
            name: self.name.clone(),
            kind: self.shared.kind.to_owned(),
            size: copied.map(|copied| copied.checkpoint.size()),
            copied: copied.map(|copied| copied.at.wall.0),
            lag_ms: copied.map(|copied| copied.newest_at).or(record.since).map_or(0, age),
            error: record.failing.as_ref().map(|failing| failing.error.clone()),
            failures: record.failing.as_ref().map_or(0, |failing| failing.failures),
            busy_ms: record.busy.map(age),
            alarm: record.alarm.as_ref().map(ToString::to_string),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.mailbox().stop = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to do: an answer at once, a copy not before `due` and only of what was not
    /// copied. `None`: stop.
    fn next(&self, due: Instant) -> Option<Task> {
        let mut mailbox = self.mailbox();
        loop {
            if mailbox.stop {
                return None;
            }
            if let Some((question, reply)) = mailbox.question.take() {
                return Some(Task::Answer(question, reply));
            }
            let new = mailbox.newest.as_ref().filter(|newest| {
                let record = self.record();
                let copied = record.copied.as_ref();
                copied.is_none_or(|copied| copied.checkpoint.body() != newest.checkpoint.body())
            });
            let left = due.saturating_duration_since(Instant::now());
            mailbox = match new {
                Some(newest) if left.is_zero() => return Some(Task::Copy(newest.clone())),
                Some(_) => {
                    let waited = self.changed.wait_timeout(mailbox, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(mailbox).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

struct Thread {
    name: String,
    every: Duration,
    place: Box<dyn Place>,
    shared: Arc<Shared>,
    hear: Hear,
}

impl Thread {
    fn run(mut self) {
        let mut due = Instant::now();
        while let Some(task) = self.shared.next(due) {
            let begun = Instant::now();
            self.shared.record().busy = Some(Now::read().boot);
            match task {
                Task::Answer(question, reply) => {
                    let known = self.place.newest_known(&question);
                    // Nobody waits any longer where this took too long.
                    let _ = reply.try_send(known.map_err(|error| chain(&error)));
                }
                Task::Copy(offered) => {
                    let wait = match self.place.copy(&offered.checkpoint) {
                        Ok(()) => {
                            self.copied(offered);
                            self.every
                        }
                        Err(error) => {
                            self.failed(&error);
                            self.every.min(RETRY)
                        }
                    };
                    due = begun + wait;
                }
            }
            self.shared.record().busy = None;
        }
    }

    fn copied(&self, offered: Offered) {
        let at = Now::read();
        let mut record = self.shared.record();
        let failing = record.failing.take();
        let newest_at = offered.at;
        record.copied = Some(Copied { checkpoint: offered.checkpoint, newest_at, at });
        drop(record);
        if let Some(Failing { since, failures, .. }) = failing {
            let failed_for = Duration::from_nanos(at.boot.0.saturating_sub(since.0));
            info!(anchor = self.name, failures, ?failed_for, "anchor works again");
            (self.hear)(Notice::Restored { anchor: self.name.clone(), failed_for, failures });
        }
    }

    fn failed(&self, error: &CopyError) {
        let text = chain(error);
        let now = Now::read().boot;
        let mut record = self.shared.record();
        let first = record.failing.is_none();
        let failing = record.failing.get_or_insert_with(|| Failing {
            since: now,
            failures: 0,
            error: String::new(),
        });
        failing.failures += 1;
        failing.error.clone_from(&text);
        let raised = match error {
            CopyError::Alarm(alarm) => {
                let before = record.alarm.replace(alarm.clone());
                let same = before.is_some_and(|b| discriminant(&b) == discriminant(alarm));
                (!same).then(|| alarm.clone())
            }
            CopyError::Print(_)
            | CopyError::File(_)
            | CopyError::Database(_)
            | CopyError::Witness(_) => None,
        };
        drop(record);
        let anchor = self.name.clone();
        if first {
            warn!(anchor, error = text, "anchor fails");
            (self.hear)(Notice::Failing { anchor: anchor.clone(), error: text });
        }
        if let Some(alarm) = raised {
            error!(anchor, %alarm, "an anchor holds something against this log");
            (self.hear)(Notice::Raised { anchor, alarm });
        }
    }
}
