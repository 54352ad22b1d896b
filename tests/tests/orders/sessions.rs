//! `pgward sessions`: what each session does, since when, and in which transaction.

use anyhow::ensure;
use pgward_tests::wait::{self, PATIENCE};
use serde_json::{Value, json};

use crate::{Result, Stage, gate};

#[test]
fn a_session_shows_its_transaction_and_its_last_statement() -> Result {
    gate!();
    let stage = Stage::new("sessions")?;
    let mut client = stage.client()?;
    let idle = stage.session(&client, "idle")?;
    assert_eq!((&idle["transaction_since"], &idle["last_class"]), (&json!(null), &json!("-")));
    assert_eq!((&idle["denials"], &idle["destination_name"]), (&json!(0), &json!("tests")));
    client.simple("begin")?;
    let open = stage.session(&client, "idle in transaction")?;
    assert_eq!(open["last_class"], "simple");
    ensure!(open["transaction_since"].is_string(), "{open}");
    client.simple("select generate_series(1, 7)")?;
    // The transaction is the same, and grows older.
    let grown = wait::until("an older transaction", PATIENCE, || {
        let now = stage.session(&client, "idle in transaction")?;
        let age = |session: &Value| session["transaction_ms"].as_u64();
        Ok((age(&now) > age(&open)).then_some(now))
    })?;
    assert_eq!(grown["transaction_since"], open["transaction_since"]);
    assert_eq!(grown["rows"], 7);
    ensure!(client.simple("rollback").is_ok(), "not rolled back");
    let idle = stage.session(&client, "idle")?;
    assert_eq!((&idle["transaction_since"], &idle["transaction_ms"]), (&json!(null), &json!(null)));
    // A statement outside of a block is a transaction of its own.
    stage.sleep(&mut client)?;
    let active = stage.session(&client, "active")?;
    ensure!(active["transaction_ms"].is_u64(), "{active}");
    for (arguments, count) in [
        (&["--state", "active"][..], 1),
        (&["--state", "idle*"], 0),
        (&["--role", "postgres", "--exe", "pgward-test-client"], 1),
        (&["--role", "other"], 0),
        (&["--container", "*"], 0),
    ] {
        let all = [&["sessions", "--json"], arguments].concat();
        let found = stage.pgward(&all)?.json()?;
        assert_eq!(found.as_array().map(Vec::len), Some(count), "{arguments:?}");
    }
    let table = stage.pgward(&["sessions"])?.out;
    let wide = stage.pgward(&["sessions", "--wide"])?.out;
    for heading in ["TRANSACTION", "LAST", "DENIED"] {
        ensure!(table.contains(heading) && wide.contains(heading), "{table}{wide}");
    }
    ensure!(wide.contains("HANDSHAKE") && !table.contains("HANDSHAKE"), "{table}{wide}");
    let kill = ["kill", "--role", "postgres", "--terminate", "--reason", "the test is over"];
    assert_eq!(stage.pgward(&kill)?.code, Some(0));
    drop(client);
    stage.verify()
}
