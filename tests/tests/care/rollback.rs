//! Row 15: an older copy is put back. Row 16: a copy goes on somewhere else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::scene::{Scene, mark};
use pgward_tests::script::ScriptedServer;
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_verify::{VerifierKey, verify_dir};
use tempfile::TempDir;

use crate::{Client, Result, copy, count, gate, options, pgward, tree, untampered};

/// An agent whose checkpoints go to a folder of another place.
fn builder(port: u16, anchor: &Path) -> Builder {
    Agent::builder()
        .intercept(port)
        .set("[audit.anchor]", "name", "'share'")
        .set("[audit.anchor]", "kind", "'file'")
        .set("[audit.anchor]", "every_s", "1")
        .set("[audit.anchor]", "directory", &format!("{anchor:?}"))
}

/// A session with one statement, which is on record when this returns.
fn speak(scene: &Scene, server: &ScriptedServer, label: &str) -> Result {
    let mut client = Client::start(Visitor::connect(server.address(), Some(&scene.cgroup))?)?;
    let word = mark(label);
    ensure!(client.value(&word)? == word, "another answer");
    Ok(())
}

/// Waits until an anchor knows so many entries of a log.
fn anchored(folder: &Path, entries: u64) -> Result {
    wait::until_true("a checkpoint at the anchor", PATIENCE, || {
        let sizes = sizes(folder)?;
        Ok(sizes.iter().any(|size| *size >= entries))
    })
}

/// Sizes of all checkpoints that an anchor has.
fn sizes(folder: &Path) -> Result<Vec<u64>> {
    let files = tree(folder)?.into_keys();
    Ok(files.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect())
}

struct Stage {
    server: ScriptedServer,
    share: TempDir,
    scene: Scene,
}

impl Stage {
    fn new(label: &str) -> Result<Self> {
        let server = ScriptedServer::start(([127, 0, 0, 1], 0))?;
        let share = tempfile::tempdir()?;
        let scene = Scene::with(label, builder(server.address().port(), share.path()))?;
        Ok(Self { server, share, scene })
    }

    fn trail(&self) -> PathBuf {
        self.scene.agent.audit_directory().to_owned()
    }

    fn entries(&self) -> Result<u64> {
        Ok(self.scene.agent.entries()?.len() as u64)
    }

    fn stop(&mut self) -> Result {
        ensure!(self.scene.agent.stop()?.success(), "{}", self.scene.agent.story());
        Ok(())
    }
}

#[test]
fn an_older_copy_that_is_put_back_is_never_signed_on() -> Result {
    gate!();
    let mut stage = Stage::new("rollback")?;
    speak(&stage.scene, &stage.server, "kept")?;
    stage.stop()?;
    let trail = stage.trail();
    let older = tempfile::tempdir()?;
    copy(&trail, &older.path().join("audit"))?;
    let old_entries = stage.entries()?;

    stage.scene.agent.start_process(None)?;
    speak(&stage.scene, &stage.server, "lost")?;
    let all = stage.entries()?;
    anchored(stage.share.path(), all)?;
    stage.stop()?;
    // As long as nothing was put back, nothing is wrong.
    let mut asked = options(&trail)?;
    asked.anchors = vec![stage.share.path().to_owned()];
    untampered(&asked)?;

    copy(&older.path().join("audit"), &trail)?;
    stage.scene.agent.start_process(None)?;
    speak(&stage.scene, &stage.server, "new")?;
    let entries = stage.scene.agent.entries()?;
    let start = entries.iter().find(|e| e.epoch == 2 && e.index == 0).context("a new epoch")?;
    ensure!(start.is("epoch_start") && start.fields["reason"] == "rollback", "{start:?}");
    assert_eq!(start.fields["last_size"], old_entries);
    assert_eq!(entries.iter().filter(|entry| entry.epoch == 1).count() as u64, old_entries);
    stage.stop()?;

    // Nothing of the old log was changed, and none of its names signed anew.
    let before = tree(&older.path().join("audit/epoch-1"))?;
    let after = tree(&trail.join("epoch-1"))?;
    for (path, bytes) in &after {
        let name = path.to_string_lossy();
        if name.starts_with("segment-") || name.contains("checkpoint") {
            ensure!(before.get(path) == Some(bytes), "changed: {name}");
        }
    }
    let report = verify_dir(&asked)?;
    assert_eq!(report.verdict.exit_code(), 1);
    let origin = start.fields["previous_origin"].as_str().context("an origin")?;
    let truncated: Vec<_> =
        report.findings.iter().filter(|found| found.class.name() == "truncated").collect();
    ensure!(!truncated.is_empty(), "{:?}", report.classes);
    for found in truncated {
        assert_eq!(found.origin.as_deref(), Some(origin), "{found:?}");
    }
    stage.scene.agent.finish()
}

