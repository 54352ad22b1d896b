//! The keys of sealed values, on disk.
//!
//! Each session has a random key, and each person that a rule's `subject` names has one for each
//! day. They are wrapped (AES-256-GCM) with the key of their day, and that with the key of the
//! host. Sessions that begin together share one write and one sync.
//!
//! # Folder
//!
//! `keys/values` of a trail, mode 0700. The writer holds the trail's lock.
//!
//! | file | holds |
//! |---|---|
//! | `host.key` | the host's key, 64 hexadecimal digits and a line feed, mode 0600 |
//! | `<day>-<part>.keys` | keys of sessions that began on that day (UTC, `2026-11-22`); parts from 0001 |
//!
//! Parts of a day have the same day key, unless that was destroyed in between. A part is continued
//! after a restart, until it is full (2^20 slots) or a write to it fails.
//!
//! # Key file
//!
//! All integers big-endian. A header of 512 bytes:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 16 | `pgward keyring 1` |
//! | 16 | 4 | day, counted from 1970-01-01 |
//! | 20 | 4 | part |
//! | 24 | 1 | 1 present, 2 erased |
//! | 25 | 7 | zeros |
//! | 32 | 8 | which host key: the first bytes of `SHA-256(HKDF(host key, "pgward-keyring-host-v1"))` |
//! | 40 | 8 | when it was made, or erased, in nanoseconds since 1970 |
//! | 48 | 12 | nonce; zeros when erased |
//! | 60 | 48 | day key, wrapped with the host key; zeros when erased. Additional data `"pgward-keyring-day-v1" ‖ u32 day ‖ u32 part` |
//! | 108 | 400 | zeros |
//! | 508 | 4 | CRC32C of all before |
//!
//! Then slots of 128 bytes each, back to back:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 1 | 1 present, 2 erased |
//! | 1 | 1 | 1 session, 2 person |
//! | 2 | 2 | zeros |
//! | 4 | 4 | number of the slot, from 0 |
//! | 8 | 8 | when it was made, or erased |
//! | 16 | 32 | session (16 bytes and zeros), or person: `HMAC-SHA-256(index key, value)` |
//! | 48 | 12 | nonce; zeros when erased |
//! | 60 | 48 | key, wrapped with the day key; zeros when erased. Additional data `"pgward-keyring-slot-v1" ‖ u8 kind ‖ u32 day ‖ 32 bytes from offset 16` |
//! | 108 | 16 | zeros |
//! | 124 | 4 | CRC32C of all before |
//!
//! A slot of zeros is free: space is made 512 slots at a time. A slot that is neither free nor whole
//! was torn by a crash before anybody was told that it is there; it is skipped. A file whose header
//! is torn has no readable slots, and is left alone.
//!
//! The index key of a day, for hashes and for persons, is `HKDF(day key, "pgward-index-v1")`.
//! `HKDF(key, label)` is HKDF-SHA-256 with `label` as salt and `"key"` as info, 32 bytes.
//!
//! # Shredding
//!
//! A slot, or all headers of a day, are overwritten in place with their erased form and synced. The
//! owner stays readable: a verifier tells "shredded" from "never there". When a day's key is gone,
//! so are its index key and all keys of its slots, which need not be touched.

mod file;
mod keys;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

pub(super) use self::file::Owner;
use self::writer::{Job, NewSlot, Writer};
use super::key::Key;
use super::random::NoRandom;
use crate::audit::{Now, WallNanos};

pub(super) use self::keys::Answer;
pub use self::keys::{Keys, KeysError};

const INDEX_LABEL: &[u8] = b"pgward-index-v1";
const DAY_NANOS: u64 = 24 * 3600 * 1_000_000_000;
/// Most keys that wait for the disk.
const JOBS_MAX: usize = 1 << 16;
/// Most keys of persons at hand. When there are more, the next statement about a person gives them
/// another key, and all of theirs are tried when something is opened.
const PERSONS_MAX: usize = 1 << 15;

/// The keys of one trail. Clones share them; the last one to go waits until all is written.
#[derive(Clone)]
pub struct Keyring(Arc<Handle>);

/// A key on its way to the disk: resolves when it is there. May be dropped.
#[derive(Debug)]
pub struct Stored(oneshot::Receiver<Result<(), KeyringError>>);

/// Why a key is not to be had, or not on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No random bytes for it.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// Too many wait for the disk already.
    #[error("{JOBS_MAX} keys wait for the disk")]
    Busy,
    /// The disk refused it, and refused it again in another file.
    #[error("a key could not be stored: {0}")]
    Disk(io::ErrorKind),
    /// Every part of the day is used.
    #[error("all parts of the day's keys are used")]
    Parts,
    /// The keyring was closed.
    #[error("the keyring is closed")]
    Closed,
}

