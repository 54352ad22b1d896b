//! Roots and proofs of three other makers, checked by ours: the crates `ct-merkle` and `tlog_tiles`, and
//! the text of RFC 6962 itself. None has code of another, or of what is checked.

use std::cell::RefCell;
use std::collections::HashMap;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use pgward_verify::merkle::{Edge, Hash, leaf_hash, verify_consistency, verify_inclusion};
use sha2_oracle::{Digest, Sha256};
use tlog_tiles::tlog;

/// Sizes of trees up to which all proofs are made.
const SIZE_MAX: u64 = 130;

/// An implementation that makes proofs.
trait Oracle: Default {
    fn push(&mut self, entry: &[u8]);
    fn root(&self) -> Hash;
    fn inclusion(&self, index: u64, size: u64) -> Vec<Hash>;
    fn consistency(&self, old: u64, size: u64) -> Vec<Hash>;
}

#[derive(Default)]
struct CtMerkle(MemoryBackedTree<Sha256, Vec<u8>>);

impl Oracle for CtMerkle {
    fn push(&mut self, entry: &[u8]) {
        self.0.push(entry.to_vec());
    }

    fn root(&self) -> Hash {
        self.0.root().as_bytes().as_slice().try_into().expect("32 bytes")
    }

    fn inclusion(&self, index: u64, _size: u64) -> Vec<Hash> {
        hashes(self.0.prove_inclusion(index as usize).as_bytes())
    }

    fn consistency(&self, old: u64, size: u64) -> Vec<Hash> {
        hashes(self.0.prove_consistency((size - old) as usize).as_bytes())
    }
}

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    assert!(rest.is_empty());
    hashes.to_vec()
}

/// A log of hashes as the checksum database of Go keeps them.
#[derive(Default)]
struct TlogTiles {
    size: u64,
    stored: Stored,
}

/// Hashes in the order in which they become complete.
#[derive(Default)]
struct Stored(Vec<tlog::Hash>);

impl tlog::HashReader for Stored {
    fn read_hashes(&self, indices: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        Ok(indices.iter().map(|index| self.0[*index as usize]).collect())
    }
}

impl Oracle for TlogTiles {
    fn push(&mut self, entry: &[u8]) {
        let new = tlog::stored_hashes(self.size, entry, &self.stored).expect("all are there");
        self.stored.0.extend(new);
        self.size += 1;
    }

    fn root(&self) -> Hash {
        tlog::tree_hash(self.size, &self.stored).expect("all are there").0
    }

    fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        let proof = tlog::prove_record(size, index, &self.stored).expect("index < size");
        proof.into_iter().map(|hash| hash.0).collect()
    }

    fn consistency(&self, old: u64, size: u64) -> Vec<Hash> {
        let proof = tlog::prove_tree(size, old, &self.stored).expect("old <= size");
        proof.into_iter().map(|hash| hash.0).collect()
    }
}

/// RFC 6962, section 2.1, word for word, with a hash function of its own.
#[derive(Default)]
struct Definition {
    leaves: Vec<Hash>,
    /// Roots of complete subtrees, by their place.
    known: RefCell<HashMap<(usize, usize), Hash>>,
}

impl Definition {
    /// `MTH(D[from:to])`
    fn root_of(&self, from: usize, to: usize) -> Hash {
        match to - from {
            0 => return Sha256::digest([]).into(),
            1 => return self.leaves[from],
            _ => {}
        }
        if let Some(root) = self.known.borrow().get(&(from, to)) {
            return *root;
        }
        let k = below(to - from);
        let (left, right) = (self.root_of(from, from + k), self.root_of(from + k, to));
        let root = Sha256::digest([&[1], &left[..], &right].concat()).into();
        if (to - from).is_power_of_two() {
            self.known.borrow_mut().insert((from, to), root);
        }
        root
    }

