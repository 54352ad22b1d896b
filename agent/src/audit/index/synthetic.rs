//! A trail that is made up, for measuring and for tests: entries as an agent writes them, in packed
//! segments with their indices. Its tree is not computed: readers take it, verifiers do not.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;

use super::{Index, build};
use crate::audit::schema::ACTOR;
use crate::audit::{
    Authentication, BootNanos, Clear, Confidence, Done, Encoded, EndReason, Handshake,
    HandshakeKind, Intent, Introduced, Now, Of, Outcome, Parameters, Record, Refused, SessionEnd,
    SessionId, SessionSeq, SessionStart, Stamp, StatementKind, Text, TextState, Tier, WallNanos,
    What, Writer, Writers,
};

/// When the first entry is made.
pub const BEGIN_NS: u64 = 1_772_323_200_000_000_000;
/// Time between two entries.
pub const STEP_NS: u64 = 100_000;

const BUNDLE_ENTRIES: u64 = 256;
const ORIGIN: &str = "synthetic/00000000-0000-4000-8000-000000000000/1";

/// What it looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of entries.
    pub entries: u64,
    /// Entries of a segment.
    pub segment_entries: u64,
    /// Different processes.
    pub processes: u64,
    /// Sessions at the same time.
    pub sessions: usize,
    /// Statements of a session.
    pub statements: u64,
    /// Different texts.
    pub texts: u64,
    /// Chooses one of many such trails.
    pub seed: u64,
}

/// Makes the entries of a [`Shape`], one after the other.
pub struct Entries {
    shape: Shape,
    random: u64,
    made: u64,
    counter: u64,
    actors: HashMap<u64, Encoded>,
    open: Vec<Session>,
}

struct Session {
    seq: SessionSeq,
    process: u64,
    left: u64,
    writer: u64,
    texts: Vec<u64>,
    pending: Vec<u64>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Login,
    Statements,
}

impl Entries {
    /// From the first.
    pub fn new(shape: Shape) -> Self {
        let mut entries = Self {
            shape,
            random: shape.seed,
            made: 0,
            counter: 0,
            actors: HashMap::new(),
            open: Vec::new(),
        };
        for _ in 0..shape.sessions.max(1) {
            let session = entries.session();
            entries.open.push(session);
        }
        entries
    }

    fn session(&mut self) -> Session {
        self.counter += 1;
        let id =
            SessionId { epoch: 0xfeed_0000_0000_0000 | self.shape.seed, counter: self.counter };
        Session {
            seq: SessionSeq::new(id),
            process: self.below(self.shape.processes),
            left: self.shape.statements,
            writer: 0,
            texts: Vec::new(),
            pending: Vec::new(),
            stage: Stage::Start,
        }
    }

