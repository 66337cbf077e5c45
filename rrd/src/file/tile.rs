//! A tile: sixteen rows of one column in one archive, under one checksum.
//!
//! The checksum runs over the rows in their order, so that it grows with each new row and no tile
//! need be read to write the next one. It begins with the tile's number since 1970, its column and
//! generation: rows of a previous lap or of a former series never pass for these.

use crate::series::Run;
use crate::{Cell, Column};

/// Cells hold their bits XOR these, so that zeroed storage is unknown.
const NAN_F32: u32 = f32::NAN.to_bits();
const NAN_F64: u64 = f64::NAN.to_bits();
/// Average, min, max, last, known.
pub(crate) const PLANES: usize = 5;
/// Four cells of 8 bytes and a count of 4.
pub(crate) const LONGEST_ROW: usize = 36;

const _: () = assert!(NAN_F32 == 0x7fc0_0000 && NAN_F64 == 0x7ff8_0000_0000_0000);

/// How the cells of one archive are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) cell: Cell,
    /// Bytes of the count of known steps; 0 in the finest archive.
    pub(crate) known_len: usize,
    /// The newest step of each row is kept too.
    pub(crate) keeps_last: bool,
}

impl Shape {
    /// Lengths of a row's cells in each plane; what the archive lacks has none.
    pub(crate) const fn lens(self) -> [usize; PLANES] {
        let cell = self.cell.size();
        let coarse = if self.known_len == 0 { 0 } else { cell };
        let last = if self.keeps_last { cell } else { 0 };
        [cell, coarse, coarse, last, self.known_len]
    }

    pub(crate) const fn row_len(self) -> usize {
        let [average, min, max, last, known] = self.lens();
        average + min + max + last + known
    }

    /// Puts the cells of some rows, which lie plane by plane, row by row into `rows`.
    pub(crate) fn gather(self, planes: [&[u8]; PLANES], rows: &mut [u8]) {
        let row_len = self.row_len();
        let mut column_at = 0;
        for (plane, len) in planes.into_iter().zip(self.lens()).filter(|(_, len)| *len > 0) {
            for (cell, row) in plane.chunks_exact(len).zip(rows.chunks_exact_mut(row_len)) {
                row[column_at..column_at + len].copy_from_slice(cell);
            }
            column_at += len;
        }
    }

    /// One row's cells side by side: average, min, max, last, known.
    pub(crate) fn write(self, run: &Run, row: &mut [u8; LONGEST_ROW]) {
        let cell = self.cell.size();
        self.put(run.average, &mut row[..cell]);
        if self.known_len > 0 {
            self.put(run.min, &mut row[cell..2 * cell]);
            self.put(run.max, &mut row[2 * cell..3 * cell]);
            let mut at = 3 * cell;
            if self.keeps_last {
                self.put(run.last, &mut row[at..at + cell]);
                at += cell;
            }
            let known = run.known.to_le_bytes();
            row[at..at + self.known_len].copy_from_slice(&known[..self.known_len]);
        }
    }

    /// Row number `row`, which [`Shape::write`] wrote; the archive is not known here, and is 0.
    pub(crate) fn read(self, row: i64, cells: &[u8]) -> Run {
        let cell = self.cell.size();
        let average = self.take(&cells[..cell]);
        let mut run = Run {
            archive: 0,
            first_row: row,
            count: 1,
            average,
            min: average,
            max: average,
            last: average,
            known: u32::from(!average.is_nan()),
        };
        if self.known_len == 0 {
            return run;
        }
        run.min = self.take(&cells[cell..2 * cell]);
        run.max = self.take(&cells[2 * cell..3 * cell]);
        run.last = if self.keeps_last { self.take(&cells[3 * cell..4 * cell]) } else { f64::NAN };
        let mut known = [0; 4];
        known[..self.known_len]
            .copy_from_slice(&cells[self.row_len() - self.known_len..][..self.known_len]);
        run.known = u32::from_le_bytes(known);
        run
    }

    #[expect(clippy::cast_possible_truncation, reason = "waiting rows are rounded to f32 already")]
    fn put(self, value: f64, bytes: &mut [u8]) {
        // One NaN for all, so that unknown is zero whatever the payload of the sender's NaN.
        match self.cell {
            Cell::F32 => {
                let bits = if value.is_nan() { NAN_F32 } else { (value as f32).to_bits() };
                bytes.copy_from_slice(&(bits ^ NAN_F32).to_le_bytes());
            }
            Cell::F64 => {
                let bits = if value.is_nan() { NAN_F64 } else { value.to_bits() };
                bytes.copy_from_slice(&(bits ^ NAN_F64).to_le_bytes());
            }
        }
    }

    fn take(self, bytes: &[u8]) -> f64 {
        match self.cell {
            Cell::F32 => {
                let bits = u32::from_le_bytes(bytes.try_into().expect("a cell of 4 bytes"));
                f64::from(f32::from_bits(bits ^ NAN_F32))
            }
            Cell::F64 => {
                let bits = u64::from_le_bytes(bytes.try_into().expect("a cell of 8 bytes"));
                f64::from_bits(bits ^ NAN_F64)
            }
        }
    }
}

/// The checksum of a tile before its first row.
pub(crate) fn begin_checksum(tile: i64, column: Column) -> u32 {
    let number = crc32c::crc32c(&tile.to_le_bytes());
    let index = crc32c::crc32c_append(number, &column.index.to_le_bytes());
    crc32c::crc32c_append(index, &column.generation.to_le_bytes())
}

/// The checksum with more rows.
pub(crate) fn add_rows(checksum: u32, rows: &[u8]) -> u32 {
    crc32c::crc32c_append(checksum, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_are_an_unknown_row_and_rows_read_back() {
        for (cell, known_len, keeps_last) in [
            (Cell::F32, 0, false),
            (Cell::F32, 1, false),
            (Cell::F32, 1, true),
            (Cell::F64, 2, false),
            (Cell::F64, 4, true),
        ] {
            let shape = Shape { cell, known_len, keeps_last };
            let none = shape.read(0, &[0; LONGEST_ROW]);
            let is_unknown = none.average.is_nan() && none.min.is_nan() && none.max.is_nan();
            assert!(is_unknown && none.last.is_nan() && none.known == 0);
            let mut run = Run {
                archive: 0,
                first_row: 7,
                count: 1,
                average: 1.5,
                min: 1.5,
                max: 1.5,
                last: 1.5,
                known: 1,
            };
            if known_len > 0 {
                (run.min, run.max, run.known) = (-0.0, f64::INFINITY, 200);
                run.last = if keeps_last { 9.0 } else { 0.0 };
            }
            let mut row = [0; LONGEST_ROW];
            shape.write(&run, &mut row);
            let mut read = shape.read(7, &row[..shape.row_len()]);
            if known_len > 0 && !keeps_last {
                assert!(read.last.is_nan());
                read.last = 0.0;
            }
            assert_eq!(read, run);
            assert!(row[shape.row_len()..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn another_lap_column_or_generation_has_another_checksum() {
        let column = Column { index: 1, generation: 1 };
        let base = begin_checksum(100, column);
        assert_ne!(base, begin_checksum(101, column));
        assert_ne!(base, begin_checksum(100, Column { index: 2, ..column }));
        assert_ne!(base, begin_checksum(100, Column { generation: 2, ..column }));
        assert_ne!(add_rows(add_rows(base, b"a"), b"b"), add_rows(add_rows(base, b"b"), b"a"));
    }
}
