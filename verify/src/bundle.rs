//! Session bundles: all that proves one session, and nothing of any other.
//!
//! A bundle is one map in canonical CBOR:
//!
//! | key | value |
//! |---|---|
//! | 0 | text `pgward session bundle 1` |
//! | 1 | text: origin of the log |
//! | 2 | bytes (16): the session |
//! | 3 | array of entries in order: array of index (uint) and canonical bytes |
//! | 4 | bytes: the checkpoint, a signed note, with cosignatures if it has some |
//! | 5 | array of bytes (32): the proof that the entries of 3, and the seal of 6, are in the tree of the checkpoint ([`root_of_many`]) |
//! | 6 | absent, or array of index (uint) and canonical bytes: the first seal behind the session |
//! | 7 | absent, or array of disclosures: array of seq (uint), field (uint), ordinal (uint), secret r (bytes, 32), value (bytes) |
//!
//! A disclosure opens one commitment: `SHA-256(0x03 ‖ "pgaudit-commit-v1" ‖ field id (u32) ‖ r ‖
//! value)`, where the field id is the field, or for a parameter (11) `11 << 16 | ordinal`.
//!
//! Checking needs the host's public key, and those of witnesses if they shall count. It proves
//! that each entry is in the tree, and that none of the session is missing: its numbers run from
//! 0 to its end, and the end counts and hashes the others. For a session without an end it proves
//! the entries up to the newest mark.

use crate::anchors::Policy;
use crate::cbor::{Array, Entry, Map, SessionId, Value, Writer};
use crate::check::{CheckError, Options, Report, policy};
use crate::findings::{Class, Finding, Findings};
use crate::merkle::{Hash, leaf_hash, root_of_many, sha256};
use crate::note::{Checkpoint, Note};
use crate::seals::Seal;
use crate::sessions::{SESSION_END, SESSION_MARK, SESSION_START, Sessions};

/// First value of a bundle.
pub const FORMAT: &str = "pgward session bundle 1";
/// Most bytes of a bundle that is read.
pub const BUNDLE_BYTES_MAX: u64 = 1 << 30;

const PARAMETERS: u64 = 11;
const TEXT: u64 = 10;
const TEXT_COMMITMENT: u64 = 43;

/// What `audit prove` puts into a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// The log.
    pub origin: String,
    /// The session.
    pub session: SessionId,
    /// Its entries in order, each with its index in the log.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// A signed checkpoint that covers them all, with cosignatures if it has some.
    pub checkpoint: Vec<u8>,
    /// Hashes of the multi-proof for the entries and the seal.
    pub proof: Vec<Hash>,
    /// The first seal behind the session, with its index.
    pub seal: Option<(u64, Vec<u8>)>,
    /// Values that are opened.
    pub disclosures: Vec<Disclosure>,
}

/// One value that is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Disclosure {
    /// Number of the entry in the session.
    pub seq: u64,
    /// 10 for the text, 11 for a parameter.
    pub field: u64,
    /// Which parameter, from 0; 0 for the text.
    pub ordinal: u64,
    /// The random part of the commitment.
    pub secret: [u8; 32],
    /// The value.
    pub value: Vec<u8>,
}

/// Values never show up in output for debugging.
impl std::fmt::Debug for Disclosure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Disclosure {{ seq: {}, field: {}, ordinal: {} }}",
            self.seq, self.field, self.ordinal
        )
    }
}

/// Why bytes are no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBundle {
    /// Not canonical CBOR.
    #[error(transparent)]
    Malformed(#[from] crate::cbor::Malformed),
    /// A field is missing or holds something else.
    #[error("field {0} is missing or of another kind")]
    Field(u64),
    /// Another format.
    #[error("this is no session bundle")]
    Format,
}

impl Bundle {
    /// Writes the bundle.
    pub fn encode(&self) -> Vec<u8> {
        let fields =
            6 + usize::from(self.seal.is_some()) + usize::from(!self.disclosures.is_empty());
        let mut to = Writer::default();
        to.map(fields).uint(0).text(FORMAT).uint(1).text(&self.origin).uint(2).bytes(&self.session);
        to.uint(3).array(self.entries.len());
        for (index, entry) in &self.entries {
            to.array(2).uint(*index).bytes(entry);
        }
        to.uint(4).bytes(&self.checkpoint).uint(5).array(self.proof.len());
        for hash in &self.proof {
            to.bytes(hash);
        }
        if let Some((index, seal)) = &self.seal {
            to.uint(6).array(2).uint(*index).bytes(seal);
        }
        if !self.disclosures.is_empty() {
            to.uint(7).array(self.disclosures.len());
            for one in &self.disclosures {
                to.array(5).uint(one.seq).uint(one.field).uint(one.ordinal);
                to.bytes(&one.secret).bytes(&one.value);
            }
        }
        to.into_bytes()
    }

