//! Network namespaces: seen for the first time, without loopback, gone in the middle, many, nested, squatted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{self, Scene, mark};
use pgward_tests::script::ScriptedServer;
use pgward_tests::wait::{self, PATIENCE};
use serde_json::Value;

use crate::{Result, gate};

/// Shortest idle time the configuration allows.
const IDLE_MS: &str = "1000";

/// A connect from inside `netns`, checked against the records; the session's start record.
fn connects_from(scene: &Scene, netns: &NetNs, address: &str) -> Result<Value> {
    let mark = mark("inside");
    let told = format!("mark={mark}");
    let mut client = scene::client(&["connect", address, "how=blocking", &told])?;
    netns.enter(&mut client);
    scene.cgroup.enter(&mut client)?;
    let report = scene::report(&mut client).with_context(|| scene.agent.story())?;
    let (_, start) = scene.statement(&mark)?;
    assert_eq!(start["actor"]["pid"], report["pid"], "{report}\n{start}");
    assert_eq!(start["destination"].as_str(), Some(address), "{start}");
    Ok(start)
}

fn server_inside(netns: &NetNs) -> Result<ScriptedServer> {
    let listener = netns.inside(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?))?;
    ScriptedServer::on(listener)
}

#[test]
fn the_first_connect_from_an_unknown_namespace_is_held_and_then_redirected() -> Result {
    gate!();
    let mut netns = NetNs::new(Loopback::Up)?;
    let cable = netns.connect_to_host()?;
    let cluster = Cluster::builder().listen("*").start()?;
    let scene = Scene::new("unknown", cluster.port())?;
    let address = format!("{}:{}", cable.outside, cluster.port());
    let start = connects_from(&scene, &netns, &address)?;
    let wanted = |record: &Value| record["event"] == "namespace" && record["change"] == "opened";
    let opened = scene.agent.wait_for(
        |record| wanted(record) && record["netns_cookie"] == start["netns_cookie"],
        PATIENCE,
    )?;
    assert_eq!(opened["inode"].as_u64(), Some(netns.inode()?), "{opened}");
    assert!(opened["held_us"].is_u64(), "{opened}");
    // The server saw the namespace's own address: the dial was made inside.
    let told = ["connect", &address, "how=blocking", "mark=second"];
    let mut client = scene::client(&told)?;
    netns.enter(&mut client);
    scene.cgroup.enter(&mut client)?;
    let report = scene::report(&mut client)?;
    let answer = report["answer"].as_str().context("an answer")?;
    assert!(answer.starts_with(&cable.inside.to_string()), "the server saw {answer}");
    let opened = scene.agent.records()?.into_iter().filter(wanted).count();
    assert!(opened <= 2, "the host's namespace and this one, once each: {opened}");
    Ok(())
}

#[test]
fn a_namespace_without_loopback_gets_one() -> Result {
    gate!();
    let mut netns = NetNs::new(Loopback::Down)?;
    let cable = netns.connect_to_host()?;
    let cluster = Cluster::builder().listen("*").start()?;
    let scene = Scene::new("down", cluster.port())?;
    connects_from(&scene, &netns, &format!("{}:{}", cable.outside, cluster.port()))?;
    let link = netns.ip(&["-o", "link", "show", "lo"])?;
    assert!(link.contains(",UP"), "{link}");
    Ok(())
}

#[test]
fn a_nested_namespace_is_watched_like_any_other() -> Result {
    gate!();
    let outer = NetNs::new(Loopback::Up)?;
    let inner = outer.inside(|| NetNs::new(Loopback::Up))?;
    assert_ne!(outer.inode()?, inner.inode()?);
    let (outside, inside) = (server_inside(&outer)?, server_inside(&inner)?);
    let builder =
        Agent::builder().intercept(outside.address().port()).intercept(inside.address().port());
    let scene = Scene::with("nested", builder)?;
    let one = connects_from(&scene, &outer, &outside.address().to_string())?;
    let two = connects_from(&scene, &inner, &inside.address().to_string())?;
    assert_ne!(one["netns_cookie"], two["netns_cookie"]);
    Ok(())
}

#[test]
fn the_same_port_and_address_in_two_namespaces_do_not_mix() -> Result {
    gate!();
    let (one, two) = (NetNs::new(Loopback::Up)?, NetNs::new(Loopback::Up)?);
    let first = server_inside(&one)?;
    let address = first.address();
    let second = ScriptedServer::on(two.inside(|| Ok(TcpListener::bind(address)?))?)?;
    let scene = Scene::new("twins", address.port())?;
    let text = address.to_string();
    for _ in 0..5 {
        let left = connects_from(&scene, &one, &text)?;
        let right = connects_from(&scene, &two, &text)?;
        assert_ne!(left["netns_cookie"], right["netns_cookie"]);
    }
    assert_eq!((first.accepted(), second.accepted()), (5, 5));
    Ok(())
}

