//! Changes of writers, from the kernel's ring buffer to the session that they are about.
//!
//! The kernel side emits a change before the bytes that it covers can be read here, so whoever reads bytes drains the ring
//! first and then knows the writers of everything read. Draining costs no system call.
//!
//! A client may write before its connection is accepted here, and the session that drains the ring is often another one: a
//! change for a socket that no session has registered yet is kept until one does.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pgward_common::{Counter, Flow, WriterChanged};

use crate::{
    audit::Now,
    bpf::{Maps, WriterEvents},
};

/// Changes kept for one session that it did not look at yet. A session that has more is one whose sockets are passed around
/// faster than it reads; the rest counts as lost.
const CHANGES_MAX: usize = 4096;
/// Changes kept for sockets without a session. Most are about to get one; those of sessions that have ended stay until newer
/// ones push them out.
const EARLY_MAX: usize = 1024;

/// Delivers changes to sessions. Shared by all workers.
pub struct Writers {
    /// None where no tier watches.
    source: Option<Source>,
    desk: Mutex<Desk>,
    /// Nanoseconds since boot. Connections made until then may have lost a change.
    doubtful_until: AtomicU64,
}

struct Source {
    ring: Mutex<WriterEvents>,
    maps: Arc<Maps>,
    /// Value of the kernel's counter of lost changes when it was last looked at.
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Desk {
    mailboxes: HashMap<u64, Arc<Mailbox>>,
    /// Oldest first.
    early: VecDeque<WriterChanged>,
}

#[derive(Debug)]
struct Mailbox {
    /// When the socket was connected, nanoseconds since boot: older changes are of an earlier connection of the same socket.
    since: u64,
    full: AtomicBool,
    changes: Mutex<Vec<WriterChanged>>,
    overflow: AtomicBool,
}

impl Writers {
    /// Reads from `ring`.
    pub fn new(ring: WriterEvents, maps: Arc<Maps>) -> Arc<Self> {
        let lost = maps.counter(Counter::WriterEventsLost).unwrap_or(0);
        Self::of(Some(Source { ring: Mutex::new(ring), maps, lost: AtomicU64::new(lost) }))
    }

    /// Without a source: tier T0, which sees no changes.
    pub fn unwatched() -> Arc<Self> {
        Self::of(None)
    }

    fn of(source: Option<Source>) -> Arc<Self> {
        Arc::new(Self { source, desk: Mutex::default(), doubtful_until: AtomicU64::new(0) })
    }

    /// Registers the session of a client socket; it gets what came for it before, too.
    pub fn register(self: &Arc<Self>, flow: &Flow) -> Registration {
        let mailbox = Arc::new(Mailbox::new(flow.connect_boottime_ns));
        locked(&self.desk).register(flow.cookie, &mailbox);
        Registration { writers: self.clone(), cookie: flow.cookie, mailbox }
    }

    /// Takes everything out of the ring. Whoever comes second waits until the first has delivered.
    fn drain(&self) {
        let Some(source) = &self.source else { return };
        let mut ring = locked(&source.ring);
        let Some(mut change) = ring.pop() else { return };
        let mut desk = locked(&self.desk);
        loop {
            if let Some(forgotten) = desk.deliver(change) {
                self.doubt(forgotten.boottime_ns);
            }
            match ring.pop() {
                Some(next) => change = next,
                None => break,
            }
        }
        // A change can only be lost while the ring is full, so a look at the counter behind a delivery is enough.
        if let Ok(lost) = source.maps.counter(Counter::WriterEventsLost)
            && source.lost.swap(lost, Ordering::Relaxed) != lost
        {
            self.doubt(Now::read().boot.0);
        }
    }

    fn doubt(&self, boottime_ns: u64) {
        self.doubtful_until.fetch_max(boottime_ns, Ordering::Relaxed);
    }
}

impl Desk {
    fn register(&mut self, cookie: u64, mailbox: &Arc<Mailbox>) {
        self.mailboxes.insert(cookie, mailbox.clone());
        self.early.retain(|change| {
            let theirs = change.cookie == cookie;
            if theirs {
                mailbox.put(*change);
            }
            !theirs
        });
    }

    /// Gives the change that was forgotten to make room, if any.
    fn deliver(&mut self, change: WriterChanged) -> Option<WriterChanged> {
        if let Some(mailbox) = self.mailboxes.get(&change.cookie) {
            mailbox.put(change);
            return None;
        }
        let forgotten = if self.early.len() >= EARLY_MAX { self.early.pop_front() } else { None };
        self.early.push_back(change);
        forgotten
    }

