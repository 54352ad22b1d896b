//! Checks one epoch: a log with a tree of its own.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use crate::anchors::{Anchors, Known, Policy, fork, read_beside};
use crate::cbor::{Entry, SessionId};
use crate::check::{Options, Progress, relative};
use crate::findings::{Class, Finding, Findings, Severity};
use crate::ledger::{Coverage, Facts};
use crate::merkle::{Hash, Leaves, sha256};
use crate::note::VerifierKey;
use crate::seals::{AGENT_START, Outcome, RECOVERY, SEAL, Seal, Seals};
use crate::sessions::{Sealed, Sessions};
use crate::store::{Epoch, ReadError};
use crate::tiles::Tiles;
use crate::tree::{Claim, Leaf, Odd, Spot, Tree, Who};
use crate::values::ValuesFile;
use crate::walk::Tail;

const EPOCH_START: u64 = 21;
/// Entries at the beginning of an epoch or a segment among which what explains it is looked for.
const FIRST_ENTRIES: u64 = 4096;
/// Most ranges of entries from the future that are listed.
const AHEAD_MAX: usize = 1000;
/// Entries between two reports of progress.
const PROGRESS_ENTRIES: u64 = 65_536;

/// What was read of an epoch.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EpochSummary {
    /// Its number.
    pub epoch: u64,
    /// The log it is.
    pub origin: Option<String>,
    /// Number of entries.
    pub entries: u64,
    /// Root of all of them, in hex, unless entries are missing.
    pub root: Option<String>,
    /// Number of segments.
    pub segments: u64,
    /// Number of seals.
    pub seals: u64,
    /// Wall time of the newest seal, in nanoseconds since 1970.
    pub last_seal_ns: Option<u64>,
    /// Number of sessions.
    pub sessions: u64,
    /// Number of intents.
    pub intents: u64,
    /// Intents whose outcome is not known.
    pub outcomes_unknown: u64,
    /// Size of the newest anchored checkpoint that no entry contradicts.
    pub anchored: Option<u64>,
    /// When witnesses had seen it, in seconds since 1970, if witnesses did.
    pub anchored_at: Option<u64>,
    /// Some entry counts connects: those that follow.
    pub counted: bool,
    /// Connects that the kernel side saw.
    pub seen: u64,
    /// Connects that became sessions.
    pub intercepted: u64,
    /// Connects that were refused.
    pub refused: u64,
    /// Connects that failed.
    pub failed: u64,
    /// Connects that passed unseen, as settings allow.
    pub allowed: u64,
    /// Connects of which nothing is known. Must be 0.
    pub unexplained: u64,
    /// Wall times of the first and the latest entry.
    pub times_ns: Option<(u64, u64)>,
    /// Sessions and values that entries say to be unreadable.
    #[serde(skip)]
    pub(crate) redactions: Vec<(u64, String, Vec<u8>)>,
    /// Sessions with sealed values.
    #[serde(skip)]
    pub(crate) sealed: HashMap<SessionId, Sealed>,
    /// It says itself that its first entries were pruned.
    #[serde(skip)]
    pub(crate) pruned: bool,
}

/// An epoch while it is read.
pub(crate) struct Check<'c> {
    directory: &'c Path,
    origin: String,
    pub(crate) tree: Tree,
    pub(crate) seals: Seals,
    pub(crate) sessions: Sessions,
    facts: Facts,
    leaves: Leaves,
    pub(crate) findings: &'c mut Findings,
    /// Signed checkpoints by size; those below `claimed` were compared.
    known: Vec<Known>,
    claimed: usize,
    pub(crate) next_trailer: Option<u64>,
    pub(crate) tails: Vec<Tail>,
    /// Entries that are not there.
    gaps: Vec<(u64, u64)>,
    /// The last entry names values that must follow.
    due: Option<Due>,
    /// Entries whose values are not there.
    no_values: Vec<(u64, u64)>,
    /// Sessions that were open when the agent began anew, and the entry at which it did.
    cut_off: Vec<(u64, Finding)>,
    /// The agent holds the lock of the folder.
    pub(crate) writer_lives: bool,
    start: Option<Start>,
    /// Entries that claim to be later than the witnesses saw them.
    ahead: Vec<(u64, u64)>,
    progress: Progress<'c>,
    wrong_origins: HashMap<String, u64>,
}

