//! One record of each kind with everything that it can hold, and one with nothing that it can do
//! without: for tests of records and of what shows them.

use std::path::Path;

use serde_json::json;

use super::clock::{Cause, Clock, Step};
use super::ledger::{Coverage, Hooks, HooksAction, Named, Program};
use super::schema::ACTOR;
use super::*;
use crate::config;
use crate::net::destinations::Destinations;

/// The session of all samples.
pub(crate) const ID: SessionId = SessionId { epoch: 0xfeed_0000_0000_0001, counter: 42 };
/// When they were made.
pub(crate) const NOW: Now = Now { wall: WallNanos(1_772_323_199_000_000_042), boot: BootNanos(77) };

/// A record of the session, or of the agent, as it is written.
pub(crate) fn entry<'r>(stamp: &Stamp, record: impl Into<Record<'r>>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    record.into().write(stamp, &[7; SALT_BYTES], &mut out);
    out.split_off("before".len())
}

/// The stamp of the session's `seq`-th record.
pub(crate) fn stamp(seq: u64) -> Stamp {
    Stamp { now: NOW, session: Some((ID, seq)), clock: 3 }
}

/// The stamp of a record of no session.
pub(crate) fn outside() -> Stamp {
    Stamp { now: NOW, session: None, clock: 0 }
}

/// An identity with `pid` and a path.
pub(crate) fn identity(pid: u32) -> Encoded {
    let value = json!({"pid": pid, "exe": "/usr/bin/psql", "cmdline": ["psql", "-c", "select 1"]});
    Encoded::object(ACTOR, &value).expect("short, and of the table")
}

/// What a plain statement is.
pub(crate) fn what(text: &[u8]) -> What<'_> {
    What {
        kind: StatementKind::Simple,
        text: held(text),
        text_state: TextState::Exact,
        client_encoding: None,
        name: b"",
        portal: b"",
        function_oid: None,
        parameters: Parameters::NONE,
        beside: None,
        writer: Writers { writer: 0, tier: Tier::T2, shared_with: &[] },
    }
}

/// A text that is held in clear, all of it.
pub(crate) fn held(text: &[u8]) -> Text<'_> {
    Text { clear: Clear::Held(text), ..Text::default() }
}

/// The text that the record with this `seq` holds.
pub(crate) fn referred(seq: u64) -> Text<'static> {
    Text { clear: Clear::Ref(seq), ..Text::default() }
}

/// A parameter in text format.
pub(crate) fn parameter(value: Value<'_>) -> Parameter<'_> {
    Parameter { format: 0, type_oid: 25, value, full_bytes: None }
}

/// A statement that ended well.
pub(crate) fn done(of: Of<'_>) -> Done<'_> {
    Done {
        of,
        outcome: Outcome::Completed,
        sqlstate: None,
        commit_sqlstate: None,
        tag: b"SELECT 1",
        rows: 1,
        row_bytes: 11,
        results: &[],
        results_total: 1,
        copy_in: None,
        copy_out: None,
        first_response_us: Some(90),
        duration_us: 100,
        transaction: Some(Transaction::Idle),
    }
}

/// The start of a session with nothing that it can do without.
pub(crate) fn session_start(actor: &Encoded) -> SessionStart<'_> {
    SessionStart {
        actor,
        tier: Tier::T2,
        confidence: Confidence::Exact,
        destination: "10.0.0.5:5432".parse().expect("an address"),
        source: "[fd00::9]:40000".parse().expect("an address"),
        netns_cookie: 9,
        database_user: b"app",
        database: b"shop",
        application_name: None,
        protocol: (3, 0),
        destination_name: "default",
        client_tls: None,
        server_name: None,
        options: None,
        connect: None,
        audit_mode: 4,
    }
}

/// A login that failed before anything was known.
pub(crate) fn authentication() -> Authentication<'static> {
    Authentication {
        authentication: "unknown",
        handshake: None,
        reason: None,
        detail: None,
        sqlstate: None,
        client_encoding: None,
        server_version: None,
        protocol: (3, 0),
        server_tls: None,
        server_verified: None,
        backend_pid: None,
    }
}

