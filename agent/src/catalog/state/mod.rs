//! What a session has done that changes what later statements mean.
//!
//! ```text
//!           forwarded(statement)             completed(statement), ready()
//!   known ───────────────────────► known ∪ new ───────────────────────────► narrower
//!     ▲                                                                         │
//!     └───────── learned(row of STATE_SQL), when idle ◄── wants_refresh() ◄─────┘
//! ```
//!
//! * The state is all that may be true, so it needs no account of transactions: what `ROLLBACK` brings back was kept beside
//!   what it undoes, until the server has said which of the two it is.
//! * Code whose text is not seen (`DO`, functions) may change any of it: then names stand for every relation that has them,
//!   until the next answer to [`STATE_SQL`](super::STATE_SQL).

mod held;
mod path;
mod row;
mod sent;

use std::collections::BTreeMap;

pub use self::path::Path;
pub use self::row::StateRow;

use self::held::Held;
pub(super) use self::path::PG_CATALOG;
use self::path::{Entry, entries};
pub(super) use self::sent::{is_relation, is_temp};
use crate::sql::facts::{Name, Statement};

/// Schema of temporary objects, by whatever number the server knows it.
pub(super) const PG_TEMP: &str = "pg_temp";

/// Temporary relations that a session's state lists.
const TEMPORARIES_MAX: usize = 4096;

/// What a session has done that changes what later statements mean.
///
/// Call order: [`learned`](Self::learned) before the first statement; then for each statement [`forwarded`](Self::forwarded)
/// when it is sent and [`completed`](Self::completed) at its `CommandComplete`; [`parameter`](Self::parameter) at each
/// `ParameterStatus`, those of the start included; [`ready`](Self::ready) at each `ReadyForQuery`. When nothing is in flight,
/// no transaction is open and [`wants_refresh`](Self::wants_refresh), ask [`STATE_SQL`](super::STATE_SQL) again.
#[derive(Clone, Debug, Default)]
pub struct SessionState {
    pub(super) path: Path,
    /// Setting search_path, where it is known.
    setting: Option<Box<str>>,
    /// Schema in which objects are made whose name has none.
    pub(super) creation: Option<Name>,
    role: Option<Name>,
    login: Option<Name>,
    readable: Readable,
    pub(super) temporaries: BTreeMap<Name, Temporary>,
    /// There may be temporary relations that are not listed.
    pub(super) more_temporaries: bool,
    /// Relations that this session made and that the catalog does not have, or has otherwise.
    pub(super) made: Held,
    /// Relations may have names that neither the catalog nor this state has.
    pub(super) renamed: bool,
    pub(super) prepared: Held,
    pub(super) cursors: Held,
    reported: Reported,
    horizon: Box<str>,
    wants_refresh: bool,
}

/// Whether the server reads the session's texts as they are analysed. `None`: it may be either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Readable {
    /// `standard_conforming_strings` is on.
    pub standard_strings: Option<bool>,
    /// `client_encoding` is UTF8.
    pub utf8: Option<bool>,
}

/// A temporary relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Temporary {
    /// The server listed it, and nothing was sent since that could have removed it.
    pub certain: bool,
    /// It may be a view whose text was not seen.
    pub opaque: bool,
}

/// What SQL and the protocol name together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Prepared statements: `PREPARE` and `Parse`.
    Prepared,
    /// Cursors and portals: `DECLARE` and `Bind`.
    Cursor,
}

/// What two sessions must share for the same text to mean the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Meaning {
    /// Where names are looked for.
    pub path: Path,
    /// Where objects are made.
    pub creation: Option<Name>,
    /// How texts are read.
    pub readable: Readable,
}

/// Last values of `ParameterStatus`, for those that matter here.
#[derive(Clone, Debug, Default)]
struct Reported {
    search_path: Option<Box<str>>,
    readable: Readable,
}

impl SessionState {
    /// A session of which nothing is known: names stand for every relation that has them.
    pub fn unknown() -> Self {
        Self { more_temporaries: true, wants_refresh: true, ..Self::default() }
    }

    /// Where names without a schema are looked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The current role; `None`: not known.
    pub fn role(&self) -> Option<&Name> {
        self.role.as_ref()
    }

    /// How the server reads the session's texts.
    pub fn readable(&self) -> Readable {
        self.readable
    }

    /// Which transactions had ended at the last answer, for [`Epoch::still_at`](super::Epoch::still_at).
    pub fn horizon(&self) -> &str {
        &self.horizon
    }

