//! Holds as the log has them. `keep.json` is a file like others, and may be lost with them.

use std::sync::PoisonError;

use pgward_verify::Trail;
use pgward_verify::cbor::Entry;
use pgward_verify::store::{Epoch, Piece};
use tracing::warn;

use super::holds::{self, Held, Holds};
use super::state::State;
use super::{Care, CareError};
use crate::audit::index::{FactKind, Index, IndexError};
use crate::audit::maintenance::Hold;
use crate::audit::schema::{EventKind, f};

/// What a hold that is put back is recorded as.
const RESTORED: &str = "restored";

impl Care {
    /// Puts back in force what the log says is held and `keep.json` does not have. Reads the log once.
    pub(super) fn look_for_holds(&self) -> Result<(), CareError> {
        // Not under the lock of the state: an emergency does not wait for this.
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if *asked {
            return Ok(());
        }
        let recorded = recorded(&Trail::open(self.trail.directory())?);
        let mut state = self.lock();
        let mut holds = state.holds.clone();
        for held in recorded.missing_in(&state.holds) {
            warn!(hold = held.name, "a legal hold of the log was missing in `keep.json`");
            let (scope, target) = holds::named(&held.scope);
            self.record_first(&Hold {
                reason: &held.reason,
                by_uid: nix::unistd::geteuid().as_raw(),
                action: RESTORED,
                scope,
                target: &target,
                approver: &held.approver,
                name: &held.name,
            })?;
            holds.put(held.clone());
        }
        if holds != state.holds {
            let changed = State { holds, ..state.clone() };
            changed.write(&self.folder)?;
            *state = changed;
        }
        *asked = true;
        Ok(())
    }
}

/// The holds in force by the records of a trail, as far as these are still there.
fn recorded(trail: &Trail) -> Holds {
    let mut holds = Holds::default();
    for epoch in trail.epochs() {
        let pieces = epoch.pieces();
        for (at, piece) in pieces.iter().enumerate() {
            let end = pieces.get(at + 1).map_or(u64::MAX, |next| next.first);
            if may_have(epoch, piece, end) {
                replay(epoch, piece, end, &mut holds);
            }
        }
    }
    holds
}

/// Whether a segment may have records of holds. Without an index that can be used it may.
fn may_have(epoch: &Epoch, piece: &Piece, end: u64) -> bool {
    let indexed = || -> Result<bool, IndexError> {
        let index = Index::read(&epoch.file(piece.first, "index"))?;
        let zone = index.zone();
        let whole = !zone.partial && zone.first == piece.first && zone.end == end;
        let kind = EventKind::Hold.name();
        let facts = index.facts_where(|fact| fact.kind == FactKind::Event && fact.value == kind);
        Ok(!whole || !index.entries_with(&facts)?.is_empty())
    };
    indexed().unwrap_or(true)
}

/// Carries out what the records of a segment say.
fn replay(epoch: &Epoch, piece: &Piece, end: u64, holds: &mut Holds) {
    let mut entries = epoch.entries_from(piece.first);
    loop {
        let record = match entries.next() {
            Ok(Some(record)) if record.index < end => record,
            Ok(_) => return,
            // What is damaged stays so, and must not keep a person from being forgotten for ever.
            Err(error) => {
                warn!(%error, segment = piece.first, "records of holds may be missing");
                return;
            }
        };
        // What is no entry names no hold; verification tells of it.
        let Ok(entry) = Entry::decode(record.bytes) else { continue };
        if entry.event() != EventKind::Hold as u64 {
            continue;
        }
        let text = |field: u8| entry.text(field.into()).unwrap_or_default();
        let name = text(f::HOLD);
        match (text(f::ACTION), holds::kept(text(f::SCOPE), text(f::TARGET))) {
            ("lifted", _) => holds.lift(name),
            ("set" | RESTORED, Some(scope)) => holds.put(Held {
                name: name.to_owned(),
                scope,
                reason: text(f::REASON).to_owned(),
                approver: text(f::APPROVER).to_owned(),
                since_ns: entry.time_ns(),
            }),
            (_, _) => {}
        }
    }
}
