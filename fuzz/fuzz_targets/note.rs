//! Any bytes as signed notes, verifier keys and answers of witnesses: both readers, that of the
//! verifier and that of the agent, take the same and verify the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgward::audit::anchors;
use pgward_fuzz::{HOST_KEY, WITNESS_KEY};
use pgward_verify::VerifierKey;
use pgward_verify::note::{Checkpoint, Note, split_notes};

/// Seconds since 1970 by the clock of the reader.
const NOW: u64 = 1_800_000_000;

fuzz_target!(|data: &[u8]| {
    for bytes in split_notes(data) {
        note(bytes);
    }
    note(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = VerifierKey::parse(text) {
        assert!(text.contains(&key.name));
        assert!(!key.signs_for(""));
    }
    if let Ok(witness) = anchors::WitnessKey::parse(text) {
        // The verifier trims its lines, the agent does not.
        let key = VerifierKey::parse(text).expect("the verifier reads what the agent takes");
        assert_eq!(key.name, witness.name());
        assert_eq!(witness.to_string(), text);
    }
    let _ = Checkpoint::parse(text);
    let witness = anchors::WitnessKey::parse(WITNESS_KEY).expect("written by this package");
    let (lines, body) = text.split_once('\0').unwrap_or((text, ""));
    if let Ok(found) = witness.find(lines, body, NOW) {
        assert!(lines.contains(found.line.trim_end_matches('\n')));
    }
});

fn note(bytes: &[u8]) {
    let strict = Note::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(own) = anchors::Checkpoint::parse(text)
        && let Ok(note) = &strict
        && let Ok(other) = Checkpoint::parse(note.text)
    {
        assert_eq!(
            (own.origin(), own.size(), own.root()),
            (&*other.origin, other.size, other.root)
        );
    }
    let Ok(note) = strict else { return };
    assert!(bytes.starts_with(note.text.as_bytes()));
    let host = VerifierKey::parse(HOST_KEY).expect("written by this package");
    let witness = VerifierKey::parse(WITNESS_KEY).expect("written by this package");
    let signed = note.verify(&host.name, &host.key);
    assert!(signed.is_none() || note.signatures.iter().any(|one| one.name == host.name));
    let _ = note.verify_cosignature(&witness);
    if let Ok(checkpoint) = Checkpoint::parse(note.text) {
        let again =
            format!("{}\n{}\n{}\n", checkpoint.origin, checkpoint.size, checkpoint.root_text());
        // One checkpoint has one text.
        assert_eq!(again, note.text);
    }
}
