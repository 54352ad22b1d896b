//! What sinks, the committer and the keeper share.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::tray::Tray;
use super::watch::{Notice, Watch};
use crate::audit::time::{BootNanos, Now, WallNanos};
use crate::config::{Audit, OnFull};

/// A disk that says nothing for so long may never answer.
const HANGS_AFTER: Duration = Duration::from_secs(5);

/// What the store needs of `[audit]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Size of the reserve, in bytes.
    pub reserve_bytes: u64,
    /// Most the trail may hold, in bytes.
    pub quota_bytes: u64,
    /// What happens while nothing can be recorded.
    pub on_full: OnFull,
    /// In `async`: most bytes of one sink that wait for the disk before statements wait too.
    pub async_bytes_max: u64,
    /// In `async`: longest time that a record waits for the disk before statements wait too.
    pub async_delay_max: Duration,
    /// With `on_full = "allow"`: longest time that anybody waits for a disk that says nothing.
    pub hangs_after: Duration,
}

impl From<&Audit> for Settings {
    fn from(audit: &Audit) -> Self {
        Self {
            segment_bytes: audit.segment_bytes,
            reserve_bytes: audit.reserve_bytes,
            quota_bytes: audit.quota_bytes,
            on_full: audit.on_full,
            async_bytes_max: audit.async_bytes_max,
            async_delay_max: audit.async_delay_max,
            hangs_after: HANGS_AFTER,
        }
    }
}

/// Whether records can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// They can, as far as is known.
    Good,
    /// No space: at most the reserve is left.
    Full,
    /// The disk reports errors.
    Broken,
    /// The committer has ended.
    Gone,
}

/// How much of the quota is used.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Less than 75 %.
    Low,
    /// 75 % and more: warn.
    Warn,
    /// 90 % and more: alarm.
    Alarm,
    /// 95 % and more: no new sessions.
    NoSessions,
    /// 100 %: no statements.
    NoStatements,
}

impl Level {
    const ALL: [Self; 5] =
        [Self::Low, Self::Warn, Self::Alarm, Self::NoSessions, Self::NoStatements];

    /// The percentage from which on it holds.
    pub fn percent(self) -> u8 {
        match self {
            Self::Low => 0,
            Self::Warn => 75,
            Self::Alarm => 90,
            Self::NoSessions => 95,
            Self::NoStatements => 100,
        }
    }

    /// The level of `used` bytes of a quota.
    pub fn of(used: u64, quota: u64) -> Self {
        let reached = |level: &&Self| {
            u128::from(used) * 100 >= u128::from(quota) * u128::from(level.percent())
        };
        Self::ALL.iter().rev().find(reached).copied().unwrap_or(Self::Low)
    }

    pub(super) fn stops_sessions(self) -> bool {
        self >= Self::NoSessions
    }

    pub(super) fn stops_statements(self) -> bool {
        self >= Self::NoStatements
    }
}

/// Whether the next segment could be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// It could, or nobody tried yet.
    Enough,
    /// There is no space for it.
    Full,
    /// The disk reported another error.
    Broken,
}

impl Space {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Enough,
            1 => Self::Full,
            _ => Self::Broken,
        }
    }
}

