//! Known series: from the bytes of a sender's labels straight to a column, without reading a label.
//!
//! Senders repeat themselves: series come in the order in which they came first. So series are kept in
//! that order, and the one after the last is tried before any table is asked: memory is then read in a
//! row, where a hash table would miss every cache for each series.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rrd::{Column, InstanceId};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::Origin;
use crate::registry::TokenId;

/// Series remembered at most: four million take some 130 MB, forgetting costs a longer look-up.
const CACHE_LIMIT: usize = 4_000_000;

/// The 96-bit hash that stands for one origin's label bytes: that any two of as many series as are
/// remembered have the same is a chance of one in ten thousand million million. The seed is random, so
/// that nobody aims at a collision; who found one by chance would meet only series under the same token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeriesKey([u32; 3]);

/// Where a known series lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) instance: InstanceId,
    pub(crate) column: Column,
}

impl Place {
    /// No place: the operator's rules leave the series out. No instance has this id.
    pub(crate) const LEFT_OUT: Self =
        Self { instance: InstanceId(0), column: Column { index: u32::MAX, generation: u32::MAX } };
}

/// The bounded table of known series.
#[derive(Debug)]
pub(crate) struct SeriesCache {
    seed: u64,
    limit: usize,
    /// Held by a request for as long as it meets known series only, and to remember those of one
    /// instance.
    known: RwLock<Known>,
}

impl SeriesCache {
    /// An empty cache whose hashes follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self::bounded(seed, CACHE_LIMIT)
    }

    fn bounded(seed: u64, limit: usize) -> Self {
        Self { seed, limit, known: RwLock::default() }
    }

    /// A hasher of label bytes of one origin.
    pub(crate) fn keys(&self, origin: Origin) -> Keys {
        let mut bytes = [0_u8; 10];
        bytes[9] = origin.protocol as u8;
        if let Some(TokenId(id)) = origin.relay {
            bytes[0] = 1;
            bytes[1..9].copy_from_slice(&id.to_le_bytes());
        }
        Keys { seed: xxh3_64_with_seed(&bytes, self.seed) }
    }

    /// A reader for the series of one request.
    pub(crate) const fn reader(&self) -> Reader<'_> {
        Reader { cache: self, known: None, expected: 0, passed: 0 }
    }

    /// Remembers series in this order. When full it forgets all it knew: cheaper than keeping an order
    /// of use.
    pub(crate) fn put(&self, series: impl IntoIterator<Item = (SeriesKey, Place)>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (key, place) in series {
            if known.entries.len() >= self.limit {
                *known = Known::default();
            }
            known.put(key, place);
        }
    }

    /// Forgets an instance's series, because some of its columns changed hands.
    pub(crate) fn forget(&self, instance: InstanceId) {
        self.forget_all(&HashSet::from([instance]));
    }

    /// Forgets the series of all these instances in one pass over what is known, which may be
    /// millions: for many at once not on the reactor.
    pub(crate) fn forget_all(&self, gone: &HashSet<InstanceId>) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).forget_all(gone);
    }
}

/// Looks series up for one request. Remembers which one should come next.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    cache: &'a SeriesCache,
    known: Option<RwLockReadGuard<'a, Known>>,
    expected: usize,
    /// Was expected before the last one that was not: a series that came later than its neighbours
    /// stands between them on the wire and behind them here.
    passed: usize,
}

impl Reader<'_> {
    /// Where the series lives. Nobody can remember a series until [`Reader::rest`].
    #[inline]
    pub(crate) fn get(&mut self, key: SeriesKey) -> Option<Place> {
        let cache = self.cache;
        let lock = || cache.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.get_or_insert_with(lock);
        if !known.is_at(self.expected, key) {
            let found =
                if known.is_at(self.passed, key) { self.passed } else { known.find(key)? };
            (self.passed, self.expected) = (self.expected, found);
        }
        let place = known.place(self.expected);
        self.expected += 1;
        Some(place)
    }

    /// Lets go of the table, before anything that takes longer than a look.
    pub(crate) fn rest(&mut self) {
        self.known = None;
    }
}

/// Series in the order they were first met, and a table of their numbers.
#[derive(Debug, Default)]
struct Known {
    entries: Vec<Entry>,
    /// Numbers of entries, each at or after the place that its key names; a power of two of them, or
    /// none.
    table: Vec<u32>,
    instances: Vec<InstanceId>,
    /// Of `instances`, by id.
    numbers: HashMap<InstanceId, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: SeriesKey,
    instance: u32,
    column: Column,
}

