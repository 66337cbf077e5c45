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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Anchor, store::Rows};

    const U: f64 = f64::NAN;

    /// Rows of 60 s, the first from 0 to 60, each of six steps that are known where the rate is.
    fn rows(rates: &[f64], anchors: &[(i64, f64)]) -> Rows {
        let at = |&(at, reading): &(i64, f64)| Anchor { at: Timestamp::from_secs(at), reading };
        Rows {
            first_end: Timestamp::from_secs(60),
            average: rates.to_vec(),
            known: rates.iter().map(|rate| if rate.is_nan() { 0 } else { 6 }).collect(),
            anchors: anchors.iter().map(at).collect(),
            ..Rows::default()
        }
    }

    #[track_caller]
    fn check(rows: &Rows, want: &str) {
        let one = |count: &f64| if count.is_nan() { "-".to_owned() } else { count.to_string() };
        let counts = rows.counts(Step::from_secs(60).unwrap(), 6);
        assert_eq!(counts.iter().map(one).collect::<Vec<_>>().join(" "), want);
    }

    #[test]
    fn counts_follow_from_the_nearest_reading_on_either_side() {
        check(&rows(&[1.0, 1.0, 1.0], &[]), "- - -");
        check(&rows(&[1.0, 1.0, 1.0], &[(0, 5.0)]), "65 125 185");
        check(&rows(&[1.0, 1.0, 1.0], &[(180, 200.0)]), "80 140 200");
        check(&rows(&[1.0, 1.0, 1.0], &[(-1, 5.0), (181, 9.0)]), "- - -");
        // Two that contradict each other: the nearer one, and where both are as near, the earlier.
        check(&rows(&[1.0, 1.0, 1.0, 1.0], &[(0, 0.0), (240, 1000.0)]), "60 120 940 1000");
        check(&rows(&[1.0, U, 1.0, 1.0], &[(60, 7.0), (240, 500.0)]), "7 380 440 500");
    }

    #[test]
    fn no_count_goes_through_a_row_that_is_not_wholly_known_or_holds_a_reset() {
        let mut rows = rows(&[1.0, 1.0, 1.0, 1.0], &[(60, 7.0)]);
        check(&rows, "7 67 127 187");
        rows.resets = vec![false, false, true, false];
        check(&rows, "7 67 - -");
        rows.resets.clear();
        rows.known[1] = 5;
        check(&rows, "7 - - -");
        rows.known[1] = 6;
        rows.average[3] = f64::INFINITY;
        check(&rows, "7 67 127 -");
    }

    #[test]
    fn a_reading_within_a_row_serves_only_where_no_other_one_reaches() {
        check(&rows(&[1.0, 2.0, 1.0], &[(90, 100.0)]), "40 160 220");
        check(&rows(&[1.0, 2.0, 1.0], &[(90, 100.0), (180, 500.0)]), "320 440 500");
        check(&rows(&[1.0, 2.0, 1.0], &[(0, 1.0), (90, 100.0)]), "61 181 241");
        check(&rows(&[1.0, U, 1.0], &[(90, 100.0)]), "- - -");
    }
}
