//! What a full spool keeps: coarser cells before anything is dropped, with the same figures.

use fixtures::dice::Dice;
use rrd::Kind;

use super::super::{Queue, Spool};
use super::{LIFE, entry, reading};
use crate::agent::dictionary::Dictionary;
use crate::native::Position;

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

/// Fills a spool of so many bytes with so many looks while nobody takes anything; returns it with
/// what a server would have made of the readings as they were.
fn filled(bytes_max: usize, looks: i64) -> (Spool, Dictionary, Server) {
    let dictionary = dictionary();
    let mut spool = Spool::of(Queue::in_memory(bytes_max, LIFE));
    let (mut dice, mut server) = (Dice::new(1), Server::default());
    let mut values = vec![0.0; SERIES as usize];
    for look in 0..looks {
        let at_ms = 1_800_000_000_000 + look * 10_000;
        for (id, value) in (0..).zip(&mut values) {
            let step = f64::from(u32::try_from(dice.number() % 1000).unwrap()) / 7.0;
            *value = if is_gauge(id) { step } else { *value + step };
        }
        let reading = reading(at_ms, &values);
        spool.push(&reading, &dictionary);
        server.take(at_ms, &reading.values);
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
