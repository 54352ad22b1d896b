//! A map that forgets what was used least recently.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most `entries_max` entries; an insertion into a full map drops the one used longest ago.
///
/// Invariant: `order` holds exactly one stamp per key of `entries`, and stamps only grow.
pub(super) struct Lru<K, V> {
    entries: HashMap<K, (V, u64)>,
    order: BTreeMap<u64, K>,
    stamp: u64,
    entries_max: usize,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    /// An empty map. A limit of zero counts as one, so that what was just inserted is there.
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            stamp: 0,
            entries_max: entries_max.max(1),
        }
    }

    /// The value of `key`, which is the most recently used from here on.
    pub(super) fn touch(&mut self, key: &K) -> Option<&mut V> {
        let (value, stamp) = self.entries.get_mut(key)?;
        self.order.remove(stamp);
        self.stamp += 1;
        *stamp = self.stamp;
        self.order.insert(self.stamp, key.clone());
        Some(value)
    }

    /// Puts `value` in place of what `key` had.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.stamp += 1;
        let replaced = self.entries.insert(key.clone(), (value, self.stamp));
        if let Some((_, stamp)) = replaced {
            self.order.remove(&stamp);
        }
        self.order.insert(self.stamp, key);
        while self.entries.len() > self.entries_max {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lru;

    #[test]
    fn drops_what_was_used_longest_ago() {
        let mut lru = Lru::new(2);
        lru.insert("a", 1);
        lru.insert("b", 2);
        assert_eq!(lru.touch(&"a").copied(), Some(1));
        lru.insert("c", 3);
        assert_eq!(lru.touch(&"b").copied(), None, "b was used before a");
        assert_eq!(lru.touch(&"a").copied(), Some(1));
        assert_eq!(lru.touch(&"c").copied(), Some(3));
    }

    #[test]
    fn replacing_keeps_one_stamp_per_key() {
        let mut lru = Lru::new(2);
        for round in 0..100 {
            lru.insert("a", round);
            lru.insert("b", round);
        }
        assert_eq!((lru.entries.len(), lru.order.len()), (2, 2));
        assert_eq!(lru.touch(&"a").copied(), Some(99));
    }

    #[test]
    fn a_limit_of_zero_holds_one() {
        let mut lru = Lru::new(0);
        lru.insert(1, 1);
        lru.insert(2, 2);
        assert_eq!((lru.touch(&1).copied(), lru.touch(&2).copied()), (None, Some(2)));
    }
}
