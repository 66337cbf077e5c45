//! What a full spool keeps: coarser cells before anything is dropped, with the same figures.

use std::path::Path;

use fixtures::dice::Dice;
use rrd::Kind;
use rrd::disk::MemDisk;

use super::super::{Life, Queue, Spool};
use super::{LIFE, entry, reading};
use crate::agent::dictionary::Dictionary;
use crate::native::{Position, Reading};

/// Half of them gauges, half counters, all of them moving at every look.
const SERIES: u32 = 40;

/// What a server would make of the readings: the integral of gauges and the increase of counters by
/// minute, and how many minutes are known.
#[derive(Default)]
struct Server {
    last: Vec<Option<(i64, f64)>>,
    moments: Vec<i64>,
    /// By series and minute: integral or increase, and milliseconds known.
    minutes: std::collections::BTreeMap<(u32, i64), (f64, i64)>,
}

impl Server {
    #[expect(clippy::cast_precision_loss, reason = "a day in milliseconds")]
    fn take(&mut self, at_ms: i64, values: &[(u32, f64)]) {
        if self.moments.last() != Some(&at_ms) {
            self.moments.push(at_ms);
        }
        for (id, value) in values {
            let at = usize::try_from(*id).unwrap();
            self.last.resize(self.last.len().max(at + 1), None);
            let last = self.last[at].replace((at_ms, *value));
            let Some((before_ms, before)) = last else { continue };
            assert!(at_ms > before_ms, "in order");
            if at_ms - before_ms > 30_000 {
                continue;
            }
            // Rows end at whole minutes, and so do looks: no reading stands for parts of two.
            let minute = (at_ms - 1).div_euclid(60_000);
            assert_eq!(before_ms.div_euclid(60_000), minute, "{before_ms} to {at_ms}");
            let row = self.minutes.entry((*id, minute)).or_default();
            row.0 +=
                if is_gauge(*id) { value * (at_ms - before_ms) as f64 } else { value - before };
            row.1 += at_ms - before_ms;
        }
    }

    fn sums(&self, minutes: i64) -> std::collections::BTreeMap<(u32, i64), (f64, i64)> {
        let mut sums = std::collections::BTreeMap::new();
        for ((id, minute), (figure, known)) in &self.minutes {
            let sum: &mut (f64, i64) = sums.entry((*id, minute.div_euclid(minutes))).or_default();
            *sum = (sum.0 + figure, sum.1 + known);
        }
        sums
    }
}

fn is_gauge(id: u32) -> bool {
    id.is_multiple_of(2)
}

fn dictionary() -> Dictionary {
    let mut dictionary = Dictionary::default();
    for id in 0..SERIES {
        let kind = if is_gauge(id) { Kind::Gauge } else { Kind::Total };
        assert_eq!(dictionary.adopt(&entry(id, kind)), Some(id));
    }
    dictionary
}

/// What series say at each look, one after the other.
struct Machine {
    dice: Dice,
    values: Vec<f64>,
}

impl Machine {
    fn new() -> Self {
        Self { dice: Dice::new(1), values: vec![0.0; SERIES as usize] }
    }

    fn look(&mut self, look: i64) -> Reading {
        for (id, value) in (0..).zip(&mut self.values) {
            let step = f64::from(u32::try_from(self.dice.number() % 1000).unwrap()) / 7.0;
            *value = if is_gauge(id) { step } else { *value + step };
        }
        reading(1_800_000_000_000 + look * 10_000, &self.values)
    }
}

/// Fills a spool of so many bytes with so many looks while nobody takes anything; returns it with
/// what a server would have made of the readings as they were.
fn filled(bytes_max: usize, looks: i64) -> (Spool, Dictionary, Server) {
    let dictionary = dictionary();
    let mut spool = Spool::of(Queue::in_memory(bytes_max, LIFE));
    let (mut machine, mut server) = (Machine::new(), Server::default());
    for look in 0..looks {
        let reading = machine.look(look);
        spool.push(&reading, &dictionary);
        server.take(reading.at_ms, &reading.values);
    }
    (spool, dictionary, server)
}

/// Sends all of it, in small batches and with answers that go missing.
fn drained(spool: &mut Spool, dictionary: &mut Dictionary) -> Server {
    let (mut dice, mut server) = (Dice::new(2), Server::default());
    while let Some(batch) = spool.next(dictionary) {
        if dice.once_in(5) {
            continue;
        }
        for reading in &batch.readings {
            server.take(reading.at_ms, &reading.values);
        }
        let at = Position { log_epoch: 1, seq: batch.number };
        let number = batch.number;
        spool.accept(number, at, at);
    }
    server
}

#[track_caller]
fn assert_same(
    found: &std::collections::BTreeMap<(u32, i64), (f64, i64)>,
    expected: &std::collections::BTreeMap<(u32, i64), (f64, i64)>,
    last_unknown: usize,
) {
    let mut missing = 0;
    for (row, (figure, known)) in expected {
        match found.get(row).filter(|(_, found)| found == known) {
            Some((found, _)) => assert!(
                (found - figure).abs() <= 1e-9 * figure.abs().max(1.0),
                "{row:?}: {found} instead of {figure}"
            ),
            None => missing += 1,
        }
    }
    assert!(missing <= last_unknown, "{missing} of {} rows are not known", expected.len());
}

