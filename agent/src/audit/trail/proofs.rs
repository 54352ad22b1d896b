//! Proofs about the log while it is written: from its tiles, and from the entries that no tile
//! holds yet.

use std::path::{Path, PathBuf};

use pgward_verify::store::Epoch;

use crate::audit::anchors::ProofSource;
use crate::audit::chain::{Hash, Prover, TILE_HASHES, Tiles, leaf_hash};
use crate::audit::keys::Folder;
use crate::audit::tile_files::TileFolder;

/// Makes proofs about one epoch from its folder.
#[derive(Debug)]
pub struct Proofs {
    folder: PathBuf,
    epoch: u64,
}

impl Proofs {
    /// About the epoch in a trail's folder.
    pub fn new(directory: &Path, epoch: u64) -> Self {
        Self { folder: directory.join(format!("epoch-{epoch}")), epoch }
    }

    /// The root at an earlier size. `None` when it cannot be told.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        self.at(size, |prover| prover.root().ok())
    }

    /// Proof that entries are in the tree of `size`, for all of them at once; `indices` ascend.
    pub fn inclusion_of_all(&self, indices: &[u64], size: u64) -> Option<Vec<Hash>> {
        self.at(size, |prover| prover.inclusion_of_all(indices).ok())
    }

    fn at<T>(
        &self,
        size: u64,
        ask: impl FnOnce(&mut Prover<'_, crate::audit::chain::WithEdge<'_, TileFolder>>) -> Option<T>,
    ) -> Option<T> {
        let stored = TileFolder::new(Folder::open(&self.folder).ok()?);
        let full = stored.stored(size / TILE_HASHES as u64);
        let mut tiles = Tiles::resume(full, &stored).ok()?;
        let epoch = Epoch::open(self.folder.clone(), self.epoch).ok()?;
        let mut entries = epoch.entries_from(tiles.size());
        while tiles.size() < size {
            let record = entries.next().ok()??;
            if record.index != tiles.size() {
                return None;
            }
            tiles.append(leaf_hash(record.bytes));
        }
        let source = tiles.with(&stored);
        ask(&mut Prover::new(&source, size))
    }
}

impl ProofSource for Proofs {
    fn consistency(&self, from: u64, to: u64) -> Option<Vec<[u8; 32]>> {
        self.at(to, |prover| prover.consistency(from).ok())
    }
}