    /// Reads a bundle. Nothing is checked but its form.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadBundle> {
        let map = Map::decode(bytes)?;
        let field = |key| map.get(key).ok_or(BadBundle::Field(key));
        let array = |key| match field(key)? {
            Value::Array(array) => Ok(array),
            Value::Uint(_)
            | Value::Bytes(_)
            | Value::Text(_)
            | Value::Map(_)
            | Value::Bool(_)
            | Value::Null => Err(BadBundle::Field(key)),
        };
        if field(0)?.text() != Some(FORMAT) {
            return Err(BadBundle::Format);
        }
        let entries = array(3)?.iter().map(|entry| indexed(entry).ok_or(BadBundle::Field(3)));
        let proof = array(5)?.iter().map(|hash| hash.array().copied().ok_or(BadBundle::Field(5)));
        let seal = map.get(6).map(|seal| indexed(seal).ok_or(BadBundle::Field(6)));
        let mut disclosures = Vec::new();
        if map.get(7).is_some() {
            for one in array(7)?.iter() {
                disclosures.push(disclosure(one).ok_or(BadBundle::Field(7))?);
            }
        }
        Ok(Self {
            origin: field(1)?.text().ok_or(BadBundle::Field(1))?.to_owned(),
            session: *field(2)?.array().ok_or(BadBundle::Field(2))?,
            entries: entries.collect::<Result<_, _>>()?,
            checkpoint: field(4)?.byte_string().ok_or(BadBundle::Field(4))?.to_vec(),
            proof: proof.collect::<Result<_, _>>()?,
            seal: seal.transpose()?,
            disclosures,
        })
    }
}

