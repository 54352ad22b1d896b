//! The ledger of connects: each has a number, and each ends in a column that has a name.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Stdio;

use anyhow::{Context, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::scene::{self, Scene, mark};
use pgward_tests::script::ScriptedServer;
use pgward_tests::wait::{self, PATIENCE};
use serde_json::{Value, json};

use crate::{Result, gate};

/// More connections than any backlog of the agent takes.
const OVERFLOW: usize = 5000;

/// Agents killed under load.
const KILLS: usize = 4;

fn server() -> Result<ScriptedServer> {
    ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))
}

/// The columns that add up to what was seen.
const COLUMNS: [&str; 6] = ["intercepted", "refused", "failed", "allowed", "open", "unexplained"];

/// A column by name, in the order in which they are counted here.
fn number(account: &Value, column: &str) -> u64 {
    account[column].as_u64().unwrap_or_default()
}

fn named(account: &Value, column: &str, name: &str) -> u64 {
    number(&account[column], name)
}

/// Every account closes, at any moment.
fn check_closes(account: &Value) -> Result {
    let sum: u64 = COLUMNS.iter().map(|column| number(account, column)).sum();
    ensure!(sum == number(account, "seen"), "the columns do not add up: {account}");
    for (column, names) in [("refused", "refusals"), ("failed", "failures")] {
        let counts = account[names].as_object().context("names")?.values();
        let sum: u64 = counts.filter_map(Value::as_u64).sum();
        ensure!(sum == number(account, column), "the names of {column} do not add up: {account}");
    }
    ensure!(number(account, "unexplained") == 0, "{account}");
    Ok(())
}

/// The account once `seen` connects were seen and none is under way.
pub(crate) fn settled(agent: &Agent, seen: usize) -> Result<Value> {
    let mut last = Value::Null;
    let account = wait::until("an account without open connects", PATIENCE, || {
        let account = agent.connects()?;
        check_closes(&account)?;
        let done = number(&account, "seen") == seen as u64 && number(&account, "open") == 0;
        last = account.clone();
        Ok(done.then_some(account))
    });
    account.with_context(|| format!("expected {seen} seen, found {last}\n{}", agent.story()))
}

/// What an agent's run said last of connects; it is said when it stops.
fn said(agent: &Agent) -> Result<Value> {
    let log = agent.stderr();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut fields = lines.map(|line| line["fields"].clone());
    let accounts = fields.by_ref().filter(|fields| fields["unexplained"].is_u64());
    accounts.last().context("an account of connects in the log")
}

/// Stops the agent; what it says then is explained, and nothing is open.
fn stop(scene: &mut Scene, seen: usize) -> Result {
    scene.agent.stop()?;
    let last = said(&scene.agent)?;
    let open_and_unexplained = (number(&last, "open"), number(&last, "unexplained"));
    ensure!(number(&last, "seen") == seen as u64 && open_and_unexplained == (0, 0), "{last}");
    Ok(())
}

fn end(scene: &Scene, server: &ScriptedServer, how: &str, count: usize) -> Result<usize> {
    let agent = format!("agent={}", scene.agent.pid()?);
    let (how, count) = (format!("how={how}"), format!("count={count}"));
    let report = scene.client(&["end", &server.address().to_string(), &how, &count, &agent])?;
    Ok(usize::try_from(report["connects"].as_u64().context("connects")?)?)
}

fn knock(scene: &Scene, server: &ScriptedServer, count: usize) -> Result<Value> {
    let (address, count) = (server.address().to_string(), format!("count={count}"));
    scene.client(&["knock", &address, &count])
}

#[test]
fn numbers_of_connects_have_no_gaps_and_each_ends_once() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("numbers", server.address().port())?;
    let (address, mark) = (server.address().to_string(), format!("mark={}", mark("crowd")));
    let report = scene.client(&["crowd", &address, "threads=8", "each=50", &mark])?;
    assert_eq!(report["done"], 400, "{report}");
    knock(&scene, &server, 30)?;
    let mut seen = 430 + end(&scene, &server, "garbage", 3)?;
    seen += end(&scene, &server, "no-port", 3)?;
    settled(&scene.agent, seen)?;
    scene.agent.kill()?;
    knock(&scene, &server, 20)?;
    scene.agent.start_process(None)?;
    seen += 20;
    let told = |line: &str| -> Option<u64> {
        let fields = serde_json::from_str::<Value>(line).ok()?["fields"].take();
        fields["connect"].as_u64().filter(|number| *number > 0)
    };
    let numbers = wait::until("an end of each connect in the log", PATIENCE, || {
        let numbers: Vec<u64> = scene.agent.stderr().lines().filter_map(told).collect();
        Ok((numbers.len() >= seen).then_some(numbers))
    });
    let mut numbers = numbers.with_context(|| scene.agent.story())?;
    numbers.sort_unstable();
    let expected: Vec<u64> = (1..=seen as u64).collect();
    assert_eq!(numbers, expected, "numbers of connects whose end was told");
    stop(&mut scene, seen)
}

