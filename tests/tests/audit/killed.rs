//! The agent is killed under load, again and again: what anybody was told is on record.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use pgward_tests::scene::{Scene, mark};
use pgward_tests::script::ScriptedServer;
use pgward_tests::wait::{self, PATIENCE};

use crate::{Result, Seen, client, gate};

/// Environment variable with the number of rounds.
const ROUNDS: &str = "PGWARD_KILL_ROUNDS";
/// Rounds without it.
const ROUNDS_USUAL: usize = 20;
/// Sessions at a time.
const SESSIONS: usize = 4;

#[test]
fn whatever_was_acknowledged_or_forwarded_before_a_kill_is_recorded() -> Result {
    gate!();
    let rounds = match std::env::var(ROUNDS) {
        Ok(text) => text.parse().with_context(|| format!("{ROUNDS}={text}"))?,
        Err(_) => ROUNDS_USUAL,
    };
    let seen = Seen::default();
    let notes = seen.clone();
    let server = ScriptedServer::watched(move |text| notes.note(text, true))?;
    let mut scene = Scene::new("killed", server.address().port())?;
    let acknowledged = Mutex::new(BTreeSet::new());
    let word = mark("killed");
    for round in 0..rounds {
        let answers = AtomicUsize::new(0);
        // Another moment of the agent's work in each round.
        let enough = 1 + round * 7 % 50;
        let scene_now = &mut scene;
        kill_under_load(
            scene_now,
            &server,
            &answers,
            enough,
            |thread, number| format!("select '{word} {round} {thread} {number}'"),
            &acknowledged,
        )?;
        scene.agent.start_process(None)?;
    }
    let entries = scene.agent.entries()?;
    let intents = entries.iter().filter(|entry| entry.is("intent"));
    let recorded: BTreeSet<&str> =
        intents.filter_map(|entry| entry.fields["text"].as_str()).collect();
    let forwarded = seen.all();
    let missing: Vec<_> =
        forwarded.iter().filter(|(text, _)| !recorded.contains(text.as_str())).collect();
    assert!(missing.is_empty(), "forwarded without an intent: {missing:?}");
    let acknowledged = acknowledged.into_inner().expect("no thread panics with the lock");
    let missing: Vec<_> =
        acknowledged.iter().filter(|text| !recorded.contains(text.as_str())).collect();
    assert!(missing.is_empty(), "acknowledged without an intent: {missing:?}");
    assert!(acknowledged.len() >= rounds, "{} acknowledged", acknowledged.len());
    let recoveries = entries.iter().filter(|entry| entry.is("recovery")).count();
    assert_eq!(recoveries, rounds, "each start behind a kill says so");
    eprintln!(
        "{rounds} kills: {} acknowledged, {} forwarded, {} intents",
        acknowledged.len(),
        forwarded.len(),
        recorded.len()
    );
    scene.agent.finish()
}

/// Runs sessions until `enough` answers came, and kills the agent among them.
fn kill_under_load(
    scene: &mut Scene,
    server: &ScriptedServer,
    answers: &AtomicUsize,
    enough: usize,
    text: impl Fn(usize, usize) -> String + Sync,
    acknowledged: &Mutex<BTreeSet<String>>,
) -> Result {
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(client(scene, server)?);
    }
    std::thread::scope(|scope| {
        for (thread, mut client) in clients.into_iter().enumerate() {
            let text = &text;
            scope.spawn(move || {
                // Until the agent is gone.
                for number in 0.. {
                    let text = text(thread, number);
                    match client.value(&text) {
                        Ok(answer) if answer == text => {}
                        Ok(_) | Err(_) => return,
                    }
                    answers.fetch_add(1, Ordering::SeqCst);
                    acknowledged.lock().expect("no thread panics with the lock").insert(text);
                }
            });
        }
        let reached =
            wait::until_true("answers", PATIENCE, || Ok(answers.load(Ordering::SeqCst) >= enough));
        scene.agent.kill()?;
        reached
    })
}
