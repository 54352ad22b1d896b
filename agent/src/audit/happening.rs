//! Records of the agent and its host: starts, refusals, namespaces, coverage, clock.

use std::net::SocketAddr;

use super::cbor::{Encoded, Map};
use super::schema::f;
use super::time::WallNanos;
use super::words::named;

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
    /// Whether memory with keys is kept out of swap and core dumps.
    pub memory_locked: bool,
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
    pub actor: Option<&'a Encoded>,
    /// Where to.
    pub destination: Option<SocketAddr>,
    /// How many this record stands for.
    pub count: u64,
    /// Number of the connect, when the record stands for one.
    pub connect: Option<u64>,
}

/// `allowed_unseen`: connections that were let through while no agent ran (`on_agent_down =
/// "allow"`).
#[derive(Clone, Copy, Debug)]
pub struct AllowedUnseen<'a> {
    /// Who connected.
    pub actor: Option<&'a Encoded>,
    /// Where to.
    pub destination: Option<SocketAddr>,
    /// When, or since when.
    pub since: Option<WallNanos>,
    /// How many this record stands for.
    pub count: u64,
    /// Number of the connect, when the record stands for one.
    pub connect: Option<u64>,
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
    pub actor: Option<&'a Encoded>,
    /// Why it failed or was closed.
    pub detail: Option<&'a str>,
}

/// `config_load`: a configuration is in force.
#[derive(Clone, Copy, Debug)]
pub struct ConfigLoad<'a> {
    /// SHA-256 of the file.
    pub config_sha256: &'a [u8; 32],
    /// SHA-256 of the policy's file, where there is a policy.
    pub policy: Option<&'a [u8; 32]>,
}

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

impl AgentStart<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::VERSION, self.version);
        entry.text(f::HOST, self.host);
        entry.text(f::BOOT_ID, self.boot_id);
        entry.uint(f::PID, self.pid.into());
        entry.bytes_if(f::CONFIG_SHA256, self.config_sha256.as_ref().map(|digest| &digest[..]));
        entry.uints(f::TIERS, self.tiers.iter().map(|tier| tier.number()));
        entry.text(f::CGROUP, self.cgroup);
        entry.flag(f::MEMORY_LOCKED, self.memory_locked);
    }
}

impl AgentStop<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::REASON, self.reason);
        entry.uint(f::SESSIONS, self.sessions);
        entry.uint(f::STATEMENTS, self.statements);
    }
}

impl Refused<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.bytes_if(f::SQLSTATE, self.sqlstate.as_ref().map(|state| &state[..]));
        entry.text(f::REASON, self.reason);
        entry.text_if(f::DETAIL, self.detail);
        origin(entry, self.actor, self.destination);
        entry.uint(f::COUNT, self.count);
        entry.uint_if(f::CONNECT, self.connect);
    }
}

impl AllowedUnseen<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        origin(entry, self.actor, self.destination);
        entry.uint(f::COUNT, self.count);
        entry.uint_if(f::SINCE, self.since.map(|since| since.0));
        entry.uint_if(f::CONNECT, self.connect);
    }
}

impl EventsLost<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text_if(f::DETAIL, self.detail);
        entry.uint(f::COUNT, self.count);
        entry.uint_if(f::SINCE, self.since.map(|since| since.0));
        entry.uint(f::LOST, self.source.number());
    }
}

impl Namespace<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text_if(f::DETAIL, self.detail);
        origin(entry, self.actor, None);
        entry.uint(f::NETNS_COOKIE, self.netns_cookie);
        entry.uint(f::CHANGE, self.change.number());
        entry.uint_if(f::INODE, self.inode);
        entry.uint_if(f::PORT, self.port.map(u64::from));
        entry.uint_if(f::HELD_US, self.held_us);
    }
}

impl ConfigLoad<'_> {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.bytes_if(f::POLICY, self.policy.map(|digest| &digest[..]));
        entry.bytes(f::CONFIG_SHA256, self.config_sha256);
    }
}

fn origin(entry: &mut Map<'_>, actor: Option<&Encoded>, destination: Option<SocketAddr>) {
    if let Some(actor) = actor {
        entry.encoded(f::ACTOR, actor);
    }
    if let Some(destination) = destination {
        entry.display(f::DESTINATION, destination);
    }
}
