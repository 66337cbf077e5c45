//! The undo area of a block: tiles as the slot of a restart knows them, saved before a round writes over
//! them.
//!
//! Entries follow each other behind the head of the area, each with its own checksum, and each for one
//! base: the slot whose rows they are. A round of the same base adds entries behind those there are and
//! never writes over one. A start that uses that slot puts all of them back; for any other slot they are
//! nothing. The head of the first block's area says whether any area of the file has some.

use super::{LONGEST_TILE, Reader, Ring, Slot, TILE_ROWS, seal, unseal};
use crate::series::LATE_ROWS;

/// Which slot the bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UndoBase {
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
}

/// Bytes of one place of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UndoEntry<'a> {
    /// From the start of the block.
    pub(crate) at: u64,
    pub(crate) bytes: &'a [u8],
}

/// Before the entries.
pub(crate) const UNDO_HEAD_LEN: usize = 32;
/// Before the bytes: sequence number, epoch, place, length, and a checksum of these and the bytes.
pub(crate) const UNDO_ENTRY_LEN: usize = 32;
const CHECKSUM_AT: usize = 28;

impl From<Slot> for UndoBase {
    fn from(slot: Slot) -> Self {
        Self { seq: slot.seq, epoch: slot.epoch }
    }
}

/// Bytes of the area of a block with these rings and columns: room for all that late readings can change.
pub(crate) fn undo_len(rings: &[Ring], width: u32) -> u64 {
    let of = |ring: &Ring| late_tiles(ring) * (UNDO_ENTRY_LEN + ring.shape.tile_len()) as u64;
    UNDO_HEAD_LEN as u64 + rings.iter().map(of).sum::<u64>() * u64::from(width)
}

/// How many tiles of one column hold rows that late readings can change.
fn late_tiles(ring: &Ring) -> u64 {
    let least = ring.row_width.least_steps();
    let rows = (LATE_ROWS.cast_unsigned() - 1) / u64::from(least) + 1;
    // So many rows lie in the most tiles where the first of them is the last of its tile.
    let tiles = (rows - 1).div_ceil(u64::from(TILE_ROWS)) + 1;
    tiles.min(ring.tile_count)
}

impl UndoBase {
    /// The head of the first block's area, where some area has entries for this base.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(UNDO_HEAD_LEN);
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        seal(bytes, UNDO_HEAD_LEN)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Reader(unseal(bytes)?);
        Some(Self { seq: fields.u64()?, epoch: fields.u64()? })
    }
}

impl UndoEntry<'_> {
    pub(crate) fn encode(&self, base: UndoBase, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&base.seq.to_le_bytes());
        out.extend_from_slice(&base.epoch.to_le_bytes());
        out.extend_from_slice(&self.at.to_le_bytes());
        let len = u32::try_from(self.bytes.len()).expect("at most a tile");
        out.extend_from_slice(&len.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), self.bytes);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(self.bytes);
    }
}

/// The entries of an area for this base, and where the next one begins.
pub(crate) fn undo_entries(area: &[u8], base: UndoBase) -> (Vec<UndoEntry<'_>>, usize) {
    let (mut entries, mut next) = (Vec::new(), UNDO_HEAD_LEN);
    while let Some(entry) = area.get(next..).and_then(|rest| entry(rest, base)) {
        next += UNDO_ENTRY_LEN + entry.bytes.len();
        entries.push(entry);
    }
    (entries, next)
}

/// The entry that begins here; `None` where there is none, or it is for another base.
fn entry(bytes: &[u8], base: UndoBase) -> Option<UndoEntry<'_>> {
    let mut fields = Reader(bytes);
    let found = UndoBase { seq: fields.u64()?, epoch: fields.u64()? };
    let at = fields.u64()?;
    let len = usize::try_from(fields.u32()?).ok().filter(|len| (1..=LONGEST_TILE).contains(len))?;
    let checksum = fields.u32()?;
    let saved = fields.bytes(len)?;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..CHECKSUM_AT]), saved);
    (found == base && sum == checksum).then_some(UndoEntry { at, bytes: saved })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Block, FIRST_BLOCK_AT};
    use crate::{Cell, Policy};

    const BASE: UndoBase = UndoBase { seq: 7, epoch: 2 };

    #[test]
    fn entries_read_back_up_to_the_first_that_is_torn_or_of_another_base() {
        let entries: [UndoEntry<'_>; 3] = [(64, &[1; 68][..]), (0, &[2; 212]), (9000, &[3; 4])]
            .map(|(at, bytes)| UndoEntry { at, bytes });
        let mut area = BASE.encode();
        assert_eq!((area.len(), UndoBase::decode(&area)), (UNDO_HEAD_LEN, Some(BASE)));
        assert_eq!(UndoBase::decode(&[0; UNDO_HEAD_LEN]), None);
        let ends: Vec<usize> = entries
            .iter()
            .map(|entry| {
                entry.encode(BASE, &mut area);
                area.len()
            })
            .collect();
        area.resize(1000, 0);
        assert_eq!(undo_entries(&area, BASE), (entries.to_vec(), ends[2]));
        for other in [UndoBase { seq: 8, ..BASE }, UndoBase { epoch: 1, ..BASE }] {
            assert_eq!(undo_entries(&area, other), (vec![], UNDO_HEAD_LEN));
        }
        for (at, left) in [(32, 0), (100, 0), (ends[0] + 40, 1), (ends[2] - 1, 2)] {
            let mut torn = area.clone();
            torn[at] ^= 1;
            let next = if left == 0 { UNDO_HEAD_LEN } else { ends[left - 1] };
            assert_eq!(undo_entries(&torn, BASE), (entries[..left].to_vec(), next), "torn at {at}");
        }
        let zero = UndoBase { seq: 0, epoch: 0 };
        assert_eq!(undo_entries(&[0; 500], zero), (vec![], UNDO_HEAD_LEN));
        assert_eq!(undo_entries(&area[..ends[0] - 1], BASE), (vec![], UNDO_HEAD_LEN), "cut");
    }

    #[test]
    fn the_area_has_room_for_every_tile_that_the_last_128_steps_touch() {
        for policy in [
            "1m:2d,5m:14d,1h:90d,1d:5y",
            "15m:2d,1d@Europe/Paris:5y",
            "10s:2m,30s:10m",
            "1s:1h,7s:1d,100s:30d;f64;last",
        ] {
            let policy = Policy::parse(policy).unwrap();
            let block = Block::plan(&policy, FIRST_BLOCK_AT, 0, 4, Cell::F32);
            for ring in &block.rings {
                // The oldest step that a late reading may fill, for newest rows of every residue.
                let per_row = i64::from(ring.row_width.least_steps());
                let most = (0..per_row * i64::from(TILE_ROWS)).step_by(7).map(|newest| {
                    let (oldest, newest) = (newest - LATE_ROWS + 1, ring.newest(newest));
                    let first = ring.row_width.newest(oldest - 1) + 1;
                    Ring::tile_of(newest) - Ring::tile_of(first) + 1
                });
                let most = most.max().unwrap().cast_unsigned().min(ring.tile_count);
                assert!(most <= late_tiles(ring), "{policy}: {most} of {per_row}");
            }
        }
    }
}
