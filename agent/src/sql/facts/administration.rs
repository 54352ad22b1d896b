//! Statements that drop things, and those about rights, roles and upkeep.

use pg_query::protobuf::{GrantTargetType, ObjectType};

use super::effect::{DdlVerb, Effect, ObjectKind};
use super::name::Name;
use super::node::NodeKind;
use super::object::{object_kind, object_type};
use super::tree::Node;
use super::walk::{Walk, bare, names, string};

impl Walk<'_> {
    pub(super) fn administration(&mut self, node: Node<'_>) {
        use NodeKind as N;
        use ObjectKind as K;
        match node.kind() {
            N::DropStmt => {
                self.effect(Effect::Drop);
                let object = object_type(node, "remove_type");
                for dropped in node.nodes("objects") {
                    self.target(DdlVerb::Drop, object, dropped);
                }
            }
            N::DropdbStmt => self.dropped(node, "dbname", K::Database),
            N::DropTableSpaceStmt => {
                self.effect(Effect::Server);
                self.dropped(node, "tablespacename", K::Tablespace);
            }
            N::DropSubscriptionStmt => {
                self.effect(Effect::Server);
                self.dropped(node, "subname", K::Subscription);
            }
            N::DropUserMappingStmt => self.dropped(node, "servername", K::UserMapping),
            N::DropOwnedStmt => {
                self.effect(Effect::Drop);
                self.effect(Effect::Grant);
                self.code("all that a role owns");
                self.rest(node, &[]);
            }
            N::ReassignOwnedStmt => {
                self.effect(Effect::Alter);
                self.effect(Effect::Grant);
                self.code("all that a role owns");
                self.rest(node, &[]);
            }
            N::CreateRoleStmt => {
                self.role_changed(DdlVerb::Create, node.text("role"));
                self.rest(node, &[]);
            }
            N::AlterRoleStmt => {
                let role = node.node("role").map(|role| role.text("rolename")).unwrap_or_default();
                self.role_changed(DdlVerb::Alter, role);
                self.rest(node, &[]);
            }
            N::AlterRoleSetStmt => {
                // Without a role it is for all of them.
                let role = node.node("role").map(|role| role.text("rolename")).unwrap_or_default();
                self.role_changed(DdlVerb::Alter, role);
                self.stored_settings(node);
            }
            N::DropRoleStmt => {
                for role in node.nodes("roles") {
                    self.role_changed(DdlVerb::Drop, role.text("rolename"));
                }
                self.rest(node, &[]);
            }
            N::GrantRoleStmt => {
                self.effect(Effect::Grant);
                self.effect(Effect::RoleAdmin);
                for role in node.nodes("granted_roles") {
                    self.role(role.text("priv_name"));
                }
                self.rest(node, &[]);
            }
            N::GrantStmt => self.grant(node),
            N::AlterDefaultPrivilegesStmt => {
                self.effect(Effect::Grant);
                for option in node.nodes("options") {
                    if option.text("defname") == "schemas"
                        && let Some(list) = option.node("arg")
                    {
                        for schema in list.nodes("items").filter_map(string) {
                            self.object(DdlVerb::Grant, K::Schema, bare(schema));
                        }
                    }
                }
                self.rest(node, &[]);
            }
            N::AlterSystemStmt => {
                self.effect(Effect::Server);
                self.stored_settings(node);
            }
            N::CheckPointStmt => self.maintenance(node, "relation"),
            _ => self.maintenance(node, "relation"), // VACUUM, CLUSTER, REINDEX, REFRESH
        }
    }

    fn maintenance(&mut self, node: Node<'_>, relation: &str) {
        self.effect(Effect::Maintenance);
        if let Some(range) = node.node(relation) {
            self.relation(range, &[Effect::Maintenance]);
        }
        self.rest(node, &[relation]);
    }

    fn dropped(&mut self, node: Node<'_>, field: &str, kind: ObjectKind) {
        self.effect(Effect::Drop);
        self.object(DdlVerb::Drop, kind, bare(node.text(field)));
        self.rest(node, &[]);
    }

    fn role_changed(&mut self, verb: DdlVerb, role: &str) {
        self.effect(Effect::RoleAdmin);
        self.role(role);
        self.object(verb, ObjectKind::Role, bare(role));
    }

    fn stored_settings(&mut self, node: Node<'_>) {
        let stored = std::mem::replace(&mut self.stored, true);
        self.rest(node, &[]);
        self.stored = stored;
    }

    fn grant(&mut self, node: Node<'_>) {
        self.effect(Effect::Grant);
        let columns: Vec<Name> =
            node.nodes("privileges").flat_map(|right| names(right.nodes("cols"))).collect();
        let object = if node.number("targtype") == GrantTargetType::AclTargetAllInSchema as i64 {
            ObjectType::ObjectSchema
        } else {
            object_type(node, "objtype")
        };
        for target in node.nodes("objects") {
            self.granted(object, target, &columns);
        }
        if object == ObjectType::ObjectSchema {
            // `ALL TABLES IN SCHEMA` names the schema, and means what is in it.
            let kind = object_kind(object_type(node, "objtype"));
            if kind != ObjectKind::Schema {
                self.code("all objects of a schema");
            }
        }
        self.rest(node, &["objects"]);
    }
}
