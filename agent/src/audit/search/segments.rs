//! The segments of an epoch with their indices, and single entries of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgward_verify::pack::{BUNDLE_ENTRIES, Pack, split};
use pgward_verify::{Entries, Epoch, ReadError};

use super::SearchError;
use crate::audit::index::{Builder, Index, Zone, read_zone};

/// Indices from files that are kept in memory.
const INDICES_KEPT: usize = 64;
/// Opened segments that are kept.
const OPEN_KEPT: usize = 16;
/// Bundles of a pack that are kept.
const BUNDLES_KEPT: usize = 8;

/// Segments of one epoch.
pub struct Segments {
    epoch: Epoch,
    pieces: Vec<Piece>,
    indices: VecDeque<(usize, Arc<Index>)>,
    open: VecDeque<(usize, Open)>,
}

struct Piece {
    first: u64,
    zone: Option<Zone>,
    /// Of a segment without a file of it that can be used: made here.
    made: Option<Arc<Index>>,
}

enum Open {
    Pack { path: PathBuf, pack: Box<Pack>, bundles: VecDeque<(usize, Vec<Vec<u8>>)> },
    Log(Box<Entries>),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the log.
    pub index: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Segments {
    /// Looks at the indices of an epoch. Segments that have none are read, and indexed in memory;
    /// `progress` hears of each.
    pub fn open(epoch: &Epoch, mut progress: impl FnMut(u64)) -> Result<Self, SearchError> {
        let pieces = epoch.pieces().iter().map(|piece| {
            let zone = read_zone(&epoch.file(piece.first, "index")).ok();
            let zone = zone.filter(|zone| zone.first == piece.first);
            Piece { first: piece.first, zone, made: None }
        });
        let pieces = pieces.collect();
        let mut segments =
            Self { epoch: epoch.clone(), pieces, indices: VecDeque::new(), open: VecDeque::new() };
        for at in 0..segments.pieces.len() {
            if segments.pieces[at].zone.is_none() || segments.is_last_and_raw(at) {
                segments.make(at)?;
                progress(1);
            }
        }
        Ok(segments)
    }

    /// How many segments have no index that can be used, apart from the one that is being written.
    pub fn without_index(&self) -> usize {
        let finished = 0..self.pieces.len().saturating_sub(1);
        finished.filter(|at| self.pieces[*at].made.is_some()).count()
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The epoch.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Index behind the last entry.
    pub fn end(&self) -> u64 {
        self.pieces.last().and_then(|piece| piece.zone).map_or(0, |zone| zone.end)
    }

    /// What the header of an index says.
    pub fn zone(&self, at: usize) -> Result<Zone, SearchError> {
        let piece = &self.pieces[at];
        piece
            .zone
            .ok_or(SearchError::Read(ReadError::Missing { from: piece.first, to: piece.first }))
    }

    /// The segment that holds an entry.
    pub fn position(&self, index: u64) -> Option<usize> {
        let at = self.pieces.partition_point(|piece| piece.first <= index).checked_sub(1)?;
        self.pieces[at].zone.is_some_and(|zone| index < zone.end).then_some(at)
    }

    /// The index of a segment.
    pub fn index(&mut self, at: usize) -> Result<Arc<Index>, SearchError> {
        if let Some(made) = &self.pieces[at].made {
            return Ok(Arc::clone(made));
        }
        if let Some(kept) = self.indices.iter().position(|(of, _)| *of == at)
            && let Some(kept) = self.indices.remove(kept)
        {
            let index = Arc::clone(&kept.1);
            self.indices.push_front(kept);
            return Ok(index);
        }
        let first = self.pieces[at].first;
        let read = Index::read(&self.epoch.file(first, "index"));
        let fits = read.ok().filter(|index| Some(index.zone()) == self.pieces[at].zone);
        let Some(index) = fits.map(Arc::new) else { return self.make(at) };
        self.indices.push_front((at, Arc::clone(&index)));
        self.indices.truncate(INDICES_KEPT);
        Ok(index)
    }

    /// Ids of all sessions that fit, each once, ascending.
    pub fn sessions_where(
        &mut self,
        fits: impl Fn(&[u8; 16]) -> bool,
    ) -> Result<BTreeSet<[u8; 16]>, SearchError> {
        let mut ids = BTreeSet::new();
        for at in 0..self.len() {
            let index = self.index(at)?;
            ids.extend(index.sessions().iter().map(|row| row.id).filter(&fits));
        }
        Ok(ids)
    }

    /// Indices of all entries of a session, in their order.
    pub fn entries_of_session(&mut self, id: &[u8; 16]) -> Result<Vec<u64>, SearchError> {
        let mut all = Vec::new();
        for at in 0..self.len() {
            let index = self.index(at)?;
            let first = index.zone().first;
            let Some(row) = index.session(id) else { continue };
            let ordinals =
                index.entries_of(row).map_err(|source| SearchError::Index { first, source })?;
            all.extend(ordinals.into_iter().map(|ordinal| first + u64::from(ordinal)));
        }
        Ok(all)
    }

    /// An entry, if it is there.
    pub fn entry(&mut self, index: u64) -> Result<Option<Entry>, SearchError> {
        let Some(at) = self.position(index) else { return Ok(None) };
        match self.opened(at)? {
            Open::Log(entries) => {
                let record = entries.get(index)?;
                Ok(record.map(|record| Entry { index, bytes: record.bytes.to_owned() }))
            }
            Open::Pack { path, pack, bundles } => {
                let first = pack.header().first;
                let number = (index / BUNDLE_ENTRIES - first / BUNDLE_ENTRIES) as usize;
                let range = pack.range(number);
                if !bundles.iter().any(|(of, _)| *of == number) {
                    let entries = read_bundle(path, pack, number)?;
                    bundles.push_front((number, entries));
                    bundles.truncate(BUNDLES_KEPT);
                }
                let bundle = bundles.iter().find(|(of, _)| *of == number);
                let within = index.checked_sub(range.start).map(|within| within as usize);
                let bytes = bundle.zip(within).and_then(|((_, entries), at)| entries.get(at));
                Ok(bytes.map(|bytes| Entry { index, bytes: bytes.clone() }))
            }
        }
    }

    /// Writes the indices that were made here beside their segments, that of the last one only when it is
    /// packed. Gives their number.
    pub fn write_made(&mut self, mut progress: impl FnMut(u64)) -> Result<u64, SearchError> {
        let mut written = 0;
        for at in 0..self.pieces.len() {
            if self.pieces[at].made.is_none() || self.is_last_and_raw(at) {
                continue;
            }
            let bytes = self.build(at)?;
            self.write(at, &bytes)?;
            written += 1;
            progress(1);
        }
        Ok(written)
    }

    /// Forgets all indices that are there, and makes them anew.
    pub fn make_all(&mut self, mut progress: impl FnMut(u64)) -> Result<(), SearchError> {
        for at in 0..self.pieces.len() {
            self.make(at)?;
            progress(1);
        }
        Ok(())
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), SearchError> {
        let first = self.pieces[at].first;
        let path = self.epoch.file(first, "index");
        let new = self.epoch.file(first, "index.new");
        let failed = |path: &PathBuf| {
            let path = path.clone();
            move |source| SearchError::Write { path, source }
        };
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&new)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new();
        let mut file =
            file.write(true).create_new(true).mode(0o600).open(&new).map_err(failed(&new))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed(&new))?;
        fs::rename(&new, &path).map_err(failed(&path))
    }