/// Everything that a statement can be, but for what excludes each other.
fn full_what<'a>(parameters: &'a [Parameter<'a>], shared_with: &'a [u64]) -> What<'a> {
    What {
        kind: StatementKind::FunctionCall,
        text: full_text(),
        text_state: TextState::Malformed,
        client_encoding: Some(b"LATIN1"),
        name: b"s",
        portal: b"p",
        function_oid: Some(1),
        parameters: Parameters::Listed(
            parameters,
            Some(values::Unlisted { count: 5, left_out: 2, commitment: Some([6; 32]) }),
        ),
        beside: Some(Beside { key_kind: 1, sha256: Some([5; 32]) }),
        writer: Writers { writer: 2, tier: Tier::T1, shared_with },
    }
}

fn full_text() -> Text<'static> {
    Text {
        clear: Clear::Held(b"\xffa"),
        commitment: Some([4; 32]),
        hash: Some([3; 32]),
        full_bytes: Some(4),
        never: Some(1),
    }
}

/// Settings of a small trail in `folder`, with values in clear.
pub(crate) fn settings(folder: &Path) -> config::Audit {
    config::Audit {
        directory: folder.join("audit"),
        values: config::ValueMode::Clear,
        segment_bytes: 4 << 20,
        reserve_bytes: 1 << 20,
        ..config::Audit::default()
    }
}

/// The trail that [`settings`] are of.
pub(crate) fn trail(audit: &config::Audit) -> Trail {
    let config = config::Config::parse("test.toml", "[[intercept]]\nports = [1]\n");
    let config = config.map_err(|report| report.to_string()).expect("a good configuration");
    let destinations = Destinations::load(&config).expect("the implicit destination");
    let reach = Reach { destinations: &destinations, dialer: None };
    Trail::open(audit, &reach, Box::new(|_| {})).expect("a trail")
}

/// What a trail holds, joined.
pub(crate) fn joined(audit: &config::Audit) -> Vec<serde_json::Value> {
    let trail = pgward_verify::Trail::open(&audit.directory).expect("a trail");
    let (mut joined, mut items, mut index) = (view::Joined::default(), Vec::new(), 0);
    for epoch in trail.epochs() {
        let mut entries = epoch.entries();
        while let Some(record) = entries.next().expect("a good segment") {
            index = record.index;
            items.extend(joined.push(index, record.bytes).expect("an entry"));
        }
    }
    items.extend(joined.finish(index));
    items.into_iter().map(|item| serde_json::Value::Object(item.object)).collect()
}

/// One sample.
pub(crate) struct Sample {
    /// Its kind.
    pub(crate) kind: schema::EventKind,
    /// The entry.
    pub(crate) entry: Vec<u8>,
}

#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn of_session<'r>(&mut self, record: impl Into<Record<'r>>) {
        self.add(&stamp(3), record);
    }

    fn of_agent<'r>(&mut self, record: impl Into<Record<'r>>) {
        self.add(&outside(), record);
    }

    fn add<'r>(&mut self, stamp: &Stamp, record: impl Into<Record<'r>>) {
        let record = record.into();
        self.0.push(Sample { kind: record.kind(), entry: entry(stamp, record) });
    }
}

/// Samples of every kind with everything in them. What excludes each other is in several.
pub(crate) fn full() -> Vec<Sample> {
    let mut samples = Samples::default();
    full_sessions(&mut samples);
    full_statements(&mut samples);
    full_happenings(&mut samples);
    full_maintenance(&mut samples);
    samples.0
}

