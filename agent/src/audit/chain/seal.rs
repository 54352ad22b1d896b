//! Seals: entries that say which tree was there before them, each signed with a key that is used
//! once.
//!
//! ```text
//!   L ──signs──► seal 0 (first)      names k1 ┐
//!                 k1 ──signs──► seal 1        names k2 ┐      k1 is erased
//!                                k2 ──signs──► seal 2 …       k2 is erased
//! ```
//!
//! Who takes over the host finds the host key `L` and one seal key. The entries before the last seal
//! cannot be replaced with them: the seals over these need keys that are gone. A run that ends
//! without passing its key on ([`SealKind::Final`], or a crash) makes the next one begin with `L`
//! ([`SealKind::Restart`]), which verifiers report.
//!
//! A key is erased once its seal is durable, not before: a seal whose batch could not be written is
//! made anew, with the same number.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use thiserror::Error;

use super::{Hash, Origin, Signature, Signer};

/// Why a seal is there, and by that whose signature it bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SealKind {
    /// One of many: signed with the key that the seal before names.
    Regular,
    /// The first of an epoch: signed with the host key.
    First,
    /// The first after a crash, or after a stop that passed no key on: signed with the host key.
    Restart,
    /// The last before a stop that passes no key on.
    Final,
    /// The last before a stop that passes the next key on.
    Handover,
}

impl SealKind {
    /// Its number in the record.
    pub fn number(self) -> u64 {
        match self {
            Self::Regular => 0,
            Self::First => 1,
            Self::Restart => 2,
            Self::Final => 3,
            Self::Handover => 4,
        }
    }

    /// The kind with a number, if there is one.
    pub fn of_number(number: u64) -> Option<Self> {
        [Self::Regular, Self::First, Self::Restart, Self::Final, Self::Handover]
            .into_iter()
            .find(|kind| kind.number() == number)
    }

    /// Its name in the signed message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::First => "first",
            Self::Restart => "restart",
            Self::Final => "final",
            Self::Handover => "handover",
        }
    }
}

impl fmt::Display for SealKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The fields of a seal entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Its number in the epoch, from 0 without gaps.
    pub number: u64,
    /// Entries before it, which is its own index.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Wall time, nanoseconds since 1970: that of the entry.
    pub time: u64,
    /// Why it is there.
    pub kind: SealKind,
    /// Public key of the next seal; zeros when there is none ([`SealKind::Final`]).
    pub next: [u8; 32],
    /// Over [`Seal::message`].
    pub signature: Signature,
}

impl Seal {
    /// What is signed.
    pub fn message(&self, origin: &Origin) -> String {
        format!(
            "pgward-seal-v1\n{origin}\n{}\n{}\n{}\n{}\n{}\n{}\n",
            self.number,
            self.size,
            BASE64.encode(self.root),
            self.time,
            self.kind,
            BASE64.encode(self.next),
        )
    }
}

/// Makes the keys of seals.
pub trait SealKeys {
    /// A key pair. Its private part is erased when it is dropped.
    type Key: Signer;
    /// Why there is no key.
    type Error: std::error::Error;

    /// A new key pair, from random numbers.
    fn fresh(&mut self) -> Result<Self::Key, Self::Error>;
}

/// What the last seal of an epoch says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSeal {
    /// Its number.
    pub number: u64,
    /// Its kind.
    pub kind: SealKind,
    /// Public key of the seal after it.
    pub next: [u8; 32],
}

/// Makes the seals of a run, in order. Driven by the thread that commits records:
///
/// 1. when [`Seals::due`] says so, or at the end of the run, [`Seals::next`] or [`Seals::finish`]
///    gives the fields of an entry that becomes the very next one of the log;
/// 2. [`Seals::durable`] once its batch is on disk, or [`Seals::undo`] when that failed and the
///    entry is not part of the log.
pub struct Seals<K: SealKeys> {
    origin: Origin,
    keys: K,
    every: u64,
    /// Boot time in nanoseconds at which the next one is due.
    due: u64,
    /// Number of the next one.
    number: u64,
    state: State<K::Key>,
}

enum State<Key> {
    /// The next one is the first of its run, signed with the host key.
    Host(SealKind),
    /// The next one is signed with this key.
    Key(Key),
    /// One was given out: signed with the key of `before`. It names the key of `after`.
    Pending { before: Box<State<Key>>, after: Box<State<Key>> },
    /// The last one was given out and is durable.
    Ended,
}

impl<Key> fmt::Debug for State<Key> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(kind) => write!(f, "Host({kind})"),
            Self::Key(_) => f.write_str("Key"),
            Self::Pending { before, after } => write!(f, "Pending({before:?} to {after:?})"),
            Self::Ended => f.write_str("Ended"),
        }
    }
}

/// How the last seal of a run ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The next run begins with the host key.
    Final,
    /// The next run has the private key of this public one.
    Handover([u8; 32]),
}

/// Why there is no seal.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SealError<E> {
    /// No key for the seal after it.
    #[error("no key for the next seal")]
    Keys(#[source] E),
    /// One was given out, and whether it is durable was not said yet.
    #[error("seal {0} is not durable yet")]
    Pending(u64),
    /// The last one was made.
    #[error("the run is sealed")]
    Ended,
}

