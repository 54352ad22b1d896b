//! Where workers put their records.
//!
//! A record is written as a line into the worker's own buffer, under a lock that only the log's
//! thread ever shares, and only to swap the buffer for an empty one. So recording costs neither a
//! system call nor an allocation, lines are never torn apart by those of other workers, and a slow
//! disk is felt only once [`SATURATED_BYTES`] wait.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::record::{Record, Stamp};
use super::writer::{Health, Shared};
use crate::config::OnFull;

/// A worker with this much waiting should stop reading from clients, see [`Sink::ready`]. In bytes.
pub const SATURATED_BYTES: usize = 1 << 20;
/// Most that waits in one sink, in bytes: a record that comes then is lost, and counted.
pub const SINK_BYTES_MAX: usize = 16 << 20;
/// The log's thread is woken before its time when this much waits. In bytes.
const URGENT_BYTES: usize = 32 << 10;

/// Proof that a record was handed to the log: made by [`Sink::record`] and nowhere else, for
/// functions that must not be called without one.
///
/// It says that the record waits in memory in its place, or that its loss was counted where the
/// configuration allows that (`audit.on_full = "allow"`). It does not say that the record is on
/// stable storage: that follows within about a second.
#[derive(Debug)]
#[must_use = "what may only be done when recorded asks for this"]
pub struct Recorded(());

/// Why there is no record, with `audit.on_full = "block"`: the session must end, and its client
/// hears [`NotRecorded::sqlstate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// No space. The record is kept in memory and written when there is space again.
    #[error("query log cannot be written: disk full")]
    DiskFull,
    /// The disk reports errors. The record is kept in memory and written when that ends.
    #[error("query log cannot be written: i/o error")]
    Io,
    /// The disk is so slow, or broken for so long, that [`SINK_BYTES_MAX`] wait: the record is
    /// lost, and counted.
    #[error("query log cannot be written: too much waits for the disk")]
    Overflow,
    /// The log's thread is gone: nothing will ever be written. A fault of the agent.
    #[error("query log cannot be written: its writer is gone")]
    WriterGone,
}

impl NotRecorded {
    /// What the client is told: `disk_full` or `io_error` (PostgreSQL documentation, "PostgreSQL
    /// Error Codes", classes 53, 58).
    pub fn sqlstate(self) -> [u8; 5] {
        match self {
            Self::DiskFull => *b"53100",
            Self::Io | Self::Overflow | Self::WriterGone => *b"58030",
        }
    }
}

/// One worker's way into the log. Clones share a buffer. Lines keep the order in which they were
/// recorded.
#[derive(Clone, Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    tray: Arc<Tray>,
}

/// What waits in one sink.
#[derive(Debug, Default)]
pub(super) struct Tray {
    content: Mutex<Lines>,
    taken: Notify,
}

/// Whole lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The lines, each with its line feed.
    pub(super) bytes: Vec<u8>,
    /// How many.
    pub(super) records: u64,
}

impl Sink {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let tray = Arc::new(Tray::default());
        shared.add(Arc::clone(&tray));
        Self { shared, tray }
    }

    /// Records. Never waits.
    ///
    /// Errors, only with `on_full = "block"`: see [`NotRecorded`]; `DiskFull` and `Io` keep the
    /// record nevertheless, so that what a server was already asked for is not forgotten.
    pub fn record<'r>(
        &self,
        stamp: &Stamp,
        record: impl Into<Record<'r>>,
    ) -> Result<Recorded, NotRecorded> {
        let health = self.health();
        if health == Err(NotRecorded::WriterGone) {
            self.shared.count_lost(1, stamp.now.wall);
            return self.verdict(health);
        }
        let mut lines = self.tray.lock();
        if lines.bytes.len() >= SINK_BYTES_MAX {
            drop(lines);
            self.shared.count_lost(1, stamp.now.wall);
            return self.verdict(Err(NotRecorded::Overflow));
        }
        let before = lines.bytes.len();
        record.into().write(stamp, &mut lines.bytes);
        lines.records += 1;
        let after = lines.bytes.len();
        drop(lines);
        if before < URGENT_BYTES && after >= URGENT_BYTES {
            self.shared.wake();
        } else {
            self.shared.wake_if_idle();
        }
        self.verdict(health)
    }

    /// Tells the log's thread that something waits, should it sleep. [`Sink::record`] does this
    /// too; more than a hundred times a second it costs nothing and does nothing.
    pub fn flush(&self) {
        self.shared.wake_if_idle();
    }

    /// Whether a record could be written now: to be asked before a statement goes to its server.
    /// Always `Ok` with `on_full = "allow"`.
    pub fn check(&self) -> Result<(), NotRecorded> {
        match self.shared.on_full() {
            OnFull::Allow => Ok(()),
            OnFull::Block => self.health(),
        }
    }

    /// Whether so much waits that the worker should read no more from its clients. Never with
    /// `on_full = "allow"`.
    pub fn saturated(&self) -> bool {
        self.shared.on_full() == OnFull::Block && self.tray.lock().bytes.len() >= SATURATED_BYTES
    }

    /// Waits until the sink is not saturated. Ends with the error of [`Sink::check`] when the disk
    /// is known to be at fault.
    ///
    /// May be dropped at any time. Several may wait.
    pub async fn ready(&self) -> Result<(), NotRecorded> {
        loop {
            let taken = self.tray.taken.notified();
            tokio::pin!(taken);
            taken.as_mut().enable(); // from here on no notice is missed
            self.check()?;
            if !self.saturated() {
                return Ok(());
            }
            taken.await;
        }
    }

    fn health(&self) -> Result<(), NotRecorded> {
        match self.shared.health() {
            Health::Good => Ok(()),
            Health::Full => Err(NotRecorded::DiskFull),
            Health::Broken => Err(NotRecorded::Io),
            Health::Gone => Err(NotRecorded::WriterGone),
        }
    }

    fn verdict(&self, result: Result<(), NotRecorded>) -> Result<Recorded, NotRecorded> {
        match (result, self.shared.on_full()) {
            (Ok(()), _) | (Err(_), OnFull::Allow) => Ok(Recorded(())),
            (Err(error), OnFull::Block) => Err(error),
        }
    }
}

impl Tray {
    /// Swaps what waits for `spare`, which must be empty.
    pub(super) fn take(&self, spare: Lines) -> Lines {
        let taken = std::mem::replace(&mut *self.lock(), spare);
        self.notify();
        taken
    }

    /// Lets whoever waits in [`Sink::ready`] look again.
    pub(super) fn notify(&self) {
        self.taken.notify_waiters();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().records == 0
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // A panic while writing a line leaves at worst a torn line at the end, as a crash does.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Wakes the log's thread if it sleeps until called.
    fn wake_if_idle(&self) {
        // Pairs with the writer, which says that it is idle and then looks at the trays once more.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.idle.load(Ordering::Relaxed) && self.idle.swap(false, Ordering::Relaxed) {
            self.wake();
        }
    }
}
