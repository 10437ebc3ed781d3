//! Which records of the journal hold the receipt of a request.
//!
//! There are many, and each is kept for days, so an entry is small: 48 bytes, and five to eleven to find it by its request. Whose it is
//! stands in the record.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;
use store::RecordId;
use types::{RequestId, TimeMs};

/// Receipts that can be looked up; the oldest are forgotten first. About 60 MB.
const ENTRIES_MAX: usize = 1_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct Index {
    /// The oldest first. They are numbered on; a number comes again when all others have been.
    entries: VecDeque<Entry>,
    /// The number of the first of them.
    first: u32,
    /// The numbers of the newest entries, by their requests.
    newest: HashTable<u32>,
    /// The records of parts that another provider went on with, where there are any.
    earlier: HashMap<RequestId, Vec<RecordId>>,
    /// Callers may choose ids.
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Entry {
    request: RequestId,
    record: RecordId,
    ended_at: TimeMs,
    /// Whether it gave the client something.
    answered: bool,
}

impl Index {
    /// How an attempt at `request` ended.
    pub(super) fn add(
        &mut self,
        request: RequestId,
        record: RecordId,
        ended_at: TimeMs,
        answered: bool,
    ) {
        let known = self.number(&request);
        let given = known.and_then(|known| self.at(known)).filter(|known| known.answered);
        if let Some(given) = given.copied() {
            if !answered {
                // An attempt that gave nothing leaves what the client got.
                return;
            }
            self.earlier.entry(request).or_default().push(given.record);
        }
        let number = self.first.wrapping_add(u32::try_from(self.entries.len()).unwrap_or_default());
        self.entries.push_back(Entry { request, record, ended_at, answered });
        let Index { entries, first, newest, hasher, .. } = self;
        let hash = hasher.hash_one(request);
        match newest.find_mut(hash, |newest| Some(*newest) == known) {
            Some(newest) => *newest = number,
            None => {
                let hash_of = |number: &u32| {
                    let entry = entries.get(number.wrapping_sub(*first) as usize);
                    entry.map_or(0, |entry| hasher.hash_one(entry.request))
                };
                newest.insert_unique(hash, number, hash_of);
            }
        }
        if self.entries.len() > ENTRIES_MAX {
            self.forget_oldest();
        }
    }

    pub(super) fn contains(&self, request: &RequestId) -> bool {
        self.number(request).is_some()
    }

    /// The records of all parts of an answer, the first first.
    pub(super) fn records(&self, request: &RequestId) -> Option<Vec<RecordId>> {
        let last = self.at(self.number(request)?)?.record;
        let mut records = self.earlier.get(request).cloned().unwrap_or_default();
        records.push(last);
        Some(records)
    }

    /// The requests that gave something and ended at `from` or later, and before `to`, by age.
    pub(super) fn ended_between(&self, from: TimeMs, to: TimeMs) -> Vec<RequestId> {
        let numbered = self.entries.iter().zip(0_u32..);
        let within = numbered.filter(|(entry, place)| {
            entry.answered
                && (from..to).contains(&entry.ended_at)
                && self.number(&entry.request) == Some(self.first.wrapping_add(*place))
        });
        within.map(|(entry, _)| entry.request).collect()
    }

    /// Forgets the oldest as long as they ended before `before`.
    pub(super) fn forget(&mut self, before: TimeMs) {
        while self.entries.front().is_some_and(|oldest| oldest.ended_at < before) {
            self.forget_oldest();
        }
    }

    /// Forgets an entry; its request too, unless there is a later part of it.
    fn forget_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        let number = self.first;
        self.first = number.wrapping_add(1);
        let hash = self.hasher.hash_one(oldest.request);
        if let Ok(newest) = self.newest.find_entry(hash, |newest| *newest == number) {
            newest.remove();
            self.earlier.remove(&oldest.request);
        }
    }

    fn at(&self, number: u32) -> Option<&Entry> {
        self.entries.get(number.wrapping_sub(self.first) as usize)
    }

    fn number(&self, request: &RequestId) -> Option<u32> {
        let is_it = |number: &u32| self.at(*number).is_some_and(|it| it.request == *request);
        self.newest.find(self.hasher.hash_one(request), is_it).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use store::{Journal, JournalConfig};

    use super::*;

    /// Places in a journal, in order.
    fn records(count: usize) -> Vec<RecordId> {
        let folder = tempfile::tempdir().unwrap();
        let config = JournalConfig { folder: folder.path().to_owned() };
        let journal = Journal::open(&config, |_, _| {}).unwrap();
        (0..count).map(|_| journal.append(b"record").unwrap()).collect()
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 48);
    }

    /// What the index is to be, without regard to memory: of each request the parts that count, the last of them last.
    type Parts = BTreeMap<RequestId, Vec<(RecordId, TimeMs, bool)>>;

    fn add(known: &mut Parts, request: RequestId, part: (RecordId, TimeMs, bool)) {
        let parts = known.entry(request).or_default();
        match (parts.last(), part.2) {
            (Some((_, _, true)), false) => {}
            (Some((_, _, false)), _) => *parts = vec![part],
            (Some((_, _, true)) | None, _) => parts.push(part),
        }
    }

    proptest! {
        #[test]
        fn any_order_of_attempts_and_forgetting_leaves_what_plain_lists_have(
            steps in prop::collection::vec((0u8..6, any::<bool>(), 0u8..8), 0..60),
        ) {
            let places = records(steps.len());
            let mut index = Index { first: u32::MAX - 7, ..Index::default() };
            let mut plain = Parts::new();
            for (step, ((request, answered, forgets), record)) in (0..).zip(steps.iter().zip(places)) {
                let (request, ended_at) = (RequestId([*request; 16]), TimeMs(step));
                index.add(request, record, ended_at, *answered);
                add(&mut plain, request, (record, ended_at, *answered));
                if *forgets == 0 {
                    let before = TimeMs(step / 2);
                    index.forget(before);
                    plain.retain(|_, parts| parts.last().is_some_and(|last| last.1 >= before));
                }
                for id in 0..6 {
                    let id = RequestId([id; 16]);
                    let parts = plain.get(&id);
                    let records = parts.map(|it| it.iter().map(|part| part.0).collect::<Vec<_>>());
                    prop_assert_eq!(index.contains(&id), parts.is_some());
                    prop_assert_eq!(index.records(&id), records);
                }
                let given = plain.iter().filter_map(|(id, parts)| Some((parts.last()?, *id)));
                let given = given.filter(|((_, ended_at, answered), _)| *answered && ended_at.0 >= 3);
                let mut given: Vec<_> = given.map(|((_, ended_at, _), id)| (*ended_at, id)).collect();
                given.sort_unstable();
                let given: Vec<RequestId> = given.into_iter().map(|(_, id)| id).collect();
                prop_assert_eq!(index.ended_between(TimeMs(3), TimeMs(1_000)), given);
            }
        }
    }
}
