//! Care of the trail while it is written: old segments and values are deleted, values made
//! unreadable, legal holds kept, recording eased in an emergency.
//!
//! Each of these is a record that is durable before it happens. What is decided is decided by pure
//! functions ([`prune`], [`holds`], [`glass`]); [`Care`] carries it out.
//!
//! # What goes, and what stays
//!
//! Pruning takes whole segments, oldest first, and leaves no gap: what is left is the log from one
//! index on. With a segment go its values and its index, and level-0 tiles that a tile above stands
//! for. Tiles above, checkpoints and the newest segment always stay, so that the tree of what is
//! left can be computed. Only the epoch that is written is pruned.
//!
//! # State
//!
//! `keep.json` in the folder of the trail, replaced as a whole: the holds in force, and whether
//! recording was eased. The log has a record of every change to it, and is asked before anything is
//! destroyed: a hold that the log names stays in force when `keep.json` has lost it.

mod act;
pub mod glass;
pub mod holds;
mod indexing;
pub mod prune;
mod recorded;
mod segments;
mod state;
mod timer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgward_verify::store::{Epoch, ReadError};

use super::keys::{Folder, FolderError};
use super::tile_files::TileFileError;
use super::values::KeyringError;
use super::{NotRecorded, Trail};
use crate::config::Audit;
use state::State;

pub use indexing::index_finished;
pub use timer::Timer;

/// Takes care of one trail. Its methods wait for the disk; not for workers.
#[derive(Debug)]
pub struct Care {
    trail: Arc<Trail>,
    prune_after: Option<Duration>,
    values_keep: Option<Duration>,
    break_glass: Option<PathBuf>,
    folder: Folder,
    /// Held while something is carried out: one after the other.
    state: Mutex<State>,
    /// Whether the log was asked for holds. Held while it is.
    asked: Mutex<bool>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum CareError {
    /// It could not be recorded.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// It was not recorded in time; it may be later.
    #[error("audit trail is too slow: nothing was done")]
    Slow,
    /// The folder of the trail.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Tiles.
    #[error(transparent)]
    Tiles(#[from] TileFileError),
    /// The segments.
    #[error("cannot read the audit trail")]
    Read(#[from] ReadError),
    /// The state is not understood.
    #[error(
        "`keep.json` in the audit folder is not understood: {0}\n\
         hint: the records of kind `hold` say which holds are in force"
    )]
    State(serde_json::Error),
    /// The configuration.
    #[error("nothing is ever pruned\nhint: `audit.prune_after_days` is 0")]
    NeverPruned,
    /// A hold.
    #[error(transparent)]
    Hold(#[from] holds::HoldError),
    /// Legal holds forbid it.
    #[error("legal hold forbids it: `{}`", .0.join("`, `"))]
    Held(Vec<String>),
    /// What is to be shredded is not understood.
    #[error("{what} of what to shred is not understood: expected {expected}")]
    Target {
        /// Which part.
        what: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// The keys.
    #[error("keys of values could not be erased: do it again")]
    Keys(#[from] KeyringError),
    /// Break-glass.
    #[error(transparent)]
    Glass(#[from] glass::GlassError),
}

impl Care {
    /// Takes care of a trail from now on. Easing that the run before left behind has ended, and is
    /// recorded as such.
    pub fn open(trail: Arc<Trail>, audit: &Audit) -> Result<Self, CareError> {
        let folder = Folder::open(trail.directory())?;
        let state = State::read(&folder)?;
        let care = Self {
            trail,
            prune_after: audit.prune_after,
            values_keep: audit.values_keep,
            break_glass: audit.break_glass.clone(),
            folder,
            state: Mutex::new(state),
            asked: Mutex::new(false),
        };
        care.end_easing_before()?;
        Ok(care)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch that is written.
    fn epoch(&self) -> Result<Epoch, ReadError> {
        let number = self.trail.origin().epoch();
        Epoch::open(self.trail.directory().join(format!("epoch-{number}")), number)
    }

    fn epoch_folder(&self) -> Result<Folder, FolderError> {
        self.folder.subfolder(&format!("epoch-{}", self.trail.origin().epoch()))
    }
}
