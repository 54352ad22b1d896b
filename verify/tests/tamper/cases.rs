//! The table: one line for each tamper or fault.

use std::fs;
use std::path::Path;

use pgward_verify::{Class, Options, Report, Verdict, verify_dir};

use crate::log::{Field, HOST, Log, SECOND, SPARE_BYTES, cosign, frame, note, pair, public, vkey};
use crate::scene::{Scene, WITNESS, WITNESS_SEED, edit, fill, key, large, sessions};

/// What is expected of the verifier: the finding, the records it names if that is checked, the
/// exit code.
struct Case {
    /// Number of the row in the table of tampers and faults.
    row: u32,
    name: &'static str,
    make: fn() -> Scene,
    class: Class,
    records: Option<(u64, u64)>,
    exit: u8,
}

const fn case(
    row: u32,
    name: &'static str,
    make: fn() -> Scene,
    class: Class,
    records: Option<(u64, u64)>,
    exit: u8,
) -> Case {
    Case { row, name, make, class, records, exit }
}

/// A trail with segments that end at 60 and 130, whose first one is packed.
fn three_segments() -> Log {
    let mut log = sessions(30);
    let end = |near: u64| *log.batches.iter().find(|end| **end >= near).expect("a batch");
    log.segments = vec![end(60), end(130)];
    log
}

fn scene() -> Scene {
    Scene::new(sessions(30))
}

fn with(log: Log, change: impl FnOnce(&mut Scene)) -> Scene {
    let mut scene = Scene::new(log);
    change(&mut scene);
    scene
}

/// Changes the log and writes its segments again; tiles and checkpoints stay as they were.
fn rewritten(log: Log, change: impl FnOnce(&mut Log)) -> Scene {
    with(log, |scene| {
        change(&mut scene.log);
        scene.rewrite_segments();
    })
}

