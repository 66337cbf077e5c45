//! The engine against a naive one: rates are integrated over steps, the steps put into rows, all at the end.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::timeline::{Timeline, archives, definition, is_close};
use super::{Definition, Verdict};
use crate::{Kind, Timestamp};

const STEP_MS: i64 = 1000;
const PER_ROWS: [u64; 3] = [2, 5, 60];

/// Milliseconds (from, to] at one rate, `None` when unknown.
struct Stretch {
    from: i64,
    to: i64,
    rate: Option<f64>,
    is_gap: bool,
}

/// What the right answers are worked out from: the readings that count, in order.
struct Oracle {
    definition: Definition,
    start: Option<i64>,
    readings: Vec<(i64, Option<f64>)>,
    /// Readings between the last two that came late, by the time of the last.
    splits: BTreeMap<i64, Vec<(i64, f64)>>,
    touched: BTreeSet<i64>,
}

impl Oracle {
    fn verdict(&mut self, at: i64, value: Option<f64>) -> Verdict {
        let step = step_of(at);
        let last = self.readings.last().map(|&(at, _)| at).or(self.start);
        let Some(last) = last.or(value.map(|_| (step - 1) * STEP_MS)) else {
            return Verdict::Duplicate;
        };
        self.start = self.start.or(Some(last));
        if at > last {
            self.readings.push((at, value));
            self.touched.extend(value.map(|_| step));
            return Verdict::Stored;
        }
        let open_step = last.div_euclid(STEP_MS) + 1;
        if let Some(value) = value.filter(|_| self.splits_open_step(at, last)) {
            self.splits.entry(last).or_default().push((at, value));
            self.touched.insert(step);
            return Verdict::Stored;
        }
        let is_touched = self.touched.contains(&step) && open_step - step < 128;
        if at == last || value.is_none() || is_touched { Verdict::Duplicate } else { Verdict::Late }
    }

    fn splits_open_step(&self, at: i64, last: i64) -> bool {
        let before = self.readings.len().checked_sub(2).map(|index| self.readings[index].0);
        let split = self.splits.get(&last).and_then(|splits| splits.last()).map(|&(at, _)| at);
        let is_gauge = matches!(self.definition.kind, Kind::Gauge | Kind::Unknown);
        let opened = last.div_euclid(STEP_MS) * STEP_MS;
        let is_between = split.or(before).or(self.start).is_some_and(|before| before < at);
        is_gauge && !self.readings.is_empty() && is_between && opened < at && at < last
    }

    /// The parts of (from, to] where readings came late: what was closed before them keeps its rate.
    fn split(&self, stretch: Stretch, value: Option<f64>) -> Vec<Stretch> {
        let Some(splits) = self.splits.get(&stretch.to) else { return vec![stretch] };
        let (mut from, to) = (stretch.from, stretch.to);
        let opened = to.div_euclid(STEP_MS) * STEP_MS;
        let mut parts = vec![Stretch { to: opened.max(from), ..stretch }];
        for (at, value) in splits.iter().map(|&(at, w)| (at, Some(w))).chain([(to, value)]) {
            let is_gap = (at - from).unsigned_abs() > self.definition.heartbeat_ms;
            let rate = value.filter(|_| !is_gap);
            parts.push(Stretch { from: from.max(opened), to: at, rate, is_gap });
            from = at;
        }
        parts
    }

    fn stretches(&self) -> Vec<Stretch> {
        let mut previous = (self.start.unwrap_or(0), None);
        let mut stretches = Vec::new();
        for &(at, value) in &self.readings {
            let (from, before) = previous;
            let is_gap = (at - from).unsigned_abs() > self.definition.heartbeat_ms;
            let rate = self.rate(before, value, at - from).filter(|_| !is_gap);
            stretches.extend(self.split(Stretch { from, to: at, rate, is_gap }, value));
            previous = (at, value);
        }
        stretches
    }

