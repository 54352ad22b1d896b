//! Common Event Format (ArcSight, version 0): one line an event, for syslog. Lossy.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Exported, endpoint, went_well};
use crate::audit::search::time;

/// Longest value, in characters: what the format allows for `msg`.
const VALUE_CHARS_MAX: usize = 1023;

/// Something as a line of CEF, without a line feed. Control characters are escaped.
pub fn cef(exported: &Exported<'_>) -> String {
    let event = exported.text("event").unwrap_or("unknown");
    let severity = match (event, went_well(exported)) {
        ("denied" | "failure" | "events_lost" | "allowed_unseen", _) => 7,
        (_, Some(false)) => 5,
        (_, _) => 2,
    };
    let mut line = format!("CEF:0|pgward|pgward|{}|", env!("CARGO_PKG_VERSION"));
    header(&mut line, event);
    line.push('|');
    header(&mut line, &event.replace('_', " "));
    let _ = write!(line, "|{severity}|"); // writing to a string does not fail
    let mut out = Extension { line, first: true };
    out.put("rt", time(&exported.found.object).map(|ns| (ns / 1_000_000).to_string()));
    out.put("externalId", Some(exported.uid()));
    out.put("suser", exported.field_or_start("database_user").map(plain));
    let ends = [("src", "spt", "source"), ("dst", "dpt", "destination")];
    for (address, port, name) in ends {
        let end = exported.field_or_start(name).and_then(Value::as_str).and_then(endpoint);
        out.put(address, end.as_ref().map(|(ip, _)| ip.clone()));
        out.put(port, end.map(|(_, number)| number.to_string()));
    }
    if let Some(actor) = exported.actor() {
        out.put("spid", known(&actor["pid"]));
        out.put("sproc", known(&actor["exe"]).or(known(&actor["comm"])));
        out.put("suid", known(&actor["uid"]));
        out.labelled(
            3,
            "container",
            known(&actor["container"]["name"]).or(known(&actor["container"]["id"])),
        );
    }
    out.put("outcome", exported.field("outcome").map(plain));
    out.put("reason", exported.field("sqlstate").or(exported.field("reason")).map(plain));
    out.put("cnt", exported.field("count").map(plain));
    out.labelled(1, "session", exported.field("session").map(plain));
    out.labelled(2, "database", exported.field_or_start("database").map(plain));
    out.labelled(4, "leaf", exported.leaf.map(hex::encode));
    out.put("msg", exported.field("text").or(exported.field("detail")).map(plain));
    out.line
}

struct Extension {
    line: String,
    first: bool,
}

impl Extension {
    fn put(&mut self, key: &str, value: Option<String>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return };
        if !self.first {
            self.line.push(' ');
        }
        self.first = false;
        self.line.push_str(key);
        self.line.push('=');
        for character in value.chars().take(VALUE_CHARS_MAX) {
            match character {
                '\\' => self.line.push_str("\\\\"),
                '=' => self.line.push_str("\\="),
                '\n' => self.line.push_str("\\n"),
                '\r' => self.line.push_str("\\r"),
                other => push(&mut self.line, other),
            }
        }
    }

    fn labelled(&mut self, number: u8, label: &str, value: Option<String>) {
        if value.is_some() {
            self.put(&format!("cs{number}Label"), Some(label.to_owned()));
            self.put(&format!("cs{number}"), value);
        }
    }
}

fn header(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '|' => line.push_str("\\|"),
            '\\' => line.push_str("\\\\"),
            other => push(line, other),
        }
    }
}

/// A character, or for what would end the line or steer a terminal its code.
fn push(line: &mut String, character: char) {
    if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
        let _ = write!(line, "\\\\u{:04x}", u32::from(character)); // writing to a string does not fail
    } else {
        line.push(character);
    }
}

fn known(value: &Value) -> Option<String> {
    (!value.is_null()).then(|| plain(value))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}
