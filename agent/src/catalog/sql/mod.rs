//! The queries that the agent sends on its own.
//!
//! They must mean the same in every session: whatever its search_path, its temporary tables, its role or its settings.
//! So every relation, function, type and operator is qualified, also those that shorter forms would bring along unseen
//! (`IN`, `LIKE`, `BETWEEN` and `JOIN … USING` look their operator up by search_path), and no string holds a backslash.
//! They read what every role may read, and run on PostgreSQL 13 to 18. Every answer is text.

use super::snapshot::{EDGES_MAX, FUNCTIONS_MAX, RELATIONS_MAX, RULES_MAX, TYPES_MAX};

/// One row of one column: changes when the catalog does.
///
/// A sum of hashes of the object number and `xmin` of every row that a snapshot is made of. A change of the catalog writes
/// new versions of rows, and each carries the number of its transaction; a row that is gone takes its share of the sum
/// along. That makes it sound where the highest `xmin` would not be: transactions do not commit in the order of their
/// numbers. Rows of temporary relations of any session are left out, or every `CREATE TEMP TABLE` would be a change.
///
/// It reads all of `pg_attribute`. [`Epoch::horizon`](super::Epoch::horizon) tells more cheaply, but only when nothing was
/// written on the whole server.
pub const STAMP_SQL: &str = include_str!("stamp.sql");

/// One row with the session's own state, see [`StateRow`](super::StateRow).
pub const STATE_SQL: &str = include_str!("state.sql");

const SNAPSHOT_SQL: &str = include_str!("snapshot.sql");

/// Rows of nine columns, the first of which tells what the row is; see [`Snapshot::read`](super::Snapshot::read).
///
/// The stamp in it is of the same moment as the rest: the whole is one statement.
pub fn snapshot_sql() -> String {
    let limit = |max: usize| (max + 1).to_string();
    SNAPSHOT_SQL
        .replace("{relations}", &limit(RELATIONS_MAX))
        .replace("{rules}", &limit(RULES_MAX))
        .replace("{edges}", &limit(EDGES_MAX))
        .replace("{functions}", &limit(FUNCTIONS_MAX))
        .replace("{types}", &limit(TYPES_MAX))
        .replace("{stamp}", STAMP_SQL)
}
