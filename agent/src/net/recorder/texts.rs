//! Texts of a session that were recorded already: a later record refers to the one that holds the text.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// Texts remembered for each session; when it is reached all are forgotten, and recorded anew.
const TEXTS_MAX: usize = 256;
/// Shorter texts cost less than the entry that remembers them.
const TEXT_BYTES_MIN: usize = 12;

/// `seq` of the record that holds a text, by the digest of the text.
#[derive(Debug, Default)]
pub(super) struct Texts(HashMap<[u8; 32], u64>);

/// Where a text is, or is to be.
pub(super) enum Place {
    /// In the record with this `seq`.
    Recorded(u64),
    /// Nowhere; to be noted under this key when it is recorded.
    New(Option<[u8; 32]>),
}

impl Texts {
    /// Looks for `text`, of which `full_bytes` is the length of the whole and `facts` is what else must be the same.
    pub(super) fn find(&self, text: &[u8], full_bytes: usize, facts: u8) -> Place {
        if text.len() < TEXT_BYTES_MIN {
            return Place::New(None);
        }
        let mut digest = Sha256::new();
        digest.update([facts]);
        digest.update((full_bytes as u64).to_be_bytes());
        digest.update(text);
        let key = digest.finalize().into();
        match self.0.get(&key) {
            Some(seq) => Place::Recorded(*seq),
            None => Place::New(Some(key)),
        }
    }

    /// The record with `seq` holds the text of `key`.
    pub(super) fn note(&mut self, key: Option<[u8; 32]>, seq: u64) {
        let Some(key) = key else { return };
        if self.0.len() >= TEXTS_MAX {
            self.0.clear();
        }
        self.0.insert(key, seq);
    }
}
