//! Rows of one archive as readers see them: columns of numbers, unknown as NaN.

use std::num::NonZeroU32;
use std::ops::Range;

use super::read::RowParts;
use crate::file::{Part, Shape};
use crate::series::{Run, row_is_known};
use crate::{ArchiveSpec, Policy, Timestamp};

/// Consecutive rows of one archive: row `i` ends at `first_end + i * step`, or, where they are days of
/// a zone, where [`ArchiveSpec::row_end`] says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// END of the first row.
    pub first_end: Timestamp,
    /// Averages of the known steps, per row; for counters, rates per second. NaN is unknown.
    pub average: Vec<f64>,
    /// Smallest step; the same as `average` in the finest archive. Empty where averages alone were
    /// asked for.
    pub min: Vec<f64>,
    /// Largest step; the same as `average` in the finest archive. Empty where averages alone were
    /// asked for.
    pub max: Vec<f64>,
    /// The newest step in each row, known or not; empty where the policy keeps none, or averages alone
    /// were asked for.
    pub last: Vec<f64>,
    /// Known finest steps in each row: 0 or 1 in the finest archive, of which they are left out where values
    /// alone were asked for.
    pub known: Vec<u32>,
    /// True where a counter began anew within the row, known or not. Empty where no kind of reset is
    /// told from a fall, or averages alone were asked for.
    pub resets: Vec<bool>,
    /// What a counter stood at now and then, up to 64 finest steps before and after these rows, oldest
    /// first: its count is rebuilt from them. Empty for other kinds, or where averages alone were asked for.
    pub anchors: Vec<Anchor>,
}

