//! From records to what a row shows.

use std::collections::HashMap;

use serde_json::Value;

use super::Column;
use crate::cli::printable;

/// Most sessions that are remembered; more than an agent has at a time.
const SESSIONS_MAX: usize = 1_000_000;

/// Reads records in the order of the file.
#[derive(Default)]
pub(super) struct Reader {
    sessions: HashMap<String, Session>,
    unreadable: u64,
}

/// What the start of a session said.
struct Session {
    actor: Value,
    destination: String,
    database: String,
    user: String,
    client_leg: String,
    server_leg: String,
    /// Empty when the login failed.
    handshake: String,
}

/// One row: all columns, ready to be shown.
#[derive(Default)]
pub(super) struct Entry {
    time: String,
    session: String,
    pid: String,
    exe: String,
    uid: String,
    cmdline: String,
    container: String,
    destination: String,
    database: String,
    user: String,
    client_leg: String,
    server_leg: String,
    handshake: String,
    statement: String,
    rows: String,
    duration: String,
    outcome: String,
    tier: String,
}

impl Entry {
    /// The text of a cell; a dash for what is not known or does not apply.
    pub(super) fn cell(&self, column: Column) -> String {
        let text = match column {
            Column::Time => &self.time,
            Column::Session => &self.session,
            Column::Pid => &self.pid,
            Column::Exe => &self.exe,
            Column::Uid => &self.uid,
            Column::Cmdline => &self.cmdline,
            Column::Container => &self.container,
            Column::Destination => &self.destination,
            Column::Database => &self.database,
            Column::User => &self.user,
            Column::ClientLeg => &self.client_leg,
            Column::ServerLeg => &self.server_leg,
            Column::Handshake => &self.handshake,
            Column::Statement => &self.statement,
            Column::Rows => &self.rows,
            Column::Duration => &self.duration,
            Column::Outcome => &self.outcome,
            Column::Tier => &self.tier,
        };
        if text.is_empty() { "-".to_owned() } else { text.clone() }
    }
}

impl Reader {
    /// How many lines were no records.
    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Whether a line is a record; others are counted.
    pub(super) fn is_record(&mut self, line: &[u8]) -> bool {
        self.parse(line).is_some()
    }

    /// The row of a line, if its record has one.
    pub(super) fn read(&mut self, line: &[u8]) -> Option<Entry> {
        let record = self.parse(line)?;
        let id = text(&record, "session");
        let mut entry = Entry {
            time: short_time(&text(&record, "time")),
            session: short_session(&id),
            destination: shown(&record, "destination"),
            tier: shown(&record, "tier"),
            ..Entry::default()
        };
        match record["event"].as_str()? {
            "session_start" => self.start(&mut entry, id, record)?,
            "session_end" => self.end(&mut entry, &id, &record)?,
            "statement" => self.statement(&mut entry, &id, &record),
            "cancel" => {
                entry.statement = format!("(cancel of backend {})", record["target_pid"]);
                entry.outcome = shown(&record, "outcome");
                entry.process(&record["actor"], &Value::Null);
            }
            "refused" => {
                entry.statement = format!("(refused: {})", explained(&record));
                entry.rows = error(&record).unwrap_or_default();
                entry.counted("refused", &record);
            }
            "allowed_unseen" => {
                "(allowed unseen: no agent was running)".clone_into(&mut entry.statement);
                entry.counted("unseen", &record);
            }
            "events_lost" => {
                entry.statement = format!("(lost: {})", shown(&record, "source"));
                entry.counted("lost", &record);
            }
            _ => return None,
        }
        Some(entry)
    }

    fn parse(&mut self, line: &[u8]) -> Option<Value> {
        let record = serde_json::from_slice::<Value>(line).ok();
        let record = record.filter(|record| record["event"].is_string());
        self.unreadable += u64::from(record.is_none());
        record
    }

