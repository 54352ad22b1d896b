//! Signed notes, checkpoints and cosignatures (C2SP `signed-note`, `tlog-checkpoint`,
//! `tlog-cosignature`): parsing and checking, with bounds on everything.
//!
//! ```text
//! pgward/6f1c0d9e-.../1          origin
//! 70000                          size
//! base64 of the root
//!                                the last empty line of the note
//! — <name> <base64 of key id (4 bytes) and signature>
//! ```

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::merkle::{Hash, sha256};

/// Most bytes of a note.
pub const NOTE_BYTES_MAX: usize = 512 * 1024;
/// Most signatures of a note. The specification asks for at least 16.
pub const SIGNATURES_MAX: usize = 64;

const ED25519_TYPE: u8 = 0x01;
const COSIGNATURE_TYPE: u8 = 0x04;

/// Why bytes are no signed note, or no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNote {
    /// More than [`NOTE_BYTES_MAX`] bytes.
    #[error("{0} bytes, at most {NOTE_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("byte {0} is not utf-8")]
    NotUtf8(usize),
    /// A control character other than a newline.
    #[error("byte {0} is a control character")]
    Control(usize),
    /// No empty line before the signatures, or no text before it.
    #[error("there is no text, empty line and signature")]
    NoSignatures,
    /// More than [`SIGNATURES_MAX`] signatures.
    #[error("more than {SIGNATURES_MAX} signatures")]
    Crowded,
    /// A line of the signatures that is none.
    #[error("signature line {0} is malformed")]
    Signature(usize),
    /// The text is no checkpoint.
    #[error("the text is no checkpoint: {0}")]
    Checkpoint(&'static str),
}

/// A note that was parsed. Its signatures are not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// What is signed, with its last newline.
    pub text: &'a str,
    /// The signatures in order.
    pub signatures: Vec<Signature<'a>>,
}

/// One line of signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Name of the key.
    pub name: &'a str,
    /// First bytes of the key's digest.
    pub key_id: [u8; 4],
    /// The signature itself.
    pub bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    /// Parses one note.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadNote> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(BadNote::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|bad| BadNote::NotUtf8(bad.valid_up_to()))?;
        if let Some(at) = bytes.iter().position(|byte| *byte < 0x20 && *byte != b'\n') {
            return Err(BadNote::Control(at));
        }
        let (text, lines) = text
            .rfind("\n\n")
            .map(|at| (&text[..=at], &text[at + 2..]))
            .filter(|(text, lines)| text.len() > 1 && !lines.is_empty())
            .ok_or(BadNote::NoSignatures)?;
        let lines = lines.strip_suffix('\n').ok_or(BadNote::NoSignatures)?;
        let mut signatures = Vec::new();
        for (at, line) in lines.split('\n').enumerate() {
            if at == SIGNATURES_MAX {
                return Err(BadNote::Crowded);
            }
            signatures.push(signature(line).ok_or(BadNote::Signature(at + 1))?);
        }
        Ok(Self { text, signatures })
    }

    /// Checks the signature of a key. `None`: the note carries none of this key; `Some(false)`:
    /// it carries one that is wrong.
    pub fn verify(&self, name: &str, key: &PublicKey) -> Option<bool> {
        let id = key.id(name, ED25519_TYPE);
        let mut of_key = self.of_key(name, id).peekable();
        of_key.peek()?;
        Some(of_key.all(|signature| key.verify(self.text.as_bytes(), &signature.bytes)))
    }

    /// Checks the cosignature of a witness: `Ok` with its time in seconds since 1970.
    pub fn verify_cosignature(&self, witness: &VerifierKey) -> Option<Result<u64, BadCosignature>> {
        let signature = self.of_key(&witness.name, witness.id()).next()?;
        let Some((time, bytes)) = signature.bytes.split_first_chunk::<8>() else {
            return Some(Err(BadCosignature));
        };
        let time = u64::from_be_bytes(*time);
        let message = format!("cosignature/v1\ntime {time}\n{}", self.text);
        let good = witness.key.verify(message.as_bytes(), bytes);
        Some(if good { Ok(time) } else { Err(BadCosignature) })
    }

    fn of_key(&self, name: &str, id: [u8; 4]) -> impl Iterator<Item = &Signature<'a>> {
        self.signatures.iter().filter(move |one| one.name == name && one.key_id == id)
    }
}

/// A witness's signature that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCosignature;

fn signature(line: &str) -> Option<Signature<'_>> {
    let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
    if !is_key_name(name) {
        return None;
    }
    let bytes = BASE64.decode(encoded).ok()?;
    let (key_id, bytes) = bytes.split_first_chunk::<4>()?;
    Some(Signature { name, key_id: *key_id, bytes: bytes.to_vec() })
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|char| char.is_whitespace() || char == '+')
}

/// An Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Whether `signature` is this key's for `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }

    fn id(&self, name: &str, kind: u8) -> [u8; 4] {
        let bytes = [name.as_bytes(), b"\n", &[kind], &self.0].concat();
        let digest = sha256(&bytes);
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Checkpoints of a log, and its first and restarted seals.
    Host,
    /// Cosignatures of a witness.
    Witness,
}

