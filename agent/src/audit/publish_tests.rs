//! Checkpoints in files, with disks that fail and logs that fork.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Barrier, mpsc},
};

use super::{
    super::{
        keys::{HostKey, test_folder as folder},
        tile_files::TileFolder,
    },
    *,
};

const HOUR: Duration = Duration::from_secs(3600);
const ROOT: Hash = [1; 32];
const OTHER: Hash = [2; 32];

fn origin() -> Origin {
    Origin::new("pgward", "6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e", 3).expect("a good name")
}

fn key() -> HostKey {
    HostKey::from_seed(&[9; 32])
}

fn note(size: u64, root: Hash) -> String {
    Checkpoint { origin: origin(), size, root }.note(&key())
}

fn read(folder: &Folder, name: &str) -> Option<String> {
    fs::read_to_string(folder.path().join(name)).ok()
}

/// The same folder, opened once more.
fn again(folder: &Folder) -> Folder {
    Folder::open(folder.path()).expect("ours")
}

fn checkpoints(folder: &Folder) -> Checkpoints<HostKey> {
    Checkpoints::new(again(folder), origin(), key()).expect("ours")
}

#[test]
fn the_newest_state_is_signed_once() {
    let (_guard, folder) = folder();
    let mut checkpoints = checkpoints(&folder);
    assert_eq!(checkpoints.publish(5, ROOT).expect("a disk"), Some(note(5, ROOT)));
    assert_eq!(checkpoints.publish(5, ROOT).expect("a disk"), None);
    assert_eq!(checkpoints.publish(6, OTHER).expect("a disk"), Some(note(6, OTHER)));
    assert_eq!(read(&folder, FILE), Some(note(6, OTHER)));
    assert_eq!(read(&folder, "checkpoint.tmp"), None);
}

#[test]
fn a_contradiction_is_never_signed_nor_anything_after_it() {
    for (size, root) in [(4, ROOT), (5, OTHER), (0, ROOT)] {
        let (_guard, folder) = folder();
        let mut checkpoints = checkpoints(&folder);
        checkpoints.publish(5, ROOT).expect("a disk");
        for (size, root) in [(size, root), (5, ROOT), (9, ROOT)] {
            let refused = checkpoints.publish(size, root);
            let same = size == 5 && root == ROOT;
            assert!(same || matches!(refused, Err(PublishError::Fork { signed: 5, .. })));
            assert_eq!(read(&folder, FILE), Some(note(5, ROOT)));
        }
    }
}

#[test]
fn a_state_that_could_not_be_written_is_tried_again() {
    let (_guard, folder) = folder();
    let mut checkpoints = checkpoints(&folder);
    let obstacle = folder.path().join("checkpoint.tmp");
    fs::create_dir(&obstacle).expect("ours");
    assert!(matches!(checkpoints.publish(5, ROOT), Err(PublishError::Folder(_))));
    assert!(matches!(checkpoints.publish(5, OTHER), Err(PublishError::Fork { .. })), "signed");
    fs::remove_dir(&obstacle).expect("ours");
    let mut checkpoints = self::checkpoints(&folder);
    fs::create_dir(&obstacle).expect("ours");
    assert!(checkpoints.publish(5, ROOT).is_err());
    fs::remove_dir(&obstacle).expect("ours");
    assert_eq!(checkpoints.publish(5, ROOT).expect("a disk"), Some(note(5, ROOT)));
}

#[test]
fn ends_of_segments_are_kept_for_good() {
    let (_guard, folder) = folder();
    let checkpoints = checkpoints(&folder);
    for _ in 0..2 {
        checkpoints.keep_end(65_536, ROOT).expect("the same again is fine");
    }
    let name = "checkpoints/00000000000000065536";
    assert_eq!(read(&folder, name), Some(note(65_536, ROOT)));
    let refused = checkpoints.keep_end(65_536, OTHER);
    assert!(matches!(refused, Err(PublishError::NotOurs(n)) if n == name));
    assert_eq!(read(&folder, name), Some(note(65_536, ROOT)));
}

#[test]
fn only_a_file_that_this_host_signed_counts_at_a_start() {
    let (_guard, folder) = folder();
    let newest = || newest_checkpoint(&folder, &origin(), &key());
    assert_eq!(newest().expect("none"), None);
    checkpoints(&folder).publish(77, ROOT).expect("a disk");
    assert_eq!(newest().expect("ours"), Some(Known { epoch: 3, size: 77, root: Some(ROOT) }));

    let good = note(77, ROOT);
    let other_epoch = Origin::new("pgward", "6f1c0b6e-8a55-4d6e-9f0a-2f8f5a3c1d2e", 2);
    let other_epoch = other_epoch.expect("a good name");
    let of_other_epoch = Checkpoint { origin: other_epoch, size: 77, root: ROOT }.note(&key());
    let of_other_key =
        Checkpoint { origin: origin(), size: 77, root: ROOT }.note(&HostKey::from_seed(&[8; 32]));
    let mut files = vec![of_other_epoch, of_other_key, good.replace("\n77\n", "\n78\n")];
    files.extend([good.replace("\n77\n", "\n077\n"), format!("{good}x"), "x".repeat(600)]);
    for length in 0..good.len() {
        if good.is_char_boundary(length) {
            files.push(good[..length].to_owned());
        }
    }
    for file in files {
        folder.replace(FILE, file.as_bytes()).expect("ours");
        assert!(matches!(newest(), Err(PublishError::NotOurs(_))), "{file}");
    }
    folder.replace(FILE, &good.as_bytes()[..good.len() - 1]).expect("ours");
    assert!(newest().is_err());
    fs::set_permissions(folder.path().join(FILE), fs::Permissions::from_mode(0o666)).expect("ours");
    assert!(matches!(newest(), Err(PublishError::Folder(_))));
}

