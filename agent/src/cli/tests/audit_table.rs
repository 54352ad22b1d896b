//! `pgward audit` from a trail in a folder to what is printed.

use super::*;
use crate::audit::index::synthetic::pack;
use crate::audit::samples::{
    authentication, done, entry, held, outside, session_start, stamp, what,
};
use crate::audit::schema::ACTOR;
use crate::audit::{
    Authentication, Done, Encoded, EndReason, Handshake, HandshakeKind, Intent, Of, Outcome,
    Refused, SessionEnd, Tier, What, Writer, Writers,
};

fn actor(pid: u32, exe: &str, container: &serde_json::Value) -> Encoded {
    let mut value = json!({"pid": pid, "start_ns": pid, "exec": 1, "exe": exe, "uid": 1000});
    if container.is_object() {
        value["container"] = container.clone();
    }
    Encoded::object(ACTOR, &value).expect("short, and of the table")
}

/// A session with three statements, of which one fails, and one is written by another process and
/// has no outcome; and a refusal.
pub(super) fn entries() -> Vec<Vec<u8>> {
    let psql = actor(7, "/usr/bin/psql", &json!({"id": "0123456789abcdef"}));
    let perl = actor(8, "/usr/bin/perl", &json!(null));
    let handshake =
        Handshake { kind: HandshakeKind::Terminated, login: None, bound: &[], exception: None };
    let login = Authentication { handshake: Some(handshake), ..authentication() };
    let intent = |text: &'static [u8]| Intent { judged: None, what: what(text) };
    let other = Writers { writer: 6, tier: Tier::T2, shared_with: &[] };
    let by_other = What { text: held(b"insert into t values ($1)"), writer: other, ..what(b"") };
    let failed =
        Done { outcome: Outcome::Failed, sqlstate: Some(*b"42601"), ..done(Of::Intent(4, None)) };
    let refused = Refused {
        reason: "refused_storage",
        detail: None,
        sqlstate: None,
        actor: Some(&perl),
        destination: None,
        count: 2,
        connect: None,
    };
    let end = SessionEnd {
        reason: EndReason::ClientTerminated,
        detail: None,
        sqlstate: None,
        statements: 3,
        client_bytes: 1,
        server_bytes: 2,
        duration_us: 5,
        entries: 9,
        digest: [0; 32],
    };
    vec![
        entry(&stamp(0), &session_start(&psql)),
        entry(&stamp(1), &login),
        entry(&stamp(2), &intent(b"select *\n  from t -- \x1b[31m")),
        entry(&stamp(3), &done(Of::Intent(2, None))),
        entry(&stamp(4), &intent(b"selec")),
        entry(&stamp(5), &failed),
        entry(&stamp(6), &Writer { actor: &perl, tier: Tier::T2 }),
        entry(&stamp(7), &Intent { judged: None, what: by_other }),
        entry(&outside(), &refused),
        entry(&stamp(8), &end),
    ]
}

pub(super) fn trail(entries: &[Vec<u8>]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    add(folder.path(), 0, entries);
    folder
}

fn add(folder: &std::path::Path, first: u64, entries: &[Vec<u8>]) {
    let epoch = folder.join("epoch-1");
    std::fs::create_dir_all(&epoch).expect("a folder");
    let path = epoch.join(format!("segment-{first:020}.pack"));
    std::fs::write(path, pack(first, entries).expect("a pack")).expect("written");
}

fn command(line: &str, more: &[&std::ffi::OsStr]) -> audit::AuditCommand {
    let mut all: Vec<std::ffi::OsString> = ["pgward", "audit"].map(Into::into).to_vec();
    all.extend(line.split(' ').map(Into::into));
    all.extend(more.iter().map(Into::into));
    match Cli::try_parse_from(all).expect("good arguments").command {
        Command::Audit(command) => *command,
        other => panic!("not about the trail: {other:?}"),
    }
}

/// Runs `pgward audit` on a folder.
fn audit(folder: &std::path::Path, line: &str, width: Option<u16>) -> Ran {
    let command = command(line, &["--directory".as_ref(), folder.as_os_str()]);
    ran(width, |output| audit::run(&command, output))
}

const UNRECORDED: &str = "this read is not recorded: a folder was named\n";

