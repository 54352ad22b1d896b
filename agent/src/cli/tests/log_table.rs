//! `pgward log` from records to rows.

use serde_json::{Value, json};

use super::*;
use crate::audit::samples::*;
use crate::audit::view::{Item, Joined};
use crate::audit::*;

fn log_args(arguments: &[&str]) -> LogArgs {
    let all = ["pgward", "log"].iter().chain(arguments);
    match Cli::try_parse_from(all).expect("good arguments").command {
        Command::Log(args) => args,
        other => panic!("not a log command: {other:?}"),
    }
}

/// A log as it grows: what its entries come to, a line each.
#[derive(Default)]
struct Lines {
    joined: Joined,
    entries: u64,
    text: String,
}

impl Lines {
    fn write<'r>(&mut self, stamp: &Stamp, record: impl Into<Record<'r>>) {
        let items = self.joined.push(self.entries, &entry(stamp, record)).expect("an entry");
        self.entries += 1;
        self.show(items);
    }

    /// An intent and its outcome.
    fn statement(&mut self, seq: &mut SessionSeq, what: What<'_>, done: Done<'_>) {
        let intent = seq.next();
        self.write(&seq.stamp(NOW), &Intent { what });
        let done = Done { of: Of::Intent(intent, None), ..done };
        self.write(&seq.stamp(NOW), &done);
    }

    fn show(&mut self, items: Vec<Item>) {
        for item in items {
            self.text.push_str(&view::line(&Value::Object(item.object)));
            self.text.push('\n');
        }
    }

    fn finish(mut self) -> String {
        let rest = self.joined.finish(self.entries);
        self.show(rest);
        self.text
    }
}

/// A log with two sessions, one of them of an earlier file, and one of everything else that has a
/// row.
fn sample_log() -> String {
    let mut log = Lines::default();
    let mut seq = SessionSeq::new(SessionId { epoch: 0xfeed << 48, counter: 42 });
    let mut old = SessionSeq::new(SessionId { epoch: 0xfeed << 48, counter: 7 });
    let encoded = |identity| Encoded::object(schema::ACTOR, &identity).expect("short");
    let identity = encoded(json!({
        "pid": 7, "exe": "/usr/bin/psql", "uid": 1000, "cmdline": ["psql", "-c", "select\n1"],
        "container": {"id": "0123456789abcdef", "runtime": "crun", "name": "shop"}
    }));
    let other = encoded(json!({
        "pid": 8, "exe": "/usr/bin/perl", "uid": 0, "container": {"id": "ab", "name": "web"}
    }));
    let destination = "10.0.0.5:5432".parse().expect("an address");
    log.write(&seq.stamp(NOW), &session_start(&identity));
    log.write(&seq.stamp(NOW), &authentication());
    let select = Done {
        tag: b"SELECT 3",
        rows: 3,
        first_response_us: None,
        duration_us: 1_234,
        transaction: None,
        ..done(Of::Intent(0, None))
    };
    log.statement(&mut seq, what(b"select *\n  from t -- \x1b[31m"), select);
    let writer = Writers { writer: seq.next(), tier: Tier::T2, shared_with: &[] };
    log.write(&seq.stamp(NOW), &Writer { actor: &other, tier: Tier::T2 });
    let insert =
        What { kind: StatementKind::Extended, writer, ..what(b"insert into t values ($1)") };
    log.statement(&mut seq, insert, Done { tag: b"INSERT 0 5", rows: 0, ..select });
    let parse = What { kind: StatementKind::Parse, ..what(b"selec") };
    let failed = Done {
        of: Of::Message(&parse),
        outcome: Outcome::Failed,
        sqlstate: Some(*b"42601"),
        ..select
    };
    log.write(&seq.stamp(NOW), &failed);
    let _ = old.stamp(NOW); // its start is in an earlier file
    let writer = Writers { writer: old.next(), ..writer };
    log.write(&old.stamp(NOW), &Writer { actor: &other, tier: Tier::T2 });
    let unknown =
        What { text: Text::default(), text_state: TextState::Unknown, writer, ..what(b"") };
    log.statement(&mut old, unknown, Done { outcome: Outcome::Unfinished, tag: b"", ..select });
    let refused = Refused {
        reason: "refused_storage",
        detail: None,
        sqlstate: None,
        actor: Some(&other),
        destination: Some(destination),
        count: 2,
        connect: None,
    };
    log.write(&Stamp::agent(NOW), &refused);
    log.finish()
}

