//! Row 46: stops, pauses, crashes and upgrades leave their entries. Rows 47 and 48: planted links, and a second agent.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::scene::{Scene, mark};
use pgward_tests::script::ScriptedServer;
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_verify::{Options, verify_dir};

use crate::{Client, Result, count, gate, options, pgward, untampered};

const SEAL_EVERY: Duration = Duration::from_secs(2);

struct Stage {
    server: ScriptedServer,
    scene: Scene,
}

impl Stage {
    fn new(more: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let server = ScriptedServer::start(([127, 0, 0, 1], 0))?;
        let builder = Agent::builder().intercept(server.address().port()).set(
            "audit",
            "seal_every_ms",
            &SEAL_EVERY.as_millis().to_string(),
        );
        Ok(Self { scene: Scene::with("runs", more(builder))?, server })
    }

    fn speak(&self) -> Result {
        let mut client =
            Client::start(Visitor::connect(self.server.address(), Some(&self.scene.cgroup))?)?;
        let word = mark("runs");
        ensure!(client.value(&word)? == word, "another answer");
        Ok(())
    }

    fn stop(&mut self) -> Result {
        ensure!(self.scene.agent.stop()?.success(), "{}", self.scene.agent.story());
        Ok(())
    }

    fn entries(&self, kind: &str) -> Result<Vec<serde_json::Value>> {
        let entries = self.scene.agent.entries()?.into_iter().filter(|entry| entry.is(kind));
        Ok(entries.map(|entry| entry.fields).collect())
    }

    fn seals(&self, kind: &str) -> Result<usize> {
        Ok(self.entries("seal")?.iter().filter(|seal| seal["seal_kind"] == kind).count())
    }

    fn options(&self) -> Result<Options> {
        let options = options(self.scene.agent.audit_directory())?;
        Ok(Options { seal_every_seconds: SEAL_EVERY.as_secs(), ..options })
    }
}

#[test]
fn an_upgrade_keeps_the_chain_of_seals_and_a_crash_says_that_it_was_one() -> Result {
    gate!();
    let mut stage = Stage::new(Builder::manager)?;
    stage.speak()?;
    stage.stop()?;
    assert_eq!(stage.entries("agent_stop")?.len(), 1);
    stage.scene.agent.start_process(None)?;
    stage.speak()?;
    stage.stop()?;
    assert_eq!((stage.seals("handover")?, stage.seals("restart")?), (2, 0));
    let report = untampered(&stage.options()?)?;
    assert_eq!((count(&report, "seal-restart"), count(&report, "recovered")), (0, 0));

    stage.scene.agent.start_process(None)?;
    stage.speak()?;
    stage.scene.agent.kill()?;
    stage.scene.agent.start_process(None)?;
    stage.speak()?;
    stage.stop()?;
    let recovered = stage.entries("recovery")?;
    assert_eq!((recovered.len(), &recovered[0]["reason"]), (1, &"crash".into()));
    assert_eq!(stage.seals("restart")?, 1, "the key of the next seal went with the crash");
    // Every start and every stop, and with each start which configuration was read.
    for (kind, expected) in [("agent_start", 4), ("config_load", 4), ("agent_stop", 3)] {
        assert_eq!(stage.entries(kind)?.len(), expected, "{kind}");
    }
    let report = untampered(&stage.options()?)?;
    ensure!(count(&report, "recovery-unwitnessed") > 0, "{:?}", report.classes);
    stage.scene.agent.finish()
}

#[test]
fn without_a_manager_a_stop_ends_the_chain_and_the_next_run_says_so() -> Result {
    gate!();
    let mut stage = Stage::new(|builder| builder)?;
    stage.speak()?;
    stage.stop()?;
    assert_eq!((stage.seals("final")?, stage.seals("handover")?), (1, 0));
    stage.scene.agent.start_process(None)?;
    stage.speak()?;
    stage.stop()?;
    assert_eq!((stage.seals("final")?, stage.seals("restart")?), (2, 1));
    untampered(&stage.options()?)?;
    stage.scene.agent.finish()
}

