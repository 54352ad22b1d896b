//! Reading: raw, packed, while it is written, behind crashes.

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use pgward_verify::{Class, Entry, ReadError, Severity, Trail, Verdict, verify_dir_with};

use crate::log::{Log, SPARE_BYTES, frame};
use crate::scene::{Scene, fill, sessions};

fn three() -> Scene {
    let mut log = sessions(120);
    let end = |near: u64| *log.batches.iter().find(|end| **end >= near).expect("a batch");
    log.segments = vec![end(300), end(500)];
    log.packed = vec![0];
    Scene::new(log)
}

#[test]
fn entries_are_read_in_order_and_by_index() {
    let scene = three();
    let trail = Trail::open(scene.trail()).expect("a trail");
    let epoch = trail.newest().expect("an epoch");
    assert_eq!(epoch.origin(), Some(scene.log.origin.clone()));
    let mut entries = epoch.entries();
    for (index, expected) in scene.log.entries.iter().enumerate() {
        let record = entries.next().expect("readable").expect("an entry");
        assert_eq!((record.index, record.bytes), (index as u64, &**expected));
    }
    assert!(entries.next().expect("readable").is_none());
    for index in [0, 255, 256, 299, 301, 500, 511, 1, scene.log.size() - 1, 310, 311, 312] {
        let record = entries.get(index).expect("readable").expect("an entry");
        assert_eq!((record.index, record.bytes), (index, &*scene.log.entries[index as usize]));
        Entry::decode(record.bytes).expect("canonical");
    }
    assert!(entries.get(scene.log.size()).expect("readable").is_none());
}

#[test]
fn values_come_with_their_entries_raw_and_packed() {
    let mut log = Log::begin(1, &[]);
    let session = log.open();
    for number in 0..20u64 {
        let intent = log.say(session, 6, &[(23, 1.into())]);
        log.values.insert(log.size() - 1, number.to_be_bytes().to_vec());
        log.say(session, 7, &[(18, intent.into())]);
        log.batch();
    }
    log.close(session);
    log.stop();
    log.segments = vec![log.batches[10]];
    for packed in [vec![], vec![0]] {
        log.packed = packed;
        let scene = Scene::new(log.clone());
        assert_eq!(scene.verify().verdict, Verdict::Intact);
        let trail = Trail::open(scene.trail()).expect("a trail");
        let mut entries = trail.newest().expect("an epoch").entries();
        while let Some(record) = entries.next().expect("readable") {
            assert_eq!(record.values, scene.log.values.get(&record.index).map(|values| &**values));
        }
        for (index, values) in scene.log.values.iter().rev() {
            let record = entries.get(*index).expect("readable").expect("an entry");
            assert_eq!(record.values, Some(&**values));
        }
    }
}

#[test]
fn a_missing_segment_is_an_error_and_reading_goes_on_behind_it() {
    let scene = three();
    let (first, end) = (scene.log.segments[0], scene.log.segments[1]);
    fs::remove_file(scene.segment(first, "log")).expect("our own");
    let trail = Trail::open(scene.trail()).expect("a trail");
    let mut entries = trail.newest().expect("an epoch").entries_from(first - 1);
    assert_eq!(entries.next().expect("readable").expect("an entry").index, first - 1);
    let error = entries.next().expect_err("a gap");
    assert!(matches!(error, ReadError::Missing { from, to } if (from, to) == (first, end)));
    assert_eq!(entries.next().expect("readable").expect("an entry").index, end);
}

/// Behind a crash the last batch is written once more, at the beginning of a new segment; what
/// was written of the next one stays where it is.
fn crashed(tail: &[u8]) -> (Scene, u64) {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 10);
    log.seal(0);
    log.batch();
    let end = log.size();
    let before = log.batches[log.batches.len() - 2];
    let old = Scene::new(log.clone());
    let abandoned = fs::read(old.segment(0, "log")).expect("a file");
    let mut recovery = vec![(56, "torn_tail".into()), (50, "boot".into())];
    if !tail.is_empty() {
        // Only these were put aside: the batch before them is whole.
        let digest = digest(&SHA256, tail);
        recovery.push((123, (tail.len() as u64).into()));
        recovery.push((124, digest.as_ref().into()));
        recovery.push((125, "recovered-0".into()));
    }
    log.add(20, &recovery);
    log.seal(2);
    log.add(1, &[]);
    log.batch();
    fill(&mut log, 3);
    log.stop();
    log.segments = vec![before];
    let mut scene = Scene::new(log);
    let mut bytes = abandoned;
    let at = bytes.len() - SPARE_BYTES;
    bytes.truncate(at);
    bytes.extend_from_slice(tail);
    bytes.resize(at + 2000, 0);
    fs::write(scene.segment(0, "log"), bytes).expect("a file");
    let anchor = scene.folder.path().join("anchor");
    fs::write(&anchor, scene.log.checkpoint(end)).expect("a file");
    scene.options.anchors = vec![anchor];
    (scene, end)
}

