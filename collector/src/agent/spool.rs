//! The spool: readings that the server has not made durable yet, in memory and bounded.
//!
//! A batch gets its number when it is first sent; from then on its content does not change. Readings
//! behind it wait without a number, so that a backlog travels in few large batches.

use std::collections::VecDeque;

use crate::native::{Position, Reading};

/// Bytes of readings kept while the collector is away: about five days of a usual machine at 10 s.
pub(super) const SPOOL_BYTES: usize = 64 << 20;

/// Samples in one batch: a quarter of what the server takes at once, some 60 KB.
const BATCH_SAMPLES: usize = 5000;

/// Bytes of memory one reading takes besides its values.
const READING_BYTES: usize = size_of::<Reading>();

/// One numbered batch.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) readings: Vec<Reading>,
    /// Where the server's journal holds it; it may still be lost there.
    accepted: Option<Position>,
}

/// Batches in order of number without a gap, then readings without a number.
#[derive(Debug)]
pub(super) struct Spool {
    batches: VecDeque<Batch>,
    waiting: VecDeque<Reading>,
    /// The number of the next batch to be made.
    next_number: u64,
    /// The number of the next batch to send.
    cursor: u64,
    /// Samples in the next batch; less than usual after the server called one too large.
    batch_samples: usize,
    bytes: usize,
    bytes_max: usize,
    dropped: u64,
}

impl Spool {
    /// An empty spool that holds at most `bytes_max` bytes of readings.
    pub(super) fn bounded(bytes_max: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            waiting: VecDeque::new(),
            next_number: 1,
            cursor: 1,
            batch_samples: BATCH_SAMPLES,
            bytes: 0,
            bytes_max,
            dropped: 0,
        }
    }

    /// Adds a reading; when the spool is full the oldest readings are dropped and counted.
    pub(super) fn push(&mut self, reading: Reading) {
        self.bytes += bytes_of(&reading);
        self.waiting.push_back(reading);
        while self.bytes > self.bytes_max {
            let oldest = match self.batches.pop_front() {
                Some(batch) => batch.readings,
                None => self.waiting.pop_front().into_iter().collect(),
            };
            self.bytes -= oldest.iter().map(bytes_of).sum::<usize>();
            self.dropped += samples(&oldest);
        }
    }

    /// The lowest number still here, or the next one when no batch is.
    pub(super) fn floor(&self) -> u64 {
        self.batches.front().map_or(self.next_number, |batch| batch.number)
    }

    /// Batches here; the readings without a number count as one.
    pub(super) fn len(&self) -> usize {
        self.batches.len() + usize::from(!self.waiting.is_empty())
    }

    /// Bytes of memory the readings take.
    pub(super) fn byte_count(&self) -> usize {
        self.bytes
    }

    /// Samples dropped because the spool was full or the server would never take them.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The next batch to send; `None` when all was sent.
    pub(super) fn next(&mut self) -> Option<&Batch> {
        self.cursor = self.cursor.max(self.floor());
        if self.cursor == self.next_number {
            self.number_waiting()?;
        }
        self.batch(self.cursor)
    }

    /// Makes the oldest waiting readings a batch.
    fn number_waiting(&mut self) -> Option<()> {
        let mut readings = Vec::new();
        let mut room = self.batch_samples;
        while let Some(reading) = self.waiting.pop_front() {
            if reading.values.len() <= room {
                room -= reading.values.len();
                readings.push(reading);
                continue;
            }
            if readings.is_empty() {
                readings.push(self.cut(reading, room));
            } else {
                self.waiting.push_front(reading);
            }
            break;
        }
        if readings.is_empty() {
            return None;
        }
        self.batches.push_back(Batch { number: self.next_number, readings, accepted: None });
        self.next_number += 1;
        Some(())
    }

    /// The first `sample_count` values of a reading; the others go on waiting as a reading of their own.
    fn cut(&mut self, mut first: Reading, sample_count: usize) -> Reading {
        let values = first.values.split_off(sample_count);
        self.waiting.push_front(Reading { at_ms: first.at_ms, values });
        self.bytes += READING_BYTES;
        first
    }

    fn batch(&self, number: u64) -> Option<&Batch> {
        let at = usize::try_from(number.checked_sub(self.floor())?).ok()?;
        self.batches.get(at)
    }

    /// The server took batch `number` into its journal at `accepted`, which is safe up to `durable`.
    /// Batches that are safe leave the spool.
    pub(super) fn accept(&mut self, number: u64, accepted: Position, durable: Position) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.number == number) {
            batch.accepted = Some(accepted);
            self.cursor = number + 1;
            // What called the batch too large may be gone: try more, slowly.
            let more = self.batch_samples + 1 + self.batch_samples / 32;
            self.batch_samples = more.min(BATCH_SAMPLES);
        }
        while let Some(batch) = self.batches.front() {
            if batch.accepted.is_none_or(|position| position > durable) {
                break;
            }
            let batch = self.batches.pop_front().expect("just seen");
            self.bytes -= batch.readings.iter().map(bytes_of).sum::<usize>();
        }
    }

    /// The server lacks batch `number` and those after it, or what is left of them. Returns the
    /// number that is sent next.
    pub(super) fn resend_from(&mut self, number: u64) -> u64 {
        self.cursor = number.clamp(self.floor(), self.next_number);
        for batch in self.batches.iter_mut().filter(|batch| batch.number >= number) {
            batch.accepted = None;
        }
        self.cursor
    }

    /// The server finds batch `number` too large. The newest one goes back to those that wait, and
    /// half as many samples will be sent; an older one, or a single sample, is dropped.
    pub(super) fn split(&mut self, number: u64) {
        let newest = self.batches.back().filter(|batch| batch.number == number);
        let sample_count = newest.map_or(0, |batch| samples(&batch.readings));
        let half = usize::try_from(sample_count / 2).unwrap_or(0);
        if half == 0 {
            return self.drop_batch(number);
        }
        self.batch_samples = half;
        let readings = self.batches.pop_back().map(|batch| batch.readings).unwrap_or_default();
        for reading in readings.into_iter().rev() {
            self.waiting.push_front(reading);
        }
        self.next_number = number;
    }

    /// Gives up batch `number` and all before it: the server will never take it.
    pub(super) fn drop_batch(&mut self, number: u64) {
        while self.batches.front().is_some_and(|batch| batch.number <= number) {
            let batch = self.batches.pop_front().expect("just seen");
            self.bytes -= batch.readings.iter().map(bytes_of).sum::<usize>();
            if batch.accepted.is_none() {
                self.dropped += samples(&batch.readings);
            }
        }
    }

    /// Takes all numbers back, for a server that knows none of them: another incarnation begins.
    pub(super) fn renumber(&mut self) {
        let batches = std::mem::take(&mut self.batches);
        let mut readings: VecDeque<Reading> =
            batches.into_iter().flat_map(|batch| batch.readings).collect();
        readings.append(&mut self.waiting);
        self.waiting = readings;
        (self.next_number, self.cursor) = (1, 1);
    }
}

