//! The configuration file.
//!
//! TOML, strict: a key nobody knows is an error, every value is bounded, and all errors are
//! reported at once, each with its line. `raw` reads, `checked` turns what was read into the types
//! below, and everything else sees only those. An example with every key and its meaning is
//! `config/pgward.toml`, which the tests load.

mod advice;
mod audit;
mod auth;
mod checked;
mod destination;
mod network;
mod policy;
pub(crate) mod raw;
mod report;
mod targets;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use advice::{Warning, warnings};
pub use audit::{
    ANCHORS_MAX, AUDIT_RULES_MAX, Anchor, AnchorDatabase, AnchorPlace, AnchorWitness, Audit,
    AuditMode, AuditRule, FLEET_BYTES_MAX, OnFull, Parameters, PrintTo, SEGMENTS_MIN,
    URL_BYTES_MAX, ValueMode,
};
pub use auth::{
    ACCOUNTS_MAX, Account, ApplicationSecret, Auth, AuthException, AuthMode, AuthRequire,
    AuthSettings, COMMAND_ARGUMENTS_MAX, EXCEPTIONS_MAX, LOOKUP_QUERY, Lookup, PassMethod,
    PasswordSource, QUERY_BYTES_MAX, REASON_BYTES_MAX, ROLE_BYTES_MAX, Roles, VerifierText,
    WeakMethod,
};
pub use destination::{
    CertificateFiles, ChannelBinding, ClientSettings, ClientTls, DESTINATIONS_MAX, Destination,
    IMPLICIT_NAME, NAME_BYTES_MAX, Negotiation, ServerSettings, ServerTls, Tls,
};
pub use network::{Network, NetworkError};
pub use policy::{PolicyFile, PolicyFileError, read_policy};
pub use report::{Problem, Report};
pub use targets::{TARGETS_MAX, Target, Verdict, targets};

/// Where the file is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/pgward/pgward.toml";
/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Largest number of workers.
pub const WORKERS_MAX: usize = 64;
/// Workers started at most when the number is left to the agent.
pub const WORKERS_AUTO_MAX: usize = 8;

/// The whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[agent]`
    pub agent: Agent,
    /// `[bpf]`
    pub bpf: Bpf,
    /// `[listen]`
    pub listen: Listen,
    /// `[[intercept]]`: at least one, at most [`INTERCEPTS_MAX`], none against another.
    pub intercept: Vec<Intercept>,
    /// `[tls]`
    pub tls: Tls,
    /// `[auth]`
    pub auth: Auth,
    /// `[[destination]]`: at most [`DESTINATIONS_MAX`] in the order of the file, then the implicit
    /// one, which matches every address.
    pub destinations: Vec<Arc<Destination>>,
    /// `[netns]`
    pub netns: Netns,
    /// `[limits]`
    pub limits: Limits,
    /// `[grants]`
    pub grants: Grants,
    /// `[attribution]`
    pub attribution: Attribution,
    /// `[audit]`
    pub audit: Audit,
    /// `[policy]`
    pub policy: PolicyFile,
    /// `[log]`
    pub log: Log,
}

/// Largest number of `[[intercept]]` tables.
pub const INTERCEPTS_MAX: usize = 64;

/// `[agent]`: the process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Path of the control socket, short enough for `sockaddr_un` (107 bytes).
    pub control_socket: PathBuf,
    /// Number of workers as written: 0, or at most [`WORKERS_MAX`]. Use [`Agent::worker_count`].
    pub workers: usize,
    /// Sessions at the same time, over all workers.
    pub sessions_max: usize,
    /// How long a client may take from its connect to the end of authentication.
    pub startup_timeout: Duration,
}

impl Agent {
    /// How many workers to start on a machine with `cpus` processors.
    ///
    /// Left to the agent: one for two processors. The agent is a guest on its clients' host; on two processors one worker
    /// took 7 % fewer kernel instructions per statement with 8 clients, and no fewer with 1 or 32 (docs/performance.md).
    pub fn worker_count(&self, cpus: usize) -> usize {
        if self.workers == 0 { (cpus / 2).clamp(1, WORKERS_AUTO_MAX) } else { self.workers }
    }
}

