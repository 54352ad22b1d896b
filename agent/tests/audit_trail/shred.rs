//! What is left of values that were shredded, and what can be guessed of those that were not.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use pgward::audit::schema::f;
use pgward::audit::values::{Claim, Day, Disclosed, Keys, Scope, disclose};
use pgward::audit::{Now, SessionId, WallNanos};
use pgward::config::{Audit, AuditRule};
use pgward::control::{Shred, ShredScope};
use pgward_verify::cbor::Value;
use pgward_verify::merkle::{Edge, Hash, leaf_hash, node_hash, sha256};
use pgward_verify::{Entry, Verdict};
use tempfile::TempDir;

use crate::rig::{
    Kept, Result, Session, assert_untampered, care, copy, entries, files, open, settings, settle,
    verify,
};

const ONE: SessionId = SessionId { epoch: 7, counter: 1 };
const OTHER: SessionId = SessionId { epoch: 7, counter: 2 };
/// What is to be forgotten, and what is not.
const SECRETS: [&str; 2] = ["canary of one", "canary of another"];
/// Number of the commitment in an element of `params`.
const COMMITMENT: u64 = 3;

/// A trail with a statement of each of two persons, in a session each; its segment is packed.
fn two_persons(folder: &TempDir) -> Result<Audit> {
    let rule = AuditRule { subject: Some(1), ..AuditRule::default() };
    let audit = Audit { rules: vec![rule], ..settings(folder.path()) };
    let trail = open(&audit)?;
    for ((id, person), secret) in [(ONE, b"42"), (OTHER, b"43")].into_iter().zip(SECRETS) {
        let mut session = Session::begin(&trail, &audit, id)?;
        let text = format!("SELECT '{secret}', $1, $2");
        session.statement(text.as_bytes(), &[person, secret.as_bytes()])?;
        session.end()?;
    }
    trail.close()?;
    Ok(audit)
}

/// Opens what is held beside an entry; `None` where nothing is, or it cannot be opened.
fn opened(keys: &Keys, kept: &Kept) -> Option<Disclosed> {
    let entry = Entry::decode(&kept.bytes).expect("an entry");
    let (payload, held) = (kept.values.as_deref()?, entry.values()?);
    let commitments: Vec<_> = commitments(&entry);
    let claim = Claim {
        session: *entry.session()?,
        seq: entry.seq()?,
        time: WallNanos(entry.time_ns()),
        held,
        text: entry.array(f::TEXT_COMMITMENT.into()).copied(),
        parameters: &commitments,
        unlisted: None,
        payload_sha256: None,
    };
    disclose(keys, &claim, payload).ok()
}

/// Commitments of the listed parameters.
fn commitments(entry: &Entry<'_>) -> Vec<(u16, Hash)> {
    let Some(Value::Array(listed)) = entry.get(f::PARAMS.into()) else { return Vec::new() };
    let commitment = |value| match value {
        Value::Map(parameter) => parameter.get(COMMITMENT)?.array().copied(),
        Value::Uint(_)
        | Value::Bytes(_)
        | Value::Text(_)
        | Value::Array(_)
        | Value::Bool(_)
        | Value::Null => None,
    };
    (0..).zip(listed.iter()).filter_map(|(at, value)| Some((at, commitment(value)?))).collect()
}

/// Which of the secrets can be read from a copy of the trail with the keys that there are.
fn readable(audit: &Audit, copy: &Path) -> [bool; 2] {
    let keys = Keys::open(&audit.directory.join("keys/values")).expect("the host's key");
    let mut found = [false; 2];
    for disclosed in entries(copy).iter().filter_map(|kept| opened(&keys, kept)) {
        let text = disclosed.text.unwrap_or_default();
        for (at, secret) in SECRETS.iter().enumerate() {
            let text = String::from_utf8_lossy(&text).contains(&format!("'{secret}'"));
            let value = Some(secret.as_bytes().to_vec());
            let parameter = disclosed.parameters.iter().any(|(_, shown)| *shown == value);
            found[at] |= text && parameter;
        }
    }
    found
}

fn leaves(kept: &[Kept]) -> Vec<Hash> {
    kept.iter().map(|kept| leaf_hash(&kept.bytes)).collect()
}

fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Edge::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

fn scopes() -> [(ShredScope, Scope, String, [bool; 2]); 3] {
    let today = Day::of(Now::read().wall);
    let one = Scope::Session(ONE.bytes());
    let person = Scope::Subject(b"42".to_vec().into());
    [
        (ShredScope::Session, one, hex::encode(ONE.bytes()), [false, true]),
        (ShredScope::Subject, person, "42".to_owned(), [false, true]),
        (ShredScope::Day, Scope::Day(today), today.to_string(), [false, false]),
    ]
}

