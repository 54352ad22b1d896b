//! Row 1: each bit of a small trail is flipped in turn, in all files.

use std::fs;
use std::path::{Path, PathBuf};

use pgward_verify::{EpochSummary, Severity, Verdict};

use crate::log::Log;
use crate::scene::{Scene, fill};

/// What may be flipped without a finding: nothing that says anything.
enum Harmless {
    /// A finding must follow.
    Nothing,
    /// The file is not evidence: it says nothing about the log.
    File,
}

fn harmless(path: &Path) -> Harmless {
    match path.file_name().map(|name| name.to_string_lossy().into_owned()).as_deref() {
        Some("identity.toml" | "lock") => Harmless::File,
        Some(_) | None => Harmless::Nothing,
    }
}

/// Two raw segments and a packed one, with values and tiles.
fn small() -> Log {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 2);
    log.segments.push(log.size());
    let session = log.open();
    let payload = b"sealed values".to_vec();
    let digest = crate::log::sha(&[&payload]);
    let intent = log.say(session, 6, &[(23, 1.into()), (46, digest.into())]);
    log.values.insert(log.size() - 1, payload);
    log.say(session, 7, &[(18, intent.into())]);
    log.close(session);
    log.segments.push(log.size());
    fill(&mut log, 1);
    log.stop();
    log
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// Flips every `step`th bit of every file. Steps are odd, so each place in a byte has its turn.
fn flip_all(scene: &Scene, step: usize) {
    assert_eq!(scene.verify().verdict, Verdict::Intact, "{:?}", scene.verify().findings);
    for path in files(&scene.trail()) {
        let mut bytes = fs::read(&path).expect("a file");
        // Frames are where it matters: their bits are as near to one another as asked for.
        let from = if path.extension().is_some_and(|form| form == "log") { 512 * 8 } else { 0 };
        let sparse = (0..from).step_by(step * 7);
        for bit in sparse.chain((from..bytes.len() * 8).step_by(step)) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).expect("a file");
            bytes[bit / 8] ^= 1 << (bit % 8);
            let report = scene.verify();
            let noticed = report.findings.iter().any(|finding| finding.severity > Severity::Note);
            match harmless(&path) {
                Harmless::Nothing => assert!(
                    noticed && report.verdict != Verdict::Intact,
                    "bit {bit} of {} passes: {:?}",
                    path.display(),
                    report.findings
                ),
                Harmless::File => {}
            }
        }
        fs::write(&path, &bytes).expect("a file");
    }
}

/// The smallest trail: the start and the stop of an agent. Every bit of its frames.
#[test]
fn no_flipped_bit_of_the_smallest_trail_passes() {
    let mut log = Log::begin(1, &[]);
    log.stop();
    let scene = Scene::new(log);
    // Once is enough for what is the same in all trails.
    fs::remove_file(scene.epoch().join("checkpoint")).expect("our own");
    flip_all(&scene, 1);
}

#[test]
fn no_flipped_bit_of_a_raw_trail_passes() {
    flip_all(&Scene::new(small()), 37);
}

#[test]
fn no_flipped_bit_of_a_packed_trail_passes() {
    let mut log = small();
    log.packed = vec![0, log.segments[0]];
    flip_all(&Scene::new(log), 37);
}

/// The same with tiles, which make the trail larger.
#[test]
fn no_flipped_bit_of_a_trail_with_tiles_passes() {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 50);
    log.segments.push(log.size());
    fill(&mut log, 1);
    log.stop();
    log.packed = vec![0];
    flip_all(&Scene::new(log), 307);
}

/// The files beside the log: keys of values, files that are made ahead, bytes that were put aside.
/// Whatever is flipped in them, the log is read as it is.
#[test]
fn no_flipped_bit_beside_the_log_changes_what_is_read_of_it() {
    let scene = crate::values::untouched();
    let ahead = [scene.epoch().join("next.log"), scene.epoch().join("reserve")];
    for path in &ahead {
        fs::write(path, [0; 600]).expect("a file");
    }
    let whole = scene.verify();
    assert_eq!(whole.verdict, Verdict::Intact, "{:?}", whole.findings);
    for path in files(&scene.trail()) {
        let keys = path.extension().is_some_and(|form| form == "keys");
        if !keys && !ahead.contains(&path) {
            continue;
        }
        let mut bytes = fs::read(&path).expect("a file");
        for bit in (0..bytes.len() * 8).step_by(11) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).expect("a file");
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (report, case) = (scene.verify(), format!("bit {bit} of {}", path.display()));
            assert_ne!(report.verdict, Verdict::Intact, "{case}");
            let read = |epochs: &[EpochSummary]| (epochs[0].entries, epochs[0].root.clone());
            assert_eq!(read(&report.epochs), read(&whole.epochs), "{case}");
        }
        fs::write(&path, &bytes).expect("a file");
    }
}

/// Row 1 for whole bytes that are cut off at the end of any file.
#[test]
fn no_file_cut_short_passes() {
    let scene = Scene::new(small());
    for path in files(&scene.trail()) {
        let original = fs::read(&path).expect("a file");
        // The last bytes of a raw segment are empty.
        let written = original.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for length in (0..written).step_by(61) {
            fs::write(&path, &original[..length]).expect("a file");
            let report = scene.verify();
            if matches!(harmless(&path), Harmless::Nothing) {
                assert_ne!(report.verdict, Verdict::Intact, "{} at {length}", path.display());
            }
        }
        fs::write(&path, &original).expect("a file");
    }
}
