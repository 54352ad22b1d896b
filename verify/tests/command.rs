//! The command: exit codes and output.

use std::fs;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pgward-verify")).args(arguments).output().expect("it runs")
}

/// A key of the form that is expected, of nobody.
fn key() -> String {
    use base64::Engine;
    let public = [7; 32];
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        &[b"pgward/host\n\x01", &public[..]].concat(),
    );
    let encoded = base64::engine::general_purpose::STANDARD.encode([&[1], &public[..]].concat());
    format!("pgward/host+{}+{encoded}", hex::encode(&digest.as_ref()[..4]))
}

#[test]
fn without_a_key_it_does_not_run_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(&[&folder.path().to_string_lossy()]);
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("no key was given") && error.contains("hint:"), "{error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn wrong_arguments_and_folders_that_are_not_there_do_not_run() {
    assert_eq!(run(&["--nonsense"]).status.code(), Some(3));
    assert_eq!(run(&["/nowhere/at/all", "--key", &key()]).status.code(), Some(3));
    assert_eq!(run(&[".", "--key", "no key"]).status.code(), Some(3));
    assert_eq!(run(&[".", "--key", &key(), "--witness", &key()]).status.code(), Some(3));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[test]
fn an_empty_folder_does_not_pass() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("host.vkey");
    fs::write(&file, key() + "\n").expect("a file");
    let trail = folder.path().join("trail");
    fs::create_dir(&trail).expect("a folder");
    let output = run(&[&trail.to_string_lossy(), "--key", &file.to_string_lossy(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<serde_json::Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a json object"))
        .collect();
    assert_eq!(lines[0]["class"], "seal-missing");
    assert_eq!(lines[0]["severity"], "tampering");
    let summary = lines.last().expect("a summary");
    assert_eq!((&summary["summary"], &summary["exit"]), (&"tampered".into(), &1.into()));
}

#[test]
fn a_file_that_is_no_bundle_does_not_pass() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bundle");
    fs::write(&file, "nothing").expect("a file");
    let output = run(&[&file.to_string_lossy(), "--key", &key()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("bundle-invalid") && text.contains("NOT INTACT"), "{text}");
}
