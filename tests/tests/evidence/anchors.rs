//! Copies of checkpoints at four places, and what they are worth when the end of the trail is cut off.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use pgward_tests::agent::Agent;
use pgward_tests::host;
use pgward_tests::postgres::Cluster;
use pgward_tests::wait::{self, PATIENCE};
use serde_json::Value;

use crate::house::{Auditor, House, INCOMPLETE, INTACT};
use crate::{Result, gate};

const SECRET: &str = "swordfish";
const ROLE: &str = "pgward_anchor";
pub(crate) const DATABASE: &str = "anchors";
/// By their names.
pub(crate) const ALL: [&str; 4] = ["paper", "share", "table", "witness"];

/// An agent with an anchor of each kind. The database is in the server that it protects, and the witness stands on a
/// protected port too.
pub(crate) fn house(label: &str) -> Result<House> {
    let hba = format!("host all {ROLE} all scram-sha-256\nhost all all all trust\n");
    let (cluster, auditor) = (Cluster::builder().hba(&hba).start()?, Auditor::new()?);
    let sql =
        host::run(std::process::Command::new(Agent::binary()?).args(["audit", "anchor-sql"]))?;
    cluster.sql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
    cluster.sql(DATABASE, &sql)?;
    cluster.sql(DATABASE, &format!("ALTER ROLE {ROLE} PASSWORD '{SECRET}'"))?;
    let (share, password) = (auditor.file("share"), auditor.file("password"));
    fs::create_dir(&share)?;
    fs::write(&password, SECRET)?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    let anchors = format!(
        "[{{ name = 'paper', kind = 'print', every_s = 1, to = 'stdout' }},\
         {{ name = 'share', kind = 'file', every_s = 1, directory = '{}' }},\
         {{ name = 'table', kind = 'database', every_s = 1, destination = 'tests', \
            address = '127.0.0.1:{}', database = '{DATABASE}', user = '{ROLE}', \
            password_file = '{}' }}, {}]",
        share.display(),
        cluster.port(),
        password.display(),
        auditor.anchor()
    );
    let witness = auditor.port();
    let house = House::with(label, cluster, auditor, |builder| {
        builder.set("audit", "anchor", &anchors).intercept(witness)
    })?;
    house.scene.agent.secrets().add("the anchor's password", SECRET.as_bytes());
    Ok(house)
}

/// Notes of the table, as its administrator would hand them out.
pub(crate) fn notes_of_the_table(house: &House) -> Result<PathBuf> {
    let notes = house.cluster.sql(DATABASE, "SELECT note FROM pgward.checkpoint ORDER BY size")?;
    let path = house.auditor.file("table.notes");
    fs::write(&path, notes)?;
    Ok(path)
}

/// The last note that was printed, put together from its line.
pub(crate) fn note_on_paper(house: &House) -> Result<PathBuf> {
    let log = house.scene.agent.stderr();
    let line =
        log.lines().rfind(|line| line.starts_with("checkpoint origin=")).context("a line")?;
    let field = |name: &str| {
        let mut fields = line.split(' ').filter_map(|field| field.split_once('='));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value).context("a field")
    };
    let (origin, size) = (field("origin")?, field("size")?);
    let (root, signature) = (field("root")?, field("signature")?);
    let path = house.auditor.file("paper.note");
    fs::write(&path, format!("{origin}\n{size}\n{root}\n\n— {origin} {signature}\n"))?;
    Ok(path)
}

fn anchor(status: &Value, name: &str) -> Result<Value> {
    let anchors = status["audit"]["anchors"].as_array().context("anchors")?;
    anchors.iter().find(|anchor| anchor["name"] == name).cloned().context("an anchor")
}

