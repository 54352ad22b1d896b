//! A disk that is full, or broken: no record, no query, and the client hears why.

use std::io::{Read, Write};

use anyhow::{Context, bail};
use pgward_tests::agent::Agent;
use pgward_tests::disk::Disk;
use pgward_tests::host;
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{Scene, mark};
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire;

use crate::{Client, Result, gate};

const DISK_BYTES: u64 = 32 << 20;
/// More statements of [`LONG`] bytes than the disk has room for.
const STATEMENTS_MAX: usize = 8_000;
const LONG: usize = 12_000;

/// A server, an agent whose trail is on `disk`, and a client in a transaction that has written a row.
struct Stage {
    cluster: Cluster,
    scene: Scene,
}

impl Stage {
    fn new(disk: &Disk) -> Result<Self> {
        let cluster = Cluster::start()?;
        cluster.sql("postgres", "create table t (a text)")?;
        let builder = Agent::builder().intercept(cluster.port()).trail(disk.path().join("audit"));
        let builder = builder.set("audit", "segment_bytes", "1048576").set(
            "audit",
            "reserve_bytes",
            "262144",
        );
        Ok(Self { cluster, scene: Scene::with("disk", builder)? })
    }

    fn client(&self) -> Result<Client> {
        let address = ([127, 0, 0, 1], self.cluster.port()).into();
        Client::start(Visitor::connect(address, Some(&self.scene.cgroup))?)
    }

    fn writing(&self) -> Result<Client> {
        let mut client = self.client()?;
        client.simple("begin; insert into t values ('not to stay')")?;
        Ok(client)
    }

    fn rows(&self) -> Result<String> {
        Ok(self.cluster.sql("postgres", "select count(*) from t")?.trim().to_owned())
    }

    /// Sends statements until one is refused, fatally and with this SQLSTATE: what was open is
    /// undone, and nobody else comes in either. Gives the statements that were answered before.
    fn refuses(&self, client: &mut Client, sqlstate: &str) -> Result<Vec<String>> {
        let refused = until_refused(client)?;
        assert_eq!(refused.told, (sqlstate.to_owned(), "FATAL".to_owned()));
        wait::until_true("the transaction to be undone", PATIENCE, || {
            let open = "select count(*) from pg_stat_activity where state like '%in transaction%'";
            Ok(self.cluster.sql("postgres", open)?.trim() == "0")
        })?;
        assert_eq!(self.rows()?, "0");
        assert!(self.client().is_err(), "a session without a record");
        Ok(refused.answered)
    }
}

/// How a session ended that could not be recorded any more.
struct Refused {
    /// SQLSTATE and severity of the error.
    told: (String, String),
    /// Statements that were answered before.
    answered: Vec<String>,
}

/// Sends statements until one is refused, after which the connection must be closed.
fn until_refused(client: &mut Client) -> Result<Refused> {
    let mut answered = Vec::new();
    for _ in 0..STATEMENTS_MAX {
        // Random, so that a packed segment does not become small.
        let mut text = "select 1 -- ".to_owned();
        while text.len() < LONG {
            text.push_str(&format!("{:016x}", host::random()));
        }
        client.stream.write_all(&wire::query(&text))?;
        loop {
            let frame = wire::read_frame(&mut client.stream)?.context("closed without a word")?;
            match frame.tag {
                b'E' => {
                    let mut rest = Vec::new();
                    client.stream.read_to_end(&mut rest).context("the connection stays open")?;
                    assert!(rest.is_empty(), "behind a fatal error: {rest:?}");
                    let field = |name| wire::error_field(&frame.body, name);
                    return Ok(Refused { told: (field(b'C'), field(b'S')), answered });
                }
                b'Z' => break,
                _ => {}
            }
        }
        answered.push(text);
    }
    bail!("{STATEMENTS_MAX} statements went");
}

#[test]
fn a_full_disk_ends_sessions_and_undoes_what_was_open() -> Result {
    gate!(with "mkfs.ext4");
    let disk = Disk::new(DISK_BYTES)?;
    let stage = Stage::new(&disk)?;
    let mut client = stage.writing()?;
    disk.fill()?;
    stage.refuses(&mut client, "53100")?;
    // The end of the session is on record all the same: it may use the reserve.
    stage
        .scene
        .agent
        .wait_for(|r| r["event"] == "session_end" && r["reason"] == "recording_failed", PATIENCE)?;

    disk.empty()?;
    let word = mark("again");
    wait::until_true("recording to work again", PATIENCE * 2, || {
        let answer =
            stage.client().and_then(|mut client| client.value(&format!("select '{word}'")));
        Ok(answer.is_ok_and(|answer| answer == word))
    })?;
    stage.scene.statement(&word)?;
    for action in ["begin", "end"] {
        stage
            .scene
            .agent
            .wait_for(|r| r["event"] == "failure" && r["action"] == action, PATIENCE)?;
    }
    stage.scene.agent.finish()
}

#[test]
fn a_broken_disk_ends_sessions_with_an_error_of_their_own() -> Result {
    gate!(with "mkfs.ext4");
    let disk = Disk::new(DISK_BYTES)?;
    let stage = Stage::new(&disk)?;
    let mut client = stage.writing()?;
    let before = format!("select '{}'", mark("before"));
    client.simple(&before)?;
    disk.shut_down()?;
    let answered = stage.refuses(&mut client, "58030")?;
    // As after a power cut: whatever was answered is on the disk.
    let mut scene = stage.scene;
    scene.agent.kill()?;
    disk.mend()?;
    let entries = scene.agent.entries()?;
    for text in answered.iter().chain([&before]) {
        let found =
            entries.iter().any(|entry| entry.is("intent") && entry.fields["text"] == **text);
        assert!(found, "answered, and not recorded: {text}");
    }
    scene.agent.start_process(None)?;
    let recovered = scene.agent.wait_for(|r| r["event"] == "recovery", PATIENCE)?;
    assert!(recovered["reason"].is_string(), "{recovered}");
    scene.agent.finish()
}
