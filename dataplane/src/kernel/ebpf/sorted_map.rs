//! A map for few entries, of which there are many maps.
//!
//! A `BTreeMap` takes room for eleven entries for its first; most Service ports have one frontend and a few endpoints. This
//! one takes what it holds, and keeps it sorted: for a Service with thousands of endpoints looking up stays cheap, and
//! adding one by one costs moving what is behind it.

/// Sorted by key, each key once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SortedMap<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| known.cmp(key))
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.place(key).ok().and_then(|place| self.entries.get(place)).map(|(_, value)| value)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    /// In place of what the key had.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.place(&key) {
            Ok(place) => {
                if let Some(entry) = self.entries.get_mut(place) {
                    entry.1 = value;
                }
            }
            Err(place) => {
                // Most have one entry; those with many grow by doubling.
                if self.entries.len() < 4 {
                    self.entries.reserve_exact(1);
                }
                self.entries.insert(place, (key, value));
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.place(key).ok().map(|place| self.entries.remove(place).1)
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&K, &V) -> bool) {
        self.entries.retain(|(key, value)| stays(key, value));
        if self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to_fit();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.iter().map(|(key, _)| key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    /// The last of those with the same key counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries: Vec<(K, V)> = entries.into_iter().collect();
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        entries.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        entries.shrink_to_fit();
        Self { entries }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::SortedMap;

    #[test]
    fn it_holds_what_a_tree_holds() {
        let (mut map, mut tree) = (SortedMap::default(), BTreeMap::new());
        for step in 0..2000_u32 {
            let key = step.wrapping_mul(2_654_435_761) % 97;
            if step % 3 == 0 {
                assert_eq!(map.remove(&key), tree.remove(&key));
            } else {
                map.insert(key, step);
                tree.insert(key, step);
            }
            assert_eq!((map.get(&key), map.contains_key(&key)), (tree.get(&key), tree.contains_key(&key)));
            assert_eq!((map.keys().count(), map.is_empty()), (tree.len(), tree.is_empty()));
        }
        assert!(map.iter().eq(tree.iter()) && map.keys().eq(tree.keys()) && map.values().eq(tree.values()));
        map.retain(|key, _| key % 7 == 0);
        tree.retain(|key, _| key % 7 == 0);
        assert!(!tree.is_empty() && map.iter().eq(tree.iter()));
    }

    #[test]
    fn of_entries_with_the_same_key_the_last_counts() {
        let map: SortedMap<_, _> = [(2, 'a'), (1, 'b'), (2, 'c'), (2, 'd')].into_iter().collect();
        assert!(map.iter().eq([(&1, &'b'), (&2, &'d')]));
    }

    #[test]
    fn it_takes_little_more_than_it_holds() {
        let mut map: SortedMap<u64, u64> = SortedMap::default();
        map.insert(1, 1);
        map.insert(2, 2);
        assert_eq!(map.entries.capacity(), 2);
        (0..1000).for_each(|key| map.insert(key, key));
        map.retain(|key, _| *key < 2);
        assert!(map.entries.capacity() < 100, "{}", map.entries.capacity());
    }
}
