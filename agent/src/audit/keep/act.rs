//! What is asked for, recorded and then done.

use std::time::Duration;

use tracing::{info, warn};

use super::glass::{self, Asked};
use super::holds::named;
use super::prune::{self, Limits, Plan, Stays};
use super::segments::FORMS;
use super::state::{Eased, State};
use super::{Care, CareError};
use crate::audit::maintenance::{self, AuditRead, Redaction};
use crate::audit::record::{Record, Stamp};
use crate::audit::tile_files::TileFolder;
use crate::audit::values::Scope;
use crate::audit::{BootNanos, Now, Recorded, WallNanos};
use crate::control::{BreakGlass, Hold, HoldAction, HoldInfo, Prune, Pruned, Shred, ShredScope};

/// How long break-glass waits for a disk that may be the very reason for it.
const GLASS_WAITS: Duration = Duration::from_secs(5);
/// How long anything else waits for its record.
const RECORD_WAITS: Duration = Duration::from_secs(30);
/// What asks when nobody did.
const BY_ITSELF: &str = "audit.values_keep_days";

/// Why segments are pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Somebody asked.
    Asked(u32),
    /// The quota is nearly used up.
    Quota,
}

impl Care {
    /// Somebody reads the trail: returns when that is durable.
    pub fn read(&self, uid: u32, command: &str, arguments: &str) -> Result<(), CareError> {
        self.record(&AuditRead { by_uid: uid, command, arguments })
    }

    /// Deletes old segments, or says which would go.
    pub fn prune(&self, uid: u32, asked: Prune) -> Result<Pruned, CareError> {
        let now = Now::read().wall;
        let before = prune::before(asked.before_ns, self.prune_after, now);
        let before = before.ok_or(CareError::NeverPruned)?;
        self.look_for_holds()?;
        let mut state = self.lock();
        let (plan, minimum) = self.plan(&mut state, before, u64::MAX)?;
        if !asked.dry_run {
            self.carry_out(&mut state, &plan, minimum, Why::Asked(uid))?;
        }
        Ok(summary(&plan, minimum))
    }

    /// Deletes the oldest segments when the quota is nearly used up, as far as they may go.
    pub(super) fn prune_by_quota(&self, now: WallNanos) -> Result<(), CareError> {
        let status = self.trail.status();
        let used = status.store.map_or(0, |store| store.used_bytes);
        let Some(enough) = prune::pressure(used, status.quota_bytes) else { return Ok(()) };
        let Some(before) = prune::before(u64::MAX, self.prune_after, now) else { return Ok(()) };
        self.look_for_holds()?;
        let mut state = self.lock();
        let (plan, minimum) = self.plan(&mut state, before, enough)?;
        if plan.goes.is_empty() {
            warn!(stays = ?plan.stays, "the quota is nearly used up, and nothing may be pruned");
        }
        self.carry_out(&mut state, &plan, minimum, Why::Quota)
    }

    /// What would go, and the first index that is there.
    fn plan(
        &self,
        state: &mut State,
        before_ns: u64,
        enough: u64,
    ) -> Result<(Plan, u64), CareError> {
        let epoch = self.epoch()?;
        let pieces = epoch.pieces();
        let Some(minimum) = pieces.first().map(|piece| piece.first) else {
            return Ok((Plan::default(), 0));
        };
        let status = self.trail.status();
        let entries = pieces.last().map_or(0, |piece| piece.first);
        let tiles = TileFolder::new(self.epoch_folder()?);
        let limits = Limits {
            before_ns,
            anchored: prune::anchored(&status.anchors),
            // One more than whole ones: an end may lie within a tile.
            tiles: tiles.stored(entries / 256 + 1),
        };
        let State { holds, times, .. } = state;
        // Each but the newest, read only when it is reached.
        let segments =
            pieces.windows(2).map(|pair| times.segment(&epoch, &pair[0], pair[1].first, holds));
        Ok((prune::plan(segments, &limits, enough), minimum))
    }

    fn carry_out(
        &self,
        state: &mut State,
        plan: &Plan,
        minimum: u64,
        why: Why,
    ) -> Result<(), CareError> {
        let Some(end) = plan.goes.last().map(|segment| segment.end) else { return Ok(()) };
        let (reason, by_uid) = match why {
            Why::Asked(uid) => ("asked", Some(uid)),
            Why::Quota => ("quota", None),
        };
        self.record_first(&maintenance::Prune {
            reason,
            by_uid,
            from_index: minimum,
            to_index: end,
            minimum_index: end,
        })?;
        let folder = self.epoch_folder()?;
        for segment in &plan.goes {
            for form in FORMS {
                folder.remove(&format!("segment-{:020}.{form}", segment.first))?;
            }
        }
        folder.sync()?;
        TileFolder::new(folder).prune(end)?;
        state.times.forget_before(end);
        self.trail.recount();
        info!(from = minimum, to = end, reason, "segments were pruned");
        Ok(())
    }

