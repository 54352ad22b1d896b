//! What the store tells others: what happened to it, and what the log has grown by.

use std::fmt::Debug;
use std::time::Instant;

use super::scan::Damage;
use super::shared::Level;
use crate::audit::chain::Hash;
use crate::audit::time::WallNanos;

/// Hears what happens to the store. Called by its threads: must not wait, and may [`put`] what it
/// hears into the log.
///
/// [`put`]: super::Sink::put
pub trait Watch: Debug + Send + Sync {
    /// Something happened that the trail or an operator should know.
    fn notice(&self, notice: Notice);

    /// A segment is finished and packed: an index can be made of it. Called by the keeper, which
    /// waits for it; the disk may be used here.
    fn finished(&self, segment: &Finished);
}

/// What happened to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Another part of the quota is used than before.
    Watermark {
        /// The part.
        level: Level,
        /// Bytes used.
        used_bytes: u64,
        /// Bytes that may be used.
        quota_bytes: u64,
    },
    /// The disk reported an error.
    WriteFailed {
        /// What was tried.
        operation: &'static str,
        /// Number of the error (`errno`), 0 when there is none.
        errno: i32,
    },
    /// After an error a segment is written no more: what was not acknowledged of it is written
    /// again to another.
    SegmentAbandoned {
        /// First index of the segment.
        first: u64,
        /// Size of the tree from which on it counts no more.
        size: u64,
    },
    /// The reserve is being used: only [`Class::Closing`](super::Class::Closing) is taken.
    ReserveInUse,
    /// Records can be written again.
    Recovered,
    /// With `on_full = "allow"`: so much was not recorded.
    Lost {
        /// Records.
        count: u64,
        /// When the first of them was.
        since: WallNanos,
    },
    /// A finished segment could not be packed and stays as it is.
    PackFailed {
        /// First index of the segment.
        first: u64,
        /// What was tried.
        operation: &'static str,
        /// Number of the error, 0 when there is none.
        errno: i32,
    },
    /// A finished segment is not what was written.
    SegmentDamaged {
        /// First index of the segment.
        first: u64,
        /// Where in its file, and what is wrong.
        damage: Damage,
    },
    /// The folder of the trail is another one than when the agent started.
    DirectoryReplaced,
}

/// A finished segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Number of its first entry.
    pub first: u64,
    /// Number behind its last entry.
    pub end: u64,
    /// Root of the tree at its end.
    pub root: Hash,
}

/// What the log is chained and sealed with. Driven by the committer: must not wait, and must not
/// touch a disk.
pub trait Chain: Send {
    /// When [`Chain::entry`] is to be asked although nothing is recorded. Asked then, it must add
    /// an entry, or this must give a later time.
    fn due(&self) -> Option<Instant>;

    /// Asked before each batch, and when due. When the next entry of the log, whose index is
    /// `size`, is to be the chain's own (a seal), it appends that to `out` and returns `true`. What
    /// it appended is written before anything else, if need be after errors; until it is durable
    /// the chain is not asked again.
    fn entry(&mut self, size: u64, root: &Hash, moment: Moment, out: &mut Vec<u8>) -> bool;

    /// A batch is durable: these leaves, and the tree as it is now.
    fn committed(&mut self, leaves: &[Hash], size: u64, root: &Hash);
}

/// Why [`Chain::entry`] is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// In the course of things.
    Regular,
    /// Everything is written and the store closes: the last entry. Not asked when the disk fails.
    Closing,
}

/// A chain that adds nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unsealed;

impl Chain for Unsealed {
    fn due(&self) -> Option<Instant> {
        None
    }

    fn entry(&mut self, _: u64, _: &Hash, _: Moment, _: &mut Vec<u8>) -> bool {
        false
    }

    fn committed(&mut self, _: &[Hash], _: u64, _: &Hash) {}
}
