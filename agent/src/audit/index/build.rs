//! From entries to an index.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_lc_rs::digest::{SHA256, digest};
use pgward_verify::{Entry, Malformed};
use serde_json::Value;

use super::cursor::{put_list, put_varint};
use super::facts::{Fact, FactKind, of_actor, of_errors, of_start};
use super::words::{word_hash, words};
use super::{
    DIGEST_BYTES, ENTRIES_MAX, GAPS, HEADER_BYTES, Index, IndexError, MAGIC, OPEN, PARTIAL,
    WAITING, WORDS_UNKNOWN,
};
use crate::audit::schema::{EventKind, f};
use crate::audit::view;

/// Most texts of a session that are carried over to the next segment, the last ones. What refers to
/// an older one is found by every search for words.
pub const TEXTS_CARRIED_MAX: usize = 1024;
/// Most open sessions that are carried over. With more the index is not complete.
const SESSIONS_CARRIED_MAX: usize = 1 << 18;
/// Most different words of a text that are indexed.
const WORDS_MAX: usize = 4096;
/// The text that stands for all that are not known.
const UNKNOWN: u32 = 0;

/// Makes the index of a segment from its entries in order, from that of the segment before it, if
/// there is one. `first` is the index of the first entry.
///
/// Entries that can't be read are left out: they are found by no search.
pub fn build<'e>(
    previous: Option<&Index>,
    first: u64,
    entries: impl IntoIterator<Item = &'e [u8]>,
) -> Result<Vec<u8>, IndexError> {
    let mut builder = Builder::new(previous, first)?;
    for entry in entries {
        // Counted all the same, so that the others keep their ordinals.
        let _ = builder.push(entry);
    }
    builder.finish()
}

/// Takes the entries of a segment one by one.
pub struct Builder {
    first: u64,
    count: u32,
    time: Option<(u64, u64)>,
    partial: bool,
    facts: BTreeMap<Fact, Vec<u32>>,
    sessions: BTreeMap<[u8; 16], Session>,
    texts: Vec<Text>,
    by_digest: HashMap<[u8; DIGEST_BYTES], u32>,
}

#[derive(Default)]
struct Session {
    open: bool,
    /// Its login is under way.
    waiting: bool,
    previous: Option<u64>,
    facts: BTreeSet<Fact>,
    actors: BTreeSet<u64>,
    entries: Vec<(u64, u32)>,
    texts: BTreeMap<u64, u32>,
    /// Text and ordinal of statements without an outcome; no ordinal: of a segment before.
    pending: BTreeMap<u64, (u32, Option<u32>)>,
}

struct Text {
    digest: [u8; DIGEST_BYTES],
    words: Vec<u64>,
    unknown: bool,
    ordinals: Vec<u32>,
}

impl Builder {
    /// Begins with what is carried over from the segment before.
    pub fn new(previous: Option<&Index>, first: u64) -> Result<Self, IndexError> {
        let mut builder = Self {
            first,
            count: 0,
            time: None,
            partial: false,
            facts: BTreeMap::new(),
            sessions: BTreeMap::new(),
            texts: vec![Text {
                digest: [0; DIGEST_BYTES],
                words: Vec::new(),
                unknown: true,
                ordinals: Vec::new(),
            }],
            by_digest: HashMap::new(),
        };
        if let Some(previous) = previous {
            builder.carry(previous)?;
        }
        Ok(builder)
    }

    fn carry(&mut self, previous: &Index) -> Result<(), IndexError> {
        let zone = previous.zone();
        self.partial = zone.partial;
        let mut texts: HashMap<u32, u32> = HashMap::new();
        let open = || previous.sessions().iter().filter(|row| row.open);
        for (_, text) in open().flat_map(|row| row.texts.iter().chain(&row.pending)) {
            if *text != UNKNOWN && !texts.contains_key(text) {
                let row = &previous.texts[*text as usize];
                let id = self.text_of_digest(row.digest, row.unknown, Vec::new);
                texts.insert(*text, id);
            }
        }
        for (hash, of) in previous.all_words()? {
            for text in of.iter().filter_map(|text| texts.get(text)) {
                self.texts[*text as usize].words.push(hash);
            }
        }
        let here = |text: &u32| texts.get(text).copied().unwrap_or(UNKNOWN);
        for row in open() {
            let has_entries = !previous.entries_of(row)?.is_empty();
            let session = Session {
                open: true,
                waiting: row.waiting,
                previous: if has_entries { Some(zone.first) } else { row.previous },
                facts: previous.facts_of(row).cloned().collect(),
                actors: row.actors.iter().copied().collect(),
                entries: Vec::new(),
                texts: row.texts.iter().map(|(seq, text)| (*seq, here(text))).collect(),
                pending: row.pending.iter().map(|(seq, text)| (*seq, (here(text), None))).collect(),
            };
            // A login is shown with the time of its start, and may be found by its end.
            if row.waiting {
                self.saw(zone.time_min);
            }
            self.sessions.insert(row.id, session);
        }
        Ok(())
    }

