//! What the tree has to say about entries, tiles and claims.

use super::{Doubt, Odd, Suspect, Tree, Who};
use crate::findings::{Class, Finding, Findings};

impl Tree {
    /// An odd entry that is the one the tree holds.
    pub(super) fn innocent(&self, suspect: &Suspect, findings: &mut Findings) {
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

    pub(super) fn report_tile_doubts(&mut self, findings: &mut Findings) {
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

    pub(super) fn altered_or_damaged(&self, suspect: &Suspect, findings: &mut Findings) {
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
    pub(super) fn report_doubt(
        &mut self,
        doubt: &Doubt,
        suspects: &[Suspect],
        findings: &mut Findings,
    ) {
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

    pub(super) fn report_signed(&self, findings: &mut Findings) {
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