/// What the store has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoreStatus {
    /// Whether records can be written.
    pub health: Health,
    /// How much of the quota is used.
    pub level: Level,
    /// Bytes used: finished segments, what was written of the current one, and the reserve.
    pub used_bytes: u64,
    /// Entries in the log that are durable.
    pub entries: u64,
    /// Batches, so calls of `fdatasync`, since the start.
    pub batches: u64,
    /// Records lost since the start; only with `on_full = "allow"`.
    pub lost: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) watch: Arc<dyn Watch>,
    trays: Mutex<Vec<Arc<Tray>>>,
    health: AtomicU8,
    level: AtomicU8,
    /// The committer sleeps until it is woken.
    pub(super) idle: AtomicBool,
    /// Somebody waits for a record to be durable, or much waits.
    pub(super) urgent: AtomicBool,
    pub(super) stop: AtomicBool,
    /// Nothing is taken any more.
    pub(super) closing: AtomicBool,
    committer: OnceLock<Thread>,
    keeper: OnceLock<Thread>,
    started: Instant,
    /// Since when the oldest record that is not durable was waiting, in nanoseconds behind
    /// `started`, plus one; 0: none is.
    behind_since: AtomicU64,
    /// `next.log` is there and zeroed.
    pub(super) next_ready: AtomicBool,
    /// `reserve` is there and zeroed.
    pub(super) reserve_ready: AtomicBool,
    /// How the last attempt to prepare `next.log` ended.
    space: AtomicU8,
    /// The segment that is written was the reserve.
    pub(super) in_reserve: AtomicBool,
    /// First index of the segment that is written.
    pub(super) current: AtomicU64,
    /// Bytes of everything but the current segment and the preallocated next one.
    pub(super) kept_bytes: AtomicU64,
    /// Bytes written of the current segment.
    pub(super) current_bytes: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) batches: AtomicU64,
    /// Boot time until which recording is eased, in nanoseconds; 0: it is not.
    eased_until: AtomicU64,
    lost: AtomicU64,
    lost_unreported: AtomicU64,
    lost_since: AtomicU64,
}

