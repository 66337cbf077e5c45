//! Reading a segment from its start, record by record, as far as its chain holds.

use super::record::{Packing, Record};
use super::room::{Room, Slot};
use super::segment::{FRAME_BYTES, HEADER_BYTES, Header, SEGMENT_BYTES, body_len, verify};

/// A place in a segment, and all that must be known to read on from there.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// Where the next record begins.
    pub(super) offset: usize,
    /// The checksum of the record before.
    pub(super) chain: u32,
    pub(super) packing: Packing,
}

impl Reader {
    /// At the first record of a segment.
    pub(super) fn at_start(header: &Header) -> Self {
        Self { offset: HEADER_BYTES, chain: header.chain(), packing: Packing::default() }
    }

    /// The next record; `None` where the chain ends or the disk fails.
    pub(super) fn next(&mut self, room: &Room, slot: &Slot) -> Option<Record> {
        let mut frame = [0; FRAME_BYTES];
        let body_at = self.offset + FRAME_BYTES;
        if body_at > SEGMENT_BYTES {
            return None;
        }
        room.read(slot, self.offset, &mut frame).ok()?;
        let len = body_len(frame).filter(|len| body_at + len <= SEGMENT_BYTES)?;
        let mut body = vec![0; len];
        room.read(slot, body_at, &mut body).ok()?;
        self.chain = verify(frame, &body, self.chain)?;
        self.offset = body_at + len;
        self.packing.take(&body)
    }
}
