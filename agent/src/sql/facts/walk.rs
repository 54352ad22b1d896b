//! The walk over a statement's tree.
//!
//! Every node is met: what a method of a kind does not take by name is walked by [`Walk::rest`], so that a field nobody
//! thought of still gives its names. A kind that is not known is an [`Unknown::Node`], and its fields are walked as well.

use std::collections::{HashMap, HashSet};

use super::effect::{DdlVerb, Effect, Effects, ObjectKind};
use super::name::{Name, QualifiedName};
use super::node::NodeKind;
use super::stack::Stack;
use super::tree::{Node, Value};
use super::unique::Unique;
use super::{
    Call, ColumnUse, Derived, DerivedKind, Handle, Limits, ObjectUse, Place, Reading, RelationUse,
    SettingUse, Unknown,
};

/// Names of common table expressions that can be seen, innermost last.
#[derive(Debug, Default)]
pub(super) struct Visible {
    names: Vec<Box<str>>,
    /// How often each is there: inner ones hide outer ones.
    counts: HashMap<Box<str>, u32>,
}

impl Visible {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn push(&mut self, name: &str) {
        self.names.push(name.into());
        *self.counts.entry(name.into()).or_default() += 1;
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.counts.get(name).is_some_and(|count| *count > 0)
    }

    /// Forgets all but the outermost of this number.
    pub(super) fn truncate(&mut self, length: usize) {
        for name in self.names.drain(length..) {
            if let Some(count) = self.counts.get_mut(&name) {
                *count -= 1;
            }
        }
    }
}

/// What is known so far of a statement, and where the walk is.
pub(super) struct Walk<'l> {
    pub(super) effects: Effects,
    pub(super) parents: Vec<u32>,
    pub(super) relations: Vec<RelationUse>,
    pub(super) derived: Vec<Derived>,
    pub(super) columns: Unique<ColumnUse>,
    pub(super) calls: Unique<Call>,
    pub(super) objects: Vec<ObjectUse>,
    pub(super) settings: Vec<SettingUse>,
    pub(super) handles: Vec<Handle>,
    pub(super) roles: Unique<Name>,
    pub(super) unknown: Unique<Unknown>,
    /// Query level that the walk is in.
    pub(super) scope: u32,
    /// Clause that the walk is in.
    pub(super) place: Place,
    /// Names of common table expressions that can be seen.
    pub(super) ctes: Visible,
    /// Names by which columns may refer to a row, of the sources counted in `rows_of`.
    rows: HashSet<Name>,
    rows_of: (usize, usize),
    /// What is done to a relation that is named by no clause of its own.
    pub(super) named: Effect,
    /// Schema of the `CREATE SCHEMA` around.
    pub(super) schema: Option<Name>,
    /// Settings are for later: they belong to a function, role or database.
    pub(super) stored: bool,
    /// How texts in constants are read.
    pub(super) reading: Reading,
    pub(super) limits: &'l Limits,
    /// Texts in constants of texts in constants.
    pub(super) nesting: u32,
    pub(super) stack: Stack,
}

impl<'l> Walk<'l> {
    pub(super) fn new(reading: Reading, limits: &'l Limits, stack: Stack) -> Self {
        Self {
            effects: Effects::NONE,
            parents: vec![0],
            relations: Vec::new(),
            derived: Vec::new(),
            columns: Unique::default(),
            calls: Unique::default(),
            objects: Vec::new(),
            settings: Vec::new(),
            handles: Vec::new(),
            roles: Unique::default(),
            unknown: Unique::default(),
            scope: 0,
            place: Place::Other,
            ctes: Visible::default(),
            rows: HashSet::new(),
            rows_of: (0, 0),
            named: Effect::Select,
            schema: None,
            stored: false,
            reading,
            limits,
            nesting: 0,
            stack,
        }
    }

    /// Walks a node and all that is inside of it.
    pub(super) fn node(&mut self, node: Node<'_>) {
        if self.stack.is_low() {
            self.unknown.add(Unknown::TooDeep);
        } else {
            self.dispatch(node);
        }
    }

    /// Walks the fields of a node that are not named in `done`.
    pub(super) fn rest(&mut self, node: Node<'_>, done: &[&str]) {
        for (field, value) in node.fields() {
            if !done.contains(&field) {
                self.value(value);
            }
        }
    }

