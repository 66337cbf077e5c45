//! Folds: aggregations that take in one series after the other, and keep none of them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rrd::Labels;

use crate::columns::{Cell, Column};
use crate::plan::{Aggregate, Names};

impl Aggregate {
    /// True when [`Groups`] can compute it.
    pub(crate) const fn is_fold(&self) -> bool {
        matches!(
            self,
            Self::Sum | Self::Average | Self::Min | Self::Max | Self::Count | Self::Group
        )
    }
}

/// What has been taken in so far, by the labels it is grouped by.
pub(crate) struct Groups<'a> {
    function: &'a Aggregate,
    grouping: &'a Names,
    /// Moments.
    count: usize,
    all: Vec<Group>,
    /// Groups by a hash of their labels.
    places: HashMap<u64, Vec<usize>>,
}

struct Group {
    labels: Labels,
    /// At each moment: the sum, or the least or largest value.
    values: Vec<f64>,
    /// What rounding took from each sum (Kahan, Neumaier), as Prometheus carries it along.
    carries: Vec<f64>,
    /// How many there were at each moment.
    counts: Vec<u32>,
}

impl<'a> Groups<'a> {
    /// Nothing yet, of this many moments; the function is a fold.
    pub(crate) fn of(function: &'a Aggregate, grouping: &'a Names, count: usize) -> Self {
        Self { function, grouping, count, all: Vec::new(), places: HashMap::new() }
    }

    /// Takes in a series.
    pub(crate) fn add(&mut self, labels: &Labels, cells: &[Cell]) {
        let place = self.place(labels);
        let group = &mut self.all[place];
        match self.function {
            Aggregate::Min => group.pick(cells, is_less),
            Aggregate::Max => group.pick(cells, |a, b| is_less(b, a)),
            Aggregate::Count | Aggregate::Group => group.count(cells),
            _ => group.sum(cells),
        }
    }

    /// Takes in what others have taken in, of series that come after all of these.
    pub(crate) fn join(&mut self, others: Self) {
        for group in others.all {
            match self.known(&group.labels) {
                (_, Some(place)) => self.all[place].join(&group, self.function),
                (hash, None) => self.push(hash, group),
            }
        }
    }

    /// One column for each group, in the order in which their first series came.
    pub(crate) fn finish(self) -> impl Iterator<Item = Column> {
        let function = self.function;
        self.all.into_iter().map(move |group| group.finish(function))
    }

    fn place(&mut self, labels: &Labels) -> usize {
        let (hash, place) = self.known(labels);
        place.unwrap_or_else(|| {
            let has_carries = matches!(self.function, Aggregate::Sum | Aggregate::Average);
            let group = Group {
                labels: self.grouping.choose(labels),
                values: vec![0.0; self.count],
                carries: vec![0.0; if has_carries { self.count } else { 0 }],
                counts: vec![0; self.count],
            };
            self.push(hash, group);
            self.all.len() - 1
        })
    }

    /// Where the series belongs, if another one did already. No label is copied to find out.
    fn known(&self, labels: &Labels) -> (u64, Option<usize>) {
        let mut hasher = DefaultHasher::new();
        self.grouping.chosen(labels).for_each(|label| label.hash(&mut hasher));
        let hash = hasher.finish();
        let places = self.places.get(&hash).map_or(&[][..], Vec::as_slice);
        let is_same =
            |place: &&usize| self.all[**place].labels.iter().eq(self.grouping.chosen(labels));
        (hash, places.iter().find(is_same).copied())
    }

    fn push(&mut self, hash: u64, group: Group) {
        self.places.entry(hash).or_default().push(self.all.len());
        self.all.push(group);
    }
}

impl Group {
    fn sum(&mut self, cells: &[Cell]) {
        for ((sum, carry), cell) in self.values.iter_mut().zip(&mut self.carries).zip(cells) {
            // To add nothing is no less than not to add, and needs no branch: sums never are -0.
            add(sum, carry, if cell.is_present() { cell.raw() } else { 0.0 });
        }
        self.count(cells);
    }

    fn count(&mut self, cells: &[Cell]) {
        for (count, cell) in self.counts.iter_mut().zip(cells) {
            *count += u32::from(cell.is_present());
        }
    }

