//! The server's certificate: what is verified, and what a client is told when it is not the right one.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::ensure;
use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::pki::{self, Pki, Server};
use pgward_tests::postgres::{Auth, Cluster, Version};
use pgward_tests::scene::Scene;
use pgward_tests::visitor::Visitor;
use pgward_tests::wire::{self, startup};

use crate::hostile::peer::{last_words, word};
use crate::{Result, gate};

/// Modes, as psql and the configuration call them.
const MODES: [&str; 3] = ["require", "verify-ca", "verify-full"];

/// For each mode of [`MODES`], what is told: nothing when it is fine, else a word that libpq says, and one that the agent says.
type Told = Option<(&'static str, &'static str)>;

const CASES: [(Server, [Told; 3]); 5] = [
    (Server::Good, [None, None, None]),
    (Server::Expired, [None, Some(EXPIRED), Some(EXPIRED)]),
    (Server::OtherName, [None, None, Some((pki::HOST, "other.test"))]),
    (Server::UnknownIssuer, [None, Some(UNKNOWN), Some(UNKNOWN)]),
    (Server::Revoked, [None, Some(REVOKED), Some(REVOKED)]),
];

/// libpq 15 says no more; that the files are what they are called is a test beside them.
const EXPIRED: (&str, &str) = ("certificate verify failed", "expired");
const REVOKED: (&str, &str) = ("certificate verify failed", "revoked");
const UNKNOWN: (&str, &str) = ("certificate verify failed", "authority that is not trusted");

#[test]
fn psql_judges_servers_as_the_table_says() -> Result {
    gate!();
    let pki = Pki::new(&[])?;
    let mut faults = Vec::new();
    for (certificate, told) in CASES {
        let cluster = cluster(&pki, certificate, Version::Debian)?;
        for (mode, told) in MODES.into_iter().zip(told) {
            let mut psql = cluster.client("psql", "127.0.0.1");
            psql.env("PGHOSTADDR", "127.0.0.1").env("PGHOST", pki::HOST).env("PGSSLMODE", mode);
            if mode != "require" {
                psql.env("PGSSLROOTCERT", pki.roots()).env("PGSSLCRL", pki.revocations());
            }
            let output = host::output(psql.args(["-wXAtc", "select 1"]))?;
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            let right = match told {
                None => output.status.success(),
                Some((words, _)) => !output.status.success() && error.contains(words),
            };
            if !right {
                faults.push(format!("{certificate:?} {mode}: expected {told:?}, found {error}"));
            }
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn servers_are_verified_through_the_agent() -> Result {
    gate!();
    let pki = Pki::new(&[])?;
    let mut faults = Vec::new();
    for (certificate, told) in CASES {
        // 15 by request; 18 without one.
        for (version, negotiation) in [(Version::Debian, "postgres"), (Version::Eighteen, "direct")]
        {
            let cluster = cluster(&pki, certificate, version)?;
            let scene = scene(&pki, &cluster, negotiation)?;
            for (last, (mode, told)) in (1..).zip(MODES.into_iter().zip(told)) {
                let words = ask(&scene, (Ipv4Addr::new(127, 0, 0, last), cluster.port()).into())?;
                let right = match told {
                    None => words == "t",
                    // Which of the class, and in which words, is the agent's; but it names what is wrong.
                    Some((_, told)) => words.starts_with("E(08") && words.contains(told),
                };
                if !right {
                    faults.push(format!(
                        "{certificate:?} {mode} {negotiation}: expected {told:?}, found {words}"
                    ));
                }
            }
            scene.agent.finish()?;
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn cluster(pki: &Pki, certificate: Server, version: Version) -> Result<Cluster> {
    Cluster::builder()
        .version(version)
        .auth(Auth::Trust)
        .listen("127.0.0.1,127.0.0.2,127.0.0.3")
        .tls(&pki.server(certificate), &pki.roots())
        .start()
}

/// An agent with one destination for each mode: 127.0.0.1 to 127.0.0.3.
fn scene(pki: &Pki, cluster: &Cluster, negotiation: &str) -> Result<Scene> {
    let mut builder = Agent::builder().intercept(cluster.port());
    for (last, mode) in (1..).zip(MODES) {
        let mut text = format!(
            "name = \"{mode}\"\nnetworks = [\"127.0.0.{last}\"]\n[destination.server]\n\
             tls = \"{mode}\"\nnegotiation = \"{negotiation}\"\nname = \"{}\"\n",
            pki::HOST
        );
        if mode != "require" {
            let (roots, list) = (pki.roots(), pki.revocations());
            text.push_str(&format!("roots = {roots:?}\ncrl = {list:?}\n"));
        }
        text.push_str("[destination.auth]\nrequire = \"any\"\n");
        builder = builder.destination(&text);
    }
    Scene::with("upstream", builder)
}

/// Logs in in clear text and asks whether the server's leg is encrypted: `t`, `f`, or the words of a refusal.
fn ask(scene: &Scene, address: SocketAddr) -> Result<String> {
    let mut visitor = Visitor::connect(address, Some(&scene.cgroup))?;
    visitor.write_all(&startup(&[("user", "postgres"), ("database", "postgres")]))?;
    match wire::read_frame(&mut visitor)? {
        Some(frame) if frame.tag == b'R' => {
            let mut session = wire::Session::finish_start(visitor)?;
            session.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        }
        Some(frame) => Ok(word(&frame)),
        None => last_words(&mut visitor),
    }
}
