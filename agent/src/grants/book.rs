//! Which grants there are, and what a request makes of them. Pure.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::subject::{SubjectError, Written};
use crate::audit::{Now, WallNanos};
use crate::config;

/// Most grants and requests at a time.
pub const GRANTS_MAX: usize = 1024;
/// Longest reason or approver, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// Longest name of a role, in bytes.
pub const ROLE_BYTES_MAX: usize = 128;
/// How long a request waits for its approval.
pub const REQUEST_LASTS: Duration = Duration::from_secs(24 * 3600);
const MINUTE_NANOS: u64 = 60_000_000_000;

/// Somebody who asks: see the [module above](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// User id.
    pub uid: u32,
    /// User who logged in, where that is known.
    pub login: Option<u32>,
}

impl Person {
    /// The user who stands for the person.
    pub fn user(self) -> u32 {
        self.login.unwrap_or(self.uid)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// To whom.
    pub to: &'a str,
    /// Which role.
    pub role: &'a str,
    /// For how long.
    pub minutes: u64,
    /// Why.
    pub reason: &'a str,
    /// Who approved, elsewhere.
    pub approver: Option<&'a str>,
    /// A second person is to approve.
    pub request: bool,
}

/// A grant, or a request for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub id: Arc<str>,
    /// To whom.
    pub to: Written,
    /// The role.
    pub role: Box<str>,
    /// For how long, from its beginning.
    pub minutes: u64,
    /// Why.
    pub reason: Box<str>,
    /// Who asked.
    pub by: Person,
    /// When, nanoseconds since 1970.
    pub asked_ns: u64,
    /// Who approved.
    pub approver: Option<Box<str>>,
    /// How far it has come.
    pub phase: Phase,
}

/// How far a grant has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A second person is to approve.
    Requested,
    /// It is in force, until its time is over.
    Active(Term),
    /// It is no longer, which is still to be recorded.
    Revoked {
        /// Who ended it.
        by: Person,
        /// Why.
        reason: Box<str>,
    },
}

/// When a grant ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// By the host's clock, nanoseconds since 1970.
    pub until_ns: u64,
    /// By the time since boot, nanoseconds. Not kept: the next run may be of another boot.
    #[serde(skip)]
    pub ends_boot_ns: u64,
}

/// Why something is not granted, approved or revoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// To whom.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A text is empty, too long, or not of one line.
    #[error("{what} of a grant is not 1 to {most} bytes of one line")]
    Text {
        /// Which.
        what: &'static str,
        /// Most bytes.
        most: usize,
    },
    /// How long.
    #[error("cannot grant for {found} minutes, expected 1 to {most}")]
    Minutes {
        /// Asked for.
        found: u64,
        /// `grants.max_minutes`.
        most: u64,
    },
    /// Too many.
    #[error("{GRANTS_MAX} grants are in force or asked for, which is the most there may be")]
    TooMany,
    /// Nobody may grant alone.
    #[error("a second person has to approve: ask with `--request`\nhint: `grants.approvals` is 1")]
    NeedsApproval,
    /// Both at once.
    #[error("an approver is named by approving, not by asking")]
    ApproverOfRequest,
    /// None of that name.
    #[error("no grant is called `{0}`")]
    Unknown(String),
    /// It is in force already.
    #[error("grant `{0}` needs no approval: it is in force")]
    InForce(String),
    /// The one who asked.
    #[error("user {0} asked for this grant, so that somebody else has to approve it")]
    SamePerson(u32),
}

/// All grants, in the order in which they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Book(Vec<Entry>);

