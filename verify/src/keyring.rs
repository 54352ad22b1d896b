//! Keys of sealed values: what was erased must have a record that says so, and what entries are
//! sealed with must be there or be erased.
//!
//! A file of keys: header (512 bytes: magic 16, day u32, part u32, state u8) and slots of 128
//! bytes (state u8, kind u8, ..., owner at 16..48); state 2 is erased; each ends with a CRC32C.
//! Nothing but records decides what an erased key means: times and owners in these files are
//! whatever the one who erased wrote there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use crate::cbor::SessionId;
use crate::check::relative;
use crate::epoch::EpochSummary;
use crate::findings::{Class, Finding, Findings, Severity};
use crate::sessions::Sealed;
use crate::store::names;

const HEADER_BYTES: usize = 512;
const SLOT_BYTES: usize = 128;
const MAGIC: &[u8] = b"pgward keyring 1";
const ERASED: u8 = 2;
const SESSION: u8 = 1;
const DAY_NS: u64 = 86_400_000_000_000;
/// Sessions named in one finding.
const NAMED_MAX: usize = 16;

/// The keys beside a trail, as they were when they were read.
///
/// Read before the log: a key is erased only when the record of it is durable, so a log that is
/// read later has it.
#[derive(Default)]
pub(crate) struct Keyring {
    /// Every file could be read.
    whole: bool,
    /// Sessions with a slot, in whatever state.
    owners: HashSet<SessionId>,
    erased: Vec<Erased>,
}

/// A key that is gone.
struct Erased {
    file: String,
    offset: u64,
    /// Day of the file, from 1970-01-01.
    day: u32,
    owner: Owner,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// All sessions that began on the day of the file.
    Day,
    Session(SessionId),
    Person,
}

impl Keyring {
    /// Reads the keys beside a trail. Copies of a trail have none.
    pub(crate) fn read(directory: &Path, findings: &mut Findings) -> Option<Self> {
        let folder = directory.join("keys/values");
        if !fs::exists(&folder).unwrap_or(true) {
            return None;
        }
        let mut keyring = Self { whole: true, ..Self::default() };
        let all = names(&folder).unwrap_or_else(|_| {
            keyring.unreadable(relative(directory, &folder), findings);
            Vec::new()
        });
        for name in all.iter().filter(|name| name.ends_with(".keys")) {
            let path = folder.join(name);
            keyring.file(&path, relative(directory, &path), findings);
        }
        Some(keyring)
    }

    fn unreadable(&mut self, shown: String, findings: &mut Findings) {
        self.whole = false;
        let sentence = "the keys of values cannot be read here: whether all that were erased \
                        have a record was not checked";
        findings
            .add(Finding::new(Class::Unreadable, sentence).file(shown).weighing(Severity::Note));
    }

    fn file(&mut self, path: &Path, shown: String, findings: &mut Findings) {
        let Ok(file) = File::open(path) else { return self.unreadable(shown, findings) };
        let mut file = BufReader::new(file);
        let mut header = [0; HEADER_BYTES];
        let whole = file.read_exact(&mut header).is_ok() && sound(&header);
        let day = header[16..].first_chunk().map(|day| u32::from_be_bytes(*day));
        let Some(day) = day.filter(|_| whole && header.starts_with(MAGIC)) else {
            self.whole = false;
            let sentence = "the header of a file of keys is damaged";
            findings.add(Finding::new(Class::Unreadable, sentence).file(shown).bytes(0, 512));
            return;
        };
        if header[24] == ERASED {
            self.erased.push(Erased { file: shown.clone(), offset: 0, day, owner: Owner::Day });
        }
        let mut slot = [0; SLOT_BYTES];
        let mut offset = HEADER_BYTES as u64;
        while file.read_exact(&mut slot).is_ok() {
            // The last one may be torn: its key was never used.
            if sound(&slot) {
                let session = slot[16..].first_chunk().filter(|_| slot[1] == SESSION);
                self.owners.extend(session);
                if slot[0] == ERASED {
                    let owner = session.map_or(Owner::Person, |id| Owner::Session(*id));
                    self.erased.push(Erased { file: shown.clone(), offset, day, owner });
                }
            }
            offset += SLOT_BYTES as u64;
        }
    }

