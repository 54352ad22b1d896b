//! A log that signs what a test wants signed.

use std::sync::Arc;

use anyhow::Context;
use pgward::audit::anchors::{Checkpoint, ProofSource, Question};
use pgward_tests::witness::note::{Signer, checkpoint};
use pgward_tests::witness::tree::{self, Hash};

use crate::Result;

pub(crate) const HOST: &str = "pgward/6f1c0000-0000-4000-8000-000000000001";

/// A log of numbered entries. Two of the same branch agree on all they have.
#[derive(Clone)]
pub(crate) struct Log {
    leaves: Arc<Vec<Hash>>,
    seed: u8,
    epoch: u64,
}

impl Log {
    /// As many entries as a test may ask for. From entry `branch` on, those of another `seed` differ.
    pub(crate) fn new(entries: u64, branch: u64, seed: u8) -> Self {
        let leaf = |n: u64| {
            let from = if n < branch { 0 } else { seed };
            tree::leaf(&[&n.to_be_bytes()[..], &[from]].concat())
        };
        Self { leaves: Arc::new((0..entries).map(leaf).collect()), seed: 1, epoch: 1 }
    }

    /// Signed with another key.
    pub(crate) fn of_another_key(&self) -> Self {
        Self { seed: 2, ..self.clone() }
    }

    /// The same in another epoch.
    pub(crate) fn in_epoch(&self, epoch: u64) -> Self {
        Self { epoch, ..self.clone() }
    }

    pub(crate) fn origin(&self) -> String {
        format!("{HOST}/{}", self.epoch)
    }

    pub(crate) fn public(&self) -> Result<Vec<u8>> {
        Ok(self.signer()?.public())
    }

    pub(crate) fn root(&self, size: u64) -> Hash {
        tree::root(&self.leaves[..size as usize])
    }

    /// The signed checkpoint of a size.
    pub(crate) fn at(&self, size: u64) -> Result<Checkpoint> {
        let body = checkpoint(&self.origin(), size, &self.root(size));
        Checkpoint::parse(&self.signer()?.note(&body)).context("a checkpoint")
    }

    /// What an agent asks at start that knows the checkpoint of a size.
    pub(crate) fn question(&self, size: u64) -> Result<Question> {
        Ok(Question { host: HOST.to_owned(), epoch: self.epoch, newest: Some(self.at(size)?) })
    }

    fn signer(&self) -> Result<Signer> {
        Signer::new(&self.origin(), &[self.seed; 32])
    }
}

impl ProofSource for Log {
    fn consistency(&self, from: u64, to: u64) -> Option<Vec<Hash>> {
        let leaves = self.leaves.get(..to as usize)?;
        (0 < from && from < to).then(|| tree::consistency(from as usize, leaves))
    }
}
