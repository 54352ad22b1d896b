//! Roles that `pgward grant` gives for a while.

use anyhow::Context;
use pgward_tests::wire::{outline, read_frame};
use serde_json::Value;

use crate::{Result, Stage, gate};

/// What is in `public` is for who has the role `support`, and nobody has it.
const PROTECTED: &str = r#"
[[protect]]
name = "ours"
relations = ["public.*"]

[[role]]
name = "support"

[[role.grant]]
actions = ["read"]
relations = ["public.*"]
"#;

#[test]
fn a_role_counts_from_its_grant_to_its_end() -> Result {
    gate!();
    let stage = Stage::new("grants", PROTECTED)?;
    let mut client = stage.client()?;
    let read = "select n from cards";
    assert_eq!(outline(&client.simple(read)?), "E(42501)ZI");
    let grant = ["grant", "--role", "support", "--for", "30m", "--reason", "ticket 7", "--json"];
    // Somebody else has it.
    stage.pgward(&[&grant[..], &["--to", "exe=/usr/bin/psql"]].concat())?;
    assert_eq!(outline(&client.simple(read)?), "E(42501)ZI");
    let told = stage.pgward(&[&grant[..], &["--to", "db_user=postgres"]].concat())?;
    let told: Value = serde_json::from_str(&told)?;
    // At once, for a session that is there; and no more than the role grants.
    assert_eq!(outline(&client.simple(read)?), "TDCZI");
    assert_eq!(outline(&client.simple("delete from cards")?), "E(42501)ZI");
    let id = told["id"].as_str().context("an id")?;
    stage.pgward(&["grant", "revoke", id, "--reason", "done"])?;
    // The session that used it ends with it, at rest as it is; a new one has nothing.
    let end = read_frame(&mut client.stream)?.context("a farewell")?;
    assert_eq!(outline(std::slice::from_ref(&end)), "E(57P01)");
    assert!(read_frame(&mut client.stream)?.is_none());
    let mut next = stage.client()?;
    assert_eq!(outline(&next.simple(read)?), "E(42501)ZI");
    drop((client, next));
    stage.verify()
}
