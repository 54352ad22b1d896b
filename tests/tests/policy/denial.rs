//! Refusals in every form of a statement: worded as the server's own, with its transaction as the server has it.

use pgward_tests::wire::{bind, describe, execute, outline, parse, query, sync};
use pgward_tests::wire::{copy_data, copy_done};

use crate::{NO_CARDS, Result, Said, Stage, digest, exchange, gate, said};

const CARDS: &str = "select n from cards";

#[test]
fn a_refusal_is_worded_as_the_servers_and_the_session_goes_on() -> Result {
    gate!();
    let stage = Stage::new("denial-words", NO_CARDS)?;
    let mut client = stage.client()?;
    let frames = client.simple(CARDS)?;
    assert_eq!(outline(&frames), "E(42501)ZI");
    let session = stage.id(&client)?;
    let denied =
        stage.agent().wait_for(|r| r["event"] == "denied", pgward_tests::wait::PATIENCE)?;
    let (policy, seq) = (&digest(NO_CARDS)[..8], &denied["seq"]);
    let expected = Said {
        severity: "ERROR".into(),
        sqlstate: "42501".into(),
        message: "permission denied for table cards".into(),
        detail: format!("Policy {policy}, rule no-cards, decision {session}/{seq}."),
        hint: "cards are for billing".into(),
    };
    assert_eq!(said(&frames, b'E')?, expected);
    assert_eq!(client.value("select 'goes on'")?, "goes on");
    assert_eq!(outline(&client.simple("insert into notes values (1)")?), "CZI");
    drop(client);
    stage.verify()
}

#[test]
fn a_refusal_aborts_the_transaction_that_the_server_has() -> Result {
    gate!();
    let stage = Stage::new("denial-transaction", NO_CARDS)?;
    let mut client = stage.client()?;
    client.simple("begin")?;
    client.simple("insert into notes values (1)")?;
    assert_eq!(outline(&client.simple(CARDS)?), "E(42501)ZE");
    assert_eq!(outline(&client.simple("select 1")?), "E(25P02)ZE");
    let end = client.simple("commit")?;
    assert_eq!((outline(&end).as_str(), &end[0].body[..]), ("CZI", &b"ROLLBACK\0"[..]));
    assert_eq!(stage.count("notes")?, "0");
    // Up to a savepoint the transaction can be saved.
    client.simple("begin; insert into notes values (2); savepoint s")?;
    assert_eq!(outline(&client.simple(CARDS)?), "E(42501)ZE");
    assert_eq!(outline(&client.simple("rollback to s")?), "CZT");
    assert_eq!(outline(&client.simple("commit")?), "CZI");
    assert_eq!(stage.count("notes")?, "1");
    Ok(())
}

#[test]
fn what_is_reached_through_a_view_is_refused_however_new_it_is() -> Result {
    gate!();
    let stage = Stage::new("denial-view", NO_CARDS)?;
    let mut client = stage.client()?;
    // The catalog is known from here on.
    assert_eq!(outline(&client.simple("select n from notes")?), "TCZI");
    stage.cluster.sql("postgres", "create view peek as select n from cards")?;
    let frames = client.simple("select * from peek")?;
    assert_eq!(outline(&frames), "E(42501)ZI");
    assert_eq!(said(&frames, b'E')?.message, "permission denied for table cards");
    // Where the server can't be asked: inside of a transaction.
    client.simple("begin")?;
    stage.cluster.sql("postgres", "create view later as select n from cards")?;
    assert_eq!(outline(&client.simple("select * from later")?), "E(42501)ZE");
    client.simple("rollback")?;
    // A view over something else is none of the policy's business.
    stage.cluster.sql("postgres", "create view fine as select n from notes")?;
    assert_eq!(outline(&client.simple("select * from fine")?), "TCZI");
    Ok(())
}

