//! The entries that the log makes of itself: what a run begins with, and seals.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::error;

use crate::audit::chain::{Ending, Hash, Seal as Signed, Seals};
use crate::audit::keys::{HostKey, SealKeyMaker};
use crate::audit::maintenance::Seal;
use crate::audit::publish::Publisher;
use crate::audit::record::{Record, Stamp};
use crate::audit::salt::salt;
use crate::audit::store::{Chain, Moment, NotRecorded, Recorded, Sink, Ticket};
use crate::audit::time::{BootNanos, Now};

/// What the sealer shares with others.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    /// Boot time of the newest durable seal; 0: none.
    sealed_at: AtomicU64,
    hurry: AtomicBool,
    passed_on: Mutex<Option<[u8; 32]>>,
}

impl Sealing {
    /// Time since the newest durable seal.
    pub(super) fn lag(&self, now: BootNanos) -> Option<Duration> {
        match self.sealed_at.load(Ordering::Relaxed) {
            0 => None,
            sealed => Some(Duration::from_nanos(now.0.saturating_sub(sealed))),
        }
    }

    /// A seal is wanted before its time.
    pub(super) fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }

    /// How the run ends: with the key of this public part passed on, or without.
    pub(super) fn end_with(&self, passed_on: Option<[u8; 32]>) {
        *self.passed_on.lock().unwrap_or_else(PoisonError::into_inner) = passed_on;
    }

    fn ending(&self) -> Ending {
        let passed_on = *self.passed_on.lock().unwrap_or_else(PoisonError::into_inner);
        passed_on.map_or(Ending::Final, Ending::Handover)
    }
}

/// Asks for a seal behind a record: for those who cannot wait for the next regular one.
#[derive(Clone, Debug)]
pub struct SealSoon(pub(super) Arc<Sealing>);

impl SealSoon {
    /// Has a seal made when the record is durable, so that it is under it. Returns at once. Outside
    /// of a runtime the seal is made at once, and the record may be under the one after.
    pub fn behind(&self, sink: &Sink, ticket: Ticket) {
        let (sealing, sink) = (Arc::clone(&self.0), sink.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            sealing.hurry();
            sink.wake();
            return;
        };
        // Not awaited: at a stop it is dropped, and the last seal is behind every record.
        drop(runtime.spawn(async move {
            // A record that failed is in its place all the same.
            let _: Result<Recorded, NotRecorded> = sink.durable(ticket).await;
            sealing.hurry();
            sink.wake();
        }));
    }
}

/// Makes them, asked by the committer.
pub(super) struct Sealer {
    pub(super) shared: Arc<Sealing>,
    /// Entries that come before the first seal of the run.
    pub(super) first: VecDeque<Vec<u8>>,
    pub(super) seals: Seals<SealKeyMaker>,
    pub(super) host: Arc<HostKey>,
    pub(super) publisher: Arc<Publisher>,
    /// Size and boot time of the seal that is on its way to the disk.
    pub(super) pending: Option<(u64, u64)>,
}

impl Sealer {
    fn sealed(&mut self, seal: &Signed, now: Now, out: &mut Vec<u8>) {
        let record = Seal {
            number: seal.number,
            size: seal.size,
            root: &seal.root,
            kind: seal.kind.number(),
            next: &seal.next,
            signature: &seal.signature,
        };
        Record::from(&record).write(&Stamp::agent(now), &salt(), out);
        self.pending = Some((seal.size, now.boot.0));
        self.shared.hurry.store(false, Ordering::Relaxed);
    }
}

impl Chain for Sealer {
    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        if !self.first.is_empty() {
            return Some(now);
        }
        let due = self.seals.next_due()?;
        if self.shared.hurry.load(Ordering::Relaxed) {
            return Some(now);
        }
        Some(now + Duration::from_nanos(due.saturating_sub(Now::read().boot.0)))
    }

    fn entry(&mut self, size: u64, root: &Hash, moment: Moment, out: &mut Vec<u8>) -> bool {
        if let Some(entry) = self.first.front() {
            out.extend_from_slice(entry);
            return true;
        }
        let now = Now::read();
        let wall = now.wall.0;
        let made = match moment {
            Moment::Closing => {
                let ending = self.shared.ending();
                self.seals.finish(size, *root, wall, ending, &self.host)
            }
            Moment::Regular => {
                let hurry = self.shared.hurry.load(Ordering::Relaxed);
                let wanted = hurry && self.seals.next_due().is_some();
                if !(wanted || self.seals.due(now.boot.0)) {
                    return false;
                }
                self.seals.next(size, *root, wall, now.boot.0, &self.host)
            }
        };
        match made {
            Ok(seal) => {
                self.sealed(&seal, now, out);
                true
            }
            Err(error) => {
                error!(%error, "the log is not sealed");
                false
            }
        }
    }

    fn committed(&mut self, leaves: &[Hash], size: u64, root: &Hash) {
        // What the chain appended comes first in its batch.
        if !self.first.is_empty() {
            self.first.pop_front();
        } else if let Some((sealed, at)) = self.pending.filter(|(sealed, _)| *sealed < size) {
            debug_assert!(sealed < size);
            self.pending = None;
            self.seals.durable();
            self.shared.sealed_at.store(at, Ordering::Relaxed);
        }
        self.publisher.durable(leaves, size, *root);
    }
}
