//! A tile: sixteen rows of one column in one archive, side by side, and their checksum behind them.
//!
//! The checksum runs over the rows in their order, so that it grows with each new row and no tile
//! need be read to write the next one. It begins with the tile's number since 1970, its column and
//! generation: rows of a previous lap or of a former series never pass for these.

use std::ops::Range;

use crate::series::Run;
use crate::{Cell, Column};

/// Rows of one column that lie side by side (K): measured best between writing and reading.
pub(crate) const TILE_ROWS: u32 = 16;
/// The checksum of a full tile.
pub(crate) const SEAL_LEN: usize = 4;
/// The longest tile: rows of four cells of 8 bytes and a count of 4.
pub(crate) const LONGEST_TILE: usize = TILE_ROWS as usize * 36 + SEAL_LEN;
/// What a checksum begins with: tile, column, generation.
const NAME_LEN: usize = 16;
/// Cells hold their bits XOR these, so that zeroed storage is unknown.
const NAN_F32: u32 = f32::NAN.to_bits();
/// The sign in the last byte of a cell, which the bits of NaN leave as it is.
const SIGN: u8 = 0x80;
const NAN_F64: u64 = f64::NAN.to_bits();

const _: () = assert!(NAN_F32 == 0x7fc0_0000 && NAN_F64 == 0x7ff8_0000_0000_0000);
// Maps are copied by words of four bytes.
const _: () = assert!((TILE_ROWS as usize).is_multiple_of(4) && SEAL_LEN == 4);

/// How the rows of one archive are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) cell: Cell,
    /// Bytes of the count of known steps; 0 in the finest archive, which has the average only.
    pub(crate) known_len: usize,
    /// The newest step of each row is kept too.
    pub(crate) keeps_last: bool,
}

/// A number that each row has, where its archive keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Average,
    Min,
    Max,
    Last,
}

impl Shape {
    /// Bytes of a row: average; but in the finest archive min, max, last where it is kept, known.
    pub(crate) const fn row_len(self) -> usize {
        let coarse = if self.known_len == 0 { 0 } else { 2 };
        let last = if self.keeps_last { 1 } else { 0 };
        (1 + coarse + last) * self.cell.size() + self.known_len
    }

    /// Bytes of a tile, with its checksum: a multiple of four.
    pub(crate) const fn tile_len(self) -> usize {
        TILE_ROWS as usize * self.row_len() + SEAL_LEN
    }

    /// Writes one row into its bytes. The sign of the average is a reset where the kind of the series
    /// tells them: its rates have none.
    pub(crate) fn write(self, run: &Run, row: &mut [u8]) {
        let cell = self.cell.size();
        self.put(run.average, &mut row[..cell]);
        if run.reset {
            row[cell - 1] |= SIGN;
        }
        if self.known_len > 0 {
            self.put(run.min, &mut row[cell..2 * cell]);
            self.put(run.max, &mut row[2 * cell..3 * cell]);
            if self.keeps_last {
                self.put(run.last, &mut row[3 * cell..4 * cell]);
            }
            let known = run.known.to_le_bytes();
            row[self.row_len() - self.known_len..].copy_from_slice(&known[..self.known_len]);
        }
    }

    /// A number as it waits, in the bytes that files have for it; `None` where no row has come: then all
    /// bits are set.
    #[inline]
    pub(crate) fn filed_narrow(waits: [u8; 4]) -> Option<[u8; 4]> {
        let bits = u32::from_le_bytes(waits);
        (bits != u32::MAX).then(|| (bits ^ NAN_F32).to_le_bytes())
    }

    /// The same of a wide one.
    #[inline]
    pub(crate) fn filed_wide(waits: [u8; 8]) -> Option<[u8; 8]> {
        let bits = u64::from_le_bytes(waits);
        (bits != u64::MAX).then(|| (bits ^ NAN_F64).to_le_bytes())
    }

