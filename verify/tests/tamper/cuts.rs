//! Rows 7 to 14: what is cut off, hidden, missing or from another log.

use std::fs;

use pgward_verify::Verdict;

use crate::log::{Field, HOST, Log, SECOND, cosign, note, pair, public, vkey};
use crate::scene::{Scene, WITNESS, WITNESS_SEED, fill, key, sessions, three_segments, with};

/// A log that was cut at a batch near a size, as it was then.
pub(crate) fn cut(log: &Log, near: u64) -> Log {
    let mut cut = log.clone();
    let end = *cut.batches.iter().rfind(|end| **end <= near).expect("a batch");
    cut.entries.truncate(end as usize);
    cut.batches.retain(|size| *size <= end);
    cut
}

pub(crate) fn cut_witnessed() -> Scene {
    with(sessions(30), |scene| {
        scene.log = cut(&scene.log, 100);
        scene.rewrite_segments();
    })
}

pub(crate) fn cut_silently() -> Scene {
    with(sessions(30), |scene| {
        scene.log = cut(&scene.log, 100);
        fs::remove_dir_all(scene.epoch()).expect("our own");
        scene.log.write(&scene.trail());
        scene.options.now_ns += 600 * SECOND;
    })
}

pub(crate) fn continued() -> Scene {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 10);
    // The key that the last seal named is gone; another is taken.
    log.seal_with(0, &pair(77));
    fill(&mut log, 1);
    log.stop();
    Scene::new(log)
}

pub(crate) fn seals_removed() -> Scene {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 10);
    log.skip_seals(3);
    fill(&mut log, 10);
    log.stop();
    Scene::new(log)
}

pub(crate) fn silent() -> Scene {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, 4);
    (log.time, log.boot) = (log.time + 60 * SECOND, log.boot + 60 * SECOND);
    fill(&mut log, 4);
    log.stop();
    Scene::new(log)
}

pub(crate) fn hidden_frame() -> Scene {
    with(sessions(30), |scene| {
        let (at, _) = scene.place(0, 40);
        scene.replace(0, at, 0, &[(9, b"hidden")]);
    })
}

pub(crate) fn slack_behind_end() -> Scene {
    with(three_segments(), |scene| {
        scene.change(scene.segment(0, "log"), |bytes| {
            let at = bytes.len() - 50;
            bytes[at..at + 6].copy_from_slice(b"hidden");
        });
    })
}

pub(crate) fn slack_behind_log() -> Scene {
    with(sessions(30), |scene| {
        scene.change(scene.segment(0, "log"), |bytes| {
            let at = bytes.len() - 40;
            bytes[at] = 1;
        });
    })
}

pub(crate) fn slack_in_next() -> Scene {
    with(sessions(3), |scene| {
        let mut bytes = vec![0; 100_000];
        bytes[70_000] = 1;
        fs::write(scene.epoch().join("next.log"), bytes).expect("a file");
    })
}

pub(crate) fn slack_in_pack() -> Scene {
    with(crate::entries::packed(), |scene| {
        scene.change(scene.segment(0, "pack"), |bytes| bytes.push(0))
    })
}

pub(crate) fn extra_file() -> Scene {
    with(sessions(3), |scene| {
        fs::write(scene.epoch().join("segment-1.log"), "hidden").expect("a file");
    })
}

pub(crate) fn other_host() -> Scene {
    with(sessions(3), |scene| {
        scene.options.keys = vec![key(&vkey("pgward/another", 1, &public(&pair(1))))];
    })
}

pub(crate) fn other_key() -> Scene {
    with(sessions(3), |scene| {
        scene.options.keys = vec![key(&vkey(HOST, 1, &public(&pair(2))))];
    })
}

pub(crate) fn no_seals() -> Scene {
    let mut log = Log::begin(1, &[]);
    log.entries.clear();
    log.batches.clear();
    log.add(21, &[]);
    log.add(1, &[]);
    log.batch();
    Scene::new(log)
}

pub(crate) fn empty() -> Scene {
    with(sessions(3), |scene| {
        fs::remove_dir_all(scene.trail()).expect("our own");
        fs::create_dir(scene.trail()).expect("a folder");
    })
}

pub(crate) fn segment_removed() -> Scene {
    with(three_segments(), |scene| {
        let first = scene.log.segments[0];
        fs::remove_file(scene.segment(first, "log")).expect("our own");
    })
}

pub(crate) fn first_removed() -> Scene {
    with(three_segments(), |scene| fs::remove_file(scene.segment(0, "log")).expect("our own"))
}

pub(crate) fn session_removed() -> Scene {
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
pub(crate) fn two_epochs() -> Scene {
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

pub(crate) fn epoch_removed() -> Scene {
    let scene = two_epochs();
    assert_eq!(scene.verify().verdict, Verdict::Intact, "{:?}", scene.verify().findings);
    fs::remove_dir_all(scene.trail().join("epoch-1")).expect("our own");
    scene
}

pub(crate) fn newest_epoch_removed() -> Scene {
    let scene = two_epochs();
    fs::remove_dir_all(scene.trail().join("epoch-2")).expect("our own");
    scene
}

pub(crate) fn splice(log: Log) -> Scene {
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

pub(crate) fn spliced() -> Scene {
    let mut log = Log::begin_as("pgward/another", 2, 1, &[]);
    fill(&mut log, 30);
    log.stop();
    splice(log)
}

pub(crate) fn spliced_epoch() -> Scene {
    let mut log = Log::begin(2, &[]);
    fill(&mut log, 30);
    log.stop();
    splice(log)
}

pub(crate) fn split_view() -> Scene {
    with(sessions(30), |scene| {
        let other = note(&scene.log.origin, scene.log.size(), [9; 32], 1);
        let other = cosign(&other, WITNESS, WITNESS_SEED, scene.log.time / SECOND);
        let anchor = scene.folder.path().join("anchor");
        fs::write(&anchor, other).expect("a file");
        scene.options.anchors = vec![anchor];
    })
}
