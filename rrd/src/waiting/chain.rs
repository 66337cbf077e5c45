//! Chains: entries of any kind, each with a word that says where the earlier one of its column is.

use super::{Kept, narrow};
use crate::series::Run;
use crate::{Anchor, Cell, Policy, Timestamp};

/// "No earlier entry."
const NONE: u32 = u32::MAX;

/// Entries of one instance, as a chain for each column: newest first.
///
/// An entry is a few words of 32 bits: where the earlier one of its column begins; what it is, with
/// the distance of its first row from the first that came; then its numbers, as wide as their cell.
/// A short one of the finest archive has 12 bytes, one of another archive 24.
#[derive(Debug)]
pub(super) struct Chain {
    /// By column, up to the last that has an entry: where the newest begins.
    heads: Vec<u32>,
    words: Vec<u32>,
    /// By archive: the first row that came.
    base_rows: [i64; Policy::MOST_ARCHIVES],
    /// There is an anchor in some chain.
    has_anchors: bool,
}

/// Bits of an entry's second word: its archive, and which words it has.
const ARCHIVE: u32 = 7;
/// Numbers have two words.
const WIDE: u32 = 8;
/// The newest step is kept.
const LAST: u32 = 16;
/// The first row (two words) and the count (one) are given in full.
const LONG: u32 = 32;
/// A count fell in the row.
const RESET: u32 = 64;
/// No row, but what a counter stood at: moment and reading (two words each).
const ANCHOR: u32 = 128;
/// All others: the distance of the first row from the first that came.
const DISTANCE_SHIFT: u32 = 8;
const MOST_DISTANCE: i64 = (u32::MAX >> DISTANCE_SHIFT) as i64;

/// Words of the longest entry: head 2, first row 2, count 1, known 1, four wide numbers.
const LONGEST: usize = 2 + 3 + 1 + 8;
/// Room is made by a quarter, at least so many words: doubling would leave much of it unused.
const LEAST_GROWTH: usize = 64;

impl Default for Chain {
    fn default() -> Self {
        Self {
            heads: Vec::new(),
            words: Vec::new(),
            base_rows: [i64::MIN; Policy::MOST_ARCHIVES],
            has_anchors: false,
        }
    }
}

impl Chain {
    pub(super) const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Adds a row, or equal rows, to those of a column; `column_count` says how many there may be.
    pub(super) fn push(&mut self, column: usize, column_count: usize, kept: Kept, run: &Run) {
        let earlier = self.begin(column, column_count);
        self.write(earlier, kept, run);
    }

    /// Adds what a counter stood at.
    pub(super) fn push_anchor(&mut self, column: usize, column_count: usize, anchor: Anchor) {
        let earlier = self.begin(column, column_count);
        self.has_anchors = true;
        self.words.extend_from_slice(&[earlier, ANCHOR]);
        self.words.extend_from_slice(&halves(anchor.at.as_millis().cast_unsigned()));
        self.words.extend_from_slice(&halves(anchor.reading.to_bits()));
    }

    /// Drops the entries of a column.
    pub(super) fn forget(&mut self, column: usize) {
        if let Some(head) = self.heads.get_mut(column) {
            *head = NONE;
        }
    }

    /// Makes room for an entry, which is the newest of its column from now on; tells the one before.
    fn begin(&mut self, column: usize, column_count: usize) -> u32 {
        if self.heads.len() <= column {
            let count = column_count.max(column + 1);
            self.heads.reserve_exact(count - self.heads.len());
            self.heads.resize(count, NONE);
        }
        if self.words.capacity() - self.words.len() < LONGEST {
            self.words.reserve_exact(LEAST_GROWTH.max(self.words.len() / 4));
        }
        std::mem::replace(&mut self.heads[column], index(self.words.len()))
    }

    fn write(&mut self, earlier: u32, kept: Kept, run: &Run) {
        let (count, first_row) = last_rows(run);
        let base_row = &mut self.base_rows[run.archive];
        if *base_row == i64::MIN {
            *base_row = first_row;
        }
        let distance =
            first_row.checked_sub(*base_row).filter(|far| (0..=MOST_DISTANCE).contains(far));
        let short = distance.filter(|_| count == 1).and_then(|far| u32::try_from(far).ok());
        let keeps_last = kept.last && run.archive > 0;
        let head = u32::try_from(run.archive).expect("at most eight archives")
            | if kept.cell == Cell::F64 { WIDE } else { 0 }
            | if keeps_last { LAST } else { 0 }
            | if run.reset { RESET } else { 0 }
            | short.map_or(LONG, |far| far << DISTANCE_SHIFT);
        self.words.extend_from_slice(&[earlier, head]);
        if short.is_none() {
            self.words.extend_from_slice(&halves(first_row.cast_unsigned()));
            self.words.push(count);
        }
        self.put(kept.cell, run.average);
        if run.archive > 0 {
            self.put(kept.cell, run.min);
            self.put(kept.cell, run.max);
            self.words.push(run.known);
        }
        if keeps_last {
            self.put(kept.cell, run.last);
        }
    }