const CASES: &[Case] = &[
    case(
        2,
        "an entry is edited, its check sum made to fit",
        edited_small,
        Class::RootMismatch,
        Some((40, 41)),
        1,
    ),
    case(
        2,
        "the same where a tile covers it",
        edited_tiled,
        Class::EntryAltered,
        Some((40, 41)),
        1,
    ),
    case(2, "the same in a packed segment", edited_packed, Class::EntryAltered, Some((40, 41)), 1),
    case(
        2,
        "an entry is edited, its check sum is not",
        rotten_tiled,
        Class::EntryAltered,
        Some((40, 41)),
        1,
    ),
    case(
        3,
        "entry and level-0 hash are forged together",
        forged_small,
        Class::RootMismatch,
        Some((40, 41)),
        1,
    ),
    case(3, "the same at size 65,536", forged_65536, Class::RootMismatch, None, 1),
    case(3, "the same at size 70,000, left", forged_70000, Class::RootMismatch, None, 1),
    case(
        3,
        "the same at size 70,000, right edge",
        forged_70000_right,
        Class::RootMismatch,
        None,
        1,
    ),
    case(3, "the same in a pack", forged_packed, Class::Rewritten, None, 1),
    case(4, "all is rebuilt but the seals", rebuilt, Class::Rewritten, None, 1),
    case(5, "all is rebuilt and signed with the stolen host key", resigned, Class::Fork, None, 1),
    case(5, "the same: the chain of seals", resigned, Class::Rewritten, None, 1),
    case(6, "an entry is deleted", deleted_tiled, Class::EntriesMissing, Some((40, 41)), 1),
    case(6, "the same without a tile", deleted_small, Class::EntriesMissing, Some((40, 41)), 1),
    case(6, "an entry is duplicated", duplicated, Class::EntriesAdded, Some((41, 42)), 1),
    case(6, "an entry is inserted", inserted, Class::EntriesAdded, Some((41, 42)), 1),
    case(6, "two entries are exchanged", swapped, Class::EntriesMoved, None, 1),
    case(
        6,
        "two entries of one batch are exchanged",
        swapped_in_batch,
        Class::EntriesMoved,
        Some((2, 4)),
        1,
    ),
    case(7, "the end is removed, a witness knows more", cut_witnessed, Class::Truncated, None, 1),
    case(7, "the end is removed with all that knows of it", cut_silently, Class::Silence, None, 2),
    case(8, "cut to an earlier seal and continued", continued, Class::SealKey, None, 1),
    case(9, "idle seals are removed", seals_removed, Class::SealGap, None, 1),
    case(9, "silence without a stop", silent, Class::Silence, None, 2),
    case(10, "a frame is hidden between batches", hidden_frame, Class::ExtraBytes, None, 1),
    case(10, "bytes behind the end of a segment", slack_behind_end, Class::ExtraBytes, None, 1),
    case(10, "bytes behind the end of the log", slack_behind_log, Class::ExtraBytes, None, 1),
    case(10, "bytes in the file kept for later", slack_in_next, Class::ExtraBytes, None, 1),
    case(10, "bytes behind the last bundle", slack_in_pack, Class::ExtraBytes, None, 1),
    case(10, "an unknown file", extra_file, Class::ExtraFile, None, 1),
    case(11, "the key of another host", other_host, Class::WrongKey, None, 1),
    case(11, "another key of this host", other_key, Class::WrongKey, None, 1),
    case(11, "no seals", no_seals, Class::SealMissing, None, 1),
    case(11, "an empty folder", empty, Class::SealMissing, None, 1),
    case(12, "a segment is removed", segment_removed, Class::EntriesMissing, None, 1),
    case(12, "the first segment is removed", first_removed, Class::EntriesMissing, None, 1),
    case(
        12,
        "a session is removed, the rest renumbered",
        session_removed,
        Class::Rewritten,
        None,
        1,
    ),
    case(12, "an epoch is removed", epoch_removed, Class::EpochMissing, None, 1),
    case(12, "the newest epoch is removed", newest_epoch_removed, Class::EpochMissing, None, 1),
    case(13, "a segment of another host", spliced, Class::WrongOrigin, None, 1),
    case(13, "a segment of another epoch", spliced_epoch, Class::WrongOrigin, None, 1),
    case(14, "two checkpoints of one size", split_view, Class::Fork, None, 1),
    case(19, "no signature of the witness", witness_missing, Class::NotAnchored, None, 2),
    case(19, "a cosignature of an unknown key", witness_unknown, Class::NotAnchored, None, 2),
    case(19, "a cosignature that is wrong", witness_wrong, Class::BadCosignature, None, 1),
    case(19, "a cosignature from the future", witness_future, Class::FutureCosignature, None, 1),
    case(
        20,
        "a checkpoint with line ends of another system",
        checkpoint_crlf,
        Class::CheckpointMalformed,
        None,
        1,
    ),
    case(
        20,
        "a checkpoint with a second empty line",
        checkpoint_lines,
        Class::CheckpointMalformed,
        None,
        1,
    ),
    case(20, "a checkpoint of a mebibyte", checkpoint_huge, Class::CheckpointMalformed, None, 1),
    case(
        22,
        "an entry in the tree is not canonical",
        not_canonical,
        Class::EntryMalformed,
        None,
        1,
    ),
    case(24, "a torn end", torn, Class::TornTail, None, 2),
    case(
        25,
        "a bad frame, a good trailer behind it",
        corrupt,
        Class::FrameDamaged,
        Some((40, 41)),
        1,
    ),
    case(
        32,
        "the clock is set back, no record says so",
        clock_back,
        Class::ClockBackwards,
        None,
        2,
    ),
    case(32, "the clock is an hour ahead of the witness", clock_ahead, Class::ClockAhead, None, 2),
    case(34, "a key is erased without a record", shredded, Class::KeyErased, None, 1),
    case(34, "values are deleted without a record", values_deleted, Class::ValuesMissing, None, 1),
    case(36, "a frame of values is altered", values_altered, Class::ValuesAltered, None, 1),
    case(36, "a frame of values is removed", values_removed, Class::ValuesMissing, None, 1),
    case(43, "unknown version, event and field", unknown, Class::Unknown, None, 0),
    case(
        46,
        "a crash that no anchor saw on both sides",
        crashed,
        Class::RecoveryUnwitnessed,
        None,
        2,
    ),
    case(46, "a crash between two anchors", crashed_anchored, Class::Recovered, None, 0),
    case(
        46,
        "the chain of seals begins anew without a reason",
        restarted,
        Class::SealRestart,
        None,
        1,
    ),
    case(
        46,
        "sessions of a crash have no end",
        crashed_anchored,
        Class::SessionUnfinished,
        None,
        0,
    ),
    case(9, "a connect with two records", connect_twice, Class::ConnectUnexplained, None, 1),
    case(9, "a connect that was not seen", connect_unseen, Class::ConnectUnexplained, None, 1),
    case(9, "connects that nothing explains", unexplained, Class::ConnectUnexplained, None, 1),
    case(10, "a tile is altered", tile_altered, Class::TileAltered, Some((40, 41)), 1),
    case(10, "a trailer is altered", trailer_altered, Class::MarkAltered, None, 1),
    case(10, "sessions have gaps", session_gap, Class::SessionGap, None, 1),
    case(10, "the digest of a session is wrong", session_digest, Class::SessionDigest, None, 1),
    case(10, "an outcome without an intent", outcome_alone, Class::OutcomeAlone, None, 1),
    case(3, "statements went before they were durable", asynchronous, Class::AsyncWindow, None, 2),
    case(12, "entries are pruned, a record says so", pruned, Class::Pruned, None, 0),
    case(39, "a second copy tells the bytes", copied, Class::CopyDiffers, None, 1),
];

