//! Grants on a real trail: recorded before they are in force, kept over a restart, ended on time.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::audit::samples;

const ROOT: Person = Person { uid: 0, login: None };
const OTHER: Person = Person { uid: 0, login: Some(1000) };
const MINUTE: u64 = 60_000_000_000;

struct Stage {
    _folder: tempfile::TempDir,
    audit: config::Audit,
    trail: Arc<Trail>,
    grants: Arc<Grants>,
    approvals: u8,
}

impl Stage {
    fn new(approvals: u8) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let audit = samples::settings(folder.path());
        let trail = Arc::new(samples::trail(&audit));
        let grants = open(&trail, approvals).expect("no grants yet");
        Self { _folder: folder, audit, trail, grants, approvals }
    }

    /// As after a restart of the agent.
    fn again(mut self) -> Self {
        self.grants = open(&self.trail, self.approvals).expect("what was left");
        self
    }

    fn file(&self) -> std::path::PathBuf {
        self.audit.directory.join("grants.json")
    }

    /// All records of grants, with what is asked about each.
    fn records(self) -> Vec<Value> {
        self.trail.close().expect("everything is written");
        let keep = ["action", "by_uid", "role", "target", "reason", "detail", "approver"];
        samples::joined(&self.audit)
            .into_iter()
            .filter(|record| record["event"] == "grant")
            .map(|record| {
                let fields = keep.iter().filter_map(|key| Some((*key, record.get(*key)?.clone())));
                Value::Object(fields.map(|(key, value)| (key.to_owned(), value)).collect())
            })
            .collect()
    }
}

fn open(trail: &Arc<Trail>, approvals: u8) -> Result<Arc<Grants>, GrantsError> {
    Grants::open(trail.clone(), &config::Grants { approvals, minutes_max: 60 })
}

fn asked(request: bool) -> Asked<'static> {
    Asked {
        to: "exe=/usr/bin/psql",
        role: "support",
        minutes: 30,
        reason: "ticket 7",
        approver: None,
        request,
    }
}

fn psql() -> Subject {
    Subject { exe: Some("/usr/bin/psql".into()), ..Subject::default() }
}

fn later(minutes: u64) -> Now {
    let now = Now::read();
    let nanos = minutes * MINUTE;
    Now { wall: WallNanos(now.wall.0 + nanos), boot: BootNanos(now.boot.0 + nanos) }
}

#[test]
fn a_grant_is_recorded_in_force_and_over() {
    let stage = Stage::new(0);
    let mut changes = stage.grants.changes();
    assert!(stage.grants.active(Now::read()).is_empty());
    let named = Asked { approver: Some("boss"), ..asked(false) };
    let entry = stage.grants.ask(ROOT, &named).expect("granted");
    assert_eq!((stage.grants.epoch(), changes.has_changed().ok()), (1, Some(true)));
    changes.mark_unchanged();
    let active = stage.grants.active(Now::read());
    assert_eq!((active.len(), &*active[0].role, &active[0].id), (1, "support", &entry.id));
    assert!(active[0].matches(&psql()) && !active[0].matches(&Subject::default()));
    // Not by the thread yet, but who asks hears it.
    assert!(stage.grants.active(later(30)).is_empty());
    stage.grants.look(later(29)).expect("nothing to do");
    assert_eq!(stage.grants.epoch(), 1);
    stage.grants.look(later(30)).expect("recorded");
    assert_eq!((stage.grants.epoch(), changes.has_changed().ok()), (2, Some(true)));
    assert!(stage.grants.active(Now::read()).is_empty() && stage.grants.all().is_empty());
    let own = nix::unistd::geteuid().as_raw();
    let record = |action: &str, by: u32| {
        json!({"action": action, "by_uid": by, "role": "support", "target": "exe=/usr/bin/psql",
            "reason": "ticket 7", "detail": "for 30 minutes, asked for by user 0",
            "approver": "boss"})
    };
    assert_eq!(stage.records(), [record("begin", 0), record("expire", own)]);
}