/// A day, in UTC: how many there were since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

/// What is made unreadable.
#[derive(Clone)]
pub enum Scope {
    /// One session.
    Session([u8; 16]),
    /// All that a person's values name as theirs, on every day. The value is what the rule's
    /// `subject` parameter has, in text format.
    Subject(Zeroizing<Vec<u8>>),
    /// All sessions that began on that day.
    Day(Day),
}

/// What was made unreadable. Counts are of keys that were there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Headers with a day key.
    pub days: u64,
    /// Slots of sessions.
    pub sessions: u64,
    /// Slots of persons.
    pub subjects: u64,
}

/// What one session needs.
pub(super) struct SessionKeys {
    /// Seals its values.
    pub(super) key: Key,
    /// Of hashes and persons.
    pub(super) index: Key,
    day: Arc<DayKey>,
}

/// The key of a day in use.
struct DayKey {
    day: Day,
    key: Key,
    index: Key,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Counts what makes keys of persons at hand worthless.
    generation: AtomicU64,
    clock: fn() -> WallNanos,
}

#[derive(Default)]
struct State {
    today: Option<Arc<DayKey>>,
    /// Boxed: a map that grows leaves what was in it behind.
    persons: HashMap<[u8; 32], Box<Key>>,
    jobs: Vec<Job>,
    closed: bool,
}

impl Keyring {
    /// Opens the folder, or makes it with a new host key, and begins to write. The caller holds the
    /// trail's lock.
    ///
    /// Errors: [`KeysError`]. A host key that is missing where keys are is not made anew.
    pub fn open(folder: &Path) -> Result<Self, KeysError> {
        Self::with_clock(folder, || Now::read().wall)
    }

    fn with_clock(folder: &Path, clock: fn() -> WallNanos) -> Result<Self, KeysError> {
        let keys = Keys::open_or_make(folder)?;
        let today = writer::newest_key_of(&keys, Day::of(clock()));
        let today = today.map_err(|source| KeysError::File {
            doing: "read",
            path: folder.into(),
            source,
        })?;
        let state = State { today: today.map(Arc::new), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            generation: AtomicU64::new(0),
            clock,
        });
        let writer = Writer::new(keys, shared.clone());
        let thread = std::thread::Builder::new().name("audit-keys".into());
        let thread = thread.spawn(move || writer.run()).map_err(|source| KeysError::File {
            doing: "start the writer of",
            path: folder.into(),
            source,
        })?;
        Ok(Self(Arc::new(Handle { shared, thread: Some(thread) })))
    }

    /// A new key for a session, and when it is on disk. A session begins only then.
    ///
    /// Errors: [`KeyringError::Random`], [`KeyringError::Busy`].
    pub(super) fn session(&self, session: [u8; 16]) -> Result<(SessionKeys, Stored), KeyringError> {
        let now = (self.0.shared.clock)();
        let key = Key::random()?;
        let mut state = self.0.shared.lock();
        let day = state.day(Day::of(now))?;
        let stored = state.push(Owner::Session(session), &key, &day, now)?;
        drop(state);
        self.0.shared.wake.notify_one();
        Ok((SessionKeys { key, index: day.index.clone(), day }, stored))
    }

    /// The key of a person on the day of the session, made if need be.
    ///
    /// Errors: as [`Keyring::session`].
    pub(super) fn subject(
        &self,
        session: &SessionKeys,
        id: [u8; 32],
    ) -> Result<(Key, Option<Stored>), KeyringError> {
        let now = (self.0.shared.clock)();
        let mut state = self.0.shared.lock();
        if let Some(key) = state.persons.get(&id) {
            return Ok((Key::clone(key), None));
        }
        let key = Key::random()?;
        let stored = state.push(Owner::Subject(id), &key, &session.day, now)?;
        if state.persons.len() >= PERSONS_MAX {
            state.persons.clear();
        }
        state.persons.insert(id, Box::new(key.clone()));
        drop(state);
        self.0.shared.wake.notify_one();
        Ok((key, Some(stored)))
    }

    /// Changes when keys of persons are no longer what they were.
    pub(super) fn generation(&self) -> u64 {
        self.0.shared.generation.load(Ordering::Acquire)
    }

    /// Destroys keys, behind all that is on its way to the disk. What was there before is
    /// unreadable when this resolves; [`Erased`] goes into the `redaction` record. Whether a legal
    /// hold forbids it is for the caller to ask.
    ///
    /// Errors: [`KeyringError::Disk`]: some keys may be destroyed, others not; do it again.
    pub async fn shred(&self, scope: Scope) -> Result<Erased, KeyringError> {
        self.begin_shred(scope)?.await.unwrap_or(Err(KeyringError::Closed))
    }

    /// [`Keyring::shred`] for threads that may block.
    pub fn shred_blocking(&self, scope: Scope) -> Result<Erased, KeyringError> {
        self.begin_shred(scope)?.blocking_recv().unwrap_or(Err(KeyringError::Closed))
    }

    fn begin_shred(
        &self,
        scope: Scope,
    ) -> Result<oneshot::Receiver<Result<Erased, KeyringError>>, KeyringError> {
        let (reply, done) = oneshot::channel();
        let mut state = self.0.shared.lock();
        if let Scope::Day(day) = scope {
            // Sessions of what is left of the day get another key.
            state.today = state.today.take().filter(|today| today.day != day);
        }
        match scope {
            // Whose they are can be told only by the writer, which knows all index keys.
            Scope::Subject(_) | Scope::Day(_) => state.persons.clear(),
            Scope::Session(_) => {}
        }
        state.add(Job::Shred { scope, reply })?;
        self.0.shared.generation.fetch_add(1, Ordering::AcqRel);
        drop(state);
        self.0.shared.wake.notify_one();
        Ok(done)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has told everyone by dropping their replies.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn day(&mut self, day: Day) -> Result<Arc<DayKey>, KeyringError> {
        match &self.today {
            Some(today) if today.day == day => Ok(today.clone()),
            _ => {
                let made = Arc::new(DayKey::new(day, Key::random()?));
                self.persons.clear();
                self.today = Some(made.clone());
                Ok(made)
            }
        }
    }

    fn push(
        &mut self,
        owner: Owner,
        key: &Key,
        day: &Arc<DayKey>,
        now: WallNanos,
    ) -> Result<Stored, KeyringError> {
        let wrapped = owner.wrap(key, day.day, &day.key)?;
        let (reply, done) = oneshot::channel();
        let new = NewSlot { day: day.clone(), owner, time: now.0, wrapped, reply };
        self.add(Job::Store(new))?;
        Ok(Stored(done))
    }

    fn add(&mut self, job: Job) -> Result<(), KeyringError> {
        if self.jobs.len() >= JOBS_MAX {
            return Err(KeyringError::Busy);
        }
        self.jobs.push(job);
        Ok(())
    }
}

