//! When a statement goes, and its answer, in each mode.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use anyhow::{Context, ensure};
use pgward_tests::agent::{Agent, Builder};
use pgward_tests::disk::Disk;
use pgward_tests::scene::{Scene, mark};
use pgward_tests::wait::{self, PATIENCE};
use pgward_tests::wire;

use crate::{Client, Result, client, gate, intended, watching};

/// Sessions and statements of each.
const SESSIONS: usize = 4;
const STATEMENTS: usize = 15;
/// A disk for a trail with small segments.
const DISK_BYTES: u64 = 64 << 20;
/// How long a test looks at what must not happen. What must happen has [`PATIENCE`].
const QUIET: Duration = Duration::from_millis(700);

fn builder(port: u16, mode: &str) -> Builder {
    let builder = Agent::builder().intercept(port).set("audit", "mode", &format!("\"{mode}\""));
    builder.set("audit", "segment_bytes", "1048576")
}

#[test]
fn a_server_never_sees_a_statement_before_its_intent_is_in_the_trail() -> Result {
    gate!();
    for mode in ["default", "group", "strict"] {
        let (server, seen, folder) = watching()?;
        let scene = Scene::with("before", builder(server.address().port(), mode))?;
        folder.set(scene.agent.audit_directory().to_owned()).expect("set once");
        let word = mark(mode);
        std::thread::scope(|scope| -> Result {
            let run = |thread: usize| {
                let (scene, server, word) = (&scene, &server, &word);
                scope.spawn(move || -> Result {
                    let mut client = client(scene, server)?;
                    for number in 0..STATEMENTS {
                        let text = format!("select '{word} {thread} {number}'");
                        ensure!(client.value(&text)? == text, "another answer");
                    }
                    Ok(())
                })
            };
            let threads: Vec<_> = (0..SESSIONS).map(run).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })?;
        let all = seen.all();
        assert_eq!(all.len(), SESSIONS * STATEMENTS);
        let early: Vec<_> = all.iter().filter(|(_, found)| !found).collect();
        assert!(early.is_empty(), "{mode}: without an intent: {early:?}");
        // The look itself can say no.
        assert!(!intended(scene.agent.audit_directory(), &format!("select '{word}'"))?);
        scene.agent.finish()?;
    }
    Ok(())
}

#[test]
fn in_strict_the_outcome_is_in_the_trail_before_the_answer_ends() -> Result {
    gate!();
    let (server, _, folder) = watching()?;
    let scene = Scene::with("strict", builder(server.address().port(), "strict"))?;
    folder.set(scene.agent.audit_directory().to_owned()).expect("set once");
    let mut client = client(&scene, &server)?;
    for number in 0..STATEMENTS {
        let text = mark(&format!("bytes 100 {number}"));
        client.simple(&text)?;
        // At this moment the last byte has just arrived.
        let entries = scene.agent.entries()?;
        let intent = entries.iter().find(|e| e.is("intent") && e.fields["text"] == text);
        let seq = &intent.context("an intent")?.fields["seq"];
        let done = entries.iter().any(|e| e.is("outcome") && &e.fields["intent"] == seq);
        assert!(done, "no outcome of `{text}`");
    }
    scene.agent.finish()
}

/// A scene whose trail is on a disk that can be frozen, and a client that is logged in.
fn on_a_disk(
    mode: &str,
    more: impl FnOnce(Builder) -> Builder,
    test: impl FnOnce(&Scene, &Disk, &crate::Seen, Client) -> Result,
) -> Result {
    let disk = Disk::new(DISK_BYTES)?;
    let (server, seen, folder) = watching()?;
    let builder = more(builder(server.address().port(), mode)).trail(disk.path().join("audit"));
    let scene = Scene::with("frozen", builder)?;
    folder.set(scene.agent.audit_directory().to_owned()).expect("set once");
    let client = client(&scene, &server)?;
    test(&scene, &disk, &seen, client)?;
    scene.agent.finish()
}

