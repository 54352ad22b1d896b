//! The tree as a compact range: what is needed to append and to compute the root, nothing else.

use thiserror::Error;

use super::{Hash, node_hash, sha256};

/// The right edge of a tree of `size` leaves: the roots of its perfect subtrees, largest first, one
/// for each bit that is set in `size`.
///
/// ```text
/// size 7 = 111b      edge: [ root of 0..4, root of 4..6, leaf 6 ]
/// ```
///
/// At most 64 hashes. Appending costs one node hash on average, the root as many as the size has
/// bits set. A clone is small: the committer keeps one from before a batch, and goes back to it when
/// the batch could not be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// `edge.len() == size.count_ones()`
    edge: Vec<Hash>,
}

/// A right edge that does not fit its size.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("edge of a tree of {size} leaves: {found} hashes, expected {expected}")]
pub struct EdgeError {
    /// Leaves of the tree.
    pub size: u64,
    /// Hashes given.
    pub found: usize,
    /// Hashes that a tree of this size has.
    pub expected: usize,
}

impl Tree {
    /// The empty tree.
    pub const fn new() -> Self {
        Self { size: 0, edge: Vec::new() }
    }

    /// A tree whose edge was kept elsewhere, largest subtree first, as [`Tree::edge`] gives it.
    ///
    /// Whether the hashes are right cannot be told here: compare [`Tree::root`] with a root that is
    /// known.
    pub fn resume(size: u64, edge: &[Hash]) -> Result<Self, EdgeError> {
        let expected = size.count_ones() as usize;
        if edge.len() != expected {
            return Err(EdgeError { size, found: edge.len(), expected });
        }
        Ok(Self { size, edge: edge.to_vec() })
    }

    /// Adds a leaf, given its hash ([`super::leaf_hash`]).
    pub fn append(&mut self, leaf: Hash) {
        self.append_perfect(0, leaf);
    }

    /// Adds `2^level` leaves at once, given the root of the perfect subtree over them. The size must
    /// be a multiple of `2^level`.
    pub(super) fn append_perfect(&mut self, level: u32, root: Hash) {
        debug_assert_eq!(self.size % (1 << level), 0, "the subtree is perfect in this tree");
        let mut root = root;
        let mut larger = self.size >> level;
        while larger & 1 == 1 {
            let left = self.edge.pop().expect("the edge has a hash for each bit of the size");
            root = node_hash(&left, &root);
            larger >>= 1;
        }
        self.edge.push(root);
        self.size = self.size.checked_add(1 << level).expect("a log has fewer than 2^64 entries");
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root (RFC 6962, section 2.1: `MTH`).
    pub fn root(&self) -> Hash {
        let mut from_the_right = self.edge.iter().rev();
        let Some(smallest) = from_the_right.next() else { return sha256(b"") };
        from_the_right.fold(*smallest, |right, left| node_hash(left, &right))
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn edge(&self) -> &[Hash] {
        &self.edge
    }
}