    /// Deletes values that were kept long enough, of segments that no hold keeps.
    pub(super) fn drop_values(&self, now: WallNanos) -> Result<(), CareError> {
        let Some(keep) = self.values_keep else { return Ok(()) };
        let before = prune::older_than(keep, now);
        self.look_for_holds()?;
        let mut state = self.lock();
        let State { holds, times, .. } = &mut *state;
        let epoch = self.epoch()?;
        let mut gone = Vec::new();
        for pair in epoch.pieces().windows(2).filter(|pair| pair[0].values) {
            let segment = times.segment(&epoch, &pair[0], pair[1].first, holds);
            if !segment.packed || !segment.sound || segment.newest_ns >= before {
                continue;
            }
            if segment.held_by.is_empty() {
                gone.push((segment.first, segment.end));
            }
        }
        let folder = self.epoch_folder()?;
        // One record for each file: they need not lie side by side.
        for (first, end) in &gone {
            self.record_first(&Redaction {
                reason: "kept long enough",
                by_uid: nix::unistd::geteuid().as_raw(),
                scope: "retention",
                target: &format!("segment-{first:020}.values"),
                approver: BY_ITSELF,
                keys_erased: None,
                entries: Some((*first, *end)),
            })?;
            folder.remove(&format!("segment-{first:020}.values"))?;
        }
        if !gone.is_empty() {
            folder.sync()?;
            self.trail.recount();
            info!(files = gone.len(), "values were kept long enough and are deleted");
        }
        Ok(())
    }

    /// Makes values unreadable for ever. Gives how many keys are gone.
    pub fn shred(&self, uid: u32, shred: &Shred) -> Result<u64, CareError> {
        let (scope, target) = scope(shred)?;
        self.look_for_holds()?;
        let state = self.lock();
        let forbidding = state.holds.forbidding(&scope);
        if !forbidding.is_empty() {
            return Err(CareError::Held(forbidding));
        }
        let mut record = Redaction {
            reason: &shred.reason,
            by_uid: uid,
            scope: match shred.scope {
                ShredScope::Session => "session",
                ShredScope::Subject => "subject",
                ShredScope::Day => "day",
            },
            target: &target,
            approver: &shred.approver,
            keys_erased: None,
            entries: None,
        };
        self.record_first(&record)?;
        let erased = self.trail.keyring().shred_blocking(scope)?.keys();
        record.keys_erased = Some(erased);
        self.record(&record)?;
        drop(state);
        Ok(erased)
    }

    /// Sets or lifts a hold.
    pub fn hold(&self, uid: u32, asked: &Hold) -> Result<(), CareError> {
        self.look_for_holds()?;
        let mut state = self.lock();
        let holds = state.holds.after(asked, Now::read().wall)?;
        // What is lifted is named as it was set.
        let scope = state.holds.scope_of(&asked.name).unwrap_or(&asked.scope);
        let (scope, target) = named(scope);
        self.record_first(&maintenance::Hold {
            reason: &asked.reason,
            by_uid: uid,
            action: match asked.action {
                HoldAction::Set => "set",
                HoldAction::Lift => "lifted",
            },
            scope,
            target: &target,
            approver: &asked.approver,
            name: &asked.name,
        })?;
        let changed = State { holds, ..state.clone() };
        changed.write(&self.folder)?;
        *state = changed;
        Ok(())
    }

    /// All holds in force.
    pub fn holds(&self) -> Result<Vec<HoldInfo>, CareError> {
        self.look_for_holds()?;
        Ok(self.lock().holds.shown())
    }

    /// Eases recording for a while. Gives until when.
    ///
    /// Where the disk is what fails, the record is the next that is written, and the agent's log
    /// has it: an emergency does not wait for the disk that it is about.
    pub fn break_glass(&self, uid: u32, asked: &BreakGlass) -> Result<WallNanos, CareError> {
        let token = glass::token(self.break_glass.as_deref());
        let asked =
            Asked { uid, minutes: asked.minutes, reason: &asked.reason, approver: &asked.approver };
        let mut state = self.lock();
        let now = Now::read();
        let goes_on = state.eased.as_ref().is_some_and(|eased| !self.is_over(eased, now.wall));
        let lasts = glass::allowed(&asked, token, goes_on)?;
        let nanos = lasts.as_nanos() as u64;
        let eased = Eased {
            since_ns: now.wall.0,
            until_ns: now.wall.0.saturating_add(nanos),
            reason: asked.reason.to_owned(),
            approver: asked.approver.to_owned(),
            by_uid: uid,
        };
        let sink = self.trail.sink();
        if let Some(before) = &state.eased {
            // The disk did not take its end until now.
            sink.record_closing(&Stamp::agent(now), &before.record("end", None))?;
        }
        let begin = eased.record("begin", None);
        let put = sink.record_closing(&Stamp::agent(now), &begin)?;
        match sink.durable_within(put.ticket, GLASS_WAITS) {
            Some(Ok(Recorded { .. })) => {}
            Some(Err(error)) => warn!(uid, %error, "break-glass is not durable yet"),
            None => warn!(uid, "break-glass is not durable yet: the disk does not answer"),
        }
        let until = WallNanos(eased.until_ns);
        state.eased = Some(eased);
        if let Err(error) = state.write(&self.folder) {
            warn!(%error, "break-glass is not remembered over a restart");
        }
        self.trail.ease(Some((until, BootNanos(now.boot.0.saturating_add(nanos)))));
        warn!(uid, until = until.0, "break-glass: recording is eased");
        Ok(until)
    }