    fn make(&mut self, at: usize) -> Result<Arc<Index>, SearchError> {
        let bytes = self.build(at)?;
        let first = self.pieces[at].first;
        let index = Index::parse(bytes).map_err(|source| SearchError::Index { first, source })?;
        let index = Arc::new(index);
        self.pieces[at].zone = Some(index.zone());
        self.pieces[at].made = Some(Arc::clone(&index));
        Ok(index)
    }

    fn build(&mut self, at: usize) -> Result<Vec<u8>, SearchError> {
        let previous = match at.checked_sub(1) {
            Some(before) => Some(self.index(before)?),
            None => None,
        };
        let piece = &self.epoch.pieces()[at];
        let (first, end) = (piece.first, self.epoch.pieces().get(at + 1).map(|next| next.first));
        let error = |source| SearchError::Index { first, source };
        let mut builder = Builder::new(previous.as_deref(), first).map_err(error)?;
        let mut entries = self.epoch.entries_from(first);
        // What is damaged behind is left out: what is before it can be found.
        while let Ok(Some(record)) = entries.next() {
            if end.is_some_and(|end| record.index >= end) || record.index != builder.next_index() {
                break;
            }
            // An entry that is none counts, and is found by nothing.
            let _ = builder.push(record.bytes);
        }
        builder.finish().map_err(error)
    }

