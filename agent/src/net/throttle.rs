//! Who fails too often is slowed, and then refused for a while.
//!
//! Counted are failed logins, per process and per role of a server, and cancel requests with a key that nobody has, per user of
//! a network namespace. A key of 32 bits is out of reach of who may try a few a minute. No success forgives a failure: whoever
//! guesses could wait for it, or have one of its own. But a process that logged in as a role is not refused for what other
//! processes do to that role.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Most who are watched at once; behind it the one whose last failure is longest ago is forgotten.
pub const WATCHED_MAX: usize = 16 * 1024;
/// What each failure beyond half of the bound costs, until the bound is reached.
const DELAY_STEP: Duration = Duration::from_millis(250);

/// How much failing is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Failures within `window` after which everything is refused.
    pub failures_max: u32,
    /// How far back failures count.
    pub window: Duration,
    /// How long everything is refused then, from the last failure on.
    pub refused: Duration,
}

/// Failures of those who had any.
#[derive(Debug)]
pub struct Throttle<K> {
    bounds: Bounds,
    failures: Mutex<HashMap<K, Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    first: Instant,
    last: Instant,
}

/// Who succeeded: what others fail at is not held against them. When there are too many all are forgotten.
#[derive(Debug)]
pub struct Known<K>(Mutex<HashSet<K>>);

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Known<K> {
    /// `who` succeeded.
    pub fn add(&self, who: K) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= WATCHED_MAX {
            known.clear();
        }
        known.insert(who);
    }

    /// Whether `who` did.
    pub fn has(&self, who: &K) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(who)
    }
}

/// May it go on?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Go,
    /// Not before this time has passed.
    Refused(Duration),
}

impl<K: Eq + Hash + Clone> Throttle<K> {
    /// Nobody failed yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, failures: Mutex::default() }
    }

    /// Asks before an attempt.
    pub fn check(&self, who: &K, now: Instant) -> Verdict {
        let mut all = self.locked();
        let Some(failures) = all.get(who) else { return Verdict::Go };
        if failures.count < self.bounds.failures_max {
            if now.duration_since(failures.first) >= self.bounds.window {
                all.remove(who);
            }
            return Verdict::Go;
        }
        let since = now.duration_since(failures.last);
        match self.bounds.refused.checked_sub(since).filter(|left| !left.is_zero()) {
            Some(left) => Verdict::Refused(left),
            None => {
                all.remove(who);
                Verdict::Go
            }
        }
    }

    /// Counts a failure, and says how long its answer is to wait.
    pub fn failed(&self, who: &K, now: Instant) -> Duration {
        let mut all = self.locked();
        if !all.contains_key(who) && all.len() >= WATCHED_MAX {
            let oldest = all.iter().min_by_key(|(_, f)| f.last).map(|(who, _)| who.clone());
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        let failures =
            all.entry(who.clone()).or_insert(Failures { count: 0, first: now, last: now });
        let refused = failures.count >= self.bounds.failures_max
            && now.duration_since(failures.last) < self.bounds.refused;
        if now.duration_since(failures.first) >= self.bounds.window && !refused {
            *failures = Failures { count: 0, first: now, last: now };
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        let beyond = failures.count.saturating_sub(self.bounds.failures_max / 2);
        DELAY_STEP * beyond.min(self.bounds.failures_max)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<K, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        failures_max: 4,
        window: Duration::from_secs(60),
        refused: Duration::from_secs(30),
    };

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn slows_then_refuses_then_forgives() {
        let throttle = Throttle::new(BOUNDS);
        let start = Instant::now();
        let delays: Vec<_> = (0..4).map(|s| throttle.failed(&1, at(start, s))).collect();
        assert_eq!(delays, [Duration::ZERO, Duration::ZERO, DELAY_STEP, DELAY_STEP * 2]);
        let left = Verdict::Refused(Duration::from_secs(29));
        assert_eq!(throttle.check(&1, at(start, 4)), left);
        assert_eq!(throttle.check(&2, at(start, 4)), Verdict::Go);
        assert_eq!(throttle.check(&1, at(start, 33)), Verdict::Go);
        assert_eq!(throttle.failed(&1, at(start, 33)), Duration::ZERO);
    }

    #[test]
    fn failures_that_are_long_ago_do_not_count() {
        let throttle = Throttle::new(BOUNDS);
        let start = Instant::now();
        for attempt in 0..20 {
            let now = at(start, attempt * 20);
            assert_eq!(throttle.check(&1, now), Verdict::Go, "attempt {attempt}");
            throttle.failed(&1, now);
        }
    }

    #[test]
    fn a_late_failure_does_not_shorten_a_refusal() {
        let bounds = Bounds { refused: Duration::from_secs(600), ..BOUNDS };
        let throttle = Throttle::new(bounds);
        let start = Instant::now();
        for second in 0..4 {
            throttle.failed(&1, at(start, second));
        }
        throttle.failed(&1, at(start, 61));
        assert_eq!(throttle.check(&1, at(start, 62)), Verdict::Refused(Duration::from_secs(599)));
    }

    #[test]
    fn who_logged_in_is_known_until_too_many_are() {
        let known = Known::default();
        known.add(0);
        assert!(known.has(&0) && !known.has(&1));
        for who in 1..=WATCHED_MAX {
            known.add(who);
        }
        assert!(known.has(&WATCHED_MAX) && !known.has(&0));
    }

    #[test]
    fn watches_a_bounded_number() {
        let throttle = Throttle::new(BOUNDS);
        let start = Instant::now();
        for who in 0..WATCHED_MAX as u64 + 10 {
            throttle.failed(&who, start + Duration::from_millis(who));
        }
        assert_eq!(throttle.locked().len(), WATCHED_MAX);
        assert!(!throttle.locked().contains_key(&0));
    }
}