#[test]
fn a_batch_that_was_written_again_is_read_once() {
    let mut torn = Vec::new();
    frame(&mut torn, 1, &[9; 400]);
    for tail in [&[][..], &torn[..100]] {
        let (scene, _) = crashed(tail);
        let report = scene.verify();
        assert_eq!(report.verdict, Verdict::Intact, "{:?}", report.findings);
        assert!(report.findings.iter().any(|finding| finding.class == Class::Recovered));
        assert!(report.findings.iter().all(|finding| finding.severity == Severity::Note));
        assert_eq!(report.epochs[0].entries, scene.log.size());
        let trail = Trail::open(scene.trail()).expect("a trail");
        let mut entries = trail.newest().expect("an epoch").entries();
        let mut next = 0;
        while let Some(record) = entries.next().expect("readable") {
            assert_eq!((record.index, record.bytes), (next, &*scene.log.entries[next as usize]));
            next += 1;
        }
        assert_eq!(next, scene.log.size());
    }
}

#[test]
fn a_batch_that_is_being_written_is_not_seen_yet() {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 4);
    log.seal(0);
    log.batch();
    let end = log.size();
    let scene = Scene::new(log);
    let mut half = Vec::new();
    frame(&mut half, 1, &scene.log.entries[3]);
    scene.change(scene.segment(0, "log"), |bytes| {
        let at = bytes.len() - SPARE_BYTES;
        bytes.splice(at.., half.iter().copied());
        bytes.extend_from_slice(&[0; 500]);
    });
    let trail = Trail::open(scene.trail()).expect("a trail");
    let mut entries = trail.newest().expect("an epoch").entries_from(end - 1);
    assert_eq!(entries.next().expect("readable").expect("an entry").index, end - 1);
    assert!(entries.next().expect("readable").is_none());
    // Nobody holds the lock: it may be a crash, or something that was put there.
    assert_eq!(scene.verify().verdict, Verdict::Incomplete);
    // The agent holds it: it is writing.
    let lock = fs::File::open(scene.trail().join("lock")).expect("a file");
    lock.lock().expect("a lock");
    assert_eq!(scene.verify().verdict, Verdict::Intact, "{:?}", scene.verify().findings);
}

/// The agent packs a segment while it is checked: the raw form goes once the packed one is there.
#[test]
fn a_segment_that_is_packed_meanwhile_is_no_finding() {
    let mut log = sessions(120);
    let end = |near: u64| *log.batches.iter().find(|end| **end >= near).expect("a batch");
    log.segments = vec![end(300), end(500)];
    let second = log.segments[0];
    let scene = Scene::new(log.clone());
    log.packed = vec![second];
    let packed = Scene::new(log);
    let mut done = false;
    let report = verify_dir_with(&scene.options, &mut |_| {
        if !done {
            fs::copy(packed.segment(second, "pack"), scene.segment(second, "pack")).expect("ours");
            fs::remove_file(scene.segment(second, "log")).expect("ours");
            done = true;
        }
    })
    .expect("it can be checked");
    assert!(done && !scene.segment(second, "log").exists());
    assert_eq!((report.verdict, &*report.findings), (Verdict::Intact, &[][..]));
}

#[test]
fn a_segment_that_is_packed_while_it_is_read_is_read_once() {
    let mut log = sessions(120);
    let behind = log.batches[log.batches.len() - 2];
    log.segments = vec![behind];
    let scene = Scene::new(log.clone());
    log.packed = vec![0];
    let packed = Scene::new(log);
    let mut at = None;
    let report = verify_dir_with(&scene.options, &mut |index| {
        if at.is_none() {
            fs::copy(packed.segment(0, "pack"), scene.segment(0, "pack")).expect("ours");
            fs::remove_file(scene.segment(0, "log")).expect("ours");
            at = Some(index);
        }
    })
    .expect("it can be checked");
    assert_eq!(at, Some(0), "behind the first record of the segment");
    assert_eq!((report.verdict, &*report.findings), (Verdict::Intact, &[][..]));
}