const TABLE: &str = "\
TIME                     SESSION  PID  PROGRAM  CONTAINER     USER  DATABASE  STATEMENT                                                      ROWS  DURATION
2026-02-28 23:59:59.000  feed:42    7  psql     0123456789ab  app   shop      (login as app: terminated, client clear, server clear)            -         -
2026-02-28 23:59:59.000  feed:42    7  psql     0123456789ab  app   shop      select * from t -- \\u{1b}[31m                                     1  0.100 ms
2026-02-28 23:59:59.000  feed:42    7  psql     0123456789ab  app   shop      selec                                                   ERROR 42601  0.100 ms
2026-02-28 23:59:59.000  feed:42    8  perl     -             app   shop      insert into t values ($1)                                   unknown         -
2026-02-28 23:59:59.000  -          8  perl     -             -     -         (refused: refused_storage)                                  2 times         -
";

#[test]
fn the_trail_is_a_table_of_who_asked_what() {
    let folder = trail(&entries());
    let table = audit(folder.path(), "tail", None);
    assert_eq!((table.exit, table.notes.as_str()), (Exit::Done, UNRECORDED));
    assert_eq!(table.data, TABLE, "{}", table.data);
    let last = audit(folder.path(), "tail -n 1 --columns pid,outcome,user,tier", None);
    assert_eq!(last.data, "PID  OUTCOME  USER  TIER\n  8  refused  -     -\n");
    let empty = tempfile::tempdir().expect("a folder");
    let empty = audit(empty.path(), "tail", None);
    assert_eq!(empty.notes, format!("{UNRECORDED}nothing found\n"));
}

#[test]
fn the_table_keeps_to_the_width_asked_for() {
    let folder = trail(&entries());
    for (line, terminal, most) in [
        ("tail", Some(160), 160),
        ("tail", Some(100), 100),
        ("tail --width 90", Some(200), 90),
        ("tail --width=0", Some(50), 1_000),
    ] {
        let table = audit(folder.path(), line, terminal);
        let longest = table.data.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(longest <= most && longest > 40, "{longest}\n{}", table.data);
    }
    let table = audit(folder.path(), "tail", Some(160));
    assert_eq!(table.data, TABLE, "160 characters are enough for all of it");
}

#[test]
fn searches_lead_to_entries() {
    let folder = trail(&entries());
    let found = audit(folder.path(), "search --process perl --columns index,statement", None);
    assert_eq!(
        found.data,
        "INDEX  STATEMENT\n  1:7  insert into t values ($1)\n  1:8  (refused: refused_storage)\n"
    );
    let found = audit(folder.path(), "search --sqlstate 42601 --json", None);
    let object: serde_json::Value = serde_json::from_str(&found.data).expect("one object");
    assert_eq!((&object["index"], &object["text"]), (&json!(5), &json!("selec")));
    let entry = audit(folder.path(), "show 7 --json", None);
    let object: serde_json::Value = serde_json::from_str(&entry.data).expect("one object");
    assert_eq!((&object["event"], &object["writer_ref"]), (&json!("intent"), &json!(6)));
    assert_eq!(object["leaf"], hex::encode(pgward_verify::merkle::leaf_hash(&entries()[7])));
    let session = audit(folder.path(), "show feed:42", None);
    assert!(session.data.contains("entries") && session.data.contains("1:5"), "{}", session.data);
    for missing in ["show 99", "show 7:1", "show beef"] {
        assert_eq!(audit(folder.path(), missing, None).exit, Exit::Finding, "{missing}");
    }
    let disclosed = audit(folder.path(), "show 7 --disclose", None);
    assert_eq!((disclosed.exit, disclosed.data.as_str()), (Exit::Failed, ""));
    let raw = audit(folder.path(), "tail --raw -n 2", None);
    assert_eq!(raw.data.lines().count(), 2);
    assert!(raw.data.starts_with("{\"epoch\":1,\"index\":8,\"leaf\":\""), "{}", raw.data);
}

#[test]
fn following_goes_on_where_the_trail_was_left() {
    let entries = entries();
    let folder = trail(&entries[..3]);
    let line = "tail -f --columns program,user,statement";
    let command = command(line, &["--directory".as_ref(), folder.path().as_os_str()]);
    let audit::AuditCommand::Tail(args) = command else { panic!("it is `tail`") };
    let mut step = 0;
    let wait = || {
        step += 1;
        match step {
            1 => add(folder.path(), 3, &entries[3..7]),
            2 => add(folder.path(), 7, &entries[7..]),
            _ => return false,
        }
        true
    };
    let table = ran(Some(80), |output| audit::tail_while(&args, output, wait));
    let statements: Vec<&str> = table.data.lines().filter(|line| line.contains("sel")).collect();
    assert_eq!(statements.len(), 3, "one of them was under way before: {}", table.data);
    assert!(statements.iter().all(|line| line.starts_with("psql")), "{}", table.data);
    let perl = |line: &&str| line.starts_with("perl") && line.contains("insert");
    assert!(table.data.lines().any(|line| perl(&line)), "{}", table.data);
}

#[test]
fn a_damaged_segment_is_a_finding() {
    let folder = trail(&entries());
    let path = folder.path().join("epoch-1/segment-00000000000000000000.pack");
    let mut bytes = std::fs::read(&path).expect("a segment");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    let raw = audit(folder.path(), "tail --raw", None);
    assert_eq!(raw.exit, Exit::Finding);
    assert!(raw.notes.contains("check sum"), "{}", raw.notes);
}

#[test]
fn without_a_key_nothing_is_verified() {
    let folder = trail(&entries());
    let command = command("verify", &[folder.path().as_os_str()]);
    let verified = ran(None, |output| audit::run(&command, output));
    assert_eq!(verified.exit, Exit::Verified(pgward_verify::Verdict::Failed));
    assert!(verified.notes.contains("no key was given"), "{}", verified.notes);
}