#[test]
fn every_row_is_found_as_the_table_says() {
    let failed: Vec<String> = CASES
        .iter()
        .filter_map(|case| {
            let scene = (case.make)();
            let report = scene.verify();
            judge(case, &report).err().map(|why| format!("row {}, {}: {why}", case.row, case.name))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), CASES.len(), failed.join("\n"));
}

/// The canary: a verifier that always passes is not taken for one.
#[test]
fn a_verifier_that_always_passes_fails_every_case() {
    let empty = Scene::new(sessions(0));
    let passes = empty.verify();
    assert_eq!(passes.verdict, Verdict::Intact);
    for case in CASES {
        assert!(judge(case, &passes).is_err(), "row {}, {}", case.row, case.name);
    }
}

fn judge(case: &Case, report: &Report) -> Result<(), String> {
    let list: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let list = list.join("\n  ");
    let exit = report.verdict.exit_code();
    if exit != case.exit {
        return Err(format!("exit {exit}, expected {}\n  {list}", case.exit));
    }
    let of_class = report.findings.iter().filter(|finding| finding.class == case.class);
    let ranges: Vec<_> = of_class.map(|finding| (finding.from_index, finding.to_index)).collect();
    let covers = |(from, to): &(Option<u64>, Option<u64>)| match case.records {
        Some((first, end)) => {
            from.is_some_and(|from| from <= first)
                && to.is_some_and(|to| to >= end && to <= end + 10)
        }
        None => true,
    };
    if ranges.iter().any(covers) {
        Ok(())
    } else {
        Err(format!("no {} for {:?}\n  {list}", case.class, case.records))
    }
}

fn edited_small() -> Scene {
    with(sessions(30), |scene| scene.edit(0, 40))
}

fn edited_tiled() -> Scene {
    with(sessions(110), |scene| scene.edit(0, 40))
}

/// A packed segment of 300 entries or so, with tiles.
fn packed() -> Log {
    let mut log = sessions(110);
    log.segments = vec![*log.batches.iter().find(|end| **end >= 300).expect("a batch")];
    log.packed = vec![0];
    log
}

fn edited_packed() -> Scene {
    rewritten(packed(), |log| {
        // Only the bundle is made anew: its header keeps the roots, as the trailers are gone.
        edit(&mut log.entries[40]);
    })
    .keeping_pack_roots()
}

fn rotten_tiled() -> Scene {
    with(sessions(110), |scene| {
        let (at, length) = scene.place(0, 40);
        scene.change(scene.segment(0, "log"), |bytes| bytes[(at + length) as usize - 1] ^= 1);
    })
}

fn forge(scene: &mut Scene, first: u64, index: u64) {
    let mut entry = scene.log.entries[index as usize].clone();
    edit(&mut entry);
    scene.edit(first, index);
    if index < scene.log.size() / 256 * 256 {
        scene.forge_tile(index, &entry);
    }
}

fn forged_small() -> Scene {
    with(sessions(110), |scene| forge(scene, 0, 40))
}

fn forged_65536() -> Scene {
    with(large(65_536), |scene| forge(scene, 0, 9970))
}

fn forged_70000() -> Scene {
    with(large(70_000), |scene| forge(scene, 0, 9970))
}

fn forged_70000_right() -> Scene {
    with(large(70_000), |scene| forge(scene, 0, 69_990))
}

