//! The answer to the query for a session's own state.

use super::super::array;
use super::super::read::Row;
use crate::sql::facts::Name;

/// An answer to [`STATE_SQL`](crate::catalog::STATE_SQL).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// `current_schemas(true)`: where names are looked for, in order.
    pub schemas: Vec<Name>,
    /// `current_schema()`: where objects are made.
    pub creation: Option<Name>,
    /// Setting search_path.
    pub search_path: Box<str>,
    /// `current_user`.
    pub role: Name,
    /// `session_user`.
    pub login: Name,
    /// Temporary relations, each with the letter of its kind.
    pub temporaries: Vec<(char, Name)>,
    /// `standard_conforming_strings` is on.
    pub standard_strings: bool,
    /// `backslash_quote`.
    pub backslash_quote: Box<str>,
    /// `client_encoding` is UTF8.
    pub utf8: bool,
    /// `server_encoding` is UTF8: other servers fold letters beyond ASCII in names.
    pub server_utf8: bool,
    /// `row_security` is on.
    pub row_security: bool,
    /// `session_replication_role`.
    pub replication_role: Box<str>,
    /// `server_version_num`.
    pub server_version: u32,
    /// `current_database()`.
    pub database: Box<str>,
    /// `pg_current_snapshot()`, empty on a standby.
    pub horizon: Box<str>,
}

impl StateRow {
    /// Reads the one row; `None` when it is not as the query makes it.
    pub fn read(row: &Row) -> Option<Self> {
        let optional = |at: usize| match row.get(at)? {
            None => Some(None),
            Some(value) => std::str::from_utf8(value).ok().map(Some),
        };
        let text = |at: usize| optional(at)?;
        let names = array::elements(text(0)?)?;
        let temporaries = optional(6)?.map_or(Some(Vec::new()), array::elements)?;
        let temporaries = temporaries.into_iter().map(|temporary| {
            let mut letters = temporary.chars();
            let kind = letters.next()?;
            Some((kind, Name::new(letters.as_str())))
        });
        let standby = text(16)? == "true";
        Some(Self {
            schemas: names.into_iter().map(Name::new).collect(),
            creation: optional(1)?.map(Name::new),
            search_path: text(2)?.into(),
            role: Name::new(text(3)?),
            login: Name::new(text(4)?),
            temporaries: temporaries.collect::<Option<_>>()?,
            standard_strings: text(7)? == "on",
            backslash_quote: text(8)?.into(),
            utf8: text(9)? == "UTF8",
            server_utf8: text(10)? == "UTF8",
            row_security: text(11)? == "on",
            replication_role: text(12)?.into(),
            server_version: text(13)?.parse().ok()?,
            database: text(14)?.into(),
            horizon: if standby { "" } else { text(15)? }.into(),
        })
    }
}
