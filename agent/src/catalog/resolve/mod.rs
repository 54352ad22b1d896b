//! Facts become requests: each name is looked up, and what stands behind it is added.
//!
//! | A statement names | It asks for |
//! | --- | --- |
//! | a relation | what it does to it, for each that the name may stand for; [`through`] adds what lies behind |
//! | columns | those of the relation that has them; all, where that is not known |
//! | a function, operator, type | `execute` of what is not known to only compute |
//! | an object of DDL | `create`, `alter`, `drop`, `grant` of it |
//! | a setting | `set` or `show`; those of [`is_pinned`] by name, others so that a denial counts |
//! | a prepared statement or cursor | what that one asks for |
//! | nothing | what it does to the session; transactions and their like only so that a denial counts |

mod calls;
mod columns;
mod names;
mod objects;
mod session;
mod startup;
mod through;

use std::collections::HashSet;

pub use self::session::is_pinned;
pub use self::startup::startup_request;

pub(super) use self::calls::{Code, code};

use self::names::Target;
use super::snapshot::Snapshot;
use super::state::{PG_TEMP, SessionState, Slot};
use crate::policy::{Columns, Need, Object, Reached, Request};
use crate::sql::facts::{
    DdlVerb, Effect, Effects, Facts, Kind, Name, ObjectKind, QualifiedName, RelationUse,
    SettingAccess, Statement, Unknown,
};

/// Statements behind statements: `EXECUTE` of what was prepared, definitions behind definitions.
const DEPTH_MAX: u32 = 8;

/// Requests of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// One for each statement, in order.
    pub requests: Vec<Request>,
    /// A name is not in the catalog: read it again when idle.
    pub stale: bool,
    /// It depends on prepared statements or cursors of the session: no other session may use it.
    pub own: bool,
}

/// What each statement of a text asks for.
///
/// Each is resolved as if those before it in the text had run, or had not.
pub fn resolve(facts: &Facts, state: &SessionState, catalog: Option<&Snapshot>) -> Resolution {
    let mut resolution = Resolution::default();
    let mut later: Option<SessionState> = None;
    for (number, statement) in facts.statements.iter().enumerate() {
        let now = later.as_ref().unwrap_or(state);
        let mut work = Work::new(now, catalog);
        work.statement(statement, 0);
        let disturbs = disturbs(statement, now, catalog);
        resolution.add(work, statement.kind, statement.fingerprint);
        if disturbs && number + 1 < facts.statements.len() {
            later.get_or_insert_with(|| state.clone()).forwarded(statement, catalog);
        }
    }
    resolution
}

/// What a prepared statement or cursor asks for: for `Bind` and `Execute` of names that SQL gave.
pub fn resolve_held(
    slot: Slot,
    name: &Name,
    state: &SessionState,
    catalog: Option<&Snapshot>,
) -> Resolution {
    let mut resolution = Resolution::default();
    let mut work = Work::new(state, catalog);
    work.held(slot, name, 0);
    let kind = match slot {
        Slot::Prepared => Kind("execute"),
        Slot::Cursor => Kind("fetch"),
    };
    resolution.add(work, kind, 0);
    resolution
}

/// Whether a statement may change the catalog, so that its stamp should be asked for again.
pub fn changes_catalog(statement: &Statement) -> bool {
    let changes = [
        Effect::Create,
        Effect::Alter,
        Effect::Drop,
        Effect::Grant,
        Effect::RoleAdmin,
        Effect::Do,
        Effect::Call,
        Effect::Unknown,
    ];
    !statement.unknown.is_empty()
        || changes.iter().any(|effect| statement.effects.contains(*effect))
}

/// Whether later statements may mean something else.
fn disturbs(statement: &Statement, state: &SessionState, catalog: Option<&Snapshot>) -> bool {
    let changes = [Effect::SetRole, Effect::Grant, Effect::RoleAdmin, Effect::Discard];
    statement.settings.iter().any(|setting| setting.access != SettingAccess::Read)
        || !statement.objects.is_empty()
        || !statement.handles.is_empty()
        || changes.iter().any(|effect| statement.effects.contains(*effect))
        || code(statement, state, catalog) != Code::None
}

impl Resolution {
    fn add(&mut self, work: Work<'_>, kind: Kind, fingerprint: u64) {
        let Work { needs, unknown, stale, own, .. } = work;
        self.stale |= stale;
        self.own |= own;
        self.requests.push(Request { kind, needs, unknown, fingerprint });
    }
}

