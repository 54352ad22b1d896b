//! What statements do.

use std::fmt;

macro_rules! effects {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)+) => {
        /// One thing that a statement does. Names are those of policies and records.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Effect {
            $($(#[$doc])* $variant,)+
        }

        impl Effect {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in policies and records.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

effects! {
    /// Reads rows of a relation, or computes.
    Select "select",
    /// Adds rows.
    Insert "insert",
    /// Changes rows.
    Update "update",
    /// Removes rows.
    Delete "delete",
    /// `TRUNCATE`.
    Truncate "truncate",
    /// Row locks (`FOR UPDATE`) and `LOCK TABLE`.
    Lock "lock",
    /// `COPY … FROM STDIN`.
    CopyIn "copy_in",
    /// `COPY … TO STDOUT`.
    CopyOut "copy_out",
    /// `COPY` from or to a file of the server.
    CopyFile "copy_file",
    /// `COPY` from or to a program of the server.
    CopyProgram "copy_program",
    /// Makes an object.
    Create "create",
    /// Changes an object: `ALTER`, `COMMENT`, `SECURITY LABEL`.
    Alter "alter",
    /// Removes an object.
    Drop "drop",
    /// `GRANT`, `REVOKE`, default privileges, ownership.
    Grant "grant",
    /// Makes, changes or drops roles and memberships.
    RoleAdmin "role_admin",
    /// `SET ROLE`, `SET SESSION AUTHORIZATION` and their reset.
    SetRole "set_role",
    /// Changes a setting.
    Set "set",
    /// Shows a setting.
    Show "show",
    /// `BEGIN`, `COMMIT`, `ROLLBACK`, savepoints, `SET TRANSACTION`, `SET CONSTRAINTS`.
    Transaction "transaction",
    /// `PREPARE TRANSACTION` and its ends.
    TwoPhase "two_phase",
    /// `PREPARE`.
    Prepare "prepare",
    /// `EXECUTE` of a prepared statement.
    ExecutePrepared "execute_prepared",
    /// Runs a function, operator or cast of which it is not known that it only computes.
    Execute "execute",
    /// `DEALLOCATE`, `DISCARD`.
    Discard "discard",
    /// `DECLARE`, `FETCH`, `MOVE`, `CLOSE`.
    Cursor "cursor",
    /// `CALL`.
    Call "call",
    /// `DO`.
    Do "do",
    /// `EXPLAIN`.
    Explain "explain",
    /// `EXPLAIN ANALYZE`: the inner statement runs.
    ExplainAnalyze "explain_analyze",
    /// `LISTEN`, `UNLISTEN`.
    Listen "listen",
    /// `NOTIFY`, `pg_notify`.
    Notify "notify",
    /// `VACUUM`, `ANALYZE`, `REINDEX`, `CLUSTER`, `CHECKPOINT`, `REFRESH MATERIALIZED VIEW`.
    Maintenance "maintenance",
    /// Large objects: `lo_*` functions.
    LargeObject "large_object",
    /// A command of the replication protocol.
    Replication "replication",
    /// A function by number: message `FunctionCall`.
    FunctionCall "function_call",
    /// Acts on the server or other sessions: `LOAD`, `ALTER SYSTEM`, `pg_terminate_backend`, files of the server.
    Server "server",
    /// What it does could not be told.
    Unknown "unknown",
}

/// A set of effects.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Effects(u64);

const _: () = assert!(Effect::ALL.len() <= 64);

impl Effects {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// One.
    pub fn of(effect: Effect) -> Self {
        Self(1 << effect as u8)
    }

    /// Adds one.
    pub fn insert(&mut self, effect: Effect) {
        self.0 |= Self::of(effect).0;
    }

    /// Whether it is there.
    pub fn contains(self, effect: Effect) -> bool {
        self.0 & Self::of(effect).0 != 0
    }

    /// All of both.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each, in the order of [`Effect`].
    pub fn iter(self) -> impl Iterator<Item = Effect> {
        Effect::ALL.iter().copied().filter(move |effect| self.contains(*effect))
    }
}

impl FromIterator<Effect> for Effects {
    fn from_iter<I: IntoIterator<Item = Effect>>(effects: I) -> Self {
        effects.into_iter().fold(Self::NONE, |set, effect| set.union(Self::of(effect)))
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Effect::name)).finish()
    }
}

macro_rules! object_kinds {
    ($($variant:ident $name:literal,)+) => {
        /// Kinds of objects that DDL names; their words are those of policies.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // the words say it
        pub enum ObjectKind {
            $($variant,)+
        }

        impl ObjectKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its word.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

object_kinds! {
    AccessMethod "access_method",
    Aggregate "aggregate",
    Cast "cast",
    Collation "collation",
    Conversion "conversion",
    Database "database",
    Domain "domain",
    EventTrigger "event_trigger",
    Extension "extension",
    ForeignDataWrapper "foreign_data_wrapper",
    ForeignServer "foreign_server",
    ForeignTable "foreign_table",
    Function "function",
    Index "index",
    Language "language",
    LargeObject "large_object",
    MaterializedView "materialized_view",
    Operator "operator",
    OperatorClass "operator_class",
    OperatorFamily "operator_family",
    Policy "policy",
    Procedure "procedure",
    Publication "publication",
    Role "role",
    Rule "rule",
    Schema "schema",
    Sequence "sequence",
    Statistics "statistics",
    Subscription "subscription",
    Table "table",
    Tablespace "tablespace",
    TextSearch "text_search",
    Transform "transform",
    Trigger "trigger",
    Type "type",
    UserMapping "user_mapping",
    View "view",
    Other "other",
}

/// What DDL does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DdlVerb {
    /// `CREATE`, `SELECT INTO`, `IMPORT`.
    Create,
    /// `ALTER`, `COMMENT`, `SECURITY LABEL`.
    Alter,
    /// `DROP`.
    Drop,
    /// `GRANT`, `REVOKE`, default privileges.
    Grant,
}