impl DayKey {
    fn new(day: Day, key: Key) -> Self {
        let index = index_key(&key);
        Self { day, key, index }
    }
}

fn index_key(day: &Key) -> Key {
    day.derive(INDEX_LABEL)
}

impl Stored {
    /// Waits, in a thread that may block.
    pub fn blocking(self) -> Result<(), KeyringError> {
        self.0.blocking_recv().unwrap_or(Err(KeyringError::Closed))
    }
}

impl Future for Stored {
    type Output = Result<(), KeyringError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|stored| stored.unwrap_or(Err(KeyringError::Closed)))
    }
}

impl Day {
    /// The day of a time.
    pub fn of(time: WallNanos) -> Self {
        // 64 bits of nanoseconds end in the year 2554.
        Self((time.0 / DAY_NANOS) as u32)
    }
}

/// `2026-11-22`
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begins = UNIX_EPOCH + Duration::from_secs(u64::from(self.0) * 24 * 3600);
        let time = humantime::format_rfc3339_seconds(begins).to_string();
        f.write_str(time.split('T').next().unwrap_or_default())
    }
}

/// A text is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a day, expected one like `2026-11-22`")]
pub struct NoDay;

impl FromStr for Day {
    type Err = NoDay;

    fn from_str(text: &str) -> Result<Self, NoDay> {
        let begins = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).map_err(|_| NoDay)?;
        let since = begins.duration_since(UNIX_EPOCH).map_err(|_| NoDay)?;
        Ok(Self((since.as_secs() / (24 * 3600)) as u32))
    }
}

/// Says what kind only: the value is a person's.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "Session({})", hex::encode(id)),
            Self::Subject(_) => f.write_str("Subject"),
            Self::Day(day) => write!(f, "Day({day})"),
        }
    }
}

impl Erased {
    fn and(self, other: Self) -> Self {
        Self {
            days: self.days + other.days,
            sessions: self.sessions + other.sessions,
            subjects: self.subjects + other.subjects,
        }
    }

    /// All keys together.
    pub fn keys(&self) -> u64 {
        self.days + self.sessions + self.subjects
    }
}

#[cfg(test)]
mod tests;