/// What is known so far of what a statement asks for.
struct Work<'a> {
    state: &'a SessionState,
    catalog: Option<&'a Snapshot>,
    needs: Vec<Need>,
    seen: HashSet<Need>,
    /// Actions that some object was found for.
    attributed: Effects,
    unknown: Vec<Unknown>,
    stale: bool,
    own: bool,
}

impl<'a> Work<'a> {
    fn new(state: &'a SessionState, catalog: Option<&'a Snapshot>) -> Self {
        Self {
            state,
            catalog,
            needs: Vec::new(),
            seen: HashSet::new(),
            attributed: Effects::NONE,
            unknown: Vec::new(),
            stale: false,
            own: false,
        }
    }

    fn need(&mut self, action: Effect, object: Object, reached: Reached) {
        self.attributed.insert(action);
        let need = Need { action, object, reached };
        if self.seen.insert(need.clone()) {
            self.needs.push(need);
        }
    }

    fn unknown(&mut self, unknown: Unknown) {
        if !self.unknown.contains(&unknown) {
            self.unknown.push(unknown);
        }
    }

    fn code(&mut self, what: &'static str) {
        self.unknown(Unknown::Code(what));
    }

    fn statement(&mut self, statement: &Statement, depth: u32) {
        for unknown in &statement.unknown {
            self.unknown(unknown.clone());
        }
        if self.catalog.is_none() && !(statement.relations.is_empty() && statement.calls.is_empty())
        {
            // Any of them may be a view, or a function that someone made.
            self.unknown(Unknown::Catalog);
        }
        self.relations(statement, depth);
        self.calls(statement);
        self.objects(statement);
        self.settings(statement);
        self.roles(statement);
        self.handles(statement, depth);
        self.rest(statement, depth);
    }

    fn relations(&mut self, statement: &Statement, depth: u32) {
        let (reads, stale) = columns::reads(self, statement);
        self.stale |= stale && self.catalog.is_some();
        for (relation, read) in statement.relations.iter().zip(&reads) {
            for target in self.targets(&relation.name) {
                for effect in relation.effects.iter() {
                    let columns = columns_for(effect, relation, read.columns());
                    self.relation(effect, relation, target, columns, depth);
                }
                for (copy, side) in COPIES {
                    if statement.effects.contains(copy) && relation.effects.contains(side) {
                        let columns = columns_for(side, relation, read.columns());
                        self.relation(copy, relation, target, columns, depth);
                    }
                }
            }
        }
    }

    fn relation(
        &mut self,
        action: Effect,
        relation: &RelationUse,
        target: Target<'a>,
        columns: Columns,
        depth: u32,
    ) {
        let name = &relation.name;
        match target {
            Target::Known(known) => {
                self.relation_need(action, &known.schema, &known.name, &columns);
                self.through(known, action, columns, !relation.only);
            }
            Target::Temporary(temporary) => {
                self.relation_need(action, &Name::new(PG_TEMP), &name.name, &columns);
                if temporary.opaque {
                    self.code("temporary relation that was not seen");
                }
            }
            Target::Unresolved => {
                let (schema, bare) = (name.schema.clone(), name.name.clone());
                let object = Object::Relation { schema, name: bare, columns };
                self.need(action, object, Reached::Named);
                self.unresolved(action, name);
            }
        }
        self.definitions(&name.name, depth);
    }

    fn relation_need(&mut self, action: Effect, schema: &Name, name: &Name, columns: &Columns) {
        let (schema, name) = (Some(schema.clone()), name.clone());
        let object = Object::Relation { schema, name, columns: columns.clone() };
        self.need(action, object, Reached::Named);
    }

    /// A name that the catalog does not have.
    fn unresolved(&mut self, action: Effect, name: &QualifiedName) {
        let Some(catalog) = self.catalog else { return };
        if let Some(table) = toasted(name).and_then(|oid| catalog.relation(oid)) {
            self.behind(table, action, Columns::All);
            self.through(table, action, Columns::All, true);
            return;
        }
        self.stale |= !self.state.made.has(&name.name);
        if self.state.renamed {
            self.code("relation that may have been renamed");
        }
    }

