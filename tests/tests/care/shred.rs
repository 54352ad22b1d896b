//! Row 33: values are sealed, can be shown, and are shredded: by session, person and day. Holds forbid it.

use std::io::Write;

use anyhow::{Context, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{Scene, mark};
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::PATIENCE;
use pgward_tests::wire;

use crate::{Client, Result, count, gate, options, pgward, untampered, with_value};

const WHY: [&str; 4] = ["--reason", "asked to be forgotten", "--approver", "counsel"];

struct Stage {
    cluster: Cluster,
    scene: Scene,
}

/// Values of one session, and where they are.
struct Said {
    session: String,
    /// Index of the intent with the parameters.
    index: String,
    person: String,
    value: String,
    literal: String,
}

impl Said {
    fn all(&self) -> [&str; 3] {
        [&self.person, &self.value, &self.literal]
    }
}

impl Stage {
    fn new() -> Result<Self> {
        let cluster = Cluster::start()?;
        let builder = Agent::builder()
            .intercept(cluster.port())
            .set("audit", "values", "\"sealed\"")
            .set("audit", "seal_every_ms", "1000")
            .set("[audit.rule]", "database", "\"postgres\"")
            .set("[audit.rule]", "subject", "1");
        Ok(Self { scene: Scene::with("shred", builder)?, cluster })
    }

    /// A session that sends a person, a value and a literal.
    fn say(&self, label: &str) -> Result<Said> {
        let [person, value, literal] =
            ["person", "value", "literal"].map(|what| mark(&format!("{label}-{what}")));
        for text in [&person, &value, &literal] {
            self.scene.agent.secrets().add("a sealed value", text.as_bytes());
        }
        let address = ([127, 0, 0, 1], self.cluster.port()).into();
        let mut client = Client::start(Visitor::connect(address, Some(&self.scene.cgroup))?)?;
        let (backend, sql) = (client.backend, "select $1::text || $2::text as both_of_them");
        let bound = wire::bind("", "", &[Some(&person), Some(&value)]);
        let message = [wire::parse("", sql), bound, wire::execute("", 0), wire::sync()];
        client.stream.write_all(&message.concat())?;
        let frames = wire::read_until_ready(&mut client.stream)?;
        ensure!(wire::first_value(&frames) == Some(format!("{person}{value}")), "{frames:?}");
        ensure!(client.value(&format!("select '{literal}'"))? == literal, "another answer");
        drop(client);
        let ended = self.scene.agent.wait_for_all(PATIENCE, |records| {
            let start = records.iter().find(|r| {
                r["event"] == "session_start" && r["backend_pid"] == u64::from(backend)
            })?;
            records
                .iter()
                .find(|r| r["event"] == "session_end" && r["session"] == start["session"])
                .cloned()
        })?;
        let session = ended["session"].as_str().context("a session")?.to_owned();
        let entries = self.scene.agent.entries()?;
        let intent = entries
            .iter()
            .find(|e| {
                e.is("intent") && e.fields["session"] == session && !e.fields["params"].is_null()
            })
            .context("an intent with parameters")?;
        Ok(Said { session, index: intent.index.to_string(), person, value, literal })
    }

    /// What is disclosed of a session: its exit code and text.
    fn disclosed(&self, said: &Said) -> Result<(Option<i32>, String)> {
        let mut all = String::new();
        let mut worst = Some(0);
        for id in [&said.session, &said.index] {
            let told = pgward(&self.scene.agent, &["audit", "show", id, "--disclose"])?;
            worst = worst.max(told.code);
            all.push_str(&told.out);
            all.push_str(&told.err);
        }
        Ok((worst, all))
    }

    fn can_be_shown(&self, said: &Said) -> Result {
        let (code, text) = self.disclosed(said)?;
        ensure!(code == Some(0), "{text}");
        for value in said.all() {
            ensure!(text.contains(value), "`{value}` is not shown: {text}");
        }
        Ok(())
    }

    fn is_gone(&self, said: &Said, values: &[&str]) -> Result {
        let (code, text) = self.disclosed(said)?;
        ensure!(code == Some(1), "{code:?} {text}");
        for value in values {
            ensure!(!text.contains(value), "`{value}` is shown: {text}");
        }
        Ok(())
    }

    fn shred(&self, whose: [&str; 2]) -> Result<crate::Told> {
        let arguments = [&["audit", "shred"], &whose[..], &WHY[..]].concat();
        pgward(&self.scene.agent, &arguments)
    }

    /// What verification says: `redacted` or nothing of values, and never of tampering.
    fn redacted(&self) -> Result<u64> {
        let report = untampered(&options(self.scene.agent.audit_directory())?)?;
        Ok(count(&report, "redacted"))
    }
}

#[test]
fn sealed_values_can_be_shown_until_their_keys_are_shredded() -> Result {
    gate!();
    let stage = Stage::new()?;
    let trail = stage.scene.agent.audit_directory();
    let said = ["one", "two", "three"].map(|label| stage.say(label));
    let [one, two, three] = said;
    let (one, two, three) = (one?, two?, three?);
    for said in [&one, &two, &three] {
        stage.can_be_shown(said)?;
    }
    assert_eq!(stage.redacted()?, 0);

    stage.shred(["--session", &one.session])?.ok()?;
    stage.is_gone(&one, &one.all())?;
    stage.can_be_shown(&two)?;
    let after_session = stage.redacted()?;
    ensure!(after_session > 0, "the session is redacted");

    stage.shred(["--subject", &two.person])?.ok()?;
    // The person's statement is gone; another of the session, which names nobody, is not.
    stage.is_gone(&two, &[&two.person, &two.value])?;
    ensure!(stage.disclosed(&two)?.1.contains(&two.literal), "too much is gone");
    stage.can_be_shown(&three)?;
    let after_subject = stage.redacted()?;
    // Once more: there is nothing left to erase, which is a finding and no success.
    assert_eq!(stage.shred(["--subject", &two.person])?.code, Some(1));

    let entries = stage.scene.agent.entries()?;
    let time = entries[0].fields["time"].as_str().context("a time")?[..10].to_owned();
    stage.shred(["--day", &time])?.ok()?;
    for said in [&one, &two, &three] {
        stage.is_gone(said, &said.all())?;
    }
    ensure!(stage.redacted()? >= after_subject.max(after_session), "the day is redacted");

    // Recording goes on under a key of its own.
    let four = stage.say("four")?;
    stage.can_be_shown(&four)?;
    let redactions = stage.scene.agent.entries()?.into_iter().filter(|e| e.is("redaction"));
    let redactions: Vec<_> = redactions.map(|entry| entry.fields).collect();
    for scope in ["session", "subject", "day"] {
        let found = redactions
            .iter()
            .any(|r| r["scope"] == scope && r["approver"] == "counsel" && r["reason"] == WHY[1]);
        ensure!(found, "no record of `{scope}`: {redactions:?}");
    }
    for said in [&one, &two, &three, &four] {
        for value in said.all() {
            assert_eq!(with_value(trail, value)?, Vec::<std::path::PathBuf>::new(), "{value}");
        }
    }
    // The search itself finds what is in clear.
    ensure!(!with_value(trail, "both_of_them")?.is_empty(), "the text is in the trail");
    // Searches everything that the agent wrote, once more.
    stage.scene.agent.finish()
}

#[test]
fn a_hold_forbids_to_shred_and_to_prune_also_when_its_file_is_lost() -> Result {
    gate!();
    let mut stage = Stage::new()?;
    let said = stage.say("held")?;
    let set = [&["audit", "hold", "set", "case", "--all"], &WHY[..]].concat();
    pgward(&stage.scene.agent, &set)?.ok()?;
    for lost in [false, true] {
        for whose in [["--session", &said.session], ["--subject", &said.person]] {
            let told = stage.shred(whose)?;
            ensure!(told.code != Some(0) && told.err.contains("legal hold"), "{told:?}");
        }
        stage.can_be_shown(&said)?;
        if !lost {
            ensure!(stage.scene.agent.stop()?.success(), "{}", stage.scene.agent.story());
            std::fs::remove_file(stage.scene.agent.audit_directory().join("keep.json"))?;
            stage.scene.agent.start_process(None)?;
        }
    }
    stage.scene.agent.wait_for(|r| r["event"] == "hold" && r["action"] == "restored", PATIENCE)?;
    let listed = pgward(&stage.scene.agent, &["audit", "hold", "list"])?.ok()?;
    ensure!(listed.contains("case") && listed.contains("everything"), "{listed}");
    let lift = [&["audit", "hold", "lift", "case"], &WHY[..]].concat();
    pgward(&stage.scene.agent, &lift)?.ok()?;
    stage.shred(["--session", &said.session])?.ok()?;
    stage.is_gone(&said, &said.all())?;
    ensure!(stage.redacted()? > 0, "it is redacted");
    stage.scene.agent.finish()
}
