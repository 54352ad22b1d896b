//! What is searched for, and whether something is it.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::Found;
use crate::audit::index::{Fact, FactKind, of_actor, of_errors, of_start, word_hash, words};
use crate::audit::view::Object;

/// What is searched for. What is `None` does not matter; all else has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// From this moment, nanoseconds since 1970.
    pub since: Option<u64>,
    /// Before this moment.
    pub until: Option<u64>,
    /// Session.
    pub session: Option<Session>,
    /// Role in the database.
    pub user: Option<String>,
    /// Database.
    pub database: Option<String>,
    /// Process.
    pub process: Option<Process>,
    /// Container: its name, that of its pod, or the beginning of its id.
    pub container: Option<String>,
    /// Relation.
    pub relation: Option<Relation>,
    /// Error.
    pub sqlstate: Option<SqlState>,
    /// Words.
    pub text: Option<Words>,
    /// Kinds, as they are called in JSON. Empty: all.
    pub events: Vec<String>,
}

/// A session, or several whose id begins alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    prefix: String,
    counter: Option<u64>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// Its number.
    Pid(u64),
    /// Path of its program.
    Path(String),
    /// Its name, or the last part of the path of its program.
    Name(String),
}

/// A relation or a function, as it would be written in a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation(Words);

/// Code of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlState(String);

/// Words that a statement must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(Vec<Vec<u8>>);

impl Query {
    /// Whether this is what is searched for.
    pub fn fits(&self, found: &Found) -> bool {
        let object = &found.object;
        if self.since.is_some() || self.until.is_some() {
            let Some(time) = time(object) else { return false };
            let early = self.since.is_some_and(|since| time < since);
            if early || self.until.is_some_and(|until| time >= until) {
                return false;
            }
        }
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        if !self.events.is_empty() {
            let event = text("event");
            if !self.events.iter().any(|wanted| Some(wanted.as_str()) == event) {
                return false;
            }
        }
        if let Some(session) = &self.session
            && !text("session").is_some_and(|id| session.fits_text(id))
        {
            return false;
        }
        if !self.words().is_empty() {
            let Some(shown) = shown_text(object) else { return false };
            let mut wanted: Vec<&[u8]> = self.words();
            for word in words(&shown) {
                wanted.retain(|one| *one != word);
            }
            if !wanted.is_empty() {
                return false;
            }
        }
        let wants = self.facts();
        if wants.is_empty() {
            return true;
        }
        let facts = facts(found);
        wants.iter().all(|want| facts.iter().any(|fact| want.fits(fact)))
    }

    /// All words that the text of a statement must have.
    pub fn words(&self) -> Vec<&[u8]> {
        let of = [self.text.as_ref(), self.relation.as_ref().map(|relation| &relation.0)];
        of.into_iter().flatten().flat_map(|words| &words.0).map(Vec::as_slice).collect()
    }

    /// Their hashes.
    pub fn word_hashes(&self) -> Vec<u64> {
        self.words().into_iter().map(word_hash).collect()
    }