    /// Reads a number of each of some rows that [`Shape::write`] wrote: the average in place of those
    /// that the finest archive has not, unknown in place of a newest step that is not kept. Of the rows
    /// each `every`th is read, the first one among them.
    pub(crate) fn read(self, part: Part, (rows, every): (&[u8], usize), out: &mut [f64]) {
        let cell = self.cell.size();
        let at = match part {
            _ if self.known_len == 0 => 0,
            Part::Average => 0,
            Part::Min => cell,
            Part::Max => 2 * cell,
            Part::Last if self.keeps_last => 3 * cell,
            Part::Last => return out.fill(f64::NAN),
        };
        let stride = self.row_len() * every.max(1);
        match (self.cell, self.known_len) {
            (Cell::F32, 0) if every > 1 => {
                let cells = rows.as_chunks::<4>().0.iter().step_by(every);
                put_all(out, cells.map(|cell| narrow(cell)));
            }
            // The last of these chunks may be one row alone.
            (Cell::F32, _) if every > 1 => {
                put_all(out, rows.chunks(stride).map(|row| narrow(&row[at..])));
            }
            (Cell::F64, _) if every > 1 => {
                put_all(out, rows.chunks(stride).map(|row| wide(&row[at..])));
            }
            // Rows of one number each are read many at once.
            (Cell::F32, 0) => put_all(out, rows.chunks_exact(4).map(narrow)),
            (Cell::F64, 0) => put_all(out, rows.chunks_exact(8).map(wide)),
            (Cell::F32, _) => {
                put_all(out, rows.chunks_exact(stride).map(|row| narrow(&row[at..])));
            }
            (Cell::F64, _) => {
                put_all(out, rows.chunks_exact(stride).map(|row| wide(&row[at..])));
            }
        }
    }

    /// Reads how many steps of each `every`th row are known, in an archive that is not the finest.
    pub(crate) fn read_known(self, (rows, every): (&[u8], usize), out: &mut [u32]) {
        let (len, known_len) = (self.row_len(), self.known_len);
        let put = |(out, row): (&mut u32, &[u8])| {
            *out = match row[len - known_len..len] {
                [count] => u32::from(count),
                [low, high] => u32::from(u16::from_le_bytes([low, high])),
                ref count => count.first_chunk().copied().map_or(0, u32::from_le_bytes),
            };
        };
        if every > 1 {
            out.iter_mut().zip(rows.chunks(len * every)).for_each(put);
        } else {
            out.iter_mut().zip(rows.chunks_exact(len)).for_each(put);
        }
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
}

#[inline]
fn put_all(out: &mut [f64], values: impl Iterator<Item = f64>) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = value;
    }
}

#[inline]
fn narrow(bytes: &[u8]) -> f64 {
    let bits = u32::from_le_bytes(*bytes.first_chunk().expect("a cell of 4 bytes"));
    f64::from(f32::from_bits(bits ^ NAN_F32))
}

#[inline]
fn wide(bytes: &[u8]) -> f64 {
    let bits = u64::from_le_bytes(*bytes.first_chunk().expect("a cell of 8 bytes"));
    f64::from_bits(bits ^ NAN_F64)
}

/// A copy of one tile, behind what its checksum begins with. Aligned, because a checksum takes words of
/// eight bytes at once, and what comes before the first one byte by byte.
#[repr(align(8))]
pub(crate) struct TileBytes {
    bytes: [u8; NAME_LEN + LONGEST_TILE],
    row_len: usize,
}

impl TileBytes {
    /// Room for a tile of this shape.
    pub(crate) const fn of(shape: Shape) -> Self {
        Self { bytes: [0; NAME_LEN + LONGEST_TILE], row_len: shape.row_len() }
    }

    /// The whole tile, to be filled.
    pub(crate) fn tile(&mut self) -> &mut [u8] {
        &mut self.bytes[NAME_LEN..NAME_LEN + TILE_ROWS as usize * self.row_len + SEAL_LEN]
    }

    /// Some of its rows, the first being 0.
    pub(crate) fn rows(&self, rows: Range<usize>) -> &[u8] {
        &self.bytes[NAME_LEN + rows.start * self.row_len..NAME_LEN + rows.end * self.row_len]
    }

    /// The checksum behind the rows.
    pub(crate) fn seal(&self) -> u32 {
        let at = NAME_LEN + TILE_ROWS as usize * self.row_len;
        u32::from_le_bytes(*self.bytes[at..].first_chunk().expect("behind the rows"))
    }