    /// splitmix64
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next_random() % limit.max(1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn entry(&mut self) -> Vec<u8> {
        let ns = self.made * STEP_NS;
        let now = Now { wall: WallNanos(BEGIN_NS + ns), boot: BootNanos(ns) };
        if self.one_in(500) {
            let process = self.below(self.shape.processes);
            let refused = Refused {
                reason: "sessions_max",
                detail: None,
                sqlstate: Some(*b"53300"),
                actor: Some(self.actor(process)),
                destination: None,
                count: 1,
                connect: None,
            };
            return written(&Stamp::agent(now), &refused);
        }
        let at = self.below(self.open.len() as u64) as usize;
        let mut session = self.open.swap_remove(at);
        let entry = self.of_session(&mut session, now);
        if session.left == u64::MAX {
            session = self.session();
        }
        self.open.push(session);
        entry
    }

    fn of_session(&mut self, session: &mut Session, now: Now) -> Vec<u8> {
        let seq = session.seq.next();
        let stamp = session.seq.stamp(now);
        session.seq.recorded(&[0; 32]);
        match session.stage {
            Stage::Start => {
                session.stage = Stage::Login;
                let process = session.process;
                written(&stamp, &start(self.actor(process), process))
            }
            Stage::Login => {
                session.stage = Stage::Statements;
                let failed = self.one_in(10);
                if failed {
                    session.left = 0;
                }
                written(&stamp, &login(failed))
            }
            Stage::Statements if !session.pending.is_empty() && !self.one_in(10) => {
                let intent = session.pending.remove(0);
                let failed = self.one_in(20);
                written(&stamp, &done(intent, failed))
            }
            Stage::Statements if session.left == 0 => {
                // What is pending then has no outcome.
                session.left = u64::MAX;
                written(&stamp, &end(seq + 1))
            }
            Stage::Statements if self.one_in(100) => {
                session.writer = seq;
                let process = self.below(self.shape.processes);
                written(&stamp, &Writer { actor: self.actor(process), tier: Tier::T2 })
            }
            Stage::Statements => {
                session.left -= 1;
                self.statement(session, &stamp, seq)
            }
        }
    }

    fn statement(&mut self, session: &mut Session, stamp: &Stamp, seq: u64) -> Vec<u8> {
        let number = self.below(self.shape.texts);
        let text = format!(
            "SELECT c{number}, b FROM public.table_{number} WHERE id = $1 AND kind_{} > 0",
            number % 7
        );
        let known = match session.texts.is_empty() || self.one_in(4) {
            true => None,
            false => {
                let at = self.below(session.texts.len() as u64) as usize;
                Some(session.texts[at])
            }
        };
        let clear = known.map_or(Clear::Held(text.as_bytes()), Clear::Ref);
        let text = Text { clear, ..Text::default() };
        if known.is_none() {
            session.texts.push(seq);
            if self.one_in(2) {
                session.left += 1;
                let introduced = Introduced {
                    kind: StatementKind::Extended,
                    text,
                    text_state: TextState::Exact,
                    client_encoding: None,
                    name: b"s",
                    beside: None,
                };
                return written(stamp, &introduced);
            }
        }
        session.pending.push(seq);
        let writer = Writers { writer: session.writer, tier: Tier::T2, shared_with: &[] };
        let what = What {
            kind: StatementKind::Extended,
            text,
            text_state: TextState::Exact,
            client_encoding: None,
            name: b"",
            portal: b"",
            function_oid: None,
            parameters: Parameters::Omitted(1),
            beside: None,
            writer,
        };
        written(stamp, &Intent { judged: None, what })
    }

    fn actor(&mut self, process: u64) -> &Encoded {
        self.actors.entry(process).or_insert_with(|| {
            let mut actor = json!({
                "pid": 1000 + process, "start_ns": process, "exec": 1,
                "comm": format!("app-{process}"), "exe": format!("/usr/bin/app-{process}"), "uid": 1000,
            });
            if process.is_multiple_of(3) {
                actor["container"] =
                    json!({"id": format!("{process:064x}"), "name": format!("web-{process}")});
            }
            Encoded::object(ACTOR, &actor).expect("short, and of the table")
        })
    }
}

impl Iterator for Entries {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.made == self.shape.entries {
            return None;
        }
        let entry = self.entry();
        self.made += 1;
        Some(entry)
    }
}

impl std::fmt::Debug for Entries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("made", &self.made).finish()
    }
}

/// Writes a trail: epoch 1 in the folder, with an index beside each segment. `progress` hears of each
/// segment.
pub fn write(folder: &Path, shape: Shape, mut progress: impl FnMut(u64)) -> io::Result<()> {
    let epoch = folder.join("epoch-1");
    fs::create_dir_all(&epoch)?;
    let mut entries = Entries::new(shape);
    let mut first = 0;
    let mut previous: Option<Index> = None;
    while first < shape.entries {
        let segment: Vec<Vec<u8>> =
            entries.by_ref().take(shape.segment_entries.max(1) as usize).collect();
        fs::write(epoch.join(format!("segment-{first:020}.pack")), pack(first, &segment)?)?;
        let slices = segment.iter().map(Vec::as_slice);
        let index = build(previous.as_ref(), first, slices).map_err(io::Error::other)?;
        fs::write(epoch.join(format!("segment-{first:020}.index")), &index)?;
        previous = Some(Index::parse(index).map_err(io::Error::other)?);
        first += segment.len() as u64;
        progress(1);
    }
    Ok(())
}

