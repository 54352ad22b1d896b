//! Functions of the server and its extensions that do more than compute, or whose arguments name things.
//!
//! They are known by name alone, in whatever schema: one that is missing here is still in the list of calls, where only
//! functions that are known to be harmless are allowed without a grant.

use super::effect::{Effect, Effects};
use super::name::{Name, QualifiedName};
use super::walk::Walk;
use super::{Handle, RelationUse, SettingAccess};

/// What is known of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// Does this, whatever the arguments.
    Does(Effect),
    /// Does both.
    DoesBoth(Effect, Effect),
    /// Changes a setting: name, value, only in the transaction.
    SetConfig,
    /// Reads a setting.
    CurrentSetting,
    /// Sends to a channel.
    Notify,
    /// Runs SQL from the argument of this number.
    Runs(usize),
    /// Runs SQL elsewhere, from any argument.
    RunsElsewhere,
    /// Makes SQL from its arguments.
    Builds(&'static str),
    /// Does something to the relation that the first argument names.
    Relation(Effect),
    /// Reads all relations that are in a schema or database.
    ReadsAll,
    /// Reads from the cursor that the first argument names.
    Cursor,
}

/// Sorted by name.
const SPECIAL: &[(&str, Special)] = {
    use Effect as E;
    use Special as S;
    &[
        ("connectby", S::Builds("query built by connectby")),
        ("crosstab", S::Runs(0)),
        ("crosstab2", S::Runs(0)),
        ("crosstab3", S::Runs(0)),
        ("crosstab4", S::Runs(0)),
        ("current_setting", S::CurrentSetting),
        ("currtid2", S::Relation(E::Select)),
        ("currval", S::Relation(E::Select)),
        ("cursor_to_xml", S::Cursor),
        ("cursor_to_xmlschema", S::Cursor),
        ("database_to_xml", S::ReadsAll),
        ("database_to_xml_and_xmlschema", S::ReadsAll),
        ("database_to_xmlschema", S::ReadsAll),
        ("get_raw_page", S::Relation(E::Select)),
        ("loread", S::Does(E::LargeObject)),
        ("lowrite", S::Does(E::LargeObject)),
        ("nextval", S::Relation(E::Update)),
        ("pg_backup_start", S::Does(E::Server)),
        ("pg_backup_stop", S::Does(E::Server)),
        ("pg_cancel_backend", S::Does(E::Server)),
        ("pg_clear_attribute_stats", S::Does(E::Maintenance)),
        ("pg_clear_relation_stats", S::Does(E::Maintenance)),
        ("pg_copy_logical_replication_slot", S::Does(E::Replication)),
        ("pg_copy_physical_replication_slot", S::Does(E::Replication)),
        ("pg_create_logical_replication_slot", S::Does(E::Replication)),
        ("pg_create_physical_replication_slot", S::Does(E::Replication)),
        ("pg_create_restore_point", S::Does(E::Server)),
        ("pg_current_logfile", S::Does(E::Server)),
        ("pg_drop_replication_slot", S::Does(E::Replication)),
        ("pg_export_snapshot", S::Does(E::Server)),
        ("pg_extension_config_dump", S::Does(E::Server)),
        ("pg_file_read", S::Does(E::Server)),
        ("pg_file_rename", S::Does(E::Server)),
        ("pg_file_sync", S::Does(E::Server)),
        ("pg_file_unlink", S::Does(E::Server)),
        ("pg_file_write", S::Does(E::Server)),
        ("pg_get_sequence_data", S::Relation(E::Select)),
        ("pg_hba_file_rules", S::Does(E::Server)),
        ("pg_ident_file_mappings", S::Does(E::Server)),
        ("pg_import_system_collations", S::Does(E::Server)),
        ("pg_log_backend_memory_contexts", S::Does(E::Server)),
        ("pg_logdir_ls", S::Does(E::Server)),
        ("pg_logical_emit_message", S::Does(E::Replication)),
        ("pg_logical_slot_get_binary_changes", S::Does(E::Replication)),
        ("pg_logical_slot_get_changes", S::Does(E::Replication)),
        ("pg_logical_slot_peek_binary_changes", S::Does(E::Replication)),
        ("pg_logical_slot_peek_changes", S::Does(E::Replication)),
        ("pg_nextoid", S::Does(E::Server)),
        ("pg_notify", S::Notify),
        ("pg_prewarm", S::Does(E::Maintenance)),
        ("pg_promote", S::Does(E::Server)),
        ("pg_read_binary_file", S::Does(E::Server)),
        ("pg_read_binary_file_all", S::Does(E::Server)),
        ("pg_read_binary_file_off_len", S::Does(E::Server)),
        ("pg_read_file", S::Does(E::Server)),
        ("pg_read_file_all", S::Does(E::Server)),
        ("pg_read_file_off_len", S::Does(E::Server)),
        ("pg_read_file_old", S::Does(E::Server)),
        ("pg_reload_conf", S::Does(E::Server)),
        ("pg_replication_slot_advance", S::Does(E::Replication)),
        ("pg_restore_attribute_stats", S::Does(E::Maintenance)),
        ("pg_restore_relation_stats", S::Does(E::Maintenance)),
        ("pg_rotate_logfile", S::Does(E::Server)),
        ("pg_rotate_logfile_old", S::Does(E::Server)),
        ("pg_sequence_last_value", S::Relation(E::Select)),
        ("pg_set_attribute_stats", S::Does(E::Maintenance)),
        ("pg_set_relation_stats", S::Does(E::Maintenance)),
        ("pg_show_all_file_settings", S::Does(E::Server)),
        ("pg_start_backup", S::Does(E::Server)),
        ("pg_stat_file", S::Does(E::Server)),
        ("pg_stat_have_stats", S::Does(E::Server)),
        ("pg_stat_statements_reset", S::Does(E::Server)),
        ("pg_stop_backup", S::Does(E::Server)),
        ("pg_stop_making_pinned_objects", S::Does(E::Server)),
        ("pg_switch_wal", S::Does(E::Server)),
        ("pg_sync_replication_slots", S::Does(E::Replication)),
        ("pg_terminate_backend", S::Does(E::Server)),
        ("pg_wal_replay_pause", S::Does(E::Server)),
        ("pg_wal_replay_resume", S::Does(E::Server)),
        ("pgrowlocks", S::Relation(E::Select)),
        ("query_to_xml", S::Runs(0)),
        ("query_to_xml_and_xmlschema", S::Runs(0)),
        ("query_to_xmlschema", S::Runs(0)),
        ("schema_to_xml", S::ReadsAll),
        ("schema_to_xml_and_xmlschema", S::ReadsAll),
        ("schema_to_xmlschema", S::ReadsAll),
        ("set_config", S::SetConfig),
        ("setval", S::Relation(E::Update)),
        ("table_to_xml", S::Relation(E::Select)),
        ("table_to_xml_and_xmlschema", S::Relation(E::Select)),
        ("table_to_xmlschema", S::Relation(E::Select)),
        ("ts_rewrite", S::Runs(1)),
        ("ts_stat", S::Runs(0)),
        ("xpath_table", S::Builds("query built by xpath_table")),
    ]
};

