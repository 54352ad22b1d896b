//! Copies of checkpoints at places that root of this host does not control.
//!
//! Whoever becomes root here can rewrite the trail and sign it again. It can't rewrite a checkpoint
//! that somebody else holds: what such a checkpoint covers can be neither changed nor removed without
//! [verification](https://c2sp.org/tlog-checkpoint) saying so.
//!
//! ```text
//!   publisher ── offer(newest) ─┬─► mailbox ─► thread `print`
//!                               ├─► mailbox ─► thread `file`       one for each anchor: one that hangs
//!                               ├─► mailbox ─► thread `database`   holds up nobody else
//!                               └─► mailbox ─► thread `witness` ─► cosigned
//! ```
//!
//! A mailbox holds the newest checkpoint only: an anchor that was away copies what is newest when it is
//! back, and needs nothing in between. Nothing here ever holds up a statement: an anchor that fails
//! shows in its lag, in [`Notice`]s and in `pgward status`.
//!
//! What an anchor can prove against us is an [`Alarm`]: two roots for one size (a fork), more entries
//! than we have (a rollback, or a second machine with the same identity).

mod checkpoint;
mod cosignature;
mod cosigned;
mod database;
mod file;
mod own;
mod print;
mod sql;
mod witness;
mod worker;

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use thiserror::Error;

pub use checkpoint::{Checkpoint, CheckpointError, NOTE_BYTES_MAX};
pub use cosignature::{
    AHEAD_SECONDS_MAX, Cosignature, CosignatureError, KEY_TEXT_BYTES_MAX, WitnessKey,
    WitnessKeyError,
};
pub use cosigned::Cosigned;
pub use database::{DATABASE_LIMIT, Database, DatabaseError};
pub use file::{FileError, Folder};
pub use print::{PrintError, Printer};
pub use sql::{SQL_ROLE, anchor_sql};
pub use witness::{WITNESS_LIMIT, Witness, WitnessError};
pub use worker::{AnchorStatus, RETRY, anchor_lag_ms};

use worker::Worker;

/// Consistency proofs of the log (RFC 6962, section 2.1.2).
pub trait ProofSource: Send + Sync {
    /// The proof that the tree of size `from` is a prefix of that of size `to`, `0 < from < to`. `None`:
    /// the log can't tell.
    fn consistency(&self, from: u64, to: u64) -> Option<Vec<[u8; 32]>>;
}

/// A place that checkpoints are copied to. It is used by one thread, and bounds the time of what it
/// does where the system lets it.
pub trait Place: Send {
    /// Copies a checkpoint. `Ok`: the place holds it for good. Again with the same one is no error.
    fn copy(&mut self, checkpoint: &Checkpoint) -> Result<(), CopyError>;

    /// The newest checkpoints that the place knows of this host.
    fn newest_known(&mut self, question: &Question) -> Result<Vec<Known>, CopyError>;
}

/// Which logs are asked about at start.
#[derive(Clone, Debug)]
pub struct Question {
    /// `<fleet>/<host uuid>`: the origin without its epoch.
    pub host: String,
    /// The epoch that we know as the newest.
    pub epoch: u64,
    /// The newest checkpoint that we know ourselves.
    pub newest: Option<Checkpoint>,
}

impl Question {
    /// Origins that a place which can't list is asked about: of our epoch, and of the next one, which
    /// exists where an older state of this host was put back.
    fn origins(&self) -> [String; 2] {
        [self.epoch, self.epoch.saturating_add(1)].map(|epoch| format!("{}/{epoch}", self.host))
    }

    /// The epoch of an origin of this host.
    fn epoch_of(&self, origin: &str) -> Option<u64> {
        let rest = origin.strip_prefix(&self.host)?.strip_prefix('/')?;
        checkpoint::decimal(rest).filter(|epoch| *epoch > 0)
    }
}

/// The newest checkpoint of one log that an anchor knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Name of the log.
    pub origin: String,
    /// Its size.
    pub size: u64,
    /// Its root, where the anchor tells it.
    pub root: Option<[u8; 32]>,
    /// The note, where the anchor hands it back. Its signatures are not verified.
    pub note: Option<String>,
}

impl From<Checkpoint> for Known {
    fn from(checkpoint: Checkpoint) -> Self {
        Self {
            origin: checkpoint.origin().to_owned(),
            size: checkpoint.size(),
            root: Some(checkpoint.root()),
            note: Some(checkpoint.note().to_owned()),
        }
    }
}