fn forged_packed() -> Scene {
    with(packed(), |scene| {
        let mut entry = scene.log.entries[40].clone();
        edit(&mut entry);
        scene.forge_tile(40, &entry);
        scene.log.entries[40] = entry;
        scene.rewrite_segments();
    })
}

fn rebuilt() -> Scene {
    with(sessions(110), |scene| {
        edit(&mut scene.log.entries[40]);
        scene.rewrite_segments();
        scene.log.write_tiles(&scene.epoch());
    })
}

fn resigned() -> Scene {
    with(sessions(110), |scene| {
        let seen = fs::read(scene.epoch().join("cosigned")).expect("a file");
        let anchor = scene.folder.path().join("anchor");
        fs::write(&anchor, seen).expect("a file");
        scene.options.anchors = vec![anchor];
        edit(&mut scene.log.entries[40]);
        fs::remove_dir_all(scene.epoch()).expect("our own");
        scene.log.write(&scene.trail());
    })
}

fn deleted(scene: &Scene) {
    let (at, length) = scene.place(0, 40);
    scene.replace(0, at, length, &[]);
}

fn deleted_tiled() -> Scene {
    with(sessions(110), |scene| deleted(scene))
}

fn deleted_small() -> Scene {
    with(sessions(30), |scene| deleted(scene))
}

fn duplicated() -> Scene {
    with(sessions(30), |scene| {
        let (at, length) = scene.place(0, 40);
        let entry = scene.log.entries[40].clone();
        scene.replace(0, at, length, &[(1, &entry), (1, &entry)]);
    })
}

fn inserted() -> Scene {
    with(sessions(110), |scene| {
        let (at, length) = scene.place(0, 40);
        let (entry, mut other) = (scene.log.entries[40].clone(), scene.log.entries[60].clone());
        edit(&mut other);
        scene.replace(0, at, length, &[(1, &entry), (1, &other)]);
    })
}

fn swapped() -> Scene {
    rewritten(sessions(110), |log| log.entries.swap(40, 44)).keeping_marks()
}

fn swapped_in_batch() -> Scene {
    with(sessions(30), |scene| {
        let (at, one) = scene.place(0, 2);
        let (_, other) = scene.place(0, 3);
        let (first, second) = (scene.log.entries[2].clone(), scene.log.entries[3].clone());
        scene.replace(0, at, one + other, &[(1, &second), (1, &first)]);
    })
}

/// A log that was cut at a batch near a size, as it was then.
fn cut(log: &Log, near: u64) -> Log {
    let mut cut = log.clone();
    let end = *cut.batches.iter().rfind(|end| **end <= near).expect("a batch");
    cut.entries.truncate(end as usize);
    cut.batches.retain(|size| *size <= end);
    cut
}

fn cut_witnessed() -> Scene {
    with(sessions(30), |scene| {
        scene.log = cut(&scene.log, 100);
        scene.rewrite_segments();
    })
}

fn cut_silently() -> Scene {
    with(sessions(30), |scene| {
        scene.log = cut(&scene.log, 100);
        fs::remove_dir_all(scene.epoch()).expect("our own");
        scene.log.write(&scene.trail());
        scene.options.now_ns += 600 * SECOND;
    })
}

fn continued() -> Scene {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 10);
    // The key that the last seal named is gone; another is taken.
    log.seal_with(0, &pair(77));
    fill(&mut log, 1);
    log.stop();
    Scene::new(log)
}

fn seals_removed() -> Scene {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 10);
    log.skip_seals(3);
    fill(&mut log, 10);
    log.stop();
    Scene::new(log)
}

fn silent() -> Scene {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 4);
    (log.time, log.boot) = (log.time + 60 * SECOND, log.boot + 60 * SECOND);
    fill(&mut log, 4);
    log.stop();
    Scene::new(log)
}

fn hidden_frame() -> Scene {
    with(sessions(30), |scene| {
        let (at, _) = scene.place(0, 40);
        scene.replace(0, at, 0, &[(9, b"hidden")]);
    })
}

fn slack_behind_end() -> Scene {
    with(three_segments(), |scene| {
        scene.change(scene.segment(0, "log"), |bytes| {
            let at = bytes.len() - 50;
            bytes[at..at + 6].copy_from_slice(b"hidden");
        });
    })
}

