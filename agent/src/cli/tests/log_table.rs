//! `pgward log` from records to rows.

use serde_json::json;

use super::*;
use crate::audit::*;

fn log_args(arguments: &[&str]) -> LogArgs {
    let all = ["pgward", "log"].iter().chain(arguments);
    match Cli::try_parse_from(all).expect("good arguments").command {
        Command::Log(args) => args,
        other => panic!("not a log command: {other:?}"),
    }
}

const NOW: Now = Now { wall: WallNanos(1_772_323_199_000_000_042), boot: BootNanos(77) };

/// The start of a session whose login failed.
fn session_start(actor: &Json) -> SessionStart<'_> {
    let destination = "10.0.0.5:5432".parse().expect("an address");
    SessionStart {
        actor,
        tier: Tier::T2,
        confidence: Confidence::Exact,
        destination,
        source: destination,
        netns_cookie: 1,
        database_user: b"app",
        database: b"shop",
        application_name: None,
        client_encoding: None,
        server_version: None,
        protocol: (3, 0),
        authentication: "trust",
        handshake: None,
        client_tls: None,
        server_tls: None,
        server_verified: None,
        server_name: None,
        destination_name: "default",
        options: None,
        backend_pid: None,
    }
}

/// A log with two sessions, one of them of an earlier file, and one of everything else that has a
/// row.
fn sample_log() -> String {
    let mut out = Vec::new();
    let now = NOW;
    let mut seq = SessionSeq::new(SessionId { epoch: 0xfeed << 48, counter: 42 });
    let mut old = SessionSeq::new(SessionId { epoch: 0xfeed << 48, counter: 7 });
    let identity = Json::render(&json!({
        "pid": 7, "exe": "/usr/bin/psql", "uid": 1000, "cmdline": ["psql", "-c", "select\n1"],
        "container": {"id": "0123456789abcdef", "runtime": "crun"}
    }))
    .expect("short");
    let opener = Json::render(&json!({"pid": 7})).expect("short");
    let other = Json::render(&json!({
        "pid": 8, "exe": "/usr/bin/perl", "uid": 0, "container": "web"
    }))
    .expect("short");
    let destination = "10.0.0.5:5432".parse().expect("an address");
    let start = session_start(&identity);
    Record::from(&start).write(&seq.stamp(now), &mut out);
    let statement = Statement {
        kind: StatementKind::Simple,
        text: Excerpt::whole(b"select *\n  from t -- \x1b[31m"),
        text_state: TextState::Exact,
        client_encoding: None,
        name: b"",
        portal: b"",
        function_oid: None,
        parameters: Parameters::NONE,
        tag: b"SELECT 3",
        rows: 3,
        row_bytes: 11,
        results: &[],
        results_total: 1,
        copy_in: None,
        copy_out: None,
        outcome: Outcome::Completed,
        sqlstate: None,
        commit_sqlstate: None,
        started: now.wall,
        first_response_us: None,
        duration_us: 1_234,
        transaction: None,
        writer: &opener,
        tier: Tier::T2,
        shared_with: &[],
    };
    Record::from(&statement).write(&seq.stamp(now), &mut out);
    let insert = Statement {
        kind: StatementKind::Extended,
        text: Excerpt::whole(b"insert into t values ($1)"),
        tag: b"INSERT 0 5",
        rows: 0,
        writer: &other,
        ..statement
    };
    Record::from(&insert).write(&seq.stamp(now), &mut out);
    let failed = Statement {
        kind: StatementKind::Parse,
        text: Excerpt::whole(b"selec"),
        outcome: Outcome::Failed,
        sqlstate: Some(*b"42601"),
        ..statement
    };
    Record::from(&failed).write(&seq.stamp(now), &mut out);
    let unknown = Statement {
        text: Excerpt::whole(b""),
        text_state: TextState::Unknown,
        outcome: Outcome::Unfinished,
        tag: b"",
        writer: &other,
        ..statement
    };
    Record::from(&unknown).write(&old.stamp(now), &mut out);
    let refused = Refused {
        reason: "refused_storage",
        detail: None,
        sqlstate: None,
        actor: Some(&other),
        destination: Some(destination),
        count: 2,
    };
    Record::from(&refused).write(&Stamp::agent(now), &mut out);
    String::from_utf8(out).expect("UTF-8")
}

