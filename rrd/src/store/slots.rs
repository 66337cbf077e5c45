//! The two slots of a file as they are, whichever a start would use: for who checks or copies files.

use std::io;

use crate::file::Block;
use crate::file::{
    AccumulatorsHead, DIRECTORY_AT, DirectoryEntry, FIRST_BLOCK_AT, Header, SLOT_LEN, Slot, slot_at,
};
use crate::{Cell, File, InstanceId, Policy};

/// What a start says of a file with one damaged slot; [`inspect_slots`] knows what it means.
pub const ONE_SLOT_DAMAGED: &str =
    "one of its two slots is damaged; the other one is used, compare its newest rows";

/// What the head of a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Slots {
    /// Whose file it is.
    pub instance: InstanceId,
    /// What it keeps.
    pub policy: Policy,
    /// Both slots.
    pub slots: [SlotView; 2],
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotView {
    /// The second slot of a file that no round has written: zeroes.
    Blank,
    /// Whole.
    Whole {
        /// The frame up to which the file stands in it.
        seq: u64,
        /// The journal's epoch when it was written.
        epoch: u64,
    },
    /// Not as it was written.
    Damaged {
        /// The frame that it stood at, where the accumulators of its round still say so.
        seq: Option<u64>,
    },
}

/// Reads the head of an archive. A head that cannot be used is answered with what is wrong, and what
/// helps.
pub fn inspect_slots(file: &dyn File) -> io::Result<Result<Slots, String>> {
    let mut head = vec![0; usize::try_from(FIRST_BLOCK_AT).expect("20 KiB")];
    if file.len()? < FIRST_BLOCK_AT {
        return Ok(Err("shorter than it was made; restore it from a backup".to_owned()));
    }
    file.read_at(&mut head, 0)?;
    let header = match Header::decode(&head) {
        Ok(header) => header,
        Err(what) => return Ok(Err(what)),
    };
    let mut slots = [SlotView::Blank; 2];
    let mut is_new = false;
    for (copy, view) in slots.iter_mut().enumerate() {
        let at = usize::try_from(slot_at(copy)).expect("within the head");
        let bytes = &head[at..at + SLOT_LEN];
        *view = match Slot::decode(bytes) {
            Some(slot) => {
                is_new = slot.seq == 0;
                SlotView::Whole { seq: slot.seq, epoch: slot.epoch }
            }
            None if copy == 1 && is_new && bytes.iter().all(|&byte| byte == 0) => SlotView::Blank,
            None => SlotView::Damaged { seq: accumulators_seq(file, &head, &header.policy, copy)? },
        };
    }
    Ok(Ok(Slots { instance: header.instance, policy: header.policy, slots }))
}

/// The sequence number in the first accumulators that belong to a slot.
fn accumulators_seq(
    file: &dyn File,
    head: &[u8],
    policy: &Policy,
    copy: usize,
) -> io::Result<Option<u64>> {
    let at = usize::try_from(DIRECTORY_AT).expect("10 KiB");
    let Some(entry) = DirectoryEntry::decode(&head[at..at + DirectoryEntry::LEN]) else {
        return Ok(None);
    };
    // Where accumulators are does not depend on the cell.
    if entry.offset != FIRST_BLOCK_AT || entry.width > 64 {
        return Ok(None);
    }
    let block = Block::plan(policy, entry.offset, entry.first_column, entry.width, Cell::F32);
    let mut bytes = [0; AccumulatorsHead::LEN];
    match file.read_at(&mut bytes, block.accumulators_at(copy)) {
        Ok(()) => Ok(AccumulatorsHead::decode(&bytes).map(|head| head.seq)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

impl Slots {
    /// The newest sequence number not above `upto`; `None` when no slot can be used.
    pub fn newest(&self, upto: u64) -> Option<u64> {
        let seqs = self.slots.iter().filter_map(|slot| match slot {
            SlotView::Whole { seq, .. } if *seq <= upto => Some(*seq),
            _ => None,
        });
        seqs.max()
    }

    /// The least sequence number of a whole slot.
    pub fn oldest(&self) -> Option<u64> {
        let seqs = self.slots.iter().filter_map(|slot| match slot {
            SlotView::Whole { seq, .. } => Some(*seq),
            _ => None,
        });
        seqs.min()
    }
}
