//! Who wrote this query: every way to write names the process that wrote, not merely the one that connected.

use std::net::Ipv4Addr;

use anyhow::Context;
use pgward_tests::agent::Agent;
use pgward_tests::cgroup::Cgroup;
use pgward_tests::netns::{Loopback, NetNs};
use pgward_tests::scene::{self, Scene, mark};
use pgward_tests::script::ScriptedServer;
use serde_json::Value;

use crate::{Result, gate};

/// A statement written in one way, with the records and the client's report.
struct Written {
    report: Value,
    statement: Value,
    start: Value,
    /// Whether a tier that sees writers is loaded. Without one, the records must say that they do not know.
    watched: bool,
}

impl Written {
    fn story(&self) -> String {
        format!("{}\n{}\n{}", self.report, self.start, self.statement)
    }

    /// The opener is the session's actor and the writer the statement's; where no tier tells, the record says so.
    fn names_opener_and_writer(&self) {
        assert_eq!(self.start["actor"]["pid"], self.report["opener"], "{}", self.story());
        if self.watched {
            assert_eq!(self.statement["writer"]["pid"], self.report["writer"], "{}", self.story());
            assert_ne!(self.statement["tier"], "T0", "{}", self.story());
            let shared = &self.statement["shared_with"];
            if self.statement["tier"] == "T1" {
                // T1 estimates where a writer begins, and says so by naming the other side too: the opener, and nobody else.
                let others = shared.as_array().map(Vec::as_slice).unwrap_or_default();
                let known = |other: &Value| other["pid"] == self.report["opener"];
                assert!(others.len() <= 1 && others.iter().all(known), "{}", self.story());
            } else {
                assert!(shared.is_null(), "{}", self.story());
            }
        } else {
            assert_eq!(self.statement["tier"], "T0", "{}", self.story());
            assert_eq!(self.start["confidence"], "opener or later writer", "{}", self.story());
        }
    }
}

fn setting() -> Result<(ScriptedServer, Scene)> {
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
    let scene = Scene::new("writers", server.address().port())?;
    Ok((server, scene))
}

fn write(how: &str) -> Result<Written> {
    let (server, scene) = setting()?;
    let elsewhere = Cgroup::new("elsewhere")?;
    write_in(&server, &scene, how, &[&format!("cgroup={}", elsewhere.path().display())])
}

fn write_in(server: &ScriptedServer, scene: &Scene, how: &str, more: &[&str]) -> Result<Written> {
    let mark = mark(how);
    let (address, how) = (server.address().to_string(), format!("how={how}"));
    let told = format!("mark={mark}");
    let report = scene.client(&[&["write", &address, &how, &told][..], more].concat())?;
    let (statement, start) = scene.statement(&mark)?;
    let watched = scene.tiers()?.iter().any(|tier| tier != "T0");
    Ok(Written { report, statement, start, watched })
}

macro_rules! ways {
    ($($test:ident = $how:literal,)+) => {$(
        #[test]
        fn $test() -> Result {
            gate!();
            write($how)?.names_opener_and_writer();
            Ok(())
        }
    )+};
}

ways! {
    the_main_thread_that_wrote_is_named = "main",
    another_thread_that_wrote_is_named_by_its_process = "thread",
    a_forked_child_that_wrote_is_named = "fork",
    a_program_with_an_inherited_socket_is_named = "exec-child",
    a_process_that_was_passed_the_socket_in_another_cgroup_is_named = "passed",
    sendfile_names_the_writer = "sendfile",
    splice_names_the_writer = "splice",
    an_io_uring_send_names_the_writer = "io-uring-inline",
    an_io_uring_send_of_a_worker_names_the_writer = "io-uring-async",
    an_io_uring_send_of_the_polling_thread_names_the_writer = "io-uring-sqpoll",
    a_child_that_submits_to_a_shared_ring_is_named = "ring-of-child",
}

#[test]
fn a_process_that_became_another_program_is_told_from_its_former_self() -> Result {
    gate!();
    let written = write("exec-same-pid")?;
    let (opener, writer) = (&written.start["actor"], &written.statement["writer"]);
    assert_eq!(opener["pid"], written.report["opener"], "{}", written.story());
    if written.watched {
        assert_eq!(writer["pid"], opener["pid"], "{}", written.story());
        assert_eq!(writer["start_ns"], opener["start_ns"], "{}", written.story());
        assert_ne!(writer["exec"], opener["exec"], "{}", written.story());
    } else {
        written.names_opener_and_writer();
    }
    Ok(())
}

#[test]
fn bytes_written_before_the_handshake_ended_have_their_writer() -> Result {
    gate!();
    // In a namespace nobody has seen yet the SYN is held, so the write really is early.
    let netns = NetNs::new(Loopback::Up)?;
    let listener = netns.inside(|| Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?))?;
    let server = ScriptedServer::on(listener)?;
    let scene = Scene::new("early", server.address().port())?;
    let mark = mark("early");
    let (address, told) = (server.address().to_string(), format!("mark={mark}"));
    let mut client = scene::client(&["write", &address, "how=early", &told])?;
    netns.enter(&mut client);
    scene.cgroup.enter(&mut client)?;
    let report = scene::report(&mut client).with_context(|| scene.agent.story())?;
    let (statement, start) = scene.statement(&mark)?;
    let watched = scene.tiers()?.iter().any(|tier| tier != "T0");
    Written { report, statement, start, watched }.names_opener_and_writer();
    Ok(())
}

