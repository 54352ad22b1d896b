//! The Merkle tree of RFC 6962: hashes, roots and proofs, for checking only.
//!
//! Every function here recomputes a root and compares; nothing is taken from a proof without
//! being hashed into that root, and a proof with a hash too many or too few is refused.

use aws_lc_rs::digest::{SHA256, digest};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Hash of a leaf: SHA-256 of a zero byte and the entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Leaves::default().hash(entry)
}

/// Hash of an inner node: SHA-256 of a byte of value 1 and both children.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0; 65];
    bytes[0] = 1;
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    sha256(&bytes)
}

/// Root of a tree without leaves.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// Hashes leaves one after the other without reserving memory for each.
#[derive(Debug, Default)]
pub struct Leaves {
    scratch: Vec<u8>,
}

impl Leaves {
    /// Hash of one leaf.
    pub fn hash(&mut self, entry: &[u8]) -> Hash {
        self.scratch.clear();
        self.scratch.push(0);
        self.scratch.extend_from_slice(entry);
        sha256(&self.scratch)
    }
}

/// The right edge of a growing tree: one root for each complete subtree, largest first.
///
/// `roots.len() == size.count_ones()`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    roots: Vec<Hash>,
}

impl Clone for Edge {
    fn clone(&self) -> Self {
        Self { size: self.size, roots: self.roots.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.size = source.size;
        self.roots.clone_from(&source.roots);
    }
}

impl Edge {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_subtree(0, leaf);
    }

    /// Appends a complete subtree of 2^`level` leaves. Returns false, and changes nothing, if the
    /// tree does not end at a multiple of that.
    pub fn push_subtree(&mut self, level: u32, root: Hash) -> bool {
        self.push_watched(level, root, |_, _, _| {})
    }

    /// Appends a complete subtree and shows each complete subtree that this forms, itself first:
    /// its level, its number among those of its level, its root.
    pub(crate) fn push_watched(
        &mut self,
        level: u32,
        root: Hash,
        mut formed: impl FnMut(u32, u64, &Hash),
    ) -> bool {
        let Some(width) = 1u64.checked_shl(level) else { return false };
        let Some(size) = self.size.checked_add(width) else { return false };
        if !self.size.is_multiple_of(width) {
            return false;
        }
        let mut root = root;
        let mut level = level;
        let mut left = self.size >> level;
        formed(level, left, &root);
        while left & 1 == 1 {
            // A set bit of the size has its subtree on the stack.
            let Some(sibling) = self.roots.pop() else { return false };
            root = node_hash(&sibling, &root);
            left >>= 1;
            level += 1;
            formed(level, left, &root);
        }
        self.roots.push(root);
        self.size = size;
        true
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(mut root) = roots.next().copied() else { return empty_root() };
        for left in roots {
            root = node_hash(left, &root);
        }
        root
    }
}

/// Root that an inclusion proof leads to (RFC 9162, section 2.1.3.2). `None`: it has a hash too
/// many or too few, or the index is not in the tree.
pub fn root_of_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut root) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            root = node_hash(sibling, &root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = node_hash(&root, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

/// Whether `leaf` is entry `index` of the tree of `size` entries with this root.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    root_of_inclusion(index, size, leaf, proof).is_some_and(|found| found == *root)
}

/// Whether the tree of `new` entries begins with the tree of `old` entries (RFC 9162, section
/// 2.1.4.2). Equal sizes need equal roots and no hashes; the empty tree is a prefix of all.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    // A complete old tree is its own first node.
    let (seed, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        let Some((first, rest)) = proof.split_first() else { return false };
        (*first, rest)
    };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_found, mut new_found) = (seed, seed);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_found = node_hash(sibling, &old_found);
            new_found = node_hash(sibling, &new_found);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_found = node_hash(&new_found, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_found == *old_root && new_found == *new_root
}

/// Root that a multi-proof leads to: several leaves and one list of hashes for all of them.
///
/// `leaves` are `(index, leaf hash)` with ascending indices. The tree is walked from its root,
/// left before right. A subtree without any of the leaves takes the next hash of the proof; a
/// subtree of one leaf that is proven takes its leaf hash; any other is split at the largest
/// power of two below its width, as RFC 6962 splits trees. `None`: a hash too many or too few,
/// or an index outside the tree or out of order. Without leaves the proof is the root itself.
pub fn root_of_many(size: u64, leaves: &[(u64, Hash)], proof: &[Hash]) -> Option<Hash> {
    let ordered = leaves.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !ordered || leaves.last().is_some_and(|leaf| leaf.0 >= size) {
        return None;
    }
    let mut proof = proof.iter();
    let root = walk(0, size, leaves, &mut proof)?;
    proof.next().is_none().then_some(root)
}

/// Depth is at most 64: each step halves the width.
fn walk(
    start: u64,
    width: u64,
    leaves: &[(u64, Hash)],
    proof: &mut std::slice::Iter<'_, Hash>,
) -> Option<Hash> {
    if leaves.is_empty() {
        return proof.next().copied();
    }
    if width == 1 {
        return Some(leaves[0].1);
    }
    let left = split(width);
    let middle = leaves.partition_point(|leaf| leaf.0 < start + left);
    let (before, behind) = leaves.split_at(middle);
    let one = walk(start, left, before, proof)?;
    let other = walk(start + left, width - left, behind, proof)?;
    Some(node_hash(&one, &other))
}

/// The largest power of two that is smaller than `width`, which is at least 2.
fn split(width: u64) -> u64 {
    1 << (u64::BITS - 1 - (width - 1).leading_zeros())
}

#[cfg(test)]
#[path = "merkle_tests.rs"]
mod tests;