    /// A login that succeeded has a row. What became of one that failed is said by the session's
    /// last record, which comes at once.
    fn start(&mut self, entry: &mut Entry, id: String, mut record: Value) -> Option<()> {
        let mut session = Session {
            destination: shown(&record, "destination"),
            database: shown(&record, "database"),
            user: shown(&record, "database_user"),
            client_leg: leg(&record, "client_tls"),
            server_leg: leg(&record, "server_tls"),
            handshake: shown(&record, "handshake"),
            actor: record["actor"].take(),
        };
        if session.handshake.is_empty() && record["server_tls"].is_null() {
            // There may have been no server leg at all.
            session.server_leg.clear();
        }
        let row = (!session.handshake.is_empty()).then(|| {
            entry.of(&session);
            entry.process(&Value::Null, &session.actor);
            entry.statement = login(&session, &record);
            "authenticated".clone_into(&mut entry.outcome);
        });
        if self.sessions.len() < SESSIONS_MAX {
            self.sessions.insert(id, session);
        }
        row
    }

    /// Only of a session that did not come to its first statement.
    fn end(&mut self, entry: &mut Entry, id: &str, record: &Value) -> Option<()> {
        let session = self.sessions.remove(id)?;
        let reason = shown(record, "reason");
        // The server may also refuse who is authenticated: there is no such database.
        if !session.handshake.is_empty() && !reason.starts_with("startup_") {
            return None;
        }
        entry.of(&session);
        entry.process(&Value::Null, &session.actor);
        entry.statement = format!("(no login as {}: {})", named(&session.user), explained(record));
        entry.rows = error(record).unwrap_or_default();
        entry.duration = record["duration_us"].as_u64().map(milliseconds).unwrap_or_default();
        entry.outcome = reason;
        Some(())
    }

    fn statement(&self, entry: &mut Entry, id: &str, record: &Value) {
        let session = self.sessions.get(id);
        let opener = session.map_or(&Value::Null, |session| &session.actor);
        entry.process(&record["writer"], opener);
        if let Some(session) = session {
            entry.of(session);
        }
        entry.time = short_time(&text(record, "started"));
        entry.statement = statement(record);
        entry.rows = rows(record);
        entry.duration = record["duration_us"].as_u64().map(milliseconds).unwrap_or_default();
        entry.outcome = shown(record, "outcome");
    }
}

impl Entry {
    /// Fills in what is the same in all rows of a session.
    fn of(&mut self, session: &Session) {
        self.destination.clone_from(&session.destination);
        self.database.clone_from(&session.database);
        self.user.clone_from(&session.user);
        self.client_leg.clone_from(&session.client_leg);
        self.server_leg.clone_from(&session.server_leg);
        self.handshake.clone_from(&session.handshake);
    }

    /// Fills in a process from its short form; `opener` adds what that leaves out when it is the
    /// same process.
    fn process(&mut self, writer: &Value, opener: &Value) {
        let same = writer["pid"].is_null() || writer["pid"] == opener["pid"];
        let opener = if same { opener } else { &Value::Null };
        let field = |name: &str| match shown(writer, name) {
            empty if empty.is_empty() => shown(opener, name),
            text => text,
        };
        self.pid = field("pid");
        self.exe = field("exe");
        self.uid = field("uid");
        self.cmdline = field("cmdline");
        self.container = match container(&writer["container"]) {
            empty if empty.is_empty() => container(&opener["container"]),
            text => text,
        };
    }

    fn counted(&mut self, outcome: &str, record: &Value) {
        self.process(&record["actor"], &Value::Null);
        outcome.clone_into(&mut self.outcome);
        if record["count"].as_u64() != Some(1) {
            self.rows = format!("{} times", shown(record, "count"));
        }
    }
}

/// `feed000000000001000000000000002a` as `feed:42`.
pub(in crate::cli) fn short_session(id: &str) -> String {
    match (id.get(..4), id.get(16..).map(|counter| u64::from_str_radix(counter, 16))) {
        (Some(epoch), Some(Ok(counter))) => format!("{}:{counter}", printable(epoch)),
        _ => printable(id),
    }
}

/// `2026-02-28T23:59:59.000000042Z` as `2026-02-28 23:59:59.000`.
pub(in crate::cli) fn short_time(time: &str) -> String {
    match (time.get(..10), time.get(11..23)) {
        (Some(day), Some(second)) => printable(&format!("{day} {second}")),
        _ => printable(time),
    }
}

