//! Checkpoints as signed notes (C2SP signed-note, tlog-checkpoint), and the names of keys (vkeys).
//!
//! ```text
//! pgward/6f1c0b6e-…/1          origin: fleet, host, epoch
//! 4711                         leaves
//! qwe…=                        root, base64
//!                              an empty line ends what is signed
//! — pgward/6f1c0b6e-…/1 Az3…   name of the key, base64(key id ‖ signature)
//! ```

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use thiserror::Error;

use super::{Hash, sha256};

/// Longest fleet name, in bytes.
pub const FLEET_BYTES_MAX: usize = 64;
/// Largest number of an epoch: fits every reader's integers.
pub const EPOCH_MAX: u64 = 1 << 53;

/// Name of a log: `<fleet>/<host>/<epoch>`. Names the key of its checkpoints too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    name: String,
    epoch: u64,
}

/// What does not name a log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OriginError {
    /// The fleet.
    #[error("name of a fleet `{0}`: expected 1 to 64 of the characters a-z, 0-9, `.` and `-`")]
    Fleet(String),
    /// The host.
    #[error("name of a host `{0}`: expected a UUID in lower case")]
    Host(String),
    /// The epoch.
    #[error("epoch {0}, expected a number from 1 to 2^53")]
    Epoch(u64),
}

impl Origin {
    /// The log of a host's epoch. Together at most 118 bytes.
    pub fn new(fleet: &str, host: &str, epoch: u64) -> Result<Self, OriginError> {
        if !is_fleet(fleet) {
            return Err(OriginError::Fleet(fleet.to_owned()));
        }
        if !is_uuid(host) {
            return Err(OriginError::Host(host.to_owned()));
        }
        if !(1..=EPOCH_MAX).contains(&epoch) {
            return Err(OriginError::Epoch(epoch));
        }
        Ok(Self { name: format!("{fleet}/{host}/{epoch}"), epoch })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The name without the epoch: that of the host's key in `host.vkey`.
    pub fn host_name(&self) -> &str {
        self.name.rsplit_once('/').map_or(&self.name, |(host, _)| host)
    }

    /// The log of another epoch of the same host.
    pub fn of_epoch(&self, epoch: u64) -> Result<Self, OriginError> {
        if !(1..=EPOCH_MAX).contains(&epoch) {
            return Err(OriginError::Epoch(epoch));
        }
        Ok(Self { name: format!("{}/{epoch}", self.host_name()), epoch })
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Whether a name can be that of a fleet.
pub fn is_fleet(name: &str) -> bool {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    (1..=FLEET_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Whether a text is a UUID as RFC 9562 writes it, in lower case.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// Who signs. Keys stay with who implements it.
pub trait Signer {
    /// The Ed25519 public key.
    fn public_key(&self) -> [u8; 32];

    /// Signs as RFC 8032 says.
    fn sign(&self, message: &[u8]) -> Signature;
}

impl<S: Signer + ?Sized> Signer for Arc<S> {
    fn public_key(&self) -> [u8; 32] {
        S::public_key(self)
    }

    fn sign(&self, message: &[u8]) -> Signature {
        S::sign(self, message)
    }
}

/// State of a log that is worth signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: Origin,
    /// Its number of entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

impl Checkpoint {
    /// What is signed: three lines, each with its line feed.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    /// The signed note. The key is named as the log.
    pub fn note(&self, signer: &impl Signer) -> String {
        let body = self.body();
        let signature = signer.sign(body.as_bytes());
        let name = self.origin.as_str();
        let mut bytes = key_id(name, ED25519, &signer.public_key()).to_vec();
        bytes.extend_from_slice(&signature);
        format!("{body}\n\u{2014} {name} {}\n", BASE64.encode(bytes))
    }
}

/// Signature type of plain Ed25519 in key ids and vkeys.
pub const ED25519: u8 = 0x01;

/// By which a signature line names its key: the first four bytes of
/// `SHA-256(name ‖ "\n" ‖ type ‖ public key)`.
pub fn key_id(name: &str, signature_type: u8, public_key: &[u8; 32]) -> [u8; 4] {
    let mut bytes = Vec::with_capacity(name.len() + 34);
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&[b'\n', signature_type]);
    bytes.extend_from_slice(public_key);
    let [a, b, c, d, ..] = sha256(&bytes);
    [a, b, c, d]
}

/// The public key as verifiers are told it: `name+id+key`, without a line feed.
pub fn vkey(name: &str, public_key: &[u8; 32]) -> String {
    let id = key_id(name, ED25519, public_key);
    let mut key = vec![ED25519];
    key.extend_from_slice(public_key);
    format!("{name}+{}+{}", hex::encode(id), BASE64.encode(key))
}
