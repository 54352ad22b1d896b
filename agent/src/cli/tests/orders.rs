//! `pgward sessions`, `kill` and `grant`: arguments, requests, output.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixListener;

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::cli::sessions::{Only, Shape, age};
use crate::control::Request;

/// Runs a command line against an agent that answers `answer`: what it wrote, and what it asked for.
fn asked(line: &str, answer: &Value) -> (Ran, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let words = line.split(' ').map(|word| word.replace('_', " "));
    let command = Cli::try_parse_from(words).expect("good arguments").command;
    std::thread::scope(|scope| {
        let agent = scope.spawn(|| {
            let (stream, _) = listener.accept().expect("a client");
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).expect("a request");
            writeln!(&stream, "{answer}").expect("answered");
            serde_json::from_str::<Request>(&request).expect("a request of ours");
            serde_json::from_str(&request).expect("JSON")
        });
        let ran = ran(Some(120), |output| match &command {
            Command::Kill(args) => kill::run_at(&socket, args, output),
            Command::Grant(args) => grant::run_at(&socket, args, output),
            Command::Sessions(args) => {
                let shape = if args.wide { Shape::Wide } else { Shape::Table };
                sessions::run_at(&socket, shape, &args.only, output)
            }
            other => panic!("not one of these: {other:?}"),
        });
        (ran, agent.join().expect("the agent's assertions hold"))
    })
}

fn session(counter: u64, state: &str) -> Value {
    json!({
        "id": format!("feed000000000001{counter:016x}"), "pid": 4_194_304 - counter,
        "exe": "/usr/lib/postgresql/15/bin/psql", "uid": 1000, "container": "web",
        "destination": "10.120.130.140:5432", "destination_name": "orders", "netns_cookie": 1,
        "database": "shop", "database_user": "app", "application_name": "psql",
        "client_leg": "clear", "server_leg": "clear", "handshake": "terminated", "state": state,
        "since": "2026-02-28T23:59:58.000000000Z", "state_ms": 252_000,
        "transaction_since": "2026-02-28T23:59:58.000000000Z", "transaction_ms": 4_000_000,
        "last_class": "simple", "statements": 3, "rows": 123_456, "denials": 2,
        "client_bytes": 1, "server_bytes": 2, "tier": "T2"
    })
}

