//! What belongs together, together: one statement with its outcome, one session with its login.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::{Object, ViewError, object, rfc3339, time};
use crate::audit::time::WallNanos;

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
/// intent; where there is none, that of the outcome less its duration. An intent without an outcome has the outcome `unknown`, and is given at the end of its
/// session, or when the agent starts again, or by [`Joined::finish`]. `session_start` is given with
/// what `authentication` adds. Everything else is given as it is.
#[derive(Default)]
pub struct Joined {
    sessions: HashMap<String, Session>,
    /// Sessions by the index of the first entry of each that was read.
    order: BTreeMap<u64, String>,
}

#[derive(Default)]
struct Session {
    /// Index of the first entry of it that was read.
    followed_from: u64,
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
                if !self.sessions.contains_key(&id) {
                    // It began in a part of the log that is not read.
                    self.follow(index, id.clone(), Session::default(), &mut out);
                }
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.push(index, &event, entry, object, &mut out);
                }
                if event == "session_end"
                    && let Some(session) = self.sessions.remove(&id)
                {
                    self.order.remove(&session.followed_from);
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
        let mut session = Session::default();
        session.actors.extend(object.get("actor").map(|actor| (0, brief(actor))));
        session.start = Some(object);
        self.follow(index, id, session, out);
    }

    fn follow(&mut self, index: u64, id: String, session: Session, out: &mut Vec<Item>) {
        if self.sessions.len() >= SESSIONS_MAX
            && let Some((_, oldest)) = self.order.pop_first()
            && let Some(mut session) = self.sessions.remove(&oldest)
        {
            session.end(index, out);
        }
        self.order.insert(index, id.clone());
        let session = Session { followed_from: index, ..session };
        if let Some(mut other) = self.sessions.insert(id, session) {
            // Never of a log that an agent wrote: names of sessions are not given twice.
            self.order.remove(&other.followed_from);
            other.end(index, out);
        }
    }

    fn drain(&mut self, index: u64, out: &mut Vec<Item>) {
        for (_, id) in std::mem::take(&mut self.order) {
            if let Some(mut session) = self.sessions.remove(&id) {
                session.end(index, out);
            }
        }
    }
}

impl Session {
    fn push(
        &mut self,
        index: u64,
        event: &str,
        entry: &[u8],
        mut object: Object,
        out: &mut Vec<Item>,
    ) {
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
            "statement" => self.note_text(seq, &object),
            "intent" => {
                self.note_text(seq, &object);
                self.resolve(&mut object);
                self.intents.insert(seq, object);
            }
            "outcome" => {
                self.note_text(seq, &object);
                let done = self.joined(entry, object);
                out.push(Item { index, object: done });
            }
            "denied" => {
                self.note_text(seq, &object);
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

    /// Remembers the text of an entry that holds one: later ones may refer to it.
    fn note_text(&mut self, seq: u64, object: &Object) {
        if object.contains_key("text") {
            let field = |name: &&str| Some(((*name).to_owned(), object.get(*name)?.clone()));
            self.texts.insert(seq, TEXT.iter().filter_map(field).collect());
        }
    }

    /// Puts in place what is referred to. A reference to what was not read stays.
    fn resolve(&self, object: &mut Object) {
        if let Some(text) = number(object, "text_ref").and_then(|seq| self.texts.get(&seq)) {
            object.shift_remove("text_ref");
            for (name, value) in text {
                object.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        if let Some(who) = self.actor(number(object, "writer_ref").unwrap_or(0)) {
            object.shift_remove("writer_ref");
            object.insert("writer".to_owned(), who);
        }
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

    fn joined(&mut self, entry: &[u8], mut outcome: Object) -> Object {
        let intent = number(&outcome, "intent").and_then(|seq| self.intents.remove(&seq));
        let mut whole = match intent {
            Some(mut intent) => {
                // Only an outcome that knows more of its writers than the intent names a tier.
                if outcome.contains_key("tier") {
                    for name in ["writer", "writer_ref", "shared_with", "shared_with_more"] {
                        intent.shift_remove(name);
                    }
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
                outcome.extend(started(entry, &outcome).map(|time| ("started".to_owned(), time)));
                outcome
            }
        };
        whole.insert("event".to_owned(), "statement".into());
        whole
    }
}

/// When a statement came of which there is no intent.
fn started(entry: &[u8], outcome: &Object) -> Option<Value> {
    let took = number(outcome, "duration_us")?.saturating_mul(1_000);
    Some(rfc3339(WallNanos(time(entry)?.0.saturating_sub(took))).into())
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
