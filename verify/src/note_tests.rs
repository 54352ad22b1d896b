use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::*;

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes")
}

fn public(pair: &Ed25519KeyPair) -> PublicKey {
    PublicKey(pair.public_key().as_ref().try_into().expect("32 bytes"))
}

fn line(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    format!("— {name} {}\n", BASE64.encode([&id[..], signature].concat()))
}

const TEXT: &str = "pgward/host/1\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

fn signed(text: &str) -> String {
    let pair = pair(1);
    let id = public(&pair).id("pgward/host/1", 1);
    format!("{text}\n{}", line("pgward/host/1", id, pair.sign(text.as_bytes()).as_ref()))
}

#[test]
fn reads_a_checkpoint_and_checks_its_signature() {
    let note = signed(TEXT);
    let note = Note::parse(note.as_bytes()).expect("a note");
    let key = public(&pair(1));
    assert_eq!(note.verify("pgward/host/1", &key), Some(true));
    assert_eq!(note.verify("pgward/host/2", &key), None);
    assert_eq!(note.verify("pgward/host/1", &public(&pair(2))), None);
    let checkpoint = Checkpoint::parse(note.text).expect("a checkpoint");
    assert_eq!((checkpoint.size, checkpoint.root), (7, [0; 32]));
    let altered = signed(TEXT).replacen("\n7\n", "\n8\n", 1);
    let altered = Note::parse(altered.as_bytes()).expect("a note");
    assert_eq!(altered.verify("pgward/host/1", &key), Some(false));
}

#[test]
fn refuses_what_the_specification_refuses() {
    let good = signed(TEXT);
    let with = |from: &str, to: &str| good.replacen(from, to, 1);
    let cases = [
        (with("host", "ho\u{1}st"), "control character"),
        (good.replace('\n', "\r\n"), "control character"),
        (with("\n7\n", "\t7\n"), "control character"),
        (good.trim_end().to_owned(), "no text, empty line and signature"),
        (TEXT.to_owned(), "no text, empty line and signature"),
        (format!("\n\n{}", line("a", [0; 4], b"x")), "signature"),
        (with("— ", "- "), "signature line 1"),
        (with("— pgward/host/1", "— pg+ward"), "signature line 1"),
        (with("— pgward/host/1", "— pg\u{a0}ward"), "signature line 1"),
        (format!("{TEXT}\n— name AAA=\n"), "signature line 1"),
        (format!("{TEXT}\n— name not base64\n"), "signature line 1"),
    ];
    for (note, expected) in cases {
        let found = match Note::parse(note.as_bytes()) {
            Ok(note) => panic!("{note:?}"),
            Err(bad) => bad.to_string(),
        };
        assert!(found.contains(expected), "{found}, expected {expected}, in {note:?}");
    }
    assert_eq!(
        Note::parse(&[b'a'; NOTE_BYTES_MAX + 1]).expect_err("too long"),
        BadNote::TooLong(NOTE_BYTES_MAX + 1)
    );
    assert_eq!(Note::parse(&vec![b'\n'; 1 << 20]).expect_err("1 MiB"), BadNote::TooLong(1 << 20));
    assert_eq!(Note::parse(b"a\xff\n\n").expect_err("utf-8"), BadNote::NotUtf8(1));
}

#[test]
fn a_second_empty_line_belongs_to_the_text() {
    let note = signed(TEXT).replacen("=\n\n", "=\n\n\n", 1);
    let note = Note::parse(note.as_bytes()).expect("a note");
    assert!(note.text.ends_with("=\n\n"));
    assert_eq!(note.verify("pgward/host/1", &public(&pair(1))), Some(false));
    assert!(Checkpoint::parse(note.text).is_err());
}

#[test]
fn takes_seventeen_signatures_and_not_too_many() {
    let key = public(&pair(1));
    let many = |count: usize| signed(TEXT) + &line("other", [1, 2, 3, 4], &[0; 64]).repeat(count);
    let note = many(16);
    let note = Note::parse(note.as_bytes()).expect("17 signatures");
    assert_eq!((note.signatures.len(), note.verify("pgward/host/1", &key)), (17, Some(true)));
    let crowded = many(SIGNATURES_MAX);
    assert_eq!(Note::parse(crowded.as_bytes()).expect_err("too many"), BadNote::Crowded);
}

#[test]
fn cosignatures_carry_their_time() {
    let pair = pair(9);
    let witness = VerifierKey { name: "w".into(), kind: KeyKind::Witness, key: public(&pair) };
    let cosign = |time: u64, claimed: u64| {
        let message = format!("cosignature/v1\ntime {time}\n{TEXT}");
        let signature = [&claimed.to_be_bytes(), pair.sign(message.as_bytes()).as_ref()].concat();
        let note = signed(TEXT) + &line("w", witness.id(), &signature);
        let note = Note::parse(note.as_bytes()).expect("a note");
        note.verify_cosignature(&witness)
    };
    assert_eq!(cosign(1_700_000_000, 1_700_000_000), Some(Ok(1_700_000_000)));
    assert_eq!(cosign(1_700_000_000, 1_700_000_001), Some(Err(BadCosignature)));
    let note = signed(TEXT);
    assert_eq!(Note::parse(note.as_bytes()).expect("a note").verify_cosignature(&witness), None);
    let short = signed(TEXT) + &line("w", witness.id(), &[0; 7]);
    let short = Note::parse(short.as_bytes()).expect("a note");
    assert_eq!(short.verify_cosignature(&witness), Some(Err(BadCosignature)));
}

#[test]
fn reads_verifier_keys_and_knows_their_logs() {
    let key = public(&pair(1));
    let line = |name: &str, kind: u8| {
        let encoded = BASE64.encode([&[kind], &key.0[..]].concat());
        format!("{name}+{}+{encoded}\n", hex::encode(key.id(name, kind)))
    };
    let host = VerifierKey::parse(&line("pgward/host", 1)).expect("a key");
    assert_eq!((host.kind, host.key), (KeyKind::Host, key));
    assert!(host.signs_for("pgward/host/1") && host.signs_for("pgward/host"));
    assert!(!host.signs_for("pgward/host2/1") && !host.signs_for("pgward/host/1/2"));
    let witness = VerifierKey::parse(&line("w", 4)).expect("a key");
    assert_eq!(witness.kind, KeyKind::Witness);
    assert!(!witness.signs_for("w/1"));
    assert_eq!(VerifierKey::parse(&line("w", 2)), Err(BadKey::Kind(2)));
    assert_eq!(VerifierKey::parse("w+00000000"), Err(BadKey::Form));
    let other = line("w", 1).replacen("w+", "v+", 1);
    assert!(matches!(VerifierKey::parse(&other), Err(BadKey::Id { .. })));
}

#[test]
fn splits_files_of_many_notes() {
    let one = signed(TEXT);
    let other = signed(TEXT) + &line("w", [0; 4], &[0; 72]);
    let both = format!("{one}{other}\n{one}");
    let parts = split_notes(both.as_bytes());
    assert_eq!(parts, [one.as_bytes(), other.as_bytes(), one.as_bytes()]);
    assert!(parts.iter().all(|part| Note::parse(part).is_ok()));
    assert!(split_notes(b"").is_empty());
    assert_eq!(split_notes(b"garbage").len(), 1);
}

proptest::proptest! {
    #[test]
    fn never_panics(bytes: Vec<u8>) {
        let _ = Note::parse(&bytes);
        for part in split_notes(&bytes) {
            let _ = Note::parse(part).map(|note| Checkpoint::parse(note.text));
        }
    }
}
