//! What is held beside a record.
//!
//! # Format
//!
//! A map of canonical CBOR:
//!
//! | key | value |
//! |---|---|
//! | 0 | how: 0 in clear, 1 under the session's key, 2 under that and a person's |
//! | 1 | session, 16 bytes |
//! | 2 | subject, 32 bytes; only with 2 |
//! | 3 | nonce, 12 bytes; not with 0 |
//! | 4 | content: with 0 as it is, else AES-256-GCM with the tag behind it |
//!
//! The additional data of AES-256-GCM is `"pgward-values-v1" ‖ session ‖ u64 seq`, big-endian: a
//! payload opens beside its own record only. The key with 2 is
//! `HKDF-SHA-256(salt "pgward-subject-v1", session key ‖ subject key, info "key")`.
//!
//! The content is a map of canonical CBOR:
//!
//! | key | value |
//! |---|---|
//! | 0 | secret of the record's commitments, 32 bytes |
//! | 1 | text; absent if none is held |
//! | 2 | map from ordinals of parameters, from 0, to bytes, or null among those not listed |

use aws_lc_rs::digest;

use super::cbor::{self, HEAD_BYTES_MAX, Reader};
use super::commit::RecordSecret;
use super::key::{Key, NONCE_BYTES, NotOurs, Sealing, TAG_BYTES};
use super::shown::Held;

const AAD_LABEL: &[u8] = b"pgward-values-v1";
const SUBJECT_LABEL: &[u8] = b"pgward-subject-v1";
/// Largest number of bytes around the values of one record.
const AROUND_MAX: usize = 256;

/// What goes into a payload.
pub(super) struct Content<'a> {
    pub(super) secret: &'a RecordSecret,
    pub(super) text: Option<&'a [u8]>,
    /// Pairs of ordinal and value, written by [`pair`].
    pub(super) pairs: &'a [u8],
    pub(super) pairs_count: usize,
}

/// Which record a payload is beside.
#[derive(Clone, Copy)]
pub(super) struct Beside {
    pub(super) session: [u8; 16],
    pub(super) seq: u64,
}

/// A payload taken apart, its content still as it was held.
pub(super) struct Parsed<'a> {
    pub(super) held: Held,
    pub(super) session: [u8; 16],
    pub(super) subject: Option<[u8; 32]>,
    nonce: [u8; NONCE_BYTES],
    content: &'a [u8],
}

/// The content of a payload.
pub(super) struct Opened {
    pub(super) secret: RecordSecret,
    pub(super) text: Option<Vec<u8>>,
    /// By ordinal, ascending.
    pub(super) parameters: Vec<(u16, Option<Vec<u8>>)>,
}

/// The key of what is both of a session and of a person.
pub(super) fn subject_key(session: &Key, subject: &Key) -> Key {
    session.with(subject, SUBJECT_LABEL)
}

/// Appends one pair of [`Content::pairs`]; ordinals must ascend.
pub(super) fn pair(ordinal: u16, value: Option<&[u8]>, pairs: &mut Vec<u8>) {
    cbor::uint(ordinal.into(), pairs);
    match value {
        Some(value) => cbor::bytes(value, pairs),
        None => cbor::null(pairs),
    }
}

/// A payload in clear.
pub(super) fn clear(session: &[u8; 16], content: &Content<'_>) -> Vec<u8> {
    let parts = content.parts();
    let mut out = Vec::with_capacity(AROUND_MAX + parts.length());
    cbor::map(3, &mut out);
    head(Held::Clear, session, &mut out);
    cbor::uint(4, &mut out);
    cbor::bytes_head(parts.length(), &mut out);
    parts.write(&mut out);
    out
}

/// A payload under a key, which is a person's if there is a `subject`. The nonce must not have been
/// used with that key.
pub(super) fn sealed(
    key: &Sealing,
    subject: Option<&[u8; 32]>,
    nonce: [u8; NONCE_BYTES],
    beside: Beside,
    content: &Content<'_>,
) -> Vec<u8> {
    let parts = content.parts();
    let mut out = Vec::with_capacity(AROUND_MAX + parts.length());
    cbor::map(4 + usize::from(subject.is_some()), &mut out);
    let held = if subject.is_some() { Held::Subject } else { Held::Session };
    head(held, &beside.session, &mut out);
    if let Some(subject) = subject {
        cbor::uint(2, &mut out);
        cbor::bytes(subject, &mut out);
    }
    cbor::uint(3, &mut out);
    cbor::bytes(&nonce, &mut out);
    cbor::uint(4, &mut out);
    cbor::bytes_head(parts.length() + TAG_BYTES, &mut out);
    let from = out.len();
    parts.write(&mut out);
    let tag = key.seal(nonce, &beside.aad(), &mut out[from..]);
    out.extend_from_slice(&tag);
    out
}

fn head(held: Held, session: &[u8; 16], out: &mut Vec<u8>) {
    cbor::uint(0, out);
    cbor::uint(held.number(), out);
    cbor::uint(1, out);
    cbor::bytes(session, out);
}

