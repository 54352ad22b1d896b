//! What a policy file says, checked. Made by `read`, compiled by `index`.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::compiled::Compiled;
use super::glob::{Glob, NamePattern};
use super::need::{Columns, Object};
use super::subject::Subject;
use super::who::Who;
use super::window::{WallTime, Window};
use crate::sql::facts::{Effects, ObjectKind};

/// The bytes of a policy file, by their SHA-256: which policy it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub [u8; 32]);

impl Identity {
    /// Of a file with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Its first eight digits, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A policy, checked as a whole and compiled. `Policy::parse` makes it of the text of a file.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) identity: Identity,
    pub(super) unknown: UnknownText,
    pub(super) roles: Vec<Role>,
    pub(super) assigns: Vec<Assign>,
    pub(super) protects: Vec<Protect>,
    pub(super) cases: Vec<Case>,
    pub(super) advice: Vec<Advice>,
    pub(super) compiled: Compiled,
}

/// Something that works and is likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Line of the file.
    pub line: usize,
    /// What is so.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Policy {
    /// A policy without any rule: everything is allowed.
    pub fn empty() -> Self {
        let file = File::default();
        Self::compile(Identity::of(b""), file)
    }

    /// Which policy it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its roles, in the order of the file.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// What it protects.
    pub fn protects(&self) -> &[Protect] {
        &self.protects
    }

    /// Its cases.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// What works and is likely not meant.
    pub fn advice(&self) -> &[Advice] {
        &self.advice
    }

    /// How many rules it has: grants, denials and protected objects.
    pub fn rules(&self) -> usize {
        let of_roles = self.roles.iter().map(|role| role.grants.len() + role.denials.len());
        of_roles.sum::<usize>() + self.protects.len()
    }

    pub(super) fn compile(identity: Identity, file: File) -> Self {
        let File { unknown, roles, assigns, protects, cases, advice } = file;
        let compiled = Compiled::of(&roles, &assigns, &protects);
        Self { identity, unknown, roles, assigns, protects, cases, advice, compiled }
    }
}

/// All that a file says.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) unknown: UnknownText,
    pub(super) roles: Vec<Role>,
    pub(super) assigns: Vec<Assign>,
    pub(super) protects: Vec<Protect>,
    pub(super) cases: Vec<Case>,
    pub(super) advice: Vec<Advice>,
}

/// What a refusal of a role comes to. The later is the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The statement goes to the server; its record says that it would have been refused.
    Observe,
    /// The same, and the client gets a notice.
    Warn,
    /// It is refused.
    Enforce,
}

impl Mode {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }
}

/// What a text comes to that could not be understood, where anything is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownText {
    /// Refused, unless the action `unknown` is granted.
    #[default]
    Deny,
    /// Allowed, unless the action `unknown` is denied.
    Allow,
}

/// `[[role]]`
#[derive(Clone, Debug)]
pub struct Role {
    /// Unique in its policy.
    pub name: Arc<str>,
    /// What its refusals come to; its grants count in every mode.
    pub mode: Mode,
    /// For refusals that have none of their own.
    pub hint: Option<Arc<str>>,
    /// `[[role.grant]]`
    pub grants: Vec<Rule>,
    /// `[[role.deny]]`
    pub denials: Vec<Rule>,
    /// `[[role.limit]]`
    pub limits: Vec<Limit>,
    /// Hours outside of which its subjects have no business.
    pub hours: Vec<Hours>,
}

/// `[[role.grant]]` or `[[role.deny]]`
#[derive(Clone, Debug)]
pub struct Rule {
    /// Unique in its policy.
    pub name: Arc<str>,
    /// What it is about.
    pub actions: Effects,
    /// To what.
    pub objects: Objects,
    /// Columns of relations; `None` is all, and none too.
    pub columns: Option<Box<[Glob]>>,
    /// When; `None` is always.
    pub when: Option<Window>,
    /// Said to who is refused.
    pub hint: Option<Arc<str>>,
    /// A refusal ends the session.
    pub terminate: bool,
    /// Most rows that a statement may return which needs this grant.
    pub rows: Option<u64>,
    /// Most bytes of them.
    pub bytes: Option<u64>,
}

impl Rule {
    /// Whether it is in force.
    pub(super) fn holds(&self, now: WallTime) -> bool {
        self.when.is_none_or(|window| window.contains(now))
    }
}

