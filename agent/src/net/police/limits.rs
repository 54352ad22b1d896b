//! What a session may take, and for how long: rows, bytes, statements, time.
//!
//! Counts of a session are its own; those of an hour, and of sessions at the same time, are of all sessions of the same subject:
//! same roles of the policy, program, container and role of the database.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    audit::Now,
    pg::{
        error::{Reply, Severity},
        session::{Notice, NoticeSeverity},
    },
    policy::{Class, Counted, Hours, Identity, Limit, LimitAction, Subject, WallTime},
};

/// Subjects whose hours are remembered; when it is reached, those of hours gone by are forgotten.
const SUBJECTS_MAX: usize = 65_536;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_HOUR: u64 = 3600;

/// What subjects took, over all sessions.
#[derive(Debug, Default)]
pub struct Usage {
    subjects: Mutex<HashMap<u64, Taken>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// Hours since 1970.
    hour: u64,
    rows: u64,
    bytes: u64,
    sessions: u64,
}

impl Usage {
    fn locked(&self) -> MutexGuard<'_, HashMap<u64, Taken>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_hour(&self, subject: u64, hour: u64) -> Taken {
        let taken = self.locked().get(&subject).copied().unwrap_or_default();
        if taken.hour == hour {
            taken
        } else {
            Taken { sessions: taken.sessions, ..Taken::default() }
        }
    }

    fn take(&self, subject: u64, hour: u64, rows: u64, bytes: u64) {
        let mut subjects = self.locked();
        if subjects.len() >= SUBJECTS_MAX {
            subjects.retain(|_, taken| taken.hour >= hour || taken.sessions > 0);
        }
        let taken = subjects.entry(subject).or_default();
        if taken.hour != hour {
            *taken = Taken { hour, sessions: taken.sessions, ..Taken::default() };
        }
        taken.rows = taken.rows.saturating_add(rows);
        taken.bytes = taken.bytes.saturating_add(bytes);
    }
}

/// What one session takes.
#[derive(Debug)]
pub(super) struct Meter {
    usage: Arc<Usage>,
    subject: u64,
    policy: Identity,
    class: Class,
    rows: u64,
    bytes: u64,
    /// The second of the last statement, and how many began in it.
    second: (u64, u64),
    /// When the session began, nanoseconds since boot.
    begun: u64,
}

/// What limits say of a statement before it goes.
#[derive(Debug, Default)]
pub struct Before {
    /// The strictest that it must not go for.
    pub stop: Option<Hit>,
    /// Those that only tell.
    pub told: Vec<Hit>,
    /// Rows of it that may pass, and the limit that says so.
    pub rows: Option<(u64, Hit)>,
    /// Bytes of them.
    pub bytes: Option<(u64, Hit)>,
}

/// A limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What happens.
    pub action: LimitAction,
    /// The rule that says so.
    pub rule: Arc<str>,
    /// What was counted, as policies name it.
    pub counted: &'static str,
    /// The most there may be, where it is a number.
    pub max: Option<u64>,
    sqlstate: [u8; 5],
    text: &'static str,
}

/// What a session does, as far as time limits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It waits outside of a transaction, since then (nanoseconds since boot).
    Idle(u64),
    /// It waits inside of one.
    IdleInTransaction(u64),
    /// A statement runs.
    Active(u64),
}

impl Meter {
    /// For a session of `class` that began at `begun`. It counts among the sessions of its subject until it is dropped.
    pub(super) fn new(
        usage: Arc<Usage>,
        policy: Identity,
        class: Class,
        subject: &Subject,
        begun: Now,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        class.key().hash(&mut hasher);
        subject.exe.hash(&mut hasher);
        subject.role.hash(&mut hasher);
        subject.container.as_ref().map(|container| &container.id).hash(&mut hasher);
        let subject = hasher.finish();
        usage.locked().entry(subject).or_default().sessions += 1;
        let begun = begun.boot.0;
        Self { usage, subject, policy, class, rows: 0, bytes: 0, second: (0, 0), begun }
    }

    /// Goes on under another policy.
    pub(super) fn renew(&mut self, policy: Identity, class: Class) {
        (self.policy, self.class) = (policy, class);
    }

