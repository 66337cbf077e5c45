//! Anchors: what counters stood at, one for each run of finest steps, each proved by a checksum of its own.
//!
//! They lie behind the tiles of a block, side by side for all columns, in a ring with room for two runs
//! more than the rows reach. An entry of another lap, series or column does not match, and nor does one
//! that was torn: then it is not there.

use super::geometry::Room;
use crate::series::{RUN_STEPS, run_ms};
use crate::{Anchor, ArchiveSpec, Column, Timestamp};

/// Moment, reading, checksum.
pub(crate) const ANCHOR_LEN: usize = 8 + 8 + 4;
/// The run that the oldest row is in may have begun before it; another is being filled.
const SPARE: u64 = 2;

/// Where the anchors of a block are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AnchorRing {
    offset: u64,
    width: u32,
    place_count: u64,
    run_ms: i64,
}

impl AnchorRing {
    pub(super) fn plan(finest: &ArchiveSpec, width: u32, room: &mut Room) -> Self {
        let place_count = Self::reach(finest).cast_unsigned();
        let offset = room.take(place_count * u64::from(width) * ANCHOR_LEN as u64);
        Self { offset, width, place_count, run_ms: run_ms(finest.step) }
    }

    /// Runs that may be read, the one being filled included.
    pub(crate) const fn reach(finest: &ArchiveSpec) -> i64 {
        (finest.row_count.div_ceil(RUN_STEPS.cast_unsigned()) + SPARE).cast_signed()
    }

    /// The run that a moment belongs to: its END is part of it.
    pub(crate) const fn run_of(&self, at: Timestamp) -> i64 {
        run_of(at, self.run_ms)
    }

    /// How many runs it has room for.
    pub(crate) const fn place_count(&self) -> i64 {
        self.place_count.cast_signed()
    }

    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the anchor of a run is, of the column at this place of the block.
    pub(crate) const fn offset_of(&self, run: i64, position: u32) -> u64 {
        let place = run.rem_euclid(self.place_count.cast_signed()).cast_unsigned();
        self.offset + (place * self.width as u64 + position as u64) * ANCHOR_LEN as u64
    }

    pub(crate) fn encode(column: Column, anchor: Anchor) -> [u8; ANCHOR_LEN] {
        let mut bytes = [0; ANCHOR_LEN];
        bytes[..8].copy_from_slice(&anchor.at.as_millis().to_le_bytes());
        bytes[8..16].copy_from_slice(&anchor.reading.to_bits().to_le_bytes());
        let sum = checksum(column, &bytes[..16]);
        bytes[16..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The anchor of this run and column; `None` where these bytes are none, or another's.
    pub(crate) fn decode(
        &self,
        column: Column,
        run: i64,
        bytes: &[u8; ANCHOR_LEN],
    ) -> Option<Anchor> {
        let (body, sum) = bytes.split_last_chunk()?;
        let (at, reading) = body.split_first_chunk()?;
        let at = Timestamp::from_millis(i64::from_le_bytes(*at));
        let reading = f64::from_bits(u64::from_le_bytes(*reading.first_chunk()?));
        let is_it = u32::from_le_bytes(*sum) == checksum(column, body) && self.run_of(at) == run;
        is_it.then_some(Anchor { at, reading })
    }
}

/// The run that a moment belongs to: its END is part of it.
pub(crate) const fn run_of(at: Timestamp, run_ms: i64) -> i64 {
    at.as_millis().saturating_sub(1).div_euclid(run_ms)
}

fn checksum(column: Column, body: &[u8]) -> u32 {
    let mut name = [0; 8];
    name[..4].copy_from_slice(&column.index.to_le_bytes());
    name[4..].copy_from_slice(&column.generation.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&name), body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cell, Policy, file::Block};

    fn ring(policy: &str) -> (AnchorRing, Block) {
        let block = Block::plan(&Policy::parse(policy).unwrap(), 0, 0, 4, Cell::F32);
        (block.anchors.clone(), block)
    }

    #[test]
    fn an_anchor_is_read_back_by_its_own_column_and_in_its_own_lap_only() {
        let (ring, _) = ring("1m:2d,5m:14d");
        let column = Column { index: 3, generation: 2 };
        let anchor = Anchor { at: Timestamp::from_secs(64 * 60 * 7), reading: 1.5 };
        let bytes = AnchorRing::encode(column, anchor);
        assert_eq!(ring.run_of(anchor.at), 6, "the END is part of the run");
        assert_eq!(ring.decode(column, 6, &bytes), Some(anchor));
        let lap = ring.place_count.cast_signed();
        assert_eq!(ring.offset_of(6, 1), ring.offset_of(6 + lap, 1));
        assert_eq!(ring.decode(column, 6 + lap, &bytes), None);
        assert_eq!(ring.decode(Column { index: 2, ..column }, 6, &bytes), None);
        assert_eq!(ring.decode(Column { generation: 1, ..column }, 6, &bytes), None);
        assert_eq!(ring.decode(column, 6, &[0; ANCHOR_LEN]), None);
        assert_eq!(ring.decode(column, -1, &[0; ANCHOR_LEN]), None);
        for bit in 0..bytes.len() * 8 {
            let mut torn = bytes;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ring.decode(column, 6, &torn), None, "bit {bit}");
        }
    }

    #[test]
    fn anchors_lie_behind_the_tiles_and_inside_the_block() {
        for policy in ["1m:2d,5m:14d", "10s:1m", "1s:1s", "10s:5m;f64;last"] {
            let (ring, block) = ring(policy);
            let tiles = block.rings.last().unwrap();
            let last_tile = tiles.offset_of(tiles.tile_count.cast_signed() - 1, 3);
            assert!(last_tile + tiles.shape.tile_len() as u64 <= ring.offset, "{policy}");
            let last = ring.offset_of(ring.place_count.cast_signed() - 1, 3);
            assert!(last + ANCHOR_LEN as u64 <= block.len, "{policy}");
        }
    }
}
