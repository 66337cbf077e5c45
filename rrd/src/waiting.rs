//! Waiting rows: closed, but not yet in the file. Readers see them; a round writes them.

use std::collections::BTreeMap;

use crate::series::Run;
use crate::{Anchor, Cell, Column, Policy, Timestamp};

/// "No earlier entry."
const NONE: u32 = u32::MAX;

/// Runs of closed rows of one instance, as a chain for each column: newest first.
///
/// An entry is a few words of 32 bits: where the earlier one of its column begins; what it is, with
/// the distance of its first row from the first that came; then its numbers, as wide as their cell.
/// A usual row of the finest archive has 12 bytes, one of another archive 24.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// By column: where the newest entry begins.
    heads: Vec<u32>,
    words: Vec<u32>,
    /// By archive: the first row that came.
    base_rows: [i64; Policy::MOST_ARCHIVES],
    /// There is an anchor in some chain.
    has_anchors: bool,
    /// Whose rows a column has, where that is not the first series it was given to.
    generations: BTreeMap<u32, u32>,
    /// Closed rows as late readings have left them, by column, archive and row, with the generation:
    /// newer than what the chains here and all that is older have of the row.
    repairs: BTreeMap<(u32, usize, i64), (u32, Run)>,
}

/// How the numbers of a series are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) cell: Cell,
    /// Coarser rows keep their newest step, too.
    pub(crate) last: bool,
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

/// Words of a usual row of the finest archive.
const FINE_WORDS: usize = 3;
/// The same where numbers are wide.
const WIDE_FINE_WORDS: usize = 4;
/// Words of the longest entry: head 2, first row 2, count 1, known 1, four wide numbers.
const LONGEST: usize = 2 + 3 + 1 + 8;
/// Room is made by a quarter, at least so many words: doubling would leave much of it unused.
const LEAST_GROWTH: usize = 64;

