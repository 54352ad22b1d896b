//! Row 37: a bundle proves one session, and only whole.

use pgward_verify::bundle::{Bundle, Disclosure, commitment, verify_bundle};
use pgward_verify::{Class, Verdict};

use crate::log::{Log, SECOND, cosign, leaf, sha};
use crate::scene::{Scene, WITNESS, WITNESS_SEED, edit, fill};

/// The proof by the definition: roots of subtrees without any of the indices, left to right.
fn prove(wanted: &[u64], from: u64, leaves: &[[u8; 32]], proof: &mut Vec<[u8; 32]>) {
    let to = from + leaves.len() as u64;
    if !wanted.iter().any(|index| (from..to).contains(index)) {
        proof.push(root(leaves));
    } else if leaves.len() > 1 {
        let (left, right) = leaves.split_at(middle(leaves.len()));
        prove(wanted, from, left, proof);
        prove(wanted, from + left.len() as u64, right, proof);
    }
}

fn middle(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(middle(leaves.len()));
            sha(&[&[1], &root(left), &root(right)])
        }
    }
}

const SECRET: [u8; 32] = [5; 32];

/// A log with a session whose first statement's text is committed to.
fn log() -> (Log, [u8; 16]) {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 4);
    let session = log.open();
    let text = commitment(10, &SECRET, b"select 'secret'");
    let intent = log.say(session, 6, &[(43, text.into())]);
    fill(&mut log, 1);
    log.say(session, 7, &[(18, intent.into())]);
    log.count(session, 30);
    log.query(session, "commit");
    log.close(session);
    let id = log.id(session);
    fill(&mut log, 3);
    log.stop();
    (log, id)
}

fn bundle(log: &Log, session: [u8; 16]) -> Bundle {
    let of_session = |entry: &[u8]| {
        entry.windows(18).any(|bytes| bytes[..2] == [6, 0x50] && bytes[2..] == session)
    };
    let entries: Vec<(u64, Vec<u8>)> = (0..)
        .zip(&log.entries)
        .filter(|(_, entry)| of_session(entry))
        .map(|(index, entry)| (index, entry.clone()))
        .collect();
    let last = entries.last().expect("a session").0;
    let is_seal = |entry: &[u8]| entry.starts_with(&[0xac, 0, 1, 1, 19]);
    let seal = (last + 1..log.size())
        .find(|index| is_seal(&log.entries[*index as usize]))
        .map(|index| (index, log.entries[index as usize].clone()));
    let note = log.checkpoint(log.size());
    let mut bundle = Bundle {
        origin: log.origin.clone(),
        session,
        entries,
        checkpoint: cosign(&note, WITNESS, WITNESS_SEED, log.time / SECOND).into_bytes(),
        proof: Vec::new(),
        seal,
        disclosures: vec![Disclosure {
            seq: 1,
            field: 10,
            ordinal: 0,
            secret: SECRET,
            value: b"select 'secret'".to_vec(),
        }],
    };
    assert!(bundle.seal.is_some());
    proven(log, &mut bundle);
    bundle
}

/// Makes the proof anew for the indices that are in the bundle.
fn proven(log: &Log, bundle: &mut Bundle) {
    let leaves: Vec<[u8; 32]> = log.entries.iter().map(|entry| leaf(entry)).collect();
    let wanted: Vec<u64> = bundle.entries.iter().chain(&bundle.seal).map(|entry| entry.0).collect();
    bundle.proof.clear();
    prove(&wanted, 0, &leaves, &mut bundle.proof);
}

fn check(bundle: &Bundle) -> (Verdict, Vec<Class>) {
    let options = Scene::new(log().0).options;
    let report = verify_bundle(&bundle.encode(), &options).expect("it can be checked");
    (report.verdict, report.findings.iter().map(|finding| finding.class).collect())
}

#[test]
fn a_whole_session_is_proven() {
    let (log, session) = log();
    let bundle = bundle(&log, session);
    assert_eq!(check(&bundle), (Verdict::Intact, vec![]));
    assert_eq!(Bundle::decode(&bundle.encode()), Ok(bundle));
}

type Change = fn(&Log, &mut Bundle);