impl Book {
    /// All of them.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The book after a request, and what it came to. Nothing changes on an error.
    pub fn after_asking(
        &self,
        id: Arc<str>,
        by: Person,
        asked: &Asked<'_>,
        rules: &config::Grants,
        now: Now,
    ) -> Result<(Self, Entry), GrantError> {
        let to = Written::new(asked.to)?;
        text("role", asked.role, ROLE_BYTES_MAX)?;
        text("reason", asked.reason, TEXT_BYTES_MAX)?;
        if let Some(approver) = asked.approver {
            text("approver", approver, TEXT_BYTES_MAX)?;
        }
        if asked.minutes == 0 || asked.minutes > rules.minutes_max {
            let most = rules.minutes_max;
            return Err(GrantError::Minutes { found: asked.minutes, most });
        }
        if asked.request && asked.approver.is_some() {
            return Err(GrantError::ApproverOfRequest);
        }
        if rules.approvals > 0 && !asked.request {
            return Err(GrantError::NeedsApproval);
        }
        if self.0.len() >= GRANTS_MAX {
            return Err(GrantError::TooMany);
        }
        let entry = Entry {
            id,
            to,
            role: asked.role.into(),
            minutes: asked.minutes,
            reason: asked.reason.into(),
            by,
            asked_ns: now.wall.0,
            approver: asked.approver.map(Into::into),
            phase: match asked.request {
                true => Phase::Requested,
                false => Phase::Active(Term::beginning(now, asked.minutes)),
            },
        };
        let mut after = self.clone();
        after.0.push(entry.clone());
        Ok((after, entry))
    }

    /// The book after somebody approved a request, and what it came to.
    pub fn after_approval(
        &self,
        id: &str,
        by: Person,
        now: Now,
    ) -> Result<(Self, Entry), GrantError> {
        let mut after = self.clone();
        let entry = after.entry(id)?;
        match &entry.phase {
            Phase::Requested if entry.is_over(now) => return Err(unknown(id)),
            Phase::Requested => {}
            Phase::Active(_) => return Err(GrantError::InForce(id.to_owned())),
            Phase::Revoked { .. } => return Err(unknown(id)),
        }
        if by.user() == entry.by.user() {
            return Err(GrantError::SamePerson(by.user()));
        }
        entry.approver = Some(format!("user {}", by.user()).into());
        entry.phase = Phase::Active(Term::beginning(now, entry.minutes));
        let entry = entry.clone();
        Ok((after, entry))
    }

    /// The book after a grant or request was revoked, and what it was before.
    pub fn after_revoking(
        &self,
        id: &str,
        by: Person,
        reason: &str,
    ) -> Result<(Self, Entry), GrantError> {
        text("reason", reason, TEXT_BYTES_MAX)?;
        let mut after = self.clone();
        let entry = after.entry(id)?;
        let before = entry.clone();
        match &entry.phase {
            Phase::Requested | Phase::Active(_) => {
                entry.phase = Phase::Revoked { by, reason: reason.into() };
            }
            Phase::Revoked { .. } => return Err(unknown(id)),
        }
        Ok((after, before))
    }

    /// The book without one of them.
    pub fn without(&self, id: &str) -> Self {
        Self(self.0.iter().filter(|entry| &*entry.id != id).cloned().collect())
    }

    /// Those that are over by now, and still to be recorded as such.
    pub fn ends(&self, now: Now) -> Vec<Entry> {
        self.0.iter().filter(|entry| entry.is_over(now)).cloned().collect()
    }

    /// Time until the next of them is over.
    pub fn next_end(&self, now: Now) -> Option<Duration> {
        self.0.iter().map(|entry| entry.left(now)).min()
    }

    /// After a restart: ends by the time since boot are set anew, none later than a full length from now.
    pub fn settle(&mut self, now: Now) {
        for entry in &mut self.0 {
            if let Phase::Active(term) = &mut entry.phase {
                let left = term.until_ns.saturating_sub(now.wall.0);
                let most = entry.minutes.saturating_mul(MINUTE_NANOS);
                term.ends_boot_ns = now.boot.0.saturating_add(left.min(most));
            }
        }
    }

    fn entry(&mut self, id: &str) -> Result<&mut Entry, GrantError> {
        self.0.iter_mut().find(|entry| &*entry.id == id).ok_or_else(|| unknown(id))
    }
}

impl Entry {
    /// Whether it is no longer in force, or no longer waits for approval.
    pub fn is_over(&self, now: Now) -> bool {
        self.left(now).is_zero()
    }

