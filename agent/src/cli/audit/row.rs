//! What a row of the table shows of something that was found.

use serde_json::Value;

use super::table::Column;
use crate::audit::search::Found;
use crate::audit::view::Object;
use crate::cli::{printable, short_session, short_time};

/// One row: all columns, ready to be shown.
#[derive(Default)]
pub(super) struct Row {
    time: String,
    index: String,
    session: String,
    pid: String,
    program: String,
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

static NULL: Value = Value::Null;

impl Row {
    /// The text of a cell; a dash for what is not known or does not apply.
    pub(super) fn cell(&self, column: Column) -> String {
        let text = match column {
            Column::Time => &self.time,
            Column::Index => &self.index,
            Column::Session => &self.session,
            Column::Pid => &self.pid,
            Column::Program => &self.program,
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

    /// The row of something.
    pub(super) fn of(found: &Found) -> Self {
        let object = &found.object;
        let mut row = Self {
            time: short_time(&shown(object, "time")),
            index: format!("{}:{}", found.epoch, found.index),
            session: object
                .get("session")
                .and_then(Value::as_str)
                .map_or_else(String::new, short_session),
            tier: shown(object, "tier"),
            duration: object
                .get("duration_us")
                .and_then(Value::as_u64)
                .map(milliseconds)
                .unwrap_or_default(),
            rows: error(object).unwrap_or_default(),
            ..Self::default()
        };
        row.of_session(found);
        row.process(found);
        let event = field(object, "event").as_str().unwrap_or_default();
        row.statement = match event {
            "statement" | "denied" => statement(object),
            "session_start" => login(object),
            "session_end" => format!("(end: {})", explained(object)),
            "cancel" => format!("(cancel of backend {})", shown(object, "target_pid")),
            "refused" => format!("(refused: {})", explained(object)),
            "allowed_unseen" => "(allowed unseen: no agent was running)".to_owned(),
            "events_lost" => format!("(lost: {})", shown(object, "lost")),
            _ => other(event, object),
        };
        match event {
            "statement" => {
                if let Some(started) = object.get("started").and_then(Value::as_str) {
                    row.time = short_time(started);
                }
                row.rows = rows(object);
                row.outcome = shown(object, "outcome");
            }
            "denied" => row.outcome = "denied".to_owned(),
            "session_start" => {
                row.outcome = match shown(object, "reason") {
                    reason if !reason.is_empty() => reason,
                    _ if field(object, "handshake").is_string() => "authenticated".to_owned(),
                    _ => String::new(),
                };
            }
            "session_end" => row.outcome = shown(object, "reason"),
            "cancel" => row.outcome = shown(object, "cancel_outcome"),
            "refused" | "allowed_unseen" | "events_lost" => {
                event.clone_into(&mut row.outcome);
                if field(object, "count").as_u64() != Some(1) {
                    row.rows = format!("{} times", shown(object, "count"));
                }
            }
            _ => row.outcome = shown(object, "action"),
        }
        row
    }

    /// Fills in what is the same in all rows of a session.
    fn of_session(&mut self, found: &Found) {
        let start = found.session.as_ref().map_or(&found.object, |session| &session.start);
        let text = |name: &str| match shown(&found.object, name) {
            empty if empty.is_empty() => shown(start, name),
            text => text,
        };
        self.destination = text("destination");
        self.database = text("database");
        self.user = text("database_user");
        self.handshake = text("handshake");
        if start.contains_key("destination") && start.contains_key("database_user") {
            self.client_leg = leg(start, "client_tls");
            // Without an exchange there may have been no server leg at all.
            if !self.handshake.is_empty() || start.contains_key("server_tls") {
                self.server_leg = leg(start, "server_tls");
            }
        }
    }

    /// Fills in the process: of the writer, else of who is named, else of who opened the session.
    fn process(&mut self, found: &Found) {
        let object = &found.object;
        let session = found.session.as_deref();
        let named = object.get("writer").or(object.get("actor")).filter(|actor| actor.is_object());
        let opener = || session.and_then(|session| session.start.get("actor"));
        let Some(brief) = named.or_else(opener) else { return };
        let full = session.and_then(|session| session.in_full(brief)).unwrap_or(brief);
        let text = |name: &str| match show(&brief[name]) {
            empty if empty.is_empty() => show(&full[name]),
            text => text,
        };
        self.pid = text("pid");
        self.exe = text("exe");
        self.uid = text("uid");
        self.cmdline = text("cmdline");
        self.program = match self.exe.rsplit('/').next() {
            Some(name) if !name.is_empty() => name.to_owned(),
            Some(_) | None => text("comm"),
        };
        self.container = match container(&full["container"]) {
            empty if empty.is_empty() => container(&brief["container"]),
            text => text,
        };
    }
}

fn field<'o>(object: &'o Object, name: &str) -> &'o Value {
    object.get(name).unwrap_or(&NULL)
}

fn shown(object: &Object, name: &str) -> String {
    show(field(object, name))
}

/// A value as it may be shown: text, a number, or a list of arguments.
fn show(value: &Value) -> String {
    match value {
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
fn leg(object: &Object, name: &str) -> String {
    let version = field(object, name).as_str().and_then(|tls| tls.split(' ').next());
    printable(version.unwrap_or("clear"))
}

/// Who carried out the exchange, and what protects each leg: in this order, as lines may be cut.
fn login(start: &Object) -> String {
    let user = match shown(start, "database_user") {
        empty if empty.is_empty() => "nobody".to_owned(),
        user => user,
    };
    let handshake = shown(start, "handshake");
    if handshake.is_empty() {
        return match explained(start) {
            empty if empty.is_empty() => format!("(no login as {user})"),
            reason => format!("(no login as {user}: {reason})"),
        };
    }
    let to = match shown(start, "login") {
        login if login.is_empty() => login,
        login => format!(" to {login}"),
    };
    let (client, server) = (leg(start, "client_tls"), leg(start, "server_tls"));
    let mut text = format!("(login as {user}: {handshake}{to}, client {client}, server {server}");
    match shown(start, "bound") {
        legs if legs.is_empty() => {}
        legs => text.push_str(&format!(", bound to {}", legs.replace(' ', " and "))),
    }
    match shown(start, "exception") {
        reason if reason.is_empty() => {}
        reason => text.push_str(&format!(", exception: {reason}")),
    }
    text.push(')');
    text
}

/// The reason of something, with what is known more about it.
fn explained(object: &Object) -> String {
    match (shown(object, "reason"), shown(object, "detail")) {
        (reason, detail) if detail.is_empty() => reason,
        (reason, detail) => format!("{reason}: {detail}"),
    }
}

/// What is not about a session: its kind, and what it says.
fn other(event: &str, object: &Object) -> String {
    const STAMP: [&str; 9] =
        ["v", "event", "salt", "time", "boot_ns", "clock", "session", "seq", "actor"];
    const LENGTHY: [&str; 6] =
        ["seal_root", "seal_next", "seal_signature", "last_root", "digest", "boot_id"];
    let kind = printable(&event.replace('_', " "));
    let said: Vec<String> = object
        .iter()
        .filter(|(name, _)| !STAMP.contains(&name.as_str()) && !LENGTHY.contains(&name.as_str()))
        .map(|(name, value)| {
            (name, if let Value::Bool(flag) = value { flag.to_string() } else { show(value) })
        })
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{} {value}", name.replace('_', " ")))
        .collect();
    match said.is_empty() {
        true => format!("({kind})"),
        false => format!("({kind}: {})", said.join(", ")),
    }
}

/// The code of the error that somebody was told.
fn error(object: &Object) -> Option<String> {
    ["sqlstate", "commit_sqlstate"]
        .into_iter()
        .find(|name| field(object, name).is_string())
        .map(|name| format!("ERROR {}", shown(object, name)))
}

fn statement(object: &Object) -> String {
    let text = match (field(object, "text"), object.contains_key("text_encoding")) {
        (Value::String(text), false) => printable(text),
        (Value::String(text), true) => format!("(base64) {}", printable(text)),
        _ => String::new(),
    };
    let text = match (text.is_empty(), field(object, "function_oid").as_u64()) {
        (true, Some(oid)) => format!("(function {oid})"),
        (true, None) if field(object, "text_state") == "unknown" => "(unknown)".to_owned(),
        _ => text,
    };
    match field(object, "kind").as_str() {
        Some("parse" | "bind" | "describe" | "close") => {
            format!("({}) {text}", shown(object, "kind"))
        }
        _ => text,
    }
}

/// Rows sent; else what the tag counts or COPY moved; the error of a statement that failed.
fn rows(object: &Object) -> String {
    if let Some(error) = error(object) {
        return error;
    }
    match field(object, "outcome").as_str() {
        Some("completed" | "suspended") | None => {}
        Some(outcome) => return printable(outcome),
    }
    let sent = field(object, "rows").as_u64().unwrap_or(0);
    if sent > 0 {
        return sent.to_string();
    }
    let tagged = field(object, "tag").as_str().and_then(|tag| tag.rsplit(' ').next());
    let tagged = tagged.and_then(|count| count.parse::<u64>().ok());
    let copied = ["copy_in", "copy_out"].into_iter();
    let copied = copied.filter_map(|name| field(object, name)["rows"].as_u64()).next();
    tagged.or(copied).map(|count| count.to_string()).unwrap_or_default()
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}
