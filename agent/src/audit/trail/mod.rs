//! The trail as the agent uses it: keys, store, chain, checkpoints and anchors, opened and closed in
//! order.
//!
//! ```text
//!   sinks ──► store (committer) ──► segment on disk
//!                │ asks for seals        │ tells leaves, size, root
//!                ▼                       ▼
//!             sealer ◄─── keys       publisher ──► tiles, checkpoint ──► anchors
//! ```

mod anchoring;
mod opening;
mod past;
mod proofs;
mod sealer;
mod watcher;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use super::anchors::{AnchorStatus, Anchors};
use super::chain::Origin;
use super::keys::{FolderError, HANDOVER_NAME, HostKeyError, IdentityError, SealKey, offer};
use super::ledger::{LastHooks, Previous};
use super::publish::{PublishError, Publisher, PublisherError};
use super::store::{NotRecorded, OpenError, Sink, Store, StoreStatus};
use super::tile_files::ResumeError;
use super::time::{BootNanos, Now, WallNanos};
use super::values::{Keyring, KeysError};
use crate::app::notify::Manager;
use past::Past;
use sealer::Sealing;

pub use anchoring::Reach;
pub use proofs::Proofs;
pub use sealer::SealSoon;

/// The audit trail of this host. One for each agent.
pub struct Trail {
    directory: PathBuf,
    origin: Origin,
    quota_bytes: u64,
    store: Mutex<Option<Store>>,
    sink: Sink,
    keyring: Keyring,
    sealing: Arc<Sealing>,
    publisher: Mutex<Option<Arc<Publisher>>>,
    anchors: Arc<Anchors>,
    past: Past,
    memory_locked: bool,
    /// When recording stops being eased, in nanoseconds since 1970; 0: it is not eased.
    eased_until: AtomicU64,
}

/// Why there is no trail.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The folder, or a log in it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The folder of keys.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder of the trail.
    #[error(transparent)]
    Directory(#[from] super::store::FolderError),
    /// Whose log it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The host's key.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// Keys of values.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The newest checkpoint.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The thread of checkpoints.
    #[error(transparent)]
    Publisher(#[from] PublisherError),
    /// Tiles.
    #[error(transparent)]
    Tiles(#[from] ResumeError),
    /// An anchor.
    #[error("anchor `{name}`")]
    Anchor {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the log says of the time before.
    #[error("cannot read the audit trail")]
    Read(#[source] pgward_verify::store::ReadError),
    /// A record could not be made.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// Records could not be written at the end.
    #[error("{0} records could not be written and are lost")]
    Unwritten(u64),
    /// A thread, or a file.
    #[error("{what} failed")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What the trail has done so far.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TrailStatus {
    /// Origin of the log.
    pub origin: String,
    /// The store.
    pub store: Option<StoreStatus>,
    /// Most bytes it may hold.
    pub quota_bytes: u64,
    /// Time since the newest durable seal, milliseconds. `None`: there is none yet.
    pub seal_lag_ms: Option<u64>,
    /// Entries of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// Why the last checkpoint or tile was not written, if it was not.
    pub checkpoint_error: Option<String>,
    /// Each anchor.
    pub anchors: Vec<AnchorStatus>,
    /// Break-glass: recording is eased until then. RFC 3339, UTC.
    #[serde(default)]
    pub eased_until: Option<String>,
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Trail {
    /// A way into the log for one worker.
    pub fn sink(&self) -> Sink {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map_or_else(|| self.sink.clone(), Store::sink)
    }

    /// The keys of values.
    pub fn keyring(&self) -> Keyring {
        self.keyring.clone()
    }

    /// Name of the log.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its folder.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Whether memory with keys is kept out of swap and core dumps.
    pub fn memory_locked(&self) -> bool {
        self.memory_locked
    }

    /// What the log says of the agent before, for the ledger of connects.
    pub fn previous(&self) -> &Previous {
        &self.past.previous
    }

    /// The last thing that the log says about hooks.
    pub fn last_hooks(&self) -> Option<&LastHooks> {
        self.past.hooks.as_ref()
    }

    /// Has a seal made now.
    pub fn seal_now(&self) {
        self.sealing.hurry();
        self.sink().wake();
    }

    /// For those that ask for a seal behind a record of theirs.
    pub fn seal_soon(&self) -> SealSoon {
        SealSoon(Arc::clone(&self.sealing))
    }

    /// Has the store go on without a disk until a moment, in both clocks; `None` ends that. Whether
    /// it may, and that it is recorded, is for the caller to see to.
    pub(super) fn ease(&self, until: Option<(WallNanos, BootNanos)>) {
        self.eased_until.store(until.map_or(0, |(wall, _)| wall.0), Ordering::Relaxed);
        if let Some(store) = &*self.store.lock().unwrap_or_else(PoisonError::into_inner) {
            store.ease(until.map(|(_, boot)| boot));
        }
    }

    /// Until when recording is eased, if it is.
    pub fn eased_until(&self) -> Option<WallNanos> {
        match self.eased_until.load(Ordering::Relaxed) {
            0 => None,
            until => Some(WallNanos(until)),
        }
    }

    /// Has the bytes of the trail counted anew, after something was removed from it.
    pub fn recount(&self) {
        if let Some(store) = &*self.store.lock().unwrap_or_else(PoisonError::into_inner) {
            store.recount();
        }
    }

    /// What it has done so far.
    pub fn status(&self) -> TrailStatus {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        let published = publisher.as_ref().map(|publisher| publisher.status()).unwrap_or_default();
        TrailStatus {
            origin: self.origin.to_string(),
            store: store.as_ref().map(Store::status),
            quota_bytes: self.quota_bytes,
            seal_lag_ms: self.sealing.lag(Now::read().boot).map(|lag| lag.as_millis() as u64),
            checkpoint: published.size,
            checkpoint_error: published.error,
            anchors: self.anchors.status(),
            eased_until: self
                .eased_until()
                .map(|until| String::from_utf8_lossy(&until.rfc3339()).into_owned()),
        }
    }

    /// Writes what waits, seals the log and ends the threads. The key of the next seal is left with
    /// the service manager, if there is one that keeps it.
    pub fn close(&self) -> Result<(), TrailError> {
        self.sealing.end_with(pass_on());
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(store) = store else { return Ok(()) };
        let summary = store.close();
        // The last one: it publishes the newest checkpoint when it is dropped.
        drop(self.publisher.lock().unwrap_or_else(PoisonError::into_inner).take());
        match summary.unwritten {
            0 => Ok(()),
            unwritten => Err(TrailError::Unwritten(unwritten)),
        }
    }
}

/// Leaves a new key with the service manager, and gives its public part.
fn pass_on() -> Option<[u8; 32]> {
    use super::chain::Signer as _;
    let manager = Manager::of_environment()?;
    let passed = || -> Result<[u8; 32], Box<dyn std::error::Error>> {
        let key = SealKey::fresh()?;
        let descriptor = offer(&key)?;
        manager.store(HANDOVER_NAME, std::os::fd::AsFd::as_fd(&descriptor))?;
        Ok(key.public_key())
    };
    passed().inspect_err(|error| warn!(%error, "the key of the next seal was not passed on")).ok()
}
