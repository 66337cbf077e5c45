//! Geometry: where in a block the cells, checksums, accumulators and keys of its columns are.

use super::{
    Catalogue, Copy, DirectoryEntry, PLANES, Reader, Shape, accumulators_len, seal, unseal,
};
use crate::{ArchiveSpec, Cell, Policy};

/// Rows of one column that lie side by side (K): measured best between writing and reading.
pub(crate) const TILE_ROWS: u32 = 16;
/// Head of a block: eight archives of at most six planes each take 768 bytes of it.
pub(crate) const BLOCK_HEAD_LEN: usize = 1024;
const MAGIC: [u8; 4] = *b"BLK1";
/// Cells as they are; other numbers are for compression.
const CODEC_PLAIN: u8 = 0;
/// Planes begin on a cache line.
const PLANE_ALIGN: u64 = 64;
/// Blocks begin on a page.
const BLOCK_ALIGN: u64 = 4096;
const PLANE_LEN: usize = 16;
const FIXED_LEN: usize = 80;

const _: () = assert!(FIXED_LEN + Policy::MOST_ARCHIVES * 6 * PLANE_LEN + 4 <= BLOCK_HEAD_LEN);

/// What a plane holds of each row; readers pass over numbers they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Function {
    Average = 0,
    Min = 1,
    Max = 2,
    Known = 3,
    /// A CRC32C for each full tile of each column.
    Checksum = 4,
    Last = 5,
}

/// A block: some columns, with all their archives. Offsets count from the start of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) first_column: u32,
    /// Columns (W).
    pub(crate) width: u32,
    pub(crate) cell: Cell,
    accumulators_at: [u64; 2],
    catalogues_at: [u64; 2],
    pub(crate) rings: Vec<Ring>,
}

/// One archive of a block: a ring of tiles.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ring {
    /// Rows that may be read.
    pub(crate) row_count: u64,
    /// Finest steps a row (P).
    pub(crate) steps_per_row: u32,
    /// Tiles: enough for the rows, and one for the row being written into.
    pub(crate) tile_count: u64,
    width: u32,
    cell_len: u8,
    /// Bytes of a count of known steps; 0 in the finest archive, which has the average only.
    known_len: u8,
    keeps_last: bool,
    /// Average, min, max, last, known; those it has not are not looked at.
    planes: [u64; PLANES],
    checksums: u64,
}

impl Block {
    /// The block of these columns at `offset`.
    pub(crate) fn plan(
        policy: &Policy,
        offset: u64,
        first_column: u32,
        width: u32,
        cell: Cell,
    ) -> Self {
        assert!(offset.is_multiple_of(BLOCK_ALIGN), "blocks begin on a page");
        let mut room = Room(offset + BLOCK_HEAD_LEN as u64);
        let archive_count = policy.archives().len();
        let accumulators_at = [(); 2].map(|()| room.take(accumulators_len(width, archive_count)));
        let catalogues_at = [(); 2].map(|()| room.take(Catalogue::len(width)));
        let rings = policy
            .archives()
            .iter()
            .map(|archive| Ring::plan(archive, policy, width, cell, &mut room))
            .collect();
        let len = (room.0 - offset).next_multiple_of(BLOCK_ALIGN);
        Self { offset, len, first_column, width, cell, accumulators_at, catalogues_at, rings }
    }

