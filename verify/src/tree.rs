//! The tree recomputed from the entries, and what claims to know its roots.
//!
//! Claims come in two strengths. *Marks* (headers, trailers, ends) are unsigned: they locate
//! careless damage. *Signed* claims (seals, checkpoints, anchors) cannot be made to fit by who
//! edits files. Each claim is compared at its size; the last size at which each kind held and the
//! first at which it did not bound what was changed.
//!
//! Where a claim does not hold, stored tile hashes are tried in place of the hashes of the
//! entries since the last claim that held. If the claim holds then, the entries that differ from
//! their tile hashes are the altered ones, and checking goes on with the tree as it was.

mod repair;
mod report;

use crate::cbor::{Malformed, SessionId};
use crate::findings::{Class, Finding, Findings};
use crate::merkle::{Edge, Hash};
use crate::tiles::Tiles;

/// Most leaves that are remembered for a repair.
const PENDING_MAX: usize = 1 << 18;
/// Most entries between two claims for which exchanges and removals are tried one by one.
const TRIED_MAX: usize = 48;
/// Most suspicions that are kept.
const SUSPECTS_MAX: usize = 10_000;

/// A place in one of the files of the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Number of the file in [`Tree::files`].
    pub(crate) file: u32,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Who claims to know a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Header,
    Trailer,
    End,
    PackBefore,
    PackAfter,
    /// An entry that names the last good root: recovery or start of an epoch.
    Entry,
    Seal,
    Checkpoint,
    Anchor,
}

impl Who {
    fn signed(self) -> Option<usize> {
        match self {
            Self::Seal => Some(0),
            Self::Checkpoint => Some(1),
            Self::Anchor => Some(2),
            Self::Header
            | Self::Trailer
            | Self::End
            | Self::PackBefore
            | Self::PackAfter
            | Self::Entry => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Header => "the header of a segment",
            Self::Trailer => "a trailer",
            Self::End => "the end of a segment",
            Self::PackBefore => "the header of a packed segment (root before it)",
            Self::PackAfter => "the header of a packed segment (root behind it)",
            Self::Entry => "an entry that names a root",
            Self::Seal => "a seal",
            Self::Checkpoint => "a signed checkpoint",
            Self::Anchor => "an anchored checkpoint",
        }
    }
}

/// A claim: at the present size the tree has this root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) who: Who,
    pub(crate) root: Hash,
    /// Number of the trailer or seal.
    pub(crate) number: u64,
    pub(crate) spot: Option<Spot>,
}

/// A leaf since the last signed claim that held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) hash: Hash,
    pub(crate) session: Option<SessionId>,
    pub(crate) spot: Spot,
}

/// What is odd about an entry by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odd {
    /// The check sum of its frame or bundle is wrong.
    pub(crate) damaged: bool,
    pub(crate) malformed: Option<Malformed>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    index: u64,
    leaf: Leaf,
    odd: Odd,
}

/// Claims that did not hold since the last one that did.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    first: Claim,
    first_size: u64,
    last_size: u64,
    count: u64,
}

/// Signed claims of one kind: where they held last, and where they did not first.
#[derive(Clone, Copy, Debug, Default)]
struct Signed {
    held: u64,
    held_number: Option<u64>,
    broken: Option<(u64, Claim, u64)>,
}

pub(crate) struct Tree {
    tiles: Tiles,
    files: Vec<String>,
    edge: Edge,
    /// The tree at the last mark that held.
    marked: Edge,
    /// The tree at the last signed claim that held.
    signed: Edge,
    /// Leaves from `pending_from` on.
    pending: Vec<Leaf>,
    pending_from: u64,
    suspects: Vec<Suspect>,
    /// Level and number of tile hashes that differ from the computed ones.
    tile_doubts: Vec<(usize, u64)>,
    doubt: Option<Doubt>,
    kinds: [Signed; 3],
    index: u64,
    /// From here on roots cannot be computed.
    blind: Option<u64>,
}

impl Tree {
    pub(crate) fn new(tiles: Tiles) -> Self {
        Self {
            tiles,
            files: Vec::new(),
            edge: Edge::default(),
            marked: Edge::default(),
            signed: Edge::default(),
            pending: Vec::new(),
            pending_from: 0,
            suspects: Vec::new(),
            tile_doubts: Vec::new(),
            doubt: None,
            kinds: [Signed::default(); 3],
            index: 0,
            blind: None,
        }
    }

    /// Index of the next entry.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Root of the entries so far, unless entries are missing.
    pub(crate) fn root(&self) -> Option<Hash> {
        self.blind.is_none().then(|| self.edge.root())
    }

    /// Size up to which signed claims held.
    pub(crate) fn signed_size(&self) -> u64 {
        self.signed.size()
    }

