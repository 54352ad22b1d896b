//! RFC 6962, section 2.1, word for word: slow, and written apart from what it checks.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::Hash;

/// A tree as the list of its leaf hashes.
#[derive(Default)]
pub(super) struct Oracle {
    pub(super) leaves: Vec<Hash>,
    roots: HashMap<(usize, usize), Hash>,
}

impl Oracle {
    /// The first `size` leaves of an endless list.
    pub(super) fn of_size(size: usize) -> Self {
        let leaves = (0..size).map(leaf).collect();
        Self { leaves, roots: HashMap::new() }
    }

    /// `MTH(D[from:to])`
    pub(super) fn mth(&mut self, from: usize, to: usize) -> Hash {
        match to - from {
            0 => return Sha256::digest([]).into(),
            1 => return self.leaves[from],
            _ => {}
        }
        if let Some(root) = self.roots.get(&(from, to)) {
            return *root;
        }
        let k = largest_power_of_two_below(to - from);
        let (left, right) = (self.mth(from, from + k), self.mth(from + k, to));
        let root = join(&left, &right);
        self.roots.insert((from, to), root);
        root
    }

    /// `PATH(m, D[from:to])`
    pub(super) fn path(&mut self, m: usize, from: usize, to: usize) -> Vec<Hash> {
        let n = to - from;
        if n == 1 {
            return Vec::new();
        }
        let k = largest_power_of_two_below(n);
        if m < k {
            let mut path = self.path(m, from, from + k);
            path.push(self.mth(from + k, to));
            path
        } else {
            let mut path = self.path(m - k, from + k, to);
            path.push(self.mth(from, from + k));
            path
        }
    }

    /// `PROOF(m, D[n])`
    pub(super) fn proof(&mut self, m: usize, n: usize) -> Vec<Hash> {
        self.subproof(m, 0, n, true)
    }

    /// `SUBPROOF(m, D[from:to], b)`
    fn subproof(&mut self, m: usize, from: usize, to: usize, b: bool) -> Vec<Hash> {
        let n = to - from;
        if m == n {
            return if b { Vec::new() } else { vec![self.mth(from, to)] };
        }
        let k = largest_power_of_two_below(n);
        if m <= k {
            let mut proof = self.subproof(m, from, from + k, b);
            proof.push(self.mth(from + k, to));
            proof
        } else {
            let mut proof = self.subproof(m - k, from + k, to, false);
            proof.push(self.mth(from, from + k));
            proof
        }
    }
}

/// The hash of leaf `index` of all trees of these tests.
pub(super) fn leaf(index: usize) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(index.to_string());
    hash.finalize().into()
}

pub(super) fn join(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// `k < n <= 2k`
fn largest_power_of_two_below(n: usize) -> usize {
    let mut k = 1;
    while 2 * k < n {
        k *= 2;
    }
    k
}

/// The root that a proof for many leaves leads to, by its definition.
pub(super) fn root_of_all(size: usize, indices: &[u64], proof: &[Hash]) -> Option<Hash> {
    let leaves: Vec<_> = indices.iter().map(|i| (*i as usize, leaf(*i as usize))).collect();
    let (mut leaves, mut proof) = (leaves.as_slice(), proof);
    let root = walk(0, size, &mut leaves, &mut proof)?;
    (leaves.is_empty() && proof.is_empty()).then_some(root)
}

fn walk(a: usize, b: usize, leaves: &mut &[(usize, Hash)], proof: &mut &[Hash]) -> Option<Hash> {
    if leaves.first().is_none_or(|(index, _)| *index >= b) {
        return proof.split_off_first().copied();
    }
    if b - a == 1 {
        return leaves.split_off_first().map(|(_, hash)| *hash);
    }
    let k = largest_power_of_two_below(b - a);
    let left = walk(a, a + k, leaves, proof)?;
    Some(join(&left, &walk(a + k, b, leaves, proof)?))
}
