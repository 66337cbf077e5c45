//! Cells of the rows that a frame closes: looked up once for all its columns, whose pages are there.

use super::dense::{Dense, Place};
use super::lane::{Lane, bits, put};
use super::{FIRST, Kept};
use crate::series::Run;
use crate::{Cell, Policy};

/// The cells of one class at a time.
pub(crate) struct Cells<'a> {
    places: &'a [Place],
    generations: &'a [u32],
    narrow: Fine<'a>,
    wide: Fine<'a>,
    coarse: &'a mut [Lane],
    /// Those of the class at hand.
    cell: Cell,
    /// So many places are in all of the pages.
    width: usize,
}

/// A row of the finest archive, and the others that close with it.
struct Fine<'a> {
    cells: &'a mut [u8],
    taken: &'a mut usize,
    width: usize,
    /// Whether coarser rows keep their newest step, if there are any.
    last: Option<bool>,
    /// The lanes of those rows.
    lanes: [u8; Policy::MOST_ARCHIVES],
}

impl<'a> Cells<'a> {
    pub(super) fn of(
        dense: &'a mut Dense,
        generations: &'a [u32],
        rows: &(impl Iterator<Item = (usize, i64)> + Clone),
    ) -> Self {
        let (places, lanes, coarse) = dense.parts();
        let [narrow, wide] = lanes.each_mut().map(|lane| Fine::of(lane, coarse, rows.clone()));
        Self { places, generations, narrow, wide, coarse, cell: Cell::F32, width: 0 }
    }

    /// What follows is of series that are kept so.
    pub(crate) fn aim(&mut self, kept: Kept) {
        self.cell = kept.cell;
        let fine = match kept.cell {
            Cell::F32 => &self.narrow,
            Cell::F64 => &self.wide,
        };
        let is_so = fine.last.is_none_or(|last| last == kept.last);
        self.width = if is_so { fine.width } else { 0 };
    }

    /// Where a series has its cells; `None` where it has none there yet, or others.
    #[inline]
    pub(crate) fn spot(&self, column: u32, generation: u32) -> Option<usize> {
        let known = self.generations.get(column as usize).map_or(FIRST, |known| *known);
        let place = self.places.get(column as usize)?.among(self.cell);
        (place < self.width && known == generation).then_some(place)
    }

    /// Puts a row of the finest archive.
    #[inline]
    pub(crate) fn put_fine(&mut self, place: usize, value: f64) {
        match self.cell {
            Cell::F32 => self.narrow.put(place, value),
            Cell::F64 => self.wide.put_wide(place, value),
        }
    }

    /// Puts a row of another archive, the how manieth of those that were asked for.
    #[inline]
    pub(crate) fn put_coarse(&mut self, nth: usize, place: usize, run: &Run) {
        let lanes = match self.cell {
            Cell::F32 => &self.narrow.lanes,
            Cell::F64 => &self.wide.lanes,
        };
        let lane = lanes[nth];
        if let Some(lane) = self.coarse.get_mut(usize::from(lane)) {
            lane.put_last(place, run);
        }
    }
}

impl<'a> Fine<'a> {
    #[inline]
    fn put(&mut self, place: usize, value: f64) {
        *self.taken += 1;
        if let Some(bytes) = self.cells.get_mut(place * 4..place * 4 + 4) {
            bytes.copy_from_slice(&bits(value).to_le_bytes());
        }
    }

    /// Apart, so that what nearly all need is short.
    #[inline(never)]
    fn put_wide(&mut self, place: usize, value: f64) {
        *self.taken += 1;
        if let Some(bytes) = self.cells.get_mut(place * 8..place * 8 + 8) {
            put(Cell::F64, value, bytes);
        }
    }

    fn of(lane: &'a mut Lane, coarse: &[Lane], rows: impl Iterator<Item = (usize, i64)>) -> Self {
        let (mut width, mut last, mut fine_row) = (usize::MAX, None, None);
        let (mut lanes, mut count) = ([u8::MAX; Policy::MOST_ARCHIVES], 0);
        for (archive, row) in rows {
            if archive == 0 {
                fine_row = Some(row);
                width = width.min(lane.newest_width(row));
                continue;
            }
            let at = coarse.iter().position(|coarse| coarse.is_of(archive, lane.cell()));
            let at = at.filter(|&at| last.is_none_or(|last| last == coarse[at].keeps_last()));
            width = width.min(at.map_or(0, |at| coarse[at].newest_width(row)));
            last = at.map(|at| coarse[at].keeps_last());
            lanes[count] = at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
            count += 1;
        }
        let (cells, taken) = lane.newest(fine_row.unwrap_or(i64::MIN));
        Self { cells, taken, width, last, lanes }
    }
}