const TABLE: &str = "\
TIME                     SESSION  PID  EXE             UID  COMMAND LINE      CONTAINER  DESTINATION    STATEMENT                             ROWS  DURATION
2026-02-28 23:59:59.000  feed:42    7  /usr/bin/psql  1000  psql -c select 1  shop       10.0.0.5:5432  select * from t -- \\u{1b}[31m            3  1.234 ms
2026-02-28 23:59:59.000  feed:42    8  /usr/bin/perl     0  -                 web        10.0.0.5:5432  insert into t values ($1)                5  1.234 ms
2026-02-28 23:59:58.998  feed:42    7  /usr/bin/psql  1000  psql -c select 1  shop       10.0.0.5:5432  (parse) selec                  ERROR 42601  1.234 ms
2026-02-28 23:59:59.000  feed:7     8  /usr/bin/perl     0  -                 web        -              (unknown)                       unfinished  1.234 ms
2026-02-28 23:59:59.000  -          8  /usr/bin/perl     0  -                 web        10.0.0.5:5432  (refused: refused_storage)         2 times         -
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
    let actor = json!({"pid": 7, "exe": "/usr/bin/psql"});
    let actor = Encoded::object(schema::ACTOR, &actor).expect("short");
    let mut log_file = Lines::default();
    let mut counter = 0;
    let mut session = |start: SessionStart<'_>, login: Authentication<'_>, reason: EndReason| {
        counter += 1;
        let mut seq = SessionSeq::new(SessionId { epoch: 0xfeed << 48, counter });
        log_file.write(&seq.stamp(NOW), &start);
        log_file.write(&seq.stamp(NOW), &Authentication { detail: None, sqlstate: None, ..login });
        let (entries, digest) = seq.summary();
        let end = SessionEnd {
            reason,
            detail: login.detail,
            sqlstate: login.sqlstate,
            statements: 0,
            client_bytes: 1,
            server_bytes: 2,
            duration_us: 5,
            entries,
            digest,
        };
        log_file.write(&seq.stamp(NOW), &end);
    };
    let good = |kind, login, bound, exception| Authentication {
        handshake: Some(Handshake { kind, login, bound, exception }),
        server_tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384 X25519MLKEM768"),
        ..authentication()
    };
    let start = session_start(&actor);
    let tls = Some("TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    let both = &[BoundLeg::Client, BoundLeg::Server];
    let terminated = good(HandshakeKind::Terminated, None, both, None);
    let terminated = Authentication { sqlstate: Some(*b"42601"), ..terminated };
    let encrypted = SessionStart { client_tls: tls, ..start };
    session(encrypted, terminated, EndReason::ClientTerminated);
    let mapped = good(HandshakeKind::Mapped, Some(b"app_db"), &both[1..], None);
    // Authenticated, and refused by the server all the same.
    let mapped = Authentication { sqlstate: Some(*b"3D000"), ..mapped };
    session(start, mapped, EndReason::StartupRefused);
    let relayed = good(HandshakeKind::Relayed, None, &[], Some("no \x1b[31m SCRAM"));
    session(start, Authentication { server_tls: None, ..relayed }, EndReason::ServerClosed);
    let refused = Authentication {
        server_tls: tls,
        detail: Some("authentication_method: the server asks for it"),
        sqlstate: Some(*b"28000"),
        ..authentication()
    };
    session(start, refused, EndReason::AuthenticationRefused);
    let failed = Authentication { sqlstate: Some(*b"57P03"), ..authentication() };
    session(start, failed, EndReason::DialFailed);
    let refused = Refused {
        reason: "sessions_max",
        detail: Some("`agent.sessions_max` is 1"),
        sqlstate: Some(*b"53300"),
        actor: None,
        destination: None,
        count: 1,
        connect: None,
    };
    log_file.write(&Stamp::agent(NOW), &refused);
    let content = log_file.finish();

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
