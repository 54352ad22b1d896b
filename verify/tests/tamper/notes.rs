//! Rows 14, 19, 20 and 22: checkpoints, cosignatures and bytes that are not as they must be.

use std::fs;

use crate::log::{Log, SECOND, cosign};
use crate::scene::{Scene, WITNESS, WITNESS_SEED, fill, sessions, with};

pub(crate) fn witness_missing() -> Scene {
    with(sessions(3), |scene| fs::remove_file(scene.epoch().join("cosigned")).expect("our own"))
}

pub(crate) fn cosigned(
    name: &str,
    seed: u8,
    change: impl FnOnce(String, u64) -> (String, u64),
) -> Scene {
    with(sessions(3), |scene| {
        let plain = scene.log.checkpoint(scene.log.size());
        let (note, time) = change(plain, scene.log.time / SECOND);
        let signed = cosign(&note, name, seed, time);
        fs::write(scene.epoch().join("cosigned"), signed).expect("a file");
    })
}

pub(crate) fn witness_unknown() -> Scene {
    cosigned("witness.example/two", 41, |note, time| (note, time))
}

pub(crate) fn witness_wrong() -> Scene {
    with(sessions(3), |scene| {
        scene.change(scene.epoch().join("cosigned"), |bytes| {
            // A digit of the time in the last line: the key id has 4 bytes, the time follows.
            let at = bytes.len() - 60;
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        });
    })
}

pub(crate) fn witness_future() -> Scene {
    cosigned(WITNESS, WITNESS_SEED, |note, time| (note, time + 86_400))
}

pub(crate) fn with_checkpoint(change: impl FnOnce(&mut Vec<u8>)) -> Scene {
    with(sessions(3), |scene| scene.change(scene.epoch().join("checkpoint"), change))
}

pub(crate) fn checkpoint_crlf() -> Scene {
    with_checkpoint(|bytes| {
        *bytes = String::from_utf8_lossy(bytes).replace('\n', "\r\n").into_bytes();
    })
}

pub(crate) fn checkpoint_lines() -> Scene {
    with_checkpoint(|bytes| {
        *bytes = String::from_utf8_lossy(bytes).replacen("\n\n", "\n\n\n", 1).into_bytes();
    })
}

pub(crate) fn checkpoint_huge() -> Scene {
    with_checkpoint(|bytes| bytes.resize(1 << 20, b'\n'))
}

pub(crate) fn not_canonical() -> Scene {
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
