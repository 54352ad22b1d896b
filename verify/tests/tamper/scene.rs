//! A trail on disk with what an auditor knows of it.

use std::fs;
use std::path::PathBuf;

use pgward_verify::{Options, Report, VerifierKey, verify_dir};
use tempfile::TempDir;

use crate::log::{HOST, Log, SECOND, cosign, frame, leaf, pair, public, vkey};

pub(crate) const WITNESS: &str = "witness.example/one";
pub(crate) const WITNESS_SEED: u8 = 40;

pub(crate) struct Scene {
    pub(crate) folder: TempDir,
    pub(crate) log: Log,
    pub(crate) options: Options,
}

/// A log with sessions, in which seals lie about ten records apart. It ends with a stop.
pub(crate) fn sessions(count: usize) -> Log {
    let mut log = Log::begin(1, &[]);
    fill(&mut log, count);
    log.stop();
    log
}

/// Adds sessions of five records each.
pub(crate) fn fill(log: &mut Log, count: usize) {
    for number in 0..count {
        let session = log.open();
        log.query(session, &format!("select {number}"));
        log.query(session, "commit");
        log.close(session);
    }
}

/// A log of exactly `size` entries in large batches: small entries of one session.
pub(crate) fn large(size: u64) -> Log {
    let mut log = Log::begin(1, &[]);
    log.step = SECOND / 100;
    let session = log.open();
    while log.size() < size - 4 {
        log.say(session, 5, &[(10, "select".into())]);
        if log.size().is_multiple_of(500) {
            log.batch();
        }
    }
    log.count(session, 4);
    log.stop();
    assert_eq!(log.size(), size);
    log
}

/// A trail with segments that end at 60 and 130, whose first one is packed.
pub(crate) fn three_segments() -> Log {
    let mut log = sessions(30);
    let end = |near: u64| *log.batches.iter().find(|end| **end >= near).expect("a batch");
    log.segments = vec![end(60), end(130)];
    log
}

pub(crate) fn scene() -> Scene {
    Scene::new(sessions(30))
}

pub(crate) fn with(log: Log, change: impl FnOnce(&mut Scene)) -> Scene {
    let mut scene = Scene::new(log);
    change(&mut scene);
    scene
}

/// Changes the log and writes its segments again; tiles and checkpoints stay as they were.
pub(crate) fn rewritten(log: Log, change: impl FnOnce(&mut Log)) -> Scene {
    with(log, |scene| {
        change(&mut scene.log);
        scene.rewrite_segments();
    })
}

impl Scene {
    /// Writes a log, has its checkpoint signed by the witness, and puts an anchor aside.
    pub(crate) fn new(log: Log) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = Options::new(folder.path().join("trail"));
        options.keys = vec![key(&vkey(HOST, 1, &public(&pair(1))))];
        options.witnesses = vec![key(&vkey(WITNESS, 4, &public(&pair(WITNESS_SEED))))];
        options.now_ns = log.time + SECOND;
        log.write(&options.directory);
        let scene = Self { folder, log, options };
        scene.cosign();
        scene
    }

    pub(crate) fn trail(&self) -> PathBuf {
        self.options.directory.clone()
    }

    pub(crate) fn epoch(&self) -> PathBuf {
        self.trail().join(format!("epoch-{}", self.log.epoch))
    }

    pub(crate) fn segment(&self, first: u64, form: &str) -> PathBuf {
        self.epoch().join(format!("segment-{first:020}.{form}"))
    }

    /// The witness signs the present checkpoint.
    pub(crate) fn cosign(&self) {
        let note = self.log.checkpoint(self.log.size());
        let note = cosign(&note, WITNESS, WITNESS_SEED, self.log.time / SECOND);
        fs::write(self.epoch().join("cosigned"), note).expect("a file");
    }

    /// The log as it is now is written again; checkpoints, cosignatures and tiles stay.
    pub(crate) fn rewrite_segments(&self) {
        for entry in fs::read_dir(self.epoch()).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")) {
                fs::remove_file(path).expect("our own");
            }
        }
        self.log.write_segments(&self.epoch());
    }

    pub(crate) fn verify(&self) -> Report {
        verify_dir(&self.options).expect("it can be checked")
    }

    /// Place and length of the frame of an entry in the segment that begins at `first`.
    pub(crate) fn place(&self, first: u64, index: u64) -> (u64, u64) {
        let bytes = fs::read(self.segment(first, "log")).expect("a file");
        let (mut at, mut next) = (512, first);
        loop {
            let count = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
            if bytes[at + 8] == 1 {
                if next == index {
                    return (at as u64, u64::from(count) + 9);
                }
                next += 1;
            }
            at += 9 + count as usize;
        }
    }

    /// Changes a file.
    pub(crate) fn change(&self, path: PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(&path).expect("a file");
        change(&mut bytes);
        fs::write(path, bytes).expect("a file");
    }

    /// Changes the entry `index` in its raw segment, and mends its check sum. The tree stays.
    pub(crate) fn edit(&mut self, first: u64, index: u64) {
        let (at, length) = self.place(first, index);
        let mut entry = self.log.entries[index as usize].clone();
        edit(&mut entry);
        self.replace(first, at, length, &[(1, &entry)]);
    }

    /// Puts frames in place of bytes of a raw segment.
    pub(crate) fn replace(&self, first: u64, at: u64, length: u64, frames: &[(u8, &[u8])]) {
        let mut with = Vec::new();
        frames.iter().for_each(|(kind, payload)| frame(&mut with, *kind, payload));
        self.change(self.segment(first, "log"), |bytes| {
            bytes.splice(at as usize..(at + length) as usize, with);
        });
    }

    /// Writes the hash of an entry into its level-0 tile.
    pub(crate) fn forge_tile(&self, index: u64, entry: &[u8]) {
        self.change(self.epoch().join(format!("tile/0/{:03}", index / 256)), |bytes| {
            let at = (index % 256) as usize * 32;
            bytes[at..at + 32].copy_from_slice(&leaf(entry));
        });
    }
}

/// Changes the salt of an entry: it stays canonical.
pub(crate) fn edit(entry: &mut [u8]) {
    // map head, 00 01, 01 event, 02 50 salt...
    let at = entry.windows(2).position(|two| two == [2, 0x50]).expect("a salt");
    entry[at + 5] ^= 0x20;
}

pub(crate) fn key(line: &str) -> VerifierKey {
    VerifierKey::parse(line).expect("a key")
}
