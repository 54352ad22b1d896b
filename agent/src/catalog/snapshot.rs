//! The catalog of one database, as it was at one moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::sql::facts::Name;

/// Relations of a database; with more there is no snapshot.
pub(super) const RELATIONS_MAX: usize = 200_000;
/// Columns of all relations.
pub(super) const COLUMNS_MAX: usize = 2_000_000;
/// Rules, those of views included.
pub(super) const RULES_MAX: usize = 50_000;
/// Edges of one kind: inheritance, foreign keys, triggers, columns that rules read.
pub(super) const EDGES_MAX: usize = 500_000;
/// Functions, operators or casts that are not built in.
pub(super) const FUNCTIONS_MAX: usize = 100_000;
/// Types that are not built in.
pub(super) const TYPES_MAX: usize = 100_000;
/// Bytes of all values of all rows; a snapshot takes about fourteen times as many.
pub(super) const BYTES_MAX: usize = 32 << 20;

/// Number of an object.
pub type Oid = u32;

/// Objects below were made with the cluster (`FirstNormalObjectId`).
pub(super) const FIRST_NORMAL: Oid = 16_384;

/// The catalog of one database.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) epoch: Epoch,
    pub(super) database: Box<str>,
    /// As `server_version_num`.
    pub(super) server_version: u32,
    pub(super) schemas: HashMap<Oid, Name>,
    pub(super) schema_numbers: HashMap<Name, Oid>,
    pub(super) relations: HashMap<Oid, Relation>,
    pub(super) relations_by_name: HashMap<Name, Vec<Oid>>,
    pub(super) foreign_keys: HashMap<Oid, Vec<ForeignKey>>,
    pub(super) functions: HashMap<Oid, Function>,
    pub(super) functions_by_name: HashMap<Name, Vec<Oid>>,
    pub(super) builtins: HashMap<Oid, Name>,
    pub(super) builtins_by_name: HashMap<Name, Volatility>,
    pub(super) operators: HashMap<Name, Vec<Operator>>,
    pub(super) casts: Vec<Cast>,
    pub(super) types: HashMap<Oid, Type>,
    pub(super) types_by_name: HashMap<Name, Vec<Oid>>,
    pub(super) builtin_types: HashMap<Name, Oid>,
    pub(super) bytes: usize,
}

/// Which state of the catalog it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Answer to [`STAMP_SQL`](super::STAMP_SQL). Equal stamps: equal catalogs.
    pub stamp: Box<str>,
    /// `pg_current_snapshot()`: which transactions had ended. Where it is equal, nothing was written since, so the stamp
    /// is equal as well; where it is not, the stamp tells. Empty on a standby, whose snapshots do not list all that runs.
    pub horizon: Box<str>,
}

impl Epoch {
    /// Whether a session that now sees `horizon` (of a [`StateRow`](super::StateRow)) certainly sees the same catalog.
    pub fn still_at(&self, horizon: &str) -> bool {
        !self.horizon.is_empty() && *self.horizon == *horizon
    }
}

/// A table, view or anything like them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its number.
    pub oid: Oid,
    /// Its schema.
    pub schema: Name,
    /// Its name.
    pub name: Name,
    /// What it is.
    pub kind: RelationKind,
    /// How long it lives.
    pub persistence: Persistence,
    /// Role that owns it.
    pub owner: Arc<str>,
    /// Row level security: enabled, and also for its owner.
    pub row_security: (bool, bool),
    /// It is a partition.
    pub partition: bool,
    /// Columns, by number.
    pub columns: Vec<Column>,
    /// Tables it inherits from, or is a partition of.
    pub parents: Vec<Oid>,
    /// Tables that inherit from it, its partitions.
    pub children: Vec<Oid>,
    /// Rules: a view's own, and others.
    pub rules: Vec<Rule>,
    /// Triggers that were made by hand.
    pub triggers: Vec<Trigger>,
    /// The table of an index.
    pub table: Option<Oid>,
    /// The server of a foreign table.
    pub server: Option<Name>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its number, as `RowDescription` has it.
    pub number: i16,
    /// Its name.
    pub name: Name,
    /// Its type.
    pub type_oid: Oid,
    /// It is computed from others.
    pub generated: bool,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelationKind {
    /// `r`
    Table,
    /// `p`
    PartitionedTable,
    /// `v`
    View,
    /// `m`
    MaterializedView,
    /// `f`
    ForeignTable,
    /// `S`
    Sequence,
    /// `i`, `I`
    Index,
    /// `c`
    Composite,
    /// Of a kind that this version does not know.
    Unknown,
}

