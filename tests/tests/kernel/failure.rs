//! The agent's death, its return, its removal, and a second one: nothing goes direct unless it was told to, and then it is
//! recorded.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use pgward_tests::agent::Agent;
use pgward_tests::bpffs::BpfFs;
use pgward_tests::cgroup::Cgroup;
use pgward_tests::host;
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::scene::{self, Scene, mark};
use pgward_tests::script::ScriptedServer;
use pgward_tests::wait::{self, PATIENCE};
use serde_json::Value;

use crate::{Result, gate};

fn knock(scene: &Scene, server: &ScriptedServer, count: usize) -> Result<Value> {
    let (address, count) = (server.address().to_string(), format!("count={count}"));
    scene.client(&["knock", &address, &count])
}

fn server() -> Result<ScriptedServer> {
    ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))
}

#[test]
fn connects_are_refused_while_the_agent_is_dead_and_redirected_when_it_is_back() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("dead", server.address().port())?;
    assert_eq!(knock(&scene, &server, 1)?["done"], 1, "redirected while it lives");
    let before = server.accepted();
    scene.agent.kill()?;
    let report = knock(&scene, &server, 50)?;
    assert_eq!(report["failures"]["ConnectionRefused"], 50, "{report}");
    let netns = NetNs::new(Loopback::Up)?;
    let address = server.address().to_string();
    let mut inside = scene::client(&["knock", &address, "count=3"])?;
    netns.enter(&mut inside);
    scene.cgroup.enter(&mut inside)?;
    let report = scene::report(&mut inside)?;
    assert_eq!(report["failures"]["ConnectionRefused"], 3, "in an unseen namespace: {report}");
    assert_eq!(server.accepted(), before, "nothing went direct");
    scene.agent.start_process(None)?;
    let mark = mark("back");
    scene.client(&["connect", &address, "how=blocking", &format!("mark={mark}")])?;
    scene.statement(&mark)?;
    Ok(())
}

#[test]
fn an_orderly_stop_leaves_connects_refused_until_detached() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("stopped", server.address().port())?;
    scene.agent.stop()?;
    let report = knock(&scene, &server, 5)?;
    assert_eq!(report["failures"]["ConnectionRefused"], 5, "{report}");
    let told = host::run(&mut scene.agent.command(&["detach"])?)?;
    assert!(!told.trim().is_empty(), "detach says what it did");
    assert_eq!(scene.agent.leftovers()?, Vec::<String>::new());
    assert_eq!(knock(&scene, &server, 5)?["done"], 5, "direct again");
    Ok(())
}

#[test]
fn connects_allowed_while_the_agent_is_dead_are_recorded_when_it_is_back() -> Result {
    gate!();
    let server = server()?;
    let builder = Agent::builder().intercept(server.address().port()).set(
        "bpf",
        "on_agent_down",
        "\"allow\"",
    );
    let mut scene = Scene::with("allowed", builder)?;
    scene.agent.kill()?;
    let report = knock(&scene, &server, 5)?;
    assert_eq!(report["done"], 5, "{report}");
    scene.agent.start_process(None)?;
    let unseen = scene.agent.wait_for_all(PATIENCE, |records| {
        let unseen = records.iter().filter(|record| record["event"] == "allowed_unseen");
        let unseen: Vec<Value> = unseen.cloned().collect();
        (count(&unseen) >= 5).then_some(unseen)
    })?;
    assert_eq!(count(&unseen), 5, "{unseen:?}");
    let address = server.address().to_string();
    for record in &unseen {
        assert_eq!(record["destination"].as_str(), Some(address.as_str()), "{record}");
        assert_eq!(record["actor"]["pid"], report["pid"], "{record}");
    }
    let mark = mark("seen");
    scene.client(&["connect", &address, "how=blocking", &format!("mark={mark}")])?;
    scene.statement(&mark)?;
    Ok(())
}

#[test]
fn a_second_agent_on_the_same_cgroup_is_refused() -> Result {
    gate!();
    let server = server()?;
    let scene = Scene::new("second", server.address().port())?;
    let other_pins = BpfFs::new()?;
    let builder = || Agent::builder().intercept(server.address().port());
    let elsewhere = builder().start(&scene.cgroup, &other_pins).err();
    let elsewhere = format!("{:#}", elsewhere.context("a second agent started")?);
    assert!(elsewhere.contains("another pgward"), "{elsewhere}");
    // The same configuration a second time.
    let mut again = scene.agent.command(&["run"])?;
    let output = scene.output(&mut again)?;
    assert!(!output.status.success(), "the same agent started twice");
    let mark = mark("first");
    let address = server.address().to_string();
    scene.client(&["connect", &address, "how=blocking", &format!("mark={mark}")])?;
    scene.statement(&mark)?;
    Ok(())
}