#[test]
fn a_spool_that_fills_up_once_keeps_every_minute_as_it_was() {
    let (mut spool, mut dictionary, expected) = filled(4 << 20, 15_000);
    let losses = spool.losses();
    assert!(losses.degraded > 0 && losses.dropped == 0, "{losses:?}");
    let found = drained(&mut spool, &mut dictionary);
    assert_same(&found.sums(1), &expected.sums(1), 0);
}

#[test]
fn a_spool_that_is_much_too_small_keeps_five_minutes_as_they_were_and_then_drops_the_oldest() {
    const LAST_MS: i64 = 1_800_000_000_000 + 39_999 * 10_000;
    let (mut spool, mut dictionary, expected) = filled(4 << 20, 40_000);
    let losses = spool.losses();
    let found = drained(&mut spool, &mut dictionary);
    let last_moments = found.moments[found.moments.len() - 500..].to_vec();
    let (found, expected) = (found.sums(5), expected.sums(5));
    let first = found.keys().map(|(_, row)| *row).min().unwrap();
    let kept = expected.iter().filter(|((_, row), _)| *row > first);
    let kept = kept.map(|(row, figure)| (*row, *figure)).collect();
    assert_same(&found, &kept, 0);
    let newest = (0..500).map(|look| LAST_MS - look * 10_000);
    assert!(newest.rev().eq(last_moments), "the newest readings are neither coarser nor dropped");
    assert!(found.len() < expected.len() && losses.dropped > 0, "dropped and counted: {losses:?}");
}

#[test]
fn a_numbered_batch_stays_as_it_is_however_full_the_spool() {
    let mut dictionary = dictionary();
    let mut spool = Spool::of(Queue::in_memory(4 << 20, LIFE));
    let push = |spool: &mut Spool, dictionary: &Dictionary, look: i32| {
        let values: Vec<f64> =
            (0..SERIES).map(|id| f64::from(id) + f64::from(look) / 7.0).collect();
        spool.push(&reading(i64::from(look) * 10_000, &values), dictionary);
    };
    for look in 0..40 {
        push(&mut spool, &dictionary, look);
    }
    let first = spool.next(&mut dictionary).unwrap().readings.clone();
    for look in 40..16_000 {
        push(&mut spool, &dictionary, look);
    }
    assert!(spool.losses().degraded > 0);
    assert_eq!(spool.next(&mut dictionary).unwrap().readings, first);
}

/// A spool on a disk as an earlier process left it.
fn reopened(disk: &MemDisk, salt: u64) -> (Spool, Dictionary) {
    let mut dictionary = Dictionary::default();
    let life = Life { salt, ..LIFE };
    let queue = Queue::open(disk, Path::new("state"), 0, life, &mut dictionary).unwrap();
    for id in 0..SERIES {
        let kind = if is_gauge(id) { Kind::Gauge } else { Kind::Total };
        dictionary.adopt(&entry(id, kind)).unwrap();
    }
    (Spool::of(queue), dictionary)
}

#[test]
fn a_power_cut_while_old_readings_are_put_together_loses_and_repeats_none() {
    let disk = MemDisk::new();
    let (mut spool, dictionary) = reopened(&disk, 1);
    let (mut machine, mut server, mut look) = (Machine::new(), Server::default(), 0);
    // Up to the last look that fits.
    let (base, last) = loop {
        let reading = machine.look(look);
        let is_near = spool.queue().is_full_after(1000);
        if is_near && spool.losses().degraded == 0 {
            if let Some(file) = spool.queue().take_unsynced(true) {
                file.sync_data().unwrap();
            }
            break (disk.kill(), reading);
        }
        spool.push(&reading, &dictionary);
        server.take(reading.at_ms, &reading.values);
        look += 1;
    };
    let expected = server.sums(1);
    let mut degraded = 0;
    for op_count in [0, 1, 2, 3, 4, 6, 9] {
        for seed in [op_count] {
            let disk = base.kill();
            let (mut spool, dictionary) = reopened(&disk, 2);
            disk.stop_after(op_count);
            for _ in 0..4 {
                spool.push(&last, &dictionary);
            }
            degraded += spool.losses().degraded;
            let disk = disk.crash(seed);
            let (mut spool, mut dictionary) = reopened(&disk, 3);
            let mut found = Server::default();
            while let Some(batch) = spool.next(&mut dictionary) {
                for reading in batch.readings.iter().filter(|r| r.at_ms < last.at_ms) {
                    // Series are adopted in the order of the segment, which is that of their numbers.
                    found.take(reading.at_ms, &reading.values);
                }
                let (number, at) = (batch.number, Position { log_epoch: 1, seq: batch.number });
                spool.accept(number, at, at);
            }
            assert_same(&found.sums(1), &expected, 0);
        }
    }
    assert!(degraded > 0, "the cut fell where it should");
}
