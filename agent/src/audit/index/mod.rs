//! The search index of a finished segment: `segment-<first>.index` beside it.
//!
//! It says which entries of the segment may be about a process, a role, a table, a word. It is made
//! from the entries and can be made again at any time. It proves nothing and is never believed:
//! what it finds is read from the segment, and shown only when it is what was asked for. Who
//! changes an index can hide entries from a search, not from `verify` and not from `reindex`.
//!
//! # Format
//!
//! Integers of the header are big-endian. `varint` is LEB128 of a 64-bit number. A `list` is a varint
//! count and so many ascending numbers as varints, each but the first as its distance from the one
//! before. An *ordinal* is an entry's number in the segment: its index less the first one.
//!
//! ```text
//! header, 128 bytes
//!   0   magic "pgward index 001"                                16
//!   16  index of the segment's first entry                     u64
//!   24  index behind its last entry                            u64
//!   32  smallest time of what may be found here, ns since 1970 u64
//!   40  largest                                                u64
//!   48  flags: 1 = not complete: too much to carry over        u32
//!   52  bytes of the tables facts, sessions, texts, words      4 u32
//!   68  zeros                                                  52
//!   120 CRC32C of the tables                                   u32
//!   124 CRC32C of the 124 bytes before                         u32
//! facts     varint count, then for each, ascending by kind and value:
//!             u8 kind (see `FactKind`) | varint bytes | value | list of ordinals
//!             Ordinals of entries of no session that have it, and of all that have an SQLSTATE or a kind.
//!             Kinds that statements are made of (`intent`, `outcome`, `statement`, ...) are left out.
//! sessions  varint count, then for each session that has entries here or is still open at the end:
//!             id (16) | u8 flags: 1 open at the end, 2 its entries have no numbers one after the
//!             other, 4 its login is under way at the end
//!             varint seq of its first entry here
//!             varint 0, or 1 + first index of the segment before that has entries of it
//!             list of facts, as places in their table: of its start and of all its writers so far
//!             list of the seq of entries that name its writers
//!             list of ordinals of its entries, in the order of their seq
//!             with flag 2: varint seq of each of them
//!             when open, what later entries may refer to:
//!               varint count, then seq and text (place in their table) of each text, as varints
//!               varint count, then seq and text of each statement without an outcome, as varints
//! texts     varint count, then for each text: digest (16: first half of its SHA-256) | u8 flags: 1 = its
//!             words are not all known | list of ordinals of the statements that have it.
//!             A statement stands at its outcome, one without outcome in this segment at its intent.
//!             Text 0 stands for all texts that are not known.
//! words     u32 count, then for each word, ascending: FNV-1a hash u64 | place of its list u32, counted from
//!             behind the last of these; then the lists: texts that have the word
//! ```

mod build;
mod cursor;
mod facts;
pub mod synthetic;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;

pub use build::{Builder, TEXTS_CARRIED_MAX, build};
pub use facts::{Fact, FactKind, of_actor, of_errors, of_start};
pub use words::{WORD_BYTES_MAX, word_hash, words};

use cursor::Cursor;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 128;
/// Longest index that is read, in bytes.
pub const INDEX_BYTES_MAX: u64 = 256 << 20;
/// Most entries of a segment that is indexed.
pub const ENTRIES_MAX: u64 = 1 << 16;

const MAGIC: &[u8; 16] = b"pgward index 001";
const PARTIAL: u32 = 1;
const OPEN: u8 = 1;
const GAPS: u8 = 2;
const WAITING: u8 = 4;
const WORDS_UNKNOWN: u8 = 1;
const DIGEST_BYTES: usize = 16;
const WORD_ROW_BYTES: usize = 12;

/// Why an index can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file can't be read.
    #[error("cannot read it")]
    Io(#[from] io::Error),
    /// Too long to be one.
    #[error("too long for an index: found {0} bytes, expected at most {INDEX_BYTES_MAX}")]
    TooLong(u64),
    /// Too short, another kind of file, or another version.
    #[error("not a search index of this version")]
    Magic,
    /// The check sum does not fit.
    #[error("its check sum is wrong")]
    Crc,
    /// Its parts don't fit together.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// What the header says: enough to pass over a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Index of the segment's first entry.
    pub first: u64,
    /// Index behind its last.
    pub end: u64,
    /// Smallest time of what may be found, nanoseconds since 1970.
    pub time_min: u64,
    /// Largest.
    pub time_max: u64,
    /// There was too much to carry over: a search has to read the entries.
    pub partial: bool,
}

