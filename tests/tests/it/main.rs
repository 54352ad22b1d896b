//! The command line, without privilege: what it prints, where, and with which exit status.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Context;
use pgward_tests::agent::Agent;
use pgward_tests::host;

type Result<T = ()> = anyhow::Result<T>;

fn pgward(arguments: &[&str]) -> Result<Output> {
    host::output(Command::new(Agent::binary()?).args(arguments))
}

fn told(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

#[test]
fn the_example_configurations_are_good() -> Result {
    let mut seen = 0;
    for entry in std::fs::read_dir(examples())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let command = if path.ends_with("policy.toml") { "policy" } else { "config" };
        let output = pgward(&[command, "check", path.to_str().context("a plain path")?])?;
        assert!(output.status.success(), "{}: {}", path.display(), told(&output));
    }
    assert!(seen >= 1, "no example in {}", examples().display());
    Ok(())
}

#[test]
fn every_error_of_a_configuration_is_told_at_once_with_key_and_line() -> Result {
    let file = tempfile::NamedTempFile::new()?;
    let text = "[agent]\nworker = 1\n\n[listen]\nport = 99999\n[bpf]\non_agent_down = \"maybe\"\n";
    std::fs::write(file.path(), text)?;
    let path = file.path().to_str().context("a plain path")?;
    let output = pgward(&["config", "check", path])?;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let told = told(&output);
    for (line, key) in [(2, "agent.worker"), (5, "listen.port"), (7, "bpf.on_agent_down")] {
        let place = format!("{path}:{line}: `{key}`");
        assert!(told.contains(&place), "no `{place}` in:\n{told}");
    }
    assert!(told.contains("`intercept`"), "{told}");
    Ok(())
}

#[test]
fn a_bad_configuration_does_not_run() -> Result {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "[listen]\nport = 0\n")?;
    let output = pgward(&["run", "--config", file.path().to_str().context("a plain path")?])?;
    assert!(!output.status.success());
    assert!(told(&output).contains("listen.port"), "{}", told(&output));
    Ok(())
}

#[test]
fn a_configuration_that_is_not_there_is_named() -> Result {
    for command in
        [&["config", "check", "/nowhere/pgward.toml"][..], &["run", "--config", "/nowhere/x"]]
    {
        let output = pgward(command)?;
        assert!(!output.status.success(), "{command:?}");
        assert!(told(&output).contains("/nowhere/"), "{command:?}: {}", told(&output));
    }
    Ok(())
}

#[test]
fn sessions_without_an_agent_says_whom_it_asked() -> Result {
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control");
    let config = folder.path().join("pgward.toml");
    let text = format!("[agent]\ncontrol_socket = {control:?}\n[[intercept]]\nports = [5432]\n");
    std::fs::write(&config, text)?;
    let output = pgward(&["sessions", "--config", config.to_str().context("a plain path")?])?;
    assert!(!output.status.success(), "{}", told(&output));
    assert!(output.stdout.is_empty(), "no data without an agent");
    let socket = control.to_str().context("a plain path")?;
    assert!(told(&output).contains(socket), "{}", told(&output));
    Ok(())
}

#[test]
fn unknown_commands_and_options_are_refused() -> Result {
    for command in [&["fly"][..], &["run", "--quickly"]] {
        let output = pgward(command)?;
        assert_eq!(output.status.code(), Some(2), "{command:?}: {}", told(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{command:?}");
    }
    Ok(())
}
