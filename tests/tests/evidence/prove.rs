//! One session in one file, for somebody who has nothing but that and the public keys.

use std::fs;
use std::path::Path;

use anyhow::Context;
use pgward_tests::wait::{self, PATIENCE};
use pgward_verify::bundle::{Bundle, verify_bundle};
use pgward_verify::note::VerifierKey;
use pgward_verify::{Options, Verdict};

use crate::house::{House, INCOMPLETE, INTACT, TAMPERED};
use crate::{Result, gate};

/// `pgward audit prove`, once the witness has signed a checkpoint that covers the session and a seal behind it.
fn prove(house: &House, session: &str, bundle: &Path) -> Result {
    wait::until_true("a seal behind the session", PATIENCE, || {
        let entries = house.scene.agent.entries()?;
        let last = entries.iter().rposition(|entry| entry.fields["session"] == session);
        Ok(last.is_some() && entries.iter().rposition(|entry| entry.is("seal")) > last)
    })?;
    house.wait_anchored(&["witness"])?;
    let path = bundle.to_str().context("a path of text")?;
    let said = house.pgward_done(&["audit", "prove", "--session", session, "-o", path])?;
    assert!(said.contains(" entries of "), "{said}");
    Ok(())
}

#[test]
fn a_bundle_is_all_that_is_needed_and_no_byte_of_it_can_be_changed() -> Result {
    gate!();
    let house = House::new("prove", |builder| builder)?;
    let (session, _) = house.session()?;
    let bundle = house.auditor.file("session.bundle");
    prove(&house, &session, &bundle)?;
    let entries = house.scene.agent.entries()?;
    let of_session = entries.iter().filter(|entry| entry.fields["session"] == session).count();
    let auditor = &house.auditor;
    let with = auditor.verify_witnessed(&bundle)?;
    assert_eq!(with.code, INTACT, "{with:?}");
    let without = auditor.verify(&bundle, &[])?;
    assert!(without.code == INCOMPLETE && without.has("not-anchored"), "{without:?}");

    let good = fs::read(&bundle)?;
    let decoded = Bundle::decode(&good).ok().context("a bundle")?;
    assert_eq!(decoded.entries.len(), of_session, "all of the session, and nothing else");
    assert!(decoded.seal.is_some());
    // One byte in an entry, for the program.
    let entry = &decoded.entries[1].1;
    let at = good.windows(entry.len()).position(|part| part == entry).context("the entry")?;
    let changed = auditor.file("changed.bundle");
    let mut bytes = good.clone();
    bytes[at + entry.len() / 2] ^= 1;
    fs::write(&changed, &bytes)?;
    let found = auditor.verify_witnessed(&changed)?;
    assert_eq!(found.code, TAMPERED, "{found:?}");

    // All of them: a cosignature that nobody knows is none, everything else is tampering.
    let mut options = Options::new(&bundle);
    options.keys = vec![VerifierKey::parse(fs::read_to_string(auditor.key())?.trim_end())?];
    options.witnesses = vec![VerifierKey::parse(&auditor.witness_key())?];
    assert_eq!(verify_bundle(&good, &options)?.verdict, Verdict::Intact);
    let note = &decoded.checkpoint;
    let begins = good.windows(note.len()).position(|part| part == note).context("the note")?;
    let text = std::str::from_utf8(note)?;
    let last = text.trim_end().rfind('\n').context("lines")? + 1;
    let cosignature = begins + last..begins + note.len();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let verdict = verify_bundle(&bytes, &options)?.verdict;
        let unknown = cosignature.contains(&at) && verdict == Verdict::Incomplete;
        assert!(verdict == Verdict::Tampered || unknown, "byte {at}: {verdict:?}");
    }
    house.finish()
}

#[test]
fn a_session_that_goes_on_is_proven_so_far() -> Result {
    gate!();
    let house = House::new("open", |builder| builder)?;
    let mut client = house.client()?;
    client.value("select 1 as goes_on")?;
    let session = house.session_of("goes_on")?;
    let bundle = house.auditor.file("open.bundle");
    prove(&house, &session, &bundle)?;
    let checked = house.auditor.verify_witnessed(&bundle)?;
    assert!(checked.code == INCOMPLETE && checked.has("session-unfinished"), "{checked:?}");
    // Neither in the way of the session, nor is an old proof wrong when it has ended.
    client.value("select 2")?;
    drop(client);
    house.scene.agent.wait_for(|record| record["event"] == "session_end", PATIENCE)?;
    let again = house.auditor.verify_witnessed(&bundle)?;
    assert_eq!(again.code, INCOMPLETE, "{again:?}");
    let whole = house.auditor.file("whole.bundle");
    prove(&house, &session, &whole)?;
    assert_eq!(house.auditor.verify_witnessed(&whole)?.code, INTACT);
    house.finish()
}

#[test]
fn what_cannot_be_proven_is_said() -> Result {
    gate!();
    let house = House::new("unknown", |builder| builder)?;
    let (session, _) = house.session()?;
    let (other, _) = house.session()?;
    let bundle = house.auditor.file("none.bundle");
    let path = bundle.to_str().context("a path of text")?;
    let said = |id: &str| -> Result<String> {
        let output = house.pgward(&["audit", "prove", "--session", id, "-o", path])?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!bundle.exists(), "a file without a proof");
        Ok(String::from_utf8(output.stderr)?)
    };
    let unknown = "f".repeat(32);
    let text = said(&unknown)?;
    assert!(text.contains(&format!("no session `{unknown}`")), "{text}");
    // Sessions of one run begin alike.
    assert_eq!(session[..16], other[..16]);
    let text = said(&session[..16])?;
    assert!(text.contains("several sessions begin like"), "{text}");
    // What is there already is not overwritten.
    fs::write(&bundle, "mine")?;
    wait::until_true("a checkpoint", PATIENCE, || {
        let output = house.pgward(&["audit", "prove", "--session", &session, "-o", path])?;
        assert!(!output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stderr)?.contains("cannot make"))
    })?;
    assert_eq!(fs::read_to_string(&bundle)?, "mine");
    house.finish()
}
