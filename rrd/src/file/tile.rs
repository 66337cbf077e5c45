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
/// Three cells of 8 bytes and a count of 4.
pub(crate) const LONGEST_ROW: usize = 28;

const _: () = assert!(NAN_F32 == 0x7fc0_0000 && NAN_F64 == 0x7ff8_0000_0000_0000);

/// How the cells of one archive are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) cell: Cell,
    /// Bytes of the count of known steps; 0 in the finest archive.
    pub(crate) known_len: usize,
}

impl Shape {
    /// Lengths of a row's cells in each plane; what the archive lacks has none.
    pub(crate) const fn lens(self) -> [usize; 4] {
        let cell = self.cell.size();
        let coarse = if self.known_len == 0 { 0 } else { cell };
        [cell, coarse, coarse, self.known_len]
    }

    pub(crate) const fn row_len(self) -> usize {
        let [average, min, max, known] = self.lens();
        average + min + max + known
    }

    /// One row's cells side by side: average, min, max, known.
    pub(crate) fn write(self, run: &Run, row: &mut [u8; LONGEST_ROW]) {
        let cell = self.cell.size();
        self.put(run.average, &mut row[..cell]);
        if self.known_len > 0 {
            self.put(run.min, &mut row[cell..2 * cell]);
            self.put(run.max, &mut row[2 * cell..3 * cell]);
            let known = run.known.to_le_bytes();
            row[3 * cell..3 * cell + self.known_len].copy_from_slice(&known[..self.known_len]);
        }
    }

    /// Average, min, max and known of a row that [`Shape::write`] wrote.
    pub(crate) fn read(self, row: &[u8]) -> (f64, f64, f64, u32) {
        let cell = self.cell.size();
        let average = self.take(&row[..cell]);
        if self.known_len == 0 {
            return (average, average, average, u32::from(!average.is_nan()));
        }
        let mut known = [0; 4];
        known[..self.known_len].copy_from_slice(&row[3 * cell..3 * cell + self.known_len]);
        let (min, max) = (self.take(&row[cell..2 * cell]), self.take(&row[2 * cell..3 * cell]));
        (average, min, max, u32::from_le_bytes(known))
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
        for (cell, known_len) in [(Cell::F32, 0), (Cell::F32, 1), (Cell::F64, 2), (Cell::F64, 4)] {
            let shape = Shape { cell, known_len };
            let (average, min, max, known) = shape.read(&[0; LONGEST_ROW]);
            assert!(average.is_nan() && min.is_nan() && max.is_nan() && known == 0);
            let run = Run {
                archive: 1,
                first_row: 0,
                count: 1,
                average: 1.5,
                min: if known_len == 0 { 1.5 } else { -0.0 },
                max: if known_len == 0 { 1.5 } else { f64::INFINITY },
                known: if known_len == 0 { 1 } else { 200 },
            };
            let mut row = [0; LONGEST_ROW];
            shape.write(&run, &mut row);
            assert_eq!(shape.read(&row), (run.average, run.min, run.max, run.known));
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
