//! Multi-host strings, and probes of load balancers: as without the agent.

use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::pki::Pki;
use pgward_tests::postgres::{Cluster, Version};
use pgward_tests::scene::Scene;
use pgward_tests::wire::message;
use serde_json::{Value, json};

use super::scripted::Scripted;
use super::{agent, report};
use crate::{Result, gate, here};

const WANTED: [&str; 6] =
    ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"];

#[test]
fn libpq_goes_on_to_the_next_host_as_without_the_agent() -> Result {
    gate!();
    let primary = Cluster::start()?;
    let read_only = Cluster::builder().setting("default_transaction_read_only", "on").start()?;
    let standby = Cluster::builder().standby().start()?;
    let error = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let starting = Scripted::start(message(b'E', error))?;
    let [primary, read_only, standby] = [&primary, &read_only, &standby].map(Cluster::port);
    let (starting, closed) = (starting.address.port(), host::free_port()?);
    let hosts = [
        vec![closed, primary],
        vec![starting, primary],
        vec![closed, starting, standby],
        vec![standby, primary],
        vec![primary, standby],
        vec![read_only, primary],
        vec![read_only, standby],
        vec![standby],
        vec![primary],
        vec![starting],
    ];
    let cases: Vec<_> =
        hosts.iter().flat_map(|ports| WANTED.map(|wanted| (ports, wanted))).collect();
    let builder = [primary, read_only, standby, starting, closed]
        .into_iter()
        .fold(Agent::builder(), |builder, port| builder.intercept(port));
    let scene = Scene::with("multihost", builder)?;
    for library in [Version::Debian, Version::Eighteen] {
        let told = json!({ "library": library.libpq()?, "cases": cases });
        let mut ends = Vec::new();
        for cgroup in [None, Some(&scene.cgroup)] {
            let Some(told) = report(here!(), "multihost.py", &told, cgroup)? else { return Ok(()) };
            ends.push(told.as_array().cloned().unwrap_or_default());
        }
        assert_eq!(ends[0].len(), cases.len());
        for (case, (direct, through)) in cases.iter().zip(ends[0].iter().zip(&ends[1])) {
            assert_eq!(through, direct, "{library:?} {case:?}");
        }
        // The cases are what they are taken for.
        let end = |ports: &[u16], wanted| -> &Value {
            let at = cases.iter().position(|case| case.0 == ports && case.1 == wanted);
            &ends[0][at.expect("one of them")]
        };
        assert_eq!(end(&[closed, primary], "any"), primary);
        assert_eq!(end(&[starting, primary], "read-write"), primary);
        assert_eq!(end(&[standby, primary], "read-write"), primary);
        assert_eq!(end(&[primary, standby], "prefer-standby"), standby);
        assert_eq!(end(&[read_only, primary], "read-write"), primary);
        assert_eq!(end(&[read_only, primary], "any"), read_only);
        assert!(end(&[primary], "standby").is_string());
        assert!(end(&[starting], "any").is_string());
    }
    scene.agent.finish()
}

#[test]
fn probes_reach_no_server_and_count_as_no_failure() -> Result {
    gate!();
    let pki = Pki::new(&[])?;
    let hello = [
        message(b'R', &0_u32.to_be_bytes()),
        message(b'S', b"server_version\x0015.0 (scripted)\0"),
        message(b'K', &[0, 0, 4, 210, 1, 2, 3, 4]),
        message(b'Z', b"I"),
    ];
    let server = Scripted::start(hello.concat())?;
    let port = server.address.port();
    let builder = agent(&pki, port)
        // One would be too many.
        .set("auth", "failures_max", "1")
        .set("auth", "cancel_failures_max", "1")
        .destination(
            "name = \"probed\"\n[destination.server]\ntls = \"disable\"\n\
             [destination.auth]\nrequire = \"any\"",
        );
    let scene = Scene::with("probes", builder)?;
    let conninfo =
        format!("host=127.0.0.1 port={port} user=postgres sslmode=disable gssencmode=disable");
    let told = json!({ "port": port, "times": 10, "conninfo": conninfo });
    let Some(told) = report(here!(), "probes.py", &told, Some(&scene.cgroup))? else {
        return Ok(());
    };
    assert_eq!(told, json!({ "answers": ["S"], "login": null }), "{}", scene.agent.story());
    assert_eq!(server.accepted(), 1, "the login alone");
    let (agent, records) = (&scene.agent, scene.agent.records()?);
    let starts = records.iter().filter(|record| record["event"] == "session_start").count();
    assert_eq!(starts, 1, "{}", agent.story());
    let refused: Vec<_> = records.iter().filter(|record| record["event"] == "refused").collect();
    assert!(refused.is_empty(), "{refused:?}");
    scene.agent.finish()
}
