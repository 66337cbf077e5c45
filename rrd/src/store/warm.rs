//! Rows that were read lately, kept in memory: of tiles whose checksums matched, side by side.
//!
//! Panels of a fleet are asked for again and again, and a day of one series lies in ninety places of its
//! file, each with a checksum of its own. What is asked for a second time is kept. A row that the file has
//! never changes but by a late reading or another file: both take another [`Version`], under the lock that
//! every reader holds, and what is kept of the former one counts no longer. What rots in the file
//! afterwards the scrubber finds; these rows were right when they were read.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::lock;
use crate::file::Shape;
use crate::{Column, InstanceId};

/// A day of minutes of 5,000 series, or six hours of 20,000.
const MOST_BYTES: usize = 32 << 20;
/// Longer ones are read from the file each time: 11 days of minutes, 3 weeks of five minutes.
const MOST_BYTES_EACH: usize = 64 << 10;
/// Rows farther apart than this are kept once more: of four bytes each, three of four lines of memory would
/// be brought for nothing, and the copy takes a quarter at most.
const THIN_FROM: usize = 4;
/// Parts that are locked one by one: threads seldom want the same.
const PARTS: usize = 16;
/// What an entry takes beside its rows, about.
const ENTRY_BYTES: usize = 224;
/// What was asked for once is known of so many in each part: 20,000 series in all, 256 KiB.
const ASKED: usize = 2048;
/// Rows that were not asked for during so many look-ups for each entry there is make room for others. Fewer
/// than one would let go of all whenever more is asked for in turn than fits.
const IDLE_LOOK_UPS: u64 = 4;

/// The state of all tiles of one file: another one after each change to rows that it had.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Version(u64);

impl Default for Version {
    /// One that no other file has or had.
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Version {
    /// Rows that were in the file have changed, or may have.
    pub(crate) fn change(&mut self) {
        *self = Self::default();
    }
}

/// Whose rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WarmKey {
    pub(super) instance: InstanceId,
    pub(super) column: Column,
    pub(super) archive: usize,
}

/// Rows that follow each other, as tiles have them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WarmRows {
    first_row: i64,
    row_len: usize,
    bytes: Vec<u8>,
    /// Each so many-th of them once more, as the first one asked who looks at few.
    thin: OnceLock<Thin>,
}

/// Rows some way apart, side by side: to look at them among all others would bring all of these.
#[derive(Debug, PartialEq, Eq)]
struct Thin {
    every: usize,
    first_row: i64,
    bytes: Vec<u8>,
}

impl WarmRows {
    /// None yet, with room for these.
    pub(super) fn of(rows: &Range<i64>, shape: Shape) -> Self {
        let row_len = shape.row_len();
        let count = usize::try_from(rows.end - rows.start).unwrap_or(0);
        let bytes = Vec::with_capacity(count.min(MOST_BYTES_EACH / row_len) * row_len);
        Self { first_row: rows.start, row_len, bytes, thin: OnceLock::new() }
    }

    /// True where these are few enough to be kept.
    pub(super) fn fit(rows: &Range<i64>, shape: Shape) -> bool {
        let count = usize::try_from(rows.end - rows.start);
        count.is_ok_and(|count| count <= MOST_BYTES_EACH / shape.row_len())
    }

    /// Adds the next rows.
    pub(super) fn push(&mut self, rows: &[u8]) {
        self.bytes.extend_from_slice(rows);
    }

    /// Which rows these are.
    pub(super) fn rows(&self) -> Range<i64> {
        let count = self.bytes.len().checked_div(self.row_len).unwrap_or(0);
        self.first_row..self.first_row.saturating_add_unsigned(count as u64)
    }

    /// Some of them; none where it has not all of these.
    pub(super) fn bytes(&self, rows: &Range<i64>) -> &[u8] {
        let at = |row: i64| Some(usize::try_from(row - self.first_row).ok()? * self.row_len);
        let places = at(rows.start).zip(at(rows.end));
        places.and_then(|(from, to)| self.bytes.get(from..to)).unwrap_or_default()
    }

    /// Each `every`th of some of them, from the first one on: bytes of rows, of which each so many-th is one
    /// of these.
    pub(super) fn each(&self, rows: &Range<i64>, every: usize) -> (&[u8], usize) {
        let all = || (self.bytes(rows), every);
        if every < THIN_FROM {
            return all();
        }
        let thin = self.thin.get_or_init(|| self.thinned(rows.start, every));
        let place = |row: i64| usize::try_from(row - thin.first_row).ok();
        match place(rows.start).zip(place(rows.end)) {
            Some((start, end)) if thin.every == every && start.is_multiple_of(every) => {
                let places = start / every * self.row_len..end.div_ceil(every) * self.row_len;
                thin.bytes.get(places).map_or_else(all, |bytes| (bytes, 1))
            }
            _ => all(),
        }
    }