fn items(value: Value<'_>) -> Option<Array<'_>> {
    if let Value::Array(array) = value { Some(array) } else { None }
}

fn indexed(value: Value<'_>) -> Option<(u64, Vec<u8>)> {
    let pair: Vec<Value<'_>> = items(value).filter(|pair| pair.len() == 2)?.iter().collect();
    Some((pair.first()?.uint()?, pair.get(1)?.byte_string()?.to_vec()))
}

fn disclosure(value: Value<'_>) -> Option<Disclosure> {
    let parts: Vec<Value<'_>> = items(value).filter(|parts| parts.len() == 5)?.iter().collect();
    Some(Disclosure {
        seq: parts.first()?.uint()?,
        field: parts.get(1)?.uint()?,
        ordinal: parts.get(2)?.uint()?,
        secret: *parts.get(3)?.array()?,
        value: parts.get(4)?.byte_string()?.to_vec(),
    })
}

/// Checks a bundle with the keys, witnesses and quorum of `options`; nothing else of them counts.
pub fn verify_bundle(bytes: &[u8], options: &Options) -> Result<Report, CheckError> {
    let policy = policy(options)?;
    let mut findings = Findings::default();
    match Bundle::decode(bytes) {
        Ok(bundle) => {
            findings.set_log(Some(bundle.origin.clone()), None);
            check(&bundle, &policy, &mut findings);
        }
        Err(bad) => {
            let sentence = format!("this is no bundle of a session: {bad}");
            findings.add(Finding::new(Class::BundleInvalid, sentence));
        }
    }
    Ok(Report::new(findings.into_list(), Vec::new()))
}

fn check(bundle: &Bundle, policy: &Policy, findings: &mut Findings) {
    let Some(checkpoint) = checkpoint(bundle, policy, findings) else { return };
    tree(bundle, &checkpoint, findings);
    if bundle.entries.is_empty() {
        findings.add(Finding::new(Class::BundleInvalid, "the bundle holds no entry"));
        return;
    }
    let mut sessions = Sessions::default();
    let mut complete = None;
    for (index, bytes) in &bundle.entries {
        let bad = |sentence: String| {
            Finding::new(Class::BundleInvalid, sentence)
                .entries(*index, index + 1)
                .sessions([&bundle.session])
        };
        match Entry::decode(bytes) {
            Ok(entry) if entry.session() != Some(&bundle.session) || entry.seq().is_none() => {
                findings.add(bad(format!("record {index} belongs to another session, or to none")));
            }
            Ok(entry) => {
                sessions.pass(&entry, *index, &leaf_hash(bytes), findings);
                if matches!(entry.event(), SESSION_END | SESSION_MARK) {
                    complete = Some((entry.event(), *index));
                }
            }
            Err(error) => {
                findings.add(bad(format!("record {index} is no canonical entry: {error}")))
            }
        }
    }
    // What may have been lost is said outside of the session: here nothing explains a gap.
    sessions.report_missing(0, findings);
    let (first, last) = (bundle.entries[0].0, bundle.entries[bundle.entries.len() - 1].0);
    let begins = Entry::decode(&bundle.entries[0].1)
        .is_ok_and(|entry| entry.event() == SESSION_START && entry.seq() == Some(0));
    let mut incomplete = |class, sentence: String| {
        findings.add(
            Finding::new(class, sentence).entries(first, last + 1).sessions([&bundle.session]),
        );
    };
    if !begins {
        incomplete(Class::BundleInvalid, "the beginning of the session is missing".into());
    }
    match complete {
        Some((SESSION_END, index)) if index == last => {}
        Some((SESSION_END, _)) => {
            incomplete(Class::BundleInvalid, "records follow the end of the session".into());
        }
        Some((_, index)) => incomplete(
            Class::SessionUnfinished,
            format!("the session has no end here: complete up to the mark at record {index}"),
        ),
        None => incomplete(
            Class::SessionUnfinished,
            "the session has no end and no mark here: nothing says that no record is missing"
                .into(),
        ),
    }
    for disclosure in &bundle.disclosures {
        disclosed(bundle, disclosure, findings);
    }
}

fn checkpoint(bundle: &Bundle, policy: &Policy, findings: &mut Findings) -> Option<Checkpoint> {
    let mut refuse = |class, sentence: String| findings.add(Finding::new(class, sentence));
    let parsed =
        Note::parse(&bundle.checkpoint).and_then(|note| Ok((Checkpoint::parse(note.text)?, note)));
    let (checkpoint, note) = match parsed {
        Ok(parsed) => parsed,
        Err(bad) => {
            refuse(Class::CheckpointMalformed, format!("its checkpoint is none: {bad}"));
            return None;
        }
    };
    if checkpoint.origin != bundle.origin {
        refuse(
            Class::WrongOrigin,
            format!("its checkpoint is of `{}`, it is of `{}`", checkpoint.origin, bundle.origin),
        );
        return None;
    }
    if let Err((class, why)) = policy.host_signed(&note, &checkpoint.origin) {
        refuse(class, why);
        return None;
    }
    if policy.cosigned(&note, "bundle", checkpoint.size, findings).is_none() {
        let sentence = if policy.quorum == 0 {
            "no witness was given: only the host's key vouches for the checkpoint".to_owned()
        } else {
            format!("the checkpoint is not signed by {} of the witnesses", policy.quorum)
        };
        findings.add(Finding::new(Class::NotAnchored, sentence).entries(0, checkpoint.size));
    }
    Some(checkpoint)
}

/// All entries and the seal must be in the tree of the checkpoint.
fn tree(bundle: &Bundle, checkpoint: &Checkpoint, findings: &mut Findings) {
    let with_seal = bundle.entries.iter().chain(&bundle.seal);
    let leaves: Vec<(u64, Hash)> =
        with_seal.map(|(index, bytes)| (*index, leaf_hash(bytes))).collect();
    if root_of_many(checkpoint.size, &leaves, &bundle.proof) != Some(checkpoint.root) {
        let sentence = "the proof does not lead to the root of the checkpoint: an entry was \
                        altered, removed, renumbered or added";
        let from = leaves.first().map_or(0, |leaf| leaf.0);
        let to = leaves.last().map_or(0, |leaf| leaf.0.saturating_add(1));
        findings.add(Finding::new(Class::BundleInvalid, sentence).entries(from, to));
    }
    if let Some((index, bytes)) = &bundle.seal {
        let seal = Entry::decode(bytes).ok().and_then(|entry| Seal::read(&entry));
        if seal.is_none_or(|seal| seal.size != *index) {
            let sentence = format!("record {index} is given as a seal, and is none");
            findings.add(Finding::new(Class::BundleInvalid, sentence).entries(*index, index + 1));
        }
    }
}

/// An opened value must fit the commitment in its entry.
fn disclosed(bundle: &Bundle, disclosure: &Disclosure, findings: &mut Findings) {
    let Disclosure { seq, field, ordinal, .. } = disclosure;
    let entry = bundle.entries.iter().find_map(|(index, bytes)| {
        let entry = Entry::decode(bytes).ok()?;
        (entry.seq() == Some(*seq)).then_some((*index, entry))
    });
    let id = match *field {
        PARAMETERS if *ordinal < 1 << 16 => (PARAMETERS << 16 | ordinal) as u32,
        _ => TEXT as u32,
    };
    let opened = commitment(id, &disclosure.secret, &disclosure.value);
    let holds = entry.as_ref().is_some_and(|(_, entry)| match *field {
        TEXT => *ordinal == 0 && entry.array(TEXT_COMMITMENT) == Some(&opened),
        // Wherever the list of parameters keeps it, the commitment of this ordinal is unique.
        PARAMETERS => entry.get(PARAMETERS).is_some_and(|list| contains(list, &opened)),
        _ => false,
    });
    if !holds {
        let sentence = format!(
            "the value disclosed for field {field}, ordinal {ordinal} of number {seq} is not the \
             one that was committed to"
        );
        let mut finding =
            Finding::new(Class::DisclosureFalse, sentence).sessions([&bundle.session]);
        if let Some((index, _)) = entry {
            finding = finding.entries(index, index + 1);
        }
        findings.add(finding);
    }
}

/// The commitment to a value of a field.
pub fn commitment(field_id: u32, secret: &[u8; 32], value: &[u8]) -> Hash {
    let label: &[u8] = b"\x03pgaudit-commit-v1";
    sha256(&[label, &field_id.to_be_bytes(), secret, value].concat())
}

fn contains(value: Value<'_>, wanted: &Hash) -> bool {
    match value {
        Value::Bytes(bytes) => bytes == wanted,
        Value::Array(items) => items.iter().any(|item| contains(item, wanted)),
        Value::Map(map) => map.iter().any(|(_, item)| contains(item, wanted)),
        Value::Uint(_) | Value::Text(_) | Value::Bool(_) | Value::Null => false,
    }
}
