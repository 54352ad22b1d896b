//! What can be asked about grants, and what comes back.

use serde::{Deserialize, Serialize};

/// Who asks, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// User who logged in, where somebody did: `sudo` leaves that as it is.
    pub login: Option<u32>,
}

/// A role to grant for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantAsked {
    /// To whom: `KEY=VALUE[,KEY=VALUE]`, see [`crate::grants::subject`].
    pub to: String,
    /// Which role of the policy.
    pub role: String,
    /// For how long.
    pub minutes: u64,
    /// Why.
    pub reason: String,
    /// Who approved it, elsewhere.
    pub approver: Option<String>,
    /// A second person is to approve it here.
    pub request: bool,
}

/// A grant, or a request for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantInfo {
    /// Its name.
    pub id: String,
    /// How far it has come.
    pub state: GrantState,
    /// To whom, as it was asked for.
    pub to: String,
    /// The role.
    pub role: String,
    /// For how long, from its beginning.
    pub minutes: u64,
    /// Why.
    pub reason: String,
    /// Who asked: the user who logged in, or else the user id.
    pub by: u32,
    /// When: RFC 3339, UTC.
    pub asked: String,
    /// Who approved, if somebody did.
    pub approver: Option<String>,
    /// When it ends, once it is in force: RFC 3339, UTC.
    pub until: Option<String>,
    /// How long it is still in force, or waits for its approval, in seconds.
    pub left_s: u64,
}

/// How far a grant has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// A second person is to approve it.
    Requested,
    /// It is in force.
    Active,
    /// It has ended, which is still to be recorded.
    Ended,
}

impl GrantState {
    /// As tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Ended => "ended",
        }
    }
}