#[test]
fn a_namespace_that_vanishes_while_held_is_forgotten() -> Result {
    gate!();
    let scene = {
        let builder = Agent::builder().intercept(7).set("netns", "idle_ms", IDLE_MS);
        Scene::with("vanish", builder)?
    };
    let agent = Pid::from_raw(i32::try_from(scene.agent.pid()?)?);
    let before = namespaces_held(scene.agent.pid()?)?;
    // The agent sleeps, so that the connect is held until process and namespace are gone.
    kill(agent, Signal::SIGSTOP)?;
    let held = {
        let netns = NetNs::new(Loopback::Up)?;
        let mut client = scene::client(&["connect", "127.0.0.1:7", "how=blocking", "mark=held"])?;
        netns.enter(&mut client);
        client.stdout(Stdio::null()).stderr(Stdio::null());
        let mut client = scene.cgroup.spawn_in(client)?;
        let sent = wait::until_true("the client to send its SYN", PATIENCE, || {
            let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", client.id()))?;
            // Column 4 is the state; 02 is SYN_SENT.
            Ok(table.lines().any(|line| line.split_whitespace().nth(3) == Some("02")))
        });
        client.kill()?;
        client.wait()?;
        sent
    };
    kill(agent, Signal::SIGCONT)?;
    held?;
    // It still works, and holds nothing of the dead.
    let netns = NetNs::new(Loopback::Up)?;
    let listener = netns.inside(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 7))?))?;
    let server = ScriptedServer::on(listener)?;
    connects_from(&scene, &netns, &server.address().to_string())?;
    drop((server, netns));
    wait::until_true("the agent to let go of both namespaces", PATIENCE, || {
        Ok(namespaces_held(scene.agent.pid()?)? <= before)
    })
    .with_context(|| scene.agent.story())
}

#[test]
fn a_namespace_that_cannot_be_opened_is_refused_at_once_for_a_while() -> Result {
    gate!();
    // So long that no second attempt comes within the test.
    let builder = Agent::builder().intercept(7).set("netns", "hold_ms", "30000");
    let scene = Scene::with("orphans", builder)?;
    let agent = format!("agent={}", scene.agent.pid()?);
    scene.client(&["orphans", "127.0.0.1:7", &agent])?;
    let refused = |r: &Value| r["event"] == "refused" && r["reason"] == "refused_namespace";
    scene.agent.wait_for(refused, PATIENCE)?;
    let records = scene.agent.records()?;
    assert_eq!(count(&records, "namespace", "failed"), 1, "{}", scene.agent.story());
    Ok(())
}

#[test]
fn five_hundred_namespaces_come_and_go_without_a_leak() -> Result {
    gate!();
    let port = host::free_port()?;
    let builder = Agent::builder().intercept(port).set("netns", "idle_ms", IDLE_MS);
    let scene = Scene::with("churn", builder)?;
    let address = format!("127.0.0.1:{port}");
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, port))?;
    // Once, so that what the agent opens lazily is in the figure before.
    scene.client(&["connect", &address, "how=blocking", "mark=first"])?;
    drop(server);
    let pid = scene.agent.pid()?;
    let settled = |what: &str, limit: usize| {
        wait::until_true(what, PATIENCE, || Ok(descriptors(pid)? <= limit))
            .with_context(|| format!("{:?}\n{}", open_files(pid), scene.agent.story()))
    };
    wait::until_true("the first session to end", PATIENCE, || {
        Ok(scene.agent.records()?.iter().any(|record| record["event"] == "session_end"))
    })?;
    let before = descriptors(pid)?;
    let mark = mark("churn");
    let told = format!("mark={mark}");
    let report = scene.client(&["namespaces", &address, "count=500", &told])?;
    assert_eq!(report["done"], 500, "{report}");
    settled("the agent to close what it opened in 500 namespaces", before)?;
    assert!(namespaces_held(pid)? <= 2, "{:?}", open_files(pid));
    let records = scene.agent.wait_for_all(PATIENCE, |records| {
        let closed = count(records, "namespace", "closed");
        (closed >= 500).then(|| records.to_vec())
    })?;
    assert_eq!(count(&records, "namespace", "failed"), 0);
    let statements =
        records.iter().filter(|r| r["text"].as_str().is_some_and(|text| text.contains(&mark)));
    assert_eq!(statements.count(), 500, "every namespace's statement is recorded");
    Ok(())
}

