//! Where workers put their records, and how they learn that a record is durable.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::shared::{Health, Shared};
use super::tray::Tray;
use crate::audit::chain::Hash;
use crate::audit::time::Now;
use crate::config::{AuditMode, OnFull};

/// A worker with this much waiting should stop reading from clients, see [`Sink::ready`]. In bytes.
pub const SATURATED_BYTES: usize = 1 << 20;
/// Most that waits in one sink, in bytes: what comes then is refused, and counted.
pub const SINK_BYTES_MAX: usize = 16 << 20;
/// What [`Class::Closing`] may use beyond that, in bytes.
pub const CLOSING_BYTES_MAX: usize = 1 << 20;
/// The committer starts without waiting for more when this much waits. In bytes.
const URGENT_BYTES: usize = 256 << 10;

/// Proof that what must be recorded before something may happen was recorded as far as the mode of
/// its session demands. Made by [`Sink`] and nowhere else, for functions that must not be called
/// without one.
///
/// From [`Sink::poll_durable`] it says that the record is on stable storage; from
/// [`Sink::poll_may_go`] with `overlap` or `async` that it waits in memory in its place, within
/// bounds. With `audit.on_full = "allow"` it may also say that the loss was counted.
#[derive(Debug)]
#[must_use = "what may only be done when recorded asks for this"]
pub struct Recorded(());

/// Names a record within its sink, in the order of [`Sink::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// A record that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// To ask for it later.
    pub ticket: Ticket,
    /// Hash of its leaf in the tree.
    pub leaf: Hash,
}

/// What a record may use when space runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Refused when the quota is used up or the disk fails.
    Ordinary,
    /// May use the reserve: ends of sessions, outcomes, failures, break-glass, seals.
    Closing,
}

/// Why there is no record, or none that is durable: with `audit.on_full = "block"` the session must
/// end, and its client hears [`NotRecorded::sqlstate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// No space, or the quota is used up.
    #[error("audit trail cannot be written: disk full")]
    DiskFull,
    /// The disk reports errors.
    #[error("audit trail cannot be written: i/o error")]
    Io,
    /// The disk is so slow, or broken for so long, that [`SINK_BYTES_MAX`] wait.
    #[error("audit trail cannot be written: too much waits for the disk")]
    Overflow,
    /// Longer than a frame of the trail can be. A fault of the agent.
    #[error("audit trail cannot be written: record too large")]
    TooLarge,
    /// The key that values are encrypted with could not be made or stored.
    #[error("audit trail cannot be written: no key for values")]
    NoKeys,
    /// The committer is gone: nothing will ever be written. A fault of the agent.
    #[error("audit trail cannot be written: its writer is gone")]
    WriterGone,
    /// So little of the quota is left that no session may begin.
    #[error("audit trail is nearly full: no new sessions")]
    SessionsStopped,
}

impl NotRecorded {
    /// What the client is told: `disk_full` or `io_error` (PostgreSQL documentation, "PostgreSQL
    /// Error Codes", classes 53, 58).
    pub fn sqlstate(self) -> [u8; 5] {
        match self {
            Self::DiskFull | Self::SessionsStopped => *b"53100",
            Self::Io | Self::Overflow | Self::TooLarge | Self::NoKeys | Self::WriterGone => {
                *b"58030"
            }
        }
    }
}

/// One worker's way into the log. Clones share a queue and its tickets. Records keep the order in
/// which they were put.
#[derive(Clone, Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    tray: Arc<Tray>,
}