    /// Compares the keys with what all epochs say. `again` reads them once more: sessions may
    /// have begun meanwhile.
    pub(crate) fn compare(
        &self,
        epochs: &[EpochSummary],
        findings: &mut Findings,
        again: impl FnOnce() -> Option<Self>,
    ) {
        let said = Said::of(epochs);
        for erased in self.erased.iter().filter(|erased| !said.explains(erased)) {
            let (sentence, length) = match erased.owner {
                Owner::Day => {
                    ("the key of a day was erased, and no record says so", HEADER_BYTES as u64)
                }
                Owner::Session(_) | Owner::Person => {
                    ("a key of sealed values was erased, and no record says so", SLOT_BYTES as u64)
                }
            };
            let finding = Finding::new(Class::KeyErased, sentence)
                .file(erased.file.clone())
                .bytes(erased.offset, length);
            let finding = match erased.owner {
                Owner::Session(id) => finding.sessions([&id]),
                Owner::Day | Owner::Person => finding,
            };
            findings.add(match said.may_be_pruned(erased) {
                true => finding.weighing(Severity::Note),
                false => finding,
            });
        }
        self.report_missing(&said, findings, again);
    }

    /// Values that are sealed with a key that has no slot at all.
    fn report_missing(
        &self,
        said: &Said<'_>,
        findings: &mut Findings,
        again: impl FnOnce() -> Option<Self>,
    ) {
        let all = said.sealed.keys().map(|id| **id);
        let mut missing: Vec<_> = all.filter(|id| !self.owners.contains(id)).collect();
        if missing.is_empty() || !self.whole {
            return;
        }
        let now = again().unwrap_or_default();
        missing.retain(|id| !now.owners.contains(id));
        if missing.is_empty() {
            return;
        }
        missing.sort_unstable();
        let sentence = format!(
            "the keys of {} sessions with sealed values are not in the keyring, and no record \
             says why",
            missing.len()
        );
        let finding = Finding::new(Class::KeyErased, sentence).file("keys/values");
        findings.add(finding.sessions(missing.iter().take(NAMED_MAX)));
    }
}

/// What the log says about keys.
struct Said<'e> {
    redactions: Vec<&'e (u64, String, Vec<u8>)>,
    sealed: HashMap<&'e SessionId, Sealed>,
    pruned: bool,
}

impl<'e> Said<'e> {
    fn of(epochs: &'e [EpochSummary]) -> Self {
        Self {
            redactions: epochs.iter().flat_map(|epoch| &epoch.redactions).collect(),
            sealed: epochs
                .iter()
                .flat_map(|epoch| &epoch.sealed)
                .map(|(session, sealed)| (session, *sealed))
                .collect(),
            pruned: epochs.iter().any(|epoch| epoch.pruned),
        }
    }

    fn explains(&self, erased: &Erased) -> bool {
        let day = date(erased.day);
        self.redactions.iter().any(|(_, scope, target)| match (&**scope, erased.owner) {
            ("day", Owner::Day | Owner::Person) => *target == day.as_bytes(),
            // The day is what the session's own beginning says, if that is there.
            ("day", Owner::Session(id)) => {
                let began = self.sealed.get(&id).and_then(|sealed| sealed.began_ns);
                let near = began.is_none_or(|began| on(began, erased.day));
                near && *target == day.as_bytes()
            }
            ("session", Owner::Session(id)) => {
                target.as_slice() == id.as_slice() || *target == hex::encode(id).into_bytes()
            }
            ("subject", Owner::Person) => true,
            _ => false,
        })
    }

    /// The record of it may have been pruned: no session that began in what is left of the log
    /// has values under this key.
    fn may_be_pruned(&self, erased: &Erased) -> bool {
        let began_here = |sealed: &Sealed| sealed.began_ns.is_some();
        self.pruned
            && match erased.owner {
                Owner::Session(id) => !self.sealed.get(&id).is_some_and(began_here),
                Owner::Day => !self
                    .sealed
                    .values()
                    .any(|sealed| sealed.began_ns.is_some_and(|began| on(began, erased.day))),
                Owner::Person => true,
            }
    }
}

/// Whether a session that began then has its key among those of a day, which may be the one
/// before or after if it began at midnight.
fn on(began_ns: u64, day: u32) -> bool {
    (began_ns / DAY_NS).abs_diff(u64::from(day)) <= 1
}

/// A day as records name it.
fn date(day: u32) -> String {
    // 9999-12-31: later days have no such form.
    let seconds = u64::from(day.min(2_932_896)) * (DAY_NS / 1_000_000_000);
    let text = humantime::format_rfc3339_seconds(
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds),
    );
    text.to_string().chars().take("2026-11-22".len()).collect()
}

/// Whether the last four bytes are the check sum of those before.
fn sound(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<4>()
        .is_some_and(|(covered, sum)| crc32c::crc32c(covered) == u32::from_be_bytes(*sum))
}
