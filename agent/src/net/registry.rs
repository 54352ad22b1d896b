//! Sessions as others see them: for `pgward sessions`, for cancel requests, for the limit on their number.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use super::{identify::Who, orders::Orders};
use crate::audit::{EndReason, HandshakeKind, SessionId, StatementKind, Tier, WallNanos};

/// What a session shows of itself. Written by its worker with plain stores, read by whoever asks.
#[derive(Debug)]
pub struct Shown {
    /// Which session.
    pub id: SessionId,
    /// When the process called `connect`.
    pub since: WallNanos,
    /// Where it wanted to go.
    pub destination: SocketAddr,
    /// What that is called in the configuration.
    pub destination_name: Box<str>,
    /// Best tier that watches its writers.
    pub tier: Tier,
    /// The process that opened it.
    pub who: OnceLock<Arc<Who>>,
    /// What the startup packet said.
    pub startup: OnceLock<Startup>,
    /// The connection to the server: TLS in a few words, `None` in clear text. Not set before there is one.
    pub server_tls: OnceLock<Option<Box<str>>>,
    /// Who carried out the exchange. Not set before the client is authenticated.
    pub handshake: OnceLock<HandshakeKind>,
    /// Its network namespace.
    pub netns_cookie: u64,
    /// Index into [`STATES`].
    pub state: AtomicU8,
    /// The server's process number, 0 while unknown.
    pub backend_pid: AtomicU32,
    /// Statements recorded.
    pub statements: AtomicU64,
    /// Rows sent to the client.
    pub rows: AtomicU64,
    /// Bytes read from the client.
    pub client_bytes: AtomicU64,
    /// Bytes read from the server.
    pub server_bytes: AtomicU64,
    /// When its state last changed, nanoseconds since 1970.
    pub state_since: AtomicU64,
    /// When the transaction that is open began, implicit ones included: nanoseconds since 1970, 0 for none. Seen whenever
    /// both sides wait, so that a transaction which begins right behind another is taken for the same only where the agent
    /// never saw the session at rest in between.
    pub transaction_since: AtomicU64,
    /// Class of the last statement: its place in [`CLASSES`], 0 before the first.
    pub class: AtomicU8,
    /// Statements that were refused.
    pub denials: AtomicU64,
    /// What others want of it.
    pub orders: Orders,
}

/// Names of the classes of statements, as `pgward sessions` prints them: so far by the messages that they came in.
pub const CLASSES: [&str; StatementKind::NAMES.len() + 1] = {
    let mut classes = ["-"; StatementKind::NAMES.len() + 1];
    let mut at = 0;
    while at < StatementKind::NAMES.len() {
        classes[at + 1] = StatementKind::NAMES[at];
        at += 1;
    }
    classes
};

impl Shown {
    /// A session that begins.
    pub fn new(id: SessionId, since: WallNanos, destination: SocketAddr, tier: Tier) -> Self {
        Self {
            id,
            since,
            destination,
            destination_name: Box::default(),
            tier,
            who: OnceLock::new(),
            startup: OnceLock::new(),
            server_tls: OnceLock::new(),
            handshake: OnceLock::new(),
            netns_cookie: 0,
            state: AtomicU8::new(0),
            backend_pid: AtomicU32::new(0),
            statements: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            client_bytes: AtomicU64::new(0),
            server_bytes: AtomicU64::new(0),
            state_since: AtomicU64::new(since.0),
            transaction_since: AtomicU64::new(0),
            class: AtomicU8::new(0),
            denials: AtomicU64::new(0),
            orders: Orders::default(),
        }
    }