#[derive(Clone, Debug)]
struct Due {
    index: u64,
    sha256: Option<Hash>,
    session: Option<SessionId>,
    spot: Spot,
}

/// What `epoch_start` says about the epoch before.
#[derive(Clone, Debug)]
struct Start {
    previous: Option<String>,
    size: Option<u64>,
    root: Option<Hash>,
}

/// Checks an epoch. `before` is the one before it, if it is there.
#[expect(clippy::too_many_arguments, reason = "one caller; each is a part of its own")]
pub(crate) fn check_epoch<'c>(
    epoch: &Epoch,
    options: &'c Options,
    policy: &Policy,
    anchors: &mut Anchors,
    before: Option<&EpochSummary>,
    newest: bool,
    findings: &'c mut Findings,
    progress: Progress<'c>,
) -> Result<EpochSummary, ReadError> {
    let prefix = format!("{}/", relative(&options.directory, epoch.directory()));
    let origin = origin(epoch, &policy.keys, findings);
    findings.set_log(Some(origin.clone()), Some(epoch.number));
    let keys = policy.keys_of(&origin);
    if keys.is_empty() {
        let given: Vec<&str> = policy.keys.iter().map(|key| &*key.name).collect();
        let sentence = format!(
            "the log is `{origin}`; the keys given are for `{}`: nothing of it can be trusted",
            given.join("`, `")
        );
        findings.add(Finding::new(Class::WrongKey, sentence));
    }
    let mut known = read_beside(epoch.directory(), &prefix, &origin, policy, findings)?;
    known.extend(anchors.of(&origin));
    known.extend(successor(options, epoch.number, &origin)?);
    known.sort_by_key(|known| known.size);
    for pair in known.windows(2) {
        if pair[0].size == pair[1].size && pair[0].root != pair[1].root {
            findings.add(fork(&pair[1], &pair[0]));
        }
    }
    let (tiles, listing) = Tiles::open(&epoch.directory().join("tile"))?;
    for name in &listing.strange {
        let sentence = "this is no full tile, and belongs to no log";
        findings.add(Finding::new(Class::ExtraFile, sentence).file(format!("{prefix}{name}")));
    }
    let interval = options.seal_every_seconds.saturating_mul(1_000_000_000);
    let mut check = Check {
        directory: &options.directory,
        origin: origin.clone(),
        tree: Tree::new(tiles),
        seals: Seals::new(origin, keys, interval),
        sessions: Sessions::default(),
        facts: Facts::default(),
        leaves: Leaves::default(),
        findings,
        known,
        claimed: 0,
        next_trailer: None,
        tails: Vec::new(),
        gaps: Vec::new(),
        due: None,
        no_values: Vec::new(),
        cut_off: Vec::new(),
        writer_lives: newest && writer_lives(&options.directory),
        start: None,
        ahead: Vec::new(),
        progress,
        wrong_origins: HashMap::new(),
    };
    check.claims_passed();
    for (at, piece) in epoch.pieces().iter().enumerate() {
        let next = epoch.pieces().get(at + 1).map(|next| next.first);
        check.piece(epoch, piece, next)?;
    }
    let aside = check.aside_files();
    let pruned = !check.facts.pruned.is_empty();
    crate::files::check_epoch_folder(epoch, &prefix, &aside, pruned, check.findings)?;
    let now = newest.then_some(options.now_ns);
    Ok(check.finish(epoch, options, policy, anchors, before, now, listing.count[0]))
}

/// The log that an epoch's folder claims to be: what its files say, or what the keys expect.
fn origin(epoch: &Epoch, keys: &[VerifierKey], findings: &mut Findings) -> String {
    let expected: Vec<String> =
        keys.iter().map(|key| format!("{}/{}", key.name, epoch.number)).collect();
    let mut found = Vec::new();
    for piece in epoch.pieces() {
        if let Some(origin) = epoch.origin_of(piece) {
            if expected.contains(&origin) {
                return origin;
            }
            found.push(origin);
        }
    }
    // No segment belongs to the keys: the first one says whose log it is.
    match (found.into_iter().next(), expected.into_iter().next()) {
        (Some(found), _) => {
            if found.rsplit('/').next() != Some(&*epoch.number.to_string()) {
                let sentence =
                    format!("the folder of epoch {} holds the log `{found}`", epoch.number);
                findings.add(Finding::new(Class::WrongOrigin, sentence));
            }
            found
        }
        (None, Some(expected)) => expected,
        (None, None) => String::new(),
    }
}

