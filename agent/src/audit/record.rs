//! Everything that is recorded, as one type.
//!
//! Each kind is a plain struct of borrowed parts; [`Record::write`] turns it into one entry. No
//! clock is read here and nothing is looked up: who makes a record knows all of it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{self, SHA256};

use super::cbor::Map;
use super::clock::Clock;
use super::happening::{
    AgentStart, AgentStop, AllowedUnseen, ConfigLoad, EventsLost, Namespace, Refused,
};
use super::ledger::{Coverage, Hooks};
use super::maintenance::{
    AuditRead, BreakGlass, Capacity, EpochStart, Failure, Hold, Key, Prune, Recovery, Redaction,
    Seal,
};
use super::orders::{Grant, Kill};
use super::schema::{EventKind, FORMAT_VERSION, f};
use super::session::{Authentication, Cancel, SessionEnd, SessionMark, SessionStart, Writer};
use super::statement::{Denied, Done, Intent, Introduced, LimitReached};
use super::time::{Now, clock_state};

/// Longest entry, in bytes: what a C2SP entry bundle can hold.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// Names a session for ever: a random number of the agent's run and a counter. Written as 32
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Random, drawn when the agent starts.
    pub epoch: u64,
    /// Counted from 1 within the run.
    pub counter: u64,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.epoch, self.counter)
    }
}

impl SessionId {
    /// As entries hold it.
    pub fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }
}

/// Hands out the [`SessionId`]s of one run. Shared by all workers.
#[derive(Debug)]
pub struct SessionIds {
    epoch: u64,
    next: AtomicU64,
}

impl SessionIds {
    /// `epoch` is a fresh random number: two runs with the same one would give two sessions the
    /// same name.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, next: AtomicU64::new(1) }
    }

    /// The next one.
    pub fn next(&self) -> SessionId {
        SessionId { epoch: self.epoch, counter: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

/// Numbers the records of one session from 0 without gaps: a gap in the log is a lost record.
///
/// It also keeps the digest of the session's leaf hashes, which the last entry of the session
/// holds: together they prove that a list of its entries is whole.
pub struct SessionSeq {
    id: SessionId,
    next: u64,
    digest: digest::Context,
}

impl fmt::Debug for SessionSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSeq").field("id", &self.id).field("next", &self.next).finish()
    }
}

impl SessionSeq {
    /// Begins at 0.
    pub fn new(id: SessionId) -> Self {
        Self { id, next: 0, digest: digest::Context::new(&SHA256) }
    }

    /// The session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The stamp of the session's next record.
    pub fn stamp(&self, now: Now) -> Stamp {
        Stamp { now, session: Some((self.id, self.next)), clock: clock_state() }
    }

    /// The number that the next stamp will have.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The record with the last stamp was taken, and this is its leaf hash. One that was not taken
    /// has no number.
    pub fn recorded(&mut self, leaf: &[u8; 32]) {
        self.next += 1;
        self.digest.update(leaf);
    }

    /// Entries up to the next one, and the digest over the leaf hashes of those before it.
    pub fn summary(&self) -> (u64, [u8; 32]) {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.digest.clone().finish().as_ref());
        (self.next + 1, digest)
    }
}

/// What every record has: when it was made and, for records of a session, which and the how
/// many-th.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the record was made.
    pub now: Now,
    /// Session and sequence number in it.
    pub session: Option<(SessionId, u64)>,
    /// Number of the state of the clock that was recorded last, 0 for none.
    pub clock: u64,
}

impl Stamp {
    /// A record outside of any session.
    pub fn agent(now: Now) -> Self {
        Self { now, session: None, clock: clock_state() }
    }
}

