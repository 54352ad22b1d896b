//! Roles of the policy that are granted for a while.
//!
//! A grant names a subject by the keys of the policy's `[[assign]]`, a role and an end. Where `grants.approvals` is 1 it is only
//! a request until a second person approves it. What is in force is decided by pure functions ([`book`], [`subject`]);
//! [`Grants`] carries it out:
//!
//! | step | begins | ends |
//! |---|---|---|
//! | 1 | its record is on stable storage | it is no longer in force |
//! | 2 | it is in `grants.json` | that is in `grants.json` |
//! | 3 | it is in force | that is recorded |
//!
//! so that nothing is ever in force of which the trail does not know, and what cannot be recorded still ends. A crash between
//! two steps leaves a grant that was recorded and never began, or one whose end is recorded by the next agent.
//!
//! # Time
//!
//! A grant ends by the host's clock or by the time since boot, whichever comes first: setting the clock back does not lengthen
//! it. After a restart of the agent only the host's clock is known, and no grant gets more than its full length again.
//!
//! # Who is a person
//!
//! Only root and the agent's user can ask at all. People who come by `sudo` are all root, so a person is the user who logged in
//! (`loginuid`, which `su` and `sudo` keep), and the user id where nobody did. Root can forge that, as it can all else here.

pub mod book;
mod pattern;
mod state;
pub mod subject;
mod timer;

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tracing::info;

use crate::{
    audit::{
        BootNanos, Grant as GrantRecord, NotRecorded, Now, Stamp, Trail, WallNanos,
        keys::{Folder, FolderError},
    },
    config,
    policy::Subject,
};

use book::Book;
pub use book::{Asked, Entry, GrantError, Person, Phase};
pub use pattern::Pattern;
pub use subject::{Patterns, SubjectError};
pub use timer::Timer;

/// How long a grant waits for its record.
const RECORD_WAITS: Duration = Duration::from_secs(30);

/// A grant that is in force.
#[derive(Clone, Debug)]
pub struct Active {
    /// Its name.
    pub id: Arc<str>,
    /// The role of the policy that it gives.
    pub role: Box<str>,
    /// When it ends, at the latest.
    pub until: WallNanos,
    /// The same by the clock that nobody sets.
    ends: BootNanos,
    to: Patterns,
}

impl Active {
    /// Whether `subject` is meant.
    pub fn matches(&self, subject: &Subject) -> bool {
        self.to.matches(subject)
    }

    fn is_over(&self, now: Now) -> bool {
        now.wall >= self.until || now.boot >= self.ends
    }
}