/// A packed segment, with zeros in place of its roots.
pub fn pack(first: u64, entries: &[Vec<u8>]) -> io::Result<Vec<u8>> {
    let mut bundles: Vec<(Vec<u8>, usize)> = Vec::new();
    let mut plain = Vec::new();
    for (index, entry) in (first..).zip(entries) {
        plain.extend_from_slice(&(entry.len() as u16).to_be_bytes());
        plain.extend_from_slice(entry);
        if (index + 1) % BUNDLE_ENTRIES == 0 || index + 1 == first + entries.len() as u64 {
            bundles.push((zstd::bulk::compress(&plain, 3)?, plain.len()));
            plain.clear();
        }
    }
    let mut out = b"pgward packed 01".to_vec();
    out.extend_from_slice(&first.to_be_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    out.extend_from_slice(&(bundles.len() as u32).to_be_bytes());
    out.resize(out.len() + 2 * 32 + 2 * 8, 0);
    out.extend_from_slice(&(ORIGIN.len() as u16).to_be_bytes());
    out.extend_from_slice(ORIGIN.as_bytes());
    out.resize(508, 0);
    out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
    let mut offset = (512 + 20 * bundles.len() + 4) as u64;
    let mut table = Vec::new();
    for (bundle, plain_bytes) in &bundles {
        table.extend_from_slice(&offset.to_be_bytes());
        table.extend_from_slice(&(bundle.len() as u32).to_be_bytes());
        table.extend_from_slice(&(*plain_bytes as u32).to_be_bytes());
        table.extend_from_slice(&crc32c::crc32c(bundle).to_be_bytes());
        offset += bundle.len() as u64;
    }
    let crc = crc32c::crc32c(&table);
    out.append(&mut table);
    out.extend_from_slice(&crc.to_be_bytes());
    bundles.iter().for_each(|(bundle, _)| out.extend_from_slice(bundle));
    Ok(out)
}

fn written<'r>(stamp: &Stamp, record: impl Into<Record<'r>>) -> Vec<u8> {
    let mut out = Vec::new();
    record.into().write(stamp, &[7; 16], &mut out);
    out
}

fn start(actor: &Encoded, process: u64) -> SessionStart<'_> {
    let address = std::net::SocketAddr::from(([10, 0, 0, 5], 5432));
    SessionStart {
        actor,
        tier: Tier::T2,
        confidence: Confidence::Exact,
        destination: address,
        source: address,
        netns_cookie: 1,
        database_user: if process.is_multiple_of(2) { b"app" } else { b"report" },
        database: if process.is_multiple_of(5) { b"shop" } else { b"ledger" },
        application_name: None,
        protocol: (3, 0),
        destination_name: "default",
        client_tls: None,
        server_name: None,
        options: None,
        connect: None,
        audit_mode: 1,
    }
}

fn login(failed: bool) -> Authentication<'static> {
    let handshake =
        Handshake { kind: HandshakeKind::Terminated, login: None, bound: &[], exception: None };
    Authentication {
        authentication: "scram-sha-256",
        handshake: (!failed).then_some(handshake),
        reason: failed.then_some("authentication_failed"),
        detail: None,
        sqlstate: failed.then_some(*b"28P01"),
        client_encoding: None,
        server_version: None,
        protocol: (3, 0),
        server_tls: None,
        server_verified: None,
        backend_pid: None,
    }
}

fn done(intent: u64, failed: bool) -> Done<'static> {
    Done {
        of: Of::Intent(intent, None),
        outcome: if failed { Outcome::Failed } else { Outcome::Completed },
        sqlstate: failed.then_some(*b"42P01"),
        commit_sqlstate: None,
        tag: if failed { b"" } else { b"SELECT 1" },
        rows: 1,
        row_bytes: 11,
        results: &[],
        results_total: 1,
        copy_in: None,
        copy_out: None,
        first_response_us: Some(90),
        duration_us: 100,
        transaction: None,
    }
}

fn end(entries: u64) -> SessionEnd<'static> {
    SessionEnd {
        reason: EndReason::ClientTerminated,
        detail: None,
        sqlstate: None,
        statements: 1,
        client_bytes: 2,
        server_bytes: 3,
        duration_us: 4,
        entries,
        digest: [0; 32],
    }
}