#[test]
fn each_anchor_of_a_running_agent_vouches_for_its_trail() -> Result {
    gate!();
    let house = house("anchors")?;
    house.session()?;
    house.wait_anchored(&ALL)?;
    let (trail, auditor) = (house.trail(), &house.auditor);
    let none = auditor.verify(trail, &[])?;
    assert!(none.code == INCOMPLETE && none.has("not-anchored"), "{none:?}");
    let witnessed = auditor.verify_witnessed(trail)?;
    assert_eq!(witnessed.code, INTACT, "{witnessed:?}");
    for copies in [auditor.file("share"), notes_of_the_table(&house)?, note_on_paper(&house)?] {
        let copies = copies.to_str().context("a path of text")?;
        let checked = auditor.verify(trail, &["--anchor", copies])?;
        assert_eq!(checked.code, INTACT, "{copies}: {checked:?}");
    }

    // The role can add, and nothing else; the table is another's.
    let owner = "SELECT tableowner FROM pg_tables WHERE schemaname = 'pgward'";
    assert_eq!(house.cluster.sql(DATABASE, owner)?.trim(), "pgward_anchor_owner");
    let count = || house.cluster.sql(DATABASE, "SELECT count(*) FROM pgward.checkpoint");
    ensure!(count()?.trim() != "0", "no rows");
    for text in ["UPDATE pgward.checkpoint SET size = 1", "DELETE FROM pgward.checkpoint"] {
        let mut psql = house.cluster.client("psql", "127.0.0.1");
        psql.env("PGPASSWORD", SECRET).args(["-X", "-U", ROLE, "-d", DATABASE, "-c", text]);
        let output = host::output(&mut psql)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("permission denied for table checkpoint"), "{said}");
    }

    // Its own connections are not seen, let alone intercepted: neither to the table nor to the witness.
    let entries = house.scene.agent.entries()?;
    let users: Vec<&Value> = (entries.iter().filter(|entry| entry.is("session_start")))
        .map(|entry| &entry.fields["database_user"])
        .collect();
    assert_eq!(users, ["postgres"]);
    let connects = house.scene.agent.connects()?;
    assert_eq!((&connects["seen"], &connects["intercepted"]), (&1.into(), &1.into()), "{connects}");
    house.finish()
}

#[test]
fn a_witness_that_goes_away_shows_and_stops_nobody() -> Result {
    gate!();
    let mut house = house("lag")?;
    house.wait_anchored(&ALL)?;
    let mut client = house.client()?;
    house.auditor.lose_witness();
    let failing = wait::until("the anchor to fail again", PATIENCE, || {
        client.value("select 'goes on'")?;
        let witness = anchor(&house.status()?, "witness")?;
        Ok((witness["failures"].as_u64() >= Some(2)).then_some(witness))
    })?;
    let error = failing["error"].as_str().context("why")?;
    assert!(error.contains("no answer from the witness"), "{error}");
    // Its lag grows; that of the others does not.
    let before = failing["lag_ms"].as_u64().context("a lag")?;
    wait::until_true("a lag that grows", PATIENCE, || {
        client.value("select 'goes on'")?;
        let status = house.status()?;
        let (witness, share) = (anchor(&status, "witness")?, anchor(&status, "share")?);
        assert!(share["error"].is_null(), "{share}");
        let lag = witness["lag_ms"].as_u64();
        Ok(lag >= Some(before + 1_000) && share["lag_ms"].as_u64() < lag)
    })?;
    let told = house.pgward_done(&["status"])?;
    let line = |name: &str| told.lines().find(|line| line.contains(name)).unwrap_or_default();
    assert!(line("seal lag").trim_end().ends_with(" s"), "{told}");
    assert!(line("witness: ").contains("no answer from the witness"), "{told}");
    assert!(line("share: ").trim_end().ends_with(" s"), "{told}");
    let failed = |fields: &Value| fields["event"] == "failure" && fields["anchor"] == "witness";
    house.scene.agent.wait_for(failed, PATIENCE)?;

    // It comes back, and goes on from what it knew.
    house.auditor.find_witness()?;
    house.wait_anchored(&ALL)?;
    let witness = anchor(&house.status()?, "witness")?;
    assert!(witness["error"].is_null() && witness["alarm"].is_null(), "{witness}");
    assert_eq!(house.auditor.verify_witnessed(house.trail())?.code, INTACT);
    drop(client);
    house.finish()
}
