//! Geometry: where in a block the tiles, accumulators and keys of its columns are.

use super::anchors::AnchorRing;
use super::{Catalogue, Copy, DirectoryEntry, Shape, TILE_ROWS, accumulators_len, seal, undo_len};
use crate::calendar::{LONGEST_DAYS, RowWidth};
use crate::{ArchiveSpec, Cell, MAX_COLUMNS, Policy};

/// Head of a block: eight archives take 128 bytes of it.
pub(crate) const BLOCK_HEAD_LEN: usize = 1024;
const MAGIC: [u8; 4] = *b"BLK2";
/// Cells as they are; other numbers are for compression.
const CODEC_PLAIN: u8 = 0;
/// Parts of a block begin on a cache line.
const PART_ALIGN: u64 = 64;
/// Blocks begin on a page.
const BLOCK_ALIGN: u64 = 4096;
/// Where the head says how numbers are kept.
const CELL_AT: usize = 16;
const FIXED_LEN: usize = 88;
const ARCHIVE_LEN: usize = 16;

const _: () = assert!(FIXED_LEN + Policy::MOST_ARCHIVES * ARCHIVE_LEN + 4 <= BLOCK_HEAD_LEN);

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
    /// What counters stood at.
    pub(crate) anchors: AnchorRing,
    undo_at: u64,
    undo_len: u64,
}

/// One archive of a block: a ring of tiles.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ring {
    /// Rows that may be read.
    pub(crate) row_count: u64,
    /// Where its rows end among those of the finest archive.
    pub(crate) row_width: RowWidth,
    /// Tiles: enough for the rows, and one for the row being written into.
    pub(crate) tile_count: u64,
    /// How its rows are written.
    pub(crate) shape: Shape,
    width: u32,
    offset: u64,
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
            .collect::<Vec<_>>();
        let anchors = AnchorRing::plan(&policy.archives()[0], width, &mut room);
        let undo_len = undo_len(&rings, width);
        let undo_at = room.take(undo_len);
        let len = (room.0 - offset).next_multiple_of(BLOCK_ALIGN);
        Self {
            offset,
            len,
            first_column,
            width,
            cell,
            accumulators_at,
            catalogues_at,
            rings,
            anchors,
            undo_at,
            undo_len,
        }
    }

    /// Bytes from the start of a block of such a width to the end of a copy of its accumulators; to the end
    /// of its head without one. They do not depend on the cell.
    pub(crate) fn front_len(policy: &Policy, width: u32, copy: Option<Copy>) -> u64 {
        let mut room = Room(BLOCK_HEAD_LEN as u64);
        for _ in copy.iter().flat_map(|&copy| 0..=copy) {
            room.take(accumulators_len(width, policy.archives().len()));
        }
        room.0
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

    /// Where tiles are saved before they are written over, and how much room there is.
    pub(crate) const fn undo(&self) -> (u64, u64) {
        (self.undo_at, self.undo_len)
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
        let archive_count = u32::try_from(self.rings.len()).expect("at most eight archives");
        bytes.extend_from_slice(&archive_count.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        for at in self.accumulators_at.into_iter().chain(self.catalogues_at) {
            bytes.extend_from_slice(&(at - self.offset).to_le_bytes());
        }
        for at in [self.anchors.offset(), self.undo_at] {
            bytes.extend_from_slice(&(at - self.offset).to_le_bytes());
        }
        bytes.resize(FIXED_LEN, 0);
        for ring in &self.rings {
            let row_len = u32::try_from(ring.shape.row_len()).expect("at most 36");
            bytes.extend_from_slice(&row_len.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&(ring.offset - self.offset).to_le_bytes());
        }
        seal(bytes, BLOCK_HEAD_LEN)
    }

    /// The block with this head. `None` when it is damaged, or not laid out, to the last byte, as this
    /// version lays out blocks of `policy`.
    pub(crate) fn decode(bytes: &[u8], policy: &Policy, entry: &DirectoryEntry) -> Option<Self> {
        let &DirectoryEntry { offset, len, first_column, width } = entry;
        // What damage claims under a right checksum must not be multiplied out.
        if !offset.is_multiple_of(BLOCK_ALIGN) || width as usize > MAX_COLUMNS {
            return None;
        }
        let cell = Cell::from_number(*bytes.get(CELL_AT)?)?;
        let plan = Self::plan(policy, offset, first_column, width, cell);
        (plan.len == len && plan.encode() == bytes).then_some(plan)
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
        let row_width = archive.width(policy.step());
        let steps_per_row = archive.steps_per_row(policy.step());
        // The layout must not depend on what is known of a zone's days.
        let steps_per_row = match row_width {
            RowWidth::Even(steps) => steps,
            RowWidth::Days(..) => steps_per_row.saturating_mul(LONGEST_DAYS),
        };
        let tile_count = archive.row_count.div_ceil(u64::from(TILE_ROWS)) + 1;
        let known_len = match steps_per_row {
            1 => 0,
            2..=255 => 1,
            256..=65_535 => 2,
            _ => 4,
        };
        let shape = Shape { cell, known_len, keeps_last: known_len > 0 && policy.keeps_last() };
        let offset = room.take(tile_count * u64::from(width) * shape.tile_len() as u64);
        Self { row_count: archive.row_count, row_width, tile_count, shape, width, offset }
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
        self.row_width.newest(finest)
    }

    /// Tiles after which the first place is used again.
    pub(crate) const fn lap(&self) -> i64 {
        self.tile_count.cast_signed()
    }

    /// Where in the file the tile of the column at this place of the block begins: at a multiple of four.
    pub(crate) fn offset_of(&self, tile: i64, position: u32) -> u64 {
        let place = tile.rem_euclid(self.tile_count.cast_signed()).unsigned_abs();
        let number = place * u64::from(self.width) + u64::from(position);
        self.offset + number * self.shape.tile_len() as u64
    }

    /// The same of tiles that follow each other: a step from each to the next, where a division for each
    /// would be a fifth of what it takes to read them.
    pub(crate) fn offsets_of(
        &self,
        tiles: std::ops::Range<i64>,
        position: u32,
    ) -> impl Iterator<Item = u64> + Clone {
        let tile_len = self.shape.tile_len() as u64;
        let stride = u64::from(self.width) * tile_len;
        let first = self.offset + u64::from(position) * tile_len;
        let end = first + self.tile_count * stride;
        let mut next = self.offset_of(tiles.start, position);
        tiles.map(move |_| {
            let at = next;
            next = if at + stride == end { first } else { at + stride };
            at
        })
    }
}

/// Room still to be given out.
pub(super) struct Room(u64);

impl Room {
    pub(super) fn take(&mut self, len: u64) -> u64 {
        let at = self.0.next_multiple_of(PART_ALIGN);
        self.0 = at + len;
        at
    }
}
