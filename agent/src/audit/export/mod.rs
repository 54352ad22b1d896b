//! Entries for other programs: OCSF, CEF, CSV, and the log as C2SP tlog-tiles has it.
//!
//! What is lost: OCSF nothing (fields without a place there are in `unmapped`); CEF most, and long
//! texts are cut; CSV the order of fields and the kinds of values, and cells that a spreadsheet would
//! take for a formula get an apostrophe in front. JSON lines and tiles lose nothing: the first are
//! [`view`](super::view), the second the very bytes that are hashed.

mod cef;
mod csv;
mod ocsf;
#[cfg(test)]
mod tests;
mod tiles;

use serde_json::Value;

use super::search::Found;

pub use cef::cef;
pub use csv::{csv_header, csv_row};
pub use ocsf::ocsf;
pub use tiles::{TilesError, export_tiles};

/// Something that was found, with what a reader elsewhere needs to find it again and to check it.
#[derive(Clone, Copy, Debug)]
pub struct Exported<'e> {
    /// It.
    pub found: &'e Found,
    /// The log it is of.
    pub origin: &'e str,
    /// Leaf hash of the entry that completed it; `None` when none did.
    pub leaf: Option<&'e [u8; 32]>,
}

impl Exported<'_> {
    /// Name of it over all logs: origin and index.
    fn uid(&self) -> String {
        format!("{}:{}", self.origin, self.found.index)
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.found.object.get(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.field(name).and_then(Value::as_str)
    }

    /// A field of it, else of the start of its session.
    fn field_or_start(&self, name: &str) -> Option<&Value> {
        let start = || self.found.session.as_ref().and_then(|session| session.start.get(name));
        self.field(name).or_else(start)
    }

    /// Who wrote it, in full where that is known; else who opened its session.
    fn actor(&self) -> Option<&Value> {
        let session = self.found.session.as_deref();
        let named = self.field("writer").or(self.field("actor")).filter(|actor| actor.is_object());
        match named {
            Some(brief) => session.and_then(|session| session.in_full(brief)).or(Some(brief)),
            None => session.and_then(|session| session.start.get("actor")),
        }
    }
}

/// Address and port of `10.0.0.5:5432` or `[::1]:5432`.
fn endpoint(text: &str) -> Option<(String, u16)> {
    let address: std::net::SocketAddr = text.parse().ok()?;
    Some((address.ip().to_string(), address.port()))
}

/// Whether something went well: `None` when that is not known, or nothing that can.
fn went_well(exported: &Exported<'_>) -> Option<bool> {
    if exported.field("sqlstate").or(exported.field("commit_sqlstate")).is_some() {
        return Some(false);
    }
    match (exported.text("event")?, exported.text("outcome")) {
        ("statement", Some("completed" | "suspended")) => Some(true),
        ("statement", _) => None,
        ("session_start", _) => Some(exported.field("handshake").is_some()),
        ("refused" | "denied" | "failure" | "events_lost", _) => Some(false),
        (_, _) => None,
    }
}