    /// Walks a field, if it is there, as part of a clause.
    pub(super) fn clause(&mut self, node: Node<'_>, field: &str, place: Place) {
        if let Some(value) = node.field(field) {
            self.at(place, |walk| walk.value(value));
        }
    }

    /// Does something as part of a clause.
    pub(super) fn at(&mut self, place: Place, walk: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.place, place);
        walk(self);
        self.place = before;
    }

    /// Does something in a query level of its own.
    pub(super) fn level(&mut self, walk: impl FnOnce(&mut Self)) {
        let (scope, place) = (self.scope, self.place);
        // Levels are fewer than bytes of the text.
        self.scope = u32::try_from(self.parents.len()).unwrap_or(u32::MAX);
        self.parents.push(scope);
        walk(self);
        (self.scope, self.place) = (scope, place);
    }

    pub(super) fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Node(node) => self.node(node),
            Value::List(items) => items.for_each(|(_, value)| self.value(value)),
            Value::Text(_) | Value::Number(_) | Value::True => {}
        }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.insert(effect);
    }

    pub(super) fn code(&mut self, what: &'static str) {
        self.unknown.add(Unknown::Code(what));
    }

    pub(super) fn role(&mut self, name: &str) {
        if !name.is_empty() {
            self.roles.add(Name::new(name));
        }
    }

    /// Notes a relation that a `RangeVar` names, with what is done to it. Its number in the list.
    pub(super) fn relation(&mut self, range: Node<'_>, effects: &[Effect]) -> usize {
        let mut set = Effects::NONE;
        for effect in effects {
            set.insert(*effect);
            self.effect(*effect);
        }
        let alias = range.node("alias");
        self.relations.push(RelationUse {
            name: range_name(range),
            effects: set,
            alias: alias.map(|alias| Name::new(alias.text("aliasname"))),
            renamed: alias.map(|alias| names(alias.nodes("colnames"))).unwrap_or_default(),
            only: !range.flag("inh"),
            written: Vec::new(),
            scope: self.scope,
        });
        self.relations.len() - 1
    }

    /// Adds an effect on a relation that was noted.
    pub(super) fn on(&mut self, relation: usize, effect: Effect) {
        self.relations[relation].effects.insert(effect);
        self.effect(effect);
    }

    /// Whether a name is that of a source of rows, on any level.
    pub(super) fn is_row(&mut self, name: &Name) -> bool {
        let (relations, derived) = self.rows_of;
        let known = self.relations[relations..].iter().map(RelationUse::known_as);
        self.rows.extend(known.cloned());
        let known = self.derived[derived..].iter().filter_map(|derived| derived.name.as_ref());
        self.rows.extend(known.cloned());
        self.rows_of = (self.relations.len(), self.derived.len());
        self.rows.contains(name)
    }

    /// Notes a source of rows that is no relation.
    pub(super) fn derived(&mut self, kind: DerivedKind, alias: Option<Node<'_>>) {
        let name = alias.map(|alias| Name::new(alias.text("aliasname")));
        self.derived.push(Derived { kind, name, scope: self.scope });
    }

    pub(super) fn object(&mut self, verb: DdlVerb, kind: ObjectKind, name: QualifiedName) {
        self.object_for(verb, kind, name, false);
    }

    pub(super) fn object_for(
        &mut self,
        verb: DdlVerb,
        kind: ObjectKind,
        mut name: QualifiedName,
        temporary: bool,
    ) {
        if verb == DdlVerb::Create && name.schema.is_none() && !temporary {
            name.schema.clone_from(&self.schema);
        }
        self.objects.push(ObjectUse { verb, kind, name, temporary });
    }

    fn dispatch(&mut self, node: Node<'_>) {
        use NodeKind as K;
        match node.kind() {
            // Nothing but what is inside.
            K::AConst
            | K::AStar
            | K::BitString
            | K::Boolean
            | K::Float
            | K::IntList
            | K::Integer
            | K::List
            | K::OidList
            | K::ParamRef
            | K::String
            | K::AArrayExpr
            | K::AIndices
            | K::BoolExpr
            | K::BooleanTest
            | K::CaseWhen
            | K::CoalesceExpr
            | K::CollateClause
            | K::GroupingFunc
            | K::MinMaxExpr
            | K::MultiAssignRef
            | K::NamedArgExpr
            | K::NullTest
            | K::RowExpr
            | K::SetToDefault
            | K::SqlValueFunction
            | K::XmlExpr
            | K::XmlSerialize
            | K::JsonAggConstructor
            | K::JsonArgument
            | K::JsonBehavior
            | K::JsonFormat
            | K::JsonKeyValue
            | K::JsonOutput
            | K::JsonReturning
            | K::JsonTableColumn
            | K::JsonTablePathSpec
            | K::JsonValueExpr
            | K::Alias
            | K::CteCycleClause
            | K::CteSearchClause
            | K::GroupingSet
            | K::InferClause
            | K::MergeWhenClause
            | K::OnConflictClause
            | K::RangeTableFuncCol
            | K::ResTarget
            | K::ReturningClause
            | K::ReturningOption
            | K::WithClause
            | K::ReturnStmt
            | K::AccessPriv
            | K::AtAlterConstraint
            | K::ColumnDef
            | K::CreateOpClassItem
            | K::FunctionParameter
            | K::PartitionBoundSpec
            | K::PartitionCmd
            | K::PartitionRangeDatum
            | K::PartitionSpec
            | K::PublicationObjSpec
            | K::ReplicaIdentityStmt
            | K::TriggerTransition => {
                self.rest(node, &[]);
            }
            K::AExpr => self.operator_expression(node),
            K::AIndirection => self.indirection(node),
            K::CaseExpr => self.case(node),
            K::ColumnRef => self.column_ref(node),
            K::CurrentOfExpr => self.current_of(node),
            K::FuncCall => self.function_call(node, super::CallKind::Function),
            K::SubLink => self.sub_link(node),
            K::TypeCast => self.rest(node, &[]),
            K::TypeName => self.type_name(node),
            K::WindowDef => self.window(node),
            K::SortBy => self.sort_by(node),
            K::JsonArrayAgg => self.keyword_call(node, "json_arrayagg"),
            K::JsonArrayConstructor | K::JsonArrayQueryConstructor => {
                self.keyword_call(node, "json_array");
            }
            K::JsonFuncExpr => self.json_function(node),
            K::JsonIsPredicate => self.rest(node, &[]),
            K::JsonObjectAgg => self.keyword_call(node, "json_objectagg"),
            K::JsonObjectConstructor => self.keyword_call(node, "json_object"),
            K::JsonParseExpr => self.keyword_call(node, "json"),
            K::JsonScalarExpr => self.keyword_call(node, "json_scalar"),
            K::JsonSerializeExpr => self.keyword_call(node, "json_serialize"),
            K::MergeSupportFunc => self.keyword_call(node, "merge_action"),
            K::CommonTableExpr
            | K::IntoClause
            | K::JoinExpr
            | K::LockingClause
            | K::RangeFunction
            | K::RangeSubselect
            | K::RangeTableFunc
            | K::RangeTableSample
            | K::JsonTable
            | K::RangeVar => self.source(node),
            K::IndexElem | K::PartitionElem | K::StatsElem => self.element(node),
            K::CallStmt
            | K::CopyStmt
            | K::DeleteStmt
            | K::InsertStmt
            | K::MergeStmt
            | K::SelectStmt
            | K::TruncateStmt
            | K::UpdateStmt => self.rows(node),
            K::ClosePortalStmt
            | K::ConstraintsSetStmt
            | K::DeallocateStmt
            | K::DeclareCursorStmt
            | K::DiscardStmt
            | K::DoStmt
            | K::ExecuteStmt
            | K::ExplainStmt
            | K::FetchStmt
            | K::ListenStmt
            | K::LoadStmt
            | K::LockStmt
            | K::NotifyStmt
            | K::PrepareStmt
            | K::TransactionStmt
            | K::UnlistenStmt
            | K::VariableSetStmt
            | K::VariableShowStmt => self.session(node),
            K::AlterTableCmd
            | K::Constraint
            | K::DefElem
            | K::ObjectWithArgs
            | K::PublicationTable
            | K::RoleSpec
            | K::TableLikeClause
            | K::VacuumRelation => {
                self.part(node);
            }
            K::AlterCollationStmt
            | K::AlterDatabaseRefreshCollStmt
            | K::AlterDatabaseSetStmt
            | K::AlterDatabaseStmt
            | K::AlterDomainStmt
            | K::AlterEnumStmt
            | K::AlterEventTrigStmt
            | K::AlterExtensionContentsStmt
            | K::AlterExtensionStmt
            | K::AlterFdwStmt
            | K::AlterForeignServerStmt
            | K::AlterFunctionStmt
            | K::AlterObjectDependsStmt
            | K::AlterObjectSchemaStmt
            | K::AlterOpFamilyStmt
            | K::AlterOperatorStmt
            | K::AlterOwnerStmt
            | K::AlterPolicyStmt
            | K::AlterPublicationStmt
            | K::AlterSeqStmt
            | K::AlterStatsStmt
            | K::AlterSubscriptionStmt
            | K::AlterTableMoveAllStmt
            | K::AlterTableSpaceOptionsStmt
            | K::AlterTableStmt
            | K::AlterTsConfigurationStmt
            | K::AlterTsDictionaryStmt
            | K::AlterTypeStmt
            | K::AlterUserMappingStmt
            | K::CommentStmt
            | K::RenameStmt
            | K::SecLabelStmt => self.alteration(node),
            K::CompositeTypeStmt
            | K::CreateAmStmt
            | K::CreateCastStmt
            | K::CreateConversionStmt
            | K::CreateDomainStmt
            | K::CreateEnumStmt
            | K::CreateEventTrigStmt
            | K::CreateExtensionStmt
            | K::CreateFdwStmt
            | K::CreateForeignServerStmt
            | K::CreateForeignTableStmt
            | K::CreateFunctionStmt
            | K::CreateOpClassStmt
            | K::CreateOpFamilyStmt
            | K::CreatePLangStmt
            | K::CreatePolicyStmt
            | K::CreatePublicationStmt
            | K::CreateRangeStmt
            | K::CreateSchemaStmt
            | K::CreateSeqStmt
            | K::CreateStatsStmt
            | K::CreateStmt
            | K::CreateSubscriptionStmt
            | K::CreateTableAsStmt
            | K::CreateTableSpaceStmt
            | K::CreateTransformStmt
            | K::CreateTrigStmt
            | K::CreateUserMappingStmt
            | K::CreatedbStmt
            | K::DefineStmt
            | K::ImportForeignSchemaStmt
            | K::IndexStmt
            | K::RuleStmt
            | K::ViewStmt => {
                self.creation(node);
            }
            K::AlterDefaultPrivilegesStmt
            | K::AlterRoleSetStmt
            | K::AlterRoleStmt
            | K::AlterSystemStmt
            | K::CheckPointStmt
            | K::ClusterStmt
            | K::CreateRoleStmt
            | K::DropOwnedStmt
            | K::DropRoleStmt
            | K::DropStmt
            | K::DropSubscriptionStmt
            | K::DropTableSpaceStmt
            | K::DropUserMappingStmt
            | K::DropdbStmt
            | K::GrantRoleStmt
            | K::GrantStmt
            | K::ReassignOwnedStmt
            | K::RefreshMatViewStmt
            | K::ReindexStmt
            | K::VacuumStmt => self.administration(node),
            K::Unknown => {
                self.unknown.add(Unknown::Node(node.name().into()));
                self.rest(node, &[]);
            }
        }
    }
}

