//! What names mean: the server's catalog, the session's state, and requests made of both.
//!
//! ```text
//!   SNAPSHOT_SQL ── rows ──► Snapshot  (one for each server and database, shared)
//!   STATE_SQL ───── row ───► SessionState ◄── statements as they pass, ParameterStatus
//!   Facts ─────────────────────┬──► resolve ──► one policy::Request for each statement
//! ```
//!
//! * What is not known is never left out: a name that could stand for several relations stands for all of them, and one
//!   that stands for nothing we know is asked for by its name in every schema.
//! * A [`SessionState`] holds all that *may* be true. It grows when a statement is sent, and shrinks only when the server
//!   has said what is true.
//!
//! Absences worth keeping: no socket, file, clock or thread. Who sends the queries is `net`.

mod array;
mod builtin;
mod read;
mod resolve;
mod snapshot;
mod sql;
mod state;

#[cfg(test)]
mod tests;

pub use builtin::usually_computes;
pub use read::{ReadError, Row};
pub use resolve::{Resolution, changes_catalog, is_pinned, resolve, resolve_held, startup_request};
pub use snapshot::{
    Column, Epoch, ForeignKey, Function, FunctionKind, Language, Oid, Persistence, Relation,
    RelationKind, Rule, RuleEvent, Snapshot, Trigger, Type, Volatility,
};
pub use sql::{STAMP_SQL, STATE_SQL, snapshot_sql};
pub use state::{Meaning, Path, Readable, SessionState, Slot, StateRow, Temporary};