/// An index in memory, checked as far as nothing in it can lead astray.
pub struct Index {
    zone: Zone,
    body: Vec<u8>,
    facts: Vec<FactRow>,
    sessions: Vec<SessionRow>,
    by_id: HashMap<[u8; 16], usize>,
    texts: Vec<TextRow>,
    words: Range<usize>,
    word_lists: Range<usize>,
}

struct FactRow {
    fact: Fact,
    ordinals: usize,
}

struct TextRow {
    digest: [u8; DIGEST_BYTES],
    unknown: bool,
    ordinals: usize,
}

/// A session as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id.
    pub id: [u8; 16],
    /// It has not ended in this segment.
    pub open: bool,
    /// First index of the segment before that has entries of it.
    pub previous: Option<u64>,
    /// Its facts, as places in their table.
    facts: Vec<u32>,
    /// `seq` of the entries that name its writers.
    pub actors: Vec<u64>,
    /// What later entries may refer to as their text: `seq` and text.
    texts: Vec<(u64, u32)>,
    /// Statements without an outcome: `seq` and text.
    pending: Vec<(u64, u32)>,
    /// Its login is under way.
    waiting: bool,
    first_seq: u64,
    gaps: bool,
    ordinals: usize,
}

impl SessionRow {
    /// `seq` of the entries that later ones may refer to as their text.
    pub fn text_seqs(&self) -> impl Iterator<Item = u64> {
        self.texts.iter().map(|(seq, _)| *seq)
    }

    /// `seq` of the statements without an outcome.
    pub fn pending_seqs(&self) -> impl Iterator<Item = u64> {
        self.pending.iter().map(|(seq, _)| *seq)
    }
}

/// Reads only the header of an index.
pub fn read_zone(path: &Path) -> Result<Zone, IndexError> {
    let mut header = [0; HEADER_BYTES];
    File::open(path)?.read_exact(&mut header)?;
    decode_header(&header).map(|(zone, _, _)| zone)
}

impl Index {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, IndexError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length > INDEX_BYTES_MAX {
            return Err(IndexError::TooLong(length));
        }
        let mut bytes = Vec::new();
        file.take(INDEX_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Self::parse(bytes)
    }

    /// Checks an index.
    pub fn parse(mut bytes: Vec<u8>) -> Result<Self, IndexError> {
        let length = bytes.len() as u64;
        if length > INDEX_BYTES_MAX {
            return Err(IndexError::TooLong(length));
        }
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(IndexError::Magic)?;
        let (zone, lengths, crc) = decode_header(header)?;
        let body = bytes.split_off(HEADER_BYTES);
        if lengths.iter().map(|length| *length as usize).sum::<usize>() != body.len() {
            return Err(IndexError::Malformed("its tables have another length"));
        }
        if crc32c::crc32c(&body) != crc {
            return Err(IndexError::Crc);
        }
        let mut from = 0;
        let [facts, sessions, texts, words] = lengths.map(|length| {
            let part = from..from + length as usize;
            from = part.end;
            part
        });
        let entries = zone.end - zone.first;
        let fact_rows = facts_table(&body, facts)?;
        let text_rows = texts_table(&body, texts)?;
        let limits =
            Limits { entries, facts: fact_rows.len() as u64, texts: text_rows.len() as u64 };
        let session_rows = sessions_table(&body, sessions, limits)?;
        let (words, word_lists) = words_table(&body, words)?;
        let by_id = session_rows.iter().enumerate().map(|(at, row)| (row.id, at)).collect();
        Ok(Self {
            zone,
            facts: fact_rows,
            sessions: session_rows,
            by_id,
            texts: text_rows,
            words,
            word_lists,
            body,
        })
    }

    /// What the header says.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// Sessions with entries here or still open.
    pub fn sessions(&self) -> &[SessionRow] {
        &self.sessions
    }

    /// The session with an id.
    pub fn session(&self, id: &[u8; 16]) -> Option<&SessionRow> {
        self.by_id.get(id).map(|at| &self.sessions[*at])
    }

    /// Facts of a session.
    pub fn facts_of(&self, session: &SessionRow) -> impl Iterator<Item = &Fact> {
        session.facts.iter().map(|at| &self.facts[*at as usize].fact)
    }

    /// Ordinals of a session's entries, in their order.
    pub fn entries_of(&self, session: &SessionRow) -> Result<Vec<u32>, IndexError> {
        Cursor::new(&self.body[session.ordinals..]).list(self.entries())
    }

