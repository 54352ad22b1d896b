//! Kinds of nodes that the parser makes.

use std::collections::HashMap;
use std::sync::OnceLock;

macro_rules! node_kinds {
    ($($kind:ident)+) => {
        /// The kind of a node. What the planner makes of a tree is not among them: it never leaves the parser.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum NodeKind {
            $($kind,)+
            /// None of these.
            Unknown,
        }

        const NAMES: &[(&str, NodeKind)] = &[$((stringify!($kind), NodeKind::$kind),)+];
    };
}

impl NodeKind {
    /// The kind with the grammar's name for it.
    pub(super) fn of(name: &str) -> Self {
        static KINDS: OnceLock<HashMap<&str, NodeKind>> = OnceLock::new();
        let kinds = KINDS.get_or_init(|| NAMES.iter().copied().collect());
        kinds.get(name).copied().unwrap_or(Self::Unknown)
    }
}

node_kinds! {
    // Values and names.
    AConst AStar BitString Boolean Float IntList Integer List OidList ParamRef String
    // Expressions.
    AArrayExpr AExpr AIndices AIndirection BoolExpr BooleanTest CaseExpr CaseWhen CoalesceExpr
    CollateClause ColumnRef CurrentOfExpr FuncCall GroupingFunc MergeSupportFunc MinMaxExpr
    MultiAssignRef NamedArgExpr NullTest RowExpr SetToDefault SqlValueFunction SubLink TypeCast
    TypeName WindowDef XmlExpr XmlSerialize
    // SQL/JSON.
    JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor
    JsonBehavior JsonFormat JsonFuncExpr JsonIsPredicate JsonKeyValue JsonObjectAgg
    JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning JsonScalarExpr JsonSerializeExpr
    JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr
    // Parts of queries.
    Alias CommonTableExpr CteCycleClause CteSearchClause GroupingSet IndexElem InferClause
    IntoClause JoinExpr LockingClause MergeWhenClause OnConflictClause RangeFunction
    RangeSubselect RangeTableFunc RangeTableFuncCol RangeTableSample RangeVar ResTarget
    ReturningClause ReturningOption SortBy WithClause
    // Statements that read and write rows.
    CallStmt CopyStmt DeleteStmt InsertStmt MergeStmt ReturnStmt SelectStmt TruncateStmt UpdateStmt
    // Statements about the session.
    ClosePortalStmt ConstraintsSetStmt DeallocateStmt DeclareCursorStmt DiscardStmt DoStmt
    ExecuteStmt ExplainStmt FetchStmt ListenStmt LoadStmt LockStmt NotifyStmt PrepareStmt
    TransactionStmt UnlistenStmt VariableSetStmt VariableShowStmt
    // Parts of definitions.
    AccessPriv AlterTableCmd AtAlterConstraint ColumnDef Constraint CreateOpClassItem DefElem
    FunctionParameter ObjectWithArgs PartitionBoundSpec PartitionCmd PartitionElem
    PartitionRangeDatum PartitionSpec PublicationObjSpec PublicationTable ReplicaIdentityStmt
    RoleSpec StatsElem TableLikeClause TriggerTransition VacuumRelation
    // Definitions.
    AlterCollationStmt AlterDatabaseRefreshCollStmt AlterDatabaseSetStmt AlterDatabaseStmt
    AlterDefaultPrivilegesStmt AlterDomainStmt AlterEnumStmt AlterEventTrigStmt
    AlterExtensionContentsStmt AlterExtensionStmt AlterFdwStmt AlterForeignServerStmt
    AlterFunctionStmt AlterObjectDependsStmt AlterObjectSchemaStmt AlterOpFamilyStmt
    AlterOperatorStmt AlterOwnerStmt AlterPolicyStmt AlterPublicationStmt AlterRoleSetStmt
    AlterRoleStmt AlterSeqStmt AlterStatsStmt AlterSubscriptionStmt AlterSystemStmt
    AlterTableMoveAllStmt AlterTableSpaceOptionsStmt AlterTableStmt AlterTsConfigurationStmt
    AlterTsDictionaryStmt AlterTypeStmt AlterUserMappingStmt CheckPointStmt ClusterStmt CommentStmt
    CompositeTypeStmt CreateAmStmt CreateCastStmt CreateConversionStmt CreateDomainStmt
    CreateEnumStmt CreateEventTrigStmt CreateExtensionStmt CreateFdwStmt CreateForeignServerStmt
    CreateForeignTableStmt CreateFunctionStmt CreateOpClassStmt CreateOpFamilyStmt CreatePLangStmt
    CreatePolicyStmt CreatePublicationStmt CreateRangeStmt CreateRoleStmt CreateSchemaStmt
    CreateSeqStmt CreateStatsStmt CreateStmt CreateSubscriptionStmt CreateTableAsStmt
    CreateTableSpaceStmt CreateTransformStmt CreateTrigStmt CreateUserMappingStmt CreatedbStmt
    DefineStmt DropOwnedStmt DropRoleStmt DropStmt DropSubscriptionStmt DropTableSpaceStmt
    DropUserMappingStmt DropdbStmt GrantRoleStmt GrantStmt ImportForeignSchemaStmt IndexStmt
    ReassignOwnedStmt RefreshMatViewStmt ReindexStmt RenameStmt RuleStmt SecLabelStmt VacuumStmt
    ViewStmt
}
