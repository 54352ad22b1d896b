//! Signed notes, their keys, and checkpoints: C2SP signed-note, tlog-checkpoint and tlog-cosignature.

use anyhow::{Context, Result, ensure};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::tree::Hash;

/// Type of a key that signs notes.
pub const NOTE: u8 = 0x01;
/// Type of a key that cosigns checkpoints, with a time.
pub const COSIGNATURE: u8 = 0x04;

/// A key pair with a name.
pub struct Signer {
    name: String,
    pair: Ed25519KeyPair,
}

/// Name and public half of a verifier key of a log, such as a line of `keys/host.vkey`.
pub fn log_key(vkey: &str) -> Result<(&str, Vec<u8>)> {
    let mut parts = vkey.trim_end().splitn(3, '+');
    let (name, id, key) = (parts.next(), parts.next(), parts.next());
    let (name, id) = (name.context("no name")?, id.context("no key id")?);
    let key = STANDARD.decode(key.context("no key")?)?;
    let (kind, public) = key.split_first().context("an empty key")?;
    ensure!(*kind == NOTE && public.len() == 32, "not an Ed25519 key");
    let expected: String = key_id(name, NOTE, public).iter().map(|b| format!("{b:02x}")).collect();
    ensure!(id == expected, "key id {id}, expected {expected}");
    Ok((name, public.to_vec()))
}

/// Key id: what tells keys of one name apart.
pub fn key_id(name: &str, kind: u8, public: &[u8]) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', kind])
        .chain_update(public)
        .finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

impl Signer {
    /// The pair with this seed.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok().context("a seed")?;
        Ok(Self { name: name.to_owned(), pair })
    }

    /// The public half.
    pub fn public(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// As others are configured with it.
    pub fn vkey(&self, kind: u8) -> String {
        let public = self.public();
        let id = key_id(&self.name, kind, &public);
        let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
        format!("{}+{id}+{}", self.name, STANDARD.encode([&[kind][..], &public].concat()))
    }

    /// A note with one signature.
    pub fn note(&self, body: &str) -> String {
        let signature = self.pair.sign(body.as_bytes());
        let id = key_id(&self.name, NOTE, &self.public());
        let bytes = [&id[..], signature.as_ref()].concat();
        format!("{body}\n— {} {}\n", self.name, STANDARD.encode(bytes))
    }

    /// A cosignature line for a note's body.
    pub fn cosign(&self, body: &str, time: u64) -> String {
        let message = format!("cosignature/v1\ntime {time}\n{body}");
        let signature = self.pair.sign(message.as_bytes());
        let id = key_id(&self.name, COSIGNATURE, &self.public());
        let bytes = [&id[..], &time.to_be_bytes(), signature.as_ref()].concat();
        format!("— {} {}\n", self.name, STANDARD.encode(bytes))
    }
}

/// The body of a checkpoint.
pub fn checkpoint(origin: &str, size: u64, root: &Hash) -> String {
    format!("{origin}\n{size}\n{}\n", STANDARD.encode(root))
}

/// A note as it was read.
pub struct Note {
    /// What is signed.
    pub body: String,
    /// First line of a checkpoint.
    pub origin: String,
    /// Second line.
    pub size: u64,
    /// Third line.
    pub root: Hash,
    signatures: Vec<(String, Vec<u8>)>,
}

/// What the signatures of a note amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// By the key.
    Yes,
    /// Not by the key.
    No,
    /// A line says that it is by the key, and is not.
    Wrong,
}

impl Note {
    /// Reads a checkpoint. Errors: what the specifications call malformed.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.chars().all(|c| c == '\n' || c >= ' '), "control characters");
        let split = text.rfind("\n\n").context("no empty line")?;
        let (body, signatures) = (&text[..=split], &text[split + 2..]);
        let mut lines = body.split_terminator('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty()).context("no origin")?;
        let size = decimal(lines.next().context("no size")?)?;
        let root = hash(lines.next().context("no root")?)?;
        ensure!(lines.all(|extension| !extension.is_empty()), "an empty extension line");
        let signatures = signatures.strip_suffix('\n').context("no line feed at the end")?;
        let signatures = signatures.split('\n').map(|line| {
            let rest = line.strip_prefix("— ").context("no signature line")?;
            let (name, signature) = rest.split_once(' ').context("no signature")?;
            let signature = STANDARD.decode(signature).context("a signature")?;
            ensure!(!name.is_empty() && signature.len() > 4, "a signature");
            Ok((name.to_owned(), signature))
        });
        let signatures = signatures.collect::<Result<Vec<_>>>()?;
        ensure!(signatures.len() <= 16, "too many signatures");
        let (body, origin) = (body.to_owned(), origin.to_owned());
        Ok(Self { body, origin, size, root, signatures })
    }

    /// Whether the key with this name and public half signed it.
    pub fn signed(&self, name: &str, public: &[u8]) -> Signed {
        let id = key_id(name, NOTE, public);
        let mut found = Signed::No;
        for (by, signature) in &self.signatures {
            if by != name || signature[..4] != id {
                continue;
            }
            let key = UnparsedPublicKey::new(&ED25519, public);
            match key.verify(self.body.as_bytes(), &signature[4..]) {
                Ok(()) => found = Signed::Yes,
                Err(_) => return Signed::Wrong,
            }
        }
        found
    }
}

/// A number without sign and leading zeros.
pub fn decimal(text: &str) -> Result<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    ensure!(plain, "not a decimal number: {text:?}");
    text.parse().context("a number")
}

/// A hash in base64.
pub fn hash(text: &str) -> Result<Hash> {
    let bytes = STANDARD.decode(text).context("not base64")?;
    bytes.try_into().ok().context("not 32 bytes")
}