    /// All rows that are whole times `every` before or after this one.
    fn thinned(&self, row: i64, every: usize) -> Thin {
        let width = i64::try_from(every).unwrap_or(i64::MAX);
        let skipped = (row - self.first_row).rem_euclid(width);
        let first_row = self.first_row + skipped;
        let rows = self.bytes.chunks_exact(self.row_len.max(1));
        let rows = rows.skip(usize::try_from(skipped).unwrap_or(0)).step_by(every);
        let mut bytes = Vec::with_capacity(rows.len() * self.row_len);
        rows.for_each(|row| bytes.extend_from_slice(row));
        Thin { every, first_row, bytes }
    }

    /// These rows, which are newly read, between those that `known` has before and after them: as far
    /// back as was ever asked for, so that the oldest go as new ones come.
    fn among(self, known: &Self) -> Self {
        let (own, others) = (self.rows(), known.rows());
        let touch = own.start <= others.end && others.start <= own.end;
        if self.row_len != known.row_len || !touch {
            return self;
        }
        let end = own.end.max(others.end);
        let asked = (others.end - others.start).max(end - own.start);
        let first_row = own.start.min(others.start).max(end - asked);
        let before = first_row..own.start;
        let after = own.end..end;
        let all = [known.bytes(&before), &self.bytes, known.bytes(&after)].concat();
        if all.len() > MOST_BYTES_EACH {
            return self;
        }
        Self { first_row, bytes: all, thin: OnceLock::new(), ..self }
    }

    /// With what a thin copy may take, whether there is one or not.
    fn size(&self) -> usize {
        self.bytes.capacity() + self.bytes.capacity() / THIN_FROM + ENTRY_BYTES
    }
}

/// Rows of many series, bounded in bytes.
pub(super) struct Warm {
    parts: [Mutex<Entries>; PARTS],
    most_bytes: usize,
}

#[derive(Default)]
struct Entries {
    all: HashMap<WarmKey, Entry>,
    bytes: usize,
    /// Counts look-ups.
    now: u64,
    /// Entries that are idle are looked for no sooner: there may be none.
    search_at: u64,
    /// Hashes of what was asked for and is not here, each in the place that it names.
    asked: Vec<u64>,
}

struct Entry {
    used_at: u64,
    version: Version,
    rows: Arc<WarmRows>,
}

impl Default for Warm {
    fn default() -> Self {
        Self::within(MOST_BYTES)
    }
}

impl Warm {
    fn within(most_bytes: usize) -> Self {
        Self { parts: Default::default(), most_bytes }
    }

    /// The rows of this version that are here.
    pub(super) fn find(&self, key: &WarmKey, version: Version) -> Option<Arc<WarmRows>> {
        let entries = &mut *lock(self.part(key));
        entries.now += 1;
        let entry = entries.all.get_mut(key)?;
        entry.used_at = entries.now;
        (entry.version == version).then(|| Arc::clone(&entry.rows))
    }

    /// True where rows that are not here were asked for before, not long ago.
    pub(super) fn is_asked_again(&self, key: &WarmKey, version: Version) -> bool {
        let mut hasher = DefaultHasher::new();
        (key, version.0).hash(&mut hasher);
        let hash = hasher.finish();
        let asked = &mut lock(self.part(key)).asked;
        if asked.is_empty() {
            asked.resize(ASKED, 0);
        }
        let place = usize::try_from(hash % ASKED as u64).unwrap_or(0);
        std::mem::replace(&mut asked[place], hash) == hash
    }

    /// Keeps rows, beside those of the same version that `known` has. Where there is no room for them
    /// they are dropped.
    pub(super) fn put(
        &self,
        key: WarmKey,
        version: Version,
        rows: WarmRows,
        known: Option<&WarmRows>,
    ) {
        let rows = match known {
            Some(known) => rows.among(known),
            None => rows,
        };
        let most = self.most_bytes / PARTS;
        let entries = &mut *lock(self.part(&key));
        entries.remove(&key);
        if entries.bytes + rows.size() > most {
            entries.drop_idle();
        }
        if entries.bytes + rows.size() <= most {
            entries.bytes += rows.size();
            let entry = Entry { used_at: entries.now, version, rows: Arc::new(rows) };
            entries.all.insert(key, entry);
        }
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| lock(part).bytes).sum()
    }

    fn part(&self, key: &WarmKey) -> &Mutex<Entries> {
        let mut hasher = DefaultHasher::new();
        key.instance.hash(&mut hasher);
        let hash = usize::try_from(hasher.finish() % PARTS as u64).unwrap_or(0);
        &self.parts[hash]
    }
}

impl Entries {
    fn remove(&mut self, key: &WarmKey) {
        if let Some(entry) = self.all.remove(key) {
            self.bytes -= entry.rows.size();
        }
    }

