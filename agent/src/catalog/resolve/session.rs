//! Settings, roles, prepared statements, cursors and channels.

use super::{DEPTH_MAX, Work};
use crate::catalog::state::Slot;
use crate::policy::{Object, Reached};
use crate::sql::facts::{ANY_SETTING, Effect, Handle, Name, SettingAccess, SettingUse, Statement};

/// Settings that change what statements mean, what they may do, or what is told about them. Sorted.
const PINNED: &[&str] = &[
    "allow_system_table_mods",
    "backslash_quote",
    "client_encoding",
    "dynamic_library_path",
    "extension_control_path",
    "jit_provider",
    "local_preload_libraries",
    "role",
    "row_security",
    "search_path",
    "session_authorization",
    "session_preload_libraries",
    "session_replication_role",
    "standard_conforming_strings",
    "temp_tablespaces",
    "transform_null_equals",
    "zero_damaged_pages",
];

/// Whether a setting changes what statements mean or may do. A change of one is asked for by name; a change of another only
/// so that a denial counts. Names of extensions' settings have a dot: what they do is not known, but they are not the
/// server's.
pub fn is_pinned(setting: &str) -> bool {
    // `SET NAMES`.
    setting == "names" || PINNED.binary_search(&setting).is_ok()
}

impl Work<'_> {
    pub(super) fn settings(&mut self, statement: &Statement) {
        for setting in &statement.settings {
            self.setting(setting, statement);
        }
    }

    fn setting(&mut self, setting: &SettingUse, statement: &Statement) {
        let name = &*setting.name;
        match setting.access {
            SettingAccess::Read => {
                self.need(Effect::Show, Object::Setting(name.into()), Reached::Through);
            }
            // Back to what the session began with, which was judged then.
            SettingAccess::Reset => {
                self.attributed.insert(Effect::Set);
                self.attributed.insert(Effect::SetRole);
                if name != ANY_SETTING {
                    self.need(action(name), Object::Setting(name.into()), Reached::Through);
                }
            }
            SettingAccess::Set | SettingAccess::SetLocal | SettingAccess::Stored
                if name == ANY_SETTING =>
            {
                for name in [ANY_SETTING].iter().chain(PINNED) {
                    self.need(action(name), Object::Setting((*name).into()), Reached::Named);
                }
            }
            SettingAccess::Set | SettingAccess::SetLocal | SettingAccess::Stored => {
                // Modes of a transaction are settings by name only.
                if !statement.effects.contains(action(name)) {
                    return;
                }
                let reached = if is_pinned(name) { Reached::Named } else { Reached::Through };
                self.need(action(name), Object::Setting(name.into()), reached);
            }
        }
    }

    pub(super) fn roles(&mut self, statement: &Statement) {
        let has = |effect: &Effect| statement.effects.contains(*effect);
        let action = [Effect::RoleAdmin, Effect::SetRole].into_iter().find(has);
        for role in &statement.roles {
            // Who owns a thing is a matter of rights, too.
            let action = action.unwrap_or(Effect::Grant);
            self.need(action, Object::Role(role.clone()), Reached::Named);
        }
    }

    pub(super) fn handles(&mut self, statement: &Statement, depth: u32) {
        for handle in &statement.handles {
            match handle {
                Handle::Execute(name) => self.held(Slot::Prepared, name, depth),
                Handle::Fetch(name) | Handle::CurrentOf(name) => {
                    self.held(Slot::Cursor, name, depth);
                }
                Handle::Channel(name) => {
                    for effect in [Effect::Listen, Effect::Notify] {
                        if statement.effects.contains(effect) {
                            self.need(effect, Object::Channel(name.clone()), Reached::Named);
                        }
                    }
                }
                Handle::Prepare(_)
                | Handle::Deallocate(_)
                | Handle::Declare(_)
                | Handle::Close(_) => {}
            }
        }
    }

    /// All that a name may stand for.
    pub(super) fn held(&mut self, slot: Slot, name: &Name, depth: u32) {
        self.own = true;
        let state = self.state;
        let Some(meanings) = state.held(slot).meanings(name) else {
            return self.code(not_seen(slot));
        };
        if meanings.opaque || depth >= DEPTH_MAX {
            self.code(not_seen(slot));
        }
        if depth >= DEPTH_MAX {
            return;
        }
        for statement in &meanings.statements {
            self.statement(statement, depth + 1);
        }
    }
}

fn not_seen(slot: Slot) -> &'static str {
    match slot {
        Slot::Prepared => "prepared statement that was not seen",
        Slot::Cursor => "cursor that was not seen",
    }
}

fn action(setting: &str) -> Effect {
    match setting {
        "role" | "session_authorization" => Effect::SetRole,
        _ => Effect::Set,
    }
}

#[cfg(test)]
mod tests {
    use super::{PINNED, is_pinned};

    #[test]
    fn settings_are_sorted_for_the_search() {
        assert!(PINNED.is_sorted());
        assert!(is_pinned("search_path") && is_pinned("names"));
        assert!(!is_pinned("application_name"));
    }
}