    /// Whether there is nothing to look at.
    pub(super) fn is_idle(&self) -> bool {
        let limits = self.class.limits();
        limits.limits.is_empty() && limits.hours.is_empty()
    }

    /// What the limits on the number of sessions say, this one counted.
    pub(super) fn too_many_sessions(&self) -> Before {
        let sessions = self.usage.locked().get(&self.subject).map_or(0, |taken| taken.sessions);
        let mut before = Before::default();
        for limit in &self.class.limits().limits {
            if limit.counted == Counted::Sessions && sessions > limit.max {
                before.hit(limit.into());
            }
        }
        before
    }

    /// What the limits say of a statement that is about to go.
    pub(super) fn before(&mut self, now: Now) -> Before {
        let mut before = Before::default();
        if self.is_idle() {
            return before;
        }
        let wall = now.wall.0 / NANOS_PER_SECOND;
        self.second = match self.second {
            (second, count) if second == wall => (second, count + 1),
            _ => (wall, 1),
        };
        let taken = self.usage.of_hour(self.subject, wall / SECONDS_PER_HOUR);
        for limit in &self.class.limits().limits {
            // A statement that goes on may take one row more than nothing.
            let (rows, left) = match limit.counted {
                Counted::StatementRows => (true, limit.max),
                Counted::StatementBytes => (false, limit.max),
                Counted::SessionRows => (true, limit.max.saturating_sub(self.rows)),
                Counted::SessionBytes => (false, limit.max.saturating_sub(self.bytes)),
                Counted::HourRows => (true, limit.max.saturating_sub(taken.rows)),
                Counted::HourBytes => (false, limit.max.saturating_sub(taken.bytes)),
                Counted::StatementsPerSecond => {
                    if self.second.1 > limit.max {
                        before.hit(limit.into());
                    }
                    continue;
                }
                Counted::Sessions
                | Counted::StatementMillis
                | Counted::IdleMillis
                | Counted::IdleInTransactionMillis
                | Counted::SessionMillis => continue,
            };
            let used_up = left == 0 && limit.max > 0;
            match limit.action {
                _ if used_up => before.hit(limit.into()),
                // They end nothing: that it was too much is told when the next one begins.
                LimitAction::Observe | LimitAction::Warn => {}
                LimitAction::Cancel | LimitAction::Terminate => {
                    let ceiling = if rows { &mut before.rows } else { &mut before.bytes };
                    if ceiling.as_ref().is_none_or(|(most, _)| left < *most) {
                        *ceiling = Some((left, limit.into()));
                    }
                }
            }
        }
        for hours in &self.class.limits().hours {
            if !hours.window.contains(WallTime(wall)) {
                before.hit(hours.into());
            }
        }
        before
    }

    /// A statement returned or copied that much.
    pub(super) fn after(&mut self, rows: u64, bytes: u64, now: Now) {
        self.rows = self.rows.saturating_add(rows);
        self.bytes = self.bytes.saturating_add(bytes);
        let of_hours =
            |limit: &Limit| matches!(limit.counted, Counted::HourRows | Counted::HourBytes);
        if self.class.limits().limits.iter().any(of_hours) {
            let hour = now.wall.0 / NANOS_PER_SECOND / SECONDS_PER_HOUR;
            self.usage.take(self.subject, hour, rows, bytes);
        }
    }

    /// Limits in time that `activity` comes under, each with the moment at which it is reached, nanoseconds since boot.
    pub(super) fn deadlines(&self, activity: Activity) -> impl Iterator<Item = (u64, &Limit)> {
        self.class.limits().limits.iter().filter_map(move |limit| {
            let since = match (limit.counted, activity) {
                (Counted::StatementMillis, Activity::Active(since))
                | (Counted::IdleMillis, Activity::Idle(since))
                | (Counted::IdleInTransactionMillis, Activity::IdleInTransaction(since)) => since,
                (Counted::SessionMillis, _) => self.begun,
                _ => return None,
            };
            Some((since.saturating_add(limit.max.saturating_mul(1_000_000)), limit))
        })
    }

