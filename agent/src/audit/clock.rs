//! The state of the clock, as far as the kernel knows it, and when it was set.
//!
//! The order of the trail is that of its tree, never the clock's; what the wall times of its entries are worth is recorded by
//! `clock` entries: at the start, hourly, and at each change. A change is a step, or another answer to whether the clock is
//! synchronised, what its offset from TAI is, and whether a leap second is to come.
//!
//! `CLOCK_REALTIME` and `CLOCK_BOOTTIME` are steered alike, so their difference changes only when somebody sets the clock, or
//! a leap second does. That is what a step is here, whatever caused it; how fast it is noticed is the reader's business
//! (`app::clock`: a timer that the kernel cancels when the clock is set).

use super::cbor::Map;
use super::schema::f;
use std::time::Duration;

use super::{Now, WallNanos};

/// A step of at least this size is one, whether or not the kernel says that the clock was set.
pub const STEP_MIN: Duration = Duration::from_millis(10);
/// The same when the kernel says so: what is left is the time between reading the two clocks.
pub const STEP_TOLD_MIN: Duration = Duration::from_micros(500);
/// Without a change, this often.
pub const EVERY: Duration = Duration::from_secs(3600);
/// A leap second, and how far from a second a step of it may be.
const LEAP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(100));

/// What `adjtimex(2)` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelClock {
    /// Time offset that is left to be slewed away, nanoseconds; positive: the clock is behind.
    pub offset_ns: i64,
    /// Maximum error, microseconds; it grows while nobody steers.
    pub max_error_us: u64,
    /// `STA_UNSYNC`: nobody steers the clock.
    pub unsynchronised: bool,
    /// TAI minus UTC, seconds; 0 where nobody told the kernel.
    pub tai_offset: u64,
    /// A leap second at the end of the day.
    pub leap: Leap,
}

/// What the kernel is told of the end of the UTC day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leap {
    /// Nothing.
    #[default]
    None,
    /// `STA_INS`: its last second is repeated.
    Insert,
    /// `STA_DEL`: its last second is left out.
    Delete,
}

/// One look at the clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Both clocks, read directly after each other.
    pub now: Now,
    /// The kernel's knowledge; `None` when it could not be asked.
    pub kernel: Option<KernelClock>,
    /// The kernel says that the clock was set since the last look.
    pub told_set: bool,
}

/// `clock` (18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Field 140: number of the entry in the agent's run, from 1; field 5 of the entries behind it names it.
    pub number: u64,
    /// Field 56: why it is there.
    pub cause: Cause,
    /// Field 141: who steers the clock. The kernel does not know; `unknown` unless somebody tells.
    pub source: &'static str,
    /// Field 142 and, below 0, 148: [`KernelClock::offset_ns`].
    pub offset_ns: i64,
    /// Field 143: [`KernelClock::max_error_us`].
    pub max_error_us: u64,
    /// Field 144: [`KernelClock::unsynchronised`]; also when the kernel could not be asked.
    pub unsynchronised: bool,
    /// Field 145: [`KernelClock::tai_offset`].
    pub tai_offset: u64,
    /// Field 50.
    pub boot_id: String,
    /// Fields 146 and 147, when it was set.
    pub step: Option<Step>,
}

/// The clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Field 146: by how much, nanoseconds.
    pub by_ns: u64,
    /// Field 147: it was set back.
    pub back: bool,
    /// Field 149: what the clock would have shown at the time of the entry, had it not been set; field 3 is what it shows.
    pub before: WallNanos,
}

/// Why there is a `clock` entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The agent starts.
    Start,
    /// An hour has passed.
    Hourly,
    /// The clock was set.
    Step,
    /// The clock was set by a second, and a leap second was announced.
    LeapSecond,
    /// What the kernel knows of the clock has changed.
    State,
}

impl Clock {
    pub(super) fn fill(&self, entry: &mut Map<'_>) {
        entry.text(f::BOOT_ID, &self.boot_id);
        entry.text(f::REASON, self.cause.name());
        entry.uint(f::CLOCK_NUMBER, self.number);
        entry.text(f::CLOCK_SOURCE, self.source);
        entry.uint(f::OFFSET_NS, self.offset_ns.unsigned_abs());
        entry.uint(f::MAX_ERROR_US, self.max_error_us);
        entry.flag(f::UNSYNCHRONISED, self.unsynchronised);
        entry.uint(f::TAI_OFFSET, self.tai_offset);
        if let Some(step) = &self.step {
            entry.uint(f::STEP_NS, step.by_ns);
            entry.flag(f::STEP_BACK, step.back);
        }
        entry.flag(f::OFFSET_BACK, self.offset_ns < 0);
        if let Some(step) = &self.step {
            entry.wall(f::STEP_BEFORE, step.before);
        }
    }
}

impl Cause {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Hourly => "hourly",
            Self::Step => "step",
            Self::LeapSecond => "leap_second",
            Self::State => "state",
        }
    }
}

