//! What is published of an epoch while it is written: checkpoints and tiles.
//!
//! ```text
//! epoch-1/tile/…                                full tiles of the tree
//! epoch-1/checkpoint                            newest signed note, replaced as a whole
//! epoch-1/checkpoints/00000000000000065536      the one at a segment's end, for good
//! ```
//!
//! A thread of its own signs and writes, once a second at most: the thread that commits records only
//! leaves size, root and leaf hashes with it. A log that stands still needs no new checkpoint; ours never stands
//! still for longer than the interval of seals.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use nix::errno::Errno;
use thiserror::Error;
use tracing::{error, warn};

use super::{
    chain::{Checkpoint, Hash, Origin, Signer},
    keys::{Folder, FolderError, Known},
    tile_files::{TileFileError, TileWriter},
};

/// Time between two checkpoints of a log that grows.
const EVERY: Duration = Duration::from_secs(1);
const FILE: &str = "checkpoint";
const ENDS_FOLDER: &str = "checkpoints";
/// Longest note of ours: a name of at most 118 bytes twice, a size, a root, a signature.
const NOTE_BYTES_MAX: usize = 512;
/// Most leaf hashes that wait (8 MiB): what 250,000 records a second leave in a second.
const LEAVES_MAX: usize = 1 << 18;
/// Most ends of segments that wait for a disk that fails.
const ENDS_MAX: usize = 1024;

/// Why a checkpoint was not published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The files.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A tile.
    #[error(transparent)]
    Tile(#[from] TileFileError),
    /// Two states that cannot both be of one log: the later one was not signed, and none will be.
    #[error("a checkpoint of {new} entries would contradict the one of {signed} that was signed")]
    Fork {
        /// Entries of the one that was signed.
        signed: u64,
        /// Entries of the other.
        new: u64,
    },
    /// A file is there that we did not sign.
    #[error(
        "`{0}` is no checkpoint of this log by this host's key\n\
         hint: `pgward audit verify` says what else was changed"
    )]
    NotOurs(String),
}

/// Signs and writes the checkpoints of one epoch.
#[derive(Debug)]
struct Checkpoints<S> {
    epoch: Folder,
    ends: Folder,
    origin: Origin,
    key: S,
    /// The newest state that a signature was made for, whether or not it reached the file.
    signed: Option<(u64, Hash)>,
    /// Whether it did.
    written: bool,
    /// A state that contradicts another one was to be signed.
    forked: Option<u64>,
}

impl<S: Signer> Checkpoints<S> {
    fn new(epoch: Folder, origin: Origin, key: S) -> Result<Self, PublishError> {
        let ends = epoch.subfolder(ENDS_FOLDER)?;
        Ok(Self { epoch, ends, origin, key, signed: None, written: false, forked: None })
    }

    /// Makes a state the newest. `None` when it is that already.
    fn publish(&mut self, size: u64, root: Hash) -> Result<Option<String>, PublishError> {
        match self.signed {
            Some(signed) if signed == (size, root) && self.written => return Ok(None),
            Some((signed, before)) if size < signed || size == signed && root != before => {
                self.forked = Some(size);
            }
            Some(_) | None => {}
        }
        if let (Some(new), Some((signed, _))) = (self.forked, self.signed) {
            return Err(PublishError::Fork { signed, new });
        }
        (self.signed, self.written) = (Some((size, root)), false);
        let note = self.note(size, root);
        self.epoch.replace(FILE, note.as_bytes())?;
        self.written = true;
        Ok(Some(note))
    }

    /// Keeps the state at a segment's end. Done already, as after a crash: nothing happens.
    fn keep_end(&self, size: u64, root: Hash) -> Result<(), PublishError> {
        let (name, note) = (format!("{size:020}"), self.note(size, root));
        match self.ends.create(&name, note.as_bytes()) {
            Err(FolderError::Call { source, .. })
                if source.raw_os_error() == Some(Errno::EEXIST as i32) =>
            {
                // Ed25519 signs the same message with the same bytes.
                let there = self.ends.read(&name, NOTE_BYTES_MAX)?;
                match there.is_some_and(|file| *file == note.as_bytes()) {
                    true => Ok(()),
                    false => Err(PublishError::NotOurs(format!("{ENDS_FOLDER}/{name}"))),
                }
            }
            created => Ok(created?),
        }
    }

