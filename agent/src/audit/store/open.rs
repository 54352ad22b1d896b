//! Opening an epoch, and the store that then writes it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use super::committer::{Committer, Summary};
use super::disk::Disk;
use super::folder::{Directory, Folder, FolderError};
use super::frame::ORIGIN_BYTES_MAX;
use super::keeper::Keeper;
use super::recover::{Corrupt, Recovered, TornTail, recover};
use super::shared::{Settings, Shared, StoreStatus};
use super::sink::{NotRecorded, Sink};
use super::watch::{Chain, Watch};
use crate::audit::chain::{Hash, Tree};
use crate::audit::time::BootNanos;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The disk.
    #[error("cannot {operation} the audit trail")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// From the system.
        source: io::Error,
    },
    /// No segment can be begun.
    #[error("cannot begin a segment of the audit trail")]
    Begin(#[source] NotRecorded),
    /// What was durable was changed.
    #[error(
        "audit trail is damaged: {} at byte {} of `{}`\nhint: begin a new epoch",
        .0.damage.found, .0.damage.offset, .0.file
    )]
    Corrupt(Corrupt),
    /// Too long for the header of a segment.
    #[error("origin of the audit trail too long: {0} bytes, expected at most {ORIGIN_BYTES_MAX}")]
    Origin(usize),
}

/// An epoch of the trail as the last run left it. Nothing is written to it yet but what had to be
/// put aside.
#[derive(Debug)]
pub struct Opened {
    directory: Directory,
    epoch: u64,
    recovered: Recovered<Folder>,
}

impl Directory {
    /// Looks at an epoch, from its newest segment, and puts a torn tail aside. An epoch that is
    /// not there is made.
    pub fn open_epoch(&self, epoch: u64, origin: &str) -> Result<Opened, OpenError> {
        if origin.len() > ORIGIN_BYTES_MAX {
            return Err(OpenError::Origin(origin.len()));
        }
        let folder = Arc::new(self.epoch(epoch)?);
        let read = |source| OpenError::Disk { operation: "read", source };
        let recovered = recover(folder, origin).map_err(read)?;
        Ok(Opened { directory: self.clone(), epoch, recovered })
    }
}

impl Opened {
    /// The tree at the end of what is good: size, root, and edge.
    pub fn tree(&self) -> &Tree {
        &self.recovered.tree
    }

    /// Number of the epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the last run ended without closing the store.
    pub fn crashed(&self) -> bool {
        self.recovered.crashed
    }

    /// A batch that was cut off, and put aside.
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.recovered.torn.as_ref()
    }

    /// Damage to what was durable. [`Store::start`] refuses such an epoch.
    pub fn corrupt(&self) -> Option<&Corrupt> {
        self.recovered.corrupt.as_ref()
    }

    /// Tells index and leaf hash of each entry from `from` on, in order, without a gap.
    ///
    /// Errors: `NotFound` when the segment that holds `from` is gone, `InvalidData` for one that is
    /// damaged.
    pub fn leaves(&self, from: u64, each: impl FnMut(u64, Hash)) -> io::Result<()> {
        self.recovered.leaves(from, each)
    }
}

/// The store of one epoch, with its threads.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    committer: Option<JoinHandle<Summary>>,
    keeper: Option<JoinHandle<()>>,
    /// Holds the lock.
    _directory: Directory,
}

impl Store {
    /// Begins a segment and starts the threads.
    pub fn start(
        opened: Opened,
        settings: Settings,
        chain: Box<dyn Chain>,
        watch: Arc<dyn Watch>,
    ) -> Result<Self, OpenError> {
        let Opened { directory, epoch, recovered } = opened;
        let failed = |operation| move |source| OpenError::Disk { operation, source };
        let others = directory.bytes_of_others(epoch).map_err(failed("measure"))?;
        let (shared, mut committer, mut keeper) = parts(recovered, settings, chain, watch, others)?;
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let start = failed("start the threads of");
        // From here on, should anything fail, dropping it stops what was started.
        let mut store = Self { shared, committer: None, keeper: None, _directory: directory };
        store.committer = Some(named("audit").spawn(move || committer.run()).map_err(start)?);
        store.keeper = Some(named("audit-keeper").spawn(move || keeper.run()).map_err(start)?);
        Ok(store)
    }

    /// A way into the log for one worker.
    pub fn sink(&self) -> Sink {
        Sink::new(Arc::clone(&self.shared))
    }

    /// What it has done so far.
    pub fn status(&self) -> StoreStatus {
        self.shared.status()
    }

    /// Has the bytes of the trail counted anew, after something was removed from it.
    pub fn recount(&self) {
        self.shared.wake_keeper();
    }

    /// Has the store go on without a disk until a moment, as with `on_full = "allow"` and mode
    /// `async`; `None` ends that.
    pub fn ease(&self, until: Option<BootNanos>) {
        self.shared.ease(until);
    }

    /// Writes what waits, asks the chain for its last entry, finishes the segment and ends the
    /// threads. Waits for the disk; where that fails it is tried once and given up.
    ///
    /// Sinks that are still there fail from now on.
    pub fn close(mut self) -> Summary {
        self.finish()
    }

    fn finish(&mut self) -> Summary {
        self.shared.stop.store(true, Ordering::SeqCst);
        let committer = self.committer.take();
        let keeper = self.keeper.take();
        for thread in
            committer.iter().map(JoinHandle::thread).chain(keeper.iter().map(|k| k.thread()))
        {
            thread.unpark();
        }
        // A panic of a thread was reported where it happened.
        let summary = committer.and_then(|thread| thread.join().ok()).unwrap_or_default();
        keeper.map(JoinHandle::join);
        summary
    }
}

/// As [`Store::close`].
impl Drop for Store {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What sinks share with the threads, and the threads' states.
pub(super) type Parts<D> = (Arc<Shared>, Committer<D>, Keeper<D>);

/// The parts of a store with a segment begun, for an epoch that may be continued.
pub(super) fn parts<D: Disk>(
    recovered: Recovered<D>,
    settings: Settings,
    chain: Box<dyn Chain>,
    watch: Arc<dyn Watch>,
    other_bytes: u64,
) -> Result<Parts<D>, OpenError> {
    let Recovered { disk, origin, tree, start, corrupt, .. } = recovered;
    if let Some(corrupt) = corrupt {
        return Err(OpenError::Corrupt(corrupt));
    }
    let shared = Arc::new(Shared::new(settings, watch));
    let mut keeper =
        Keeper::new(Arc::clone(&disk), Arc::clone(&shared), origin.clone(), other_bytes);
    let failed = |source| OpenError::Disk { operation: "examine what is prepared for", source };
    keeper.take_over().map_err(failed)?;
    keeper.count();
    keeper.prepare_next();
    let committer = Committer::start(disk, Arc::clone(&shared), chain, origin, &start, tree)
        .map_err(OpenError::Begin)?;
    Ok((shared, committer, keeper))
}
