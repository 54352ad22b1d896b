//! Moments and days as people write them.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment: nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub u64);

/// A day, UTC: `2026-03-01`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day(pub String);

/// RFC 3339 with or without a time (then midnight UTC), or how long ago: `90s`, `2h`, `3d`.
pub(in crate::cli) fn parse_moment(text: &str) -> Result<Moment, String> {
    parse_moment_at(text, SystemTime::now())
}

fn parse_moment_at(text: &str, now: SystemTime) -> Result<Moment, String> {
    let expected = || {
        format!(
            "expected a time such as 2026-03-01T12:00:00Z, or an age such as 2h, found `{text}`"
        )
    };
    let at = if text.len() == "2026-03-01".len() && text.as_bytes().get(4) == Some(&b'-') {
        humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).map_err(|_| expected())?
    } else if let Ok(at) = humantime::parse_rfc3339_weak(text) {
        at
    } else {
        let age = humantime::parse_duration(text).map_err(|_| expected())?;
        now.checked_sub(age).ok_or_else(expected)?
    };
    let since = at.duration_since(UNIX_EPOCH).map_err(|_| expected())?;
    u64::try_from(since.as_nanos()).map(Moment).map_err(|_| expected())
}

/// A date that exists.
pub(super) fn parse_day(text: &str) -> Result<Day, String> {
    humantime::parse_rfc3339(&format!("{text}T00:00:00Z"))
        .map(|_| Day(text.to_owned()))
        .map_err(|_| format!("expected a date such as 2026-03-01, found `{text}`"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_dates_times_and_ages() {
        let now = UNIX_EPOCH + Duration::from_secs(1_772_366_400);
        let at = |text: &str| parse_moment_at(text, now).map(|moment| moment.0 / 1_000_000_000);
        assert_eq!(at("2026-03-01"), Ok(1_772_323_200));
        assert_eq!(at("2026-03-01T12:00:00Z"), Ok(1_772_366_400));
        assert_eq!(at("2026-03-01 12:00:00"), Ok(1_772_366_400));
        assert_eq!(at("2h"), Ok(1_772_359_200));
        assert_eq!(at("3d"), Ok(1_772_366_400 - 3 * 86_400));
        for bad in ["", "x", "2026-13-01", "2026-03-0x", "-2h"] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_exist() {
        assert_eq!(parse_day("2026-02-28"), Ok(Day("2026-02-28".to_owned())));
        for bad in ["2026-02-30", "today", "2026-2-1", "2026-02-28T00:00:00Z"] {
            assert!(parse_day(bad).is_err(), "{bad}");
        }
    }
}
