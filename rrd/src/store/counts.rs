//! Counts: what a counter stood at, put together again from rates and the raw readings that were kept.

use super::Rows;
use crate::{Step, Timestamp};

impl Rows {
    /// The count at each row's END; NaN where it cannot be told. `steps_per_row` is how many finest steps a
    /// row has, 1 in the finest archive.
    ///
    /// From a raw reading at a row's END the count follows forwards and backwards, row by row, through
    /// rows that are wholly known and hold no reset; the nearest one decides. A reading in the midst of
    /// a row is taken where no other one reaches, as if the row's rate had been the same throughout.
    ///
    /// The increase since that reading is as exact as the cells are: to 2^-24 of itself in f32, 2^-53 in f64.
    /// Anchors are up to 64 finest steps away from rows: for a few rows ask for so many more on either side.
    pub fn counts(&self, step: Step, steps_per_row: u32) -> Vec<f64> {
        let walk = Walk { rows: self, step, steps_per_row };
        let (forwards, backwards) = (walk.forwards(), walk.backwards());
        let nearest = |(a, b): (Option<Reached>, Option<Reached>)| match (a, b) {
            (Some(a), Some(b)) => {
                if b.way() < a.way() {
                    b.count
                } else {
                    a.count
                }
            }
            (reached, None) | (None, reached) => reached.map_or(f64::NAN, |reached| reached.count),
        };
        forwards.into_iter().zip(backwards).map(nearest).collect()
    }
}

/// A count that was come to from a reading.
#[derive(Clone, Copy)]
struct Reached {
    count: f64,
    /// The reading was taken in the midst of a row.
    is_from_within: bool,
    /// Rows between.
    distance: usize,
}

impl Reached {
    const fn at(count: f64) -> Self {
        Self { count, is_from_within: false, distance: 0 }
    }

    const fn within(count: f64) -> Self {
        Self { count, is_from_within: true, distance: 0 }
    }

    fn after(self, increase: f64) -> Self {
        Self { count: self.count + increase, distance: self.distance + 1, ..self }
    }

    /// The shorter, the better.
    const fn way(self) -> (bool, usize) {
        (self.is_from_within, self.distance)
    }
}

/// A way along the rows.
struct Walk<'a> {
    rows: &'a Rows,
    step: Step,
    steps_per_row: u32,
}

impl Walk<'_> {
    /// By row: the count at its END, from readings before.
    fn forwards(&self) -> Vec<Option<Reached>> {
        let mut anchors = self.rows.anchors.iter().peekable();
        let mut counts = Vec::with_capacity(self.rows.len());
        let mut reached = None;
        for index in 0..self.rows.len() {
            let (start, end) = self.span(index);
            while let Some(anchor) = anchors.next_if(|anchor| anchor.at <= start) {
                reached =
                    if anchor.at == start { Some(Reached::at(anchor.reading)) } else { reached };
            }
            let rate = self.rate(index);
            reached = rate.and_then(|rate| Some(reached?.after(rate * seconds(start, end))));
            while let Some(anchor) = anchors.next_if(|anchor| anchor.at <= end) {
                reached = match rate {
                    _ if anchor.at == end => Some(Reached::at(anchor.reading)),
                    Some(rate) if reached.is_none_or(|reached| reached.is_from_within) => {
                        Some(Reached::within(anchor.reading + rate * seconds(anchor.at, end)))
                    }
                    _ => reached,
                };
            }
            counts.push(reached);
        }
        counts
    }

    /// By row: the count at its END, from readings after.
    fn backwards(&self) -> Vec<Option<Reached>> {
        let mut anchors = self.rows.anchors.iter().rev().peekable();
        let mut counts = vec![None; self.rows.len()];
        let mut reached = None;
        for index in (0..self.rows.len()).rev() {
            let (start, end) = self.span(index);
            while let Some(anchor) = anchors.next_if(|anchor| anchor.at >= end) {
                reached =
                    if anchor.at == end { Some(Reached::at(anchor.reading)) } else { reached };
            }
            counts[index] = reached;
            let rate = self.rate(index);
            reached = rate.and_then(|rate| Some(reached?.after(-rate * seconds(start, end))));
            while let Some(anchor) = anchors.next_if(|anchor| anchor.at > start) {
                reached = match rate {
                    Some(rate) if reached.is_none_or(|reached| reached.is_from_within) => {
                        Some(Reached::within(anchor.reading - rate * seconds(start, anchor.at)))
                    }
                    _ => reached,
                };
            }
        }
        counts
    }

    fn span(&self, index: usize) -> (Timestamp, Timestamp) {
        let millis = self.step.as_millis().cast_signed();
        let index = i64::try_from(index).expect("fewer rows than an i64 counts");
        let end = self.rows.first_end.plus_millis(index * millis);
        (end.plus_millis(-millis), end)
    }

    /// The rate of a row that can be walked through.
    fn rate(&self, index: usize) -> Option<f64> {
        let is_whole = self.rows.known[index] == self.steps_per_row;
        let is_reset = self.rows.resets.get(index).is_some_and(|&is_reset| is_reset);
        let rate = self.rows.average[index];
        (is_whole && !is_reset && rate.is_finite()).then_some(rate)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a row: exact below 285,000 years")]
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.millis_since(from) as f64 / 1000.0
}
