//! What becomes of the oldest readings when no segment is free.
//!
//! The oldest half of what nobody has taken yet is put into cells of a minute, then of five; only what
//! is as coarse as that is dropped, the oldest first.

use std::ops::Range;

use tracing::warn;

use super::{Queue, Segment};
use crate::agent::spool::coarse::CELLS_MS;
use crate::agent::spool::cursor::Cursor;
use crate::agent::spool::merge::Merged;
use crate::agent::spool::room::Place;
use crate::agent::spool::segment::{HEADER_BYTES, Header};

/// Segments that stay free: older ones are put together in them.
pub(super) const SPARE: usize = 1;

impl Queue {
    /// Makes sure that a segment can be begun and one stays free.
    pub(super) fn make_room(&mut self) {
        while self.room.free(self.segments.len()) <= SPARE && self.segments.len() > 1 {
            if !self.degrade() {
                self.drop_oldest();
            }
        }
    }

    /// Puts segments of the oldest half that nobody has taken from together; false when there are none
    /// that would become fewer.
    fn degrade(&mut self) -> bool {
        let place = self.cursor.place();
        let is_touched = |segment: &Segment| Place::start_of(segment.header.seq) < place;
        let first = self.segments.iter().take_while(|segment| is_touched(segment)).count();
        let whole = self.segments.len().saturating_sub(first + 1);
        let half = first..first + whole.div_ceil(2);
        CELLS_MS.iter().any(|cell_ms| {
            let mut at = half.start;
            while at < half.end {
                let run = self.run(at..half.end, *cell_ms);
                if run >= 2 && self.coarsen(at, run, *cell_ms) {
                    return true;
                }
                at += run.max(1);
            }
            false
        })
    }

    /// How many segments from the first one on can go into one of cells of this length.
    fn run(&self, range: Range<usize>, cell_ms: u64) -> usize {
        let of = |segment: &Segment| {
            let Header { boot_id, step_ms, cell_ms: old, shift_ms, .. } = segment.header;
            (old < cell_ms && 2 * step_ms <= cell_ms).then_some((boot_id, step_ms, shift_ms))
        };
        let mut kinds = self.segments.range(range).map(of);
        match kinds.next().flatten() {
            Some(first) => 1 + kinds.take_while(|kind| *kind == Some(first)).count(),
            None => 0,
        }
    }

    /// Puts as many of `run` segments from `at` on as fit into one; false when fewer than two do, or
    /// the disk fails.
    fn coarsen(&mut self, at: usize, run: usize, cell_ms: u64) -> bool {
        let inputs = || self.segments.range(at..at + run);
        let Some(first) = inputs().next().map(|segment| segment.header) else { return false };
        let salt = self.life.salt.wrapping_add(1);
        let mut merged = Merged::new(&Header { salt, cell_ms, ..first });
        let merged_count = inputs().take_while(|segment| merged.add(&self.room, segment)).count();
        let Some(last) = inputs().nth(merged_count.wrapping_sub(1)).map(|s| s.header) else {
            return false;
        };
        if merged_count < 2 {
            return false;
        }
        self.salt();
        let header = Header { seq: last.seq, from: first.from, salt, cell_ms, ..first };
        let mut slot = self.room.begin();
        // The inputs are given up only when what replaces them is on the disk, its header last.
        let written = self
            .room
            .write(&mut slot, HEADER_BYTES, &merged.bytes)
            .and_then(|()| self.room.sync())
            .and_then(|()| self.room.write(&mut slot, 0, &header.encode()))
            .and_then(|()| self.room.sync());
        if let Err(error) = written {
            warn!(%error, "the spool cannot put old readings together");
            self.room.end(&slot);
            return false;
        }
        self.losses.degraded += merged.sample_loss();
        let used = HEADER_BYTES + merged.bytes.len();
        let segment = Segment { header, slot, used, chain: merged.chain };
        let old: Vec<Segment> = self.segments.drain(at..at + merged_count).collect();
        self.segments.insert(at, segment);
        for segment in old {
            self.room.end(&segment.slot);
        }
        true
    }

    /// Drops the oldest segment, unless it is the last one. What was taken of it is in memory.
    fn drop_oldest(&mut self) {
        let Some(segment) = self.segments.pop_front() else { return };
        let start = Place::start_of(segment.header.seq + 1);
        if self.cursor.place().seq <= segment.header.seq {
            let left = self.cursor.left_in(&self.room, &segment);
            self.losses.dropped += left;
            self.cursor = Cursor::at(start);
        }
        self.room.end(&segment.slot);
        self.released = self.released.max(start);
        self.mark();
    }
}