    fn note(&self, size: u64, root: Hash) -> String {
        Checkpoint { origin: self.origin.clone(), size, root }.note(&self.key)
    }
}

/// The newest checkpoint of an epoch, as its folder has it: for [`super::keys::decide`].
///
/// Only a file that holds exactly what this host signs counts: anything else is
/// [`PublishError::NotOurs`].
pub fn newest_checkpoint(
    epoch: &Folder,
    origin: &Origin,
    key: &impl Signer,
) -> Result<Option<Known>, PublishError> {
    let not_ours = || PublishError::NotOurs(FILE.to_owned());
    let file = match epoch.read(FILE, NOTE_BYTES_MAX) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        Err(FolderError::TooLong { .. }) => return Err(not_ours()),
        Err(error) => return Err(error.into()),
    };
    let text = std::str::from_utf8(&file).map_err(|_| not_ours())?;
    let known = own_checkpoint(text, origin, key).ok_or_else(not_ours)?;
    // No epoch but its own, and no cosignatures.
    let exactly = known.epoch == origin.epoch() && text.lines().count() == 5;
    if exactly { Ok(Some(known)) } else { Err(not_ours()) }
}

/// Reads a note that an anchor gave back. `None` unless this host signed it: in any epoch of
/// `origin`'s host, with `key`. Cosignatures may follow; they are not looked at.
pub fn own_checkpoint(note: &str, origin: &Origin, key: &impl Signer) -> Option<Known> {
    let mut lines = note.split('\n');
    let epoch = lines.next()?.strip_prefix(origin.host_name())?.strip_prefix('/')?.parse().ok()?;
    let size = lines.next()?.parse().ok()?;
    let root: Hash = BASE64.decode(lines.next()?).ok()?.try_into().ok()?;
    let origin = origin.of_epoch(epoch).ok()?;
    // Signed anew and compared, so that numbers in another form are found too: Ed25519 signs the
    // same message with the same bytes.
    let ours = Checkpoint { origin, size, root }.note(key);
    note.starts_with(&ours).then_some(Known { epoch, size, root: Some(root) })
}

/// A checkpoint that was published: for the anchors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The signed note.
    pub note: Arc<str>,
}

/// The thread that publishes. Dropping it publishes what is newest, and ends it.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    closing: Condvar,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<(u64, Hash)>,
    leaves: Vec<Hash>,
    /// Leaves were left out, or too many tiles wait: none are made until the next start.
    without_tiles: bool,
    ends: VecDeque<(u64, Hash)>,
    closing: bool,
    status: PublisherStatus,
}

/// How publishing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherStatus {
    /// Entries of the newest checkpoint that was published in this run.
    pub size: Option<u64>,
    /// Why the last attempt failed; `None` when it did not.
    pub error: Option<String>,
    /// Whether tiles are made. Those that are not are made at the next start.
    pub tiles: bool,
}

impl Publisher {
    /// Starts the thread. `tiles` stands at the size from which on [`Publisher::durable`] tells
    /// leaves; without it no tiles are made. `hand_on` gets each new checkpoint; it must not wait for
    /// anything outside of the agent.
    pub fn start<S: Signer + Send + 'static>(
        epoch: Folder,
        origin: Origin,
        key: S,
        tiles: Option<TileWriter>,
        hand_on: impl FnMut(Published) + Send + 'static,
    ) -> Result<Self, PublisherError> {
        Self::start_with(epoch, origin, key, tiles, EVERY, hand_on)
    }

    fn start_with<S: Signer + Send + 'static>(
        epoch: Folder,
        origin: Origin,
        key: S,
        tiles: Option<TileWriter>,
        every: Duration,
        hand_on: impl FnMut(Published) + Send + 'static,
    ) -> Result<Self, PublisherError> {
        let checkpoints = Checkpoints::new(epoch, origin, key)?;
        let shared = Arc::<Shared>::default();
        shared.lock().without_tiles = tiles.is_none();
        shared.lock().status.tiles = tiles.is_some();
        let theirs = shared.clone();
        let thread = thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || theirs.run(checkpoints, tiles, every, hand_on))
            .map_err(PublisherError::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The log is durable up to here; `leaves` are those since the last call. Cheap: the caller is
    /// the thread that commits.
    pub fn durable(&self, leaves: &[Hash], size: u64, root: Hash) {
        let mut state = self.shared.lock();
        state.newest = Some((size, root));
        if state.without_tiles {
            return;
        }
        if state.leaves.len() + leaves.len() > LEAVES_MAX {
            state.without_tiles = true;
            return;
        }
        state.leaves.extend_from_slice(leaves);
    }

    /// A segment ends here. What it ends with was told to [`Publisher::durable`] before.
    pub fn segment_end(&self, size: u64, root: Hash) {
        let mut state = self.shared.lock();
        if state.ends.len() < ENDS_MAX {
            state.ends.push_back((size, root));
        } else {
            drop(state);
            warn!(size, "{ENDS_MAX} checkpoints of segments' ends wait; this one is left out");
        }
    }

    /// How it goes.
    pub fn status(&self) -> PublisherStatus {
        self.shared.lock().status.clone()
    }
}

