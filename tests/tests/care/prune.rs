//! What is old goes: segments by hand, and values by their own age. The agent's clock is set ahead between two runs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use pgward::audit::WallNanos;
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::host;
use pgward_tests::scene::{Scene, mark};
use pgward_tests::script::ScriptedServer;
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_verify::{Options, Report};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Client, Result, count, gate, options, pgward, untampered};

const DAY_S: u64 = 24 * 3600;
/// The agent looks every 15 seconds at what is due.
const DUE: Duration = Duration::from_secs(15 + 20);
/// A statement's bytes, and how many statements: what may go ends at a full tile, which is 256 entries.
const LONG: usize = 2_000;
const STATEMENTS: usize = 300;

struct Stage {
    server: ScriptedServer,
    scene: Scene,
    folder: TempDir,
    days: u64,
}

impl Stage {
    /// An agent with small segments, whose clock can be set ahead.
    fn new(more: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let library = folder.path().join("later.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/care/later.c");
        host::run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source))?;
        let ahead = folder.path().join("ahead").display().to_string();
        let server = ScriptedServer::start(([127, 0, 0, 1], 0))?;
        let builder = Agent::builder()
            .intercept(server.address().port())
            .env("LD_PRELOAD", &library.display().to_string())
            .env("PGWARD_TEST_AHEAD", &ahead)
            .set("audit", "values", "\"sealed\"")
            .set("audit", "segment_bytes", "65536")
            .set("audit", "reserve_bytes", "65536");
        Ok(Self { scene: Scene::with("old", more(builder))?, server, folder, days: 0 })
    }

    /// Starts the agent again, so many days later.
    fn restart(&mut self, days: u64) -> Result {
        ensure!(self.scene.agent.stop()?.success(), "{}", self.scene.agent.story());
        self.days = days;
        fs::write(self.folder.path().join("ahead"), (days * DAY_S).to_string())?;
        self.scene.agent.start_process(None)
    }

    /// Sends long statements in one session; gives how many were answered.
    fn speak(&self, statements: usize) -> Result<usize> {
        let mut client =
            Client::start(Visitor::connect(self.server.address(), Some(&self.scene.cgroup))?)?;
        for number in 0..statements {
            if client.value(&long()).is_err() {
                return Ok(number);
            }
        }
        Ok(statements)
    }

    /// Sends long statements until one is refused, in sessions as long as there may be any; gives the last refusal.
    fn speak_until_refused(&self) -> Result<String> {
        for _ in 0..100 {
            let visitor = Visitor::connect(self.server.address(), Some(&self.scene.cgroup))?;
            let mut client = match Client::start(visitor) {
                Ok(client) => client,
                Err(refused) => return Ok(format!("{refused:#}")),
            };
            for _ in 0..STATEMENTS {
                if let Err(refused) = client.value(&long()) {
                    return Ok(format!("{refused:#}"));
                }
            }
        }
        anyhow::bail!("the quota holds nobody up")
    }

    fn entries(&self, kind: &str) -> Result<Vec<Value>> {
        let entries = self.scene.agent.entries()?.into_iter().filter(|entry| entry.is(kind));
        Ok(entries.map(|entry| entry.fields).collect())
    }

    fn files(&self, form: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for file in fs::read_dir(self.scene.agent.audit_directory().join("epoch-1"))? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == form) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    fn prune(&self, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
        let told = pgward(&self.scene.agent, &[&["audit", "prune", "--json"], arguments].concat())?;
        let answer: Value = serde_json::from_str(&told.out).with_context(|| format!("{told:?}"))?;
        Ok((told.code, answer["pruned"].clone()))
    }

    /// What verification says on that day.
    fn verified(&self) -> Result<Report> {
        let options = options(self.scene.agent.audit_directory())?;
        let now_ns = options.now_ns + self.days * DAY_S * 1_000_000_000;
        untampered(&Options { now_ns, ..options })
    }
}

/// A statement that nothing compresses.
fn long() -> String {
    let mut text = format!("select '{}", mark("long"));
    while text.len() < LONG {
        text.push_str(&format!("{:016x}", host::random()));
    }
    text.push('\'');
    text
}

/// A moment so many seconds from now, by the clock of the test.
fn moment(seconds: u64) -> Result<String> {
    let now = Options::new("").now_ns;
    Ok(String::from_utf8(WallNanos(now + seconds * 1_000_000_000).rfc3339().to_vec())?)
}

#[test]
fn only_old_segments_are_pruned_and_the_trail_says_so() -> Result {
    gate!(with "cc");
    let mut stage = Stage::new(|builder| builder)?;
    assert_eq!(stage.speak(STATEMENTS)?, STATEMENTS);
    let tomorrow = moment(DAY_S)?;
    let before = ["--before", &tomorrow];
    // All of it is younger than `audit.prune_after_days`.
    let (code, nothing) = stage.prune(&before)?;
    assert_eq!((code, &nothing["segments"]), (Some(0), &0.into()));

    stage.restart(8)?;
    // And younger than what is asked for.
    let (_, nothing) = stage.prune(&["--keep-days", "1"])?;
    assert_eq!(nothing["segments"], 0);
    let dry = [&before[..], &["--dry-run"]].concat();
    let would = wait::until("segments that may go", DUE, || {
        let (_, would) = stage.prune(&dry)?;
        Ok((would["segments"].as_u64() >= Some(3)).then_some(would))
    })?;
    let packs = stage.files("pack")?;
    ensure!(stage.entries("prune")?.is_empty(), "it was to be said only");

    let hold = ["audit", "hold", "set", "case", "--all", "--reason", "r", "--approver", "a"];
    pgward(&stage.scene.agent, &hold)?.ok()?;
    let (code, held) = stage.prune(&before)?;
    assert_eq!(
        (code, &held["segments"], &held["held_by"][0]),
        (Some(1), &0.into(), &"case".into())
    );
    assert_eq!(stage.files("pack")?, packs);
    let lift = ["audit", "hold", "lift", "case", "--reason", "r", "--approver", "a"];
    pgward(&stage.scene.agent, &lift)?.ok()?;
    assert_eq!(count(&stage.verified()?, "pruned"), 0);

    let (code, pruned) = stage.prune(&before)?;
    ensure!(code == Some(0), "{pruned}");
    ensure!(pruned["segments"].as_u64() >= would["segments"].as_u64(), "{pruned} {would}");
    let left = stage.files("pack")?;
    ensure!(left.len() < packs.len() && !left.contains(&packs[0]), "{left:?}");
    let records = stage.entries("prune")?;
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["reason"], &records[0]["from_index"]), (&"asked".into(), &0.into()));
    assert_eq!(records[0]["to_index"], pruned["minimum_index"]);
    assert_eq!(stage.speak(3)?, 3);
    ensure!(count(&stage.verified()?, "pruned") > 0, "it is told");
    stage.scene.agent.finish()
}