    fn drop_idle(&mut self) {
        let count = self.all.len() as u64;
        if self.now < self.search_at {
            return;
        }
        self.search_at = self.now + count / IDLE_LOOK_UPS;
        let since = self.now.saturating_sub(IDLE_LOOK_UPS * count);
        let bytes = &mut self.bytes;
        self.all.retain(|_, entry| {
            let stays = entry.used_at >= since;
            *bytes -= if stays { 0 } else { entry.rows.size() };
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cell;

    const SHAPE: Shape = Shape { cell: Cell::F32, known_len: 0, keeps_last: false };

    fn key(instance: u128) -> WarmKey {
        let column = Column { index: 0, generation: 1 };
        WarmKey { instance: InstanceId(instance), column, archive: 0 }
    }

    /// Rows whose bytes are their numbers.
    fn rows(numbers: Range<i64>) -> WarmRows {
        let mut rows = WarmRows::of(&numbers, SHAPE);
        numbers.for_each(|number| rows.push(&[u8::try_from(number).unwrap(); 4]));
        rows
    }

    #[test]
    fn rows_are_found_until_their_version_changes() {
        let (warm, mut version) = (Warm::default(), Version::default());
        warm.put(key(1), version, rows(3..9), None);
        let found = warm.find(&key(1), version).unwrap();
        assert_eq!(found.rows(), 3..9);
        assert_eq!(found.bytes(&(4..6)), [[4; 4], [5; 4]].concat());
        assert!(found.bytes(&(2..4)).is_empty() && found.bytes(&(8..10)).is_empty());
        assert_eq!(warm.find(&key(2), version), None);
        version.change();
        assert_eq!(warm.find(&key(1), version), None);
        assert_ne!(Version::default(), version, "no two files have the same");
    }

    #[test]
    fn new_rows_join_those_there_are_and_the_oldest_go() {
        for (known, new, expected) in [
            (3..9, 9..10, 4..10),   // Time goes on.
            (3..9, 7..10, 4..10),   // So it does for a shorter panel.
            (3..9, 1..4, 1..9),     // A longer one.
            (3..9, 1..12, 1..12),   // It covers all.
            (3..9, 4..6, 3..9),     // It is covered.
            (3..9, 10..12, 10..12), // A gap between them.
            (3..9, 1..2, 1..2),
        ] {
            let (known_rows, new_rows) = (rows(known.clone()), rows(new.clone()));
            let joined = new_rows.among(&known_rows);
            assert_eq!(joined.rows(), expected, "{known:?} and {new:?}");
            assert_eq!(joined.bytes, rows(expected).bytes, "{known:?} and {new:?}");
        }
    }

    #[test]
    fn rows_some_way_apart_are_those_among_all_of_them() {
        for (every, first) in [(1, 10), (3, 11), (4, 10), (5, 13), (5, 17), (50, 20)] {
            let warm = rows(10..90);
            // The first of these decides what is copied, and others are answered none the less.
            for (start, end, every) in [
                (first, 90, every),
                (first + 2 * every, 71, every),
                (first + 1, 80, every),
                (12, 40, 7),
            ] {
                let (bytes, step) = warm.each(&(start..end), usize::try_from(every).unwrap());
                let seen: Vec<_> =
                    bytes.chunks(4).step_by(step).map(|row| i64::from(row[0])).collect();
                let expected = (start..end).step_by(usize::try_from(every).unwrap());
                assert_eq!(seen, expected.collect::<Vec<_>>(), "{start}..{end} by {every}");
            }
            assert!(
                warm.thin.get().is_none_or(|thin| 4 * thin.bytes.len() <= warm.bytes.len() + 12)
            );
        }
    }

    #[test]
    fn bytes_are_counted_and_stay_within_their_bound() {
        let (warm, version) = (Warm::within(PARTS * 2000), Version::default());
        for instance in 0..1000 {
            warm.find(&key(instance), version);
            warm.put(key(instance), version, rows(0..64), None);
            assert!(warm.bytes() <= PARTS * 2000);
        }
        let held: usize = (0..1000)
            .filter_map(|instance| warm.find(&key(instance), version))
            .map(|rows| rows.size())
            .sum();
        assert_eq!(held, warm.bytes());
        assert!(held > PARTS * 1000, "{held}");
    }

    #[test]
    fn of_more_than_fits_asked_for_in_turn_some_stay_and_what_is_idle_goes() {
        let (warm, version) = (Warm::within(PARTS * 4000), Version::default());
        let ask = |instances: Range<u128>| {
            let ask = |instance: &u128| {
                let is_known = warm.find(&key(*instance), version).is_some();
                if !is_known {
                    warm.put(key(*instance), version, rows(0..64), None);
                }
                is_known
            };
            instances.filter(ask).count()
        };
        ask(0..300);
        let (first, second) = (ask(0..300), ask(0..300));
        assert!(first > 80 && second >= first, "{first}, {second}");
        for _ in 0..40 {
            ask(500..520);
        }
        assert_eq!(ask(500..520), 20);
    }
}
