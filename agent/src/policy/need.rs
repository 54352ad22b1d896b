//! What a statement asks for, once its names are resolved.

use std::fmt;

use crate::sql::facts::{Effect, Kind, Name, ObjectKind, Unknown};

/// All that one statement asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the statement is.
    pub kind: Kind,
    /// Each thing that must be allowed; all of them for the statement to be.
    pub needs: Vec<Need>,
    /// What could not be told: each must be allowed as the action `unknown`.
    pub unknown: Vec<Unknown>,
    /// Groups statements of the same shape; never authorises.
    pub fingerprint: u64,
}

/// One thing that a statement does to one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Need {
    /// What.
    pub action: Effect,
    /// To what.
    pub object: Object,
    /// How the statement comes to it.
    pub reached: Reached,
}

/// How a statement comes to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reached {
    /// It names it: a grant is needed where objects are protected, and a denial counts.
    Named,
    /// Through one that it names (a view's relations, parents and children of a table): a denial counts, a grant is not
    /// needed, as with the server's own privileges.
    Through,
}

/// An object, by its resolved name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A table, view, sequence or anything like them.
    Relation {
        /// Its schema; temporary ones are in `pg_temp`. `None` when it could not be resolved: then it stands for the
        /// relations of that name in all schemas.
        schema: Option<Name>,
        /// Its name.
        name: Name,
        /// Which of its columns.
        columns: Columns,
    },
    /// A function or procedure; operators and casts by the function behind them.
    Function {
        /// Its schema, `None` when it could not be resolved.
        schema: Option<Name>,
        /// Its name.
        name: Name,
    },
    /// An object of DDL that is none of these.
    Other {
        /// Its kind.
        kind: ObjectKind,
        /// Its schema, if it has one and it is known.
        schema: Option<Name>,
        /// Its name.
        name: Name,
    },
    /// A setting, in lower case.
    Setting(Box<str>),
    /// A role of the database.
    Role(Name),
    /// A channel of `LISTEN` and `NOTIFY`.
    Channel(Name),
    /// Nothing in particular: transactions, `DISCARD`.
    Session,
}

/// Columns of a relation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Columns {
    /// None by name: `count(*)`, `DELETE` without a predicate, `TRUNCATE`.
    None,
    /// These, sorted.
    These(Vec<Name>),
    /// All of them, or it is not known which.
    All,
}

impl Object {
    /// Its kind in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Relation { .. } => "relation",
            Self::Function { .. } => "function",
            Self::Other { kind, .. } => kind.name(),
            Self::Setting(_) => "setting",
            Self::Role(_) => "role",
            Self::Channel(_) => "channel",
            Self::Session => "session",
        }
    }
}

/// `relation public.cards (id, pan)`; a schema that is not known is a `*`.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_schema = |schema: &Option<Name>| {
            schema.as_ref().map_or_else(|| "*".to_owned(), |schema| schema.to_string())
        };
        f.write_str(self.kind())?;
        match self {
            Self::Relation { schema, name, columns } => {
                write!(f, " {}.{name}", in_schema(schema))?;
                match columns {
                    Columns::None => Ok(()),
                    Columns::All => f.write_str(" (*)"),
                    Columns::These(names) => {
                        let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                        write!(f, " ({})", names.join(", "))
                    }
                }
            }
            Self::Function { schema, name } => write!(f, " {}.{name}", in_schema(schema)),
            Self::Other { schema: Some(schema), name, .. } => write!(f, " {schema}.{name}"),
            Self::Other { schema: None, name, .. } => write!(f, " {name}"),
            Self::Setting(name) => write!(f, " {name}"),
            Self::Role(name) | Self::Channel(name) => write!(f, " {name}"),
            Self::Session => Ok(()),
        }
    }
}