    /// `PATH(m, D[from:to])`
    fn path(&self, m: usize, from: usize, to: usize) -> Vec<Hash> {
        if to - from == 1 {
            return Vec::new();
        }
        let k = below(to - from);
        let (mut path, other) = match m < k {
            true => (self.path(m, from, from + k), self.root_of(from + k, to)),
            false => (self.path(m - k, from + k, to), self.root_of(from, from + k)),
        };
        path.push(other);
        path
    }

    /// `SUBPROOF(m, D[from:to], whole)`
    fn subproof(&self, m: usize, from: usize, to: usize, whole: bool) -> Vec<Hash> {
        if m == to - from {
            return if whole { Vec::new() } else { vec![self.root_of(from, to)] };
        }
        let k = below(to - from);
        let (mut proof, other) = match m <= k {
            true => (self.subproof(m, from, from + k, whole), self.root_of(from + k, to)),
            false => (self.subproof(m - k, from + k, to, false), self.root_of(from, from + k)),
        };
        proof.push(other);
        proof
    }
}

/// The largest power of two smaller than `n`.
fn below(n: usize) -> usize {
    n.next_power_of_two() / 2
}

impl Oracle for Definition {
    fn push(&mut self, entry: &[u8]) {
        self.leaves.push(Sha256::digest([&[0], entry].concat()).into());
    }

    fn root(&self) -> Hash {
        self.root_of(0, self.leaves.len())
    }

    fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        self.path(index as usize, 0, size as usize)
    }

    fn consistency(&self, old: u64, size: u64) -> Vec<Hash> {
        self.subproof(old as usize, 0, size as usize, true)
    }
}

/// Every proof of every size holds, and with another index or the roots exchanged it does not.
fn proofs_hold<O: Oracle>() {
    let (mut oracle, mut edge) = (O::default(), Edge::default());
    let mut roots = vec![edge.root()];
    for size in 1..=SIZE_MAX {
        let entry = size.to_be_bytes();
        edge.push(leaf_hash(&entry));
        oracle.push(&entry);
        let root = oracle.root();
        assert_eq!(edge.root(), root, "size {size}");
        for index in 0..size {
            let leaf = leaf_hash(&(index + 1).to_be_bytes());
            let proof = oracle.inclusion(index, size);
            assert!(verify_inclusion(index, size, &leaf, &proof, &root), "{index} of {size}");
            assert!(!verify_inclusion(index + 1, size, &leaf, &proof, &root), "{index} of {size}");
            let longer = [&proof[..], &[root]].concat();
            assert!(!verify_inclusion(index, size, &leaf, &longer, &root), "{index} of {size}");
        }
        for old in 1..size {
            let proof = oracle.consistency(old, size);
            let before = &roots[old as usize];
            assert!(verify_consistency(old, size, before, &root, &proof), "{old} to {size}");
            assert!(!verify_consistency(old, size, &root, before, &proof), "{old} to {size}");
            let shorter = &proof[..proof.len() - 1];
            assert!(!verify_consistency(old, size, before, &root, shorter), "{old} to {size}");
        }
        roots.push(root);
    }
}

#[test]
fn proofs_of_another_implementation_hold() {
    proofs_hold::<CtMerkle>();
}

#[test]
fn proofs_of_a_third_implementation_hold() {
    proofs_hold::<TlogTiles>();
}

#[test]
fn proofs_of_the_definition_hold() {
    proofs_hold::<Definition>();
}

/// Where a level of tiles becomes full, roots of all four agree.
#[test]
fn roots_agree_around_the_ends_of_tiles() {
    let (mut one, mut other) = (CtMerkle::default(), Definition::default());
    let mut third = TlogTiles::default();
    let mut edge = Edge::default();
    for size in 1..=65_793_u64 {
        let entry = size.to_be_bytes();
        edge.push(leaf_hash(&entry));
        one.push(&entry);
        other.push(&entry);
        third.push(&entry);
        if size.is_power_of_two() || (size + 1) % 256 < 3 && !(1024..65_000).contains(&size) {
            assert_eq!(edge.root(), one.root(), "size {size}");
            assert_eq!(edge.root(), other.root(), "size {size}");
            assert_eq!(edge.root(), third.root(), "size {size}");
        }
    }
}