fn slack_behind_log() -> Scene {
    with(sessions(30), |scene| {
        scene.change(scene.segment(0, "log"), |bytes| {
            let at = bytes.len() - 40;
            bytes[at] = 1;
        });
    })
}

fn slack_in_next() -> Scene {
    with(sessions(3), |scene| {
        let mut bytes = vec![0; 100_000];
        bytes[70_000] = 1;
        fs::write(scene.epoch().join("next.log"), bytes).expect("a file");
    })
}

fn slack_in_pack() -> Scene {
    with(packed(), |scene| scene.change(scene.segment(0, "pack"), |bytes| bytes.push(0)))
}

fn extra_file() -> Scene {
    with(sessions(3), |scene| {
        fs::write(scene.epoch().join("segment-1.log"), "hidden").expect("a file");
    })
}

fn other_host() -> Scene {
    with(sessions(3), |scene| {
        scene.options.keys = vec![key(&vkey("pgward/another", 1, &public(&pair(1))))];
    })
}

fn other_key() -> Scene {
    with(sessions(3), |scene| {
        scene.options.keys = vec![key(&vkey(HOST, 1, &public(&pair(2))))];
    })
}

fn no_seals() -> Scene {
    let mut log = Log::begin(1, &[]);
    log.entries.clear();
    log.batches.clear();
    log.add(21, &[]);
    log.add(1, &[]);
    log.batch();
    Scene::new(log)
}

fn empty() -> Scene {
    with(sessions(3), |scene| {
        fs::remove_dir_all(scene.trail()).expect("our own");
        fs::create_dir(scene.trail()).expect("a folder");
    })
}

fn segment_removed() -> Scene {
    with(three_segments(), |scene| {
        let first = scene.log.segments[0];
        fs::remove_file(scene.segment(first, "log")).expect("our own");
    })
}

fn first_removed() -> Scene {
    with(three_segments(), |scene| fs::remove_file(scene.segment(0, "log")).expect("our own"))
}

fn session_removed() -> Scene {
    let mut log = sessions(110);
    let victim = log.id(5);
    let kept = log.clone();
    log = Log::begin(1, &[]);
    log.entries.clear();
    log.batches.clear();
    for (index, entry) in kept.entries.iter().enumerate() {
        if !entry.windows(16).any(|bytes| bytes == victim) {
            log.raw(entry.clone());
        }
        if kept.batches.contains(&(index as u64 + 1)) {
            log.batch();
        }
    }
    log.time = kept.time;
    Scene::new(log)
}

/// Two epochs; the second continues the first.
fn two_epochs() -> Scene {
    let first = sessions(3);
    let before: [(u64, Field); 3] = [
        (120, first.origin.as_str().into()),
        (121, first.size().into()),
        (122, first.root_at(first.size()).into()),
    ];
    let mut second = Log::begin(2, &before);
    second.time = first.time + SECOND;
    fill(&mut second, 2);
    second.stop();
    let scene = Scene::new(second);
    first.write(&scene.trail());
    fs::write(scene.trail().join("identity.toml"), "epoch = 2\n").expect("a file");
    scene
}

fn epoch_removed() -> Scene {
    let scene = two_epochs();
    assert_eq!(scene.verify().verdict, Verdict::Intact, "{:?}", scene.verify().findings);
    fs::remove_dir_all(scene.trail().join("epoch-1")).expect("our own");
    scene
}

fn newest_epoch_removed() -> Scene {
    let scene = two_epochs();
    fs::remove_dir_all(scene.trail().join("epoch-2")).expect("our own");
    scene
}

fn splice(log: Log) -> Scene {
    let mut other = log;
    let scene = Scene::new(three_segments());
    other.segments.clone_from(&scene.log.segments);
    let elsewhere = tempfile::tempdir().expect("a folder");
    other.write(elsewhere.path());
    let name = scene.segment(scene.log.segments[0], "log");
    let name = name.file_name().expect("a name");
    let from = elsewhere.path().join(format!("epoch-{}", other.epoch)).join(name);
    fs::copy(from, scene.epoch().join(name)).expect("a file");
    scene
}

fn spliced() -> Scene {
    let mut log = Log::begin_as("pgward/another", 2, 1, &[]);
    fill(&mut log, 30);
    log.stop();
    splice(log)
}

fn spliced_epoch() -> Scene {
    let mut log = Log::begin(2, &[]);
    fill(&mut log, 30);
    log.stop();
    splice(log)
}

