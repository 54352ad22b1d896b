//! Break-glass and `on_full = "allow"` on a full disk: what goes on, and that its loss is on record.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::mount::{MntFlags, umount2};
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::disk::Disk;
use pgward_tests::host;
use pgward_tests::scene::Scene;
use pgward_tests::script::ScriptedServer;
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire;
use tempfile::TempDir;

use crate::{Client, Result, count, gate, options, pgward, untampered};

const DISK_BYTES: u64 = 32 << 20;
/// More statements of [`LONG`] bytes than there is room for.
const STATEMENTS_MAX: usize = 4_000;
const LONG: usize = 12_000;
/// A minute, which is the shortest window, the time between two looks of the agent, and patience.
const WINDOW: Duration = Duration::from_secs(60 + 15 + 20);
const WHY: [&str; 4] = ["--reason", "the shop stands still", "--approver", "head of operations"];

/// A small file system that can be made read-only.
struct Medium {
    folder: TempDir,
}

impl Medium {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pgward-medium-").tempdir()?;
        let this = Self { folder };
        fs::create_dir(this.path())?;
        host::run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(this.path()))?;
        Ok(this)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("medium")
    }

    fn token(&self) -> PathBuf {
        self.path().join("allowed")
    }

    fn make(&self, read: &str) -> Result {
        let how = format!("remount,{read}");
        host::run(Command::new("mount").args(["-o", &how]).arg(self.path()))?;
        Ok(())
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.path(), MntFlags::MNT_DETACH) {
            eprintln!("{}: unmount: {error}", self.path().display());
        }
    }
}

struct Stage {
    server: ScriptedServer,
    scene: Scene,
}

impl Stage {
    fn new(disk: &Disk, more: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let server = ScriptedServer::start(([127, 0, 0, 1], 0))?;
        let builder = Agent::builder()
            .intercept(server.address().port())
            .trail(disk.path().join("audit"))
            .set("audit", "segment_bytes", "1048576")
            .set("audit", "reserve_bytes", "262144");
        Ok(Self { scene: Scene::with("glass", more(builder))?, server })
    }

    fn client(&self) -> Result<Client> {
        Client::start(Visitor::connect(self.server.address(), Some(&self.scene.cgroup))?)
    }

    fn open(&self, minutes: &str) -> Result<crate::Told> {
        let arguments = [&["audit", "break-glass", "--minutes", minutes], &WHY[..]].concat();
        pgward(&self.scene.agent, &arguments)
    }

    /// Sends statements until recording is refused; gives how many were answered.
    fn fill(&self) -> Result<usize> {
        let mut client = self.client()?;
        for number in 0..STATEMENTS_MAX {
            let frames = match client.simple(&long(number, LONG)) {
                Ok(frames) => frames,
                // The error was the last frame.
                Err(_) => return Ok(number),
            };
            if let Some(error) = frames.iter().find(|frame| frame.tag == b'E') {
                assert_eq!(wire::error_field(&error.body, b'C'), "53100");
                return Ok(number);
            }
        }
        anyhow::bail!("{STATEMENTS_MAX} statements went")
    }

    fn refuses(&self) -> Result {
        let client = self.client();
        ensure!(client.is_err(), "a session without a record");
        Ok(())
    }

    /// Everything that is sent is answered.
    fn goes_on(&self, statements: usize) -> Result {
        self.goes_on_with(statements, LONG)
    }

    /// As [`Stage::goes_on`], with more than waits in memory for a disk: some of it is lost.
    fn overflows(&self) -> Result {
        self.goes_on_with(500, 60_000)
    }

    fn goes_on_with(&self, statements: usize, bytes: usize) -> Result {
        let mut client = self.client().with_context(|| self.scene.agent.story())?;
        for number in 0..statements {
            let text = long(number, bytes);
            ensure!(client.value(&text)? == text, "another answer");
        }
        Ok(())
    }