/// Families of functions, by what their names begin with.
const FAMILIES: &[(&str, Special)] = {
    use Effect as E;
    use Special as S;
    &[
        ("dblink", S::RunsElsewhere),
        ("binary_upgrade_", S::Does(E::Server)),
        ("lo_import", S::DoesBoth(E::LargeObject, E::Server)),
        ("lo_export", S::DoesBoth(E::LargeObject, E::Server)),
        ("lo_", S::Does(E::LargeObject)),
        ("be_lo_", S::Does(E::LargeObject)),
        ("pg_ls_", S::Does(E::Server)),
        ("pg_replication_origin_", S::Does(E::Replication)),
        ("pg_stat_reset", S::Does(E::Server)),
        ("postgres_fdw_disconnect", S::Does(E::Server)),
    ]
};

/// What is known of the functions of a name.
pub(super) fn find(name: &str) -> Option<Special> {
    if let Ok(at) = SPECIAL.binary_search_by(|(known, _)| (*known).cmp(name)) {
        return Some(SPECIAL[at].1);
    }
    let family = FAMILIES.iter().find(|(start, _)| name.starts_with(start));
    family.map(|(_, special)| *special)
}

impl Special {
    /// Whether values of arguments decide.
    pub(super) fn wants_constants(self) -> bool {
        match self {
            Self::Does(_) | Self::DoesBoth(..) | Self::Builds(_) | Self::ReadsAll => false,
            Self::SetConfig
            | Self::CurrentSetting
            | Self::Notify
            | Self::Runs(_)
            | Self::RunsElsewhere
            | Self::Relation(_)
            | Self::Cursor => true,
        }
    }
}

