//! What a statement would do, as far as its text tells.
//!
//! Facts are made by one walk over the whole tree of PostgreSQL's own grammar, so that a name cannot hide in a clause that
//! nobody thought of. What the text does not tell (a `DO` body, SQL in a string, an unknown node) is there as an
//! [`Unknown`] with its reason, never left out. Names are as written: which relation a name stands for is for the catalog
//! to say.
//!
//! ```text
//!   text ──► PostgreSQL's parser ──► tree ──► walk ──► Facts { one Statement for each of the text }
//! ```
//!
//! No IO, no clock, no thread. Parsing and walking recurse: call it on a thread with
//! [`STACK_BYTES`] of stack.

mod effect;
mod name;

use std::ops::Range;

pub use effect::{DdlVerb, Effect, Effects, ObjectKind};
pub use name::{Name, QualifiedName};

/// Stack of a thread that analyses: the parser refuses deeper texts by itself, at about the depth where the server does.
pub const STACK_BYTES: usize = 64 << 20;

/// Facts about a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its statements, in order; none for a text that is empty or all comment.
    pub statements: Vec<Statement>,
}

/// Facts about one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Where it lies in the text, in bytes, without the semicolon.
    pub span: Range<usize>,
    /// What it is, by its outermost node: for tables and records, not for decisions.
    pub kind: Kind,
    /// All that it does, nested parts included.
    pub effects: Effects,
    /// The query level around each level, by number; its own number for the outermost.
    pub parents: Vec<u32>,
    /// Relations that it names, each name and place once.
    pub relations: Vec<RelationUse>,
    /// Sources of rows that are no relations.
    pub derived: Vec<Derived>,
    /// Columns that it names.
    pub columns: Vec<ColumnUse>,
    /// Functions, procedures, operators, casts and types that it names.
    pub calls: Vec<Call>,
    /// Objects that its DDL makes, changes or drops.
    pub objects: Vec<ObjectUse>,
    /// Settings that it reads or changes.
    pub settings: Vec<SettingUse>,
    /// Prepared statements, cursors and channels that it names.
    pub handles: Vec<Handle>,
    /// Roles that it names: `SET ROLE`, `GRANT`, `OWNER TO`.
    pub roles: Vec<Name>,
    /// What could not be told, and why. Not empty means that the rest is a lower bound.
    pub unknown: Vec<Unknown>,
    /// Groups statements of the same shape. Different tables may share one: it never authorises.
    pub fingerprint: u64,
}

/// What a statement is. The word is the record's and the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind(pub &'static str);

/// A relation, as named by a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationUse {
    /// Its name as written.
    pub name: QualifiedName,
    /// What is done to it: only effects on relations.
    pub effects: Effects,
    /// Alias by which columns refer to it, if it has one.
    pub alias: Option<Name>,
    /// Names that its alias gives to its first columns: `AS a (b, c)`.
    pub renamed: Vec<Name>,
    /// `ONLY`: without children.
    pub only: bool,
    /// Columns of it that are written by name (`INSERT (a, b)`, `SET a =`, `COPY t (a)`), or granted on; empty when no list
    /// is given.
    pub written: Vec<Name>,
    /// Query level that names it: see [`ColumnUse::scope`].
    pub scope: u32,
}

/// A source of rows that is no relation, to which columns may refer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// What it is.
    pub kind: DerivedKind,
    /// Its alias, if it has one.
    pub name: Option<Name>,
    /// Query level it stands in: see [`ColumnUse::scope`].
    pub scope: u32,
}

/// What rows come from that is no relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DerivedKind {
    /// A subquery in `FROM`.
    Subquery,
    /// A function in `FROM`.
    Function,
    /// A common table expression.
    Cte,
    /// An alias of a join.
    Join,
    /// `excluded`, and names for the old and the new row.
    Row,
}

/// Stands for every setting, in [`SettingUse::name`].
pub const ANY_SETTING: &str = "*";

