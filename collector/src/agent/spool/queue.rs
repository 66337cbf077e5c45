//! The queue: readings in the order they were made, packed into segments, first in first out.

mod shrink;

use std::collections::{HashMap, VecDeque};
use std::io;

use tracing::warn;

use super::cursor::{Cursor, Taken};
use super::record::{PIECE_BYTES_MAX, Packing, Piece, VALUE_BYTES_MAX, entry_bytes_max};
use super::room::{Place, Room, Slot};
use super::segment::{FRAME_BYTES, HEADER_BYTES, Header, SEGMENT_BYTES, seal};
use crate::agent::dictionary::Dictionary;
use crate::native::Reading;

/// One segment.
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) slot: Slot,
    /// Where its records end.
    pub(super) used: usize,
    /// The last record's checksum.
    pub(super) chain: u32,
}

/// What the writer of the last segment knows.
#[derive(Default)]
pub(super) struct Head {
    pub(super) packing: Packing,
    /// The segment's numbers of series by those of the dictionary.
    pub(super) numbers: HashMap<u32, u32>,
}

/// What became of samples that did not leave as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Losses {
    /// Dropped: for want of room, or because their series has no number.
    pub(in crate::agent) dropped: u64,
    /// Gone into coarser cells.
    pub(in crate::agent) degraded: u64,
    /// Dropped because the server would never take them.
    pub(in crate::agent) refused: u64,
}

/// Whose readings are written.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) struct Life {
    pub(in crate::agent) boot_id: u128,
    pub(in crate::agent) step_ms: u64,
    /// Random, of this process.
    pub(in crate::agent) salt: u64,
}

/// Readings that wait for their journey.
pub(in crate::agent) struct Queue {
    pub(super) room: Room,
    /// Oldest first; the last one is being written while there is a head.
    pub(super) segments: VecDeque<Segment>,
    pub(super) head: Option<Head>,
    pub(super) cursor: Cursor,
    /// The cursor as it was before the last batch was taken: a batch too large goes back at once.
    before: Option<Cursor>,
    pub(super) released: Place,
    pub(super) next_seq: u64,
    /// The first segment of this life.
    pub(super) first_seq: u64,
    pub(super) life: Life,
    pub(super) losses: Losses,
    /// Something was written that is not synced.
    is_dirty: bool,
    /// A segment was finished that is not synced.
    is_sync_due: bool,
}

impl Queue {
    /// An empty queue in memory.
    pub(in crate::agent) fn in_memory(bytes_max: usize, life: Life) -> Self {
        Self::of(Room::in_memory(bytes_max), life)
    }

    pub(super) fn of(room: Room, life: Life) -> Self {
        Self {
            room,
            segments: VecDeque::new(),
            head: None,
            cursor: Cursor::at(Place::default()),
            before: None,
            released: Place::default(),
            next_seq: 1,
            first_seq: 0,
            life,
            losses: Losses::default(),
            is_dirty: false,
            is_sync_due: false,
        }
    }

    /// What follows is read at another step.
    pub(in crate::agent) fn set_step(&mut self, step_ms: u64) {
        if self.life.step_ms != step_ms {
            self.life.step_ms = step_ms;
            self.head = None;
        }
    }

    /// The clock that this life's readings were made with is found to be wrong: those that were not
    /// taken yet are moved.
    pub(in crate::agent) fn shift(&mut self, by_ms: i64) {
        let place = self.cursor.place();
        for segment in &mut self.segments {
            let is_ours = segment.header.seq >= self.first_seq && segment.header.seq >= place.seq;
            if !is_ours {
                continue;
            }
            segment.header.shift_ms = segment.header.shift_ms.saturating_add(by_ms);
            let header = segment.header.encode();
            if let Err(error) = self.room.write(&mut segment.slot, 0, &header) {
                warn!(%error, "the spool cannot note that the clock was wrong");
            }
        }
        self.is_dirty = true;
        self.head = None;
    }

    /// Bytes that wait, as they are packed.
    pub(in crate::agent) fn byte_count(&self) -> usize {
        let place = self.cursor.place();
        let waiting = self.segments.iter().filter(|segment| segment.header.seq >= place.seq);
        let begin =
            |s: &Segment| if s.header.seq == place.seq { place.offset } else { HEADER_BYTES };
        waiting.map(|segment| segment.used.saturating_sub(begin(segment))).sum()
    }

    /// True when so many bytes more need a segment that is not free, for tests.
    #[cfg(test)]
    pub(in crate::agent) fn is_full_after(&self, bytes: usize) -> bool {
        let used = self.segments.back().map_or(0, |segment| segment.used);
        self.room.free(self.segments.len()) <= shrink::SPARE && used + bytes > SEGMENT_BYTES
    }

    pub(in crate::agent) fn losses(&self) -> Losses {
        self.losses
    }

    /// Adds a reading whose numbers are the dictionary's.
    pub(in crate::agent) fn append(&mut self, reading: &Reading, dictionary: &Dictionary) {
        let mut rest = reading.values.as_slice();
        while let Some(first) = rest.first() {
            let fitting = self.fitting(rest, dictionary);
            let is_fresh = self.head.as_ref().is_some_and(|head| head.packing.entry_count() == 0);
            if fitting < rest.len() && !is_fresh {
                self.begin();
            } else if fitting == 0 {
                warn!(series = first.0, "a series' labels are longer than a segment of the spool");
                self.losses.dropped += 1;
                rest = &rest[1..];
            } else {
                let (values, later) = rest.split_at(fitting);
                match self.write(reading.at_ms, values, dictionary) {
                    Ok(()) => rest = later,
                    Err(error) => self.leave_disk(&error),
                }
            }
        }
    }

