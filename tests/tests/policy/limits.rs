//! Limits: what a statement, a session and an hour may take, and for how long.

use std::io::Write;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire::{outline, query, read_until_ready};
use serde_json::{Value, json};

use crate::{Client, Result, Said, Stage, digest, gate, said, to_the_end};

/// Everybody has this limit, whose rule is called `most`.
fn limit(key: &str, max: u64, action: &str) -> String {
    format!(
        "[[role]]\nname = \"all\"\n[[role.limit]]\nname = \"most\"\n{key} = {max}\n\
         action = \"{action}\"\n[[assign]]\ngive = [\"all\"]\neveryone = true\n"
    )
}

/// More rows than the server could send before a cancel reaches it.
const LONG: &str = "select generate_series(1, 1000000000)";

/// Checks that an error is about `told` of rule `most`.
fn is_about(said: &Said, policy: &str, told: &str) -> Result {
    let begin = format!("Policy {}, rule most: {told}, decision ", &digest(policy)[..8]);
    ensure!(said.detail.starts_with(&begin), "{said:?}");
    Ok(())
}

/// The first record of a limit that is reached.
fn reached(stage: &Stage, reason: &str) -> Result<Value> {
    let wanted = |record: &Value| record["event"] == "limit" && record["reason"] == reason;
    let record = stage.agent().wait_for(wanted, PATIENCE)?;
    assert_eq!(record["rules"], json!(["most"]));
    Ok(record)
}

/// The last words of a session that a limit ends.
fn last_words(client: &mut Client) -> Result<Said> {
    let frames = to_the_end(client)?;
    let last = Said::by(frames.last().context("closed without a word")?);
    ensure!(last.severity == "FATAL", "{last:?}");
    Ok(last)
}

#[test]
fn a_statement_is_cancelled_at_its_last_row() -> Result {
    gate!();
    let policy = limit("statement_rows", 3, "cancel");
    let stage = Stage::new("limit-rows", &policy)?;
    let mut client = stage.client()?;
    assert_eq!(outline(&client.simple("select generate_series(1, 3)")?), "TDDDCZI");
    assert!(stage.records("limit")?.is_empty());
    let frames = client.simple(LONG)?;
    assert_eq!(outline(&frames), "TDDDE(53400)ZI");
    is_about(&said(&frames, b'E')?, &policy, "statement_rows = 3")?;
    // Statements have it each.
    assert_eq!(outline(&client.simple("select generate_series(1, 3)")?), "TDDDCZI");
    let record = reached(&stage, "statement_rows")?;
    assert_eq!(
        (&record["decision"], &record["detail"]),
        (&json!("deny"), &json!("statement_rows = 3"))
    );
    assert_eq!(stage.records("limit")?.len(), 1);
    Ok(())
}

/// Of a result that was cut the client must not think that it is the whole.
#[test]
fn a_statement_that_is_done_before_its_cancel_ends_the_session() -> Result {
    gate!();
    let policy = limit("statement_rows", 3, "cancel");
    let stage = Stage::new("limit-rows-done", &policy)?;
    let mut client = stage.client()?;
    client.stream.write_all(&query("select generate_series(1, 4)"))?;
    let frames = to_the_end(&mut client)?;
    let last = Said::by(frames.last().context("closed without a word")?);
    assert_eq!((last.severity.as_str(), last.sqlstate.as_str()), ("FATAL", "57P01"));
    assert_eq!(last.message, "terminating connection because a statement passed its limit");
    assert_eq!(outline(&frames).matches('D').count(), 3);
    reached(&stage, "statement_rows")?;
    Ok(())
}

#[test]
fn a_limit_that_warns_only_tells() -> Result {
    gate!();
    let policy = limit("session_rows", 2, "warn");
    let stage = Stage::new("limit-warn", &policy)?;
    let mut client = stage.client()?;
    assert_eq!(outline(&client.simple("select generate_series(1, 4)")?), "TDDDDCZI");
    let frames = client.simple("select 1")?;
    let notice = said(&frames, b'N')?;
    assert_eq!(notice.severity, "WARNING");
    is_about(&notice, &policy, "session_rows = 2")?;
    assert!(outline(&frames).ends_with("DCZI"), "{}", outline(&frames));
    assert_eq!(reached(&stage, "session_rows")?["decision"], "warn");
    Ok(())
}

#[test]
fn a_statement_that_runs_too_long_is_cancelled() -> Result {
    gate!();
    let policy = limit("statement_ms", 300, "cancel");
    let stage = Stage::new("limit-statement-ms", &policy)?;
    let mut client = stage.client()?;
    let frames = client.simple("select pg_sleep(50)")?;
    let error = said(&frames, b'E')?;
    assert_eq!((error.sqlstate.as_str(), error.severity.as_str()), ("57014", "ERROR"));
    assert_eq!(error.message, "canceling statement due to statement timeout");
    is_about(&error, &policy, "statement_ms = 300")?;
    client.simple("begin")?;
    assert_eq!(outline(&client.simple("select pg_sleep(50)")?), "TE(57014)ZE");
    assert_eq!(outline(&client.simple("rollback")?), "CZI");
    assert_eq!(client.value("select 'goes on'")?, "goes on");
    assert_eq!(reached(&stage, "statement_ms")?["detail"], "statement_ms = 300");
    Ok(())
}

