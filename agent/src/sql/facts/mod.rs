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

mod administration;
mod analyse;
mod ddl;
mod effect;
mod expression;
mod fingerprint;
mod kind;
mod name;
mod node;
mod object;
mod query;
mod rows;
mod serialise;
mod session;
mod special;
mod stack;
mod tags;
mod tree;
mod unique;
mod walk;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use analyse::analyse;
pub use effect::{DdlVerb, Effect, Effects, ObjectKind};
pub use name::{Name, QualifiedName};
pub use tags::tags;

use super::lex::Strings;

/// Stack of a thread that analyses: the parser refuses deeper texts by itself, at about the depth where the server does.
///
/// Only what is touched takes memory. Frames of a build without optimisation are about four times as large.
pub const STACK_BYTES: usize = if cfg!(debug_assertions) { 256 << 20 } else { 64 << 20 };

/// Name of a setting that stands for all of them, or for one that the text does not tell.
pub const ANY_SETTING: &str = "*";

/// What the bytes of a text mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// The session's encoding is UTF-8.
    Utf8,
    /// It is another one, or not known: texts of ASCII are read, others are [`Unknown::Encoding`].
    Other,
}

impl Encoding {
    /// The encoding that a server calls so (`client_encoding`).
    pub fn named(name: &[u8]) -> Self {
        let utf8 = [&b"UTF8"[..], b"UTF-8", b"UNICODE"];
        let known = utf8.iter().any(|known| name.eq_ignore_ascii_case(known));
        if known { Self::Utf8 } else { Self::Other }
    }
}

/// How a session's texts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// `client_encoding`.
    pub encoding: Encoding,
    /// `standard_conforming_strings`; [`Strings::Unsure`] reads as if it were off.
    pub strings: Strings,
}

impl From<Encoding> for Reading {
    fn from(encoding: Encoding) -> Self {
        Self { encoding, strings: Strings::Standard }
    }
}

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest text that is parsed, in bytes. Memory grows to a hundred times of it while it is.
    pub text_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { text_bytes_max: 1 << 20 }
    }
}

/// Facts about a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its statements, in order; none for a text that is empty or all comment.
    pub statements: Vec<Statement>,
}

impl Facts {
    /// What stands in front of a statement: the statements before it, whole and with their semicolons. Something may be put
    /// behind in place of the statement. `None` when there is no statement of that number, or `text` is not the one that
    /// these are facts about.
    pub fn cut<'t>(&self, text: &'t [u8], index: usize) -> Option<&'t [u8]> {
        text.get(..self.statements.get(index)?.span.start)
    }
}

/// Facts about one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Where it lies in the text, in bytes, without the semicolon.
    pub span: Range<usize>,
    /// What it is, by its outermost node: for tables and records, not for decisions.
    pub kind: Kind,
    /// All that it does, nested parts included. Never [`Effect::Execute`]: what a call does is told by its name, see
    /// [`calls`](Self::calls).
    pub effects: Effects,
    /// The query level around each level, by number; its own number for the outermost.
    pub parents: Vec<u32>,
    /// Relations that it names, once for each mention.
    pub relations: Vec<RelationUse>,
    /// What its columns may belong to besides relations.
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
    /// What is done to it: only effects on relations. Rows that are changed are also read ([`Effect::Select`]) when a
    /// column may be theirs, as with the server's own privileges. A definition on a relation (index, trigger, rule, policy,
    /// child) alters it; a foreign key reads what it refers to.
    pub effects: Effects,
    /// Alias by which columns refer to it, if it has one.
    pub alias: Option<Name>,
    /// Names that the alias gives to its columns, the first to the first: these hide the real ones.
    pub renamed: Vec<Name>,
    /// `ONLY`: without children.
    pub only: bool,
    /// Columns of it that are written by name (`INSERT (a, b)`, `SET a =`, `COPY t (a)`), or granted on; empty when no list
    /// is given.
    pub written: Vec<Name>,
    /// Query level that names it: see [`ColumnUse::scope`].
    pub scope: u32,
}

impl RelationUse {
    /// The name by which columns refer to it.
    pub fn known_as(&self) -> &Name {
        self.alias.as_ref().unwrap_or(&self.name.name)
    }
}

/// A source of rows that is no relation: its columns are made from what is named elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// What it is.
    pub kind: DerivedKind,
    /// By what columns refer to it, if it has a name.
    pub name: Option<Name>,
    /// Query level that it stands in: see [`ColumnUse::scope`].
    pub scope: u32,
}

/// What a source of rows is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DerivedKind {
    /// A mention of a common table expression.
    Cte,
    /// A query in `FROM`.
    Subquery,
    /// A function in `FROM`, `XMLTABLE`, `JSON_TABLE`.
    Function,
    /// A join with an alias: its columns are those of what it joins.
    Join,
    /// Another row of the relation that is written: `excluded`, `old`, `new`.
    Row,
}

/// A column, as named by a statement.
///
/// * Without a qualifier it may be a whole row, when a relation or alias has its name.
/// * With one it may be a function of that row, when there is no such column: then it is a [`CallKind::Field`], too.
/// * A function of one argument which is a row may be a column: then it is here, too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// What it is.
    pub what: CallKind,
    /// Its name as written; operators by their symbol, types as the grammar names them (`pg_catalog.int4`).
    pub name: QualifiedName,
    /// Arguments given.
    pub arguments: u16,
    /// Values of arguments, where all decides on them and they are written as constants: for `set_config`, `nextval`,
    /// `query_to_xml`, `dblink` and their like. `None` for arguments that are anything else. Empty for other functions.
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
    /// Its name, in lower case; [`ANY_SETTING`] for all of them, or one that is not told.
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
