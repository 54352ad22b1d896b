//! What the agent itself knows: connects that were handed over to it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tracing::debug;

/// Why a connect failed that the agent had, or should have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// It closed before its first packet was whole.
    SilentProbe,
    /// It was reset before its first packet was whole, or went in the middle of TLS.
    ClientGone,
    /// Its record could not be written.
    NotRecorded,
    /// The identity that came with it could not be read.
    IdentityUnreadable,
    /// The agent failed.
    AgentFault,
    /// The listener of its namespace was closed before it was accepted.
    ListenerClosed,
    /// The agent stopped before it said more.
    AgentStopped,
    /// The agent ended without a word; told by the next one.
    AgentCrashed,
    /// It was handed over to an agent of whose trail there is nothing.
    TrailMissing,
    /// The counters went while it was open.
    HooksRemoved,
}

impl Failure {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SilentProbe => "silent_probe",
            Self::ClientGone => "client_gone",
            Self::NotRecorded => "not_recorded",
            Self::IdentityUnreadable => "identity_unreadable",
            Self::AgentFault => "agent_fault",
            Self::ListenerClosed => "listener_closed",
            Self::AgentStopped => "agent_stopped",
            Self::AgentCrashed => "agent_crashed",
            Self::TrailMissing => "trail_missing",
            Self::HooksRemoved => "hooks_removed",
        }
    }
}

/// Counts the connects of an agent's run by their ends. Shared by all threads.
#[derive(Debug, Default)]
pub struct Ledger {
    tally: Mutex<Tally>,
    stopping: AtomicBool,
    blocked: AtomicU64,
    listeners_closed: AtomicU64,
}

/// The counts of an agent's run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Taken from a backlog, and those that are known never to be.
    pub taken: u64,
    /// Ended as sessions.
    pub sessions: u64,
    /// Ended as cancel requests.
    pub cancels: u64,
    /// Refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Failed, by name.
    pub failed: BTreeMap<Failure, u64>,
}

impl Tally {
    /// Those that have ended.
    pub fn ended(&self) -> u64 {
        let refused: u64 = self.refused.values().sum();
        let failed: u64 = self.failed.values().sum();
        self.sessions + self.cancels + refused + failed
    }
}

impl Ledger {
    /// Nothing counted.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A connect was taken from a backlog.
    pub fn take(self: &Arc<Self>, number: u64) -> Connect {
        self.locked().taken += 1;
        Connect { ledger: self.clone(), number, ended: false }
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.locked().clone()
    }

    /// From now on a connect that is dropped ends because the agent stops.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Says that a backlog is not emptied until the guard is dropped: all workers are busy.
    pub fn block(self: &Arc<Self>) -> Blocked {
        self.blocked.fetch_add(1, Ordering::SeqCst);
        Blocked(self.clone())
    }

    /// Whether a backlog is not emptied now.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst) > 0
    }

    /// A listener was closed, with what was in its backlog.
    pub fn listener_closed(&self) {
        self.listeners_closed.fetch_add(1, Ordering::SeqCst);
    }

    /// Listeners closed so far.
    pub(super) fn listeners_closed(&self) -> u64 {
        self.listeners_closed.load(Ordering::SeqCst)
    }

    /// Connects that were handed over and will never be taken.
    pub(super) fn never_taken(&self, failure: Failure, count: u64) {
        let mut tally = self.locked();
        tally.taken += count;
        *tally.failed.entry(failure).or_default() += count;
    }

    /// The agent ends: connects that it still has fail with it. Their guards, should they end later, count nothing.
    pub(super) fn close(&self) {
        let mut tally = self.locked();
        let left = tally.taken.saturating_sub(tally.ended());
        if left > 0 {
            *tally.failed.entry(Failure::AgentStopped).or_default() += left;
        }
    }

    fn end(&self, number: u64, end: End) {
        debug!(connect = number, column = end.column(), name = end.name(), "a connect ended");
        let mut tally = self.locked();
        if tally.ended() >= tally.taken {
            return; // closed: it was counted as the agent's end
        }
        match end {
            End::Session => tally.sessions += 1,
            End::Cancel => tally.cancels += 1,
            End::Refused(reason) => *tally.refused.entry(reason).or_default() += 1,
            End::Failed(failure) => *tally.failed.entry(failure).or_default() += 1,
        }
    }

    /// The counts are whole whenever no call is under way.
    fn locked(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A backlog that is not emptied, until it is dropped.
#[derive(Debug)]
pub struct Blocked(Arc<Ledger>);

impl Drop for Blocked {
    fn drop(&mut self) {
        self.0.blocked.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Session,
    Cancel,
    Refused(&'static str),
    Failed(Failure),
}

impl End {
    fn column(self) -> &'static str {
        match self {
            Self::Session | Self::Cancel => "intercepted",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Cancel => "cancel",
            Self::Refused(reason) => reason,
            Self::Failed(failure) => failure.name(),
        }
    }
}

/// A connect that the agent has. It ends once, by one of the methods that consume it; dropped without, it failed.
#[derive(Debug)]
#[must_use = "dropped, the connect failed"]
pub struct Connect {
    ledger: Arc<Ledger>,
    number: u64,
    ended: bool,
}

impl Connect {
    /// Its number, field 95 of the records about it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its `session_start` is recorded.
    pub fn session(self) {
        self.end(End::Session);
    }

    /// It was a cancel request, and has a record of its own.
    pub fn cancel(self) {
        self.end(End::Cancel);
    }

    /// It was refused, and that is recorded or counted by this reason.
    pub fn refused(self, reason: &'static str) {
        self.end(End::Refused(reason));
    }

    /// It failed.
    pub fn failed(self, failure: Failure) {
        self.end(End::Failed(failure));
    }

    fn end(mut self, end: End) {
        self.ended = true;
        self.ledger.end(self.number, end);
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        if !self.ended {
            let stopping = self.ledger.stopping.load(Ordering::SeqCst);
            let failure = if stopping { Failure::AgentStopped } else { Failure::AgentFault };
            self.ledger.end(self.number, End::Failed(failure));
        }
    }
}