    /// The first byte after the block.
    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.len
    }

    pub(crate) const fn accumulators_at(&self, copy: Copy) -> u64 {
        self.accumulators_at[copy]
    }

    pub(crate) const fn catalogue_at(&self, copy: Copy) -> u64 {
        self.catalogues_at[copy]
    }

    /// The columns of the block, as numbers of the file.
    pub(crate) const fn columns(&self) -> std::ops::Range<u32> {
        self.first_column..self.first_column + self.width
    }

    pub(crate) const fn directory_entry(&self) -> DirectoryEntry {
        let &Self { offset, len, first_column, width, .. } = self;
        DirectoryEntry { offset, len, first_column, width }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_HEAD_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.width.to_le_bytes());
        bytes.extend_from_slice(&TILE_ROWS.to_le_bytes());
        bytes.extend_from_slice(&self.first_column.to_le_bytes());
        bytes.extend_from_slice(&[self.cell as u8, CODEC_PLAIN, 0, 0]);
        let planes: Vec<_> = (0..).zip(&self.rings).flat_map(|(a, ring)| ring.planes(a)).collect();
        let plane_count = u32::try_from(planes.len()).expect("at most 40 planes");
        bytes.extend_from_slice(&plane_count.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        for at in self.accumulators_at.into_iter().chain(self.catalogues_at) {
            bytes.extend_from_slice(&(at - self.offset).to_le_bytes());
        }
        bytes.resize(FIXED_LEN, 0);
        for (archive, function, width, at) in planes {
            bytes.extend_from_slice(&[archive, function as u8, width, 0, 0, 0, 0, 0]);
            bytes.extend_from_slice(&(at - self.offset).to_le_bytes());
        }
        seal(bytes, BLOCK_HEAD_LEN)
    }

    /// The block with this head. `None` when it is damaged, or not laid out as this version lays out
    /// blocks of `policy`: planes that a later version adds come after these and are passed over.
    pub(crate) fn decode(bytes: &[u8], policy: &Policy, entry: &DirectoryEntry) -> Option<Self> {
        let mut fields = Reader(unseal(bytes)?);
        let is_ours = fields.take() == Some(MAGIC)
            && fields.u32()? == entry.width
            && fields.u32()? == TILE_ROWS
            && fields.u32()? == entry.first_column;
        let [cell, codec, ..] = fields.take::<4>()?;
        let plane_count = usize::try_from(fields.u32()?).ok()?;
        let is_within = fields.u64()? == entry.offset && fields.u64()? == entry.len;
        let is_aligned = entry.offset.is_multiple_of(BLOCK_ALIGN);
        if !is_ours || !is_within || !is_aligned || codec != CODEC_PLAIN {
            return None;
        }
        let cell = Cell::from_number(cell)?;
        let plan = Self::plan(policy, entry.offset, entry.first_column, entry.width, cell);
        let planned_at = plan.accumulators_at.into_iter().chain(plan.catalogues_at);
        for at in planned_at {
            if fields.u64()? != at - entry.offset {
                return None;
            }
        }
        let planes = bytes.get(FIXED_LEN..)?.chunks_exact(PLANE_LEN).take(plane_count);
        let planned: Vec<_> = (0..).zip(&plan.rings).flat_map(|(a, ring)| ring.planes(a)).collect();
        let is_as_planned = planned.iter().all(|&(archive, function, width, at)| {
            planes.clone().any(|plane| {
                let offset = plane.last_chunk().copied().map(u64::from_le_bytes);
                plane[..3] == [archive, function as u8, width] && offset == Some(at - entry.offset)
            })
        });
        (is_as_planned && plan.len <= entry.len).then_some(Self { len: entry.len, ..plan })
    }
}

impl Ring {
    fn plan(
        archive: &ArchiveSpec,
        policy: &Policy,
        width: u32,
        cell: Cell,
        room: &mut Room,
    ) -> Self {
        let steps_per_row = archive.steps_per_row(policy.step());
        let tile_count = archive.row_count.div_ceil(u64::from(TILE_ROWS)) + 1;
        let known_len = match steps_per_row {
            1 => 0,
            2..=255 => 1,
            256..=65_535 => 2,
            _ => 4,
        };
        let tiles = tile_count * u64::from(width);
        let cells = tiles * u64::from(TILE_ROWS);
        let keeps_last = known_len > 0 && policy.keeps_last();
        let shape = Shape { cell, known_len: usize::from(known_len), keeps_last };
        let mut planes = [0; PLANES];
        for (plane, len) in planes.iter_mut().zip(shape.lens()).filter(|(_, len)| *len > 0) {
            *plane = room.take(cells * len as u64);
        }
        let checksums = room.take(tiles * 4);
        Self {
            row_count: archive.row_count,
            steps_per_row,
            tile_count,
            width,
            cell_len: u8::try_from(cell.size()).expect("4 or 8"),
            known_len,
            keeps_last,
            planes,
            checksums,
        }
    }

