//! Putting segments together: what their readings come to in coarser cells, as one segment.

use rrd::Kind;

use super::coarse::Coarse;
use super::queue::Segment;
use super::reader::Reader;
use super::record::{Packing, Piece, Record};
use super::room::Room;
use super::segment::{HEADER_BYTES, Header, SEGMENT_BYTES, seal};
use crate::agent::dictionary::Dictionary;
use crate::native::Entry;

/// Segments put together.
pub(super) struct Merged {
    coarse: Coarse,
    packing: Packing,
    numbers: Dictionary,
    /// The records of the segment that comes of them, and the last one's checksum.
    pub(super) bytes: Vec<u8>,
    pub(super) chain: u32,
    samples_in: u64,
    samples_out: u64,
    /// Samples in and out when the last segment that fits was added.
    samples: (u64, u64),
}

impl Merged {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            coarse: Coarse::new(header.cell_ms, header.step_ms),
            packing: Packing::default(),
            numbers: Dictionary::default(),
            bytes: Vec::new(),
            chain: header.chain(),
            samples_in: 0,
            samples_out: 0,
            samples: (0, 0),
        }
    }

    /// Adds a segment; false, and nothing added, when it does not fit.
    pub(super) fn add(&mut self, room: &Room, segment: &Segment) -> bool {
        let (len, chain) = (self.bytes.len(), self.chain);
        let mut numbers = Vec::new();
        let mut reader = Reader::at_start(&segment.header);
        while let Some(record) = reader.next(room, &segment.slot) {
            match record {
                Record::Entry(entry) => numbers.push(self.number(&entry)),
                Record::Piece(piece) => self.add_piece(piece, &numbers),
            }
        }
        let Self { coarse, packing, bytes, chain: end, samples_out, .. } = self;
        coarse.finish(&mut |piece| put(&piece, packing, bytes, end, samples_out));
        if self.bytes.len() > SEGMENT_BYTES - HEADER_BYTES {
            self.bytes.truncate(len);
            self.chain = chain;
            return false;
        }
        self.samples = (self.samples_in, self.samples_out);
        true
    }

    fn number(&mut self, entry: &Entry) -> Option<u32> {
        let number = self.numbers.adopt(entry)?;
        if number == self.packing.entry_count() {
            let mut body = Vec::new();
            self.packing.put_entry(entry.kind, &entry.labels, &mut body);
            self.chain = seal(&body, self.chain, &mut self.bytes);
            self.coarse.define(Kind::from_number(entry.kind).unwrap_or(Kind::Unknown));
        }
        Some(number)
    }

    fn add_piece(&mut self, mut piece: Piece, numbers: &[Option<u32>]) {
        self.samples_in += piece.values.len() as u64;
        let number = |id: u32| numbers.get(usize::try_from(id).ok()?).copied().flatten();
        piece.values.retain_mut(|(id, _)| match number(*id) {
            Some(number) => {
                *id = number;
                true
            }
            None => false,
        });
        let Self { coarse, packing, bytes, chain, samples_out, .. } = self;
        coarse.add(&piece, &mut |piece| put(&piece, packing, bytes, chain, samples_out));
    }

    pub(super) fn sample_loss(&self) -> u64 {
        self.samples.0.saturating_sub(self.samples.1)
    }
}

fn put(
    piece: &Piece,
    packing: &mut Packing,
    bytes: &mut Vec<u8>,
    chain: &mut u32,
    samples_out: &mut u64,
) {
    *samples_out += piece.values.len() as u64;
    let mut body = Vec::new();
    packing.put_piece(piece, &mut body);
    *chain = seal(&body, *chain, bytes);
}
