//! Statements that read and write rows.

use pg_query::protobuf::{CmdType, OnConflictAction};

use super::effect::Effect;
use super::name::Name;
use super::node::NodeKind;
use super::tree::Node;
use super::walk::{Walk, names};
use super::{CallKind, Derived, DerivedKind, Place};

impl Walk<'_> {
    /// A statement inside of another one, on a level of its own.
    pub(super) fn rows(&mut self, node: Node<'_>) {
        self.level(|walk| walk.rows_here(node));
    }

    /// A statement on the level that the walk is in.
    pub(super) fn rows_here(&mut self, node: Node<'_>) {
        let named = std::mem::replace(&mut self.named, Effect::Select);
        match node.kind() {
            NodeKind::SelectStmt => {
                self.effect(Effect::Select);
                self.select(node);
            }
            NodeKind::InsertStmt => self.insert(node),
            NodeKind::UpdateStmt => self.update(node),
            NodeKind::DeleteStmt => self.delete(node),
            NodeKind::MergeStmt => self.merge(node),
            NodeKind::CopyStmt => self.copy(node),
            NodeKind::TruncateStmt => {
                for relation in node.nodes("relations") {
                    self.relation(relation, &[Effect::Truncate]);
                }
                self.rest(node, &["relations"]);
            }
            _ => self.call(node),
        }
        self.named = named;
    }

    fn insert(&mut self, node: Node<'_>) {
        let hidden = self.with(node);
        let Some(range) = node.node("relation") else { return };
        let target = self.relation(range, &[Effect::Insert]);
        let mut written = self.targets(node, "cols");
        if let Some(query) = node.node("select_stmt") {
            // VALUES reads nothing by itself.
            if query.list("values_lists").next().is_none() {
                self.effect(Effect::Select);
            }
            self.level(|walk| walk.select(query));
        }
        let mark = self.columns.len();
        if let Some(conflict) = node.node("on_conflict_clause") {
            let (kind, scope) = (DerivedKind::Row, self.scope);
            let name = Some(Name::new("excluded"));
            self.derived.push(Derived { kind, name, scope });
            if conflict.number("action") == OnConflictAction::OnconflictUpdate as i64 {
                self.on(target, Effect::Update);
            }
            // The server asks for the right to read of who names a constraint, too.
            if conflict.node("infer").is_some() {
                self.on(target, Effect::Select);
            }
            self.clause(conflict, "infer", Place::Predicate);
            written.extend(self.targets(conflict, "target_list"));
            self.clause(conflict, "where_clause", Place::Predicate);
            self.rest(conflict, &["infer", "target_list", "where_clause"]);
        }
        let rows = self.returning(node);
        if self.reads_target(mark, target, &rows) {
            self.on(target, Effect::Select);
        }
        self.relations[target].written = written;
        let done = ["relation", "cols", "select_stmt", "on_conflict_clause", "returning_clause"];
        self.rest(node, &[&done[..], &["with_clause"]].concat());
        self.ctes.truncate(hidden);
    }

    fn update(&mut self, node: Node<'_>) {
        let hidden = self.with(node);
        let Some(range) = node.node("relation") else { return };
        let target = self.relation(range, &[Effect::Update]);
        let mark = self.columns.len();
        self.clause(node, "from_clause", Place::Other);
        let written = self.targets(node, "target_list");
        self.clause(node, "where_clause", Place::Predicate);
        let rows = self.returning(node);
        if self.reads_target(mark, target, &rows) {
            self.on(target, Effect::Select);
        }
        let settings = self.relations[target].name.name.as_str() == "pg_settings";
        if settings {
            // A rule of the view does what set_config does.
            self.setting(super::ANY_SETTING, super::SettingAccess::Set, None);
        }
        self.relations[target].written = written;
        let done = ["relation", "from_clause", "target_list", "where_clause", "returning_clause"];
        self.rest(node, &[&done[..], &["with_clause"]].concat());
        self.ctes.truncate(hidden);
    }

    fn delete(&mut self, node: Node<'_>) {
        let hidden = self.with(node);
        let Some(range) = node.node("relation") else { return };
        let target = self.relation(range, &[Effect::Delete]);
        let mark = self.columns.len();
        self.clause(node, "using_clause", Place::Other);
        self.clause(node, "where_clause", Place::Predicate);
        let rows = self.returning(node);
        if self.reads_target(mark, target, &rows) {
            self.on(target, Effect::Select);
        }
        let done = ["relation", "using_clause", "where_clause", "returning_clause", "with_clause"];
        self.rest(node, &done);
        self.ctes.truncate(hidden);
    }

    fn merge(&mut self, node: Node<'_>) {
        let hidden = self.with(node);
        let Some(range) = node.node("relation") else { return };
        let target = self.relation(range, &[Effect::Select]);
        self.clause(node, "source_relation", Place::Other);
        self.clause(node, "join_condition", Place::Join);
        let mut written = Vec::new();
        for when in node.nodes("merge_when_clauses") {
            let does = |command: CmdType| when.number("command_type") == command as i64;
            if does(CmdType::CmdInsert) {
                self.on(target, Effect::Insert);
            } else if does(CmdType::CmdUpdate) {
                self.on(target, Effect::Update);
            } else if does(CmdType::CmdDelete) {
                self.on(target, Effect::Delete);
            }
            self.clause(when, "condition", Place::Predicate);
            written.extend(self.targets(when, "target_list"));
            self.clause(when, "values", Place::Value);
            self.rest(when, &["condition", "target_list", "values"]);
        }
        self.returning(node);
        self.relations[target].written = written;
        let done =
            ["relation", "source_relation", "join_condition", "merge_when_clauses", "with_clause"];
        self.rest(node, &[&done[..], &["returning_clause"]].concat());
        self.ctes.truncate(hidden);
    }

    fn copy(&mut self, node: Node<'_>) {
        let from = node.flag("is_from");
        let file = if node.flag("is_program") {
            Some(Effect::CopyProgram)
        } else {
            Some(Effect::CopyFile).filter(|_| !node.text("filename").is_empty())
        };
        self.effect(file.unwrap_or(if from { Effect::CopyIn } else { Effect::CopyOut }));
        let columns = names(node.nodes("attlist"));
        if let Some(range) = node.node("relation") {
            let does = if from { Effect::Insert } else { Effect::Select };
            let relation = self.relation(range, &[does]);
            if from {
                self.relations[relation].written = columns;
            } else if columns.is_empty() {
                self.at(Place::Output, |walk| walk.column(Vec::new(), None));
            } else {
                self.at(Place::Output, |walk| walk.columns_named(node.nodes("attlist")));
            }
        }
        self.clause(node, "where_clause", Place::Predicate);
        self.rest(node, &["relation", "attlist", "where_clause"]);
    }

    fn call(&mut self, node: Node<'_>) {
        self.effect(Effect::Call);
        if let Some(call) = node.node("funccall") {
            self.function_call(call, CallKind::Procedure);
        }
        self.rest(node, &["funccall"]);
    }
}