const TABLE: &str = "\
TIME                     SESSION  PID  EXE             UID  COMMAND LINE      CONTAINER     DESTINATION    STATEMENT                             ROWS  DURATION
2026-02-28 23:59:59.000  feed:42    7  /usr/bin/psql  1000  psql -c select 1  0123456789ab  10.0.0.5:5432  select * from t -- \\u{1b}[31m            3  1.234 ms
2026-02-28 23:59:59.000  feed:42    8  /usr/bin/perl     0  -                 web           10.0.0.5:5432  insert into t values ($1)                5  1.234 ms
2026-02-28 23:59:59.000  feed:42    7  /usr/bin/psql  1000  psql -c select 1  0123456789ab  10.0.0.5:5432  (parse) selec                  ERROR 42601  1.234 ms
2026-02-28 23:59:59.000  feed:7     8  /usr/bin/perl     0  -                 web           -              (unknown)                       unfinished  1.234 ms
2026-02-28 23:59:59.000  -          8  /usr/bin/perl     0  -                 web           10.0.0.5:5432  (refused: refused_storage)         2 times         -
";

/// Runs `pgward log` on a file of this content.
fn log(content: &str, arguments: &[&str], width: Option<u16>) -> Ran {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("q.jsonl");
    std::fs::write(&file, content).expect("written");
    let mut args = log_args(arguments);
    args.file = Some(file);
    ran(width, |output| log::run(&args, output))
}

#[test]
fn the_log_is_a_table_of_who_asked_what() {
    let table = log(&sample_log(), &[], None);
    assert_eq!((table.exit, table.data.as_str(), table.notes.as_str()), (Exit::Done, TABLE, ""));
    let last = log(&sample_log(), &["-n", "1", "--columns", "pid,outcome,user,tier"], None);
    assert_eq!(last.data, "PID  OUTCOME  USER  TIER\n  8  refused  -     -\n");
    let first = log(&sample_log(), &["--columns", "user,database,tier,outcome"], None);
    assert_eq!(first.data.lines().nth(1), Some("app   shop      T2    completed"));
    let empty = log("", &[], None);
    assert_eq!(
        (empty.exit, empty.data.as_str(), empty.notes.as_str()),
        (Exit::Done, "", "no statements\n")
    );
}

#[test]
fn logins_and_what_became_of_them_have_rows() {
    let identity = Json::render(&json!({"pid": 7, "exe": "/usr/bin/psql"})).expect("short");
    let mut out = Vec::new();
    let mut counter = 0;
    let mut session = |start: SessionStart<'_>, reason, detail, sqlstate| {
        counter += 1;
        let mut seq = SessionSeq::new(SessionId { epoch: 0xfeed << 48, counter });
        Record::from(&start).write(&seq.stamp(NOW), &mut out);
        let end = SessionEnd {
            reason,
            detail,
            sqlstate,
            statements: 0,
            client_bytes: 1,
            server_bytes: 2,
            duration_us: 5,
        };
        Record::from(&end).write(&seq.stamp(NOW), &mut out);
    };
    let good = |kind, login, bound, exception| SessionStart {
        handshake: Some(Handshake { kind, login, bound, exception }),
        server_tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768"),
        ..session_start(&identity)
    };
    let tls = Some("TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    let both = &[BoundLeg::Client, BoundLeg::Server];
    let terminated = good(HandshakeKind::Terminated, None, both, None);
    let terminated = SessionStart { client_tls: tls, ..terminated };
    session(terminated, EndReason::ClientTerminated, None, Some(*b"42601"));
    let mapped = good(HandshakeKind::Mapped, Some(b"app_db"), &both[1..], None);
    // Authenticated, and refused by the server all the same.
    session(mapped, EndReason::StartupRefused, None, Some(*b"3D000"));
    let relayed = good(HandshakeKind::Relayed, None, &[], Some("no \x1b[31m SCRAM"));
    let relayed = SessionStart { server_tls: None, ..relayed };
    session(relayed, EndReason::ServerClosed, None, None);
    let failed = SessionStart { server_tls: tls, ..session_start(&identity) };
    let detail = Some("authentication_method: the server asks for it");
    session(failed, EndReason::AuthenticationRefused, detail, Some(*b"28000"));
    session(session_start(&identity), EndReason::DialFailed, None, Some(*b"57P03"));
    let refused = Refused {
        reason: "sessions_max",
        detail: Some("`agent.sessions_max` is 1"),
        sqlstate: Some(*b"53300"),
        actor: None,
        destination: None,
        count: 1,
    };
    Record::from(&refused).write(&Stamp::agent(NOW), &mut out);
    let content = String::from_utf8(out).expect("UTF-8");

    let table = log(&content, &["--columns", "session,pid,statement,rows,duration"], None);
    assert_eq!(
        table.data,
        "\
SESSION  PID  STATEMENT                                                                                        ROWS  DURATION
feed:1     7  (login as app: terminated, client TLSv1.2, server TLSv1.3, bound to client and server)              -         -
feed:2     7  (login as app: mapped to app_db, client clear, server TLSv1.3, bound to server)                     -         -
feed:2     7  (no login as app: startup_refused)                                                        ERROR 3D000  0.005 ms
feed:3     7  (login as app: relayed, client clear, server clear, exception: no \\u{1b}[31m SCRAM)                 -         -
feed:4     7  (no login as app: authentication_refused: authentication_method: the server asks for it)  ERROR 28000  0.005 ms
feed:5     7  (no login as app: dial_failed)                                                            ERROR 57P03  0.005 ms
-          -  (refused: sessions_max: `agent.sessions_max` is 1)                                        ERROR 53300         -
"
    );
    let legs = ["--columns", "client-leg,server-leg,handshake,user,outcome"];
    let table = log(&content, &legs, None);
    assert_eq!(
        table.data,
        "\
CLIENT LEG  SERVER LEG  HANDSHAKE   USER  OUTCOME
TLSv1.2     TLSv1.3     terminated  app   authenticated
clear       TLSv1.3     mapped      app   authenticated
clear       TLSv1.3     mapped      app   startup_refused
clear       clear       relayed     app   authenticated
clear       TLSv1.2     -           app   authentication_refused
clear       -           -           app   dial_failed
-           -           -           -     refused
"
    );
}

#[test]
fn the_table_keeps_to_the_width_asked_for() {
    for (arguments, terminal, most) in [
        (&[][..], Some(120), 120),
        (&["--width", "100"], Some(200), 100),
        (&["--width=0"], Some(50), 1_000),
    ] {
        let table = log(&sample_log(), arguments, terminal);
        let longest = table.data.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(longest <= most && longest > most / 10, "{longest}\n{}", table.data);
        assert_eq!(table.data.lines().count(), 6);
    }
}

#[test]
fn lines_that_are_no_records_are_a_finding() {
    let torn = format!("{}{{\"v\":1,\"ev\n{{\"a\":1}}\n{}", sample_log(), sample_log());
    let table = log(&torn, &[], None);
    assert_eq!((table.exit, table.notes.as_str()), (Exit::Finding, "2 lines are no records\n"));
    assert_eq!(table.data.lines().count(), 11);
    let json = log(&torn, &["--json"], None);
    assert_eq!((json.exit, json.data), (Exit::Finding, sample_log() + &sample_log()));
    let last = log(&sample_log(), &["--json", "-n", "1"], None);
    assert_eq!(last.data.lines().collect::<Vec<_>>(), [sample_log().lines().last().expect("one")]);
    let unfinished = log(&(sample_log() + "{\"v\""), &[], None);
    assert_eq!(unfinished.exit, Exit::Done, "a line that is being written is none yet");
}

#[test]
fn following_goes_on_over_rotation() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("q.jsonl");
    let sample = sample_log();
    let lines: Vec<&str> = sample.lines().collect();
    let append = |text: &str| {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(&file);
        log.as_mut().expect("the log").write_all(text.as_bytes()).expect("written");
    };
    append(&format!("{}\n{}\n", lines[0], lines[1]));
    let mut args = log_args(&["--follow", "--columns", "session,statement"]);
    args.file = Some(file.clone());
    let (half, rest) = lines[2].split_at(30);
    let mut step = 0;
    let wait = || {
        step += 1;
        match step {
            1 => append(half),
            2 => append(&format!("{rest}\n")),
            3 => {
                append(&format!("{}\n", lines[3]));
                std::fs::rename(&file, folder.path().join("q.1.jsonl")).expect("set aside");
            }
            4 => append(&format!("{}\n", lines[4])),
            5 => append(&format!("{}\n", lines[5])),
            _ => return false,
        }
        true
    };
    let table = ran(Some(60), |output| log::run_at(&file, &args, output, wait));
    assert_eq!(
        table.data,
        "\
SESSION     STATEMENT
feed:42     select * from t -- \\u{1b}[31m
feed:42     insert into t values ($1)
feed:42     (parse) selec
feed:7      (unknown)
-           (refused: refused_storage)
"
    );
    assert_eq!(table.exit, Exit::Done);
}
