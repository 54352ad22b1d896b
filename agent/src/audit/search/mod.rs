//! Finding things in a trail without reading all of it.
//!
//! A [`Query`] is answered segment by segment, the newest first. The index of a segment
//! ([`index`](super::index)) says which of its entries may be meant; `gather` reads these and what they
//! refer to, [`Assembler`] puts them together, and [`Query::fits`] decides. So an index can be wrong
//! and cost time, but it never makes something up. A segment without an index, such as the one that is
//! being written, is read once and indexed in memory.

mod assemble;
mod gather;
mod query;
mod segments;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use pgward_verify::ReadError;

use super::index::{Fact, FactKind, Index, IndexError, intersection};
use super::view::{Object, ViewError};

pub use assemble::{Assembler, SessionFacts};
pub use gather::{Key, context};
pub use query::{Process, Query, Relation, Session, SqlState, Want, Words, time};
pub use segments::{Entry, Segments};

/// Candidates that are read together: bounds memory, and what is read in vain behind the last row.
const CHUNK: usize = 4096;

/// Something that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Epoch it is of.
    pub epoch: u64,
    /// Index of the entry that completed it.
    pub index: u64,
    /// It, as [`Joined`](super::view::Joined) makes it.
    pub object: Object,
    /// Its session, as far as that is known.
    pub session: Option<Arc<SessionFacts>>,
}

/// Why a search stopped.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A segment can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An index can't be made.
    #[error("cannot index the segment of entry {first}")]
    Index {
        /// Its first index.
        first: u64,
        /// Why.
        source: IndexError,
    },
    /// An index can't be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// From the system.
        source: std::io::Error,
    },
    /// An entry is none.
    #[error("cannot read entry {index}")]
    Entry {
        /// Which.
        index: u64,
        /// Why.
        source: ViewError,
    },
}

/// What a search came to.
#[derive(Debug, Default)]
pub struct Answer {
    /// The newest of what fits, in the order of the log.
    pub found: Vec<Found>,
    /// Index behind the last entry that was looked at.
    pub end: u64,
    /// What could not be read. The rest was searched.
    pub unread: Vec<SearchError>,
}

/// Searches an epoch; gives the newest `rows_max` of what fits. `progress` hears of each segment that
/// is done.
pub fn search(
    segments: &mut Segments,
    query: &Query,
    rows_max: usize,
    mut progress: impl FnMut(u64),
) -> Answer {
    let mut answer = Answer { end: segments.end(), ..Answer::default() };
    let mut rows: BTreeMap<(u64, usize), Found> = BTreeMap::new();
    let mut seen: HashSet<Key> = HashSet::new();
    for at in (0..segments.len()).rev() {
        if rows.len() >= rows_max {
            break;
        }
        if let Err(error) = search_segment(segments, at, query, rows_max, &mut rows, &mut seen) {
            answer.unread.push(error);
        }
        progress(1);
    }
    let surplus = rows.len().saturating_sub(rows_max);
    answer.found = rows.into_values().skip(surplus).collect();
    answer
}

fn search_segment(
    segments: &mut Segments,
    at: usize,
    query: &Query,
    rows_max: usize,
    rows: &mut BTreeMap<(u64, usize), Found>,
    seen: &mut HashSet<Key>,
) -> Result<(), SearchError> {
    let zone = segments.zone(at)?;
    let early = query.since.is_some_and(|since| zone.time_max < since);
    if !zone.partial && (early || query.until.is_some_and(|until| zone.time_min >= until)) {
        return Ok(());
    }
    let index = segments.index(at)?;
    let first = zone.first;
    let error = |source| SearchError::Index { first, source };
    let candidates = match zone.partial {
        true => (0..(zone.end - zone.first) as u32).collect(),
        false => candidates(&index, query).map_err(error)?,
    };
    for chunk in candidates.rchunks(CHUNK) {
        if rows.len() >= rows_max {
            return Ok(());
        }
        for (key, found) in gather::gather(segments, at, &index, chunk)? {
            if !seen.contains(&key) && query.fits(&found) {
                let place = (found.index, rows.len());
                seen.insert(key);
                rows.insert(place, found);
            }
        }
    }
    Ok(())
}

/// Ordinals of the entries that may be what is searched for, or part of it; ascending.
fn candidates(index: &Index, query: &Query) -> Result<Vec<u32>, IndexError> {
    let mut all: Option<Vec<u32>> = None;
    let mut narrow = |with: Vec<u32>| {
        all = Some(match all.take() {
            None => with,
            Some(before) => intersection(&before, &with),
        });
    };
    // Kinds of which the index has no list are those of statements.
    let events = &query.events;
    if !events.is_empty() && !events.iter().any(|event| event == "statement") {
        let fits = |fact: &Fact| fact.kind == FactKind::Event && events.contains(&fact.value);
        narrow(index.entries_with(&index.facts_where(fits))?);
    }
    let hashes = query.word_hashes();
    if !hashes.is_empty() {
        narrow(index.statements_with(&hashes)?);
    }
    for want in query.facts() {
        let facts = index.facts_where(|fact| want.fits(fact));
        let mut ordinals = index.entries_with(&facts)?;
        for session in index.sessions() {
            if index.has_one(session, &facts) {
                ordinals.append(&mut index.entries_of(session)?);
            }
        }
        ordinals.sort_unstable();
        ordinals.dedup();
        narrow(ordinals);
    }
    if let Some(wanted) = &query.session {
        let mut ordinals = Vec::new();
        for session in index.sessions().iter().filter(|session| wanted.fits(&session.id)) {
            ordinals.append(&mut index.entries_of(session)?);
        }
        ordinals.sort_unstable();
        narrow(ordinals);
    }
    let zone = index.zone();
    Ok(all.unwrap_or_else(|| (0..(zone.end - zone.first) as u32).collect()))
}