/// The string of a `String` node.
pub(super) fn string(node: Node<'_>) -> Option<&str> {
    (node.kind() == NodeKind::String).then(|| node.text("sval"))
}

/// Names that a list of `String` nodes holds.
pub(super) fn names<'t>(nodes: impl Iterator<Item = Node<'t>>) -> Vec<Name> {
    nodes.filter_map(string).map(Name::new).collect()
}

/// A name of up to three parts; of more, which the server refuses, the last three.
pub(super) fn qualified(mut parts: Vec<Name>) -> QualifiedName {
    let name = parts.pop().unwrap_or_else(|| Name::new(""));
    let schema = parts.pop();
    QualifiedName { catalog: parts.pop(), schema, name }
}

/// The name in a list of `String` nodes.
pub(super) fn listed<'t>(nodes: impl Iterator<Item = Node<'t>>) -> QualifiedName {
    qualified(names(nodes))
}

/// A name of one part; empty for a thing without a name.
pub(super) fn bare(name: &str) -> QualifiedName {
    QualifiedName::bare(Name::new(name))
}

/// The relation that a `RangeVar` names.
pub(super) fn range_name(range: Node<'_>) -> QualifiedName {
    let part = |field| Some(range.text(field)).filter(|text| !text.is_empty()).map(Name::new);
    QualifiedName {
        catalog: part("catalogname"),
        schema: part("schemaname"),
        name: Name::new(range.text("relname")),
    }
}