/// SHA-256 of a payload.
pub(super) fn sha256(payload: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, payload).as_ref());
    bytes
}

impl Beside {
    fn aad(self) -> [u8; AAD_LABEL.len() + 24] {
        let mut aad = [0; AAD_LABEL.len() + 24];
        aad[..AAD_LABEL.len()].copy_from_slice(AAD_LABEL);
        aad[AAD_LABEL.len()..][..16].copy_from_slice(&self.session);
        aad[AAD_LABEL.len() + 16..].copy_from_slice(&self.seq.to_be_bytes());
        aad
    }
}

/// The pieces of a content in their order, so that its length is known before it is written.
struct Parts<'a> {
    front: zeroize::Zeroizing<Vec<u8>>,
    text: &'a [u8],
    middle: Vec<u8>,
    pairs: &'a [u8],
}

impl<'a> Content<'a> {
    fn parts(&self) -> Parts<'a> {
        let has_pairs = self.pairs_count > 0;
        let mut front = zeroize::Zeroizing::new(Vec::with_capacity(64));
        cbor::map(1 + usize::from(self.text.is_some()) + usize::from(has_pairs), &mut front);
        cbor::uint(0, &mut front);
        cbor::bytes(self.secret.bytes(), &mut front);
        if let Some(text) = self.text {
            cbor::uint(1, &mut front);
            cbor::bytes_head(text.len(), &mut front);
        }
        let mut middle = Vec::new();
        if has_pairs {
            middle.reserve_exact(1 + HEAD_BYTES_MAX);
            cbor::uint(2, &mut middle);
            cbor::map(self.pairs_count, &mut middle);
        }
        Parts { front, text: self.text.unwrap_or_default(), middle, pairs: self.pairs }
    }
}

impl Parts<'_> {
    fn length(&self) -> usize {
        self.front.len() + self.text.len() + self.middle.len() + self.pairs.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for part in [&self.front[..], self.text, &self.middle, self.pairs] {
            out.extend_from_slice(part);
        }
    }
}

impl<'a> Parsed<'a> {
    /// Takes a payload apart. `None`: it is no payload in its canonical form.
    pub(super) fn read(payload: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let pairs = reader.map()?;
        let held = match (key(&mut reader, 0)?.uint()?, pairs) {
            (0, 3) => Held::Clear,
            (1, 4) => Held::Session,
            (2, 5) => Held::Subject,
            _ => return None,
        };
        let session = key(&mut reader, 1)?.array()?;
        let subject = match held {
            Held::Subject => Some(key(&mut reader, 2)?.array()?),
            Held::Clear | Held::Session => None,
        };
        let nonce = match held {
            Held::Clear => [0; NONCE_BYTES],
            Held::Session | Held::Subject => key(&mut reader, 3)?.array()?,
        };
        let content = key(&mut reader, 4)?.bytes()?;
        reader.0.is_empty().then_some(Self { held, session, subject, nonce, content })
    }

    /// The content of a payload in clear.
    pub(super) fn in_clear(&self) -> Option<Opened> {
        Opened::read(self.content)
    }

    /// Decrypts the content. The outer error: the key is another, or a byte is. `None`: it was
    /// encrypted so.
    pub(super) fn open(&self, key: &Key, seq: u64) -> Result<Option<Opened>, NotOurs> {
        let mut content = zeroize::Zeroizing::new(self.content.to_vec());
        let aad = Beside { session: self.session, seq }.aad();
        key.open(self.nonce, &aad, &mut content).map(|plain| Opened::read(plain))
    }
}

impl Opened {
    fn read(content: &[u8]) -> Option<Self> {
        let mut reader = Reader(content);
        let mut pairs = reader.map()?;
        let secret = RecordSecret::new(key(&mut reader, 0)?.array()?);
        pairs = pairs.checked_sub(1)?;
        let (mut text, mut parameters) = (None, Vec::new());
        let mut next = if pairs > 0 { reader.uint() } else { None };
        if next == Some(1) {
            text = Some(reader.bytes()?.to_vec());
            pairs -= 1;
            next = if pairs > 0 { reader.uint() } else { None };
        }
        if next == Some(2) {
            pairs -= 1;
            for _ in 0..reader.map()? {
                let ordinal = u16::try_from(reader.uint()?).ok()?;
                let ascends = parameters.last().is_none_or(|(last, _)| *last < ordinal);
                let value = if reader.null() { None } else { Some(reader.bytes()?.to_vec()) };
                parameters.push(ascends.then_some((ordinal, value))?);
            }
        }
        (pairs == 0 && reader.0.is_empty()).then_some(Self { secret, text, parameters })
    }
}

/// Takes a key that must be this one.
fn key<'r, 'a>(reader: &'r mut Reader<'a>, expected: u64) -> Option<&'r mut Reader<'a>> {
    (reader.uint()? == expected).then_some(reader)
}
