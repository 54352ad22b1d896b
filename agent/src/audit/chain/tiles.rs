//! Tiles: the tree in files (C2SP tlog-tiles), 256 hashes of one level in each.
//!
//! Tile `n` of level 0 holds the leaf hashes `256n..256n + 256`; hash `i` of level `l` is the root
//! over tile `i` of level `l - 1`. Only full tiles are stored: they never change once written. What is
//! not full is the right edge and stays in memory; after a start it comes from the tiles below it
//! and from entries.

use std::borrow::Cow;

use thiserror::Error;

use super::{Hash, Tree, perfect_root};

/// Hashes of a full tile.
pub const TILE_HASHES: usize = 256;
/// Bytes of a full tile.
pub const TILE_BYTES: usize = TILE_HASHES * 32;
/// Levels that a tree of fewer than 2^64 leaves can have.
const LEVELS_MAX: usize = 8;

/// A full tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Its level: 0 holds leaf hashes.
    pub level: u8,
    /// Its number in the level.
    pub n: u64,
    /// [`TILE_HASHES`] hashes, left to right.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// Where it is stored, from the folder of the log.
    pub fn path(&self) -> String {
        tile_path(self.level, self.n)
    }

    /// What is stored: the hashes one after the other.
    pub fn bytes(&self) -> &[u8] {
        self.hashes.as_flattened()
    }

    /// Reads a stored tile. Its hashes are not checked: that takes the level above, up to a root.
    pub fn from_bytes(level: u8, n: u64, bytes: &[u8]) -> Result<Self, TileError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if hashes.len() != TILE_HASHES || !rest.is_empty() {
            return Err(TileError { level, n, found: bytes.len(), expected: TILE_BYTES });
        }
        Ok(Self { level, n, hashes: hashes.to_vec() })
    }
}

/// A stored tile of the wrong length.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("tile {n} of level {level}: {found} bytes, expected {expected}")]
pub struct TileError {
    /// Level of the tile.
    pub level: u8,
    /// Number of the tile.
    pub n: u64,
    /// Its length.
    pub found: usize,
    /// The length of every full tile.
    pub expected: usize,
}

/// `tile/<level>/<number>`, the number as [`number_path`] has it.
pub fn tile_path(level: u8, n: u64) -> String {
    format!("tile/{level}/{}", number_path(n))
}

/// A number in groups of three digits, all but the last with an `x` before them:
/// `x001/x234/067` for 1,234,067.
pub fn number_path(n: u64) -> String {
    let mut path = format!("{:03}", n % 1000);
    let mut rest = n / 1000;
    while rest > 0 {
        path.insert_str(0, &format!("x{:03}/", rest % 1000));
        rest /= 1000;
    }
    path
}

/// Where tiles are read from.
pub trait TileSource {
    /// Why a tile could not be read.
    type Error;

    /// The hashes of a tile: all of it, or the first of them where it lies at the right edge.
    fn tile(&self, level: u8, n: u64) -> Result<Cow<'_, [Hash]>, Self::Error>;
}

/// Makes tiles from leaf hashes in order and keeps the right edge.
///
/// Meant for a thread in the background: feed it what is durable, write what
/// [`Tiles::take_full`] gives. Memory: at most 255 hashes (8 KiB) a level, and the full tiles that
/// were not taken yet.
#[derive(Clone, Debug, Default)]
pub struct Tiles {
    size: u64,
    /// The unfinished tile of each level: fewer than [`TILE_HASHES`] hashes.
    edge: Vec<Vec<Hash>>,
    full: Vec<Tile>,
}

impl Tiles {
    /// Those of the empty tree.
    pub const fn new() -> Self {
        Self { size: 0, edge: Vec::new(), full: Vec::new() }
    }

    /// Goes on where `full_tiles` tiles of level 0, and all full tiles above them, are stored: the
    /// next leaf is number `256 * full_tiles`.
    ///
    /// Reads at most 255 tiles a level. The hashes are taken as they are: compare the root of
    /// [`Tiles::tree`] with one that is known.
    pub fn resume<S: TileSource>(full_tiles: u64, stored: &S) -> Result<Self, S::Error> {
        let mut edge = Vec::new();
        let (mut below, mut level) = (full_tiles, 0_u8);
        edge.push(Vec::new()); // leaves begin with a new tile
        while below > 0 {
            let unfinished = below % TILE_HASHES as u64;
            let mut hashes = Vec::with_capacity(TILE_HASHES);
            for n in below - unfinished..below {
                hashes.push(perfect_root(&stored.tile(level, n)?));
            }
            edge.push(hashes);
            below /= TILE_HASHES as u64;
            level += 1;
        }
        Ok(Self { size: full_tiles * TILE_HASHES as u64, edge, full: Vec::new() })
    }

    /// Adds the hash of the next leaf.
    pub fn append(&mut self, leaf: Hash) {
        self.size = self.size.checked_add(1).expect("a log has fewer than 2^64 entries");
        let mut hash = leaf;
        for level in 0..LEVELS_MAX {
            if self.edge.len() == level {
                self.edge.push(Vec::with_capacity(TILE_HASHES));
            }
            let tile = &mut self.edge[level];
            tile.push(hash);
            if tile.len() < TILE_HASHES {
                return;
            }
            let hashes = std::mem::replace(tile, Vec::with_capacity(TILE_HASHES));
            hash = perfect_root(&hashes);
            let n = (self.size >> (8 * (level + 1))) - 1;
            self.full.push(Tile { level: level as u8, n, hashes });
        }
    }

    /// Number of leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tiles that became full since the last call, lower ones first.
    pub fn take_full(&mut self) -> Vec<Tile> {
        std::mem::take(&mut self.full)
    }

    /// The tree over all leaves so far.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for (level, hashes) in self.edge.iter().enumerate().rev() {
            for hash in hashes {
                tree.append_perfect(8 * level as u32, *hash);
            }
        }
        tree
    }

    /// The whole tree: full tiles from where they are stored, the rest from memory. What
    /// [`Tiles::take_full`] gave must be stored by then.
    pub fn with<'a, S: TileSource>(&'a self, stored: &'a S) -> WithEdge<'a, S> {
        WithEdge { tiles: self, stored }
    }
}

/// Stored tiles together with the right edge. Made by [`Tiles::with`].
#[derive(Clone, Copy, Debug)]
pub struct WithEdge<'a, S> {
    tiles: &'a Tiles,
    stored: &'a S,
}

impl<S: TileSource> TileSource for WithEdge<'_, S> {
    type Error = S::Error;

    fn tile(&self, level: u8, n: u64) -> Result<Cow<'_, [Hash]>, S::Error> {
        let full = self.tiles.size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        if n < full {
            return match self.tiles.full.iter().find(|t| (t.level, t.n) == (level, n)) {
                Some(tile) => Ok(Cow::Borrowed(&tile.hashes)),
                None => self.stored.tile(level, n),
            };
        }
        let edge = self.tiles.edge.get(usize::from(level)).filter(|_| n == full);
        Ok(Cow::Borrowed(edge.map_or(&[], Vec::as_slice)))
    }
}

impl TileSource for () {
    type Error = std::convert::Infallible;

    /// Nothing is stored.
    fn tile(&self, _: u8, _: u64) -> Result<Cow<'_, [Hash]>, Self::Error> {
        Ok(Cow::Borrowed(&[]))
    }
}
