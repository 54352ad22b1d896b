//! Checking again and again.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::log::{HOST, pair, public, vkey};
use crate::scene::{Scene, sessions};

/// Ends the program when a test does.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.kill().expect("our own");
        self.0.wait().expect("our own");
    }
}

#[test]
fn what_changes_while_it_watches_is_told_once() {
    let mut scene = Scene::new(sessions(30));
    let key = vkey(HOST, 1, &public(&pair(1)));
    let mut child = Watcher(
        Command::new(env!("CARGO_BIN_EXE_pgward-verify"))
            .arg(scene.trail())
            .args(["--key", &key, "--watch", "1", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs"),
    );
    let mut lines = BufReader::new(child.0.stdout.take().expect("a pipe")).lines();
    let mut report = || -> (Vec<Value>, Value) {
        let mut findings = Vec::new();
        for line in lines.by_ref() {
            let object: Value = serde_json::from_str(&line.expect("text")).expect("an object");
            if object.get("summary").is_some() {
                return (findings, object);
            }
            findings.push(object);
        }
        panic!("it ended");
    };
    let (findings, summary) = report();
    assert_eq!(summary["summary"], "incomplete", "no anchor was given: {findings:?}");
    assert_eq!(report().0, Vec::<Value>::new(), "nothing is new");
    scene.edit(0, 40);
    let (findings, summary) = loop {
        let (findings, summary) = report();
        if !findings.is_empty() {
            break (findings, summary);
        }
    };
    assert_eq!(summary["exit"], 1);
    assert!(findings.iter().any(|one| one["severity"] == "tampering"), "{findings:?}");
    assert!(findings.iter().any(|one| one["from_index"] == 40), "{findings:?}");
    assert_eq!(report().0, Vec::<Value>::new(), "it was told");
}
