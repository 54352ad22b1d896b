//! Statements that make and change objects.

use pg_query::protobuf::ObjectType;

use super::effect::{DdlVerb, Effect, ObjectKind};
use super::name::Name;
use super::node::NodeKind;
use super::object::{object_kind, object_name, object_type};
use super::tree::Node;
use super::walk::{Walk, bare, listed, range_name, string};

impl Walk<'_> {
    /// Statements that make objects.
    pub(super) fn creation(&mut self, node: Node<'_>) {
        use NodeKind as N;
        use ObjectKind as K;
        self.effect(Effect::Create);
        match node.kind() {
            N::CreateStmt => self.create_table(node, K::Table),
            N::CreateForeignTableStmt => {
                if let Some(base) = node.node("base_stmt") {
                    self.create_table(base, K::ForeignTable);
                }
                self.rest(node, &["base_stmt"]);
            }
            N::CreateTableAsStmt => {
                let kind = object_kind(object_type(node, "objtype"));
                if let Some(into) = node.node("into") {
                    self.into(into, kind);
                }
                self.rest(node, &["into"]);
            }
            N::ViewStmt => self.create_relation(node, "view", K::View),
            N::CreateSeqStmt => self.create_relation(node, "sequence", K::Sequence),
            N::CompositeTypeStmt => self.create_relation(node, "typevar", K::Type),
            N::IndexStmt => {
                self.create_on(node, "idxname", "relation", K::Index);
                for list in node.nodes("exclude_op_names") {
                    self.operator(listed(list.nodes("items")), 2);
                }
            }
            N::CreateTrigStmt => {
                self.function_named(node.nodes("funcname"));
                self.columns_named(node.nodes("columns"));
                self.create_on(node, "trigname", "relation", K::Trigger);
            }
            N::CreatePolicyStmt => self.create_on(node, "policy_name", "table", K::Policy),
            N::RuleStmt => self.create_on(node, "rulename", "relation", K::Rule),
            N::CreateStatsStmt => {
                self.create_listed(node, "defnames", K::Statistics, &["relations"]);
                for range in node.nodes("relations") {
                    self.relation(range, &[Effect::Alter]);
                }
            }
            N::CreateSchemaStmt => self.create_schema(node),
            N::CreateFunctionStmt => self.create_function(node),
            N::DefineStmt => {
                let kind = object_kind(object_type(node, "kind"));
                self.create_listed(node, "defnames", kind, &[]);
            }
            N::CreateDomainStmt => self.create_listed(node, "domainname", K::Domain, &[]),
            N::CreateEnumStmt | N::CreateRangeStmt => {
                self.create_listed(node, "type_name", K::Type, &[]);
            }
            N::CreateOpClassStmt => {
                self.create_listed(node, "opclassname", K::OperatorClass, &[]);
            }
            N::CreateOpFamilyStmt => {
                self.create_listed(node, "opfamilyname", K::OperatorFamily, &[]);
            }
            N::CreateConversionStmt => {
                self.function_named(node.nodes("func_name"));
                self.create_listed(node, "conversion_name", K::Conversion, &[]);
            }
            N::CreateCastStmt => self.create_named(node, "", K::Cast),
            N::CreateTransformStmt => self.create_named(node, "", K::Transform),
            N::CreateAmStmt => {
                self.function_named(node.nodes("handler_name"));
                self.create_named(node, "amname", K::AccessMethod);
            }
            N::CreateEventTrigStmt => {
                self.function_named(node.nodes("funcname"));
                self.create_named(node, "trigname", K::EventTrigger);
            }
            N::CreatePLangStmt => {
                for field in ["plhandler", "plinline", "plvalidator"] {
                    self.function_named(node.nodes(field));
                }
                self.create_named(node, "plname", K::Language);
            }
            N::CreateExtensionStmt => {
                // Its script is a file of the server.
                self.code("script of an extension");
                self.create_named(node, "extname", K::Extension);
            }
            N::CreateFdwStmt => self.create_named(node, "fdwname", K::ForeignDataWrapper),
            N::CreateForeignServerStmt => self.create_named(node, "servername", K::ForeignServer),
            N::CreateUserMappingStmt => self.create_named(node, "servername", K::UserMapping),
            N::CreatePublicationStmt => self.create_named(node, "pubname", K::Publication),
            N::CreateSubscriptionStmt => {
                self.effect(Effect::Server);
                self.create_named(node, "subname", K::Subscription);
            }
            N::CreateTableSpaceStmt => {
                self.effect(Effect::Server);
                self.create_named(node, "tablespacename", K::Tablespace);
            }
            N::CreatedbStmt => self.create_named(node, "dbname", K::Database),
            _ => self.import_schema(node),
        }
    }

    fn create_relation(&mut self, node: Node<'_>, field: &str, kind: ObjectKind) {
        if let Some(range) = node.node(field) {
            self.made(kind, range);
        }
        self.rest(node, &[field]);
    }

    fn create_named(&mut self, node: Node<'_>, field: &str, kind: ObjectKind) {
        self.object(DdlVerb::Create, kind, bare(node.text(field)));
        self.rest(node, &[]);
    }

    fn create_listed(&mut self, node: Node<'_>, field: &str, kind: ObjectKind, done: &[&str]) {
        self.object(DdlVerb::Create, kind, listed(node.nodes(field)));
        self.rest(node, done);
    }

    /// What is made on a relation changes the relation.
    fn create_on(&mut self, node: Node<'_>, name: &str, relation: &str, kind: ObjectKind) {
        self.object(DdlVerb::Create, kind, bare(node.text(name)));
        if let Some(range) = node.node(relation) {
            self.relation(range, &[Effect::Alter]);
        }
        self.rest(node, &[relation]);
    }

    fn create_table(&mut self, node: Node<'_>, kind: ObjectKind) {
        self.effect(Effect::Create);
        if let Some(range) = node.node("relation") {
            self.made(kind, range);
        }
        for parent in node.nodes("inh_relations") {
            self.relation(parent, &[Effect::Alter]);
        }
        self.rest(node, &["relation", "inh_relations"]);
    }

    fn create_schema(&mut self, node: Node<'_>) {
        let name = match (node.text("schemaname"), node.node("authrole")) {
            ("", Some(role)) => role.text("rolename"),
            (name, _) => name,
        };
        self.object(DdlVerb::Create, ObjectKind::Schema, bare(name));
        let schema = self.schema.replace(Name::new(name));
        self.rest(node, &[]);
        self.schema = schema;
    }

    fn create_function(&mut self, node: Node<'_>) {
        let procedure = node.flag("is_procedure");
        let kind = if procedure { ObjectKind::Procedure } else { ObjectKind::Function };
        self.object(DdlVerb::Create, kind, listed(node.nodes("funcname")));
        for option in node.nodes("options") {
            match option.text("defname") {
                "as" => self.code("body of a function"),
                "language" => {
                    let language = option.node("arg").and_then(string).unwrap_or_default();
                    // Its code is a library, or the server itself.
                    if language.eq_ignore_ascii_case("c")
                        || language.eq_ignore_ascii_case("internal")
                    {
                        self.effect(Effect::Server);
                    }
                }
                _ => {}
            }
        }
        self.rest(node, &[]);
    }

    fn import_schema(&mut self, node: Node<'_>) {
        self.effect(Effect::Server);
        self.object(DdlVerb::Alter, ObjectKind::ForeignServer, bare(node.text("server_name")));
        self.object(DdlVerb::Create, ObjectKind::Schema, bare(node.text("local_schema")));
        self.code("tables of another server");
        self.rest(node, &["table_list"]);
    }

    /// Statements that change objects.
    pub(super) fn alteration(&mut self, node: Node<'_>) {
        use NodeKind as N;
        use ObjectKind as K;
        self.effect(Effect::Alter);
        match node.kind() {
            N::AlterTableStmt => {
                let kind = object_kind(object_type(node, "objtype"));
                if let Some(range) = node.node("relation") {
                    self.relation_object(DdlVerb::Alter, kind, range);
                }
                self.rest(node, &["relation"]);
            }
            N::RenameStmt
            | N::AlterObjectSchemaStmt
            | N::AlterOwnerStmt
            | N::AlterObjectDependsStmt => self.alter_any(node),
            N::CommentStmt | N::SecLabelStmt => {
                if let Some(object) = node.node("object") {
                    self.target(DdlVerb::Alter, object_type(node, "objtype"), object);
                }
            }
            N::AlterSeqStmt => {
                if let Some(range) = node.node("sequence") {
                    self.relation_object(DdlVerb::Alter, K::Sequence, range);
                }
                self.rest(node, &["sequence"]);
            }
            N::AlterPolicyStmt => {
                self.object(DdlVerb::Alter, K::Policy, bare(node.text("policy_name")));
                if let Some(range) = node.node("table") {
                    self.relation(range, &[Effect::Alter]);
                }
                self.rest(node, &["table"]);
            }
            N::AlterFunctionStmt => {
                let object = object_type(node, "objtype");
                if let Some(function) = node.node("func") {
                    self.target(DdlVerb::Alter, object, function);
                }
                self.rest(node, &["func"]);
            }
            N::AlterOperatorStmt => {
                if let Some(operator) = node.node("opername") {
                    self.target(DdlVerb::Alter, ObjectType::ObjectOperator, operator);
                }
                self.rest(node, &["opername"]);
            }
            N::AlterExtensionContentsStmt => {
                self.object(DdlVerb::Alter, K::Extension, bare(node.text("extname")));
                if let Some(object) = node.node("object") {
                    self.target(DdlVerb::Alter, object_type(node, "objtype"), object);
                }
            }
            N::AlterExtensionStmt => {
                self.code("script of an extension");
                self.alter_named(node, "extname", K::Extension);
            }
            N::AlterSubscriptionStmt => {
                self.effect(Effect::Server);
                self.alter_named(node, "subname", K::Subscription);
            }
            N::AlterTableMoveAllStmt => {
                self.code("all relations of a tablespace");
                self.alter_named(node, "orig_tablespacename", K::Tablespace);
            }
            N::AlterDatabaseSetStmt => {
                let stored = std::mem::replace(&mut self.stored, true);
                self.alter_named(node, "dbname", K::Database);
                self.stored = stored;
            }
            N::AlterDatabaseStmt | N::AlterDatabaseRefreshCollStmt => {
                self.alter_named(node, "dbname", K::Database);
            }
            N::AlterEventTrigStmt => self.alter_named(node, "trigname", K::EventTrigger),
            N::AlterFdwStmt => self.alter_named(node, "fdwname", K::ForeignDataWrapper),
            N::AlterForeignServerStmt => self.alter_named(node, "servername", K::ForeignServer),
            N::AlterUserMappingStmt => self.alter_named(node, "servername", K::UserMapping),
            N::AlterPublicationStmt => self.alter_named(node, "pubname", K::Publication),
            N::AlterTableSpaceOptionsStmt => {
                self.alter_named(node, "tablespacename", K::Tablespace);
            }
            N::AlterCollationStmt => self.alter_listed(node, "collname", K::Collation),
            N::AlterDomainStmt => self.alter_listed(node, "type_name", K::Domain),
            N::AlterEnumStmt | N::AlterTypeStmt => self.alter_listed(node, "type_name", K::Type),
            N::AlterOpFamilyStmt => self.alter_listed(node, "opfamilyname", K::OperatorFamily),
            N::AlterStatsStmt => self.alter_listed(node, "defnames", K::Statistics),
            N::AlterTsConfigurationStmt => self.alter_listed(node, "cfgname", K::TextSearch),
            _ => self.alter_listed(node, "dictname", K::TextSearch),
        }
    }

    fn alter_named(&mut self, node: Node<'_>, field: &str, kind: ObjectKind) {
        self.object(DdlVerb::Alter, kind, bare(node.text(field)));
        self.rest(node, &[]);
    }

    fn alter_listed(&mut self, node: Node<'_>, field: &str, kind: ObjectKind) {
        self.object(DdlVerb::Alter, kind, listed(node.nodes(field)));
        self.rest(node, &[]);
    }

    /// `RENAME`, `SET SCHEMA`, `OWNER TO`, `DEPENDS ON` of anything.
    fn alter_any(&mut self, node: Node<'_>) {
        let field = if node.kind() == NodeKind::RenameStmt { "rename_type" } else { "object_type" };
        let object = object_type(node, field);
        if node.kind() == NodeKind::AlterOwnerStmt {
            self.effect(Effect::Grant);
        }
        let on_relation = matches!(
            object,
            ObjectType::ObjectPolicy | ObjectType::ObjectRule | ObjectType::ObjectTrigger
        );
        match (node.node("relation"), node.node("object")) {
            (Some(range), named) if on_relation => {
                let name = named.map(object_name).unwrap_or_else(|| bare(node.text("subname")));
                self.object(DdlVerb::Alter, object_kind(object), name);
                self.relation(range, &[Effect::Alter]);
            }
            (Some(range), _) => {
                // A column is part of a relation whose type stands apart.
                let part = matches!(object, ObjectType::ObjectColumn | ObjectType::ObjectAttribute);
                let whole = if part { object_type(node, "relation_type") } else { object };
                self.object(DdlVerb::Alter, object_kind(whole), range_name(range));
            }
            (None, Some(named)) => self.target(DdlVerb::Alter, object, named),
            (None, None) => {
                if object == ObjectType::ObjectRole {
                    self.effect(Effect::RoleAdmin);
                    self.role(node.text("subname"));
                    self.role(node.text("newname"));
                }
                self.object(DdlVerb::Alter, object_kind(object), bare(node.text("subname")));
            }
        }
        self.rest(node, &["relation", "object"]);
    }
}
