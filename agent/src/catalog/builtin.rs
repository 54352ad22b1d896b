//! Functions of `pg_catalog`: which of them do more than compute.
//!
//! The list was made by going through every function of PostgreSQL 15 and 18 that is not immutable.
//!
//! * Immutable and stable ones compute, but for those in [`ACTS`].
//! * Volatile ones act, but for those in [`HARMLESS`]: one that a later server brings is not known, and needs a grant.
//! * Those whose arguments name what they touch (`nextval`, `set_config`, `query_to_xml`) are in [`NAMES`]: what they touch
//!   is among the facts of a statement. Behind a view, where there are no facts, they are unknown code.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::snapshot::Volatility;
use crate::sql::facts::Effect;

/// What a built-in function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Builtin {
    /// It computes, or reads what every role may read.
    Computes,
    /// It touches what its arguments name.
    Names,
    /// It does this.
    Acts(Effect),
}

/// What the functions of a name do, the least harmless of them having this volatility.
pub(super) fn classify(name: &str, volatility: Volatility) -> Builtin {
    if NAMES.binary_search(&name).is_ok() {
        return Builtin::Names;
    }
    if let Ok(at) = ACTS.binary_search_by(|(known, _)| (*known).cmp(name)) {
        return Builtin::Acts(ACTS[at].1);
    }
    if let Some((_, effect)) = FAMILIES.iter().find(|(start, _)| name.starts_with(start)) {
        return Builtin::Acts(*effect);
    }
    let known = HARMLESS.binary_search(&name).is_ok()
        || HARMLESS_FAMILIES.iter().any(|start| name.starts_with(start));
    match volatility {
        Volatility::Immutable | Volatility::Stable => Builtin::Computes,
        Volatility::Volatile if known => Builtin::Computes,
        Volatility::Volatile => Builtin::Acts(Effect::Execute),
    }
}

/// Whether functions that every server has by this name only compute: for texts whose server is not known.
pub fn usually_computes(name: &str) -> bool {
    static USUAL: LazyLock<HashMap<&str, Volatility>> = LazyLock::new(|| {
        let lines = include_str!("usual.txt").lines().filter(|line| !line.starts_with('#'));
        let known = lines.filter_map(|line| {
            let (name, letter) = line.split_once(' ')?;
            let volatility = match letter {
                "i" => Volatility::Immutable,
                "s" => Volatility::Stable,
                _ => Volatility::Volatile,
            };
            Some((name, volatility))
        });
        known.collect()
    });
    let known = USUAL.get(name).map(|volatility| classify(name, *volatility));
    matches!(known, Some(Builtin::Computes | Builtin::Names))
}

/// Their arguments name relations, settings, channels, cursors, or are SQL.
const NAMES: &[&str] = &[
    "current_setting",
    "currtid2",
    "currval",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "nextval",
    "pg_get_sequence_data",
    "pg_notify",
    "pg_sequence_last_value",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "set_config",
    "setval",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "table_to_xmlschema",
    "ts_rewrite",
    "ts_stat",
];

const ACTS: &[(&str, Effect)] = {
    use Effect as E;
    &[
        ("brin_desummarize_range", E::Maintenance),
        ("brin_summarize_new_values", E::Maintenance),
        ("brin_summarize_range", E::Maintenance),
        // Whole databases and schemas as text.
        ("database_to_xml", E::Select),
        ("database_to_xml_and_xmlschema", E::Select),
        ("database_to_xmlschema", E::Select),
        ("gin_clean_pending_list", E::Maintenance),
        // Large objects.
        ("loread", E::LargeObject),
        ("lowrite", E::LargeObject),
        // Backups, the log, other sessions, files of the server.
        ("pg_backup_start", E::Server),
        ("pg_backup_stop", E::Server),
        ("pg_cancel_backend", E::Server),
        ("pg_clear_attribute_stats", E::Maintenance),
        ("pg_clear_relation_stats", E::Maintenance),
        ("pg_copy_logical_replication_slot", E::Replication),
        ("pg_copy_physical_replication_slot", E::Replication),
        ("pg_create_logical_replication_slot", E::Replication),
        ("pg_create_physical_replication_slot", E::Replication),
        ("pg_create_restore_point", E::Server),
        ("pg_current_logfile", E::Server),
        ("pg_drop_replication_slot", E::Replication),
        // Other transactions may read what this one sees.
        ("pg_export_snapshot", E::Server),
        ("pg_extension_config_dump", E::Server),
        ("pg_get_backend_memory_contexts", E::Server),
        ("pg_hba_file_rules", E::Server),
        ("pg_ident_file_mappings", E::Server),
        ("pg_import_system_collations", E::Server),
        ("pg_log_backend_memory_contexts", E::Server),
        ("pg_log_standby_snapshot", E::Server),
        ("pg_logical_emit_message", E::Replication),
        ("pg_logical_slot_get_binary_changes", E::Replication),
        ("pg_logical_slot_get_changes", E::Replication),
        ("pg_logical_slot_peek_binary_changes", E::Replication),
        ("pg_logical_slot_peek_changes", E::Replication),
        ("pg_nextoid", E::Server),
        ("pg_promote", E::Server),
        ("pg_read_binary_file", E::Server),
        ("pg_read_file", E::Server),
        ("pg_read_file_old", E::Server),
        ("pg_reload_conf", E::Server),
        ("pg_replication_slot_advance", E::Replication),
        ("pg_restore_attribute_stats", E::Maintenance),
        ("pg_restore_relation_stats", E::Maintenance),
        ("pg_rotate_logfile", E::Server),
        ("pg_rotate_logfile_old", E::Server),
        ("pg_set_attribute_stats", E::Maintenance),
        ("pg_set_relation_stats", E::Maintenance),
        ("pg_show_all_file_settings", E::Server),
        ("pg_start_backup", E::Server),
        ("pg_stat_file", E::Server),
        // Texts of other sessions' statements.
        ("pg_stat_get_activity", E::Server),
        ("pg_stat_get_backend_activity", E::Server),
        ("pg_stop_backup", E::Server),
        ("pg_stop_making_pinned_objects", E::Server),
        ("pg_switch_wal", E::Server),
        ("pg_sync_replication_slots", E::Replication),
        ("pg_terminate_backend", E::Server),
        ("pg_wal_replay_pause", E::Server),
        ("pg_wal_replay_resume", E::Server),
        ("schema_to_xml", E::Select),
        ("schema_to_xml_and_xmlschema", E::Select),
        ("schema_to_xmlschema", E::Select),
    ]
};

