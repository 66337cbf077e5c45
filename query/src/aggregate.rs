//! Aggregations: the elements of each group become one, or the most extreme of them stay.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rrd::Labels;

use crate::columns::{Cell, Column};
use crate::plan::{Aggregate, Names, Scalar};

impl Aggregate {
    /// The number the aggregation is asked with, if any.
    pub(crate) const fn parameter(&self) -> Option<&Scalar> {
        match self {
            Self::Quantile(parameter) | Self::Extreme { count: parameter, .. } => Some(parameter),
            _ => None,
        }
    }
}

/// Columns that share the labels they are grouped by.
struct Group {
    labels: Labels,
    columns: Vec<Column>,
}

/// The aggregation of `columns` at each of `count` moments; `parameter` holds its number at each.
pub(crate) fn aggregate(
    function: &Aggregate,
    grouping: &Names,
    parameter: &[f64],
    columns: Vec<Column>,
    count: usize,
) -> Vec<Column> {
    let groups = groups(grouping, columns);
    if let Aggregate::Extreme { largest, .. } = function {
        let stay = |group: Group| extremes(group.columns, *largest, parameter, count);
        return groups.into_iter().flat_map(stay).collect();
    }
    let one = |group: Group| Column {
        cells: match function {
            Aggregate::Min => folded(&group, count, |a, b| if b < a || a.is_nan() { b } else { a }),
            Aggregate::Max => folded(&group, count, |a, b| if b > a || a.is_nan() { b } else { a }),
            Aggregate::Quantile(_) => quantiles(&group, parameter, count),
            Aggregate::StandardVariance => spreads(&group, count, |variance| variance),
            Aggregate::StandardDeviation => spreads(&group, count, f64::sqrt),
            _ => sums(&group, count, function),
        },
        labels: group.labels,
    };
    groups.into_iter().map(one).collect()
}

fn groups(grouping: &Names, columns: Vec<Column>) -> Vec<Group> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for column in columns {
        let place = match places.entry(grouping.choose(&column.labels)) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                let labels = place.key().clone();
                groups.push(Group { labels, columns: Vec::new() });
                *place.insert(groups.len() - 1)
            }
        };
        groups[place].columns.push(column);
    }
    groups
}

/// A sum that carries its rounding error along (Kahan, Neumaier), as Prometheus' does.
#[derive(Clone, Copy, Default)]
struct Sum {
    rounded: f64,
    carry: f64,
    count: u32,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let sum = self.rounded + value;
        if sum.is_infinite() {
            self.carry = 0.0;
        } else if self.rounded.abs() >= value.abs() {
            self.carry += (self.rounded - sum) + value;
        } else {
            self.carry += (value - sum) + self.rounded;
        }
        self.rounded = sum;
        self.count += 1;
    }

    fn total(self) -> f64 {
        self.rounded + self.carry
    }
}

fn sums(group: &Group, count: usize, function: &Aggregate) -> Vec<Cell> {
    let mut sums = vec![Sum::default(); count];
    for column in &group.columns {
        for (sum, cell) in sums.iter_mut().zip(&column.cells) {
            if let Some(value) = cell.get() {
                sum.add(value);
            }
        }
    }
    let finish = |sum: Sum| match function {
        Aggregate::Average => sum.total() / f64::from(sum.count),
        Aggregate::Count => f64::from(sum.count),
        Aggregate::Group => 1.0,
        _ => sum.total(),
    };
    let present = |sum: Sum| (sum.count > 0).then(|| finish(sum));
    sums.into_iter().map(|sum| Cell::from(present(sum))).collect()
}

fn folded(group: &Group, count: usize, pick: impl Fn(f64, f64) -> f64) -> Vec<Cell> {
    let mut cells = vec![Cell::ABSENT; count];
    for column in &group.columns {
        for (best, cell) in cells.iter_mut().zip(&column.cells) {
            *best = match (best.get(), cell.get()) {
                (Some(a), Some(b)) => Cell::of(pick(a, b)),
                (None, Some(b)) => Cell::of(b),
                (_, None) => continue,
            };
        }
    }
    cells
}