    /// Relations of this name may be defined anew by this session, in a transaction that others do not see yet.
    fn definitions(&mut self, name: &Name, depth: u32) {
        let state = self.state;
        let Some(meanings) = state.made.meanings(name) else { return };
        if meanings.opaque {
            self.code("definition that was not kept");
        }
        if depth >= DEPTH_MAX {
            return self.code("definitions behind definitions");
        }
        for statement in &meanings.statements {
            for read in &statement.relations {
                if read.name.name == *name || !read.effects.contains(Effect::Select) {
                    continue;
                }
                for target in self.targets(&read.name) {
                    if let Target::Known(known) = target {
                        self.behind(known, Effect::Select, Columns::All);
                        self.through(known, Effect::Select, Columns::All, true);
                    }
                }
                self.definitions(&read.name.name, depth + 1);
            }
        }
    }

    /// What no object was found for is done to the session.
    fn rest(&mut self, statement: &Statement, depth: u32) {
        for effect in statement.effects.iter() {
            let elsewhere = match effect {
                // Of relations, or it computes.
                Effect::Select => true,
                Effect::Execute => !statement.calls.is_empty(),
                Effect::Unknown => {
                    if statement.unknown.is_empty() {
                        self.unknown(Unknown::Unanalysed);
                    }
                    true
                }
                // Of the statement that was prepared, not of its use.
                Effect::Prepare | Effect::Cursor => depth > 0,
                other => self.attributed.contains(other),
            };
            if !elsewhere {
                self.need(effect, Object::Session, session_reached(effect));
            }
        }
    }
}

/// `COPY` by its way, and what it does to the relation that it names.
const COPIES: [(Effect, Effect); 6] = [
    (Effect::CopyIn, Effect::Insert),
    (Effect::CopyOut, Effect::Select),
    (Effect::CopyFile, Effect::Insert),
    (Effect::CopyFile, Effect::Select),
    (Effect::CopyProgram, Effect::Insert),
    (Effect::CopyProgram, Effect::Select),
];

/// What only steers the session needs no grant, so that a denial counts and nothing else.
fn session_reached(effect: Effect) -> Reached {
    match effect {
        Effect::Transaction
        | Effect::Prepare
        | Effect::ExecutePrepared
        | Effect::Cursor
        | Effect::Discard
        | Effect::Explain
        | Effect::Show
        | Effect::Set => Reached::Through,
        Effect::Select
        | Effect::Insert
        | Effect::Update
        | Effect::Delete
        | Effect::Truncate
        | Effect::Lock
        | Effect::CopyIn
        | Effect::CopyOut
        | Effect::CopyFile
        | Effect::CopyProgram
        | Effect::Create
        | Effect::Alter
        | Effect::Drop
        | Effect::Grant
        | Effect::RoleAdmin
        | Effect::SetRole
        | Effect::TwoPhase
        | Effect::Execute
        | Effect::Call
        | Effect::Do
        | Effect::ExplainAnalyze
        | Effect::Listen
        | Effect::Notify
        | Effect::Maintenance
        | Effect::LargeObject
        | Effect::Replication
        | Effect::FunctionCall
        | Effect::Server
        | Effect::Unknown => Reached::Named,
    }
}

fn columns_for(effect: Effect, relation: &RelationUse, read: Columns) -> Columns {
    let written = || {
        let mut names = relation.written.clone();
        names.sort();
        names.dedup();
        Columns::These(names)
    };
    match effect {
        Effect::Select => read,
        Effect::Insert | Effect::Update if relation.written.is_empty() => Columns::All,
        Effect::Insert | Effect::Update => written(),
        Effect::Grant if !relation.written.is_empty() => written(),
        _ => Columns::None,
    }
}

/// Number of the table whose long values a relation of `pg_toast` holds: the server names it so.
fn toasted(name: &QualifiedName) -> Option<u32> {
    let schema = name.schema.as_ref()?;
    (schema.as_str() == "pg_toast").then_some(())?;
    let number = name.name.as_str().strip_prefix("pg_toast_")?;
    number.trim_end_matches("_index").parse().ok()
}

/// What a statement of DDL does to an object.
fn verb_effect(verb: DdlVerb, kind: ObjectKind) -> Effect {
    if kind == ObjectKind::Role {
        return Effect::RoleAdmin;
    }
    match verb {
        DdlVerb::Create => Effect::Create,
        DdlVerb::Alter => Effect::Alter,
        DdlVerb::Drop => Effect::Drop,
        DdlVerb::Grant => Effect::Grant,
    }
}
