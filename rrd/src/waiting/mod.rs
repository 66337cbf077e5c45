//! Waiting rows: closed, but not yet in the file. Readers see them; a round writes them.

mod cells;
mod chain;
mod dense;
mod known;
mod lane;
mod repairs;
mod straight;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use crate::series::Run;
use crate::{Anchor, Cell, Column};

pub(crate) use cells::Cells;
use chain::{Chain, ChainRuns};
use dense::Dense;
use lane::LaneRuns;
use repairs::Repairs;
pub(crate) use repairs::{repairs_of, with_repairs};
pub(crate) use straight::StraightRows;

/// Closed rows of one instance. Those of a column and archive come in ascending order.
///
/// Single rows lie side by side for all columns, with nothing beside their cells. All that is out of the
/// ordinary goes into a chain: runs of several rows, resets, anchors, rows of so few columns that pages
/// would stay empty.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    dense: Dense,
    chain: Chain,
    /// By column: whose rows it has. Empty while that is everywhere the first series.
    generations: Vec<u32>,
    repairs: Repairs,
}

/// How the numbers of a series are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) cell: Cell,
    /// Coarser rows keep their newest step, too.
    pub(crate) last: bool,
}

/// The generation of the first series of a column.
const FIRST: u32 = 1;

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.dense.is_empty() && self.chain.is_empty() && self.repairs.is_empty()
    }

    /// Puts a row, rounded as its cell rounds it, in the place of the closed one that was there.
    pub(crate) fn repair(&mut self, column: Column, run: &Run) {
        self.repairs.put(column, run);
    }

    /// Makes room for so many columns.
    #[inline]
    pub(crate) fn grow(&mut self, column_count: usize) {
        self.dense.grow(column_count);
    }

    /// Says how many samples a frame has: if it is the first, as many columns are likely to have rows.
    #[inline]
    pub(crate) fn expect_rows(&mut self, sample_count: usize) {
        self.dense.expect(sample_count);
    }

    /// Adds a row of the finest archive, as its cell will keep it. Rows of an earlier generation are
    /// dropped.
    #[inline]
    pub(crate) fn push_one(&mut self, of: (u32, u32), kept: Kept, row: i64, value: f64) {
        let (column, generation) = of;
        let is_usual = kept.cell == Cell::F32 && self.generation(column) == generation;
        if !is_usual || !self.dense.put_next(column as usize, row, value) {
            self.push_equal(of, kept, (row, 1), value);
        }
    }

    /// The cells of these rows, one of each archive, as far as their pages are there.
    #[inline]
    pub(crate) fn cells(
        &mut self,
        rows: &(impl Iterator<Item = (usize, i64)> + Clone),
    ) -> Cells<'_> {
        Cells::of(&mut self.dense, &self.generations, rows)
    }

    /// As [`Waiting::push_one`], for equal rows.
    #[inline(never)]
    pub(crate) fn push_equal(
        &mut self,
        (column, generation): (u32, u32),
        kept: Kept,
        (first_row, count): (i64, u64),
        value: f64,
    ) {
        let run = Run::of_equal(0, first_row, count, (value, 1));
        self.push(column, generation, kept, &run);
    }

    /// As [`Waiting::push_equal`], for rows of any archive.
    #[inline(never)]
    pub(crate) fn push(&mut self, column: u32, generation: u32, kept: Kept, run: &Run) {
        self.enter(column, generation);
        let column = column as usize;
        if !self.dense.put(column, kept, run) {
            self.chain.push(column, self.dense.column_count(), kept, run);
        }
    }

    /// Adds what a counter stood at.
    #[cold]
    pub(crate) fn push_anchor(&mut self, (column, generation): (u32, u32), anchor: Anchor) {
        self.enter(column, generation);
        self.chain.push_anchor(column as usize, self.dense.column_count(), anchor);
    }

    /// What comes is of this generation; another one's rows are dropped.
    fn enter(&mut self, column: u32, generation: u32) {
        let place = column as usize;
        self.dense.grow(place + 1);
        if self.generation(column) == generation {
            return;
        }
        let count = self.generations.len().max(self.dense.column_count());
        self.generations.resize(count, FIRST);
        self.generations[place] = generation;
        self.dense.forget(place);
        self.chain.forget(place);
    }

    #[inline]
    fn generation(&self, column: u32) -> u32 {
        self.generations.get(column as usize).map_or(FIRST, |generation| *generation)
    }

    /// The runs of one archive of a column, newest first.
    #[inline]
    pub(crate) fn runs(&self, column: u32, generation: u32, archive: usize) -> Runs<'_> {
        let place = self.place(column, generation);
        let dense = place.and_then(|place| self.dense.runs(place, archive));
        let mut chain = place.map(|place| self.chain.runs(place, archive));
        let chained = chain.as_mut().and_then(Iterator::next);
        Runs { dense, chain, chained }
    }

    /// What the counter of a column stood at, newest first.
    pub(crate) fn anchors(&self, column: u32, generation: u32) -> impl Iterator<Item = Anchor> {
        let place = self.place(column, generation);
        place.into_iter().flat_map(|place| self.chain.anchors(place))
    }

    fn place(&self, column: u32, generation: u32) -> Option<usize> {
        (self.generation(column) == generation).then_some(column as usize)
    }
}

/// Runs of one archive of a column, newest first: a look at each page, and no search.
pub(crate) struct Runs<'a> {
    dense: Option<LaneRuns<'a>>,
    chain: Option<ChainRuns<'a>>,
    /// The newest of the chain that is still to come.
    chained: Option<Run>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline]
    fn next(&mut self) -> Option<Run> {
        match self.chained {
            // Nearly always.
            None => self.dense.as_mut()?.next(),
            Some(chained) => self.newer(chained),
        }
    }
}

impl Runs<'_> {
    #[cold]
    fn newer(&mut self, chained: Run) -> Option<Run> {
        let row = self.dense.as_mut().and_then(LaneRuns::next_row);
        if row.is_some_and(|row| row > chained.first_row) {
            return self.dense.as_mut()?.next();
        }
        self.chained = self.chain.as_mut().and_then(Iterator::next);
        Some(chained)
    }
}

/// The number as a cell of four bytes gives it back: readers see the same before and after the round.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "rounding to the cell is the purpose")]
fn narrow(value: f64) -> f32 {
    if Cell::F32.holds(value) { value as f32 } else { f32::NAN }
}
