//! Passwords in SQL are in no file of the trail, however they come.

use std::io::Write;

use anyhow::ensure;
use pgward_tests::agent::Agent;
use pgward_tests::postgres::Cluster;
use pgward_tests::scene::{Scene, mark};
use pgward_tests::visitor::Visitor;
use pgward_tests::wire;

use crate::{Client, Result, gate};

#[test]
fn passwords_of_roles_are_never_stored() -> Result {
    gate!();
    let cluster = Cluster::start()?;
    cluster.sql("postgres", "create role r login")?;
    for values in ["clear", "sealed", "hash"] {
        let builder = Agent::builder().intercept(cluster.port());
        let builder = builder.set("audit", "values", &format!("\"{values}\""));
        let scene = Scene::with("password", builder)?;
        let address = ([127, 0, 0, 1], cluster.port()).into();
        let mut client = Client::start(Visitor::connect(address, Some(&scene.cgroup))?)?;
        let [simple, extended, parameter, shown] =
            ["simple", "extended", "bound", "shown"].map(mark);
        for secret in [&simple, &extended, &parameter] {
            scene.agent.secrets().add("a password", secret.as_bytes());
        }
        done(&client.simple(&format!("alter role r password '{simple}'"))?)?;
        let sql = format!("alter role r with encrypted password '{extended}'");
        let message = [wire::parse("", &sql), wire::bind("", "", &[]), wire::execute("", 0)];
        client.stream.write_all(&[&message.concat()[..], &wire::sync()].concat())?;
        done(&wire::read_until_ready(&mut client.stream)?)?;
        // A parameter of a statement that has the word.
        let sql = "select length($1::text) as password";
        let bound = wire::bind("", "", &[Some(&parameter)]);
        let message = [wire::parse("", sql), bound, wire::execute("", 0), wire::sync()];
        client.stream.write_all(&message.concat())?;
        done(&wire::read_until_ready(&mut client.stream)?)?;
        // A comment is neither: the search would find what is stored.
        if values == "clear" {
            client.simple(&format!("select '{shown}'"))?;
            scene.statement(&shown)?;
        }
        drop(client);
        scene.agent.wait_for(|r| r["event"] == "session_end", pgward_tests::wait::PATIENCE)?;
        let commands = scene.agent.records()?.iter().filter(|r| r["event"] == "statement").count();
        assert!(commands >= 3, "they are on record");
        assert_eq!(scene.agent.revealed()?, Vec::<String>::new(), "values = {values}");
        // Searches again, in what the agent writes at its end as well.
        scene.agent.finish()?;
    }
    Ok(())
}

/// No error among the answers.
fn done(frames: &[wire::Frame]) -> Result {
    ensure!(frames.iter().all(|frame| frame.tag != b'E'), "{}", wire::outline(frames));
    Ok(())
}
