//! Legal holds: what they keep, and what they forbid. Pure.

use serde::{Deserialize, Serialize};

use crate::audit::WallNanos;
use crate::audit::values::{Day, Scope};
use crate::control::{Hold, HoldAction, HoldInfo, HoldScope};

/// Most holds at a time.
pub const HOLDS_MAX: usize = 1024;
/// Longest name, reason or approver, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
const DAY_NANOS: u64 = 24 * 3600 * 1_000_000_000;

/// The holds in force, in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Holds(Vec<Held>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// What it keeps.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// Who approved.
    pub approver: String,
    /// Since when, nanoseconds since 1970.
    pub since_ns: u64,
}

/// Why a hold is not set or lifted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The name is taken.
    #[error("hold `{0}` is in force already")]
    Taken(String),
    /// None of that name.
    #[error("no hold is called `{0}`")]
    Unknown(String),
    /// Too many.
    #[error("{HOLDS_MAX} holds are in force, which is the most there may be")]
    TooMany,
    /// A text is empty or too long.
    #[error("{what} of a hold has {found} bytes, expected 1 to {TEXT_BYTES_MAX}")]
    Text {
        /// Which.
        what: &'static str,
        /// Its bytes.
        found: usize,
    },
    /// Not a session.
    #[error("session of a hold is not 32 hexadecimal digits")]
    Session,
    /// A time that ends before it begins.
    #[error("time of a hold ends before it begins")]
    Time,
}

impl Holds {
    /// What they are after a request. Nothing changes on an error.
    pub fn after(&self, asked: &Hold, now: WallNanos) -> Result<Self, HoldError> {
        for (what, text) in
            [("name", &asked.name), ("reason", &asked.reason), ("approver", &asked.approver)]
        {
            if text.is_empty() || text.len() > TEXT_BYTES_MAX {
                return Err(HoldError::Text { what, found: text.len() });
            }
        }
        let there = self.0.iter().any(|held| held.name == asked.name);
        let mut after = self.clone();
        match asked.action {
            HoldAction::Lift if !there => return Err(HoldError::Unknown(asked.name.clone())),
            HoldAction::Lift => after.lift(&asked.name),
            HoldAction::Set if there => return Err(HoldError::Taken(asked.name.clone())),
            HoldAction::Set if self.0.len() >= HOLDS_MAX => return Err(HoldError::TooMany),
            HoldAction::Set => {
                check(&asked.scope)?;
                after.0.push(Held {
                    name: asked.name.clone(),
                    scope: asked.scope.clone(),
                    reason: asked.reason.clone(),
                    approver: asked.approver.clone(),
                    since_ns: now.0,
                });
            }
        }
        Ok(after)
    }

    /// One of them.
    pub fn named(&self, name: &str) -> Option<&Held> {
        self.0.iter().find(|held| held.name == name)
    }

    /// Puts one in force, in place of one of that name.
    pub fn put(&mut self, held: Held) {
        self.lift(&held.name);
        self.0.push(held);
    }

    /// One is no longer in force.
    pub fn lift(&mut self, name: &str) {
        self.0.retain(|held| held.name != name);
    }

    /// Those that are not among `others`.
    pub fn missing_in<'h>(&'h self, others: &'h Self) -> impl Iterator<Item = &'h Held> {
        self.0.iter().filter(|held| others.named(&held.name).is_none())
    }

    /// The scope of one of them.
    pub fn scope_of(&self, name: &str) -> Option<&HoldScope> {
        self.named(name).map(|held| &held.scope)
    }

    /// All of them, to be shown.
    pub fn shown(&self) -> Vec<HoldInfo> {
        let shown = |held: &Held| HoldInfo {
            name: held.name.clone(),
            scope: held.scope.clone(),
            reason: held.reason.clone(),
            approver: held.approver.clone(),
            since: String::from_utf8_lossy(&WallNanos(held.since_ns).rfc3339()).into_owned(),
        };
        self.0.iter().map(shown).collect()
    }

    /// Names of those that keep entries which are all made from `oldest` to `newest`, both
    /// inclusive. `has` says whether one of them is of a session, by its 32 hexadecimal digits.
    pub fn keeping(&self, oldest: u64, newest: u64, has: impl Fn(&str) -> bool) -> Vec<String> {
        let keeps = |held: &&Held| match &held.scope {
            HoldScope::All => true,
            HoldScope::Time { since_ns, until_ns } => *since_ns <= newest && oldest < *until_ns,
            HoldScope::Session(session) => has(session),
        };
        self.0.iter().filter(keeps).map(|held| held.name.clone()).collect()
    }

    /// Sessions that are held by themselves.
    pub fn sessions(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|held| match &held.scope {
            HoldScope::Session(session) => Some(session.as_str()),
            HoldScope::All | HoldScope::Time { .. } => None,
        })
    }

    /// Names of those that forbid to make values unreadable. What cannot be told apart without
    /// reading the values is forbidden: a person may be in any session and at any time, and a
    /// session of a day may go on for many.
    pub fn forbidding(&self, scope: &Scope) -> Vec<String> {
        let forbids = |held: &&Held| match (&held.scope, scope) {
            (HoldScope::All, _) | (_, Scope::Subject(_)) => true,
            (HoldScope::Time { .. }, Scope::Session(_)) => true,
            (HoldScope::Session(held), Scope::Session(id)) => *held == hex::encode(id),
            (HoldScope::Time { until_ns, .. }, Scope::Day(Day(day))) => {
                *until_ns > u64::from(*day).saturating_mul(DAY_NANOS)
            }
            // On which day it began is not known here.
            (HoldScope::Session(_), Scope::Day(_)) => true,
        };
        self.0.iter().filter(forbids).map(|held| held.name.clone()).collect()
    }
}

/// How a hold's record names what it keeps: scope and target.
pub fn named(scope: &HoldScope) -> (&'static str, String) {
    match scope {
        HoldScope::All => ("all", String::new()),
        HoldScope::Session(session) => ("session", session.clone()),
        HoldScope::Time { since_ns, until_ns } => ("time", format!("{since_ns}..{until_ns}")),
    }
}

/// What a hold's record keeps, by its scope and target: the opposite of [`named`].
pub fn kept(scope: &str, target: &str) -> Option<HoldScope> {
    let scope = match scope {
        "all" => HoldScope::All,
        "session" => HoldScope::Session(target.to_owned()),
        "time" => {
            let (since, until) = target.split_once("..")?;
            HoldScope::Time { since_ns: since.parse().ok()?, until_ns: until.parse().ok()? }
        }
        _ => return None,
    };
    check(&scope).is_ok().then_some(scope)
}

fn check(scope: &HoldScope) -> Result<(), HoldError> {
    match scope {
        HoldScope::All => Ok(()),
        HoldScope::Time { since_ns, until_ns } if since_ns < until_ns => Ok(()),
        HoldScope::Time { .. } => Err(HoldError::Time),
        // As sessions are written: lower case, so that texts can be compared.
        HoldScope::Session(session)
            if session.len() == 32
                && session.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
        {
            Ok(())
        }
        HoldScope::Session(_) => Err(HoldError::Session),
    }
}
