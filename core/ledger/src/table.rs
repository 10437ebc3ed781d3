//! Key-value tables and single values that remember how to go back.
//!
//! Every write leaves the value before it in an undo journal. A mark is a length of that journal:
//! rolling back to it undoes what came later. So a failed transaction is undone inside a block, and
//! a whole open block is undone by rolling back to the start. Committing forgets the journal.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::RangeBounds,
};

use borsh::{BorshDeserialize, BorshSerialize, io};
use types::{
    Hash32, sha256,
    state::{TableId, path},
};

use crate::tree::LeafChange;

/// What the state does with all its tables alike.
pub(crate) trait Journal {
    /// The present point, to which [`Journal::rollback_to`] returns.
    fn mark(&self) -> usize;
    /// Undoes every write since `mark`.
    fn rollback_to(&mut self, mark: usize);
    /// Keeps every write and forgets how to undo it.
    fn commit(&mut self);
}

/// What stands in the state tree.
pub(crate) trait Entries {
    /// Appends what differs from the last commit.
    fn changes(&self, table: TableId, changes: &mut Vec<LeafChange>);
    /// Appends every entry.
    fn leaves(&self, table: TableId, leaves: &mut Vec<LeafChange>);
}

/// An ordered map with an undo journal.
#[derive(Clone, Debug)]
pub(crate) struct Table<K, V> {
    entries: BTreeMap<K, V>,
    /// Each write's key and the value before it, oldest first.
    undo: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Table<K, V> {
        Table { entries: BTreeMap::new(), undo: Vec::new() }
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        let before = self.entries.insert(key.clone(), value);
        self.undo.push((key, before));
    }

    /// Removing what is not there leaves no trace.
    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(before) = self.entries.remove(key) {
            self.undo.push((key.clone(), Some(before)));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// Entries whose key is not below `from`, in order.
    pub(crate) fn iter_from(&self, from: K) -> impl Iterator<Item = (&K, &V)> {
        self.entries.range(from..)
    }

    pub(crate) fn first(&self) -> Option<(&K, &V)> {
        self.entries.first_key_value()
    }

    /// Entries with a key in `range`, in order.
    pub(crate) fn range(
        &self,
        range: impl RangeBounds<K>,
    ) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.entries.range(range)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether both have the same entries.
    pub(crate) fn equals(&self, other: &Table<K, V>) -> bool
    where
        V: PartialEq,
    {
        self.entries == other.entries
    }

    /// Forgets everything, the way back included.
    pub(crate) fn reset(&mut self) {
        *self = Table::default();
    }
}

impl<K: Ord + Clone, V: Clone + Default + PartialEq> Table<K, V> {
    /// Changes an entry in one search, for a table in which no entry and the default value are the
    /// same. On an error nothing happens.
    pub(crate) fn change<E>(
        &mut self,
        key: K,
        change: impl FnOnce(&mut V) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.entries.entry(key) {
            Entry::Occupied(mut entry) => {
                let mut after = entry.get().clone();
                change(&mut after)?;
                let key = entry.key().clone();
                let is_gone = after == V::default();
                let before = if is_gone { entry.remove() } else { entry.insert(after) };
                self.undo.push((key, Some(before)));
            }
            Entry::Vacant(entry) => {
                let mut after = V::default();
                change(&mut after)?;
                if after != V::default() {
                    self.undo.push((entry.key().clone(), None));
                    entry.insert(after);
                }
            }
        }
        Ok(())
    }
}

impl<K: Ord + Clone, V> Journal for Table<K, V> {
    fn mark(&self) -> usize {
        self.undo.len()
    }

    fn rollback_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some((key, Some(before))) => drop(self.entries.insert(key, before)),
                Some((key, None)) => drop(self.entries.remove(&key)),
                None => return,
            }
        }
    }

    fn commit(&mut self) {
        self.undo.clear();
    }
}

