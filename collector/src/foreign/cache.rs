//! Known series: from the bytes of a sender's labels straight to a column, without reading a label.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rrd::{Column, InstanceId};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::Origin;
use crate::registry::TokenId;

/// Series remembered at most: two million take some 120 MB, forgetting costs a longer look-up.
const CACHE_LIMIT: usize = 2_000_000;
/// Shards, so that requests seldom wait for each other.
const SHARD_COUNT: usize = 64;

/// The 128-bit hash that stands for one origin's label bytes. The seed is random, so that nobody
/// aims at a collision; who found one by chance would meet only series under the same token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SeriesKey(u128);

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

/// The bounded, sharded map of known series.
#[derive(Debug)]
pub(crate) struct SeriesCache {
    seed: u64,
    shards: Vec<Mutex<Shard>>,
    shard_limit: usize,
}

type Shard = HashMap<SeriesKey, Place, BuildHasherDefault<Low>>;

impl SeriesCache {
    /// An empty cache whose hashes follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self::bounded(seed, CACHE_LIMIT)
    }

    fn bounded(seed: u64, limit: usize) -> Self {
        let shards = (0..SHARD_COUNT).map(|_| Mutex::default()).collect();
        Self { seed, shards, shard_limit: limit.div_ceil(SHARD_COUNT) }
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

    pub(crate) fn get(&self, key: SeriesKey) -> Option<Place> {
        self.shard(key).get(&key).copied()
    }

    /// Remembers a series. A full shard forgets all it knew: cheaper than keeping an order of use.
    pub(crate) fn put(&self, key: SeriesKey, place: Place) {
        let mut shard = self.shard(key);
        if shard.len() >= self.shard_limit {
            shard.clear();
        }
        shard.insert(key, place);
    }

    /// Forgets an instance's series, because some of its columns changed hands.
    pub(crate) fn forget(&self, instance: InstanceId) {
        for shard in &self.shards {
            lock(shard).retain(|_, place| place.instance != instance);
        }
    }

    fn shard(&self, key: SeriesKey) -> MutexGuard<'_, Shard> {
        let top = usize::try_from(key.0 >> 122).expect("six bits");
        lock(&self.shards[top])
    }
}

const _: () = assert!(SHARD_COUNT == 1 << 6, "a shard is chosen by the six highest bits");

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
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
        SeriesKey(xxh3_128_with_seed(labels, self.seed))
    }
}

/// The low half of a key that is a hash already.
#[derive(Default)]
struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u128(&mut self, key: u128) {
        let low = key & u128::from(u64::MAX);
        self.0 = u64::try_from(low).expect("masked to 64 bits");
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
        cache.put(one.of(b"labels"), place(5));
        assert_eq!(cache.get(one.of(b"labels")), Some(place(5)));
        assert_eq!(cache.get(two.of(b"labels")), None);
    }

    #[test]
    fn it_never_holds_more_than_its_limit() {
        let cache = SeriesCache::bounded(7, 640);
        let keys = cache.keys(of(None));
        for number in 0..10_000_u32 {
            cache.put(keys.of(&number.to_le_bytes()), place(number));
        }
        let held: usize = cache.shards.iter().map(|shard| lock(shard).len()).sum();
        assert!(held <= 640 && held > 0, "{held}");
    }

    #[test]
    fn an_instance_can_be_forgotten() {
        let cache = SeriesCache::new(7);
        let keys = cache.keys(of(None));
        cache.put(keys.of(b"a"), place(1));
        let other = Place { instance: InstanceId(2), ..place(2) };
        cache.put(keys.of(b"b"), other);
        cache.forget(InstanceId(1));
        assert_eq!((cache.get(keys.of(b"a")), cache.get(keys.of(b"b"))), (None, Some(other)));
    }
}