#[test]
fn what_a_short_lived_process_took_with_it_is_said_to_be_missing() -> Result {
    gate!();
    let (server, scene) = setting()?;
    for _ in 0..10 {
        let written = write_in(&server, &scene, "short-lived", &[])?;
        let actor = &written.start["actor"];
        assert_eq!(actor["pid"], written.report["opener"], "{}", written.story());
        assert!(actor["comm"].as_str().is_some_and(|comm| comm.starts_with("pgward-test")));
        assert_eq!(actor["uid"], 0, "{}", written.story());
        for field in ["exe", "cmdline", "cwd"] {
            let missing = actor["missing"].as_array().is_some_and(|remarks| {
                remarks.iter().any(|remark| remark["field"] == field && !remark["reason"].is_null())
            });
            assert!(!actor[field].is_null() || missing, "`{field}` is blank\n{}", written.story());
        }
    }
    Ok(())
}

#[test]
fn two_processes_with_the_same_pid_are_told_apart() -> Result {
    gate!();
    let (server, scene) = setting()?;
    let mark = mark("reused");
    let (address, told) = (server.address().to_string(), format!("mark={mark}"));
    let report = scene.client(&["write", &address, "how=pid-reused", &told])?;
    let (_, first) = scene.statement(&format!("{mark}-1"))?;
    let (_, second) = scene.statement(&format!("{mark}-2"))?;
    let story = format!("{report}\n{first}\n{second}");
    assert_eq!(first["actor"]["pid"], report["opener"], "{story}");
    assert_eq!(second["actor"]["pid"], report["opener"], "{story}");
    assert!(first["actor"]["start_ns"].is_u64(), "{story}");
    assert_ne!(first["actor"]["start_ns"], second["actor"]["start_ns"], "{story}");
    Ok(())
}

#[test]
fn a_writer_with_the_openers_old_pid_is_not_taken_for_the_opener() -> Result {
    gate!();
    let written = write("pid-reused-by-writer")?;
    written.names_opener_and_writer();
    if written.watched {
        let (opener, writer) = (&written.start["actor"], &written.statement["writer"]);
        assert_ne!(opener["start_ns"], writer["start_ns"], "{}", written.story());
    }
    Ok(())
}

#[test]
fn a_query_of_two_writers_is_shared() -> Result {
    gate!();
    let written = write("halves")?;
    let (opener, other) = (&written.report["opener"], &written.report["writer"]);
    assert_eq!(&written.start["actor"]["pid"], opener, "{}", written.story());
    if written.watched {
        let mut writers = vec![&written.statement["writer"]["pid"]];
        let shared = written.statement["shared_with"].as_array();
        writers.extend(shared.into_iter().flatten().map(|writer| &writer["pid"]));
        assert!(writers.contains(&opener) && writers.contains(&other), "{}", written.story());
        assert_eq!(writers.len(), 2, "{}", written.story());
    } else {
        written.names_opener_and_writer();
    }
    Ok(())
}

#[test]
fn pipelined_queries_of_two_writers_keep_their_own() -> Result {
    gate!();
    let (server, scene) = setting()?;
    let mark = mark("turns");
    let (address, told) = (server.address().to_string(), format!("mark={mark}"));
    let report = scene.client(&["write", &address, "how=alternating", &told])?;
    let writers = report["writers"].as_array().context("writers")?;
    let exact = scene.tiers()?.iter().any(|tier| tier == "T2");
    for (number, writer) in writers.iter().enumerate() {
        let (statement, _) = scene.statement(&format!("{mark}-{number}"))?;
        if exact {
            assert_eq!(&statement["writer"]["pid"], writer, "{report}\n{statement}");
        } else {
            // The lesser tier may place a change anywhere in what was in flight, but then both are named.
            let shared = statement["shared_with"].to_string();
            let named =
                &statement["writer"]["pid"] == writer || shared.contains(&writer.to_string());
            assert!(named || statement["tier"] == "T0", "{report}\n{statement}");
        }
    }
    Ok(())
}

#[test]
fn with_the_tiers_off_the_record_says_that_only_the_opener_is_known() -> Result {
    gate!();
    let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
    let builder = Agent::builder()
        .intercept(server.address().port())
        .set("bpf", "tx_timestamp", "\"off\"")
        .set("bpf", "sendmsg_tracepoint", "\"off\"");
    let scene = Scene::with("tiers", builder)?;
    assert_eq!(scene.tiers()?, ["T0"]);
    let written = write_in(&server, &scene, "fork", &[])?;
    assert!(!written.watched);
    written.names_opener_and_writer();
    assert_eq!(written.statement["writer"]["pid"], written.report["opener"], "{}", written.story());
    Ok(())
}

#[test]
fn either_tier_alone_names_a_forked_writer() -> Result {
    gate!();
    for (on, off) in
        [("tx_timestamp", "sendmsg_tracepoint"), ("sendmsg_tracepoint", "tx_timestamp")]
    {
        let server = ScriptedServer::start((Ipv4Addr::LOCALHOST, 0))?;
        let builder = Agent::builder()
            .intercept(server.address().port())
            .set("bpf", on, "\"best-effort\"")
            .set("bpf", off, "\"off\"");
        let scene = Scene::with("tier", builder)?;
        write_in(&server, &scene, "fork", &[])?.names_opener_and_writer();
    }
    Ok(())
}