#[test]
fn two_copies_that_both_go_on_raise_an_alarm() -> Result {
    gate!();
    let mut stage = Stage::new("clone")?;
    speak(&stage.scene, &stage.server, "before")?;
    stage.stop()?;
    let other = tempfile::tempdir()?;
    let clone = other.path().join("audit");
    copy(&stage.trail(), &clone)?;

    // Both begin where the copy was made, and neither hears of the other before it goes on: the share is not there.
    let port = stage.server.address().port();
    let away = other.path().join("share");
    fs::rename(stage.share.path(), &away)?;
    stage.scene.agent.start_process(None)?;
    let second = Scene::with("clone-2", builder(port, stage.share.path()).trail(clone))?;
    for scene in [&stage.scene, &second] {
        speak(scene, &stage.server, "forked")?;
        assert_eq!(scene.agent.entries()?.last().context("an entry")?.epoch, 1);
    }
    fs::rename(&away, stage.share.path())?;
    let alarm = |agent: &Agent| -> Result<bool> {
        let entries = agent.entries()?;
        Ok(entries.iter().any(|e| e.is("failure") && e.fields["reason"] == "anchor_alarm"))
    };
    wait::until_true("a fork alarm", PATIENCE * 3, || {
        Ok(alarm(&stage.scene.agent)? || alarm(&second.agent)?)
    })?;
    second.agent.finish()?;
    stage.scene.agent.finish()
}

#[test]
fn a_trail_of_another_machine_goes_on_only_under_a_name_of_its_own() -> Result {
    gate!();
    let mut stage = Stage::new("machine")?;
    speak(&stage.scene, &stage.server, "there")?;
    // Only when nobody writes.
    let early = pgward(&stage.scene.agent, &["audit", "keys", "new-identity"])?;
    ensure!(early.code != Some(0), "{early:?}");
    anchored(stage.share.path(), stage.entries()?)?;
    stage.stop()?;
    let trail = stage.trail();
    let file = trail.join("identity.toml");
    let ours = fs::read_to_string(&file)?;
    let line = |text: &str, key: &str| -> Result<String> {
        let found = text.lines().find(|line| line.starts_with(key)).context("a line")?;
        Ok(found.to_owned())
    };
    let theirs = format!("machine = \"{}\"", "5".repeat(64));
    fs::write(&file, ours.replace(&line(&ours, "machine")?, &theirs))?;

    let before = tree(&trail.join("epoch-1"))?;
    let refused = stage.scene.agent.start_process(None).err().context("it starts")?;
    let said = format!("{refused:#}");
    ensure!(said.contains("belongs to another machine"), "{said}");
    ensure!(said.contains("pgward audit keys new-identity"), "{said}");
    ensure!(tree(&trail.join("epoch-1"))? == before, "what is there was changed");

    pgward(&stage.scene.agent, &["audit", "keys", "new-identity"])?.ok()?;
    let new = fs::read_to_string(&file)?;
    assert_ne!(line(&new, "host")?, line(&ours, "host")?);
    stage.scene.agent.start_process(None)?;
    speak(&stage.scene, &stage.server, "here")?;
    let entries = stage.scene.agent.entries()?;
    let start = entries.iter().find(|e| e.epoch == 2 && e.index == 0).context("a new epoch")?;
    ensure!(start.is("epoch_start") && start.fields["reason"] == "identity", "{start:?}");
    let second = entries.iter().filter(|entry| entry.epoch == 2).count() as u64;
    wait::until_true("a checkpoint under the new name", PATIENCE, || {
        let files = tree(stage.share.path())?.into_keys();
        let epoch = |path: &Path| {
            path.parent().is_some_and(|folder| folder.to_string_lossy().ends_with("_2"))
        };
        let size = |path: &Path| path.file_name()?.to_str()?.parse::<u64>().ok();
        Ok(files.into_iter().any(|path| epoch(&path) && size(&path).is_some_and(|s| s >= second)))
    })?;
    stage.stop()?;
    let mut asked = options(&trail)?;
    assert_eq!(asked.keys.len(), 2, "the old public key stays");
    asked.anchors = vec![stage.share.path().to_owned()];
    let report = untampered(&asked)?;
    assert_eq!((report.epochs.len(), count(&report, "epoch-chain")), (2, 0));
    // Without the old key nobody vouches for what was before.
    asked.keys = vec![host_key(&trail)?];
    let report = verify_dir(&asked)?;
    ensure!(count(&report, "wrong-key") > 0, "{:?}", report.classes);
    stage.scene.agent.finish()
}

fn host_key(trail: &Path) -> Result<VerifierKey> {
    let line = fs::read_to_string(trail.join("keys/host.vkey"))?;
    Ok(VerifierKey::parse(line.trim_end())?)
}
