//! Buffers that overflow: what was lost is counted, recorded, and never passed off as knowledge.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, bail};
use pgward_tests::agent::Agent;
use pgward_tests::gate::unable;
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::scene::{self, Scene, mark};
use pgward_tests::script::ScriptedServer;
use pgward_tests::wait::PATIENCE;
use serde_json::Value;

use crate::{Result, gate, ledger};

/// More events than the ring buffer of one mebibyte holds at 192 bytes each, twice over.
const EVENTS: usize = 12_000;

/// More changes of writer than fit into one mebibyte at 112 bytes each, with room to spare.
const CHANGES: usize = 14_000;

/// More connects than the table of pending hand-overs has places (16384).
const PENDING: usize = 16_500;

/// How many of the last of them are tried: they came when the table was full.
const LAST: usize = 100;

fn sum(records: &[Value], event: &str) -> u64 {
    let counted = records.iter().filter(|record| record["event"] == event);
    counted.filter_map(|record| record["count"].as_u64()).sum()
}

#[test]
fn refusals_beyond_the_ring_buffer_are_counted_as_lost() -> Result {
    gate!();
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
    let mut scene = Scene::new("full", server.address().port())?;
    let (address, count) = (server.address().to_string(), format!("count={EVENTS}"));
    // A second time, so that what one agent recorded as lost would show if the next recorded it again.
    for rounds in 1..=2 {
        scene.agent.kill()?;
        let report = scene.client(&["knock", &address, &count])?;
        assert_eq!(report["failures"]["ConnectionRefused"], EVENTS, "{report}");
        scene.agent.start_process(None)?;
        all_accounted_for(&scene, "refused", rounds * EVENTS)?;
        // What is lost are events; the counts are whole.
        let account = ledger::settled(&scene.agent, rounds * EVENTS)?;
        // The kernel's own worker takes the programs away when the agent's process is gone: until it has, the
        // connects are refused because nobody listens.
        let refused = |why: &str| account["refusals"][why].as_u64().unwrap_or_default();
        let (down, early) = (refused("refused_agent_down"), refused("refused_namespace"));
        assert_eq!(down + early, (rounds * EVENTS) as u64, "{account}");
        assert!(down > 0, "{account}");
    }
    assert_eq!(server.accepted(), 0);
    Ok(())
}

#[test]
fn connects_allowed_unseen_beyond_the_ring_buffer_are_counted_as_lost() -> Result {
    gate!();
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
    let builder = Agent::builder().intercept(server.address().port()).set(
        "bpf",
        "on_agent_down",
        "\"allow\"",
    );
    let mut scene = Scene::with("unseen", builder)?;
    scene.agent.kill()?;
    let (address, count) = (server.address().to_string(), format!("count={EVENTS}"));
    let report = scene.client(&["knock", &address, &count])?;
    assert_eq!(report["done"], EVENTS, "{report}");
    scene.agent.start_process(None)?;
    all_accounted_for(&scene, "allowed_unseen", EVENTS)?;
    let account = ledger::settled(&scene.agent, EVENTS)?;
    assert_eq!(account["allowed"], EVENTS, "{account}");
    Ok(())
}

/// Every one of `events` is either recorded or counted as lost, and some were lost.
fn all_accounted_for(scene: &Scene, event: &str, events: usize) -> Result {
    let events = events as u64;
    let (told, lost) = scene.agent.wait_for_all(PATIENCE * 3, |records| {
        let lost: Vec<Value> =
            records.iter().filter(|r| r["lost"] == "kernel_events").cloned().collect();
        let (told, lost) = (sum(records, event), sum(&lost, "events_lost"));
        (told + lost >= events).then_some((told, lost))
    })?;
    // Sockets made while the buffer is full report their namespace, and each such report is among the lost.
    let few = events..events + EVENTS as u64 / 100;
    assert!(few.contains(&(told + lost)), "{told} recorded, {lost} lost");
    assert!(lost > 0 && told > 0, "{told} recorded, {lost} lost");
    Ok(())
}

