//! A slot: where an instance stood at one sequence number, and which copies belong to it.

use super::{Copy, Reader, seal, unseal};
use crate::Batch;
use crate::series::Open;

const SLOTS_AT: u64 = 1024;
/// A sector, so that a slot is written whole or not at all by most devices; the seal proves it.
pub(crate) const SLOT_LEN: usize = 512;
/// Head of the accumulators of one block.
const HEAD_LEN: usize = 48;

/// The newest valid slot not above the checkpoint is what a restart begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// All frames of the instance up to this one are in the file.
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) batch: Batch,
    /// Sequence number of the labels' copy; 0 where none was written.
    pub(crate) labels_seq: u64,
    pub(crate) labels_copy: u8,
    /// Blocks that have accumulators of this slot; later ones hold no series yet.
    pub(crate) block_count: u32,
    /// The instance is no more: the file is to be removed.
    pub(crate) is_removed: bool,
}

/// Where a slot begins.
pub(crate) const fn slot_at(copy: Copy) -> u64 {
    SLOTS_AT + (copy * SLOT_LEN) as u64
}

impl Slot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT_LEN);
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.batch.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.batch.boot_id.to_le_bytes());
        bytes.extend_from_slice(&self.batch.number.to_le_bytes());
        bytes.extend_from_slice(&self.labels_seq.to_le_bytes());
        bytes.extend_from_slice(&self.block_count.to_le_bytes());
        bytes.push(self.labels_copy);
        bytes.push(u8::from(self.is_removed));
        seal(bytes, SLOT_LEN)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Reader(unseal(bytes)?);
        Some(Self {
            seq: fields.u64()?,
            epoch: fields.u64()?,
            batch: Batch {
                incarnation: fields.u64()?,
                boot_id: fields.u128()?,
                number: fields.u64()?,
            },
            labels_seq: fields.u64()?,
            block_count: fields.u32()?,
            labels_copy: fields.u8()?,
            is_removed: fields.u8()? != 0,
        })
    }
}

/// What stands before the records of one block's accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccumulatorsHead {
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    /// Sequence number of the catalogue's copy.
    pub(crate) catalogue_seq: u64,
    /// Checksum of the records of columns that have a series; others are not written.
    pub(crate) records_crc: u32,
    /// Columns that have a series: the first so many of the block.
    pub(crate) column_count: u32,
    pub(crate) catalogue_copy: u8,
}

impl AccumulatorsHead {
    pub(crate) const LEN: usize = HEAD_LEN;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN);
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.catalogue_seq.to_le_bytes());
        bytes.extend_from_slice(&self.records_crc.to_le_bytes());
        bytes.extend_from_slice(&self.column_count.to_le_bytes());
        bytes.push(self.catalogue_copy);
        seal(bytes, HEAD_LEN)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Reader(unseal(bytes)?);
        Some(Self {
            seq: fields.u64()?,
            epoch: fields.u64()?,
            catalogue_seq: fields.u64()?,
            records_crc: fields.u32()?,
            column_count: fields.u32()?,
            catalogue_copy: fields.u8()?,
        })
    }
}

/// Bytes of one column's record: generation, a checksum for each archive's open tile, the open end.
pub(crate) const fn record_len(archive_count: usize) -> usize {
    4 + 4 * archive_count + Open::encoded_len(archive_count - 1)
}

/// Bytes of one copy of a block's accumulators.
pub(crate) const fn accumulators_len(width: u32, archive_count: usize) -> u64 {
    HEAD_LEN as u64 + width as u64 * record_len(archive_count) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_and_a_head_read_back_and_zeroes_are_neither() {
        let slot = Slot {
            seq: 1,
            epoch: 2,
            batch: Batch { incarnation: 3, boot_id: 4, number: 5 },
            labels_seq: 6,
            labels_copy: 1,
            block_count: 7,
            is_removed: true,
        };
        assert_eq!(Slot::decode(&slot.encode()), Some(slot));
        assert_eq!(Slot::decode(&[0; SLOT_LEN]), None);
        let head = AccumulatorsHead {
            seq: 1,
            epoch: 2,
            catalogue_seq: 3,
            records_crc: 4,
            column_count: 5,
            catalogue_copy: 1,
        };
        assert_eq!(AccumulatorsHead::decode(&head.encode()), Some(head));
        assert_eq!(AccumulatorsHead::decode(&[0; HEAD_LEN]), None);
    }
}
