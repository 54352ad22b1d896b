//! Roots and proofs made by another implementation of RFC 6962, checked by ours.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use pgward_verify::merkle::{Edge, Hash, leaf_hash, verify_consistency, verify_inclusion};
use sha2_oracle::Sha256;

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    assert!(rest.is_empty());
    hashes.to_vec()
}

fn array(bytes: &[u8]) -> Hash {
    bytes.try_into().expect("32 bytes")
}

#[test]
fn proofs_of_another_implementation_hold() {
    let mut oracle = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut edge = Edge::default();
    let mut roots = vec![edge.root()];
    for size in 1..=130u64 {
        let entry = size.to_be_bytes().to_vec();
        edge.push(leaf_hash(&entry));
        oracle.push(entry);
        let root = array(oracle.root().as_bytes());
        assert_eq!(edge.root(), root, "size {size}");
        for index in 0..size {
            let leaf = leaf_hash(&(index + 1).to_be_bytes());
            let proof = hashes(oracle.prove_inclusion(index as usize).as_bytes());
            assert!(verify_inclusion(index, size, &leaf, &proof, &root), "{index} of {size}");
            assert!(!verify_inclusion(index + 1, size, &leaf, &proof, &root), "{index} of {size}");
        }
        for old in 1..size {
            let added = (size - old) as usize;
            let proof = hashes(oracle.prove_consistency(added).as_bytes());
            let before = &roots[old as usize];
            assert!(verify_consistency(old, size, before, &root, &proof), "{old} to {size}");
            assert!(!verify_consistency(old, size, &root, before, &proof), "{old} to {size}");
        }
        roots.push(root);
    }
}