/// Why something was not done about a grant.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    /// It is not allowed, or not understood.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// It could not be recorded.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// It was not recorded in time; it may be later.
    #[error("audit trail is too slow: nothing was granted")]
    Slow,
    /// It has ended, and the trail does not say so yet.
    #[error("grant has ended, but that is not recorded yet: it will be tried again")]
    EndNotRecorded(#[source] Box<GrantsError>),
    /// The file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The file is not understood.
    #[error(
        "`grants.json` in the audit folder is not understood\n\
         hint: remove it, and nothing is granted; the records of kind `grant` say what was"
    )]
    State(#[source] serde_json::Error),
    /// A pattern of the file is not understood.
    #[error("`grants.json` in the audit folder has a subject that is not understood")]
    Subject(#[from] SubjectError),
    /// Chance.
    #[error("the system gives no random numbers")]
    Random,
    /// The thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// All grants of the agent: asked for, in force, ending.
#[derive(Debug)]
pub struct Grants {
    trail: Arc<Trail>,
    rules: config::Grants,
    folder: Folder,
    /// Held while something is carried out: one after the other.
    book: Mutex<Book>,
    active: RwLock<Arc<[Active]>>,
    epoch: AtomicU64,
    bell: watch::Sender<u64>,
    /// Wakes the thread when the next end may be nearer.
    sooner: Condvar,
}

impl Grants {
    /// Reads what the run before left. What has ended meanwhile is not in force; [`Grants::look`] records it.
    pub fn open(trail: Arc<Trail>, rules: &config::Grants) -> Result<Arc<Self>, GrantsError> {
        let folder = Folder::open(trail.directory())?;
        let mut book = state::read(&folder)?;
        book.settle(Now::read());
        let grants = Self {
            trail,
            rules: *rules,
            folder,
            book: Mutex::default(),
            active: RwLock::new(Arc::new([])),
            epoch: AtomicU64::new(0),
            bell: watch::Sender::new(0),
            sooner: Condvar::new(),
        };
        let mut locked = grants.lock();
        grants.publish(&book, Now::read())?;
        *locked = book;
        drop(locked);
        Ok(Arc::new(grants))
    }

    /// The grants in force at `now`, in the order in which they began.
    pub fn active(&self, now: Now) -> Arc<[Active]> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner).clone();
        if active.iter().any(|grant| grant.is_over(now)) {
            return active.iter().filter(|grant| !grant.is_over(now)).cloned().collect();
        }
        active
    }

    /// Changes whenever the set of grants in force does: for caches of decisions. One end is noticed within a moment by the
    /// thread of [`Grants`], not to the nanosecond: who must be exact asks [`Grants::active`].
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Hears of each new [`Grants::epoch`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Grants, or asks for a second person to do so. Gives what it came to.
    pub fn ask(&self, by: Person, asked: &Asked<'_>) -> Result<Entry, GrantsError> {
        let mut book = self.lock();
        let now = Now::read();
        let id = fresh_id()?;
        let (changed, entry) = book.after_asking(id, by, asked, &self.rules, now)?;
        match entry.phase {
            Phase::Requested => self.record_first(&entry, "request", by, None)?,
            Phase::Active(_) | Phase::Revoked { .. } => {
                self.record_first(&entry, "begin", by, None)?;
            }
        }
        self.put(&mut book, changed, now)?;
        info!(grant = &*entry.id, role = &*entry.role, "a grant was asked for");
        Ok(entry)
    }

    /// A second person approves a request. Gives what it came to.
    pub fn approve(&self, by: Person, id: &str) -> Result<Entry, GrantsError> {
        let mut book = self.lock();
        let now = Now::read();
        let (changed, entry) = book.after_approval(id, by, now)?;
        self.record_first(&entry, "approve", by, None)?;
        self.record_first(&entry, "begin", entry.by, None)?;
        self.put(&mut book, changed, now)?;
        info!(grant = &*entry.id, role = &*entry.role, "a grant was approved");
        Ok(entry)
    }

    /// Ends a grant, or withdraws a request. Gives what it was.
    pub fn revoke(&self, by: Person, id: &str, reason: &str) -> Result<Entry, GrantsError> {
        let mut book = self.lock();
        let (changed, before) = book.after_revoking(id, by, reason)?;
        let now = Now::read();
        info!(grant = &*before.id, role = &*before.role, "a grant is revoked");
        match self.put(&mut book, changed, now).and_then(|()| self.finish(&mut book, now)) {
            Ok(()) => Ok(before),
            Err(error) => Err(GrantsError::EndNotRecorded(Box::new(error))),
        }
    }

    /// All of them: asked for and in force.
    pub fn all(&self) -> Vec<Entry> {
        let book = self.lock();
        book.entries().iter().filter(|entry| !entry.is_over(Now::read())).cloned().collect()
    }

    /// Ends what is to end by now, and records it. What fails is tried again the next time.
    pub fn look(&self, now: Now) -> Result<(), GrantsError> {
        let mut book = self.lock();
        if book.ends(now).is_empty() {
            return Ok(());
        }
        self.publish(&book, now)?;
        self.finish(&mut book, now)
    }

    /// Records what has ended, and forgets it.
    fn finish(&self, book: &mut Book, now: Now) -> Result<(), GrantsError> {
        for entry in book.ends(now) {
            let (action, by, reason) = match &entry.phase {
                Phase::Requested | Phase::Active(_) => ("expire", Person::agent(), None),
                Phase::Revoked { by, reason } => ("revoke", *by, Some(&**reason)),
            };
            self.record_first(&entry, action, by, reason)?;
            let changed = book.without(&entry.id);
            state::write(&self.folder, &changed)?;
            *book = changed;
            info!(grant = &*entry.id, role = &*entry.role, action, "a grant has ended");
        }
        Ok(())
    }

    /// Makes a change durable, and then true.
    fn put(&self, book: &mut Book, changed: Book, now: Now) -> Result<(), GrantsError> {
        // What ends, ends also when the disk does not take it.
        let lost =
            changed.entries().iter().any(|entry| matches!(entry.phase, Phase::Revoked { .. }));
        if lost {
            self.publish(&changed, now)?;
            book.clone_from(&changed);
        }
        state::write(&self.folder, &changed)?;
        *book = changed;
        self.publish(book, now)?;
        self.sooner.notify_all();
        Ok(())
    }

    /// Puts in force what `book` says is.
    fn publish(&self, book: &Book, now: Now) -> Result<(), GrantsError> {
        let mut next = Vec::new();
        for entry in book.entries() {
            match &entry.phase {
                Phase::Active(term) if !entry.is_over(now) => next.push(Active {
                    id: entry.id.clone(),
                    role: entry.role.clone(),
                    until: WallNanos(term.until_ns),
                    ends: BootNanos(term.ends_boot_ns),
                    to: entry.to.parse()?,
                }),
                Phase::Active(_) | Phase::Requested | Phase::Revoked { .. } => {}
            }
        }
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        if !active.iter().map(|grant| &grant.id).eq(next.iter().map(|grant| &grant.id)) {
            *active = next.into();
            // Under the lock: who sees the new number sees the new set.
            let epoch = self.epoch.fetch_add(1, Ordering::Release) + 1;
            drop(active);
            self.bell.send_replace(epoch);
        }
        Ok(())
    }

    /// Returns when a record is on stable storage, whatever recording is eased to.
    fn record_first(
        &self,
        entry: &Entry,
        action: &str,
        by: Person,
        reason: Option<&str>,
    ) -> Result<(), GrantsError> {
        let detail = entry.detail(by);
        let record = GrantRecord {
            reason: reason.unwrap_or(&entry.reason),
            detail: Some(&detail),
            until: match &entry.phase {
                Phase::Active(term) => Some(WallNanos(term.until_ns)),
                Phase::Requested | Phase::Revoked { .. } => None,
            },
            by_uid: by.uid,
            action,
            target: &entry.to,
            approver: entry.approver.as_deref(),
            grant: &entry.id,
            role: &entry.role,
        };
        let sink = self.trail.sink();
        let put = sink.record_closing(&Stamp::agent(Now::read()), &record)?;
        let kept = sink.kept_within(put.ticket, RECORD_WAITS).ok_or(GrantsError::Slow)?;
        Ok(kept?)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that no grant had before, as far as chance goes: records name it when the grant is long gone.
fn fresh_id() -> Result<Arc<str>, GrantsError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|_| GrantsError::Random)?;
    Ok(hex::encode(bytes).into())
}

impl Person {
    /// The agent itself: for what happens by itself.
    fn agent() -> Self {
        Self { uid: nix::unistd::geteuid().as_raw(), login: None }
    }
}

#[cfg(test)]
mod tests;
