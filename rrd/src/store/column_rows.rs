//! Rows of one column on their way into the file: tile by tile, each under its checksum.

use std::io;

use crate::Column;
use crate::file::{LONGEST_ROW, PLANES, Patches, Ring, Shape, TILE_ROWS, add_rows, begin_checksum};
use crate::series::Run;

/// Rows of one column and archive on their way into the file.
pub(super) struct ColumnRows<'a> {
    pub(super) ring: &'a Ring,
    pub(super) shape: Shape,
    pub(super) column: Column,
    pub(super) position: u32,
    /// Rows up to this one are before the series began.
    pub(super) begin: i64,
    /// Rows up to this one are in the file.
    pub(super) filed: i64,
    pub(super) newest: i64,
}

impl ColumnRows<'_> {
    /// Writes the rows after `filed`, whose tile has this checksum so far; that of the newest row's.
    pub(super) fn write(
        &self,
        runs: &[Run],
        mut checksum: u32,
        patches: &mut Patches<'_>,
    ) -> io::Result<u32> {
        // Rows of tiles that this very round would overwrite are left out; tiles stay whole.
        let oldest = Ring::first_row(self.ring.oldest_tile(self.newest));
        let mut row = oldest.max(self.filed + 1);
        let mut rows = RunRows { runs, at: 0 };
        while row <= self.newest {
            let tile = Ring::tile_of(row);
            let end = Ring::first_row(tile + 1).min(self.newest + 1);
            if row == Ring::first_row(tile) || row == self.begin + 1 {
                checksum = begin_checksum(tile, self.column);
            }
            checksum = self.write_tile(tile, row..end, &mut rows, checksum, patches)?;
            if end == Ring::first_row(tile + 1) {
                let at = self.ring.checksum_at(tile, self.position);
                patches.push(at, &checksum.to_le_bytes())?;
            }
            row = end;
        }
        Ok(checksum)
    }

    fn write_tile(
        &self,
        tile: i64,
        rows: std::ops::Range<i64>,
        source: &mut RunRows<'_>,
        mut checksum: u32,
        patches: &mut Patches<'_>,
    ) -> io::Result<u32> {
        const LONGEST_CELLS: usize = 8 * TILE_ROWS as usize;
        let mut planes = [[0; LONGEST_CELLS]; PLANES];
        let lens = self.shape.lens();
        let mut count = 0;
        let first = row_in_tile(tile, rows.start);
        for row in rows {
            let mut cells = [0; LONGEST_ROW];
            self.shape.write(&source.row(row), &mut cells);
            checksum = add_rows(checksum, &cells[..self.shape.row_len()]);
            let mut rest = &cells[..];
            for (plane, len) in planes.iter_mut().zip(lens) {
                let (cell, others) = rest.split_at(len);
                plane[count * len..(count + 1) * len].copy_from_slice(cell);
                rest = others;
            }
            count += 1;
        }
        for (plane, (at, len)) in planes.iter().zip(self.ring.cells(tile, self.position, first)) {
            let len = usize::try_from(len).expect("a cell of at most 8 bytes");
            if len > 0 {
                patches.push(at, &plane[..count * len])?;
            }
        }
        Ok(checksum)
    }
}

fn row_in_tile(tile: i64, row: i64) -> u32 {
    u32::try_from(row - Ring::first_row(tile)).expect("a row of this tile")
}

/// Rows looked up in ascending runs.
struct RunRows<'a> {
    runs: &'a [Run],
    at: usize,
}

impl RunRows<'_> {
    fn row(&mut self, row: i64) -> Run {
        let unknown = Run {
            archive: 0,
            first_row: row,
            count: 1,
            average: f64::NAN,
            min: f64::NAN,
            max: f64::NAN,
            last: f64::NAN,
            known: 0,
        };
        while let Some(run) = self.runs.get(self.at) {
            let end = run.first_row.saturating_add_unsigned(run.count);
            if row < run.first_row {
                break;
            }
            if row < end {
                return *run;
            }
            self.at += 1;
        }
        // Rows follow each other without gaps; should one be missing, it is not known.
        debug_assert!(false, "row {row} was never closed");
        unknown
    }
}