#[test]
fn a_statement_whose_writers_were_lost_does_not_claim_to_know_them() -> Result {
    gate!();
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
    let scene = Scene::new("flood", server.address().port())?;
    if !scene.tiers()?.iter().any(|tier| tier != "T0") {
        // Without a tier that sees writers there is nothing to lose; other tests say what is recorded then.
        let reason = anyhow::anyhow!("no tier of this kernel sees writers");
        unable("a_statement_whose_writers_were_lost_does_not_claim_to_know_them", reason);
        return Ok(());
    }
    let mark = mark("flood");
    let (address, told) = (server.address().to_string(), format!("mark={mark}"));
    let agent = format!("agent={}", scene.agent.pid()?);
    let changes = format!("changes={CHANGES}");
    scene.client(&["write", &address, "how=flood", &told, &agent, &changes])?;
    let (statement, start) = scene.statement(&mark)?;
    let facts = (&statement["writer"], &statement["tier"], &statement["shared_with_more"]);
    assert_eq!(statement["tier"], "T0", "{facts:?}\n{start}");
    scene
        .agent
        .wait_for(|r| r["event"] == "events_lost" && r["lost"] == "writer_events", PATIENCE)?;
    Ok(())
}

#[test]
fn connections_beyond_the_pending_table_never_pass_without_an_identity() -> Result {
    gate!();
    // Places come free as the first connections are given up. On a busy machine that may be before the last ones try again:
    // then they all get through, as they should, and the table has to be filled anew.
    for _ in 0..4 {
        if fill_the_pending_table()? < LAST as u64 {
            return Ok(());
        }
    }
    bail!("the table was never full when the last {LAST} connected");
}

/// How many of the last connections got through; each of them has its identity.
fn fill_the_pending_table() -> Result<u64> {
    // In a namespace nobody has seen, every SYN is held, and each takes a place in the table.
    let netns = NetNs::new(Loopback::Up)?;
    let listener = netns.inside(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?))?;
    let server = ScriptedServer::on(listener)?;
    let port = server.address().port();
    let scene =
        Scene::with("pile", Agent::builder().intercept(port).set("netns", "hold_ms", "20000"))?;
    let mark = mark("pile");
    let (address, told) = (server.address().to_string(), format!("mark={mark}"));
    let agent = format!("agent={}", scene.agent.pid()?);
    let (count, last) = (format!("count={PENDING}"), format!("last={LAST}"));
    let mut client = scene::client(&["pile", &address, &count, &last, &told, &agent])?;
    netns.enter(&mut client);
    scene.cgroup.enter(&mut client)?;
    let report = scene::report(&mut client).with_context(|| scene.agent.story())?;
    assert_eq!(server.direct(), 0, "{report}");
    let done = report["done"].as_u64().context("done")?;
    let starts = scene.agent.wait_for_all(PATIENCE, |records| {
        let told = records.iter().filter(|r| r["text"].as_str().is_some_and(|t| t.contains(&mark)));
        let sessions: Vec<&Value> = told.map(|statement| &statement["session"]).collect();
        let starts = records.iter().filter(|r| r["event"] == "session_start");
        let starts: Vec<Value> =
            starts.filter(|start| sessions.contains(&&start["session"])).cloned().collect();
        (starts.len() as u64 >= done).then_some(starts)
    })?;
    let account = ledger::settled(&scene.agent, PENDING)?;
    assert_eq!(account["intercepted"], done, "{account}");
    // Whoever got through has an identity; whoever had no place in the table was refused, and that was said.
    assert!(starts.iter().all(|start| start["actor"]["pid"] == report["pid"]), "{report}");
    if done == LAST as u64 {
        return Ok(done);
    }
    let unknown = |record: &Value| {
        let reason = record["reason"].as_str().unwrap_or_default();
        record["event"] == "refused" && reason != "abandoned"
    };
    scene.agent.wait_for(unknown, PATIENCE)?;
    Ok(done)
}
