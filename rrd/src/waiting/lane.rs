//! A lane: rows of one archive in cells of one width, a page each.

use super::known::Known;
use super::{Kept, narrow};
use crate::Cell;
use crate::series::Run;

/// In place of a row that has not come: a NaN that is never written.
const ABSENT: u8 = 0xff;
/// Bytes of a row of three narrow numbers; no other row has as many.
const USUAL_COARSE: usize = 3 * 4;
/// Fewer columns have no pages: the head of a page takes more than the chain does.
pub(super) const LEAST_WIDTH: usize = 8;
/// Pages are begun and widened while at least a third of all cells is taken, so that rows that few columns
/// have take about as much as in the chain...
const MOST_SPARE: usize = 3;
/// ...beyond so many rows of all columns: frames may bring one column after the other.
const SPARE_ROWS: usize = 4;
/// A page is widened by a quarter, at least so many cells; the next one has the right width.
const LEAST_GROWTH: usize = 16;
/// Heads of pages are few and small.
const LEAST_PAGES: usize = 4;

/// See above.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) archive: usize,
    pub(super) kept: Kept,
    pub(super) row_len: usize,
    /// In order of row.
    pub(super) pages: Vec<Page>,
    /// By page, but in the finest archive: known steps.
    pub(super) known: Vec<Known>,
    /// Cells of all pages, those of one row of a column being one.
    room: usize,
    /// How many of them have been put.
    taken: usize,
}

/// One row of all columns.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) row: i64,
    /// By place: average; but in the finest archive min, max, last where it is kept.
    pub(super) cells: Box<[u8]>,
}

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Widths {
    /// For a page that is begun now.
    pub(super) next: usize,
    /// If all columns had rows.
    pub(super) most: usize,
}

impl Lane {
    pub(super) const fn new(archive: usize, kept: Kept) -> Self {
        let last = if kept.last { 1 } else { 0 };
        let row_len = match archive {
            0 => kept.cell.size(),
            _ => (3 + last) * kept.cell.size(),
        };
        Self { archive, kept, row_len, pages: Vec::new(), known: Vec::new(), room: 0, taken: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub(super) const fn has_one_page_at_most(&self) -> bool {
        self.pages.len() <= 1
    }

    pub(super) fn is_of(&self, archive: usize, cell: Cell) -> bool {
        (self.archive, self.kept.cell) == (archive, cell)
    }

    pub(super) const fn cell(&self) -> Cell {
        self.kept.cell
    }

    pub(super) const fn keeps_last(&self) -> bool {
        self.kept.last
    }

    /// Adds a row of the finest archive, in a cell of four bytes, if the newest page is that row's and has
    /// the place.
    #[inline]
    pub(super) fn put_next(&mut self, row: i64, place: usize, value: f64) -> bool {
        let page = self.pages.last_mut().filter(|page| page.row == row);
        let cell = page.and_then(|page| page.cells.get_mut(place * 4..place * 4 + 4));
        let Some(cell) = cell else { return false };
        cell.copy_from_slice(&bits(value).to_le_bytes());
        self.taken += 1;
        true
    }

    /// The cells of the newest page, none if it is not of this row, and the count of all that have been put.
    pub(super) fn newest(&mut self, row: i64) -> (&mut [u8], &mut usize) {
        let page = self.pages.last_mut().filter(|page| page.row == row);
        (page.map_or(&mut [], |page| &mut page.cells), &mut self.taken)
    }

    /// How many places the newest page has, if it is of this row.
    pub(super) fn newest_width(&self, row: i64) -> usize {
        let page = self.pages.last().filter(|page| page.row == row);
        page.map_or(0, |page| page.cells.len() / self.row_len)
    }

    /// Adds a row at a place that its page has, which is the newest.
    #[inline]
    pub(super) fn put_last(&mut self, place: usize, run: &Run) {
        let (len, kept) = (self.row_len, self.kept);
        let (cells, taken) = self.newest(run.first_row);
        let Some(cells) = cells.get_mut(place * len..(place + 1) * len) else { return };
        *taken += 1;
        match cells.try_into() {
            Ok(row) => write_usual(run, row),
            Err(_) => kept.write(run, cells),
        }
        if let Some(known) = self.known.last_mut() {
            known.put(place, run.known);
        }
    }

    /// Adds a row; false where there is no room for it, nor any to be made.
    pub(super) fn put(&mut self, place: usize, widths: Widths, run: &Run) -> bool {
        let Some(page) = self.page(run.first_row, widths) else { return false };
        if !self.reach(page, place, widths) {
            return false;
        }
        debug_assert!(
            (page + 1..self.pages.len()).all(|page| self.run(page, place).is_none()),
            "rows of a column come in ascending order"
        );
        let len = self.row_len;
        self.kept.write(run, &mut self.pages[page].cells[place * len..][..len]);
        if let Some(known) = self.known.get_mut(page) {
            known.put(place, run.known);
        }
        self.taken += 1;
        true
    }

    /// The page of a row, begun if there is none.
    fn page(&mut self, row: i64, widths: Widths) -> Option<usize> {
        let at = match self.pages.last() {
            Some(last) if last.row == row => return Some(self.pages.len() - 1),
            Some(last) if last.row > row => {
                match self.pages.binary_search_by_key(&row, |page| page.row) {
                    Ok(at) => return Some(at),
                    Err(at) => at,
                }
            }
            _ => self.pages.len(),
        };
        if !self.may_grow(widths) {
            return None;
        }
        if self.pages.len() == self.pages.capacity() {
            self.pages.reserve_exact(LEAST_PAGES.max(self.pages.len() / 4));
        }
        let cells = vec![ABSENT; widths.next * self.row_len].into();
        self.pages.insert(at, Page { row, cells });
        if self.archive > 0 {
            self.known.reserve_exact(self.pages.capacity() - self.known.len());
            self.known.insert(at, Known::default());
        }
        self.room += widths.next;
        Some(at)
    }

    /// Widens a page so that it has a place; false where it may not.
    fn reach(&mut self, page: usize, place: usize, widths: Widths) -> bool {
        let width = self.pages[page].cells.len() / self.row_len;
        if place < width {
            return true;
        }
        if !self.may_grow(widths) {
            return false;
        }
        let wider = (width + LEAST_GROWTH.max(width / 4)).min(widths.most).max(place + 1);
        let cells = &mut self.pages[page].cells;
        let mut more = std::mem::take(cells).into_vec();
        more.reserve_exact(wider * self.row_len - more.len());
        more.resize(wider * self.row_len, ABSENT);
        *cells = more.into();
        self.room += wider - width;
        true
    }

    const fn may_grow(&self, widths: Widths) -> bool {
        self.room <= SPARE_ROWS * widths.most + MOST_SPARE * self.taken
    }

    /// The rows at a place, newest first.
    #[inline]
    pub(super) fn runs(&self, place: usize) -> LaneRuns<'_> {
        LaneRuns { lane: self, place, left: self.pages.len() }
    }

    #[inline]
    fn run(&self, at: usize, place: usize) -> Option<Run> {
        let page = self.pages.get(at)?;
        let bytes = page.cells.get(place * self.row_len..(place + 1) * self.row_len)?;
        let cell = self.kept.cell;
        let average = number(cell, bytes)?;
        if self.archive == 0 {
            return Some(Run::of_equal(0, page.row, 1, (average, 1)));
        }
        let other = |at: usize| number(cell, &bytes[at * cell.size()..]).unwrap_or(f64::NAN);
        Some(Run {
            archive: self.archive,
            first_row: page.row,
            count: 1,
            average,
            min: other(1),
            max: other(2),
            last: if self.kept.last { other(3) } else { f64::NAN },
            known: self.known.get(at).map_or(0, |known| known.get(place)),
            reset: false,
        })
    }
}

/// Rows at one place of a lane, newest first.
pub(super) struct LaneRuns<'a> {
    lane: &'a Lane,
    place: usize,
    /// So many pages have not been looked at yet.
    left: usize,
}