/// How long a relation lives. Temporary ones are no part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Persistence {
    /// `p`
    Permanent,
    /// `u`
    Unlogged,
}

/// A rule of the rewrite system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What brings it on.
    pub event: RuleEvent,
    /// It runs in place of the statement.
    pub instead: bool,
    /// Relations it names and which of their columns: `None` for all, or not known which.
    pub relations: Vec<(Oid, Option<Vec<i16>>)>,
    /// Functions it calls, those behind operators and casts included.
    pub functions: Vec<Oid>,
}

/// What brings a rule on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleEvent {
    /// Reading: the rule of a view.
    Select,
    /// `UPDATE`
    Update,
    /// `INSERT`
    Insert,
    /// `DELETE`
    Delete,
}

/// A trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its function.
    pub function: Oid,
    /// `tgtype`: row 1, before 2, insert 4, delete 8, update 16, truncate 32, instead 64.
    pub bits: i16,
}

/// A foreign key that changes the rows that refer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// The table that refers.
    pub from: Oid,
    /// `confupdtype`: `c` cascade, `n` set null, `d` set default.
    pub on_update: char,
    /// `confdeltype`, likewise.
    pub on_delete: char,
}

/// A function that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its number.
    pub oid: Oid,
    /// Its schema.
    pub schema: Name,
    /// Its name.
    pub name: Name,
    /// What it is.
    pub kind: FunctionKind,
    /// Volatility.
    pub volatility: Volatility,
    /// It runs as its owner.
    pub security_definer: bool,
    /// It returns a set.
    pub returns_set: bool,
    /// Its last parameter takes any number of arguments.
    pub variadic: bool,
    /// An extension brought it.
    pub of_extension: bool,
    /// It changes settings while it runs.
    pub sets: bool,
    /// Language.
    pub language: Language,
    /// Types of its input parameters.
    pub arguments: Vec<Oid>,
    /// How many of them have defaults.
    pub defaults: u16,
    /// Role that owns it.
    pub owner: Arc<str>,
}

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FunctionKind {
    /// `f`
    Function,
    /// `p`
    Procedure,
    /// `a`
    Aggregate,
    /// `w`
    Window,
}

/// Volatility of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Volatility {
    /// `i`
    Immutable,
    /// `s`
    Stable,
    /// `v`
    Volatile,
}

/// Language of a function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Compiled into the server.
    Internal,
    /// A library, which only a superuser can bring.
    C,
    /// SQL.
    Sql,
    /// Anything else.
    Other(Arc<str>),
}

/// An operator that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    /// Its schema.
    pub schema: Name,
    /// Left operand, zero for none.
    pub left: Oid,
    /// Right operand.
    pub right: Oid,
    /// The function behind it.
    pub function: Oid,
}

/// A cast by a function that is not built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cast {
    /// From.
    pub source: Oid,
    /// To.
    pub target: Oid,
    /// The function.
    pub function: Oid,
    /// It needs no `CAST`: at assignments, or anywhere.
    pub implicit: bool,
}

/// A type that is not built in, no array and no table's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Its number.
    pub oid: Oid,
    /// Its schema.
    pub schema: Name,
    /// Its name.
    pub name: Name,
    /// `typtype`: `b` base, `c` composite, `d` domain, `e` enum, `r` range, `m` multirange, `p` pseudo.
    pub kind: char,
    /// What a domain is over, else zero.
    pub base: Oid,
    /// Functions that checks of a domain call, and that are not built in.
    pub checks: Vec<Oid>,
}

