//! Merkle trees of RFC 6962, as plainly as the text has them.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// Hash of an entry.
pub fn leaf(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The largest power of two below `count`, which is more than 1.
fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// Root over these leaf hashes (section 2.1).
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// Proof that the first `from` leaves are a prefix of all, `0 < from <= leaves.len()` (section 2.1.2).
pub fn consistency(from: usize, leaves: &[Hash]) -> Vec<Hash> {
    subproof(from, leaves, true)
}

fn subproof(from: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if from == leaves.len() {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut proof, other) = if from <= left.len() {
        (subproof(from, left, whole), root(right))
    } else {
        (subproof(from - left.len(), right, false), root(left))
    };
    proof.push(other);
    proof
}

/// Whether `proof` shows that the tree of size `from` is a prefix of that of size `to` (RFC 9162, section
/// 2.1.4.2).
pub fn is_consistent(from: (u64, Hash), to: (u64, Hash), proof: &[Hash]) -> bool {
    let ((from, from_root), (to, to_root)) = (from, to);
    if from == 0 {
        return proof.is_empty();
    }
    if from == to {
        return proof.is_empty() && from_root == to_root;
    }
    if from > to {
        return false;
    }
    let mut path = Vec::new();
    if from.is_power_of_two() {
        path.push(from_root);
    }
    path.extend_from_slice(proof);
    let Some((first, rest)) = path.split_first() else { return false };
    let shift = (from - 1).trailing_ones();
    let (mut inner, mut outer) = ((from - 1) >> shift, (to - 1) >> shift);
    let (mut old, mut new) = (*first, *first);
    for hash in rest {
        if outer == 0 {
            return false;
        }
        if inner & 1 == 1 || inner == outer {
            (old, new) = (node(hash, &old), node(hash, &new));
            while inner & 1 == 0 && inner != 0 {
                (inner, outer) = (inner >> 1, outer >> 1);
            }
        } else {
            new = node(&new, hash);
        }
        (inner, outer) = (inner >> 1, outer >> 1);
    }
    outer == 0 && old == from_root && new == to_root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_hold_between_all_sizes_and_for_nothing_else() {
        let leaves: Vec<Hash> = (0..40_u8).map(|n| leaf(&[n])).collect();
        for to in 1..=leaves.len() {
            let new = (to as u64, root(&leaves[..to]));
            for from in 1..=to {
                let old = (from as u64, root(&leaves[..from]));
                let proof = consistency(from, &leaves[..to]);
                assert!(is_consistent(old, new, &proof), "{from} {to}");
                let other = (old.0, leaf(b"other"));
                assert!(!is_consistent(other, new, &proof), "{from} {to}");
                assert!(!is_consistent(old, (new.0, leaf(b"other")), &proof), "{from} {to}");
                let longer = [&proof[..], &[leaf(b"more")]].concat();
                assert!(!is_consistent(old, new, &longer), "{from} {to}");
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(!is_consistent(old, new, shorter), "{from} {to}");
                }
            }
        }
    }

    /// The empty tree, one leaf and two, by hand.
    #[test]
    fn roots_are_those_of_the_rfc() {
        let hex = |hash: Hash| hash.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(root(&[])),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(root(&[leaf(b"")])),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        let two = [leaf(b""), leaf(&[0])];
        assert_eq!(
            hex(root(&two)),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }
}
