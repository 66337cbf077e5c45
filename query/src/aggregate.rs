//! Aggregations: the elements of each group become one, or the most extreme of them stay.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rrd::Labels;

use crate::columns::{Cell, Column};
use crate::fold::Groups;
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
    if function.is_fold() {
        let mut groups = Groups::of(function, grouping, count);
        for column in &columns {
            groups.add(&column.labels, &column.cells);
        }
        return groups.finish().collect();
    }
    let groups = groups(grouping, columns);
    if let Aggregate::Extreme { largest, .. } = function {
        let stay = |group: Group| extremes(group.columns, *largest, parameter, count);
        return groups.into_iter().flat_map(stay).collect();
    }
    let one = |group: Group| Column {
        cells: match function {
            Aggregate::StandardVariance => spreads(&group, count, |variance| variance),
            Aggregate::StandardDeviation => spreads(&group, count, f64::sqrt),
            _ => quantiles(&group, parameter, count),
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

/// So many are kept in order as they are found; of more, all are ranked once.
const KEPT_IN_ORDER: usize = 128;

/// `topk` and `bottomk`: the columns, each only where it is among the first.
fn extremes(
    mut columns: Vec<Column>,
    largest: bool,
    parameter: &[f64],
    count: usize,
) -> Vec<Column> {
    let wanted: Vec<usize> = parameter.iter().take(count).map(|wanted| whole(*wanted)).collect();
    if wanted.iter().all(|wanted| *wanted <= KEPT_IN_ORDER) {
        keep_in_order(&mut columns, largest, &wanted);
    } else {
        keep_ranked(&mut columns, largest, &wanted);
    }
    if count == 1 {
        let key = |column: &Column| column.cells[0].get().unwrap_or(f64::NAN);
        columns.sort_by(|a, b| order(key(a), key(b), largest));
    }
    columns.retain(|column| !column.is_empty());
    columns
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float casts to the nearest integer there is; fractions are cut as in Prometheus"
)]
const fn whole(wanted: f64) -> usize {
    wanted as usize
}

/// Column after column, as they lie in memory: most are no better than the worst of the first few.
fn keep_in_order(columns: &mut [Column], largest: bool, wanted: &[usize]) {
    let mut best: Vec<Vec<(f64, usize)>> = vec![Vec::new(); wanted.len()];
    for at in 0..columns.len() {
        for (index, (best, &wanted)) in best.iter_mut().zip(wanted).enumerate() {
            let Some(value) = columns[at].cells[index].get() else { continue };
            let comes_first = |other: &(f64, usize)| order(value, other.0, largest).is_lt();
            if best.len() >= wanted && !best.last().is_some_and(comes_first) {
                columns[at].cells[index] = Cell::ABSENT;
                continue;
            }
            best.insert(best.partition_point(|other| !comes_first(other)), (value, at));
            if best.len() > wanted
                && let Some((_, worst)) = best.pop()
            {
                columns[worst].cells[index] = Cell::ABSENT;
            }
        }
    }
}

fn keep_ranked(columns: &mut [Column], largest: bool, wanted: &[usize]) {
    let mut ranked: Vec<(f64, usize)> = Vec::with_capacity(columns.len());
    for (index, &keep) in wanted.iter().enumerate() {
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
}