    /// The tile that row number `row` is in, counted from 1970 and never repeated.
    pub(crate) const fn tile_of(row: i64) -> i64 {
        row.div_euclid(TILE_ROWS as i64)
    }

    /// The first row of a tile.
    pub(crate) const fn first_row(tile: i64) -> i64 {
        tile * TILE_ROWS as i64
    }

    /// The newest tile at a place of the ring when `newest` is the newest row there is.
    pub(crate) fn tile_at(&self, place: u64, newest: i64) -> Option<i64> {
        let last = Self::tile_of(newest);
        let back = (last - place.cast_signed()).rem_euclid(self.tile_count.cast_signed());
        last.checked_sub(back)
    }

    /// The first and last row of a tile, of those after `begin` and up to `filed`.
    pub(crate) fn rows_of(tile: i64, begin: i64, filed: i64) -> (i64, i64) {
        (Self::first_row(tile).max(begin + 1), (Self::first_row(tile + 1) - 1).min(filed))
    }

    /// The oldest tile that is still whole when `newest` is the newest row: of rows in a window of
    /// `row_count` ending at `newest`, none is in an older one, because there is a spare tile.
    pub(crate) const fn oldest_tile(&self, newest: i64) -> i64 {
        Self::tile_of(newest) - self.tile_count.cast_signed() + 1
    }

    /// Row `row`'s newest closed counterpart in this archive, given the newest of the finest.
    pub(crate) fn newest(&self, finest: i64) -> i64 {
        finest.div_euclid(i64::from(self.steps_per_row))
    }

    /// The cells of a tile from row `row` of it on, in each plane: offset and bytes a cell, which are
    /// 0 where the archive has no such plane.
    pub(crate) fn cells(
        &self,
        tile: i64,
        position: u32,
        row: u32,
    ) -> impl Iterator<Item = (u64, u64)> {
        let index = self.tile_index(tile, position) * u64::from(TILE_ROWS) + u64::from(row);
        let planes = self.planes.into_iter().zip(self.lens());
        planes.map(move |(plane, len)| (plane + index * len, len))
    }

    /// Where the checksum of a full tile is.
    pub(crate) fn checksum_at(&self, tile: i64, position: u32) -> u64 {
        self.checksums + self.tile_index(tile, position) * 4
    }

    /// How its rows are written in a block of this cell, which is that of the ring.
    pub(crate) const fn shape(&self, cell: Cell) -> Shape {
        Shape { cell, known_len: self.known_len as usize, keeps_last: self.keeps_last }
    }

    /// Bytes of a cell in each plane.
    fn lens(&self) -> [u64; PLANES] {
        let cell = u64::from(self.cell_len);
        let coarse = if self.known_len == 0 { 0 } else { cell };
        let last = if self.keeps_last { cell } else { 0 };
        [cell, coarse, coarse, last, u64::from(self.known_len)]
    }

    fn tile_index(&self, tile: i64, position: u32) -> u64 {
        let place = tile.rem_euclid(self.tile_count.cast_signed()).unsigned_abs();
        place * u64::from(self.width) + u64::from(position)
    }

    fn planes(&self, archive: u8) -> impl Iterator<Item = (u8, Function, u8, u64)> {
        use Function::{Average, Checksum, Known, Last, Max, Min};
        let functions = [Average, Min, Max, Last, Known].into_iter().zip(self.lens());
        let planes = functions.zip(self.planes).filter(|((_, len), _)| *len > 0);
        planes
            .map(|((function, len), at)| (function, u8::try_from(len).expect("at most 8"), at))
            .chain([(Checksum, 4, self.checksums)])
            .map(move |(function, width, at)| (archive, function, width, at))
    }
}

/// Room still to be given out.
struct Room(u64);

impl Room {
    fn take(&mut self, len: u64) -> u64 {
        let at = self.0.next_multiple_of(PLANE_ALIGN);
        self.0 = at + len;
        at
    }
}
