//! Which segments may be deleted. Pure.

use std::time::Duration;

use crate::audit::WallNanos;
use crate::audit::anchors::AnchorStatus;
use crate::audit::store::Level;

/// What is known of a segment that might go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its first entry.
    pub first: u64,
    /// Behind its last.
    pub end: u64,
    /// It is packed, and the raw file is gone.
    pub packed: bool,
    /// Every entry was read; otherwise it is evidence of what happened to it.
    pub sound: bool,
    /// When its oldest entry was made, nanoseconds since 1970.
    pub oldest_ns: u64,
    /// When its newest was.
    pub newest_ns: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Holds that keep it.
    pub held_by: Vec<String>,
}

/// Up to where segments may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All entries must be older: nanoseconds since 1970.
    pub before_ns: u64,
    /// Entries that an anchor knows; `None` when there are no anchors.
    pub anchored: Option<u64>,
    /// Full tiles of level 0.
    pub tiles: u64,
}

/// Why a segment stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stays {
    /// It is not packed yet.
    Raw,
    /// It can't be read as it should be.
    Damaged,
    /// It is not old enough.
    Young,
    /// No anchor covers it.
    Unanchored,
    /// The tree could not be continued behind it: its tiles are not all there.
    Untiled,
    /// These holds keep it.
    Held(Vec<String>),
}

/// Whether a segment may go. The newest is never asked about.
pub fn may_go(segment: &Segment, limits: &Limits) -> Result<(), Stays> {
    if !segment.packed {
        return Err(Stays::Raw);
    }
    if !segment.sound {
        return Err(Stays::Damaged);
    }
    if segment.newest_ns >= limits.before_ns {
        return Err(Stays::Young);
    }
    if limits.anchored.is_some_and(|anchored| anchored < segment.end) {
        return Err(Stays::Unanchored);
    }
    if limits.tiles < segment.end.div_ceil(256) {
        return Err(Stays::Untiled);
    }
    if !segment.held_by.is_empty() {
        return Err(Stays::Held(segment.held_by.clone()));
    }
    Ok(())
}

/// What goes, and what stopped it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Oldest first, without a gap: what is left is the log from one index on.
    pub goes: Vec<Segment>,
    /// The first that stays, unless there was no need to ask.
    pub stays: Option<Stays>,
}

/// Takes segments from the oldest on until one must stay, or until `enough` bytes go.
pub fn plan(segments: impl IntoIterator<Item = Segment>, limits: &Limits, enough: u64) -> Plan {
    let mut plan = Plan::default();
    let mut bytes = 0_u64;
    for segment in segments {
        if bytes >= enough {
            break;
        }
        if let Err(stays) = may_go(&segment, limits) {
            plan.stays = Some(stays);
            break;
        }
        bytes = bytes.saturating_add(segment.bytes);
        plan.goes.push(segment);
    }
    plan
}

/// Before when entries must have been made to be pruned; `None`: nothing is ever pruned.
pub fn before(asked_ns: u64, prune_after: Option<Duration>, now: WallNanos) -> Option<u64> {
    prune_after.map(|after| asked_ns.min(older_than(after, now)))
}

/// The moment that lies so long ago.
pub fn older_than(age: Duration, now: WallNanos) -> u64 {
    now.0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
}

/// Bytes to free when the quota presses: so many that it does not any more.
pub fn pressure(used_bytes: u64, quota_bytes: u64) -> Option<u64> {
    if Level::of(used_bytes, quota_bytes) < Level::Alarm {
        return None;
    }
    let percent = u128::from(Level::Alarm.percent());
    let allowed = u64::try_from(u128::from(quota_bytes) * percent / 100).unwrap_or(u64::MAX);
    Some(used_bytes.saturating_sub(allowed).saturating_add(1))
}

/// Entries that lie in a checkpoint which some place outside of the folder holds. What was printed
/// may be gone, and does not count. `None` when there is no such place.
pub fn anchored(anchors: &[AnchorStatus]) -> Option<u64> {
    let counting = anchors.iter().filter(|anchor| anchor.kind != "print");
    counting.map(|anchor| anchor.size.unwrap_or(0)).max()
}