fn split_view() -> Scene {
    with(sessions(30), |scene| {
        let other = note(&scene.log.origin, scene.log.size(), [9; 32], 1);
        let other = cosign(&other, WITNESS, WITNESS_SEED, scene.log.time / SECOND);
        let anchor = scene.folder.path().join("anchor");
        fs::write(&anchor, other).expect("a file");
        scene.options.anchors = vec![anchor];
    })
}

fn witness_missing() -> Scene {
    with(sessions(3), |scene| fs::remove_file(scene.epoch().join("cosigned")).expect("our own"))
}

fn cosigned(name: &str, seed: u8, change: impl FnOnce(String, u64) -> (String, u64)) -> Scene {
    with(sessions(3), |scene| {
        let plain = scene.log.checkpoint(scene.log.size());
        let (note, time) = change(plain, scene.log.time / SECOND);
        let signed = cosign(&note, name, seed, time);
        fs::write(scene.epoch().join("cosigned"), signed).expect("a file");
    })
}

fn witness_unknown() -> Scene {
    cosigned("witness.example/two", 41, |note, time| (note, time))
}

fn witness_wrong() -> Scene {
    with(sessions(3), |scene| {
        scene.change(scene.epoch().join("cosigned"), |bytes| {
            // A digit of the time in the last line: the key id has 4 bytes, the time follows.
            let at = bytes.len() - 60;
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        });
    })
}

fn witness_future() -> Scene {
    cosigned(WITNESS, WITNESS_SEED, |note, time| (note, time + 86_400))
}

fn with_checkpoint(change: impl FnOnce(&mut Vec<u8>)) -> Scene {
    with(sessions(3), |scene| scene.change(scene.epoch().join("checkpoint"), change))
}

fn checkpoint_crlf() -> Scene {
    with_checkpoint(|bytes| {
        *bytes = String::from_utf8_lossy(bytes).replace('\n', "\r\n").into_bytes();
    })
}

fn checkpoint_lines() -> Scene {
    with_checkpoint(|bytes| {
        *bytes = String::from_utf8_lossy(bytes).replacen("\n\n", "\n\n\n", 1).into_bytes();
    })
}

fn checkpoint_huge() -> Scene {
    with_checkpoint(|bytes| bytes.resize(1 << 20, b'\n'))
}

fn not_canonical() -> Scene {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 2);
    let mut entry = log.entries[0].clone();
    // Event 21 written in two bytes more than needed.
    let at = entry.windows(2).position(|two| two == [1, 0x15]).expect("the event");
    entry.splice(at + 1..at + 2, [0x18, 0x15]);
    log.raw(entry);
    log.batch();
    log.stop();
    Scene::new(log)
}

fn running() -> Log {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 10);
    log.seal(0);
    log.batch();
    log
}

fn torn() -> Scene {
    with(running(), |scene| {
        scene.change(scene.segment(0, "log"), |bytes| {
            let mut torn = Vec::new();
            frame(&mut torn, 1, &[7; 300]);
            let at = bytes.len() - SPARE_BYTES;
            bytes.resize(at + 1000, 0);
            bytes[at..at + 200].copy_from_slice(&torn[..200]);
        });
    })
}

fn corrupt() -> Scene {
    with(sessions(30), |scene| {
        let (at, _) = scene.place(0, 40);
        scene.change(scene.segment(0, "log"), |bytes| bytes[at as usize] = 0xff);
    })
}

fn clock_back() -> Scene {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    log.query(session, "select 1");
    log.time -= 3600 * SECOND;
    log.query(session, "select 2");
    log.time += 3600 * SECOND;
    log.close(session);
    log.stop();
    Scene::new(log)
}

fn clock_ahead() -> Scene {
    with(sessions(3), |scene| {
        let note = scene.log.checkpoint(scene.log.size());
        let early = scene.log.time / SECOND - 3600;
        let note = cosign(&note, WITNESS, WITNESS_SEED, early);
        fs::write(scene.epoch().join("cosigned"), note).expect("a file");
    })
}