    pub(crate) fn reach_of_tiles(&self, level: usize) -> u64 {
        self.tiles.reach(level)
    }

    pub(crate) fn has_tile_of(&mut self, index: u64) -> bool {
        self.tiles.hash(0, index).is_some()
    }

    /// Gives a file a number for spots.
    pub(crate) fn file(&mut self, name: String) -> u32 {
        self.files.push(name);
        (self.files.len() - 1) as u32
    }

    pub(crate) fn place(&self, finding: Finding, spot: Spot) -> Finding {
        match self.files.get(spot.file as usize) {
            Some(file) => finding.file(file.clone()).bytes(spot.offset, spot.length),
            None => finding,
        }
    }

    /// Appends the next entry.
    pub(crate) fn push(&mut self, leaf: Leaf, odd: Option<Odd>) {
        let index = self.index;
        self.index += 1;
        if let Some(odd) = odd
            && self.suspects.len() < SUSPECTS_MAX
        {
            self.suspects.push(Suspect { index, leaf, odd });
        }
        if self.blind.is_some() {
            if self.tiles.hash(0, index).is_some_and(|stored| stored != leaf.hash) {
                self.note_tile_doubt(0, index);
            }
        } else {
            self.grow(0, leaf.hash);
        }
        if self.pending.len() == PENDING_MAX {
            self.pending.drain(..PENDING_MAX / 2);
            self.pending_from += PENDING_MAX as u64 / 2;
        }
        self.pending.push(leaf);
    }

    fn grow(&mut self, level: u32, root: Hash) {
        let Self { edge, tiles, tile_doubts, .. } = self;
        edge.push_watched(level, root, |level, number, root| {
            if level.is_multiple_of(8) {
                let level = (level / 8) as usize;
                if tiles.hash(level, number).is_some_and(|stored| stored != *root)
                    && tile_doubts.len() < SUSPECTS_MAX
                {
                    tile_doubts.push((level, number));
                }
            }
        });
    }

    fn note_tile_doubt(&mut self, level: usize, number: u64) {
        if self.tile_doubts.len() < SUSPECTS_MAX {
            self.tile_doubts.push((level, number));
        }
    }

    /// Goes on behind entries that are not there, with tile hashes in their place where they are
    /// stored. Returns whether the tree could be continued.
    pub(crate) fn skip_to(&mut self, index: u64) -> bool {
        while self.blind.is_none() && self.edge.size() < index {
            let size = self.edge.size();
            let stored = (0..8u32).rev().find_map(|level| {
                let width = 1u64 << (8 * level);
                let fits = size.is_multiple_of(width) && width <= index - size;
                let hash = fits.then(|| self.tiles.hash(level as usize, size / width)).flatten();
                hash.map(|hash| (level, hash))
            });
            match stored {
                Some((level, hash)) => self.grow(8 * level, hash),
                None => self.blind = Some(size),
            }
        }
        self.index = index;
        self.pending.clear();
        self.pending_from = index;
        self.blind.is_none()
    }

    /// Goes on behind missing entries with the roots of complete subtrees that the next segment
    /// names. They prove nothing by themselves; the next signed claim does.
    pub(crate) fn resume(&mut self, index: u64, roots: &[Hash]) -> bool {
        let mut edge = Edge::default();
        let mut roots = roots.iter();
        for level in (0..u64::BITS).rev().filter(|level| index >> level & 1 == 1) {
            let Some(root) = roots.next() else { return false };
            if !edge.push_subtree(level, *root) {
                return false;
            }
        }
        if roots.next().is_some() || edge.size() != index {
            return false;
        }
        self.edge = edge;
        self.index = index;
        self.blind = None;
        self.doubt = None;
        self.pending.clear();
        self.pending_from = index;
        true
    }

    /// Compares a claim about the present size. Whether nothing contradicts it: it holds, or
    /// holds once what was altered is put right, or too much is missing to tell.
    pub(crate) fn claim(&mut self, claim: Claim, findings: &mut Findings) -> bool {
        if self.blind.is_some() {
            return true;
        }
        let size = self.edge.size();
        if self.edge.root() == claim.root {
            self.held(claim, findings);
            return true;
        }
        let few = self.doubt.is_none_or(|doubt| doubt.count < 64);
        let attempts = [few, claim.who.signed().is_some()];
        for (worth, from) in attempts.into_iter().zip([self.marked.clone(), self.signed.clone()]) {
            if worth && self.repair(&from, size, &claim.root, findings) {
                self.held(claim, findings);
                return true;
            }
        }
        if self.doubt.is_none() && self.exchange(&claim.root, findings) {
            self.held(claim, findings);
            return true;
        }
        if let Some(kind) = claim.who.signed() {
            let broken = &mut self.kinds[kind].broken;
            match broken {
                Some(broken) => broken.2 += 1,
                None => *broken = Some((size, claim, 0)),
            }
            return false;
        }
        match &mut self.doubt {
            Some(doubt) => {
                doubt.last_size = size;
                doubt.count += 1;
            }
            None => {
                self.doubt =
                    Some(Doubt { first: claim, first_size: size, last_size: size, count: 1 });
            }
        }
        false
    }

