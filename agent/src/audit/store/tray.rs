//! What waits in one sink, and who waits for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::frame::{self, ENTRY_BYTES_MAX, FRAME_BYTES, Kind, VALUES_BYTES_MAX};
use super::sink::{NotRecorded, Put, Ticket};
use crate::audit::chain::{Hash, sha256};

/// Most ranges of failed tickets that are told apart; see [`Settlement::failed`].
const FAILURES_MAX: usize = 32;

/// One sink's share of what its worker and the committer have in common.
#[derive(Debug, Default)]
pub(super) struct Tray {
    queue: Mutex<Queue>,
    /// Every ticket up to this one is settled. Written only under the lock of `settlement`.
    settled: AtomicU64,
    /// Some ticket failed, once.
    failed: AtomicBool,
    settlement: Mutex<Settlement>,
    taken: Notify,
}

/// Records in the order in which they were put, framed.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Frames, back to back.
    pub(super) bytes: Vec<u8>,
    /// One for each entry.
    pub(super) records: Vec<Queued>,
    /// The ticket given last.
    last: u64,
}

/// A record in a [`Queue`].
#[derive(Debug)]
pub(super) struct Queued {
    /// Hash of its leaf.
    pub(super) leaf: Hash,
    /// Where its frames end in [`Queue::bytes`].
    pub(super) end: usize,
}

/// How tickets ended, and who waits for those that did not.
#[derive(Debug, Default)]
struct Settlement {
    /// Ordered by ticket.
    waiting: VecDeque<(u64, Waker)>,
    /// Tickets that failed: first, last, why. Ordered; when there are too many, the two oldest
    /// become one that covers what lies between: better a session too many that ends.
    failures: VecDeque<(u64, u64, NotRecorded)>,
}

impl Queue {
    /// Adds a record. On error nothing is added.
    pub(super) fn push(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        values: &[u8],
    ) -> Result<Put, NotRecorded> {
        let start = self.end();
        self.bytes.truncate(start); // what a panic of `write` may have left
        let at = frame::begin(&mut self.bytes);
        write(&mut self.bytes);
        let entry_bytes = self.bytes.len().saturating_sub(at + FRAME_BYTES);
        if !(1..=ENTRY_BYTES_MAX).contains(&entry_bytes) || values.len() > VALUES_BYTES_MAX {
            self.bytes.truncate(start);
            return Err(NotRecorded::TooLarge);
        }
        // The byte before the entry is that of the frame's type, which `finish` writes: until then
        // it is the zero that a leaf is hashed behind.
        let leaf = sha256(&self.bytes[at + FRAME_BYTES - 1..]);
        frame::finish(&mut self.bytes, at, Kind::Entry);
        if !values.is_empty() {
            let at = frame::begin(&mut self.bytes);
            self.bytes.extend_from_slice(values);
            frame::finish(&mut self.bytes, at, Kind::Values);
        }
        self.records.push(Queued { leaf, end: self.bytes.len() });
        self.last += 1;
        Ok(Put { ticket: Ticket(self.last), leaf })
    }

    /// Forgets everything but the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }

    /// The ticket of the first record.
    pub(super) fn first_ticket(&self) -> u64 {
        self.last + 1 - self.records.len() as u64
    }

    /// Where the frames of whole records end.
    pub(super) fn end(&self) -> usize {
        self.records.last().map_or(0, |record| record.end)
    }
}

impl Tray {
    /// What waits, for a worker to add to.
    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic while a record is written leaves bytes behind the last whole record, which
        // nobody reads.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Swaps what waits for `spare`, which must be clear.
    pub(super) fn take(&self, mut spare: Queue) -> Queue {
        let mut queue = self.queue();
        spare.last = queue.last;
        let taken = std::mem::replace(&mut *queue, spare);
        drop(queue);
        self.notify();
        taken
    }

    /// Whether nothing waits to be taken.
    pub(super) fn is_empty(&self) -> bool {
        self.queue().records.is_empty()
    }

