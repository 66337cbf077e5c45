//! Opening the queue of an earlier life: what is whole and has not left yet goes on waiting.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use rrd::disk::Disk;

use super::cursor::Cursor;
use super::queue::{Head, Life, Queue, Segment};
use super::reader::Reader;
use super::record::Record;
use super::room::{Place, Room, Slot};
use super::segment::Header;
use crate::agent::dictionary::Dictionary;

impl Queue {
    /// The queue in `dir`, reserved in full when there is none. Errors when the disk does not have
    /// that much room.
    pub(in crate::agent) fn open(
        disk: &dyn Disk,
        dir: &Path,
        bytes_max: usize,
        life: Life,
        dictionary: &mut Dictionary,
    ) -> io::Result<Self> {
        let mut room = Room::on_disk(disk, dir, bytes_max)?;
        let released = room.marked()?;
        let headers = room.headers()?;
        let last_seq = headers.iter().map(|(_, header)| header.seq).max().unwrap_or(0);
        let (live, gone) = sorted_out(&headers, released);
        for slot in gone {
            room.end(&Slot::File(slot));
        }
        let mut queue = Self::of(room, life);
        for (slot, header) in live {
            queue.load(slot, header);
        }
        queue.next_seq = last_seq.max(released.seq) + 1;
        queue.first_seq = queue.next_seq;
        let first = queue.segments.front().map_or(queue.next_seq, |segment| segment.header.seq);
        queue.released = released.max(Place::start_of(first));
        queue.cursor = Cursor::at(queue.released);
        queue.go_on(dictionary);
        Ok(queue)
    }

    fn load(&mut self, slot: u32, header: Header) {
        let slot = Slot::File(slot);
        let mut reader = Reader::at_start(&header);
        let (mut used, mut chain) = (reader.offset, reader.chain);
        while reader.next(&self.room, &slot).is_some() {
            (used, chain) = (reader.offset, reader.chain);
        }
        self.segments.push_back(Segment { header, slot, used, chain });
    }

    /// Goes on in the last segment when it was written in the same boot at the same step, so that a
    /// process that starts often does not take a segment each time.
    fn go_on(&mut self, dictionary: &mut Dictionary) {
        let is_crowded = self.segments.len() > self.room.segments_max() / 4;
        let Some(last) = self.segments.back().filter(|_| is_crowded) else { return };
        let Header { seq, boot_id, step_ms, cell_ms, shift_ms, .. } = last.header;
        let is_alike = (boot_id, step_ms) == (self.life.boot_id, self.life.step_ms);
        if !is_alike || (cell_ms, shift_ms) != (0, 0) {
            return;
        }
        // A power cut may keep the mark and take records before it: what is written in their place
        // would count as sent.
        if self.released > (Place { seq, offset: last.used, part: 0 }) {
            return;
        }
        let mut reader = Reader::at_start(&last.header);
        let mut head = Head::default();
        while reader.offset < last.used {
            match reader.next(&self.room, &last.slot) {
                Some(Record::Entry(entry)) => {
                    if let Some(id) = dictionary.adopt(&entry) {
                        head.numbers.insert(id, entry.id);
                    }
                }
                Some(Record::Piece(_)) => {}
                None => return,
            }
        }
        head.packing = reader.packing;
        self.head = Some(head);
    }
}

/// The segments that count, in their order, and the slots of the others: those that have left, and
/// those that a coarser one replaced.
fn sorted_out(headers: &[(u32, Header)], released: Place) -> (VecDeque<(u32, Header)>, Vec<u32>) {
    let is_replaced = |old: &Header| {
        headers
            .iter()
            .any(|(_, new)| new.cell_ms > old.cell_ms && (new.from..=new.seq).contains(&old.seq))
    };
    let is_gone = |header: &Header| header.seq < released.seq || is_replaced(header);
    let (gone, mut live): (Vec<_>, Vec<_>) =
        headers.iter().copied().partition(|(_, header)| is_gone(header));
    live.sort_by_key(|(_, header)| header.seq);
    (live.into(), gone.into_iter().map(|(slot, _)| slot).collect())
}
