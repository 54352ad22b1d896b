//! The search for secrets can fail.

use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{Scene, mark};

use crate::{Result, gate};

#[test]
fn a_secret_that_is_recorded_is_found_when_the_guard_ends() -> Result {
    gate!();
    let cluster = Cluster::start()?;
    let scene = Scene::new("sweep", cluster.port())?;
    let canary = mark("canary");
    scene.agent.secrets().add("the canary", canary.as_bytes());
    // Nothing shows it so far.
    assert_eq!(scene.agent.revealed()?, Vec::<String>::new());
    // The text of a statement is recorded, so that this secret must be found.
    let mut psql = cluster.client("psql", "127.0.0.1");
    scene.run(psql.args(["-XAtc", &format!("select '{canary}'")]))?;
    scene.statement(&canary)?;
    let Scene { agent, bpffs, cgroup } = scene;
    let end = agent.finish();
    drop((bpffs, cgroup));
    let told = format!("{:#}", end.expect_err("the canary is found"));
    assert!(told.contains("secret in") && told.contains("the canary, as it is"), "{told}");
    assert!(
        told.contains("of the audit trail") && told.contains("/audit/epoch-1/segment-"),
        "{told}"
    );
    Ok(())
}
