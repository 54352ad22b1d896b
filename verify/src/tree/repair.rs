//! Where a claim does not hold: which entries, put right, would make it hold.

use std::collections::HashMap;

use super::{Leaf, Odd, PENDING_MAX, TRIED_MAX, Tree};
use crate::findings::{Class, Finding, Findings};
use crate::merkle::{Edge, Hash};

impl Tree {
    /// Tries stored tile hashes in place of the leaves since `from`.
    pub(super) fn repair(
        &mut self,
        from: &Edge,
        size: u64,
        root: &Hash,
        findings: &mut Findings,
    ) -> bool {
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
    pub(super) fn exchange(&mut self, root: &Hash, findings: &mut Findings) -> bool {
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
    pub(super) fn superfluous(&self, size: u64, have: &[Leaf], root: &Hash) -> Option<usize> {
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
    pub(super) fn compare(
        &self,
        base: u64,
        expected: &[Hash],
        found: &[Leaf],
        findings: &mut Findings,
    ) {
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

    pub(super) fn altered(&self, index: u64, leaf: &Leaf, findings: &mut Findings) {
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
}