    /// Ends easing: when its time is over, or, with `detail`, before.
    pub(super) fn end_easing(&self, now: WallNanos, detail: Option<&str>) -> Result<(), CareError> {
        let mut state = self.lock();
        let Some(eased) = &state.eased else { return Ok(()) };
        if !self.is_over(eased, now) && detail.is_none() {
            return Ok(());
        }
        self.trail.ease(None);
        self.record(&eased.record("end", detail))?;
        info!("break-glass is over");
        state.eased = None;
        state.write(&self.folder)
    }

    fn is_over(&self, eased: &Eased, now: WallNanos) -> bool {
        self.trail.eased_until().is_none() || now.0 >= eased.until_ns
    }

    /// The run before did not come to its end.
    pub(super) fn end_easing_before(&self) -> Result<(), CareError> {
        self.end_easing(Now::read().wall, Some("the agent was restarted"))
    }

    /// Returns when a record is durable, whatever recording is eased to: for what destroys, and for
    /// what forbids that.
    pub(super) fn record_first<'r>(&self, record: impl Into<Record<'r>>) -> Result<(), CareError> {
        let sink = self.trail.sink();
        let put = sink.record_closing(&Stamp::agent(Now::read()), record)?;
        let kept = sink.kept_within(put.ticket, RECORD_WAITS).ok_or(CareError::Slow)?;
        Ok(kept?)
    }

    /// Returns when a record is durable, or its loss is let pass and counted.
    fn record<'r>(&self, record: impl Into<Record<'r>>) -> Result<(), CareError> {
        let sink = self.trail.sink();
        let put = sink.record_closing(&Stamp::agent(Now::read()), record)?;
        match sink.durable_within(put.ticket, RECORD_WAITS) {
            Some(recorded) => {
                let _: Recorded = recorded?;
                Ok(())
            }
            None => Err(CareError::Slow),
        }
    }
}

impl Eased {
    fn record<'e>(
        &'e self,
        action: &'e str,
        detail: Option<&'e str>,
    ) -> maintenance::BreakGlass<'e> {
        maintenance::BreakGlass {
            reason: &self.reason,
            detail,
            since: WallNanos(self.since_ns),
            until: WallNanos(self.until_ns),
            by_uid: self.by_uid,
            action,
            approver: &self.approver,
        }
    }
}

/// What is to be shredded, and how the record names it. A person's value is not named: the record
/// would keep what is to be forgotten.
fn scope(shred: &Shred) -> Result<(Scope, String), CareError> {
    for (what, text) in [("reason", &shred.reason), ("approver", &shred.approver)] {
        if text.is_empty() || text.len() > glass::TEXT_BYTES_MAX {
            return Err(CareError::Target { what, expected: "1 to 512 bytes" });
        }
    }
    let not = |expected| CareError::Target { what: "target", expected };
    let target = &shred.target;
    match shred.scope {
        ShredScope::Session => {
            let id = hex::decode(target).ok().and_then(|id| <[u8; 16]>::try_from(id).ok());
            let id = id.ok_or(not("32 hexadecimal digits"))?;
            Ok((Scope::Session(id), hex::encode(id)))
        }
        ShredScope::Subject if target.is_empty() => Err(not("the value of a person")),
        ShredScope::Subject => {
            Ok((Scope::Subject(target.clone().into_bytes().into()), "a person".to_owned()))
        }
        ShredScope::Day => {
            let day = target.parse().map_err(|_| not("a day such as `2026-11-22`"))?;
            Ok((Scope::Day(day), day.to_string()))
        }
    }
}

fn summary(plan: &Plan, minimum: u64) -> Pruned {
    Pruned {
        segments: plan.goes.len() as u64,
        entries: plan.goes.iter().map(|segment| segment.end - segment.first).sum(),
        bytes: plan.goes.iter().map(|segment| segment.bytes).sum(),
        minimum_index: plan.goes.last().map_or(minimum, |segment| segment.end),
        held_by: match &plan.stays {
            Some(Stays::Held(names)) => names.clone(),
            Some(
                Stays::Raw | Stays::Damaged | Stays::Young | Stays::Unanchored | Stays::Untiled,
            )
            | None => Vec::new(),
        },
    }
}
