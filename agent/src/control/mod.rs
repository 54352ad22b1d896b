//! The control socket: how `pgward sessions`, `status`, `kill`, `grant` and the commands of `pgward audit`
//! that change the trail ask a running agent.
//!
//! A Unix stream socket, mode 0600. The client sends one request, a JSON object on one line of at
//! most [`REQUEST_BYTES_MAX`] bytes, and gets one response, a JSON object on one line of at most
//! [`RESPONSE_BYTES_MAX`] bytes; then both close. Only root and the agent's own user are answered,
//! whoever could open the socket.
//!
//! ```text
//! {"request":"status"}
//! {"response":"status","status":{...}}
//! ```

mod audit;
mod client;
mod grants;
mod orders;
mod server;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use audit::{
    BreakGlass, Hold, HoldAction, HoldInfo, HoldScope, Prune, Pruned, READ_ARGUMENTS_BYTES_MAX,
    Shred, ShredScope,
};
pub use client::{ClientError, ask, ask_within};
pub use grants::{Caller, GrantAsked, GrantInfo, GrantState};
pub use orders::{
    Became, Chosen, Kill, KillAction, KillError, Killed, KilledSession, REASON_BYTES_MAX,
    short_session,
};
pub use server::{BindError, Handler, Listener, serve};

use crate::audit::TrailStatus;

/// Longest request with its line feed, in bytes.
pub const REQUEST_BYTES_MAX: usize = 4 << 10;
/// Longest response with its line feed, in bytes: a million sessions.
pub const RESPONSE_BYTES_MAX: usize = 1 << 30;

