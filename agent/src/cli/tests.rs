//! The command line from arguments to output.

mod audit_table;
mod orders;
mod policy_commands;

use clap::CommandFactory as _;
use serde_json::json;

use super::*;
use crate::cli::sessions::{Only, Shape};

/// What a subcommand wrote, and how it ended.
#[derive(Debug)]
struct Ran {
    exit: Exit,
    data: String,
    notes: String,
}

fn ran(width: Option<u16>, command: impl FnOnce(&mut Output<'_>) -> io::Result<Exit>) -> Ran {
    let (mut data, mut notes) = (Vec::new(), Vec::new());
    let mut output = Output { data: &mut data, notes: &mut notes, width };
    let exit = command(&mut output).expect("writing to memory works");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { exit, data: text(data), notes: text(notes) }
}

#[test]
fn definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn arguments_are_checked() {
    let parse = |line: &str| Cli::try_parse_from(line.split(' '));
    for good in [
        "pgward run --config /etc/x.toml",
        "pgward run",
        "pgward doctor --pid 7 --json",
        "pgward sessions --json",
        "pgward status",
        "pgward config check x.toml",
        "pgward config check",
        "pgward detach --pin-path /sys/fs/bpf/x",
        "pgward audit tail -f -n 5 --columns time,pid,statement --width 80",
        "pgward audit tail --json",
        "pgward ca init --name db.example.org --name 10.0.0.0/8 --certificate a --key b",
        "pgward policy check x.toml",
        "pgward policy explain x.toml --as role=ann,label.app=web --sql SELECT",
        "pgward policy backtest x.toml --since 7d",
        "pgward policy diff a.toml b.toml --over x",
        "pgward ca show",
        "pgward ca install --folder x",
        "pgward ca rotate",
    ] {
        assert!(parse(good).is_ok(), "{good}");
    }
    for bad in [
        "pgward",
        "pgward config",
        "pgward policy explain x.toml --as ann --sql SELECT",
        "pgward policy diff a.toml b.toml",
        "pgward doctor --pid 0",
        "pgward detach --config x --pin-path y",
        "pgward audit tail --columns colour",
        "pgward audit tail --json --width 3",
        "pgward audit tail --config x --directory y",
        "pgward ca",
        "pgward ca init --name 10.0.0.1/8",
        "pgward ca show --name x",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn config_check_reports_and_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.toml");
    let check = || ran(None, |output| check::run(&CheckArgs { file: file.clone() }, output));
    let name = file.display();
    let missing = check();
    assert_eq!(missing.exit, Exit::Failed);
    assert!(missing.notes.starts_with("error: cannot read the configuration file `"));
    assert!(missing.notes.ends_with(": No such file or directory (os error 2)\n"));
    std::fs::write(&file, "[listen]\nport = 0\nprot = 1\n[[intercept]]\nports = [1]\n")
        .expect("written");
    let bad = check();
    assert_eq!((bad.exit, bad.notes.as_str()), (Exit::Finding, "2 errors\n"));
    assert_eq!(
        bad.data,
        format!(
            "{name}:2: `listen.port`: out of range: found 0, expected 1..=65535\n\
             {name}:3: `listen.prot`: unknown key\n  hint: did you mean `port`?\n"
        )
    );
    let good = "[[intercept]]\nports = [1]\n[[audit.anchor]]\nname = 'w'\nkind = 'witness'\n\
                url = 'https://w.example'\n\
                key = 'witness.example/w1+a5b1519f+BA0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0N'\n\
                [[destination]]\nname = 'a'\nclient.tls = 'off'\n";
    std::fs::write(&file, good).expect("written");
    let silent = check();
    assert_eq!((silent.exit, silent.notes.as_str()), (Exit::Done, ""));
    assert_eq!(silent.data, format!("{name}: good\n"));
    std::fs::write(&file, format!("{good}server.tls = 'require'\nauth.verifiers = '/nowhere/v'\n"))
        .expect("written");
    let warned = check();
    assert_eq!((warned.exit, warned.notes.as_str()), (Exit::Done, "2 warnings\n"));
    assert_eq!(
        warned.data,
        format!(
            "{name}: warning: destination `a`: `server.tls` is `require`: it verifies nothing, \
             so anybody in between may answer\n  hint: set `tls = \"verify-full\"` in \
             `[destination.server]`, with `roots` where the system's do not fit\n\
             {name}: warning: destination `a`: auth.verifiers: `/nowhere/v`: open: entity not \
             found\n{name}: good\n"
        )
    );
}

#[test]
fn asking_without_an_agent_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("none.sock");
    let expected = format!(
        "error: no agent answers at `{}`: No such file or directory (os error 2)\n",
        socket.display()
    );
    for asked in [
        ran(None, |output| sessions::run_at(&socket, Shape::Table, &Only::default(), output)),
        ran(None, |output| status::run_at(&socket, true, output)),
    ] {
        assert_eq!((asked.exit, asked.notes.as_str()), (Exit::Failed, expected.as_str()));
    }
    let config = folder.path().join("c.toml");
    std::fs::write(&config, "bad = 1\n").expect("written");
    let args = AskArgs { config, json: false };
    let asked = ran(None, |output| status::run(&args, output));
    assert_eq!(asked.exit, Exit::Failed);
    assert!(asked.notes.contains("`bad`: unknown key"), "{}", asked.notes);
}

/// Answers one request with `answer`, which must fit it, then runs `command` on what came.
fn with_agent(
    answer: &'static str,
    command: impl FnOnce(&std::path::Path, &mut Output<'_>) -> io::Result<Exit>,
) -> Ran {
    use std::io::{BufRead as _, BufReader};
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _) = listener.accept().expect("a client");
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).expect("a request");
            writeln!(&stream, "{answer}").expect("an answer");
        });
        ran(Some(240), |output| command(&socket, output))
    })
}