#[test]
fn an_idle_session_ends() -> Result {
    gate!();
    let policy = limit("idle_ms", 400, "terminate");
    let stage = Stage::new("limit-idle", &policy)?;
    let mut client = stage.client()?;
    // What runs is not idle, nor is what waits in a transaction.
    client.simple("begin; select pg_sleep(1)")?;
    client.simple("select pg_sleep(1)")?;
    client.simple("commit")?;
    let last = last_words(&mut client)?;
    assert_eq!(last.sqlstate, "57P05");
    is_about(&last, &policy, "idle_ms = 400")?;
    reached(&stage, "idle_ms")?;
    Ok(())
}

#[test]
fn a_session_that_is_idle_in_a_transaction_ends() -> Result {
    gate!();
    let policy = limit("idle_in_transaction_ms", 400, "terminate");
    let stage = Stage::new("limit-idle-transaction", &policy)?;
    let mut client = stage.client()?;
    client.simple("select pg_sleep(1)")?;
    client.simple("begin; insert into notes values (1)")?;
    let last = last_words(&mut client)?;
    assert_eq!(last.sqlstate, "25P03");
    is_about(&last, &policy, "idle_in_transaction_ms = 400")?;
    reached(&stage, "idle_in_transaction_ms")?;
    assert_eq!(stage.count("notes")?, "0");
    Ok(())
}

#[test]
fn a_session_that_is_too_old_ends_whatever_it_does() -> Result {
    gate!();
    let policy = limit("session_ms", 1500, "terminate");
    let stage = Stage::new("limit-session-ms", &policy)?;
    let mut client = stage.client()?;
    client.stream.write_all(&query("select pg_sleep(50)"))?;
    let last = last_words(&mut client)?;
    assert_eq!(last.sqlstate, "57P01");
    is_about(&last, &policy, "session_ms = 1500")?;
    reached(&stage, "session_ms")?;
    Ok(())
}

#[test]
fn statements_of_a_second_are_counted() -> Result {
    gate!();
    let policy = limit("statements_per_second", 2, "cancel");
    let stage = Stage::new("limit-per-second", &policy)?;
    let mut client = stage.client()?;
    let all = 40;
    client.stream.write_all(&query("select 1").repeat(all))?;
    let answers = (0..all).map(|_| read_until_ready(&mut client.stream));
    let answers = answers.collect::<Result<Vec<_>>>()?;
    let refused: Vec<_> = answers.iter().filter(|frames| outline(frames) == "E(53400)ZI").collect();
    let passed = answers.iter().filter(|frames| outline(frames) == "TDCZI").count();
    assert_eq!(refused.len() + passed, all);
    ensure!(passed >= 2 && !refused.is_empty(), "{passed} passed");
    is_about(&said(refused[0], b'E')?, &policy, "statements_per_second = 2")?;
    wait::until_true("another second", PATIENCE, || {
        Ok(outline(&client.simple("select 1")?) == "TDCZI")
    })?;
    let denied = stage.agent().wait_for(|record| record["event"] == "denied", PATIENCE)?;
    assert_eq!(denied["reason"], "statements_per_second = 2");
    Ok(())
}

#[test]
fn sessions_at_the_same_time_are_counted() -> Result {
    gate!();
    let policy = limit("sessions", 1, "terminate");
    let stage = Stage::new("limit-sessions", &policy)?;
    let login = [("user", "postgres"), ("database", "postgres")];
    let mut first = stage.client()?;
    let mut second = stage.start(&login)?;
    let told = pgward_tests::wire::read_frame(&mut second)?.context("closed without a word")?;
    let told = Said::by(&told);
    assert_eq!((told.severity.as_str(), told.sqlstate.as_str()), ("FATAL", "53300"));
    is_about(&told, &policy, "sessions = 1")?;
    assert_eq!(first.value("select 'goes on'")?, "goes on");
    drop(first);
    wait::until_true("a session after the first", PATIENCE, || Ok(stage.client().is_ok()))
}

#[test]
fn rows_of_an_hour_are_those_of_all_sessions() -> Result {
    gate!();
    let hour = || SystemTime::UNIX_EPOCH.elapsed().map(|since| since.as_secs() / 3600);
    loop {
        let begun = hour()?;
        let result = rows_of_an_hour();
        // Where another hour began meanwhile it proves nothing.
        if hour()? == begun {
            return result;
        }
    }
}

fn rows_of_an_hour() -> Result {
    let policy = limit("hour_rows", 5, "cancel");
    let stage = Stage::new("limit-hour", &policy)?;
    let mut first = stage.client()?;
    assert_eq!(outline(&first.simple("select generate_series(1, 3)")?), "TDDDCZI");
    let mut second = stage.client()?;
    let frames = second.simple(LONG)?;
    assert_eq!(outline(&frames), "TDDE(53400)ZI");
    is_about(&said(&frames, b'E')?, &policy, "hour_rows = 5")?;
    reached(&stage, "hour_rows")?;
    for client in [&mut first, &mut second] {
        assert_eq!(outline(&client.simple("select 1")?), "E(53400)ZI");
    }
    Ok(())
}
