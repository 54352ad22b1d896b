//! Everything that is logged, as one type.
//!
//! Each kind is a plain struct of borrowed parts; [`Record::write`] turns it into one line. No
//! clock is read here and nothing is looked up: who makes a record knows all of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::json::{Json, Object};
use super::session::{SessionEnd, SessionStart};
use super::statement::Statement;
use super::time::{Now, WallNanos};

/// Version of the format, field `v`. It changes when a field changes its meaning or goes; new
/// fields don't change it.
pub const FORMAT_VERSION: u64 = 1;

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
    pub(super) fn bytes(self) -> [u8; 16] {
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
#[derive(Debug)]
pub struct SessionSeq {
    id: SessionId,
    next: u64,
}

impl SessionSeq {
    /// Begins at 0.
    pub fn new(id: SessionId) -> Self {
        Self { id, next: 0 }
    }

    /// The session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The stamp of the session's next record. It takes the number whether or not the record gets
    /// written.
    pub fn stamp(&mut self, now: Now) -> Stamp {
        let seq = self.next;
        self.next += 1;
        Stamp { now, session: Some((self.id, seq)) }
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
}

impl Stamp {
    /// A record outside of any session.
    pub fn agent(now: Now) -> Self {
        Self { now, session: None }
    }
}

/// What happened. The field `event` names the kind. No `Debug`: the agent's own log is no place for
/// what is in it.
#[derive(Clone, Copy)]
pub enum Record<'a> {
    /// `agent_start`
    AgentStart(&'a AgentStart<'a>),
    /// `agent_stop`
    AgentStop(&'a AgentStop<'a>),
    /// `session_start`
    SessionStart(&'a SessionStart<'a>),
    /// `session_end`
    SessionEnd(&'a SessionEnd<'a>),
    /// `statement`
    Statement(&'a Statement<'a>),
    /// `cancel`
    Cancel(&'a Cancel<'a>),
    /// `refused`
    Refused(&'a Refused<'a>),
    /// `allowed_unseen`
    AllowedUnseen(&'a AllowedUnseen<'a>),
    /// `events_lost`
    EventsLost(&'a EventsLost<'a>),
    /// `namespace`
    Namespace(&'a Namespace<'a>),
}

/// `agent_start`: recording begins.
#[derive(Clone, Copy, Debug)]
pub struct AgentStart<'a> {
    /// Version of the agent.
    pub version: &'a str,
    /// Host name.
    pub host: &'a str,
    /// `/proc/sys/kernel/random/boot_id`: what `boot_ns` and process start times count from.
    pub boot_id: &'a str,
    /// Process id of the agent.
    pub pid: u32,
    /// SHA-256 of the configuration file.
    pub config_sha256: Option<[u8; 32]>,
    /// Tiers of attribution that loaded.
    pub tiers: &'a [Tier],
    /// What is intercepted: `root` or the path of a cgroup.
    pub cgroup: &'a str,
    /// Bytes of an unfinished line that a crash had left at the end of the log, and that now stands
    /// alone on its line.
    pub torn_tail_bytes: u64,
}

/// `agent_stop`: recording ends in good order. A log that ends, or starts again, without one ended
/// in a crash.
#[derive(Clone, Copy, Debug)]
pub struct AgentStop<'a> {
    /// Why, for example `SIGTERM`.
    pub reason: &'a str,
    /// Sessions since `agent_start`.
    pub sessions: u64,
    /// Statements since `agent_start`.
    pub statements: u64,
}

/// `cancel`: somebody asked a server to cancel what a session is doing.
#[derive(Clone, Copy, Debug)]
pub struct Cancel<'a> {
    /// Who asked.
    pub actor: &'a Json,
    /// Where the request was sent.
    pub destination: SocketAddr,
    /// The server's process it names.
    pub target_pid: u32,
    /// The session it is about, when it is one of the agent's.
    pub target_session: Option<SessionId>,
    /// What became of it. The protocol doesn't tell whether the server found anything to cancel.
    pub outcome: CancelOutcome,
}