fn full_sessions(samples: &mut Samples) {
    let actor = identity(7);
    let connect = Some(12);
    samples.of_session(&SessionStart {
        application_name: Some(b"psql"),
        client_tls: Some("TLSv1.3"),
        server_name: Some("db"),
        options: Some(b"-c x=1"),
        connect,
        ..session_start(&actor)
    });
    samples.of_session(&Authentication {
        authentication: "scram-sha-256",
        handshake: Some(Handshake {
            kind: HandshakeKind::Mapped,
            login: Some(b"svc"),
            bound: &[BoundLeg::Client, BoundLeg::Server],
            exception: Some("e"),
        }),
        reason: Some("authentication_failed"),
        detail: Some("d"),
        sqlstate: Some(*b"28P01"),
        client_encoding: Some(b"UTF8"),
        server_version: Some(b"18.4"),
        protocol: (3, 2),
        server_tls: Some("TLSv1.3"),
        server_verified: Some("verify-full"),
        backend_pid: Some(11),
    });
    samples.of_session(&Writer { actor: &actor, tier: Tier::T1 });
    samples.of_session(&SessionMark { entries: 4, digest: [1; 32] });
    samples.of_agent(&Cancel {
        actor: &actor,
        destination: "10.0.0.5:5432".parse().expect("an address"),
        target_pid: 11,
        target_session: Some(ID),
        outcome: CancelOutcome::Forwarded,
        connect,
    });
    samples.of_session(&SessionEnd {
        reason: EndReason::ServerClosed,
        detail: Some("reset"),
        sqlstate: Some(*b"57P01"),
        statements: 2,
        client_bytes: 3,
        server_bytes: 4,
        duration_us: 5,
        entries: 4,
        digest: [1; 32],
    });
}

fn full_statements(samples: &mut Samples) {
    let parameters = [
        Parameter { full_bytes: Some(3), ..parameter(Value::Clear(b"ab")) },
        Parameter { format: 1, ..parameter(Value::Clear(&[0, 0, 0, 42])) },
        parameter(Value::Null),
        parameter(Value::Committed([1; 32])),
        parameter(Value::CommittedOnly([1; 32])),
        parameter(Value::Hashed([2; 32])),
        parameter(Value::Never(1)),
    ];
    let shared_with: Vec<u64> = (2..).take(WRITERS_MAX + 1).collect();
    let what = full_what(&parameters, &shared_with);
    samples.of_session(&Introduced {
        kind: StatementKind::Parse,
        text: full_text(),
        text_state: TextState::Malformed,
        client_encoding: Some(b"LATIN1"),
        name: b"s",
        beside: what.beside,
    });
    let others = [
        what,
        What { parameters: Parameters::Omitted(2), ..what },
        What { text: referred(1), ..what },
    ];
    let copied = Some(Copied { bytes: 5, rows: Some(1) });
    let full_done = |of| Done {
        outcome: Outcome::Failed,
        sqlstate: Some(*b"42601"),
        commit_sqlstate: Some(*b"40001"),
        results: &[ResultPart { tag: b"SELECT 1", rows: 1 }],
        results_total: 2,
        copy_in: copied,
        copy_out: copied,
        ..done(of)
    };
    for what in &others {
        samples.of_session(&Intent { what: *what });
        samples.of_session(&Denied {
            what: *what,
            sqlstate: *b"42501",
            reason: "r",
            rules: &["first", "second"],
        });
        samples.of_session(&full_done(Of::Message(what)));
    }
    samples.of_session(&full_done(Of::Intent(2, Some(what.writer))));
}

fn full_happenings(samples: &mut Samples) {
    let actor = identity(7);
    let (actor, since) = (Some(&actor), Some(NOW.wall));
    let destination = Some("10.0.0.5:5432".parse().expect("an address"));
    let connect = Some(12);
    samples.of_agent(&AgentStart {
        version: "0.1.0",
        host: "db-client-1",
        boot_id: "b",
        pid: 1,
        config_sha256: Some([1; 32]),
        tiers: &[Tier::T0, Tier::T2],
        cgroup: "root",
        memory_locked: true,
    });
    samples.of_agent(&AgentStop { reason: "SIGTERM", sessions: 1, statements: 2 });
    samples.of_agent(&Refused {
        reason: "refused_storage",
        detail: Some("d"),
        sqlstate: Some(*b"53300"),
        actor,
        destination,
        count: 1,
        connect,
    });
    samples.of_agent(&AllowedUnseen { actor, destination, since, count: 3, connect });
    samples.of_agent(&EventsLost {
        source: LostSource::WriterEvents,
        count: 2,
        since,
        detail: Some("d"),
    });
    samples.of_agent(&Namespace {
        change: NamespaceChange::Failed,
        netns_cookie: 9,
        inode: Some(8),
        port: Some(15_432),
        held_us: Some(7),
        actor,
        detail: Some("d"),
    });
    samples.of_agent(&ConfigLoad { config_sha256: &[1; 32] });
    samples.of_agent(&Hooks {
        action: HooksAction::Attached,
        cgroup: "root".to_owned(),
        detail: Some("d".into()),
        programs: vec![Program { name: "connect4", id: 17 }],
    });
    let named = |name: &'static str, count| vec![Named { name: name.into(), count }];
    samples.of_agent(&Coverage {
        since: NOW.wall,
        seen: 10,
        intercepted: 5,
        refused: 1,
        failed: 2,
        allowed: 1,
        open: 1,
        unexplained: 0,
        connect_base: 3,
        ledger: u64::MAX,
        failures: named("no_socket", 2),
        refusals: named("no_identity", 1),
    });
    samples.of_agent(&Clock {
        cause: Cause::Step,
        boot_id: "b".to_owned(),
        number: 2,
        source: "ntp",
        offset_ns: -5,
        max_error_us: 6,
        unsynchronised: false,
        tai_offset: 37,
        step: Some(Step { by_ns: 8, back: true, before: NOW.wall }),
    });
}