const _: () = assert!(size_of::<Entry>() == 24, "eight to three cache lines");

/// No entry has this number: there are fewer.
const VACANT: u32 = u32::MAX;
const LEAST_TABLE: usize = 1024;

impl Known {
    #[inline]
    fn is_at(&self, number: usize, key: SeriesKey) -> bool {
        self.entries.get(number).is_some_and(|entry| entry.key == key)
    }

    #[inline]
    fn place(&self, number: usize) -> Place {
        let Entry { instance, column, .. } = self.entries[number];
        Place { instance: self.instances[instance as usize], column }
    }

    fn find(&self, key: SeriesKey) -> Option<usize> {
        let mut at = self.slot(key)?;
        loop {
            match self.table[at] {
                VACANT => return None,
                number if self.entries[number as usize].key == key => return Some(number as usize),
                _ => at = (at + 1) & (self.table.len() - 1),
            }
        }
    }

    /// Where a search for the key begins.
    fn slot(&self, key: SeriesKey) -> Option<usize> {
        let last = self.table.len().checked_sub(1)?;
        Some(key.0[0] as usize & last)
    }

    fn put(&mut self, key: SeriesKey, place: Place) {
        let instance = self.number(place.instance);
        let entry = Entry { key, instance, column: place.column };
        if let Some(number) = self.find(key) {
            self.entries[number] = entry;
            return;
        }
        self.entries.push(entry);
        // Two thirds full at most, so that searches stay short.
        if self.entries.len() * 3 > self.table.len() * 2 {
            self.rebuild((self.table.len() * 2).max(LEAST_TABLE));
        } else {
            self.enter(self.entries.len() - 1);
        }
    }

    /// Enters an entry into the table, which has room.
    fn enter(&mut self, number: usize) {
        let mut at = self.slot(self.entries[number].key).expect("the table has room");
        while self.table[at] != VACANT {
            at = (at + 1) & (self.table.len() - 1);
        }
        self.table[at] = u32::try_from(number).expect("entries are limited");
    }

    fn rebuild(&mut self, len: usize) {
        self.table.clear();
        self.table.resize(len, VACANT);
        for number in 0..self.entries.len() {
            self.enter(number);
        }
    }

    fn forget_all(&mut self, gone: &HashSet<InstanceId>) {
        if !gone.iter().any(|instance| self.numbers.contains_key(instance)) {
            return;
        }
        // Who stays gets the next number, so that instances that come and go leave nothing behind.
        let former = std::mem::take(&mut self.instances);
        self.numbers.clear();
        let renumbered: Vec<Option<u32>> = former
            .into_iter()
            .map(|instance| (!gone.contains(&instance)).then(|| self.number(instance)))
            .collect();
        self.entries.retain_mut(|entry| {
            let number = renumbered[entry.instance as usize];
            entry.instance = number.unwrap_or(entry.instance);
            number.is_some()
        });
        self.rebuild(self.table.len());
    }

    /// The number of an instance, a new one if it has none.
    fn number(&mut self, instance: InstanceId) -> u32 {
        let next = u32::try_from(self.instances.len()).expect("instances are limited");
        let number = *self.numbers.entry(instance).or_insert(next);
        if number == next {
            self.instances.push(instance);
        }
        number
    }
}

/// Hashes label bytes of one origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    seed: u64,
}

impl Keys {
    /// Keys of the same origin that others do not find: of another edition of its rules.
    pub(crate) fn under(self, edition: u64) -> Self {
        Self { seed: xxh3_64_with_seed(&edition.to_le_bytes(), self.seed) }
    }

