//! Queries: what they read, and which names hide others.

use std::collections::HashSet;

use super::effect::{DdlVerb, Effect, ObjectKind};
use super::name::Name;
use super::node::NodeKind;
use super::tree::{Node, Value};
use super::walk::{Walk, bare, listed, range_name};
use super::{CallKind, Derived, DerivedKind, Place, RelationUse};

impl Walk<'_> {
    /// `SELECT`, `VALUES`, `TABLE`, and set operations over them. Levels are made by who calls.
    pub(super) fn select(&mut self, node: Node<'_>) {
        let hidden = self.with(node);
        let reads = self.relations.len();
        self.clause(node, "from_clause", Place::Other);
        let read = reads..self.relations.len();
        for arm in ["larg", "rarg"] {
            if let Some(arm) = node.node(arm) {
                self.level(|walk| walk.select(arm));
            }
        }
        self.clause(node, "where_clause", Place::Predicate);
        self.clause(node, "group_clause", Place::Group);
        self.clause(node, "having_clause", Place::Predicate);
        self.clause(node, "window_clause", Place::Group);
        self.clause(node, "target_list", Place::Output);
        self.clause(node, "distinct_clause", Place::Group);
        self.clause(node, "values_lists", Place::Value);
        self.clause(node, "sort_clause", Place::Order);
        for locking in node.nodes("locking_clause") {
            self.lock_rows(locking, read.clone());
        }
        self.at(Place::Other, |walk| walk.rest(node, SELECT_CLAUSES));
        self.ctes.truncate(hidden);
    }

    /// Common table expressions of a statement; gives how many names were visible before.
    pub(super) fn with(&mut self, node: Node<'_>) -> usize {
        let visible = self.ctes.len();
        let Some(with) = node.node("with_clause") else { return visible };
        let recursive = with.flag("recursive");
        if recursive {
            with.nodes("ctes").for_each(|cte| self.ctes.push(cte.text("ctename")));
        }
        for cte in with.nodes("ctes") {
            self.at(Place::Other, |walk| walk.rest(cte, &[]));
            // Without RECURSIVE it is not visible in itself: there its name is that of a table.
            if !recursive {
                self.ctes.push(cte.text("ctename"));
            }
        }
        self.rest(with, &["ctes"]);
        visible
    }

    /// `FOR UPDATE` and its like lock rows of what `FROM` names, subqueries included.
    fn lock_rows(&mut self, locking: Node<'_>, read: std::ops::Range<usize>) {
        self.effect(Effect::Lock);
        let of: HashSet<Name> =
            locking.nodes("locked_rels").map(|range| range_name(range).name).collect();
        let scope = self.scope;
        let here: HashSet<&Name> = self.relations[read.clone()]
            .iter()
            .filter(|relation| relation.scope == scope)
            .map(RelationUse::known_as)
            .collect();
        // A name that is no relation of this level is a subquery's, whose relations are locked.
        let deeper = of.iter().any(|name| !here.contains(name));
        for number in read {
            let relation = &self.relations[number];
            let locked =
                if relation.scope == scope { of.contains(relation.known_as()) } else { deeper };
            if locked || of.is_empty() {
                self.on(number, Effect::Lock);
            }
        }
        self.rest(locking, &["locked_rels"]);
    }

    /// Things that rows come from.
    pub(super) fn source(&mut self, node: Node<'_>) {
        match node.kind() {
            NodeKind::RangeVar => self.range(node),
            NodeKind::CommonTableExpr => self.rest(node, &[]),
            NodeKind::IntoClause => self.into(node, ObjectKind::Table),
            NodeKind::LockingClause => {
                self.effect(Effect::Lock);
                self.rest(node, &[]);
            }
            NodeKind::JoinExpr => self.join(node),
            NodeKind::RangeSubselect => {
                self.derived(DerivedKind::Subquery, node.node("alias"));
                self.rest(node, &["alias"]);
            }
            NodeKind::RangeFunction => self.range_function(node),
            NodeKind::RangeTableFunc => {
                self.derived(DerivedKind::Function, node.node("alias"));
                self.rest(node, &["alias"]);
            }
            NodeKind::JsonTable => {
                self.derived(DerivedKind::Function, node.node("alias"));
                self.keyword_call(node, "json_table");
            }
            _ => {
                // `TABLESAMPLE method (…)`
                let name = listed(node.nodes("method"));
                let count = node.list("args").count();
                let count = u16::try_from(count).unwrap_or(u16::MAX);
                self.function(CallKind::From, name, count, Vec::new);
                self.rest(node, &["method"]);
            }
        }
    }

    fn range(&mut self, node: Node<'_>) {
        let name = range_name(node);
        let plain = name.schema.is_none() && name.catalog.is_none();
        let reads = self.named == Effect::Select;
        if plain && reads && self.ctes.contains(name.name.as_str()) {
            let alias = node.node("alias").map(|alias| Name::new(alias.text("aliasname")));
            let (name, scope) = (alias.or(Some(name.name)), self.scope);
            self.derived.push(Derived { kind: DerivedKind::Cte, name, scope });
        } else {
            self.relation(node, &[self.named]);
        }
    }

    fn join(&mut self, node: Node<'_>) {
        for side in ["larg", "rarg"] {
            if let Some(side) = node.node(side) {
                self.node(side);
            }
        }
        self.at(Place::Join, |walk| {
            let merged = node.nodes("using_clause");
            if merged.clone().next().is_some() {
                walk.operator(bare("="), 2);
                walk.columns_named(merged);
            }
            if node.flag("is_natural") {
                walk.operator(bare("="), 2);
                walk.column(Vec::new(), None);
            }
        });
        self.clause(node, "quals", Place::Join);
        for alias in ["alias", "join_using_alias"] {
            if let Some(alias) = node.node(alias) {
                self.derived(DerivedKind::Join, Some(alias));
            }
        }
        self.rest(node, &["larg", "rarg", "quals", "alias", "join_using_alias", "using_clause"]);
    }

    fn range_function(&mut self, node: Node<'_>) {
        // Each is a list of the call and the columns that it was given.
        for item in node.nodes("functions") {
            for (_, part) in item.fields() {
                self.call_in_from(part);
            }
        }
        let alias = node.node("alias");
        self.derived(DerivedKind::Function, alias);
        // Without an alias, columns refer to the function's name.
        if alias.is_none() {
            let calls = node.nodes("functions").flat_map(|item| item.nodes("items"));
            for call in calls.filter(|call| call.kind() == NodeKind::FuncCall) {
                let name = Some(listed(call.nodes("funcname")).name);
                let (kind, scope) = (DerivedKind::Function, self.scope);
                self.derived.push(Derived { kind, name, scope });
            }
        }
        self.rest(node, &["functions", "alias"]);
    }

    fn call_in_from(&mut self, value: Value<'_>) {
        match value {
            Value::Node(node) if node.kind() == NodeKind::FuncCall => {
                self.function_call(node, CallKind::From);
            }
            Value::Node(node) => self.node(node),
            Value::List(items) => items.for_each(|(_, value)| self.call_in_from(value)),
            Value::Text(_) | Value::Number(_) | Value::True => {}
        }
    }

    /// `INTO t`, or the table of `CREATE TABLE t AS`.
    pub(super) fn into(&mut self, node: Node<'_>, kind: ObjectKind) {
        self.effect(Effect::Create);
        if let Some(range) = node.node("rel") {
            self.made(kind, range);
        }
        self.rest(node, &["rel", "col_names"]);
    }

    /// Notes the relation that a statement makes.
    pub(super) fn made(&mut self, kind: ObjectKind, range: Node<'_>) {
        let name = range_name(range);
        let temporary = range.text("relpersistence") == "t"
            || name.schema.as_ref().is_some_and(|schema| schema.as_str() == "pg_temp");
        self.object_for(DdlVerb::Create, kind, name, temporary);
    }

    /// Columns that a list of targets names, and the values for them. Gives the names.
    pub(super) fn targets(&mut self, node: Node<'_>, field: &str) -> Vec<Name> {
        let mut written = Vec::new();
        for target in node.nodes(field) {
            let name = target.text("name");
            if !name.is_empty() {
                written.push(Name::new(name));
            }
            self.at(Place::Value, |walk| walk.rest(target, &[]));
        }
        written
    }

    /// `RETURNING …`; gives the names for the old and the new row.
    pub(super) fn returning(&mut self, node: Node<'_>) -> HashSet<Name> {
        let mut rows = HashSet::new();
        if let Some(returning) = node.node("returning_clause") {
            let renamed = returning.nodes("options").map(|option| option.text("value"));
            for name in renamed.chain(["old", "new"]).map(Name::new) {
                let (kind, scope) = (DerivedKind::Row, self.scope);
                self.derived.push(Derived { kind, name: Some(name.clone()), scope });
                rows.insert(name);
            }
            self.at(Place::Output, |walk| walk.rest(returning, &[]));
        }
        rows
    }

    /// Whether columns named since `mark` may be the target's, so that it is read as well: those of other relations say so
    /// by a qualifier.
    pub(super) fn reads_target(&self, mark: usize, target: usize, rows: &HashSet<Name>) -> bool {
        let known = self.relations[target].known_as();
        self.columns.from(mark).iter().any(|column| match column.qualifiers.last() {
            None => true,
            Some(qualifier) => qualifier == known || rows.contains(qualifier),
        })
    }
}

const SELECT_CLAUSES: &[&str] = &[
    "with_clause",
    "from_clause",
    "larg",
    "rarg",
    "where_clause",
    "group_clause",
    "having_clause",
    "window_clause",
    "target_list",
    "distinct_clause",
    "values_lists",
    "sort_clause",
    "locking_clause",
];