fn full_maintenance(samples: &mut Samples) {
    let (root, next, signature) = ([1; 32], [2; 32], [3; 64]);
    samples.of_agent(&Seal {
        number: 1,
        size: 2,
        root: &root,
        kind: 2,
        next: &next,
        signature: &signature,
    });
    samples.of_agent(&Recovery {
        boot_id: "b",
        reason: "torn_tail",
        detail: Some("d"),
        last_size: 5,
        last_root: &root,
        aside: Some(Aside { bytes: 9, sha256: &root, file: "f" }),
    });
    samples.of_agent(&EpochStart {
        host: "h",
        reason: "corruption",
        previous: Some(("pgward/x/1", 5, &root)),
    });
    samples.of_agent(&Key {
        reason: Some("r"),
        kind: "host",
        id: "k",
        by_uid: Some(0),
        action: "made",
    });
    samples.of_agent(&Failure {
        reason: "anchor",
        detail: Some("d"),
        since: Some(NOW.wall),
        action: "begin",
        anchor: Some("w"),
    });
    let used = Capacity { watermark: 75, used_bytes: 1, quota_bytes: 2, rising: true };
    samples.of_agent(&used);
    samples.of_agent(&BreakGlass {
        reason: "r",
        detail: Some("d"),
        since: NOW.wall,
        until: NOW.wall,
        by_uid: 0,
        action: "begin",
        approver: "a",
    });
    samples.of_agent(&AuditRead { by_uid: 1000, command: "search", arguments: "--user app" });
    samples.of_agent(&Redaction {
        reason: "r",
        by_uid: 0,
        scope: "session",
        target: "t",
        approver: "a",
        keys_erased: 1,
    });
    samples.of_agent(&Prune {
        reason: "age",
        by_uid: Some(0),
        from_index: 0,
        to_index: 65_536,
        minimum_index: 65_536,
    });
    samples.of_agent(&Hold {
        reason: "r",
        by_uid: 0,
        action: "set",
        scope: "time",
        target: "t",
        approver: "a",
        name: "n",
    });
}

