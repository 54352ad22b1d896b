//! From statements to what is stored of them, and back.

mod round_trips;
mod secrets;
mod shredding;

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::audit::{Excerpt, SessionId};
use crate::config::{Audit, AuditRule, ValueMode};
use crate::sql::lex::{Encoding, Strings};

const PARTY: Party<'_> = Party { destination: "main", database: b"shop", user: b"app" };

/// A trail's keys, and a session with them.
struct Trail {
    folder: TempDir,
    keyring: Keyring,
}

/// One statement as recorded.
struct Recorded {
    session: [u8; 16],
    seq: u64,
    text: Text,
    shown: Shown,
}

impl Trail {
    fn new() -> Self {
        let folder = TempDir::new().expect("temporary folder");
        let keyring = Keyring::open(folder.path()).expect("new keyring");
        Self { folder, keyring }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn keys(&self) -> Keys {
        Keys::open(self.path()).expect("host key")
    }

    fn begin(&self, counter: u64, audit: &Audit) -> Session {
        let id = SessionId { epoch: 7, counter };
        let (values, stored) =
            SessionValues::begin(&self.keyring, audit, id, &PARTY).expect("keys");
        if let Some(stored) = stored {
            stored.blocking().expect("stored");
        }
        Session { id: id.bytes(), values, seq: 0 }
    }
}

struct Session {
    id: [u8; 16],
    values: SessionValues,
    seq: u64,
}

impl Session {
    fn statement(&mut self, text: &[u8], parameters: &[Parameter<'_>]) -> Recorded {
        let text = self.values.text(Excerpt::whole(text), Encoding::Safe, Strings::Standard);
        let shown = self.values.statement(self.seq, &text, Include::Text, &parameters);
        let mut shown = shown.expect("sealed");
        if let Some(stored) = shown.key_stored.take() {
            stored.blocking().expect("stored");
        }
        self.seq += 1;
        Recorded { session: self.id, seq: self.seq - 1, text, shown }
    }
}

impl Recorded {
    fn disclose(&self, keys: &Keys) -> Result<Disclosed, DiscloseError> {
        self.disclose_payload(keys, &self.shown.payload)
    }

    fn disclose_payload(&self, keys: &Keys, payload: &[u8]) -> Result<Disclosed, DiscloseError> {
        let parameters: Vec<(u16, [u8; 32])> = self
            .shown
            .parameters
            .iter()
            .enumerate()
            .filter_map(|(at, parameter)| match parameter.value {
                ShownValue::Committed { commitment, beside: _ } => Some((at as u16, commitment)),
                ShownValue::Null
                | ShownValue::Clear
                | ShownValue::Hash(_)
                | ShownValue::Never(_) => None,
            })
            .collect();
        let claim = Claim {
            session: self.session,
            seq: self.seq,
            time: crate::audit::Now::read().wall,
            held: self.shown.beside.expect("something is beside").number(),
            text: self.shown.text_commitment,
            parameters: &parameters,
            unlisted: self.shown.unlisted.and_then(|unlisted| unlisted.commitment),
            payload_sha256: self.shown.payload_sha256,
        };
        disclose(keys, &claim, payload)
    }

    fn values(&self) -> Vec<ShownValue> {
        self.shown.parameters.iter().map(|parameter| parameter.value).collect()
    }
}

fn audit(values: ValueMode, rules: &[AuditRule]) -> Audit {
    Audit { values, rules: rules.to_vec(), ..Audit::default() }
}

fn text_parameter(value: &[u8]) -> Parameter<'_> {
    Parameter { format: 0, type_oid: 25, value: Some(Excerpt::whole(value)) }
}

const NULL: Parameter<'_> = Parameter { format: 0, type_oid: 25, value: None };

/// All bytes that the trail's folder holds.
fn stored_bytes(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder") {
        all.extend(std::fs::read(entry.expect("entry").path()).expect("file"));
    }
    all
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}
