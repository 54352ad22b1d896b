//! The ledger of connects: every one that the kernel side saw toward a protected port, and how it ended.
//!
//! The kernel side numbers each connect where it makes its verdict and counts what becomes of it up to the hand-over
//! (`ebpf/src/main.rs` has the sums); from the hand-over on the agent holds a [`Connect`] for it, which ends exactly once, on
//! drop if nowhere else. [`Account`] adds both up to a [`Coverage`]:
//!
//! ```text
//! seen = intercepted + refused + failed + allowed + open + unexplained
//! ```
//!
//! | how a connect ends | column | name | known from |
//! |---|---|---|---|
//! | login begins, whatever comes of it: `session_start` | intercepted | | the agent |
//! | cancel request with a record of its own | intercepted | | the agent |
//! | further cancel requests, counted in one record | refused | `cancel` | the agent |
//! | the agent sends it away (limits, protocol, TLS, time-out, stop) | refused | reason of its `refused` record | the agent |
//! | refused by the kernel side | refused | `refused_agent_down`, `_storage`, `_impostor`, `_namespace`, `_socket` | the kernel side |
//! | passes as `on_agent_down = "allow"` says | allowed | | the kernel side |
//! | closes before its first packet is whole: a probe | failed | `silent_probe` | the agent |
//! | is reset before its first packet is whole, or goes in the middle of TLS | failed | `client_gone` | the agent |
//! | its record cannot be written | failed | `not_recorded` | the agent |
//! | its identity cannot be read | failed | `identity_unreadable` | the agent |
//! | a fault of the agent | failed | `agent_fault` | the agent |
//! | never makes a SYN: no free port, caller killed in between | failed | `not_sent` | the kernel side |
//! | closed, connected anew, reset or timed out before the hand-over was taken: full backlog, listener gone, caller killed | failed | `abandoned` | the kernel side |
//! | its hand-over finds no place, loses it, or cannot be kept | failed | `handover_full`, `_displaced`, `_unkept` | the kernel side |
//! | handed over, and the listener of its namespace is closed before it is accepted | failed | `listener_closed` | difference |
//! | handed over to an agent that stops before it says more | failed | `agent_stopped` | difference |
//! | handed over to an agent that ends without a word | failed | `agent_crashed` | difference, by the next agent |
//! | handed over to an agent whose trail is not there | failed | `trail_missing` | difference, by the next agent |
//! | open in a ledger whose counters went with `pgward detach` or the boot | failed | `hooks_removed` | difference, by the next agent |
//!
//! Not connects in this sense, and not counted: those of excluded networks, the agent's own dials, MPTCP sockets (refused when
//! they are made), and connections that somebody makes to the agent's port by hand (`refused` records without a number).
//!
//! What is open is under way: held for a namespace's listener, in a backlog, silent before its first packet, or failed with its
//! socket not closed yet. What stays in no column for a whole window is unexplained, and a fault or an attack.
//!
//! Nothing here touches a map, a file or a clock; `app::coverage` does.

mod account;
mod entry;
mod hooks;
mod resume;
mod tally;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::{WallNanos, clock::Clock};

pub use account::{Account, KernelSide};
pub use hooks::{Hooks, HooksAction, LastHooks, Pins, Program, at_start};
pub use resume::{Carried, Previous, Resumed, Seen, Tail, resume};
pub use tally::{Connect, Failure, Ledger, Tally};

/// What the threads of `app::coverage` and `app::clock` have to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerRecord {
    /// `coverage`
    Coverage(Coverage),
    /// `hooks`
    Hooks(Hooks),
    /// `clock`
    Clock(Clock),
}

/// `coverage` (17): what became of all connects since the counters began. Each second of a busy host has some under way, so
/// the sum always holds with `open` among its parts. All numbers but `unexplained` and `open` only grow within a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Field 96: connects that the kernel side saw; also the number of the last of them.
    pub seen: u64,
    /// Field 97: those that became sessions, or cancel requests with a record of their own.
    pub intercepted: u64,
    /// Field 98: those that were refused; the sum of `refusals`.
    pub refused: u64,
    /// Field 99: those that failed; the sum of `failures`.
    pub failed: u64,
    /// Field 100: those that passed unseen because no agent ran and the settings allow it.
    pub allowed: u64,
    /// Field 101: those that are under way.
    pub open: u64,
    /// Field 102: those of which nothing is known. Must be 0.
    pub unexplained: u64,
    /// Field 103: number of the first connect of the ledger: 1.
    pub connect_base: u64,
    /// Field 104: which ledger: random, new when the kernel side counts from 0 again.
    pub ledger: u64,
    /// Field 87: since when the ledger counts; when it is not known, since the first agent that saw it.
    pub since: WallNanos,
    /// Field 105: failed connects by name, in the order of names. At most [`NAMES_MAX`].
    pub failures: Vec<Named>,
    /// Field 107: refused connects by name, likewise. The next agent needs the names: those of the kernel side it reads from
    /// the counters, the others it carries on.
    pub refusals: Vec<Named>,
}

impl Coverage {
    /// Whether the columns add up to what was seen.
    pub fn closes(&self) -> bool {
        let sum = |all: &[Named]| all.iter().map(|named| u128::from(named.count)).sum::<u128>();
        let columns = [
            self.intercepted,
            self.refused,
            self.failed,
            self.allowed,
            self.open,
            self.unexplained,
        ];
        columns.iter().map(|count| u128::from(*count)).sum::<u128>() == u128::from(self.seen)
            && sum(&self.refusals) == u128::from(self.refused)
            && sum(&self.failures) == u128::from(self.failed)
    }
}

/// A number of connects with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Field 0: what happened.
    pub name: Cow<'static, str>,
    /// Field 1: how often.
    pub count: u64,
}

/// Most names of a column. There are about 25; a trail that another version wrote may bring further ones.
pub const NAMES_MAX: usize = 64;

/// What is counted beyond [`NAMES_MAX`].
const OTHER: &str = "other";

/// Adds to a column by name. Names are in order; nothing is kept of a count of 0.
fn add(column: &mut Vec<Named>, name: Cow<'static, str>, count: u64) {
    if count == 0 {
        return;
    }
    match column.binary_search_by(|named| named.name.cmp(&name)) {
        Ok(at) => column[at].count = column[at].count.saturating_add(count),
        // One place is left for the rest.
        Err(_) if column.len() >= NAMES_MAX - 1 && name != OTHER => {
            add(column, Cow::Borrowed(OTHER), count);
        }
        Err(at) => column.insert(at, Named { name, count }),
    }
}

fn sum(column: &[Named]) -> u64 {
    column.iter().fold(0, |sum, named| named.count.saturating_add(sum))
}
