//! From some entries to what they come to: reads what they refer to, before and behind them.

use std::collections::{BTreeMap, HashMap, HashSet};

use pgward_verify::Entry;
use serde_json::Value;

use super::segments::{Places, Segments};
use super::{Assembler, Found, SearchError};
use crate::audit::index::Index;
use crate::audit::schema::{EventKind, f};

/// Most entries of a session that are looked through for the outcome of a statement.
const AHEAD_MAX: usize = 1 << 16;
/// Most entries of a session that are looked through for its login.
const LOGIN_AHEAD_MAX: usize = 16;

/// Names a thing that is shown once, however many of its entries are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Of a session: `seq` of its first entry.
    OfSession([u8; 16], u64),
    /// Of none: index of its entry.
    Alone(u64),
}

/// Reads the entries with `ordinals`, and all that they need to be shown.
pub(super) fn gather(
    segments: &mut Segments,
    at: usize,
    index: &Index,
    ordinals: &[u32],
) -> Result<Vec<(Key, Found)>, SearchError> {
    let first = index.zone().first;
    let mut gathering = Gathering::begin(segments, at);
    for ordinal in ordinals {
        gathering.candidate(first + u64::from(*ordinal))?;
    }
    gathering.complete()?;
    Ok(gathering.assemble())
}

/// Reads a session's start, login, writers, and what its later entries may refer to, as far as `index`
/// knows of them: for who goes on to read it from there.
pub fn context(
    segments: &mut Segments,
    at: usize,
    id: &[u8; 16],
) -> Result<Vec<(u64, Vec<u8>)>, SearchError> {
    let index = segments.index(at)?;
    let Some(row) = index.session(id) else { return Ok(Vec::new()) };
    let seqs: Vec<u64> =
        row.actors.iter().copied().chain(row.text_seqs()).chain(row.pending_seqs()).collect();
    let mut gathering = Gathering::begin(segments, at);
    gathering.login(*id)?;
    for seq in seqs {
        gathering.behind(*id, seq)?;
    }
    Ok(gathering.loaded.into_iter().collect())
}

struct Gathering<'s> {
    segments: &'s mut Segments,
    at: usize,
    places: Places,
    loaded: BTreeMap<u64, Vec<u8>>,
    /// What is to be shown, with the index of the entry that was found.
    wanted: HashMap<Key, u64>,
    /// Statements whose outcome was read.
    done: HashSet<([u8; 16], u64)>,
    /// Statements that were found by their intent, with the segment of it.
    open: Vec<([u8; 16], u64, usize)>,
    sessions: HashSet<[u8; 16]>,
}

/// What an entry needs, by `seq` in its session.
fn needs(entry: &Entry<'_>) -> Vec<u64> {
    let mut seqs = Vec::new();
    for field in [f::TEXT_REF, f::WRITER_REF] {
        seqs.extend(entry.uint(field.into()));
    }
    if let Some(pgward_verify::cbor::Value::Array(shared)) = entry.get(f::SHARED_WITH.into()) {
        seqs.extend(shared.iter().filter_map(|seq| seq.uint()));
    }
    seqs
}

impl<'s> Gathering<'s> {
    fn candidate(&mut self, index: u64) -> Result<(), SearchError> {
        let Some(bytes) = self.load(index)? else { return Ok(()) };
        let Ok(entry) = Entry::decode(&bytes) else { return Ok(()) };
        let (Some(id), Some(seq)) = (entry.session().copied(), entry.seq()) else {
            self.wanted.insert(Key::Alone(index), index);
            return Ok(());
        };
        self.sessions.insert(id);
        let kind = EventKind::from_number(entry.event());
        let of = if kind == Some(EventKind::Outcome) {
            if let Some(intent) = entry.intent() {
                self.done.insert((id, intent));
            }
            entry.intent().unwrap_or(seq)
        } else if kind == Some(EventKind::Authentication) {
            0
        } else if matches!(kind, Some(EventKind::Statement | EventKind::Writer)) {
            return Ok(()); // shown with the statements that refer to it
        } else {
            if kind == Some(EventKind::Intent) {
                self.open.push((id, seq, self.at));
            }
            seq
        };
        self.wanted.insert(Key::OfSession(id, of), index);
        Ok(())
    }

    /// Reads what is missing.
    fn complete(&mut self) -> Result<(), SearchError> {
        for (id, intent) in self.done.clone() {
            self.behind(id, intent)?;
        }
        for (id, seq, at) in std::mem::take(&mut self.open) {
            if !self.done.contains(&(id, seq)) {
                self.outcome_of(id, seq, at)?;
            }
        }
        for id in self.sessions.clone() {
            self.login(id)?;
        }
        let mut wanted = HashSet::new();
        for bytes in self.loaded.values() {
            if let Ok(entry) = Entry::decode(bytes)
                && let Some(id) = entry.session()
            {
                wanted.extend(needs(&entry).into_iter().map(|seq| (*id, seq)));
            }
        }
        for (id, seq) in wanted {
            self.behind(id, seq)?;
        }
        Ok(())
    }