#[test]
fn connects_that_become_no_session_have_a_name() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("ends", server.address().port())?;
    knock(&scene, &server, 7)?;
    let mut seen = 7;
    // How, how often, and what comes of it: column, name, how many of them.
    type Expected = &'static [(&'static str, &'static str, u64)];
    let ways: [(&str, usize, Expected); 7] = [
        ("part", 3, &[("failures", "silent_probe", 10)]),
        ("reset", 4, &[("failures", "client_gone", 4)]),
        ("half-open", 3, &[("failures", "abandoned", 3)]),
        ("garbage", 3, &[("refusals", "not_postgresql", 3)]),
        ("no-port", 3, &[("failures", "not_sent", 3), ("", "intercepted", 3)]),
        ("connected", 2, &[("", "intercepted", 5)]),
        ("again", 1, &[("", "intercepted", 6)]),
    ];
    for (how, count, expected) in ways {
        seen += end(&scene, &server, how, count)?;
        let account = settled(&scene.agent, seen)?;
        for (column, name, count) in expected {
            let column = if column.is_empty() { &account } else { &account[column] };
            assert_eq!(number(column, name), *count, "{how}: {name} in {account}");
        }
    }
    stop(&mut scene, seen)
}

#[test]
fn connects_of_a_killed_process_are_abandoned() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("slain", server.address().port())?;
    let seen = end(&scene, &server, "killed", 20)?;
    let account = settled(&scene.agent, seen)?;
    assert_eq!(named(&account, "failures", "abandoned"), 20, "{account}");
    stop(&mut scene, seen)
}

#[test]
fn connects_beyond_the_backlog_are_abandoned_and_leave_no_hand_over() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("overflow", server.address().port())?;
    let seen = end(&scene, &server, "overflow", OVERFLOW)?;
    let account = settled(&scene.agent, seen)?;
    let abandoned = named(&account, "failures", "abandoned");
    assert!(abandoned > 0, "nothing overflowed: {account}");
    assert_eq!(
        abandoned + named(&account, "failures", "silent_probe"),
        OVERFLOW as u64,
        "{account}"
    );
    stop(&mut scene, seen)
}

#[test]
fn connects_without_an_agent_are_refused_or_allowed_and_counted() -> Result {
    gate!();
    for mode in ["block", "allow"] {
        let server = server()?;
        let builder = Agent::builder().intercept(server.address().port()).set(
            "bpf",
            "on_agent_down",
            &format!("{mode:?}"),
        );
        let mut scene = Scene::with(mode, builder)?;
        scene.agent.kill()?;
        // The kernel empties the agent's program arrays a moment after its end; until then its listeners are missed instead.
        let (mut seen, mut done) = (0, 0);
        wait::until_true("connects that go the way of a missing agent", PATIENCE, || {
            let report = knock(&scene, &server, 25)?;
            seen += 25;
            done += report["done"].as_u64().context("done")?;
            Ok(done > 0 || mode == "block")
        })?;
        scene.agent.start_process(None)?;
        let account = settled(&scene.agent, seen)?;
        let refused = ["refused_agent_down", "refused_namespace"];
        let refused: u64 = refused.iter().map(|name| named(&account, "refusals", name)).sum();
        assert_eq!(number(&account, "allowed"), done, "{mode}: {account}");
        assert_eq!(refused, seen as u64 - done, "{mode}: {account}");
        stop(&mut scene, seen)?;
    }
    Ok(())
}

#[test]
fn other_ports_and_connections_by_hand_are_no_connects_of_the_ledger() -> Result {
    gate!();
    let (server, other) = (server()?, server()?);
    let mut scene = Scene::new("others", server.address().port())?;
    knock(&scene, &other, 5)?;
    let start =
        scene.agent.wait_for(|r| r["event"] == "namespace" && r["change"] == "opened", PATIENCE)?;
    let port = u16::try_from(start["port"].as_u64().context("a port")?)?;
    drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?);
    scene.agent.wait_for(|r| r["reason"] == "no_identity", PATIENCE)?;
    knock(&scene, &server, 1)?;
    let account = settled(&scene.agent, 1)?;
    assert_eq!(account["failures"], json!({ "silent_probe": 1 }), "{account}");
    stop(&mut scene, 1)
}

