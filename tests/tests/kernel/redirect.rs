//! Every way to connect reaches the agent, with the right identity and the right destination.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use anyhow::Context;
use pgward_tests::agent::Agent;
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{Scene, canonical, mark};
use pgward_tests::script::ScriptedServer;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::{host, scene};
use serde_json::Value;

use crate::{Result, gate};

/// Connects in one way and checks what was recorded against what the client and the server saw.
fn connects(scene: &Scene, address: &str, how: &str, more: &[&str]) -> Result<Value> {
    let mark = mark(how);
    let (how, told) = (format!("how={how}"), format!("mark={mark}"));
    let arguments = [&["connect", address, &how, &told][..], more].concat();
    let report = scene.client(&arguments)?;
    let (statement, start) = scene.statement(&mark)?;
    let story = || format!("{report}\n{start}\n{statement}");
    assert_eq!(start["actor"]["pid"], report["pid"], "opener\n{}", story());
    assert_eq!(canonical(&start["destination"])?, canonical(&address.into())?, "{}", story());
    assert_eq!(canonical(&start["source"])?, canonical(&report["source"])?, "{}", story());
    assert_eq!(report["peer"].as_str(), Some(address), "getpeername\n{}", story());
    assert_eq!(statement["outcome"], "completed", "{}", story());
    assert_eq!(statement["writer"]["pid"], report["pid"], "writer\n{}", story());
    let exe = start["actor"]["exe"].as_str().unwrap_or_default();
    assert!(exe.ends_with("/pgward-test-client"), "{}", story());
    Ok(report)
}

fn on_loopback(how: &str) -> Result {
    let cluster = Cluster::start()?;
    let scene = Scene::new("redirect", cluster.port())?;
    let v4 = format!("127.0.0.1:{}", cluster.port());
    let mapped = format!("[::ffff:127.0.0.1]:{}", cluster.port());
    let v6 = format!("[::1]:{}", cluster.port());
    for (address, seen) in [(&v4, "127.0.0.1/32"), (&mapped, "127.0.0.1/32"), (&v6, "::1/128")] {
        if address == &v6 && !host::has_ipv6() {
            continue;
        }
        let report = connects(&scene, address, how, &[])?;
        let answer = report["answer"].as_str().context("an answer")?;
        assert!(answer.starts_with(seen), "the server saw {answer}, expected {seen}");
    }
    Ok(())
}

macro_rules! ways {
    ($($test:ident = $how:literal,)+) => {$(
        #[test]
        fn $test() -> Result {
            gate!();
            on_loopback($how)
        }
    )+};
}

ways! {
    a_blocking_connect_is_redirected = "blocking",
    a_non_blocking_connect_is_redirected = "non-blocking",
    fast_open_by_sendto_is_redirected = "fastopen-sendto",
    fast_open_by_option_is_redirected = "fastopen-connect",
    a_second_connect_of_the_same_socket_is_redirected = "reconnect",
    a_connect_of_another_thread_is_redirected = "thread",
    an_io_uring_connect_is_redirected = "io-uring-inline",
    an_io_uring_connect_of_a_worker_is_redirected = "io-uring-async",
    an_io_uring_connect_of_the_polling_thread_is_redirected = "io-uring-sqpoll",
    mptcp_is_refused_and_its_fallback_redirected = "mptcp",
}

#[test]
fn a_bound_source_address_is_kept_toward_the_server() -> Result {
    gate!();
    let cluster = Cluster::start()?;
    let scene = Scene::new("bound", cluster.port())?;
    let address = format!("127.0.0.1:{}", cluster.port());
    let report = connects(&scene, &address, "bound-source", &["bind=127.0.0.77:0"])?;
    let answer = report["answer"].as_str().context("an answer")?;
    assert!(answer.starts_with("127.0.0.77/32"), "the server saw {answer}");
    Ok(())
}

#[test]
fn a_bound_device_is_kept_toward_the_server() -> Result {
    gate!();
    let mut netns = NetNs::new(Loopback::Up)?;
    let cable = netns.connect_to_host()?;
    let cluster = Cluster::builder().listen("*").start()?;
    let scene = Scene::new("device", cluster.port())?;
    let address = format!("{}:{}", cable.outside, cluster.port());
    let (mark, device) = (mark("device"), format!("device={}", cable.device));
    let told = format!("mark={mark}");
    let mut client = scene::client(&["connect", &address, "how=bound-device", &told, &device])?;
    netns.enter(&mut client);
    scene.cgroup.enter(&mut client)?;
    let report = scene::report(&mut client).with_context(|| scene.agent.story())?;
    let (_, start) = scene.statement(&mark)?;
    assert_eq!(start["actor"]["pid"], report["pid"]);
    let answer = report["answer"].as_str().context("an answer")?;
    assert!(answer.starts_with(&cable.inside.to_string()), "the server saw {answer}");
    Ok(())
}

