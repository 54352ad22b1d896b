//! What can be said only when an epoch was read to its end.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};

use super::{Check, EpochSummary, FIRST_ENTRIES};
use crate::anchors::{Anchors, Known, Policy};
use crate::check::Options;
use crate::findings::{Class, Finding, Severity};
use crate::frame::{Frames, Kind, Step};
use crate::ledger::Range;
use crate::store::Epoch;
use crate::tree::Who;
use crate::walk::Tail;

/// Entries between the first ones of a run.
const NEAR_ENTRIES: u64 = 64;

impl Check<'_> {
    #[expect(clippy::too_many_arguments, reason = "one caller; each is a part of its own")]
    pub(super) fn finish(
        mut self,
        epoch: &Epoch,
        options: &Options,
        policy: &Policy,
        anchors: &Anchors,
        before: Option<&EpochSummary>,
        now: Option<u64>,
        tiles: u64,
    ) -> EpochSummary {
        let size = self.tree.index();
        let root = self.tree.root();
        self.tree.finish(self.findings);
        self.seals.finish(size, now, self.findings);
        self.sessions.finish(self.seals.ended(), self.facts.lost, self.findings);
        for (index, finding) in std::mem::take(&mut self.cut_off) {
            // A recovery nearby says why they have no end.
            let recoveries = &self.facts.recoveries;
            let known = recoveries.iter().any(|one| one.index.abs_diff(index) < NEAR_ENTRIES);
            self.findings.add(if known { finding.weighing(Severity::Note) } else { finding });
        }
        self.facts.finish(self.findings);
        self.report_gaps();
        self.report_values();
        self.report_tails(epoch);
        self.report_tiles(size, tiles);
        self.report_known(size);
        self.chain(epoch.number, before);
        let holds = |known: &&Known| known.anchored && known.size <= size;
        let anchored: Vec<(u64, bool)> = self
            .known
            .iter()
            .filter(holds)
            .map(|known| (known.size, known.time.is_some()))
            .collect();
        self.facts.judge_recoveries(&anchored, self.findings);
        for (from, to) in std::mem::take(&mut self.ahead) {
            let sentence = "these records claim to be later than the time at which witnesses had \
                            seen a checkpoint that covers them: the host's clock was ahead";
            self.findings.add(Finding::new(Class::ClockAhead, sentence).entries(from, to));
        }
        let newest = self.known.iter().filter(holds).max_by_key(|known| known.size).cloned();
        let sound = self.known.iter().filter(|known| holds(known) && !known.contradicted);
        let sound = sound.max_by_key(|known| known.size);
        let mut summary = EpochSummary {
            epoch: epoch.number,
            origin: Some(self.origin.clone()),
            entries: size,
            root: root.map(hex::encode),
            segments: epoch.pieces().len() as u64,
            seals: self.seals.count(),
            last_seal_ns: self.seals.last_time(),
            sessions: self.sessions.count,
            intents: self.sessions.intents,
            outcomes_unknown: self.sessions.unknown,
            anchored: sound.map(|known| known.size),
            anchored_at: sound.and_then(|known| known.time),
            times_ns: self.facts.times(),
            redactions: std::mem::take(&mut self.facts.redactions),
            sealed: std::mem::take(&mut self.sessions.sealed),
            pruned: !self.facts.pruned.is_empty(),
            ..EpochSummary::default()
        };
        for (coverage, _) in self.facts.coverage.values() {
            summary.add(coverage);
        }
        if now.is_some() {
            self.anchored(epoch, options, policy, anchors, newest.as_ref(), &summary);
        }
        summary
    }

    fn report_gaps(&mut self) {
        for (from, to) in std::mem::take(&mut self.gaps) {
            let finding = match covering(&self.facts.pruned, from, to) {
                Some(by) => Class::Pruned.explained(format!(
                    "records {from} to {} were pruned, as record {by} says",
                    to - 1
                )),
                None => Finding::new(
                    Class::EntriesMissing,
                    format!("records {from} to {} are not there, and no record says why", to - 1),
                ),
            };
            self.findings.add(finding.entries(from, to));
        }
    }

    fn report_values(&mut self) {
        for (from, to) in std::mem::take(&mut self.no_values) {
            let finding = match covering(&self.facts.values_pruned, from, to) {
                Some(by) => Class::Redacted.explained(format!(
                    "values of records {from} to {} were deleted, as record {by} says",
                    to - 1
                )),
                None => Finding::new(
                    Class::ValuesMissing,
                    format!(
                        "values of records {from} to {} are not there, and no record says why",
                        to - 1
                    ),
                ),
            };
            self.findings.add(finding.entries(from, to));
        }
    }

    /// Bytes behind the last good trailer of a segment are explained by a recovery that put them
    /// aside, or by a failure to write.
    fn report_tails(&mut self, epoch: &Epoch) {
        for tail in std::mem::take(&mut self.tails) {
            let near = |index: u64| index >= tail.index && index < tail.index + FIRST_ENTRIES;
            let by = self.facts.recoveries.iter().find(|recovery| near(recovery.index));
            let failed = self.facts.failures.iter().copied().find(|index| near(*index));
            let finding = match (by, failed) {
                _ if tail.ended => Finding::new(
                    Class::ExtraBytes,
                    "there are bytes behind the frame that ends the segment",
                ),
                (Some(recovery), _) => match &recovery.aside {
                    Some((bytes, digest, file)) => {
                        let from = torn_from(&tail);
                        let found = range_digest(&tail.path, from, *bytes);
                        let kept = file_digest(&epoch.directory().join(file));
                        let whole = tail.offset + tail.length <= from.saturating_add(*bytes);
                        if found == Some(*digest)
                            && whole
                            && kept.is_none_or(|kept| kept == *digest)
                        {
                            Class::TornTail.explained(format!(
                                "{bytes} bytes of a batch that a crash cut off, as record {} says",
                                recovery.index
                            ))
                        } else {
                            Finding::new(
                                Class::ExtraBytes,
                                format!(
                                    "the bytes behind the last batch are not those that record {} \
                                     says were put aside",
                                    recovery.index
                                ),
                            )
                        }
                    }
                    None => Class::TornTail.explained(format!(
                        "a batch that a crash cut off, written again behind record {}",
                        tail.index
                    )),
                },
                (None, Some(index)) => Class::TornTail.explained(format!(
                    "a batch that could not be written, as record {index} says"
                )),
                (None, None) => Finding::new(
                    Class::TornTail,
                    "the segment was abandoned, with bytes behind its last batch, and no record \
                     says why",
                ),
            };
            let finding = finding.entries(tail.index, tail.index);
            self.findings.add(finding.file(tail.file).bytes(tail.offset, tail.length));
        }
    }

    fn report_tiles(&mut self, size: u64, stored: u64) {
        let reach = self.tree.reach_of_tiles(0);
        if reach > size {
            let sentence = format!(
                "the stored tiles cover {reach} records, only {size} are there: the end of the log \
                 was cut off"
            );
            self.findings.add(Finding::new(Class::Truncated, sentence).entries(size, reach));
        }
        // Tiles of pruned entries may be gone; others are made in order.
        let pruned = self.facts.pruned.iter().map(|range| range.to).max().unwrap_or_default();
        let expected = (reach.min(size) / 256).saturating_sub(pruned.div_ceil(256));
        if stored < expected {
            let first = (pruned.div_ceil(256)..reach / 256)
                .find(|number| !self.tree.has_tile_of(number * 256))
                .unwrap_or_default();
            let sentence = format!(
                "{} tiles of level 0 are not there, the first is {first}",
                expected - stored
            );
            self.findings.add(
                Finding::new(Class::TileMissing, sentence).entries(first * 256, first * 256 + 256),
            );
        }
    }

    /// Checkpoints that cover more than is there, or that could not be compared.
    fn report_known(&mut self, size: u64) {
        let beyond = self.known.iter().filter(|known| known.size > size);
        if let Some(known) = beyond.max_by_key(|known| known.size) {
            let seen = match known.who {
                Who::Anchor => "an anchored checkpoint",
                Who::Entry => "the next epoch",
                _ => "a signed checkpoint",
            };
            let sentence = format!(
                "{seen} ({}) knows {} records, only {size} are there: the log was cut off",
                known.file, known.size
            );
            self.findings.add(Finding::new(Class::Truncated, sentence).entries(size, known.size));
        }
        if !self.known.iter().any(|known| known.who != Who::Entry) && size > 0 {
            let sentence =
                "no checkpoint that the host signed lies beside the log, and none was given";
            self.findings.add(Finding::new(Class::CheckpointMissing, sentence).entries(0, size));
        }
    }

    /// An epoch must say where the one before ended.
    fn chain(&mut self, number: u64, before: Option<&EpochSummary>) {
        let begins_here = self.facts.pruned.is_empty() || self.start.is_some();
        let Some(start) = &self.start else {
            if begins_here && self.tree.index() > 0 {
                let sentence = "the epoch does not begin with a record that says so";
                self.findings.add(Finding::new(Class::EpochChain, sentence).entries(0, 1));
            }
            return;
        };
        if number == 1 {
            return;
        }
        let mut report = |sentence: String| {
            self.findings.add(Finding::new(Class::EpochChain, sentence).entries(0, 1));
        };
        let Some(before) = before else { return };
        if start.previous != before.origin {
            report(format!(
                "the epoch continues `{}`, but `{}` lies before it",
                start.previous.as_deref().unwrap_or("nothing"),
                before.origin.as_deref().unwrap_or("nothing")
            ));
        } else if start.size.is_none() || start.root.is_none() {
            report("the epoch does not name the size and root at which it continues".to_owned());
        } else if start.size.is_some_and(|size| size < before.entries) {
            let size = start.size.unwrap_or_default();
            self.findings.add(
                Finding::new(
                    Class::EpochChain,
                    format!(
                        "the epoch continues behind record {size} of the one before, which has {}: \
                         those behind were not trusted",
                        before.entries
                    ),
                )
                .weighing(Severity::Incomplete)
                .entries(0, 1),
            );
        }
    }

    /// The newest epoch must be anchored, and not too long ago.
    fn anchored(
        &mut self,
        epoch: &Epoch,
        options: &Options,
        policy: &Policy,
        anchors: &Anchors,
        newest: Option<&Known>,
        summary: &EpochSummary,
    ) {
        let size = summary.entries;
        let Some(newest) = newest.filter(|newest| newest.size > 0) else {
            let age = summary.last_seal_ns.map_or(String::new(), |time| {
                let age = options.now_ns.saturating_sub(time) / 1_000_000_000;
                format!("; its last seal is {age} s old")
            });
            let why = if policy.quorum == 0 && !anchors.were_given() {
                "no witness and no anchor was given".to_owned()
            } else if policy.quorum > 0 {
                format!("no checkpoint here is signed by {} of the witnesses", policy.quorum)
            } else {
                "no anchor that was given is of this log".to_owned()
            };
            let sentence = format!(
                "{why}: who holds the host's key could have cut off or rewritten the end unseen{age}"
            );
            self.findings.add(Finding::new(Class::NotAnchored, sentence).entries(0, size));
            return;
        };
        let mut entries = epoch.entries_from(newest.size - 1);
        let covered = match entries.next() {
            Ok(Some(record)) if record.index == newest.size - 1 => {
                crate::cbor::Entry::decode(record.bytes).ok().map(|entry| entry.time_ns())
            }
            Ok(_) | Err(_) => None,
        };
        let (Some(covered), Some((_, last))) = (covered, summary.times_ns) else { return };
        let lag = last.saturating_sub(covered) / 1_000_000_000;
        if lag > options.anchor_lag_seconds {
            let sentence = format!(
                "the newest anchored checkpoint covers {} of {size} records; the last record is \
                 {lag} s younger",
                newest.size
            );
            self.findings.add(Finding::new(Class::AnchorLag, sentence).entries(newest.size, size));
        }
    }
}