#[test]
fn the_quota_prunes_by_itself_what_is_old_enough_and_nothing_else() -> Result {
    gate!(with "cc");
    let quota = 1_u64 << 20;
    let mut stage = Stage::new(|builder| builder.set("audit", "quota_bytes", &quota.to_string()))?;
    let told = stage.speak_until_refused()?;
    ensure!(told.contains("53100"), "{told}");
    let first = stage.files("pack")?;
    ensure!(first.len() >= 3, "{first:?}");

    // What is not old enough stays, also where that keeps everybody out. The agent starts nevertheless.
    stage.restart(0)?;
    let refused =
        Client::start(Visitor::connect(stage.server.address(), Some(&stage.scene.cgroup))?);
    let refused = format!("{:#}", refused.err().context("a session without room")?);
    ensure!(refused.contains("53100"), "{refused}");
    let tomorrow = moment(DAY_S)?;
    let (code, nothing) = stage.prune(&["--before", &tomorrow])?;
    assert_eq!((code, &nothing["segments"]), (Some(0), &0.into()));
    let warned = "the quota is nearly used up, and nothing may be pruned";
    wait::until_true("a look at the quota", DUE, || {
        Ok(stage.scene.agent.stderr().contains(warned))
    })?;
    ensure!(stage.entries("prune")?.is_empty(), "what is young went");
    ensure!(first.iter().all(|file| file.exists()), "a segment went");
    let starts = stage.entries("agent_start")?;
    assert_eq!(starts.len(), 2);

    // Later it may go: as much as it takes, oldest first.
    stage.restart(8)?;
    let records = wait::until("segments to go", DUE, || {
        let records = stage.entries("prune")?;
        Ok((!records.is_empty()).then_some(records))
    })?;
    assert_eq!(
        (&records[0]["reason"], &records[0]["from_index"]),
        (&"quota".into(), &0.into()),
        "{}",
        records[0]
    );
    let speaks = wait::until_true("sessions again", DUE, || Ok(stage.speak(1).is_ok()));
    speaks.with_context(|| stage.scene.agent.story())?;
    ensure!(!first[0].exists(), "the oldest is there");
    let end = stage.entries("prune")?.last().map(|record| record["to_index"].clone());
    let left = stage.scene.agent.entries()?;
    let begins = left.first().map(|entry| entry.index.into());
    assert_eq!(begins, end, "what is left begins where the record says");
    let last = first.last().context("a segment")?;
    ensure!(last.exists(), "more went than the quota asked for");
    ensure!(count(&stage.verified()?, "pruned") > 0, "it is told");
    stage.scene.agent.finish()
}

#[test]
fn values_that_were_kept_long_enough_go_and_the_entries_stay() -> Result {
    gate!(with "cc");
    let mut stage = Stage::new(|builder| builder.set("audit", "values_keep_days", "1"))?;
    assert_eq!(stage.speak(STATEMENTS)?, STATEMENTS);
    let entries = stage.scene.agent.entries()?;
    let first = entries.iter().find(|entry| entry.is("intent")).context("an intent")?;
    let index = first.index.to_string();
    let show = ["audit", "show", &index, "--disclose"];
    ensure!(pgward(&stage.scene.agent, &show)?.ok()?.contains("select 'long-"), "the value");

    let end = entries.last().context("entries")?.index;
    stage.restart(2)?;
    // The last one is packed, and goes, only after the start.
    let old = format!("segment-{end:020}.values");
    wait::until_true("all old values to go", DUE * 2, || {
        let left = stage.files("values")?;
        Ok(left.iter().all(|path| path.file_name().is_some_and(|name| *name > *old)))
    })?;
    let gone = wait::until("values to go", DUE, || {
        let records = stage.entries("redaction")?;
        Ok((records.len() >= 3).then_some(records))
    })?;
    for record in &gone {
        assert_eq!(record["scope"], "retention", "{record}");
        let target = record["target"].as_str().context("a target")?;
        ensure!(
            wait::until_true("a file to go", PATIENCE, || {
                Ok(!stage.scene.agent.audit_directory().join("epoch-1").join(target).exists())
            })
            .is_ok(),
            "`{target}` is there"
        );
    }
    let told = pgward(&stage.scene.agent, &show)?;
    ensure!(!told.out.contains("select 'long-"), "{told:?}");
    let after = stage.scene.agent.entries()?;
    ensure!(after.iter().any(|entry| entry.bytes == first.bytes), "the entry stays");
    ensure!(count(&stage.verified()?, "redacted") > 0, "it is told");
    stage.scene.agent.finish()
}
