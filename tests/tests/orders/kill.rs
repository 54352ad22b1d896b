//! `pgward kill`: by id, process, program, container and role; cancel, wait, terminate.

use std::net::TcpListener;

use anyhow::{Context, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::container::Container;
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::Scene;
use pgward_tests::visitor::Visitor;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire::{self, outline};
use serde_json::{Value, json};
use std::io::Write;

use crate::{Result, Stage, gate, last_words, pgward};

/// What became of each session that was hit, without order.
fn became(killed: &Value) -> Vec<(String, String)> {
    let sessions = killed["sessions"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> =
        sessions.iter().map(|hit| (text(&hit["session"]["id"]), text(&hit["became"]))).collect();
    all.sort();
    all
}

/// `feed000000000001000000000000002a` as `feed:42`.
fn short(id: &Value) -> Result<String> {
    let id = id.as_str().context("an id")?;
    Ok(format!("{}:{}", &id[..4], u64::from_str_radix(&id[16..], 16)?))
}

#[test]
fn a_statement_is_cancelled_and_the_session_goes_on() -> Result {
    gate!();
    let stage = Stage::new("kill-cancel")?;
    let mut client = stage.sleeper()?;
    let id = stage.session(&client, "active")?["id"].clone();
    let killed = stage.pgward(&["kill", &short(&id)?, "--json"])?;
    ensure!(killed.code == Some(0), "{killed:?}");
    let hit = (id.as_str().context("an id")?.to_owned(), "cancelled".to_owned());
    assert_eq!(became(&killed.json()?), [hit]);
    let told = outline(&wire::read_until_ready(&mut client.stream)?);
    ensure!(told.contains("E(57014)"), "the statement ended with {told}");
    assert_eq!(client.value("select 'goes on'")?, "goes on");
    // Nothing runs: nothing is sent that could hit what comes next.
    stage.session(&client, "idle")?;
    let idle =
        stage.pgward(&["kill", id.as_str().context("an id")?, "--reason", "slow", "--json"])?;
    assert_eq!(became(&idle.json()?)[0].1, "idle");
    assert_eq!(client.value("select 'still'")?, "still");
    let kills = stage.kills()?;
    assert_eq!(kills.len(), 2);
    for (kill, reason) in kills.iter().zip([json!(null), json!("slow")]) {
        assert_eq!(
            (&kill["action"], &kill["scope"], &kill["sessions"], &kill["by_uid"]),
            (&json!("cancel"), &json!("session"), &json!(1), &json!(0))
        );
        assert_eq!(kill["reason"], reason);
    }
    assert_eq!(kills[0]["target"], short(&id)?);
    let outcome = stage.agent().wait_for(
        |record| record["event"] == "statement" && record["sqlstate"] == "57014",
        PATIENCE,
    )?;
    assert_eq!(outcome["session"], id);
    drop(client);
    stage.verify()
}

#[test]
fn sessions_end_at_once_whatever_they_do() -> Result {
    gate!();
    let stage = Stage::new("kill-terminate")?;
    let mut idle = stage.client()?;
    let mut active = stage.sleeper()?;
    let mut open = stage.client()?;
    open.simple("begin")?;
    open.simple("create temporary table t (x int)")?;
    let ids = [
        stage.session(&idle, "idle")?["id"].clone(),
        stage.session(&active, "active")?["id"].clone(),
        stage.session(&open, "idle in transaction")?["id"].clone(),
    ];
    let why = "maintenance until noon";
    let kill = ["kill", "--role", "postgres", "--terminate", "--reason", why, "--json"];
    let killed = stage.pgward(&kill)?;
    ensure!(killed.code == Some(0), "{killed:?}");
    let all = became(&killed.json()?);
    assert_eq!(all.len(), 3, "{killed:?}");
    for (_, result) in &all {
        assert_eq!(result, "ended", "{killed:?}");
    }
    for client in [&mut idle, &mut active, &mut open] {
        let (sqlstate, detail) = last_words(client)?;
        assert_eq!(sqlstate, "57P01");
        ensure!(detail.contains("pgward") && detail.contains(why), "{detail}");
    }
    for id in &ids {
        let end = stage.end_of(id)?;
        assert_eq!(
            (&end["reason"], &end["detail"], &end["sqlstate"]),
            (&json!("killed"), &json!(why), &json!("57P01"))
        );
    }
    // The statement does not run on where nobody waits for it.
    let backend = active.backend;
    wait::until_true("the end of the sleep", PATIENCE, || Ok(!stage.sleeps(backend)?))?;
    let kills = stage.kills()?;
    assert_eq!(kills.len(), 1);
    assert_eq!(
        (&kills[0]["action"], &kills[0]["sessions"], &kills[0]["reason"]),
        (&json!("terminate"), &json!(3), &json!(why))
    );
    let none = stage.pgward(&kill)?;
    assert_eq!((none.code, became(&none.json()?).len()), (Some(1), 0), "nothing is left to end");
    drop((idle, active, open));
    stage.verify()
}

#[test]
fn a_session_that_is_to_end_may_end_its_transaction_first() -> Result {
    gate!();
    let stage = Stage::new("kill-wait")?;
    stage.cluster.sql("postgres", "create table kept (x int)")?;
    let mut open = stage.client()?;
    open.simple("begin")?;
    open.simple("insert into kept values (1)")?;
    let mut idle = stage.client()?;
    let id = stage.session(&open, "idle in transaction")?["id"].clone();
    stage.session(&idle, "idle")?;
    let wait = ["kill", "--role", "postgres", "--wait", "--reason", "upgrade", "--json"];
    let killed = stage.pgward(&wait)?;
    assert_eq!((killed.code, became(&killed.json()?).len()), (Some(0), 2), "{killed:?}");
    // At rest: it ends without another word from its client.
    assert_eq!(last_words(&mut idle)?.0, "57P01");
    drop(idle);
    wait::until_true("the end of the session at rest", PATIENCE, || {
        Ok(stage.sessions()?.iter().all(|session| session["id"] == id))
    })?;
    assert_eq!(open.value("select count(*) from kept")?, "1", "it is left alone meanwhile");
    assert_eq!(stage.session(&open, "idle in transaction")?["id"], id);
    open.stream.write_all(&wire::query("commit"))?;
    let told = outline(&wire::read_until_ready(&mut open.stream)?);
    assert_eq!(told, "CZI", "the transaction is kept");
    let (sqlstate, detail) = last_words(&mut open)?;
    assert_eq!(sqlstate, "57P01");
    ensure!(detail.contains("upgrade"), "{detail}");
    assert_eq!(stage.cluster.sql("postgres", "select count(*) from kept")?.trim(), "1");
    assert_eq!(stage.end_of(&id)?["reason"], "killed");
    drop(open);
    stage.verify()
}

#[test]
fn sessions_are_chosen_by_process_program_role_and_destination() -> Result {
    gate!();
    let stage = Stage::new("kill-chosen")?;
    stage.cluster.sql("postgres", "create role batch login")?;
    let first = stage.client()?;
    let batch = stage.client_as("batch")?;
    let ids = [&first, &batch].map(|client| stage.session(client, "idle"));
    let [first_one, batch_one] = ids;
    let (first_one, batch_one) = (first_one?, batch_one?);
    let pid = batch_one["pid"].to_string();
    let port = format!("127.0.0.1:{}", stage.cluster.port());
    let id = |session: &Value| session["id"].as_str().unwrap_or_default().to_owned();
    let (one, two) = (id(&first_one), id(&batch_one));
    for (by, expected) in [
        (&["--pid", &pid][..], &[&two][..]),
        (&["--role", "batch"], &[&two]),
        (&["--role", "b*"], &[&two]),
        (&["--role", "nobody"], &[]),
        (&["--exe", "pgward-test-client"], &[&one, &two]),
        (&["--exe", "*/pgward-test-client", "--pid", &pid], &[&two]),
        (&["--exe", "psql"], &[]),
        (&["--destination", "tests"], &[&one, &two]),
        (&["--destination", "127.0.0.1", "--role", "postgres"], &[&one]),
        (&["--destination", &port], &[&one, &two]),
        (&["--container", "*"], &[]),
        (&[&one], &[&one]),
    ] {
        let dry = [&["kill"], by, &["--terminate", "--dry-run", "--json"]].concat();
        let told = stage.pgward(&dry)?;
        let mut found: Vec<_> = became(&told.json()?);
        found.sort();
        let mut wanted: Vec<_> =
            expected.iter().map(|id| ((*id).clone(), "untouched".to_owned())).collect();
        wanted.sort();
        assert_eq!(found, wanted, "{by:?}");
        assert_eq!(told.code, Some(i32::from(expected.is_empty())), "{told:?}");
    }
    assert!(stage.kills()?.is_empty(), "nothing was done, nothing is recorded");
    assert_eq!(stage.sessions()?.len(), 2);
    for refused in [&["kill"][..], &["kill", "--pid", &pid, "--terminate"]] {
        let told = stage.pgward(refused)?;
        assert_eq!(told.code, Some(2), "{told:?}");
    }
    drop((first, batch));
    stage.verify()
}

#[test]
fn sessions_of_a_container_are_cancelled_by_its_name() -> Result {
    gate!(with "crun");
    let mut netns = NetNs::new(Loopback::Up)?;
    let cable = netns.connect_to_host()?;
    let cluster = Cluster::builder().listen("*").start()?;
    let roots = tempfile::tempdir()?;
    let root = format!("[{:?}]", roots.path());
    let agent = Agent::builder().intercept(cluster.port());
    let agent = agent.set("attribution", "container_state_roots", &root);
    let scene = Scene::with("kill-container", agent)?;
    let builder = Container::builder("billing").network(&netns).state_root(roots.path());
    let id = builder.id().to_owned();
    let address = format!("host={} port={} user=postgres", cable.outside, cluster.port());
    let sleep = ["psql", &address, "-XAtc", "select pg_sleep(60)"];
    let mut container = builder.run(&scene.cgroup, &sleep)?;
    let listed = || -> Result<Option<Value>> {
        let told = pgward(&scene.agent, &["sessions", "--json", "--container", &id])?;
        let found = told.json()?[0].clone();
        Ok((found["state"] == "active").then_some(found))
    };
    let session = wait::until("the container's session", PATIENCE, listed)?;
    let killed = pgward(&scene.agent, &["kill", "--container", &id, "--json"])?;
    let hit = (session["id"].as_str().context("an id")?.to_owned(), "cancelled".to_owned());
    assert_eq!(became(&killed.json()?), [hit], "{killed:?}");
    let output = container.wait()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(told.contains("canceling statement due to user request"), "{told}");
    Ok(())
}

/// Before anybody is logged in there is only the process and where it wants to go.
#[test]
fn a_session_ends_also_while_its_server_keeps_it_waiting() -> Result {
    gate!();
    // A server that accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?;
    let scene = Scene::new("kill-startup", address.port())?;
    let mut visitor = Visitor::connect(address, Some(&scene.cgroup))?;
    visitor.write_all(&wire::startup(&[("user", "postgres"), ("database", "postgres")]))?;
    let (_held, _) = silent.accept()?;
    let listed = || -> Result<Option<Value>> {
        let told = pgward(&scene.agent, &["sessions", "--json", "--state", "startup"])?;
        Ok(told.json()?.as_array().and_then(|all| all.first().cloned()))
    };
    let session = wait::until("the session", PATIENCE, listed)?;
    let pid = session["pid"].to_string();
    let cancel = pgward(&scene.agent, &["kill", "--pid", &pid, "--json"])?;
    assert_eq!(became(&cancel.json()?)[0].1, "told", "it is looked at when the session is ready");
    let kill = ["kill", "--pid", &pid, "--terminate", "--reason", "stuck", "--json"];
    let killed = pgward(&scene.agent, &kill)?;
    assert_eq!(became(&killed.json()?)[0].1, "ended", "{killed:?}");
    let frame = wire::read_frame(&mut visitor)?.context("closed without a word")?;
    assert_eq!(wire::error_field(&frame.body, b'C'), "57P01");
    let end = scene.agent.wait_for(|record| record["event"] == "session_end", PATIENCE)?;
    assert_eq!((&end["reason"], &end["detail"]), (&json!("killed"), &json!("stuck")));
    Ok(())
}
