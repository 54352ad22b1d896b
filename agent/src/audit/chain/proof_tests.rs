//! The tree, its tiles and its proofs against [`super::oracle`].

use std::{borrow::Cow, collections::HashMap};

use proptest::prelude::*;

use super::{
    oracle::{Oracle, leaf, root_of_all},
    *,
};

/// Stored tiles.
#[derive(Default)]
struct Stored(HashMap<(u8, u64), Vec<Hash>>);

impl Stored {
    fn keep(&mut self, tiles: Vec<Tile>) {
        for tile in tiles {
            let read = Tile::from_bytes(tile.level, tile.n, tile.bytes()).expect("full");
            assert_eq!(read, tile);
            let before = self.0.insert((tile.level, tile.n), tile.hashes);
            assert!(before.is_none(), "each tile once");
        }
    }
}

impl TileSource for Stored {
    type Error = (u8, u64);

    fn tile(&self, level: u8, n: u64) -> Result<Cow<'_, [Hash]>, Self::Error> {
        self.0.get(&(level, n)).map(|h| Cow::Borrowed(h.as_slice())).ok_or((level, n))
    }
}

fn tiles_of_size(size: usize) -> (Tiles, Stored) {
    let (mut tiles, mut stored) = (Tiles::new(), Stored::default());
    for index in 0..size {
        tiles.append(leaf(index));
        stored.keep(tiles.take_full());
    }
    (tiles, stored)
}

#[test]
fn hashes_are_those_of_certificate_transparency() {
    // Roots that the implementations of RFC 6962 share as test data.
    let leaves: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[
            0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
            0x6e, 0x6f,
        ],
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Tree::new();
    assert_eq!(hex::encode(tree.root()), roots[0]);
    for (entry, root) in leaves.iter().zip(&roots[1..]) {
        tree.append(leaf_hash(entry));
        assert_eq!(hex::encode(tree.root()), *root);
    }
}

#[test]
fn roots_and_proofs_of_small_trees_are_those_of_the_rfc() {
    let mut oracle = Oracle::of_size(300);
    let (mut tree, mut tiles, mut stored) = (Tree::new(), Tiles::new(), Stored::default());
    for size in 0..=300 {
        assert_eq!((tree.size(), tiles.size()), (size as u64, size as u64));
        assert_eq!(tree.root(), oracle.mth(0, size), "root of {size}");
        assert_eq!(tiles.tree(), tree, "edge of {size}");
        assert_eq!(Tree::resume(size as u64, tree.edge()).as_ref(), Ok(&tree));
        let source = tiles.with(&stored);
        let mut prover = Prover::new(&source, size as u64);
        assert_eq!(prover.root(), Ok(tree.root()));
        for index in 0..size {
            let path = oracle.path(index, 0, size);
            assert_eq!(prover.inclusion(index as u64), Ok(path), "{index} in {size}");
        }
        assert_eq!(prover.consistency(0), Ok(vec![]));
        for old in 1..=size {
            let proof = oracle.proof(old, size);
            assert_eq!(prover.consistency(old as u64), Ok(proof), "{old} to {size}");
        }
        tree.append(leaf(size));
        tiles.append(leaf(size));
        stored.keep(tiles.take_full());
    }
}

#[test]
fn a_grown_tree_serves_its_earlier_sizes() {
    let mut oracle = Oracle::of_size(700);
    let (tiles, stored) = tiles_of_size(700);
    let source = tiles.with(&stored);
    for size in [1, 2, 255, 256, 257, 511, 512, 513, 699] {
        let mut prover = Prover::new(&source, size as u64);
        assert_eq!(prover.root(), Ok(oracle.mth(0, size)));
        for index in 0..size {
            assert_eq!(prover.inclusion(index as u64), Ok(oracle.path(index, 0, size)));
        }
    }
}

#[test]
fn proofs_across_three_levels_of_tiles_are_those_of_the_rfc() {
    const SIZES: [usize; 5] = [65_535, 65_536, 65_537, 65_792, 66_000];
    let mut oracle = Oracle::of_size(66_000);
    let (mut tree, mut tiles, mut stored) = (Tree::new(), Tiles::new(), Stored::default());
    for size in 0..=66_000 {
        if SIZES.contains(&size) {
            assert_eq!(tree.root(), oracle.mth(0, size), "root of {size}");
            assert_eq!(tiles.tree(), tree);
            let source = tiles.with(&stored);
            let mut prover = Prover::new(&source, size as u64);
            let interesting = [0, 1, 255, 256, 257, 32_767, 65_279, 65_280, size - 2, size - 1];
            for index in interesting {
                let path = oracle.path(index, 0, size);
                assert_eq!(prover.inclusion(index as u64), Ok(path), "{index} in {size}");
                let proof = oracle.proof(index + 1, size);
                assert_eq!(prover.consistency(index as u64 + 1), Ok(proof), "{index} to {size}");
            }
        }
        tree.append(leaf(size));
        tiles.append(leaf(size));
        stored.keep(tiles.take_full());
    }
    assert_eq!(stored.0.len(), 257 + 1, "full tiles of levels 0 and 1");
}

#[test]
fn tiles_go_on_after_a_start() {
    for size in [0, 255, 256, 257, 600, 65_536, 65_700] {
        let (before, stored) = tiles_of_size(size);
        let full = size / 256;
        let mut tiles = Tiles::resume(full as u64, &stored).expect("all are stored");
        for index in full * 256..size {
            tiles.append(leaf(index));
        }
        assert_eq!(tiles.tree(), before.tree(), "{size}");
        assert_eq!(tiles.take_full(), [], "{size}");
    }
    let (_, mut stored) = tiles_of_size(600);
    stored.0.remove(&(0, 1));
    assert_eq!(Tiles::resume(2, &stored).err(), Some((0, 1)));
}

