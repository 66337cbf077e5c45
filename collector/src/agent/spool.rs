//! The spool: readings that the server has not made durable yet, bounded, on disk where there is a
//! state folder.
//!
//! A batch gets its number when it is first sent; from then on its content does not change and is in
//! memory. Readings behind it wait without a number in the queue, so that a backlog travels in few
//! large batches, and may become coarser there. What a process had numbered and not got rid of is sent
//! by the next one in its own numbers: the server knows such samples by their moments.

mod coarse;
mod cursor;
mod expand;
mod load;
mod merge;
mod queue;
mod reader;
mod record;
mod room;
mod segment;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub(super) use queue::{Life, Losses, Queue};

use super::dictionary::Dictionary;
use crate::native::{Position, Reading};
use room::Place;

/// Bytes of packed readings kept while the collector is away: weeks of a usual machine at 10 s.
pub(super) const SPOOL_BYTES: usize = 64 << 20;

/// Samples in one batch: a quarter of what the server takes at once, some 60 KB.
const BATCH_SAMPLES: usize = 5000;

/// Bytes of numbered batches in memory. Only a server that acknowledges long before it syncs lets them
/// become many; it holds the oldest of them already, and that one leaves.
const NUMBERED_BYTES_MAX: usize = 1 << 20;

/// One numbered batch.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    /// The boot that its readings were made in.
    pub(super) boot_id: u128,
    pub(super) readings: Vec<Reading>,
    /// Where it stood in the queue, and where what follows stands.
    start: Place,
    end: Place,
    /// Where the server's journal holds it; it may still be lost there.
    accepted: Option<Position>,
}

/// Batches in order of number without a gap, then readings without a number.
pub(super) struct Spool {
    queue: Queue,
    batches: VecDeque<Batch>,
    /// The number of the next batch to be made.
    next_number: u64,
    /// The number of the next batch to send.
    cursor: u64,
    /// Samples in the next batch; less than usual after the server called one too large.
    batch_samples: usize,
    /// Samples that the server would never take.
    refused: u64,
}

impl Spool {
    /// A spool of what waits in `queue`.
    pub(super) fn of(queue: Queue) -> Self {
        Self {
            queue,
            batches: VecDeque::new(),
            next_number: 1,
            cursor: 1,
            batch_samples: BATCH_SAMPLES,
            refused: 0,
        }
    }

    /// Adds a reading; when the spool is full the oldest ones become coarser, and at last are dropped.
    pub(super) fn push(&mut self, reading: &Reading, dictionary: &Dictionary) {
        self.queue.append(reading, dictionary);
    }

    /// What waits for its journey.
    pub(super) fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// The lowest number still here, or the next one when no batch is.
    pub(super) fn floor(&self) -> u64 {
        self.batches.front().map_or(self.next_number, |batch| batch.number)
    }

    /// Batches here; the readings without a number count as one.
    pub(super) fn len(&self) -> usize {
        self.batches.len() + usize::from(self.queue.byte_count() > 0)
    }

    /// Bytes that the readings take: packed those that wait, in memory those with a number.
    pub(super) fn byte_count(&self) -> usize {
        self.queue.byte_count() + self.numbered_bytes()
    }

    fn numbered_bytes(&self) -> usize {
        self.batches.iter().flat_map(|batch| &batch.readings).map(bytes_of).sum()
    }

    /// The moment of the oldest reading that the server may not have.
    pub(super) fn oldest_ms(&mut self, dictionary: &mut Dictionary) -> Option<i64> {
        let unsure = self.batches.iter().find(|batch| batch.accepted.is_none());
        let first = unsure.and_then(|batch| batch.readings.first()).map(|reading| reading.at_ms);
        first.or_else(|| self.queue.oldest_ms(dictionary))
    }

    /// Samples that did not leave as they came.
    pub(super) fn losses(&self) -> Losses {
        Losses { refused: self.refused, ..self.queue.losses() }
    }

    /// The next batch to send; `None` when all was sent.
    pub(super) fn next(&mut self, dictionary: &mut Dictionary) -> Option<&Batch> {
        self.cursor = self.cursor.max(self.floor());
        if self.cursor == self.next_number {
            self.number_waiting(dictionary)?;
        }
        self.batch(self.cursor)
    }

    /// Makes the oldest waiting readings a batch.
    fn number_waiting(&mut self, dictionary: &mut Dictionary) -> Option<()> {
        let taken = self.queue.take(self.batch_samples, dictionary)?;
        while self.numbered_bytes() > NUMBERED_BYTES_MAX {
            self.forget_front();
        }
        self.batches.push_back(Batch {
            number: self.next_number,
            boot_id: taken.boot_id,
            readings: taken.readings,
            start: taken.start,
            end: taken.end,
            accepted: None,
        });
        self.next_number += 1;
        Some(())
    }

    fn forget_front(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.queue.release(batch.end);
        Some(batch)
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
            self.forget_front();
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
        if let Some(batch) = self.batches.pop_back() {
            self.queue.rewind(batch.start);
        }
        self.next_number = number;
    }

    /// Gives up batch `number` and all before it: the server will never take it.
    pub(super) fn drop_batch(&mut self, number: u64) {
        while self.batches.front().is_some_and(|batch| batch.number <= number) {
            let batch = self.forget_front().expect("just seen");
            if batch.accepted.is_none() {
                self.refused += samples(&batch.readings);
            }
        }
    }

    /// Takes all numbers back, for a server that knows none of them: another incarnation begins.
    pub(super) fn renumber(&mut self) {
        self.batches.clear();
        self.queue.rewind_all();
        (self.next_number, self.cursor) = (1, 1);
    }
}

fn bytes_of(reading: &Reading) -> usize {
    size_of::<Reading>() + reading.values.len() * size_of::<(u32, f64)>()
}

fn samples(readings: &[Reading]) -> u64 {
    let count: usize = readings.iter().map(|reading| reading.values.len()).sum();
    u64::try_from(count).unwrap_or(u64::MAX)
}