/// The last of the records that together say why `from..to` is gone.
fn covering(ranges: &[Range], from: u64, to: u64) -> Option<u64> {
    let (mut reached, mut by) = (from, None);
    // Segments go one after the other, in the order of the log.
    for range in ranges {
        if range.from <= reached && reached < range.to {
            (reached, by) = (range.to, Some(range.by));
        }
    }
    by.filter(|_| to <= reached)
}

/// Where in a tail the torn batch begins: behind the last whole one, which is there again in the next segment.
fn torn_from(tail: &Tail) -> u64 {
    let mut from = tail.offset;
    let Ok(mut frames) = Frames::open(&tail.path, from) else { return from };
    while let Ok(Step::Frame(frame)) = frames.step()
        && frame.sound
    {
        if frame.kind == Kind::Trailer {
            from = frame.end();
        }
    }
    from
}

/// SHA-256 of `bytes` bytes of a file; `None` if it can't be read.
fn range_digest(path: &Path, from: u64, bytes: u64) -> Option<[u8; 32]> {
    let file = File::open(path).ok()?;
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    while at < bytes {
        let count = (bytes - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..count], from.checked_add(at)?).ok()?;
        digest.update(&buffer[..count]);
        at += count as u64;
    }
    digest.finish().as_ref().try_into().ok()
}

/// SHA-256 of a whole file; `None` if it is not there.
fn file_digest(path: &Path) -> Option<[u8; 32]> {
    let mut file = File::open(path).ok()?;
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    digest.finish().as_ref().try_into().ok()
}