impl Walk<'_> {
    /// What a call of such a function does. `constants` are `None` for arguments that are no constants.
    pub(super) fn special(&mut self, special: Special, constants: &[Option<Box<str>>]) {
        let argument = |number: usize| constants.get(number).and_then(Option::as_deref);
        match special {
            Special::Does(effect) => self.effect(effect),
            Special::DoesBoth(one, other) => {
                self.effect(one);
                self.effect(other);
            }
            Special::SetConfig => {
                let access = match argument(2) {
                    Some("false" | "f" | "0" | "no" | "off") => SettingAccess::Set,
                    Some(_) => SettingAccess::SetLocal,
                    // It may be either: the one that lasts.
                    None => SettingAccess::Set,
                };
                let value = argument(1).map(Into::into);
                self.setting(argument(0).unwrap_or(super::ANY_SETTING), access, value);
            }
            Special::CurrentSetting => {
                let name = argument(0).unwrap_or(super::ANY_SETTING);
                self.setting(name, SettingAccess::Read, None);
            }
            Special::Notify => {
                self.effect(Effect::Notify);
                match argument(0) {
                    Some(channel) => self.handles.push(Handle::Channel(Name::new(channel))),
                    None => self.code("channel in an argument"),
                }
            }
            Special::Runs(number) => {
                // `ts_rewrite` of three arguments runs nothing.
                if number == 1 && constants.len() != 2 {
                    return;
                }
                match argument(number) {
                    Some(text) => self.text(text),
                    None => self.code("query in an argument"),
                }
            }
            Special::RunsElsewhere => {
                self.effect(Effect::Server);
                // The names in it are those of another database.
                self.code("query for another database");
                for text in constants.iter().flatten() {
                    self.foreign_text(text);
                }
            }
            Special::Builds(what) => self.code(what),
            Special::Relation(effect) => match argument(0).and_then(relation_name) {
                Some(name) => self.relation_in_text(name, effect),
                None => self.code("relation in an argument"),
            },
            Special::ReadsAll => {
                self.effect(Effect::Select);
                self.code("all relations of a schema or database");
            }
            Special::Cursor => {
                self.effect(Effect::Cursor);
                match argument(0) {
                    Some(cursor) => self.handles.push(Handle::Fetch(Name::new(cursor))),
                    None => self.code("cursor in an argument"),
                }
            }
        }
    }

    fn relation_in_text(&mut self, name: QualifiedName, effect: Effect) {
        self.effect(effect);
        if effect == Effect::Select {
            let qualifiers = name.schema.iter().chain([&name.name]).cloned().collect();
            self.column(qualifiers, None);
        }
        self.relations.push(RelationUse {
            name,
            effects: Effects::of(effect),
            alias: None,
            renamed: Vec::new(),
            only: false,
            written: Vec::new(),
            scope: self.scope,
        });
    }
}

/// A name as the server reads it from a string: `a`, `s.a`, `"A".b`. `None` for what is none, such as a number.
pub(super) fn relation_name(text: &str) -> Option<QualifiedName> {
    let mut parts = Vec::new();
    let mut rest = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    loop {
        let (part, behind) = first_part(rest)?;
        parts.push(Name::new(part));
        let behind = behind.trim_start();
        match behind.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None if behind.is_empty() => break,
            None => return None,
        }
    }
    (parts.len() <= 3).then(|| super::walk::qualified(parts))
}

fn first_part(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        let end = text.find(|c| !word(c)).unwrap_or(text.len());
        let (part, behind) = text.split_at(end);
        let named = part.starts_with(|c: char| !c.is_ascii_digit() && c != '$');
        return named.then(|| (cut_name(&part.to_ascii_lowercase()), behind));
    };
    let mut part = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return Some((cut_name(&part), rest)),
        }
    }
}

/// The server keeps 63 bytes of a name, and no half character.
fn cut_name(name: &str) -> String {
    let end = name.floor_char_boundary(63);
    name[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_for_the_search() {
        assert!(SPECIAL.is_sorted_by(|one, next| one.0 < next.0));
        assert_eq!(find("set_config"), Some(Special::SetConfig));
        assert_eq!(find("lo_creat"), Some(Special::Does(Effect::LargeObject)));
        assert_eq!(find("lower"), None);
    }

    #[test]
    fn names_in_strings_are_read_as_the_server_does() {
        let read = |text| relation_name(text).map(|name| name.to_string());
        assert_eq!(read("cards").as_deref(), Some("cards"));
        assert_eq!(read(" Public . \"Ca\"\"rds\" ").as_deref(), Some("public.Ca\"rds"));
        assert_eq!(read("12345"), None);
        assert_eq!(read("a b"), None);
        assert_eq!(read("\"a"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("a.b.c.d"), None);
    }
}