impl<K: SealKeys> Seals<K> {
    /// Begins a run.
    ///
    /// `last` is the last durable seal of the epoch, `passed_on` the key that the run before passed
    /// on. It is used only if it is the one that a handover seal names; otherwise it is dropped and
    /// the run begins with the host key. `every` and `now` in nanoseconds, boot time: the first
    /// seal is due at once.
    pub fn begin(
        origin: Origin,
        last: Option<LastSeal>,
        passed_on: Option<K::Key>,
        keys: K,
        every: u64,
        now: u64,
    ) -> Self {
        let named = |last: &LastSeal, key: &K::Key| {
            last.kind == SealKind::Handover && last.next == key.public_key()
        };
        let (number, state) = match (last, passed_on) {
            (None, _) => (0, State::Host(SealKind::First)),
            (Some(last), Some(key)) if named(&last, &key) => (last.number + 1, State::Key(key)),
            (Some(last), _) => (last.number + 1, State::Host(SealKind::Restart)),
        };
        Self { origin, keys, every, due: now, number, state }
    }

    /// Whether a seal is due. Never while one is on its way to the disk, nor after the last one.
    pub fn due(&self, now: u64) -> bool {
        match self.state {
            State::Host(_) | State::Key(_) => now >= self.due,
            State::Pending { .. } | State::Ended => false,
        }
    }

    /// Kind of the next one, unless it is the last; `None` where [`Seals::due`] says never.
    pub fn next_kind(&self) -> Option<SealKind> {
        match self.state {
            State::Host(kind) => Some(kind),
            State::Key(_) => Some(SealKind::Regular),
            State::Pending { .. } | State::Ended => None,
        }
    }

    /// When the next one is due, boot time in nanoseconds; `None` where [`Seals::due`] says never.
    pub fn next_due(&self) -> Option<u64> {
        match self.state {
            State::Host(_) | State::Key(_) => Some(self.due),
            State::Pending { .. } | State::Ended => None,
        }
    }

    /// The next seal, over the tree of `size` entries with `root`. It must become entry `size`.
    /// `time` is wall time and becomes the entry's, `now` boot time; both in nanoseconds.
    pub fn next(
        &mut self,
        size: u64,
        root: Hash,
        time: u64,
        now: u64,
        host: &impl Signer,
    ) -> Result<Seal, SealError<K::Error>> {
        let kind = match &self.state {
            State::Host(kind) => *kind,
            State::Key(_) => SealKind::Regular,
            State::Pending { .. } => return Err(SealError::Pending(self.number)),
            State::Ended => return Err(SealError::Ended),
        };
        // Before what can fail, so that who is asked for a seal is not asked again at once.
        self.due = now.saturating_add(self.every);
        let next = self.keys.fresh().map_err(SealError::Keys)?;
        let public = next.public_key();
        Ok(self.sign((size, root), time, kind, public, State::Key(next), host))
    }

    /// The last seal of the run, as [`Seals::next`].
    ///
    /// A run that made no seal yet begins and ends with the host key: then this is its first or
    /// restart seal, [`Ending`] is not honoured, and another call is needed once it is durable.
    pub fn finish(
        &mut self,
        size: u64,
        root: Hash,
        time: u64,
        ending: Ending,
        host: &impl Signer,
    ) -> Result<Seal, SealError<K::Error>> {
        match &self.state {
            State::Host(_) => self.next(size, root, time, self.due, host),
            State::Key(_) => {
                let (kind, next) = match ending {
                    Ending::Final => (SealKind::Final, [0; 32]),
                    Ending::Handover(public) => (SealKind::Handover, public),
                };
                Ok(self.sign((size, root), time, kind, next, State::Ended, host))
            }
            State::Pending { .. } => Err(SealError::Pending(self.number)),
            State::Ended => Err(SealError::Ended),
        }
    }

    /// The seal given out is on disk: its key is erased.
    pub fn durable(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Pending { after, .. } => {
                self.number += 1;
                *after
            }
            other @ (State::Host(_) | State::Key(_) | State::Ended) => other,
        };
    }

    /// The seal given out is not part of the log: the next one has its number and is due at once.
    pub fn undo(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Pending { before, .. } => {
                self.due = 0;
                *before
            }
            other @ (State::Host(_) | State::Key(_) | State::Ended) => other,
        };
    }

    /// Whether the last seal is durable.
    pub fn ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// What every kind of seal has in common.
    fn sign(
        &mut self,
        (size, root): (u64, Hash),
        time: u64,
        kind: SealKind,
        next: [u8; 32],
        after: State<K::Key>,
        host: &impl Signer,
    ) -> Seal {
        let number = self.number;
        let mut seal = Seal { number, size, root, time, kind, next, signature: [0; 64] };
        let message = seal.message(&self.origin);
        let before = std::mem::replace(&mut self.state, State::Ended);
        seal.signature = match &before {
            State::Key(key) => key.sign(message.as_bytes()),
            State::Host(_) | State::Pending { .. } | State::Ended => host.sign(message.as_bytes()),
        };
        self.state = State::Pending { before: Box::new(before), after: Box::new(after) };
        seal
    }
}

impl<K: SealKeys> fmt::Debug for Seals<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seals")
            .field("number", &self.number)
            .field("state", &self.state)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}
