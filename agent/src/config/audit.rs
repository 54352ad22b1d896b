//! `[audit]`: the audit trail: where it is, how durable it is before a statement goes, what of a
//! statement is held in clear, and where copies of its checkpoints go.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::PasswordSource;
use crate::audit::anchors::WitnessKey;

/// Largest number of `[[audit.rule]]` tables.
pub const AUDIT_RULES_MAX: usize = 256;
/// Largest number of `[[audit.anchor]]` tables.
pub const ANCHORS_MAX: usize = 16;
/// Longest name of a fleet, in bytes.
pub const FLEET_BYTES_MAX: usize = 64;
/// Longest address of a witness, in bytes.
pub const URL_BYTES_MAX: usize = 1024;
/// Segments that a quota must have room for, next to the reserve: one being written, one
/// preallocated, one being packed and what it is packed into.
pub const SEGMENTS_MIN: u64 = 4;

/// `[audit]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The folder of the trail. It belongs to the agent alone.
    pub directory: PathBuf,
    /// First part of the log's origin: a name for all hosts that belong together.
    pub fleet: String,
    /// What happens to sessions while nothing can be recorded.
    pub on_full: OnFull,
    /// When a statement may go, where no rule says otherwise.
    pub mode: AuditMode,
    /// In `async`: most bytes that wait for the disk before statements wait too.
    pub async_bytes_max: u64,
    /// In `async`: longest time that a record waits for the disk before statements wait too.
    pub async_delay_max: Duration,
    /// How values (literals and parameters) are held, where no rule says otherwise.
    pub values: ValueMode,
    /// Whether values of parameters are recorded.
    pub parameters: Parameters,
    /// Longest statement text that is kept, in bytes; a longer one is cut, with its full length.
    pub statement_bytes_max: usize,
    /// Longest value of a parameter that is kept, in bytes.
    pub parameter_bytes_max: usize,
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Space that only failures, break-glass and ends of sessions may use, in bytes.
    pub reserve_bytes: u64,
    /// Most the trail may hold, in bytes.
    pub quota_bytes: u64,
    /// Time between two seals.
    pub seal_every: Duration,
    /// Age at which a segment may be pruned. `None`: never.
    pub prune_after: Option<Duration>,
    /// After this time sealed values of a segment are deleted. `None`: never.
    pub values_keep: Option<Duration>,
    /// A file that must exist on a read-only file system for break-glass to be allowed.
    pub break_glass: Option<PathBuf>,
    /// Exceptions for destinations, databases and roles. The first that matches holds; none is hidden by
    /// one in front of it.
    pub rules: Vec<AuditRule>,
    /// Where checkpoints are copied to.
    pub anchors: Vec<Anchor>,
}

/// What happens to sessions while nothing can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// No record, no query: new sessions and statements are refused.
    Block,
    /// Go on, count what was not recorded, and record that number later.
    Allow,
}

/// When a statement may go to its server, and its answer to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuditMode {
    /// `overlap` for statements that are proven to be pure reads, `group` for all others.
    Default,
    /// Intent durable before the statement goes, outcome durable before the last byte of the
    /// answer goes.
    Strict,
    /// Intent durable before the statement goes.
    Group,
    /// The statement goes at once, no byte of its answer before the intent is durable.
    Overlap,
    /// Both go at once, within bounds on what waits for the disk.
    Async,
}

impl AuditMode {
    /// Its number in entries.
    pub fn number(self) -> u64 {
        match self {
            Self::Strict => 0,
            Self::Group => 1,
            Self::Overlap => 2,
            Self::Async => 3,
            Self::Default => 4,
        }
    }
}

/// How values are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueMode {
    /// As they are.
    Clear,
    /// A commitment in the record, the value encrypted with a key of its session.
    Sealed,
    /// A keyed hash: the same value gives the same hash on the same day.
    Hash,
    /// Not at all.
    Never,
}

/// Whether values of bind parameters are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// Each value, up to its limit.
    Record,
    /// Only how many there were.
    Omit,
}