/// `refused`: a connection the agent or the kernel side did not let through.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// Name of the reason: that of a counter of the kernel side, or the agent's own.
    pub reason: &'a str,
    /// More about the reason; no SQL.
    pub detail: Option<&'a str>,
    /// What the client was told, when it was told something.
    pub sqlstate: Option<[u8; 5]>,
    /// Who tried.
    pub actor: Option<&'a Json>,
    /// Where to.
    pub destination: Option<SocketAddr>,
    /// How many this record stands for.
    pub count: u64,
}

/// `allowed_unseen`: connections that were let through while no agent ran (`on_agent_down =
/// "allow"`).
#[derive(Clone, Copy, Debug)]
pub struct AllowedUnseen<'a> {
    /// Who connected.
    pub actor: Option<&'a Json>,
    /// Where to.
    pub destination: Option<SocketAddr>,
    /// When, or since when.
    pub since: Option<WallNanos>,
    /// How many this record stands for.
    pub count: u64,
}

/// `events_lost`: something was not recorded, and this is how much.
#[derive(Clone, Copy, Debug)]
pub struct EventsLost<'a> {
    /// What was lost.
    pub source: LostSource,
    /// How many.
    pub count: u64,
    /// Since when.
    pub since: Option<WallNanos>,
    /// More about the reason; no SQL.
    pub detail: Option<&'a str>,
}

/// `namespace`: a network namespace came under watch or left it.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// What happened.
    pub change: NamespaceChange,
    /// Its cookie.
    pub netns_cookie: u64,
    /// Inode of its handle (`/proc/PID/ns/net`).
    pub inode: Option<u64>,
    /// Port of the agent's listener there.
    pub port: Option<u16>,
    /// How long the first connect was held, in microseconds.
    pub held_us: Option<u64>,
    /// Whose connect made it known.
    pub actor: Option<&'a Json>,
    /// Why it failed or was closed.
    pub detail: Option<&'a str>,
}

/// Makes an enum whose variants have a name in the log.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in the log.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}
pub(super) use named;

named! {
    /// Which mechanism told who wrote.
    Tier {
        /// The opener of the connection, read with the connect. Always there.
        T0 = "T0",
        /// Each transmit names its process, but a change is placed to within what was in flight
        /// (Linux 6.15).
        T1 = "T1",
        /// Each `sendmsg` names its process and the exact first byte.
        T2 = "T2",
    }
}

named! {
    /// What became of a cancel request.
    CancelOutcome {
        /// It was sent to the server, which closed the connection as it does.
        Forwarded = "forwarded",
        /// The server could not be reached or broke off.
        Failed = "failed",
        /// The agent did not pass it on.
        Refused = "refused",
    }
}

named! {
    /// What was lost.
    LostSource {
        /// Events of the kernel side: refusals, namespaces.
        KernelEvents = "kernel_events",
        /// Changes of writer: attribution falls back to the opener or the last known writer.
        WriterEvents = "writer_events",
        /// Records of this log.
        Records = "records",
        /// Records that were written, but the disk reported an error when asked to keep them: they
        /// may be missing.
        RecordsUnsynced = "records_unsynced",
    }
}

named! {
    /// What happened to a network namespace.
    NamespaceChange {
        /// The agent listens there.
        Opened = "opened",
        /// It can't; connects from there are refused.
        Failed = "failed",
        /// It no longer does.
        Closed = "closed",
    }
}