    #[expect(clippy::cast_precision_loss, reason = "short times")]
    fn rate(&self, before: Option<f64>, value: Option<f64>, ms: i64) -> Option<f64> {
        let seconds = ms as f64 / 1000.0;
        let value = value?;
        let rate = match self.definition.kind {
            Kind::Gauge | Kind::Unknown => value,
            Kind::Absolute => value / seconds,
            Kind::Total if value < before? => return None,
            Kind::Counter if value < before? => (value - before? + 4_294_967_296.0) / seconds,
            Kind::DCounter => {
                let towards_zero = if value > 0.0 { before? > value } else { before? < value };
                if value != 0.0 && towards_zero {
                    return None;
                }
                (value - before?) / seconds
            }
            _ => (value - before?) / seconds,
        };
        let inside = rate >= self.definition.min && rate <= self.definition.max;
        inside.then_some(rate)
    }

    /// Every closed step and its value.
    #[expect(clippy::cast_precision_loss, reason = "short times")]
    fn steps(&self) -> BTreeMap<i64, Option<f64>> {
        let stretches = self.stretches();
        let (Some(start), Some(last)) = (self.start, stretches.last()) else {
            return BTreeMap::new();
        };
        let first = start.div_euclid(STEP_MS) + 1;
        let closed = first..=last.to.div_euclid(STEP_MS);
        closed
            .map(|step| {
                let (open, end) = ((step - 1) * STEP_MS, step * STEP_MS);
                let (mut sum, mut known_ms) = (0.0, 0);
                let mut closed_by_gap = false;
                for stretch in &stretches {
                    let ms = stretch.to.min(end) - stretch.from.max(open);
                    if let Some(rate) = stretch.rate.filter(|_| ms > 0) {
                        known_ms += ms;
                        sum += rate * ms as f64;
                    }
                    let closes_one =
                        stretch.from < end && (end..end + STEP_MS).contains(&stretch.to);
                    closed_by_gap |= stretch.is_gap && closes_one;
                }
                let is_known = 2 * known_ms >= STEP_MS && !closed_by_gap;
                (step, is_known.then(|| sum / known_ms as f64))
            })
            .collect()
    }
}

fn step_of(at: i64) -> i64 {
    (at - 1).div_euclid(STEP_MS) + 1
}

fn compare(oracle: &Oracle, timeline: &Timeline) {
    let steps = oracle.steps();
    assert_eq!(timeline.row_numbers(0), steps.keys().copied().collect::<Vec<_>>());
    for (&step, value) in &steps {
        let end = Timestamp::from_millis(step * STEP_MS);
        let (got, want) = (timeline.average(0, end, 0.0), value.unwrap_or(f64::NAN));
        assert!(is_close(got, want), "step ending {end}: {got}, not {want}");
    }
    for (index, per_row) in PER_ROWS.map(u64::cast_signed).into_iter().enumerate() {
        let full = steps.keys().filter(|step| *step % per_row == 0);
        let rows: Vec<i64> = full.map(|step| step / per_row).collect();
        assert_eq!(timeline.row_numbers(index + 1), rows, "rows of {per_row}");
        for row in rows {
            compare_row(timeline, index + 1, row * per_row, per_row, &steps);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "few steps")]
fn compare_row(
    timeline: &Timeline,
    archive: usize,
    last_step: i64,
    per_row: i64,
    steps: &BTreeMap<i64, Option<f64>>,
) {
    let within = steps.range(last_step - per_row + 1..=last_step);
    let known: Vec<f64> = within.filter_map(|(_, value)| *value).collect();
    let end = Timestamp::from_millis(last_step * STEP_MS);
    let row = timeline.closed_row(archive, end).unwrap();
    assert_eq!(row.known as usize, known.len(), "row of {per_row} ending {end}");
    if known.is_empty() {
        assert!(row.average.is_nan() && row.min.is_nan() && row.max.is_nan());
        return;
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let (min, max) =
        (known.iter().copied().reduce(f64::min), known.iter().copied().reduce(f64::max));
    for (got, want) in [(row.average, mean), (row.min, min.unwrap()), (row.max, max.unwrap())] {
        // Cancelling terms of a counter's wrap leave the rounding of the largest.
        let largest = max.unwrap().abs().max(min.unwrap().abs());
        let is_right = is_close(got, want) || (got - want).abs() <= 1e-12 * largest;
        assert!(is_right, "row of {per_row} ending {end}: {got}, not {want}");
    }
}

fn gaps() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 1..1500_i64,
        3 => prop::sample::select(vec![250, 500, 1000, 2000, 3000, 3001]),
        1 => 3000..200_000_i64,
        1 => -5000..=0_i64,
    ]
}