/// What the next epoch says about this one.
fn successor(options: &Options, number: u64, origin: &str) -> Result<Option<Known>, ReadError> {
    let directory = options.directory.join(format!("epoch-{}", number + 1));
    if !directory.is_dir() {
        return Ok(None);
    }
    let mut entries = Epoch::open(directory, number + 1)?.entries();
    for _ in 0..16 {
        let Ok(Some(record)) = entries.next() else { break };
        let Ok(entry) = Entry::decode(record.bytes) else { break };
        if entry.event() == EPOCH_START && entry.text(120) == Some(origin) {
            let (Some(size), Some(root)) = (entry.uint(121), entry.array(122)) else { break };
            let file = format!("epoch-{}, record {}", number + 1, record.index);
            let who = Who::Entry;
            return Ok(Some(Known {
                who,
                size,
                root: *root,
                anchored: false,
                time: None,
                contradicted: false,
                file,
            }));
        }
    }
    Ok(None)
}

/// Whether somebody holds the lock of the folder: then a batch may be under way.
fn writer_lives(directory: &Path) -> bool {
    let Ok(lock) = std::fs::File::open(directory.join("lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

impl Check<'_> {
    pub(crate) fn name(&self, path: &Path) -> String {
        relative(self.directory, path)
    }

    pub(crate) fn at(&mut self, finding: Finding, file: u32, offset: u64, length: u64) {
        self.spot(finding, Spot { file, offset, length });
    }

    pub(crate) fn spot(&mut self, mut finding: Finding, spot: Spot) {
        finding.trusted_before = Some(self.tree.signed_size()).filter(|size| *size > 0);
        let index = self.tree.index();
        if finding.from_index.is_none() {
            finding = finding.entries(index, index);
        }
        self.findings.add(self.tree.place(finding, spot));
    }

    /// A segment that begins at `first` is reached.
    pub(crate) fn arrive(&mut self, first: u64, edge: Option<&[Hash]>) {
        let index = self.tree.index();
        if first <= index {
            if first < index {
                let sentence =
                    format!("a segment begins at record {first}, the one before ends at {index}");
                self.findings
                    .add(Finding::new(Class::EntriesAdded, sentence).entries(first, index));
            }
            return;
        }
        self.gaps.push((index, first));
        self.seals.gap();
        self.sessions.gap();
        self.next_trailer = None;
        if !self.tree.skip_to(first)
            && let Some(edge) = edge
        {
            self.tree.resume(first, edge);
        }
        while self.known.get(self.claimed).is_some_and(|known| known.size < first) {
            self.claimed += 1;
        }
        self.claims_passed();
    }

    /// Entries up to `to` cannot be read.
    pub(crate) fn lose(&mut self, to: u64) {
        self.seals.gap();
        self.sessions.gap();
        self.tree.skip_to(to);
        self.claims_passed();
    }

    pub(crate) fn origin_of(&mut self, found: &str, file: u32) {
        if found != self.origin && !self.wrong_origins.contains_key(found) {
            let sentence =
                format!("this segment belongs to the log `{found}`, not to `{}`", self.origin);
            self.at(Finding::new(Class::WrongOrigin, sentence), file, 64, 2 + found.len() as u64);
            self.wrong_origins.insert(found.to_owned(), 1);
        }
    }

    pub(crate) fn claim(&mut self, claim: Claim) {
        self.tree.claim(claim, self.findings);
    }

    /// Compares signed checkpoints of the present size; smaller ones were missed.
    pub(crate) fn claims_passed(&mut self) {
        while let Some(known) = self.known.get(self.claimed) {
            if known.size > self.tree.index() {
                break;
            }
            if known.size == self.tree.index() {
                let claim =
                    Claim { who: known.who, root: known.root, number: known.size, spot: None };
                let holds = self.tree.claim(claim, self.findings);
                self.known[self.claimed].contradicted = !holds;
            }
            self.claimed += 1;
        }
    }

    /// One entry.
    pub(crate) fn entry(&mut self, bytes: &[u8], spot: Spot, damaged: bool) {
        let index = self.tree.index();
        let hash = self.leaves.hash(bytes);
        let mut session = None;
        let mut malformed = None;
        match Entry::decode(bytes) {
            Ok(entry) => {
                session = entry.session().copied();
                self.decoded(&entry, index, &hash, spot);
            }
            Err(bad) => malformed = Some(bad),
        }
        let odd = (damaged || malformed.is_some()).then_some(Odd { damaged, malformed });
        self.tree.push(Leaf { hash, session, spot }, odd);
        self.claims_passed();
        if index.is_multiple_of(PROGRESS_ENTRIES) {
            (self.progress)(index);
        }
    }

    fn decoded(&mut self, entry: &Entry<'_>, index: u64, hash: &Hash, spot: Spot) {
        let event = entry.event();
        if event == SEAL {
            match Seal::read(entry) {
                Some(seal) => self.seal(&seal, index, spot),
                None => {
                    let sentence = "a seal lacks fields that a seal has";
                    let finding = Finding::new(Class::SealMalformed, sentence);
                    self.spot(finding.entries(index, index + 1), spot);
                }
            }
        } else {
            self.seals.pass(event);
        }
        match event {
            RECOVERY | AGENT_START => {
                self.cut_off.extend(self.sessions.restart(index).map(|finding| (index, finding)));
            }
            EPOCH_START => {
                let start = Start {
                    previous: entry.text(120).map(str::to_owned),
                    size: entry.uint(121),
                    root: entry.array(122).copied(),
                };
                if self.start.replace(start).is_some() || index >= FIRST_ENTRIES {
                    let sentence = "an epoch begins in the middle of another";
                    self.spot(Finding::new(Class::EpochChain, sentence), spot);
                }
            }
            _ => {}
        }
        self.facts.pass(entry, index, self.findings);
        self.sessions.pass(entry, index, hash, self.findings);
        self.due = entry.values().map(|_| Due {
            index,
            sha256: entry.array(46).copied(),
            session: entry.session().copied(),
            spot,
        });
        let later = self.known.get(self.claimed..).unwrap_or_default();
        if let Some(time) = later.iter().find_map(|known| known.time)
            && entry.time_ns() / 1_000_000_000 > time.saturating_add(10)
        {
            let full = self.ahead.len() == AHEAD_MAX;
            match self.ahead.last_mut().filter(|last| last.1 == index) {
                Some(last) => last.1 = index + 1,
                None if full => {}
                None => self.ahead.push((index, index + 1)),
            }
        }
    }

    fn seal(&mut self, seal: &Seal<'_>, index: u64, spot: Spot) {
        if self.seals.judge(seal, index, self.findings) == Outcome::Signed {
            let (who, root, number) = (Who::Seal, seal.root, seal.number);
            self.claim(Claim { who, root, number, spot: Some(spot) });
        }
    }

    /// A frame of values.
    pub(crate) fn values(&mut self, payload: &[u8], spot: Spot, sound: bool) {
        let Some(due) = self.due.take() else {
            let sentence = "values lie behind a record that names none";
            self.spot(Finding::new(Class::ExtraBytes, sentence), spot);
            return;
        };
        let differs = due.sha256.is_some_and(|expected| sha256(payload) != expected);
        if !sound || differs {
            let how = match (sound, differs) {
                (false, true) => {
                    "its check sum and its digest in the record are wrong: bit rot or a careless edit"
                }
                (false, false) => "its check sum is wrong: bit rot or a careless edit",
                (true, _) => {
                    "its check sum was made to fit, its digest in the record was not: a deliberate edit"
                }
            };
            let sentence = format!("the values of record {} were altered: {how}", due.index);
            let finding = Finding::new(Class::ValuesAltered, sentence)
                .entries(due.index, due.index + 1)
                .sessions(due.session.iter());
            self.spot(finding, spot);
        }
    }

    /// Something else follows: values that the last entry names must have come.
    pub(crate) fn values_due(&mut self) {
        if let Some(due) = self.due.take() {
            let sentence = format!("the values that record {} names are not there", due.index);
            let finding = Finding::new(Class::ValuesMissing, sentence)
                .entries(due.index, due.index + 1)
                .sessions(due.session.iter());
            self.spot(finding, due.spot);
        }
    }

    /// Values of the last entry of a packed segment.
    pub(crate) fn values_of(&mut self, values: &mut Option<ValuesFile>) {
        let Some(due) = self.due.clone() else { return };
        let Some(file) = values else {
            self.due = None;
            match self.no_values.last_mut().filter(|last| last.1 == due.index) {
                Some(last) => last.1 = due.index + 1,
                None => self.no_values.push((due.index, due.index + 1)),
            }
            return;
        };
        while file.current().is_none_or(|(index, ..)| index < due.index) {
            match file.read() {
                Ok(true) => self.superfluous(file, due.index),
                Ok(false) => break,
                Err(error) => {
                    self.damaged_values(error);
                    break;
                }
            }
        }
        let Some((_, offset, length)) = file.current().filter(|(index, ..)| *index == due.index)
        else {
            return self.values_due();
        };
        let name = file.number();
        let spot = Spot { file: name, offset, length };
        let payload = file.of(due.index).unwrap_or_default().to_vec();
        self.values(&payload, spot, true);
    }

    fn superfluous(&mut self, file: &ValuesFile, before: u64) {
        if let Some((index, offset, length)) = file.current().filter(|(index, ..)| *index < before)
        {
            let sentence = format!("values of record {index} are there, but it names none");
            let finding = Finding::new(Class::ExtraBytes, sentence).entries(index, index + 1);
            self.at(finding, file.number(), offset, length);
        }
    }

    fn damaged_values(&mut self, error: ReadError) {
        let (path, offset, what) = match error {
            ReadError::Damaged { path, offset, what } => (path, offset, what),
            ReadError::Io { path, source, .. } => (path, 0, source.to_string()),
            ReadError::Missing { .. } | ReadError::Crowded { .. } => return,
        };
        let finding =
            Finding::new(Class::ValuesAltered, format!("the file of values is damaged: {what}"))
                .file(self.name(&path))
                .bytes(offset, 0);
        self.findings.add(finding);
    }

    pub(crate) fn open_values(
        &mut self,
        epoch: &Epoch,
        piece: &crate::store::Piece,
    ) -> Option<ValuesFile> {
        if !piece.values {
            return None;
        }
        let path = epoch.file(piece.first, "values");
        let number = self.tree.file(self.name(&path));
        match ValuesFile::open(&path) {
            Ok(mut values) => {
                values.set_number(number);
                let header = values.header().clone();
                self.origin_of(&header.origin, number);
                if header.first != piece.first {
                    let sentence = "this file of values belongs to another segment";
                    self.at(Finding::new(Class::WrongOrigin, sentence), number, 16, 8);
                }
                Some(values)
            }
            Err(error) => {
                self.damaged_values(error);
                None
            }
        }
    }

    pub(crate) fn end_of_values(&mut self, mut values: ValuesFile) {
        loop {
            match values.read() {
                Ok(true) => self.superfluous(&values, u64::MAX),
                Ok(false) => return,
                Err(error) => return self.damaged_values(error),
            }
        }
    }

    fn aside_files(&self) -> Vec<String> {
        let files = self.facts.recoveries.iter().filter_map(|recovery| recovery.aside.clone());
        files.map(|(_, _, name)| name).collect()
    }
}

mod finish;

impl Class {
    /// Weighs less when an entry explains it.
    fn explained(self, sentence: String) -> Finding {
        Finding::new(self, sentence).weighing(Severity::Note)
    }
}

impl EpochSummary {
    fn add(&mut self, coverage: &Coverage) {
        self.counted = true;
        self.seen = self.seen.saturating_add(coverage.seen);
        self.intercepted = self.intercepted.saturating_add(coverage.intercepted);
        self.refused = self.refused.saturating_add(coverage.refused);
        self.failed = self.failed.saturating_add(coverage.failed);
        self.allowed = self.allowed.saturating_add(coverage.allowed);
        self.unexplained = self.unexplained.saturating_add(coverage.unexplained);
    }
}
