//! Prometheus' algorithms over samples: rate, increase and delta reach for the window's edges.

use rrd::Timestamp;

use crate::window::Frame;

/// Which of Prometheus' three is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Rate,
    Increase,
    Delta,
}

pub(crate) fn rate(frame: &Frame<'_>) -> Option<f64> {
    extrapolated(frame, Ask::Rate)
}

pub(crate) fn increase(frame: &Frame<'_>) -> Option<f64> {
    extrapolated(frame, Ask::Increase)
}

pub(crate) fn delta(frame: &Frame<'_>) -> Option<f64> {
    extrapolated(frame, Ask::Delta)
}

/// Two samples, at least: without them there is no slope.
struct Samples {
    first: (Timestamp, f64),
    last: (Timestamp, f64),
    gaps: u32,
    /// What resets took away.
    lost: f64,
}

impl Samples {
    fn of(frame: &Frame<'_>) -> Option<Self> {
        let mut points = frame.points();
        let first = points.next()?;
        let mut samples = Self { first, last: first, gaps: 0, lost: 0.0 };
        for point in points {
            if point.1 < samples.last.1 {
                samples.lost += samples.last.1;
            }
            samples.last = point;
            samples.gaps += 1;
        }
        (samples.gaps > 0).then_some(samples)
    }
}

/// How far beyond its neighbour a sample may be missing: a tenth more than the usual gap.
const PATIENCE: f64 = 1.1;

fn extrapolated(frame: &Frame<'_>, ask: Ask) -> Option<f64> {
    let samples = Samples::of(frame)?;
    let ((first_at, first), (last_at, last)) = (samples.first, samples.last);
    let (start, end) = frame.bounds();
    let change = match ask {
        Ask::Delta => last - first,
        Ask::Rate | Ask::Increase => last - first + samples.lost,
    };
    let sampled = secs(last_at, first_at);
    let usual = sampled / f64::from(samples.gaps);
    let edge = |gap: f64| if gap >= usual * PATIENCE { usual / 2.0 } else { gap };
    let mut before = edge(secs(first_at, start));
    if ask != Ask::Delta && change > 0.0 && first >= 0.0 {
        before = before.min(sampled * (first / change)); // A counter was not below zero.
    }
    let factor = (sampled + before + edge(secs(end, last_at))) / sampled;
    Some(match ask {
        Ask::Rate => change * factor / secs(end, start),
        Ask::Increase | Ask::Delta => change * factor,
    })
}

pub(crate) fn instant_rate(frame: &Frame<'_>) -> Option<f64> {
    let ((before_at, before), (at, value)) = last_two(frame)?;
    let change = if value < before { value } else { value - before };
    Some(change / secs(at, before_at))
}

pub(crate) fn instant_delta(frame: &Frame<'_>) -> Option<f64> {
    let ((_, before), (_, value)) = last_two(frame)?;
    Some(value - before)
}

/// How many neighbours `counts` accepts.
pub(crate) fn pairs(frame: &Frame<'_>, counts: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let mut points = frame.points().map(|(_, value)| value);
    let mut before = points.next()?;
    let mut found = 0_u32;
    for value in points {
        found += u32::from(counts(before, value));
        before = value;
    }
    Some(f64::from(found))
}

fn last_two(frame: &Frame<'_>) -> Option<((Timestamp, f64), (Timestamp, f64))> {
    let mut newest_first = frame.points().rev();
    let last = newest_first.next()?;
    Some((newest_first.next()?, last))
}

#[expect(clippy::cast_precision_loss, reason = "exact below 285,000 years")]
pub(crate) fn secs(later: Timestamp, earlier: Timestamp) -> f64 {
    later.millis_since(earlier) as f64 / 1000.0
}