fn shredded() -> Scene {
    with(sessions(3), |scene| {
        let sum = |mut bytes: Vec<u8>| {
            let crc = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_be_bytes());
            bytes
        };
        let mut head = b"pgward keyring 1".to_vec();
        head.resize(508, 0);
        head[24] = 1;
        let mut slot = vec![2, 1];
        slot.resize(16, 0);
        slot.extend_from_slice(&scene.log.id(1));
        slot.resize(124, 0);
        let folder = scene.trail().join("keys/values");
        fs::create_dir_all(&folder).expect("a folder");
        let file = [sum(head), sum(slot)].concat();
        fs::write(folder.join("2026-11-22-0001.keys"), file).expect("a file");
    })
}

/// A session with values, and the index of the entry that names them.
fn with_values(log: &mut Log) -> u64 {
    let session = log.open();
    let payload = b"sealed".to_vec();
    let digest = crate::log::sha(&[&payload]);
    let intent = log.say(session, 6, &[(23, 1.into()), (46, digest.into())]);
    let index = log.size() - 1;
    log.values.insert(index, payload);
    log.say(session, 7, &[(18, intent.into())]);
    log.close(session);
    index
}

fn values_log() -> Log {
    let mut log = Log::begin(1, &[]);
    with_values(&mut log);
    log.stop();
    log
}

fn values_deleted() -> Scene {
    let mut log = values_log();
    log.segments = vec![log.batches[1]];
    log.packed = vec![0];
    let scene = Scene::new(log);
    assert_eq!(scene.verify().verdict, Verdict::Intact, "{:?}", scene.verify().findings);
    fs::remove_file(scene.segment(0, "values")).expect("our own");
    scene
}

fn values_at(scene: &Scene) -> u64 {
    let index = *scene.log.values.keys().next().expect("values");
    let (at, length) = scene.place(0, index);
    at + length
}

fn values_altered() -> Scene {
    with(values_log(), |scene| {
        let at = values_at(scene);
        scene.replace(0, at, 9 + 6, &[(2, b"Sealed")]);
    })
}

fn values_removed() -> Scene {
    with(values_log(), |scene| {
        let at = values_at(scene);
        scene.replace(0, at, 9 + 6, &[]);
    })
}

fn unknown() -> Scene {
    let mut log = Log::begin(1, &[]);
    log.add(999, &[(0, 2.into()), (70_000, "kept".into())]);
    log.stop();
    let scene = Scene::new(log);
    assert_eq!(scene.verify().epochs[0].entries, 8);
    scene
}

/// A run that ends without a word, and the next one.
fn crash(log: &mut Log) -> u64 {
    let session = log.open();
    log.say(session, 6, &[(10, "select".into())]);
    log.batch();
    let size = log.size();
    log.time += 100 * SECOND;
    log.add(20, &[(56, "crash".into()), (50, "boot".into())]);
    log.seal(2);
    log.clock = 1;
    log.add(1, &[]);
    log.batch();
    size
}

fn crashed() -> Scene {
    let mut log = running();
    crash(&mut log);
    log.stop();
    with(log, |scene| {
        // Only a copy that was made later: no witness vouches for what was before.
        fs::remove_file(scene.epoch().join("cosigned")).expect("our own");
        scene.options.witnesses.clear();
        let anchor = scene.folder.path().join("anchor");
        fs::write(&anchor, scene.log.checkpoint(scene.log.size())).expect("a file");
        scene.options.anchors = vec![anchor];
    })
}

fn connect_twice() -> Scene {
    let mut log = running();
    for _ in 0..2 {
        log.add(9, &[(95, 7.into()), (104, 1.into())]);
    }
    log.stop();
    Scene::new(log)
}

fn connect_unseen() -> Scene {
    let mut log = running();
    log.add(9, &[(95, 700.into()), (104, 0.into())]);
    log.stop();
    Scene::new(log)
}

fn crashed_anchored() -> Scene {
    let mut log = running();
    let size = crash(&mut log);
    log.stop();
    with(log, |scene| {
        let anchor = scene.folder.path().join("anchor");
        // Copies on both sides do as well as a witness.
        scene.options.witnesses.clear();
        let notes = [size, scene.log.size()].map(|size| scene.log.checkpoint(size)).concat();
        fs::write(&anchor, notes).expect("a file");
        scene.options.anchors = vec![anchor];
    })
}

fn restarted() -> Scene {
    let mut log = running();
    log.seal(2);
    log.stop();
    Scene::new(log)
}