    fn assemble(self) -> Vec<(Key, Found)> {
        let mut assembler = Assembler::default();
        let mut all = Vec::new();
        for (index, bytes) in &self.loaded {
            // Entries that are none are for the verifier to tell.
            all.append(&mut assembler.push(*index, bytes).unwrap_or_default());
        }
        all.append(&mut assembler.finish(u64::MAX));
        let epoch = self.segments.epoch().number;
        let shown = all.into_iter().filter_map(|found| {
            let key = key(&found)?;
            let wanted = *self.wanted.get(&key)?;
            // What nothing completed stands at its own entry, whether or not its end was read.
            let completed = found.object.get("outcome").is_none_or(|outcome| outcome != "unknown");
            let index = if completed && found.index != u64::MAX { found.index } else { wanted };
            Some((key, Found { epoch, index, ..found }))
        });
        shown.collect()
    }

    fn load(&mut self, index: u64) -> Result<Option<Vec<u8>>, SearchError> {
        if let Some(bytes) = self.loaded.get(&index) {
            return Ok(Some(bytes.clone()));
        }
        let Some(entry) = self.segments.entry(index)? else { return Ok(None) };
        self.loaded.insert(index, entry.bytes.clone());
        Ok(Some(entry.bytes))
    }

    /// Reads entry `seq` of a session, in this segment or one before.
    fn behind(&mut self, id: [u8; 16], seq: u64) -> Result<(), SearchError> {
        if let Some((at, ordinal)) = self.locate(id, seq)? {
            let index = self.segments.zone(at)?.first + u64::from(ordinal);
            self.load(index)?;
        }
        Ok(())
    }

    /// Segment and ordinal of entry `seq` of a session, going back from this segment.
    fn locate(&mut self, id: [u8; 16], seq: u64) -> Result<Option<(usize, u32)>, SearchError> {
        let mut at = self.at;
        loop {
            let Some(places) = self.places.at(self.segments, at, &id)? else { return Ok(None) };
            if let Ok(found) = places.binary_search_by_key(&seq, |(seq, _)| *seq) {
                return Ok(Some((at, places[found].1)));
            }
            let index = self.segments.index(at)?;
            let previous = index.session(&id).and_then(|row| row.previous);
            match previous.and_then(|first| self.segments.position(first)) {
                // Only ever back, whatever the index says.
                Some(before) if before < at => at = before,
                Some(_) | None => return Ok(None),
            }
        }
    }

    /// Reads a session's start and its login.
    fn login(&mut self, id: [u8; 16]) -> Result<(), SearchError> {
        let Some((at, ordinal)) = self.locate(id, 0)? else { return Ok(()) };
        let index = self.segments.zone(at)?.first + u64::from(ordinal);
        self.load(index)?;
        self.ahead(id, 0, at, LOGIN_AHEAD_MAX, |entry| {
            EventKind::from_number(entry.event()) == Some(EventKind::Authentication)
        })
    }

    fn outcome_of(&mut self, id: [u8; 16], seq: u64, at: usize) -> Result<(), SearchError> {
        self.ahead(id, seq, at, AHEAD_MAX, |entry| {
            EventKind::from_number(entry.event()) == Some(EventKind::Outcome)
                && entry.intent() == Some(seq)
        })
    }

    /// Looks for an entry of a session behind `seq`, which is in segment `at`, and keeps it.
    fn ahead(
        &mut self,
        id: [u8; 16],
        seq: u64,
        mut at: usize,
        mut left: usize,
        is_it: impl Fn(&Entry<'_>) -> bool,
    ) -> Result<(), SearchError> {
        while at < self.segments.len() {
            let Some(places) = self.places.at(self.segments, at, &id)? else { return Ok(()) };
            let first = self.segments.zone(at)?.first;
            let from = places.partition_point(|(found, _)| *found <= seq);
            for (_, ordinal) in &places[from..] {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                let index = first + u64::from(*ordinal);
                let Some(entry) = self.segments.entry(index)? else { continue };
                if Entry::decode(&entry.bytes).is_ok_and(|entry| is_it(&entry)) {
                    self.loaded.insert(index, entry.bytes);
                    return Ok(());
                }
            }
            at += 1;
        }
        Ok(())
    }
}

impl<'s> Gathering<'s> {
    fn begin(segments: &'s mut Segments, at: usize) -> Self {
        Self {
            segments,
            at,
            places: Places::default(),
            loaded: BTreeMap::new(),
            wanted: HashMap::new(),
            done: HashSet::new(),
            open: Vec::new(),
            sessions: HashSet::new(),
        }
    }
}

fn key(found: &Found) -> Option<Key> {
    let object = &found.object;
    let Some(session) = object.get("session").and_then(Value::as_str) else {
        return Some(Key::Alone(found.index));
    };
    let mut id = [0; 16];
    hex::decode_to_slice(session, &mut id).ok()?;
    Some(Key::OfSession(id, object.get("seq").and_then(Value::as_u64)?))
}