    /// The checksum of these rows of tile number `tile`.
    pub(crate) fn checksum(&mut self, tile: i64, column: Column, rows: Range<usize>) -> u32 {
        let name = name(tile, column);
        if rows.start > 0 {
            return add_rows(crc32c::crc32c(&name), self.rows(rows));
        }
        self.bytes[..NAME_LEN].copy_from_slice(&name);
        crc32c::crc32c(&self.bytes[..NAME_LEN + rows.end * self.row_len])
    }
}

/// The checksum of a tile before its first row.
pub(crate) fn begin_checksum(tile: i64, column: Column) -> u32 {
    crc32c::crc32c(&name(tile, column))
}

/// The checksum with more rows.
pub(crate) fn add_rows(checksum: u32, rows: &[u8]) -> u32 {
    crc32c::crc32c_append(checksum, rows)
}

fn name(tile: i64, column: Column) -> [u8; NAME_LEN] {
    let mut name = [0; NAME_LEN];
    name[..8].copy_from_slice(&tile.to_le_bytes());
    name[8..12].copy_from_slice(&column.index.to_le_bytes());
    name[12..].copy_from_slice(&column.generation.to_le_bytes());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row number 7, as readers see it.
    fn read(shape: Shape, bytes: &[u8]) -> Run {
        let number = |part| {
            let mut out = [0.0];
            shape.read(part, (bytes, 1), &mut out);
            out[0]
        };
        let mut known = [u32::from(!number(Part::Average).is_nan())];
        if shape.known_len > 0 {
            shape.read_known((bytes, 1), &mut known);
        }
        Run {
            archive: 0,
            first_row: 7,
            count: 1,
            average: number(Part::Average),
            min: number(Part::Min),
            max: number(Part::Max),
            last: number(Part::Last),
            known: known[0],
            reset: false,
        }
    }

    #[test]
    fn zeroes_are_an_unknown_row_and_rows_read_back() {
        for (cell, known_len, keeps_last) in [
            (Cell::F32, 0, false),
            (Cell::F32, 1, false),
            (Cell::F32, 1, true),
            (Cell::F64, 0, false),
            (Cell::F64, 2, false),
            (Cell::F64, 4, true),
        ] {
            let shape = Shape { cell, known_len, keeps_last };
            let none = read(shape, &vec![0; shape.row_len()]);
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
                reset: false,
            };
            if known_len > 0 {
                (run.min, run.max, run.known) = (-0.0, f64::INFINITY, 200);
                run.last = if keeps_last { 9.0 } else { 0.0 };
            }
            let mut row = vec![0; shape.row_len()];
            shape.write(&run, &mut row);
            let mut back = read(shape, &row);
            if known_len > 0 && !keeps_last {
                assert!(back.last.is_nan());
                back.last = 0.0;
            }
            assert_eq!(back, run);
        }
    }

    #[test]
    fn every_tile_is_a_multiple_of_four_and_fits() {
        for cell in [Cell::F32, Cell::F64] {
            for (known_len, keeps_last) in
                [(0, false), (1, false), (1, true), (2, false), (2, true), (4, false), (4, true)]
            {
                let len = Shape { cell, known_len, keeps_last }.tile_len();
                assert!(len.is_multiple_of(4) && len <= LONGEST_TILE, "{len}");
            }
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

    #[test]
    fn a_copy_of_a_tile_has_the_checksum_that_grew_with_its_rows() {
        let shape = Shape { cell: Cell::F32, known_len: 1, keeps_last: false };
        let column = Column { index: 3, generation: 2 };
        let mut copy = TileBytes::of(shape);
        for (byte, number) in copy.tile().iter_mut().zip((0..250).cycle()) {
            *byte = number;
        }
        for (first, end) in [(0, 16), (0, 1), (5, 16), (5, 9)] {
            let grown = (first..end).fold(begin_checksum(-9, column), |sum, row| {
                add_rows(sum, copy.rows(row..row + 1))
            });
            assert_eq!(copy.checksum(-9, column, first..end), grown, "{first}..{end}");
        }
        let sealed = copy.tile().last_chunk().copied().map(u32::from_le_bytes);
        assert_eq!(Some(copy.seal()), sealed);
    }
}
