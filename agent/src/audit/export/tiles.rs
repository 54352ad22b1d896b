//! The log as C2SP tlog-tiles has it: `checkpoint`, `tile/<L>/<N>` and `tile/entries/<N>`, the last of
//! each level with `.p/<W>`.
//!
//! Everything follows from the entries; where entries were pruned, from the tiles that are kept of
//! them. The root of what was written is compared with the checkpoint, which is written last.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pgward_verify::note::{Checkpoint, NOTE_BYTES_MAX, Note};
use pgward_verify::{Epoch, ReadError};

use crate::audit::chain::{
    Hash, TILE_HASHES, TileSource, Tiles, WithEdge, leaf_hash, number_path, tile_path,
};
use crate::audit::keys::{Folder, FolderError};
use crate::audit::tile_files::{TileFileError, TileFolder};

/// Levels that a log of less than 2^64 entries can have.
const LEVELS_MAX: u8 = 8;

/// Why there are no tiles.
#[derive(Debug, thiserror::Error)]
pub enum TilesError {
    /// There is nothing signed to export.
    #[error("no checkpoint can be read in `{}`", .0.display())]
    NoCheckpoint(PathBuf),
    /// A file can't be read or written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// From the system.
        source: io::Error,
    },
    /// A segment can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A tile of pruned entries can't be read.
    #[error(transparent)]
    Tile(#[from] TileFileError),
    /// The folder of the epoch can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Entries are missing, though not pruned.
    #[error("entry {0} is missing: found {1} in its place")]
    Gap(u64, u64),
    /// There are fewer entries than the checkpoint says.
    #[error("too few entries: found {found}, the checkpoint is of {expected}")]
    Short {
        /// Those that are there.
        found: u64,
        /// Those of the checkpoint.
        expected: u64,
    },
    /// It is another log.
    #[error(
        "entries have another root than the checkpoint\nhint: pgward audit verify says where they differ"
    )]
    OtherRoot,
}

/// Writes the log of an epoch to a folder, up to its newest checkpoint. Gives the number of entries.
/// `progress` hears of each entry.
pub fn export_tiles(
    epoch: &Epoch,
    to: &Path,
    mut progress: impl FnMut(u64),
) -> Result<u64, TilesError> {
    let (note, checkpoint) = newest_checkpoint(epoch.directory())?;
    let size = checkpoint.size;
    let stored = TileFolder::new(Folder::open(epoch.directory())?);
    let first = epoch.pieces().first().map_or(0, |piece| piece.first);
    // A bundle of which entries were pruned is not written: its tile is all that is left of it.
    let start = first.div_ceil(TILE_HASHES as u64);
    let mut tiles = Tiles::resume(start, &stored)?;
    for level in 0..LEVELS_MAX {
        for n in 0..shifted(start, level) {
            let hashes = stored.tile(level, n)?;
            write(to, &tile_path(level, n), hashes.as_flattened())?;
        }
    }
    let mut bundle = Vec::new();
    let mut entries = epoch.entries_from(tiles.size());
    while tiles.size() < size {
        let index = tiles.size();
        let Some(record) = entries.next()? else {
            return Err(TilesError::Short { found: index, expected: size });
        };
        if record.index != index {
            return Err(TilesError::Gap(index, record.index));
        }
        // An entry is at most 65,535 bytes: the reader refuses a longer one.
        bundle.extend_from_slice(&(record.bytes.len() as u16).to_be_bytes());
        bundle.extend_from_slice(record.bytes);
        tiles.append(leaf_hash(record.bytes));
        for tile in tiles.take_full() {
            write(to, &tile.path(), tile.bytes())?;
        }
        let count = tiles.size() % TILE_HASHES as u64;
        if count == 0 || tiles.size() == size {
            let path = format!("tile/entries/{}", number_path(index / TILE_HASHES as u64));
            write(to, &partial(path, count), &bundle)?;
            bundle.clear();
        }
        progress(1);
    }
    if tiles.tree().root() != checkpoint.root {
        return Err(TilesError::OtherRoot);
    }
    edge(&tiles.with(&stored), size, to)?;
    write(to, "checkpoint", &note)?;
    Ok(size)
}

/// Writes the last tile of each level, where it is not full.
fn edge(tiles: &WithEdge<'_, TileFolder>, size: u64, to: &Path) -> Result<(), TilesError> {
    for level in 0..LEVELS_MAX {
        let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let (n, count) = (hashes / TILE_HASHES as u64, hashes % TILE_HASHES as u64);
        if count > 0 {
            let tile: Vec<Hash> = tiles.tile(level, n)?.to_vec();
            write(to, &partial(tile_path(level, n), count), tile.as_flattened())?;
        }
    }
    Ok(())
}

/// Number of full tiles of a level above so many full ones of level 0.
fn shifted(tiles: u64, level: u8) -> u64 {
    tiles.checked_shr(8 * u32::from(level)).unwrap_or(0)
}

fn partial(path: String, count: u64) -> String {
    if count == 0 { path } else { format!("{path}.p/{count}") }
}

fn newest_checkpoint(folder: &Path) -> Result<(Vec<u8>, Checkpoint), TilesError> {
    let mut newest: Option<(Vec<u8>, Checkpoint)> = None;
    for name in ["cosigned", "checkpoint"] {
        let path = folder.join(name);
        if fs::metadata(&path).map_or(true, |file| file.len() > NOTE_BYTES_MAX as u64) {
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        let parsed = Note::parse(&bytes).and_then(|note| Checkpoint::parse(note.text));
        let Ok(checkpoint) = parsed else { continue };
        // Of the same size the one with cosignatures, which comes first.
        if newest.as_ref().is_none_or(|(_, before)| before.size < checkpoint.size) {
            newest = Some((bytes, checkpoint));
        }
    }
    newest.ok_or_else(|| TilesError::NoCheckpoint(folder.to_owned()))
}

fn write(to: &Path, path: &str, bytes: &[u8]) -> Result<(), TilesError> {
    let path = to.join(path);
    let failed = |source| TilesError::Write { path: path.clone(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(&path, bytes).map_err(failed)
}
