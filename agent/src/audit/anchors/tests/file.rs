//! Folders.

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::SystemTime};

use super::*;

struct Share {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Share {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("share");
        fs::create_dir(&path).expect("made");
        Self { _folder: folder, path }
    }

    fn anchor(&self) -> Folder {
        Folder::new(self.path.clone())
    }

    /// Folder of an epoch.
    fn epoch(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("{}_{epoch}", HOST.replace('/', "_")))
    }

    fn names(&self, epoch: u64) -> Vec<String> {
        let entries = fs::read_dir(self.epoch(epoch)).expect("there");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }
}

fn alarm(result: Result<(), CopyError>) -> Alarm {
    match result {
        Err(CopyError::Alarm(alarm)) => alarm,
        other => panic!("no alarm: {other:?}"),
    }
}

fn ahead(ours: u64, theirs: u64) -> Alarm {
    Alarm::Ahead { origin: format!("{HOST}/1"), ours, theirs }
}

#[test]
fn each_checkpoint_is_a_file_and_the_same_again_is_fine() {
    let share = Share::new();
    let mut anchor = share.anchor();
    for checkpoint in [checkpoint(5, 1), checkpoint(70_000, 2), checkpoint(70_000, 2)] {
        anchor.copy(&checkpoint).expect("copied");
    }
    // Another run, of which nothing is remembered.
    share.anchor().copy(&checkpoint(70_000, 2)).expect("the same");
    assert_eq!(share.names(1), ["00000000000000000005", "00000000000000070000"]);
    let text = fs::read_to_string(share.epoch(1).join("00000000000000000005")).expect("a file");
    assert_eq!(text, checkpoint(5, 1).note());
}

#[test]
fn another_root_for_the_same_size_is_a_fork_and_nothing_is_changed() {
    let share = Share::new();
    share.anchor().copy(&checkpoint(5, 1)).expect("copied");
    let fork = |theirs| Alarm::Fork { origin: format!("{HOST}/1"), size: 5, ours: [2; 32], theirs };
    assert_eq!(alarm(share.anchor().copy(&checkpoint(5, 2))), fork(Some([1; 32])));
    let file = share.epoch(1).join("00000000000000000005");
    assert_eq!(fs::read_to_string(&file).expect("there"), checkpoint(5, 1).note());
    assert_eq!(share.names(1).len(), 1, "nothing is left behind");
    // What can't be read does not say what we say.
    for other in [&b""[..], b"\xff\xfe", b"text"] {
        fs::write(&file, other).expect("written");
        assert_eq!(alarm(share.anchor().copy(&checkpoint(5, 2))), fork(None));
    }
}

#[test]
fn a_larger_size_of_somebody_else_is_an_alarm_in_every_run() {
    let share = Share::new();
    let mut anchor = share.anchor();
    anchor.copy(&checkpoint(5, 1)).expect("copied");
    // The clone, or ourselves before an older state was put back.
    share.anchor().copy(&checkpoint(9, 1)).expect("copied");
    // Not within the same tick of the file system's clock.
    let folder = fs::File::open(share.epoch(1)).expect("there");
    folder.set_modified(SystemTime::now() + Duration::from_secs(1)).expect("set");
    assert_eq!(alarm(anchor.copy(&checkpoint(6, 1))), ahead(6, 9));
    assert_eq!(alarm(share.anchor().copy(&checkpoint(7, 1))), ahead(7, 9));
    assert_eq!(share.names(1).len(), 4, "what we have is evidence all the same");
    share.anchor().copy(&checkpoint_of(2, 1, 1)).expect("another epoch is another log");
}

#[test]
fn a_folder_that_is_gone_is_named_and_never_made() {
    let share = Share::new();
    let mut anchor = share.anchor();
    anchor.copy(&checkpoint(5, 1)).expect("copied");
    let away = share.path.with_extension("away");
    fs::rename(&share.path, &away).expect("moved");
    let error = anchor.copy(&checkpoint(6, 1)).expect_err("it is gone");
    assert_eq!(error.to_string(), format!("`{}`: open", share.path.display()),);
    assert!(!share.path.exists());
    fs::rename(&away, &share.path).expect("moved back");
    anchor.copy(&checkpoint(6, 1)).expect("it is back");
}

#[test]
fn links_are_not_followed() {
    let share = Share::new();
    let elsewhere = tempfile::tempdir().expect("a folder");
    symlink(elsewhere.path(), share.epoch(1)).expect("linked");
    let error = share.anchor().copy(&checkpoint(5, 1)).expect_err("a link");
    assert!(matches!(error, CopyError::File(FileError::Link { .. })), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).expect("there").count(), 0);

    fs::remove_file(share.epoch(1)).expect("removed");
    fs::create_dir(share.epoch(1)).expect("made");
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "kept").expect("written");
    // Where the file would be written, and where it would be linked to.
    symlink(&victim, share.epoch(1).join(".checkpoint.tmp")).expect("linked");
    share.anchor().copy(&checkpoint(5, 1)).expect("the link is removed, not followed");
    symlink(&victim, share.epoch(1).join("00000000000000000006")).expect("linked");
    let error = share.anchor().copy(&checkpoint(6, 1)).expect_err("a link");
    assert!(matches!(error, CopyError::File(FileError::Link { .. })), "{error}");
    assert_eq!(fs::read_to_string(&victim).expect("there"), "kept");

    let link = share.path.with_extension("link");
    symlink(&share.path, &link).expect("linked");
    let error = Folder::new(link).copy(&checkpoint(7, 1)).expect_err("a link");
    assert!(matches!(error, CopyError::File(FileError::Link { .. })), "{error}");
}

#[test]
fn at_start_the_newest_of_each_epoch_is_told() {
    let share = Share::new();
    assert_eq!(share.anchor().newest_known(&question()).expect("an answer"), []);
    let mut anchor = share.anchor();
    for checkpoint in [checkpoint(5, 1), checkpoint(10, 2), checkpoint_of(12, 3, 3)] {
        anchor.copy(&checkpoint).expect("copied");
    }
    // A file that says nothing we can read, of a size nobody forgets; names that are none of ours.
    fs::write(share.epoch(12).join("00000000000000000100"), "torn").expect("written");
    for name in ["x", "9", "0000000000000000010x", "99999999999999999999"] {
        fs::write(share.epoch(1).join(name), "").expect("written");
    }
    fs::create_dir(share.path.join("pgward_other_1")).expect("made");
    let known = share.anchor().newest_known(&question()).expect("an answer");
    let torn = Known { origin: format!("{HOST}/12"), size: 100, root: None, note: None };
    assert_eq!(known, [Known::from(checkpoint(10, 2)), torn]);
}
