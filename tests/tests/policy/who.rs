//! Who has a role.

use std::fmt::Write as _;

use pgward_tests::agent::Agent;
use pgward_tests::container::Container;
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::Scene;

use crate::{Result, SCHEMA, gate};

/// Who this is of has nothing of `cards`.
fn denied_to(who: &str) -> String {
    let mut policy = String::from("[[role]]\nname = \"kept-out\"\n[[role.deny]]\n");
    policy.push_str("actions = [\"all\"]\nrelations = [\"public.cards\"]\n[[assign]]\n");
    let _ = writeln!(policy, "give = [\"kept-out\"]\n{who}"); // a String takes all
    policy
}

#[test]
fn a_container_has_what_is_its_own() -> Result {
    gate!(with "crun");
    let mut netns = NetNs::new(Loopback::Up)?;
    let cable = netns.connect_to_host()?;
    let cluster = Cluster::builder().listen("*").start()?;
    cluster.sql("postgres", SCHEMA)?;
    let roots = tempfile::tempdir()?;
    let file = roots.path().join("policy.toml");
    std::fs::write(&file, denied_to("container = [\"billing-*\"]"))?;
    let agent = Agent::builder().intercept(cluster.port());
    let root = format!("[{:?}]", roots.path());
    let agent = agent.set("attribution", "container_state_roots", &root);
    let agent = agent.set("policy", "file", &format!("{:?}", file.display().to_string()));
    let scene = Scene::with("who-container", agent)?;
    let address = format!("host={} port={} user=postgres", cable.outside, cluster.port());
    let read = ["psql", &address, "-XAtc", "select n from cards"];
    for (name, out, err) in
        [("billing", "", "ERROR:  permission denied for table cards"), ("shop", "7\n", "")]
    {
        let builder = Container::builder(name).network(&netns).state_root(roots.path());
        let output = builder.run(&scene.cgroup, &read)?.wait()?;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), out, "{name}: {told}");
        assert!(told.starts_with(err), "{name}: {told}");
    }
    Ok(())
}