/// A verifier key line: `<name>+<key id in hex>+<base64 of type and key>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    /// Name of the key.
    pub name: String,
    /// What it signs.
    pub kind: KeyKind,
    /// The key.
    pub key: PublicKey,
}

/// Why a line is no verifier key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not three parts that are a name, hex and base64.
    #[error("this is no verifier key: expected `<name>+<8 hex digits>+<base64>`")]
    Form,
    /// A type of key that is not used here.
    #[error("a key of type {0:#04x}, expected 0x01 (ed25519) or 0x04 (cosignature/v1)")]
    Kind(u8),
    /// The number in its middle does not belong to the key.
    #[error("the key id is {found}, the name and the key give {expected}")]
    Id {
        /// The number in the line.
        found: String,
        /// The number that belongs there.
        expected: String,
    },
}

impl VerifierKey {
    /// Parses one line.
    pub fn parse(line: &str) -> Result<Self, BadKey> {
        let mut parts = line.trim().splitn(3, '+');
        let (Some(name), Some(found), Some(encoded)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(BadKey::Form);
        };
        let bytes = BASE64.decode(encoded).map_err(|_| BadKey::Form)?;
        let Some((kind, key)) = bytes.split_first() else { return Err(BadKey::Form) };
        let key: [u8; 32] = key.try_into().map_err(|_| BadKey::Form)?;
        let kind = match *kind {
            ED25519_TYPE => KeyKind::Host,
            COSIGNATURE_TYPE => KeyKind::Witness,
            other => return Err(BadKey::Kind(other)),
        };
        if !is_key_name(name) {
            return Err(BadKey::Form);
        }
        let parsed = Self { name: name.to_owned(), kind, key: PublicKey(key) };
        let expected = hex::encode(parsed.id());
        if found != expected {
            return Err(BadKey::Id { found: found.to_owned(), expected });
        }
        Ok(parsed)
    }

    /// The key's digest that signatures carry.
    pub fn id(&self) -> [u8; 4] {
        let kind = match self.kind {
            KeyKind::Host => ED25519_TYPE,
            KeyKind::Witness => COSIGNATURE_TYPE,
        };
        self.key.id(&self.name, kind)
    }

    /// Whether this host key signs for a log: the origin is its name, or its name and an epoch.
    pub fn signs_for(&self, origin: &str) -> bool {
        let epoch = |rest: &str| rest.strip_prefix('/').is_some_and(|rest| !rest.contains('/'));
        self.kind == KeyKind::Host
            && origin.strip_prefix(&*self.name).is_some_and(|rest| rest.is_empty() || epoch(rest))
    }
}

/// The text of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree of that size.
    pub root: Hash,
}

impl Checkpoint {
    /// Parses the text of a note. Logs of pgward write no extension lines, so none are taken.
    pub fn parse(text: &str) -> Result<Self, BadNote> {
        let bad = BadNote::Checkpoint;
        let mut lines = text.split('\n');
        let mut line = || lines.next().filter(|line| !line.is_empty());
        let origin = line().ok_or(bad("its origin is empty"))?.to_owned();
        let size = line().ok_or(bad("its size is missing"))?;
        let root = line().ok_or(bad("its root is missing"))?;
        if lines.next() != Some("") || lines.next().is_some() {
            return Err(bad("it does not have three lines"));
        }
        let canonical = |size: &u64| size.to_string();
        let size = size
            .parse()
            .ok()
            .filter(|number| canonical(number) == size)
            .ok_or(bad("its size is no decimal number"))?;
        let root = BASE64
            .decode(root)
            .ok()
            .and_then(|root| root.try_into().ok())
            .ok_or(bad("its root is no base64 of 32 bytes"))?;
        Ok(Self { origin, size, root })
    }

    /// The root in base64, as the text has it.
    pub fn root_text(&self) -> String {
        BASE64.encode(self.root)
    }
}

/// Splits a file that holds one or many notes, one behind the other, as anchors write them.
///
/// A note ends where a line that is no signature follows lines of signatures. Empty lines between
/// notes are stepped over. Parts that are no note are left for [`Note::parse`] to refuse.
pub fn split_notes(bytes: &[u8]) -> Vec<&[u8]> {
    const DASH: &[u8] = "— ".as_bytes();
    let (mut notes, mut start, mut signed, mut at) = (Vec::new(), 0, false, 0);
    while at < bytes.len() {
        let end =
            bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n + 1);
        let is_signature = bytes[at..end].starts_with(DASH);
        if signed && !is_signature {
            notes.push(&bytes[start..at]);
            (start, signed) = (at, false);
        }
        if start == at && bytes[at..end] == *b"\n" {
            start = end;
        }
        signed |= is_signature;
        at = end;
    }
    if start < bytes.len() {
        notes.push(&bytes[start..]);
    }
    notes
}

#[cfg(test)]
#[path = "note_tests.rs"]
mod tests;
