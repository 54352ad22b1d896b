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

use std::collections::HashMap;

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

    /// An odd entry that is the one the tree holds.
    fn innocent(&self, suspect: &Suspect, findings: &mut Findings) {
        let Suspect { index, leaf, odd } = suspect;
        let finding = match odd {
            Odd { malformed: Some(malformed), .. } => Finding::new(
                Class::EntryMalformed,
                format!(
                    "record {index} is no canonical entry ({malformed}), and the tree holds it so: \
                     it was written by something other than pgward"
                ),
            ),
            Odd { malformed: None, damaged: _ } => Finding::new(
                Class::FrameDamaged,
                format!(
                    "the check sum of record {index} is wrong, but the record is the one that the \
                     tree holds: bit rot or a careless edit of the frame around it"
                ),
            ),
        };
        let finding = finding.entries(*index, index + 1).sessions(leaf.session.iter());
        findings.add(self.place(finding, leaf.spot));
    }

    fn report_tile_doubts(&mut self, findings: &mut Findings) {
        for (level, number) in std::mem::take(&mut self.tile_doubts) {
            let width = 1u64 << (8 * level);
            let sentence = format!(
                "hash {number} of level {level} in the stored tiles is not the one that follows \
                 from the records, whose root holds: the tile was altered"
            );
            let path = crate::tiles::path(level, number / 256);
            let finding = Finding::new(Class::TileAltered, sentence)
                .entries(number * width, (number + 1) * width)
                .file(format!("tile/{path}"))
                .bytes(number % 256 * 32, 32);
            findings.add(finding);
        }
    }

    /// Tries stored tile hashes in place of the leaves since `from`.
    fn repair(&mut self, from: &Edge, size: u64, root: &Hash, findings: &mut Findings) -> bool {
        if self.pending_from > from.size() || size - from.size() > PENDING_MAX as u64 {
            return false;
        }
        let base = (from.size() - self.pending_from) as usize;
        let have: Vec<Leaf> = self.pending[base..].to_vec();
        let mut differs = false;
        let mut hashes = Vec::with_capacity(have.len());
        for (leaf, index) in have.iter().zip(from.size()..) {
            let stored = self.tiles.hash(0, index).unwrap_or(leaf.hash);
            differs |= stored != leaf.hash;
            hashes.push(stored);
        }
        if !differs {
            return false;
        }
        let mut edge = from.clone();
        hashes.iter().for_each(|hash| edge.push(*hash));
        if edge.root() != *root {
            return false;
        }
        self.compare(from.size(), &hashes, &have, findings);
        // Marks that did not hold meanwhile are explained by what was found.
        if self.doubt.is_some_and(|doubt| doubt.first_size > from.size()) {
            self.doubt = None;
        }
        let pending = have.iter().zip(&hashes).map(|(leaf, hash)| Leaf { hash: *hash, ..*leaf });
        let pending: Vec<Leaf> = pending.collect();
        self.adopt(edge, from.size());
        self.pending_from = from.size();
        self.pending = pending;
        true
    }

    /// Tries each exchange of two entries since the last mark.
    fn exchange(&mut self, root: &Hash, findings: &mut Findings) -> bool {
        let from = self.marked.size();
        if self.pending_from > from {
            return false;
        }
        let mut have: Vec<Leaf> = self.pending[(from - self.pending_from) as usize..].to_vec();
        if have.len() > TRIED_MAX {
            return false;
        }
        for one in 0..have.len() {
            for other in one + 1..have.len() {
                have.swap(one, other);
                let mut edge = self.marked.clone();
                have.iter().for_each(|leaf| edge.push(leaf.hash));
                if edge.root() == *root {
                    let (first, second) = (from + one as u64, from + other as u64);
                    let sentence = format!(
                        "records {first} and {second} were exchanged: the other way round the tree \
                         is the one that was named"
                    );
                    let sessions = [have[one].session, have[other].session];
                    let finding = Finding::new(Class::EntriesMoved, sentence)
                        .entries(first, second + 1)
                        .sessions(sessions.iter().flatten());
                    findings.add(self.place(finding, have[other].spot));
                    self.adopt(edge, from);
                    return true;
                }
                have.swap(one, other);
            }
        }
        false
    }

    /// The entry without which the rest has the root, if it is the only one too many.
    fn superfluous(&self, size: u64, have: &[Leaf], root: &Hash) -> Option<usize> {
        let from = self.marked.size();
        if have.len() as u64 != size - from + 1 || have.len() > 4 * TRIED_MAX {
            return None;
        }
        // The later of two equal entries is the copy.
        (0..have.len()).rev().find(|left_out| {
            let mut edge = self.marked.clone();
            let rest = have.iter().enumerate().filter(|(number, _)| number != left_out);
            rest.for_each(|(_, leaf)| edge.push(leaf.hash));
            edge.root() == *root
        })
    }

    /// Says what differs between the leaves the tree holds from `base` on and those found.
    fn compare(&self, base: u64, expected: &[Hash], found: &[Leaf], findings: &mut Findings) {
        let mut balance: HashMap<Hash, i64> = HashMap::new();
        expected.iter().for_each(|hash| *balance.entry(*hash).or_default() += 1);
        found.iter().for_each(|leaf| *balance.entry(leaf.hash).or_default() -= 1);
        if expected.len() == found.len() {
            let differs = |at: &usize| expected[*at] != found[*at].hash;
            let at: Vec<usize> = (0..found.len()).filter(differs).collect();
            if let (Some(first), Some(last), true) =
                (at.first(), at.last(), balance.values().all(|count| *count == 0))
            {
                let (from, to) = (base + *first as u64, base + *last as u64 + 1);
                let sentence = format!("records {from} to {} were put in another order", to - 1);
                let finding = Finding::new(Class::EntriesMoved, sentence)
                    .entries(from, to)
                    .sessions(at.iter().filter_map(|at| found[*at].session.as_ref()));
                findings.add(self.place(finding, found[*first].spot));
                return;
            }
            for at in at {
                self.altered(base + at as u64, &found[at], findings);
            }
            return;
        }
        // Positions in the common order of what is left after equal ends are cut off.
        for (at, hash) in expected.iter().enumerate() {
            let count = balance.get_mut(hash);
            if let Some(count) = count.filter(|count| **count > 0) {
                *count -= 1;
                let index = base + at as u64;
                let sentence =
                    format!("record {index} was removed: its hash is in the tree, it is not");
                findings
                    .add(Finding::new(Class::EntriesMissing, sentence).entries(index, index + 1));
            }
        }
        for (at, leaf) in found.iter().enumerate().rev() {
            let count = balance.get_mut(&leaf.hash);
            if let Some(count) = count.filter(|count| **count < 0) {
                *count += 1;
                let index = base + at as u64;
                let sentence = format!("a record was added at place {index}: the tree has it not");
                let finding = Finding::new(Class::EntriesAdded, sentence)
                    .entries(index, index + 1)
                    .sessions(leaf.session.iter());
                findings.add(self.place(finding, leaf.spot));
            }
        }
    }

    fn altered(&self, index: u64, leaf: &Leaf, findings: &mut Findings) {
        let odd = self.suspects.iter().find(|suspect| suspect.index == index);
        let how = match odd.map(|suspect| suspect.odd) {
            Some(Odd { damaged: true, .. }) => {
                "its check sum is wrong too: bit rot or a careless edit".to_owned()
            }
            Some(Odd { malformed: Some(malformed), .. }) => format!(
                "its check sum was made to fit: a deliberate edit, and no entry any more \
                 ({malformed})"
            ),
            Some(Odd { damaged: false, malformed: None }) | None => {
                "its check sum was made to fit: a deliberate edit".to_owned()
            }
        };
        let sentence = format!("record {index} was altered: the tree holds another hash; {how}");
        let mut finding = Finding::new(Class::EntryAltered, sentence)
            .entries(index, index + 1)
            .sessions(leaf.session.iter());
        finding.trusted_before = Some(self.signed.size()).filter(|size| *size > 0);
        findings.add(self.place(finding, leaf.spot));
    }

    /// Says what is still open at the end of the log.
    pub(crate) fn finish(&mut self, findings: &mut Findings) {
        let suspects = std::mem::take(&mut self.suspects);
        if let Some(doubt) = self.doubt.take() {
            self.report_doubt(&doubt, &suspects, findings);
        } else {
            for suspect in &suspects {
                // Behind the last claim nothing says what the entry was.
                self.altered_or_damaged(suspect, findings);
            }
        }
        self.report_signed(findings);
        self.report_tile_doubts(findings);
    }

    fn altered_or_damaged(&self, suspect: &Suspect, findings: &mut Findings) {
        let Suspect { index, leaf, odd } = suspect;
        let how = match odd {
            Odd { damaged: true, .. } => {
                "its check sum is wrong: bit rot or a careless edit".into()
            }
            Odd { malformed: Some(malformed), .. } => {
                format!("its check sum fits, but it is no entry ({malformed}): a deliberate edit")
            }
            Odd { damaged: false, malformed: None } => String::new(),
        };
        let finding =
            Finding::new(Class::EntryAltered, format!("record {index} was altered: {how}"))
                .entries(*index, index + 1)
                .sessions(leaf.session.iter());
        findings.add(self.place(finding, leaf.spot));
    }

    /// The entries up to a mark do not lead to its root, and nothing tells them apart.
    fn report_doubt(&mut self, doubt: &Doubt, suspects: &[Suspect], findings: &mut Findings) {
        let (mut from, mut to) = (self.marked.size(), doubt.first_size);
        for suspect in suspects {
            self.altered_or_damaged(suspect, findings);
        }
        let mut exact = false;
        for (level, number) in std::mem::take(&mut self.tile_doubts) {
            let width = 1u64 << (8 * level);
            let (start, end) = (number * width, (number + 1) * width);
            if level == 0 && start >= from {
                exact = true;
                let at = start.checked_sub(self.pending_from).map(|at| at as usize);
                match at.and_then(|at| self.pending.get(at)).copied() {
                    Some(leaf) => self.altered(start, &leaf, findings),
                    None => findings.add(
                        Finding::new(
                            Class::EntryAltered,
                            format!("record {start} was altered: its tile holds another hash"),
                        )
                        .entries(start, end),
                    ),
                }
            } else if start < to && end > from {
                (from, to) = (from.max(start), to.min(end));
            }
        }
        let base = from.checked_sub(self.pending_from).map(|base| base as usize);
        let end = to.saturating_sub(self.pending_from) as usize;
        let touched = base.and_then(|base| self.pending.get(base..end)).unwrap_or_default();
        let named = if exact || !suspects.is_empty() {
            "; the records named above explain it"
        } else {
            ": at least one of them was altered"
        };
        let sentence = format!(
            "records {from} to {} do not lead to the root that {} names at size {}{named}",
            to.saturating_sub(1),
            doubt.first.who.name(),
            doubt.first_size
        );
        let mut finding = Finding::new(Class::RootMismatch, sentence)
            .entries(from, to)
            .sessions(touched.iter().filter_map(|leaf| leaf.session.as_ref()));
        finding.trusted_before = Some(self.signed.size()).filter(|size| *size > 0);
        finding.checked_behind = Some(doubt.first_size);
        findings.add(match doubt.first.spot {
            Some(spot) => self.place(finding, spot),
            None => finding,
        });
    }

    fn report_signed(&self, findings: &mut Findings) {
        for (kind, who) in self.kinds.iter().zip([Who::Seal, Who::Checkpoint, Who::Anchor]) {
            let Some((size, claim, more)) = kind.broken else { continue };
            let found = hex::encode(self.edge.root());
            let more = if more > 0 { format!(", nor do {more} later ones") } else { String::new() };
            let held = match kind.held_number {
                Some(number) if who == Who::Seal => format!("seal {number} at {} holds", kind.held),
                Some(_) => format!("the one of size {} holds", kind.held),
                None => "none before it holds".to_owned(),
            };
            let from = if kind.held_number.is_some() { kind.held } else { 0 };
            let (class, sentence) = match who {
                Who::Seal => (
                    Class::Rewritten,
                    format!(
                        "records {from} to {} were rewritten after they were sealed: seal {} at \
                         {size} no longer fits them{more}; {held}",
                        size.saturating_sub(1),
                        claim.number
                    ),
                ),
                Who::Anchor => (
                    Class::Fork,
                    format!(
                        "the anchored checkpoint of size {size} has root {}, the records here do \
                         not lead to it{more}; {held}: this log was rewritten, or it is another one",
                        hex::encode(claim.root)
                    ),
                ),
                Who::Checkpoint
                | Who::Header
                | Who::Trailer
                | Who::End
                | Who::PackBefore
                | Who::PackAfter
                | Who::Entry => (
                    Class::RootMismatch,
                    format!(
                        "the signed checkpoint of size {size} has root {}, the records do not lead \
                         to it{more}; {held} (root of all records: {found})",
                        hex::encode(claim.root)
                    ),
                ),
            };
            let mut finding = Finding::new(class, sentence).entries(from, size);
            finding.trusted_before = Some(kind.held).filter(|_| kind.held_number.is_some());
            finding.checked_behind = Some(size);
            findings.add(match claim.spot {
                Some(spot) => self.place(finding, spot),
                None => finding,
            });
        }
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
