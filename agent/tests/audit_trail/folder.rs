//! What is done to the folder of a trail between two starts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use pgward::audit::store::FolderError;
use pgward::audit::{Trail, TrailError};
use pgward::config::{Anchor, AnchorPlace, Audit};
use pgward_verify::Verdict;

use crate::rig::{
    Result, assert_untampered, copy, entries, files, fill, open, settings, settle, verify, wait,
};

/// Records something in a run of its own.
fn run(audit: &Audit, count: usize) -> Result {
    let trail = open(audit)?;
    fill(&trail.sink(), count, 10)?;
    settle(&trail);
    trail.close()?;
    Ok(())
}

/// The bytes of all files, by name.
fn contents(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    files(folder)
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).expect("readable");
            (path.strip_prefix(folder).expect("below it").to_owned(), bytes)
        })
        .collect()
}

/// Row 47: each file becomes a link to one elsewhere, or gets a second name there.
#[test]
fn a_link_planted_for_any_file_is_refused_or_never_written_through() -> Result {
    let folder = tempfile::tempdir()?;
    let audit = settings(folder.path());
    run(&audit, 300)?;
    run(&audit, 10)?;
    let pristine = folder.path().join("pristine");
    fs::rename(&audit.directory, &pristine)?;
    let newest = entries(&pristine).len();
    let victim = folder.path().join("victim");
    let mut refused = Vec::new();
    for file in files(&pristine) {
        let name = file.strip_prefix(&pristine)?;
        for hard in [false, true] {
            let case = format!("{} ({})", name.display(), if hard { "hard" } else { "symbolic" });
            copy(&pristine, &audit.directory);
            let planted = audit.directory.join(name);
            fs::rename(&planted, &victim)?;
            match hard {
                true => fs::hard_link(&victim, &planted)?,
                false => symlink(&victim, &planted)?,
            }
            match open(&audit) {
                Err(_) => refused.push(name.to_owned()),
                Ok(trail) => {
                    fill(&trail.sink(), 10, 10)?;
                    trail.close()?;
                }
            }
            assert_eq!(fs::read(&victim)?, fs::read(&file)?, "{case}: written through");
            fs::remove_dir_all(&audit.directory)?;
            fs::remove_file(&victim)?;
        }
    }
    // What the next run builds on is not even read through a link.
    let twice = |name: &str| refused.iter().filter(|refused| refused.ends_with(name)).count() == 2;
    for name in ["lock", "identity.toml", "keys/host.key", "keys/host.vkey", "keys/values/host.key"]
    {
        assert!(twice(name), "{name} is taken: {refused:?}");
    }
    assert!(newest > 300 && twice("epoch-1/checkpoint"), "{refused:?}");
    Ok(())
}

/// Row 47: the folder itself.
#[test]
fn a_folder_that_became_a_link_is_refused() -> Result {
    let folder = tempfile::tempdir()?;
    let audit = settings(folder.path());
    run(&audit, 10)?;
    for name in ["", "keys", "keys/values", "epoch-1"] {
        let planted = audit.directory.join(name);
        let planted = Path::new(planted.to_str().ok_or("a name")?.trim_end_matches('/'));
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(planted, &elsewhere)?;
        symlink(&elsewhere, planted)?;
        let before = contents(&elsewhere);
        assert!(open(&audit).is_err(), "`{name}`");
        assert!(contents(&elsewhere) == before, "`{name}` was written through");
        fs::remove_file(planted)?;
        fs::rename(&elsewhere, planted)?;
    }
    open(&audit)?.close()?;
    Ok(())
}

/// Row 48.
#[test]
fn a_second_agent_is_refused_and_the_first_goes_on() -> Result {
    let folder = tempfile::tempdir()?;
    let audit = settings(folder.path());
    let first = open(&audit)?;
    fill(&first.sink(), 5, 10)?;
    for _ in 0..2 {
        let second = open(&audit);
        let in_use = matches!(second, Err(TrailError::Directory(FolderError::InUse(_))));
        assert!(in_use, "{second:?}");
        fill(&first.sink(), 5, 10)?;
    }
    first.close()?;
    drop(first);
    assert_untampered(&verify(&audit, Vec::new())?, "two agents");
    open(&audit)?.close()?;
    Ok(())
}

/// Entries of the newest checkpoint that the anchor of a trail holds.
fn anchored(trail: &Trail) -> Option<u64> {
    trail.status().anchors.first().and_then(|anchor| anchor.size)
}

/// Row 15.
#[test]
fn a_folder_that_was_put_back_is_never_signed_on() -> Result {
    let folder = tempfile::tempdir()?;
    let anchor = folder.path().join("share");
    fs::create_dir(&anchor)?;
    let audit = Audit {
        anchors: vec![Anchor {
            name: "share".to_owned(),
            every: Duration::from_millis(1),
            place: AnchorPlace::File(anchor.clone()),
        }],
        ..settings(folder.path())
    };
    run(&audit, 50)?;
    let backup = folder.path().join("backup");
    copy(&audit.directory, &backup);
    let trail = open(&audit)?;
    fill(&trail.sink(), 50, 10)?;
    settle(&trail);
    wait("the anchor has the checkpoint", || anchored(&trail) >= trail.status().checkpoint);
    trail.close()?;
    drop(trail);

    fs::remove_dir_all(&audit.directory)?;
    fs::rename(&backup, &audit.directory)?;
    let before = contents(&audit.directory.join("epoch-1"));
    let trail = open(&audit)?;
    assert_eq!(trail.origin().epoch(), 2, "the log goes on");
    fill(&trail.sink(), 5, 10)?;
    trail.close()?;
    drop(trail);
    assert!(contents(&audit.directory.join("epoch-1")) == before, "epoch 1 was written on");
    let report = verify(&audit, vec![anchor])?;
    assert_eq!(report.verdict, Verdict::Tampered, "{:?}", report.classes);
    assert!(report.classes.contains_key("truncated"), "{:?}", report.classes);
    let rollback = entries(&audit.directory)
        .iter()
        .any(|kept| kept.index == 0 && kept.bytes.windows(8).any(|part| part == b"rollback"));
    assert!(rollback, "the new epoch says why");
    Ok(())
}
