use super::*;

/// The definition of RFC 6962, section 2.1, straight from its text.
pub(crate) fn root_by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
            node_hash(&root_by_definition(left), &root_by_definition(right))
        }
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
}

/// PATH of RFC 6962, section 2.1.1.
fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
    if index < left.len() {
        let mut path = path(index, left);
        path.push(root_by_definition(right));
        path
    } else {
        let mut path = path(index - left.len(), right);
        path.push(root_by_definition(left));
        path
    }
}

/// SUBPROOF of RFC 6962, section 2.1.2.
fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![root_by_definition(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
    if old <= left.len() {
        let mut proof = subproof(old, left, whole);
        proof.push(root_by_definition(right));
        proof
    } else {
        let mut proof = subproof(old - left.len(), right, false);
        proof.push(root_by_definition(left));
        proof
    }
}

fn many(wanted: &[u64], start: u64, leaves: &[Hash], proof: &mut Vec<Hash>) {
    let end = start + leaves.len() as u64;
    if !wanted.iter().any(|index| (start..end).contains(index)) {
        proof.push(root_by_definition(leaves));
    } else if leaves.len() > 1 {
        let middle = split(leaves.len() as u64);
        let (left, right) = leaves.split_at(middle as usize);
        many(wanted, start, left, proof);
        many(wanted, start + middle, right, proof);
    }
}

#[test]
fn the_edge_has_the_root_of_the_definition_at_every_size() {
    let leaves = leaves(300);
    let mut edge = Edge::default();
    assert_eq!(edge.root(), empty_root());
    for size in 1..=leaves.len() {
        let mut formed = Vec::new();
        edge.push_watched(0, leaves[size - 1], |level, number, root| {
            formed.push((level, number, *root));
        });
        assert_eq!(edge.root(), root_by_definition(&leaves[..size]), "size {size}");
        assert_eq!(formed.len(), (size as u64).trailing_zeros() as usize + 1, "size {size}");
        for (level, number, root) in formed {
            let width = 1 << level;
            assert_eq!((number as usize + 1) * width, size, "size {size}");
            assert_eq!(root, root_by_definition(&leaves[size - width..size]), "size {size}");
        }
    }
}

#[test]
fn subtrees_are_taken_only_where_the_tree_is_aligned() {
    let leaves = leaves(20);
    let mut edge = Edge::default();
    assert!(edge.push_subtree(4, root_by_definition(&leaves[..16])));
    assert!(!edge.push_subtree(5, [0; 32]));
    assert!(edge.push_subtree(2, root_by_definition(&leaves[16..])));
    assert_eq!(edge.root(), root_by_definition(&leaves));
    assert!(!edge.push_subtree(64, [0; 32]));
}

#[test]
fn proofs_of_the_definition_hold_and_changed_ones_do_not() {
    for size in 1..40usize {
        let leaves = leaves(size as u64);
        let root = root_by_definition(&leaves);
        for index in 0..size {
            let proof = path(index, &leaves);
            let holds = |index: usize, size: usize, proof: &[Hash]| {
                verify_inclusion(
                    index as u64,
                    size as u64,
                    &leaves[index.min(leaves.len() - 1)],
                    proof,
                    &root,
                )
            };
            assert!(holds(index, size, &proof), "{index} of {size}");
            assert!(!holds(size, size, &proof));
            refused_when_changed(&proof, |proof| holds(index, size, proof));
        }
        for old in 0..=size {
            let old_root = root_by_definition(&leaves[..old]);
            let proof = if old == 0 { Vec::new() } else { subproof(old, &leaves, true) };
            let holds = |proof: &[Hash]| {
                verify_consistency(old as u64, size as u64, &old_root, &root, proof)
            };
            assert!(holds(&proof), "{old} to {size}");
            refused_when_changed(&proof, holds);
            assert!(
                !verify_consistency(size as u64, old as u64, &root, &old_root, &proof)
                    || old == size
            );
        }
    }
}

#[test]
fn proofs_of_many_hold_and_changed_ones_do_not() {
    for size in 1..12u64 {
        let leaves = leaves(size);
        let root = root_by_definition(&leaves);
        for set in 0u64..1 << size {
            let wanted: Vec<u64> = (0..size).filter(|index| set >> index & 1 == 1).collect();
            let named: Vec<(u64, Hash)> =
                wanted.iter().map(|index| (*index, leaves[*index as usize])).collect();
            let mut proof = Vec::new();
            many(&wanted, 0, &leaves, &mut proof);
            assert_eq!(root_of_many(size, &named, &proof), Some(root), "{set:b} of {size}");
            refused_when_changed(&proof, |proof| root_of_many(size, &named, proof) == Some(root));
        }
        assert_eq!(root_of_many(size, &[(size, leaves[0])], &[]), None);
        assert_eq!(root_of_many(size, &[(0, leaves[0]), (0, leaves[0])], &[]), None);
    }
}

/// One hash too many, too few, swapped, and each one altered.
fn refused_when_changed(proof: &[Hash], holds: impl Fn(&[Hash]) -> bool) {
    let mut longer = proof.to_vec();
    longer.push([0; 32]);
    assert!(!holds(&longer));
    if let Some((last, _)) = proof.split_last() {
        longer.pop();
        longer.push(*last);
        assert!(!holds(&longer));
        assert!(!holds(&proof[..proof.len() - 1]));
        assert!(!holds(&proof[1..]));
    }
    for at in 0..proof.len() {
        let mut altered = proof.to_vec();
        altered[at][at % 32] ^= 1;
        assert!(!holds(&altered));
        if at > 0 {
            let mut swapped = proof.to_vec();
            swapped.swap(at - 1, at);
            assert!(!holds(&swapped));
        }
    }
}

#[test]
fn the_empty_tree_and_single_entries() {
    let leaf = leaf_hash(b"");
    assert!(verify_inclusion(0, 1, &leaf, &[], &leaf));
    assert!(!verify_inclusion(0, 0, &leaf, &[], &empty_root()));
    assert!(!verify_inclusion(1, 1, &leaf, &[], &leaf));
    assert!(verify_consistency(0, 0, &empty_root(), &empty_root(), &[]));
    assert!(verify_consistency(0, 1, &empty_root(), &leaf, &[]));
    assert!(!verify_consistency(0, 1, &leaf, &leaf, &[]));
    assert!(!verify_consistency(0, 1, &empty_root(), &leaf, &[leaf]));
}

/// Sizes 0 to 2000, and those around powers of 256: the root of the definition, and no leaf that
/// can be changed without changing it.
#[test]
fn every_size_has_its_root_and_no_leaf_can_be_forged() {
    let leaves = leaves(65_536 + 300);
    let mut cache = std::collections::HashMap::new();
    let mut sizes: Vec<usize> = (0..=2000).collect();
    sizes.extend([65_279, 65_280, 65_281, 65_535, 65_536, 65_537, 65_791, 65_792, 65_793]);
    let mut edge = Edge::default();
    for size in sizes {
        while edge.size() < size as u64 {
            edge.push(leaves[edge.size() as usize]);
        }
        let root = remembered(0, &leaves[..size], &mut cache);
        assert_eq!(edge.root(), root, "size {size}");
        // The proof of a leaf leads to the root; a forged leaf with the same proof does not.
        for index in [0, size / 2, size.saturating_sub(1)] {
            if index < size {
                let proof = remembered_path(index, 0, &leaves[..size], &mut cache);
                let (at, of) = (index as u64, size as u64);
                assert!(verify_inclusion(at, of, &leaves[index], &proof, &root), "{index} {size}");
                let forged = leaf_hash(b"forged");
                assert!(!verify_inclusion(at, of, &forged, &proof, &root), "{index} {size}");
            }
        }
    }
}

type Cache = std::collections::HashMap<(usize, usize), Hash>;

/// Roots by the definition; complete subtrees are remembered by their place.
fn remembered(start: usize, leaves: &[Hash], cache: &mut Cache) -> Hash {
    if leaves.len() < 2 {
        return root_by_definition(leaves);
    }
    let key = (start, leaves.len());
    if let Some(hash) = cache.get(&key) {
        return *hash;
    }
    let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
    let one = remembered(start, left, cache);
    let other = remembered(start + left.len(), right, cache);
    let hash = node_hash(&one, &other);
    if leaves.len().is_power_of_two() {
        cache.insert(key, hash);
    }
    hash
}

fn remembered_path(index: usize, start: usize, leaves: &[Hash], cache: &mut Cache) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
    let middle = start + left.len();
    if index < left.len() {
        let mut path = remembered_path(index, start, left, cache);
        path.push(remembered(middle, right, cache));
        path
    } else {
        let mut path = remembered_path(index - left.len(), middle, right, cache);
        path.push(remembered(start, left, cache));
        path
    }
}
