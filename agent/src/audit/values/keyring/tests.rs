//! Slots on disk: whole, torn, erased, continued.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::sync::atomic::AtomicU64;

use tempfile::TempDir;

use super::file::{Found, HEADER_BYTES, Header, Part, SLOT_BYTES, SLOTS_MAX, Slot, State as Key2};
use super::*;

fn folder() -> TempDir {
    TempDir::new().expect("temporary folder")
}

fn session(n: u64) -> [u8; 16] {
    u128::from(n).to_be_bytes()
}

fn begin(keyring: &Keyring, n: u64) -> [u8; 32] {
    let (keys, stored) = keyring.session(session(n)).expect("a key");
    stored.blocking().expect("stored");
    *keys.key.bytes()
}

fn found(folder: &Path, owner: Owner) -> Option<[u8; 32]> {
    let keys = Keys::open(folder).expect("host key");
    match keys.find(owner, Day(0)).expect("read") {
        Answer::Keys(keys) => Some(*keys[0].bytes()),
        Answer::Erased | Answer::Missing => None,
    }
}

fn key_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "keys")).collect();
    files.sort();
    files
}

#[test]
fn a_slot_is_128_bytes_as_documented() {
    let wrapped = super::super::key::Wrapped { nonce: [3; 12], sealed: [4; 48] };
    let owner = Owner::Session([9; 16]);
    let slot = Slot { number: 0x0102_0304, owner, time: 5, key: Key2::Present(wrapped) };
    let bytes = slot.to_bytes();
    assert_eq!(bytes[..16], [1, 1, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(bytes[16..32], [9; 16]);
    assert_eq!(bytes[32..48], [0; 16]);
    assert_eq!((&bytes[48..60], &bytes[60..108]), (&[3; 12][..], &[4; 48][..]));
    assert_eq!(bytes[108..124], [0; 16]);
    assert_eq!(bytes[124..], crc32c::crc32c(&bytes[..124]).to_be_bytes());
    let erased = slot.erased(6).to_bytes();
    assert_eq!((erased[0], erased[15], &erased[48..124]), (2, 6, &[0; 76][..]));
    assert_eq!(erased[16..48], bytes[16..48], "whose it was stays");
}

#[test]
fn damaged_slots_and_headers_are_none() {
    let wrapped = super::super::key::Wrapped { nonce: [3; 12], sealed: [4; 48] };
    let owner = Owner::Subject([9; 32]);
    let slot = Slot { number: 7, owner, time: 5, key: Key2::Present(wrapped) };
    let bytes = slot.to_bytes();
    assert!(matches!(Found::read(&bytes, 7), Found::Slot(read) if read == slot));
    assert!(matches!(Found::read(&bytes, 8), Found::Torn), "copied from another place");
    assert!(matches!(Found::read(&[0; SLOT_BYTES], 7), Found::Empty));
    for bit in 0..SLOT_BYTES * 8 {
        let mut changed = bytes;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(Found::read(&changed, 7), Found::Torn), "bit {bit}");
    }
    let (host, day) = (Key::new([1; 32]), Key::new([2; 32]));
    let part = Part { day: Day(20_000), number: 3 };
    let header = Header::new(part, 5, &host, &day).expect("random");
    let bytes = header.to_bytes();
    let read = Header::read(&bytes).expect("header");
    assert_eq!(read.day_key(&host).ok().flatten().map(|key| *key.bytes()), Some([2; 32]));
    assert!(read.day_key(&day).is_err());
    for bit in 0..HEADER_BYTES * 8 {
        let mut changed = bytes;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::read(&changed).is_none(), "bit {bit}");
    }
}

#[test]
fn names_of_files_and_days() {
    let part = Part { day: "2026-11-22".parse().expect("a day"), number: 1 };
    assert_eq!((part.day, part.name().as_str()), (Day(20_779), "2026-11-22-0001.keys"));
    assert_eq!(Part::named("2026-11-22-0001.keys"), Some(part));
    for other in ["2026-11-22-1.keys", "2026-11-22-0001", "2026-13-22-0001.keys", "host.key", ""] {
        assert_eq!(Part::named(other), None, "{other}");
    }
    assert!("2026-11-31".parse::<Day>().is_err() && "1969-01-01".parse::<Day>().is_err());
}