    /// It may have grown since an index of it was made.
    fn is_last_and_raw(&self, at: usize) -> bool {
        at + 1 == self.pieces.len() && !self.epoch.pieces()[at].pack
    }

    fn opened(&mut self, at: usize) -> Result<&mut Open, SearchError> {
        match self.open.iter().position(|(of, _)| *of == at) {
            Some(0) => {}
            Some(place) => {
                let open = self.open.remove(place);
                self.open.extend(open);
                self.open.rotate_right(1);
            }
            None => {
                let piece = &self.epoch.pieces()[at];
                let open = if piece.pack {
                    let path = self.epoch.file(piece.first, "pack");
                    let pack = Box::new(Pack::open(&path)?);
                    Open::Pack { path, pack, bundles: VecDeque::new() }
                } else {
                    Open::Log(Box::new(self.epoch.entries_from(piece.first)))
                };
                self.open.push_front((at, open));
                self.open.truncate(OPEN_KEPT);
            }
        }
        let open = self.open.front_mut().expect("one was just put in front");
        Ok(&mut open.1)
    }
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments").field("pieces", &self.pieces.len()).finish()
    }
}

fn read_bundle(path: &Path, pack: &mut Pack, number: usize) -> Result<Vec<Vec<u8>>, SearchError> {
    let range = pack.range(number);
    let offset = pack.lines().get(number).map_or(0, |line| line.offset);
    let bundle = match number < pack.lines().len() {
        true => pack.bundle(number),
        false => return Ok(Vec::new()),
    };
    let entries = match bundle {
        Ok((plain, true)) => split(plain, range.end - range.start)
            .map(|entries| entries.map(<[u8]>::to_vec).collect::<Vec<_>>())
            .map_err(|bad| bad.to_string()),
        Ok((_, false)) => Err("its check sum is wrong".to_owned()),
        Err(bad) => Err(bad.to_string()),
    };
    let path = path.to_owned();
    entries.map_err(|what| SearchError::Read(ReadError::Damaged { path, offset, what }))
}

/// `seq` and ordinal of each entry of a session in a segment.
type OfSegment = Arc<[(u64, u32)]>;

/// Places of the entries of a session, by their `seq`, over all segments.
#[derive(Debug, Default)]
pub(super) struct Places {
    of: HashMap<([u8; 16], usize), OfSegment>,
}

impl Places {
    /// Those in one segment; `None` when the session has no row in its index.
    pub(super) fn at(
        &mut self,
        segments: &mut Segments,
        at: usize,
        id: &[u8; 16],
    ) -> Result<Option<OfSegment>, SearchError> {
        if let Some(places) = self.of.get(&(*id, at)) {
            return Ok(Some(Arc::clone(places)));
        }
        let index = segments.index(at)?;
        let first = index.zone().first;
        let Some(row) = index.session(id) else { return Ok(None) };
        let seqs = index.seqs_of(row).map_err(|source| SearchError::Index { first, source })?;
        let places: OfSegment = seqs.into();
        self.of.insert((*id, at), Arc::clone(&places));
        Ok(Some(places))
    }
}
