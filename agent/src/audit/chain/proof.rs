//! Proofs from tiles.

use std::ops::Range;

use thiserror::Error;

use super::{Hash, TILE_HASHES, TileSource, Tree, node_hash, perfect_root, sha256};

/// Makes proofs about a tree of `size` leaves from its tiles.
///
/// The tiles are not checked against a root: whoever gets the proof does that. A tree that has grown
/// serves all its earlier sizes.
#[derive(Debug)]
pub struct Prover<'a, S> {
    source: &'a S,
    size: u64,
    /// The tile read last, of each level: proofs walk the tree from left to right.
    last: [Option<(u64, Vec<Hash>)>; 8],
}

/// Why there is no proof.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProofError<E> {
    /// The entry is not in the tree.
    #[error("entry {index} in a tree of {size}")]
    BeyondTheEnd {
        /// The entry.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("tree of {old} as an earlier state of a tree of {new}")]
    Shrunk {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// Numbers of entries are not ascending, each once.
    #[error("entry {index} after entry {before}, expected ascending numbers")]
    NotAscending {
        /// The number in question.
        index: u64,
        /// The one before it.
        before: u64,
    },
    /// A tile has fewer hashes than the tree needs.
    #[error("tile {n} of level {level} has {found} hashes, expected at least {expected}")]
    ShortTile {
        /// Level of the tile.
        level: u8,
        /// Number of the tile.
        n: u64,
        /// Hashes in it.
        found: usize,
        /// Hashes needed.
        expected: usize,
    },
    /// A tile could not be read.
    #[error("reading a tile failed")]
    Source(#[source] E),
}

impl<'a, S: TileSource> Prover<'a, S> {
    /// Proofs about the first `size` leaves.
    pub fn new(source: &'a S, size: u64) -> Self {
        Self { source, size, last: Default::default() }
    }

    /// Proof that leaf `index` is in the tree (RFC 6962, section 2.1.1: `PATH`), from the leaf up.
    pub fn inclusion(&mut self, index: u64) -> Result<Vec<Hash>, ProofError<S::Error>> {
        self.within(index)?;
        let mut path = Vec::new();
        let mut range = 0..self.size;
        while range.end - range.start > 1 {
            let (left, right) = split(&range);
            let (inside, sibling) = if index < left.end { (left, right) } else { (right, left) };
            path.push(self.subtree(sibling)?);
            range = inside;
        }
        path.reverse();
        Ok(path)
    }

    /// Proof that the tree of the first `old` leaves is an earlier state of this one (RFC 6962,
    /// section 2.1.2: `PROOF`). Empty for an empty or equal tree.
    pub fn consistency(&mut self, old: u64) -> Result<Vec<Hash>, ProofError<S::Error>> {
        if old > self.size {
            return Err(ProofError::Shrunk { old, new: self.size });
        }
        let mut path = Vec::new();
        let mut range = 0..self.size;
        if old > 0 {
            while range.end != old {
                let (left, right) = split(&range);
                let (inside, sibling) = if old <= left.end { (left, right) } else { (right, left) };
                path.push(self.subtree(sibling)?);
                range = inside;
            }
            // The older tree's root is known to who asks; of a smaller subtree the root is not.
            if range.start > 0 {
                path.push(self.subtree(range)?);
            }
        }
        path.reverse();
        Ok(path)
    }

    /// Proof that all leaves `indices` (ascending, each once) are in the tree.
    ///
    /// The roots of the largest subtrees without any of these leaves, from left to right. With `L` the
    /// leaf hashes of `indices` in order, and `P` the proof, the root is `walk(0, size)`:
    ///
    /// ```text
    /// walk(a, b) = next of P                               if no index lies in a..b
    ///            = next of L                               if b - a = 1
    ///            = node_hash(walk(a, a + k), walk(a + k, b))  otherwise, k the largest power of two < b - a
    /// ```
    ///
    /// and both are used up then. Without an index the proof is the root itself; of the empty tree too.
    pub fn inclusion_of_all(&mut self, indices: &[u64]) -> Result<Vec<Hash>, ProofError<S::Error>> {
        for pair in indices.windows(2) {
            if pair[0] >= pair[1] {
                return Err(ProofError::NotAscending { index: pair[1], before: pair[0] });
            }
        }
        if let Some(last) = indices.last() {
            self.within(*last)?;
        }
        let mut proof = Vec::new();
        self.collect(0..self.size, indices, &mut proof)?;
        Ok(proof)
    }

    /// The root of the tree (of the size given to [`Prover::new`]).
    pub fn root(&mut self) -> Result<Hash, ProofError<S::Error>> {
        self.subtree(0..self.size)
    }

    fn within(&self, index: u64) -> Result<(), ProofError<S::Error>> {
        let size = self.size;
        if index < size { Ok(()) } else { Err(ProofError::BeyondTheEnd { index, size }) }
    }

    /// `walk` of [`Prover::inclusion_of_all`]: `indices` are those within `range`. At most 64 deep.
    fn collect(
        &mut self,
        range: Range<u64>,
        indices: &[u64],
        proof: &mut Vec<Hash>,
    ) -> Result<(), ProofError<S::Error>> {
        if indices.is_empty() {
            proof.push(self.subtree(range)?);
            return Ok(());
        }
        if range.end - range.start == 1 {
            return Ok(());
        }
        let (left, right) = split(&range);
        let (in_left, in_right) = indices.split_at(indices.partition_point(|i| *i < left.end));
        self.collect(left, in_left, proof)?;
        self.collect(right, in_right, proof)
    }

    /// The root over the leaves `range`, which begins where a subtree of its size may begin.
    fn subtree(&mut self, range: Range<u64>) -> Result<Hash, ProofError<S::Error>> {
        if range.is_empty() {
            return Ok(sha256(b""));
        }
        // Perfect subtrees from the largest to the smallest, as in a tree of that size.
        let mut tree = Tree::new();
        let mut at = range.start;
        while at < range.end {
            let level = (range.end - at).ilog2();
            let root = self.node(level, at >> level)?;
            tree.append_perfect(level, root);
            at += 1 << level;
        }
        Ok(tree.root())
    }

    /// Node `index` of `level` (0: leaves): the root over `2^level` leaves.
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, ProofError<S::Error>> {
        // A tile holds every eighth level; those between are computed from the one below.
        let (tile_level, above) = ((level / 8) as u8, level % 8);
        let first = index << above;
        let (n, offset) = (first / TILE_HASHES as u64, (first % TILE_HASHES as u64) as usize);
        let hashes = self.tile(tile_level, n)?;
        let wanted = offset..offset + (1 << above);
        let Some(hashes) = hashes.get(wanted.clone()) else {
            let (found, expected) = (hashes.len(), wanted.end);
            return Err(ProofError::ShortTile { level: tile_level, n, found, expected });
        };
        Ok(match hashes {
            [hash] => *hash,
            [left, right] => node_hash(left, right),
            hashes => perfect_root(hashes),
        })
    }

    fn tile(&mut self, level: u8, n: u64) -> Result<&[Hash], ProofError<S::Error>> {
        let last = &mut self.last[usize::from(level)];
        let kept = match last.take().filter(|(number, _)| *number == n) {
            Some(kept) => kept,
            None => (n, self.source.tile(level, n).map_err(ProofError::Source)?.into_owned()),
        };
        Ok(&last.insert(kept).1)
    }
}

/// Splits more than one leaf as the tree does: the left part is the largest power of two that is
/// smaller than the whole.
fn split(range: &Range<u64>) -> (Range<u64>, Range<u64>) {
    let left_leaves = 1 << (range.end - range.start - 1).ilog2();
    let middle = range.start + left_leaves;
    (range.start..middle, middle..range.end)
}