/// Decides which looks at the clock are worth an entry.
#[derive(Debug)]
pub struct Watch {
    boot_id: String,
    number: u64,
    last: Option<Recorded>,
}

/// What the last entry said.
#[derive(Clone, Copy, Debug)]
struct Recorded {
    at: Now,
    kernel: Option<KernelClock>,
}

impl Watch {
    /// Nothing recorded yet.
    pub fn new(boot_id: String) -> Self {
        Self { boot_id, number: 0, last: None }
    }

    /// Looks. `Some`: to be recorded.
    pub fn look(&mut self, sample: &Sample) -> Option<Clock> {
        let (cause, step) = match &self.last {
            None => (Cause::Start, None),
            Some(last) => last.compare(sample)?,
        };
        self.number += 1;
        self.last = Some(Recorded { at: sample.now, kernel: sample.kernel });
        let kernel = sample.kernel;
        Some(Clock {
            number: self.number,
            cause,
            source: "unknown",
            offset_ns: kernel.map_or(0, |k| k.offset_ns),
            max_error_us: kernel.map_or(0, |k| k.max_error_us),
            unsynchronised: kernel.is_none_or(|k| k.unsynchronised),
            tai_offset: kernel.map_or(0, |k| k.tai_offset),
            boot_id: self.boot_id.clone(),
            step,
        })
    }
}

impl Recorded {
    fn compare(&self, sample: &Sample) -> Option<(Cause, Option<Step>)> {
        if let Some(step) = self.step(sample) {
            let announced = self.kernel.map_or(Leap::None, |kernel| kernel.leap);
            let (second, about) = LEAP;
            let is_second = Duration::from_nanos(step.by_ns).abs_diff(second) < about;
            let leap = is_second
                && match announced {
                    Leap::None => false,
                    Leap::Insert => step.back,
                    Leap::Delete => !step.back,
                };
            return Some((if leap { Cause::LeapSecond } else { Cause::Step }, Some(step)));
        }
        // The offset and the error change all the time.
        let state =
            |kernel: Option<KernelClock>| kernel.map(|k| (k.unsynchronised, k.tai_offset, k.leap));
        if state(self.kernel) != state(sample.kernel) {
            return Some((Cause::State, None));
        }
        let passed = sample.now.boot.0.saturating_sub(self.at.boot.0);
        (u128::from(passed) >= EVERY.as_nanos()).then_some((Cause::Hourly, None))
    }

