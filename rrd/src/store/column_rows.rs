//! Rows of one column on their way into the file: tile by tile, each under its checksum.

use std::io;
use std::ops::Range;

use crate::Column;
use crate::file::{LONGEST_TILE, Patches, Ring, SEAL_LEN, Shape, add_rows, begin_checksum};
use crate::series::Run;

/// Rows of one column and archive on their way into the file.
pub(super) struct ColumnRows<'a> {
    pub(super) ring: &'a Ring,
    pub(super) column: Column,
    pub(super) position: u32,
    /// Rows up to this one are before the series began.
    pub(super) begin: i64,
    /// Rows up to this one are in the file.
    pub(super) filed: i64,
    pub(super) newest: i64,
}

/// Where the rows of one column and archive come from.
pub(super) trait RowSource {
    /// Writes these rows in this shape. Rows are asked for in ascending order, each once.
    fn fill(&mut self, rows: Range<i64>, shape: Shape, bytes: &mut [u8]);
}

/// The generation of a column's first series, which has had no other before it.
const FIRST_SERIES: u32 = 1;

impl ColumnRows<'_> {
    /// Writes the rows after `filed`, whose tile has this checksum so far; that of the newest row's.
    pub(super) fn write(
        &self,
        source: &mut impl RowSource,
        mut checksum: u32,
        patches: &mut Patches<'_>,
    ) -> io::Result<u32> {
        // Rows of tiles that this very round would overwrite are left out; tiles stay whole.
        let oldest = Ring::first_row(self.ring.oldest_tile(self.newest));
        let mut row = oldest.max(self.filed + 1);
        while row <= self.newest {
            let tile = Ring::tile_of(row);
            let end = Ring::first_row(tile + 1).min(self.newest + 1);
            let so_far = if row == Ring::first_row(tile) || row == self.begin + 1 {
                None
            } else {
                Some(checksum)
            };
            checksum = self.write_tile(tile, row..end, source, so_far, patches)?;
            row = end;
        }
        Ok(checksum)
    }

    /// Writes rows of one tile, and the checksum behind them if the tile is full now. One that has no
    /// checksum so far is new, and written to its end; and from its start, where no series was before.
    fn write_tile(
        &self,
        tile: i64,
        rows: Range<i64>,
        source: &mut impl RowSource,
        so_far: Option<u32>,
        patches: &mut Patches<'_>,
    ) -> io::Result<u32> {
        let mut bytes = [0; LONGEST_TILE];
        let shape = self.ring.shape;
        let is_full = rows.end == Ring::first_row(tile + 1);
        let place = |row| usize::try_from(row - Ring::first_row(tile)).expect("a row of it");
        let (mut start, mut end) =
            (place(rows.start) * shape.row_len(), place(rows.end) * shape.row_len());
        let is_first = self.column.generation == FIRST_SERIES && self.filed == self.begin;
        source.fill(rows, shape, &mut bytes[start..end]);
        let checksum = so_far.unwrap_or_else(|| begin_checksum(tile, self.column));
        let checksum = add_rows(checksum, &bytes[start..end]);
        if is_full {
            bytes[end..end + SEAL_LEN].copy_from_slice(&checksum.to_le_bytes());
            end += SEAL_LEN;
        } else if so_far.is_none() {
            // What follows is a lap old, and nobody's: with zeroes there nothing is to be read between neighbours.
            end = shape.tile_len();
        }
        if so_far.is_none() && is_first {
            // Nor is what comes before the first row there ever was.
            start = 0;
        }
        patches
            .push(self.ring.offset_of(tile, self.position) + start as u64, &bytes[start..end])?;
        Ok(checksum)
    }
}

/// Rows looked up in ascending runs.
pub(super) struct RunRows<'a> {
    runs: &'a [Run],
    at: usize,
}

impl RowSource for RunRows<'_> {
    fn fill(&mut self, rows: Range<i64>, shape: Shape, bytes: &mut [u8]) {
        for (row, bytes) in rows.zip(bytes.chunks_exact_mut(shape.row_len())) {
            shape.write(&self.row(row), bytes);
        }
    }
}

impl<'a> RunRows<'a> {
    pub(super) const fn of(runs: &'a [Run]) -> Self {
        Self::from(runs, 0)
    }