fn bytes_of(reading: &Reading) -> usize {
    READING_BYTES + reading.values.len() * size_of::<(u32, f64)>()
}

fn samples(readings: &[Reading]) -> u64 {
    let count: usize = readings.iter().map(|reading| reading.values.len()).sum();
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at_ms: i64, sample_count: u32) -> Reading {
        Reading { at_ms, values: (0..sample_count).map(|id| (id, 0.0)).collect() }
    }

    fn at(seq: u64) -> Position {
        Position { log_epoch: 1, seq }
    }

    fn sent(spool: &mut Spool) -> Option<(u64, Vec<i64>)> {
        let batch = spool.next()?;
        Some((batch.number, batch.readings.iter().map(|reading| reading.at_ms).collect()))
    }

    #[test]
    fn a_reading_becomes_batch_one_and_leaves_when_durable() {
        let mut spool = Spool::bounded(SPOOL_BYTES);
        spool.push(reading(10, 3));
        assert_eq!(sent(&mut spool), Some((1, vec![10])));
        spool.accept(1, at(5), at(5));
        assert_eq!((sent(&mut spool), spool.floor(), spool.len(), spool.bytes), (None, 2, 0, 0));
    }

    #[test]
    fn an_unanswered_batch_keeps_its_content_while_others_wait() {
        let mut spool = Spool::bounded(SPOOL_BYTES);
        spool.push(reading(10, 3));
        assert_eq!(sent(&mut spool), Some((1, vec![10])));
        spool.push(reading(20, 3));
        spool.push(reading(30, 3));
        assert_eq!(sent(&mut spool), Some((1, vec![10])));
        spool.accept(1, at(1), at(1));
        assert_eq!(sent(&mut spool), Some((2, vec![20, 30])));
    }

    #[test]
    fn an_accepted_batch_stays_until_it_is_durable_and_is_not_sent_again() {
        let mut spool = Spool::bounded(SPOOL_BYTES);
        spool.push(reading(10, 1));
        spool.next();
        spool.accept(1, at(5), at(4));
        assert_eq!((sent(&mut spool), spool.floor()), (None, 1));
        spool.push(reading(20, 1));
        assert_eq!(sent(&mut spool), Some((2, vec![20])));
        spool.accept(2, at(6), at(6));
        assert_eq!((spool.floor(), spool.len()), (3, 0));
    }

    #[test]
    fn a_server_that_lost_its_tail_gets_it_again() {
        let mut spool = Spool::bounded(SPOOL_BYTES);
        for number in 1..=3 {
            spool.push(reading(i64::try_from(number).unwrap(), 1));
            spool.next();
            spool.accept(number, at(number), at(0));
        }
        spool.push(reading(4, 1));
        assert_eq!(sent(&mut spool), Some((4, vec![4])));
        assert_eq!(spool.resend_from(2), 2);
        for number in 2..=4 {
            assert_eq!(sent(&mut spool).map(|(number, _)| number), Some(number));
            spool.accept(number, at(number), at(4));
        }
        assert_eq!((spool.floor(), spool.len()), (5, 0));
    }

    #[test]
    fn what_is_asked_for_below_the_floor_starts_at_the_floor() {
        let mut spool = Spool::bounded(SPOOL_BYTES);
        spool.push(reading(1, 1));
        spool.next();
        spool.accept(1, at(1), at(1));
        spool.push(reading(2, 1));
        spool.next();
        assert_eq!(spool.resend_from(1), 2);
    }

    #[test]
    fn a_full_spool_drops_the_oldest_and_counts_their_samples() {
        let mut spool = Spool::bounded(3 * bytes_of(&reading(0, 10)));
        spool.push(reading(1, 10));
        spool.next();
        for at_ms in 2..=5 {
            spool.push(reading(at_ms, 10));
        }
        assert_eq!(spool.dropped(), 20, "batch 1 and reading 2");
        assert_eq!(sent(&mut spool), Some((2, vec![3, 4, 5])));
        assert_eq!(spool.floor(), 2, "the server is told that 1 will not come");
        spool.accept(1, at(1), at(1));
        assert_eq!(
            sent(&mut spool).map(|(number, _)| number),
            Some(2),
            "a late answer is harmless"
        );
    }

    #[test]
    fn a_backlog_travels_in_bounded_batches() {
        let mut spool = Spool::bounded(SPOOL_BYTES);
        for at_ms in 0..12 {
            spool.push(reading(at_ms, 1000));
        }
        let mut sizes = Vec::new();
        while let Some(batch) = spool.next() {
            let number = batch.number;
            sizes.push(batch.readings.len());
            spool.accept(number, at(number), at(number));
        }
        assert_eq!(sizes, [5, 5, 2]);
    }

    fn counted_bytes(spool: &Spool) -> usize {
        let batches = spool.batches.iter().flat_map(|batch| &batch.readings);
        batches.chain(&spool.waiting).map(bytes_of).sum()
    }

    fn sample_count(spool: &mut Spool) -> Option<(u64, u64)> {
        spool.next().map(|batch| (batch.number, samples(&batch.readings)))
    }

    #[test]
    fn a_batch_that_is_too_large_is_halved_down_to_one_sample() {
        let mut spool = Spool::bounded(SPOOL_BYTES);
        for at_ms in [10, 20, 30] {
            spool.push(reading(at_ms, 2));
        }
        for left in [6, 3, 1] {
            // Readings stay whole where they can: three samples fit one reading of two.
            let sent = if left == 3 { 2 } else { left };
            assert_eq!(sample_count(&mut spool), Some((1, sent)));
            assert_eq!(spool.bytes, counted_bytes(&spool));
            spool.split(1);
        }
        assert_eq!(spool.dropped(), 1, "one sample cannot be halved");
        assert_eq!(sent(&mut spool), Some((2, vec![10])), "the rest follows in order");
        assert_eq!(spool.bytes, counted_bytes(&spool));
    }

    #[test]
    fn after_a_batch_too_large_the_next_ones_are_small_and_grow_slowly() {
        let mut spool = Spool::bounded(SPOOL_BYTES);
        spool.push(reading(10, 100));
        spool.next();
        spool.split(1);
        let mut sizes = Vec::new();
        while let Some((number, size)) = sample_count(&mut spool) {
            spool.accept(number, at(number), at(number));
            sizes.push(size);
        }
        assert_eq!((sizes, spool.bytes), (vec![50, 50], 0));
        spool.push(reading(20, 100));
        assert_eq!(sample_count(&mut spool), Some((3, 54)));
    }

    #[test]
    fn renumbering_starts_at_one_with_everything_in_order() {
        let mut spool = Spool::bounded(SPOOL_BYTES);
        spool.push(reading(10, 1));
        spool.next();
        spool.accept(1, at(1), at(1));
        spool.push(reading(20, 1));
        spool.next();
        spool.push(reading(30, 1));
        spool.renumber();
        assert_eq!(sent(&mut spool), Some((1, vec![20, 30])));
    }
}
