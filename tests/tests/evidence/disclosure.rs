//! Sealed values are opened for those who have the keys, and on record; indices are only for speed.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::host;
use pgward_tests::scene::mark;
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire;
use serde_json::json;

use crate::house::House;
use crate::{Result, gate};

fn sealed(builder: Builder) -> Builder {
    builder.set("audit", "values", "\"sealed\"")
}

#[test]
fn sealed_values_are_disclosed_on_record_or_not_at_all() -> Result {
    gate!();
    let mut house = House::new("disclose", sealed)?;
    let [literal, value] = ["literal", "value"].map(mark);
    house.scene.agent.secrets().add("a literal", literal.as_bytes());
    house.scene.agent.secrets().add("a value", value.as_bytes());
    let mut client = house.client()?;
    let sql = format!("select '{literal}' as opened, $1::text, $2::text");
    let bound = wire::bind("", "", &[Some(&value), None]);
    let message = [wire::parse("", &sql), bound, wire::execute("", 0), wire::sync()];
    client.stream.write_all(&message.concat())?;
    wire::read_until_ready(&mut client.stream)?;
    drop(client);
    house.scene.agent.wait_for(|record| record["event"] == "session_end", PATIENCE)?;
    let session = house.session_of("opened")?;

    let opened = |agent: &Agent| -> Result<usize> {
        let disclosing = |arguments: &str| arguments.contains("disclose=true");
        let entries = agent.entries()?;
        let reads = entries.iter().filter(|entry| entry.is("audit_read"));
        Ok(reads.filter(|e| e.fields["arguments"].as_str().is_some_and(disclosing)).count())
    };
    let closed = house.pgward_done(&["audit", "show", &session])?;
    assert!(closed.contains("opened") && !closed.contains(&literal) && !closed.contains(&value));
    assert_eq!(opened(&house.scene.agent)?, 0);
    let shown = house.pgward_done(&["audit", "show", &session, "--disclose"])?;
    for part in [format!(" text  {sql}"), format!(" $1  {value}")] {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    assert_eq!(opened(&house.scene.agent)?, 1);
    let lines = house.pgward_done(&["audit", "show", &session, "--disclose", "--json"])?;
    let lines = lines.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<_>>>()?;
    let disclosed = |name: &str| {
        let all = lines.iter().map(|line: &serde_json::Value| &line["disclosed"][name]);
        all.filter(|value| !value.is_null() && **value != json!([])).collect::<Vec<_>>()
    };
    assert_eq!(disclosed("text"), [&json!(sql)]);
    assert_eq!(disclosed("params"), [&json!([{"parameter": 1, "value": value}])]);
    // There is nothing to seal in NULL: the entry itself says it.
    let intent = lines.iter().find(|line| line["event"] == "intent").context("an intent")?;
    let (first, second) = (&intent["params"][0], &intent["params"][1]);
    assert!(first.get("value").is_none() && first["commitment"].is_string(), "{intent}");
    assert!(second.get("value") == Some(&json!(null)), "{intent}");
    assert_eq!(opened(&house.scene.agent)?, 2);

    // Where that cannot be recorded, nothing is opened: of a copy, and without an agent.
    let mut copy = Command::new(Agent::binary()?);
    copy.args(["audit", "show", &session, "--disclose", "--directory"]).arg(house.trail());
    house.scene.agent.stop()?;
    let mut alone = house.scene.agent.command(&["audit", "show", &session, "--disclose"])?;
    for command in [&mut copy, &mut alone] {
        let output = host::output(command)?;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(why.contains("values are only disclosed when that is recorded"), "{why}");
    }
    house.finish()
}

/// The index of the first segment, once that is finished.
fn index(house: &House) -> Result<PathBuf> {
    let path = house.trail().join(format!("epoch-1/segment-{:020}.index", 0));
    wait::until_true("an index", PATIENCE, || Ok(path.exists()))?;
    Ok(path)
}

#[test]
fn an_index_that_is_gone_or_damaged_changes_no_answer() -> Result {
    gate!();
    let mut house = House::new("index", |builder| builder)?;
    let (session, word) = house.session()?;
    let (_, other) = house.session()?;
    // Each run begins a segment, and finishes the one before.
    house.scene.agent.stop()?;
    house.scene.agent.start_process(None)?;
    let index = index(&house)?;
    let good = fs::read(&index)?;
    let searches =
        [["--text", &word], ["--session", &session], ["--process", "pgward-test-client"]];
    let answers = || -> Result<Vec<(String, bool)>> {
        let each = |arguments: &[&str; 2]| {
            let all = ["audit", "search", "--json", "--event", "statement"];
            let output = house.pgward(&[&all[..], arguments].concat())?;
            anyhow::ensure!(output.status.success(), "{output:?}");
            let hint = String::from_utf8_lossy(&output.stderr).contains("no search index");
            Ok((String::from_utf8(output.stdout)?, hint))
        };
        searches.iter().map(each).collect()
    };
    let with = answers()?;
    assert!(with.iter().all(|(_, hint)| !hint), "{with:?}");
    assert!(with[0].0.contains(&word) && !with[0].0.contains(&other), "{with:?}");
    let texts = |answers: Vec<(String, bool)>| answers.into_iter().map(|(text, _)| text);
    let expected: Vec<String> = texts(with).collect();

    fs::remove_file(&index)?;
    let without = answers()?;
    assert!(without.iter().all(|(_, hint)| *hint), "{without:?}");
    assert!(texts(without).eq(expected.iter().cloned()));
    let told = house.pgward_done(&["audit", "reindex"])?;
    assert_eq!(told, "epoch 1: 1 indices written\n");
    assert!(fs::read(&index)? == good, "another index");
    assert!(answers()?.iter().all(|(_, hint)| !hint));

    let cut = good[..good.len() / 2].to_vec();
    let flipped = (0..12).map(|part| {
        let mut bytes = good.clone();
        bytes[part * good.len() / 12] ^= 0x11;
        bytes
    });
    for damaged in [Vec::new(), cut].into_iter().chain(flipped) {
        fs::write(&index, &damaged)?;
        assert!(
            texts(answers()?).eq(expected.iter().cloned()),
            "a damaged index changed an answer"
        );
    }
    house.pgward_done(&["audit", "reindex"])?;
    assert!(fs::read(&index)? == good, "a damaged index was left");
    house.finish()
}