    /// How far the clock was set since: compared with the last entry, so that small steps add up.
    fn step(&self, sample: &Sample) -> Option<Step> {
        let passed = sample.now.boot.0.saturating_sub(self.at.boot.0);
        let before = self.at.wall.0.saturating_add(passed);
        let shown = sample.now.wall.0;
        let by_ns = shown.abs_diff(before);
        let least = if sample.told_set { STEP_TOLD_MIN } else { STEP_MIN };
        (u128::from(by_ns) >= least.as_nanos()).then_some(Step {
            by_ns,
            back: shown < before,
            before: WallNanos(before),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::BootNanos;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;
    /// 2026-01-01T00:00:00Z.
    const NEW_YEAR: u64 = 1_767_225_600 * SECOND;
    const BOOT: u64 = 5000 * SECOND;

    fn at(wall: u64, boot: u64) -> Now {
        Now { wall: WallNanos(wall), boot: BootNanos(boot) }
    }

    fn sample(wall: u64, boot: u64) -> Sample {
        Sample { now: at(wall, boot), kernel: Some(KernelClock::default()), told_set: false }
    }

    fn started(first: Sample) -> Watch {
        let mut watch = Watch::new("boot".to_owned());
        let start = watch.look(&first).expect("the first look is recorded");
        assert_eq!((start.number, start.cause, start.step), (1, Cause::Start, None));
        watch
    }

    /// What the look at `wall`, `passed` later, gives: cause, and nanoseconds of the step, below 0 for back.
    fn second(wall: u64, passed: u64, told_set: bool) -> Option<(Cause, Option<i128>)> {
        let mut watch = started(sample(NEW_YEAR, BOOT));
        let look = Sample { told_set, ..sample(wall, BOOT + passed) };
        let clock = watch.look(&look)?;
        assert_eq!(clock.number, 2);
        let step = clock.step.map(|step| {
            assert_eq!(step.before, WallNanos(NEW_YEAR + passed), "had it not been set");
            if step.back { -i128::from(step.by_ns) } else { i128::from(step.by_ns) }
        });
        Some((clock.cause, step))
    }

    #[test]
    fn steps_are_told_from_time_that_passes() {
        const MS: u64 = 1_000_000;
        let step = |by: i128| Some((Cause::Step, Some(by)));
        let table: [(&str, u64, u64, bool, _); 14] = [
            ("nothing", NEW_YEAR + SECOND, SECOND, false, None),
            ("cancelled, nothing set", NEW_YEAR + SECOND, SECOND, true, None),
            ("the two reads apart", NEW_YEAR + SECOND + MS / 10, SECOND, true, None),
            ("an hour on", NEW_YEAR + HOUR, 0, true, step(i128::from(HOUR))),
            ("an hour back", NEW_YEAR - HOUR, 0, true, step(-i128::from(HOUR))),
            ("an hour back, later", NEW_YEAR - HOUR + 9, 9, false, step(-i128::from(HOUR))),
            ("1970", 0, SECOND, true, step(-i128::from(NEW_YEAR + SECOND))),
            ("the year 2554", u64::MAX, 0, true, step(i128::from(u64::MAX - NEW_YEAR))),
            ("9.9 ms, unsaid", NEW_YEAR + 9 * MS + 900_000, 0, false, None),
            ("10 ms, unsaid", NEW_YEAR + 10 * MS, 0, false, step(10_000_000)),
            ("1 ms, said", NEW_YEAR + MS, 0, true, step(1_000_000)),
            (
                "suspended for a day",
                NEW_YEAR + 24 * HOUR,
                24 * HOUR,
                true,
                Some((Cause::Hourly, None)),
            ),
            ("an hour", NEW_YEAR + HOUR, HOUR, false, Some((Cause::Hourly, None))),
            ("almost an hour", NEW_YEAR + HOUR - 1, HOUR - 1, false, None),
        ];
        for (what, wall, passed, told, expected) in table {
            assert_eq!(second(wall, passed, told), expected, "{what}");
        }
    }

    #[test]
    fn small_steps_add_up() {
        let mut watch = started(sample(NEW_YEAR, BOOT));
        let small = 4_000_000;
        assert_eq!(watch.look(&sample(NEW_YEAR + small, BOOT)), None);
        assert_eq!(watch.look(&sample(NEW_YEAR + 2 * small, BOOT)), None);
        let clock = watch.look(&sample(NEW_YEAR + 3 * small, BOOT)).expect("12 ms");
        assert_eq!(clock.step.map(|step| step.by_ns), Some(3 * small));
        assert_eq!(watch.look(&sample(NEW_YEAR + 3 * small, BOOT)), None, "said once");
    }

    #[test]
    fn a_start_in_1970_is_recorded_and_so_is_its_correction() {
        let mut watch = started(sample(7 * SECOND, 7 * SECOND));
        let clock = watch.look(&sample(NEW_YEAR, 8 * SECOND)).expect("a step");
        let step = clock.step.expect("a step");
        assert_eq!((step.by_ns, step.back), (NEW_YEAR - 8 * SECOND, false));
        assert_eq!(step.before, WallNanos(8 * SECOND));
    }

    #[test]
    fn a_second_back_is_a_leap_second_only_when_one_was_announced() {
        let table = [
            (Leap::Insert, NEW_YEAR - SECOND, Cause::LeapSecond),
            (Leap::Delete, NEW_YEAR + SECOND, Cause::LeapSecond),
            (Leap::None, NEW_YEAR - SECOND, Cause::Step),
            (Leap::Insert, NEW_YEAR + SECOND, Cause::Step),
            (Leap::Delete, NEW_YEAR - SECOND, Cause::Step),
            (Leap::Insert, NEW_YEAR - 2 * SECOND, Cause::Step),
        ];
        for (leap, wall, cause) in table {
            let kernel = Some(KernelClock { leap, ..KernelClock::default() });
            let mut watch = started(Sample { kernel, ..sample(NEW_YEAR, BOOT) });
            let look = Sample { kernel, told_set: true, ..sample(wall, BOOT) };
            assert_eq!(watch.look(&look).map(|clock| clock.cause), Some(cause), "{leap:?} {wall}");
        }
    }

    #[test]
    fn what_the_kernel_knows_is_recorded_when_it_changes() {
        let steady = KernelClock { offset_ns: 40, max_error_us: 9, ..KernelClock::default() };
        let table = [
            (Some(KernelClock { offset_ns: -900, max_error_us: 70, ..steady }), None),
            (Some(KernelClock { unsynchronised: true, ..steady }), Some(Cause::State)),
            (Some(KernelClock { tai_offset: 37, ..steady }), Some(Cause::State)),
            (Some(KernelClock { leap: Leap::Insert, ..steady }), Some(Cause::State)),
            (None, Some(Cause::State)),
        ];
        for (kernel, expected) in table {
            let first = Sample { kernel: Some(steady), ..sample(NEW_YEAR, BOOT) };
            let mut watch = started(first);
            let look = Sample { kernel, ..sample(NEW_YEAR + SECOND, BOOT + SECOND) };
            assert_eq!(watch.look(&look).map(|clock| clock.cause), expected, "{kernel:?}");
        }
        let mut watch = started(sample(NEW_YEAR, BOOT));
        let unknown = Sample { kernel: None, ..sample(NEW_YEAR, BOOT) };
        let clock = watch.look(&unknown).expect("a change");
        assert!(clock.unsynchronised, "nobody says that it is synchronised");
    }
}
