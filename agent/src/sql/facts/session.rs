//! Statements about the session: settings, transactions, prepared statements, cursors, channels.

use pg_query::protobuf::{DiscardMode, TransactionStmtKind, VariableSetKind};

use super::effect::Effect;
use super::expression::constant;
use super::name::Name;
use super::node::NodeKind;
use super::tree::Node;
use super::walk::{Walk, string};
use super::{ANY_SETTING, Call, CallKind, Handle, SettingAccess, SettingUse};

impl Walk<'_> {
    pub(super) fn session(&mut self, node: Node<'_>) {
        let name = |field| Name::new(node.text(field));
        // An empty name stands for all of them.
        let name_or_all =
            |field| Some(node.text(field)).filter(|text| !text.is_empty()).map(Name::new);
        match node.kind() {
            NodeKind::VariableSetStmt => return self.variable_set(node),
            NodeKind::VariableShowStmt => {
                let setting = node.text("name");
                let setting =
                    if setting.eq_ignore_ascii_case("all") { ANY_SETTING } else { setting };
                self.setting(setting, SettingAccess::Read, None);
            }
            NodeKind::TransactionStmt => return self.transaction(node),
            NodeKind::ConstraintsSetStmt => {
                self.effect(Effect::Transaction);
                return self.rest(node, &["constraints"]);
            }
            NodeKind::PrepareStmt => {
                self.effect(Effect::Prepare);
                self.handles.push(Handle::Prepare(name("name")));
            }
            NodeKind::ExecuteStmt => {
                self.effect(Effect::ExecutePrepared);
                self.handles.push(Handle::Execute(name("name")));
            }
            NodeKind::DeallocateStmt => {
                self.effect(Effect::Discard);
                self.handles.push(Handle::Deallocate(name_or_all("name")));
            }
            NodeKind::DiscardStmt => self.discard(node),
            NodeKind::DeclareCursorStmt => {
                self.effect(Effect::Cursor);
                self.handles.push(Handle::Declare(name("portalname")));
            }
            NodeKind::FetchStmt => {
                self.effect(Effect::Cursor);
                self.handles.push(Handle::Fetch(name("portalname")));
            }
            NodeKind::ClosePortalStmt => {
                self.effect(Effect::Cursor);
                self.handles.push(Handle::Close(name_or_all("portalname")));
            }
            NodeKind::ListenStmt | NodeKind::UnlistenStmt => {
                self.effect(Effect::Listen);
                let channel = name_or_all("conditionname").unwrap_or_else(|| Name::new("*"));
                self.handles.push(Handle::Channel(channel));
            }
            NodeKind::NotifyStmt => {
                self.effect(Effect::Notify);
                self.handles.push(Handle::Channel(name("conditionname")));
            }
            NodeKind::ExplainStmt => {
                self.effect(Effect::Explain);
                if node.nodes("options").any(analyses) {
                    self.effect(Effect::ExplainAnalyze);
                }
            }
            NodeKind::LockStmt => {
                for relation in node.nodes("relations") {
                    self.relation(relation, &[Effect::Lock]);
                }
                return self.rest(node, &["relations"]);
            }
            NodeKind::DoStmt => {
                self.effect(Effect::Do);
                self.code("block of DO");
            }
            _ => self.effect(Effect::Server), // LOAD
        }
        self.rest(node, &[]);
    }

    /// `SET`, `RESET`, and clauses like them of functions, roles, databases and the server.
    fn variable_set(&mut self, node: Node<'_>) {
        use VariableSetKind as V;
        let kind = i32::try_from(node.number("kind")).ok().and_then(|kind| V::try_from(kind).ok());
        let name = node.text("name");
        let arguments: Vec<_> = node.nodes("args").collect();
        match kind {
            Some(V::VarSetMulti) => self.transaction_modes(name, &arguments),
            Some(V::VarResetAll) => {
                self.setting(ANY_SETTING, self.access(SettingAccess::Reset), None)
            }
            Some(V::VarReset | V::VarSetDefault) => {
                self.setting(name, self.access(SettingAccess::Reset), None);
            }
            // `SET … FROM CURRENT`: the value is the session's.
            Some(V::VarSetCurrent) => self.setting(name, self.access(SettingAccess::Set), None),
            Some(V::VarSetValue | V::Undefined) | None => {
                let access = if node.flag("is_local") {
                    SettingAccess::SetLocal
                } else {
                    SettingAccess::Set
                };
                let values: Option<Vec<_>> = arguments.iter().copied().map(setting_value).collect();
                let value = values.map(|values| values.join(", ").into());
                self.setting(name, self.access(access), value);
            }
        }
        self.rest(node, &[]);
    }

    fn access(&self, access: SettingAccess) -> SettingAccess {
        if self.stored { SettingAccess::Stored } else { access }
    }

    /// `SET TRANSACTION …`, `SET SESSION CHARACTERISTICS …`, `BEGIN …`.
    fn transaction_modes(&mut self, which: &str, modes: &[Node<'_>]) {
        self.effect(Effect::Transaction);
        let (start, access) = if which == "SESSION CHARACTERISTICS" {
            ("default_", SettingAccess::Set)
        } else {
            ("", SettingAccess::SetLocal)
        };
        for mode in modes.iter().filter(|mode| mode.kind() == NodeKind::DefElem) {
            let name = mode.text("defname");
            // The name is that of a setting, but for the snapshot.
            let value = mode.node("arg").and_then(constant);
            let value = match name {
                "transaction_read_only" | "transaction_deferrable" => {
                    value.map(|value| if &*value == "0" { "off" } else { "on" }.into())
                }
                _ => value,
            };
            let name = format!("{start}{name}").into();
            self.settings.push(SettingUse { name, access, value });
        }
    }

    /// Notes what is done to a setting.
    pub(super) fn setting(&mut self, name: &str, access: SettingAccess, value: Option<Box<str>>) {
        let name = name.to_ascii_lowercase();
        let reads = access == SettingAccess::Read;
        if reads {
            self.effect(Effect::Show);
        } else if matches!(name.as_str(), "role" | "session_authorization") {
            self.effect(Effect::SetRole);
            match value.as_deref() {
                Some("none" | "default") | None => {}
                Some(role) => self.role(role),
            }
        } else {
            self.effect(Effect::Set);
            // One that is not told may be the role; to reset all leaves it.
            if name == ANY_SETTING && matches!(access, SettingAccess::Set | SettingAccess::SetLocal)
            {
                self.effect(Effect::SetRole);
            }
        }
        self.settings.push(SettingUse { name: name.into(), access, value });
    }

    fn transaction(&mut self, node: Node<'_>) {
        use TransactionStmtKind as T;
        let is = |kind: T| node.number("kind") == kind as i64;
        self.effect(Effect::Transaction);
        if [T::TransStmtPrepare, T::TransStmtCommitPrepared, T::TransStmtRollbackPrepared]
            .into_iter()
            .any(is)
        {
            self.effect(Effect::TwoPhase);
        }
        let modes: Vec<_> = node.nodes("options").collect();
        self.transaction_modes("TRANSACTION", &modes);
        self.rest(node, &[]);
    }

    fn discard(&mut self, node: Node<'_>) {
        self.effect(Effect::Discard);
        if node.number("target") == DiscardMode::DiscardAll as i64 {
            self.handles.extend([
                Handle::Close(None),
                Handle::Deallocate(None),
                Handle::Channel(Name::new("*")),
            ]);
            self.setting("session_authorization", SettingAccess::Reset, None);
            self.setting(ANY_SETTING, SettingAccess::Reset, None);
        }
    }

    /// SQL in a constant, which the server runs as part of this statement.
    pub(super) fn text(&mut self, text: &str) {
        super::analyse::inside(self, text);
    }

    /// SQL in a constant that another server runs: what can be read of it is kept, as if it were for this one.
    pub(super) fn foreign_text(&mut self, text: &str) {
        let known = self.unknown.len();
        super::analyse::inside(self, text);
        // The name of a connection or its parameters are no SQL, and that something is not known is said already.
        self.unknown.truncate(known);
    }

    /// A trigger's, cast's or other definition's function.
    pub(super) fn function_named<'t>(&mut self, parts: impl Iterator<Item = Node<'t>>) {
        let parts: Vec<_> = parts.filter_map(string).map(Name::new).collect();
        if parts.is_empty() {
            return;
        }
        let name = super::walk::qualified(parts);
        let constants = Vec::new();
        self.calls.add(Call { what: CallKind::Function, name, arguments: 0, constants });
    }
}

/// Whether an option of `EXPLAIN` makes it run the statement; one that can't be told does.
fn analyses(option: Node<'_>) -> bool {
    if option.text("defname") != "analyze" {
        return false;
    }
    let value = option.node("arg").map(|value| match string(value) {
        Some(text) => text.to_ascii_lowercase(),
        None if value.kind() == NodeKind::Boolean => value.flag("boolval").to_string(),
        None => value.number("ival").to_string(),
    });
    !matches!(value.as_deref(), Some("false" | "off" | "0"))
}

fn setting_value(argument: Node<'_>) -> Option<Box<str>> {
    match argument.kind() {
        NodeKind::String => string(argument).map(Into::into),
        _ => constant(argument),
    }
}
