//! What a statement may change, noted when it is sent, and what is certain once it has completed.

use super::path::{Entry, Path, entries};
use super::{PG_TEMP, Readable, SessionState, Slot, Temporary};
use crate::catalog::resolve::{Code, code};
use crate::catalog::snapshot::Snapshot;
use crate::sql::facts::{
    ANY_SETTING, DdlVerb, Effect, Handle, Name, ObjectKind, ObjectUse, SettingAccess, SettingUse,
    Statement,
};

impl SessionState {
    /// Notes a statement that goes to the server: from now on things may be as before, or as it leaves them.
    pub fn forwarded(&mut self, statement: &Statement, catalog: Option<&Snapshot>) {
        for setting in &statement.settings {
            self.setting_sent(setting);
        }
        if statement.effects.contains(Effect::SetRole) {
            self.role_sent(statement);
        }
        for object in &statement.objects {
            self.object_sent(object, statement);
        }
        let rights = [Effect::Grant, Effect::RoleAdmin];
        if rights.iter().any(|effect| statement.effects.contains(*effect)) {
            self.schemas_changed();
        }
        let mut deallocates = false;
        for handle in &statement.handles {
            match handle {
                Handle::Prepare(name) => self.prepared.add(name, statement),
                Handle::Declare(name) => self.cursors.add(name, statement),
                Handle::Execute(name) => self.runs(Slot::Prepared, name, catalog),
                Handle::Fetch(name) | Handle::CurrentOf(name) => {
                    self.runs(Slot::Cursor, name, catalog);
                }
                Handle::Deallocate(_) => deallocates = true,
                Handle::Close(_) | Handle::Channel(_) => {}
            }
        }
        if statement.effects.contains(Effect::Discard) && !deallocates {
            self.forget();
        }
        self.note_code(code(statement, self, catalog));
    }

    /// Notes its `CommandComplete`.
    pub fn completed(&mut self, statement: &Statement) {
        for handle in &statement.handles {
            match handle {
                Handle::Prepare(name) => self.prepared.settle(name, statement),
                Handle::Declare(name) => self.cursors.settle(name, statement),
                Handle::Deallocate(Some(name)) => self.prepared.remove(name),
                Handle::Deallocate(None) => self.prepared.clear(),
                Handle::Close(Some(name)) => self.cursors.remove(name),
                Handle::Close(None) => self.cursors.clear(),
                Handle::Execute(_)
                | Handle::Fetch(_)
                | Handle::CurrentOf(_)
                | Handle::Channel(_) => {}
            }
        }
    }

    fn setting_sent(&mut self, setting: &SettingUse) {
        match setting.access {
            SettingAccess::Set | SettingAccess::SetLocal | SettingAccess::Reset => {}
            // Later sessions, or within a function.
            SettingAccess::Read | SettingAccess::Stored => return,
        }
        let value = setting.value.as_deref();
        match &*setting.name {
            "search_path" => self.path_sent(value),
            "role" | "session_authorization" => {
                self.role_may_be(&value.map(Name::new).into_iter().collect::<Vec<_>>());
                if value.is_none() {
                    self.path = Path::Unknown;
                }
            }
            "standard_conforming_strings" => {
                let on = value.and_then(boolean);
                self.readable.standard_strings = same(self.readable.standard_strings, on);
            }
            "client_encoding" | "names" => {
                let utf8 = value.map(is_utf8);
                self.readable.utf8 = same(self.readable.utf8, utf8);
            }
            ANY_SETTING => self.forget(),
            _ => {}
        }
    }

    /// The value as the analyser joins it leaves open whether a comma is one of a list or of a name, and whether a name was
    /// quoted: all that it may mean is added.
    fn path_sent(&mut self, value: Option<&str>) {
        self.setting = None;
        self.creation = None;
        self.wants_refresh = true;
        let Some(value) = value else {
            self.path = Path::Unknown;
            return;
        };
        let mut schemas: Vec<Name> = value.split(", ").chain([value]).map(Name::new).collect();
        let listed = entries(value).unwrap_or_default();
        let of_user = listed.contains(&Entry::User) || value.contains("$user");
        schemas.extend(listed.into_iter().filter_map(|entry| match entry {
            Entry::User => None,
            Entry::Schema(schema) => Some(schema),
        }));
        match (of_user, &self.role) {
            (false, _) => {}
            (true, Some(role)) => schemas.push(role.clone()),
            (true, None) => {
                self.path = Path::Unknown;
                return;
            }
        }
        self.path.widen(schemas);
    }

    fn role_sent(&mut self, statement: &Statement) {
        self.role_may_be(&statement.roles);
    }

    /// A role sees schemas that another may not use, and `$user` is another schema.
    fn role_may_be(&mut self, roles: &[Name]) {
        self.schemas_changed();
        self.path.widen(roles.iter().chain(&self.login).chain(&self.role).cloned());
        self.role = None;
    }

