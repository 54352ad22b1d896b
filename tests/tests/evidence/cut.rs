//! The end of the trail is cut off: who has a copy of a checkpoint of it notices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use pgward_tests::host;
use pgward_tests::trail::Entry;
use pgward_tests::witness::note::Note;

use crate::anchors::{ALL, house, note_on_paper, notes_of_the_table};
use crate::house::{House, INCOMPLETE, TAMPERED};
use crate::{Result, gate};

/// Header of a segment; head of a frame: length (4), check sum (4), type (1).
const HEADER: usize = 512;
const HEAD: usize = 9;
const TRAILER: u8 = 3;

/// Row 7 of the table of tampers.
#[test]
fn an_end_that_was_cut_off_is_missed_by_all_who_hold_a_copy() -> Result {
    gate!();
    let mut house = house("cut")?;
    // So that there is an older checkpoint to put back.
    house.wait_anchored(&ALL)?;
    let (session, _) = house.session()?;
    house.wait_anchored(&ALL)?;
    house.scene.agent.stop()?;
    let entries = house.scene.agent.entries()?;
    let cut = house.auditor.file("cut");
    host::run(Command::new("cp").arg("-a").arg(house.trail()).arg(&cut))?;
    let epoch = cut.join("epoch-1");
    let left = cut_before(&epoch, &entries, &session)?;
    put_back_checkpoint(&house, &epoch, left)?;

    let auditor = &house.auditor;
    let none = auditor.verify(&cut, &[])?;
    assert!(none.code == INCOMPLETE && none.has("not-anchored"), "{none:?}");
    // Later, the missing seals show as well.
    let later =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 3600;
    let later = auditor.verify(&cut, &["--as-of", &later.to_string()])?;
    assert!(later.code == INCOMPLETE && later.has("silence"), "{later:?}");
    let copies = [
        auditor.witness_folder(),
        notes_of_the_table(&house)?,
        auditor.file("share"),
        note_on_paper(&house)?,
    ];
    for copy in &copies {
        let copy = copy.to_str().context("a path of text")?;
        let with = ["--anchor", copy, "--witness", &auditor.witness_key()];
        let checked = auditor.verify(&cut, &with)?;
        assert!(checked.code == TAMPERED && checked.has("truncated"), "{copy}: {checked:?}");
        let whole = auditor.verify(house.trail(), &with)?;
        assert!(whole.code != TAMPERED, "{copy}: {whole:?}");
    }
    // The attacker's own state is not what makes it so: without its checkpoints it is the same.
    fs::remove_file(epoch.join("checkpoint"))?;
    let copy = copies[0].to_str().context("a path of text")?;
    assert!(auditor.verify(&cut, &["--anchor", copy])?.has("truncated"));
    assert_eq!(auditor.verify(&cut, &[])?.code, INCOMPLETE);
    house.finish()
}

/// Takes the batches of a session and all behind them from the newest segment. Gives how many entries are left.
fn cut_before(epoch: &Path, entries: &[Entry], session: &str) -> Result<u64> {
    let first = entries.iter().position(|entry| entry.fields["session"] == session);
    let first = first.context("the session")? as u64;
    let path = newest_segment(epoch)?;
    let mut bytes = fs::read(&path)?;
    let (mut at, mut end, mut left) = (HEADER, HEADER, 0);
    while let Some(head) = bytes.get(at..at + HEAD) {
        let length = u32::from_be_bytes(head[..4].try_into()?) as usize;
        let payload = bytes.get(at + HEAD..at + HEAD + length).context("a whole frame")?;
        if length == 0 {
            break;
        }
        at += HEAD + length;
        if head[8] == TRAILER {
            let size = u64::from_be_bytes(payload[..8].try_into()?);
            if size > first {
                break;
            }
            (end, left) = (at, size);
        }
    }
    ensure!(left > 0, "nothing is left");
    bytes[end..].fill(0);
    fs::write(&path, bytes)?;
    Ok(left)
}

fn newest_segment(epoch: &Path) -> Result<PathBuf> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(epoch)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("segment-") && name.ends_with(".log") {
            segments.push(path);
        }
    }
    segments.into_iter().max().context("a segment")
}

/// What the attacker leaves: the newest checkpoint that fits what is left, from another copy, and no cosignature.
fn put_back_checkpoint(house: &House, epoch: &Path, left: u64) -> Result {
    fs::remove_file(epoch.join("cosigned"))?;
    let _ = fs::remove_dir_all(epoch.join("checkpoints"));
    let table = house.cluster.sql(
        crate::anchors::DATABASE,
        &format!(
            "SELECT note FROM pgward.checkpoint WHERE size <= {left} ORDER BY size DESC LIMIT 1"
        ),
    )?;
    let note = format!("{}\n", table.trim_end());
    ensure!(Note::parse(&note)?.size <= left, "too new");
    fs::write(epoch.join("checkpoint"), note)?;
    Ok(())
}
