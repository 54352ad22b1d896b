//! A real container is named in the record, whatever network it has.

use anyhow::Context;
use pgward_tests::agent::Agent;
use pgward_tests::container::{Builder, Container};
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{Scene, mark};
use serde_json::Value;

use crate::{Result, gate};

/// Runs psql in a container and returns its session's start record and its statement.
fn psql(
    scene: &Scene,
    builder: Builder,
    address: &str,
    sql: &str,
) -> Result<(Value, Value, String)> {
    let mark = mark("container");
    let told = format!("{sql} -- {mark}");
    let mut container = builder.run(&scene.cgroup, &["psql", address, "-XAtc", &told])?;
    let output = container.wait()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "psql: {stderr}\n{}", scene.agent.story());
    let (statement, start) = scene.statement(&mark)?;
    Ok((statement, start, String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn a_container_is_named_with_its_runtime() -> Result {
    gate!(with "crun");
    let roots = tempfile::tempdir()?;
    let mut netns = NetNs::new(Loopback::Up)?;
    let cable = netns.connect_to_host()?;
    let cluster = Cluster::builder().listen("*").start()?;
    let root = format!("[{:?}]", roots.path());
    let builder = Agent::builder().intercept(cluster.port()).set(
        "attribution",
        "container_state_roots",
        &root,
    );
    let scene = Scene::with("container", builder)?;
    let container = Container::builder("billing")
        .network(&netns)
        .state_root(roots.path())
        .annotation("org.opencontainers.image.ref.name", "registry.example/billing:1.4");
    let id = container.id().to_owned();
    let address = format!("host={} port={} user=postgres", cable.outside, cluster.port());
    let (statement, start, answer) =
        psql(&scene, container, &address, "select inet_client_addr()")?;
    let actor = &start["actor"];
    assert_eq!(answer.trim(), cable.inside.to_string(), "dialled in the container's network");
    assert_eq!(actor["container"]["id"].as_str(), Some(id.as_str()), "{start}");
    assert_eq!(actor["container"]["runtime"], "crun", "{start}");
    assert_eq!(actor["container"]["name"].as_str(), Some(id.as_str()), "{start}");
    let exe = actor["exe"].as_str().context("exe")?;
    assert!(exe.ends_with("/psql"), "{start}");
    let arguments = actor["cmdline"].as_array().context("cmdline")?;
    assert!(arguments.iter().any(|argument| argument == "-XAtc"), "{start}");
    assert!(statement["writer"]["container"].is_string(), "{statement}");
    Ok(())
}

#[test]
fn a_container_without_any_network_but_loopback_is_watched() -> Result {
    gate!(with "crun");
    let cluster = Cluster::start()?;
    let scene = Scene::new("lonely", cluster.port())?;
    let mark = mark("lonely");
    // There is no server in there: the session must be dialled inside, fail, and say so as libpq expects it.
    let address = format!("host=127.0.0.1 port={} user=postgres", cluster.port());
    let told = format!("select 1 -- {mark}");
    let arguments = ["psql", &address, "-XAtc", &told];
    let mut container =
        Container::builder("lonely").own_network().run(&scene.cgroup, &arguments)?;
    let output = container.wait()?;
    assert!(!output.status.success(), "the host's server is not the container's");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("connection"), "{error}");
    let ended = scene.agent.wait_for(
        |record| record["event"] == "session_end" && record["reason"] == "dial_failed",
        pgward_tests::wait::PATIENCE,
    )?;
    assert!(ended["session"].is_string(), "{ended}");
    Ok(())
}

#[test]
fn a_program_executed_into_a_container_belongs_to_it() -> Result {
    gate!(with "crun");
    let mut netns = NetNs::new(Loopback::Up)?;
    let cable = netns.connect_to_host()?;
    let cluster = Cluster::builder().listen("*").start()?;
    let scene = Scene::new("exec", cluster.port())?;
    let container =
        Container::builder("shop").network(&netns).run(&scene.cgroup, &["sleep", "1000"])?;
    container.pid()?;
    let mark = mark("exec");
    let address = format!("host={} port={} user=postgres", cable.outside, cluster.port());
    let output = container.exec(&["psql", &address, "-XAtc", &format!("select 1 -- {mark}")])?;
    assert_eq!(output.stdout, b"1\n", "{}", String::from_utf8_lossy(&output.stderr));
    let (_, start) = scene.statement(&mark)?;
    let cgroup = start["actor"]["cgroup"].as_str().context("cgroup")?;
    assert!(cgroup.starts_with(container.cgroup()), "{cgroup} in {}", container.cgroup());
    Ok(())
}