impl Default for Waiting {
    fn default() -> Self {
        Self {
            heads: Vec::new(),
            words: Vec::new(),
            base_rows: [i64::MIN; Policy::MOST_ARCHIVES],
            has_anchors: false,
            generations: BTreeMap::new(),
            repairs: BTreeMap::new(),
        }
    }
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.repairs.is_empty()
    }

    /// Puts a row, rounded as its cell rounds it, in the place of the closed one that was there.
    pub(crate) fn repair(&mut self, column: Column, run: &Run) {
        let key = (column.index, run.archive, run.first_row);
        self.repairs.insert(key, (column.generation, *run));
    }

    /// The rows of one archive of a series that late readings have changed, oldest first.
    pub(crate) fn repairs(&self, column: Column, archive: usize) -> impl Iterator<Item = Run> {
        let key = |row| (column.index, archive, row);
        let found = self.repairs.range(key(i64::MIN)..=key(i64::MAX));
        found.filter(move |(_, (of, _))| *of == column.generation).map(|(_, (_, run))| *run)
    }

    /// Makes room for the chains of so many columns.
    #[inline]
    pub(crate) fn grow(&mut self, column_count: usize) {
        if self.heads.len() < column_count {
            self.heads.reserve_exact(column_count - self.heads.len());
            self.heads.resize(column_count, NONE);
        }
    }

    /// Makes room at once for the first rows to come, if a sample brings one of the finest archive.
    #[inline]
    pub(crate) fn expect_rows(&mut self, sample_count: usize) {
        if self.words.capacity() == 0 {
            self.words.reserve_exact(sample_count.min(self.heads.len()) * FINE_WORDS);
        }
    }

    /// Adds equal rows of the finest archive, as their cell will keep them. Rows of an earlier
    /// generation are dropped.
    #[inline]
    pub(crate) fn push_fine(
        &mut self,
        (column, generation): (u32, u32),
        kept: Kept,
        (first_row, count): (i64, u64),
        value: f64,
    ) {
        let distance = first_row.wrapping_sub(self.base_rows[0]);
        let is_usual = (0..=MOST_DISTANCE).contains(&distance)
            && (count, generation) == (1, 1)
            && self.generations.is_empty()
            && (column as usize) < self.heads.len();
        let words = if kept.cell == Cell::F64 { WIDE_FINE_WORDS } else { FINE_WORDS };
        if !is_usual || self.words.capacity() - self.words.len() < words {
            let run = Run::of_equal(0, first_row, count, (value, 1));
            return self.push(column, generation, kept, &run);
        }
        let distance = u32::try_from(distance).expect("within 26 bits");
        let head = &mut self.heads[column as usize];
        let (earlier, distance) = (*head, distance << DISTANCE_SHIFT);
        *head = index(self.words.len());
        match kept.cell {
            Cell::F32 => {
                self.words.extend_from_slice(&[earlier, distance, narrow(value).to_bits()]);
            }
            Cell::F64 => {
                let [low, high] = halves(value.to_bits());
                self.words.extend_from_slice(&[earlier, distance | WIDE, low, high]);
            }
        }
    }

    /// As [`Waiting::push_fine`], for rows of any archive.
    pub(crate) fn push(&mut self, column: u32, generation: u32, kept: Kept, run: &Run) {
        self.add(column, generation, |waiting, earlier| waiting.write(earlier, kept, run));
    }

    /// Adds what a counter stood at.
    #[cold]
    pub(crate) fn push_anchor(&mut self, (column, generation): (u32, u32), anchor: Anchor) {
        self.has_anchors = true;
        self.add(column, generation, |Self { words, .. }, earlier| {
            words.extend_from_slice(&[earlier, ANCHOR]);
            words.extend_from_slice(&halves(anchor.at.as_millis().cast_unsigned()));
            words.extend_from_slice(&halves(anchor.reading.to_bits()));
        });
    }

    /// Adds an entry to those of a column: it is written behind the word that says where the earlier is.
    #[inline]
    fn add(&mut self, column: u32, generation: u32, write: impl FnOnce(&mut Self, u32)) {
        let place = column as usize;
        self.grow(place + 1);
        if self.generation(column) != generation {
            self.generations.insert(column, generation);
            self.heads[place] = NONE;
        }
        if self.words.capacity() - self.words.len() < LONGEST {
            self.words.reserve_exact(LEAST_GROWTH.max(self.words.len() / 4));
        }
        let earlier = std::mem::replace(&mut self.heads[place], index(self.words.len()));
        write(self, earlier);
    }

    fn generation(&self, column: u32) -> u32 {
        self.generations.get(&column).copied().unwrap_or(1)
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
    pub(crate) fn runs(
        &self,
        column: u32,
        generation: u32,
        archive: usize,
    ) -> impl Iterator<Item = Run> {
        let entries = self.entries(column, generation);
        entries.filter(move |entry| entry.archive() == Some(archive)).map(|entry| entry.run(self))
    }

    /// What the counter of a column stood at, newest first.
    pub(crate) fn anchors(&self, column: u32, generation: u32) -> impl Iterator<Item = Anchor> {
        let entries = self.has_anchors.then(|| self.entries(column, generation));
        entries.into_iter().flatten().filter_map(Entry::anchor)
    }

    fn entries(&self, column: u32, generation: u32) -> impl Iterator<Item = Entry<'_>> {
        let head = self.heads.get(column as usize).copied();
        let head = head.filter(|_| self.generation(column) == generation);
        let first = head.and_then(|head| self.entry(head));
        std::iter::successors(first, |entry| self.entry(entry.earlier))
    }

    fn entry(&self, at: u32) -> Option<Entry<'_>> {
        let (&[earlier, head], words) = self.words.get(at as usize..)?.split_first_chunk()?;
        Some(Entry { earlier, head, words })
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

    fn run(mut self, waiting: &Waiting) -> Run {
        let archive = (self.head & ARCHIVE) as usize;
        let reset = self.head & RESET != 0;
        let (first_row, count) = if self.head & LONG != 0 {
            (self.wide().cast_signed(), self.word())
        } else {
            (waiting.base_rows[archive] + i64::from(self.head >> DISTANCE_SHIFT), 1)
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

/// Runs in ascending order, with some rows of theirs as late readings have left them.
pub(crate) fn with_repairs(runs: Vec<Run>, repairs: &[Run]) -> Vec<Run> {
    if repairs.is_empty() {
        return runs;
    }
    let mut whole = Vec::with_capacity(runs.len() + 2 * repairs.len());
    for run in runs {
        let end = run.first_row.saturating_add_unsigned(run.count);
        let mut next = run.first_row;
        let after = |row: i64| repairs.partition_point(|repair| repair.first_row < row);
        let rest = |rows: std::ops::Range<i64>| {
            let count = (rows.end - rows.start).cast_unsigned();
            (count > 0).then_some(Run { first_row: rows.start, count, ..run })
        };
        for repair in &repairs[after(run.first_row)..after(end)] {
            whole.extend(rest(next..repair.first_row));
            whole.push(*repair);
            next = repair.first_row + 1;
        }
        whole.extend(rest(next..end));
    }
    whole
}

/// Of all chains, the oldest first: the rows of one archive of a series that late readings have changed
/// since, each as the last one left it, in ascending order.
pub(crate) fn repairs_of<'a>(
    chains: impl Iterator<Item = &'a Waiting>,
    column: Column,
    archive: usize,
) -> Vec<Run> {
    let mut newest = BTreeMap::new();
    for waiting in chains.filter(|waiting| !waiting.repairs.is_empty()) {
        newest.extend(waiting.repairs(column, archive).map(|run| (run.first_row, run)));
    }
    newest.into_values().collect()
}

/// Longer runs are gaps, and no ring keeps that many rows: their last rows are enough.
fn last_rows(run: &Run) -> (u32, i64) {
    let count = u32::try_from(run.count).unwrap_or(u32::MAX);
    let skipped = run.count - u64::from(count);
    (count, run.first_row.saturating_add_unsigned(skipped))
}

/// The number as a cell of four bytes gives it back: readers see the same before and after the round.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "rounding to the cell is the purpose")]
fn narrow(value: f64) -> f32 {
    if Cell::F32.holds(value) { value as f32 } else { f32::NAN }
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

    fn run(archive: usize, first_row: i64, average: f64) -> Run {
        let (min, max, last) = (average, average, average);
        Run { archive, first_row, count: 1, average, min, max, last, known: 1, reset: false }
    }

    const WIDE: Kept = Kept { cell: Cell::F64, last: false };
    const NARROW: Kept = Kept { cell: Cell::F32, last: false };

    #[test]
    fn a_column_sees_its_own_rows_newest_first() {
        let mut waiting = Waiting::default();
        for row in 1..4 {
            waiting.push(0, 1, WIDE, &run(0, row, 1.5));
            waiting.push(5, 1, WIDE, &run(0, row + 10, 2.5));
            waiting.push(0, 1, WIDE, &run(2, row + 20, 3.5));
        }
        let rows = |column, archive| {
            waiting.runs(column, 1, archive).map(|run| run.first_row).collect::<Vec<_>>()
        };
        assert_eq!(rows(0, 0), [3, 2, 1]);
        assert_eq!(rows(5, 0), [13, 12, 11]);
        assert_eq!(rows(0, 2), [23, 22, 21]);
        assert_eq!((rows(0, 1), rows(9, 0)), (vec![], vec![]));
    }

    #[test]
    fn a_new_generation_never_sees_the_rows_of_the_former() {
        let mut waiting = Waiting::default();
        waiting.push(0, 1, WIDE, &run(0, 1, 1.0));
        assert_eq!(waiting.runs(0, 2, 0).count(), 0);
        waiting.push(0, 2, WIDE, &run(0, 2, 2.0));
        assert_eq!(waiting.runs(0, 2, 0).count(), 1);
        assert_eq!(waiting.runs(0, 1, 0).count(), 0);
    }

    #[test]
    fn of_a_repaired_row_the_newest_counts_and_its_neighbours_stay() {
        let column = Column { index: 3, generation: 2 };
        let (mut older, mut newer) = (Waiting::default(), Waiting::default());
        older.repair(column, &run(0, 5, 1.0));
        older.repair(column, &run(0, 7, 2.0));
        newer.repair(column, &run(0, 7, 3.0));
        newer.repair(column, &run(1, 7, 4.0));
        newer.repair(Column { generation: 1, ..column }, &run(0, 6, 9.0));
        assert!(!older.is_empty());
        let repairs = repairs_of([&older, &newer].into_iter(), column, 0);
        let runs = vec![Run { count: 4, ..run(0, 4, 0.0) }, run(0, 8, 8.0)];
        let rows = with_repairs(runs, &repairs);
        let rows: Vec<_> = rows.iter().map(|r| (r.first_row, r.count, r.average)).collect();
        assert_eq!(rows, [(4, 1, 0.0), (5, 1, 1.0), (6, 1, 0.0), (7, 1, 3.0), (8, 1, 8.0)]);
    }

    #[test]
    fn rows_are_rounded_as_their_cell_rounds_them() {
        let mut waiting = Waiting::default();
        for (column, value) in [(0, 0.1), (1, 1e39), (2, f64::INFINITY)] {
            waiting.push(column, 1, NARROW, &run(0, 1, value));
        }
        let value = |column| waiting.runs(column, 1, 0).next().unwrap().average;
        assert_eq!(value(0).to_bits(), f64::from(0.1_f32).to_bits());
        assert!(value(1).is_nan());
        assert!(value(2).is_infinite());
    }

    #[test]
    fn rows_of_all_kinds_come_back_as_they_were() {
        for kept in [WIDE, NARROW, Kept { last: true, ..WIDE }, Kept { last: true, ..NARROW }] {
            let mut waiting = Waiting::default();
            let mut pushed = Vec::new();
            // The first row, a late one, the next, a gap, one beyond any short distance, the last.
            for (first_row, count) in
                [(100, 1), (-7, 1), (101, 1), (102, 9), (1 << 40, 1), ((1 << 40) + 1, 1 << 40)]
            {
                for archive in [0, 3, 7] {
                    let mut run = Run { count, ..run(archive, first_row, 0.5) };
                    if archive > 0 {
                        (run.min, run.max, run.known) = (-1.5, 2.5, 3);
                        run.last = if kept.last { 1.25 } else { f64::NAN };
                    }
                    match archive {
                        0 => waiting.push_fine((2, 1), kept, (first_row, count), run.average),
                        _ => waiting.push(2, 1, kept, &run),
                    }
                    let (count, first_row) = last_rows(&run);
                    pushed.push(Run { count: u64::from(count), first_row, ..run });
                }
            }
            for archive in [0, 3, 7] {
                let mut got: Vec<Run> = waiting.runs(2, 1, archive).collect();
                got.reverse();
                let want: Vec<&Run> = pushed.iter().filter(|run| run.archive == archive).collect();
                assert_eq!(format!("{got:?}"), format!("{want:?}"), "{kept:?}");
            }
        }
    }

    #[test]
    fn anchors_and_resets_wait_with_the_rows() {
        for kept in [WIDE, NARROW] {
            let mut waiting = Waiting::default();
            assert_eq!(waiting.anchors(0, 1).count(), 0);
            let anchor = |secs, reading| Anchor { at: Timestamp::from_secs(secs), reading };
            for row in 0..4 {
                let reset = row == 2;
                waiting.push(0, 1, kept, &Run { reset, ..run(0, row, f64::NAN) });
                waiting.push(0, 1, kept, &Run { reset, count: 3, ..run(3, row * 3, 0.5) });
                waiting.push_anchor((0, 1), anchor(row * 10 - 20, 0.1));
            }
            let resets =
                |archive| waiting.runs(0, 1, archive).map(|run| run.reset).collect::<Vec<_>>();
            assert_eq!(resets(0), [false, true, false, false]);
            assert_eq!(resets(3), [false, true, false, false]);
            assert!(waiting.runs(0, 1, 0).all(|run| run.average.is_nan() && run.count == 1));
            let anchors: Vec<Anchor> = waiting.anchors(0, 1).collect();
            assert_eq!(anchors, [10, 0, -10, -20].map(|secs| anchor(secs, 0.1)));
            assert_eq!((waiting.anchors(0, 2).count(), waiting.anchors(1, 1).count()), (0, 0));
        }
    }

    #[test]
    fn a_usual_row_waits_in_twelve_bytes() {
        let mut waiting = Waiting::default();
        for row in 0..1000 {
            waiting.push_fine((0, 1), NARROW, (row, 1), 0.5);
        }
        assert_eq!(waiting.words.len(), 3 * 1000);
        assert!(waiting.words.capacity() <= 3 * 1000 * 5 / 4 + LEAST_GROWTH);
    }
}
