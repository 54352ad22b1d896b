//! Words for what statements are.

use super::Kind;
use super::node::NodeKind;
use super::object::{object_kind, object_type};
use super::tree::Node;

/// The word for a statement, by its outermost node.
pub(super) fn kind_of(node: Node<'_>) -> Kind {
    use NodeKind as N;
    let word = match node.kind() {
        N::SelectStmt if has_into(node) => "select_into",
        N::SelectStmt => "select",
        N::InsertStmt => "insert",
        N::UpdateStmt => "update",
        N::DeleteStmt => "delete",
        N::MergeStmt => "merge",
        N::CopyStmt => "copy",
        N::TruncateStmt => "truncate",
        N::CallStmt => "call",
        N::LockStmt => "lock",
        N::VariableSetStmt => "set",
        N::VariableShowStmt => "show",
        N::TransactionStmt => "transaction",
        N::ConstraintsSetStmt => "set_constraints",
        N::PrepareStmt => "prepare",
        N::ExecuteStmt => "execute",
        N::DeallocateStmt => "deallocate",
        N::DiscardStmt => "discard",
        N::DeclareCursorStmt => "declare",
        N::FetchStmt if node.flag("ismove") => "move",
        N::FetchStmt => "fetch",
        N::ClosePortalStmt => "close",
        N::ListenStmt => "listen",
        N::UnlistenStmt => "unlisten",
        N::NotifyStmt => "notify",
        N::ExplainStmt => "explain",
        N::DoStmt => "do",
        N::LoadStmt => "load",
        N::CheckPointStmt => "checkpoint",
        N::VacuumStmt if node.flag("is_vacuumcmd") => "vacuum",
        N::VacuumStmt => "analyze",
        N::ClusterStmt => "cluster",
        N::ReindexStmt => "reindex",
        N::RefreshMatViewStmt => "refresh",
        N::GrantStmt | N::GrantRoleStmt if node.flag("is_grant") => "grant",
        N::GrantStmt | N::GrantRoleStmt => "revoke",
        N::AlterDefaultPrivilegesStmt => "alter_default_privileges",
        N::CommentStmt => "comment",
        N::SecLabelStmt => "security_label",
        N::AlterSystemStmt => "alter_system",
        N::ReassignOwnedStmt => "reassign_owned",
        N::DropOwnedStmt => "drop_owned",
        N::ImportForeignSchemaStmt => "import_foreign_schema",
        N::CreateTableAsStmt => {
            return of_object("create", node, "objtype");
        }
        N::DefineStmt => return of_object("create", node, "kind"),
        N::DropStmt => return of_object("drop", node, "remove_type"),
        N::AlterTableStmt => return of_object("alter", node, "objtype"),
        N::RenameStmt => return of_object("alter", node, "rename_type"),
        N::AlterObjectSchemaStmt | N::AlterOwnerStmt | N::AlterObjectDependsStmt => {
            return of_object("alter", node, "object_type");
        }
        N::AlterFunctionStmt => return of_object("alter", node, "objtype"),
        N::CreateStmt => "create_table",
        N::CreateForeignTableStmt => "create_foreign_table",
        N::ViewStmt => "create_view",
        N::IndexStmt => "create_index",
        N::CreateSeqStmt => "create_sequence",
        N::CreateSchemaStmt => "create_schema",
        N::CreateFunctionStmt if node.flag("is_procedure") => "create_procedure",
        N::CreateFunctionStmt => "create_function",
        N::CreateTrigStmt => "create_trigger",
        N::CreateEventTrigStmt => "create_event_trigger",
        N::CreatePolicyStmt => "create_policy",
        N::RuleStmt => "create_rule",
        N::CreateStatsStmt => "create_statistics",
        N::CompositeTypeStmt | N::CreateEnumStmt | N::CreateRangeStmt => "create_type",
        N::CreateDomainStmt => "create_domain",
        N::CreateCastStmt => "create_cast",
        N::CreateConversionStmt => "create_conversion",
        N::CreateTransformStmt => "create_transform",
        N::CreateOpClassStmt => "create_operator_class",
        N::CreateOpFamilyStmt => "create_operator_family",
        N::CreateAmStmt => "create_access_method",
        N::CreatePLangStmt => "create_language",
        N::CreateExtensionStmt => "create_extension",
        N::CreateFdwStmt => "create_foreign_data_wrapper",
        N::CreateForeignServerStmt => "create_foreign_server",
        N::CreateUserMappingStmt => "create_user_mapping",
        N::CreatePublicationStmt => "create_publication",
        N::CreateSubscriptionStmt => "create_subscription",
        N::CreateTableSpaceStmt => "create_tablespace",
        N::CreatedbStmt => "create_database",
        N::CreateRoleStmt => "create_role",
        N::AlterRoleStmt | N::AlterRoleSetStmt => "alter_role",
        N::DropRoleStmt => "drop_role",
        N::AlterDatabaseStmt | N::AlterDatabaseSetStmt | N::AlterDatabaseRefreshCollStmt => {
            "alter_database"
        }
        N::DropdbStmt => "drop_database",
        N::DropTableSpaceStmt => "drop_tablespace",
        N::DropSubscriptionStmt => "drop_subscription",
        N::DropUserMappingStmt => "drop_user_mapping",
        N::AlterTableMoveAllStmt | N::AlterTableSpaceOptionsStmt => "alter_tablespace",
        N::AlterExtensionStmt | N::AlterExtensionContentsStmt => "alter_extension",
        N::AlterFdwStmt => "alter_foreign_data_wrapper",
        N::AlterForeignServerStmt => "alter_foreign_server",
        N::AlterUserMappingStmt => "alter_user_mapping",
        N::AlterPolicyStmt => "alter_policy",
        N::AlterEventTrigStmt => "alter_event_trigger",
        N::AlterSeqStmt => "alter_sequence",
        N::AlterDomainStmt => "alter_domain",
        N::AlterEnumStmt | N::AlterTypeStmt => "alter_type",
        N::AlterOpFamilyStmt => "alter_operator_family",
        N::AlterOperatorStmt => "alter_operator",
        N::AlterCollationStmt => "alter_collation",
        N::AlterStatsStmt => "alter_statistics",
        N::AlterTsConfigurationStmt | N::AlterTsDictionaryStmt => "alter_text_search",
        N::AlterPublicationStmt => "alter_publication",
        N::AlterSubscriptionStmt => "alter_subscription",
        _ => "unknown",
    };
    Kind(word)
}

