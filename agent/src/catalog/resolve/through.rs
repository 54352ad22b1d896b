//! What lies behind a relation.
//!
//! ```text
//!   view, materialized view ──► relations and columns of its rule, functions that the rule calls
//!   rule of another event ────► relations of the rule
//!   table ◄──────────────────► parents and children, partitions
//!   table ────────────────────► tables whose foreign keys follow it, functions of its triggers
//!   foreign table ────────────► its server
//!   index ────────────────────► its table
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::Work;
use crate::catalog::builtin::{Builtin, classify};
use crate::catalog::snapshot::{
    Oid, Relation, RelationKind, Rule, RuleEvent, Snapshot, Volatility,
};
use crate::catalog::state::PG_CATALOG;
use crate::policy::{Columns, Object, Reached};
use crate::sql::facts::{Effect, Name, ObjectKind};

/// Relations behind one; with more, what is behind it is not known.
const REACHED_MAX: usize = 20_000;

/// Built-in functions that run SQL from their arguments: behind a view nobody has read it.
const RUN_SQL: &[&str] = &[
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "set_config",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "table_to_xmlschema",
    "ts_rewrite",
    "ts_stat",
];

/// Bits of `tgtype`.
const TRIGGER_INSERT: i16 = 4;
const TRIGGER_DELETE: i16 = 8;
const TRIGGER_UPDATE: i16 = 16;
const TRIGGER_TRUNCATE: i16 = 32;
const TRIGGER_INSTEAD: i16 = 64;

/// What is done to a relation that was come upon.
type Step = (Oid, Effect);

/// Steps that are known, with their columns, and those that are not followed yet.
#[derive(Default)]
struct Trail {
    known: BTreeMap<Step, Columns>,
    open: VecDeque<Step>,
}

impl Trail {
    fn add(&mut self, oid: Oid, action: Effect, columns: Columns) {
        let step = (oid, action);
        let merged = match self.known.get(&step) {
            Some(known) => merge(known, &columns),
            None => columns,
        };
        if self.known.get(&step) != Some(&merged) {
            self.known.insert(step, merged);
            self.open.push_back(step);
        }
    }
}