    #[inline]
    pub(crate) fn of(self, labels: &[u8]) -> SeriesKey {
        let hash = xxh3_128_with_seed(labels, self.seed).to_le_bytes();
        let part =
            |at: usize| u32::from_le_bytes(*hash[at..].first_chunk().expect("sixteen bytes"));
        SeriesKey([part(0), part(4), part(8)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    fn of(relay: Option<TokenId>) -> Origin {
        Origin { protocol: Protocol::RemoteWrite, relay }
    }

    fn place(index: u32) -> Place {
        Place { instance: InstanceId(1), column: Column { index, generation: 0 } }
    }

    #[test]
    fn the_same_labels_under_two_relays_are_two_series() {
        let cache = SeriesCache::new(7);
        let (one, two) = (cache.keys(of(Some(TokenId(1)))), cache.keys(of(None)));
        cache.put([(one.of(b"labels"), place(5))]);
        assert_eq!(cache.reader().get(one.of(b"labels")), Some(place(5)));
        assert_eq!(cache.reader().get(two.of(b"labels")), None);
    }

    #[test]
    fn series_are_found_in_whatever_order_they_are_asked_for() {
        let cache = SeriesCache::new(7);
        let keys = cache.keys(of(None));
        let key = |number: u32| keys.of(&number.to_le_bytes());
        for first in (0..10_000).step_by(100) {
            cache.put((first..first + 100).map(|number| (key(number), place(number))));
        }
        let mut reader = cache.reader();
        let forwards = 0..10_000;
        let backwards = (0..10_000).rev();
        let scattered = (0..10_000).map(|number| number * 7919 % 10_000);
        let doubled = (0..10_000).flat_map(|number| [number, 9_999 - number]);
        for number in forwards.chain(backwards).chain(scattered).chain(doubled) {
            assert_eq!(reader.get(key(number)), Some(place(number)));
            assert_eq!(reader.get(key(number + 10_000)), None);
        }
    }

    #[test]
    fn a_series_remembered_again_has_moved() {
        let cache = SeriesCache::new(7);
        let key = cache.keys(of(None)).of(b"a");
        cache.put([(key, place(1)), (key, place(2))]);
        assert_eq!(cache.reader().get(key), Some(place(2)));
    }

    #[test]
    fn a_reader_at_rest_lets_others_remember() {
        let cache = SeriesCache::new(7);
        let key = cache.keys(of(None)).of(b"a");
        let mut reader = cache.reader();
        assert_eq!(reader.get(key), None);
        reader.rest();
        cache.put([(key, place(1))]);
        assert_eq!(reader.get(key), Some(place(1)));
    }

    #[test]
    fn it_never_holds_more_than_its_limit() {
        let cache = SeriesCache::bounded(7, 640);
        let keys = cache.keys(of(None));
        for number in 0..10_000_u32 {
            let key = keys.of(&number.to_le_bytes());
            cache.put([(key, place(number))]);
            assert_eq!(cache.reader().get(key), Some(place(number)));
        }
        let held = cache.known.read().unwrap().entries.len();
        assert!(held <= 640 && held > 0, "{held}");
    }

    #[test]
    fn an_instance_can_be_forgotten() {
        let cache = SeriesCache::new(7);
        let keys = cache.keys(of(None));
        let (a, b) = (keys.of(b"a"), keys.of(b"b"));
        let other = Place { instance: InstanceId(2), ..place(2) };
        cache.put([(a, place(1)), (b, other)]);
        cache.forget(InstanceId(1));
        let mut reader = cache.reader();
        assert_eq!((reader.get(a), reader.get(b)), (None, Some(other)));
    }

    #[test]
    fn many_instances_are_forgotten_at_once_and_leave_nothing_behind() {
        let cache = SeriesCache::new(7);
        let keys = cache.keys(of(None));
        let key = |number: u32| keys.of(&number.to_le_bytes());
        let at =
            |number: u32| Place { instance: InstanceId(u128::from(number % 100)), ..place(number) };
        for round in 0..3 {
            cache.put((0..5_000).map(|number| (key(number), at(number))));
            let gone: HashSet<InstanceId> =
                (0..100).filter(|id| id % 10 != round).map(InstanceId).collect();
            cache.forget_all(&gone);
            let known = cache.known.read().unwrap();
            assert_eq!((known.instances.len(), known.numbers.len()), (10, 10));
            drop(known);
            let mut reader = cache.reader();
            for number in 0..5_000 {
                let stays = !gone.contains(&at(number).instance);
                assert_eq!(reader.get(key(number)), stays.then(|| at(number)), "{number}");
            }
        }
        cache.forget_all(&(0..100).map(InstanceId).collect());
        let known = cache.known.read().unwrap();
        assert!(known.entries.is_empty() && known.instances.is_empty() && known.numbers.is_empty());
    }
}