/// Objects that a rule names. A kind without patterns is not concerned; where none has any, all objects are, and what
/// concerns no object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Tables, views, sequences.
    pub relations: Vec<NamePattern>,
    /// Functions and procedures.
    pub functions: Vec<NamePattern>,
    /// Other objects of DDL.
    pub others: Vec<(ObjectKind, NamePattern)>,
    /// Settings.
    pub settings: Vec<Glob>,
    /// Roles of the database.
    pub roles: Vec<Glob>,
    /// Channels.
    pub channels: Vec<Glob>,
}

impl Objects {
    /// Whether no kind is named, which is all of them.
    pub fn is_all(&self) -> bool {
        let Self { relations, functions, others, settings, roles, channels } = self;
        relations.is_empty()
            && functions.is_empty()
            && others.is_empty()
            && settings.is_empty()
            && roles.is_empty()
            && channels.is_empty()
    }

    /// Whether anything in `schema` could be among them.
    pub(super) fn touches_schema(&self, schema: &str) -> bool {
        let others = self.others.iter().map(|(_, pattern)| pattern);
        let mut patterns = self.relations.iter().chain(&self.functions).chain(others);
        patterns.any(|pattern| pattern.schema.matches(schema))
    }
}

/// An object of a need, by how rules name it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'n> {
    Relation { schema: Option<&'n str>, name: &'n str, columns: &'n Columns },
    Function { schema: Option<&'n str>, name: &'n str },
    Other { kind: ObjectKind, schema: Option<&'n str>, name: &'n str },
    Setting(&'n str),
    Role(&'n str),
    Channel(&'n str),
    Session,
}

impl<'n> Target<'n> {
    /// What `object` is to rules. Kinds of DDL that rules name as relations, functions or roles are those, however they
    /// come: a denial must not depend on it.
    pub(super) fn of(object: &'n Object) -> Self {
        match object {
            Object::Relation { schema, name, columns } => Self::Relation {
                schema: schema.as_ref().map(|s| s.as_str()),
                name: name.as_str(),
                columns,
            },
            Object::Function { schema, name } => {
                Self::Function { schema: schema.as_ref().map(|s| s.as_str()), name: name.as_str() }
            }
            Object::Other { kind, schema, name } => {
                let (schema, name) = (schema.as_ref().map(|s| s.as_str()), name.as_str());
                match Family::of(*kind) {
                    Family::Relation => Self::Relation { schema, name, columns: &Columns::All },
                    Family::Function => Self::Function { schema, name },
                    Family::Role => Self::Role(name),
                    Family::Other => Self::Other { kind: *kind, schema, name },
                }
            }
            Object::Setting(name) => Self::Setting(name),
            Object::Role(name) => Self::Role(name.as_str()),
            Object::Channel(name) => Self::Channel(name.as_str()),
            Object::Session => Self::Session,
        }
    }
}

/// The key of a rule that names objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Relation,
    Function,
    Role,
    Other,
}

impl Family {
    pub(super) fn of(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::ForeignTable
            | ObjectKind::MaterializedView
            | ObjectKind::Sequence
            | ObjectKind::Table
            | ObjectKind::View => Self::Relation,
            ObjectKind::Aggregate | ObjectKind::Function | ObjectKind::Procedure => Self::Function,
            ObjectKind::Role => Self::Role,
            ObjectKind::AccessMethod
            | ObjectKind::Cast
            | ObjectKind::Collation
            | ObjectKind::Conversion
            | ObjectKind::Database
            | ObjectKind::Domain
            | ObjectKind::EventTrigger
            | ObjectKind::Extension
            | ObjectKind::ForeignDataWrapper
            | ObjectKind::ForeignServer
            | ObjectKind::Index
            | ObjectKind::Language
            | ObjectKind::LargeObject
            | ObjectKind::Operator
            | ObjectKind::OperatorClass
            | ObjectKind::OperatorFamily
            | ObjectKind::Policy
            | ObjectKind::Publication
            | ObjectKind::Rule
            | ObjectKind::Schema
            | ObjectKind::Statistics
            | ObjectKind::Subscription
            | ObjectKind::Tablespace
            | ObjectKind::TextSearch
            | ObjectKind::Transform
            | ObjectKind::Trigger
            | ObjectKind::Type
            | ObjectKind::UserMapping
            | ObjectKind::Other => Self::Other,
        }
    }
}

/// `[[assign]]`
#[derive(Clone, Debug)]
pub struct Assign {
    /// Unique in its policy.
    pub name: Arc<str>,
    /// To whom; `None` is everyone.
    pub who: Option<Who>,
    /// Roles, by their place in the policy, ascending.
    pub gives: Box<[u32]>,
}

/// `[[protect]]`
#[derive(Clone, Debug)]
pub struct Protect {
    /// Unique in its policy.
    pub name: Arc<str>,
    /// Names of destinations; `None` is all.
    pub destination: Option<Box<[Glob]>>,
    /// Databases; `None` is all.
    pub database: Option<Box<[Glob]>>,
    /// What is protected there.
    pub objects: Objects,
    /// What a missing grant comes to, at most.
    pub mode: Mode,
    /// Said to who has no grant.
    pub hint: Option<Arc<str>>,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Rows that a statement returns or copies.
    StatementRows,
    /// Bytes of them.
    StatementBytes,
    /// Rows of a session.
    SessionRows,
    /// Bytes of them.
    SessionBytes,
    /// Rows of a class of subjects in an hour.
    HourRows,
    /// Bytes of them.
    HourBytes,
    /// Statements of a session in a second.
    StatementsPerSecond,
    /// Sessions of a class of subjects at the same time.
    Sessions,
    /// How long a statement runs, in milliseconds.
    StatementMillis,
    /// How long nothing runs, outside of a transaction.
    IdleMillis,
    /// How long nothing runs, inside of one.
    IdleInTransactionMillis,
    /// How long the session is there.
    SessionMillis,
}

impl Counted {
    /// All, by their keys in the file.
    pub const ALL: [(&'static str, Self); 12] = [
        ("statement_rows", Self::StatementRows),
        ("statement_bytes", Self::StatementBytes),
        ("session_rows", Self::SessionRows),
        ("session_bytes", Self::SessionBytes),
        ("hour_rows", Self::HourRows),
        ("hour_bytes", Self::HourBytes),
        ("statements_per_second", Self::StatementsPerSecond),
        ("sessions", Self::Sessions),
        ("statement_ms", Self::StatementMillis),
        ("idle_ms", Self::IdleMillis),
        ("idle_in_transaction_ms", Self::IdleInTransactionMillis),
        ("session_ms", Self::SessionMillis),
    ];

    /// Whether a statement runs when it is reached, which a cancel could end.
    pub fn is_of_statements(self) -> bool {
        match self {
            Self::StatementRows
            | Self::StatementBytes
            | Self::SessionRows
            | Self::SessionBytes
            | Self::HourRows
            | Self::HourBytes
            | Self::StatementsPerSecond
            | Self::StatementMillis => true,
            Self::Sessions
            | Self::IdleMillis
            | Self::IdleInTransactionMillis
            | Self::SessionMillis => false,
        }
    }
}

/// What happens when a limit is reached. The later is the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitAction {
    /// It is recorded: what every limit of a role in mode `observe` comes to.
    Observe,
    /// The client gets a notice.
    Warn,
    /// The statement is cancelled.
    Cancel,
    /// The session ends.
    Terminate,
}

impl LimitAction {
    /// What is left of it in a role of this mode.
    pub(super) fn in_mode(self, mode: Mode) -> Self {
        match mode {
            Mode::Observe => Self::Observe,
            Mode::Warn => self.min(Self::Warn),
            Mode::Enforce => self,
        }
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// What is counted.
    pub counted: Counted,
    /// The most that passes.
    pub max: u64,
    /// What happens then.
    pub action: LimitAction,
    /// The rule that says so.
    pub rule: Arc<str>,
}

/// Business hours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hours {
    /// When there is business.
    pub window: Window,
    /// What happens at other times.
    pub action: LimitAction,
    /// The rule that says so.
    pub rule: Arc<str>,
}

/// What a case expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Allowed, and no rule would have it otherwise.
    Allow,
    /// Allowed, and recorded as one that would be refused.
    Observe,
    /// Allowed with a notice.
    Warn,
    /// Refused.
    Deny,
}

impl Expect {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Observe => "observe",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// `[[case]]`
#[derive(Clone, Debug)]
pub struct Case {
    /// Said when it fails.
    pub name: Box<str>,
    /// Line of the file.
    pub line: usize,
    /// Who asks.
    pub who: Subject,
    /// What for.
    pub sql: Box<str>,
    /// Parameters of the statement. They decide on nothing: what they could change is not known before they are bound.
    pub parameters: Vec<Box<str>>,
    /// When; must be given when the verdict depends on it.
    pub at: Option<WallTime>,
    /// The verdict.
    pub expect: Expect,
    /// A rule that must be among those that decided.
    pub rule: Option<Box<str>>,
}