    /// Ordinals of a session's entries with the `seq` of each.
    pub fn seqs_of(&self, session: &SessionRow) -> Result<Vec<(u64, u32)>, IndexError> {
        let mut cursor = Cursor::new(&self.body[session.ordinals..]);
        let ordinals = cursor.list(self.entries())?;
        let mut seq = session.first_seq;
        let mut out = Vec::with_capacity(ordinals.len());
        for ordinal in ordinals {
            if session.gaps {
                seq = cursor.varint()?;
            }
            out.push((seq, ordinal));
            seq = seq.saturating_add(1);
        }
        Ok(out)
    }

    /// Which facts fit, as places in their table, ascending.
    pub fn facts_where(&self, fits: impl Fn(&Fact) -> bool) -> Vec<u32> {
        let fitting = self.facts.iter().enumerate().filter(|(_, row)| fits(&row.fact));
        fitting.map(|(at, _)| at as u32).collect()
    }

    /// Whether a session has one of `facts`, which ascend.
    pub fn has_one(&self, session: &SessionRow, facts: &[u32]) -> bool {
        session.facts.iter().any(|fact| facts.binary_search(fact).is_ok())
    }

    /// Ordinals of entries that have one of `facts` by themselves, ascending.
    pub fn entries_with(&self, facts: &[u32]) -> Result<Vec<u32>, IndexError> {
        let mut all = Vec::new();
        for at in facts {
            if let Some(row) = self.facts.get(*at as usize) {
                all.append(&mut Cursor::new(&self.body[row.ordinals..]).list(self.entries())?);
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Ordinals of statements whose texts may have all of these words, ascending.
    pub fn statements_with(&self, hashes: &[u64]) -> Result<Vec<u32>, IndexError> {
        let mut texts: Option<Vec<u32>> = None;
        for hash in hashes {
            let with = self.texts_with(*hash)?;
            texts = Some(match texts {
                None => with,
                Some(before) => intersection(&before, &with),
            });
        }
        let all = 0..self.texts.len() as u32;
        let unknown = all.clone().filter(|at| self.texts[*at as usize].unknown);
        let mut fitting: Vec<u32> = match texts {
            None => all.collect(),
            Some(texts) => texts.into_iter().chain(unknown).collect(),
        };
        fitting.sort_unstable();
        fitting.dedup();
        let mut ordinals = Vec::new();
        for text in fitting {
            let at = self.texts[text as usize].ordinals;
            ordinals.append(&mut Cursor::new(&self.body[at..]).list(self.entries())?);
        }
        ordinals.sort_unstable();
        ordinals.dedup();
        Ok(ordinals)
    }

    fn entries(&self) -> u64 {
        self.zone.end - self.zone.first
    }

    fn texts_with(&self, hash: u64) -> Result<Vec<u32>, IndexError> {
        let table = &self.body[self.words.clone()];
        let rows: &[[u8; WORD_ROW_BYTES]] = table.as_chunks().0;
        let Ok(at) = rows.binary_search_by_key(&hash, |row| be64(&row[..8])) else {
            return Ok(Vec::new());
        };
        let place = be32(&rows[at][8..]) as usize;
        let lists = self.body[self.word_lists.clone()].get(place..);
        let lists = lists.ok_or(IndexError::Malformed("a list of texts lies outside"))?;
        Cursor::new(lists).list(self.texts.len() as u64)
    }

    /// Every word with its texts.
    fn all_words(&self) -> Result<Vec<(u64, Vec<u32>)>, IndexError> {
        let table = &self.body[self.words.clone()];
        let rows: &[[u8; WORD_ROW_BYTES]] = table.as_chunks().0;
        rows.iter()
            .map(|row| be64(&row[..8]))
            .map(|hash| Ok((hash, self.texts_with(hash)?)))
            .collect()
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("zone", &self.zone).field("bytes", &self.body.len()).finish()
    }
}

/// What is in both; both ascend.
pub fn intersection(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut both = Vec::new();
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => drop(a.next()),
            std::cmp::Ordering::Greater => drop(b.next()),
            std::cmp::Ordering::Equal => {
                both.push(**x);
                a.next();
                b.next();
            }
        }
    }
    both
}

fn decode_header(header: &[u8; HEADER_BYTES]) -> Result<(Zone, [u32; 4], u32), IndexError> {
    if !header.starts_with(MAGIC) {
        return Err(IndexError::Magic);
    }
    if crc32c::crc32c(&header[..124]) != be32(&header[124..]) {
        return Err(IndexError::Crc);
    }
    let zone = Zone {
        first: be64(&header[16..]),
        end: be64(&header[24..]),
        time_min: be64(&header[32..]),
        time_max: be64(&header[40..]),
        partial: be32(&header[48..]) & PARTIAL != 0,
    };
    if zone.end.checked_sub(zone.first).is_none_or(|entries| entries > ENTRIES_MAX) {
        return Err(IndexError::Malformed("it has too many entries"));
    }
    let lengths = [52, 56, 60, 64].map(|at| be32(&header[at..]));
    Ok((zone, lengths, be32(&header[120..])))
}

fn facts_table(body: &[u8], part: Range<usize>) -> Result<Vec<FactRow>, IndexError> {
    let mut cursor = Cursor::new(&body[part.clone()]);
    let mut rows: Vec<FactRow> = Vec::new();
    for _ in 0..cursor.count()? {
        let kind = FactKind::from_number(cursor.byte()?);
        let kind = kind.ok_or(IndexError::Malformed("a fact of no known kind"))?;
        let length = cursor.count()?;
        let value = std::str::from_utf8(cursor.bytes(length)?)
            .map_err(|_| IndexError::Malformed("a fact that is no text"))?
            .to_owned();
        let ordinals = part.start + cursor.skip_list()?;
        rows.push(FactRow { fact: Fact { kind, value }, ordinals });
    }
    cursor.finish()?;
    Ok(rows)
}

#[derive(Clone, Copy)]
struct Limits {
    entries: u64,
    facts: u64,
    texts: u64,
}

fn sessions_table(
    body: &[u8],
    part: Range<usize>,
    limits: Limits,
) -> Result<Vec<SessionRow>, IndexError> {
    let mut cursor = Cursor::new(&body[part.clone()]);
    let mut rows: Vec<SessionRow> = Vec::new();
    for _ in 0..cursor.count()? {
        let mut id = [0; 16];
        id.copy_from_slice(cursor.bytes(16)?);
        let flags = cursor.byte()?;
        let (open, gaps) = (flags & OPEN != 0, flags & GAPS != 0);
        let first_seq = cursor.varint()?;
        let previous = cursor.varint()?.checked_sub(1);
        let facts = cursor.list(limits.facts)?;
        let actors = cursor.long_list()?;
        let at = cursor.at();
        let count = cursor.list(limits.entries)?.len();
        for _ in 0..if gaps { count } else { 0 } {
            cursor.varint()?;
        }
        let texts = if open { references(&mut cursor, limits.texts)? } else { Vec::new() };
        let pending = if open { references(&mut cursor, limits.texts)? } else { Vec::new() };
        let ordinals = part.start + at;
        rows.push(SessionRow {
            id,
            open,
            waiting: flags & WAITING != 0,
            previous,
            facts,
            actors,
            texts,
            pending,
            first_seq,
            gaps,
            ordinals,
        });
    }
    cursor.finish()?;
    Ok(rows)
}

fn references(cursor: &mut Cursor<'_>, texts: u64) -> Result<Vec<(u64, u32)>, IndexError> {
    let count = cursor.count()?;
    (0..count).map(|_| Ok((cursor.varint()?, cursor.below(texts)?))).collect()
}

fn texts_table(body: &[u8], part: Range<usize>) -> Result<Vec<TextRow>, IndexError> {
    let mut cursor = Cursor::new(&body[part.clone()]);
    let mut rows = Vec::new();
    for _ in 0..cursor.count()? {
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(cursor.bytes(DIGEST_BYTES)?);
        let unknown = cursor.byte()? & WORDS_UNKNOWN != 0;
        rows.push(TextRow { digest, unknown, ordinals: part.start + cursor.skip_list()? });
    }
    cursor.finish()?;
    Ok(rows)
}

fn words_table(
    body: &[u8],
    part: Range<usize>,
) -> Result<(Range<usize>, Range<usize>), IndexError> {
    let mut cursor = Cursor::new(&body[part.clone()]);
    let count = be32(cursor.bytes(4)?) as usize;
    cursor.bytes(count.saturating_mul(WORD_ROW_BYTES))?;
    let lists = part.start + cursor.at();
    Ok((part.start + 4..lists, lists..part.end))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes[..4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn be64(bytes: &[u8]) -> u64 {
    bytes[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
