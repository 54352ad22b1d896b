//! What can be asked about the audit trail, and what comes back.
//!
//! Who asks is never in a request: the agent knows the user from the socket.

use serde::{Deserialize, Serialize};

/// Longest `arguments` of [`Request::AuditRead`](super::Request::AuditRead), in bytes.
pub const READ_ARGUMENTS_BYTES_MAX: usize = 1 << 10;

/// Which segments to delete. Only whole segments go, only those that are packed, anchored and not
/// held, and never one that is younger than `audit.prune_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// Those whose entries are all older: nanoseconds since 1970.
    pub before_ns: u64,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What was deleted, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Segments.
    pub segments: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Smallest index that is still there.
    pub minimum_index: u64,
    /// Names of the holds that kept segments that are old enough.
    pub held_by: Vec<String>,
}

/// Whose values to make unreadable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shred {
    /// What `target` names.
    pub scope: ShredScope,
    /// A session (32 hexadecimal digits), the value of a subject, or a day (`2026-03-01`).
    pub target: String,
    /// Why.
    pub reason: String,
    /// Who approved.
    pub approver: String,
}

/// What is shredded together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShredScope {
    /// All values of a session.
    Session,
    /// All values about a person.
    Subject,
    /// All values of a day.
    Day,
}

/// A legal hold to set or to lift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Set or lift.
    pub action: HoldAction,
    /// Its name.
    pub name: String,
    /// What it keeps. Not looked at when it is lifted.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// Who approved.
    pub approver: String,
}

/// What happens to a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldAction {
    /// From now on nothing of it is pruned or shredded.
    Set,
    /// It ends.
    Lift,
}

/// What a hold keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldScope {
    /// Everything.
    All,
    /// Entries of a time: nanoseconds since 1970, the second one exclusive.
    Time {
        /// From here.
        since_ns: u64,
        /// To here.
        until_ns: u64,
    },
    /// Entries and values of a session, 32 hexadecimal digits.
    Session(String),
}

/// A legal hold in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldInfo {
    /// Its name.
    pub name: String,
    /// What it keeps.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// Who approved.
    pub approver: String,
    /// Since when: RFC 3339, UTC.
    pub since: String,
}

/// Recording is to be eased for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// How long.
    pub minutes: u64,
    /// Why.
    pub reason: String,
    /// Who approved.
    pub approver: String,
}