/// Samples of every kind with nothing that they can do without.
pub(crate) fn minimal() -> Vec<Sample> {
    let mut samples = Samples::default();
    let actor = identity(7);
    let bare = What { text: Text::default(), ..what(b"") };
    let (root, next, signature) = ([1; 32], [2; 32], [3; 64]);
    let destination = "10.0.0.5:5432".parse().expect("an address");
    samples.of_session(&session_start(&actor));
    samples.of_session(&authentication());
    samples.of_session(&Writer { actor: &actor, tier: Tier::T0 });
    samples.of_session(&SessionMark { entries: 1, digest: [0; 32] });
    samples.of_agent(&Cancel {
        actor: &actor,
        destination,
        target_pid: 0,
        target_session: None,
        outcome: CancelOutcome::Refused,
        connect: None,
    });
    samples.of_session(&SessionEnd {
        reason: EndReason::ClientClosed,
        detail: None,
        sqlstate: None,
        statements: 0,
        client_bytes: 0,
        server_bytes: 0,
        duration_us: 0,
        entries: 1,
        digest: [0; 32],
    });
    samples.of_session(&Introduced {
        kind: StatementKind::Parse,
        text: Text::default(),
        text_state: TextState::Exact,
        client_encoding: None,
        name: b"",
        beside: None,
    });
    samples.of_session(&Intent { what: bare });
    samples.of_session(&Denied { what: bare, sqlstate: *b"42501", reason: "", rules: &[] });
    samples.of_session(&Done {
        tag: b"",
        first_response_us: None,
        transaction: None,
        ..done(Of::Intent(0, None))
    });
    samples.of_session(&Done {
        tag: b"",
        first_response_us: None,
        transaction: None,
        ..done(Of::Message(&bare))
    });
    samples.of_agent(&AgentStart {
        version: "",
        host: "",
        boot_id: "",
        pid: 0,
        config_sha256: None,
        tiers: &[],
        cgroup: "",
        memory_locked: false,
    });
    samples.of_agent(&AgentStop { reason: "", sessions: 0, statements: 0 });
    samples.of_agent(&Refused {
        reason: "",
        detail: None,
        sqlstate: None,
        actor: None,
        destination: None,
        count: 1,
        connect: None,
    });
    samples.of_agent(&AllowedUnseen {
        actor: None,
        destination: None,
        since: None,
        count: 1,
        connect: None,
    });
    samples.of_agent(&EventsLost {
        source: LostSource::Records,
        count: 1,
        since: None,
        detail: None,
    });
    samples.of_agent(&Namespace {
        change: NamespaceChange::Opened,
        netns_cookie: 0,
        inode: None,
        port: None,
        held_us: None,
        actor: None,
        detail: None,
    });
    samples.of_agent(&ConfigLoad { config_sha256: &[0; 32] });
    samples.of_agent(&Hooks {
        action: HooksAction::Missing,
        cgroup: String::new(),
        detail: None,
        programs: Vec::new(),
    });
    samples.of_agent(&Coverage {
        since: WallNanos(0),
        seen: 0,
        intercepted: 0,
        refused: 0,
        failed: 0,
        allowed: 0,
        open: 0,
        unexplained: 0,
        connect_base: 0,
        ledger: 0,
        failures: Vec::new(),
        refusals: Vec::new(),
    });
    samples.of_agent(&Clock {
        cause: Cause::Start,
        boot_id: String::new(),
        number: 1,
        source: "",
        offset_ns: 0,
        max_error_us: 0,
        unsynchronised: true,
        tai_offset: 0,
        step: None,
    });
    samples.of_agent(&Seal {
        number: 0,
        size: 0,
        root: &root,
        kind: 1,
        next: &next,
        signature: &signature,
    });
    samples.of_agent(&Recovery {
        boot_id: "",
        reason: "crash",
        detail: None,
        last_size: 0,
        last_root: &root,
        aside: None,
    });
    samples.of_agent(&EpochStart { host: "", reason: "first", previous: None });
    samples.of_agent(&Key { reason: None, kind: "", id: "", by_uid: None, action: "" });
    samples.of_agent(&Failure { reason: "", detail: None, since: None, action: "", anchor: None });
    let unused = Capacity { watermark: 0, used_bytes: 0, quota_bytes: 0, rising: false };
    samples.of_agent(&unused);
    samples.of_agent(&BreakGlass {
        reason: "",
        detail: None,
        since: WallNanos(0),
        until: WallNanos(0),
        by_uid: 0,
        action: "",
        approver: "",
    });
    samples.of_agent(&AuditRead { by_uid: 0, command: "", arguments: "" });
    samples.of_agent(&Redaction {
        reason: "",
        by_uid: 0,
        scope: "",
        target: "",
        approver: "",
        keys_erased: 0,
    });
    samples.of_agent(&Prune {
        reason: "",
        by_uid: None,
        from_index: 0,
        to_index: 0,
        minimum_index: 0,
    });
    samples.of_agent(&Hold {
        reason: "",
        by_uid: 0,
        action: "",
        scope: "",
        target: "",
        approver: "",
        name: "",
    });
    samples.0
}