    /// A trailer names a size that is not the number of entries before it.
    pub(crate) fn claim_of_other_size(&mut self, size: u64, claim: Claim, findings: &mut Findings) {
        let from = self.marked.size();
        let found = self.index;
        let base = from.saturating_sub(self.pending_from) as usize;
        let have: Vec<Leaf> = self.pending.get(base..).unwrap_or_default().to_vec();
        if self.blind.is_none() && size > from && self.pending_from <= from {
            let stored: Option<Vec<Hash>> = ((size - from) <= PENDING_MAX as u64)
                .then(|| (from..size).map(|index| self.tiles.hash(0, index)).collect())
                .flatten();
            if let Some(stored) = stored {
                let mut edge = self.marked.clone();
                stored.iter().for_each(|hash| edge.push(*hash));
                if edge.root() == claim.root {
                    self.compare(from, &stored, &have, findings);
                    self.adopt(edge, from);
                    self.held(claim, findings);
                    return;
                }
            }
            if let Some(at) = self.superfluous(size, &have, &claim.root) {
                let leaf = have[at];
                let sentence = format!(
                    "a record was added behind record {}: without it the tree is the one that {} \
                     names",
                    (from + at as u64).saturating_sub(1),
                    claim.who.name()
                );
                let index = from + at as u64;
                let finding = Finding::new(Class::EntriesAdded, sentence)
                    .entries(index, index + 1)
                    .sessions(leaf.session.iter());
                findings.add(self.place(finding, leaf.spot));
                let mut edge = self.marked.clone();
                let rest = have.iter().enumerate().filter(|(number, _)| *number != at);
                rest.for_each(|(_, leaf)| edge.push(leaf.hash));
                self.adopt(edge, from);
                self.held(claim, findings);
                return;
            }
        }
        let (class, what) = if size > found {
            (Class::EntriesMissing, format!("{} records were removed", size - found))
        } else {
            (Class::EntriesAdded, format!("{} records were added", found - size))
        };
        let sentence = format!(
            "{what} between record {from} and record {size}: {} names {size} records, {found} are \
             there",
            claim.who.name()
        );
        let finding = Finding::new(class, sentence)
            .entries(from, size.max(found))
            .sessions(have.iter().filter_map(|leaf| leaf.session.as_ref()));
        findings.add(match claim.spot {
            Some(spot) => self.place(finding, spot),
            None => finding,
        });
        self.blind = self.blind.or(Some(from));
        self.index = size;
        self.pending.clear();
        self.pending_from = size;
    }

    fn adopt(&mut self, edge: Edge, from: u64) {
        self.edge = edge;
        self.index = self.edge.size();
        self.suspects.retain(|suspect| suspect.index < from);
        self.tile_doubts.retain(|doubt| !doubt_lies_behind(*doubt, from));
        self.pending.clear();
        self.pending_from = self.index;
    }

    fn held(&mut self, claim: Claim, findings: &mut Findings) {
        let size = self.edge.size();
        if let Some(doubt) = self.doubt.take() {
            let others = if doubt.count > 1 {
                format!(" and {} more up to size {}", doubt.count - 1, doubt.last_size)
            } else {
                String::new()
            };
            let sentence = format!(
                "{} names another root at size {}{others}, but {} at size {size} holds: the mark \
                 was altered, the records before it were not",
                doubt.first.who.name(),
                doubt.first_size,
                claim.who.name()
            );
            let finding = Finding::new(Class::MarkAltered, sentence)
                .entries(doubt.first_size, doubt.last_size.max(doubt.first_size));
            findings.add(match doubt.first.spot {
                Some(spot) => self.place(finding, spot),
                None => finding,
            });
        }
        for suspect in std::mem::take(&mut self.suspects) {
            self.innocent(&suspect, findings);
        }
        if let Some(kind) = claim.who.signed() {
            self.kinds[kind].held = size;
            self.kinds[kind].held_number = Some(claim.number);
            self.report_tile_doubts(findings);
            self.signed.clone_from(&self.edge);
            self.pending.clear();
            self.pending_from = self.index;
        }
        self.marked.clone_from(&self.edge);
    }
}

/// Whether a tile hash covers only leaves from `from` on.
fn doubt_lies_behind((level, number): (usize, u64), from: u64) -> bool {
    number.checked_mul(1 << (8 * level)).is_some_and(|start| start >= from)
        || (number + 1).checked_mul(1 << (8 * level)).is_none_or(|end| end > from)
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