impl Sink {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let tray = Arc::new(Tray::default());
        shared.add(Arc::clone(&tray));
        Self { shared, tray }
    }

    /// Takes a record: `write` appends one canonical entry (1 to 65,535 bytes), `values` is the
    /// payload of its values, or empty. Never waits.
    ///
    /// Errors leave nothing behind, and `write` may not have been called. With
    /// `on_full = "allow"` they are counted as losses, and [`Sink::without`] lets go on. After
    /// `Ok` the record stays in its place even when its ticket fails, and is written when the disk
    /// is good again.
    pub fn put(
        &self,
        class: Class,
        write: impl FnOnce(&mut Vec<u8>),
        values: &[u8],
    ) -> Result<Put, NotRecorded> {
        self.admit(class).map_err(|error| self.lost(error))?;
        let mut queue = self.tray.queue();
        let before = queue.end();
        let bytes_max = match class {
            Class::Ordinary => SINK_BYTES_MAX,
            Class::Closing => SINK_BYTES_MAX + CLOSING_BYTES_MAX,
        };
        if before >= bytes_max {
            drop(queue);
            return Err(self.lost(NotRecorded::Overflow));
        }
        let put = queue.push(write, values);
        let after = queue.end();
        drop(queue);
        let put = put.map_err(|error| self.lost(error))?;
        if before < URGENT_BYTES && after >= URGENT_BYTES {
            self.shared.hurry();
        } else {
            self.shared.wake_if_idle();
        }
        Ok(put)
    }

    /// Whether a record is durable. Wakes `cx` when that is known.
    ///
    /// A ticket that failed stays failed, also when its record is written later.
    pub fn poll_durable(
        &self,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Recorded, NotRecorded>> {
        let settled = self.tray.poll(ticket, cx);
        match settled {
            Poll::Ready(result) => Poll::Ready(self.verdict(result)),
            Poll::Pending if self.goes_on_without_disk() => Poll::Ready(Ok(Recorded(()))),
            Poll::Pending => {
                self.shared.hurry();
                Poll::Pending
            }
        }
    }

    /// Waits until a record is durable. May be dropped at any time; several may wait.
    pub async fn durable(&self, ticket: Ticket) -> Result<Recorded, NotRecorded> {
        poll_fn(|cx| self.poll_durable(ticket, cx)).await
    }

    /// As [`Sink::durable`], for a thread that may sleep. Must not be called by a worker.
    pub fn durable_blocking(&self, ticket: Ticket) -> Result<Recorded, NotRecorded> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            match self.poll_durable(ticket, &mut cx) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    /// As [`Sink::durable_blocking`], for at most so long. `None`: it is not known yet.
    pub fn durable_within(
        &self,
        ticket: Ticket,
        limit: Duration,
    ) -> Option<Result<Recorded, NotRecorded>> {
        wait_within(limit, |cx| self.poll_durable(ticket, cx))
    }

    /// As [`Sink::durable_within`], for what must never happen without its record: `Ok` says that
    /// it is on stable storage, also while a loss would be let pass.
    pub fn kept_within(&self, ticket: Ticket, limit: Duration) -> Option<Result<(), NotRecorded>> {
        wait_within(limit, |cx| {
            let settled = self.tray.poll(ticket, cx);
            if settled.is_pending() {
                self.shared.hurry();
            }
            settled
        })
    }

    /// Whether what the record is about may happen, by the mode of its session: when the record is
    /// durable, or, in `overlap` and `async`, at once. In `async` it waits as well once more than
    /// `async_bytes_max` or something older than `async_delay_max` waits for the disk.
    pub fn poll_may_go(
        &self,
        mode: AuditMode,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Recorded, NotRecorded>> {
        let mode = if self.shared.eased() { AuditMode::Async } else { mode };
        match mode {
            AuditMode::Strict | AuditMode::Group | AuditMode::Default => {
                self.poll_durable(ticket, cx)
            }
            AuditMode::Overlap => Poll::Ready(Ok(Recorded(()))),
            AuditMode::Async if self.within_bounds() => Poll::Ready(Ok(Recorded(()))),
            AuditMode::Async => self.poll_durable(ticket, cx),
        }
    }

    /// With `on_full = "allow"`: what [`Sink::put`] refused, and counted, may happen nevertheless.
    /// With `"block"` gives the error back.
    pub fn without(&self, error: NotRecorded) -> Result<Recorded, NotRecorded> {
        self.verdict(Err(error))
    }

    /// Whether a record could be written now: to be asked before a statement is looked at. Always
    /// `Ok` with `on_full = "allow"`.
    pub fn check(&self) -> Result<(), NotRecorded> {
        match self.shared.on_full() {
            OnFull::Allow => Ok(()),
            OnFull::Block => self.admit(Class::Ordinary),
        }
    }

    /// As [`Sink::check`], before a session begins: that ends earlier, at 95 % of the quota.
    pub fn check_session(&self) -> Result<(), NotRecorded> {
        self.check()?;
        match self.shared.on_full() {
            OnFull::Block if self.shared.level().stops_sessions() => {
                Err(NotRecorded::SessionsStopped)
            }
            OnFull::Block | OnFull::Allow => Ok(()),
        }
    }

    /// Whether so much waits that the worker should read no more from its clients. Never with
    /// `on_full = "allow"`.
    pub fn saturated(&self) -> bool {
        self.shared.on_full() == OnFull::Block && self.tray.queue().end() >= SATURATED_BYTES
    }

    /// Waits until the sink is not saturated. Ends with the error of [`Sink::check`] when the disk
    /// is known to be at fault.
    ///
    /// May be dropped at any time. Several may wait.
    pub async fn ready(&self) -> Result<(), NotRecorded> {
        loop {
            let taken = self.tray.taken().notified();
            tokio::pin!(taken);
            taken.as_mut().enable(); // from here on no notice is missed
            self.check()?;
            if !self.saturated() {
                return Ok(());
            }
            taken.await;
        }
    }

    /// Has the committer look whether there is something to do.
    pub(in crate::audit) fn wake(&self) {
        self.shared.wake_committer();
    }

    /// What the state of the log says about a new record.
    fn admit(&self, class: Class) -> Result<(), NotRecorded> {
        let closing = class == Class::Closing || self.shared.on_full() == OnFull::Allow;
        match self.shared.health() {
            _ if self.shared.closing.load(Ordering::Relaxed) => Err(NotRecorded::WriterGone),
            Health::Gone => Err(NotRecorded::WriterGone),
            _ if closing => Ok(()),
            Health::Good if self.shared.level().stops_statements() => Err(NotRecorded::DiskFull),
            Health::Good => Ok(()),
            Health::Full => Err(NotRecorded::DiskFull),
            Health::Broken => Err(NotRecorded::Io),
        }
    }

    fn lost(&self, error: NotRecorded) -> NotRecorded {
        if self.shared.on_full() == OnFull::Allow {
            self.shared.count_lost(1, Now::read().wall);
        }
        error
    }

    /// With `on_full = "allow"` nobody waits for a disk that is known to fail, or hangs.
    fn goes_on_without_disk(&self) -> bool {
        self.shared.on_full() == OnFull::Allow
            && (self.shared.health() != Health::Good || self.shared.hangs())
    }

    fn within_bounds(&self) -> bool {
        let settings = &self.shared.settings;
        let waits = self.tray.queue().end() as u64;
        waits <= settings.async_bytes_max && self.shared.behind() <= settings.async_delay_max
    }

    fn verdict(&self, result: Result<(), NotRecorded>) -> Result<Recorded, NotRecorded> {
        match (result, self.shared.on_full()) {
            (Ok(()), _) | (Err(_), OnFull::Allow) => Ok(Recorded(())),
            (Err(error), OnFull::Block) => Err(error),
        }
    }
}

/// Polls from a thread that may sleep, for at most so long.
fn wait_within<T>(limit: Duration, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let until = Instant::now() + limit;
    loop {
        match poll(&mut cx) {
            Poll::Ready(value) => return Some(value),
            Poll::Pending => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                std::thread::park_timeout(left);
            }
        }
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