#[test]
fn every_signal_that_ends_the_agent_ends_it_in_good_order() -> Result {
    gate!();
    let mut stage = Stage::new(|builder| builder)?;
    for (number, signal) in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].iter().enumerate() {
        stage.speak()?;
        let status = stage.scene.agent.end(*signal)?;
        ensure!(status.success(), "{signal}: {status}\n{}", stage.scene.agent.story());
        let stops = stage.entries("agent_stop")?;
        assert_eq!(stops.len(), number + 1, "{signal}");
        assert_eq!(stops[number]["reason"], signal.as_str());
        assert_eq!(stage.seals("final")?, number + 1, "{signal}");
        stage.scene.agent.start_process(None)?;
    }
    stage.stop()?;
    untampered(&stage.options()?)?;
    stage.scene.agent.finish()
}

#[test]
fn a_pause_shows_as_silence() -> Result {
    gate!();
    let stage = Stage::new(|builder| builder)?;
    stage.speak()?;
    let silences = || -> Result<u64> { Ok(count(&untampered(&stage.options()?)?, "silence")) };
    let before = silences()?;
    let seals = stage.entries("seal")?.len();
    let pid = Pid::from_raw(i32::try_from(stage.scene.agent.pid()?)?);
    kill(pid, Signal::SIGSTOP)?;
    let paused = Instant::now();
    let enough = || Ok(paused.elapsed() > SEAL_EVERY * 4);
    let waited = wait::until_true("four intervals", PATIENCE, enough);
    let during = silences();
    kill(pid, Signal::SIGCONT)?;
    waited?;
    ensure!(during? > before, "no finding while it is silent");
    wait::until_true("another seal", PATIENCE, || Ok(stage.entries("seal")?.len() > seals))?;
    ensure!(silences()? > before, "no finding of the gap that was left");
    stage.scene.agent.finish()
}

#[test]
fn seals_come_each_interval_and_their_lag_is_shown() -> Result {
    gate!();
    let stage = Stage::new(|builder| builder)?;
    let begun = Instant::now();
    wait::until_true("three more seals", PATIENCE, || Ok(stage.entries("seal")?.len() >= 4))?;
    ensure!(begun.elapsed() > SEAL_EVERY, "seals without an interval");
    let told = pgward(&stage.scene.agent, &["status"])?;
    let line = told.out.lines().find(|line| line.contains("seal lag")).context("a seal lag")?;
    let lag: f64 = line.split_whitespace().rev().nth(1).context("a number")?.parse()?;
    ensure!(lag < PATIENCE.as_secs_f64(), "{line}");
    stage.scene.agent.finish()
}

#[test]
fn a_second_agent_and_planted_links_are_refused() -> Result {
    gate!();
    let mut stage = Stage::new(|builder| builder)?;
    stage.speak()?;
    let trail = stage.scene.agent.audit_directory().to_owned();
    let second = Agent::builder().intercept(stage.server.address().port()).trail(trail.clone());
    let refused = Scene::with("second", second).err().context("two agents write")?;
    let said = format!("{refused:#}");
    ensure!(said.contains("is in use by another process"), "{said}");
    // The first one goes on.
    stage.speak()?;
    stage.stop()?;

    let elsewhere = tempfile::tempdir()?;
    let outside = elsewhere.path().join("outside");
    for name in ["identity.toml", "keys/host.key", "lock"] {
        let path = trail.join(name);
        fs::rename(&path, &outside)?;
        std::os::unix::fs::symlink(&outside, &path)?;
        ensure!(stage.scene.agent.start_process(None).is_err(), "through a link: {name}");
        fs::remove_file(&path)?;
        fs::hard_link(&outside, &path)?;
        ensure!(stage.scene.agent.start_process(None).is_err(), "a second name: {name}");
        fs::remove_file(&path)?;
        fs::rename(&outside, &path)?;
    }
    untampered(&stage.options()?)?;
    let planted = trail.join("epoch-1/planted");
    std::os::unix::fs::symlink("/etc/hostname", &planted)?;
    let report = verify_dir(&stage.options()?)?;
    assert_eq!((report.verdict.exit_code(), count(&report, "extra-file")), (1, 1));
    fs::remove_file(&planted)?;
    stage.scene.agent.start_process(None)?;
    stage.speak()?;
    stage.scene.agent.finish()
}
