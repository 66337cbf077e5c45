//! Histograms of buckets: `histogram_quantile` and `histogram_fraction`.

use std::collections::HashMap;

use rrd::Labels;

use crate::Error;
use crate::columns::{Cell, Column, nameless};
use crate::evaluate::Run;
use crate::plan::{OfBuckets, Vector};

/// The label of a bucket that says what its observations do not exceed.
const BOUND: &str = "le";

/// Neighbours that differ by less than this share are taken for equal: sums of rates are rounded.
const ROUNDING: f64 = 1e-12;

/// A bucket at one moment: its upper bound, and how many observations do not exceed it.
type Bucket = (f64, f64);

/// The buckets of one histogram over all moments, by their upper bounds.
struct Histogram {
    labels: Labels,
    buckets: Vec<(f64, Column)>,
}

impl Run<'_> {
    /// What is asked of each histogram that the buckets in `of` make up.
    pub(crate) fn buckets(&mut self, ask: &OfBuckets, of: &Vector) -> Result<Vec<Column>, Error> {
        let columns = self.vector(of)?;
        let numbers = match ask {
            OfBuckets::Quantile(share) => {
                let shares = self.scalar(share)?;
                self.warn_of_shares(&shares);
                (shares, Vec::new())
            }
            OfBuckets::Fraction(lower, upper) => (self.scalar(lower)?, self.scalar(upper)?),
        };
        let mut found = Vec::new();
        let mut fixes = Fixes::default();
        let mut room: Vec<Bucket> = Vec::new();
        for histogram in self.histograms(columns) {
            let mut cells = vec![Cell::ABSENT; self.moments.count()];
            for (index, cell) in cells.iter_mut().enumerate() {
                self.looks.add(histogram.buckets.len())?;
                if !histogram.at(index, &mut room) {
                    continue;
                }
                *cell = Cell::of(match ask {
                    OfBuckets::Quantile(_) => quantile(numbers.0[index], &mut room, &mut fixes),
                    OfBuckets::Fraction(..) => fraction(numbers.0[index], numbers.1[index], &room),
                });
            }
            found.push(Column { labels: histogram.labels, cells });
        }
        if fixes.fell {
            self.warn("input to histogram_quantile needed to be fixed for monotonicity".to_owned());
        }
        nameless(found)
    }

    /// Buckets by what they agree in, in the order of the first of each.
    fn histograms(&mut self, columns: Vec<Column>) -> Vec<Histogram> {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut all: Vec<Histogram> = Vec::new();
        for column in columns {
            let bound = column.labels.get(BOUND).unwrap_or_default();
            let Ok(upper) = bound.parse::<f64>() else {
                self.warn(format!(
                    "bucket label {BOUND:?} is missing or has a malformed value of {bound:?}"
                ));
                continue;
            };
            let labels = column.labels.filtered(|label| label != BOUND && label != rrd::NAME);
            let place = *places.entry(labels).or_insert_with_key(|labels| {
                all.push(Histogram { labels: labels.clone(), buckets: Vec::new() });
                all.len() - 1
            });
            all[place].buckets.push((upper, column));
        }
        for histogram in &mut all {
            histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        all
    }
}

impl Histogram {
    /// Puts the buckets of one moment into `room`, those of one bound together; false when there
    /// are none.
    #[expect(clippy::float_cmp, reason = "bounds that are written alike are the same bucket")]
    fn at(&self, index: usize, room: &mut Vec<Bucket>) -> bool {
        room.clear();
        for (upper, column) in &self.buckets {
            let Some(count) = column.cells[index].get() else { continue };
            match room.last_mut() {
                Some(last) if last.0 == *upper => last.1 += count,
                _ => room.push((*upper, count)),
            }
        }
        !room.is_empty()
    }
}

/// What had to be mended in counts that must rise from bucket to bucket.
#[derive(Default)]
struct Fixes {
    /// A count fell by more than rounding explains.
    fell: bool,
}

impl Fixes {
    /// Lifts counts that fall, and levels those that rise or fall by rounding alone.
    fn mend(&mut self, buckets: &mut [Bucket]) {
        let Some((first, rest)) = buckets.split_first_mut() else { return };
        let mut before = first.1;
        for (_, count) in rest {
            if is_rounding(before, *count) {
                *count = before;
            } else if *count < before {
                *count = before;
                self.fell = true;
            } else {
                before = *count;
            }
        }
    }
}

fn is_rounding(a: f64, b: f64) -> bool {
    let sum = a.abs() + b.abs();
    let gap = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return gap < ROUNDING * f64::MIN_POSITIVE;
    }
    gap / sum.min(f64::MAX) < ROUNDING
}