#[test]
fn which_sessions_and_what_is_done_must_be_said() {
    let parse = |line: &str| {
        Cli::try_parse_from(line.split(' ')).map(drop).map_err(|error| error.to_string())
    };
    for good in [
        "pgward kill feed:1",
        "pgward kill feed:1 --cancel --reason slow",
        "pgward kill --pid 7 --role app --exe psql --terminate --reason why",
        "pgward kill --container web --wait --reason why --json",
        "pgward kill --destination 10.0.0.5 --terminate --dry-run",
        "pgward kill --pid 7 --terminate --dry-run --reason why",
        "pgward sessions --wide --role app --exe psql --container web --state idle*",
        "pgward sessions --json --role app",
        "pgward grant --to exe=/a,uid=7 --role r --for 30m --reason why",
        "pgward grant --to exe=/a --role r --for 2h --reason why --approver boss",
        "pgward grant --to exe=/a --role r --for 90 --reason why --request --json",
        "pgward grant list --json",
        "pgward grant approve g1",
        "pgward grant revoke g1 --reason done",
    ] {
        assert_eq!(parse(good), Ok(()), "{good}");
    }
    for bad in [
        "pgward kill",
        "pgward kill --terminate --reason why",
        "pgward kill feed:1 --terminate",
        "pgward kill feed:1 --wait",
        "pgward kill feed:1 --cancel --terminate --reason why",
        "pgward kill --pid 0",
        "pgward sessions --wide --json",
        "pgward grant",
        "pgward grant --to exe=/a --role r --for 30m",
        "pgward grant --to exe=/a --role r --for 30s --reason why",
        "pgward grant --to exe=/a --role r --for 0m --reason why",
        "pgward grant --to nobody --role r --for 30m --reason why",
        "pgward grant --to exec=/a --role r --for 30m --reason why",
        "pgward grant --to exe=/a --role r --for 30m --reason why --request --approver boss",
        "pgward grant approve",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn sessions_fit_a_terminal_and_all_columns_are_there_when_asked_for() {
    let sessions = [session(1, "idle in transaction (aborted)"), session(12_345, "active")];
    let answer = json!({"response": "sessions", "sessions": sessions});
    let (listed, _) = asked("pgward sessions", &answer);
    assert_eq!(listed.exit, Exit::Done);
    let lines: Vec<&str> = listed.data.lines().collect();
    assert_eq!(lines.len(), 3, "{}", listed.data);
    for line in &lines {
        assert!(line.chars().count() <= 120, "{line}");
    }
    for shown in ["feed:12345", "psql@web", "app@shop", "4m12s", "1h06m", "simple", "123456"] {
        assert!(lines[2].contains(shown), "`{shown}` in {}", listed.data);
    }
    let (wide, _) = asked("pgward sessions --wide", &answer);
    for shown in ["HANDSHAKE", "STATEMENTS", "TIER", "CONTAINER"] {
        assert!(!lines[0].contains(shown));
        // Cut at 120 columns, but there.
        assert!(wide.data.contains(&shown[..2]), "{}", wide.data);
    }
}

#[test]
fn sessions_are_listed_by_what_is_asked_for() {
    let mut other = session(2, "active");
    other["database_user"] = json!("batch");
    other["exe"] = json!(null);
    other["container"] = json!(null);
    let sessions = [session(1, "idle in transaction"), other];
    let answer = json!({"response": "sessions", "sessions": sessions});
    for (line, expected) in [
        ("pgward sessions", &["feed:1", "feed:2"][..]),
        ("pgward sessions --role batch", &["feed:2"]),
        ("pgward sessions --role b*", &["feed:2"]),
        ("pgward sessions --exe psql", &["feed:1"]),
        ("pgward sessions --exe */bin/*", &["feed:1"]),
        ("pgward sessions --container *", &["feed:1"]),
        ("pgward sessions --state active", &["feed:2"]),
        ("pgward sessions --state idle*", &["feed:1"]),
        ("pgward sessions --state idle", &[]),
        ("pgward sessions --role batch --state idle*", &[]),
    ] {
        let (listed, _) = asked(line, &answer);
        let ids: Vec<&str> =
            listed.data.lines().skip(1).filter_map(|row| row.split(' ').next()).collect();
        assert_eq!(ids, expected, "{line}");
        assert_eq!(listed.notes.is_empty(), !expected.is_empty(), "{line}");
    }
    let only = Only::default();
    let json =
        with_agent(answer.to_string().leak(), |s, o| sessions::run_at(s, Shape::Json, &only, o));
    let json: Value = serde_json::from_str(&json.data).expect("JSON");
    assert_eq!((&json[0]["transaction_ms"], &json[0]["denials"]), (&json!(4_000_000), &json!(2)));
}

#[test]
fn ages_are_short() {
    for (millis, expected) in [
        (None, "-"),
        (Some(0), "0ms"),
        (Some(999), "999ms"),
        (Some(1000), "1s"),
        (Some(59_999), "59s"),
        (Some(60_000), "1m00s"),
        (Some(3_599_999), "59m59s"),
        (Some(3_600_000), "1h00m"),
        (Some(86_399_000), "23h59m"),
        (Some(86_400_000), "1d00h"),
        (Some(u64::MAX), "213503982334d14h"),
    ] {
        assert_eq!(age(millis), expected);
    }
}

#[test]
fn a_kill_says_which_sessions_it_hit() {
    let hit = |became: &str| json!({"became": became, "session": session(1, "active")});
    let answer = |dry_run: bool, action: &str, sessions: Vec<Value>| {
        json!({"response": "killed", "killed":
            {"dry_run": dry_run, "action": action, "sessions": sessions}})
    };
    let (ran, request) =
        asked("pgward kill feed:1", &answer(false, "cancel", vec![hit("cancelled")]));
    assert_eq!(
        request["kill"],
        json!({"chosen": {"session": "feed:1"}, "action": "cancel", "reason": null, "dry_run": false})
    );
    assert_eq!((ran.exit, ran.notes.as_str()), (Exit::Done, "1 session hit, 1 cancelled\n"));
    assert!(ran.data.lines().nth(1).is_some_and(|row| row.starts_with("feed:1 ")), "{}", ran.data);
    let line = "pgward kill --pid 7 --exe psql --container web --role app --destination d \
                --terminate --reason too_slow";
    let sessions = vec![hit("ended"), hit("told"), hit("ended")];
    let (ran, request) = asked(line, &answer(false, "terminate", sessions));
    assert_eq!(
        request["kill"],
        json!({"chosen": {"pid": 7, "exe": "psql", "container": "web", "role": "app",
            "destination": "d"}, "action": "terminate", "reason": "too slow", "dry_run": false})
    );
    assert_eq!(
        (ran.exit, ran.notes.as_str()),
        (Exit::Done, "3 sessions hit, 2 ended, 1 told, not done yet\n")
    );
    let (ran, _) = asked("pgward kill --role app", &answer(false, "cancel", vec![hit("failed")]));
    assert_eq!((ran.exit, ran.notes.as_str()), (Exit::Finding, "1 session hit, 1 not reached\n"));
    let (ran, _) = asked("pgward kill --role app", &answer(false, "cancel", vec![]));
    assert_eq!((ran.exit, ran.notes.as_str()), (Exit::Finding, "no session was hit\n"));
    assert_eq!(ran.data, "");
    let line = "pgward kill --role app --wait --dry-run";
    let (ran, request) = asked(line, &answer(true, "wait", vec![hit("untouched")]));
    assert_eq!(request["kill"]["dry_run"], true);
    assert_eq!((ran.exit, ran.notes.as_str()), (Exit::Done, "1 session would be hit\n"));
    let (ran, _) = asked("pgward kill feed:1 --json", &answer(false, "cancel", vec![hit("idle")]));
    let value: Value = serde_json::from_str(&ran.data).expect("JSON");
    assert_eq!((&value["sessions"][0]["became"], ran.notes.as_str()), (&json!("idle"), ""));
    let refused = json!({"response": "refused", "reason": "a reason is needed"});
    let (ran, _) = asked("pgward kill feed:1", &refused);
    assert_eq!(ran.exit, Exit::Failed);
    assert_eq!(ran.notes, "error: agent refused: a reason is needed\n");
}

fn grant(state: &str) -> Value {
    json!({"id": "0a1b2c3d", "state": state, "to": "exe=/usr/bin/psql", "role": "support",
        "minutes": 30, "reason": "ticket 7", "by": 1000, "asked": "2026-02-28T23:00:00.000000000Z",
        "approver": null, "until": "2026-02-28T23:30:00.000000000Z", "left_s": 1_799})
}

#[test]
fn grants_are_asked_for_listed_and_ended() {
    let answer = |state: &str| json!({"response": "grant", "grant": grant(state)});
    let line = "pgward grant --to exe=/usr/bin/psql --role support --for 30m --reason ticket_7";
    let (ran, request) = asked(line, &answer("active"));
    assert_eq!(
        request["asked"],
        json!({"to": "exe=/usr/bin/psql", "role": "support", "minutes": 30, "reason": "ticket 7",
            "approver": null, "request": false})
    );
    assert_eq!((ran.exit, ran.notes.as_str()), (Exit::Done, ""));
    for shown in ["0a1b2c3d", "active", "support", "30 minutes", "2026-02-28 23:30:00.000 UTC"] {
        assert!(ran.data.contains(shown), "`{shown}` in {}", ran.data);
    }
    let line = "pgward grant --to uid=7 --role support --for 2h --reason why --request";
    let (ran, request) = asked(line, &answer("requested"));
    assert_eq!(
        (&request["asked"]["minutes"], &request["asked"]["request"]),
        (&json!(120), &json!(true))
    );
    let note = "not in force: somebody else runs `pgward grant approve 0a1b2c3d`\n";
    assert_eq!(ran.notes, note);
    let (_, request) = asked("pgward grant approve 0a1b2c3d", &answer("active"));
    assert_eq!(request, json!({"request": "grant_approve", "id": "0a1b2c3d"}));
    let (ran, request) = asked("pgward grant revoke 0a1b2c3d --reason done", &answer("active"));
    assert_eq!(request, json!({"request": "grant_revoke", "id": "0a1b2c3d", "reason": "done"}));
    assert!(ran.data.contains("revoked") && !ran.data.contains("until"), "{}", ran.data);
    let all = json!({"response": "grants", "grants": [grant("active"), grant("requested")]});
    let (ran, request) = asked("pgward grant list", &all);
    assert_eq!(request, json!({"request": "grants"}));
    assert_eq!(ran.data.lines().count(), 3, "{}", ran.data);
    assert!(ran.data.contains("29m59s"), "{}", ran.data);
    let (ran, _) = asked("pgward grant list --json", &all);
    let value: Value = serde_json::from_str(&ran.data).expect("JSON");
    assert_eq!(value[1]["state"], "requested");
    let (ran, _) = asked("pgward grant list", &json!({"response": "grants", "grants": []}));
    assert_eq!((ran.exit, ran.notes.as_str()), (Exit::Done, "no grants\n"));
}