    /// How long it is in force, or waits, from now.
    pub fn left(&self, now: Now) -> Duration {
        let nanos = match &self.phase {
            Phase::Requested => {
                let end = self.asked_ns.saturating_add(REQUEST_LASTS.as_nanos() as u64);
                // A clock that was set back does not lengthen it by more than that.
                end.saturating_sub(now.wall.0)
            }
            Phase::Active(term) => {
                let by_clock = term.until_ns.saturating_sub(now.wall.0);
                by_clock.min(term.ends_boot_ns.saturating_sub(now.boot.0))
            }
            Phase::Revoked { .. } => 0,
        };
        Duration::from_nanos(nanos)
    }

    /// When it ends by the host's clock, if it is in force.
    pub fn until(&self) -> Option<WallNanos> {
        match &self.phase {
            Phase::Active(term) => Some(WallNanos(term.until_ns)),
            Phase::Requested | Phase::Revoked { .. } => None,
        }
    }

    /// For a record of what `by` did about it: how long it is for, and who the person is where the user id does not say it.
    pub fn detail(&self, by: Person) -> String {
        let mut detail =
            format!("for {} minutes, asked for by user {}", self.minutes, self.by.user());
        if let Some(login) = by.login.filter(|login| *login != by.uid) {
            detail.push_str(&format!("; now logged in as user {login}"));
        }
        detail
    }
}

impl Term {
    fn beginning(now: Now, minutes: u64) -> Self {
        let nanos = minutes.saturating_mul(MINUTE_NANOS);
        Self {
            until_ns: now.wall.0.saturating_add(nanos),
            ends_boot_ns: now.boot.0.saturating_add(nanos),
        }
    }
}

fn unknown(id: &str) -> GrantError {
    GrantError::Unknown(id.chars().take(64).collect())
}

