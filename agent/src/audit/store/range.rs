//! The tree in memory: RFC 6962 hashes, and the right edge that is enough to go on.

use aws_lc_rs::digest::{SHA256, digest};

/// A SHA-256.
pub type Hash = [u8; 32];

/// Hash of a leaf (RFC 6962, section 2.1). `prefixed` is an entry behind a byte that is 0.
pub(super) fn leaf_hash(prefixed: &[u8]) -> Hash {
    debug_assert_eq!(prefixed.first(), Some(&0), "leaves are hashed behind a zero byte");
    sha256(prefixed)
}

/// SHA-256 in one go.
pub(super) fn sha256(bytes: &[u8]) -> Hash {
    digest(&SHA256, bytes).as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

/// The roots of the full subtrees that a tree of some size consists of, largest first: one for
/// each bit that is set in the size, so at most 64.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Range {
    size: u64,
    hashes: Vec<Hash>,
}

impl Range {
    /// The range of a tree of this size, as [`Range::hashes`] gave it. `None` when the number of
    /// hashes is not that of the size.
    pub fn restore(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        (size.count_ones() as usize == hashes.len()).then_some(Self { size, hashes })
    }

    /// Adds the hash of the next leaf.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.hashes.pop().expect("one hash for each bit of the size");
            hash = node_hash(&left, &hash);
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        let mut from_right = self.hashes.iter().rev();
        let Some(last) = from_right.next() else { return sha256(b"") };
        from_right.fold(*last, |right, left| node_hash(left, &right))
    }

    /// The hashes, for [`Range::restore`].
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }
}

impl Clone for Range {
    fn clone(&self) -> Self {
        Self { size: self.size, hashes: self.hashes.clone() }
    }

    /// Without a new allocation: this is done for each batch.
    fn clone_from(&mut self, from: &Self) {
        self.size = from.size;
        self.hashes.clone_from(&from.hashes);
    }
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    sha256(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as RFC 6962 defines it, by recursion.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(b""),
            [leaf] => *leaf,
            _ => {
                let left = leaves.len().next_power_of_two() / 2;
                node_hash(&by_definition(&leaves[..left]), &by_definition(&leaves[left..]))
            }
        }
    }

    #[test]
    fn has_the_roots_that_the_definition_gives() {
        let leaves: Vec<Hash> = (0..600_u32).map(|n| sha256(&n.to_be_bytes())).collect();
        let mut range = Range::default();
        assert_eq!(hex::encode(range.root()), EMPTY);
        for (at, leaf) in leaves.iter().enumerate() {
            assert_eq!(range.root(), by_definition(&leaves[..at]), "size {at}");
            range.append(*leaf);
            let restored = Range::restore(range.size(), range.hashes().to_vec());
            assert_eq!(restored.as_ref(), Some(&range));
        }
        assert_eq!(Range::restore(3, vec![[0; 32]]), None);
    }

    /// SHA-256 of nothing (RFC 6962, section 2.1).
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn hashes_an_empty_leaf_as_the_specification_says() {
        let expected = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(hex::encode(leaf_hash(&[0])), expected);
    }
}
