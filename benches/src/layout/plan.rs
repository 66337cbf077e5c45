//! The arithmetic of a layout: where the cells of a row and of a column are in a file.

use std::ops::Range;

/// A day of one-minute rows, and of five-minute rows.
pub(super) const FINE_ROWS: u64 = 1440;
pub(super) const COARSE_ROWS: u64 = 288;
const CELL: u64 = 4;
/// Average, minimum, maximum, known.
const COARSE_CELLS: [u64; 4] = [4, 4, 4, 1];
const PAGE: u64 = 4096;

/// How cells are laid out.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Rows of a tile.
    pub(super) k: u64,
    /// Columns of a block.
    pub(super) w: u64,
    /// The functions of a row in one record.
    pub(super) is_side_by_side: bool,
}

impl Plan {
    pub(super) const fn file_len(self, columns: u64) -> u64 {
        columns.div_ceil(self.w) * self.block_len()
    }

    /// Bytes of one closed minute, or of one closed five minutes, of a column.
    pub(super) fn fine(self, row: u64, column: u64) -> Range<u64> {
        let at = self.block(column) + self.number(row, column, FINE_ROWS) * CELL;
        at..at + CELL
    }

    pub(super) fn coarse(self, row: u64, column: u64) -> Vec<Range<u64>> {
        self.runs(row..row + 1, column)
    }

    /// Bytes of a day of minutes of a column, a range for each tile.
    pub(super) fn fine_day(self, column: u64) -> Vec<Range<u64>> {
        let tiles = (0..FINE_ROWS).step_by(usize_of(self.k));
        let run = |row: u64| {
            let first = self.fine(row, column).start;
            first..first + self.k.min(FINE_ROWS - row) * CELL
        };
        tiles.map(run).collect()
    }

    /// Bytes of a day of five minutes of a column.
    pub(super) fn coarse_day(self, column: u64) -> Vec<Range<u64>> {
        let tiles = (0..COARSE_ROWS).step_by(usize_of(self.k));
        tiles.flat_map(|row| self.runs(row..COARSE_ROWS.min(row + self.k), column)).collect()
    }

    /// Rows of one tile in the coarse archive.
    fn runs(self, rows: Range<u64>, column: u64) -> Vec<Range<u64>> {
        let base = self.block(column) + self.ring_len(FINE_ROWS, CELL);
        let number = self.number(rows.start, column, COARSE_ROWS);
        let count = rows.end - rows.start;
        if self.is_side_by_side {
            let row_len: u64 = COARSE_CELLS.iter().sum();
            let first = base + number * row_len;
            return std::iter::once(first..first + count * row_len).collect();
        }
        let mut plane = base;
        let run = |cell: u64| {
            let at = plane + number * cell;
            plane += self.ring_len(COARSE_ROWS, cell);
            at..at + count * cell
        };
        COARSE_CELLS.into_iter().map(run).collect()
    }

    const fn number(self, row: u64, column: u64, rows: u64) -> u64 {
        let place = (row / self.k) % self.tiles(rows);
        (place * self.w + column % self.w) * self.k + row % self.k
    }

    const fn block(self, column: u64) -> u64 {
        column / self.w * self.block_len()
    }

    const fn block_len(self) -> u64 {
        let [average, min, max, known] = COARSE_CELLS;
        let coarse = self.ring_len(COARSE_ROWS, average)
            + self.ring_len(COARSE_ROWS, min)
            + self.ring_len(COARSE_ROWS, max)
            + self.ring_len(COARSE_ROWS, known);
        (self.ring_len(FINE_ROWS, CELL) + coarse).next_multiple_of(PAGE)
    }

    const fn ring_len(self, rows: u64, cell: u64) -> u64 {
        self.tiles(rows) * self.w * self.k * cell
    }

    /// One spare, as the store has it.
    const fn tiles(self, rows: u64) -> u64 {
        rows.div_ceil(self.k) + 1
    }
}

/// Pages that some ranges of bytes lie in.
pub(super) fn pages(ranges: &[Range<u64>]) -> u64 {
    let mut touched: Vec<u64> =
        ranges.iter().flat_map(|range| range.start / PAGE..=(range.end - 1) / PAGE).collect();
    touched.sort_unstable();
    touched.dedup();
    touched.len() as u64
}

pub(super) fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("sizes of files that fit a disk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_a_place_of_its_own_within_the_file() {
        for (k, w, is_side_by_side) in [(1, 64, false), (16, 128, false), (160, 64, true)] {
            let plan = Plan { k, w, is_side_by_side };
            let mut taken = vec![false; usize_of(plan.file_len(130))];
            for column in 0..130 {
                let cells = (0..FINE_ROWS).map(|row| plan.fine(row, column));
                let coarse = (0..COARSE_ROWS).flat_map(|row| plan.coarse(row, column));
                for at in cells.chain(coarse).flatten() {
                    assert!(!std::mem::replace(&mut taken[usize_of(at)], true), "{at} twice");
                }
            }
        }
    }

    #[test]
    fn a_day_is_the_cells_of_its_rows() {
        let plan = Plan { k: 16, w: 64, is_side_by_side: false };
        let sorted = |ranges: Vec<Range<u64>>| {
            let mut bytes: Vec<u64> = ranges.into_iter().flatten().collect();
            bytes.sort_unstable();
            bytes
        };
        let rows = (0..FINE_ROWS).map(|row| plan.fine(row, 65)).collect();
        assert_eq!(sorted(plan.fine_day(65)), sorted(rows));
        let rows = (0..COARSE_ROWS).flat_map(|row| plan.coarse(row, 65)).collect();
        assert_eq!(sorted(plan.coarse_day(65)), sorted(rows));
        assert_eq!(pages(&plan.fine_day(65)), 90);
    }
}
