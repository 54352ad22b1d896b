//! What the trail holds of decisions, and that an auditor can verify it.

use anyhow::Context;
use pgward_tests::scene::find_statement;
use pgward_tests::wait::PATIENCE;
use pgward_tests::wire::{bind, execute, outline, parse, sync};
use serde_json::{Value, json};

use crate::{NO_CARDS, Result, Said, Stage, digest, exchange, gate, said};

/// [`NO_CARDS`] with another mode.
fn with_mode(mode: &str) -> String {
    NO_CARDS.replace("name = \"all\"", &format!("name = \"all\"\nmode = \"{mode}\""))
}

/// The record of the statement whose text contains `mark`.
fn statement(stage: &Stage, mark: &str) -> Result<Value> {
    stage
        .agent()
        .wait_for_all(PATIENCE, |records| find_statement(records, mark).cloned())
        .with_context(|| format!("statement with `{mark}`"))
}

#[test]
fn a_denial_is_recorded_with_what_decided_it() -> Result {
    gate!();
    let stage = Stage::new("records-denied", NO_CARDS)?;
    let mut client = stage.client()?;
    client.simple("select n from notes")?;
    client.simple("select n from cards")?;
    let message = [parse("", "select owner from cards where n = $1"), sync()];
    assert_eq!(outline(&exchange(&mut client, &message)?), "E(42501)ZI");
    client.simple("begin; delete from cards")?;
    let session = stage.id(&client)?;
    let denied = stage.agent().wait_for_all(PATIENCE, |records| {
        let denied: Vec<_> = records.iter().filter(|r| r["event"] == "denied").cloned().collect();
        (denied.len() == 2).then_some(denied)
    })?;
    for (record, text) in
        denied.iter().zip(["select n from cards", "select owner from cards where n = $1"])
    {
        assert_eq!((&record["session"], &record["text"]), (&json!(session), &json!(text)));
        assert_eq!(record["decision"], "deny");
        assert_eq!(record["rules"], json!(["no-cards"]));
        assert_eq!(record["policy"], digest(NO_CARDS));
        assert_eq!(record["sqlstate"], "42501");
        assert_eq!(record["reason"], "permission denied for table cards");
    }
    // A part of it ran: that is a statement, with a decision and an outcome.
    let part = statement(&stage, "delete from cards")?;
    assert_eq!((&part["decision"], &part["rules"]), (&json!("deny"), &json!(["no-cards"])));
    assert_eq!((&part["outcome"], &part["sqlstate"]), (&json!("failed"), &json!("42501")));
    assert_eq!(statement(&stage, "from notes")?["decision"], "allow");
    drop(client);
    stage.verify()
}

#[test]
fn a_mode_that_warns_lets_it_pass_with_a_notice() -> Result {
    gate!();
    let policy = with_mode("warn");
    let stage = Stage::new("records-warn", &policy)?;
    let mut client = stage.client()?;
    let frames = client.simple("select n from cards")?;
    let seen: String = outline(&frames).chars().filter(|tag| *tag != 'N').collect();
    assert_eq!(seen, "TDCZI");
    let record = statement(&stage, "select n from cards")?;
    assert_eq!((&record["decision"], &record["rules"]), (&json!("warn"), &json!(["no-cards"])));
    assert_eq!(record["outcome"], "completed");
    let (session, short) = (stage.id(&client)?, &digest(&policy)[..8]);
    let expected = Said {
        severity: "WARNING".into(),
        sqlstate: "01007".into(),
        message: "would be refused: permission denied for table cards".into(),
        detail: format!("Policy {short}, rule no-cards, decision {session}/{}.", record["seq"]),
        hint: "cards are for billing".into(),
    };
    assert_eq!(said(&frames, b'N')?, expected);
    // In the extended protocol too.
    let text = "select owner from cards";
    let messages = [parse("", text), bind("", "", &[]), execute("", 0), sync()];
    let frames = exchange(&mut client, &messages)?;
    assert!(outline(&frames).contains('N'), "{}", outline(&frames));
    let seen: String = outline(&frames).chars().filter(|tag| *tag != 'N').collect();
    assert_eq!(seen, "12DCZI");
    assert!(stage.records("denied")?.is_empty());
    drop(client);
    stage.verify()
}

#[test]
fn a_mode_that_observes_tells_only_the_trail() -> Result {
    gate!();
    let stage = Stage::new("records-observe", &with_mode("observe"))?;
    let mut client = stage.client()?;
    assert_eq!(outline(&client.simple("select n from cards")?), "TDCZI");
    let record = statement(&stage, "select n from cards")?;
    let decided = (&record["decision"], &record["rules"]);
    assert_eq!(decided, (&json!("would_deny"), &json!(["no-cards"])));
    assert!(stage.records("denied")?.is_empty());
    drop(client);
    stage.verify()
}

#[test]
fn the_policy_of_an_agent_is_known_from_its_trail() -> Result {
    gate!();
    let stage = Stage::new("records-load", NO_CARDS)?;
    let load = stage.agent().wait_for(|record| record["event"] == "config_load", PATIENCE)?;
    assert_eq!(load["policy"], digest(NO_CARDS));
    Ok(())
}