#[test]
fn one_refused_statement_takes_back_all_of_its_query() -> Result {
    gate!();
    let stage = Stage::new("denial-several", NO_CARDS)?;
    let mut client = stage.client()?;
    let note = "insert into notes values (1)";
    let frames = client.simple(&format!("{note}; {CARDS}; {note}"))?;
    assert_eq!(outline(&frames), "CE(42501)ZI");
    assert_eq!(stage.count("notes")?, "0");
    // What was committed before it stays, as with the server's own errors.
    let frames = client.simple(&format!("begin; {note}; commit; {CARDS}; {note}"))?;
    assert_eq!(outline(&frames), "CCCE(42501)ZI");
    assert_eq!(stage.count("notes")?, "1");
    drop(client);
    stage.verify()
}

#[test]
fn a_refusal_in_a_pipeline_skips_to_its_sync() -> Result {
    gate!();
    let stage = Stage::new("denial-pipeline", NO_CARDS)?;
    let mut client = stage.client()?;
    let run = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 0)].concat();
    let note = run("insert into notes values (1)");
    let frames = exchange(&mut client, &[note.clone(), run(CARDS), note.clone(), sync()])?;
    assert_eq!(outline(&frames), "12CE(42501)ZI");
    assert_eq!(stage.count("notes")?, "0");
    // Two in one write: what follows the Sync is a transaction of its own.
    let both = [run(CARDS), sync(), note, sync()];
    assert_eq!(outline(&exchange(&mut client, &both)?), "E(42501)ZI");
    let second = pgward_tests::wire::read_until_ready(&mut client.stream)?;
    assert_eq!(outline(&second), "12CZI");
    assert_eq!(stage.count("notes")?, "1");
    Ok(())
}

#[test]
fn copy_is_refused_before_any_data_moves() -> Result {
    gate!();
    let stage = Stage::new("denial-copy", NO_CARDS)?;
    let mut client = stage.client()?;
    for sql in [
        "copy cards to stdout",
        "copy cards from stdin",
        "copy (select owner from cards) to stdout",
        "copy cards (n) to '/dev/null'",
    ] {
        assert_eq!(outline(&client.simple(sql)?), "E(42501)ZI", "{sql}");
    }
    // A client that did not wait: its data are nobody's.
    let eager = [query("copy cards from stdin"), copy_data(b"9\tx\n"), copy_done()];
    assert_eq!(outline(&exchange(&mut client, &eager)?), "E(42501)ZI");
    let fine = [query("copy notes from stdin"), copy_data(b"9\n"), copy_done()];
    assert_eq!(outline(&exchange(&mut client, &fine)?), "GCZI");
    assert_eq!((stage.count("cards")?, stage.count("notes")?), ("1".into(), "1".into()));
    Ok(())
}

#[test]
fn what_was_prepared_is_decided_again_under_another_policy() -> Result {
    gate!();
    let stage = Stage::new("denial-prepared", "")?;
    let mut client = stage.client()?;
    let prepared = exchange(&mut client, &[parse("s", CARDS), describe(b'S', "s"), sync()])?;
    assert_eq!(outline(&prepared), "1tTZI");
    client.simple(&format!("prepare p as {CARDS}"))?;
    let run = [bind("", "s", &[]), execute("", 0), sync()];
    assert_eq!(outline(&exchange(&mut client, &run)?), "2DCZI");
    stage.write(NO_CARDS)?;
    stage.wait_until_said(CARDS, "42501")?;
    let frames = exchange(&mut client, &run)?;
    assert_eq!(outline(&frames), "E(42501)ZI");
    assert_eq!(said(&frames, b'E')?.message, "permission denied for table cards");
    assert_eq!(outline(&client.simple("execute p")?), "E(42501)ZI");
    // And back: the statement is still there.
    stage.write("")?;
    stage.wait_until_said(CARDS, "")?;
    assert_eq!(outline(&exchange(&mut client, &run)?), "2DCZI");
    assert_eq!(outline(&client.simple("execute p")?), "TDCZI");
    Ok(())
}