#[test]
fn a_subtree_taken_for_the_root_is_refused() -> Result {
    gate!();
    // In a cgroup namespace the mount's root is this test's own cgroup, so nothing else could be touched.
    let (cgroup, bpffs) = (Cgroup::new("subtree")?, BpfFs::new()?);
    let builder = Agent::builder().intercept(host::free_port()?).set("bpf", "cgroup", "\"root\"");
    let agent = builder.prepare(&cgroup, &bpffs)?;
    let mount = Cgroup::mount_point()?;
    let script = "mount -t cgroup2 none \"$0\" && exec \"$1\" run --config \"$2\"";
    let mut command = Command::new("unshare");
    command.args(["--cgroup", "--mount", "sh", "-c", script]).arg(&mount);
    command.arg(Agent::binary()?).arg(agent.config());
    cgroup.enter(&mut command)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn()?;
    let status = wait::until("the agent to refuse", PATIENCE, || Ok(process.try_wait()?));
    if status.is_err() {
        process.kill()?;
    }
    let output = process.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!status?.success(), "it started: {told}");
    assert!(told.contains("cgroup"), "it says why: {told}");
    assert_eq!(cgroup.attached_programs()?, [], "and attached nothing");
    Ok(())
}

#[test]
fn nothing_goes_direct_while_the_agent_is_restarted_under_load() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("restart", server.address().port())?;
    let folder = tempfile::tempdir()?;
    let end = folder.path().join("end");
    let (address, until) = (server.address().to_string(), format!("until={}", end.display()));
    let mut client =
        scene::client(&["crowd", &address, "threads=4", "each=5", "mark=load", &until])?;
    client.stdout(Stdio::piped());
    let client = scene.cgroup.spawn_in(client)?;
    let outcome = restarts(&mut scene, &server);
    std::fs::write(&end, "")?;
    let output = client.wait_with_output()?;
    outcome?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(server.direct(), 0, "{report}");
    assert!(report["done"].as_u64() > Some(20), "{report}");
    let mark = mark("after");
    scene.client(&["connect", &address, "how=blocking", &format!("mark={mark}")])?;
    scene.statement(&mark)?;
    Ok(())
}

/// Ends and starts the agent five times, in order and not, each time once connections flow again.
fn restarts(scene: &mut Scene, server: &ScriptedServer) -> Result {
    for round in 0..5 {
        let before = server.accepted();
        wait::until_true("connections to flow", PATIENCE, || Ok(server.accepted() > before + 5))?;
        if round % 2 == 0 { scene.agent.kill() } else { scene.agent.stop() }?;
        scene.agent.start_process(None)?;
    }
    Ok(())
}

#[test]
fn a_start_that_fails_takes_back_what_it_attached() -> Result {
    gate!();
    let server = server()?;
    let mut scene = Scene::new("halfway", server.address().port())?;
    scene.agent.stop()?;
    // The control socket comes behind the hooks: without a place for it the start fails when they are attached.
    let place = scene.agent.control_socket().to_owned();
    std::fs::create_dir(&place)?;
    let again = scene.agent.start_process(None);
    assert!(again.is_err(), "the agent started without a control socket");
    let report = knock(&scene, &server, 3)?;
    assert_eq!(report["failures"]["ConnectionRefused"], 3, "earlier hooks stay: {report}");
    host::run(&mut scene.agent.command(&["detach"])?)?;
    let again = scene.agent.start_process(None);
    assert!(again.is_err(), "the agent started without a control socket");
    std::fs::remove_dir(&place)?;
    assert_eq!(scene.agent.leftovers()?, Vec::<String>::new());
    assert_eq!(knock(&scene, &server, 3)?["done"], 3, "nothing is in the way");
    Ok(())
}

