//! Functions of all values in a window: their spread, their trend, their order.

use rrd::Timestamp;

use crate::aggregate::quantile;
use crate::extrapolate::secs;
use crate::window::Frame;

/// The variance of the values, by Welford's running mean.
pub(crate) fn variance(frame: &Frame<'_>) -> Option<f64> {
    let (mut count, mut mean, mut spread) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (_, value) in frame.points() {
        let delta = value - mean;
        count += 1.0;
        mean += delta / count;
        spread += delta * (value - mean);
    }
    (count > 0.0).then(|| spread / count)
}

/// The quantile of the values; `room` is used again from window to window.
pub(crate) fn quantile_of(frame: &Frame<'_>, share: f64, room: &mut Vec<f64>) -> Option<f64> {
    room.clear();
    room.extend(frame.points().map(|(_, value)| value));
    quantile(share, room)
}

/// The median distance from the median.
pub(crate) fn median_deviation(frame: &Frame<'_>, room: &mut Vec<f64>) -> Option<f64> {
    let median = quantile_of(frame, 0.5, room)?;
    for value in room.iter_mut() {
        *value = (*value - median).abs();
    }
    quantile(0.5, room)
}

/// The straight line nearest to the values, by least squares.
struct Trend {
    /// The middle of the values' times, in seconds after the first.
    middle: f64,
    /// Their average.
    mean: f64,
    /// By how much they rise a second.
    slope: f64,
    first: Timestamp,
}

impl Trend {
    /// `None` of fewer than two values.
    fn of(frame: &Frame<'_>) -> Option<Self> {
        let (first, level) = frame.points().next()?;
        let (mut count, mut times, mut values, mut is_level) = (0.0, 0.0, 0.0, true);
        for (at, value) in frame.points() {
            count += 1.0;
            times += secs(at, first);
            // From the first value on, so that large counts keep their small changes.
            values += value - level;
            is_level &= value.to_bits() == level.to_bits();
        }
        if count < 2.0 {
            return None;
        }
        if is_level && level.is_finite() {
            return Some(Self { middle: 0.0, mean: level, slope: 0.0, first });
        }
        let (middle, mean) = (times / count, values / count);
        let (mut shared, mut spread) = (0.0, 0.0);
        for (at, value) in frame.points() {
            let gap = secs(at, first) - middle;
            shared += gap * (value - level - mean);
            spread += gap * gap;
        }
        Some(Self { middle, mean: mean + level, slope: shared / spread, first })
    }

    fn at(&self, at: Timestamp, later_secs: f64) -> f64 {
        self.mean + self.slope * (secs(at, self.first) - self.middle + later_secs)
    }
}

/// By how much the values rise a second.
pub(crate) fn slope(frame: &Frame<'_>) -> Option<f64> {
    Trend::of(frame).map(|trend| trend.slope)
}

/// Where the trend will be so many seconds after `at`.
pub(crate) fn predicted(frame: &Frame<'_>, at: Timestamp, later_secs: f64) -> Option<f64> {
    Trend::of(frame).map(|trend| trend.at(at, later_secs))
}

/// Holt's double exponential smoothing of level and trend; `None` of fewer than two values.
pub(crate) fn smoothed(frame: &Frame<'_>, level_weight: f64, trend_weight: f64) -> Option<f64> {
    let mut values = frame.points().map(|(_, value)| value);
    let first = values.next()?;
    let second = values.next()?;
    let (mut before, mut level, mut trend) = (f64::NAN, first, second - first);
    for value in std::iter::once(second).chain(values) {
        if !before.is_nan() {
            trend = trend_weight * (level - before) + (1.0 - trend_weight) * trend;
        }
        let next = level_weight * value + (1.0 - level_weight) * (level + trend);
        (before, level) = (level, next);
    }
    Some(level)
}
