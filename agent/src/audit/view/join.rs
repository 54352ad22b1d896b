//! What belongs together, together: one statement with its outcome, one session with its login.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::{Object, ViewError, object};

/// Sessions that are followed at the same time; those that began first are let go beyond.
const SESSIONS_MAX: usize = 200_000;

/// One thing to show.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Index of the entry that completed it.
    pub index: u64,
    /// It.
    pub object: Object,
}

/// Takes entries in their order, and gives what they come to.
///
/// A statement is given when its outcome is known, as an object with `event` `statement`: `seq`,
/// text and writer are those of the intent, `time` is that of the outcome, `started` that of the
/// intent. An intent without an outcome has the outcome `unknown`, and is given at the end of its
/// session, or when the agent starts again, or by [`Joined::finish`]. `session_start` is given with
/// what `authentication` adds. Everything else is given as it is.
#[derive(Default)]
pub struct Joined {
    sessions: HashMap<String, Session>,
    /// Sessions in the order in which they began.
    order: BTreeMap<u64, String>,
}

#[derive(Default)]
struct Session {
    began: u64,
    start: Option<Object>,
    /// Identities by `seq` of the entry that names them.
    actors: BTreeMap<u64, Value>,
    /// What later entries refer to as their text, by `seq`.
    texts: BTreeMap<u64, Object>,
    /// Statements under way, by `seq` of the intent.
    intents: BTreeMap<u64, Object>,
}

/// Fields that are of the text.
const TEXT: [&str; 8] = [
    "text",
    "text_encoding",
    "text_bytes",
    "text_commitment",
    "text_hash",
    "text_never",
    "text_state",
    "client_encoding",
];
/// Fields of an outcome that are not those of the statement.
const STAMP: [&str; 7] = ["v", "event", "salt", "clock", "session", "seq", "intent"];

impl Joined {
    /// Takes the next entry.
    pub fn push(&mut self, index: u64, entry: &[u8]) -> Result<Vec<Item>, ViewError> {
        let object = object(entry)?;
        let mut out = Vec::new();
        let id = text(&object, "session").map(str::to_owned);
        match (text(&object, "event"), id) {
            (Some("agent_start"), _) => {
                self.drain(index, &mut out);
                out.push(Item { index, object });
            }
            (Some("session_start"), Some(id)) => self.begin(index, id, object, &mut out),
            (Some(event), Some(id)) => {
                let event = event.to_owned();
                let session = self.sessions.entry(id.clone()).or_default();
                session.push(index, &event, object, &mut out);
                if event == "session_end" {
                    self.order.remove(&session.began);
                    self.sessions.remove(&id);
                }
            }
            (_, _) => out.push(Item { index, object }),
        }
        Ok(out)
    }

    /// Gives what is still under way.
    pub fn finish(&mut self, index: u64) -> Vec<Item> {
        let mut out = Vec::new();
        self.drain(index, &mut out);
        out
    }

    fn begin(&mut self, index: u64, id: String, object: Object, out: &mut Vec<Item>) {
        if self.sessions.len() >= SESSIONS_MAX
            && let Some((_, oldest)) = self.order.pop_first()
            && let Some(mut session) = self.sessions.remove(&oldest)
        {
            session.end(index, out);
        }
        let mut session = Session { began: index, ..Session::default() };
        session.actors.extend(object.get("actor").map(|actor| (0, brief(actor))));
        session.start = Some(object);
        self.order.insert(index, id.clone());
        self.sessions.insert(id, session);
    }

    fn drain(&mut self, index: u64, out: &mut Vec<Item>) {
        for (_, id) in std::mem::take(&mut self.order) {
            if let Some(mut session) = self.sessions.remove(&id) {
                session.end(index, out);
            }
        }
        self.sessions.clear();
    }
}