#[test]
fn what_a_killed_agent_had_in_hand_has_a_name_at_the_next_start() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("slain-agent", server.address().port())?;
    knock(&scene, &server, 5)?;
    settled(&scene.agent, 5)?;
    // Their names survive the agent once they are in its trail.
    scene.agent.wait_for(
        |record| record["event"] == "coverage" && record["failures"][0]["count"] == 5,
        PATIENCE,
    )?;
    let folder = tempfile::tempdir()?;
    let until = folder.path().join("until");
    let until_option = format!("until={}", until.display());
    let address = server.address().to_string();
    let mut client = scene::client(&["hold", &address, "count=12", &until_option])?;
    scene.cgroup.enter(&mut client)?;
    let mut client = client.stdout(Stdio::null()).spawn()?;
    let ledger = wait::until("connections in the agent's hands", PATIENCE, || {
        let account = scene.agent.connects()?;
        Ok((number(&account, "open") == 12).then(|| account["ledger"].clone()))
    })?;
    scene.agent.kill()?;
    std::fs::write(&until, "")?;
    ensure!(client.wait()?.success(), "the holding client failed");
    scene.agent.start_process(None)?;
    let account = settled(&scene.agent, 17)?;
    assert_eq!(
        account["ledger"], ledger,
        "the counters outlive an agent, and so does their ledger"
    );
    // The trail of the agent before tells the connects that ended from those that were lost.
    let failures: BTreeMap<String, u64> = serde_json::from_value(account["failures"].clone())?;
    let expected = [("agent_crashed", 12), ("silent_probe", 5)].map(|(n, c)| (n.to_owned(), c));
    assert_eq!(failures, BTreeMap::from(expected), "{account}");
    knock(&scene, &server, 3)?;
    settled(&scene.agent, 20)?;
    stop(&mut scene, 20)
}

#[test]
fn accounts_close_over_agents_that_are_killed_under_load() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("storm", server.address().port())?;
    let folder = tempfile::tempdir()?;
    let until = folder.path().join("until");
    let until_option = format!("until={}", until.display());
    let (address, mark) = (server.address().to_string(), format!("mark={}", mark("storm")));
    let arguments = ["crowd", &address, "threads=6", "each=20", &mark, &until_option];
    let mut client = scene::client(&arguments)?;
    scene.cgroup.enter(&mut client)?;
    let mut client = client.stdout(Stdio::null()).spawn()?;
    let mut seen = 0;
    for _ in 0..KILLS {
        wait::until_true("connects", PATIENCE, || {
            let account = scene.agent.connects()?;
            check_closes(&account)?;
            let more = number(&account, "seen") > seen + 50;
            seen = if more { number(&account, "seen") } else { seen };
            Ok(more)
        })?;
        scene.agent.kill()?;
        scene.agent.start_process(None)?;
    }
    std::fs::write(&until, "")?;
    ensure!(client.wait()?.success(), "the crowd failed");
    let seen = scene.agent.connects()?["seen"].as_u64().context("seen")?;
    let account = settled(&scene.agent, usize::try_from(seen)?)?;
    ensure!(number(&account, "intercepted") + number(&account, "failed") > 0, "{account}");
    stop(&mut scene, usize::try_from(seen)?)
}

#[test]
fn detaching_begins_a_new_ledger_and_is_said() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("detached", server.address().port())?;
    knock(&scene, &server, 2)?;
    let before = settled(&scene.agent, 2)?;
    host::run(&mut scene.agent.command(&["detach"])?)?;
    wait::until_true("the agent to say that it was detached", PATIENCE, || {
        Ok(scene.agent.stderr().contains("the programs were detached"))
    })?;
    knock(&scene, &server, 2)?;
    scene.agent.stop()?;
    scene.agent.start_process(None)?;
    knock(&scene, &server, 3)?;
    let after = settled(&scene.agent, 3)?;
    assert_ne!(before["ledger"], after["ledger"]);
    stop(&mut scene, 3)
}

#[test]
fn pins_that_are_removed_by_hand_are_said_and_go_with_the_agent() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("unpinned", server.address().port())?;
    let links = scene.bpffs.path().join("pgward/links");
    for pin in std::fs::read_dir(&links)? {
        std::fs::remove_file(pin?.path())?;
    }
    wait::until_true("the agent to say that its pins are gone", PATIENCE, || {
        Ok(scene.agent.stderr().contains("pins were removed"))
    })?;
    knock(&scene, &server, 2)?;
    settled(&scene.agent, 2)?;
    ensure!(server.accepted() == 0, "the hooks work until the agent ends");
    stop(&mut scene, 2)?;
    wait::until_true("connects that go direct", PATIENCE, || {
        knock(&scene, &server, 1)?;
        Ok(server.accepted() > 0)
    })
}