/// People read these in tables and records.
fn text(what: &'static str, text: &str, most: usize) -> Result<(), GrantError> {
    let good = !text.trim().is_empty() && text.len() <= most && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err(GrantError::Text { what, most }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::BootNanos;

    const ROOT: Person = Person { uid: 0, login: None };
    const OTHER: Person = Person { uid: 1000, login: None };
    const HOUR: u64 = 3600 * 1_000_000_000;

    fn rules(approvals: u8) -> config::Grants {
        config::Grants { approvals, minutes_max: 60 }
    }

    fn at(wall: u64, boot: u64) -> Now {
        Now { wall: WallNanos(wall), boot: BootNanos(boot) }
    }

    fn asked<'a>() -> Asked<'a> {
        Asked {
            to: "exe=/usr/bin/psql",
            role: "support",
            minutes: 60,
            reason: "ticket 7",
            approver: None,
            request: false,
        }
    }

    fn granted(book: &Book, asked: &Asked<'_>, approvals: u8) -> Result<(Book, Entry), GrantError> {
        book.after_asking("g".into(), ROOT, asked, &rules(approvals), at(10 * HOUR, HOUR))
    }

    #[test]
    fn a_grant_is_in_force_until_the_first_of_two_clocks_says_so() {
        let (book, entry) = granted(&Book::default(), &asked(), 0).expect("granted");
        assert_eq!(entry.until(), Some(WallNanos(11 * HOUR)));
        for (wall, boot, over) in [
            (10 * HOUR, HOUR, false),
            (11 * HOUR - 1, 2 * HOUR - 1, false),
            (11 * HOUR, HOUR, true),
            (0, 2 * HOUR, true),
            (0, 2 * HOUR - 1, false),
        ] {
            let now = at(wall, boot);
            assert_eq!(entry.is_over(now), over, "{now:?}");
            assert_eq!(book.ends(now).len(), usize::from(over));
        }
        assert_eq!(book.next_end(at(10 * HOUR, 2 * HOUR - 5)), Some(Duration::from_nanos(5)));
        assert_eq!(Book::default().next_end(at(0, 0)), None);
    }

    #[test]
    fn after_a_restart_a_grant_lasts_no_longer_than_its_full_length() {
        let (book, _) = granted(&Book::default(), &asked(), 0).expect("granted");
        let text = serde_json::to_string(&book).expect("JSON");
        for (wall, left) in [(10 * HOUR + HOUR / 2, HOUR / 2), (HOUR, HOUR), (12 * HOUR, 0)] {
            let mut read: Book = serde_json::from_str(&text).expect("what was written");
            read.settle(at(wall, 7));
            let nanos = read.entries()[0].left(at(wall, 7)).as_nanos();
            assert_eq!(nanos, u128::from(left), "{wall}");
        }
    }

    #[test]
    fn two_people_are_needed_where_the_configuration_says_so() {
        assert_eq!(granted(&Book::default(), &asked(), 1), Err(GrantError::NeedsApproval));
        let named = Asked { approver: Some("boss"), ..asked() };
        assert_eq!(granted(&Book::default(), &named, 1), Err(GrantError::NeedsApproval));
        let both = Asked { request: true, ..named };
        assert_eq!(granted(&Book::default(), &both, 1), Err(GrantError::ApproverOfRequest));
        let request = Asked { request: true, ..asked() };
        let (book, entry) = granted(&Book::default(), &request, 1).expect("asked for");
        assert_eq!((&entry.phase, entry.until()), (&Phase::Requested, None));
        let now = at(20 * HOUR, 11 * HOUR);
        for same in [ROOT, Person { uid: 1, login: Some(0) }] {
            assert_eq!(book.after_approval("g", same, now), Err(GrantError::SamePerson(0)));
        }
        for other in [OTHER, Person { uid: 0, login: Some(1000) }] {
            let (after, entry) = book.after_approval("g", other, now).expect("approved");
            assert_eq!(entry.until(), Some(WallNanos(21 * HOUR)), "its time begins now");
            assert_eq!(entry.approver.as_deref(), Some("user 1000"));
            let again = after.after_approval("g", other, now);
            assert_eq!(again, Err(GrantError::InForce("g".to_owned())));
        }
        assert_eq!(book.after_approval("h", OTHER, now), Err(GrantError::Unknown("h".to_owned())));
        let late = at(10 * HOUR + 24 * HOUR, 0);
        assert_eq!(book.after_approval("g", OTHER, late), Err(GrantError::Unknown("g".to_owned())));
        assert_eq!(book.ends(late).len(), 1, "a request does not wait for ever");
    }

    #[test]
    fn what_is_revoked_is_over_at_once_and_once() {
        let (book, entry) = granted(&Book::default(), &asked(), 0).expect("granted");
        let (after, before) = book.after_revoking("g", OTHER, "done").expect("revoked");
        assert_eq!(before, entry);
        let now = at(10 * HOUR, HOUR);
        assert_eq!(after.ends(now).len(), 1);
        assert!(after.after_revoking("g", OTHER, "done").is_err());
        assert!(after.after_approval("g", OTHER, now).is_err());
        assert!(book.after_revoking("g", OTHER, "").is_err());
        assert_eq!(after.without("g"), Book::default());
    }

    #[test]
    fn what_is_not_said_well_is_refused_by_name() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        for (asked, expected) in [
            (Asked { to: "", ..asked() }, "no subject"),
            (Asked { role: "", ..asked() }, "role of a grant"),
            (Asked { role: &long, ..asked() }, "1 to 128 bytes"),
            (Asked { reason: " ", ..asked() }, "reason of a grant"),
            (Asked { reason: "a\nb", ..asked() }, "of one line"),
            (Asked { reason: &long, ..asked() }, "1 to 512 bytes"),
            (Asked { approver: Some(""), ..asked() }, "approver of a grant"),
            (Asked { minutes: 0, ..asked() }, "cannot grant for 0 minutes, expected 1 to 60"),
            (Asked { minutes: 61, ..asked() }, "cannot grant for 61 minutes"),
        ] {
            let error = granted(&Book::default(), &asked, 0).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let mut full = Book::default();
        for _ in 0..GRANTS_MAX {
            full = granted(&full, &asked(), 0).expect("granted").0;
        }
        assert_eq!(granted(&full, &asked(), 0), Err(GrantError::TooMany));
    }
}