#[test]
fn a_request_is_in_force_when_somebody_else_approved_it() {
    let stage = Stage::new(1);
    assert!(matches!(
        stage.grants.ask(ROOT, &asked(false)),
        Err(GrantsError::Grant(GrantError::NeedsApproval))
    ));
    let entry = stage.grants.ask(ROOT, &asked(true)).expect("asked for");
    assert!(stage.grants.active(Now::read()).is_empty());
    assert_eq!(stage.grants.epoch(), 0, "nothing is in force");
    let error = stage.grants.approve(ROOT, &entry.id).expect_err("the same person");
    let expected = "user 0 asked for this grant, so that somebody else has to approve it";
    assert_eq!(error.to_string(), expected);
    // A restart does not forget it, nor who asked.
    let stage = stage.again();
    assert!(stage.grants.approve(ROOT, &entry.id).is_err());
    stage.grants.approve(OTHER, &entry.id).expect("approved");
    assert_eq!((stage.grants.active(Now::read()).len(), stage.grants.epoch()), (1, 1));
    stage.grants.revoke(OTHER, &entry.id, "done").expect("revoked");
    assert!(stage.grants.active(Now::read()).is_empty());
    assert_eq!(stage.grants.epoch(), 2);
    assert!(stage.grants.revoke(OTHER, &entry.id, "done").is_err());
    let actions: Vec<_> = stage
        .records()
        .into_iter()
        .map(|record| {
            let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
            (text("action"), text("approver"), text("reason"), text("detail"))
        })
        .collect();
    let by = "for 30 minutes, asked for by user 0";
    let other = "for 30 minutes, asked for by user 0; now logged in as user 1000";
    let expected = [
        ("request", "", "ticket 7", by),
        ("approve", "user 1000", "ticket 7", other),
        ("begin", "user 1000", "ticket 7", by),
        ("revoke", "user 1000", "done", other),
    ]
    .map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned()));
    assert_eq!(actions, expected);
}

#[test]
fn a_restart_keeps_what_is_in_force_and_records_what_ended_meanwhile() {
    let stage = Stage::new(0);
    let entry = stage.grants.ask(ROOT, &asked(false)).expect("granted");
    let stage = stage.again();
    let active = stage.grants.active(Now::read());
    assert_eq!((active.len(), &active[0].id), (1, &entry.id));
    // As if half an hour had passed without an agent.
    let text = std::fs::read_to_string(stage.file()).expect("the file");
    let mut written: Value = serde_json::from_str(&text).expect("JSON");
    written[0]["phase"]["active"]["until_ns"] = json!(Now::read().wall.0);
    std::fs::write(stage.file(), written.to_string()).expect("written");
    let stage = stage.again();
    assert!(stage.grants.active(Now::read()).is_empty() && stage.grants.all().is_empty());
    stage.grants.look(Now::read()).expect("recorded");
    let file = std::fs::read_to_string(stage.file()).expect("the file");
    assert_eq!(file, "[]");
    let actions: Vec<_> = stage.records().iter().map(|record| record["action"].clone()).collect();
    assert_eq!(actions, ["begin", "expire"]);
}

#[test]
fn nothing_begins_that_cannot_be_recorded_and_all_ends_that_is_to_end() {
    let stage = Stage::new(0);
    let entry = stage.grants.ask(ROOT, &asked(false)).expect("granted");
    stage.trail.close().expect("closed");
    assert!(stage.grants.ask(ROOT, &asked(false)).is_err());
    assert_eq!((stage.grants.active(Now::read()).len(), stage.grants.epoch()), (1, 1));
    let error = stage.grants.revoke(ROOT, &entry.id, "done").expect_err("not recorded");
    assert!(matches!(error, GrantsError::EndNotRecorded(_)), "{error}");
    assert!(stage.grants.active(Now::read()).is_empty(), "it has ended all the same");
    // And stays so.
    let again = stage.again();
    assert!(again.grants.active(Now::read()).is_empty());
}

#[test]
fn a_file_that_is_not_understood_grants_nothing() {
    let stage = Stage::new(0);
    for broken in ["{", "[{}]", "[1]"] {
        std::fs::write(stage.file(), broken).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(stage.file(), mode).expect("private");
        assert!(matches!(open(&stage.trail, 0), Err(GrantsError::State(_))), "{broken}");
    }
}

#[test]
fn the_thread_ends_a_grant_on_time() {
    let stage = Stage::new(0);
    // Ends a tenth of a second from now: what a grant of a minute looks like near its end.
    let entry = stage.grants.ask(ROOT, &Asked { minutes: 1, ..asked(false) }).expect("granted");
    let text = std::fs::read_to_string(stage.file()).expect("the file");
    let mut written: Value = serde_json::from_str(&text).expect("JSON");
    written[0]["phase"]["active"]["until_ns"] = json!(Now::read().wall.0 + 100_000_000);
    std::fs::write(stage.file(), written.to_string()).expect("written");
    let stage = stage.again();
    assert_eq!(stage.grants.active(Now::read()).len(), 1);
    let mut changes = stage.grants.changes();
    let timer = Timer::start(stage.grants.clone()).expect("a thread");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        tokio::time::timeout(Duration::from_secs(60), changes.changed())
            .await
            .expect("long before its next look by itself is late")
            .expect("the grants are still there");
    });
    assert!(stage.grants.all().iter().all(|left| left.id != entry.id));
    drop(timer);
    let actions: Vec<_> = stage.records().iter().map(|record| record["action"].clone()).collect();
    assert_eq!(actions, ["begin", "expire"]);
}