    fn health(&self) -> Result<String> {
        let told = pgward(&self.scene.agent, &["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&told.out)?;
        Ok(status["audit"]["store"]["health"].as_str().context("health")?.to_owned())
    }

    fn events(&self, kind: &str) -> Result<Vec<serde_json::Value>> {
        let entries = self.scene.agent.entries()?;
        Ok(entries.into_iter().filter(|e| e.is(kind)).map(|e| e.fields).collect())
    }

    /// Waits for the record of what was lost, and gives its number.
    fn losses(&self) -> Result<u64> {
        wait::until("a record of the loss", PATIENCE, || {
            let lost = self.events("events_lost")?;
            let counts =
                lost.iter().filter(|l| l["lost"] == "records").filter_map(|l| l["count"].as_u64());
            let sum: u64 = counts.sum();
            Ok((sum > 0).then_some(sum))
        })
    }

    fn trail(&self) -> &Path {
        self.scene.agent.audit_directory()
    }
}

/// A statement that does not become small when it is packed.
fn long(number: usize, bytes: usize) -> String {
    let mut text = format!("select {number} -- ");
    while text.len() < bytes {
        text.push_str(&format!("{:016x}", host::random()));
    }
    text
}

#[test]
fn a_window_is_only_opened_where_whoever_writes_the_trail_could_not_allow_it() -> Result {
    gate!(with "mkfs.ext4");
    let (disk, medium) = (Disk::new(DISK_BYTES)?, Medium::new()?);
    let token = medium.token();
    let stage =
        Stage::new(&disk, |builder| builder.set("audit", "break_glass", &format!("{token:?}")))?;
    let refused = |minutes: &str, why: &str| -> Result {
        let told = stage.open(minutes)?;
        ensure!(told.code == Some(2) && told.err.contains(why), "{minutes}: {told:?}");
        Ok(())
    };
    refused("1", "is not there")?;
    fs::create_dir(&token)?;
    refused("1", "no regular file")?;
    fs::remove_dir(&token)?;
    std::os::unix::fs::symlink("/etc/hostname", &token)?;
    refused("1", "no regular file")?;
    fs::remove_file(&token)?;
    fs::write(&token, "")?;
    refused("1", "can be written")?;
    medium.make("ro")?;
    for minutes in ["0", "241", "1440"] {
        refused(minutes, "expected 1 to 240")?;
    }
    ensure!(stage.events("break_glass")?.is_empty(), "a window was recorded");
    let told = stage.open("240")?;
    ensure!(told.code == Some(0) && told.out.contains("recording is eased until"), "{told:?}");
    refused("1", "eased already")?;
    assert_eq!(stage.events("break_glass")?.len(), 1);
    let report = untampered(&options(stage.trail())?)?;
    assert_eq!((report.verdict.exit_code(), count(&report, "break-glass")), (2, 1));
    stage.scene.agent.finish()
}

#[test]
fn while_the_glass_is_broken_sessions_go_on_and_what_is_lost_is_told() -> Result {
    gate!(with "mkfs.ext4");
    let (disk, medium) = (Disk::new(DISK_BYTES)?, Medium::new()?);
    fs::write(medium.token(), "")?;
    medium.make("ro")?;
    let token = medium.token();
    let mut stage =
        Stage::new(&disk, |builder| builder.set("audit", "break_glass", &format!("{token:?}")))?;
    disk.fill()?;
    stage.fill()?;
    stage.refuses()?;

    stage.open("1")?.ok()?;
    let status = pgward(&stage.scene.agent, &["status"])?;
    ensure!(status.code == Some(1) && status.out.contains("BREAK-GLASS"), "{status:?}");
    stage.overflows()?;
    assert_eq!(stage.health()?, "full");
    // Nothing is destroyed while its record would be lost.
    let before = stage.events("redaction")?.len();
    let nobody = "0".repeat(32);
    let shred = [&["audit", "shred", "--session", &nobody], &WHY[..]].concat();
    let told = pgward(&stage.scene.agent, &shred)?;
    ensure!(told.code == Some(2) && told.err.contains("cannot be written"), "{told:?}");
    assert_eq!(stage.events("redaction")?.len(), before);

    // It ends by itself, whatever the disk says.
    wait::until_true("the window to end", WINDOW, || {
        Ok(!pgward(&stage.scene.agent, &["status"])?.out.contains("BREAK-GLASS"))
    })?;
    stage.refuses()?;

    disk.empty()?;
    let lost = stage.losses()?;
    ensure!(lost >= 100, "{lost} records lost");
    // Each look has patience of its own.
    wait::until_true("sessions to go on", PATIENCE * 6, || Ok(stage.goes_on(1).is_ok()))?;
    wait::until_true("the window in the trail", PATIENCE * 2, || {
        let actions = stage.events("break_glass")?;
        let has = |action: &str| actions.iter().any(|entry| entry["action"] == action);
        Ok(has("begin") && has("end"))
    })?;
    let begin = &stage.events("break_glass")?[0];
    assert_eq!((&begin["reason"], &begin["approver"]), (&WHY[1].into(), &WHY[3].into()));

    // A restart ends it as well.
    stage.open("240")?.ok()?;
    stage.scene.agent.kill()?;
    stage.scene.agent.start_process(None)?;
    let ends = stage.events("break_glass")?;
    let by = |detail: &str| ends.iter().any(|e| e["action"] == "end" && e["detail"] == detail);
    ensure!(by("the agent was restarted"), "{ends:?}");
    let status = pgward(&stage.scene.agent, &["status"])?;
    ensure!(!status.out.contains("BREAK-GLASS"), "{status:?}");
    let report = untampered(&options(stage.trail())?)?;
    assert_eq!((report.verdict.exit_code(), count(&report, "break-glass") > 0), (2, true));
    ensure!(count(&report, "records-lost") > 0, "{:?}", report.classes);
    stage.scene.agent.finish()
}

#[test]
fn where_losses_are_allowed_sessions_go_on_without_a_window() -> Result {
    gate!(with "mkfs.ext4");
    let disk = Disk::new(DISK_BYTES)?;
    let stage = Stage::new(&disk, |builder| builder.set("audit", "on_full", "\"allow\""))?;
    stage.goes_on(1)?;
    disk.fill()?;
    // Until nothing is left of segment and reserve, and on.
    stage.goes_on(600)?;
    assert_eq!(stage.health()?, "full");
    stage.overflows()?;
    disk.empty()?;
    let lost = stage.losses()?;
    ensure!(lost >= 100, "{lost} records lost");
    stage.goes_on(1)?;
    let report = untampered(&options(stage.trail())?)?;
    assert_eq!(report.verdict.exit_code(), 2, "{:?}", report.findings);
    ensure!(count(&report, "records-lost") > 0, "{:?}", report.classes);
    stage.scene.agent.finish()
}