/// Welford's running mean and variance.
fn spreads(group: &Group, count: usize, finish: impl Fn(f64) -> f64) -> Vec<Cell> {
    let mut runs = vec![(0.0_f64, 0.0_f64, 0.0_f64); count];
    for column in &group.columns {
        for ((n, mean, spread), cell) in runs.iter_mut().zip(&column.cells) {
            if let Some(value) = cell.get() {
                let delta = value - *mean;
                *n += 1.0;
                *mean += delta / *n;
                *spread += delta * (value - *mean);
            }
        }
    }
    let one = |(n, _, spread): (f64, f64, f64)| (n > 0.0).then(|| finish(spread / n));
    runs.into_iter().map(|run| Cell::from(one(run))).collect()
}

fn quantiles(group: &Group, parameter: &[f64], count: usize) -> Vec<Cell> {
    let mut values = Vec::with_capacity(group.columns.len());
    let mut cells = Vec::with_capacity(count);
    for (index, share) in parameter.iter().enumerate().take(count) {
        values.clear();
        values.extend(group.columns.iter().filter_map(|column| column.cells[index].get()));
        cells.push(Cell::from(quantile(*share, &mut values)));
    }
    cells
}

/// The quantile of values, between neighbours in proportion; `None` of nothing.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rank lies in 0 ..= len - 1, far below 2^53"
)]
pub(crate) fn quantile(share: f64, values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    if share.is_nan() {
        return Some(f64::NAN);
    }
    if !(0.0..=1.0).contains(&share) {
        return Some(if share < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    values.sort_by(|a, b| nan_first(*a, *b));
    let rank = share * (values.len() - 1) as f64;
    let below = rank.floor() as usize;
    let above = (below + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    Some(values[below] * (1.0 - weight) + values[above] * weight)
}

fn nan_first(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// By value, ascending or descending; NaN comes last either way.
pub(crate) fn order(a: f64, b: f64, descending: bool) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order) if descending => order.reverse(),
        Some(order) => order,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

/// `topk` and `bottomk`: the columns, each only where it is among the first.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float casts to the nearest integer there is; fractions are cut as in Prometheus"
)]
fn extremes(
    mut columns: Vec<Column>,
    largest: bool,
    parameter: &[f64],
    count: usize,
) -> Vec<Column> {
    let mut ranked: Vec<(f64, usize)> = Vec::with_capacity(columns.len());
    for (index, wanted) in parameter.iter().enumerate().take(count) {
        let keep = *wanted as usize;
        ranked.clear();
        let present = columns.iter().enumerate();
        ranked.extend(present.filter_map(|(at, c)| Some((c.cells[index].get()?, at))));
        if keep >= ranked.len() {
            continue;
        }
        let by_rank =
            |a: &(f64, usize), b: &(f64, usize)| order(a.0, b.0, largest).then(a.1.cmp(&b.1));
        ranked.select_nth_unstable_by(keep, by_rank);
        for (_, at) in ranked.iter().skip(keep) {
            columns[*at].cells[index] = Cell::ABSENT;
        }
    }
    if count == 1 {
        let key = |column: &Column| column.cells[0].get().unwrap_or(f64::NAN);
        columns.sort_by(|a, b| order(key(a), key(b), largest));
    }
    columns.retain(|column| !column.is_empty());
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        for (share, expected) in [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0), (-1.0, f64::NEG_INFINITY)] {
            let found = quantile(share, &mut [4.0, 1.0, 3.0, 2.0]);
            assert_eq!(found, Some(expected), "quantile {share}");
        }
        assert_eq!(quantile(0.5, &mut []), None);
    }

    #[test]
    fn a_sum_does_not_lose_small_numbers_between_large_ones() {
        let mut sum = Sum::default();
        for value in [1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert!((sum.total() - 1.0).abs() < f64::EPSILON);
    }
}