fn text(record: &Value, field: &str) -> String {
    record[field].as_str().unwrap_or_default().to_owned()
}

/// A field as it may be shown: text, a number, or a list of arguments.
fn shown(record: &Value, field: &str) -> String {
    match &record[field] {
        Value::String(text) => printable(text),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            printable(&items.join(" "))
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => String::new(),
    }
}

/// The name of a container, or the beginning of its id.
fn container(value: &Value) -> String {
    let id = || value["id"].as_str().map(|id| id.chars().take(12).collect::<String>());
    let name = value.as_str().or_else(|| value["name"].as_str()).map(str::to_owned);
    printable(&name.or_else(id).unwrap_or_default())
}

/// TLS in a few words begins with its version; a leg without is in clear text.
fn leg(record: &Value, field: &str) -> String {
    let version = record[field].as_str().and_then(|tls| tls.split(' ').next());
    printable(version.unwrap_or("clear"))
}

/// Who carried out the exchange, and what protects each leg: in this order, as lines may be cut.
fn login(session: &Session, record: &Value) -> String {
    let Session { user, client_leg, server_leg, handshake, .. } = session;
    let to = match shown(record, "login") {
        login if login.is_empty() => login,
        login => format!(" to {login}"),
    };
    let user = named(user);
    let mut text =
        format!("(login as {user}: {handshake}{to}, client {client_leg}, server {server_leg}");
    match shown(record, "bound") {
        legs if legs.is_empty() => {}
        legs => text.push_str(&format!(", bound to {}", legs.replace(' ', " and "))),
    }
    match shown(record, "exception") {
        reason if reason.is_empty() => {}
        reason => text.push_str(&format!(", exception: {reason}")),
    }
    text.push(')');
    text
}

fn named(user: &str) -> &str {
    if user.is_empty() { "nobody" } else { user }
}

/// The reason of a refusal, with what is known more about it.
fn explained(record: &Value) -> String {
    match (shown(record, "reason"), shown(record, "detail")) {
        (reason, detail) if detail.is_empty() => reason,
        (reason, detail) => format!("{reason}: {detail}"),
    }
}

/// The code of the error that somebody was told.
fn error(record: &Value) -> Option<String> {
    ["sqlstate", "commit_sqlstate"]
        .into_iter()
        .find(|field| record[field].is_string())
        .map(|field| format!("ERROR {}", shown(record, field)))
}

fn statement(record: &Value) -> String {
    let text = match (&record["text"], record["text_encoding"].is_string()) {
        (Value::String(text), false) => printable(text),
        (Value::String(text), true) => format!("(base64) {}", printable(text)),
        _ => String::new(),
    };
    let text = match (text.is_empty(), record["function_oid"].as_u64()) {
        (true, Some(oid)) => format!("(function {oid})"),
        (true, None) if record["text_state"] == "unknown" => "(unknown)".to_owned(),
        _ => text,
    };
    match record["kind"].as_str() {
        Some("parse" | "bind" | "describe" | "close") => {
            format!("({}) {text}", shown(record, "kind"))
        }
        _ => text,
    }
}

/// Rows sent; else what the tag counts or COPY moved; the error of a statement that failed.
fn rows(record: &Value) -> String {
    if let Some(error) = error(record) {
        return error;
    }
    match record["outcome"].as_str() {
        Some("completed" | "suspended") | None => {}
        Some(outcome) => return printable(outcome),
    }
    let sent = record["rows"].as_u64().unwrap_or(0);
    if sent > 0 {
        return sent.to_string();
    }
    let tagged = record["tag"].as_str().and_then(|tag| tag.rsplit(' ').next());
    let tagged = tagged.and_then(|count| count.parse::<u64>().ok());
    let copied = record["copy_in"]["rows"].as_u64().or(record["copy_out"]["rows"].as_u64());
    tagged.or(copied).map(|count| count.to_string()).unwrap_or_default()
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}