impl Work<'_> {
    /// Adds all that lies behind a relation that is named.
    pub(super) fn through(
        &mut self,
        named: &Relation,
        action: Effect,
        columns: Columns,
        with_children: bool,
    ) {
        let Some(catalog) = self.catalog else { return };
        let mut trail = Trail::default();
        trail.known.insert((named.oid, action), columns.clone());
        self.follow(catalog, named, action, &columns, with_children, &mut trail);
        while let Some((oid, action)) = trail.open.pop_front() {
            let Some(relation) = catalog.relation(oid) else {
                self.stale = true;
                self.code("relation that the catalog does not have");
                continue;
            };
            if trail.known.len() > REACHED_MAX {
                return self.code("too many relations behind one");
            }
            let columns = trail.known.get(&(oid, action)).cloned().unwrap_or(Columns::All);
            self.follow(catalog, relation, action, &columns, true, &mut trail);
        }
        for ((oid, effect), columns) in trail.known {
            if (oid, effect) == (named.oid, action) {
                continue;
            }
            if let Some(relation) = catalog.relation(oid) {
                self.behind(relation, effect, columns);
            }
        }
    }

    /// Adds a relation that is not named.
    pub(super) fn behind(&mut self, relation: &Relation, action: Effect, columns: Columns) {
        let (schema, name) = (Some(relation.schema.clone()), relation.name.clone());
        self.need(action, Object::Relation { schema, name, columns }, Reached::Through);
    }

    /// One step from a relation to those next to it.
    fn follow(
        &mut self,
        catalog: &Snapshot,
        relation: &Relation,
        action: Effect,
        columns: &Columns,
        with_children: bool,
        trail: &mut Trail,
    ) {
        let rows = on_rows(action);
        let shared = |action: Effect| {
            action != Effect::Insert || relation.kind == RelationKind::PartitionedTable
        };
        if with_children && shared(action) {
            for child in &relation.children {
                trail.add(*child, action, columns.clone());
            }
        }
        if rows {
            for parent in &relation.parents {
                trail.add(*parent, action, columns.clone());
            }
        }
        match relation.kind {
            RelationKind::View | RelationKind::MaterializedView => {
                self.follow_view(catalog, relation, action, trail);
            }
            RelationKind::Index => {
                if let Some(table) = relation.table {
                    trail.add(table, action, Columns::None);
                }
            }
            RelationKind::ForeignTable => {
                if let (Some(server), true) = (&relation.server, rows) {
                    let kind = ObjectKind::ForeignServer;
                    let object = Object::Other { kind, schema: None, name: server.clone() };
                    self.need(action, object, Reached::Through);
                }
            }
            RelationKind::Table
            | RelationKind::PartitionedTable
            | RelationKind::Sequence
            | RelationKind::Composite => {}
            RelationKind::Unknown => self.code("relation of an unknown kind"),
        }
        if let Some(event) = event(action) {
            for rule in relation.rules_on(event) {
                self.follow_rule(catalog, rule, &CHANGES, trail);
            }
        }
        self.triggers(catalog, relation, action);
        for key in catalog.foreign_keys_to(relation.oid) {
            let (letter, same) = match action {
                Effect::Delete => (key.on_delete, Effect::Delete),
                Effect::Update => (key.on_update, Effect::Update),
                // With CASCADE; without, the server refuses.
                Effect::Truncate => ('c', Effect::Truncate),
                _ => continue,
            };
            match letter {
                'c' if same == Effect::Update => trail.add(key.from, same, Columns::All),
                'c' => trail.add(key.from, same, Columns::None),
                'n' | 'd' => trail.add(key.from, Effect::Update, Columns::All),
                _ => {}
            }
        }
    }

    /// Reading a view reads its relations; a change that nothing else takes on is made to one of them.
    fn follow_view(
        &mut self,
        catalog: &Snapshot,
        view: &Relation,
        action: Effect,
        trail: &mut Trail,
    ) {
        let passed_on = match action {
            Effect::Select | Effect::CopyOut | Effect::Maintenance => Effect::Select,
            Effect::Lock => Effect::Lock,
            Effect::Insert | Effect::Update | Effect::Delete => {
                let instead = event(action)
                    .is_some_and(|event| view.rules_on(event).any(|rule| rule.instead));
                let by_trigger = view.triggers.iter().any(|trigger| {
                    trigger.bits & TRIGGER_INSTEAD != 0 && trigger.bits & bit(action) != 0
                });
                if instead || by_trigger {
                    return;
                }
                action
            }
            _ => return,
        };
        for rule in view.rules_on(RuleEvent::Select) {
            self.follow_rule(catalog, rule, &[passed_on], trail);
        }
    }

    fn follow_rule(
        &mut self,
        catalog: &Snapshot,
        rule: &Rule,
        actions: &[Effect],
        trail: &mut Trail,
    ) {
        for (oid, numbers) in &rule.relations {
            for &action in actions {
                let columns = match action {
                    Effect::Select => named_columns(catalog, *oid, numbers.as_deref()),
                    Effect::Insert | Effect::Update => Columns::All,
                    _ => Columns::None,
                };
                trail.add(*oid, action, columns);
            }
        }
        for function in &rule.functions {
            self.function_behind(catalog, *function);
        }
    }

    fn function_behind(&mut self, catalog: &Snapshot, oid: Oid) {
        if let Some(function) = catalog.function(oid) {
            if !function.only_computes() {
                let (schema, name) = (Some(function.schema.clone()), function.name.clone());
                self.need(Effect::Execute, Object::Function { schema, name }, Reached::Through);
            }
            return;
        }
        let Some(name) = catalog.builtin(oid) else {
            return self.code("function that the catalog does not have");
        };
        if RUN_SQL.binary_search(&name.as_str()).is_ok() {
            return self.code("query in an argument, behind a view");
        }
        let volatility =
            catalog.builtins_by_name.get(name).copied().unwrap_or(Volatility::Volatile);
        match classify(name.as_str(), volatility) {
            Builtin::Computes | Builtin::Names => {}
            Builtin::Acts(effect) => {
                let (schema, name) = (Some(Name::new(PG_CATALOG)), name.clone());
                self.need(effect, Object::Function { schema, name }, Reached::Through);
            }
        }
    }

    fn triggers(&mut self, catalog: &Snapshot, relation: &Relation, action: Effect) {
        for trigger in relation.triggers.iter().filter(|t| t.bits & bit(action) != 0) {
            self.function_behind(catalog, trigger.function);
        }
    }
}

/// What a rule that is no view's may do to the relations it names.
const CHANGES: [Effect; 4] = [Effect::Select, Effect::Insert, Effect::Update, Effect::Delete];

/// Whether it is done to rows, which a parent shares with its children.
fn on_rows(action: Effect) -> bool {
    matches!(
        action,
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
    )
}

fn event(action: Effect) -> Option<RuleEvent> {
    match action {
        Effect::Insert => Some(RuleEvent::Insert),
        Effect::Update => Some(RuleEvent::Update),
        Effect::Delete => Some(RuleEvent::Delete),
        _ => None,
    }
}

fn bit(action: Effect) -> i16 {
    match action {
        Effect::Insert => TRIGGER_INSERT,
        Effect::Update => TRIGGER_UPDATE,
        Effect::Delete => TRIGGER_DELETE,
        Effect::Truncate => TRIGGER_TRUNCATE,
        _ => 0,
    }
}

/// Names of columns by number; system columns have none.
fn named_columns(catalog: &Snapshot, oid: Oid, numbers: Option<&[i16]>) -> Columns {
    let (Some(relation), Some(numbers)) = (catalog.relation(oid), numbers) else {
        return Columns::All;
    };
    let numbers = numbers.iter().filter(|number| **number > 0);
    let names: Option<Vec<Name>> = numbers
        .map(|number| relation.column_number(*number).map(|column| column.name.clone()))
        .collect();
    match names {
        None => Columns::All,
        Some(names) if names.is_empty() => Columns::None,
        Some(mut names) => {
            names.sort();
            Columns::These(names)
        }
    }
}

fn merge(one: &Columns, other: &Columns) -> Columns {
    match (one, other) {
        (Columns::All, _) | (_, Columns::All) => Columns::All,
        (Columns::None, columns) | (columns, Columns::None) => columns.clone(),
        (Columns::These(one), Columns::These(other)) => {
            let mut names: Vec<Name> = one.iter().chain(other).cloned().collect();
            names.sort();
            names.dedup();
            Columns::These(names)
        }
    }
}
