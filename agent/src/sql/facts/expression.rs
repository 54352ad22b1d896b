//! Names in expressions: columns, functions, operators and types.

use pg_query::protobuf::{AExprKind, JsonExprOp, SubLinkType};

use super::name::{Name, QualifiedName};
use super::node::NodeKind;
use super::tree::{Node, Value};
use super::walk::{Walk, bare, listed, names, qualified, string};
use super::{Call, CallKind, ColumnUse, Handle, Place};

impl Walk<'_> {
    /// `a`, `a.b`, `a.*`.
    pub(super) fn column_ref(&mut self, node: Node<'_>) {
        let mut qualifiers = Vec::new();
        let mut column = None;
        for field in node.nodes("fields") {
            if let Some(before) = column.take() {
                qualifiers.push(before);
            }
            column = string(field).map(Name::new);
        }
        if let (Some(name), false) = (&column, qualifiers.is_empty()) {
            self.field(name.clone(), None);
        }
        self.column(qualifiers, column);
        self.rest(node, &["fields"]);
    }

    pub(super) fn column(&mut self, qualifiers: Vec<Name>, column: Option<Name>) {
        let (place, scope) = (self.place, self.scope);
        self.columns.add(ColumnUse { qualifiers, column, place, scope });
    }

    /// Columns that a list of `String` nodes names.
    pub(super) fn columns_named<'t>(&mut self, nodes: impl Iterator<Item = Node<'t>>) {
        for name in nodes.filter_map(string) {
            self.column(Vec::new(), Some(Name::new(name)));
        }
    }

    /// What may be a column of a row, and may be a function of one argument.
    fn field(&mut self, name: Name, argument: Option<Node<'_>>) {
        let name = QualifiedName::bare(name);
        self.function(CallKind::Field, name, 1, || argument.into_iter().map(Some).collect());
    }

    /// `(a).b`, `(a).*`, `a[1]`.
    pub(super) fn indirection(&mut self, node: Node<'_>) {
        let argument = node.node("arg");
        let reference = argument.filter(|argument| argument.kind() == NodeKind::ColumnRef);
        let mut first = true;
        for part in node.nodes("indirection") {
            let name = string(part).map(Name::new);
            if let Some(name) = &name {
                self.field(name.clone(), argument.filter(|_| first));
            }
            if let (Some(reference), true) = (reference, first)
                && (name.is_some() || part.kind() == NodeKind::AStar)
            {
                self.column(names(reference.nodes("fields")), name);
            }
            first = false;
        }
        self.rest(node, &[]);
    }

    /// `a = b` and everything else that the grammar takes for an operator.
    pub(super) fn operator_expression(&mut self, node: Node<'_>) {
        use AExprKind as E;
        let kind = i32::try_from(node.number("kind")).ok();
        let kind = kind.and_then(|kind| E::try_from(kind).ok());
        let arguments = if node.node("lexpr").is_some() { 2 } else { 1 };
        // The name of these is their keyword; the server compares with operators found by name.
        let symbols: &[&str] = match kind {
            Some(E::AexprBetween) => &[">=", "<="],
            Some(E::AexprNotBetween) => &["<", ">"],
            Some(E::AexprBetweenSym) => &[">=", "<="],
            Some(E::AexprNotBetweenSym) => &["<", ">"],
            _ => &[],
        };
        if symbols.is_empty() {
            self.operator(listed(node.nodes("name")), arguments);
        }
        for symbol in symbols {
            self.operator(bare(symbol), 2);
        }
        self.rest(node, &["name"]);
    }

    pub(super) fn operator(&mut self, name: QualifiedName, arguments: u16) {
        let constants = Vec::new();
        self.calls.add(Call { what: CallKind::Operator, name, arguments, constants });
    }

    /// `CASE a WHEN b` compares with the operator `=`.
    pub(super) fn case(&mut self, node: Node<'_>) {
        if node.node("arg").is_some() {
            self.operator(bare("="), 2);
        }
        self.rest(node, &[]);
    }

    /// A query in an expression. `a IN (SELECT …)` compares with `=`, of which the tree says nothing.
    pub(super) fn sub_link(&mut self, node: Node<'_>) {
        if node.list("oper_name").next().is_some() {
            self.operator(listed(node.nodes("oper_name")), 2);
        } else if node.number("sub_link_type") == SubLinkType::AnySublink as i64 {
            self.operator(bare("="), 2);
        }
        self.rest(node, &["oper_name"]);
    }

    pub(super) fn current_of(&mut self, node: Node<'_>) {
        self.handles.push(Handle::CurrentOf(Name::new(node.text("cursor_name"))));
        self.rest(node, &[]);
    }

    pub(super) fn type_name(&mut self, node: Node<'_>) {
        let parts = names(node.nodes("names"));
        if !parts.is_empty() {
            let name = qualified(parts);
            let constants = Vec::new();
            self.calls.add(Call { what: CallKind::Type, name, arguments: 1, constants });
        }
        self.rest(node, &["names"]);
    }

    pub(super) fn window(&mut self, node: Node<'_>) {
        self.clause(node, "partition_clause", Place::Group);
        self.clause(node, "order_clause", Place::Order);
        self.rest(node, &["partition_clause", "order_clause"]);
    }

    pub(super) fn sort_by(&mut self, node: Node<'_>) {
        if node.list("use_op").next().is_some() {
            self.operator(listed(node.nodes("use_op")), 2);
        }
        self.clause(node, "node", Place::Order);
        self.rest(node, &["node", "use_op"]);
    }

    pub(super) fn function_call(&mut self, node: Node<'_>, what: CallKind) {
        let name = listed(node.nodes("funcname"));
        let arguments = node.nodes("args");
        let count = u16::try_from(arguments.clone().count()).unwrap_or(u16::MAX);
        if count == 1
            && name.schema.is_none()
            && let Some(argument) = arguments.clone().next()
        {
            self.projection(&name.name, argument);
        }
        // What is not in its place can't be told by its place.
        let moved = node.flag("func_variadic")
            || arguments.clone().any(|argument| argument.kind() == NodeKind::NamedArgExpr);
        self.function(what, name, count, || {
            arguments.map(|argument| Some(argument).filter(|_| !moved)).collect()
        });
        self.clause(node, "agg_filter", Place::Predicate);
        self.clause(node, "agg_order", Place::Order);
        self.rest(node, &["funcname", "agg_filter", "agg_order"]);
    }

    /// `f(t)` may be the column `f` of a row of `t`.
    fn projection(&mut self, function: &Name, argument: Node<'_>) {
        if argument.kind() != NodeKind::ColumnRef {
            return;
        }
        let row = names(argument.nodes("fields"));
        let Some(name) = row.last() else { return };
        if self.is_row(name) {
            self.column(row, Some(function.clone()));
        }
    }

    /// A call of a function by name. `arguments` are asked for where they decide: `None` for one that can't be told.
    pub(super) fn function<'t>(
        &mut self,
        what: CallKind,
        name: QualifiedName,
        count: u16,
        arguments: impl FnOnce() -> Vec<Option<Node<'t>>>,
    ) {
        let mut constants = Vec::new();
        if let Some(special) = super::special::find(name.name.as_str()) {
            if special.wants_constants() {
                constants = arguments().into_iter().map(|node| node.and_then(constant)).collect();
            }
            self.special(special, &constants);
        }
        self.calls.add(Call { what, name, arguments: count, constants });
    }

    /// A construct with a grammar of its own, which older servers take for a call of a function of that name.
    pub(super) fn keyword_call(&mut self, node: Node<'_>, name: &'static str) {
        let arguments = node.list("exprs").count().max(1);
        let arguments = u16::try_from(arguments).unwrap_or(u16::MAX);
        let constants = Vec::new();
        self.calls.add(Call { what: CallKind::Function, name: bare(name), arguments, constants });
        self.rest(node, &[]);
    }

    pub(super) fn json_function(&mut self, node: Node<'_>) {
        let is = |op: JsonExprOp| node.number("op") == op as i64;
        let name = if is(JsonExprOp::JsonExistsOp) {
            "json_exists"
        } else if is(JsonExprOp::JsonQueryOp) {
            "json_query"
        } else {
            "json_value"
        };
        self.keyword_call(node, name);
    }

    /// A column, or an expression, of an index, a partition key or a statistics object.
    pub(super) fn element(&mut self, node: Node<'_>) {
        if !node.text("name").is_empty() {
            self.column(Vec::new(), Some(Name::new(node.text("name"))));
        }
        self.rest(node, &["opclass", "collation"]);
    }
}

/// The value of a string or number that is written as one, with casts or without.
pub(super) fn constant(mut node: Node<'_>) -> Option<Box<str>> {
    while node.kind() == NodeKind::TypeCast {
        node = node.node("arg")?;
    }
    if node.kind() != NodeKind::AConst {
        return None;
    }
    let Some(Value::Node(value)) = node.field("val") else { return None };
    match value.kind() {
        NodeKind::String => Some(value.text("sval").into()),
        NodeKind::Integer => Some(value.number("ival").to_string().into()),
        NodeKind::Float => Some(value.text("fval").into()),
        NodeKind::Boolean => Some(if value.flag("boolval") { "true" } else { "false" }.into()),
        _ => None,
    }
}
