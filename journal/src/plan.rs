//! The plan of the log: where the next frame goes, and how much room is left.
//!
//! Frames are given their place when they are appended, so that what is accepted certainly fits.

use std::collections::VecDeque;

use crate::segment::{BLOCK, HEADER_BYTES};

/// The part of the space that only `append_reserved` may use: a sixteenth.
const RESERVE_SHARE: u64 = 16;

/// Laps in use, and the place after the last frame.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    segment_bytes: u64,
    segment_count: u32,
    /// From the oldest that holds frames above the checkpoint to the newest; their ordinals follow
    /// each other.
    laps: VecDeque<Lap>,
    /// The lap to be taken next when the newest is full.
    next_ordinal: u64,
    /// The end of the last frame in the newest lap.
    offset: u64,
}

/// One segment in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lap {
    pub(crate) ordinal: u64,
    pub(crate) last_seq: u64,
}

/// The place of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) ordinal: u64,
    pub(crate) offset: u64,
    /// The frame opens a new lap, whose header must be written too.
    pub(crate) opens_lap: bool,
}

impl Plan {
    /// The plan of a log in which `laps` are in use up to `offset` in the newest of them.
    pub(crate) fn new(
        segment_bytes: u64,
        segment_count: u32,
        laps: VecDeque<Lap>,
        offset: u64,
    ) -> Self {
        // Ordinals start at the number of segments: so the first lap is in segment 0, and 0 is "never".
        let next_ordinal = laps.back().map_or(u64::from(segment_count), |lap| lap.ordinal + 1);
        let offset = if laps.is_empty() { segment_bytes } else { offset };
        Self { segment_bytes, segment_count, laps, next_ordinal, offset }
    }

    /// Gives frame `seq` of `frame_len` bytes its place; `None` when there is no room, or only in the
    /// reserve and that is not for this frame. The first frame of a commit starts on a new block.
    pub(crate) fn place(
        &mut self,
        seq: u64,
        frame_len: usize,
        first_of_commit: bool,
        may_use_reserve: bool,
    ) -> Option<Place> {
        let frame_len = frame_len as u64;
        let here = if first_of_commit { self.offset.next_multiple_of(BLOCK) } else { self.offset };
        let opens_lap = here + frame_len > self.segment_bytes;
        let offset = if opens_lap { HEADER_BYTES } else { here };
        let free_segments = self.free_segments().checked_sub(u64::from(opens_lap))?;
        let left = self.room(offset + frame_len, free_segments);
        if offset + frame_len > self.segment_bytes || (!may_use_reserve && left < self.reserve()) {
            return None;
        }
        if opens_lap {
            self.laps.push_back(Lap { ordinal: self.next_ordinal, last_seq: seq });
            self.next_ordinal += 1;
        }
        let lap = self.laps.back_mut().expect("a lap was opened, or the frame would not fit");
        lap.last_seq = seq;
        self.offset = offset + frame_len;
        Some(Place { ordinal: lap.ordinal, offset, opens_lap })
    }

    /// Frees the laps wholly at or below `seq`, but the newest.
    pub(crate) fn recycle(&mut self, seq: u64) {
        while self.laps.len() > 1 && self.laps.front().is_some_and(|lap| lap.last_seq <= seq) {
            self.laps.pop_front();
        }
    }

    /// The used share of the space, 0 to 1.
    pub(crate) fn fill(&self) -> f64 {
        let left = self.room(self.offset, self.free_segments());
        #[expect(clippy::cast_precision_loss, reason = "a share to a few digits")]
        let (left, all) = (left as f64, self.capacity() as f64);
        1.0 - left / all
    }

    /// Bytes for frames in all segments.
    pub(crate) fn capacity(&self) -> u64 {
        (self.segment_bytes - HEADER_BYTES) * u64::from(self.segment_count)
    }

    /// True where frames of `bytes` in all find room outside the reserve, but for what their places waste
    /// at the ends of segments and commits.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.room(self.offset, self.free_segments()) >= self.reserve() + bytes as u64
    }

    fn reserve(&self) -> u64 {
        self.capacity() / RESERVE_SHARE
    }

    fn room(&self, offset: u64, free_segments: u64) -> u64 {
        self.segment_bytes.saturating_sub(offset)
            + free_segments * (self.segment_bytes - HEADER_BYTES)
    }

    fn free_segments(&self) -> u64 {
        u64::from(self.segment_count) - self.laps.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 64 << 10;

    fn plan() -> Plan {
        Plan::new(SEGMENT, 2, VecDeque::new(), 0)
    }

    #[test]
    fn the_first_frame_opens_the_first_lap_in_segment_0() {
        let place = plan().place(1, 64, true, false).unwrap();
        assert_eq!(place, Place { ordinal: 2, offset: HEADER_BYTES, opens_lap: true });
    }

    #[test]
    fn a_commit_starts_on_a_new_block_and_its_frames_follow_each_other() {
        let mut plan = plan();
        let mut offset = |seq, first| plan.place(seq, 64, first, false).unwrap().offset;
        assert_eq!(offset(1, true), 8192);
        assert_eq!(offset(2, false), 8192 + 64);
        assert_eq!(offset(3, true), 12_288);
    }

    #[test]
    fn the_last_sixteenth_is_the_reserve_and_then_the_log_is_full() {
        let mut plan = plan();
        let accepted = |plan: &mut Plan, reserved| {
            (1..100).take_while(|seq| plan.place(*seq, 4096, true, reserved).is_some()).count()
        };
        assert_eq!(accepted(&mut plan, false), 2 * 14 - 2, "28 blocks, the reserve takes 1.75");
        assert!(plan.fill() > 0.9);
        assert_eq!(accepted(&mut plan, true), 2);
        assert!((plan.fill() - 1.0).abs() < 1e-9);
        plan.recycle(13);
        assert!(plan.laps.len() == 2);
        plan.recycle(14);
        assert_eq!(plan.laps.len(), 1);
        assert_eq!(plan.place(99, 4096, true, false).unwrap().ordinal, 4);
    }
}