/// A leg without TLS, in [`SessionInfo`].
pub const CLEAR: &str = "clear";

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// All sessions of now.
    Sessions {},
    /// How the agent is.
    Status {},
    /// End in good order, as SIGTERM does. Answered before it happens.
    Shutdown {},
    /// Somebody reads the trail: record that first.
    AuditRead {
        /// Which command.
        command: String,
        /// What it was asked for, at most [`READ_ARGUMENTS_BYTES_MAX`] bytes. No values in it.
        arguments: String,
    },
    /// Delete old segments.
    AuditPrune {
        /// Which.
        prune: Prune,
    },
    /// Make values unreadable for ever.
    AuditShred {
        /// Whose.
        shred: Shred,
    },
    /// Set or lift a legal hold.
    AuditHold {
        /// Which.
        hold: Hold,
    },
    /// All legal holds.
    AuditHolds {},
    /// Ease recording in an emergency.
    AuditBreakGlass {
        /// How long, and why.
        break_glass: BreakGlass,
    },
    /// Cancel statements or end sessions.
    Kill {
        /// Which, and how.
        kill: Kill,
    },
    /// Grant a role for a while.
    Grant {
        /// To whom, which, and how long.
        asked: GrantAsked,
    },
    /// Approve what somebody else asked for.
    GrantApprove {
        /// Name of the grant.
        id: String,
    },
    /// End a grant, or withdraw a request.
    GrantRevoke {
        /// Name of the grant.
        id: String,
        /// Why.
        reason: String,
    },
    /// All grants and requests.
    Grants {},
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Sessions`].
    Sessions {
        /// In no order.
        sessions: Vec<SessionInfo>,
    },
    /// To [`Request::Status`].
    Status {
        /// The agent.
        status: Box<Status>,
    },
    /// To [`Request::Shutdown`]: it will be done. To [`Request::AuditRead`], [`Request::AuditHold`]: it
    /// is recorded.
    Accepted {},
    /// To [`Request::AuditPrune`].
    Pruned {
        /// What is gone, or would be.
        pruned: Pruned,
    },
    /// To [`Request::AuditShred`].
    Shredded {
        /// Keys that are gone.
        keys_erased: u64,
    },
    /// To [`Request::AuditHolds`].
    Holds {
        /// In no order.
        holds: Vec<HoldInfo>,
    },
    /// To [`Request::AuditBreakGlass`].
    BreakGlass {
        /// When it ends: RFC 3339, UTC.
        until: String,
    },
    /// To [`Request::Kill`].
    Killed {
        /// Which sessions, and what became of them.
        killed: Killed,
    },
    /// To [`Request::Grant`], [`Request::GrantApprove`]: what it came to. To [`Request::GrantRevoke`]: what it was.
    Grant {
        /// The grant.
        grant: GrantInfo,
    },
    /// To [`Request::Grants`].
    Grants {
        /// In the order in which they were asked for.
        grants: Vec<GrantInfo>,
    },
    /// The request was not understood or can't be answered.
    Refused {
        /// Why.
        reason: String,
    },
}

/// A session as people see it. Text that is not UTF-8 has U+FFFD in place of the bytes that are
/// not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// As in the audit trail.
    pub id: String,
    /// Process that opened it.
    pub pid: u32,
    /// Its program.
    pub exe: Option<String>,
    /// Its user.
    pub uid: u32,
    /// Its container: name, or else id.
    pub container: Option<String>,
    /// Address and port it asked for.
    pub destination: String,
    /// What that is called in the configuration.
    #[serde(default)]
    pub destination_name: String,
    /// Cookie of its network namespace.
    pub netns_cookie: u64,
    /// Database; empty before the start-up message.
    pub database: String,
    /// Role; empty before the start-up message.
    pub database_user: String,
    /// What the client calls itself.
    pub application_name: String,
    /// The application's connection to the agent: [`CLEAR`], or TLS in a few words: version, cipher
    /// suite, key exchange. `None` before the start-up message.
    pub client_leg: Option<String>,
    /// The same of the agent's connection to the server. `None` before there is one.
    pub server_leg: Option<String>,
    /// Who carried out the exchange: `terminated`, `mapped`, `relayed`. `None` before the
    /// application is authenticated.
    pub handshake: Option<String>,
    /// For example `startup`, `idle`, `active`, `idle in transaction`.
    pub state: String,
    /// When it was opened: RFC 3339, UTC.
    pub since: String,
    /// For how long it has been in its state, in milliseconds.
    #[serde(default)]
    pub state_ms: u64,
    /// When the transaction that is open began: RFC 3339, UTC. A statement outside of one is one of its own.
    #[serde(default)]
    pub transaction_since: Option<String>,
    /// For how long it is open, in milliseconds.
    #[serde(default)]
    pub transaction_ms: Option<u64>,
    /// Class of the last statement, `-` before the first.
    #[serde(default)]
    pub last_class: String,
    /// Statements that were refused.
    #[serde(default)]
    pub denials: u64,
    /// Statements so far.
    pub statements: u64,
    /// Rows sent to the client so far.
    pub rows: u64,
    /// Bytes from the client so far.
    pub client_bytes: u64,
    /// Bytes from the server so far.
    pub server_bytes: u64,
    /// Tier of attribution: `T0`, `T1`, `T2`.
    pub tier: String,
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started: RFC 3339, UTC.
    pub since: String,
    /// What is intercepted: `root` or the path of a cgroup.
    pub cgroup: String,
    /// Tiers of attribution that work.
    pub tiers: Vec<String>,
    /// Workers.
    pub workers: u64,
    /// Sessions of now.
    pub sessions: u64,
    /// Sessions since the start.
    pub sessions_total: u64,
    /// Statements since the start.
    pub statements_total: u64,
    /// Logins of clients that did not prove to be who they say, since the start.
    #[serde(default)]
    pub logins_failed: u64,
    /// Logins that the agent refused for what the server asks for, is, or did not prove, or for a
    /// secret that it could not get.
    #[serde(default)]
    pub logins_refused: u64,
    /// Logins that were not tried, after too many failures.
    #[serde(default)]
    pub logins_throttled: u64,
    /// Cancel requests with a key that nobody was given, or after too many of them.
    #[serde(default)]
    pub cancels_dropped: u64,
    /// Network namespaces with a listener.
    pub namespaces: u64,
    /// Folder of the audit trail.
    pub audit_directory: String,
    /// The audit trail.
    pub audit: TrailStatus,
    /// What became of connects to protected ports, since the kernel side counts.
    #[serde(default)]
    pub connects: Option<Connects>,
    /// Counters of the kernel side, by name.
    pub counters: BTreeMap<String, u64>,
}

/// What became of connects: `seen` is the sum of `intercepted` to `unexplained`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connects {
    /// Which ledger: 16 hexadecimal digits, new when the kernel side counts from 0 again.
    pub ledger: String,
    /// Seen by the kernel side.
    pub seen: u64,
    /// Became sessions or cancel requests.
    pub intercepted: u64,
    /// Refused.
    pub refused: u64,
    /// Failed.
    pub failed: u64,
    /// Passed while no agent ran.
    pub allowed: u64,
    /// Under way.
    pub open: u64,
    /// Without an explanation: must be 0.
    pub unexplained: u64,
    /// The refused, by name.
    pub refusals: BTreeMap<String, u64>,
    /// The failed, by name.
    pub failures: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests;