/// By what names begin with.
const FAMILIES: &[(&str, Effect)] = &[
    ("binary_upgrade_", Effect::Server),
    ("be_lo_", Effect::LargeObject),
    ("lo_", Effect::LargeObject),
    ("pg_ls_", Effect::Server),
    ("pg_replication_origin_", Effect::Replication),
    ("pg_stat_reset", Effect::Server),
];

/// Volatile ones that neither read nor change what is anyone else's: time, chance, sizes, locks that only those see who ask,
/// the state of the write-ahead log.
const HARMLESS: &[&str] = &[
    "array_sample",
    "array_shuffle",
    "bernoulli",
    "clock_timestamp",
    "current_query",
    "gen_random_uuid",
    "lastval",
    "pg_blocking_pids",
    "pg_collation_actual_version",
    "pg_control_checkpoint",
    "pg_control_init",
    "pg_control_recovery",
    "pg_control_system",
    "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_lsn",
    "pg_database_collation_actual_version",
    "pg_database_size",
    "pg_get_loaded_modules",
    "pg_get_multixact_members",
    "pg_get_wait_events",
    "pg_get_wal_replay_pause_state",
    "pg_get_wal_resource_managers",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_is_wal_replay_paused",
    "pg_isolation_test_session_is_blocked",
    "pg_jit_available",
    "pg_last_committed_xact",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp",
    "pg_lock_status",
    "pg_notification_queue_usage",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_prepared_xact",
    "pg_relation_size",
    "pg_safe_snapshot_blocking_pids",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_stat_clear_snapshot",
    "pg_stat_force_next_flush",
    "pg_stat_have_stats",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "pg_xact_commit_timestamp",
    "pg_xact_commit_timestamp_origin",
    "pg_xact_status",
    "random",
    "random_normal",
    "setseed",
    "system",
    "timeofday",
    "txid_status",
    "uuidv4",
    "uuidv7",
];

const HARMLESS_FAMILIES: &[&str] = &[
    "pg_advisory_",
    "pg_stat_get_",
    "pg_try_advisory_",
    // Triggers of foreign keys, and input and output of pseudo-types: they can't be called.
    "RI_FKey_",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_for_the_search() {
        assert!(NAMES.is_sorted());
        assert!(HARMLESS.is_sorted());
        assert!(ACTS.is_sorted_by(|one, next| one.0 < next.0));
    }

    #[test]
    fn what_is_not_known_to_be_harmless_is_not() {
        use Volatility::{Immutable, Stable, Volatile};
        let cases = [
            ("lower", Immutable, Builtin::Computes),
            ("now", Stable, Builtin::Computes),
            ("random", Volatile, Builtin::Computes),
            ("pg_try_advisory_lock", Volatile, Builtin::Computes),
            ("a_function_of_a_later_server", Volatile, Builtin::Acts(Effect::Execute)),
            ("lo_creat", Volatile, Builtin::Acts(Effect::LargeObject)),
            ("pg_ls_waldir", Volatile, Builtin::Acts(Effect::Server)),
            ("pg_read_file", Volatile, Builtin::Acts(Effect::Server)),
            ("database_to_xml", Stable, Builtin::Acts(Effect::Select)),
            ("table_to_xml", Stable, Builtin::Names),
            ("nextval", Volatile, Builtin::Names),
        ];
        for (name, volatility, expected) in cases {
            assert_eq!(classify(name, volatility), expected, "{name}");
        }
    }
}