#[test]
fn other_ports_and_networks_are_left_alone() -> Result {
    gate!();
    let cluster = Cluster::start()?;
    let builder = pgward_tests::agent::Agent::builder().intercept(cluster.port());
    let scene = Scene::with("alone", builder.network("10.77.0.0/16"))?;
    let address = format!("127.0.0.1:{}", cluster.port());
    let mark = mark("alone");
    scene.client(&["connect", &address, "how=blocking", &format!("mark={mark}")])?;
    let mut scene = scene;
    scene.agent.stop()?;
    let records = scene.agent.records()?;
    assert!(records.iter().any(|record| record["event"] == "agent_stop"));
    assert!(!records.iter().any(|record| record["event"] == "session_start"), "{records:?}");
    Ok(())
}

#[test]
fn four_thousand_connections_of_eight_threads_keep_their_identities() -> Result {
    gate!();
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
    let scene = Scene::new("crowd", server.address().port())?;
    let address = server.address().to_string();
    let (mark, other) = (mark("crowd"), mark("other"));
    // A second process all the while: an identity mixed up between the two shows as a wrong pid.
    let (crowd, lone) = std::thread::scope(|scope| {
        let lone = scope.spawn(|| {
            let told = format!("mark={other}");
            scene.client(&["crowd", &address, "threads=1", "each=400", &told])
        });
        let told = format!("mark={mark}");
        let crowd = scene.client(&["crowd", &address, "threads=8", "each=500", &told]);
        (crowd, lone.join())
    });
    let crowd = crowd?;
    let lone = lone.map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    assert_eq!(crowd["done"], 4000, "{crowd}");
    assert_eq!(lone["done"], 400, "{lone}");
    let records = scene.agent.wait_for_all(PATIENCE, |records| {
        let ended = records.iter().filter(|record| record["event"] == "session_end").count();
        (ended >= 4400).then(|| records.to_vec())
    })?;
    let starts: HashMap<&str, &Value> = records
        .iter()
        .filter(|record| record["event"] == "session_start")
        .filter_map(|record| Some((record["session"].as_str()?, record)))
        .collect();
    let mut seen = HashMap::new();
    for statement in records.iter().filter(|record| record["event"] == "statement") {
        let text = statement["text"].as_str().context("a text")?;
        let session = statement["session"].as_str().context("a session")?;
        let start = starts.get(session).with_context(|| format!("no start of {session}"))?;
        let source = text.split("source=").nth(1).and_then(|rest| rest.split(".'").next());
        assert_eq!(start["source"].as_str(), source, "{text}");
        let pid = if text.contains(&mark) { &crowd["pid"] } else { &lone["pid"] };
        assert_eq!(&start["actor"]["pid"], pid, "{text}");
        assert_eq!(&statement["writer"]["pid"], pid, "{text}");
        *seen.entry(text.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 4400, "every connection's statement is there");
    assert!(seen.values().all(|count| *count == 1), "none is there twice");
    assert_eq!(server.accepted(), 4400);
    Ok(())
}

#[test]
fn silent_connections_beyond_the_limit_are_reset_and_recorded() -> Result {
    gate!();
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
    let builder = Agent::builder()
        .intercept(server.address().port())
        .set("agent", "sessions_max", "1")
        .set("agent", "startup_timeout_ms", "60000");
    let scene = Scene::with("silent", builder)?;
    // A quarter, for one user, of twice the sessions and 64.
    let report = scene.client(&["silent", &server.address().to_string(), "count=16"])?;
    assert_eq!(report["end"], "ConnectionReset", "{report}");
    assert_eq!(report["others"], true, "{report}");
    let refused = scene.agent.wait_for(|r| r["reason"] == "connections_max", PATIENCE)?;
    assert_eq!(refused["actor"]["pid"], report["pid"], "{refused}");
    assert_eq!(refused["destination"], server.address().to_string(), "{refused}");
    // They are gone with their process, and there is room again.
    let mark = mark("room");
    let told = ["connect", &server.address().to_string(), "how=blocking", &format!("mark={mark}")];
    wait::until_true("room for a session", PATIENCE, || Ok(scene.client(&told).is_ok()))?;
    scene.statement(&mark).map(drop)
}
