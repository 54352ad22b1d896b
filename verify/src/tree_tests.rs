use std::fs;

use super::*;
use crate::merkle::{leaf_hash, node_hash};
use crate::tiles::{Tiles, path};

fn spot() -> Spot {
    Spot::default()
}

/// Hashes of complete subtrees of 256 at each level, as tiles hold them.
fn levels(leaves: &[Hash]) -> Vec<Vec<Hash>> {
    let mut levels = vec![leaves.to_vec()];
    while let Some(last) = levels.last().filter(|last| last.len() >= 256) {
        let next = last.chunks_exact(256).map(|tile| {
            let mut row = tile.to_vec();
            while row.len() > 1 {
                row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
            }
            row[0]
        });
        let next = next.collect();
        levels.push(next);
    }
    levels
}

fn write_tiles(folder: &std::path::Path, levels: &[Vec<Hash>]) {
    for (level, hashes) in levels.iter().enumerate() {
        for (number, tile) in hashes.chunks_exact(256).enumerate() {
            let file = folder.join(path(level, number as u64));
            fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
            fs::write(file, tile.concat()).expect("a file");
        }
    }
}

/// Checks leaves against tiles and a signed root; returns the classes of what is found.
fn found(folder: &std::path::Path, leaves: &[Hash], root: Hash) -> Vec<Class> {
    let (tiles, listing) = Tiles::open(folder).expect("a folder");
    assert!(listing.strange.is_empty());
    let mut tree = Tree::new(tiles);
    let mut findings = Findings::default();
    for hash in leaves {
        tree.push(Leaf { hash: *hash, session: None, spot: spot() }, None);
    }
    let claim = Claim { who: Who::Checkpoint, root, number: 0, spot: None };
    tree.claim(claim, &mut findings);
    tree.finish(&mut findings);
    findings.into_list().iter().map(|finding| finding.class).collect()
}

/// The class of CVE-2026-56865: an entry and its level-0 hash are forged together. The size 0
/// has no entry to forge.
#[test]
fn an_entry_forged_together_with_its_tile_is_found_at_every_size() {
    let all: Vec<Hash> = (0..70_000u64).map(|index| leaf_hash(&index.to_be_bytes())).collect();
    let mut edge = Edge::default();
    let mut sizes: Vec<usize> = (1..=2000).collect();
    sizes.extend([65_535, 65_536, 65_537, 65_792, 70_000]);
    for size in sizes {
        while edge.size() < size as u64 {
            edge.push(all[edge.size() as usize]);
        }
        let full = size / 256 * 256;
        // Around boundaries more than one place is tried.
        let plain = size > 300 && size % 256 > 2 && size % 97 != 0;
        let last = [0, size / 2, full.saturating_sub(1), size - 1];
        let places = match (plain, size < 60_000) {
            (true, true) => &last[1..2],
            (_, false) => &last[1..3],
            (false, true) => &last[..],
        };
        let folder = tempfile::tempdir().expect("a folder");
        let mut levels = levels(&all[..size]);
        write_tiles(folder.path(), &levels);
        assert_eq!(found(folder.path(), &all[..size], edge.root()), [], "size {size}");
        for &index in places {
            let mut leaves = all[..size].to_vec();
            leaves[index] = leaf_hash(b"forged");
            let kept = std::mem::replace(&mut levels[0][index], leaves[index]);
            write_tiles(folder.path(), &levels[..1]);
            let classes = found(folder.path(), &leaves, edge.root());
            assert!(classes.contains(&Class::RootMismatch), "size {size}, record {index}");
            // Only the tile is forged: the records hold.
            if index < full {
                let classes = found(folder.path(), &all[..size], edge.root());
                assert_eq!(classes, [Class::TileAltered], "size {size}, record {index}");
            }
            levels[0][index] = kept;
            write_tiles(folder.path(), &levels[..1]);
            // Only the entry is forged: it is named, where a tile holds its hash.
            let classes = found(folder.path(), &leaves, edge.root());
            let expected = if index < full { Class::EntryAltered } else { Class::RootMismatch };
            assert_eq!(classes, [expected], "size {size}, record {index}");
        }
    }
}

#[test]
fn hashes_of_higher_levels_are_compared_too() {
    let all: Vec<Hash> = (0..65_536u64).map(|index| leaf_hash(&index.to_be_bytes())).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let mut levels = levels(&all);
    let root = levels[2][0];
    write_tiles(folder.path(), &levels);
    assert_eq!(found(folder.path(), &all, root), []);
    levels[1][77][5] ^= 1;
    write_tiles(folder.path(), &levels);
    assert_eq!(found(folder.path(), &all, root), [Class::TileAltered]);
}

/// A bit in each byte of a tile, at another place each time.
#[test]
fn no_flipped_bit_of_a_tile_passes() {
    let all: Vec<Hash> = (0..256u64).map(|index| leaf_hash(&index.to_be_bytes())).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let levels = levels(&all);
    write_tiles(folder.path(), &levels);
    assert_eq!(found(folder.path(), &all, levels[1][0]), []);
    let file = folder.path().join(path(0, 0));
    let mut bytes = fs::read(&file).expect("a tile");
    assert_eq!(bytes.len(), 8192);
    for at in 0..bytes.len() {
        let bit = 1 << (at % 8);
        bytes[at] ^= bit;
        fs::write(&file, &bytes).expect("written");
        bytes[at] ^= bit;
        assert_eq!(found(folder.path(), &all, levels[1][0]), [Class::TileAltered], "byte {at}");
    }
}
