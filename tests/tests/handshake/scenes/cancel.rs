//! Cancel requests: from other processes, with keys that are right, wrong, and the server's own affair.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Command;

use anyhow::{Context, ensure};
use pgward_tests::host;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::{Cluster, Version};
use pgward_tests::scene::Scene;
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire::{self, Session, message, outline, startup_version};
use serde_json::{Value, json};

use super::scripted::Scripted;
use super::{address, agent, destination, script, server};
use crate::{Result, gate, here};

const LAST: u8 = 11;
/// Guesses until all requests are refused, and for how long, in milliseconds.
const FAILURES_MAX: usize = 3;
const REFUSED_MS: u32 = 2000;
/// Protocol 3.2.
const PROTOCOL_3_2: u32 = 3 << 16 | 2;
/// A user who is not root.
const NOBODY: u32 = 65534;

/// A server that trusts everyone, and an agent that goes on guesses quickly.
struct Stage {
    scene: Scene,
    cluster: Cluster,
    pki: Pki,
}

impl Stage {
    fn new(version: Version) -> Result<Self> {
        let pki = Pki::new(&[])?;
        let hba = "host all all all trust\n";
        let cluster = server(&pki, hba).version(version).start()?;
        let text = format!("{}[destination.auth]\nrequire = \"any\"\n", destination(&pki, LAST));
        let builder = agent(&pki, cluster.port())
            .set("auth", "cancel_failures_max", &FAILURES_MAX.to_string())
            .set("auth", "refused_ms", &REFUSED_MS.to_string())
            .destination(&text);
        Ok(Self { scene: Scene::with("cancel", builder)?, cluster, pki })
    }

    /// A connection, through the agent or directly.
    fn visit(&self, last: u8) -> Result<Visitor> {
        let cgroup = (last == LAST).then_some(&self.scene.cgroup);
        Visitor::connect(address(last, self.cluster.port()), cgroup)
    }

    /// A session that sleeps.
    fn sleeper(&self, last: u8) -> Result<Session<Visitor>> {
        let mut visitor = self.visit(last)?;
        let parameters = [("user", "postgres"), ("database", "postgres")];
        visitor.write_all(&startup_version(PROTOCOL_3_2, &parameters))?;
        let mut session = Session::finish_start(visitor)?;
        self.sleep(&mut session)?;
        Ok(session)
    }

    fn sleep(&self, session: &mut Session<Visitor>) -> Result {
        session.stream.write_all(&wire::query("select pg_sleep(60)"))?;
        wait::until_true("the sleep", PATIENCE, || self.sleeps(session.backend))
    }

    fn sleeps(&self, backend: u32) -> Result<bool> {
        let sql = format!(
            "select count(*) from pg_stat_activity where pid = {backend} and wait_event = 'PgSleep'"
        );
        Ok(self.cluster.sql("postgres", &sql)?.trim() == "1")
    }

