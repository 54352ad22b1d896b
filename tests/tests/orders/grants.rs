//! `pgward grant`: for a while, by two people, over a restart.

use std::process::Command;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{Result, Stage, Told, gate, told};

/// Runs `pgward <arguments>` as somebody who logged in as this user, and became root since.
fn as_login(stage: &Stage, login: u32, arguments: &[&str]) -> Result<Told> {
    let pgward = stage.agent().command(arguments)?;
    let mut command = Command::new("sh");
    command.arg("-c").arg("echo \"$0\" > /proc/self/loginuid && exec \"$@\"");
    command.arg(login.to_string()).arg(pgward.get_program()).args(pgward.get_args());
    told(&mut command)
}

/// Actions and people of the records of grants, in order.
fn records(stage: &Stage) -> Result<Vec<(Value, Value)>> {
    let records = stage.agent().records()?;
    let grants = records.into_iter().filter(|record| record["event"] == "grant");
    Ok(grants.map(|record| (record["action"].clone(), record["approver"].clone())).collect())
}

#[test]
fn a_grant_outlives_the_agent_and_not_its_end() -> Result {
    gate!();
    let mut stage = Stage::new("grant")?;
    let grant = ["grant", "--to", "exe=/usr/bin/psql,db_user=app", "--role", "support"];
    let line = [&grant[..], &["--for", "30m", "--reason", "ticket 7", "--json"]].concat();
    let granted = stage.pgward(&line)?.json()?;
    assert_eq!((&granted["state"], &granted["minutes"]), (&json!("active"), &json!(30)));
    let long = [&grant[..], &["--for", "9h", "--reason", "ticket 7"]].concat();
    let refused = stage.pgward(&long)?;
    ensure!(refused.code == Some(2) && refused.err.contains("expected 1 to 480"), "{refused:?}");
    stage.scene.agent.stop()?;
    stage.scene.agent.start_process(None)?;
    let listed = stage.pgward(&["grant", "list", "--json"])?.json()?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!((&listed[0]["id"], &listed[0]["until"]), (&granted["id"], &granted["until"]));
    let id = granted["id"].as_str().unwrap_or_default();
    let revoked = stage.pgward(&["grant", "revoke", id, "--reason", "done"])?;
    ensure!(revoked.code == Some(0) && revoked.out.contains("revoked"), "{revoked:?}");
    let again = stage.pgward(&["grant", "revoke", id])?;
    ensure!(again.code == Some(2) && again.err.contains("no grant is called"), "{again:?}");
    assert_eq!(stage.pgward(&["grant", "list"])?.err, "no grants\n");
    let expected = [(json!("begin"), json!(null)), (json!("revoke"), json!(null))];
    assert_eq!(records(&stage)?, expected);
    stage.verify()
}

#[test]
fn two_people_grant_where_the_configuration_says_so() -> Result {
    gate!();
    let stage = Stage::with("grant-two", |builder| builder.set("grants", "approvals", "1"))?;
    let grant = ["grant", "--to", "uid=1000", "--role", "support", "--for", "1h", "--reason", "x"];
    let alone = as_login(&stage, 1000, &grant)?;
    ensure!(alone.code == Some(2) && alone.err.contains("--request"), "{alone:?}");
    let asked = as_login(&stage, 1000, &[&grant[..], &["--request", "--json"]].concat())?.json()?;
    assert_eq!(
        (&asked["state"], &asked["until"], &asked["by"]),
        (&json!("requested"), &json!(null), &json!(1000))
    );
    let id = asked["id"].as_str().unwrap_or_default();
    let same = as_login(&stage, 1000, &["grant", "approve", id])?;
    ensure!(same.code == Some(2) && same.err.contains("user 1000 asked for this"), "{same:?}");
    let other = as_login(&stage, 1001, &["grant", "approve", id, "--json"])?.json()?;
    assert_eq!((&other["state"], &other["approver"]), (&json!("active"), &json!("user 1001")));
    let expected = [
        (json!("request"), json!(null)),
        (json!("approve"), json!("user 1001")),
        (json!("begin"), json!("user 1001")),
    ];
    assert_eq!(records(&stage)?, expected);
    stage.verify()
}