/// Row 33. The record is not pruned: what it explains, the agent's own keys show.
#[test]
fn what_was_shredded_opens_from_no_copy_and_its_record_explains_it() -> Result {
    for (scope, _, target, left) in scopes() {
        let case = format!("{scope:?}");
        let folder = tempfile::tempdir()?;
        let audit = two_persons(&folder)?;
        let trail = open(&audit)?;
        settle(&trail); // the segment of the run before is packed by now
        let before = folder.path().join("copy");
        copy(&audit.directory, &before);
        assert_eq!(readable(&audit, &audit.directory), [true, true], "{case}");
        for file in files(&audit.directory) {
            let bytes = fs::read(&file)?;
            for secret in SECRETS {
                let plain = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!plain, "{case}: {} holds a value in clear", file.display());
            }
        }

        let shred = Shred {
            scope,
            target,
            reason: "asked to be forgotten".to_owned(),
            approver: "counsel".to_owned(),
        };
        assert!(care(&trail, &audit)?.shred(0, &shred)? > 0, "{case}");
        assert_eq!(readable(&audit, &audit.directory), left, "{case}: the trail");
        assert_eq!(readable(&audit, &before), left, "{case}: a copy from before");
        trail.close()?;
        drop(trail);

        // Entries, and with them all proofs, are what they were.
        let (old, new) = (leaves(&entries(&before)), leaves(&entries(&audit.directory)));
        assert!(new.starts_with(&old) && new.len() > old.len(), "{case}");
        assert_eq!(root(&old), root(&new[..old.len()]), "{case}");
        let report = verify(&audit, Vec::new())?;
        assert_untampered(&report, &case);
        assert!(report.classes.contains_key("redacted"), "{case}: {:?}", report.classes);
        assert!(!report.classes.contains_key("key-erased"), "{case}: {:?}", report.classes);
    }
    Ok(())
}

/// Row 34, with the agent's own keys: the same without a record.
#[test]
fn what_was_shredded_without_a_record_is_found() -> Result {
    for (_, scope, target, _) in scopes() {
        let folder = tempfile::tempdir()?;
        let audit = two_persons(&folder)?;
        let trail = open(&audit)?;
        assert!(trail.keyring().shred_blocking(scope)?.keys() > 0, "{target}");
        trail.close()?;
        drop(trail);
        let report = verify(&audit, Vec::new())?;
        assert_eq!(report.verdict, Verdict::Tampered, "{target}");
        assert!(report.classes.contains_key("key-erased"), "{target}: {:?}", report.classes);
    }
    Ok(())
}

/// The commitment as the format has it.
///
/// Parameters have the field's number in the upper half, and their own, from 0, in the lower.
fn commitment(field: u32, r: &[u8], value: &[u8]) -> Hash {
    sha256(&[&[3], &b"pgaudit-commit-v1"[..], &field.to_be_bytes(), r, value].concat())
}

/// Row 35. Who has all entries and hashes but no key tries all numbers of four digits.
#[test]
fn a_number_of_four_digits_cannot_be_tried_from_what_the_trail_shows() -> Result {
    let folder = tempfile::tempdir()?;
    let audit = settings(folder.path());
    let trail = open(&audit)?;
    let mut session = Session::begin(&trail, &audit, ONE)?;
    for _ in 0..50 {
        session.statement(b"SELECT '1234', $1", &[b"1234"])?;
    }
    session.end()?;
    trail.close()?;
    drop(trail);

    let all = entries(&audit.directory);
    let leaves = leaves(&all);
    let (mut salts, mut commitments_seen) = (HashSet::new(), HashSet::new());
    let mut attacked = 0;
    for (kept, leaf) in all.iter().zip(&leaves) {
        let entry = Entry::decode(&kept.bytes)?;
        assert!(salts.insert(*entry.salt()), "entry {}: a salt comes twice", kept.index);
        let text = entry.array::<32>(f::TEXT_COMMITMENT.into()).copied();
        let values = commitments(&entry).into_iter().map(|(_, value)| value);
        let these: Vec<Hash> = text.into_iter().chain(values).collect();
        for commitment in &these {
            assert!(commitments_seen.insert(*commitment), "equal values have equal commitments");
        }
        if these.is_empty() || attacked == 3 {
            continue;
        }
        attacked += 1;
        // All that could stand for the secret, of what is there to be seen.
        let sibling = leaves[kept.index as usize ^ 1];
        let salt = entry.salt().to_vec();
        let payload = kept.values.as_deref().expect("values");
        let known = [
            Vec::new(),
            vec![0; 32],
            salt.clone(),
            [&salt[..], &salt[..]].concat(),
            leaf.to_vec(),
            sibling.to_vec(),
            node_hash(leaf, &sibling).to_vec(),
            sha256(&salt).to_vec(),
            entry.session().expect("a session").to_vec(),
            payload[payload.len() - 32..].to_vec(),
        ];
        assert!(!payload.windows(4).any(|part| part == b"1234"), "in clear");
        for number in 0..10_000 {
            let digits = format!("{number:04}");
            let text = format!("SELECT '{digits}', $1");
            for r in &known {
                let of_text = commitment(f::TEXT.into(), r, text.as_bytes());
                let of_value = commitment(u32::from(f::PARAMS) << 16, r, digits.as_bytes());
                assert!(!these.contains(&of_text) && !these.contains(&of_value), "{digits} shows");
            }
        }
    }
    assert_eq!((attacked, commitments_seen.len()), (3, 100));
    Ok(())
}
