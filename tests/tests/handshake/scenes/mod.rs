//! The handshake as applications and operators meet it, each scene with real clients from end to end.

mod cancel;
mod frames;
mod identity;
mod lookup;
mod multihost;
mod protocol;
mod records;
mod scripted;
mod throttle;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::cgroup::Cgroup;
use pgward_tests::gate;
use pgward_tests::pki::{self, Pki};
use pgward_tests::postgres::{Builder as ClusterBuilder, Cluster};
use pgward_tests::scene::Scene;
use pgward_tests::scram::Exchange;
use pgward_tests::visitor::Visitor;
use pgward_tests::wire::{self, Frame, Session, message, startup};
use serde_json::Value;

use crate::Result;

/// Where servers of scenes listen: 127.0.0.1, and some for the agent's destinations.
const LISTEN: &str = "127.0.0.1,127.0.0.11,127.0.0.12,127.0.0.13,127.0.0.14,127.0.0.15";

/// A session by hand, or the server's refusal.
type Entered = std::result::Result<Session<Visitor>, Frame>;

/// An agent with an authority for its certificates, that intercepts this port.
fn agent(pki: &Pki, port: u16) -> Builder {
    let authority = pki.agent_authority();
    Agent::builder()
        .intercept(port)
        .set("tls", "ca_certificate", &quoted(&authority.certificate))
        .set("tls", "ca_key", &quoted(&authority.key))
}

/// A server with the good certificate and these lines of `pg_hba.conf`.
fn server(pki: &Pki, hba: &str) -> ClusterBuilder {
    let good = pki.server(pki::Server::Good);
    Cluster::builder().listen(LISTEN).tls(&good, &pki.roots()).hba(hba)
}

/// The beginning of a destination at 127.0.0.`last`, with a server that is verified in full.
fn destination(pki: &Pki, last: u8) -> String {
    let roots = quoted(&pki.roots());
    format!(
        "name = \"at-{last}\"\nnetworks = [\"127.0.0.{last}\"]\n[destination.server]\n\
         tls = \"verify-full\"\nname = \"{}\"\nroots = {roots}\n",
        pki::HOST
    )
}

fn address(last: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, last), port).into()
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// psql that asks one question at 127.0.0.`last`.
fn psql(cluster: &Cluster, last: u8, role: &str, password: &str, sql: &str) -> Command {
    let mut psql = cluster.client("psql", &format!("127.0.0.{last}"));
    psql.env("PGUSER", role).env("PGPASSWORD", password).args(["-wXAtc", sql]);
    psql
}

/// Logs in by hand, in clear text, where SCRAM is asked for.
fn log_in(
    scene: Option<&Scene>,
    address: SocketAddr,
    role: &str,
    password: &str,
) -> Result<Entered> {
    let mut visitor = Visitor::connect(address, scene.map(|scene| &scene.cgroup))?;
    visitor.write_all(&startup(&[("user", role), ("database", "postgres")]))?;
    let mut exchange = Exchange::client("3rfcNHYJY1ZVvWVs7jHq0aXk");
    let first = exchange.client_first();
    let length = u32::try_from(first.len())?.to_be_bytes();
    let initial = [&wire::text("SCRAM-SHA-256")[..], &length, first.as_bytes()].concat();
    let _offer = match asked(&mut visitor)? {
        Ok(body) => body,
        Err(refusal) => return Ok(Err(refusal)),
    };
    visitor.write_all(&message(b'p', &initial))?;
    exchange.server_first = match asked(&mut visitor)? {
        Ok(body) => String::from_utf8_lossy(&body).into_owned(),
        Err(refusal) => return Ok(Err(refusal)),
    };
    visitor.write_all(&message(b'p', exchange.client_final(password).as_bytes()))?;
    let signature = match asked(&mut visitor)? {
        Ok(body) => String::from_utf8_lossy(&body).into_owned(),
        Err(refusal) => return Ok(Err(refusal)),
    };
    ensure!(signature == exchange.server_final(password), "the server proved nothing");
    Ok(Ok(Session::finish_start(visitor)?))
}

/// Body of an `Authentication` message, behind its kind; or a refusal.
fn asked(stream: &mut impl Read) -> Result<std::result::Result<Vec<u8>, Frame>> {
    let frame = wire::read_frame(stream)?.context("closed without a word")?;
    match frame.tag {
        b'R' => Ok(Ok(frame.body.get(4..).context("its kind")?.to_vec())),
        b'E' => Ok(Err(frame)),
        tag => anyhow::bail!("message `{}`", char::from(tag)),
    }
}

/// The SQLSTATE and text of a login that has to fail.
fn refusal(entered: Entered) -> Result<(String, String)> {
    let Err(frame) = entered else { anyhow::bail!("it was let in") };
    let field = |name| wire::error_field(&frame.body, name);
    Ok((field(b'C'), field(b'M')))
}

/// Starts a script beside this file, with what it is to know as a line on its standard input: arguments are recorded, and
/// this may hold a password.
fn script(
    test: &str,
    name: &str,
    told: &Value,
    cgroup: Option<&Cgroup>,
) -> Result<Option<std::process::Child>> {
    let Some(python) = gate::python(test, "psycopg") else { return Ok(None) };
    let mut command = Command::new(python);
    command.arg(folder().join(name));
    Cluster::without_settings(&mut command);
    command.env("HOME", "/nonexistent").env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(cgroup) = cgroup {
        cgroup.enter(&mut command)?;
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().context("starting python")?;
    let input = process.stdin.as_mut().context("piped")?;
    // One that ended already says why.
    let _ = input.write_all(format!("{told}\n").as_bytes());
    Ok(Some(process))
}

/// [`script`] to its end; what it reports.
fn report(test: &str, name: &str, told: &Value, cgroup: Option<&Cgroup>) -> Result<Option<Value>> {
    let Some(process) = script(test, name, told, cgroup)? else { return Ok(None) };
    let output = process.wait_with_output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}: {stdout}{stderr}", output.status);
    Ok(Some(serde_json::from_str(&stdout).with_context(|| format!("{name} wrote `{stdout}`"))?))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handshake/scenes")
}
