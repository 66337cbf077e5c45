//! Consolidation: closed steps put together into the rows of coarser archives.

use crate::policy::ArchiveSpec;

/// Equal consecutive closed rows of one archive. Unknown rows have `NaN` values and nothing known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    /// Which archive of the policy; 0 is the finest.
    pub(crate) archive: usize,
    /// The number of the first row, as [`crate::Timestamp::row`] counts them.
    pub(crate) first_row: i64,
    /// How many rows, at least one; a long gap has more than the archive keeps.
    pub(crate) count: u64,
    pub(crate) average: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The newest step in each row, known or not (rrdtool's LAST).
    pub(crate) last: f64,
    /// Known finest steps in each row; 1 for a known row of the finest archive.
    pub(crate) known: u32,
}

impl Run {
    /// Rows of which nothing is known; none when the range is empty.
    pub(crate) fn unknown(archive: usize, rows: std::ops::Range<i64>) -> Option<Self> {
        let (average, min, max, last) = (f64::NAN, f64::NAN, f64::NAN, f64::NAN);
        let count = rows.end.checked_sub(rows.start)?.cast_unsigned();
        let first_row = rows.start;
        (!rows.is_empty()).then_some(Self {
            archive,
            first_row,
            count,
            average,
            min,
            max,
            last,
            known: 0,
        })
    }
}

/// A row of a coarser archive that is not yet full (rrdtool's CDP).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct OpenRow {
    /// Sum of the known steps' values.
    pub(crate) sum: f64,
    /// Least known value; infinite while nothing is known.
    pub(crate) min: f64,
    /// Greatest known value; minus infinite while nothing is known.
    pub(crate) max: f64,
    /// How many steps are known.
    pub(crate) known: u32,
    /// How many steps are still to come.
    pub(crate) left: u32,
}

/// True where a row with `known` of `steps_per_row` steps is to be shown: at most the share `xff` is unknown.
pub(crate) fn row_is_known(known: u32, steps_per_row: u32, xff: f64) -> bool {
    known > 0 && f64::from(steps_per_row.saturating_sub(known)) <= f64::from(steps_per_row) * xff
}

impl OpenRow {
    /// A row that waits for `left` steps.
    pub(crate) const fn empty(left: u32) -> Self {
        Self { sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, known: 0, left }
    }

    /// Adds `count` equal steps, at least one and at most as many as are left.
    #[inline]
    pub(crate) fn add(&mut self, value: f64, count: u32) {
        debug_assert!(0 < count && count <= self.left, "{count} steps into {self:?}");
        self.left -= count;
        if !value.is_nan() {
            self.sum += value * f64::from(count);
            self.min = if value < self.min { value } else { self.min };
            self.max = if value > self.max { value } else { self.max };
            self.known += count;
        }
    }

    /// Adds what a narrower row knows; how many steps are left is the caller's.
    pub(crate) fn add_row(&mut self, row: &Self) {
        self.sum += row.sum;
        self.min = if row.min < self.min { row.min } else { self.min };
        self.max = if row.max > self.max { row.max } else { self.max };
        self.known += row.known;
    }

    /// A closed row of `steps` steps; its sum is that of the average it has kept.
    pub(crate) fn of_run(run: &Run) -> Self {
        if run.known == 0 {
            return Self::empty(0);
        }
        let &Run { average, min, max, known, .. } = run;
        Self { sum: average * f64::from(known), min, max, known, left: 0 }
    }

    /// The row as it is when its newest step, `last`, has been added.
    pub(crate) fn run(&self, archive: usize, first_row: i64, last: f64) -> Run {
        let (average, min, max) = match self.known {
            0 => (f64::NAN, f64::NAN, f64::NAN),
            known => (self.sum / f64::from(known), self.min, self.max),
        };
        Run { archive, first_row, count: 1, average, min, max, last, known: self.known }
    }
}

/// Equal consecutive steps that have just been closed.
pub(super) struct ClosedSteps {
    /// The number of the newest row before them.
    pub(super) after: i64,
    pub(super) count: u64,
    pub(super) value: f64,
}

impl ClosedSteps {
    /// These steps as rows of the finest archive.
    #[inline]
    pub(super) fn finest_run(&self) -> Run {
        let &Self { after, count, value } = self;
        let known = u32::from(!value.is_nan());
        let first_row = after + 1;
        let (average, min, max, last) = (value, value, value, value);
        Run { archive: 0, first_row, count, average, min, max, last, known }
    }

    /// Adds the steps to the open row of every coarser archive, and hands out the rows they fill.
    #[inline]
    pub(super) fn consolidate(
        &self,
        archives: &[ArchiveSpec],
        rows: &mut [OpenRow],
        out: &mut impl FnMut(Run),
    ) {
        debug_assert_eq!(rows.len() + 1, archives.len(), "an open row for each coarser archive");
        for (index, row) in rows.iter_mut().enumerate() {
            match u32::try_from(self.count) {
                Ok(count) if count < row.left => row.add(self.value, count),
                _ => self.fill(archives, index + 1, row, out),
            }
        }
    }

    /// Fills up the open row, then whole rows, then begins the next.
    fn fill(
        &self,
        archives: &[ArchiveSpec],
        archive: usize,
        row: &mut OpenRow,
        out: &mut impl FnMut(Run),
    ) {
        let per_row = archives[archive].steps_per_row(archives[0].step);
        let first_row = self.after.div_euclid(i64::from(per_row)) + 1;
        let rest = self.count - u64::from(row.left);
        row.add(self.value, row.left);
        out(row.run(archive, first_row, self.value));
        *row = OpenRow::empty(per_row);
        let whole = rest / u64::from(per_row);
        if whole > 0 {
            let known = if self.value.is_nan() { 0 } else { per_row };
            let (first_row, value) = (first_row + 1, self.value);
            let (average, min, max, last) = (value, value, value, value);
            out(Run { archive, first_row, count: whole, average, min, max, last, known });
        }
        let begun = u32::try_from(rest % u64::from(per_row)).expect("a remainder of a u32");
        if begun > 0 {
            row.add(self.value, begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_shown_while_at_most_its_share_is_unknown() {
        for (known, per_row, xff, shown) in [
            (0, 1, 0.5, false),
            (1, 1, 0.0, true),
            (2, 4, 0.5, true),
            (1, 4, 0.5, false),
            (2, 3, 0.0, false),
            (3, 3, 0.0, true),
            (2, 3, 1.0 / 3.0, true), // 3 * (1/3.0) is 1.0
            (1, 1440, 0.9999, true),
            (0, 4, 0.9999, false),
        ] {
            assert_eq!(row_is_known(known, per_row, xff), shown, "{known}/{per_row} xff {xff}");
        }
    }
}