/// What one anchor said to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Name of the anchor.
    pub anchor: String,
    /// What it knows, newest epoch last; or why it did not say.
    pub known: Result<Vec<Known>, String>,
}

/// What an anchor holds against us.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Alarm {
    /// It has another root for the same size.
    #[error("fork of `{origin}`: another root is known for size {size}")]
    Fork {
        /// The log.
        origin: String,
        /// Its size.
        size: u64,
        /// Root of ours.
        ours: [u8; 32],
        /// Root there, where it can be read.
        theirs: Option<[u8; 32]>,
    },
    /// It knows more entries than we have.
    #[error(
        "rollback or clone of `{origin}`: size {theirs} is known, and ours is {ours}: an older state \
         was put back, or another machine has the same identity"
    )]
    Ahead {
        /// The log.
        origin: String,
        /// Our size.
        ours: u64,
        /// The size there.
        theirs: u64,
    },
    /// A witness does not accept that our log continues what it saw.
    #[error(
        "fork of `{origin}`: the witness says that size {size} does not continue size {known}, which \
         it has seen"
    )]
    Inconsistent {
        /// The log.
        origin: String,
        /// The size that it has seen.
        known: u64,
        /// The size that we asked it to cosign.
        size: u64,
    },
}

/// Why a checkpoint was not copied.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The anchor holds something against us.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// Printing.
    #[error(transparent)]
    Print(#[from] PrintError),
    /// A folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// A database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A witness.
    #[error(transparent)]
    Witness(#[from] WitnessError),
}

/// Something that the trail has to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An anchor failed that worked, or that was never tried.
    Failing {
        /// Its name.
        anchor: String,
        /// Why.
        error: String,
    },
    /// It works again.
    Restored {
        /// Its name.
        anchor: String,
        /// For how long it did not.
        failed_for: Duration,
        /// Attempts that failed.
        failures: u64,
    },
    /// It holds something against us.
    Raised {
        /// Its name.
        anchor: String,
        /// What.
        alarm: Alarm,
    },
}

/// Who hears of [`Notice`]s. Called on the thread of the anchor.
pub type Hear = Arc<dyn Fn(Notice) + Send + Sync>;

/// An anchor that is ready to be started.
pub struct Ready {
    /// How messages name it.
    pub name: String,
    /// As the configuration calls its kind.
    pub kind: &'static str,
    /// Time between two copies.
    pub every: Duration,
    /// The place.
    pub place: Box<dyn Place>,
}

/// The threads of all anchors. Dropping it asks them to stop and does not wait: one may hang in the
/// system, and all they hold is a copy.
pub struct Anchors {
    workers: Vec<Worker>,
}

impl Anchors {
    /// Starts one thread for each anchor.
    pub fn start(ready: Vec<Ready>, hear: &Hear) -> std::io::Result<Self> {
        let workers = ready.into_iter().map(|ready| Worker::start(ready, hear.clone()));
        Ok(Self { workers: workers.collect::<Result<_, _>>()? })
    }

    /// Hands over the newest checkpoint, published now. Never blocks.
    pub fn offer(&self, checkpoint: &Arc<Checkpoint>) {
        self.workers.iter().for_each(|worker| worker.offer(checkpoint.clone()));
    }

    /// Asks every anchor what it knows of this host, and waits for all answers until `limit`.
    pub fn newest_known(&self, question: &Question, limit: Duration) -> Vec<Answer> {
        let deadline = Instant::now() + limit;
        let asked = self.workers.iter().map(|worker| {
            let (reply, answer) = mpsc::sync_channel(1);
            worker.ask(question.clone(), reply);
            (worker.name().to_owned(), answer)
        });
        let asked: Vec<_> = asked.collect();
        let answers = asked.into_iter().map(|(anchor, answer)| {
            let left = deadline.saturating_duration_since(Instant::now());
            let known = answer.recv_timeout(left);
            let known = known.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
            Answer { anchor, known }
        });
        answers.collect()
    }

    /// How each anchor is, in the order of the configuration.
    pub fn status(&self) -> Vec<AnchorStatus> {
        self.workers.iter().map(Worker::status).collect()
    }
}

#[cfg(test)]
mod tests;
