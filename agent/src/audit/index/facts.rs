//! What entries are looked for by, apart from their words: who, on what, which error, which kind.

use serde_json::Value;

use crate::audit::view::Object;

/// What a [`Fact`] says. Its number stands in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FactKind {
    /// Role in the database.
    User = 1,
    /// Database.
    Database = 2,
    /// Path of a process's program.
    Exe = 3,
    /// Name of a process.
    Comm = 4,
    /// Process id, in decimal digits.
    Pid = 5,
    /// Id of a container.
    ContainerId = 6,
    /// Name of a container.
    ContainerName = 7,
    /// Kubernetes pod.
    Pod = 8,
    /// Name of a kind of entry.
    Event = 9,
    /// SQLSTATE.
    SqlState = 10,
}

impl FactKind {
    /// All of them, ascending.
    pub const ALL: [Self; 10] = [
        Self::User,
        Self::Database,
        Self::Exe,
        Self::Comm,
        Self::Pid,
        Self::ContainerId,
        Self::ContainerName,
        Self::Pod,
        Self::Event,
        Self::SqlState,
    ];

    /// The kind with `number`.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One thing that is known of an entry or a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fact {
    /// What it says.
    pub kind: FactKind,
    /// Its value, as JSON has it.
    pub value: String,
}

/// Facts of an identity, as entries hold it in full.
pub fn of_actor(actor: &Value, facts: &mut Vec<Fact>) {
    let container = &actor["container"];
    for (kind, value) in [
        (FactKind::Exe, &actor["exe"]),
        (FactKind::Comm, &actor["comm"]),
        (FactKind::Pid, &actor["pid"]),
        (FactKind::ContainerId, &container["id"]),
        (FactKind::ContainerName, &container["name"]),
        (FactKind::Pod, &container["pod"]),
    ] {
        push(kind, value, facts);
    }
}

/// Facts of `session_start` apart from its identity.
pub fn of_start(start: &Object, facts: &mut Vec<Fact>) {
    for (kind, name) in [(FactKind::User, "database_user"), (FactKind::Database, "database")] {
        if let Some(value) = start.get(name) {
            push(kind, value, facts);
        }
    }
}

/// SQLSTATEs of an entry.
pub fn of_errors(object: &Object, facts: &mut Vec<Fact>) {
    for name in ["sqlstate", "commit_sqlstate"] {
        if let Some(value) = object.get(name) {
            push(FactKind::SqlState, value, facts);
        }
    }
}

fn push(kind: FactKind, value: &Value, facts: &mut Vec<Fact>) {
    let value = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return,
    };
    facts.push(Fact { kind, value });
}