/// What happened. No `Debug`: the agent's own log is no place for what is in it.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "each is documented at its struct and its `EventKind`")]
pub enum Record<'a> {
    AgentStart(&'a AgentStart<'a>),
    AgentStop(&'a AgentStop<'a>),
    SessionStart(&'a SessionStart<'a>),
    SessionEnd(&'a SessionEnd<'a>),
    Introduced(&'a Introduced<'a>),
    Intent(&'a Intent<'a>),
    Done(&'a Done<'a>),
    Cancel(&'a Cancel<'a>),
    Refused(&'a Refused<'a>),
    AllowedUnseen(&'a AllowedUnseen<'a>),
    EventsLost(&'a EventsLost<'a>),
    Namespace(&'a Namespace<'a>),
    Writer(&'a Writer<'a>),
    Authentication(&'a Authentication<'a>),
    ConfigLoad(&'a ConfigLoad<'a>),
    Hooks(&'a Hooks),
    Coverage(&'a Coverage),
    Clock(&'a Clock),
    Seal(&'a Seal<'a>),
    Recovery(&'a Recovery<'a>),
    EpochStart(&'a EpochStart<'a>),
    Key(&'a Key<'a>),
    Failure(&'a Failure<'a>),
    Capacity(&'a Capacity),
    BreakGlass(&'a BreakGlass<'a>),
    AuditRead(&'a AuditRead<'a>),
    Redaction(&'a Redaction<'a>),
    Prune(&'a Prune<'a>),
    Hold(&'a Hold<'a>),
    SessionMark(&'a SessionMark),
    Denied(&'a Denied<'a>),
    Kill(&'a Kill<'a>),
    Grant(&'a Grant<'a>),
    LimitReached(&'a LimitReached<'a>),
}

impl Record<'_> {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::AgentStart(_) => EventKind::AgentStart,
            Self::AgentStop(_) => EventKind::AgentStop,
            Self::SessionStart(_) => EventKind::SessionStart,
            Self::SessionEnd(_) => EventKind::SessionEnd,
            Self::Introduced(_) => EventKind::Statement,
            Self::Intent(_) => EventKind::Intent,
            Self::Done(_) => EventKind::Outcome,
            Self::Cancel(_) => EventKind::Cancel,
            Self::Refused(_) => EventKind::Refused,
            Self::AllowedUnseen(_) => EventKind::AllowedUnseen,
            Self::EventsLost(_) => EventKind::EventsLost,
            Self::Namespace(_) => EventKind::Namespace,
            Self::Writer(_) => EventKind::Writer,
            Self::Authentication(_) => EventKind::Authentication,
            Self::ConfigLoad(_) => EventKind::ConfigLoad,
            Self::Hooks(_) => EventKind::Hooks,
            Self::Coverage(_) => EventKind::Coverage,
            Self::Clock(_) => EventKind::Clock,
            Self::Seal(_) => EventKind::Seal,
            Self::Recovery(_) => EventKind::Recovery,
            Self::EpochStart(_) => EventKind::EpochStart,
            Self::Key(_) => EventKind::Key,
            Self::Failure(_) => EventKind::Failure,
            Self::Capacity(_) => EventKind::Capacity,
            Self::BreakGlass(_) => EventKind::BreakGlass,
            Self::AuditRead(_) => EventKind::AuditRead,
            Self::Redaction(_) => EventKind::Redaction,
            Self::Prune(_) => EventKind::Prune,
            Self::Hold(_) => EventKind::Hold,
            Self::SessionMark(_) => EventKind::SessionMark,
            Self::Denied(_) => EventKind::Denied,
            Self::Kill(_) => EventKind::Kill,
            Self::Grant(_) => EventKind::Grant,
            Self::LimitReached(_) => EventKind::Limit,
        }
    }

    /// Appends the record to `out` as one entry. `salt` is fresh and random.
    pub fn write(&self, stamp: &Stamp, salt: &[u8; 16], out: &mut Vec<u8>) {
        let mut entry = Map::begin(out);
        entry.uint(f::V, FORMAT_VERSION);
        entry.uint(f::EVENT, self.kind().number());
        entry.bytes(f::SALT, salt);
        entry.wall(f::TIME, stamp.now.wall);
        entry.uint(f::BOOT_NS, stamp.now.boot.0);
        entry.uint_if(f::CLOCK, Some(stamp.clock).filter(|clock| *clock > 0));
        if let Some((session, seq)) = stamp.session {
            entry.bytes(f::SESSION, &session.bytes());
            entry.uint(f::SEQ, seq);
        }
        match self {
            Self::AgentStart(record) => record.fill(&mut entry),
            Self::AgentStop(record) => record.fill(&mut entry),
            Self::SessionStart(record) => record.fill(&mut entry),
            Self::SessionEnd(record) => record.fill(&mut entry),
            Self::Introduced(record) => record.fill(&mut entry),
            Self::Intent(record) => record.fill(&mut entry),
            Self::Done(record) => record.fill(&mut entry),
            Self::Cancel(record) => record.fill(&mut entry),
            Self::Refused(record) => record.fill(&mut entry),
            Self::AllowedUnseen(record) => record.fill(&mut entry),
            Self::EventsLost(record) => record.fill(&mut entry),
            Self::Namespace(record) => record.fill(&mut entry),
            Self::Writer(record) => record.fill(&mut entry),
            Self::Authentication(record) => record.fill(&mut entry),
            Self::ConfigLoad(record) => record.fill(&mut entry),
            Self::Hooks(record) => record.fill(&mut entry),
            Self::Coverage(record) => record.fill(&mut entry),
            Self::Clock(record) => record.fill(&mut entry),
            Self::Seal(record) => record.fill(&mut entry),
            Self::Recovery(record) => record.fill(&mut entry),
            Self::EpochStart(record) => record.fill(&mut entry),
            Self::Key(record) => record.fill(&mut entry),
            Self::Failure(record) => record.fill(&mut entry),
            Self::Capacity(record) => record.fill(&mut entry),
            Self::BreakGlass(record) => record.fill(&mut entry),
            Self::AuditRead(record) => record.fill(&mut entry),
            Self::Redaction(record) => record.fill(&mut entry),
            Self::Prune(record) => record.fill(&mut entry),
            Self::Hold(record) => record.fill(&mut entry),
            Self::SessionMark(record) => record.fill(&mut entry),
            Self::Denied(record) => record.fill(&mut entry),
            Self::Kill(record) => record.fill(&mut entry),
            Self::Grant(record) => record.fill(&mut entry),
            Self::LimitReached(record) => record.fill(&mut entry),
        }
        entry.end();
    }
}

macro_rules! from {
    ($($kind:ident $(<$lifetime:lifetime>)?),+ $(,)?) => {$(
        impl<'a> From<&'a $kind $(<$lifetime>)?> for Record<'a> {
            fn from(record: &'a $kind $(<$lifetime>)?) -> Self {
                Self::$kind(record)
            }
        }
    )+};
}
from!(
    AgentStart<'a>,
    AgentStop<'a>,
    SessionStart<'a>,
    SessionEnd<'a>,
    Introduced<'a>,
    Intent<'a>,
    Done<'a>,
    Cancel<'a>,
    Refused<'a>,
    AllowedUnseen<'a>,
    EventsLost<'a>,
    Namespace<'a>,
    Writer<'a>,
    Authentication<'a>,
    ConfigLoad<'a>,
    Hooks,
    Coverage,
    Clock,
    Seal<'a>,
    Recovery<'a>,
    EpochStart<'a>,
    Key<'a>,
    Failure<'a>,
    Capacity,
    BreakGlass<'a>,
    AuditRead<'a>,
    Redaction<'a>,
    Prune<'a>,
    Hold<'a>,
    SessionMark,
    Denied<'a>,
    Kill<'a>,
    Grant<'a>,
    LimitReached<'a>,
);
