//! One record of each kind with everything that it can hold, and one with nothing that it can do
//! without: for tests of records and of what shows them.

mod full;
mod minimal;

use std::path::Path;

use serde_json::json;

use super::schema::ACTOR;
use super::*;
use crate::config;
use crate::net::destinations::Destinations;

pub(crate) use full::full;
pub(crate) use minimal::minimal;

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
    Trail::open(audit, &reach, Box::new(|_, _| {})).expect("a trail")
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