    /// Sends a request and waits for the close: what came before it.
    fn ask(&self, last: u8, pid: u32, key: &[u8]) -> Result<Vec<u8>> {
        let mut visitor = self.visit(last)?;
        visitor.write_all(&wire::cancel(pid, key))?;
        let mut answer = Vec::new();
        visitor.read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn cancels(&self) -> Result<Vec<Value>> {
        let records = self.scene.agent.records()?;
        Ok(records.into_iter().filter(|record| record["event"] == "cancel").collect())
    }

    /// The last of this many.
    fn cancel_number(&self, number: usize) -> Result<Value> {
        wait::until("a cancel record", PATIENCE, || {
            Ok(self.cancels()?.get(number.saturating_sub(1)).cloned())
        })
    }
}

fn interrupted(session: &mut Session<Visitor>) -> Result {
    let told = outline(&wire::read_until_ready(&mut session.stream)?);
    ensure!(told.contains("E(57014)"), "the statement ended with {told}");
    Ok(())
}

#[test]
fn any_process_cancels_with_the_key_of_the_connection() -> Result {
    gate!();
    for version in [Version::Debian, Version::Eighteen] {
        let stage = Stage::new(version)?;
        let library = Version::Debian.libpq()?;
        let roots = stage.pki.all_roots();
        let verified = format!("sslmode=verify-full sslrootcert={}", roots.display());
        // libpq 15 sends its requests in clear text always, libpq 18 as the session is.
        let newest = if version == Version::Eighteen { 30002 } else { 30000 };
        let cases = [
            (Some(&library), "sslmode=disable".to_owned(), 30000),
            (Some(&library), verified.clone(), 30000),
            (None, verified.clone(), 30000),
            (None, format!("{verified} max_protocol_version=latest"), newest),
            (None, "sslmode=disable max_protocol_version=latest".to_owned(), newest),
        ];
        for (number, (library, settings, protocol)) in (1..).zip(cases) {
            let conninfo = format!(
                "host={} hostaddr=127.0.0.{LAST} port={} user=postgres dbname=postgres \
                 gssencmode=disable connect_timeout=20 {settings}",
                pki::HOST,
                stage.cluster.port()
            );
            let told = json!({ "conninfo": conninfo, "library": library });
            let started = script(here!(), "cancel.py", &told, Some(&stage.scene.cgroup))?;
            let Some(mut process) = started else { return Ok(()) };
            let mut output = BufReader::new(process.stdout.take().context("piped")?);
            let mut line = String::new();
            output.read_line(&mut line)?;
            if line.is_empty() {
                let output = process.wait_with_output()?;
                anyhow::bail!("{settings}: {}", String::from_utf8_lossy(&output.stderr));
            }
            let begun: Value = serde_json::from_str(&line)?;
            assert_eq!(begun["protocol"], protocol, "{settings}");
            let backend = u32::try_from(begun["pid"].as_u64().context("pid")?)?;
            wait::until_true("the sleep", PATIENCE, || stage.sleeps(backend))?;
            process.stdin.take().context("piped")?.write_all(b"now\n")?;
            line.clear();
            output.read_line(&mut line)?;
            let result = process.wait_with_output()?;
            let error = String::from_utf8_lossy(&result.stderr);
            ensure!(result.status.success(), "{settings}: {error}{}", stage.scene.agent.story());
            let ended: Value = serde_json::from_str(&line)?;
            assert_eq!(ended["state"], "57014", "{settings}");

            let record = stage.cancel_number(number)?;
            assert_eq!(record["cancel_outcome"], "forwarded", "{record}");
            assert_eq!(record["target_pid"], backend, "{record}");
            assert_eq!(record["actor"]["pid"], ended["child"], "{record}");
            let start = stage.scene.agent.wait_for(
                |r| r["event"] == "session_start" && r["backend_pid"] == backend,
                PATIENCE,
            )?;
            assert_eq!(record["target_session"], start["session"], "{record}");
        }
        stage.scene.agent.finish()?;
    }
    Ok(())
}

#[test]
fn a_client_never_has_the_servers_key() -> Result {
    gate!();
    for (version, key_bytes) in [(Version::Debian, 4), (Version::Eighteen, 32)] {
        let stage = Stage::new(version)?;
        // The script is right: without the agent such a key cancels.
        let mut direct = stage.sleeper(1)?;
        assert_eq!(direct.secret.len(), key_bytes);
        assert_eq!(stage.ask(1, direct.backend, &direct.secret)?, b"");
        interrupted(&mut direct)?;

        let mut session = stage.sleeper(LAST)?;
        assert_eq!(session.secret.len(), key_bytes, "as long as the server's");
        assert_eq!(stage.ask(1, session.backend, &session.secret)?, b"");
        let complaint = format!("wrong key in cancel request for process {}", session.backend);
        wait::until_true("the server's complaint", PATIENCE, || {
            Ok(stage.cluster.log().contains(&complaint))
        })?;
        assert!(stage.sleeps(session.backend)?, "the server took the client's key");
        assert_eq!(stage.ask(LAST, session.backend, &session.secret)?, b"");
        interrupted(&mut session)?;
        stage.scene.agent.secrets().add("a client's key", &session.secret);
        // The agent gives who is still there time for its last words.
        drop(session);
        stage.scene.agent.finish()?;
    }
    Ok(())
}

#[test]
fn guesses_are_dropped_recorded_and_bounded() -> Result {
    gate!();
    let stage = Stage::new(Version::Eighteen)?;
    let mut session = stage.sleeper(LAST)?;
    let (backend, key) = (session.backend, session.secret.clone());
    let mut flipped = key.clone();
    *flipped.last_mut().context("a key")? ^= 1;
    let guesses = [(backend, &flipped[..]), (backend, &key[..4]), (backend + 1, &key[..])];
    assert_eq!(guesses.len(), FAILURES_MAX);
    for (number, (pid, key)) in (1..).zip(guesses) {
        assert_eq!(stage.ask(LAST, pid, key)?, b"", "not a byte for guess {number}");
        let record = stage.cancel_number(number)?;
        assert_eq!(record["cancel_outcome"], "refused", "{record}");
        assert_eq!(record["target_pid"], pid, "{record}");
        assert!(record["target_session"].is_null(), "{record}");
    }
    // Now the right one is refused as well, to this user.
    assert_eq!(stage.ask(LAST, backend, &key)?, b"");
    let record = stage.cancel_number(FAILURES_MAX + 1)?;
    assert_eq!(record["cancel_outcome"], "refused", "{record}");
    assert!(stage.sleeps(backend)?, "nothing was cancelled");
    // Not to another.
    let request: String =
        wire::cancel(backend, &key).iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let port = stage.cluster.port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.{LAST}/{port}; printf '{request}' >&3; cat <&3");
    let mut other = Command::new("setpriv");
    other.arg(format!("--reuid={NOBODY}")).args(["--clear-groups", "bash", "-c", &script]);
    stage.scene.cgroup.enter(&mut other)?;
    assert_eq!(host::run(&mut other)?, "");
    interrupted(&mut session)?;
    let record = stage.cancel_number(FAILURES_MAX + 2)?;
    assert_eq!(
        (&record["cancel_outcome"], &record["actor"]["uid"]),
        (&json!("forwarded"), &json!(NOBODY))
    );
    // After a while it is let in again, however often it asked meanwhile.
    stage.sleep(&mut session)?;
    wait::until_true("a right key to be taken again", PATIENCE, || {
        assert_eq!(stage.ask(LAST, backend, &key)?, b"");
        Ok(!stage.sleeps(backend)?)
    })?;
    interrupted(&mut session)?;
    drop(session);
    stage.scene.agent.finish()
}

#[test]
fn a_server_without_a_key_gives_its_client_none() -> Result {
    gate!();
    let answer = [
        message(b'R', &0_u32.to_be_bytes()),
        message(b'S', b"server_version\x0015.0 (scripted)\0"),
        message(b'Z', b"I"),
    ];
    let server = Scripted::start(answer.concat())?;
    let scene = Scene::new("keyless", server.address.port())?;
    for cgroup in [None, Some(&scene.cgroup)] {
        let mut visitor = Visitor::connect(server.address, cgroup)?;
        visitor.write_all(&wire::startup(&[("user", "postgres")]))?;
        assert_eq!(outline(&wire::read_until_ready(&mut visitor)?), "RSZI");
    }
    assert_eq!(server.accepted(), 2);
    scene.agent.finish()
}