impl Session {
    fn push(&mut self, index: u64, event: &str, mut object: Object, out: &mut Vec<Item>) {
        let seq = number(&object, "seq").unwrap_or_default();
        match event {
            "authentication" => {
                let mut start = self.start.take().unwrap_or_default();
                for (name, value) in object {
                    if !STAMP.contains(&name.as_str()) && name != "time" && name != "boot_ns" {
                        start.insert(name, value);
                    }
                }
                out.push(Item { index, object: start });
            }
            "writer" => {
                self.actors.extend(object.get("actor").map(|actor| (seq, brief(actor))));
            }
            "statement" => {
                self.texts.insert(seq, self.text_of(&object));
            }
            "intent" => {
                if object.contains_key("text") {
                    self.texts.insert(seq, self.text_of(&object));
                }
                self.resolve(&mut object);
                self.intents.insert(seq, object);
            }
            "outcome" => {
                let done = self.joined(object);
                out.push(Item { index, object: done });
            }
            "denied" => {
                self.resolve(&mut object);
                out.push(Item { index, object });
            }
            "session_end" => {
                self.end(index, out);
                out.push(Item { index, object });
            }
            _ => out.push(Item { index, object }),
        }
    }

    /// Gives what is left of the session.
    fn end(&mut self, index: u64, out: &mut Vec<Item>) {
        out.extend(self.start.take().map(|object| Item { index, object }));
        for (_, mut object) in std::mem::take(&mut self.intents) {
            let started = object.get("time").cloned();
            object.insert("event".to_owned(), "statement".into());
            object.insert("outcome".to_owned(), "unknown".into());
            object.extend(started.map(|time| ("started".to_owned(), time)));
            out.push(Item { index, object });
        }
    }

    fn text_of(&self, object: &Object) -> Object {
        TEXT.iter()
            .filter_map(|name| Some(((*name).to_owned(), object.get(*name)?.clone())))
            .collect()
    }

    /// Puts in place what is referred to.
    fn resolve(&self, object: &mut Object) {
        if let Some(text) =
            object.shift_remove("text_ref").and_then(|seq| self.texts.get(&seq.as_u64()?))
        {
            for (name, value) in text {
                object.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let writer = object.shift_remove("writer_ref").and_then(|seq| seq.as_u64());
        object.extend(self.actor(writer.unwrap_or(0)).map(|who| ("writer".to_owned(), who)));
        if let Some(Value::Array(shared)) = object.get_mut("shared_with") {
            for seq in shared {
                if let Some(actor) = seq.as_u64().and_then(|number| self.actor(number)) {
                    *seq = actor;
                }
            }
        }
    }

    fn actor(&self, seq: u64) -> Option<Value> {
        self.actors.get(&seq).cloned()
    }

    fn joined(&mut self, mut outcome: Object) -> Object {
        let intent = number(&outcome, "intent").and_then(|seq| self.intents.remove(&seq));
        let mut whole = match intent {
            Some(mut intent) => {
                let named = ["writer_ref", "shared_with"].map(|name| outcome.contains_key(name));
                if named.contains(&true) {
                    self.resolve(&mut outcome);
                }
                let started = intent.get("time").cloned();
                intent.extend(started.map(|time| ("started".to_owned(), time)));
                for (name, value) in outcome {
                    if !STAMP.contains(&name.as_str()) {
                        intent.insert(name, value);
                    }
                }
                intent
            }
            None => {
                self.resolve(&mut outcome);
                outcome
            }
        };
        whole.insert("event".to_owned(), "statement".into());
        whole
    }
}

/// The part of an identity that each statement is shown with: enough to find the process.
fn brief(actor: &Value) -> Value {
    let mut out = Object::new();
    for name in ["pid", "start_ns", "exec", "comm", "exe", "uid"] {
        out.extend(actor.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let container = actor.get("container");
    let named = container.and_then(|container| container.get("name").or(container.get("id")));
    out.extend(named.map(|name| ("container".to_owned(), name.clone())));
    json!(out)
}

fn text<'o>(object: &'o Object, name: &str) -> Option<&'o str> {
    object.get(name).and_then(Value::as_str)
}

fn number(object: &Object, name: &str) -> Option<u64> {
    object.get(name).and_then(Value::as_u64)
}