    /// Takes the next entry. It counts also when it can't be read.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let ordinal = self.count;
        self.count += 1;
        let entry = Entry::decode(bytes)?;
        self.saw(entry.time_ns());
        let kind = EventKind::from_number(entry.event());
        match (entry.session(), entry.seq()) {
            (Some(id), Some(seq)) => {
                self.in_session(*id, seq, ordinal, kind, &entry);
            }
            (_, _) => self.alone(ordinal, kind, &entry),
        }
        Ok(())
    }

    /// Index of the entry that would come next.
    pub fn next_index(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    fn saw(&mut self, time: u64) {
        let (min, max) = self.time.unwrap_or((time, time));
        self.time = Some((min.min(time), max.max(time)));
    }

    fn alone(&mut self, ordinal: u32, kind: Option<EventKind>, entry: &Entry<'_>) {
        if kind == Some(EventKind::AgentStart) {
            // What was open then never ends: the agent did not live to say so.
            let open = self.sessions.values_mut().filter(|session| session.open);
            let left = open.flat_map(|session| session.end()).collect::<Vec<_>>();
            self.unfinished(left);
        }
        let mut facts = Vec::new();
        if let Ok(object) = view::object(entry.bytes()) {
            object.get("actor").into_iter().for_each(|actor| of_actor(actor, &mut facts));
            of_errors(&object, &mut facts);
        }
        facts.push(event(entry.event()));
        self.note(ordinal, facts);
    }

    fn in_session(
        &mut self,
        id: [u8; 16],
        seq: u64,
        ordinal: u32,
        kind: Option<EventKind>,
        entry: &Entry<'_>,
    ) {
        let session = self.sessions.entry(id).or_insert_with(Session::open);
        session.entries.push((seq, ordinal));
        match kind {
            Some(EventKind::Statement) => {
                if let Some(text) = own_text(entry) {
                    let text = self.text(text);
                    self.session(id).remember(seq, text);
                }
            }
            Some(EventKind::Intent) => {
                let text = self.text_of(id, entry);
                let session = self.session(id);
                if entry.get(f::TEXT.into()).is_some() {
                    session.remember(seq, text);
                }
                session.pending.insert(seq, (text, Some(ordinal)));
            }
            Some(EventKind::Outcome) => {
                let of = entry.intent().and_then(|seq| self.session(id).pending.remove(&seq));
                let own = own_text(entry).is_some() || entry.get(f::TEXT_REF.into()).is_some();
                if own || of.is_none() {
                    let text = self.text_of(id, entry);
                    self.texts[text as usize].at(ordinal);
                }
                if let Some((text, _)) = of {
                    self.texts[text as usize].at(ordinal);
                }
                if entry.get(f::SQLSTATE.into()).or(entry.get(f::COMMIT_SQLSTATE.into())).is_some()
                {
                    self.errors(ordinal, entry);
                }
            }
            Some(EventKind::Denied) => {
                let text = self.text_of(id, entry);
                self.texts[text as usize].at(ordinal);
                self.errors(ordinal, entry);
                self.note(ordinal, vec![event(entry.event())]);
            }
            Some(EventKind::SessionMark) => self.note(ordinal, vec![event(entry.event())]),
            Some(EventKind::Writer) => self.who(id, seq, ordinal, entry),
            Some(EventKind::Authentication) => {
                self.who(id, seq, ordinal, entry);
                self.session(id).waiting = false;
            }
            Some(_) | None => {
                self.who(id, seq, ordinal, entry);
                self.note(ordinal, vec![event(entry.event())]);
                if kind == Some(EventKind::SessionStart) {
                    self.session(id).waiting = true;
                }
                if kind == Some(EventKind::SessionEnd) {
                    let left = self.session(id).end();
                    self.unfinished(left);
                }
            }
        }
    }

    /// Facts of an entry that names somebody.
    fn who(&mut self, id: [u8; 16], seq: u64, ordinal: u32, entry: &Entry<'_>) {
        let Ok(object) = view::object(entry.bytes()) else { return };
        let mut errors = Vec::new();
        of_errors(&object, &mut errors);
        self.note(ordinal, errors);
        let mut facts = Vec::new();
        of_start(&object, &mut facts);
        let actor = object.get("actor").filter(|actor| actor.is_object());
        actor.into_iter().for_each(|actor: &Value| of_actor(actor, &mut facts));
        let session = self.session(id);
        session.facts.extend(facts);
        if actor.is_some() {
            session.actors.insert(seq);
        }
    }

    fn errors(&mut self, ordinal: u32, entry: &Entry<'_>) {
        if let Ok(object) = view::object(entry.bytes()) {
            let mut facts = Vec::new();
            of_errors(&object, &mut facts);
            self.note(ordinal, facts);
        }
    }

    fn note(&mut self, ordinal: u32, facts: Vec<Fact>) {
        for fact in facts {
            let ordinals = self.facts.entry(fact).or_default();
            if ordinals.last() != Some(&ordinal) {
                ordinals.push(ordinal);
            }
        }
    }

    fn session(&mut self, id: [u8; 16]) -> &mut Session {
        self.sessions.entry(id).or_insert_with(Session::open)
    }

    /// Text of an entry: its own, or the one it refers to.
    fn text_of(&mut self, id: [u8; 16], entry: &Entry<'_>) -> u32 {
        if let Some(text) = own_text(entry) {
            return self.text(text);
        }
        match entry.uint(f::TEXT_REF.into()) {
            Some(seq) => self.session(id).texts.get(&seq).copied().unwrap_or(UNKNOWN),
            // It has no words, and this is known.
            None => self.text(b""),
        }
    }

    fn text(&mut self, text: &[u8]) -> u32 {
        let mut half = [0; DIGEST_BYTES];
        half.copy_from_slice(&digest(&SHA256, text).as_ref()[..DIGEST_BYTES]);
        let mut more = false;
        let id = self.text_of_digest(half, false, || {
            let mut found = BTreeSet::new();
            for word in words(text) {
                if found.len() >= WORDS_MAX {
                    more = true;
                    break;
                }
                found.insert(word_hash(&word));
            }
            found.into_iter().collect()
        });
        self.texts[id as usize].unknown |= more;
        id
    }

    fn text_of_digest(
        &mut self,
        digest: [u8; DIGEST_BYTES],
        unknown: bool,
        words: impl FnOnce() -> Vec<u64>,
    ) -> u32 {
        let next = self.texts.len() as u32;
        let id = *self.by_digest.entry(digest).or_insert(next);
        if id == next {
            self.texts.push(Text { digest, words: words(), unknown, ordinals: Vec::new() });
        }
        id
    }

    /// Statements without an outcome stand at their intent.
    fn unfinished(&mut self, left: Vec<(u32, Option<u32>)>) {
        for (text, ordinal) in left {
            if let Some(ordinal) = ordinal {
                self.texts[text as usize].at(ordinal);
            }
        }
    }

    /// The index.
    pub fn finish(mut self) -> Result<Vec<u8>, IndexError> {
        if u64::from(self.count) > ENTRIES_MAX {
            return Err(IndexError::Malformed("it has too many entries"));
        }
        let waiting = self.sessions.values().flat_map(|session| session.pending.values());
        let waiting = waiting.copied().collect();
        self.unfinished(waiting);
        let open = self.sessions.values().filter(|session| session.open).count();
        if open > SESSIONS_CARRIED_MAX {
            self.partial = true;
            self.sessions.retain(|_, session| !session.entries.is_empty());
        }
        let partial = self.partial;
        let places: HashMap<Fact, u32> = {
            let mut all: BTreeSet<&Fact> = self.facts.keys().collect();
            all.extend(self.sessions.values().flat_map(|session| &session.facts));
            all.into_iter().enumerate().map(|(at, fact)| (fact.clone(), at as u32)).collect()
        };
        let tables = [
            self.facts_table(&places),
            self.sessions_table(&places),
            self.texts_table(),
            self.words_table(),
        ];
        let (time_min, time_max) = self.time.unwrap_or((u64::MAX, 0));
        let mut out = Vec::with_capacity(HEADER_BYTES + tables.iter().map(Vec::len).sum::<usize>());
        out.extend_from_slice(MAGIC);
        for value in [self.first, self.next_index(), time_min, time_max] {
            out.extend_from_slice(&value.to_be_bytes());
        }
        out.extend_from_slice(&(if partial { PARTIAL } else { 0 }).to_be_bytes());
        for table in &tables {
            let length = u32::try_from(table.len())
                .map_err(|_| IndexError::Malformed("a table is too long"))?;
            out.extend_from_slice(&length.to_be_bytes());
        }
        out.resize(HEADER_BYTES - 8, 0);
        let crc = tables.iter().fold(0, |crc, table| crc32c::crc32c_append(crc, table));
        out.extend_from_slice(&crc.to_be_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        tables.iter().for_each(|table| out.extend_from_slice(table));
        Ok(out)
    }

    fn facts_table(&self, places: &HashMap<Fact, u32>) -> Vec<u8> {
        let mut ascending: Vec<&Fact> = places.keys().collect();
        ascending.sort_unstable();
        let mut out = Vec::new();
        put_varint(&mut out, ascending.len() as u64);
        for fact in ascending {
            out.push(fact.kind as u8);
            put_varint(&mut out, fact.value.len() as u64);
            out.extend_from_slice(fact.value.as_bytes());
            let ordinals = self.facts.get(fact).map(Vec::as_slice).unwrap_or_default();
            put_list(&mut out, ordinals.iter().copied().map(u64::from));
        }
        out
    }

    fn sessions_table(&mut self, places: &HashMap<Fact, u32>) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.sessions.len() as u64);
        for (id, session) in &mut self.sessions {
            session.write(id, places, &mut out);
        }
        out
    }

    fn texts_table(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.texts.len() as u64);
        for text in &mut self.texts {
            out.extend_from_slice(&text.digest);
            out.push(if text.unknown { WORDS_UNKNOWN } else { 0 });
            text.ordinals.sort_unstable();
            text.ordinals.dedup();
            put_list(&mut out, text.ordinals.iter().copied().map(u64::from));
        }
        out
    }

    fn words_table(&self) -> Vec<u8> {
        let mut texts: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (id, text) in self.texts.iter().enumerate() {
            for word in &text.words {
                texts.entry(*word).or_default().insert(id as u64);
            }
        }
        let (mut rows, mut lists) = (Vec::new(), Vec::new());
        rows.extend_from_slice(&(texts.len() as u32).to_be_bytes());
        for (word, of) in texts {
            rows.extend_from_slice(&word.to_be_bytes());
            rows.extend_from_slice(&(lists.len() as u32).to_be_bytes());
            put_list(&mut lists, of.into_iter());
        }
        rows.append(&mut lists);
        rows
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("first", &self.first).field("count", &self.count).finish()
    }
}

