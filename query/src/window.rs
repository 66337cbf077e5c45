//! Functions of a window: what the rows before a moment come to.
//!
//! Rows of counters hold rates, so that an increase is a sum and never a guess; rows of gauges are
//! taken for samples at their END, and Prometheus' own algorithms apply.

use std::ops::Range;

use rrd::Timestamp;

use crate::columns::Cell;
use crate::fetch::Held;
use crate::read::{RowParts, Series};
use crate::{extrapolate, samples};

/// A function of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Rate,
    Increase,
    InstantRate,
    Delta,
    InstantDelta,
    Resets,
    Changes,
    Average,
    Min,
    Max,
    Sum,
    Count,
    First,
    Last,
    Present,
    StandardDeviation,
    StandardVariance,
    MedianDeviation,
    Slope,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMin,
    TimeOfMax,
    /// The first of its parameters is the share.
    Quantile,
    /// The first of its parameters is how far ahead, in seconds.
    Predict,
    /// Its parameters are the weights of the level and of the trend.
    Smooth,
}

const NAMES: &[(&str, Over)] = &[
    ("rate", Over::Rate),
    ("increase", Over::Increase),
    ("irate", Over::InstantRate),
    ("delta", Over::Delta),
    ("idelta", Over::InstantDelta),
    ("resets", Over::Resets),
    ("changes", Over::Changes),
    ("avg_over_time", Over::Average),
    ("min_over_time", Over::Min),
    ("max_over_time", Over::Max),
    ("sum_over_time", Over::Sum),
    ("count_over_time", Over::Count),
    ("first_over_time", Over::First),
    ("last_over_time", Over::Last),
    ("present_over_time", Over::Present),
    ("stddev_over_time", Over::StandardDeviation),
    ("stdvar_over_time", Over::StandardVariance),
    ("mad_over_time", Over::MedianDeviation),
    ("deriv", Over::Slope),
    ("ts_of_first_over_time", Over::TimeOfFirst),
    ("ts_of_last_over_time", Over::TimeOfLast),
    ("ts_of_min_over_time", Over::TimeOfMin),
    ("ts_of_max_over_time", Over::TimeOfMax),
    ("quantile_over_time", Over::Quantile),
    ("predict_linear", Over::Predict),
    ("double_exponential_smoothing", Over::Smooth),
    ("holt_winters", Over::Smooth),
];

/// The function called `name`, if it is one of these.
pub(crate) fn over(name: &str) -> Option<Over> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, over)| *over)
}

/// The names of these functions.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// The rows that end in a window (at - width, at] of one series.
pub(crate) struct Frame<'a> {
    held: &'a Held,
    rows: Range<usize>,
    /// True when the values are rates of a counter.
    counter: bool,
    /// Seconds of one known step.
    finest_secs: f64,
    at: Timestamp,
    width_ms: i64,
}

impl<'a> Frame<'a> {
    pub(crate) fn of(series: &Series, held: &'a Held, at: Timestamp, width_ms: i64) -> Self {
        let rows = (held.index(at.plus_millis(-width_ms)), held.index(at));
        Self::of_rows(series, held, rows).before(at, width_ms)
    }

    /// The rows after the first and up to the second of these, which may lie outside of those held.
    pub(crate) fn of_rows(series: &Series, held: &'a Held, (before, last): (i64, i64)) -> Self {
        let count = held.rows.average.len();
        let place = |row: i64| usize::try_from(row.saturating_add(1)).unwrap_or(0).min(count);
        Self {
            held,
            rows: place(before)..place(last),
            counter: series.kind.is_counter() && held.readings.is_none(),
            finest_secs: series.archives[0].step.as_secs_f64(),
            at: Timestamp::MIN,
            width_ms: 0,
        }
    }

    /// These rows, as those of this window.
    pub(crate) const fn before(self, at: Timestamp, width_ms: i64) -> Self {
        Self { at, width_ms, ..self }
    }

    /// The window (at - width, at] over values that were computed, each a step of its own.
    pub(crate) fn computed(held: &'a Held, at: Timestamp, width_ms: i64) -> Self {
        let count = held.rows.average.len();
        let place = |at| usize::try_from(held.index(at) + 1).unwrap_or(0).min(count);
        let rows = place(at.plus_millis(-width_ms))..place(at);
        Self { held, rows, counter: false, finest_secs: 1.0, at, width_ms }
    }

    /// How many rows there are to look at.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The known rows: END and value.
    pub(crate) fn points(&self) -> impl DoubleEndedIterator<Item = (Timestamp, f64)> {
        self.points_of(self.held.values())
    }

    fn points_of(&self, column: &[f64]) -> impl DoubleEndedIterator<Item = (Timestamp, f64)> {
        let row =
            |index: usize| (self.held.end(i64::try_from(index).unwrap_or(i64::MAX)), column[index]);
        self.rows.clone().map(row).filter(|(_, value)| self.is_known(*value))
    }

    /// Of what is stored NaN is unknown, of what was computed it is a value.
    fn is_known(&self, value: f64) -> bool {
        !value.is_nan() || (self.held.is_computed && Cell::is_filled(value))
    }

    /// The known rows: value and known seconds.
    fn weighed(&self) -> impl DoubleEndedIterator<Item = (f64, f64)> {
        let values = &self.held.values()[self.rows.clone()];
        let known = &self.held.rows.known[self.rows.clone()];
        values
            .iter()
            .zip(known)
            .filter(|(value, _)| self.is_known(**value))
            .map(|(value, known)| (*value, f64::from(*known) * self.finest_secs))
    }