    /// How many of these values the last segment has room for, whatever they are.
    fn fitting(&self, values: &[(u32, f64)], dictionary: &Dictionary) -> usize {
        let (Some(head), Some(segment)) = (&self.head, self.segments.back()) else { return 0 };
        let frames = FRAME_BYTES + PIECE_BYTES_MAX;
        let mut left = (SEGMENT_BYTES - segment.used).saturating_sub(frames);
        let fits = |(id, _): &&(u32, f64)| {
            let entry = dictionary.entry(*id).filter(|_| !head.numbers.contains_key(id));
            let entry_bytes = entry.map_or(0, |e| FRAME_BYTES + entry_bytes_max(&e.labels));
            let after = left.checked_sub(VALUE_BYTES_MAX + entry_bytes);
            left = after.unwrap_or(0);
            after.is_some()
        };
        values.iter().take_while(fits).count()
    }

    /// Writes values that fit into the last segment.
    fn write(
        &mut self,
        at_ms: i64,
        values: &[(u32, f64)],
        dictionary: &Dictionary,
    ) -> io::Result<()> {
        let (Some(head), Some(segment)) = (&mut self.head, self.segments.back_mut()) else {
            return Ok(());
        };
        let (mut bytes, mut body, mut chain) = (Vec::new(), Vec::new(), segment.chain);
        let mut numbered = Vec::with_capacity(values.len());
        for (id, value) in values {
            let Some(entry) = dictionary.entry(*id) else { continue };
            let next = head.packing.entry_count();
            let number = *head.numbers.entry(*id).or_insert(next);
            if number == next {
                body.clear();
                head.packing.put_entry(entry.kind, &entry.labels, &mut body);
                chain = seal(&body, chain, &mut bytes);
            }
            numbered.push((number, *value));
        }
        body.clear();
        head.packing.put_piece(&Piece { at_ms, span_ms: 0, values: numbered }, &mut body);
        chain = seal(&body, chain, &mut bytes);
        self.room.write(&mut segment.slot, segment.used, &bytes)?;
        segment.used += bytes.len();
        segment.chain = chain;
        self.is_dirty = true;
        Ok(())
    }

    /// Begins a segment at the end.
    fn begin(&mut self) {
        self.make_room();
        let header = self.header();
        let mut slot = self.room.begin();
        if let Err(error) = self.room.write(&mut slot, 0, &header.encode()) {
            return self.leave_disk(&error);
        }
        self.push_segment(header, slot);
    }

    fn push_segment(&mut self, header: Header, slot: Slot) {
        self.next_seq = header.seq + 1;
        self.is_sync_due |= self.is_dirty;
        let chain = header.chain();
        self.segments.push_back(Segment { header, slot, used: HEADER_BYTES, chain });
        self.head = Some(Head::default());
    }

    fn header(&mut self) -> Header {
        let Life { boot_id, step_ms, .. } = self.life;
        let seq = self.next_seq;
        Header { seq, from: seq, salt: self.salt(), boot_id, step_ms, cell_ms: 0, shift_ms: 0 }
    }

    /// Another number each time.
    fn salt(&mut self) -> u64 {
        self.life.salt = self.life.salt.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.life.salt
    }

    /// The disk does not take what is written: it goes into memory from now on.
    fn leave_disk(&mut self, error: &io::Error) {
        warn!(%error, "the spool's disk fails; what is read now is kept in memory alone");
        self.room.leave_disk();
        let header = self.header();
        self.push_segment(header, Slot::Memory(Vec::new()));
    }

    /// The next readings, at most so many samples of one boot; `None` when there are none.
    pub(in crate::agent) fn take(
        &mut self,
        samples_max: usize,
        dictionary: &mut Dictionary,
    ) -> Option<Taken> {
        self.oldest_ms(dictionary)?;
        self.before = Some(self.cursor.clone());
        self.cursor.take(&self.room, &self.segments, samples_max, dictionary, &mut self.losses)
    }

    /// The moment of the oldest reading that waits.
    pub(in crate::agent) fn oldest_ms(&mut self, dictionary: &mut Dictionary) -> Option<i64> {
        self.cursor.find(&self.room, &self.segments, dictionary, &mut self.losses)
    }

    /// Goes back to a place that was not released, for what follows to be taken again.
    pub(in crate::agent) fn rewind(&mut self, place: Place) {
        let before = self.before.take().filter(|before| before.place() == place);
        self.cursor = match before {
            Some(before) if place >= self.released => before,
            _ => Cursor::at(place.max(self.released)),
        };
    }

    /// Goes back to the first place that was not released.
    pub(in crate::agent) fn rewind_all(&mut self) {
        self.rewind(self.released);
    }

    /// Everything before `place` has left for good.
    pub(in crate::agent) fn release(&mut self, place: Place) {
        self.released = self.released.max(place);
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|segment| segment.header.seq < place.seq)
        {
            let segment = self.segments.pop_front().expect("just seen");
            self.room.end(&segment.slot);
        }
        self.mark();
    }

    fn mark(&mut self) {
        if let Err(error) = self.room.mark(self.released) {
            warn!(%error, "the spool's mark cannot be written");
        }
    }

    /// The file to be synced: when a segment was finished, or `is_time` and something waits.
    pub(in crate::agent) fn take_unsynced(
        &mut self,
        is_time: bool,
    ) -> Option<std::sync::Arc<dyn rrd::disk::File>> {
        let is_due = self.is_sync_due || (is_time && self.is_dirty && self.byte_count() > 0);
        if !is_due {
            return None;
        }
        (self.is_dirty, self.is_sync_due) = (false, false);
        self.room.to_sync()
    }
}