impl<K, V> Entries for Table<K, V>
where
    K: Ord + BorshSerialize,
    V: PartialEq + BorshSerialize,
{
    fn changes(&self, table: TableId, changes: &mut Vec<LeafChange>) {
        // The oldest write of a key holds its value at the last commit.
        let mut oldest: Vec<&(K, Option<V>)> = self.undo.iter().collect();
        oldest.sort_by(|(left, _), (right, _)| left.cmp(right));
        oldest.dedup_by(|(later, _), (earlier, _)| later == earlier);
        let mut buffer = Vec::new();
        for (key, before) in oldest {
            let after = self.entries.get(key);
            if after != before.as_ref() {
                let path = path(table, written(key, &mut buffer));
                let after = after.map(|after| sha256(&[written(after, &mut buffer)]));
                changes.push((path, after));
            }
        }
    }

    fn leaves(&self, table: TableId, leaves: &mut Vec<LeafChange>) {
        let mut buffer = Vec::new();
        for (key, value) in &self.entries {
            let path = path(table, written(key, &mut buffer));
            leaves.push((path, Some(sha256(&[written(value, &mut buffer)]))));
        }
    }
}

impl<K: BorshSerialize, V: BorshSerialize> BorshSerialize for Table<K, V> {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        let len = u64::try_from(self.entries.len()).map_err(io::Error::other)?;
        len.serialize(writer)?;
        self.entries.iter().try_for_each(|entry| entry.serialize(writer))
    }
}

impl<K: Ord + BorshDeserialize, V: BorshDeserialize> BorshDeserialize for Table<K, V> {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Table<K, V>> {
        let mut table = Table::default();
        for _ in 0..u64::deserialize_reader(reader)? {
            let (key, value) = <(K, V)>::deserialize_reader(reader)?;
            if table.entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "keys are out of order"));
            }
            table.entries.insert(key, value);
        }
        Ok(table)
    }
}

/// A single value with an undo journal.
#[derive(Clone, Debug)]
pub(crate) struct Cell<V> {
    value: V,
    undo: Vec<V>,
}

impl<V> Cell<V> {
    pub(crate) fn new(value: V) -> Cell<V> {
        Cell { value, undo: Vec::new() }
    }

    pub(crate) fn get(&self) -> &V {
        &self.value
    }

    pub(crate) fn set(&mut self, value: V) {
        self.undo.push(std::mem::replace(&mut self.value, value));
    }
}

impl<V> Journal for Cell<V> {
    fn mark(&self) -> usize {
        self.undo.len()
    }

    fn rollback_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some(before) => self.value = before,
                None => return,
            }
        }
    }

    fn commit(&mut self) {
        self.undo.clear();
    }
}

impl<V: PartialEq + BorshSerialize> Entries for Cell<V> {
    fn changes(&self, table: TableId, changes: &mut Vec<LeafChange>) {
        if self.undo.first().is_some_and(|before| *before != self.value) {
            self.leaves(table, changes);
        }
    }

    fn leaves(&self, table: TableId, leaves: &mut Vec<LeafChange>) {
        leaves.push((path(table, &[]), Some(digest(&self.value))));
    }
}

impl<V: BorshSerialize> BorshSerialize for Cell<V> {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        self.value.serialize(writer)
    }
}

impl<V: BorshDeserialize> BorshDeserialize for Cell<V> {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Cell<V>> {
        V::deserialize_reader(reader).map(Cell::new)
    }
}

/// Canonical bytes.
pub(crate) fn bytes<T: BorshSerialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    written(value, &mut bytes);
    bytes
}

/// Canonical bytes, in place of what is in `buffer`. Writing to memory cannot fail; if it did,
/// digests would be of nothing.
fn written<'a, T: BorshSerialize>(value: &T, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    buffer.clear();
    let written = value.serialize(buffer);
    assert!(written.is_ok(), "a value has no canonical form");
    buffer
}