    /// Its state has changed, to a place in [`STATES`].
    pub fn changed(&self, state: u8, now: WallNanos) {
        self.state.store(state, Ordering::Relaxed);
        self.state_since.store(now.0, Ordering::Relaxed);
        match STATES[usize::from(state)] {
            STARTUP | IDLE | REPLICATION | CLOSING => {
                self.transaction_since.store(0, Ordering::Relaxed);
            }
            // Nobody else writes it.
            _ if self.transaction_since.load(Ordering::Relaxed) == 0 => {
                self.transaction_since.store(now.0, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// A statement of this kind was let through or refused.
    pub fn began(&self, kind: StatementKind) {
        self.class.store(kind as u8 + 1, Ordering::Relaxed);
    }

    /// Whether no statement runs and no transaction is open.
    pub fn is_idle(&self) -> bool {
        STATES.get(usize::from(self.state.load(Ordering::Relaxed))) == Some(&IDLE)
    }

    /// Whether the server works for it, or waits for its COPY data: what a cancel request ends.
    pub fn is_active(&self) -> bool {
        STATES.get(usize::from(self.state.load(Ordering::Relaxed))).is_some_and(|state| {
            ![STARTUP, IDLE, IDLE_IN_TRANSACTION, IDLE_IN_FAILED, CLOSING].contains(state)
        })
    }
}

/// What the startup packet said, for people. Text that is not UTF-8 has U+FFFD in place of the bytes that are not.
#[derive(Debug)]
pub struct Startup {
    /// Database.
    pub database: String,
    /// Role in the database.
    pub user: String,
    /// What the client calls itself.
    pub application_name: String,
    /// The client's connection: TLS in a few words, `None` in clear text.
    pub client_tls: Option<Box<str>>,
}

/// Names of the states of a session, as `pgward sessions` prints them.
pub const STATES: [&str; 9] = [
    STARTUP,
    IDLE,
    "active",
    IDLE_IN_TRANSACTION,
    IDLE_IN_FAILED,
    "copy in",
    "copy out",
    REPLICATION,
    CLOSING,
];
const STARTUP: &str = "startup";
const IDLE: &str = "idle";
const IDLE_IN_TRANSACTION: &str = "idle in transaction";
const IDLE_IN_FAILED: &str = "idle in transaction (aborted)";
const REPLICATION: &str = "replication";
const CLOSING: &str = "closing";

/// All sessions of the agent.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<BTreeMap<u64, Arc<Shown>>>,
    statements: AtomicU64,
    total: AtomicU64,
    logins_failed: AtomicU64,
    logins_refused: AtomicU64,
    logins_throttled: AtomicU64,
    cancels_dropped: AtomicU64,
}

/// What became of clients that wanted something they did not get, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// Logins of clients that did not prove to be who they say, to the agent or to the server.
    pub logins_failed: u64,
    /// Logins that the agent refused for what the server asks for, is, or did not prove, or for a secret that it could not get.
    pub logins_refused: u64,
    /// Logins that were not tried, after too many failures.
    pub logins_throttled: u64,
    /// Cancel requests with a key that nobody was given, or after too many of them.
    pub cancels_dropped: u64,
}

impl Registry {
    /// Adds a session, unless there are `max` already. It leaves when the value is dropped.
    pub fn enter(self: &Arc<Self>, shown: Shown, max: usize) -> Option<Entry> {
        let mut sessions = self.locked();
        if sessions.len() >= max {
            return None;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        let shown = Arc::new(shown);
        sessions.insert(shown.id.counter, shown.clone());
        Some(Entry { registry: self.clone(), shown })
    }

    /// All sessions, oldest first.
    pub fn all(&self) -> Vec<Arc<Shown>> {
        self.locked().values().cloned().collect()
    }

    /// Has all sessions look at what they are allowed.
    pub fn wake_all(&self) {
        self.locked().values().for_each(|session| session.orders.wake());
    }

    /// Sessions now.
    pub fn len(&self) -> usize {
        self.locked().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Statements of ended sessions and of those that go on.
    pub fn statements(&self) -> u64 {
        let sessions = self.locked();
        let live: u64 = sessions.values().map(|s| s.statements.load(Ordering::Relaxed)).sum();
        live + self.statements.load(Ordering::Relaxed)
    }

    /// Counts how a session ended, where that was a login that came to nothing.
    pub fn ended(&self, reason: EndReason) {
        let counter = match reason {
            EndReason::AuthenticationFailed => &self.logins_failed,
            EndReason::AuthenticationRefused
            | EndReason::ServerUnproven
            | EndReason::SecretUnavailable
            | EndReason::ServerTlsFailed => &self.logins_refused,
            EndReason::Throttled => &self.logins_throttled,
            EndReason::ClientTerminated
            | EndReason::ClientClosed
            | EndReason::ClientReset
            | EndReason::ServerClosed
            | EndReason::ServerReset
            | EndReason::DialFailed
            | EndReason::StartupRefused
            | EndReason::StartupTimeout
            | EndReason::ProtocolViolation
            | EndReason::LimitExceeded
            | EndReason::IdentityLost
            | EndReason::RecordingFailed
            | EndReason::Decided
            | EndReason::AgentStopped
            | EndReason::AgentFault
            | EndReason::Killed => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a cancel request that was dropped unanswered.
    pub fn cancel_dropped(&self) {
        self.cancels_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Who was turned away so far.
    pub fn turned_away(&self) -> TurnedAway {
        TurnedAway {
            logins_failed: self.logins_failed.load(Ordering::Relaxed),
            logins_refused: self.logins_refused.load(Ordering::Relaxed),
            logins_throttled: self.logins_throttled.load(Ordering::Relaxed),
            cancels_dropped: self.cancels_dropped.load(Ordering::Relaxed),
        }
    }

    /// The session that a cancel request for `pid` at `destination` is about.
    pub fn by_backend(&self, destination: SocketAddr, pid: u32) -> Option<SessionId> {
        self.locked()
            .values()
            .find(|s| s.destination == destination && s.backend_pid.load(Ordering::Relaxed) == pid)
            .map(|s| s.id)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Shown>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place in the registry.
#[derive(Debug)]
pub struct Entry {
    registry: Arc<Registry>,
    /// What it shows.
    pub shown: Arc<Shown>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shown.orders.close();
        let mut sessions = self.registry.locked();
        sessions.remove(&self.shown.id.counter);
        let statements = self.shown.statements.load(Ordering::Relaxed);
        self.registry.statements.fetch_add(statements, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::SessionIds;

    fn shown() -> Shown {
        let to = "10.0.0.5:5432".parse().expect("an address");
        Shown::new(SessionIds::new(1).next(), WallNanos(1), to, Tier::T0)
    }

    fn place(state: &str) -> u8 {
        STATES.iter().position(|name| *name == state).expect("a state") as u8
    }

    #[test]
    fn a_transaction_has_its_age_from_its_first_statement_to_rest() {
        let shown = shown();
        let since = || shown.transaction_since.load(Ordering::Relaxed);
        for (at, state, expected) in [
            (2, "idle", 0),
            (3, "active", 3),
            (4, "idle in transaction", 3),
            (5, "copy in", 3),
            (6, "idle in transaction (aborted)", 3),
            (7, "idle", 0),
            (8, "copy out", 8),
            (9, "closing", 0),
            (10, "replication", 0),
        ] {
            shown.changed(place(state), WallNanos(at));
            assert_eq!(since(), expected, "{state}");
            assert_eq!(shown.state_since.load(Ordering::Relaxed), at);
        }
    }

    #[test]
    fn what_is_idle_is_not_active_and_some_states_are_neither() {
        let shown = shown();
        let are = STATES.map(|state| {
            shown.changed(place(state), WallNanos(1));
            (shown.is_idle(), shown.is_active())
        });
        let expected = [
            (false, false),
            (true, false),
            (false, true),
            (false, false),
            (false, false),
            (false, true),
            (false, true),
            (false, true),
            (false, false),
        ];
        assert_eq!(are, expected);
    }

    #[test]
    fn the_class_of_a_statement_is_told_by_its_name() {
        let shown = shown();
        let class = || CLASSES[usize::from(shown.class.load(Ordering::Relaxed))];
        assert_eq!(class(), "-");
        for kind in StatementKind::ALL {
            shown.began(*kind);
            assert_eq!(class(), kind.name());
        }
    }

    #[test]
    fn counts_who_was_turned_away() {
        let registry = Registry::default();
        for reason in EndReason::ALL {
            registry.ended(*reason);
        }
        registry.ended(EndReason::AuthenticationFailed);
        registry.cancel_dropped();
        let away = TurnedAway {
            logins_failed: 2,
            logins_refused: 4,
            logins_throttled: 1,
            cancels_dropped: 1,
        };
        assert_eq!(registry.turned_away(), away);
    }
}