/// Whether a byte arrives within [`QUIET`].
fn hears_something(client: &mut Client) -> Result<bool> {
    let stream = &mut client.stream.stream;
    stream.set_read_timeout(Some(QUIET))?;
    let peeked = stream.peek(&mut [0]);
    stream.set_read_timeout(Some(PATIENCE))?;
    match peeked {
        Ok(count) => Ok(count > 0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

#[test]
fn in_group_nothing_goes_while_the_disk_does_not_answer() -> Result {
    gate!(with "fsfreeze");
    on_a_disk(
        "group",
        |builder| builder,
        |_, disk, seen, mut client| {
            client.value("select 1 -- before")?;
            let frozen = disk.freeze()?;
            client.stream.write_all(&wire::query("select 2 -- held"))?;
            assert!(!hears_something(&mut client)?, "an answer");
            assert!(!seen.has("select 2 -- held"), "the statement went");
            drop(frozen);
            wire::read_until_ready(&mut client.stream)?;
            assert!(seen.has("select 2 -- held"));
            assert!(seen.all().iter().all(|(_, found)| *found), "{:?}", seen.all());
            Ok(())
        },
    )
}

#[test]
fn in_strict_an_answer_waits_for_the_disk() -> Result {
    gate!(with "fsfreeze");
    on_a_disk(
        "strict",
        |builder| builder,
        |scene, disk, seen, mut client| {
            // The server answers when the disk is frozen: then only the answer is held.
            seen.hold(true);
            client.stream.write_all(&wire::query("select 1 -- held"))?;
            wait::until_true("the statement at the server", PATIENCE, || {
                Ok(seen.has("select 1 -- held"))
            })?;
            let frozen = disk.freeze()?;
            seen.hold(false);
            let heard = hears_something(&mut client)?;
            drop(frozen);
            assert!(!heard, "a byte of the answer");
            wire::read_until_ready(&mut client.stream)?;
            let entries = scene.agent.entries()?;
            assert!(entries.iter().any(|entry| entry.is("outcome")), "{}", scene.agent.story());
            Ok(())
        },
    )
}

#[test]
fn in_overlap_a_statement_goes_and_its_answer_waits() -> Result {
    gate!(with "fsfreeze");
    on_a_disk(
        "overlap",
        |builder| builder,
        |scene, disk, seen, mut client| {
            client.value("select 1 -- before")?;
            let frozen = disk.freeze()?;
            client.stream.write_all(&wire::query("select 2 -- overlapped"))?;
            wait::until_true("the statement at the server", PATIENCE, || {
                Ok(seen.has("select 2 -- overlapped"))
            })?;
            assert!(!hears_something(&mut client)?, "a byte of the result");
            drop(frozen);
            // With the first byte of the result its intent is there.
            client.stream.read_exact(&mut [0])?;
            assert!(intended(scene.agent.audit_directory(), "select 2 -- overlapped")?);
            wire::read_until_ready(&mut (&b"T"[..]).chain(&mut client.stream))?;
            Ok(())
        },
    )
}

#[test]
fn in_async_statements_go_on_within_bounds() -> Result {
    gate!(with "fsfreeze");
    let bounded = |builder: Builder| {
        builder.set("audit", "async_bytes_max", "65536").set("audit", "async_delay_ms_max", "60000")
    };
    on_a_disk("async", bounded, |scene, disk, seen, mut client| {
        client.value("select 1 -- before")?;
        let frozen = disk.freeze()?;
        assert_eq!(client.value("select 2 -- at once")?, "select 2 -- at once");
        let text = |number: usize| format!("select {number} -- {}", "x".repeat(1_000));
        let mut answered = 0;
        let held = loop {
            client.stream.write_all(&wire::query(&text(answered)))?;
            if !hears_something(&mut client)? {
                break answered;
            }
            wire::read_until_ready(&mut client.stream)?;
            answered += 1;
            // What a batch took from the queue before the disk froze may come on top.
            assert!(answered < 2_000, "there is no bound");
        };
        assert!(held > 20, "held after {held} statements of a thousand bytes");
        drop(frozen);
        wire::read_until_ready(&mut client.stream)?;
        assert!(seen.has(&text(held)));
        wait::until_true("the record of the last", PATIENCE, || {
            intended(scene.agent.audit_directory(), &text(held))
        })
    })
}
