//! Changes of writers, from the kernel's ring buffer to the session that they are about.
//!
//! The kernel side emits a change before the bytes that it covers can be read here, so whoever reads bytes drains the ring
//! first and then knows the writers of everything read. Draining costs no system call.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pgward_common::{Counter, WriterChanged};

use crate::bpf::{Maps, WriterEvents};

/// Changes kept for one session that it did not look at yet. A session that has more is one whose sockets are passed around
/// faster than it reads; the rest counts as lost.
const CHANGES_MAX: usize = 4096;

/// Delivers changes to sessions. Shared by all workers.
pub struct Writers {
    ring: Mutex<WriterEvents>,
    sessions: Mutex<HashMap<u64, Arc<Mailbox>>>,
    maps: Arc<Maps>,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Mailbox {
    full: AtomicBool,
    changes: Mutex<Vec<WriterChanged>>,
    overflow: AtomicBool,
}

impl Writers {
    /// Reads from `ring`.
    pub fn new(ring: WriterEvents, maps: Arc<Maps>) -> Arc<Self> {
        let lost = maps.counter(Counter::WriterEventsLost).unwrap_or(0);
        Arc::new(Self {
            ring: Mutex::new(ring),
            sessions: Mutex::default(),
            maps,
            lost: AtomicU64::new(lost),
        })
    }

    /// Registers the session of the client socket `cookie`.
    pub fn register(self: &Arc<Self>, cookie: u64) -> Registration {
        let mailbox = Arc::<Mailbox>::default();
        locked(&self.sessions).insert(cookie, mailbox.clone());
        let lost_before = self.lost.load(Ordering::Relaxed);
        Registration { writers: self.clone(), cookie, mailbox, lost_before }
    }

    /// Takes everything out of the ring. Whoever comes second waits until the first has delivered.
    fn drain(&self) {
        let mut ring = locked(&self.ring);
        let Some(mut change) = ring.pop() else { return };
        let sessions = locked(&self.sessions);
        loop {
            if let Some(mailbox) = sessions.get(&change.cookie) {
                let mut changes = locked(&mailbox.changes);
                if changes.len() < CHANGES_MAX {
                    changes.push(change);
                } else {
                    mailbox.overflow.store(true, Ordering::Relaxed);
                }
                mailbox.full.store(true, Ordering::Release);
            }
            match ring.pop() {
                Some(next) => change = next,
                None => break,
            }
        }
        // A change can only be lost while the ring is full, so a look at the counter behind a delivery is enough.
        if let Ok(lost) = self.maps.counter(Counter::WriterEventsLost) {
            self.lost.store(lost, Ordering::Relaxed);
        }
    }
}

/// A session's place in [`Writers`]; leaving is dropping.
pub struct Registration {
    writers: Arc<Writers>,
    cookie: u64,
    mailbox: Arc<Mailbox>,
    lost_before: u64,
}

impl Registration {
    /// Changes that concern bytes read so far, oldest first. Call behind each read and before looking at what was read.
    pub fn changes(&self) -> Vec<WriterChanged> {
        self.writers.drain();
        if !self.mailbox.full.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *locked(&self.mailbox.changes))
    }

    /// Whether every change since the session began was seen. Once false it stays so: from then on the writer is "the opener
    /// or a later one".
    pub fn complete(&self) -> bool {
        self.writers.lost.load(Ordering::Relaxed) == self.lost_before
            && !self.mailbox.overflow.load(Ordering::Relaxed)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        locked(&self.writers.sessions).remove(&self.cookie);
    }
}

/// No lock is held across code that can leave the data half-changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
