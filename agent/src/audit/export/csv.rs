//! Comma separated values (RFC 4180): one column a field of the table, in its order.

use serde_json::Value;

use super::Exported;
use crate::audit::schema::ENTRY;

/// Columns that are not fields of an entry.
const OWN: [&str; 5] = ["origin", "index", "leaf", "started", "writer"];

/// The first line, with its line end.
pub fn csv_header() -> String {
    line(OWN.iter().copied().chain(ENTRY.iter().map(|field| field.name)).map(str::to_owned))
}

/// Something as a line, with its line end. Objects and lists are JSON. A text that a spreadsheet would
/// take for a formula has an apostrophe in front.
pub fn csv_row(exported: &Exported<'_>) -> String {
    let own = OWN.iter().map(|name| match *name {
        "origin" => exported.origin.to_owned(),
        "index" => exported.found.index.to_string(),
        "leaf" => exported.leaf.map(hex::encode).unwrap_or_default(),
        name => exported.field(name).map(cell).unwrap_or_default(),
    });
    let fields = ENTRY.iter().map(|field| exported.field(field.name).map(cell).unwrap_or_default());
    line(own.chain(fields))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            format!("'{text}")
        }
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let quoted = cells.map(|cell| match cell.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    });
    quoted.collect::<Vec<_>>().join(",") + "\r\n"
}