impl Record<'_> {
    /// Value of the field `event`.
    pub fn event(&self) -> &'static str {
        match self {
            Self::AgentStart(_) => "agent_start",
            Self::AgentStop(_) => "agent_stop",
            Self::SessionStart(_) => "session_start",
            Self::SessionEnd(_) => "session_end",
            Self::Statement(_) => "statement",
            Self::Cancel(_) => "cancel",
            Self::Refused(_) => "refused",
            Self::AllowedUnseen(_) => "allowed_unseen",
            Self::EventsLost(_) => "events_lost",
            Self::Namespace(_) => "namespace",
        }
    }

    /// Appends the record to `out` as one line of JSON with its line feed.
    pub fn write(&self, stamp: &Stamp, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.number("v", FORMAT_VERSION);
        object.word("event", self.event());
        object.time("time", stamp.now.wall);
        object.number("boot_ns", stamp.now.boot.0);
        if let Some((session, seq)) = stamp.session {
            object.hex("session", &session.bytes());
            object.number("seq", seq);
        }
        match self {
            Self::AgentStart(record) => record.fill(&mut object),
            Self::AgentStop(record) => record.fill(&mut object),
            Self::SessionStart(record) => record.fill(&mut object),
            Self::SessionEnd(record) => record.fill(&mut object),
            Self::Statement(record) => record.fill(&mut object),
            Self::Cancel(record) => record.fill(&mut object),
            Self::Refused(record) => record.fill(&mut object),
            Self::AllowedUnseen(record) => record.fill(&mut object),
            Self::EventsLost(record) => record.fill(&mut object),
            Self::Namespace(record) => record.fill(&mut object),
        }
        object.end();
        out.push(b'\n');
    }
}

impl AgentStart<'_> {
    fn fill(&self, object: &mut Object<'_>) {
        object.text("version", self.version);
        object.text("host", self.host);
        object.text("boot_id", self.boot_id);
        object.number("pid", self.pid.into());
        if let Some(digest) = &self.config_sha256 {
            object.hex("config_sha256", digest);
        }
        object.words("tiers", self.tiers.iter().map(|tier| tier.name()));
        object.text("cgroup", self.cgroup);
        object.number_if("torn_tail_bytes", Some(self.torn_tail_bytes).filter(|n| *n > 0));
    }
}

impl AgentStop<'_> {
    fn fill(&self, object: &mut Object<'_>) {
        object.text("reason", self.reason);
        object.number("sessions", self.sessions);
        object.number("statements", self.statements);
    }
}

impl Cancel<'_> {
    fn fill(&self, object: &mut Object<'_>) {
        object.json("actor", self.actor);
        object.display("destination", self.destination);
        object.number("target_pid", self.target_pid.into());
        if let Some(session) = self.target_session {
            object.hex("target_session", &session.bytes());
        }
        object.word("outcome", self.outcome.name());
    }
}

impl Refused<'_> {
    fn fill(&self, object: &mut Object<'_>) {
        object.text("reason", self.reason);
        object.text_if("detail", self.detail);
        object.bytes_if("sqlstate", self.sqlstate.as_ref().map(|state| &state[..]));
        origin(object, self.actor, self.destination);
        object.number("count", self.count);
    }
}

impl AllowedUnseen<'_> {
    fn fill(&self, object: &mut Object<'_>) {
        origin(object, self.actor, self.destination);
        if let Some(since) = self.since {
            object.time("since", since);
        }
        object.number("count", self.count);
    }
}

impl EventsLost<'_> {
    fn fill(&self, object: &mut Object<'_>) {
        object.word("source", self.source.name());
        object.number("count", self.count);
        if let Some(since) = self.since {
            object.time("since", since);
        }
        object.text_if("detail", self.detail);
    }
}

impl Namespace<'_> {
    fn fill(&self, object: &mut Object<'_>) {
        object.word("change", self.change.name());
        object.number("netns_cookie", self.netns_cookie);
        object.number_if("inode", self.inode);
        object.number_if("port", self.port.map(u64::from));
        object.number_if("held_us", self.held_us);
        origin(object, self.actor, None);
        object.text_if("detail", self.detail);
    }
}

fn origin(object: &mut Object<'_>, actor: Option<&Json>, destination: Option<SocketAddr>) {
    if let Some(actor) = actor {
        object.json("actor", actor);
    }
    if let Some(destination) = destination {
        object.display("destination", destination);
    }
}

macro_rules! from {
    ($($kind:ident),+) => {$(
        impl<'a> From<&'a $kind<'a>> for Record<'a> {
            fn from(record: &'a $kind<'a>) -> Self {
                Self::$kind(record)
            }
        }
    )+};
}
from!(AgentStart, AgentStop, SessionStart, SessionEnd, Statement, Cancel);
from!(Refused, AllowedUnseen, EventsLost, Namespace);
