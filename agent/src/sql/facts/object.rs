//! Objects that definitions name.

use pg_query::protobuf::ObjectType;

use super::RelationUse;
use super::effect::{DdlVerb, Effect, ObjectKind};
use super::name::{Name, QualifiedName};
use super::node::NodeKind;
use super::tree::Node;
use super::walk::{Walk, bare, listed, names, qualified, range_name, string};

/// The type of object in a field, by the grammar's number.
pub(super) fn object_type(node: Node<'_>, field: &str) -> ObjectType {
    let number = i32::try_from(node.number(field)).ok();
    number.and_then(|number| ObjectType::try_from(number).ok()).unwrap_or(ObjectType::Undefined)
}

/// The word for a type of object. Parts of a thing (columns, constraints) are that thing.
pub(super) fn object_kind(object: ObjectType) -> ObjectKind {
    use ObjectKind as K;
    use ObjectType as T;
    match object {
        T::ObjectAccessMethod => K::AccessMethod,
        T::ObjectAggregate => K::Aggregate,
        T::ObjectAmop | T::ObjectAmproc | T::ObjectOpfamily => K::OperatorFamily,
        T::ObjectAttribute | T::ObjectType => K::Type,
        T::ObjectCast => K::Cast,
        T::ObjectColumn | T::ObjectTabconstraint | T::ObjectTable | T::ObjectDefault => K::Table,
        T::ObjectCollation => K::Collation,
        T::ObjectConversion => K::Conversion,
        T::ObjectDatabase => K::Database,
        T::ObjectDomain | T::ObjectDomconstraint => K::Domain,
        T::ObjectEventTrigger => K::EventTrigger,
        T::ObjectExtension => K::Extension,
        T::ObjectFdw => K::ForeignDataWrapper,
        T::ObjectForeignServer => K::ForeignServer,
        T::ObjectForeignTable => K::ForeignTable,
        T::ObjectFunction | T::ObjectRoutine => K::Function,
        T::ObjectIndex => K::Index,
        T::ObjectLanguage => K::Language,
        T::ObjectLargeobject => K::LargeObject,
        T::ObjectMatview => K::MaterializedView,
        T::ObjectOpclass => K::OperatorClass,
        T::ObjectOperator => K::Operator,
        T::ObjectPolicy => K::Policy,
        T::ObjectProcedure => K::Procedure,
        T::ObjectPublication | T::ObjectPublicationNamespace | T::ObjectPublicationRel => {
            K::Publication
        }
        T::ObjectRole => K::Role,
        T::ObjectRule => K::Rule,
        T::ObjectSchema => K::Schema,
        T::ObjectSequence => K::Sequence,
        T::ObjectSubscription => K::Subscription,
        T::ObjectStatisticExt => K::Statistics,
        T::ObjectTablespace => K::Tablespace,
        T::ObjectTransform => K::Transform,
        T::ObjectTrigger => K::Trigger,
        T::ObjectTsconfiguration
        | T::ObjectTsdictionary
        | T::ObjectTsparser
        | T::ObjectTstemplate => K::TextSearch,
        T::ObjectUserMapping => K::UserMapping,
        T::ObjectView => K::View,
        T::ObjectDefacl | T::ObjectParameterAcl | T::Undefined => K::Other,
    }
}

