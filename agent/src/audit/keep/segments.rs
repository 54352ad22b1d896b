//! What the folder of an epoch says of its segments.

use std::collections::HashMap;
use std::fs;

use pgward_verify::cbor::Entry;
use pgward_verify::store::{Epoch, Piece};

use super::holds::Holds;
use super::prune::Segment;

/// Files of a segment that is packed, in the order in which they go: the entries last, so that
/// nothing is left without them.
pub(super) const FORMS: [&str; 3] = ["values", "index", "pack"];

/// Times of segments that were read once: a finished segment does not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Times(HashMap<u64, (u64, u64)>);

impl Times {
    /// What is known of a segment that is followed by one which begins at `end`.
    ///
    /// Its entries are read when that was not done yet, or when a session is held.
    pub(super) fn segment(
        &mut self,
        epoch: &Epoch,
        piece: &Piece,
        end: u64,
        holds: &Holds,
    ) -> Segment {
        let mut segment = Segment {
            first: piece.first,
            end,
            packed: piece.pack && !piece.log,
            bytes: bytes(epoch, piece.first),
            ..Segment::default()
        };
        if !segment.packed {
            return segment;
        }
        let sessions: Vec<&str> = holds.sessions().collect();
        let (times, held) = match self.0.get(&piece.first) {
            Some(times) if sessions.is_empty() => (Some(*times), Vec::new()),
            Some(_) | None => read(epoch, piece.first, end, &sessions),
        };
        if let Some((oldest, newest)) = times {
            self.0.insert(piece.first, (oldest, newest));
            (segment.sound, segment.oldest_ns, segment.newest_ns) = (true, oldest, newest);
            let has = |session: &str| held.contains(&session);
            segment.held_by = holds.keeping(oldest, newest, has);
        }
        segment
    }

    /// Forgets segments that are gone.
    pub(super) fn forget_before(&mut self, index: u64) {
        self.0.retain(|first, _| *first >= index);
    }
}

/// Times of the oldest and the newest entry, and which of `sessions` have some. No times when not
/// all entries can be read.
fn read<'s>(
    epoch: &Epoch,
    first: u64,
    end: u64,
    sessions: &[&'s str],
) -> (Option<(u64, u64)>, Vec<&'s str>) {
    let wanted: Vec<(Vec<u8>, &str)> = sessions
        .iter()
        .filter_map(|session| hex::decode(session).ok().map(|id| (id, *session)))
        .collect();
    let (mut times, mut found) = (None::<(u64, u64)>, Vec::new());
    let mut entries = epoch.entries_from(first);
    for index in first..end {
        let Ok(Some(record)) = entries.next() else { return (None, found) };
        if record.index != index {
            return (None, found);
        }
        let Ok(entry) = Entry::decode(record.bytes) else { return (None, found) };
        let time = entry.time_ns();
        let (oldest, newest) = times.unwrap_or((time, time));
        times = Some((oldest.min(time), newest.max(time)));
        if let Some(id) = entry.session() {
            let of = wanted.iter().find(|(wanted, _)| wanted == id).map(|(_, session)| *session);
            found.extend(of.filter(|session| !found.contains(session)));
        }
    }
    (times, found)
}

fn bytes(epoch: &Epoch, first: u64) -> u64 {
    let length = |form: &str| fs::metadata(epoch.file(first, form)).map_or(0, |file| file.len());
    FORMS.iter().map(|form| length(form)).sum()
}