/// Whether a query makes a table: `INTO` stands in the first of the queries that a set operation unites.
fn has_into(mut node: Node<'_>) -> bool {
    loop {
        if node.node("into_clause").is_some() {
            return true;
        }
        match node.node("larg") {
            Some(first) => node = first,
            None => return false,
        }
    }
}

macro_rules! words {
    ($($kind:ident $create:literal $alter:literal $drop:literal,)+) => {
        fn of_object(verb: &str, node: Node<'_>, field: &str) -> Kind {
            use super::ObjectKind as K;
            let words = match object_kind(object_type(node, field)) {
                $(K::$kind => [$create, $alter, $drop],)+
            };
            Kind(match verb {
                "create" => words[0],
                "alter" => words[1],
                _ => words[2],
            })
        }
    };
}

words! {
    AccessMethod "create_access_method" "alter_access_method" "drop_access_method",
    Aggregate "create_aggregate" "alter_aggregate" "drop_aggregate",
    Cast "create_cast" "alter_cast" "drop_cast",
    Collation "create_collation" "alter_collation" "drop_collation",
    Conversion "create_conversion" "alter_conversion" "drop_conversion",
    Database "create_database" "alter_database" "drop_database",
    Domain "create_domain" "alter_domain" "drop_domain",
    EventTrigger "create_event_trigger" "alter_event_trigger" "drop_event_trigger",
    Extension "create_extension" "alter_extension" "drop_extension",
    ForeignDataWrapper "create_foreign_data_wrapper" "alter_foreign_data_wrapper"
        "drop_foreign_data_wrapper",
    ForeignServer "create_foreign_server" "alter_foreign_server" "drop_foreign_server",
    ForeignTable "create_foreign_table" "alter_foreign_table" "drop_foreign_table",
    Function "create_function" "alter_function" "drop_function",
    Index "create_index" "alter_index" "drop_index",
    Language "create_language" "alter_language" "drop_language",
    LargeObject "create_large_object" "alter_large_object" "drop_large_object",
    MaterializedView "create_materialized_view" "alter_materialized_view"
        "drop_materialized_view",
    Operator "create_operator" "alter_operator" "drop_operator",
    OperatorClass "create_operator_class" "alter_operator_class" "drop_operator_class",
    OperatorFamily "create_operator_family" "alter_operator_family" "drop_operator_family",
    Policy "create_policy" "alter_policy" "drop_policy",
    Procedure "create_procedure" "alter_procedure" "drop_procedure",
    Publication "create_publication" "alter_publication" "drop_publication",
    Role "create_role" "alter_role" "drop_role",
    Rule "create_rule" "alter_rule" "drop_rule",
    Schema "create_schema" "alter_schema" "drop_schema",
    Sequence "create_sequence" "alter_sequence" "drop_sequence",
    Statistics "create_statistics" "alter_statistics" "drop_statistics",
    Subscription "create_subscription" "alter_subscription" "drop_subscription",
    Table "create_table" "alter_table" "drop_table",
    Tablespace "create_tablespace" "alter_tablespace" "drop_tablespace",
    TextSearch "create_text_search" "alter_text_search" "drop_text_search",
    Transform "create_transform" "alter_transform" "drop_transform",
    Trigger "create_trigger" "alter_trigger" "drop_trigger",
    Type "create_type" "alter_type" "drop_type",
    UserMapping "create_user_mapping" "alter_user_mapping" "drop_user_mapping",
    View "create_view" "alter_view" "drop_view",
    Other "create_other" "alter_other" "drop_other",
}