/// What a counter stood at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Anchor {
    /// When it did.
    pub at: Timestamp,
    /// Its reading, or what two readings make of the moment between them.
    pub reading: f64,
}
impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.average.len()
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.average.is_empty()
    }

    /// Keeps each `every`th of the rows of an archive, counted from the first one after `start`, which is not
    /// after it: for those who have all rows at hand.
    pub fn thin(&mut self, spec: &ArchiveSpec, start: Timestamp, every: NonZeroU32) {
        if every == NonZeroU32::MIN || self.is_empty() {
            return;
        }
        let (first, width) = (spec.ended_row(self.first_end), i64::from(every.get()));
        let ahead = (first - spec.ended_row(start) - 1).rem_euclid(width);
        let skipped = (width - ahead) % width;
        self.first_end = spec.row_end(first + skipped);
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let (skipped, width) = (count(skipped), count(width));
        for column in [&mut self.average, &mut self.min, &mut self.max, &mut self.last] {
            thin(column, skipped, width);
        }
        thin(&mut self.known, skipped, width);
        thin(&mut self.resets, skipped, width);
    }

    /// Each row as a run of its own.
    #[cfg(test)]
    pub(super) fn to_runs(&self, archive: usize, spec: &ArchiveSpec) -> Vec<Run> {
        let first = spec.ended_row(self.first_end);
        (first..).zip(0..self.len()).map(|(row, index)| self.run(archive, row, index)).collect()
    }

    /// Row `index`, whose number is `first_row`.
    pub(super) fn run(&self, archive: usize, first_row: i64, index: usize) -> Run {
        Run {
            archive,
            first_row,
            count: 1,
            average: self.average[index],
            min: self.min[index],
            max: self.max[index],
            last: self.last.get(index).copied().unwrap_or(f64::NAN),
            known: self.known[index],
            reset: self.resets.get(index).is_some_and(|&is_reset| is_reset),
        }
    }

    /// No rows.
    pub(super) fn clear(&mut self) {
        self.first_end = Timestamp::default();
        for column in [&mut self.average, &mut self.min, &mut self.max, &mut self.last] {
            column.clear();
        }
        self.known.clear();
        self.resets.clear();
        self.anchors.clear();
    }

    /// So many rows, all unknown.
    pub(super) fn begin(
        &mut self,
        first_end: Timestamp,
        count: usize,
        parts: RowParts,
        shape: Shape,
    ) {
        self.clear();
        self.first_end = first_end;
        let all = if parts == RowParts::All { count } else { 0 };
        let last = if shape.keeps_last { all } else { 0 };
        let columns = [&mut self.average, &mut self.min, &mut self.max, &mut self.last];
        for (column, count) in columns.into_iter().zip([count, all, all, last]) {
            column.resize(count, f64::NAN);
        }
        let needs_known = parts != RowParts::Values || shape.known_len > 0;
        self.known.resize(if needs_known { count } else { 0 }, 0);
    }

    /// Hides rows of a coarser archive of which more steps are unknown than the policy's share. These are
    /// each `every`th of its rows.
    pub(super) fn hide_unless_known(&mut self, spec: &ArchiveSpec, policy: &Policy, every: usize) {
        let (step, xff) = (policy.step(), policy.xff());
        if spec.days.is_none() {
            return self.hide(least_known(spec.steps_per_row(step), xff));
        }
        let first = spec.ended_row(self.first_end);
        for (index, row) in (first..).step_by(every).take(self.len()).enumerate() {
            if !row_is_known(self.known[index], spec.steps_in(row, step), xff) {
                for column in [&mut self.average, &mut self.min, &mut self.max] {
                    if let Some(value) = column.get_mut(index) {
                        *value = f64::NAN;
                    }
                }
            }
        }
    }

    /// Hides rows of which fewer steps are known.
    fn hide(&mut self, least_known: u32) {
        // Rows are mostly whole.
        if self.known.iter().min().is_none_or(|&known| known >= least_known) {
            return;
        }
        for column in [&mut self.average, &mut self.min, &mut self.max] {
            for (value, &known) in column.iter_mut().zip(&self.known) {
                *value = if known < least_known { f64::NAN } else { *value };
            }
        }
    }

    /// Puts each `every`th of rows as the file has them in their places from `index` on.
    pub(super) fn fill(
        &mut self,
        index: usize,
        shape: Shape,
        (rows, every): (&[u8], usize),
        tells_resets: bool,
    ) {
        let places = index..index + (rows.len() / shape.row_len()).div_ceil(every);
        let rows = (rows, every);
        let averages = &mut self.average[places.clone()];
        shape.read(Part::Average, rows, averages);
        let known = self.known.get_mut(places.clone()).unwrap_or_default();
        if shape.known_len == 0 {
            known.iter_mut().zip(&*averages).for_each(|(n, value)| *n = u32::from(!value.is_nan()));
        } else {
            shape.read_known(rows, known);
        }
        let others =
            [(Part::Min, &mut self.min), (Part::Max, &mut self.max), (Part::Last, &mut self.last)];
        for (part, column) in others {
            if let Some(values) = column.get_mut(places.clone()) {
                shape.read(part, rows, values);
            }
        }
        if tells_resets {
            self.take_signs(places);
        }
    }

    /// Makes resets of the signs that averages have in the file. Where rows have one number, it is all
    /// that is read of them.
    #[inline(never)]
    fn take_signs(&mut self, places: Range<usize>) {
        if let Some(resets) = self.resets.get_mut(places.clone()) {
            for (reset, average) in resets.iter_mut().zip(&self.average[places.clone()]) {
                *reset = average.is_sign_negative();
            }
        }
        for column in [&mut self.average, &mut self.min, &mut self.max] {
            if let Some(values) = column.get_mut(places.clone()) {
                for value in values {
                    *value = value.abs();
                }
            }
        }
    }

    pub(super) fn set(&mut self, index: usize, row: &Run) {
        self.average[index] = row.average;
        if let Some(known) = self.known.get_mut(index) {
            *known = row.known;
        }
        for (column, value) in
            [(&mut self.min, row.min), (&mut self.max, row.max), (&mut self.last, row.last)]
        {
            if let Some(place) = column.get_mut(index) {
                *place = value;
            }
        }
        if let Some(reset) = self.resets.get_mut(index) {
            *reset = row.reset;
        }
    }
}

fn thin<T: Copy>(column: &mut Vec<T>, skipped: usize, every: usize) {
    *column = column.iter().skip(skipped).step_by(every).copied().collect();
}

/// How many steps of a row must be known for it to be shown: the more are known, the sooner it is.
fn least_known(steps_per_row: u32, xff: f64) -> u32 {
    let (mut low, mut high) = (1, steps_per_row);
    while low < high {
        let middle = low + (high - low) / 2;
        if row_is_known(middle, steps_per_row, xff) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_hidden_exactly_when_too_few_of_its_steps_are_known() {
        for steps in [1, 2, 3, 4, 5, 60, 1440] {
            for xff in [0.0, 0.3, 1.0 / 3.0, 0.5, 0.9, 0.9999] {
                let least = least_known(steps, xff);
                for known in 0..=steps {
                    let is_shown = row_is_known(known, steps, xff);
                    assert_eq!(known >= least, is_shown, "{known} of {steps}, xff {xff}");
                }
            }
        }
    }
}
