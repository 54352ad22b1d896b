//! Rows 9, 10, 24, 25, 32, 43 and 46: crashes, clocks, connects, sessions, pruning.

use std::fs;

use crate::log::{Field, HOST, Log, SECOND, SPARE_BYTES, cosign, frame};
use crate::scene::{Scene, WITNESS, WITNESS_SEED, fill, sessions, with};

pub(crate) fn running() -> Log {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 10);
    log.seal(0);
    log.batch();
    log
}

pub(crate) fn torn() -> Scene {
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

pub(crate) fn corrupt() -> Scene {
    with(sessions(30), |scene| {
        let (at, _) = scene.place(0, 40);
        scene.change(scene.segment(0, "log"), |bytes| bytes[at as usize] = 0xff);
    })
}

pub(crate) fn clock_back() -> Scene {
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

/// The clock is set while a session lasts, and a record says so.
fn clock_set(mut log: Log, to: impl FnOnce(u64) -> u64) -> Scene {
    let session = log.open();
    log.query(session, "select 1");
    let shown = log.time;
    log.time = to(shown);
    log.clock = 2;
    let step = log.time.abs_diff(shown);
    let back = log.time < shown;
    log.add(18, &[(140, 2.into()), (146, step.into()), (147, back.into()), (149, shown.into())]);
    log.query(session, "select 2");
    log.close(session);
    log.stop();
    Scene::new(log)
}

pub(crate) fn clock_set_back() -> Scene {
    clock_set(Log::begin(1, &[]), |shown| shown - 3600 * SECOND)
}

pub(crate) fn clock_set_forward() -> Scene {
    clock_set(Log::begin(1, &[]), |shown| shown + 3600 * SECOND)
}

/// The machine starts in 1970 and hears the time later.
pub(crate) fn clock_from_1970() -> Scene {
    clock_set(Log::begin_at(7 * SECOND, HOST, 1, 1, &[]), |_| 1_760_000_000 * SECOND)
}

pub(crate) fn clock_ahead() -> Scene {
    with(sessions(3), |scene| {
        let note = scene.log.checkpoint(scene.log.size());
        let early = scene.log.time / SECOND - 3600;
        let note = cosign(&note, WITNESS, WITNESS_SEED, early);
        fs::write(scene.epoch().join("cosigned"), note).expect("a file");
    })
}

pub(crate) fn unknown() -> Scene {
    let mut log = Log::begin(1, &[]);
    log.add(999, &[(0, 2.into()), (70_000, "kept".into())]);
    log.stop();
    let scene = Scene::new(log);
    assert_eq!(scene.verify().epochs[0].entries, 8);
    scene
}

/// A run that ends without a word, and the next one.
pub(crate) fn crash(log: &mut Log) -> u64 {
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

pub(crate) fn crashed() -> Scene {
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

pub(crate) fn connect_twice() -> Scene {
    let mut log = running();
    for _ in 0..2 {
        log.add(9, &[(95, 7.into()), (104, 1.into())]);
    }
    log.stop();
    Scene::new(log)
}

pub(crate) fn connect_unseen() -> Scene {
    let mut log = running();
    log.add(9, &[(95, 700.into()), (104, 0.into())]);
    log.stop();
    Scene::new(log)
}

pub(crate) fn crashed_anchored() -> Scene {
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

pub(crate) fn restarted() -> Scene {
    let mut log = running();
    log.seal(2);
    log.stop();
    Scene::new(log)
}

pub(crate) fn unexplained() -> Scene {
    let mut log = running();
    let columns: [(u64, u64); 7] =
        [(96, 5), (97, 3), (98, 0), (99, 0), (100, 0), (101, 0), (102, 2)];
    log.add(17, &columns.map(|(field, count)| (field, count.into())));
    log.add(2, &[]);
    log.seal(3);
    log.batch();
    Scene::new(log)
}

pub(crate) fn tile_altered() -> Scene {
    with(sessions(110), |scene| scene.forge_tile(40, b"another"))
}

pub(crate) fn trailer_altered() -> Scene {
    with(sessions(30), |scene| {
        let (at, length) = scene.place(0, 3);
        let mut mark = 4u64.to_be_bytes().to_vec();
        mark.extend_from_slice(&[7; 32]);
        mark.extend_from_slice(&0u64.to_be_bytes());
        scene.replace(0, at + length, 57, &[(3, &mark)]);
    })
}

pub(crate) fn session_gap() -> Scene {
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

pub(crate) fn session_digest() -> Scene {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    log.say(session, 4, &[(93, 2.into()), (94, [1; 32].into())]);
    log.stop();
    Scene::new(log)
}

pub(crate) fn outcome_alone() -> Scene {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    log.say(session, 7, &[(18, 0.into())]);
    log.close(session);
    log.stop();
    Scene::new(log)
}

/// A statement without its intent, after a Parse that failed: that has none.
fn intent_lost(losses: &[(u64, Field)]) -> Scene {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    log.say(session, 7, &[(12, 3.into()), (13, 2.into())]);
    log.say(session, 7, &[(12, 0.into())]);
    log.close(session);
    log.add(11, losses);
    log.stop();
    Scene::new(log)
}

pub(crate) fn intent_removed() -> Scene {
    // Others were lost, not records of the log.
    intent_lost(&[(88, 0.into()), (86, 1.into())])
}

pub(crate) fn intent_lost_on_record() -> Scene {
    intent_lost(&[(88, 2.into()), (86, 1.into())])
}

pub(crate) fn statement_refused() -> Scene {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    log.say(session, 7, &[(12, 0.into()), (13, 5.into())]);
    log.close(session);
    log.stop();
    Scene::new(log)
}

pub(crate) fn parse_failed() -> Scene {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    log.say(session, 7, &[(12, 3.into()), (13, 2.into())]);
    log.close(session);
    log.stop();
    Scene::new(log)
}

pub(crate) fn asynchronous() -> Scene {
    let mut log = Log::begin(1, &[]);
    log.add(15, &[(200, 3.into())]);
    log.stop();
    Scene::new(log)
}

pub(crate) fn pruned() -> Scene {
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

/// What a crash left, whose record was pruned.
pub(crate) fn pruned_recovery() -> Scene {
    let scene = pruned();
    fs::write(scene.epoch().join("recovered-0"), b"torn").expect("a file");
    scene
}

/// The same where nothing was pruned.
pub(crate) fn unexplained_recovery() -> Scene {
    with(sessions(3), |scene| {
        fs::write(scene.epoch().join("recovered-0"), b"torn").expect("a file");
    })
}

pub(crate) fn copied() -> Scene {
    with(sessions(30), |scene| {
        let copy = scene.folder.path().join("copy");
        scene.log.write(&copy);
        scene.edit(0, 40);
        scene.options.copy = Some(copy);
    })
}
