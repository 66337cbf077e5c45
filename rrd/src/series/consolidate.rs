//! Consolidation: closed steps put together into the rows of coarser archives.

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
    /// A count fell in the row, known or not.
    pub(crate) reset: bool,
}

/// A row of a coarser archive that is not yet full (rrdtool's CDP), as files have it.
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
    /// A count fell in it.
    pub(crate) reset: bool,
}

/// What memory keeps of an [`OpenRow`]: what is left follows from the open step, and the count of
/// known steps from what is missing: see [`super::Missing`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sums {
    sum: f64,
    /// The least value with its sign turned, so that it grows as the greatest does: processors then
    /// work out both at once.
    low: f64,
    max: f64,
}

/// True where a row with `known` of `steps_per_row` steps is to be shown: at most the share `xff` is unknown.
pub(crate) fn row_is_known(known: u32, steps_per_row: u32, xff: f64) -> bool {
    known > 0 && f64::from(steps_per_row.saturating_sub(known)) <= f64::from(steps_per_row) * xff
}

impl OpenRow {
    /// A row that waits for `left` steps.
    pub(crate) const fn empty(left: u32) -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { sum: 0.0, min, max, known: 0, left, reset: false }
    }

    /// Adds what a narrower row knows; how many steps are left is the caller's.
    pub(crate) fn add_row(&mut self, row: &Self) {
        self.sum += row.sum;
        self.min = if row.min < self.min { row.min } else { self.min };
        self.max = if row.max > self.max { row.max } else { self.max };
        self.known += row.known;
        self.reset |= row.reset;
    }

    /// A closed row of some steps; its sum is that of the average it has kept.
    pub(crate) fn of_run(run: &Run) -> Self {
        let &Run { average, min, max, known, reset, .. } = run;
        if known == 0 {
            return Self { reset, ..Self::empty(0) };
        }
        Self { sum: average * f64::from(known), min, max, known, left: 0, reset }
    }

    /// The row as it is when all its steps have been added, `last` the newest.
    pub(crate) fn run(&self, archive: usize, first_row: i64, last: f64) -> Run {
        Run { reset: self.reset, ..self.sums().run(archive, first_row, self.known, last) }
    }

    /// What memory keeps of it, beside the count of known steps.
    pub(super) const fn sums(&self) -> Sums {
        Sums { sum: self.sum, low: -self.min, max: self.max }
    }
}

impl Sums {
    /// As files have it, but for the counts.
    pub(super) const fn open(&self) -> OpenRow {
        let &Self { sum, low, max } = self;
        OpenRow { sum, min: -low, max, known: 0, left: 0, reset: false }
    }

    /// Some word of it, for who wants it near.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    pub(crate) const fn word(&self) -> u32 {
        self.max.to_bits() as u32
    }

    /// Of nothing.
    pub(crate) const EMPTY: Self =
        Self { sum: 0.0, low: f64::NEG_INFINITY, max: f64::NEG_INFINITY };

    /// Adds one known step.
    #[inline]
    pub(super) const fn add(&mut self, value: f64) {
        self.sum += value;
        self.stretch(value);
    }

    /// Adds one known step to each of several rows.
    #[inline]
    pub(super) fn add_all(rows: &mut [Self], value: f64) {
        // As many as the usual archives have, so that nearly always there is no loop.
        if let Ok(rows) = <&mut [Self; 3]>::try_from(&mut *rows) {
            for row in rows {
                row.add(value);
            }
            return;
        }
        Self::add_each(rows, value);
    }

    #[inline(never)]
    fn add_each(rows: &mut [Self], value: f64) {
        for row in rows {
            row.add(value);
        }
    }

    #[inline]
    const fn stretch(&mut self, value: f64) {
        let low = -value;
        self.low = if low > self.low { low } else { self.low };
        self.max = if value > self.max { value } else { self.max };
    }

    /// Adds equal steps, at least one, known or not.
    pub(super) fn add_many(&mut self, value: f64, count: u32) {
        debug_assert!(count > 0, "no step into {self:?}");
        if !value.is_nan() {
            self.sum += value * f64::from(count);
            self.stretch(value);
        }
    }

    /// The row as it is when its newest step, `last`, has been added.
    pub(super) fn run(&self, archive: usize, first_row: i64, known: u32, last: f64) -> Run {
        let (average, min, max) = match known {
            0 => (f64::NAN, f64::NAN, f64::NAN),
            known => (self.sum / f64::from(known), -self.low, self.max),
        };
        Run { archive, first_row, count: 1, average, min, max, last, known, reset: false }
    }
}

impl Run {
    /// Rows of which nothing is known; none when the range is empty.
    pub(crate) fn unknown(archive: usize, rows: std::ops::Range<i64>) -> Option<Self> {
        let count = rows.end.checked_sub(rows.start)?.cast_unsigned();
        let steps = (f64::NAN, 0);
        (!rows.is_empty()).then(|| Self::of_equal(archive, rows.start, count, steps))
    }

    /// Rows of which every step has this value, or none is known.
    pub(crate) fn of_equal(archive: usize, first_row: i64, count: u64, steps: (f64, u32)) -> Self {
        let (value, per_row) = steps;
        let known = if value.is_nan() { 0 } else { per_row };
        let (average, min, max, last) = (value, value, value, value);
        Self { archive, first_row, count, average, min, max, last, known, reset: false }
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
