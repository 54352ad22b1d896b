//! Texts of a session that were looked at, and those that were recorded already: a later record refers to the one that holds
//! the text.

use std::collections::HashMap;
use std::sync::Arc;

use crate::audit::values::Text;

/// Texts whose place is remembered for each session; when it is reached all are forgotten, and recorded anew.
const PLACES_MAX: usize = 256;
/// Shorter texts cost less than what remembers them.
const TEXT_BYTES_MIN: usize = 12;
/// Prepared texts that are not looked at again for each execution.
const LOOKED_AT_MAX: usize = 32;
/// Longest of them, in bytes: what is remembered is kept in memory.
const LOOKED_AT_BYTES_MAX: usize = 8 << 10;

/// What a session remembers of its texts.
#[derive(Default)]
pub(super) struct Texts {
    /// `seq` of the record that shows a text, by [`Text::key`].
    places: HashMap<[u8; 32], u64>,
    /// By the shared text that the protocol core keeps of a prepared statement; newest last. Holding on to it keeps another
    /// text from getting its address.
    looked_at: Vec<(Arc<[u8]>, Arc<Text>)>,
}

impl Texts {
    /// Looks at a text, unless it was looked at before.
    pub(super) fn look(&mut self, text: &Arc<[u8]>, look: impl FnOnce() -> Text) -> Arc<Text> {
        if let Some((_, known)) = self.looked_at.iter().find(|(same, _)| Arc::ptr_eq(same, text)) {
            return known.clone();
        }
        let new = Arc::new(look());
        // Nobody else holds the text of a simple query: it does not come again.
        if Arc::strong_count(text) > 2 && text.len() <= LOOKED_AT_BYTES_MAX {
            if self.looked_at.len() >= LOOKED_AT_MAX {
                self.looked_at.remove(0);
            }
            self.looked_at.push((text.clone(), new.clone()));
        }
        new
    }

    /// The record that shows the same.
    pub(super) fn place(&self, text: &Text) -> Option<u64> {
        self.places.get(text.key()).copied()
    }

    /// The record with `seq` shows it.
    pub(super) fn note(&mut self, text: &Text, seq: u64) {
        if text.shown().len() < TEXT_BYTES_MIN {
            return;
        }
        if self.places.len() >= PLACES_MAX {
            self.places.clear();
        }
        self.places.insert(*text.key(), seq);
    }
}