    /// Schemas of search_path may be there that were not, or may be used that could not.
    fn schemas_changed(&mut self) {
        self.wants_refresh = true;
        self.creation = None;
        let Some(setting) = &self.setting else { return };
        match self.schemas_of(setting) {
            Some(schemas) => self.path.widen(schemas),
            None => self.path = Path::Unknown,
        }
    }

    fn object_sent(&mut self, object: &ObjectUse, statement: &Statement) {
        if object.kind == ObjectKind::Schema {
            self.schemas_changed();
        }
        match object.verb {
            DdlVerb::Create => self.creation_sent(object, statement),
            DdlVerb::Alter => {
                self.renamed = true;
                self.more_temporaries |= !self.temporaries.is_empty();
            }
            DdlVerb::Grant => {}
            // Which others go along is not told.
            DdlVerb::Drop => {
                for temporary in self.temporaries.values_mut() {
                    temporary.certain = false;
                }
            }
        }
        self.wants_refresh |= !self.temporaries.is_empty();
    }

    fn creation_sent(&mut self, object: &ObjectUse, statement: &Statement) {
        if !is_relation(object.kind) {
            return;
        }
        let name = &object.name.name;
        self.made.add(name, statement);
        let in_temp = object.name.schema.as_ref().is_some_and(is_temp);
        if !object.temporary && !in_temp {
            return;
        }
        self.wants_refresh = true;
        if self.temporaries.len() >= super::TEMPORARIES_MAX {
            self.more_temporaries = true;
            return;
        }
        let added = Temporary { certain: false, opaque: false };
        self.temporaries.entry(name.clone()).or_insert(added);
    }

    /// A prepared statement or cursor runs.
    fn runs(&mut self, slot: Slot, name: &Name, catalog: Option<&Snapshot>) {
        let Some(meanings) = self.held(slot).meanings(name).cloned() else {
            self.note_code(Code::Any);
            return;
        };
        if meanings.opaque {
            self.note_code(Code::Any);
        }
        for statement in &meanings.statements {
            self.note_code(code(statement, self, catalog));
        }
    }

    fn note_code(&mut self, code: Code) {
        match code {
            Code::None => {}
            Code::Functions => self.forget(),
            Code::Any => {
                self.forget();
                self.prepared.suspect();
                self.cursors.suspect();
                self.renamed = true;
            }
        }
    }

    /// Settings may have any value, and temporary relations may be gone or new.
    fn forget(&mut self) {
        self.path = Path::Unknown;
        self.setting = None;
        self.creation = None;
        self.role = None;
        self.readable = Readable::default();
        self.more_temporaries = true;
        for temporary in self.temporaries.values_mut() {
            temporary.certain = false;
        }
        self.wants_refresh = true;
    }
}

/// Whether the schema is the session's for temporary objects, or could be.
pub(in crate::catalog) fn is_temp(schema: &Name) -> bool {
    let name = schema.as_str();
    name == PG_TEMP || name.strip_prefix("pg_temp_").is_some()
}

/// Kinds that share their names with tables.
pub(in crate::catalog) fn is_relation(kind: ObjectKind) -> bool {
    match kind {
        ObjectKind::ForeignTable
        | ObjectKind::Index
        | ObjectKind::MaterializedView
        | ObjectKind::Sequence
        | ObjectKind::Table
        | ObjectKind::View => true,
        ObjectKind::AccessMethod
        | ObjectKind::Aggregate
        | ObjectKind::Cast
        | ObjectKind::Collation
        | ObjectKind::Conversion
        | ObjectKind::Database
        | ObjectKind::Domain
        | ObjectKind::EventTrigger
        | ObjectKind::Extension
        | ObjectKind::ForeignDataWrapper
        | ObjectKind::ForeignServer
        | ObjectKind::Function
        | ObjectKind::Language
        | ObjectKind::LargeObject
        | ObjectKind::Operator
        | ObjectKind::OperatorClass
        | ObjectKind::OperatorFamily
        | ObjectKind::Policy
        | ObjectKind::Procedure
        | ObjectKind::Publication
        | ObjectKind::Role
        | ObjectKind::Rule
        | ObjectKind::Schema
        | ObjectKind::Statistics
        | ObjectKind::Subscription
        | ObjectKind::Tablespace
        | ObjectKind::TextSearch
        | ObjectKind::Transform
        | ObjectKind::Trigger
        | ObjectKind::Type
        | ObjectKind::UserMapping
        | ObjectKind::Other => false,
    }
}

/// The value, when it is the same before and after.
fn same(before: Option<bool>, after: Option<bool>) -> Option<bool> {
    before.filter(|_| before == after)
}

/// `parse_bool`, for the words that can't be mistaken.
fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn is_utf8(value: &str) -> bool {
    let letters: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(letters.to_ascii_lowercase().as_str(), "utf8" | "unicode")
}