    /// What the client hears of a limit that is reached. `decision` names its record.
    pub(super) fn reply(&self, hit: &Hit, decision: &str) -> Reply {
        let severity = match hit.action {
            LimitAction::Terminate => Severity::Fatal,
            LimitAction::Observe | LimitAction::Warn | LimitAction::Cancel => Severity::Error,
        };
        let detail = Some(self.detail(hit, decision).into());
        Reply { severity, detail, ..Reply::fatal(hit.sqlstate, hit.text) }
    }

    /// The same as a warning.
    pub(super) fn notice(&self, hit: &Hit, decision: &str) -> Notice {
        Notice {
            severity: NoticeSeverity::Warning,
            sqlstate: *b"01000",
            text: format!("a limit is reached: {}", hit.text),
            detail: Some(self.detail(hit, decision)),
            hint: None,
        }
    }

    fn detail(&self, hit: &Hit, decision: &str) -> String {
        let (policy, rule) = (self.policy.short(), &hit.rule);
        format!("Policy {policy}, rule {rule}: {}, decision {decision}.", hit.told())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let mut subjects = self.usage.locked();
        if let Some(taken) = subjects.get_mut(&self.subject) {
            taken.sessions = taken.sessions.saturating_sub(1);
            if taken.sessions == 0 && taken.rows == 0 && taken.bytes == 0 {
                subjects.remove(&self.subject);
            }
        }
    }
}

impl Before {
    fn hit(&mut self, hit: Hit) {
        match hit.action {
            LimitAction::Observe | LimitAction::Warn => self.told.push(hit),
            LimitAction::Cancel | LimitAction::Terminate => {
                if self.stop.as_ref().is_none_or(|stop| hit.action > stop.action) {
                    self.stop = Some(hit);
                }
            }
        }
    }
}

impl Hit {
    /// What was counted, and the most there may be.
    pub fn told(&self) -> String {
        match self.max {
            Some(max) => format!("{} = {max}", self.counted),
            None => self.counted.to_owned(),
        }
    }

    /// SQLSTATE that the client hears.
    pub fn sqlstate(&self) -> [u8; 5] {
        self.sqlstate
    }
}

impl From<&Limit> for Hit {
    fn from(limit: &Limit) -> Self {
        let (sqlstate, text) = said(limit.counted);
        let name = Counted::ALL.iter().find(|(_, known)| *known == limit.counted);
        Self {
            action: limit.action,
            rule: limit.rule.clone(),
            counted: name.map_or("limit", |(name, _)| name),
            max: Some(limit.max),
            sqlstate,
            text,
        }
    }
}

impl From<&Hours> for Hit {
    fn from(hours: &Hours) -> Self {
        Self {
            action: hours.action,
            rule: hours.rule.clone(),
            counted: "hours",
            max: None,
            sqlstate: *b"57P01",
            text: "there is no business at this hour",
        }
    }
}

/// SQLSTATE and message: the server's own where it has such a limit (`src/backend/tcop/postgres.c`), else
/// `configuration_limit_exceeded`.
fn said(counted: Counted) -> ([u8; 5], &'static str) {
    match counted {
        Counted::StatementRows | Counted::StatementBytes => {
            (*b"53400", "canceling statement because it returns more than is allowed")
        }
        Counted::SessionRows | Counted::SessionBytes => {
            (*b"53400", "this session has returned as much as is allowed")
        }
        Counted::HourRows | Counted::HourBytes => {
            (*b"53400", "as much was returned in this hour as is allowed")
        }
        Counted::StatementsPerSecond => (*b"53400", "too many statements in a second"),
        Counted::Sessions => (*b"53300", "too many sessions at the same time"),
        Counted::StatementMillis => (*b"57014", "canceling statement due to statement timeout"),
        Counted::IdleMillis => (*b"57P05", "terminating connection due to idle-session timeout"),
        Counted::IdleInTransactionMillis => {
            (*b"25P03", "terminating connection due to idle-in-transaction timeout")
        }
        Counted::SessionMillis => {
            (*b"57P01", "terminating connection because it is as old as is allowed")
        }
    }
}