    fn put(&mut self, cell: Cell, value: f64) {
        match cell {
            Cell::F32 => self.words.push(narrow(value).to_bits()),
            Cell::F64 => self.words.extend_from_slice(&halves(value.to_bits())),
        }
    }

    /// The runs of one archive of a column, newest first.
    #[inline]
    pub(super) fn runs(&self, column: usize, archive: usize) -> ChainRuns<'_> {
        let head = self.heads.get(column).copied();
        ChainRuns { chain: self, archive, at: head.unwrap_or(NONE) }
    }

    /// What the counter of a column stood at, newest first.
    pub(super) fn anchors(&self, column: usize) -> impl Iterator<Item = Anchor> {
        let entries = self.has_anchors.then(|| self.entries(column));
        entries.into_iter().flatten().filter_map(Entry::anchor)
    }

    /// The entries of a column, newest first.
    fn entries(&self, column: usize) -> impl Iterator<Item = Entry<'_>> {
        let head = self.heads.get(column).copied();
        let first = head.and_then(|head| self.entry(head));
        std::iter::successors(first, |entry| self.entry(entry.earlier))
    }

    fn entry(&self, at: u32) -> Option<Entry<'_>> {
        let (&[earlier, head], words) = self.words.get(at as usize..)?.split_first_chunk()?;
        Some(Entry { earlier, head, words })
    }
}

/// Runs of one archive of a column, newest first.
pub(super) struct ChainRuns<'a> {
    chain: &'a Chain,
    archive: usize,
    /// The entry to look at next.
    at: u32,
}

impl Iterator for ChainRuns<'_> {
    type Item = Run;

    #[inline]
    fn next(&mut self) -> Option<Run> {
        if self.at == NONE {
            return None;
        }
        loop {
            let entry = self.chain.entry(self.at)?;
            self.at = entry.earlier;
            if entry.archive() == Some(self.archive) {
                return Some(entry.run(self.chain));
            }
        }
    }
}

/// One entry: its two first words, and the others.
struct Entry<'a> {
    earlier: u32,
    head: u32,
    words: &'a [u32],
}

impl Entry<'_> {
    /// `None` where it is no row.
    const fn archive(&self) -> Option<usize> {
        if self.head & ANCHOR == 0 { Some((self.head & ARCHIVE) as usize) } else { None }
    }

    fn anchor(mut self) -> Option<Anchor> {
        (self.head & ANCHOR != 0).then(|| Anchor {
            at: Timestamp::from_millis(self.wide().cast_signed()),
            reading: f64::from_bits(self.wide()),
        })
    }

    fn run(mut self, chain: &Chain) -> Run {
        let archive = (self.head & ARCHIVE) as usize;
        let reset = self.head & RESET != 0;
        let (first_row, count) = if self.head & LONG != 0 {
            (self.wide().cast_signed(), self.word())
        } else {
            (chain.base_rows[archive] + i64::from(self.head >> DISTANCE_SHIFT), 1)
        };
        let (count, average) = (u64::from(count), self.number());
        if archive == 0 {
            return Run { reset, ..Run::of_equal(0, first_row, count, (average, 1)) };
        }
        let (min, max, known) = (self.number(), self.number(), self.word());
        let last = if self.head & LAST != 0 { self.number() } else { f64::NAN };
        Run { archive, first_row, count, average, min, max, last, known, reset }
    }

    fn number(&mut self) -> f64 {
        if self.head & WIDE != 0 {
            f64::from_bits(self.wide())
        } else {
            f64::from(f32::from_bits(self.word()))
        }
    }

    fn wide(&mut self) -> u64 {
        u64::from(self.word()) | u64::from(self.word()) << 32
    }

    fn word(&mut self) -> u32 {
        let (word, rest) = self.words.split_first().expect("an entry is written whole");
        self.words = rest;
        *word
    }
}

/// Longer runs are gaps, and no ring keeps that many rows: their last rows are enough.
pub(super) fn last_rows(run: &Run) -> (u32, i64) {
    let count = u32::try_from(run.count).unwrap_or(u32::MAX);
    let skipped = run.count - u64::from(count);
    (count, run.first_row.saturating_add_unsigned(skipped))
}

#[expect(clippy::cast_possible_truncation, reason = "each half is 32 bits by construction")]
const fn halves(bits: u64) -> [u32; 2] {
    [bits as u32, (bits >> 32) as u32]
}

/// Rows are bounded by the journal, which refuses samples long before they are 16 GiB.
#[inline]
fn index(len: usize) -> u32 {
    u32::try_from(len).expect("the journal holds fewer frames than that")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_finest_archive_has_twelve_bytes() {
        let mut chain = Chain::default();
        for row in 0..1000 {
            let kept = Kept { cell: Cell::F32, last: false };
            chain.push(0, 1, kept, &Run::of_equal(0, row, 1, (0.5, 1)));
        }
        assert_eq!(chain.words.len(), 3 * 1000);
        assert!(chain.words.capacity() <= 3 * 1000 * 5 / 4 + LEAST_GROWTH);
    }
}