impl Snapshot {
    /// Which state of the catalog it is.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Database it is of.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// `server_version_num`.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    /// Bytes of the rows it was made of; in memory it is about fourteen times that.
    pub fn source_bytes(&self) -> usize {
        self.bytes
    }

    /// A relation by its number, as `RowDescription` names it.
    pub fn relation(&self, oid: Oid) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    /// A relation by its full name.
    pub fn relation_named(&self, schema: &Name, name: &Name) -> Option<&Relation> {
        self.relations_of(name).find(|relation| relation.schema == *schema)
    }

    /// Relations of this name, in every schema.
    pub fn relations_of(&self, name: &Name) -> impl Iterator<Item = &Relation> {
        let numbers = self.relations_by_name.get(name).map_or(&[][..], Vec::as_slice);
        numbers.iter().filter_map(|oid| self.relations.get(oid))
    }

    /// All relations, in no order.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    /// A function that is not built in, by its number.
    pub fn function(&self, oid: Oid) -> Option<&Function> {
        self.functions.get(&oid)
    }

    /// Functions of this name that are not built in, in every schema.
    pub fn functions_of(&self, name: &Name) -> impl Iterator<Item = &Function> {
        let numbers = self.functions_by_name.get(name).map_or(&[][..], Vec::as_slice);
        numbers.iter().filter_map(|oid| self.functions.get(oid))
    }

    /// Name of a function of `pg_catalog` that was made with the cluster.
    pub fn builtin(&self, oid: Oid) -> Option<&Name> {
        self.builtins.get(&oid)
    }

    /// Whether there is a schema of this name.
    pub fn has_schema(&self, name: &Name) -> bool {
        self.schema_numbers.contains_key(name)
    }

    /// Types of this name that are not built in, in every schema.
    pub fn types_of(&self, name: &Name) -> impl Iterator<Item = &Type> {
        let numbers = self.types_by_name.get(name).map_or(&[][..], Vec::as_slice);
        numbers.iter().filter_map(|oid| self.types.get(oid))
    }

    /// Foreign keys that refer to a table and change the rows that do.
    pub fn foreign_keys_to(&self, oid: Oid) -> &[ForeignKey] {
        self.foreign_keys.get(&oid).map_or(&[], Vec::as_slice)
    }

    /// Counts, for logs: relations, columns, functions, types.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        BTreeMap::from([
            ("relations", self.relations.len()),
            ("columns", self.relations.values().map(|relation| relation.columns.len()).sum()),
            ("functions", self.functions.len()),
            ("types", self.types.len()),
        ])
    }
}

impl Relation {
    /// Its column of this name.
    pub fn column(&self, name: &Name) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == *name)
    }

    /// Its column of this number.
    pub fn column_number(&self, number: i16) -> Option<&Column> {
        let at = self.columns.binary_search_by_key(&number, |column| column.number).ok()?;
        self.columns.get(at)
    }

    /// Rules that this event brings on.
    pub fn rules_on(&self, event: RuleEvent) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.event == event)
    }
}

impl Function {
    /// Whether it may be what a call with this many arguments means.
    pub fn takes(&self, arguments: usize) -> bool {
        match self.kind {
            FunctionKind::Function | FunctionKind::Window => {}
            // `WITHIN GROUP` adds arguments, and so do output parameters of procedures.
            FunctionKind::Aggregate | FunctionKind::Procedure => return true,
        }
        let most = self.arguments.len();
        let least = most.saturating_sub(usize::from(self.defaults)).min(most);
        if self.variadic { arguments + 1 >= least } else { (least..=most).contains(&arguments) }
    }

    /// Whether it is known to only compute: it came with an extension as a library, and declares that its answer depends on
    /// its arguments alone. Only a superuser can bring a library, so this trusts whoever could change the server itself.
    pub fn only_computes(&self) -> bool {
        self.of_extension
            && self.volatility == Volatility::Immutable
            && !self.security_definer
            && self.kind != FunctionKind::Procedure
            && matches!(self.language, Language::C | Language::Internal)
    }
}
