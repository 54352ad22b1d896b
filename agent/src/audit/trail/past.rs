//! What the log says of the runs before.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use pgward_verify::cbor::{Entry, Value};
use pgward_verify::store::{Epoch, ReadError};

use crate::audit::chain::LastSeal;
use crate::audit::last_seal::last_seal;
use crate::audit::ledger::{Coverage, HooksAction, LastHooks, Named, Previous, Seen};
use crate::audit::schema::{EventKind, f};
use crate::audit::time::WallNanos;

/// Segments that are looked at for the last word about hooks, from the newest: it may be as old as
/// the run. An account of connects comes every minute while there are some, and is looked for until
/// it is found: without one the ledger would begin anew.
const HOOKS_SEGMENTS_MAX: usize = 8;

/// What a run goes on from.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The last seal.
    pub(super) seal: Option<LastSeal>,
    /// The account of connects.
    pub(super) previous: Previous,
    /// The last word about hooks.
    pub(super) hooks: Option<LastHooks>,
}

/// Reads the end of an epoch that nobody writes.
/// `size` is that of its log.
pub(super) fn read(directory: &Path, epoch: u64, size: u64) -> Result<Past, ReadError> {
    let epoch = Epoch::open(directory.join(format!("epoch-{epoch}")), epoch)?;
    let pieces = epoch.pieces();
    let (mut from, mut end) = (0, u64::MAX);
    let (mut coverage, mut hooks) = (false, false);
    for (back, piece) in (1..).zip(pieces.iter().rev()) {
        let past = read_range(&epoch, piece.first..end)?;
        coverage |= past.previous.coverage.is_some();
        hooks |= past.hooks.is_some();
        (from, end) = (piece.first, piece.first);
        if coverage && (hooks || back >= HOOKS_SEGMENTS_MAX) {
            break;
        }
    }
    let mut found = read_range(&epoch, from..u64::MAX)?;
    found.seal = last_seal(&epoch, size)?;
    Ok(found)
}

fn read_range(epoch: &Epoch, range: Range<u64>) -> Result<Past, ReadError> {
    let mut past = Past::default();
    let mut boot_id = String::new();
    let mut entries = epoch.entries_from(range.start);
    while let Some(record) = entries.next()? {
        if record.index >= range.end {
            break;
        }
        // What does not decode is for `verify` to report; nothing is concluded from it.
        if let Ok(entry) = Entry::decode(record.bytes) {
            past.note(&entry, &mut boot_id);
        }
    }
    Ok(past)
}

impl Past {
    fn note(&mut self, entry: &Entry<'_>, boot_id: &mut String) {
        let number = |field: u8| entry.uint(field.into());
        let text = |field: u8| entry.text(field.into()).unwrap_or_default().to_owned();
        match EventKind::from_number(entry.event()) {
            Some(EventKind::AgentStart) => {
                *boot_id = text(f::BOOT_ID);
                self.previous.saw(Seen::AgentStart);
            }
            Some(EventKind::AgentStop) => self.previous.saw(Seen::AgentStop),
            Some(EventKind::Coverage) => self.previous.saw(Seen::Coverage(coverage(entry))),
            Some(EventKind::SessionStart | EventKind::Cancel) => {
                self.previous.saw(Seen::Intercepted);
            }
            Some(EventKind::Refused) => {
                let count = number(f::COUNT).unwrap_or(1);
                self.previous.saw(Seen::Refused { reason: &text(f::REASON), count });
            }
            Some(EventKind::Hooks) => {
                if let Some(action) = HooksAction::named(&text(f::ACTION)) {
                    let cgroup = text(f::CGROUP);
                    self.hooks = Some(LastHooks { action, boot_id: boot_id.clone(), cgroup });
                }
            }
            Some(_) | None => {}
        }
    }
}

fn coverage(entry: &Entry<'_>) -> Coverage {
    let number = |field: u8| entry.uint(field.into()).unwrap_or_default();
    Coverage {
        seen: number(f::SEEN),
        intercepted: number(f::INTERCEPTED),
        refused: number(f::REFUSED),
        failed: number(f::FAILED),
        allowed: number(f::ALLOWED),
        open: number(f::OPEN),
        unexplained: number(f::UNEXPLAINED),
        connect_base: number(f::CONNECT_BASE),
        ledger: number(f::LEDGER),
        since: WallNanos(number(f::SINCE)),
        failures: named(entry, f::FAILURES),
        refusals: named(entry, f::REFUSALS),
    }
}

fn named(entry: &Entry<'_>, field: u8) -> Vec<Named> {
    let Some(Value::Array(all)) = entry.get(field.into()) else { return Vec::new() };
    all.iter()
        .filter_map(|value| {
            let Value::Map(map) = value else { return None };
            let name = map.get(0).and_then(Value::text)?.to_owned();
            Some(Named { name: Cow::Owned(name), count: map.get(1).and_then(Value::uint)? })
        })
        .collect()
}