impl Session {
    fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    fn remember(&mut self, seq: u64, text: u32) {
        self.texts.insert(seq, text);
        if self.texts.len() > TEXTS_CARRIED_MAX {
            self.texts.pop_first();
        }
    }

    /// Ends it, and gives the statements that have no outcome.
    fn end(&mut self) -> Vec<(u32, Option<u32>)> {
        self.open = false;
        self.texts.clear();
        std::mem::take(&mut self.pending).into_values().collect()
    }

    fn write(&mut self, id: &[u8; 16], places: &HashMap<Fact, u32>, out: &mut Vec<u8>) {
        let first_seq = self.entries.first().map_or(0, |(seq, _)| *seq);
        let numbered = (first_seq..).zip(&self.entries);
        let gaps = numbered.into_iter().any(|(seq, (found, _))| seq != *found);
        out.extend_from_slice(id);
        let flags = [(self.open, OPEN), (gaps, GAPS), (self.open && self.waiting, WAITING)];
        out.push(flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag));
        put_varint(out, first_seq);
        put_varint(out, self.previous.map_or(0, |first| first.saturating_add(1)));
        let mut facts: Vec<u64> =
            self.facts.iter().filter_map(|fact| places.get(fact)).copied().map(u64::from).collect();
        facts.sort_unstable();
        put_list(out, facts.into_iter());
        put_list(out, self.actors.iter().copied().collect::<Vec<_>>().into_iter());
        let ordinals: Vec<u64> =
            self.entries.iter().map(|(_, ordinal)| (*ordinal).into()).collect();
        put_list(out, ordinals.into_iter());
        if gaps {
            self.entries.iter().for_each(|(seq, _)| put_varint(out, *seq));
        }
        if self.open {
            put_varint(out, self.texts.len() as u64);
            for (seq, text) in &self.texts {
                put_varint(out, *seq);
                put_varint(out, (*text).into());
            }
            put_varint(out, self.pending.len() as u64);
            for (seq, (text, _)) in &self.pending {
                put_varint(out, *seq);
                put_varint(out, (*text).into());
            }
        }
    }
}

impl Text {
    fn at(&mut self, ordinal: u32) {
        if self.ordinals.last() != Some(&ordinal) {
            self.ordinals.push(ordinal);
        }
    }
}

fn own_text<'e>(entry: &Entry<'e>) -> Option<&'e [u8]> {
    entry.get(f::TEXT.into()).and_then(|value| value.bytes())
}

fn event(number: u64) -> Fact {
    let name = EventKind::from_number(number);
    let value = name.map_or_else(|| format!("event_{number}"), |kind| kind.name().to_owned());
    Fact { kind: FactKind::Event, value }
}
