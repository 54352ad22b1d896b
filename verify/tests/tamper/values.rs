//! Rows 33, 34 and 36: sealed values and their keys.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use pgward_verify::{Class, Severity, Verdict};

use crate::log::{Log, SECOND};
use crate::scene::{Scene, with};

const DAY: u64 = 86_400 * SECOND;

/// A file of keys.
struct Keys {
    day: u32,
    bytes: Vec<u8>,
}

impl Keys {
    /// A file for the day on which the log is written. `state`: 1 there, 2 erased.
    fn new(log: &Log, state: u8) -> Self {
        let day = u32::try_from(log.time / DAY).expect("a day of this age");
        let mut head = b"pgward keyring 1".to_vec();
        head.extend(day.to_be_bytes());
        head.resize(508, 0);
        head[24] = state;
        Self { day, bytes: summed(head) }
    }

    fn slot(mut self, state: u8, kind: u8, owner: &[u8]) -> Self {
        let mut slot = vec![state, kind];
        slot.resize(16, 0);
        slot.extend_from_slice(owner);
        slot.resize(124, 0);
        self.bytes.extend(summed(slot));
        self
    }

    fn write(&self, scene: &Scene) {
        let folder = scene.trail().join("keys/values");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("{}-0001.keys", self.date())), &self.bytes).expect("a file");
    }

    fn date(&self) -> String {
        let day = UNIX_EPOCH + Duration::from_nanos(u64::from(self.day) * DAY);
        humantime::format_rfc3339_seconds(day).to_string()[..10].to_owned()
    }
}

fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

/// A trail with one session that has values, and a keyring made for it.
fn with_keys(change: impl FnOnce(&mut Log), keys: impl FnOnce(&Log) -> Keys) -> Scene {
    let mut log = Log::begin(1, &[]);
    with_values(&mut log);
    change(&mut log);
    log.stop();
    let keys = keys(&log);
    let scene = Scene::new(log);
    keys.write(&scene);
    scene
}

/// Says that a key was erased.
fn redact(log: &mut Log, scope: &str, target: &str) {
    log.add(27, &[(170, scope.into()), (171, target.into())]);
}

pub(crate) fn untouched() -> Scene {
    with_keys(|_| {}, |log| Keys::new(log, 1).slot(1, 1, &log.id(0)))
}

pub(crate) fn shredded() -> Scene {
    with_keys(|_| {}, |log| Keys::new(log, 1).slot(2, 1, &log.id(0)))
}

pub(crate) fn day_shredded() -> Scene {
    with_keys(|_| {}, |log| Keys::new(log, 2).slot(1, 1, &log.id(0)))
}

pub(crate) fn person_shredded() -> Scene {
    with_keys(|_| {}, |log| Keys::new(log, 1).slot(1, 1, &log.id(0)).slot(2, 2, &[7; 32]))
}

/// Another day was shredded, and this one with it.
pub(crate) fn other_day_shredded() -> Scene {
    with_keys(
        |log| redact(log, "day", "2001-01-01"),
        |log| Keys::new(log, 1).slot(2, 1, &log.id(0)),
    )
}

/// The file says that it is of the day that was shredded.
pub(crate) fn day_forged() -> Scene {
    with_keys(
        |log| redact(log, "day", "2001-01-01"),
        |log| {
            let mut keys = Keys::new(log, 1);
            keys.day = 11_323;
            keys.bytes[16..20].copy_from_slice(&keys.day.to_be_bytes());
            keys.bytes.truncate(508);
            Keys { bytes: summed(keys.bytes), ..keys }.slot(2, 1, &log.id(0))
        },
    )
}

/// The file with the key is gone.
pub(crate) fn keys_deleted() -> Scene {
    with_keys(|_| {}, |log| Keys::new(log, 1).slot(1, 1, &[9; 16]))
}

pub(crate) fn session_redacted() -> Scene {
    with_keys(
        |log| {
            let id: String = log.id(0).iter().map(|byte| format!("{byte:02x}")).collect();
            redact(log, "session", &id);
        },
        |log| Keys::new(log, 1).slot(2, 1, &log.id(0)),
    )
}

pub(crate) fn day_redacted() -> Scene {
    let day = |log: &Log| Keys::new(log, 2).date();
    with_keys(|log| redact(log, "day", &day(log)), |log| Keys::new(log, 2).slot(1, 1, &log.id(0)))
}

pub(crate) fn person_redacted() -> Scene {
    with_keys(
        |log| redact(log, "subject", "a person"),
        |log| Keys::new(log, 1).slot(1, 1, &log.id(0)).slot(2, 2, &[7; 32]),
    )
}

/// A session was shredded with a record, and another one without.
pub(crate) fn other_session_shredded() -> Scene {
    with_keys(
        |log| redact(log, "session", &"9".repeat(32)),
        |log| Keys::new(log, 1).slot(2, 1, &log.id(0)),
    )
}

/// What explains the key of a session was pruned with the session.
fn redaction_pruned() -> Scene {
    let scene = crate::events::pruned();
    Keys::new(&scene.log, 1).slot(2, 1, &[9; 16]).write(&scene);
    scene
}

#[test]
fn a_keyring_as_it_was_left_is_no_finding() {
    let report = untouched().verify();
    assert_eq!((report.verdict, &*report.findings), (Verdict::Intact, &[][..]));
}

#[test]
fn an_erased_key_weighs_less_only_if_its_session_was_pruned() {
    let erased = |scene: &Scene| {
        let findings = scene.verify().findings;
        let of = findings.into_iter().find(|finding| finding.class == Class::KeyErased);
        of.expect("a finding").severity
    };
    let scene = redaction_pruned();
    assert_eq!(erased(&scene), Severity::Note);
    // The same key without a word of the log about pruning.
    let mut log = Log::begin(1, &[]);
    log.stop();
    let scene = Scene::new(log);
    Keys::new(&scene.log, 1).slot(2, 1, &[9; 16]).write(&scene);
    assert_eq!(erased(&scene), Severity::Tampering);
}

/// A session with values, and the index of the entry that names them.
pub(crate) fn with_values(log: &mut Log) -> u64 {
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

pub(crate) fn log() -> Log {
    let mut log = Log::begin(1, &[]);
    with_values(&mut log);
    log.stop();
    log
}

pub(crate) fn values_deleted() -> Scene {
    let mut log = log();
    log.segments = vec![log.batches[1]];
    log.packed = vec![0];
    let scene = Scene::new(log);
    assert_eq!(scene.verify().verdict, Verdict::Intact, "{:?}", scene.verify().findings);
    fs::remove_file(scene.segment(0, "values")).expect("our own");
    scene
}

pub(crate) fn values_at(scene: &Scene) -> u64 {
    let index = *scene.log.values.keys().next().expect("values");
    let (at, length) = scene.place(0, index);
    at + length
}

pub(crate) fn values_altered() -> Scene {
    with(log(), |scene| {
        let at = values_at(scene);
        scene.replace(0, at, 9 + 6, &[(2, b"Sealed")]);
    })
}

pub(crate) fn values_removed() -> Scene {
    with(log(), |scene| {
        let at = values_at(scene);
        scene.replace(0, at, 9 + 6, &[]);
    })
}