#[test]
fn full_tiles_can_be_proven_from_before_they_are_taken() {
    let mut tiles = Tiles::new();
    for index in 0..300 {
        tiles.append(leaf(index));
    }
    let source = tiles.with(&());
    let mut oracle = Oracle::of_size(300);
    assert_eq!(Prover::new(&source, 300).inclusion(7), Ok(oracle.path(7, 0, 300)));
}

#[test]
fn paths_of_tiles_are_those_of_tlog_tiles() {
    assert_eq!(tile_path(0, 0), "tile/0/000");
    assert_eq!(tile_path(1, 999), "tile/1/999");
    assert_eq!(tile_path(0, 1_000), "tile/0/x001/000");
    assert_eq!(tile_path(3, 1_234_067), "tile/3/x001/x234/067");
    assert_eq!(number_path(u64::MAX), "x018/x446/x744/x073/x709/x551/615");
}

#[test]
fn what_cannot_be_proven_is_refused() {
    let (tiles, stored) = tiles_of_size(10);
    let source = tiles.with(&stored);
    let mut prover = Prover::new(&source, 10);
    assert_eq!(prover.inclusion(10), Err(ProofError::BeyondTheEnd { index: 10, size: 10 }));
    assert_eq!(prover.consistency(11), Err(ProofError::Shrunk { old: 11, new: 10 }));
    let twice = ProofError::NotAscending { index: 3, before: 3 };
    assert_eq!(prover.inclusion_of_all(&[3, 3]), Err(twice));
    let beyond = ProofError::BeyondTheEnd { index: 10, size: 10 };
    assert_eq!(prover.inclusion_of_all(&[3, 10]), Err(beyond));
    // A tree said to be larger than its tiles.
    let short = ProofError::ShortTile { level: 0, n: 0, found: 10, expected: 12 };
    assert_eq!(Prover::new(&source, 12).inclusion(0), Err(short));
    let (tiles, mut stored) = tiles_of_size(512);
    stored.0.remove(&(0, 1));
    let lost = tiles.with(&stored);
    assert_eq!(Prover::new(&lost, 512).inclusion(300), Err(ProofError::Source((0, 1))));
    let found = Tile::from_bytes(0, 5, &[0; TILE_BYTES - 1]);
    let error = TileError { level: 0, n: 5, found: TILE_BYTES - 1, expected: TILE_BYTES };
    assert_eq!(found, Err(error));
    assert!(Tree::resume(7, &[[0; 32]; 2]).is_err());
}

#[test]
fn a_proof_for_all_subsets_of_a_tree_leads_to_its_root() {
    let (tiles, stored) = tiles_of_size(9);
    let source = tiles.with(&stored);
    let mut oracle = Oracle::of_size(9);
    for size in 0..=9_usize {
        for subset in 0..1_u32 << size {
            let indices: Vec<u64> = (0..size as u64).filter(|i| subset >> i & 1 == 1).collect();
            let mut prover = Prover::new(&source, size as u64);
            let proof = prover.inclusion_of_all(&indices).expect("within the tree");
            let root = root_of_all(size, &indices, &proof);
            assert_eq!(root, Some(oracle.mth(0, size)), "{indices:?} in {size}");
            if let [index] = indices[..] {
                let mut path = prover.inclusion(index).expect("within the tree");
                let mut proof = proof;
                path.sort();
                proof.sort();
                assert_eq!(proof, path, "the hashes of an inclusion proof");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_proof_for_many_leaves_leads_to_the_root_and_holds_nothing_twice(
        size in 1_usize..1_000,
        picks in proptest::collection::btree_set(0_u64..1_000, 0..100),
    ) {
        let indices: Vec<u64> = picks.into_iter().filter(|i| *i < size as u64).collect();
        let (tiles, stored) = tiles_of_size(size);
        let source = tiles.with(&stored);
        let proof = Prover::new(&source, size as u64).inclusion_of_all(&indices).expect("within");
        let mut oracle = Oracle::of_size(size);
        prop_assert_eq!(root_of_all(size, &indices, &proof), Some(oracle.mth(0, size)));
        let distinct: std::collections::HashSet<_> = proof.iter().collect();
        prop_assert_eq!(distinct.len(), proof.len());
        if let Some((_, shorter)) = proof.split_last() {
            prop_assert_eq!(root_of_all(size, &indices, shorter), None);
        }
    }
}

#[test]
fn the_verifier_accepts_what_is_proven_and_nothing_else() {
    use pgward_verify::merkle;

    let mut oracle = Oracle::of_size(300);
    for size in [1, 2, 3, 7, 8, 255, 256, 257, 300] {
        let (tiles, stored) = tiles_of_size(size);
        let (source, root) = (tiles.with(&stored), tiles.tree().root());
        let size = size as u64;
        let mut prover = Prover::new(&source, size);
        for index in 0..size {
            let path = prover.inclusion(index).expect("within");
            let hash = leaf(index as usize);
            assert!(merkle::verify_inclusion(index, size, &hash, &path, &root), "{index} {size}");
            assert!(!merkle::verify_inclusion(index, size, &root, &path, &root) || size == 1);
        }
        for old in 1..=size {
            let before = oracle.mth(0, old as usize);
            let proof = prover.consistency(old).expect("smaller");
            assert!(merkle::verify_consistency(old, size, &before, &root, &proof), "{old} {size}");
        }
        let every_third: Vec<_> = (0..size).step_by(3).collect();
        let proof = prover.inclusion_of_all(&every_third).expect("within");
        let leaves: Vec<_> = every_third.iter().map(|i| (*i, leaf(*i as usize))).collect();
        assert_eq!(merkle::root_of_many(size, &leaves, &proof), Some(root), "{size}");
    }
}