fn values() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        8 => (-200..2000_i32).prop_map(|value| Some(f64::from(value))),
        1 => Just(None),
    ]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select((0..8).filter_map(Kind::from_number).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// On failure the shortest failing series is printed: it becomes a named test.
    #[test]
    fn any_series_has_the_rows_of_the_naive_engine(
        kind in kinds(),
        origin in -5000..2_000_000_000_000_i64,
        begun in any::<bool>(),
        readings in prop::collection::vec((gaps(), values()), 0..60),
    ) {
        let mut limits = definition(kind, 3);
        (limits.min, limits.max) = (-1e9, 1e9);
        let rows = archives(STEP_MS.unsigned_abs(), &PER_ROWS);
        let start = Timestamp::from_millis(origin);
        let mut timeline = if begun {
            Timeline::begun(limits, rows, start)
        } else {
            Timeline::unborn(limits, rows)
        };
        let mut oracle = Oracle {
            definition: limits,
            start: begun.then_some(origin),
            readings: Vec::new(),
            splits: BTreeMap::new(),
            touched: BTreeSet::new(),
        };
        let mut at = origin;
        for (gap, value) in readings {
            at += gap;
            // A counter is never below nought; one that jumps back and forth wraps each time.
            let value = value.map(|value| if kind == Kind::Counter { value.abs() } else { value });
            let verdict = timeline.read(Timestamp::from_millis(at), value.unwrap_or(f64::NAN));
            prop_assert_eq!(verdict, oracle.verdict(at, value), "at {}", at);
        }
        compare(&oracle, &timeline);
    }

    #[test]
    fn a_series_goes_on_from_its_stored_bytes_as_if_nothing_had_happened(
        kind in kinds(),
        readings in prop::collection::vec((gaps(), values()), 1..40),
        cut in 0..40_usize,
    ) {
        let rows = archives(STEP_MS.unsigned_abs(), &PER_ROWS);
        let mut whole = Timeline::unborn(definition(kind, 3), rows.clone());
        let mut cut_open = Timeline::unborn(definition(kind, 3), rows);
        let mut at = 1_700_000_000_000;
        for (index, (gap, value)) in readings.into_iter().enumerate() {
            if index == cut {
                let mut bytes = vec![0; super::Open::encoded_len(PER_ROWS.len())];
                cut_open.open.encode(&mut bytes);
                cut_open.open = super::Open::decode(&bytes).unwrap();
            }
            at += gap;
            for timeline in [&mut whole, &mut cut_open] {
                timeline.read(Timestamp::from_millis(at), value.unwrap_or(f64::NAN));
                timeline.open.hear(Timestamp::from_millis(at + 77));
            }
        }
        // Bits, not numbers: a forgotten reading is not equal to itself.
        prop_assert_eq!(bytes_of(&whole), bytes_of(&cut_open));
        prop_assert_eq!(format!("{:?}", whole.averages(1)), format!("{:?}", cut_open.averages(1)));
    }
}

fn bytes_of(timeline: &Timeline) -> Vec<u8> {
    let mut bytes = vec![0; super::Open::encoded_len(timeline.archives.len() - 1)];
    timeline.open.encode(&mut bytes);
    bytes
}