    /// The steps behind the known rows.
    fn known_steps(&self) -> u64 {
        let values = &self.held.values()[self.rows.clone()];
        let known = &self.held.rows.known[self.rows.clone()];
        let of_known = values.iter().zip(known).filter(|(value, _)| self.is_known(**value));
        of_known.map(|(_, known)| u64::from(*known)).sum()
    }

    /// Rows in which the counter began anew; `None` when nothing is known.
    fn resets(&self) -> Option<f64> {
        self.points().next()?;
        let all = &self.held.rows.resets;
        let resets = all.get(self.rows.clone()).unwrap_or_default();
        let count = resets.iter().filter(|began_anew| **began_anew).count();
        Some(f64::from(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// The window, as Prometheus' algorithms want it.
    pub(crate) const fn bounds(&self) -> (Timestamp, Timestamp) {
        (self.at.plus_millis(-self.width_ms), self.at)
    }

    fn increase(&self) -> Option<f64> {
        self.weighed().map(|(rate, secs)| rate * secs).reduce(|sum, more| sum + more)
    }

    fn known_secs(&self) -> f64 {
        self.weighed().map(|(_, secs)| secs).sum()
    }

    /// Values times known steps, as if every step were a sample.
    fn sum(&self) -> Option<f64> {
        self.increase().map(|area| area / self.finest_secs)
    }

    fn least(&self) -> Option<(Timestamp, f64)> {
        let column = self.held.extremes(&self.held.rows.min);
        self.points_of(column).reduce(|a, b| if b.1 < a.1 || a.1.is_nan() { b } else { a })
    }

    fn largest(&self) -> Option<(Timestamp, f64)> {
        let column = self.held.extremes(&self.held.rows.max);
        self.points_of(column).reduce(|a, b| if b.1 > a.1 || a.1.is_nan() { b } else { a })
    }
}

impl Over {
    /// As PromQL calls it.
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, over)| *over == self).map_or("", |(name, _)| name)
    }

    /// Which numbers of rows it looks at.
    pub(crate) const fn parts(self) -> RowParts {
        match self {
            Self::Min | Self::Max | Self::TimeOfMin | Self::TimeOfMax | Self::Resets => {
                RowParts::All
            }
            _ => RowParts::Averages,
        }
    }

    /// True when rows of rates can answer; the others need a counter's raw readings.
    pub(crate) const fn knows_counters(self) -> bool {
        matches!(
            self,
            Self::Rate
                | Self::Increase
                | Self::InstantRate
                | Self::Count
                | Self::Present
                | Self::Resets
        )
    }

    /// True when averages in place of samples change the answer's meaning.
    pub(crate) const fn looks_between_rows(self) -> bool {
        matches!(
            self,
            Self::Resets
                | Self::Changes
                | Self::StandardDeviation
                | Self::StandardVariance
                | Self::MedianDeviation
                | Self::Quantile
                | Self::Smooth
        )
    }

    /// True when the answer keeps the metric name.
    pub(crate) const fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }

    /// The answer of a function without parameters; `None` when too little is known.
    #[expect(clippy::cast_precision_loss, reason = "counts of rows, far below 2^53")]
    pub(crate) fn apply(self, frame: &Frame<'_>) -> Option<f64> {
        let time = |point: (Timestamp, f64)| point.0.as_secs_f64();
        match self {
            Self::Rate | Self::Increase | Self::InstantRate if frame.counter => {
                self.of_rates(frame)
            }
            Self::Rate => extrapolate::rate(frame),
            Self::Increase => extrapolate::increase(frame),
            Self::Delta => extrapolate::delta(frame),
            Self::InstantRate => extrapolate::instant_rate(frame),
            Self::InstantDelta => extrapolate::instant_delta(frame),
            Self::Resets if frame.counter => frame.resets(),
            Self::Resets => extrapolate::pairs(frame, |before, after| after < before),
            Self::Changes => extrapolate::pairs(frame, is_change),
            Self::Average => Some(frame.increase()? / frame.known_secs()),
            Self::Min => frame.least().map(|(_, value)| value),
            Self::Max => frame.largest().map(|(_, value)| value),
            Self::Sum => frame.sum(),
            Self::Count => Some(frame.known_steps()).filter(|n| *n > 0).map(|n| n as f64),
            Self::First => frame.points().next().map(|(_, value)| value),
            Self::Last => frame.points().next_back().map(|(_, value)| value),
            Self::Present => frame.points().next().map(|_| 1.0),
            Self::StandardVariance => samples::variance(frame),
            Self::StandardDeviation => samples::variance(frame).map(f64::sqrt),
            Self::Slope => samples::slope(frame),
            Self::TimeOfFirst => frame.points().next().map(time),
            Self::TimeOfLast => frame.points().next_back().map(time),
            Self::TimeOfMin => frame.least().map(time),
            Self::TimeOfMax => frame.largest().map(time),
            Self::MedianDeviation | Self::Quantile | Self::Predict | Self::Smooth => None,
        }
    }

    /// A counter's rows are rates of known seconds: nothing is extrapolated into the unknown.
    fn of_rates(self, frame: &Frame<'_>) -> Option<f64> {
        match self {
            Self::InstantRate => frame.points().next_back().map(|(_, rate)| rate),
            Self::Increase => frame.increase(),
            _ => Some(frame.increase()? / frame.known_secs()),
        }
    }
}

/// From NaN to NaN nothing changes.
#[expect(clippy::float_cmp, reason = "PromQL compares exactly")]
fn is_change(before: f64, after: f64) -> bool {
    before != after && !(before.is_nan() && after.is_nan())
}
