//! Dense rows: of one row of an archive, the cells of all columns side by side.
//!
//! Columns have their places in the order in which their first rows come, so that those that send nothing
//! take no room. A place is the same in all pages; a page is as wide as places were given when it was begun.

use super::Kept;
use super::lane::{LEAST_WIDTH, Lane, LaneRuns, Widths};
use crate::Cell;
use crate::series::Run;

/// Rows that came alone, and of which all that is kept has its usual width.
#[derive(Debug)]
pub(super) struct Dense {
    places: Vec<Place>,
    /// By cell: how many places have been given.
    given: [u16; 2],
    /// Columns that the first page will have, as far as the first frame tells.
    expected: usize,
    /// By cell: rows of the finest archive.
    fine: [Lane; 2],
    /// Rows of other archives.
    coarse: Vec<Lane>,
}

/// Where in pages a column has its cells, and of which width these are. Small, since every column has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u16);

impl Place {
    const NONE: Self = Self(u16::MAX);
    /// Set where cells have 8 bytes. Their places are beyond any page of narrow cells.
    const WIDE: u16 = 1 << 15;

    fn new(number: u16, cell: Cell) -> Self {
        Self(number | if cell == Cell::F64 { Self::WIDE } else { 0 })
    }

    /// The number among those of this cell; beyond any page where it has none.
    #[inline]
    pub(super) fn among(self, cell: Cell) -> usize {
        let mark = if cell == Cell::F64 { Self::WIDE } else { 0 };
        usize::from(self.0 ^ mark)
    }

    fn of(self) -> Option<(Cell, usize)> {
        let cell = if self.0 & Self::WIDE == 0 { Cell::F32 } else { Cell::F64 };
        (self != Self::NONE).then_some((cell, usize::from(self.0 & !Self::WIDE)))
    }
}

impl Default for Dense {
    fn default() -> Self {
        let lane = |cell| Lane::new(0, Kept { cell, last: false });
        Self {
            places: Vec::new(),
            given: [0; 2],
            expected: 0,
            fine: [lane(Cell::F32), lane(Cell::F64)],
            coarse: Vec::new(),
        }
    }
}

impl Dense {
    pub(super) fn is_empty(&self) -> bool {
        self.fine.iter().chain(&self.coarse).all(Lane::is_empty)
    }

    /// Where columns have their cells, and the lanes: by cell those of the finest archive, and all others.
    pub(super) const fn parts(&mut self) -> (&[Place], &mut [Lane; 2], &mut [Lane]) {
        (self.places.as_slice(), &mut self.fine, self.coarse.as_mut_slice())
    }

    pub(super) const fn column_count(&self) -> usize {
        self.places.len()
    }

    /// Makes room for so many columns.
    #[inline]
    pub(super) fn grow(&mut self, column_count: usize) {
        if self.places.len() < column_count {
            self.places.reserve_exact(column_count - self.places.len());
            self.places.resize(column_count, Place::NONE);
        }
    }

    /// Says how many columns a frame has, if it is the first.
    #[inline]
    pub(super) fn expect(&mut self, sample_count: usize) {
        if self.given == [0; 2] {
            self.expected = sample_count.min(self.places.len());
        }
    }

    /// Drops the rows of a column.
    pub(super) fn forget(&mut self, column: usize) {
        if let Some(place) = self.places.get_mut(column) {
            *place = Place::NONE;
        }
    }

    /// Adds a row of the finest archive in a cell of four bytes where its page and its place are there
    /// already; false where nothing was added.
    #[inline]
    pub(super) fn put_next(&mut self, column: usize, row: i64, value: f64) -> bool {
        let place = self.places.get(column).map_or(Place::NONE, |place| *place);
        self.fine[0].put_next(row, usize::from(place.0), value)
    }

    /// Adds a row; false where it is not one for here, and nothing was added.
    pub(super) fn put(&mut self, column: usize, kept: Kept, run: &Run) -> bool {
        if run.count != 1 || run.reset || u16::try_from(run.known).is_err() {
            return false;
        }
        let Some(place) = self.place(column, kept.cell) else { return false };
        let widths = self.widths(kept.cell);
        if widths.next < LEAST_WIDTH {
            return false;
        }
        self.lane_mut(run.archive, kept).is_some_and(|lane| lane.put(place, widths, run))
    }

    /// The place of a column whose cells are these, given now if it has none; `None` where no more can be
    /// given, as to columns that change hands over and over.
    fn place(&mut self, column: usize, cell: Cell) -> Option<usize> {
        let place = self.places.get_mut(column)?;
        if let Some((of, number)) = place.of() {
            return (of == cell).then_some(number);
        }
        let given = &mut self.given[number(cell)];
        if *given >= Place::WIDE - 1 {
            return None;
        }
        *place = Place::new(*given, cell);
        *given += 1;
        place.of().map(|(_, number)| number)
    }

    /// How wide the next page is to be.
    fn widths(&self, cell: Cell) -> Widths {
        let given = usize::from(self.given[number(cell)]);
        // Of the first row nobody knows yet how many columns follow; nearly all have narrow cells.
        let is_first = cell == Cell::F32 && self.fine[0].has_one_page_at_most();
        let next = if is_first { given.max(self.expected) } else { given };
        Widths { next, most: self.places.len() }
    }

    fn lane_mut(&mut self, archive: usize, kept: Kept) -> Option<&mut Lane> {
        if archive == 0 {
            return Some(&mut self.fine[number(kept.cell)]);
        }
        let known = self.coarse.iter().position(|lane| lane.is_of(archive, kept.cell));
        let at = known.unwrap_or_else(|| {
            self.coarse.reserve_exact(1);
            self.coarse.push(Lane::new(archive, kept));
            self.coarse.len() - 1
        });
        self.coarse.get_mut(at).filter(|lane| lane.keeps_last() == kept.last)
    }

    fn lane(&self, archive: usize, cell: Cell) -> Option<&Lane> {
        match archive {
            0 => Some(&self.fine[number(cell)]),
            _ => self.coarse.iter().find(|lane| lane.is_of(archive, cell)),
        }
    }

    /// The rows of one archive of a column, newest first.
    #[inline]
    pub(super) fn runs(&self, column: usize, archive: usize) -> Option<LaneRuns<'_>> {
        let (lane, place) = self.place_in(column, archive)?;
        Some(lane.runs(place))
    }

    /// The lane of one archive of a column, and the place it has there.
    #[inline]
    pub(super) fn place_in(&self, column: usize, archive: usize) -> Option<(&Lane, usize)> {
        let (cell, place) = self.places.get(column)?.of()?;
        Some((self.lane(archive, cell)?, place))
    }
}

const fn number(cell: Cell) -> usize {
    match cell {
        Cell::F32 => 0,
        Cell::F64 => 1,
    }
}

#[cfg(test)]
impl Dense {
    /// Bytes of all pages, and how many pages there are.
    pub(super) fn size(&self) -> (usize, usize) {
        let lanes = || self.fine.iter().chain(&self.coarse);
        (lanes().map(Lane::byte_count).sum(), lanes().map(Lane::page_count).sum())
    }
}
