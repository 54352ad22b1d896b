//! A trail in a temporary folder, and sessions that are recorded in it.

use std::error::Error;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgward::audit::keep::Care;
use pgward::audit::schema::ACTOR;
use pgward::audit::store::Finished;
use pgward::audit::values::{self, Held, Include, Party, SessionValues, Shown, ShownValue};
use pgward::audit::{
    AuditRead, Beside, Class, Clear, Confidence, Encoded, EndReason, Excerpt, Intent, Now,
    Parameter, Parameters, Put, Reach, SessionEnd, SessionId, SessionSeq, SessionStart, Sink,
    Stamp, StatementKind, Text, TextState, Tier, Trail, TrailError, Value, What, Writers,
};
use pgward::config::{Audit, Config, ValueMode};
use pgward::net::destinations::Destinations;
use pgward::sql::lex::{Encoding, Strings};
use pgward_verify::{Options, Report, Severity, VerifierKey, verify_dir};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Longest wait for what the trail does in the background.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two seals: only what a test asks for is written.
const SEAL_EVERY: Duration = Duration::from_secs(3600);

/// Small segments below `folder`; everything may be pruned.
pub(crate) fn settings(folder: &Path) -> Audit {
    Audit {
        directory: folder.join("audit"),
        segment_bytes: 1 << 20,
        reserve_bytes: 1 << 20,
        seal_every: SEAL_EVERY,
        prune_after: Some(Duration::from_nanos(1)),
        values: ValueMode::Sealed,
        ..Audit::default()
    }
}

/// Opens the trail.
pub(crate) fn open(audit: &Audit) -> std::result::Result<Arc<Trail>, TrailError> {
    open_with(audit, |_, _| {})
}

/// Opens the trail. `finished` is called with the number of the log and each segment of it that is
/// packed.
pub(crate) fn open_with(
    audit: &Audit,
    finished: impl Fn(u64, &Finished) + Send + Sync + 'static,
) -> std::result::Result<Arc<Trail>, TrailError> {
    let config = Config::parse("t.toml", "[[intercept]]\nports = [5432]\n").expect("it is good");
    let destinations = Destinations::load(&config).expect("there are none");
    let reach = Reach { destinations: &destinations, dialer: None };
    Trail::open(audit, &reach, Box::new(finished)).map(Arc::new)
}

/// Opens what takes care of it.
pub(crate) fn care(trail: &Arc<Trail>, audit: &Audit) -> Result<Care> {
    Ok(Care::open(trail.clone(), audit)?)
}

/// Waits until something is so.
pub(crate) fn wait(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until nothing is written any more: all is durable, packed, and under a checkpoint.
pub(crate) fn settle(trail: &Trail) {
    let pieces = || {
        let all = pgward_verify::Trail::open(trail.directory()).ok()?;
        Some(all.epoch(trail.origin().epoch())?.pieces().to_vec())
    };
    wait("the trail rests", || {
        let packed = pieces().is_some_and(|pieces| {
            pieces.split_last().is_some_and(|(_, before)| before.iter().all(|piece| piece.pack))
        });
        let status = trail.status();
        packed && status.checkpoint.is_some() && status.checkpoint == Some(size(trail))
    });
}

/// Entries that the files hold.
fn size(trail: &Trail) -> u64 {
    entries(trail.directory()).last().map_or(0, |entry| entry.index + 1)
}

/// An entry with what is held beside it.
pub(crate) struct Kept {
    pub(crate) index: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) values: Option<Vec<u8>>,
}

/// All entries that are left of the newest log in a folder.
pub(crate) fn entries(directory: &Path) -> Vec<Kept> {
    let trail = pgward_verify::Trail::open(directory).expect("a trail");
    let log = trail.newest().expect("a log");
    // What was pruned is not missing.
    let first = log.pieces().first().map_or(0, |piece| piece.first);
    let mut entries = log.entries_from(first);
    let mut all = Vec::new();
    while let Some(record) = entries.next().expect("readable") {
        all.push(Kept {
            index: record.index,
            bytes: record.bytes.to_vec(),
            values: record.values.map(<[u8]>::to_vec),
        });
    }
    all
}

/// What the verifier says of a folder, with the public key of the host.
pub(crate) fn verify(audit: &Audit, anchors: Vec<PathBuf>) -> Result<Report> {
    let key = fs::read_to_string(audit.directory.join("keys/host.vkey"))?;
    Ok(verify_dir(&Options {
        keys: vec![VerifierKey::parse(key.trim())?],
        anchors,
        seal_every_seconds: SEAL_EVERY.as_secs(),
        ..Options::new(&audit.directory)
    })?)
}

/// Fails when there is a finding of tampering.
pub(crate) fn assert_untampered(report: &Report, case: &str) {
    let bad: Vec<_> =
        report.findings.iter().filter(|found| found.severity == Severity::Tampering).collect();
    assert!(bad.is_empty(), "{case}: {bad:#?}");
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() && !path.is_symlink() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all.sort();
    all
}

