//! What a graph shows: series on one time grid, with the unit and the limits of its y axis.

use jiff::tz::TimeZone;
use rrd::{Calendar, Span, Step, Timestamp};

use super::{Hue, Unit};

/// A graph, ready to be drawn. Unknown is `None`, never zero and never NaN.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Names the graph in URLs; made of `a-z0-9-`.
    pub key: String,
    /// What a person calls it.
    pub title: String,
    /// What its numbers count.
    pub unit: Unit,
    /// Series lie on each other as areas, instead of being lines.
    pub stack: bool,
    /// The area between a line and zero is tinted.
    pub fill: bool,
    /// The y axis ends here whatever the values are.
    pub max: Option<f64>,
    /// The y axis reaches at least this far, so that noise is no mountain.
    pub soft_max: Option<f64>,
    /// The time axis.
    pub span: Span,
    /// The width of a point: point `i` ends at `span.start() + (i + 1) * step`.
    pub step: Step,
    /// Where points are days of a zone: which. A point then ends with the last day that has ended there.
    pub days: Option<&'static Calendar>,
    /// The zone in which the time axis is labelled.
    pub zone: TimeZone,
    /// What is drawn, the lowest layer first.
    pub series: Vec<Line>,
    /// How many series were left out because there is no room for them.
    pub left_out: usize,
    /// Limits that a rule watches.
    pub thresholds: Vec<Threshold>,
}

/// One series of a graph.
#[derive(Clone, Debug)]
pub struct Line {
    /// Decides the colour; unique within the graph.
    pub key: String,
    /// What the legend calls it.
    pub label: String,
    /// Its colour.
    pub hue: Hue,
    /// Drawn below zero; the numbers themselves stay positive.
    pub below: bool,
    /// One value per step of the graph.
    pub points: Vec<Option<f64>>,
}

/// A limit that a rule watches.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    /// In the unit of the graph.
    pub value: f64,
    /// What passing it means.
    pub severity: Severity,
}

/// How bad passing a threshold is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Someone should look.
    Warning,
    /// Someone must act.
    Critical,
}

/// The numbers of the legend, over the visible points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// The newest value, if it is among the last few points.
    pub now: Option<f64>,
    /// Smallest known point.
    pub min: f64,
    /// Average of the known points.
    pub average: f64,
    /// Largest known point.
    pub max: f64,
}

/// The newest rows are still being collected: a value this many points old is still "now".
const NOW_REACH: usize = 4;

impl Graph {
    /// How many points the span holds.
    pub fn point_count(&self) -> usize {
        let width = self.span.end().millis_since(self.span.start());
        usize::try_from(width / self.step.as_millis().cast_signed().max(1)).unwrap_or(0)
    }

    /// True when no series has a known point.
    pub fn is_blank(&self) -> bool {
        self.series.iter().all(|line| line.points.iter().all(Option::is_none))
    }

    /// Where point `index` ends.
    pub fn end_of(&self, index: usize) -> Timestamp {
        let steps = i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1);
        let width = self.step.as_millis().cast_signed().saturating_mul(steps);
        let end = self.span.start().plus_millis(width);
        self.days.map_or(end, |days| days.row_end(days.ended_row(end)))
    }

    /// The sentence a screen reader says about the graph.
    pub fn sentence(&self) -> String {
        let known: Vec<String> = self
            .series
            .iter()
            .filter_map(|line| {
                let stats = line.stats()?;
                let say = |value| self.unit.text(value);
                Some(format!(
                    "{} averages {}, at most {}",
                    line.label,
                    say(stats.average),
                    say(stats.max)
                ))
            })
            .collect();
        if known.is_empty() { "No data in this period.".to_owned() } else { known.join("; ") + "." }
    }
}

impl Line {
    /// The numbers of the legend; `None` when every point is unknown.
    #[expect(clippy::cast_precision_loss, reason = "points are counted in hundreds")]
    pub fn stats(&self) -> Option<Stats> {
        let mut known = self.points.iter().copied().flatten();
        let first = known.next()?;
        let (mut min, mut max, mut sum, mut count) = (first, first, first, 1_usize);
        for value in known {
            min = min.min(value);
            max = max.max(value);
            sum += value;
            count += 1;
        }
        let now = self.points.iter().rev().take(NOW_REACH).copied().flatten().next();
        Some(Stats { now, min, average: sum / count as f64, max })
    }
}

/// The stretches of consecutive known points, as ranges of indices.
pub(super) fn runs(points: &[Option<f64>]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, point) in points.iter().enumerate() {
        match (point, start) {
            (Some(_), None) => start = Some(at),
            (None, Some(first)) => {
                found.push(first..at);
                start = None;
            }
            _ => {}
        }
    }
    if let Some(first) = start {
        found.push(first..points.len());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_at_every_gap() {
        let x = Some(1.0);
        for (points, expected) in [
            (vec![], vec![]),
            (vec![None, None], vec![]),
            (vec![x, x, None, x], vec![0..2, 3..4]),
            (vec![None, x, None, x, x], vec![1..2, 3..5]),
        ] {
            assert_eq!(runs(&points), expected, "{points:?}");
        }
    }

    #[test]
    fn statistics_leave_unknown_points_out() {
        let points = vec![Some(2.0), None, Some(4.0), None];
        let line =
            Line { key: "a".into(), label: "a".into(), hue: Hue::Blue, below: false, points };
        let stats = line.stats().unwrap();
        assert_eq!(stats, Stats { now: Some(4.0), min: 2.0, average: 3.0, max: 4.0 });
    }

    #[test]
    fn an_old_value_is_not_now() {
        let mut points = vec![Some(2.0)];
        points.extend([None; NOW_REACH]);
        let line =
            Line { key: "a".into(), label: "a".into(), hue: Hue::Blue, below: false, points };
        assert_eq!(line.stats().unwrap().now, None);
    }
}
