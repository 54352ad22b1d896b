//! Who has a role: by program, user of the host, container, and what the application says of itself.

use std::fmt::Write as _;

use pgward_tests::agent::Agent;
use pgward_tests::container::Container;
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::Scene;
use pgward_tests::wire::outline;

use crate::{Result, SCHEMA, Stage, gate};

/// Who this is of has nothing of `cards`.
fn denied_to(who: &str) -> String {
    let mut policy = String::from("[[role]]\nname = \"kept-out\"\n[[role.deny]]\n");
    policy.push_str("actions = [\"all\"]\nrelations = [\"public.cards\"]\n[[assign]]\n");
    let _ = writeln!(policy, "give = [\"kept-out\"]\n{who}"); // a String takes all
    policy
}

#[test]
fn roles_are_given_by_program_and_user() -> Result {
    gate!();
    // Another process opened the connection; who writes is who counts.
    let client = std::env::current_exe()?.display().to_string();
    let stage = Stage::new("who", "")?;
    for (who, refused) in [
        (format!("exe = [{client:?}]\nuid = [0]"), true),
        ("exe = [\"/usr/bin/psql\"]".to_owned(), false),
        ("uid = [0]".to_owned(), true),
        ("uid = [1000]".to_owned(), false),
        ("exe = [\"*/deps/policy-*\"]".to_owned(), true),
        // All keys must match.
        (format!("exe = [{client:?}]\nuid = [1000]"), false),
    ] {
        stage.write(&denied_to(&who))?;
        let sqlstate = if refused { "42501" } else { "" };
        stage.wait_until_said("select n from cards", sqlstate)?;
    }
    Ok(())
}

#[test]
fn a_tag_of_a_comment_counts_for_its_statement() -> Result {
    gate!();
    let stage = Stage::new("who-tag", &denied_to("tag = { route = [\"/public*\"] }"))?;
    let mut client = stage.client()?;
    let read = "select n from cards";
    for (comment, expected) in [
        ("", "TDCZI"),
        (" /*route='%2Fpublic%2Flist'*/", "E(42501)ZI"),
        (" /*route='%2Fadmin'*/", "TDCZI"),
        (" /*action='x',route='%2Fpublic'*/", "E(42501)ZI"),
        ("", "TDCZI"),
    ] {
        let frames = client.simple(&format!("{read}{comment}"))?;
        assert_eq!(outline(&frames), expected, "{comment}");
    }
    Ok(())
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