    /// Keeps the first of those of which none is better; NaN is the worst.
    fn pick(&mut self, cells: &[Cell], is_better: impl Fn(f64, f64) -> bool) {
        for ((best, count), cell) in self.values.iter_mut().zip(&mut self.counts).zip(cells) {
            if let Some(value) = cell.get() {
                if *count == 0 || best.is_nan() || is_better(value, *best) {
                    *best = value;
                }
                *count += 1;
            }
        }
    }

    fn join(&mut self, other: &Self, function: &Aggregate) {
        let cells = |other: &Self| -> Vec<Cell> {
            let present = |(value, count): (&f64, &u32)| {
                if *count > 0 { Cell::of(*value) } else { Cell::ABSENT }
            };
            other.values.iter().zip(&other.counts).map(present).collect()
        };
        let before = self.counts.clone();
        match function {
            Aggregate::Min => self.pick(&cells(other), is_less),
            Aggregate::Max => self.pick(&cells(other), |a, b| is_less(b, a)),
            Aggregate::Count | Aggregate::Group => {}
            _ => {
                self.sum(&cells(other));
                for (carry, more) in self.carries.iter_mut().zip(&other.carries) {
                    *carry += more;
                }
            }
        }
        let counts = before.iter().zip(&other.counts).map(|(own, others)| own + others);
        self.counts = counts.collect();
    }

    fn finish(self, function: &Aggregate) -> Column {
        let finish = |index: usize| match function {
            Aggregate::Average => self.total(index) / f64::from(self.counts[index]),
            Aggregate::Sum => self.total(index),
            Aggregate::Count => f64::from(self.counts[index]),
            Aggregate::Group => 1.0,
            _ => self.values[index],
        };
        let cell = |index: usize| Cell::from((self.counts[index] > 0).then(|| finish(index)));
        let cells = (0..self.counts.len()).map(cell).collect();
        Column { labels: self.labels, cells }
    }

    fn total(&self, index: usize) -> f64 {
        self.values[index] + self.carries[index]
    }
}

fn is_less(a: f64, b: f64) -> bool {
    a < b
}

/// Adds to a sum that carries its rounding error along.
fn add(sum: &mut f64, carry: &mut f64, value: f64) {
    let rounded = *sum + value;
    let (of_value, of_sum) = ((*sum - rounded) + value, (value - rounded) + *sum);
    let lost = if sum.abs() >= value.abs() { of_value } else { of_sum };
    *carry = if rounded.is_infinite() { 0.0 } else { *carry + lost };
    *sum = rounded;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(function: &Aggregate, pieces: &[&[f64]]) -> Option<f64> {
        let grouping = Names::Only(Vec::new());
        let mut all = Groups::of(function, &grouping, 1);
        for piece in pieces {
            let mut groups = Groups::of(function, &grouping, 1);
            for value in *piece {
                groups.add(&Labels::default(), &[Cell::of(*value)]);
            }
            all.join(groups);
        }
        all.finish().next()?.cells[0].get()
    }

    #[test]
    fn a_sum_does_not_lose_small_numbers_between_large_ones() {
        for pieces in [&[&[1e100, 1.0, -1e100][..]][..], &[&[1e100, 1.0], &[-1e100]]] {
            assert_eq!(column(&Aggregate::Sum, pieces), Some(1.0), "{pieces:?}");
        }
        let infinite = column(&Aggregate::Sum, &[&[f64::MAX, f64::MAX], &[1.0]]);
        assert_eq!(infinite, Some(f64::INFINITY));
    }

    #[test]
    fn pieces_join_as_if_they_had_been_one() {
        let pieces: &[&[f64]] = &[&[3.0, f64::NAN], &[], &[-1.0, 4.0]];
        for (function, expected) in [
            (Aggregate::Min, -1.0),
            (Aggregate::Max, 4.0),
            (Aggregate::Count, 4.0),
            (Aggregate::Group, 1.0),
        ] {
            assert_eq!(column(&function, pieces), Some(expected), "{function:?}");
        }
        assert_eq!(column(&Aggregate::Average, &[&[3.0], &[-1.0, 4.0]]), Some(2.0));
        assert!(column(&Aggregate::Max, &[&[f64::NAN], &[f64::NAN]]).unwrap().is_nan());
    }
}