#[test]
fn sessions_that_begin_together_all_find_their_keys_again() {
    let folder = folder();
    let keyring = Keyring::open(folder.path()).expect("new keyring");
    let keys: Vec<(u64, [u8; 32])> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let keyring = keyring.clone();
                let numbers = thread * 100..thread * 100 + 100;
                scope.spawn(move || numbers.map(|n| (n, begin(&keyring, n))).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let distinct: std::collections::HashSet<_> = keys.iter().map(|(_, key)| key).collect();
    assert_eq!(distinct.len(), 800);
    for (n, key) in keys {
        assert_eq!(found(folder.path(), Owner::Session(session(n))), Some(key));
    }
    assert_eq!(key_files(folder.path()).len(), 1);
}

#[test]
fn what_was_asked_for_is_written_before_the_keyring_goes() {
    let folder = folder();
    let keyring = Keyring::open(folder.path()).expect("new keyring");
    let stored: Vec<_> = (0..50).map(|n| keyring.session(session(n)).expect("a key").1).collect();
    drop(keyring);
    assert!(stored.into_iter().all(|stored| stored.blocking() == Ok(())));
    assert!((0..50).all(|n| found(folder.path(), Owner::Session(session(n))).is_some()));
}

#[test]
fn a_restart_goes_on_behind_a_torn_slot() {
    let folder = folder();
    let path = folder.path();
    let first = begin(&Keyring::open(path).expect("new keyring"), 1);
    let [file] = &key_files(path)[..] else { panic!("one file") };
    // The next slot was being written when the machine failed: half of it is there.
    let open = OpenOptions::new().write(true).open(file).expect("key file");
    open.write_all_at(&[1; SLOT_BYTES / 2], Slot::offset(1)).expect("written");
    let second = begin(&Keyring::open(path).expect("keyring"), 2);
    assert_eq!(found(path, Owner::Session(session(1))), Some(first));
    assert_eq!(found(path, Owner::Session(session(2))), Some(second));
    assert_eq!(key_files(path).len(), 1, "the file goes on");
    let bytes = fs::read(file).expect("key file");
    let slot = |n: usize| &bytes[HEADER_BYTES + n * SLOT_BYTES..][..SLOT_BYTES];
    assert_eq!((slot(0)[7], slot(2)[7]), (0, 2), "numbers are places");
    assert_eq!(slot(1)[..SLOT_BYTES / 2], [1; SLOT_BYTES / 2], "what was torn stays");
}

#[test]
fn every_cut_of_a_file_leaves_the_slots_before_it() {
    let folder = folder();
    let path = folder.path();
    let keyring = Keyring::open(path).expect("new keyring");
    let keys: Vec<_> = (0..3).map(|n| begin(&keyring, n)).collect();
    drop(keyring);
    let [file] = &key_files(path)[..] else { panic!("one file") };
    let whole = fs::read(file).expect("key file");
    for cut in (0..HEADER_BYTES + 3 * SLOT_BYTES).rev().step_by(61) {
        fs::write(file, &whole[..cut]).expect("cut");
        let slots = cut.saturating_sub(HEADER_BYTES) / SLOT_BYTES;
        for (n, key) in keys.iter().enumerate() {
            let expected = (n < slots).then_some(*key);
            assert_eq!(found(path, Owner::Session(session(n as u64))), expected, "{cut} {n}");
        }
        // And the keyring goes on, in this file or the next.
        let later = begin(&Keyring::open(path).expect("keyring"), 100);
        assert_eq!(found(path, Owner::Session(session(100))), Some(later), "{cut}");
        key_files(path)[1..].iter().for_each(|file| fs::remove_file(file).expect("removed"));
    }
}

#[test]
fn a_full_part_is_followed_by_another_with_the_same_day_key() {
    let folder = folder();
    let path = folder.path();
    let keyring = Keyring::open(path).expect("new keyring");
    begin(&keyring, 0);
    drop(keyring);
    // A file with room for one: its last slot but one is taken, and what is before is a hole.
    let [file] = &key_files(path)[..] else { panic!("one file") };
    let wrapped = super::super::key::Wrapped { nonce: [3; 12], sealed: [4; 48] };
    let (owner, key) = (Owner::Session([9; 16]), Key2::Present(wrapped));
    let number = SLOTS_MAX - 2;
    let last = Slot { number, owner, time: 0, key }.to_bytes();
    let open = OpenOptions::new().write(true).open(file).expect("key file");
    open.write_all_at(&last, Slot::offset(number)).expect("written");
    let keyring = Keyring::open(path).expect("keyring");
    let stored: Vec<_> = (1..=3).map(|n| keyring.session(session(n)).expect("a key").1).collect();
    assert!(stored.into_iter().all(|stored| stored.blocking() == Ok(())));
    let files = key_files(path);
    assert_eq!(files.len(), 2);
    assert_eq!(fs::metadata(file).expect("file").len(), Slot::offset(SLOTS_MAX));
    assert!((1..=3).all(|n| found(path, Owner::Session(session(n))).is_some()));
    let keys = Keys::open(path).expect("host key");
    let day_keys = keys.readable(&keys.parts().expect("read")).expect("read");
    assert_eq!(day_keys[0].2.bytes(), day_keys[1].2.bytes());
}

#[test]
fn each_day_has_its_key_and_persons_keep_the_day_of_their_session() {
    static CLOCK: AtomicU64 = AtomicU64::new(20_000 * DAY_NANOS);
    let folder = folder();
    let path = folder.path();
    let clock = || WallNanos(CLOCK.load(Ordering::Relaxed));
    let keyring = Keyring::with_clock(path, clock).expect("new keyring");
    let (first, stored) = keyring.session(session(1)).expect("a key");
    stored.blocking().expect("stored");
    CLOCK.fetch_add(DAY_NANOS, Ordering::Relaxed);
    let (second, stored) = keyring.session(session(2)).expect("a key");
    stored.blocking().expect("stored");
    let ids = [&first, &second].map(|keys| keys.index.hmac(b"42"));
    assert!(ids[0] != ids[1]);
    // Back and forth: no new file each time.
    for _ in 0..3 {
        for (keys, id) in [(&first, ids[0]), (&second, ids[1])] {
            keyring.0.shared.lock().persons.clear();
            let (_, stored) = keyring.subject(keys, id).expect("a key");
            stored.expect("new").blocking().expect("stored");
        }
    }
    assert_eq!(key_files(path).len(), 2);
    let scope = Scope::Subject(b"42".to_vec().into());
    let erased = keyring.shred_blocking(scope).expect("shredded");
    assert_eq!(erased, Erased { subjects: 6, ..Erased::default() });
    assert!(ids.iter().all(|id| found(path, Owner::Subject(*id)).is_none()));
    let erased = keyring.shred_blocking(Scope::Day(Day(20_000))).expect("shredded");
    assert_eq!(erased, Erased { days: 1, sessions: 1, subjects: 0 });
    assert!(found(path, Owner::Session(session(1))).is_none());
    assert!(found(path, Owner::Session(session(2))).is_some());
}

#[test]
fn no_byte_of_an_erased_key_is_left() {
    let folder = folder();
    let path = folder.path();
    let keyring = Keyring::open(path).expect("new keyring");
    begin(&keyring, 1);
    let [file] = &key_files(path)[..] else { panic!("one file") };
    let before = fs::read(file).expect("key file");
    let wrapped_slot = &before[HEADER_BYTES + 48..][..60];
    let wrapped_day = &before[48..108];
    keyring.shred_blocking(Scope::Session(session(1))).expect("shredded");
    let after = fs::read(file).expect("key file");
    assert!(memchr::memmem::find(&after, &wrapped_slot[12..]).is_none());
    assert_eq!(after[HEADER_BYTES + 48..][..60], [0; 60]);
    keyring.shred_blocking(Scope::Day(Day::of(Now::read().wall))).expect("shredded");
    let after = fs::read(file).expect("key file");
    assert!(memchr::memmem::find(&after, &wrapped_day[12..]).is_none());
    assert_eq!(after[48..108], [0; 60]);
}

#[test]
fn a_disk_that_refuses_is_said_and_asked_again() {
    let folder = folder();
    let path = folder.path().join("values");
    let keyring = Keyring::open(&path).expect("new keyring");
    let host = fs::read(path.join("host.key")).expect("host key");
    fs::remove_dir_all(&path).expect("removed");
    let (_, stored) = keyring.session(session(1)).expect("a key");
    assert_eq!(stored.blocking(), Err(KeyringError::Disk(io::ErrorKind::NotFound)));
    fs::create_dir(&path).expect("made");
    let key = begin(&keyring, 2);
    fs::write(path.join("host.key"), host).expect("restored");
    fs::set_permissions(path.join("host.key"), fs::Permissions::from_mode(0o600)).expect("mode");
    assert_eq!(found(&path, Owner::Session(session(2))), Some(key));
}

#[test]
fn a_host_key_that_cannot_be_trusted_is_refused() {
    let folder = folder();
    let path = folder.path();
    begin(&Keyring::open(path).expect("new keyring"), 1);
    let host = path.join("host.key");
    let mode = fs::metadata(&host).expect("host key").permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    fs::set_permissions(&host, fs::Permissions::from_mode(0o640)).expect("mode");
    assert!(matches!(Keyring::open(path), Err(KeysError::HostKeyOpen { mode: 0o640, .. })));
    fs::set_permissions(&host, fs::Permissions::from_mode(0o600)).expect("mode");
    let second = path.join("second");
    fs::hard_link(&host, &second).expect("linked");
    assert!(matches!(Keyring::open(path), Err(KeysError::HostKeyLinked { links: 2, .. })));
    fs::remove_file(&second).expect("removed");
    let text = fs::read(&host).expect("host key");
    for wrong in [&b""[..], &text[..63], &[&text[..], b"00"].concat(), &[b'x'; 65]] {
        fs::write(&host, wrong).expect("written");
        assert!(matches!(Keyring::open(path), Err(KeysError::HostKeyMalformed { .. })));
    }
    let elsewhere = path.join("elsewhere");
    fs::write(&elsewhere, &text).expect("written");
    fs::remove_file(&host).expect("removed");
    symlink(&elsewhere, &host).expect("linked");
    assert!(matches!(Keyring::open(path), Err(KeysError::File { doing: "open", .. })));
    fs::remove_file(&host).expect("removed");
    assert!(matches!(Keyring::open(path), Err(KeysError::HostKeyMissing { .. })));
}

#[tokio::test]
async fn keys_and_shredding_can_be_awaited() {
    let folder = folder();
    let keyring = Keyring::open(folder.path()).expect("new keyring");
    let (_, stored) = keyring.session(session(1)).expect("a key");
    assert_eq!(stored.await, Ok(()));
    let erased = keyring.shred(Scope::Session(session(1))).await;
    assert_eq!(erased.map(|erased| erased.keys()), Ok(1));
}