/// Why there is no publisher.
#[derive(Debug, Error)]
pub enum PublisherError {
    /// The folders.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The thread.
    #[error("starting a thread failed")]
    Thread(#[source] io::Error),
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.closing.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the thread of checkpoints panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<S: Signer>(
        &self,
        mut checkpoints: Checkpoints<S>,
        mut tiles: Option<TileWriter>,
        every: Duration,
        mut hand_on: impl FnMut(Published),
    ) {
        let mut closing = false;
        while !closing {
            let state = self.lock();
            let (mut state, _) = self
                .closing
                .wait_timeout_while(state, every, |s| !s.closing)
                .unwrap_or_else(PoisonError::into_inner);
            closing = state.closing;
            let (newest, mut ends) = (state.newest, std::mem::take(&mut state.ends));
            let leaves = std::mem::take(&mut state.leaves);
            let left_out = state.without_tiles;
            drop(state);

            let (published, result) = step(&mut checkpoints, newest, &mut ends);
            let result = result.and(write_tiles(&mut tiles, &leaves, left_out));
            let mut state = self.lock();
            state.without_tiles |= tiles.is_none();
            state.status.tiles = tiles.is_some();
            // What could not be written comes before what was added meanwhile.
            ends.append(&mut state.ends);
            state.ends = ends;
            if let Some(new) = &published {
                state.status.size = Some(new.size);
            }
            let failed = result.err().map(|error| error.to_string());
            if let Some(error) = failed.as_ref().filter(|_| failed != state.status.error) {
                warn!(error, "checkpoint not published");
            }
            state.status.error = failed;
            drop(state);
            if let Some(new) = published {
                hand_on(new);
            }
        }
    }
}

/// One round: the newest state first, since it is what anchors wait for. What was published counts
/// even if the ends then fail.
fn step<S: Signer>(
    checkpoints: &mut Checkpoints<S>,
    newest: Option<(u64, Hash)>,
    ends: &mut VecDeque<(u64, Hash)>,
) -> (Option<Published>, Result<(), PublishError>) {
    let mut published = None;
    if let Some((size, root)) = newest {
        match checkpoints.publish(size, root) {
            Ok(note) => published = note.map(|n| Published { size, root, note: n.into() }),
            Err(error) => return (None, Err(error)),
        }
    }
    while let Some((size, root)) = ends.front() {
        if let Err(error) = checkpoints.keep_end(*size, *root) {
            return (published, Err(error));
        }
        ends.pop_front();
    }
    (published, Ok(()))
}

/// Gives up, until the next start, when leaves are missing or too many tiles wait.
fn write_tiles(
    tiles: &mut Option<TileWriter>,
    leaves: &[Hash],
    left_out: bool,
) -> Result<(), PublishError> {
    let Some(writer) = tiles else { return Ok(()) };
    let written = writer.add(leaves);
    if left_out || writer.is_hopeless() {
        warn!(size = writer.size(), "the disk is too slow for tiles; the next start makes them");
        *tiles = None;
    }
    Ok(written?)
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