    /// Lets whoever waits for [`Tray::taken`] look again.
    pub(super) fn notify(&self) {
        self.taken.notify_waiters();
    }

    /// Notice of [`Tray::take`] and [`Tray::notify`].
    pub(super) fn taken(&self) -> &Notify {
        &self.taken
    }

    /// Every ticket up to `ticket` is durable, except those that failed before. Gives how many
    /// tasks that woke.
    pub(super) fn settle(&self, ticket: u64) -> usize {
        self.publish(ticket, None)
    }

    /// Every ticket that was given and is not settled fails.
    pub(super) fn fail(&self, error: NotRecorded) {
        let last = self.queue().last;
        self.publish(last, Some(error));
    }

    /// Every ticket that is not settled fails, and so will every one that is still given.
    pub(super) fn fail_for_ever(&self) {
        self.publish(u64::MAX, Some(NotRecorded::WriterGone));
        self.notify();
    }

    /// Lets everybody who waits for a ticket look again.
    pub(super) fn wake_all(&self) {
        let waiting = std::mem::take(&mut self.settlement().waiting);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn publish(&self, ticket: u64, error: Option<NotRecorded>) -> usize {
        let mut settlement = self.settlement();
        let before = self.settled.load(Ordering::Relaxed);
        if ticket <= before {
            return 0;
        }
        if let Some(error) = error {
            settlement.fail(before + 1, ticket, error);
            self.failed.store(true, Ordering::Release);
        }
        self.settled.store(ticket, Ordering::Release);
        let ready = settlement.waiting.partition_point(|(waits_for, _)| *waits_for <= ticket);
        // Woken outside of the lock, which each of them will ask for.
        let wakers: Vec<Waker> = settlement.waiting.drain(..ready).map(|(_, w)| w).collect();
        drop(settlement);
        wakers.into_iter().for_each(Waker::wake);
        ready
    }

    /// How a ticket ended, if it did; else `cx` is woken when it does.
    pub(super) fn poll(
        &self,
        Ticket(ticket): Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NotRecorded>> {
        if self.settled.load(Ordering::Acquire) >= ticket && !self.failed.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let mut settlement = self.settlement();
        if self.settled.load(Ordering::Relaxed) >= ticket {
            return Poll::Ready(settlement.verdict(ticket));
        }
        settlement.wait(ticket, cx.waker());
        Poll::Pending
    }

    fn settlement(&self) -> MutexGuard<'_, Settlement> {
        // Nothing under this lock panics halfway through a change.
        self.settlement.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settlement {
    fn wait(&mut self, ticket: u64, waker: &Waker) {
        let from = self.waiting.partition_point(|(waits_for, _)| *waits_for < ticket);
        let to = self.waiting.partition_point(|(waits_for, _)| *waits_for <= ticket);
        if !self.waiting.range(from..to).any(|(_, waiting)| waiting.will_wake(waker)) {
            self.waiting.insert(to, (ticket, waker.clone()));
        }
    }

    fn fail(&mut self, first: u64, last: u64, error: NotRecorded) {
        match self.failures.back_mut() {
            Some((_, end, same)) if *end + 1 == first && *same == error => *end = last,
            _ => self.failures.push_back((first, last, error)),
        }
        if self.failures.len() > FAILURES_MAX
            && let Some((first, _, _)) = self.failures.pop_front()
            && let Some(oldest) = self.failures.front_mut()
        {
            oldest.0 = first;
        }
    }

    fn verdict(&self, ticket: u64) -> Result<(), NotRecorded> {
        let at = self.failures.partition_point(|(_, last, _)| *last < ticket);
        match self.failures.get(at) {
            Some((first, _, error)) if *first <= ticket => Err(*error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(tray: &Tray) -> Ticket {
        tray.queue().push(|out| out.push(b'x'), b"").expect("fits").ticket
    }

    fn poll(tray: &Tray, ticket: Ticket) -> Poll<Result<(), NotRecorded>> {
        tray.poll(ticket, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn wakes_exactly_those_whose_ticket_is_settled() {
        let tray = Tray::default();
        let counters: Vec<_> = (0..3).map(|_| Arc::new(Counter::default())).collect();
        let tickets: Vec<_> = counters.iter().map(|_| put(&tray)).collect();
        for (counter, ticket) in counters.iter().zip(&tickets).rev() {
            let waker = counter.clone().into();
            for _ in 0..3 {
                assert_eq!(tray.poll(*ticket, &mut Context::from_waker(&waker)), Poll::Pending);
            }
        }
        assert_eq!(tray.settle(2), 2);
        let woken: Vec<_> = counters.iter().map(|c| c.0.load(Ordering::Relaxed)).collect();
        assert_eq!(woken, [1, 1, 0]);
        assert_eq!(poll(&tray, tickets[1]), Poll::Ready(Ok(())));
        assert_eq!(poll(&tray, tickets[2]), Poll::Pending);
    }

    #[test]
    fn a_failed_ticket_stays_failed_when_later_ones_are_durable() {
        let tray = Tray::default();
        let tickets: Vec<_> = (0..4).map(|_| put(&tray)).collect();
        tray.settle(1);
        tray.fail(NotRecorded::Io);
        let later = put(&tray);
        tray.settle(3); // written after all: too late for whoever was told
        tray.settle(later.0);
        assert_eq!(poll(&tray, tickets[0]), Poll::Ready(Ok(())));
        for failed in &tickets[1..] {
            assert_eq!(poll(&tray, *failed), Poll::Ready(Err(NotRecorded::Io)));
        }
        assert_eq!(poll(&tray, later), Poll::Ready(Ok(())));
    }

    #[test]
    fn remembers_failures_within_bounds_and_never_forgets_one() {
        let tray = Tray::default();
        let mut failed = Vec::new();
        for _ in 0..FAILURES_MAX * 3 {
            let good = put(&tray);
            tray.settle(good.0);
            failed.push(put(&tray));
            tray.fail(NotRecorded::DiskFull);
        }
        assert_eq!(tray.settlement().failures.len(), FAILURES_MAX);
        for ticket in failed {
            assert_eq!(poll(&tray, ticket), Poll::Ready(Err(NotRecorded::DiskFull)));
        }
        let good = put(&tray);
        tray.settle(good.0);
        assert_eq!(poll(&tray, good), Poll::Ready(Ok(())));
    }

    #[test]
    fn refuses_what_no_frame_can_hold_and_keeps_the_rest() {
        let tray = Tray::default();
        let kept = put(&tray);
        let mut queue = tray.queue();
        let too_large = |queue: &mut Queue, entry: usize, values: usize| {
            queue.push(|out| out.resize(out.len() + entry, 1), &vec![0; values]).err()
        };
        assert_eq!(too_large(&mut queue, 0, 0), Some(NotRecorded::TooLarge));
        assert_eq!(too_large(&mut queue, ENTRY_BYTES_MAX + 1, 0), Some(NotRecorded::TooLarge));
        assert_eq!(too_large(&mut queue, 1, VALUES_BYTES_MAX + 1), Some(NotRecorded::TooLarge));
        assert_eq!((queue.records.len(), queue.end()), (1, queue.bytes.len()));
        assert_eq!(too_large(&mut queue, ENTRY_BYTES_MAX, VALUES_BYTES_MAX), None);
        assert_eq!(queue.first_ticket(), kept.0);
    }

    #[test]
    fn a_panic_while_writing_leaves_no_torn_frame() {
        let tray = Arc::new(Tray::default());
        put(&tray);
        let other = Arc::clone(&tray);
        let writing = move || {
            let _ = other.queue().push(|out| panic!("after {} bytes", out.len()), b"");
        };
        std::thread::spawn(writing).join().expect_err("panics");
        put(&tray);
        let queue = tray.take(Queue::default());
        assert_eq!(queue.records.len(), 2);
        assert_eq!(queue.end(), 2 * (FRAME_BYTES + 1));
    }
}
