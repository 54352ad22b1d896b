//! Entries in their order, put together and with what is known of their session.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::Found;
use crate::audit::schema::EventKind;
use crate::audit::view::{self, Item, Joined, Object, ViewError};

/// Most sessions that are remembered.
const SESSIONS_MAX: usize = 200_000;
/// Most writers of a session that are remembered.
const ACTORS_MAX: usize = 256;

/// What the beginning of a session said, and who writes in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionFacts {
    /// Its `session_start`, and of `authentication` what that adds.
    pub start: Object,
    /// Identities of its later writers, in full.
    pub actors: Vec<Value>,
}

impl SessionFacts {
    /// The whole of an identity of which a statement has only the short form.
    pub fn in_full(&self, brief: &Value) -> Option<&Value> {
        let same = |actor: &&Value| {
            ["pid", "start_ns", "exec"].iter().all(|name| actor[*name] == brief[*name])
        };
        self.start.get("actor").into_iter().chain(self.actors.iter().rev()).find(same)
    }
}

/// Takes entries in their order, and gives what they come to.
#[derive(Default)]
pub struct Assembler {
    joined: Joined,
    sessions: HashMap<String, Arc<SessionFacts>>,
}

impl Assembler {
    /// Takes the next entry.
    pub fn push(&mut self, index: u64, entry: &[u8]) -> Result<Vec<Found>, ViewError> {
        let kind = view::kind(entry);
        if matches!(
            kind,
            Some(EventKind::SessionStart | EventKind::Writer | EventKind::Authentication)
        ) {
            self.note(kind, view::object(entry)?);
        }
        let items = self.joined.push(index, entry)?;
        let found = self.found(items);
        if kind == Some(EventKind::SessionEnd)
            && let Some(id) = found.last().and_then(|found| found.object.get("session")?.as_str())
        {
            self.sessions.remove(id);
        }
        if kind == Some(EventKind::AgentStart) {
            self.sessions.clear();
        }
        Ok(found)
    }

    /// Gives what is still under way.
    pub fn finish(&mut self, index: u64) -> Vec<Found> {
        let items = self.joined.finish(index);
        self.found(items)
    }

    /// Whether the start of a session was seen.
    pub fn knows(&self, session: &str) -> bool {
        self.sessions.contains_key(session)
    }

    fn note(&mut self, kind: Option<EventKind>, mut object: Object) {
        let Some(id) = object.get("session").and_then(Value::as_str).map(str::to_owned) else {
            return;
        };
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&id) {
            return;
        }
        let facts = Arc::make_mut(self.sessions.entry(id).or_default());
        if kind == Some(EventKind::SessionStart) {
            facts.start = object;
        } else if kind == Some(EventKind::Writer) {
            if facts.actors.len() < ACTORS_MAX {
                facts.actors.extend(object.remove("actor"));
            }
        } else {
            for (name, value) in object {
                facts.start.entry(name).or_insert(value);
            }
        }
    }

    fn found(&self, items: Vec<Item>) -> Vec<Found> {
        let with = |Item { index, object }| {
            let id = object.get("session").and_then(Value::as_str);
            let session = id.and_then(|id| self.sessions.get(id)).cloned();
            Found { epoch: 0, index, object, session }
        };
        items.into_iter().map(with).collect()
    }
}