/// The value that a share of all observations does not exceed, as if they lay evenly in each
/// bucket. Buckets are in order of their bounds.
fn quantile(share: f64, buckets: &mut [Bucket], fixes: &mut Fixes) -> f64 {
    if share.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&share) {
        return if share < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    if !ends_in_infinity(buckets) {
        return f64::NAN;
    }
    fixes.mend(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].1;
    if last == 0 || observations == 0.0 || observations.is_nan() {
        return f64::NAN;
    }
    let rank = share * observations;
    let place = buckets[..last].partition_point(|(_, count)| *count < rank);
    let (upper, count) = buckets[place];
    if place == last {
        return buckets[last - 1].0; // Of what lies beyond, only the beginning is known.
    }
    let (lower, before) = match place.checked_sub(1) {
        Some(place) => buckets[place],
        None if upper <= 0.0 => return upper,
        None => (0.0, 0.0),
    };
    lower + (upper - lower) * ((rank - before) / (count - before))
}

/// The share of observations between two values.
fn fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    if !ends_in_infinity(buckets) || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    let all = buckets[buckets.len() - 1].1;
    if all == 0.0 || all.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets).min(all) - rank_of(lower, buckets).min(all)) / all
}

/// How many observations do not exceed `value`, as if they lay evenly in each bucket.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let begin = if buckets[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let (mut lower, mut rank) = (begin, 0.0);
    for &(upper, count) in buckets {
        if value <= lower {
            return rank;
        }
        if value < upper {
            let share = (value - lower) / (upper - lower);
            // In a bucket without an end nothing is known of where.
            return if share.is_finite() && upper.is_finite() {
                rank + (count - rank) * share
            } else {
                rank
            };
        }
        (lower, rank) = (upper, count);
    }
    rank
}

fn ends_in_infinity(buckets: &[Bucket]) -> bool {
    buckets.last().is_some_and(|(upper, _)| *upper == f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(share: f64, buckets: &[Bucket], expected: f64) {
        let found = quantile(share, &mut buckets.to_vec(), &mut Fixes::default());
        let is_same = (found - expected).abs() < 1e-12 || found.to_bits() == expected.to_bits();
        assert!(is_same, "{share} of {buckets:?}: {found}, not {expected}");
    }

    const END: f64 = f64::INFINITY;

    #[test]
    fn a_quantile_lies_evenly_in_its_bucket() {
        let four = [(0.1, 10.0), (0.2, 30.0), (1.0, 40.0), (END, 50.0)];
        for (share, expected) in [
            (0.1, 0.05),
            (0.2, 0.1),
            (0.4, 0.15),
            (0.7, 0.6),
            (0.9, 1.0),
            (1.0, 1.0),
            (-0.1, f64::NEG_INFINITY),
            (1.1, f64::INFINITY),
        ] {
            check(share, &four, expected);
        }
        check(0.5, &[(-1.0, 8.0), (0.0, 8.0), (END, 8.0)], -1.0);
        check(0.75, &[(-1.0, 4.0), (0.0, 8.0), (END, 8.0)], -0.5);
    }

    #[test]
    fn what_is_no_histogram_has_no_quantile() {
        for buckets in [&[(1.0, 5.0)][..], &[(END, 5.0)], &[(1.0, 0.0), (END, 0.0)]] {
            assert!(quantile(0.5, &mut buckets.to_vec(), &mut Fixes::default()).is_nan());
        }
    }

    #[test]
    fn counts_that_fall_are_lifted_and_said_so_but_rounding_is_not() {
        for (count, fell) in [(9.0, true), (10.0 - 1e-12, false), (10.0, false), (11.0, false)] {
            let mut fixes = Fixes::default();
            let mut buckets = vec![(1.0, 10.0), (2.0, count), (END, 20.0)];
            fixes.mend(&mut buckets);
            assert_eq!((fixes.fell, buckets[1].1), (fell, f64::max(count, 10.0)), "{count}");
        }
    }

    #[test]
    fn a_fraction_is_a_difference_of_ranks() {
        let four = [(0.1, 10.0), (0.2, 30.0), (1.0, 40.0), (END, 50.0)];
        for (lower, upper, expected) in [
            (0.1, 0.2, 0.4),
            (0.15, 1.0, 0.4),
            (f64::NEG_INFINITY, END, 1.0),
            (1.0, END, 0.2),
            (0.2, 0.2, 0.0),
            (2.0, 3.0, 0.0),
        ] {
            let found = fraction(lower, upper, &four);
            assert!((found - expected).abs() < 1e-12, "{lower} to {upper}: {found}");
        }
    }
}