/// Copies a folder with the modes of its files.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::DirBuilder::new().mode(0o700).create(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let other = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &other),
            false => drop(fs::copy(&path, &other).expect("copied")),
        }
    }
    let mode = fs::metadata(from).expect("there").permissions().mode();
    fs::set_permissions(to, PermissionsExt::from_mode(mode)).expect("set");
}

/// Records `count` entries of no session, of `bytes` each, and waits until all are durable.
pub(crate) fn fill(sink: &Sink, count: usize, bytes: usize) -> Result<Vec<Put>> {
    let arguments = "a".repeat(bytes);
    let read = AuditRead { by_uid: 0, command: "show", arguments: &arguments };
    let puts: std::result::Result<Vec<_>, _> =
        (0..count).map(|_| sink.record(&Stamp::agent(Now::read()), &read)).collect();
    let puts = puts?;
    if let Some(last) = puts.last() {
        let _durable = sink.durable_blocking(last.ticket)?;
    }
    Ok(puts)
}

/// A session of a client that is not there.
pub(crate) struct Session {
    sink: Sink,
    seq: SessionSeq,
    values: SessionValues,
}

impl Session {
    /// Records that it begins.
    pub(crate) fn begin(trail: &Trail, audit: &Audit, id: SessionId) -> Result<Self> {
        let party = Party { destination: "d", database: b"shop", user: b"app" };
        let (values, stored) = SessionValues::begin(&trail.keyring(), audit, id, &party)?;
        if let Some(stored) = stored {
            stored.blocking()?;
        }
        let mut session = Self { sink: trail.sink(), seq: SessionSeq::new(id), values };
        let actor = Encoded::object(ACTOR, &serde_json::json!({"pid": 7}))?;
        session.put(
            &SessionStart {
                actor: &actor,
                tier: Tier::T2,
                confidence: Confidence::Exact,
                destination: "127.0.0.1:5432".parse()?,
                source: "127.0.0.1:40000".parse()?,
                netns_cookie: 1,
                database_user: b"app",
                database: b"shop",
                application_name: None,
                protocol: (3, 0),
                destination_name: "d",
                client_tls: None,
                server_name: None,
                options: None,
                connect: None,
                audit_mode: 1,
            },
            &[],
        )?;
        Ok(session)
    }

    /// Records a statement with parameters in text format, and waits until it is durable.
    pub(crate) fn statement(&mut self, text: &[u8], parameters: &[&[u8]]) -> Result {
        let given: Vec<_> = parameters
            .iter()
            .map(|value| values::Parameter {
                format: 0,
                type_oid: 25,
                value: Some(Excerpt::whole(value)),
            })
            .collect();
        let text = self.values.text(Excerpt::whole(text), Encoding::Safe, Strings::Standard);
        let shown = self.values.statement(self.seq.next(), &text, Include::Text, &given.as_slice());
        let mut shown = shown?;
        if let Some(stored) = shown.key_stored.take() {
            stored.blocking()?;
        }
        let listed = listed(&shown);
        let what = What {
            kind: StatementKind::Extended,
            text: Text {
                clear: Clear::Held(text.shown()),
                commitment: shown.text_commitment,
                hash: None,
                full_bytes: Some(text.full_bytes()),
                never: None,
            },
            text_state: TextState::Exact,
            client_encoding: None,
            name: b"",
            portal: b"",
            function_oid: None,
            parameters: Parameters::Listed(&listed, None),
            beside: shown.beside.map(beside),
            writer: Writers { writer: 0, tier: Tier::T2, shared_with: &[] },
        };
        self.put(&Intent { judged: None, what }, &shown.payload)
    }

    /// Records its end.
    pub(crate) fn end(mut self) -> Result {
        let (entries, digest) = self.seq.summary();
        let end = SessionEnd {
            reason: EndReason::ClientTerminated,
            detail: None,
            sqlstate: None,
            statements: entries.saturating_sub(2),
            client_bytes: 0,
            server_bytes: 0,
            duration_us: 1,
            entries,
            digest,
        };
        self.put(&end, &[])
    }

    fn put<'r>(&mut self, record: impl Into<pgward::audit::Record<'r>>, values: &[u8]) -> Result {
        let stamp = self.seq.stamp(Now::read());
        let put = self.sink.record_beside(Class::Ordinary, &stamp, record, values)?;
        self.seq.recorded(&put.leaf);
        let _durable = self.sink.durable_blocking(put.ticket)?;
        Ok(())
    }
}

fn beside(held: Held) -> Beside {
    Beside { key_kind: held.number(), sha256: None }
}

fn listed(shown: &Shown) -> Vec<Parameter<'static>> {
    let value = |value| match value {
        ShownValue::Null => Value::Null,
        ShownValue::Committed { commitment, beside: true } => Value::Committed(commitment),
        ShownValue::Committed { commitment, beside: false } => Value::CommittedOnly(commitment),
        ShownValue::Hash(hash) => Value::Hashed(hash),
        ShownValue::Never(why) => Value::Never(why.number()),
        ShownValue::Clear => panic!("values are sealed here"),
    };
    let parameter = |value| Parameter { format: 0, type_oid: 25, value, full_bytes: None };
    shown.parameters.iter().map(|shown| parameter(value(shown.value))).collect()
}