    /// Whether something is not known that [`STATE_SQL`](super::STATE_SQL) would tell.
    pub fn wants_refresh(&self) -> bool {
        self.wants_refresh
    }

    /// What decides on the meaning of a text, where no other session's names can differ: `None` when this session has
    /// relations of its own. Texts that run prepared statements or cursors are no part of it, see
    /// [`Resolution::own`](super::Resolution::own).
    pub fn meaning(&self) -> Option<Meaning> {
        let plain = self.temporaries.is_empty()
            && !self.more_temporaries
            && !self.renamed
            && self.made.is_empty();
        plain.then(|| Meaning {
            path: self.path.clone(),
            creation: self.creation.clone(),
            readable: self.readable,
        })
    }

    /// Takes an answer to [`STATE_SQL`](super::STATE_SQL) that was asked with nothing in flight and no transaction open.
    pub fn learned(&mut self, row: StateRow) {
        self.path = Path::Exact(row.schemas);
        self.setting = Some(row.search_path);
        self.creation = row.creation;
        self.role = Some(row.role);
        self.login = Some(row.login);
        self.readable =
            Readable { standard_strings: Some(row.standard_strings), utf8: Some(row.utf8) };
        self.more_temporaries = row.temporaries.len() > TEMPORARIES_MAX;
        self.temporaries.clear();
        for (kind, name) in row.temporaries.into_iter().take(TEMPORARIES_MAX) {
            let text_seen = self.made.meanings(&name).is_some_and(|meanings| !meanings.opaque);
            let opaque = kind == 'v' && !text_seen;
            self.temporaries.insert(name, Temporary { certain: true, opaque });
        }
        self.horizon = row.horizon;
        self.wants_refresh = false;
    }

    /// Notes that resolving now uses a catalog that was read after the last statement of this session ended.
    pub fn catalog_refreshed(&mut self) {
        let temporaries = &self.temporaries;
        self.made.retain(|name| temporaries.contains_key(name));
        self.renamed = false;
    }

    /// Notes a `ParameterStatus`. It counts from the next [`ready`](Self::ready) on.
    pub fn parameter(&mut self, name: &str, value: &str) {
        match name {
            "search_path" => self.reported.search_path = Some(value.into()),
            "standard_conforming_strings" => {
                self.reported.readable.standard_strings = Some(value == "on");
            }
            "client_encoding" => self.reported.readable.utf8 = Some(value == "UTF8"),
            _ => {}
        }
    }

    /// Notes a `ReadyForQuery` with nothing behind it in flight: by then the server has reported what it reports.
    pub fn ready(&mut self) {
        self.readable = self.reported.readable;
        // Servers report it from version 18 on.
        let Some(reported) = self.reported.search_path.clone() else { return };
        if self.setting.as_ref() == Some(&reported) {
            return;
        }
        self.path = match self.schemas_of(&reported) {
            Some(schemas) => Path::Among(schemas.into_iter().collect()),
            None => Path::Unknown,
        };
        self.path.widen([]);
        self.setting = Some(reported);
        self.wants_refresh = true;
    }

    /// Notes that a prepared statement or portal of this name was asked for by the protocol.
    pub fn name_sent(&mut self, slot: Slot, name: &Name, statement: &Statement) {
        self.held_mut(slot).add(name, statement);
    }

    /// Notes that it was made: `ParseComplete`, `BindComplete`.
    pub fn name_taken(&mut self, slot: Slot, name: &Name, statement: &Statement) {
        self.held_mut(slot).settle(name, statement);
    }

    /// Notes that it is gone: `CloseComplete`.
    pub fn name_dropped(&mut self, slot: Slot, name: &Name) {
        self.held_mut(slot).remove(name);
    }

    pub(super) fn held(&self, slot: Slot) -> &Held {
        match slot {
            Slot::Prepared => &self.prepared,
            Slot::Cursor => &self.cursors,
        }
    }

    fn held_mut(&mut self, slot: Slot) -> &mut Held {
        match slot {
            Slot::Prepared => &mut self.prepared,
            Slot::Cursor => &mut self.cursors,
        }
    }

    /// Schemas that a value of search_path names; `None` when it is not known which.
    fn schemas_of(&self, setting: &str) -> Option<Vec<Name>> {
        entries(setting)?
            .into_iter()
            .map(|entry| match entry {
                Entry::User => self.role.clone(),
                Entry::Schema(schema) => Some(schema),
            })
            .collect()
    }
}
