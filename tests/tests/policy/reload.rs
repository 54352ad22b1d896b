//! Another policy in place of the one in force: as a whole or not at all.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgward_tests::wait::PATIENCE;
use pgward_tests::wire::outline;
use serde_json::Value;

use crate::{NO_CARDS, Result, Stage, digest, gate};

/// Records that the policy's file is not valid, or is again.
fn failures(stage: &Stage) -> Result<Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = stage.records("failure")?;
    let these = records.iter().filter(|record| record["reason"] == "policy_invalid");
    Ok(these.map(|record| (text(&record["action"]), text(&record["detail"]))).collect())
}

fn hang_up(stage: &Stage) -> Result {
    Ok(kill(Pid::from_raw(stage.agent().pid()?.try_into()?), Signal::SIGHUP)?)
}

/// Digests of the policies that were loaded, in order.
fn loaded(stage: &Stage) -> Result<Vec<String>> {
    let loads = stage.records("config_load")?;
    let digests = loads.iter().filter_map(|load| load["policy"].as_str());
    Ok(digests.map(str::to_owned).collect())
}

#[test]
fn a_changed_file_is_in_force_for_sessions_that_are_there() -> Result {
    gate!();
    let stage = Stage::new("reload-file", NO_CARDS)?;
    let mut client = stage.client()?;
    assert_eq!(outline(&client.simple("select n from cards")?), "E(42501)ZI");
    let other = NO_CARDS.replace("public.cards", "public.notes");
    stage.write(&other)?;
    stage.wait_until_said("select n from notes", "42501")?;
    assert_eq!(outline(&client.simple("select n from notes")?), "E(42501)ZI");
    assert_eq!(outline(&client.simple("select n from cards")?), "TDCZI");
    assert_eq!(loaded(&stage)?, [digest(NO_CARDS), digest(&other)]);
    drop(client);
    stage.verify()
}

#[test]
fn a_signal_has_the_file_read_again() -> Result {
    gate!();
    let stage = Stage::new("reload-signal", NO_CARDS)?;
    // Unchanged: only a signal has it read, and recorded, again.
    hang_up(&stage)?;
    stage.agent().wait_for_all(PATIENCE, |records| {
        let loads = records.iter().filter(|record| record["event"] == "config_load");
        (loads.count() == 2).then_some(())
    })?;
    assert_eq!(loaded(&stage)?, [digest(NO_CARDS), digest(NO_CARDS)]);
    let mut client = stage.client()?;
    assert_eq!(outline(&client.simple("select n from cards")?), "E(42501)ZI");
    drop(client);
    stage.verify()
}

#[test]
fn a_file_that_is_not_valid_changes_nothing_and_is_told() -> Result {
    gate!();
    let stage = Stage::new("reload-invalid", NO_CARDS)?;
    let mut client = stage.client()?;
    // Its first half alone would deny something else.
    let half = NO_CARDS.replace("public.cards", "public.notes");
    stage.write(&format!("{half}\n[[assign]]\ngive = [\"nobody\"]\neveryone = true\n"))?;
    let begun = |record: &Value| {
        record["event"] == "failure"
            && record["reason"] == "policy_invalid"
            && record["action"] == "begin"
    };
    let begin = stage.agent().wait_for(begun, PATIENCE)?;
    let detail = begin["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("nobody"), "{detail}");
    assert_eq!(outline(&client.simple("select n from notes")?), "TCZI");
    assert_eq!(outline(&client.simple("select n from cards")?), "E(42501)ZI");
    assert_eq!(loaded(&stage)?, [digest(NO_CARDS)]);
    // No file is not an empty policy.
    std::fs::remove_file(stage.file())?;
    hang_up(&stage)?;
    assert_eq!(outline(&stage.client()?.simple("select n from cards")?), "E(42501)ZI");
    stage.write(&half)?;
    stage.wait_until_said("select n from notes", "42501")?;
    let ended = |record: &Value| record["event"] == "failure" && record["action"] == "end";
    stage.agent().wait_for(ended, PATIENCE)?;
    let actions: Vec<_> = failures(&stage)?.into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["begin", "end"]);
    assert_eq!(loaded(&stage)?, [digest(NO_CARDS), digest(&half)]);
    drop(client);
    stage.verify()
}