/// A column, as named by a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnUse {
    /// Qualifiers as written, outermost first: none, an alias or relation, or schema and relation.
    pub qualifiers: Vec<Name>,
    /// Its name; `None` for a star.
    pub column: Option<Name>,
    /// Where.
    pub place: Place,
    /// Query level it stands in, numbered in the order of the walk from 0. It may belong to a relation of that level or of
    /// any level around it, see [`Statement::parents`].
    pub scope: u32,
}

/// Where a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In a target list or `RETURNING`.
    Output,
    /// `WHERE`, `HAVING`, `ON CONFLICT … WHERE`, `FILTER`.
    Predicate,
    /// `ON`, `USING`, or a natural join.
    Join,
    /// `ORDER BY`.
    Order,
    /// `GROUP BY`, `DISTINCT ON`, window partitions.
    Group,
    /// A value that is written: `SET a = b`, `VALUES`.
    Value,
    /// Anywhere else.
    Other,
}

/// A function, operator, cast or type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it is.
    pub what: CallKind,
    /// Its name as written; operators by their symbol, types as the grammar names them (`pg_catalog.int4`).
    pub name: QualifiedName,
    /// Arguments given.
    pub arguments: u16,
    /// The value of an argument, where all decides on it and it is a plain string: for `set_config`, `nextval`,
    /// `query_to_xml`, `dblink` and their like. `None` for arguments that are anything else.
    pub constants: Vec<Option<Box<str>>>,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    /// A function in an expression.
    Function,
    /// A function in `FROM`.
    From,
    /// A procedure by `CALL`.
    Procedure,
    /// `a.b` or `(a).b` that could be a function of one argument.
    Field,
    /// An operator.
    Operator,
    /// A type: casts to it run its input function.
    Type,
}

/// An object of DDL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUse {
    /// What is done.
    pub verb: DdlVerb,
    /// To what.
    pub kind: ObjectKind,
    /// Its name as written; empty for those without one.
    pub name: QualifiedName,
    /// It is temporary.
    pub temporary: bool,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingUse {
    /// Its name, in lower case.
    pub name: Box<str>,
    /// What is done.
    pub access: SettingAccess,
    /// The new value, where it is constant; lists joined by `, `. `None` for `DEFAULT`, `RESET` and values not known.
    pub value: Option<Box<str>>,
}

/// What is done to a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SettingAccess {
    /// `SHOW`, `current_setting`.
    Read,
    /// `SET`, `set_config`, `SET SESSION …`.
    Set,
    /// `SET LOCAL`, `set_config(…, true)`.
    SetLocal,
    /// `RESET`, `SET … TO DEFAULT`.
    Reset,
    /// For later sessions or within a function: `ALTER ROLE/DATABASE/SYSTEM … SET`, `CREATE FUNCTION … SET`.
    Stored,
}

/// A prepared statement, cursor or channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handle {
    /// `PREPARE name AS …`: its inner statement's facts are part of this one's.
    Prepare(Name),
    /// `EXECUTE name`.
    Execute(Name),
    /// `DEALLOCATE name`, `None` for all.
    Deallocate(Option<Name>),
    /// `DECLARE name CURSOR FOR …`.
    Declare(Name),
    /// `FETCH`, `MOVE`.
    Fetch(Name),
    /// `CLOSE name`, `None` for all.
    Close(Option<Name>),
    /// `WHERE CURRENT OF name`.
    CurrentOf(Name),
    /// `LISTEN`, `NOTIFY`, `UNLISTEN`.
    Channel(Name),
}

/// Something that the text does not tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// The text does not parse; nothing else is known of it.
    Syntax,
    /// It is longer than the limit, in bytes.
    TooLong(usize),
    /// Nested deeper than the parser takes.
    TooDeep,
    /// It can't be read as UTF-8 from the session's encoding.
    Encoding,
    /// Code that the server reads at run time: `DO`, function bodies in a string, SQL in an argument.
    Code(&'static str),
    /// A node of the grammar that the walk does not know.
    Node(Box<str>),
    /// The analysis did not come to an end: out of workers, out of time, or a fault.
    Unanalysed,
}
