//! Many clients that say nothing, and some that say it slowly.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::pki;
use pgward_tests::postgres::Version;
use pgward_tests::scene;
use pgward_tests::tls;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire::{SSL_REQUEST, startup, untyped};
use serde_json::Value;

use super::peer::ended;
use super::{Stage, Target, sasl};
use crate::{Result, agents, gate};

/// Connections that say nothing.
const SILENT: usize = 10_000;

/// Processes that hold them: one alone would meet its own limit of open files.
const HOLDERS: usize = 4;

/// The agent may grow by this much for one of them, bytes.
const SILENT_BYTES_MAX: usize = 8 * 1024;

/// Limit for a startup in these tests, milliseconds.
const LIMIT_MS: u64 = 1000;

/// Pause between two bytes of a slow client: far below [`LIMIT_MS`], so that it is never idle for that long.
const PACE: Duration = Duration::from_millis(100);

#[test]
fn a_login_works_while_ten_thousand_say_nothing() -> Result {
    gate!();
    let stage = Stage::new(Version::Eighteen)?;
    let servers = std::slice::from_ref(&stage.servers);
    let builder = Agent::builder().set("agent", "sessions_max", "20000");
    let scene = agents::start_with("silent", builder, servers, &stage.pki, &stage.passwords)?;
    let target = stage.behind(&scene);
    sasl::login(&target)?;
    let before = resident_bytes(scene.agent.pid()?)?;
    let folder = tempfile::tempdir()?;
    let until = folder.path().join("end");
    let (count, until_text) = (SILENT / HOLDERS, until.display().to_string());
    let mut holders = Vec::new();
    for _ in 0..HOLDERS {
        let (count, until) = (format!("count={count}"), format!("until={until_text}"));
        let mut command = scene::client(&["hold", &target.address.to_string(), &count, &until])?;
        command.stdout(Stdio::piped());
        holders.push(scene.cgroup.spawn_in(command)?);
    }
    let all = wait::until_true("all of them to be connected", 6 * PATIENCE, || {
        Ok(std::fs::read_dir(folder.path())?.count() == HOLDERS)
    });
    let tried = all.and_then(|()| {
        let started = Instant::now();
        let answer = sasl::login(&target)?.value("select 6 * 7")?;
        let grown = resident_bytes(scene.agent.pid()?)?.saturating_sub(before);
        eprintln!("login in {} ms, {} bytes each", started.elapsed().as_millis(), grown / SILENT);
        Ok((answer, grown))
    });
    File::create(&until)?;
    let mut silent = 0;
    for holder in holders {
        let output = holder.wait_with_output()?;
        let told: Value = serde_json::from_slice(&output.stdout).context("a holder's report")?;
        silent += told["silent"].as_u64().context("silent")?;
    }
    let (answer, grown) = tried?;
    assert_eq!(answer, "42");
    assert_eq!(silent, SILENT as u64, "all were open, and heard nothing");
    ensure!(grown / SILENT <= SILENT_BYTES_MAX, "{} bytes for each", grown / SILENT);
    scene.agent.finish()
}

/// What a slow client is doing.
#[derive(Clone, Copy, Debug)]
enum Slow {
    /// It sends its startup message, byte by byte.
    Startup,
    /// It sends a TLS hello, byte by byte.
    Hello,
    /// It asked for TLS and says no more.
    Handshake,
    /// It is in a TLS session and says no more.
    InsideTls,
    /// It was asked to prove who it is and says no more.
    Proof,
}

#[test]
fn slow_clients_meet_the_limit_through_the_agent() -> Result {
    gate!();
    let stage = Stage::new(Version::Eighteen)?;
    let servers = std::slice::from_ref(&stage.servers);
    let builder = Agent::builder().set("agent", "startup_timeout_ms", &LIMIT_MS.to_string());
    let scene = agents::start_with("slow", builder, servers, &stage.pki, &stage.passwords)?;
    let target = stage.behind(&scene);
    for slow in [Slow::Startup, Slow::Hello, Slow::Handshake, Slow::InsideTls, Slow::Proof] {
        let lasted = lasted(&target, slow).with_context(|| format!("{slow:?}"))?;
        eprintln!("{slow:?}: {} ms", lasted.as_millis());
        // The clock of the agent began a moment before ours.
        let (least, most) = (LIMIT_MS * 9 / 10, LIMIT_MS * 5);
        let range = Duration::from_millis(least)..Duration::from_millis(most);
        ensure!(range.contains(&lasted), "{slow:?}: ended after {lasted:?}");
    }
    // The limit is for the startup alone.
    let mut session = sasl::login(&target)?;
    let slept =
        session.value(&format!("select 'slept' from pg_sleep({})", 2.0 * LIMIT_MS as f64 / 1e3))?;
    assert_eq!(slept, "slept");
    scene.agent.finish()
}

/// How long the peer lets it go on.
fn lasted(target: &Target<'_>, slow: Slow) -> Result<Duration> {
    let started = Instant::now();
    let mut visitor = target.visit()?;
    let hello =
        startup(&[("user", "scram_user"), ("database", "tls_on"), ("application_name", FILLER)]);
    let request = untyped(&SSL_REQUEST.to_be_bytes());
    match slow {
        Slow::Startup => drip(&mut visitor, &hello)?,
        Slow::Hello => {
            // One record that announces more than will ever come.
            let mut bytes = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
            bytes.extend([0; 200]);
            drip(&mut visitor, &bytes)?;
        }
        Slow::Handshake => {
            visitor.write_all(&request)?;
            await_end(&mut visitor)?;
        }
        Slow::InsideTls => {
            visitor.write_all(&request)?;
            visitor.read_exact(&mut [0])?;
            let config = tls::client(&target.roots, &[tls::ALPN])?;
            await_end(&mut tls::connect(&config, pki::HOST, visitor)?)?;
        }
        Slow::Proof => {
            visitor.write_all(&hello)?;
            await_end(&mut visitor)?;
        }
    }
    Ok(started.elapsed())
}

/// Makes a startup message long enough for many bytes to come one by one.
const FILLER: &str =
    "slow slow slow slow slow slow slow slow slow slow slow slow slow slow slow slow slow";

/// Sends byte by byte until the peer ends it.
///
/// Errors: when all bytes went out.
fn drip(visitor: &mut pgward_tests::visitor::Visitor, bytes: &[u8]) -> Result {
    visitor.stream.set_read_timeout(Some(PACE))?;
    for byte in bytes {
        match visitor.stream.write_all(std::slice::from_ref(byte)) {
            Err(error) if ended(error.kind()) => return Ok(()),
            other => other?,
        }
        // The pause is a look for the end.
        match visitor.stream.read(&mut [0; 512]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if ended(error.kind()) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("all {} bytes went out", bytes.len())
}

fn await_end(stream: &mut impl Read) -> Result {
    let mut buffer = [0; 512];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if ended(error.kind()) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn resident_bytes(pid: u32) -> Result<usize> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kilobytes: usize = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