#[test]
fn a_squatter_on_the_agents_port_gets_nothing() -> Result {
    gate!();
    let netns = NetNs::new(Loopback::Up)?;
    let server = server_inside(&netns)?;
    let port = host::free_port()?;
    let builder = Agent::builder().intercept(server.address().port()).set(
        "listen",
        "port",
        &port.to_string(),
    );
    let any: SocketAddr = (Ipv4Addr::UNSPECIFIED, port).into();
    let squatter = netns.inside(|| Ok(TcpListener::bind(any)?))?;
    squatter.set_nonblocking(true)?;
    let scene = Scene::with("squat", builder)?;
    let mark = mark("squat");
    let (address, told) = (server.address().to_string(), format!("mark={mark}"));
    let mut client = scene::client(&["connect", &address, "how=blocking", &told])?;
    netns.enter(&mut client);
    let outcome = scene.output(&mut client)?;
    // Either the agent listens on another port there, or the connect is refused and recorded; both are right.
    if outcome.status.success() {
        scene.statement(&mark)?;
    } else {
        scene.agent.wait_for(|record| record["event"] == "refused", PATIENCE)?;
        assert_eq!(server.accepted(), 0);
    }
    let caught = squatter.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(caught, Err(std::io::ErrorKind::WouldBlock), "nobody came to the squatter");
    Ok(())
}

#[test]
fn a_direct_connection_to_the_agents_port_is_closed() -> Result {
    gate!();
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
    let port = host::free_port()?;
    let builder = Agent::builder().intercept(server.address().port()).set(
        "listen",
        "port",
        &port.to_string(),
    );
    let scene = Scene::with("direct", builder)?;
    // From outside the cgroup: no hook ran, so the connection carries no identity.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let _ = stream.write_all(&pgward_tests::wire::startup(&[("user", "postgres")]));
    let mut answer = Vec::new();
    // A reset is as good an end as a close.
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains("scripted"), "the agent relayed for nobody: {text}");
    assert_eq!(server.accepted(), 0);
    scene.agent.wait_for(|record| record["event"] == "refused", PATIENCE)?;
    // Whoever does so in a loop is counted, and does not fill the log.
    let knocks = 500;
    for _ in 0..knocks {
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?);
    }
    let refused = scene.agent.wait_for_all(PATIENCE, |records| {
        let refused: Vec<Value> =
            records.iter().filter(|r| r["reason"] == "no_identity").cloned().collect();
        let count: u64 = refused.iter().filter_map(|record| record["count"].as_u64()).sum();
        (count > knocks).then_some(refused)
    })?;
    assert!(refused.len() < 100, "{} records", refused.len());
    Ok(())
}

#[test]
fn a_namespace_the_agent_cannot_open_in_time_is_refused_and_recorded() -> Result {
    gate!();
    let netns = NetNs::new(Loopback::Up)?;
    let server = server_inside(&netns)?;
    let builder =
        Agent::builder().intercept(server.address().port()).set("netns", "hold_ms", "300");
    let scene = Scene::with("late", builder)?;
    let agent = Pid::from_raw(i32::try_from(scene.agent.pid()?)?);
    kill(agent, Signal::SIGSTOP)?;
    let address = server.address().to_string();
    let mut client = scene::client(&["connect", &address, "how=blocking", "mark=late"])?;
    netns.enter(&mut client);
    let first = scene.output(&mut client);
    let mut again = scene::client(&["connect", &address, "how=blocking", "mark=late"])?;
    netns.enter(&mut again);
    let second = scene.output(&mut again);
    kill(agent, Signal::SIGCONT)?;
    assert!(!first?.status.success() && !second?.status.success(), "nothing got through");
    assert_eq!(server.accepted(), 0, "and nothing went direct");
    scene.agent.wait_for(|record| record["event"] == "refused", PATIENCE)?;
    Ok(())
}

fn count(records: &[Value], event: &str, change: &str) -> usize {
    records.iter().filter(|r| r["event"] == event && r["change"] == change).count()
}

fn open_files(pid: u32) -> Vec<String> {
    let folder = format!("/proc/{pid}/fd");
    let links = std::fs::read_dir(folder).into_iter().flatten().flatten();
    links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect()
}

fn descriptors(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"))?.count())
}

fn namespaces_held(pid: u32) -> Result<usize> {
    Ok(open_files(pid).iter().filter(|target| target.starts_with("net:[")).count())
}