impl Shared {
    pub(super) fn new(settings: Settings, watch: Arc<dyn Watch>) -> Self {
        Self {
            settings,
            watch,
            trays: Mutex::default(),
            health: AtomicU8::new(Health::Good as u8),
            level: AtomicU8::new(Level::Low as u8),
            idle: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            committer: OnceLock::new(),
            keeper: OnceLock::new(),
            started: Instant::now(),
            behind_since: AtomicU64::new(0),
            next_ready: AtomicBool::new(false),
            reserve_ready: AtomicBool::new(false),
            space: AtomicU8::new(Space::Enough as u8),
            in_reserve: AtomicBool::new(false),
            current: AtomicU64::new(0),
            kept_bytes: AtomicU64::new(0),
            current_bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            eased_until: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lost_unreported: AtomicU64::new(0),
            lost_since: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn status(&self) -> StoreStatus {
        StoreStatus {
            health: self.health(),
            level: self.level(),
            used_bytes: self.used_bytes(),
            entries: self.entries.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Good,
            1 => Health::Full,
            2 => Health::Broken,
            _ => Health::Gone,
        }
    }

    pub(super) fn set_health(&self, health: Health) {
        if self.health.swap(health as u8, Ordering::AcqRel) != health as u8 {
            self.trays().iter().for_each(|tray| tray.notify());
        }
    }

    pub(super) fn level(&self) -> Level {
        Level::ALL[usize::from(self.level.load(Ordering::Relaxed))]
    }

    pub(super) fn space(&self) -> Space {
        Space::of(self.space.load(Ordering::Acquire))
    }

    /// Gives what it was before.
    pub(super) fn set_space(&self, space: Space) -> Space {
        Space::of(self.space.swap(space as u8, Ordering::AcqRel))
    }

    fn used_bytes(&self) -> u64 {
        let kept = self.kept_bytes.load(Ordering::Relaxed);
        kept.saturating_add(self.current_bytes.load(Ordering::Relaxed))
    }

    /// Has recording eased until a moment, or no longer.
    pub(super) fn ease(&self, until: Option<BootNanos>) {
        self.eased_until.store(until.map_or(0, |until| until.0), Ordering::Release);
        // Who waits for a disk that fails need not wait any more.
        self.trays().iter().for_each(|tray| {
            tray.notify();
            tray.wake_all();
        });
        self.wake_keeper();
    }

    /// Whether recording is eased now: it ends by itself, whoever forgets it.
    pub(super) fn eased(&self) -> bool {
        match self.eased_until.load(Ordering::Acquire) {
            0 => false,
            until => Now::read().boot.0 < until,
        }
    }

    /// What happens while nothing can be recorded, as of now.
    pub(super) fn on_full(&self) -> OnFull {
        if self.eased() { OnFull::Allow } else { self.settings.on_full }
    }

    /// Looks how much of the quota is used, and tells when that crosses a watermark.
    pub(super) fn look_at_quota(&self) {
        let (used, quota) = (self.used_bytes(), self.settings.quota_bytes);
        let level = Level::of(used, quota);
        if self.level.swap(level as u8, Ordering::Relaxed) != level as u8 {
            self.watch.notice(Notice::Watermark { level, used_bytes: used, quota_bytes: quota });
            self.trays().iter().for_each(|tray| tray.notify());
        }
    }

    pub(super) fn add(&self, tray: Arc<Tray>) {
        self.trays().push(tray);
    }

    pub(super) fn trays(&self) -> MutexGuard<'_, Vec<Arc<Tray>>> {
        // Nothing under this lock panics halfway through a change.
        self.trays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_lost(&self, records: u64, since: WallNanos) {
        self.lost.fetch_add(records, Ordering::Relaxed);
        self.lost_since.fetch_min(since.0, Ordering::Relaxed);
        self.lost_unreported.fetch_add(records, Ordering::Release);
    }

    /// Tells of losses that were not told of yet: now they can be recorded.
    pub(super) fn report_losses(&self) {
        if self.lost_unreported.load(Ordering::Relaxed) > 0 {
            let count = self.lost_unreported.swap(0, Ordering::Acquire);
            let since = WallNanos(self.lost_since.swap(u64::MAX, Ordering::Relaxed));
            self.watch.notice(Notice::Lost { count, since });
        }
    }

    pub(super) fn set_committer(&self, thread: Thread) {
        // Set once, by whoever starts the thread.
        let _ = self.committer.set(thread);
    }

    pub(super) fn set_keeper(&self, thread: Thread) {
        let _ = self.keeper.set(thread);
    }

    pub(super) fn wake_keeper(&self) {
        self.keeper.get().inspect(|thread| thread.unpark());
    }

    pub(super) fn wake_committer(&self) {
        self.committer.get().inspect(|thread| thread.unpark());
    }

    /// Has the committer start at once. Costs a system call only where it sleeps, once a batch.
    pub(super) fn hurry(&self) {
        if !self.urgent.swap(true, Ordering::AcqRel) {
            self.wake_committer();
        }
    }

    /// Wakes the committer if it sleeps until called.
    pub(super) fn wake_if_idle(&self) {
        // Pairs with the committer, which says that it is idle and then looks at the trays again.
        fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) && self.idle.swap(false, Ordering::Relaxed) {
            self.wake_committer();
        }
    }

    /// Something waits for the disk since `since`, or nothing does.
    pub(super) fn set_behind(&self, since: Option<Instant>) {
        let nanos = since.map_or(0, |since| {
            let nanos = since.saturating_duration_since(self.started).as_nanos();
            u64::try_from(nanos).unwrap_or(u64::MAX - 1) + 1
        });
        self.behind_since.store(nanos, Ordering::Relaxed);
    }

    /// Whether the disk has not answered for so long that it may never.
    pub(super) fn hangs(&self) -> bool {
        self.behind() >= self.settings.hangs_after
    }

    /// How long the oldest record that the committer holds has waited.
    pub(super) fn behind(&self) -> Duration {
        match self.behind_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.started.elapsed().saturating_sub(Duration::from_nanos(since - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks_lie_where_they_are_promised() {
        let level = |used| Level::of(used, 1_000);
        let expected = [
            (0, Level::Low),
            (749, Level::Low),
            (750, Level::Warn),
            (899, Level::Warn),
            (900, Level::Alarm),
            (949, Level::Alarm),
            (950, Level::NoSessions),
            (999, Level::NoSessions),
            (1_000, Level::NoStatements),
            (u64::MAX, Level::NoStatements),
        ];
        for (used, expected) in expected {
            assert_eq!(level(used), expected, "{used}");
        }
        assert_eq!(Level::of(0, u64::MAX), Level::Low);
        assert_eq!(Level::of(u64::MAX, u64::MAX), Level::NoStatements);
    }
}
