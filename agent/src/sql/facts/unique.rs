//! A list that holds nothing twice.

use std::collections::HashSet;
use std::hash::Hash;

/// Longer lists are searched by hash, so that a hostile text can't make the search the cost.
const SEARCHED_MAX: usize = 48;

/// Items in the order of their first addition.
#[derive(Debug)]
pub(super) struct Unique<T> {
    items: Vec<T>,
    seen: HashSet<T>,
}

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self { items: Vec::new(), seen: HashSet::new() }
    }
}

impl<T: Clone + Eq + Hash> Unique<T> {
    /// Adds what is not there yet.
    pub(super) fn add(&mut self, item: T) {
        if self.items.len() < SEARCHED_MAX {
            if self.items.contains(&item) {
                return;
            }
        } else {
            if self.seen.is_empty() {
                self.seen.extend(self.items.iter().cloned());
            }
            if !self.seen.insert(item.clone()) {
                return;
            }
        }
        self.items.push(item);
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn from(&self, start: usize) -> &[T] {
        &self.items[start..]
    }

    /// Forgets what was added behind the first `length`.
    pub(super) fn truncate(&mut self, length: usize) {
        self.items.truncate(length);
        self.seen.clear();
    }

    pub(super) fn into_vec(self) -> Vec<T> {
        self.items
    }
}