const SESSIONS: &str = r#"{"response":"sessions","sessions":[
    {"id":"feed0000000000010000000000000002","pid":8,"exe":null,"uid":0,"container":"web","destination":"10.0.0.5:5432","netns_cookie":1,"database":"","database_user":"","application_name":"","client_leg":null,"server_leg":null,"handshake":null,"state":"startup","since":"2026-02-28T23:59:59.500000000Z","statements":0,"rows":0,"client_bytes":0,"server_bytes":0,"tier":"T0"},
    {"id":"feed0000000000010000000000000001","pid":7,"exe":"/usr/bin/psql","uid":1000,"container":null,"destination":"10.0.0.5:5432","netns_cookie":1,"database":"sh\u001b[2Jop","database_user":"app","application_name":"psql","client_leg":"clear","server_leg":"TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768","handshake":"terminated","state":"idle","since":"2026-02-28T23:59:58.000000000Z","statements":3,"rows":9,"client_bytes":1,"server_bytes":2,"tier":"T2"}
]}"#;

fn one_line(json: &str) -> &'static str {
    json.replace('\n', "").leak()
}

#[test]
fn sessions_are_listed_oldest_first() {
    let run = |json, shape| {
        with_agent(json, |s, output| sessions::run_at(s, shape, &Only::default(), output))
    };
    let listed = run(one_line(SESSIONS), Shape::Wide);
    assert_eq!(
        (listed.exit, listed.data.as_str()),
        (
            Exit::Done,
            "\
SESSION  PID  EXE             UID  CONTAINER  DESTINATION    DATABASE       USER  CLIENT LEG  SERVER LEG  HANDSHAKE   STATE    FOR  TRANSACTION  LAST  SINCE                    STATEMENTS  ROWS  DENIED  TIER
feed:1     7  /usr/bin/psql  1000  -          10.0.0.5:5432  sh\\u{1b}[2Jop  app   clear       TLSv1.3     terminated  idle     0ms            -  -     2026-02-28 23:59:58.000           3     9       0  T2
feed:2     8  -                 0  web        10.0.0.5:5432  -              -     -           -           -           startup  0ms            -  -     2026-02-28 23:59:59.500           0     0       0  T0
"
        )
    );
    let listed = run(one_line(SESSIONS), Shape::Json);
    let value: serde_json::Value = serde_json::from_str(&listed.data).expect("JSON");
    assert_eq!(value[0]["pid"], 7);
    assert_eq!(value[0]["server_leg"], "TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768");
    assert_eq!(
        (&value[0]["handshake"], &value[1]["client_leg"]),
        (&json!("terminated"), &json!(null))
    );
    let none = r#"{"response":"sessions","sessions":[]}"#;
    let none = run(none, Shape::Table);
    assert_eq!((none.data.as_str(), none.notes.as_str()), ("", "no sessions\n"));
    let wrong = run(r#"{"response":"accepted"}"#, Shape::Table);
    assert_eq!(wrong.exit, Exit::Failed);
}

#[test]
fn status_finds_a_log_that_does_not_record() {
    for (health, lost, unexplained, exit, shown) in [
        ("good", 0, 0, Exit::Done, "  state       good\n  origin      pgward/6f1c/1\n"),
        ("good", 0, 0, Exit::Done, "  entries     5 durable, 0 lost\n  bytes       6 of 70\n"),
        ("full", 0, 0, Exit::Finding, "  state       disk full: nothing is recorded\n"),
        ("good", 2, 0, Exit::Finding, "  entries     5 durable, 2 lost\n"),
        ("good", 0, 1, Exit::Finding, "0 allowed, 0 open, 1 unexplained\n"),
    ] {
        let status = json!({"response": "status", "status": {
            "version": "0.1.0", "pid": 1, "since": "2026-02-28T23:59:58.000000000Z",
            "cgroup": "root", "tiers": ["T0", "T2"], "workers": 2, "sessions": 1,
            "sessions_total": 4, "statements_total": 9, "logins_failed": 2, "logins_refused": 3,
            "logins_throttled": 0, "cancels_dropped": 7, "namespaces": 1,
            "audit_directory": "/var/lib/pgward/audit",
            "audit": {"origin": "pgward/6f1c/1", "quota_bytes": 70, "seal_lag_ms": 8_250,
                "checkpoint": 4, "checkpoint_error": "no \u{1b}[31m space",
                "store": {"health": health, "level": "low", "used_bytes": 6, "entries": 5,
                    "batches": 4, "lost": lost},
                "anchors": [anchor("share", 900, None), anchor("w", 61_000, Some("no route"))]},
            "connects": {"ledger": "00000000000000ff", "seen": 9 + unexplained, "intercepted": 4,
                "refused": 3, "failed": 2, "allowed": 0, "open": 0, "unexplained": unexplained,
                "refusals": {"sessions_max": 3}, "failures": {"silent_probe": 2}},
            "counters": {"redirected": 4}}});
        let status: &'static str = status.to_string().leak();
        let asked = with_agent(status, |s, output| status::run_at(s, false, output));
        assert_eq!(asked.exit, exit);
        assert!(asked.data.contains(shown), "{}", asked.data);
        assert!(asked.data.contains("redirected    4\n"), "{}", asked.data);
        for lag in [
            "  seal lag    8.2 s\n",
            "  checkpoint  no \\u{1b}[31m space\n",
            "  anchor lag  share: 0.9 s\n",
            "  anchor lag  w: 61.0 s; no route\n",
        ] {
            assert!(asked.data.contains(lag), "{}", asked.data);
        }
        let connects = "seen: 4 intercepted, 3 refused, 2 failed, 0 allowed, 0 open";
        assert!(asked.data.contains(connects), "{}", asked.data);
        assert!(
            asked.data.contains("logins        2 failed, 3 refused, 0 throttled\n"),
            "{}",
            asked.data
        );
        assert!(asked.data.contains("cancels       7 dropped: unknown keys\n"), "{}", asked.data);
        let asked = with_agent(status, |s, output| status::run_at(s, true, output));
        let value: serde_json::Value = serde_json::from_str(&asked.data).expect("JSON");
        assert_eq!(value["audit"]["store"]["lost"], lost);
        assert_eq!(value["connects"]["failures"]["silent_probe"], 2);
        assert_eq!((&value["logins_refused"], &value["cancels_dropped"]), (&json!(3), &json!(7)));
    }
}

/// How an anchor without an alarm is.
fn anchor(name: &str, lag_ms: u64, error: Option<&str>) -> serde_json::Value {
    json!({"name": name, "kind": "file", "size": 4, "copied": 5, "lag_ms": lag_ms,
        "error": error, "failures": 0, "busy_ms": null, "alarm": null})
}

#[test]
fn status_finds_what_an_anchor_holds_against_the_agent() {
    let mut witness = anchor("w", 900, None);
    for (alarm, exit) in [(json!(null), Exit::Done), (json!("another log"), Exit::Finding)] {
        witness["alarm"] = alarm;
        let status = json!({"response": "status", "status": {
            "version": "0.1.0", "pid": 1, "since": "2026-02-28T23:59:58.000000000Z",
            "cgroup": "root", "tiers": [], "workers": 2, "sessions": 1, "sessions_total": 4,
            "statements_total": 9, "namespaces": 1, "audit_directory": "/a",
            "audit": {"origin": "o", "quota_bytes": 70, "seal_lag_ms": null, "checkpoint": null,
                "checkpoint_error": null, "anchors": [witness],
                "store": {"health": "good", "level": "low", "used_bytes": 6, "entries": 5,
                    "batches": 4, "lost": 0}},
            "counters": {}}});
        let status: &'static str = status.to_string().leak();
        let asked = with_agent(status, |s, output| status::run_at(s, false, output));
        assert_eq!(asked.exit, exit, "{}", asked.data);
        assert!(asked.data.contains("  seal lag    no seal yet\n"), "{}", asked.data);
    }
}

/// Runs `pgward ca` on an authority in a folder.
fn ca(folder: &std::path::Path, line: &str) -> Ran {
    let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
    let mut all = vec!["pgward".into(), "ca".into()];
    all.extend(line.split(' ').map(std::ffi::OsString::from));
    all.extend(["--certificate".into(), certificate.into(), "--key".into(), key.into()]);
    match Cli::try_parse_from(all).expect("good arguments").command {
        Command::Ca(command) => ran(None, |output| ca::run(&command, output)),
        other => panic!("not about the authority: {other:?}"),
    }
}

#[test]
fn an_authority_is_made_shown_and_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let missing = ca(path, "show");
    assert_eq!((missing.exit, missing.data.as_str()), (Exit::Failed, ""));
    assert!(missing.notes.contains("No such file"), "{}", missing.notes);
    let made = ca(path, "init --name db.example.org --name 10.0.0.0/8");
    assert_eq!(made.exit, Exit::Done, "{}", made.notes);
    let shown = ca(path, "show");
    assert_eq!((shown.exit, shown.notes.as_str()), (Exit::Done, ""));
    assert_eq!(shown.data, made.data);
    let lines: Vec<&str> = shown.data.lines().collect();
    assert!(lines[0].starts_with("subject      O=pgward, CN=pgward CA "), "{lines:?}");
    assert_eq!(lines[1].len(), "valid        2026-01-01 to 2036-01-01".len());
    assert_eq!(lines[2].len(), "sha256       ".len() + 64);
    assert_eq!(lines[3], "certifies    db.example.org, 10.0.0.0/8");
    assert_eq!(lines[4], format!("PGSSLROOTCERT={}", path.join("ca.pem").display()));
    assert_eq!(lines.len(), 5);
    let again = ca(path, "init");
    assert_eq!(again.exit, Exit::Failed);
    assert!(again.notes.contains("exists already"), "{}", again.notes);
    let rotated = ca(path, "rotate");
    assert_eq!(rotated.exit, Exit::Done, "{}", rotated.notes);
    assert_ne!(rotated.data.lines().nth(2), Some(lines[2]), "another certificate");
    assert_eq!(rotated.data.lines().nth(3), Some(lines[3]), "the same constraints");
    assert!(rotated.notes.contains("ca.previous.pem"), "{}", rotated.notes);
    // The key of another pair.
    let other = tempfile::tempdir().expect("a folder");
    ca(other.path(), "init");
    std::fs::copy(other.path().join("ca.key"), path.join("ca.key")).expect("copied");
    let torn = ca(path, "show");
    assert_eq!((torn.exit, torn.data.lines().count()), (Exit::Finding, 5));
    assert!(torn.notes.contains("do not belong together"), "{}", torn.notes);
}

#[test]
fn a_certificate_is_installed_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let paths =
        crate::tls::ca::Paths { certificate: path.join("ca.pem"), key: path.join("ca.key") };
    let store = path.join("store");
    let install = |update: &str| ran(None, |output| ca::install(&paths, &store, update, output));
    assert_eq!(install("true").exit, Exit::Failed, "there is nothing to install");
    assert!(!store.exists());
    ca(path, "init");
    let last = format!("PGSSLROOTCERT={}", path.join("ca.pem").display());
    let read = |name: &str| std::fs::read_to_string(name).expect("a certificate");
    let installed = store.join("pgward.crt").display().to_string();
    for (update, exit, note) in [
        ("true", Exit::Done, ""),
        ("false", Exit::Failed, "error: false failed: exit status: 1\n"),
        ("pgward-no-such-command", Exit::Finding, "the store was not brought up to date"),
    ] {
        let done = install(update);
        assert_eq!(done.exit, exit, "{update}");
        assert!(done.notes.contains(note), "{}", done.notes);
        assert_eq!(done.data.contains("ran true"), update == "true", "{}", done.data);
        assert!(done.data.starts_with("copied "), "{}", done.data);
        assert_eq!(done.data.lines().last(), Some(last.as_str()));
        let copy = read(&installed).replace('\r', "");
        let own = read(&path.join("ca.pem").display().to_string()).replace('\r', "");
        assert_eq!(copy, own);
    }
    assert!(!store.join("pgward-previous.crt").exists());
    ca(path, "rotate");
    assert_eq!(install("true").data.lines().count(), 4);
    assert!(store.join("pgward-previous.crt").exists());
}

