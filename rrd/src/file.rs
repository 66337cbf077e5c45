//! An instance's file: what its bytes mean. Nothing here opens, reads or writes one.
//!
//! `docs/format.md` draws every byte. Two copies of all that a round rewrites (slot, labels,
//! accumulators, catalogues), each sealed with a CRC32C; the slot names the copies it belongs to.

mod anchors;
mod bytes;
mod catalogue;
mod geometry;
mod header;
mod patches;
mod slot;
mod tile;
mod undo;

pub(crate) use anchors::{ANCHOR_LEN, AnchorRing, run_of};
pub(crate) use bytes::{Reader, seal, unseal};
pub(crate) use catalogue::{Catalogue, Entry};
pub(crate) use geometry::{BLOCK_HEAD_LEN, Block, Ring};
pub(crate) use header::{
    DIRECTORY_AT, DirectoryEntry, FIRST_BLOCK_AT, HEADER_LEN, Header, LABELS_LEN, MOST_BLOCKS,
    labels_at, read_labels, write_labels,
};
pub(crate) use patches::{PatchRoom, Patches};
pub(crate) use slot::{AccumulatorsHead, SLOT_LEN, Slot, accumulators_len, record_len, slot_at};
pub(crate) use tile::{
    LONGEST_TILE, Part, SEAL_LEN, Shape, TILE_ROWS, TileBytes, add_rows, begin_checksum,
};
pub(crate) use undo::{UNDO_ENTRY_LEN, UNDO_HEAD_LEN, UndoBase, UndoEntry, undo_entries, undo_len};

/// Which of two copies; the other one is being kept for a restart.
pub(crate) type Copy = usize;