#[test]
fn a_session_that_is_not_whole_is_not() {
    let cases: &[(&str, Change, Class, u8)] = &[
        (
            "an entry is removed",
            |_, bundle| drop(bundle.entries.remove(2)),
            Class::BundleInvalid,
            1,
        ),
        (
            "an entry is removed, the proof made to fit",
            |log, bundle| {
                bundle.entries.remove(2);
                proven(log, bundle);
            },
            Class::SessionGap,
            1,
        ),
        (
            "its end is removed, the proof made to fit",
            |log, bundle| {
                bundle.entries.pop();
                proven(log, bundle);
            },
            Class::SessionUnfinished,
            2,
        ),
        (
            "all behind its beginning is removed",
            |log, bundle| {
                bundle.entries.truncate(2);
                proven(log, bundle);
            },
            Class::SessionUnfinished,
            2,
        ),
        (
            "its beginning is removed",
            |log, bundle| {
                bundle.entries.remove(0);
                proven(log, bundle);
            },
            Class::BundleInvalid,
            1,
        ),
        ("an entry is renumbered", |_, bundle| bundle.entries[1].0 += 1, Class::BundleInvalid, 1),
        (
            "an entry of another session is added",
            |log, bundle| {
                bundle.entries.insert(0, (5, log.entries[5].clone()));
                proven(log, bundle);
            },
            Class::BundleInvalid,
            1,
        ),
        (
            "an entry is altered",
            |_, bundle| edit(&mut bundle.entries[1].1),
            Class::BundleInvalid,
            1,
        ),
        ("entries are exchanged", |_, bundle| bundle.entries.swap(1, 2), Class::BundleInvalid, 1),
        ("a hash too many", |_, bundle| bundle.proof.push([0; 32]), Class::BundleInvalid, 1),
        (
            "a hash too few",
            |_, bundle| bundle.proof.truncate(bundle.proof.len() - 1),
            Class::BundleInvalid,
            1,
        ),
        ("the origin is another", |_, bundle| bundle.origin.push('0'), Class::WrongOrigin, 1),
        (
            "the checkpoint is altered",
            |_, bundle| bundle.checkpoint[60] ^= 1,
            Class::CheckpointSignature,
            1,
        ),
        (
            "no entry",
            |log, bundle| {
                bundle.entries.clear();
                bundle.seal = None;
                proven(log, bundle);
            },
            Class::BundleInvalid,
            1,
        ),
        (
            "another value is disclosed",
            |_, bundle| bundle.disclosures[0].value[0] ^= 1,
            Class::DisclosureFalse,
            1,
        ),
        (
            "it is disclosed for another field",
            |_, bundle| bundle.disclosures[0].field = 11,
            Class::DisclosureFalse,
            1,
        ),
        (
            "the seal is none",
            |log, bundle| {
                bundle.seal = Some((log.size() - 2, log.entries[log.size() as usize - 2].clone()));
                proven(log, bundle);
            },
            Class::BundleInvalid,
            1,
        ),
        (
            "no witness signed",
            |log, bundle| bundle.checkpoint = log.checkpoint(log.size()).into_bytes(),
            Class::NotAnchored,
            2,
        ),
    ];
    let (log, session) = log();
    for (name, change, class, exit) in cases {
        let mut changed = bundle(&log, session);
        change(&log, &mut changed);
        let (verdict, classes) = check(&changed);
        assert!(classes.contains(class), "{name}: {classes:?}");
        assert_eq!(verdict.exit_code(), *exit, "{name}: {classes:?}");
    }
}

#[test]
fn no_prefix_and_no_flipped_bit_of_a_bundle_passes() {
    let (log, session) = log();
    let whole = bundle(&log, session).encode();
    let options = Scene::new(log).options;
    let passes =
        |bytes: &[u8]| verify_bundle(bytes, &options).expect("checked").verdict == Verdict::Intact;
    assert!(passes(&whole));
    for end in (0..whole.len()).step_by(11) {
        assert!(!passes(&whole[..end]), "{end} bytes");
    }
    // The name of the session is in its entries; the rest is bound by the proof or a signature.
    for bit in (0..whole.len() * 8).step_by(13) {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let near = String::from_utf8_lossy(
            &flipped[(bit / 8).saturating_sub(8)..whole.len().min(bit / 8 + 8)],
        )
        .into_owned();
        assert!(!passes(&flipped), "bit {bit}, near {near:?}");
    }
}

#[test]
fn values_are_hidden_from_debug_output() {
    let (log, session) = log();
    let shown = format!("{:?}", bundle(&log, session).disclosures);
    assert!(!shown.contains("secret") && shown.contains("seq: 1"), "{shown}");
}
