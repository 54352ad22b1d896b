//! What a session asks its server about names, and how it goes on from each answer.
//!
//! ```text
//!   State ── no catalog yet ───────────────────────► Snapshot ──► known
//!     │  └── nothing written since it was read ─────────────────► known
//!     └───── something was ──► Stamp ── the same ────────────────► known
//!                                └───── another ───► Snapshot
//! ```

use crate::{
    catalog::{STAMP_SQL, STATE_SQL, snapshot_sql},
    pg::session::Question,
};

/// Rows of an answer: a snapshot has one for each object.
const ROWS_MAX: usize = 4_000_000;
/// Bytes of its values; the catalog has its own limit.
const BYTES_MAX: usize = 128 << 20;

/// A question under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// For the session's own state.
    State,
    /// Whether the catalog changed.
    Stamp,
    /// For the catalog.
    Snapshot,
}

/// A question to put to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToAsk {
    /// Its text.
    pub text: String,
    /// Rows that are kept of the answer.
    pub rows_max: usize,
    /// Bytes of them.
    pub bytes_max: usize,
}

impl ToAsk {
    /// The same, as the protocol core takes it.
    pub fn question(&self) -> Question<'_> {
        let Self { text, rows_max, bytes_max } = self;
        let (rows_max, bytes_max) = (*rows_max, *bytes_max);
        Question { text: text.as_bytes(), values: &[], rows_max, bytes_max }
    }
}

impl Asked {
    pub(super) fn question(self) -> ToAsk {
        let text = match self {
            Self::State => STATE_SQL.to_owned(),
            Self::Stamp => STAMP_SQL.to_owned(),
            Self::Snapshot => snapshot_sql(),
        };
        ToAsk { text, rows_max: ROWS_MAX, bytes_max: BYTES_MAX }
    }
}