fn unexplained() -> Scene {
    let mut log = running();
    let columns: [(u64, u64); 7] =
        [(96, 5), (97, 3), (98, 0), (99, 0), (100, 0), (101, 0), (102, 2)];
    log.add(17, &columns.map(|(field, count)| (field, count.into())));
    log.add(2, &[]);
    log.seal(3);
    log.batch();
    Scene::new(log)
}

fn tile_altered() -> Scene {
    with(sessions(110), |scene| scene.forge_tile(40, b"another"))
}

fn trailer_altered() -> Scene {
    with(sessions(30), |scene| {
        let (at, length) = scene.place(0, 3);
        let mut mark = 4u64.to_be_bytes().to_vec();
        mark.extend_from_slice(&[7; 32]);
        mark.extend_from_slice(&0u64.to_be_bytes());
        scene.replace(0, at + length, 57, &[(3, &mark)]);
    })
}

fn session_gap() -> Scene {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    let kept = log.clone();
    log.say(session, 5, &[]);
    log.entries = kept.entries.clone();
    let entries = log.entries.clone();
    log.rebuild(entries);
    log.say(session, 5, &[]);
    log.batch();
    log.stop();
    Scene::new(log)
}

fn session_digest() -> Scene {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    log.say(session, 4, &[(93, 2.into()), (94, [1; 32].into())]);
    log.stop();
    Scene::new(log)
}

fn outcome_alone() -> Scene {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    log.say(session, 7, &[(18, 0.into())]);
    log.close(session);
    log.stop();
    Scene::new(log)
}

fn asynchronous() -> Scene {
    let mut log = Log::begin(1, &[]);
    log.add(15, &[(200, 3.into())]);
    log.stop();
    Scene::new(log)
}

fn pruned() -> Scene {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 60);
    let end = *log.batches.iter().find(|end| **end >= 256).expect("a batch");
    // The segment ends where a tile does, so that the tree can go on without it.
    let end = log.batches.iter().copied().find(|size| size % 256 == 0).unwrap_or_else(|| {
        while !log.size().is_multiple_of(256) {
            log.add(16, &[]);
        }
        log.batch();
        log.size().max(end)
    });
    log.segments = vec![end];
    log.add(28, &[(182, end.into())]);
    fill(&mut log, 3);
    log.stop();
    with(log, |scene| fs::remove_file(scene.segment(0, "log")).expect("our own"))
}

fn copied() -> Scene {
    with(sessions(30), |scene| {
        let copy = scene.folder.path().join("copy");
        scene.log.write(&copy);
        scene.edit(0, 40);
        scene.options.copy = Some(copy);
    })
}

impl Scene {
    /// Puts the roots of the log as it was sealed back into the header of the pack.
    fn keeping_pack_roots(self) -> Self {
        let sealed = sessions(110);
        let end = self.log.segments[0];
        self.change(self.segment(0, "pack"), |bytes| {
            bytes[64..96].copy_from_slice(&sealed.root_at(end));
            let crc = crc32c::crc32c(&bytes[..508]);
            bytes[508..512].copy_from_slice(&crc.to_be_bytes());
        });
        self
    }

    /// Puts the trailers of the log as it was sealed behind the changed entries.
    fn keeping_marks(self) -> Self {
        let sealed = Scene::new(sessions(110));
        let original = fs::read(sealed.segment(0, "log")).expect("a file");
        self.change(self.segment(0, "log"), |bytes| {
            let mut at = 512;
            while bytes[at..at + 8] != [0; 8] {
                let count = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
                let whole = at..at + 9 + count as usize;
                if bytes[at + 8] == 3 {
                    bytes[whole.clone()].copy_from_slice(&original[whole.clone()]);
                }
                at = whole.end;
            }
        });
        self
    }
}

#[test]
fn an_untouched_trail_is_intact_and_anchored() {
    for log in [sessions(0), sessions(1), sessions(30), three_segments(), packed(), values_log()] {
        let report = Scene::new(log).verify();
        assert_eq!((report.verdict, &*report.findings), (Verdict::Intact, &[][..]));
    }
}

#[test]
fn without_a_key_nothing_is_checked() {
    let scene = scene();
    let found = verify_dir(&Options::new(scene.trail())).expect_err("no key");
    assert!(found.to_string().contains("hint: copy `keys/host.vkey`"), "{found}");
    let nowhere = Options { directory: Path::new("/nowhere").into(), ..scene.options };
    verify_dir(&nowhere).expect_err("no folder");
}
