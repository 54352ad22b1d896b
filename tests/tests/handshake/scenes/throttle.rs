//! Who fails too often is slowed, refused, and let in again.

use std::io::{BufRead, BufReader, Write};
use std::process::ChildStdout;

use anyhow::Context;
use pgward_tests::host;
use pgward_tests::pki::Pki;
use pgward_tests::scene::{Scene, mark};
use pgward_tests::wait::{self, PATIENCE};
use serde_json::json;

use super::{agent, destination, psql, quoted, script, server};
use crate::{Result, gate, here};

const LAST: u8 = 11;
const FAILURES_MAX: usize = 4;
/// How long somebody is refused: long enough for all that has to happen meanwhile.
const REFUSED_MS: u32 = 6000;
/// What each failure costs from the second half of [`FAILURES_MAX`] on, seconds.
const STEP_S: f64 = 0.25;

#[test]
fn who_fails_too_often_is_slowed_then_refused_then_let_in() -> Result {
    gate!();
    let pki = Pki::new(&[])?;
    let (password, wrong) = (mark("password"), mark("wrong"));
    let cluster = server(&pki, "hostssl all all all scram-sha-256\n")
        .setting("log_connections", "on")
        .start()?;
    cluster.sql(
        "postgres",
        &format!(
            "create role victim login password '{password}';
             create role other login password '{password}'"
        ),
    )?;
    let sql =
        "select '\"' || rolname || '\" \"' || rolpassword || '\"' from pg_authid where rolcanlogin";
    let verifiers = pki.write_secret("verifiers", &cluster.sql("postgres", sql)?)?;
    let text = format!(
        "{}[destination.auth]\nmode = \"terminate\"\nverifiers = {}\n",
        destination(&pki, LAST),
        quoted(&verifiers)
    );
    let builder = agent(&pki, cluster.port())
        .set("auth", "failures_max", &FAILURES_MAX.to_string())
        .set("auth", "refused_ms", &REFUSED_MS.to_string())
        .destination(&text);
    let scene = Scene::with("throttle", builder)?;
    scene.agent.secrets().add("the right password", password.as_bytes());
    scene.agent.secrets().add("the wrong password", wrong.as_bytes());
    // Another process; what it hears.
    let elsewhere = |role: &str| -> Result<String> {
        let mut psql = psql(&cluster, LAST, role, &password, "select current_user");
        psql.env("PGSSLMODE", "disable");
        scene.cgroup.enter(&mut psql)?;
        let output = host::output(&mut psql)?;
        let (stdout, stderr) = (&output.stdout, &output.stderr);
        Ok(String::from_utf8_lossy(&[&stdout[..], stderr].concat()).trim().to_owned())
    };

    let told = json!({
        "address": format!("127.0.0.{LAST}"), "port": cluster.port(), "user": "victim",
        "other": "other", "password": password, "wrong": wrong, "failures": FAILURES_MAX,
    });
    let Some(process) = script(here!(), "throttle.py", &told, Some(&scene.cgroup))? else {
        return Ok(());
    };
    let mut guesser = Guesser::new(process)?;
    for failure in 1..=FAILURES_MAX {
        let (state, seconds) = guesser.heard()?;
        assert_eq!(state, "28P01", "failure {failure}");
        let beyond = failure.saturating_sub(FAILURES_MAX / 2);
        let least = STEP_S * f64::from(u32::try_from(beyond)?);
        assert!(seconds >= least, "failure {failure} took {seconds} s, not {least} s");
    }
    // From now on nobody gets to the server with that role, nor that process with any role.
    let before = cluster.log().matches("connection received").count();
    assert_eq!(guesser.says("user")?, "28000");
    assert_eq!(guesser.says("other")?, "28000");
    let told = elsewhere("victim")?;
    assert!(told.contains("FATAL:  too many failed logins"), "{told}");
    assert!(told.contains("pgward on this host refuses further attempts for "), "{told}");
    assert_eq!(cluster.log().matches("connection received").count(), before);
    // Others do not suffer.
    assert_eq!(elsewhere("other")?, "other");
    let throttled = scene.agent.wait_for_all(PATIENCE, |records| {
        let ends = records.iter().filter(|r| r["event"] == "session_end");
        let ends = ends.filter(|r| r["reason"] == "throttled");
        let ends: Vec<_> = ends.cloned().collect();
        (ends.len() >= 3).then_some(ends)
    })?;
    assert_eq!(throttled.len(), 3, "{throttled:?}");
    assert!(throttled.iter().all(|end| end["sqlstate"] == "28000"), "{throttled:?}");

    // Asking while refused does not make it last longer.
    wait::until_true("the role to be let in", PATIENCE, || Ok(elsewhere("victim")? == "victim"))?;
    wait::until_true("the process to be let in", PATIENCE, || Ok(guesser.says("other")? == "ok"))?;
    guesser.end()?;
    scene.agent.finish()
}

/// The process that tries.
struct Guesser {
    process: std::process::Child,
    output: BufReader<ChildStdout>,
}

impl Guesser {
    fn new(mut process: std::process::Child) -> Result<Self> {
        let output = BufReader::new(process.stdout.take().context("piped")?);
        Ok(Self { process, output })
    }

    /// Outcome of a login, and how many seconds it took.
    fn heard(&mut self) -> Result<(String, f64)> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("it said `{line}`"))
    }

    fn says(&mut self, what: &str) -> Result<String> {
        let mut input = self.process.stdin.as_ref().context("its input")?;
        input.write_all(format!("{what}\n").as_bytes())?;
        Ok(self.heard()?.0)
    }

    fn end(mut self) -> Result {
        drop(self.process.stdin.take());
        anyhow::ensure!(self.process.wait()?.success(), "it failed");
        Ok(())
    }
}

impl Drop for Guesser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
