//! Tiles as files of an epoch's folder: `tile/<level>/<number>` (C2SP tlog-tiles), full ones only.
//!
//! They follow from the entries and are made anew from them where they are missing or wrong. Once
//! entries are pruned they are what remains of these, so each is on disk before the next is written.

use std::{borrow::Cow, collections::VecDeque, io};

use thiserror::Error;

use super::{
    chain::{Hash, TILE_BYTES, TILE_HASHES, Tile, TileError, TileSource, Tiles, tile_path},
    keys::{Folder, FolderError},
};

/// Most full tiles that wait for a disk that fails (8 MiB).
const WAITING_MAX: usize = 1024;

/// The tiles of an epoch.
#[derive(Debug)]
pub struct TileFolder {
    epoch: Folder,
}

/// Why there is no tile.
#[derive(Debug, Error)]
pub enum TileFileError {
    /// The files.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The content.
    #[error(transparent)]
    Content(#[from] TileError),
    /// It is not there.
    #[error("`{0}` is missing")]
    Missing(String),
}

/// Why the tiles cannot be gone on with.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// Entries could not be read.
    #[error("reading entries for tiles failed")]
    Entries(#[source] io::Error),
    /// Tiles could not be written.
    #[error(transparent)]
    Tiles(#[from] TileFileError),
    /// Entries and tiles together are not the log.
    #[error("tiles made of {found} entries have another root than the log of {expected} entries")]
    OtherRoot {
        /// Entries read.
        found: u64,
        /// Entries of the log.
        expected: u64,
    },
}

impl TileFolder {
    /// The tiles in the folder of an epoch.
    pub fn new(epoch: Folder) -> Self {
        Self { epoch }
    }

    /// Writes a tile, durably. One that is there with the same content stays; another one, which
    /// cannot be right, is replaced.
    pub fn write(&self, tile: &Tile) -> Result<(), TileFileError> {
        let path = tile.path();
        let (folders, name) = path.rsplit_once('/').expect("`tile/` comes before the number");
        let mut parts = folders.split('/');
        let first = parts.next().expect("a split has a first part");
        let folder = parts.try_fold(self.epoch.subfolder(first)?, |f, part| f.subfolder(part))?;
        match folder.read(name, TILE_BYTES) {
            Ok(Some(there)) if *there == tile.bytes() => Ok(()),
            Ok(_) | Err(FolderError::TooLong { .. }) => Ok(folder.replace(name, tile.bytes())?),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on with the tiles of a log of `size` entries and `root`: those that are stored, and for
    /// the rest the leaf hashes that `leaves` tells in order from an index on.
    ///
    /// Where that does not give the root, the tiles are made anew from all entries. Nothing is
    /// written before the root is found to be right: tiles may be the better evidence. `leaves` is
    /// asked for twice or more.
    pub fn resume(
        self,
        size: u64,
        root: Hash,
        mut leaves: impl FnMut(u64, &mut dyn FnMut(u64, Hash)) -> io::Result<()>,
    ) -> Result<TileWriter, ResumeError> {
        let stored = self.stored(size / TILE_HASHES as u64);
        let mut found = 0;
        // One back: a crash can come between a tile and the one above it that it completes.
        for full in [stored, stored.saturating_sub(1), 0] {
            let Ok(begin) = Tiles::resume(full, &self) else { continue };
            let mut tiles = begin.clone();
            leaves(tiles.size(), &mut |index, hash| {
                if index == tiles.size() && index < size {
                    tiles.append(hash);
                    tiles.take_full();
                }
            })
            .map_err(ResumeError::Entries)?;
            if tiles.size() == size && tiles.tree().root() == root {
                return self.catch_up(begin, size, leaves);
            }
            found = tiles.size();
        }
        Err(ResumeError::OtherRoot { found, expected: size })
    }

    /// Writes the tiles up to `size`, known to be right, as they become full.
    fn catch_up(
        self,
        begin: Tiles,
        size: u64,
        mut leaves: impl FnMut(u64, &mut dyn FnMut(u64, Hash)) -> io::Result<()>,
    ) -> Result<TileWriter, ResumeError> {
        let from = begin.size();
        let mut writer = TileWriter { folder: self, tiles: begin, waiting: VecDeque::new() };
        let mut written = Ok(());
        leaves(from, &mut |index, hash| {
            if written.is_ok() && index == writer.tiles.size() && index < size {
                written = writer.add(&[hash]);
            }
        })
        .map_err(ResumeError::Entries)?;
        written?;
        Ok(writer)
    }

    /// How many tiles of level 0 are stored, of at most `full`. They are written in order, so the
    /// first that is missing is searched by halving.
    pub fn stored(&self, full: u64) -> u64 {
        let (mut there, mut missing) = (0, full);
        while there < missing {
            let middle = there + (missing - there) / 2;
            // Of pruned entries only the tile above is left.
            let is_there =
                self.tile(0, middle).is_ok() || self.tile(1, middle / TILE_HASHES as u64).is_ok();
            if is_there { there = middle + 1 } else { missing = middle }
        }
        there
    }

    /// Removes tiles of level 0 whose entries, all below `index`, were pruned. Those that no full
    /// tile above stands for stay: the tree is made of what is left. Gives how many went.
    pub fn prune(&self, index: u64) -> Result<u64, TileFileError> {
        let width = TILE_HASHES as u64;
        let mut removed = 0;
        for above in 0..index / (width * width) {
            let all = above * width..(above + 1) * width;
            // They go in order, so where the last is gone all are.
            if self.tile(0, all.end - 1).is_err() {
                continue;
            }
            self.tile(1, above)?;
            for n in all {
                let path = tile_path(0, n);
                let (folders, name) = path.rsplit_once('/').expect("`tile/` comes first");
                if let Some(folder) = self.folder(folders)? {
                    removed += u64::from(folder.remove(name)?);
                }
            }
        }
        Ok(removed)
    }

    /// A folder of tiles, if it is there.
    fn folder(&self, path: &str) -> Result<Option<Folder>, FolderError> {
        let mut folder = None::<Folder>;
        for part in path.split('/') {
            let parent = folder.as_ref().unwrap_or(&self.epoch);
            let Some(next) = parent.existing_subfolder(part)? else { return Ok(None) };
            folder = Some(next);
        }
        Ok(folder)
    }
}

impl TileSource for TileFolder {
    type Error = TileFileError;

    fn tile(&self, level: u8, n: u64) -> Result<Cow<'_, [Hash]>, TileFileError> {
        let path = tile_path(level, n);
        let missing = || TileFileError::Missing(path.clone());
        let (folders, name) = path.rsplit_once('/').expect("`tile/` comes before the number");
        let folder = self.folder(folders)?.ok_or_else(missing)?;
        let bytes = folder.read(name, TILE_BYTES)?.ok_or_else(missing)?;
        Ok(Cow::Owned(Tile::from_bytes(level, n, &bytes)?.hashes))
    }
}

/// Writes tiles as leaves become durable. Made by [`TileFolder::resume`].
#[derive(Debug)]
pub struct TileWriter {
    folder: TileFolder,
    tiles: Tiles,
    waiting: VecDeque<Tile>,
}

impl TileWriter {
    /// Adds leaves and writes what became full. After an error that waits for the next call.
    pub fn add(&mut self, leaves: &[Hash]) -> Result<(), TileFileError> {
        for leaf in leaves {
            self.tiles.append(*leaf);
        }
        self.waiting.extend(self.tiles.take_full());
        self.write()
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.tiles.size()
    }

    /// Whether so many tiles wait for the disk that it is better to stop: the next start makes them
    /// anew.
    pub fn is_hopeless(&self) -> bool {
        self.waiting.len() > WAITING_MAX
    }

    fn write(&mut self) -> Result<(), TileFileError> {
        while let Some(tile) = self.waiting.front() {
            self.folder.write(tile)?;
            self.waiting.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::chain::Tree, super::keys::test_folder, *};

    fn leaf(index: u64) -> Hash {
        let mut hash = [7; 32];
        hash[..8].copy_from_slice(&index.to_be_bytes());
        hash
    }

    fn root(size: u64) -> Hash {
        let mut tree = Tree::new();
        for index in 0..size {
            tree.append(leaf(index));
        }
        tree.root()
    }

    fn tile_folder(epoch: &Folder) -> TileFolder {
        TileFolder::new(Folder::open(epoch.path()).expect("ours"))
    }

    /// Goes on at a size, and tells from which index on leaves were read last.
    fn resume(epoch: &Folder, size: u64) -> (Result<TileWriter, ResumeError>, Option<u64>) {
        let mut from = None;
        let resumed = tile_folder(epoch).resume(size, root(size), |first, each| {
            from = Some(first);
            (first..size).for_each(|index| each(index, leaf(index)));
            Ok(())
        });
        (resumed, from)
    }

    fn add(writer: &mut TileWriter, to: u64) {
        let leaves: Vec<_> = (writer.size()..to).map(leaf).collect();
        writer.add(&leaves).expect("a disk");
    }

    #[test]
    fn tiles_are_written_as_they_become_full_and_gone_on_with() {
        let (_guard, epoch) = test_folder();
        let (writer, _) = resume(&epoch, 0);
        let mut writer = writer.expect("an empty log");
        add(&mut writer, 700);
        let path = |tile: &str| epoch.path().join("tile").join(tile);
        assert!(path("0/000").exists() && path("0/001").exists() && !path("0/002").exists());
        drop(writer);
        let (writer, from) = resume(&epoch, 700);
        assert_eq!((writer.expect("stored").tiles.tree().root(), from), (root(700), Some(512)));
        // The log has grown without its tiles.
        let (writer, from) = resume(&epoch, 65_537);
        assert_eq!((writer.expect("stored").size(), from), (65_537, Some(512)));
        assert!(path("0/255").exists() && path("1/000").exists());
        assert_eq!(fs::metadata(path("1/000")).expect("there").len(), TILE_BYTES as u64);
        let first = tile_folder(&epoch).tile(1, 0).expect("stored")[0];
        assert_eq!(first, root(256));
    }

    #[test]
    fn what_a_crash_left_out_is_made_up_for() {
        let (_guard, epoch) = test_folder();
        resume(&epoch, 65_536).0.expect("entries");
        fs::remove_file(epoch.path().join("tile/1/000")).expect("ours");
        let (writer, from) = resume(&epoch, 65_536);
        assert_eq!((writer.expect("made anew").size(), from), (65_536, Some(65_280)));
        assert!(epoch.path().join("tile/1/000").exists());
    }

    #[test]
    fn tiles_of_pruned_entries_go_where_one_above_stands_for_them() {
        let (_guard, epoch) = test_folder();
        resume(&epoch, 66_000).0.expect("entries");
        assert_eq!(tile_folder(&epoch).prune(65_535).expect("ours"), 0, "none is complete");
        assert_eq!(tile_folder(&epoch).prune(65_800).expect("ours"), 256);
        assert_eq!(tile_folder(&epoch).prune(65_800).expect("ours"), 0, "they are gone");
        let path = |tile: &str| epoch.path().join("tile").join(tile);
        assert!(!path("0/000").exists() && !path("0/255").exists());
        assert!(path("0/256").exists() && path("1/000").exists());
        let (writer, from) = resume(&epoch, 66_000);
        let writer = writer.expect("goes on without them");
        assert_eq!((writer.tiles.tree().root(), from), (root(66_000), Some(65_792)));
    }

    #[test]
    fn wrong_tiles_are_made_anew() {
        for damage in [&[0; TILE_BYTES][..], b"short", &[0; TILE_BYTES + 1]] {
            let (_guard, epoch) = test_folder();
            resume(&epoch, 600).0.expect("entries");
            let tile = epoch.path().join("tile/0/000");
            let before = fs::read(&tile).expect("there");
            fs::write(&tile, damage).expect("ours");
            let (writer, from) = resume(&epoch, 600);
            assert_eq!((writer.expect("made anew").size(), from), (600, Some(0)));
            assert_eq!(fs::read(&tile).expect("there"), before);
        }
    }

    #[test]
    fn entries_that_are_not_the_log_change_no_tile() {
        let (_guard, epoch) = test_folder();
        resume(&epoch, 600).0.expect("entries");
        let tile = epoch.path().join("tile/0/000");
        let before = fs::read(&tile).expect("there");
        let resumed = tile_folder(&epoch).resume(600, root(601), |from, each| {
            (from..600).for_each(|index| each(index, leaf(index + 1)));
            Ok(())
        });
        let other = ResumeError::OtherRoot { found: 600, expected: 600 };
        assert_eq!(resumed.map(|_| ()).map_err(|e| e.to_string()), Err(other.to_string()));
        assert_eq!(fs::read(&tile).expect("there"), before);
        let few = tile_folder(&epoch).resume(600, root(600), |_, _| Ok(()));
        assert!(matches!(few, Err(ResumeError::OtherRoot { .. })));
        let gone = |_, _: &mut dyn FnMut(u64, Hash)| Err(io::ErrorKind::NotFound.into());
        assert!(matches!(
            tile_folder(&epoch).resume(600, root(600), gone),
            Err(ResumeError::Entries(_))
        ));
    }

    #[test]
    fn tiles_wait_for_a_disk_that_fails() {
        let (_guard, epoch) = test_folder();
        let mut writer = resume(&epoch, 0).0.expect("an empty log");
        fs::create_dir_all(epoch.path().join("tile")).expect("ours");
        let obstacle = epoch.path().join("tile/0");
        fs::write(&obstacle, "").expect("ours");
        let refused = TileWriter::add(&mut writer, &(0..600).map(leaf).collect::<Vec<_>>());
        assert!(refused.is_err() && !writer.is_hopeless());
        fs::remove_file(&obstacle).expect("ours");
        fs::set_permissions(
            epoch.path().join("tile"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .expect("ours");
        add(&mut writer, 601);
        assert_eq!(tile_folder(&epoch).stored(10), 2);
        assert_eq!(writer.tiles.tree().root(), root(601));
    }
}