/// `[bpf]`: the kernel side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bpf {
    /// What is intercepted.
    pub cgroup: Cgroup,
    /// Folder in a BPF file system that keeps links and maps alive when the agent dies.
    pub pin_path: PathBuf,
    /// What happens to connects while no agent runs.
    pub on_agent_down: OnAgentDown,
    /// Attribution tier T1.
    pub tx_timestamp: Want,
    /// Attribution tier T2.
    pub sendmsg_tracepoint: Want,
}

/// Processes that are intercepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroup {
    /// All of the host: the root of the cgroup v2 hierarchy, wherever it is mounted.
    Root,
    /// Only what runs in this cgroup or below it: absolute path of its folder.
    Subtree(PathBuf),
}

/// What the kernel side does with connects while no agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAgentDown {
    /// Refuse them with `ECONNREFUSED`.
    Block,
    /// Let them go where they were meant to go, and record them once an agent is back.
    Allow,
}

/// How much a feature is wanted that not every kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Do without it where it fails to load.
    BestEffort,
    /// Do not start without it.
    Require,
    /// Do not even try.
    Off,
}

/// `[listen]`: the agent's own listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Port on the loopback addresses of every network namespace.
    pub port: NonZeroU16,
}

/// One `[[intercept]]`: connects to one of `ports` at an address in `networks` and not in `exclude`
/// go to the agent.
///
/// Every network of `exclude` lies strictly inside one of `networks`, and none of `networks` lies
/// inside one of `exclude`, so the longest prefix that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intercept {
    /// Ascending, without repetition, at least one.
    pub ports: Vec<NonZeroU16>,
    /// Ascending, without repetition, at least one.
    pub networks: Vec<Network>,
    /// Ascending, without repetition.
    pub exclude: Vec<Network>,
}

/// `[netns]`: network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Netns {
    /// How long a connect is held for a namespace the agent does not listen in yet.
    pub hold: Duration,
    /// When the listener of a namespace without processes and sessions is closed.
    pub idle: Duration,
}

/// `[limits]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message that is held as a whole to be looked at, in bytes.
    pub message_bytes_max: usize,
}

/// `[grants]`: roles of the policy that are granted for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grants {
    /// How many people besides the one who asks have to approve: 0 or 1.
    pub approvals: u8,
    /// Longest time of a grant, in minutes.
    pub minutes_max: u64,
}

/// `[attribution]`: who is behind a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// Folders given to crun or runc as `--root`, looked at besides the usual ones.
    pub container_state_roots: Vec<PathBuf>,
}

/// `[log]`: what the agent says of itself, on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A filter in the syntax of `tracing_subscriber::EnvFilter`, known to parse.
    pub level: String,
    /// Shape of the lines.
    pub format: LogFormat,
}

/// Shape of the agent's own log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// From the system.
        source: std::io::Error,
    },
    /// It is larger than [`FILE_BYTES_MAX`].
    #[error(
        "configuration file `{}` too large: found {found} bytes, expected at most {FILE_BYTES_MAX}",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length, or as much of it as was read.
        found: u64,
    },
    /// It was read and is wrong.
    #[error(transparent)]
    Invalid(#[from] Report),
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with_text(path).map(|(config, _)| config)
    }

    /// The same, with the text that was checked: records name its digest.
    pub fn load_with_text(path: &Path) -> Result<(Self, String), ConfigError> {
        use std::io::Read as _;
        let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(read_error)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(read_error)?;
        let found = text.len() as u64;
        if found > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: path.to_owned(), found });
        }
        let config = Self::parse(&path.display().to_string(), &text)?;
        Ok((config, text))
    }

    /// Checks a text; `file` is how errors name it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Report> {
        checked::parse(file, text)
    }

    /// The destination that serves `address`, with its place among all: the first that matches.
    pub fn destination_for(&self, address: SocketAddr) -> (usize, &Arc<Destination>) {
        let mut numbered = self.destinations.iter().enumerate();
        numbered
            .find(|(_, destination)| destination.matches(address))
            .expect("the implicit destination matches every address")
    }

    /// The destinations trie of the kernel side, see [`targets`].
    pub fn targets(&self) -> Vec<Target> {
        targets(&self.intercept)
    }
}

#[cfg(test)]
mod tests;