impl Walk<'_> {
    /// Notes the object that a node names: of `DROP`, `COMMENT`, `ALTER … RENAME` and their like.
    pub(super) fn target(&mut self, verb: DdlVerb, object: ObjectType, node: Node<'_>) {
        use ObjectType as T;
        let kind = object_kind(object);
        match object {
            // Names of a relation, and of a thing on it.
            T::ObjectPolicy | T::ObjectRule | T::ObjectTrigger => {
                let mut parts = names(node.nodes("items"));
                let name = parts.pop().unwrap_or_else(|| Name::new(""));
                self.object(verb, kind, QualifiedName::bare(name));
                if !parts.is_empty() {
                    self.altered(qualified(parts));
                }
            }
            T::ObjectColumn | T::ObjectTabconstraint => {
                let mut parts = names(node.nodes("items"));
                parts.pop();
                self.object(verb, kind, qualified(parts));
            }
            // The access method comes first.
            T::ObjectOpclass | T::ObjectOpfamily => {
                let name = qualified(names(node.nodes("items").skip(1)));
                self.object(verb, kind, name);
            }
            T::ObjectDomconstraint => {
                let domain = node.nodes("items").next();
                self.object(verb, kind, domain.map(object_name).unwrap_or_else(|| bare("")));
            }
            T::ObjectCast | T::ObjectTransform => {
                self.object(verb, kind, bare(""));
                self.node(node);
            }
            T::ObjectRole => {
                let name = object_name(node);
                self.role(name.name.as_str());
                self.effect(Effect::RoleAdmin);
                self.object(verb, kind, name);
            }
            _ => self.object(verb, kind, object_name(node)),
        }
        if node.kind() == NodeKind::ObjectWithArgs {
            self.rest(node, &["objname"]);
        }
    }

    /// Notes a relation whose definition a statement touches, besides its own object.
    pub(super) fn altered(&mut self, name: QualifiedName) {
        self.effect(Effect::Alter);
        self.relations.push(RelationUse {
            name,
            effects: [Effect::Alter].into_iter().collect(),
            alias: None,
            renamed: Vec::new(),
            only: false,
            written: Vec::new(),
            scope: self.scope,
        });
    }

    /// Parts that definitions share.
    pub(super) fn part(&mut self, node: Node<'_>) {
        match node.kind() {
            NodeKind::AlterTableCmd => {
                let named = std::mem::replace(&mut self.named, Effect::Alter);
                if node.node("newowner").is_some() {
                    self.effect(Effect::Grant);
                }
                self.rest(node, &[]);
                self.named = named;
            }
            NodeKind::Constraint => self.constraint(node),
            NodeKind::DefElem => self.option(node),
            // A function or operator that a definition refers to.
            NodeKind::ObjectWithArgs => {
                self.function_named(node.nodes("objname"));
                self.rest(node, &["objname"]);
            }
            NodeKind::RoleSpec => match node.text("rolename") {
                "" => self.special_role(node),
                name => self.role(name),
            },
            NodeKind::TableLikeClause => {
                if let Some(range) = node.node("relation") {
                    self.relation(range, &[Effect::Select]);
                }
                self.rest(node, &["relation"]);
            }
            NodeKind::VacuumRelation => {
                if let Some(range) = node.node("relation") {
                    self.relation(range, &[Effect::Maintenance]);
                }
                self.rest(node, &["relation"]);
            }
            _ => {
                // The table of a publication.
                if let Some(range) = node.node("relation") {
                    self.relation(range, &[Effect::Alter]);
                }
                self.rest(node, &["relation"]);
            }
        }
    }

    fn special_role(&mut self, node: Node<'_>) {
        use pg_query::protobuf::RoleSpecType as R;
        let kind = i32::try_from(node.number("roletype")).ok().and_then(|n| R::try_from(n).ok());
        match kind {
            Some(R::RolespecCurrentRole | R::RolespecCurrentUser) => self.role("current_user"),
            Some(R::RolespecSessionUser) => self.role("session_user"),
            Some(R::RolespecPublic) => self.role("public"),
            Some(R::RolespecCstring | R::Undefined) | None => {}
        }
    }

    fn constraint(&mut self, node: Node<'_>) {
        let named = std::mem::replace(&mut self.named, Effect::Select);
        if let Some(range) = node.node("pktable") {
            self.relation(range, &[Effect::Select]);
        }
        for list in ["keys", "fk_attrs", "including"] {
            self.columns_named(node.nodes(list));
        }
        // Operators of an exclusion constraint stand beside their columns.
        for exclusion in node.nodes("exclusions") {
            for operator in exclusion.nodes("items").filter(|n| n.kind() == NodeKind::List) {
                self.operator(listed(operator.nodes("items")), 2);
            }
        }
        self.rest(node, &["pktable", "keys", "fk_attrs", "including", "pk_attrs"]);
        self.named = named;
    }

    fn option(&mut self, node: Node<'_>) {
        let name = node.text("defname");
        // A sequence that goes with a column.
        if name == "owned_by"
            && let Some(list) = node.node("arg")
        {
            let mut parts = names(list.nodes("items"));
            if parts.len() > 1 {
                parts.pop();
                self.altered(qualified(parts));
            }
        }
        let stored = std::mem::replace(&mut self.stored, true);
        self.rest(node, &[]);
        self.stored = stored;
    }

    /// Notes objects of `GRANT`.
    pub(super) fn granted(&mut self, object: ObjectType, node: Node<'_>, columns: &[Name]) {
        match node.kind() {
            NodeKind::RangeVar => {
                let relation = self.relation(node, &[Effect::Grant]);
                self.relations[relation].written = columns.to_vec();
            }
            _ => {
                if object == ObjectType::ObjectLargeobject {
                    self.effect(Effect::LargeObject);
                }
                self.target(DdlVerb::Grant, object, node);
            }
        }
    }

    /// Notes the relation in a field as the object of a statement.
    pub(super) fn relation_object(&mut self, verb: DdlVerb, kind: ObjectKind, node: Node<'_>) {
        self.object(verb, kind, range_name(node));
    }
}

/// The name that a node of any of the usual kinds holds; empty for a thing without one.
pub(super) fn object_name(node: Node<'_>) -> QualifiedName {
    match node.kind() {
        NodeKind::String => bare(string(node).unwrap_or_default()),
        NodeKind::List => listed(node.nodes("items")),
        NodeKind::ObjectWithArgs => listed(node.nodes("objname")),
        NodeKind::TypeName => listed(node.nodes("names")),
        NodeKind::RangeVar => range_name(node),
        NodeKind::RoleSpec => bare(node.text("rolename")),
        NodeKind::Integer => bare(&node.number("ival").to_string()),
        NodeKind::Float => bare(node.text("fval")),
        _ => bare(""),
    }
}
