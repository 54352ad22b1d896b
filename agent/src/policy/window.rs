//! Times of the week.

/// A moment: seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

/// Minutes of a day.
pub const DAY_MINUTES: u16 = 24 * 60;
/// Days, as windows name them; the first is bit 0 of [`Window::days`].
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Later moments count as this one, some 34 000 years from now.
const SECONDS_MAX: u64 = 1 << 40;
/// 1970-01-01 was a Thursday.
const EPOCH_DAY: i64 = 3;

/// Hours of days of the week, at a fixed distance from UTC: summer time is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Days on which it begins, Monday in bit 0.
    pub days: u8,
    /// First minute of the day.
    pub from: u16,
    /// First minute behind it, at most [`DAY_MINUTES`]. When it is before `from` the window ends on the next day; they
    /// are never the same.
    pub to: u16,
    /// Minutes by which its clock is ahead of UTC.
    pub offset: i16,
}

impl Window {
    /// Whether `at` lies in it.
    pub fn contains(&self, at: WallTime) -> bool {
        let (day, minute) = self.local(at);
        let begins = |day: i64| self.days & (1 << (day + EPOCH_DAY).rem_euclid(7)) != 0;
        if self.from < self.to {
            begins(day) && (self.from..self.to).contains(&minute)
        } else {
            (begins(day) && minute >= self.from) || (begins(day - 1) && minute < self.to)
        }
    }

    /// The first moment after `at` when that is otherwise; `None` when it never is.
    pub fn changes(&self, at: WallTime) -> Option<WallTime> {
        let now = self.contains(at);
        let (today, _) = self.local(at);
        let moments = (today..=today + 8).flat_map(|day| {
            let mut minutes = [0, self.from, self.to % DAY_MINUTES];
            minutes.sort_unstable();
            minutes.map(|minute| (day * i64::from(DAY_MINUTES) + i64::from(minute)) * 60)
        });
        moments
            .filter_map(|local| u64::try_from(local - i64::from(self.offset) * 60).ok())
            .map(WallTime)
            .find(|moment| *moment > at && self.contains(*moment) != now)
    }

    /// Day since 1970 and minute of the day, by its own clock.
    fn local(&self, at: WallTime) -> (i64, u16) {
        let seconds = i64::try_from(at.0.min(SECONDS_MAX)).expect("a bounded number");
        let minutes = seconds / 60 + i64::from(self.offset);
        let day = i64::from(DAY_MINUTES);
        let minute = minutes.rem_euclid(day);
        (minutes.div_euclid(day), u16::try_from(minute).expect("less than the minutes of a day"))
    }
}

/// Reads `08:30`, up to `24:00`, as a minute of the day.
pub(super) fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = two_numbers(text)?;
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY_MINUTES).then_some(minute)
}

/// Reads `UTC`, `+02:00` or `-05:30`, as minutes ahead of UTC.
pub(super) fn offset(text: &str) -> Option<i16> {
    if text == "UTC" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = two_numbers(&text[1..])?;
    let minutes = i16::try_from(hours * 60 + minutes % 60).ok().filter(|_| minutes < 60)?;
    (hours <= 15).then_some(sign * minutes)
}

fn two_numbers(text: &str) -> Option<(u16, u16)> {
    let (first, second) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    Some((number(first)?, number(second)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Monday 2024-01-01T00:00:00Z.
    const MONDAY: u64 = 1_704_067_200;
    const WORKDAYS: u8 = 0b1_1111;

    fn at(day: u64, hour: u64, minute: u64) -> WallTime {
        WallTime(MONDAY + day * 86_400 + hour * 3600 + minute * 60)
    }

    #[test]
    fn windows_begin_on_their_days() {
        let office = Window { days: WORKDAYS, from: 8 * 60, to: 18 * 60, offset: 0 };
        for (moment, expected) in [
            (at(0, 7, 59), false),
            (at(0, 8, 0), true),
            (at(0, 17, 59), true),
            (at(0, 18, 0), false),
            (at(4, 12, 0), true),
            (at(5, 12, 0), false),
        ] {
            assert_eq!(office.contains(moment), expected, "{moment:?}");
        }
        assert_eq!(office.changes(at(0, 7, 59)), Some(at(0, 8, 0)));
        assert_eq!(office.changes(at(4, 9, 0)), Some(at(4, 18, 0)));
        assert_eq!(office.changes(at(4, 18, 0)), Some(at(7, 8, 0)));
    }

    #[test]
    fn windows_may_end_on_the_next_day() {
        let friday_night = Window { days: 0b1_0000, from: 22 * 60, to: 6 * 60, offset: 0 };
        assert!(friday_night.contains(at(4, 23, 0)) && friday_night.contains(at(5, 5, 59)));
        assert!(!friday_night.contains(at(4, 5, 0)) && !friday_night.contains(at(5, 23, 0)));
    }

    #[test]
    fn windows_have_their_own_clock() {
        let morning = Window { days: 1, from: 0, to: 60, offset: 120 };
        // Monday 00:30 there is Sunday 22:30 UTC.
        assert!(morning.contains(WallTime(MONDAY - 90 * 60)));
        assert!(!morning.contains(at(0, 0, 30)));
    }

    #[test]
    fn a_window_over_the_week_never_changes() {
        let always = Window { days: 0x7f, from: 0, to: DAY_MINUTES, offset: 0 };
        assert_eq!(always.changes(at(3, 3, 3)), None);
        assert!(always.contains(WallTime(0)) && always.contains(WallTime(u64::MAX)));
    }

    #[test]
    fn hours_and_distances_are_read() {
        assert_eq!((minute("08:30"), minute("24:00")), (Some(510), Some(DAY_MINUTES)));
        for bad in ["8:30", "24:01", "08:60", "0830", "", "-1:00", "+1:00"] {
            assert_eq!(minute(bad), None, "{bad}");
        }
        assert_eq!(
            (offset("UTC"), offset("+02:00"), offset("-05:30")),
            (Some(0), Some(120), Some(-330))
        );
        for bad in ["utc", "Europe/Berlin", "02:00", "+16:00", "+01:60", "é", ""] {
            assert_eq!(offset(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_changes_before_it_is_said_to(
            days in 0_u8..128, from in 0_u16..DAY_MINUTES, to in 1_u16..=DAY_MINUTES,
            offset in -900_i16..=900, start in 0_u64..2_000_000, steps in prop::collection::vec(0_u64..1_000_000, 8),
        ) {
            prop_assume!(from != to);
            let window = Window { days, from, to, offset };
            let start = WallTime(MONDAY + start);
            let now = window.contains(start);
            match window.changes(start) {
                Some(until) => {
                    prop_assert!(until > start);
                    prop_assert_eq!(window.contains(until), !now);
                    for step in steps {
                        let between = WallTime(start.0 + step % (until.0 - start.0));
                        prop_assert_eq!(window.contains(between), now);
                    }
                }
                None => {
                    for step in steps {
                        prop_assert_eq!(window.contains(WallTime(start.0 + step)), now);
                    }
                }
            }
        }
    }
}
