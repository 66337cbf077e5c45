//! Columns: one series' values at all moments of a query, and rules for sets of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rrd::Labels;

use crate::Error;

/// A value, or nothing. NaN is a value: PromQL computes with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell(f64);

/// A quiet NaN of our own, which [`Cell::of`] never makes.
const ABSENT_BITS: u64 = 0x7ff8_0000_0000_0b5e;

impl Cell {
    pub(crate) const ABSENT: Self = Self(f64::from_bits(ABSENT_BITS));

    pub(crate) const fn of(value: f64) -> Self {
        Self(if value.is_nan() { f64::NAN } else { value })
    }

    /// A stored number, in which NaN means unknown.
    pub(crate) const fn known(value: f64) -> Self {
        if value.is_nan() { Self::ABSENT } else { Self(value) }
    }

    pub(crate) const fn get(self) -> Option<f64> {
        if self.is_present() { Some(self.0) } else { None }
    }

    pub(crate) const fn is_present(self) -> bool {
        Self::is_filled(self.0)
    }

    /// The number it is made of, to be looked at by [`Cell::is_filled`].
    pub(crate) const fn raw(self) -> f64 {
        self.0
    }

    /// True of a [`Cell::raw`] that holds a value.
    pub(crate) const fn is_filled(raw: f64) -> bool {
        raw.to_bits() != ABSENT_BITS
    }
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::ABSENT, Self::of)
    }
}

/// One series at every moment of the query.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) labels: Labels,
    pub(crate) cells: Vec<Cell>,
}

impl Column {
    /// Moments at which there is a value.
    pub(crate) fn count(&self) -> usize {
        self.cells.iter().filter(|cell| cell.is_present()).count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.iter().all(|cell| !cell.is_present())
    }
}

/// `columns` with those of equal labels joined. Errors when two are present at one moment:
/// `complaint` then says why that is not allowed.
pub(crate) fn joined(columns: Vec<Column>, complaint: &str) -> Result<Vec<Column>, Error> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(columns.len());
    let mut all: Vec<Column> = Vec::with_capacity(columns.len());
    for column in columns {
        match places.entry(column.labels.clone()) {
            Entry::Vacant(place) => {
                place.insert(all.len());
                all.push(column);
            }
            Entry::Occupied(place) => {
                if !lay_over(&mut all[*place.get()].cells, &column.cells) {
                    return Err(Error::Execution(format!("{complaint}: {}", column.labels)));
                }
            }
        }
    }
    Ok(all)
}

/// Fills the gaps of `cells` from `more`; false when both have a value somewhere.
fn lay_over(cells: &mut [Cell], more: &[Cell]) -> bool {
    for (cell, other) in cells.iter_mut().zip(more) {
        if other.is_present() {
            if cell.is_present() {
                return false;
            }
            *cell = *other;
        }
    }
    true
}

/// Why two series of one vector must differ in a label.
pub(crate) const SAME_LABELS: &str = "vector cannot contain metrics with the same labelset";

/// `columns` without their metric names, as functions and arithmetic return them.
pub(crate) fn nameless(columns: Vec<Column>) -> Result<Vec<Column>, Error> {
    let columns = columns
        .into_iter()
        .map(|column| Column { labels: without_name(&column.labels), ..column })
        .collect();
    joined(columns, SAME_LABELS)
}

pub(crate) fn without_name(labels: &Labels) -> Labels {
    if labels.metric().is_none() { labels.clone() } else { labels.filtered(|l| l != rrd::NAME) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computed_nan_is_present_and_an_unknown_is_not() {
        assert!(Cell::of(f64::INFINITY - f64::INFINITY).is_present());
        assert!(Cell::of(Cell::ABSENT.0).is_present());
        assert!(!Cell::known(f64::NAN).is_present());
        assert!(Cell::ABSENT.get().is_none());
    }

    #[test]
    fn columns_of_equal_labels_join_unless_they_overlap() {
        let column = |cells: [Option<f64>; 2]| Column {
            labels: Labels::default(),
            cells: cells.into_iter().map(Cell::from).collect(),
        };
        let both = joined(vec![column([Some(1.0), None]), column([None, Some(2.0)])], "no");
        let values: Vec<_> = both.unwrap()[0].cells.iter().map(|c| c.get()).collect();
        assert_eq!(values, [Some(1.0), Some(2.0)]);
        assert!(joined(vec![column([Some(1.0), None]), column([Some(1.0), None])], "no").is_err());
    }
}
