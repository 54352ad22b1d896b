//! `pgward policy` from arguments to what is printed.

use std::path::Path;

use super::audit_table::{entries, trail};
use super::*;
use crate::cli::policy;

const WRITERS: &str = "\
[[role]]
name = \"writer\"
[[role.deny]]
actions = [\"insert\"]
relations = [\"t\"]
[[assign]]
give = [\"writer\"]
exe = [\"/usr/bin/perl\"]
";

/// Runs `pgward policy` with these arguments.
fn policy(arguments: &[&str]) -> Ran {
    let all = ["pgward", "policy"].iter().chain(arguments);
    match Cli::try_parse_from(all).expect("good arguments").command {
        Command::Policy(command) => ran(None, |output| policy::run(&command, output)),
        other => panic!("not about a policy: {other:?}"),
    }
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn checking_reports_all_or_says_what_there_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = policy(&["check", &written(folder.path(), "good.toml", WRITERS)]);
    assert_eq!(good.exit, Exit::Done);
    assert!(good.data.contains("good: 1 roles, 1 rules, 0 cases, SHA-256 "), "{}", good.data);
    let text = WRITERS.replace("insert", "inset").replace("give = [\"writer\"]", "give = [\"x\"]");
    let bad = policy(&["check", &written(folder.path(), "bad.toml", &text)]);
    assert_eq!((bad.exit, bad.notes.as_str()), (Exit::Finding, "2 errors\n"));
    assert!(bad.data.contains("bad.toml:4: `role[0].deny[0].actions[0]`"), "{}", bad.data);
    assert!(bad.data.contains("did you mean `insert`?"), "{}", bad.data);
    let missing = policy(&["check", "/nowhere/policy.toml"]);
    assert_eq!(missing.exit, Exit::Failed);
}

#[test]
fn explaining_names_the_rule_and_what_it_matched() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), "p.toml", WRITERS);
    let explain = |exe: &str, more: &[&str]| {
        let who = format!("exe={exe},role=app");
        let sql = "INSERT INTO public.t VALUES (1)";
        policy(&[&["explain", &file, "--as", &who, "--sql", sql], more].concat())
    };
    let refused = explain("/usr/bin/perl", &[]);
    assert_eq!(refused.exit, Exit::Finding);
    for part in ["permission denied for table t", "denied by writer.deny[0]", "public.t"] {
        assert!(refused.data.contains(part), "{part}\n{}", refused.data);
    }
    let allowed = explain("/usr/bin/psql", &["--json"]);
    let object: serde_json::Value = serde_json::from_str(&allowed.data).expect("one object");
    assert_eq!((allowed.exit, &object["verdict"]), (Exit::Done, &json!("allow")));
    assert_eq!(object["statements"][0]["needs"][0]["action"], "insert");
    let wrong = policy(&["explain", &file, "--as", "rolle=x", "--sql", "SELECT 1"]);
    assert_eq!(wrong.exit, Exit::Failed);
}

#[test]
fn backtests_and_differences_group_what_was_recorded() {
    let folder = trail(&entries());
    let place = folder.path().to_str().expect("UTF-8");
    let files = tempfile::tempdir().expect("a folder");
    let before = written(files.path(), "a.toml", "");
    let after = written(files.path(), "b.toml", WRITERS);
    let group = |verdict: &str| {
        json!({
            "statements": 1, "subject": "/usr/bin/perl as app@shop", "verdict": verdict,
            "rule": "writer.deny[0]", "shape": "insert into t values ($1)",
        })
    };
    let parsed = |ran: &Ran| -> serde_json::Value {
        serde_json::from_str(&ran.data).unwrap_or_else(|error| panic!("{error}: {}", ran.data))
    };
    let tested = policy(&["backtest", &after, "--directory", place, "--json"]);
    assert_eq!(tested.exit, Exit::Finding);
    assert_eq!(parsed(&tested), group("deny"));
    assert!(tested.notes.contains("1 of 3 statements would be refused"), "{}", tested.notes);
    let compared = policy(&["diff", &before, &after, "--over", place, "--json"]);
    assert_eq!(parsed(&compared), group("allow -> deny"));
    let same = policy(&["diff", &after, &after, "--over", place]);
    assert_eq!((same.exit, same.data.as_str()), (Exit::Done, ""));
    let later = policy(&["backtest", &after, "--directory", place, "--since", "2030-01-01"]);
    assert_eq!(later.exit, Exit::Done);
    let table = policy(&["backtest", &after, "--directory", place]);
    assert!(table.data.contains("insert into t values ($1)"), "{}", table.data);
}