    /// Of each of these, something must have a fact that fits.
    pub fn facts(&self) -> Vec<Want<'_>> {
        [
            self.user.as_deref().map(Want::User),
            self.database.as_deref().map(Want::Database),
            self.process.as_ref().map(Want::Process),
            self.container.as_deref().map(Want::Container),
            self.sqlstate.as_ref().map(|state| Want::SqlState(&state.0)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// One condition on facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<'q> {
    /// Role.
    User(&'q str),
    /// Database.
    Database(&'q str),
    /// Process.
    Process(&'q Process),
    /// Container.
    Container(&'q str),
    /// Error.
    SqlState(&'q str),
}

impl Want<'_> {
    /// Whether a fact is what is asked for.
    pub fn fits(&self, fact: &Fact) -> bool {
        let value = fact.value.as_str();
        match (self, fact.kind) {
            (Self::User(user), FactKind::User) => *user == value,
            (Self::Database(database), FactKind::Database) => *database == value,
            (Self::Process(Process::Pid(pid)), FactKind::Pid) => value.parse() == Ok(*pid),
            (Self::Process(Process::Path(path)), FactKind::Exe) => path == value,
            (Self::Process(Process::Name(name)), FactKind::Comm) => name == value,
            (Self::Process(Process::Name(name)), FactKind::Exe) => {
                value.rsplit('/').next() == Some(name)
            }
            (Self::Container(name), FactKind::ContainerName | FactKind::Pod) => *name == value,
            (Self::Container(id), FactKind::ContainerId) => value.starts_with(id),
            (Self::SqlState(state), FactKind::SqlState) => *state == value,
            (
                Self::User(_)
                | Self::Database(_)
                | Self::Process(_)
                | Self::Container(_)
                | Self::SqlState(_),
                _,
            ) => false,
        }
    }
}

/// Time of an object, nanoseconds since 1970.
pub fn time(object: &Object) -> Option<u64> {
    let time = humantime::parse_rfc3339(object.get("time")?.as_str()?).ok()?;
    u64::try_from(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos()).ok()
}

/// Bytes of the statement, as far as they are held in clear.
fn shown_text(object: &Object) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let text = object.get("text")?.as_str()?;
    match object.get("text_encoding") {
        Some(_) => base64::engine::general_purpose::STANDARD.decode(text).ok(),
        None => Some(text.as_bytes().to_owned()),
    }
}

/// What is known of an object: of those who wrote it, else of who opened the session.
fn facts(found: &Found) -> Vec<Fact> {
    let object = &found.object;
    let mut facts = Vec::new();
    of_errors(object, &mut facts);
    if let Some(session) = &found.session {
        of_start(&session.start, &mut facts);
    }
    of_start(object, &mut facts);
    let shared = object.get("shared_with").and_then(Value::as_array);
    let mut actors = object
        .get("writer")
        .into_iter()
        .chain(object.get("actor"))
        .chain(shared.into_iter().flatten())
        .filter(|actor| actor.is_object())
        .peekable();
    match (&found.session, actors.peek()) {
        (Some(session), None) => {
            session.start.get("actor").into_iter().for_each(|actor| of_actor(actor, &mut facts));
        }
        (session, _) => {
            for actor in actors {
                let full = session.as_ref().and_then(|session| session.in_full(actor));
                of_actor(full.unwrap_or(actor), &mut facts);
            }
        }
    }
    facts
}

impl Session {
    /// Whether it is this id.
    pub fn fits(&self, id: &[u8; 16]) -> bool {
        self.fits_text(&hex::encode(id))
    }

    /// Whether it is this id, in hexadecimal digits.
    pub fn fits_text(&self, id: &str) -> bool {
        let counter = || id.get(16..).and_then(|counter| u64::from_str_radix(counter, 16).ok());
        id.starts_with(&self.prefix) && self.counter.is_none_or(|wanted| counter() == Some(wanted))
    }

    /// All 32 digits, when it names one session.
    pub fn whole(&self) -> Option<&str> {
        (self.prefix.len() == 32).then_some(&self.prefix)
    }
}

impl FromStr for Session {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (prefix, counter) = match text.split_once(':') {
            None => (text, None),
            Some((prefix, counter)) => (prefix, Some(counter.parse().map_err(|_| expected(text))?)),
        };
        let most = if counter.is_some() { 16 } else { 32 };
        let digits = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        if prefix.is_empty() || prefix.len() > most || !digits {
            return Err(expected(text));
        }
        Ok(Self { prefix: prefix.to_ascii_lowercase(), counter })
    }
}

fn expected(text: &str) -> String {
    format!(
        "expected up to 32 hexadecimal digits, or four and a counter (`feed:42`), found `{text}`"
    )
}

impl FromStr for Process {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("pid=") {
            Some(pid) => pid
                .parse()
                .map(Self::Pid)
                .map_err(|_| format!("expected `pid=` and a number, found `{text}`")),
            None if text.is_empty() => Err("expected a process, found nothing".to_owned()),
            None if text.contains('/') => Ok(Self::Path(text.to_owned())),
            None => Ok(Self::Name(text.to_owned())),
        }
    }
}

impl FromStr for Words {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<Vec<u8>> = words(text.as_bytes()).collect();
        if words.is_empty() {
            return Err(format!("expected words, found `{text}`"));
        }
        Ok(Self(words))
    }
}

impl FromStr for Relation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl FromStr for SqlState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() != 5 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("expected five letters and digits, found `{text}`"));
        }
        Ok(Self(text.to_ascii_uppercase()))
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix)?;
        self.counter.map_or(Ok(()), |counter| write!(f, ":{counter}"))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "pid={pid}"),
            Self::Path(text) | Self::Name(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.iter().map(|word| String::from_utf8_lossy(word));
        f.write_str(&words.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