    fn leave(&mut self, cookie: u64, mailbox: &Arc<Mailbox>) {
        // A socket that was connected anew may have its next session already.
        if self.mailboxes.get(&cookie).is_some_and(|current| Arc::ptr_eq(current, mailbox)) {
            self.mailboxes.remove(&cookie);
        }
    }
}

impl Mailbox {
    fn new(since: u64) -> Self {
        Self {
            since,
            full: AtomicBool::new(false),
            changes: Mutex::default(),
            overflow: AtomicBool::new(false),
        }
    }

    fn put(&self, change: WriterChanged) {
        if change.boottime_ns < self.since {
            return;
        }
        let mut changes = locked(&self.changes);
        if changes.len() < CHANGES_MAX {
            changes.push(change);
        } else {
            self.overflow.store(true, Ordering::Relaxed);
        }
        self.full.store(true, Ordering::Release);
    }

    fn take(&self) -> Vec<WriterChanged> {
        if !self.full.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *locked(&self.changes))
    }
}

/// A session's place in [`Writers`]; leaving is dropping.
pub struct Registration {
    writers: Arc<Writers>,
    cookie: u64,
    mailbox: Arc<Mailbox>,
}

impl Registration {
    /// Changes that concern bytes read so far, oldest first. Call behind each read and before looking at what was read.
    pub fn changes(&self) -> Vec<WriterChanged> {
        self.writers.drain();
        self.mailbox.take()
    }

    /// Whether every change since the socket was connected was seen. Once false it stays so: from then on the writer is "the
    /// opener or a later one".
    pub fn complete(&self) -> bool {
        self.writers.doubtful_until.load(Ordering::Relaxed) < self.mailbox.since
            && !self.mailbox.overflow.load(Ordering::Relaxed)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        locked(&self.writers.desk).leave(self.cookie, &self.mailbox);
    }
}

/// No lock is held across code that can leave the data half-changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(cookie: u64, boottime_ns: u64) -> WriterChanged {
        WriterChanged { cookie, boottime_ns, ..WriterChanged::default() }
    }

    #[test]
    fn changes_before_the_session_registers_reach_it() {
        let mut desk = Desk::default();
        assert_eq!(desk.deliver(change(7, 20)), None);
        assert_eq!(desk.deliver(change(8, 21)), None);
        let mailbox = Arc::new(Mailbox::new(10));
        desk.register(7, &mailbox);
        assert_eq!(desk.deliver(change(7, 22)), None);
        assert_eq!(mailbox.take(), [change(7, 20), change(7, 22)]);
        assert_eq!(desk.early, [change(8, 21)], "another socket's change still waits");
    }

    #[test]
    fn a_socket_connected_anew_gets_no_change_of_its_earlier_connection() {
        let mut desk = Desk::default();
        let (first, second) = (Arc::new(Mailbox::new(10)), Arc::new(Mailbox::new(30)));
        desk.register(7, &first);
        assert_eq!(desk.deliver(change(7, 20)), None);
        desk.register(7, &second);
        assert_eq!(desk.deliver(change(7, 25)), None);
        assert_eq!(desk.deliver(change(7, 31)), None);
        desk.leave(7, &first);
        assert_eq!(desk.deliver(change(7, 32)), None);
        assert_eq!(second.take(), [change(7, 31), change(7, 32)]);
        desk.leave(7, &second);
        assert!(desk.mailboxes.is_empty());
    }

    #[test]
    fn the_oldest_early_change_is_forgotten_and_told() {
        let mut desk = Desk::default();
        for at in 0..EARLY_MAX as u64 {
            assert_eq!(desk.deliver(change(at, at)), None);
        }
        assert_eq!(desk.deliver(change(5000, 5000)), Some(change(0, 0)));
        assert_eq!(desk.early.len(), EARLY_MAX);
    }

    #[test]
    fn a_mailbox_that_overflows_says_so() {
        let mailbox = Mailbox::new(0);
        for at in 0..CHANGES_MAX as u64 {
            mailbox.put(change(1, at));
        }
        assert!(!mailbox.overflow.load(Ordering::Relaxed));
        mailbox.put(change(1, 9999));
        assert!(mailbox.overflow.load(Ordering::Relaxed));
    }
}
