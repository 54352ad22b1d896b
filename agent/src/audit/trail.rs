//! The trail as the agent uses it: store, chain, keys and anchors, opened and closed in order.

use super::store::{NotRecorded, Sink, StoreStatus};
use super::values::Keyring;
use crate::config::Audit;

/// The audit trail of this host. One for each agent.
pub struct Trail {
    sink: Sink,
    keyring: Keyring,
}

/// Why there is no trail.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// x
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
}

/// What the trail has done so far.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TrailStatus {
    /// Origin of the log.
    pub origin: String,
    /// The store.
    pub store: StoreStatus,
    /// Most bytes it may hold.
    pub quota_bytes: u64,
    /// Time since the newest durable seal, milliseconds. `None`: there is none yet.
    pub seal_lag_ms: Option<u64>,
    /// Each anchor.
    pub anchors: Vec<AnchorLag>,
}

/// How far behind an anchor is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AnchorLag {
    /// Its name.
    pub name: String,
    /// Time since the newest checkpoint that is there was made, milliseconds. `None`: none is there
    /// yet.
    pub lag_ms: Option<u64>,
    /// What went wrong the last time, if it did.
    pub error: Option<String>,
}

impl Trail {
    /// Opens it.
    pub fn open(_audit: &Audit) -> Result<Self, TrailError> {
        unimplemented!()
    }

    /// The keys of values.
    pub fn keyring(&self) -> Keyring {
        self.keyring.clone()
    }

    /// A way into the log for one worker.
    pub fn sink(&self) -> Sink {
        self.sink.clone()
    }
}

impl Trail {
    /// What it has done so far.
    pub fn status(&self) -> TrailStatus {
        unimplemented!()
    }

    /// Closes.
    pub fn close(&self) -> Result<(), TrailError> {
        Ok(())
    }
}