#[test]
fn an_authority_is_where_and_for_whom_the_configuration_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let file = path.join("pgward.toml");
    let written = |server: &str| {
        let text = format!(
            "[[intercept]]\nports = [5432]\n[tls]\nca_certificate = '{0}/own.pem'\nca_key = '{0}/own.key'\n\
             [[destination]]\nname = 'orders'\nnetworks = ['10.1.0.0/16']\n[destination.server]\nname = 'db.example.org'\n\
             [[destination]]\nname = 'rest'\n{server}",
            path.display()
        );
        std::fs::write(&file, text).expect("a configuration");
    };
    let init = || {
        let arguments = ["pgward", "ca", "init", "--config", file.to_str().expect("UTF-8")];
        let cli = Cli::try_parse_from(arguments).expect("arguments");
        let Command::Ca(command) = cli.command else { panic!("`ca` was asked for") };
        ran(None, |output| ca::run(&command, output))
    };
    written("networks = ['10.2.0.0/16']\n[destination.server]\nname = 'db2.example.org'");
    let made = init();
    assert_eq!(made.exit, Exit::Done, "{}", made.notes);
    assert!(path.join("own.pem").exists() && path.join("own.key").exists());
    // Connections beyond both are served too, by the implicit destination, which names no server.
    assert!(!made.data.contains("example.org"), "{}", made.data);
    std::fs::remove_file(path.join("own.pem")).expect("made");
    std::fs::remove_file(path.join("own.key")).expect("made");
    written("[destination.server]\nname = 'db2.example.org'");
    let made = init();
    assert!(made.data.contains("db.example.org") && made.data.contains("db2.example.org"));
    assert!(made.data.contains("10.1.0.0/16"), "{}", made.data);
}
