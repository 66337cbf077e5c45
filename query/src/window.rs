//! Functions of a window: what the rows before a moment come to.
//!
//! Rows of counters hold rates, so that an increase is a sum and never a guess; rows of gauges are
//! taken for samples at their END, and Prometheus' own algorithms apply.

use std::ops::Range;

use rrd::Timestamp;

use crate::extrapolate;
use crate::fetch::Held;
use crate::operators::Relation;
use crate::read::{RowParts, Series};

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
    Last,
    Present,
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
    ("last_over_time", Over::Last),
    ("present_over_time", Over::Present),
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
            counter: series.kind.is_counter(),
            finest_secs: series.archives[0].step.as_secs_f64(),
            at: Timestamp::MIN,
            width_ms: 0,
        }
    }

    /// These rows, as those of this window.
    pub(crate) const fn before(self, at: Timestamp, width_ms: i64) -> Self {
        Self { at, width_ms, ..self }
    }

    /// The known rows: END and average.
    pub(crate) fn points(&self) -> impl DoubleEndedIterator<Item = (Timestamp, f64)> {
        let row = |index: usize| {
            let end = self.held.end(i64::try_from(index).unwrap_or(i64::MAX));
            (end, self.held.rows.average[index])
        };
        self.rows.clone().map(row).filter(|(_, value)| !value.is_nan())
    }

    /// The known rows: average and known seconds.
    fn weighed(&self) -> impl DoubleEndedIterator<Item = (f64, f64)> {
        let averages = &self.held.rows.average[self.rows.clone()];
        let known = &self.held.rows.known[self.rows.clone()];
        averages
            .iter()
            .zip(known)
            .filter(|(value, _)| !value.is_nan())
            .map(|(value, known)| (*value, f64::from(*known) * self.finest_secs))
    }

    /// The steps behind the known rows.
    fn known_steps(&self) -> u64 {
        let averages = &self.held.rows.average[self.rows.clone()];
        let known = &self.held.rows.known[self.rows.clone()];
        let of_known = averages.iter().zip(known).filter(|(value, _)| !value.is_nan());
        of_known.map(|(_, known)| u64::from(*known)).sum()
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

    fn cells<'b>(&'b self, column: &'b [f64]) -> impl Iterator<Item = f64> + 'b {
        column[self.rows.clone()].iter().copied().filter(|value| !value.is_nan())
    }

    fn least(&self) -> Option<f64> {
        self.cells(&self.held.rows.min).reduce(f64::min)
    }

    fn largest(&self) -> Option<f64> {
        self.cells(&self.held.rows.max).reduce(f64::max)
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
            Self::Rate | Self::Increase | Self::InstantRate | Self::Average | Self::Sum => {
                RowParts::Averages
            }
            Self::Count | Self::Last | Self::Present => RowParts::Averages,
            _ => RowParts::All,
        }
    }

    /// True when rows of rates can answer; the others need a counter's raw readings.
    pub(crate) const fn knows_counters(self) -> bool {
        matches!(
            self,
            Self::Rate | Self::Increase | Self::InstantRate | Self::Count | Self::Present
        )
    }

    /// True when averages in place of samples change the answer's meaning.
    pub(crate) const fn looks_between_rows(self) -> bool {
        matches!(self, Self::Resets | Self::Changes)
    }

    /// True when the answer keeps the metric name.
    pub(crate) const fn keeps_name(self) -> bool {
        matches!(self, Self::Last)
    }

    /// The answer; `None` when too little is known.
    #[expect(clippy::cast_precision_loss, reason = "counts of rows, far below 2^53")]
    pub(crate) fn apply(self, frame: &Frame<'_>) -> Option<f64> {
        match self {
            Self::Rate | Self::Increase | Self::InstantRate if frame.counter => {
                self.of_rates(frame)
            }
            Self::Rate => extrapolate::rate(frame),
            Self::Increase => extrapolate::increase(frame),
            Self::Delta => extrapolate::delta(frame),
            Self::InstantRate => extrapolate::instant_rate(frame),
            Self::InstantDelta => extrapolate::instant_delta(frame),
            Self::Resets => extrapolate::pairs(frame, |before, after| after < before),
            Self::Changes => {
                extrapolate::pairs(frame, |before, after| Relation::NotEqual.holds(before, after))
            }
            Self::Average => Some(frame.increase()? / frame.known_secs()),
            Self::Min => frame.least(),
            Self::Max => frame.largest(),
            Self::Sum => frame.sum(),
            Self::Count => Some(frame.known_steps()).filter(|n| *n > 0).map(|n| n as f64),
            Self::Last => frame.points().next_back().map(|(_, value)| value),
            Self::Present => frame.points().next().map(|_| 1.0),
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
