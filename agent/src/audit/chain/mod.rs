//! The log's Merkle tree: hashes, proofs, tiles, signed notes, seals. Pure: bytes and times come in,
//! bytes go out; no file, clock, thread or random number is touched here.
//!
//! * [`Tree`] holds the right edge of the tree (RFC 6962, section 2.1) and gives its root. The
//!   thread that commits records drives it.
//! * [`Tiles`] makes the files of the tree (C2SP tlog-tiles) from leaf hashes, away from that thread.
//! * [`Prover`] makes inclusion and consistency proofs, and proofs for many entries at once, from
//!   tiles.
//! * [`Checkpoint`] is the state of a log as a signed note (C2SP tlog-checkpoint).
//! * [`Seals`] makes the seals of a run. Keys stay with who implements [`Signer`] and [`SealKeys`].
//!
//! An entry `e` is the leaf `SHA-256(0x00 ‖ e)`, a node `SHA-256(0x01 ‖ left ‖ right)`: so neither
//! can be taken for the other. The empty tree has the root `SHA-256("")`.

mod note;
mod proof;
mod seal;
mod tiles;
mod tree;

#[cfg(test)]
mod note_tests;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod proof_tests;
#[cfg(test)]
mod seal_tests;

use aws_lc_rs::digest;

pub use note::{
    Checkpoint, ED25519, EPOCH_MAX, FLEET_BYTES_MAX, Origin, OriginError, Signature, Signer,
    is_fleet, is_uuid, key_id, vkey,
};
pub use proof::{ProofError, Prover};
pub use seal::{Ending, LastSeal, Seal, SealError, SealKeys, SealKind, Seals};
pub use tiles::{
    TILE_BYTES, TILE_HASHES, Tile, TileError, TileSource, Tiles, WithEdge, number_path, tile_path,
};
pub use tree::{EdgeError, Tree};

/// SHA-256 of a leaf, a node, or a whole tree.
pub type Hash = [u8; 32];

/// The leaf hash of an entry's bytes.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[0]);
    context.update(entry);
    sha256_bytes(&context.finish())
}

/// The hash of a node over its two children.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    sha256(&bytes)
}

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    sha256_bytes(&digest::digest(&digest::SHA256, bytes))
}

fn sha256_bytes(digest: &digest::Digest) -> Hash {
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The root of a perfect subtree, given the hashes of one of its levels. Their number is a power of
/// two.
fn perfect_root(hashes: &[Hash]) -> Hash {
    debug_assert!(hashes.len().is_power_of_two(), "a perfect subtree has 2^k hashes on a level");
    let mut tree = Tree::new();
    for hash in hashes {
        tree.append(*hash);
    }
    tree.root()
}
