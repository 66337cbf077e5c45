//! Tests of the spool: its numbers, its survival of kill and power cut, and what a full one keeps.

mod full;
mod numbers;
mod survival;

use rrd::{Kind, NAME};

use super::{Life, Queue, Spool};
use crate::agent::dictionary::Dictionary;
use crate::native::{Entry, Reading};

pub(super) const LIFE: Life = Life { boot_id: 0xb007, step_ms: 10_000, salt: 7 };

/// A spool with a dictionary of so many gauges.
pub(super) struct Stand {
    pub(super) spool: Spool,
    pub(super) dictionary: Dictionary,
}

impl Stand {
    pub(super) fn in_memory(series_count: u32) -> Self {
        let queue = Queue::in_memory(0, LIFE);
        Self { spool: Spool::of(queue), dictionary: gauges(series_count) }
    }

    pub(super) fn push(&mut self, at_ms: i64, values: &[f64]) {
        self.spool.push(&reading(at_ms, values), &self.dictionary);
    }

    /// A reading with so many zeroes.
    pub(super) fn push_zeroes(&mut self, at_ms: i64, sample_count: usize) {
        self.push(at_ms, &vec![0.0; sample_count]);
    }

    /// Numbers and sends the next batch: its number and the moments in it.
    pub(super) fn sent(&mut self) -> Option<(u64, Vec<i64>)> {
        let batch = self.spool.next(&mut self.dictionary)?;
        Some((batch.number, batch.readings.iter().map(|reading| reading.at_ms).collect()))
    }
}

pub(super) fn gauges(series_count: u32) -> Dictionary {
    let mut dictionary = Dictionary::default();
    for id in 0..series_count {
        assert_eq!(dictionary.adopt(&entry(id, Kind::Gauge)), Some(id));
    }
    dictionary
}

pub(super) fn entry(id: u32, kind: Kind) -> Entry {
    let labels = [(NAME, "m".to_owned()), ("n", id.to_string())];
    let labels = labels.map(|(name, value)| (name.to_owned(), value)).to_vec();
    Entry { id, kind: kind as u8, labels }
}

pub(super) fn reading(at_ms: i64, values: &[f64]) -> Reading {
    Reading { at_ms, values: (0..).zip(values.iter().copied()).collect() }
}