#[test]
fn the_thread_publishes_what_is_newest_and_hands_it_on() {
    let (_guard, folder) = folder();
    let (sender, handed_on) = mpsc::sync_channel(16);
    let hand_on = move |new| sender.send(new).expect("the test listens");
    let every = Duration::from_millis(1);
    let publisher =
        Publisher::start_with(again(&folder), origin(), key(), None, every, hand_on).expect("ours");
    publisher.durable(&[], 1, ROOT);
    let first = handed_on.recv().expect("published");
    assert_eq!((first.size, &*first.note), (1, note(1, ROOT).as_str()));
    publisher.durable(&[], 2, OTHER);
    assert_eq!(handed_on.recv().expect("published").size, 2);
    assert_eq!(publisher.status(), PublisherStatus { size: Some(2), error: None, tiles: false });
    publisher.durable(&[], 65_536, ROOT);
    publisher.segment_end(65_536, ROOT);
    drop(publisher);
    assert_eq!(handed_on.iter().map(|p| p.size).collect::<Vec<_>>(), [65_536]);
    assert_eq!(read(&folder, FILE), Some(note(65_536, ROOT)));
    assert_eq!(read(&folder, "checkpoints/00000000000000065536"), Some(note(65_536, ROOT)));
}

#[test]
fn many_states_make_one_checkpoint() {
    let (_guard, folder) = folder();
    let (sender, handed_on) = mpsc::sync_channel(16);
    let hand_on = move |new: Published| sender.send(new.size).expect("the test listens");
    let publisher =
        Publisher::start_with(again(&folder), origin(), key(), None, HOUR, hand_on).expect("ours");
    for size in 1..10_000 {
        publisher.durable(&[[0; 32]], size, [(size % 251) as u8; 32]);
    }
    drop(publisher);
    assert_eq!(handed_on.iter().collect::<Vec<_>>(), [9_999], "published at the end, once");
}

#[test]
fn what_fails_is_told_and_tried_again() {
    let (_guard, folder) = folder();
    let obstacle = folder.path().join("checkpoints/00000000000000000004.tmp");
    let (sender, handed_on) = mpsc::sync_channel(16);
    let met = Arc::new(Barrier::new(2));
    let theirs = met.clone();
    let hand_on = move |new: Published| {
        sender.send(new.size).expect("the test listens");
        theirs.wait();
    };
    let every = Duration::from_millis(1);
    let publisher =
        Publisher::start_with(again(&folder), origin(), key(), None, every, hand_on).expect("ours");
    fs::create_dir(&obstacle).expect("ours");
    publisher.durable(&[], 4, ROOT);
    publisher.segment_end(4, ROOT);
    assert_eq!(handed_on.recv(), Ok(4), "the newest is published all the same");
    let error = publisher.status().error.expect("the end was not written");
    assert!(error.contains("00000000000000000004"), "{error}");
    fs::remove_dir(&obstacle).expect("ours");
    met.wait();
    drop(publisher);
    assert_eq!(read(&folder, "checkpoints/00000000000000000004"), Some(note(4, ROOT)));
}

#[test]
fn a_note_that_comes_back_counts_if_this_host_signed_it() {
    let own = |note: &str| own_checkpoint(note, &origin(), &key());
    let known = |epoch| Some(Known { epoch, size: 77, root: Some(ROOT) });
    assert_eq!(own(&note(77, ROOT)), known(3));
    assert_eq!(own(&format!("{}\u{2014} witness AAAA\n", note(77, ROOT))), known(3));
    let later = Checkpoint { origin: origin().of_epoch(9).expect("small"), size: 77, root: ROOT };
    assert_eq!(own(&later.note(&key())), known(9));
    assert_eq!(own(&later.note(&HostKey::from_seed(&[8; 32]))), None);
    assert_eq!(own(&note(77, ROOT).replace("\n77\n", "\n+77\n")), None);
    let other_host = "pgward/00000000-8a55-4d6e-9f0a-2f8f5a3c1d2e/3";
    assert_eq!(own(&note(77, ROOT).replace(origin().as_str(), other_host)), None);
    assert_eq!(own(""), None);
}

#[test]
fn tiles_are_written_beside_checkpoints_and_given_up_when_leaves_are_missing() {
    let (_guard, folder) = folder();
    let leaves: Vec<Hash> = (0..=255).map(|n| [n; 32]).collect();
    let begin = || {
        let tiles = TileFolder::new(again(&folder))
            .resume(0, super::super::chain::Tree::new().root(), |_, _| Ok(()))
            .expect("an empty log");
        let every = Duration::from_millis(1);
        let (sender, handed_on) = mpsc::sync_channel(16);
        let hand_on = move |new: Published| sender.send(new.size).expect("the test listens");
        let publisher =
            Publisher::start_with(again(&folder), origin(), key(), Some(tiles), every, hand_on);
        (publisher.expect("ours"), handed_on)
    };
    let (publisher, _handed_on) = begin();
    assert!(publisher.status().tiles);
    publisher.durable(&leaves, 256, ROOT);
    drop(publisher);
    let tile = fs::read(folder.path().join("tile/0/000")).expect("there");
    assert_eq!(tile, leaves.as_flattened());

    let (publisher, handed_on) = begin();
    publisher.durable(&vec![[0; 32]; LEAVES_MAX + 1], 1, ROOT);
    assert_eq!(handed_on.recv(), Ok(1));
    assert!(!publisher.status().tiles);
    publisher.durable(&leaves, 300, OTHER);
    drop(publisher);
    assert_eq!(fs::read(folder.path().join("tile/0/000")).expect("there"), tile, "untouched");
}