/// `[[audit.rule]]`. What is `None` or empty matches everything, or changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditRule {
    /// Name of the `[[destination]]`.
    pub destination: Option<String>,
    /// Database.
    pub database: Option<String>,
    /// Role.
    pub user: Option<String>,
    /// When a statement may go.
    pub mode: Option<AuditMode>,
    /// How values are held: those of [`AuditRule::numbers`], or all.
    pub values: Option<ValueMode>,
    /// Parameters, counted from 1 as in `$1`, that `values` is about. Empty: all, and the text.
    pub numbers: Vec<u16>,
    /// The parameter, counted from 1, that names the person a statement is about: its record can be
    /// shredded with all others of that person.
    pub subject: Option<u16>,
}

/// `[[audit.anchor]]`: a place that checkpoints are copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// How messages name it.
    pub name: String,
    /// Time between two copies.
    pub every: Duration,
    /// What kind of place.
    pub place: AnchorPlace,
}

/// What kind of place an [`Anchor`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorPlace {
    /// Printed.
    Print(PrintTo),
    /// A file each in a folder.
    File(PathBuf),
    /// A table of a PostgreSQL server.
    Database(AnchorDatabase),
    /// A C2SP tlog-witness.
    Witness(AnchorWitness),
}

/// Where `print` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrintTo {
    /// The system's log.
    Syslog,
    /// Standard output.
    Stdout,
}

/// The table of `database`: made by what `pgward audit anchor-sql` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorDatabase {
    /// Name of the `[[destination]]` that says how the server is reached and verified.
    pub destination: String,
    /// The server: one that the destination matches.
    pub address: SocketAddr,
    /// Database that the table is in.
    pub database: String,
    /// Role that inserts.
    pub user: String,
    /// Its password; none where the server asks for a certificate or for nothing.
    pub password: Option<PasswordSource>,
}

/// A witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorWitness {
    /// `http://` or `https://`, without `/add-checkpoint`.
    pub url: String,
    /// What its cosignatures are verified with.
    pub key: WitnessKey,
}

impl AuditRule {
    /// Whether everything that `other` matches is matched by this one too.
    pub fn covers(&self, other: &Self) -> bool {
        let covers =
            |ours: &Option<String>, theirs: &Option<String>| ours.is_none() || ours == theirs;
        covers(&self.destination, &other.destination)
            && covers(&self.database, &other.database)
            && covers(&self.user, &other.user)
    }
}

impl AnchorPlace {
    /// As the configuration calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Print(_) => "print",
            Self::File(_) => "file",
            Self::Database(_) => "database",
            Self::Witness(_) => "witness",
        }
    }

    /// Whether root of this host has no power there, as far as the configuration shows. A folder may
    /// be anything: it does not count.
    pub fn outside(&self) -> bool {
        match self {
            Self::Print(_) | Self::File(_) => false,
            Self::Database(database) => !database.address.ip().to_canonical().is_loopback(),
            Self::Witness(witness) => {
                let host = witness.url.split_once("://").map_or("", |(_, rest)| rest);
                !["localhost", "127.", "[::1]"].iter().any(|here| host.starts_with(here))
            }
        }
    }
}

impl Audit {
    /// When statements of a session go: by the first rule that matches it and says so.
    pub fn mode_for(&self, destination: &str, database: &[u8], user: &[u8]) -> AuditMode {
        let mut rules = self.rules.iter().filter(|rule| rule.matches(destination, database, user));
        rules.find_map(|rule| rule.mode).unwrap_or(self.mode)
    }
}

impl AuditRule {
    /// Whether it is about such a session.
    pub fn matches(&self, destination: &str, database: &[u8], user: &[u8]) -> bool {
        let same = |wanted: &Option<String>, found: &[u8]| {
            wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == found)
        };
        same(&self.destination, destination.as_bytes())
            && same(&self.database, database)
            && same(&self.user, user)
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/lib/pgward/audit"),
            fleet: "pgward".to_owned(),
            on_full: OnFull::Block,
            mode: AuditMode::Default,
            async_bytes_max: 1 << 20,
            async_delay_max: Duration::from_secs(1),
            values: ValueMode::Sealed,
            parameters: Parameters::Record,
            statement_bytes_max: 64 << 10,
            parameter_bytes_max: 4 << 10,
            segment_bytes: 32 << 20,
            reserve_bytes: 64 << 20,
            quota_bytes: 16 << 30,
            seal_every: Duration::from_secs(10),
            prune_after: Some(Duration::from_secs(7 * 24 * 3600)),
            values_keep: Some(Duration::from_secs(90 * 24 * 3600)),
            break_glass: None,
            rules: Vec::new(),
            anchors: Vec::new(),
        }
    }
}
