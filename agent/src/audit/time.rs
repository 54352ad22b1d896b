//! Times of records: wall clock and time since boot, apart from each other, and the one place that
//! reads the clocks.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::time::{ClockId, clock_gettime};

/// Wall time: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted. Good until the year
/// 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallNanos(pub u64);

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`): the clock of the kernel side's
/// events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootNanos(pub u64);

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For people.
    pub wall: WallNanos,
    /// For intervals, and to compare with the kernel's events.
    pub boot: BootNanos,
}

impl Now {
    /// Reads both clocks. Costs two calls into the vDSO, no system call.
    pub fn read() -> Self {
        Self {
            wall: WallNanos(nanos(ClockId::CLOCK_REALTIME)),
            boot: BootNanos(nanos(ClockId::CLOCK_BOOTTIME)),
        }
    }
}

/// Number of the state of the clock that was recorded last, see [`clock_state`].
static CLOCK_STATE: AtomicU64 = AtomicU64::new(0);

/// Number of the `clock` record in force, 0 before the first: every record names it.
pub fn clock_state() -> u64 {
    CLOCK_STATE.load(Ordering::Relaxed)
}

/// A state of the clock was recorded.
pub fn set_clock_state(number: u64) {
    CLOCK_STATE.store(number, Ordering::Relaxed);
}

impl WallNanos {
    /// The wall time of an event of the kernel side, seen at `now`. Right as long as the wall clock
    /// was not set between the two.
    pub fn at(boot: BootNanos, now: Now) -> Self {
        Self((now.wall.0.saturating_sub(now.boot.0)).saturating_add(boot.0))
    }

    /// RFC 3339 in UTC with nine decimals, for example `2026-03-01T12:00:00.000000001Z`: always
    /// [`RFC3339_LEN`] bytes.
    pub fn rfc3339(self) -> [u8; RFC3339_LEN] {
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], second / 3600);
        digits(&mut text[14..16], second / 60 % 60);
        digits(&mut text[17..19], second % 60);
        digits(&mut text[20..29], nanos);
        text
    }

    /// The same moment as part of a file name: `20260301T120000.000000001Z`.
    pub fn file_stamp(self) -> String {
        self.rfc3339().iter().filter(|b| !matches!(b, b'-' | b':')).map(|b| *b as char).collect()
    }
}

/// Length of [`WallNanos::rfc3339`].
pub const RFC3339_LEN: usize = 30;

/// Reads a clock that counts up from zero or from 1970.
fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("Linux has had this clock since 2.6.39");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Writes `value` right-aligned with leading zeros.
fn digits(out: &mut [u8], mut value: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar.
///
/// Years are counted from March, so that a leap day ends its year: then day `d` of such a year lies
/// in month `(5d + 2) / 153`.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_MARCH_OF_YEAR_0: u64 = 719_468;
    const ERA: u64 = 146_097; // days of 400 years
    let days = days + DAYS_TO_MARCH_OF_YEAR_0;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (carry, month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    (year + era * 400 + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(nanos: u64) -> String {
        String::from_utf8(WallNanos(nanos).rfc3339().to_vec()).expect("ASCII")
    }

    #[test]
    fn prints_known_moments() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(1_772_323_199_999_999_999), "2026-02-28T23:59:59.999999999Z");
        assert_eq!(text(u64::MAX), "2554-07-21T23:34:33.709551615Z");
        let stamp = WallNanos(1_772_323_199_000_000_042).file_stamp();
        assert_eq!(stamp, "20260228T235959.000000042Z");
    }

    #[test]
    fn agrees_with_another_implementation_on_every_day() {
        for day in 0..213_000_u64 {
            let nanos = day * 86_400_000_000_000 + day;
            let moment = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanos);
            assert_eq!(text(nanos), humantime::format_rfc3339_nanos(moment).to_string());
        }
    }

    #[test]
    fn boot_times_become_wall_times() {
        let now = Now { wall: WallNanos(5_000), boot: BootNanos(1_000) };
        assert_eq!(WallNanos::at(BootNanos(400), now), WallNanos(4_400));
        let read = Now::read();
        assert!(read.wall.0 > 1_700_000_000_000_000_000 && read.boot.0 > 0);
    }
}
