//! Keys of witnesses and what they sign: C2SP `signed-note` and `tlog-cosignature`, the Ed25519 kind.
//!
//! ```text
//! key        <name>+<key id, 8 hex digits>+<base64 of 0x04 ‖ public key (32)>
//! key id     SHA-256(name ‖ LF ‖ 0x04 ‖ public key)[..4]
//! line       — <name> <base64 of key id (4) ‖ seconds since 1970 (8, big-endian) ‖ signature (64)> LF
//! signed     "cosignature/v1" LF "time <seconds>" LF ‖ body of the note
//! ```

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use thiserror::Error;

/// Longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest verifier key that is read, in bytes.
pub const KEY_TEXT_BYTES_MAX: usize = NAME_BYTES_MAX + 64;
/// Type of a key that signs cosignatures with a time.
const TYPE: u8 = 0x04;
/// Most signature lines that are looked at.
const LINES_MAX: usize = 64;
/// Bytes behind the base64 of a line: key id, time, signature.
const LINE_BYTES: usize = 4 + 8 + 64;
/// How far a witness's clock may be ahead of ours, in seconds.
pub const AHEAD_SECONDS_MAX: u64 = 300;

/// The public key of a witness.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

/// Why a text is no key of a witness.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WitnessKeyError {
    /// It has not the three parts.
    #[error("expected `<name>+<key id>+<base64 of the key>`")]
    Parts,
    /// The name is empty, too long, or has spaces or control characters.
    #[error(
        "not the name of a key: expected 1 to {NAME_BYTES_MAX} bytes without spaces and control characters"
    )]
    Name,
    /// The key is not base64 of 33 bytes.
    #[error("not a key: expected base64 of a type and 32 bytes")]
    Key,
    /// A key of another kind.
    #[error(
        "key of type {found:#04x}, expected {TYPE:#04x}: an Ed25519 key for cosignatures with a time"
    )]
    Type {
        /// The type.
        found: u8,
    },
    /// The id is of another key or another name.
    #[error(
        "the key id is not that of the name and the key: found `{found}`, expected `{expected}`"
    )]
    Id {
        /// As written.
        found: String,
        /// As computed.
        expected: String,
    },
}

/// A cosignature that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// Seconds since 1970, by the clock of the witness.
    pub time: u64,
    /// The whole line, line feed included.
    pub line: String,
}

/// Why an answer holds no cosignature that counts.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CosignatureError {
    /// It is not made of signature lines.
    #[error("not a list of signature lines")]
    Malformed,
    /// No line is of the configured key.
    #[error("no cosignature of `{0}`")]
    Absent(String),
    /// A line says that it is of the configured key, and is not.
    #[error("a cosignature of `{0}` does not verify")]
    Wrong(String),
    /// The time of the cosignature has not come.
    #[error("a cosignature is {ahead} s in the future, expected at most {AHEAD_SECONDS_MAX} s")]
    Future {
        /// Seconds.
        ahead: u64,
    },
}

impl WitnessKey {
    /// The key of `name`.
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, WitnessKeyError> {
        let good = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(good) {
            return Err(WitnessKeyError::Name);
        }
        let hashed = digest(&SHA256, &[name.as_bytes(), b"\n", &[TYPE], &key].concat());
        let id = *hashed.as_ref().first_chunk().expect("a digest has 32 bytes");
        Ok(Self { name: name.to_owned(), id, key })
    }

    /// Reads a verifier key.
    pub fn parse(text: &str) -> Result<Self, WitnessKeyError> {
        let (name, rest) = text.split_once('+').ok_or(WitnessKeyError::Parts)?;
        // Base64 may hold a plus itself: only the first two separate.
        let (id, key) = rest.split_once('+').ok_or(WitnessKeyError::Parts)?;
        let bytes = STANDARD.decode(key).map_err(|_| WitnessKeyError::Key)?;
        let (&found, key) = bytes.split_first().ok_or(WitnessKeyError::Key)?;
        if found != TYPE {
            return Err(WitnessKeyError::Type { found });
        }
        let key = Self::new(name, key.try_into().map_err(|_| WitnessKeyError::Key)?)?;
        let expected = hex::encode(key.id);
        if id != expected {
            let found = id.chars().take(16).collect();
            return Err(WitnessKeyError::Id { found, expected });
        }
        Ok(key)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Finds this key's cosignature of the note with `body` among the lines of an answer.
    ///
    /// Lines of other keys are passed over. `now`: seconds since 1970 by our own clock.
    pub fn find(&self, lines: &str, body: &str, now: u64) -> Result<Cosignature, CosignatureError> {
        let inner = lines.strip_suffix('\n').ok_or(CosignatureError::Malformed)?;
        if inner.split('\n').count() > LINES_MAX {
            return Err(CosignatureError::Malformed);
        }
        let mut found: Option<Cosignature> = None;
        for line in inner.split('\n') {
            let parts = line.strip_prefix("— ").and_then(|rest| rest.split_once(' '));
            let (name, signature) = parts.ok_or(CosignatureError::Malformed)?;
            let signature = STANDARD.decode(signature).map_err(|_| CosignatureError::Malformed)?;
            if name != self.name || !signature.starts_with(&self.id) {
                continue;
            }
            let time = self.verified(&signature, body)?;
            let ahead = time.saturating_sub(now);
            if ahead > AHEAD_SECONDS_MAX {
                return Err(CosignatureError::Future { ahead });
            }
            if found.as_ref().is_none_or(|found| found.time < time) {
                found = Some(Cosignature { time, line: format!("{line}\n") });
            }
        }
        found.ok_or_else(|| CosignatureError::Absent(self.name.clone()))
    }

    /// The time of a cosignature that verifies.
    fn verified(&self, signature: &[u8], body: &str) -> Result<u64, CosignatureError> {
        let wrong = || CosignatureError::Wrong(self.name.clone());
        let signature: &[u8; LINE_BYTES] = signature.try_into().map_err(|_| wrong())?;
        let (_, rest) = signature.split_first_chunk::<4>().expect("76 bytes");
        let (time, signature) = rest.split_first_chunk::<8>().expect("72 bytes");
        let time = u64::from_be_bytes(*time);
        let message = format!("cosignature/v1\ntime {time}\n{body}");
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        key.verify(message.as_bytes(), signature).map_err(|_| wrong())?;
        // The specification leaves no larger time, signed or not; and none that says nothing.
        if time == 0 || time > i64::MAX as u64 { Err(wrong()) } else { Ok(time) }
    }
}

/// As a verifier key is written.
impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[TYPE][..], &self.key].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(self.id))
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({self})")
    }
}