impl LaneRuns<'_> {
    /// The number of the row that comes next.
    pub(super) fn next_row(&mut self) -> Option<i64> {
        loop {
            let at = self.left.checked_sub(1)?;
            if self.lane.run(at, self.place).is_some() {
                return Some(self.lane.pages[at].row);
            }
            self.left = at;
        }
    }
}

impl Iterator for LaneRuns<'_> {
    type Item = Run;

    #[inline]
    fn next(&mut self) -> Option<Run> {
        loop {
            self.left = self.left.checked_sub(1)?;
            if let Some(run) = self.lane.run(self.left, self.place) {
                return Some(run);
            }
        }
    }
}

impl Kept {
    /// Writes a row into its bytes.
    #[inline]
    fn write(self, run: &Run, bytes: &mut [u8]) {
        let size = self.cell.size();
        // Of a constant length, so that each of its numbers is known to lie within.
        if let Ok(row) = bytes.try_into() {
            return write_usual(run, row);
        }
        put(self.cell, run.average, &mut bytes[..size]);
        if run.archive > 0 {
            put(self.cell, run.min, &mut bytes[size..2 * size]);
            put(self.cell, run.max, &mut bytes[2 * size..3 * size]);
            if self.last {
                put(self.cell, run.last, &mut bytes[3 * size..4 * size]);
            }
        }
    }
}

/// Writes a row of three narrow numbers.
#[inline]
fn write_usual(run: &Run, row: &mut [u8; USUAL_COARSE]) {
    for (number, at) in [(run.average, 0), (run.min, 4), (run.max, 8)] {
        row[at..at + 4].copy_from_slice(&bits(number).to_le_bytes());
    }
}

/// The number in a cell; `None` where no row has come.
#[inline]
fn number(cell: Cell, bytes: &[u8]) -> Option<f64> {
    match cell {
        Cell::F32 => {
            let bits = u32::from_le_bytes(*bytes.first_chunk()?);
            (bits != u32::MAX).then(|| f64::from(f32::from_bits(bits)))
        }
        Cell::F64 => {
            let bits = u64::from_le_bytes(*bytes.first_chunk()?);
            (bits != u64::MAX).then(|| f64::from_bits(bits))
        }
    }
}

pub(super) fn put(cell: Cell, value: f64, bytes: &mut [u8]) {
    match cell {
        Cell::F32 => bytes.copy_from_slice(&bits(value).to_le_bytes()),
        Cell::F64 => {
            let value = if value.is_nan() { f64::NAN } else { value };
            bytes.copy_from_slice(&value.to_bits().to_le_bytes());
        }
    }
}

/// The number in a cell of four bytes.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "rounding to the cell is the purpose")]
pub(super) fn bits(value: f64) -> u32 {
    let number = value as f32;
    if number.is_finite() { number.to_bits() } else { odd_bits(value) }
}

/// One NaN for all: a sender's may have any payload.
#[cold]
fn odd_bits(value: f64) -> u32 {
    let number = narrow(value);
    if number.is_nan() { f32::NAN.to_bits() } else { number.to_bits() }
}

#[cfg(test)]
impl Lane {
    pub(super) fn byte_count(&self) -> usize {
        self.pages.iter().map(|page| page.cells.len()).sum()
    }

    pub(super) const fn page_count(&self) -> usize {
        self.pages.len()
    }
}