#[test]
fn detach_without_anything_attached_says_so() -> Result {
    gate!();
    let (cgroup, bpffs) = (Cgroup::new("nothing")?, BpfFs::new()?);
    let agent = Agent::builder().intercept(5432).prepare(&cgroup, &bpffs)?;
    let told = host::run(&mut agent.command(&["detach"])?)?;
    assert!(told.contains("nothing"), "{told}");
    Ok(())
}

#[test]
fn doctor_names_each_program_and_the_tier_the_agent_then_uses() -> Result {
    gate!();
    let server = server()?;
    let scene = Scene::new("doctor", server.address().port())?;
    let told = host::output(&mut scene.agent.command(&["doctor"])?)?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let line = |words: &str| text.lines().find(|line| line.contains(words)).unwrap_or_default();
    for program in ["connect4", "connect6", "sock_ops", "hold_syn", "getpeername4", "getpeername6"]
    {
        assert!(line(&format!("program `{program}")).starts_with("ok"), "{program}:\n{text}");
    }
    // What doctor promises is what the agent then has: nothing else, and the best of it.
    let promised = ["T0", "T1", "T2"].map(|tier| (tier, line(&format!("tier {tier}"))));
    let promised = promised.iter().filter(|(_, line)| line.starts_with("ok"));
    let promised: Vec<&str> = promised.map(|(tier, _)| *tier).collect();
    let used = scene.tiers()?;
    assert!(used.iter().all(|tier| promised.contains(&tier.as_str())), "{used:?}:\n{text}");
    assert_eq!(used.last().map(String::as_str), promised.last().copied(), "{used:?}:\n{text}");
    Ok(())
}

#[test]
fn doctor_tells_whether_a_process_would_be_intercepted() -> Result {
    gate!();
    let server = server()?;
    let scene = Scene::new("whether", server.address().port())?;
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let mut inside = scene.cgroup.spawn_in(sleep)?;
    let pid = inside.id().to_string();
    let ours = std::process::id().to_string();
    let ask = |pid: &str| -> Result<String> {
        let output = host::output(&mut scene.agent.command(&["doctor", "--pid", pid])?)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (about_inside, about_us) = (ask(&pid), ask(&ours));
    inside.kill()?;
    inside.wait()?;
    let (about_inside, about_us) = (about_inside?, about_us?);
    assert!(about_inside.contains(&pid) && about_us.contains(&ours), "{about_inside}\n{about_us}");
    let verdict = |text: &str, pid: &str| text.replace(pid, "PID");
    assert_ne!(
        verdict(&about_inside, &pid),
        verdict(&about_us, &ours),
        "inside and outside differ"
    );
    Ok(())
}

#[test]
fn sessions_lists_a_session_that_is_open() -> Result {
    gate!();
    let server = server()?;
    let scene = Scene::new("list", server.address().port())?;
    let mut holder = scene::client(&["crowd", &server.address().to_string()])?;
    let folder = tempfile::tempdir()?;
    let end = folder.path().join("end");
    holder.args(["threads=1", "each=1", "mark=open"]).arg(format!("until={}", end.display()));
    holder.stdout(Stdio::null());
    let mut holder = scene.cgroup.spawn_in(holder)?;
    // The client opens one session after the other, so that a look meets one soon.
    let pid = holder.id().to_string();
    let listed = wait::until_true("the session to be listed", PATIENCE, || {
        let told = host::run(&mut scene.agent.command(&["sessions"])?)?;
        Ok(told.contains(&pid))
    });
    std::fs::write(&end, "")?;
    holder.wait()?;
    listed
}

#[test]
fn the_process_is_in_the_cgroup_it_watches_and_its_own_dials_pass() -> Result {
    gate!();
    let server = server()?;
    let scene = Scene::new("own", server.address().port())?;
    let pid = i32::try_from(scene.agent.pid()?)?;
    assert!(scene.cgroup.processes()?.contains(&pid));
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    knock(&scene, &server, 1)?;
    let mark = mark("own");
    let address = server.address().to_string();
    scene.client(&["connect", &address, "how=blocking", &format!("mark={mark}")])?;
    let (statement, _) = scene.statement(&mark)?;
    assert_eq!(statement["outcome"], "completed");
    let agents = scene.agent.records()?;
    let agents = agents.iter().filter(|record| record["actor"]["pid"] == pid);
    assert_eq!(agents.count(), 0, "the agent never appears as a client of its own");
    Ok(())
}

fn count(records: &[Value]) -> u64 {
    records.iter().filter_map(|record| record["count"].as_u64()).sum()
}
