//! The difference of two sorted tables.

use std::{cmp::Ordering, collections::BTreeMap};

/// What changes in one table. Each list is sorted by key.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes<K, V> {
    /// Entries of the new table only.
    pub added: Vec<(K, V)>,
    /// Entries of both whose values differ.
    pub changed: Vec<Changed<K, V>>,
    /// Entries of the old table only.
    pub removed: Vec<(K, V)>,
}

/// An entry whose value changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed<K, V> {
    /// Its key.
    pub key: K,
    /// The old value.
    pub from: V,
    /// The new value.
    pub to: V,
}

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self { added: Vec::new(), changed: Vec::new(), removed: Vec::new() }
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> Changes<K, V> {
    /// The difference of two tables, each sorted by key and free of duplicates.
    pub fn between<'a>(
        old: impl IntoIterator<Item = (&'a K, &'a V)>,
        new: impl IntoIterator<Item = (&'a K, &'a V)>,
    ) -> Self
    where
        K: 'a,
        V: 'a,
    {
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        let owned = |(key, value): (&K, &V)| (key.clone(), value.clone());
        let mut changes = Self::default();
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some((old_key, _)), Some((new_key, _))) => old_key.cmp(new_key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return changes,
            };
            match order {
                Ordering::Less => changes.removed.extend(old.next().map(owned)),
                Ordering::Greater => changes.added.extend(new.next().map(owned)),
                Ordering::Equal => {
                    if let (Some((key, from)), Some((_, to))) = (old.next(), new.next())
                        && from != to
                    {
                        changes.changed.push(Changed { key: key.clone(), from: from.clone(), to: to.clone() });
                    }
                }
            }
        }
    }

    /// Every key that is added, changed or removed.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        let whole = self.added.iter().chain(&self.removed).map(|(key, _)| key);
        whole.chain(self.changed.iter().map(|changed| &changed.key))
    }

    /// How many entries are added, changed or removed.
    pub fn len(&self) -> usize {
        self.added.len() + self.changed.len() + self.removed.len()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The old table with the changes made, sorted by key.
    pub(super) fn apply(&self, table: impl IntoIterator<Item = (K, V)>) -> impl Iterator<Item = (K, V)> {
        let mut table: BTreeMap<K, V> = table.into_iter().collect();
        for (key, _) in &self.removed {
            table.remove(key);
        }
        table.extend(self.changed.iter().map(|changed| (changed.key.clone(), changed.to.clone())));
        table.extend(self.added.iter().cloned());
        table.into_iter()
    }
}