    /// Those from this one on.
    pub(super) const fn from(runs: &'a [Run], at: usize) -> Self {
        Self { runs, at }
    }

    /// The one that the newest row asked for was in.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

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
            reset: false,
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::file::Block;
    use crate::{Cell, Disk as _, MemDisk, Policy};

    fn row(number: i64) -> Run {
        let value = 1.5;
        Run {
            archive: 0,
            first_row: number,
            count: 1,
            average: value,
            min: value,
            max: value,
            last: value,
            known: 1,
            reset: false,
        }
    }

    #[test]
    fn a_tile_that_is_begun_is_written_to_its_end_and_one_that_goes_on_only_where_it_grows() {
        let policy: Policy = "1m:1h,5m:6h".parse().unwrap();
        let block = Block::plan(&policy, 0, 0, 4, Cell::F32);
        let ring = &block.rings[1];
        let (tile_len, row_len) = (ring.shape.tile_len(), ring.shape.row_len());
        let disk = MemDisk::new();
        let file = disk.create(Path::new("/a")).unwrap();
        file.write_at(&vec![9; usize::try_from(block.len).unwrap()], 0).unwrap();
        let tile = || {
            let mut bytes = vec![0; 3 * tile_len];
            file.read_at(&mut bytes, ring.offset_of(4, 0)).unwrap();
            bytes
        };
        let write = |filed: i64, newest: i64, so_far: u32| {
            let column = Column { index: 1, generation: 2 };
            let rows: Vec<_> = (filed + 1..=newest).map(row).collect();
            let rows_of = ColumnRows { ring, column, position: 1, begin: 10, filed, newest };
            let mut patches = Patches::of(file.as_ref());
            let checksum = rows_of.write(&mut RunRows::of(&rows), so_far, &mut patches).unwrap();
            patches.write_all().unwrap();
            checksum
        };
        let first = Ring::first_row(4);
        let checksum = write(first - 1, first + 2, 0);
        let begun = tile();
        assert_eq!(begun[..tile_len], vec![9; tile_len], "the neighbour before");
        assert_eq!(begun[2 * tile_len..], vec![9; tile_len], "the neighbour after");
        assert!(begun[tile_len..][..row_len].iter().any(|byte| *byte != 0), "a row");
        assert!(begun[tile_len + 3 * row_len..2 * tile_len].iter().all(|byte| *byte == 0));
        let behind = ring.offset_of(4, 1) + 4 * row_len as u64;
        file.write_at(&vec![7; tile_len - 4 * row_len], behind).unwrap();
        write(first + 2, first + 3, checksum);
        let grown = tile();
        assert_eq!(grown[tile_len..][..3 * row_len], begun[tile_len..][..3 * row_len]);
        assert_eq!(grown[tile_len + 4 * row_len..2 * tile_len], vec![7; tile_len - 4 * row_len]);
    }

    #[test]
    fn the_first_tile_of_a_column_is_whole_unless_another_series_had_the_column() {
        for (generation, filed, is_whole) in [(1, 69, true), (2, 69, false), (1, 71, false)] {
            let block = Block::plan(&"1m:1h,5m:6h".parse().unwrap(), 0, 0, 4, Cell::F32);
            let ring = &block.rings[1];
            let disk = MemDisk::new();
            let file = disk.create(Path::new("/a")).unwrap();
            file.write_at(&vec![9; usize::try_from(block.len).unwrap()], 0).unwrap();
            let column = Column { index: 1, generation };
            let rows_of = ColumnRows { ring, column, position: 1, begin: 69, filed, newest: 73 };
            let rows: Vec<_> = (70..=73).map(row).collect();
            let mut patches = Patches::of(file.as_ref());
            rows_of.write(&mut RunRows::of(&rows), 0, &mut patches).unwrap();
            patches.write_all().unwrap();
            let mut before = vec![1; (70 - 64) * ring.shape.row_len()];
            file.read_at(&mut before, ring.offset_of(4, 1)).unwrap();
            let byte = if is_whole { 0 } else { 9 };
            assert!(before.iter().all(|found| *found == byte), "{generation} {filed}: {before:?}");
        }
    }
}