/// What a leaf of the state tree commits to.
fn digest<T: BorshSerialize>(value: &T) -> Hash32 {
    sha256(&[&bytes(value)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changes<J: Entries>(journal: &J) -> Vec<LeafChange> {
        let mut changes = Vec::new();
        journal.changes(TableId::Lanes, &mut changes);
        changes.sort();
        changes
    }

    fn leaves<J: Entries>(journal: &J) -> BTreeMap<Hash32, Option<Hash32>> {
        let mut leaves = Vec::new();
        journal.leaves(TableId::Lanes, &mut leaves);
        leaves.into_iter().collect()
    }

    fn change(key: u8, value: Option<u8>) -> LeafChange {
        (path(TableId::Lanes, &[key]), value.map(|value| digest(&value)))
    }

    #[test]
    fn changes_are_the_difference_to_the_last_commit() {
        let mut table = Table::<u8, u8>::default();
        table.insert(1, 10);
        table.insert(2, 20);
        table.commit();
        table.insert(2, 21);
        table.insert(1, 11);
        table.insert(1, 10);
        table.insert(3, 30);
        table.remove(&3);
        table.remove(&9);
        table.insert(0, 5);
        table.remove(&2);
        let mut expected = [change(0, Some(5)), change(2, None)];
        expected.sort();
        assert_eq!(changes(&table), expected);
        table.commit();
        assert_eq!(changes(&table), []);
    }

    #[test]
    fn a_cell_goes_back_and_reports_only_a_difference() {
        let mut cell = Cell::new(1u8);
        cell.set(2);
        let mark = cell.mark();
        cell.set(3);
        cell.rollback_to(mark);
        assert_eq!(*cell.get(), 2);
        cell.set(1);
        assert_eq!(changes(&cell), []);
        cell.set(7);
        assert_eq!(changes(&cell), [(path(TableId::Lanes, &[]), Some(digest(&7u8)))]);
    }

    #[test]
    fn entries_out_of_order_are_no_table() {
        for keys in [[2u8, 1], [1, 1]] {
            let mut encoded = 2u64.to_le_bytes().to_vec();
            keys.iter().for_each(|key| encoded.extend([*key, 0]));
            assert!(borsh::from_slice::<Table<u8, u8>>(&encoded).is_err(), "{keys:?}");
        }
    }

    proptest! {
        #[test]
        fn a_table_with_rollbacks_equals_copies_kept_aside(
            steps in prop::collection::vec((0u8..6, 0u8..8, any::<u8>()), 0..200)
        ) {
            let mut table = Table::<u8, u8>::default();
            let mut committed = table.entries.clone();
            let mut marked = (table.mark(), table.entries.clone());
            for (step, key, value) in steps {
                match step {
                    0 => table.remove(&key),
                    1 => {
                        table.rollback_to(marked.0);
                        prop_assert_eq!(&table.entries, &marked.1);
                    }
                    2 => marked = (table.mark(), table.entries.clone()),
                    3 if value < 30 => {
                        table.commit();
                        committed = table.entries.clone();
                        marked = (table.mark(), table.entries.clone());
                    }
                    // Zero is no entry; an error is no change.
                    4 if value < 128 => {
                        let before = table.entries.clone();
                        let changed = table.change(key, |entry| {
                            *entry ^= value & 3;
                            if value < 100 { Ok(()) } else { Err(()) }
                        });
                        let mut expected = before;
                        if changed.is_ok() {
                            let after = expected.remove(&key).unwrap_or(0) ^ (value & 3);
                            if after != 0 {
                                expected.insert(key, after);
                            }
                        }
                        prop_assert_eq!(&table.entries, &expected);
                    }
                    _ => table.insert(key, value & 3),
                }
                let mut applied = leaves(&Table { entries: committed.clone(), undo: vec![] });
                for (path, value) in changes(&table) {
                    match value {
                        Some(value) => drop(applied.insert(path, Some(value))),
                        None => drop(applied.remove(&path)),
                    }
                }
                prop_assert_eq!(&applied, &leaves(&table));
            }
            let copy: Table<u8, u8> = borsh::from_slice(&borsh::to_vec(&table).unwrap()).unwrap();
            prop_assert_eq!(&copy.entries, &table.entries);
            table.rollback_to(0);
            prop_assert_eq!(&table.entries, &committed);
        }
    }
}
