//! Stored hash tiles (C2SP `tlog-tiles`): full tiles of 256 hashes for each level.
//!
//! Hash `i` of level `L` is the root of the leaves `i * 256^L .. (i + 1) * 256^L`. Nothing here is
//! trusted: each hash is compared with the one that follows from the entries, at every level.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::merkle::Hash;
use crate::store::{ReadError, names};

/// Hashes of a tile.
pub(crate) const TILE_HASHES: u64 = 256;
/// Bytes of a tile.
const TILE_BYTES: usize = 256 * 32;
/// Levels that a tree of 64-bit size can have.
pub(crate) const LEVELS: usize = 8;

/// The tiles of an epoch.
#[derive(Debug)]
pub(crate) struct Tiles {
    directory: PathBuf,
    /// The tile of each level that was read last.
    cached: [Option<Cached>; LEVELS],
    /// For each level the number of tiles that a listing found: one behind the largest.
    known: [u64; LEVELS],
}

#[derive(Debug)]
struct Cached {
    number: u64,
    hashes: Option<Box<[u8; TILE_BYTES]>>,
}

/// What a listing of the tiles found beside tiles.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Files that are no full tiles: relative paths.
    pub(crate) strange: Vec<String>,
    /// Full tiles found for each level.
    pub(crate) count: [u64; LEVELS],
}

impl Tiles {
    /// Looks at what is stored below `directory`, which need not exist.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Listing), ReadError> {
        let mut tiles = Self {
            directory: directory.to_owned(),
            cached: Default::default(),
            known: [0; LEVELS],
        };
        let mut listing = Listing::default();
        if directory.is_dir() {
            for name in names(directory)? {
                match name.parse::<usize>().ok().filter(|level| *level < LEVELS) {
                    Some(level) if level.to_string() == name => {
                        let folder = directory.join(&name);
                        tiles.list(&folder, level, 0, 0, &mut listing)?;
                    }
                    Some(_) | None => listing.strange.push(format!("tile/{name}")),
                }
            }
        }
        Ok((tiles, listing))
    }

    /// Walks `x001/x234/067`: folders begin with `x`, at most seven deep.
    fn list(
        &mut self,
        folder: &Path,
        level: usize,
        prefix: u64,
        depth: usize,
        listing: &mut Listing,
    ) -> Result<(), ReadError> {
        let mut strange = |name: &str| {
            let path = folder.strip_prefix(&self.directory).unwrap_or(folder);
            listing.strange.push(format!("tile/{}/{name}", path.display()));
        };
        if !folder.is_dir() {
            strange("");
            return Ok(());
        }
        let mut folders = Vec::new();
        for name in names(folder)? {
            let path = folder.join(&name);
            let digits = name.strip_prefix('x').unwrap_or(&name);
            let number: Option<u64> = (digits.len() == 3)
                .then(|| digits.parse().ok())
                .flatten()
                .and_then(|part: u64| prefix.checked_mul(1000)?.checked_add(part));
            let kind = fs::symlink_metadata(&path).map_err(ReadError::io("stat", &path))?;
            match number {
                Some(number) if name.len() == 4 && kind.is_dir() && depth < 6 => {
                    folders.push((path, number));
                }
                Some(number)
                    if name.len() == 3 && kind.is_file() && kind.len() == TILE_BYTES as u64 =>
                {
                    self.known[level] = self.known[level].max(number + 1);
                    listing.count[level] += 1;
                }
                Some(_) | None if name.ends_with(".tmp") => {}
                Some(_) | None => strange(&name),
            }
        }
        for (path, number) in folders {
            self.list(&path, level, number, depth + 1, listing)?;
        }
        Ok(())
    }

    /// Leaves that the stored tiles of a level reach over.
    pub(crate) fn reach(&self, level: usize) -> u64 {
        let width = 1u64.checked_shl(8 * (level as u32 + 1)).unwrap_or(u64::MAX);
        self.known[level].saturating_mul(width)
    }

    /// The stored hash `index` of a level, if its tile is there.
    pub(crate) fn hash(&mut self, level: usize, index: u64) -> Option<Hash> {
        let number = index / TILE_HASHES;
        if number >= *self.known.get(level)? {
            return None;
        }
        if self.cached[level].as_ref().is_none_or(|cached| cached.number != number) {
            let hashes = read(&self.directory.join(path(level, number)));
            self.cached[level] = Some(Cached { number, hashes });
        }
        let hashes = self.cached[level].as_ref()?.hashes.as_ref()?;
        let at = (index % TILE_HASHES) as usize * 32;
        hashes[at..at + 32].try_into().ok()
    }
}

/// Path of a tile below `tile/`.
pub(crate) fn path(level: usize, number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    format!("{level}/{path}")
}

fn read(path: &Path) -> Option<Box<[u8; TILE_BYTES]>> {
    let mut bytes = Box::new([0; TILE_BYTES]);
    File::open(path).ok()?.read_exact(&mut bytes[..]).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(path(0, 5), "0/005");
        assert_eq!(path(1, 999), "1/999");
        assert_eq!(path(0, 1_234_067), "0/x001/x234/067");
        assert_eq!(path(0, 1000), "0/x001/000");
    }
}
