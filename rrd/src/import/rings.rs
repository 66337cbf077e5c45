//! The rows of one source as its file has them: one ring for each width, whatever functions it has.

use super::{Dump, Function, Rra};

/// Rows of one width.
pub(super) struct Ring<'a> {
    pub(super) width_ms: i64,
    /// The number of the newest row, counted from 1970.
    pub(super) newest: i64,
    pub(super) steps_per_row: u64,
    average: Plane<'a>,
    min: Option<Plane<'a>>,
    max: Option<Plane<'a>>,
    last: Option<Plane<'a>>,
    /// The archives behind the planes: average, min, max; `None` where another one stands in.
    pub(super) archives: [Option<&'a Rra>; 3],
}

/// One row of a ring: known, or unknown with `NaN` in all of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RingRow {
    pub(super) average: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) last: f64,
}

/// What there is of a row without its mean.
pub(super) struct Extremes {
    /// What stands in for the mean; `NaN` where the row is unknown.
    pub(super) average: f64,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) last: Option<f64>,
}

impl Extremes {
    /// The row, with `average` for its mean and for what is not there.
    pub(super) fn row(&self, average: f64, [min, max, last]: [f64; 3]) -> RingRow {
        if self.average.is_nan() {
            return RingRow { average: self.average, min: f64::NAN, max: f64::NAN, last: f64::NAN };
        }
        let (min, max) = (self.min.unwrap_or(min), self.max.unwrap_or(max));
        RingRow { average, min, max, last: self.last.unwrap_or(last) }
    }
}

/// The values of one function.
#[derive(Clone, Copy)]
struct Plane<'a> {
    values: &'a [f64],
    source: usize,
    source_count: usize,
    rows: i64,
}

impl<'a> Ring<'a> {
    /// The rings of a source, finest first.
    pub(super) fn all(dump: &'a Dump, source: usize) -> Vec<Self> {
        let kept = || dump.archives.iter().filter(|rra| rra.function.is_kept());
        let mut widths: Vec<u64> = kept().map(|rra| rra.steps_per_row).collect();
        widths.sort_unstable();
        widths.dedup();
        let of_width =
            |steps| Self::of(dump, source, kept().filter(move |r| r.steps_per_row == steps));
        widths.into_iter().filter_map(of_width).collect()
    }

    fn of(dump: &'a Dump, source: usize, rras: impl Iterator<Item = &'a Rra>) -> Option<Self> {
        let rras: Vec<&Rra> = rras.collect();
        let first = *rras.first()?;
        let is_step = first.steps_per_row == 1;
        let longest = |functions: &[Function]| {
            let fitting = rras.iter().filter(|rra| functions.contains(&rra.function));
            fitting.max_by_key(|rra| rra.values.len()).copied()
        };
        let [average, min, max, last] =
            [Function::Average, Function::Min, Function::Max, Function::Last]
                .map(|function| longest(&[function]));
        // In rows of one step all functions are the same.
        let any = || longest(&[Function::Average, Function::Min, Function::Max, Function::Last]);
        let mean = if is_step { any() } else { average.or(last).or(max).or(min) }?;
        let plane = |rra: &'a Rra| Plane {
            values: &rra.values,
            source,
            source_count: dump.sources.len(),
            rows: dump.row_count(rra).cast_signed(),
        };
        let width_ms = dump.width_s(first) * 1000;
        Some(Self {
            width_ms,
            newest: dump.last_update.as_millis().div_euclid(width_ms),
            steps_per_row: first.steps_per_row,
            average: plane(mean),
            min: min.filter(|_| !is_step).map(plane),
            max: max.filter(|_| !is_step).map(plane),
            last: last.filter(|_| !is_step).map(plane),
            archives: [average, min, max],
        })
    }

    /// Row number `row`; `None` where the ring does not hold it.
    pub(super) fn row(&self, row: i64) -> Option<RingRow> {
        let back = self.newest - row;
        let average = self.average.value(back)?;
        if average.is_nan() {
            return Some(RingRow { average, min: average, max: average, last: average });
        }
        let known = |plane: Option<Plane<'_>>| {
            let value = plane.and_then(|plane| plane.value(back));
            value.filter(|value| !value.is_nan()).unwrap_or(average)
        };
        let last = self.last.map_or(Some(average), |plane| plane.value(back));
        let (min, max) = (known(self.min), known(self.max));
        Some(RingRow { average, min, max, last: last.unwrap_or(average) })
    }

    /// Row number `row` where the other functions reach back further than the mean does: one of them
    /// stands in for it.
    pub(super) fn row_without_average(&self, row: i64) -> Option<Extremes> {
        let back = self.newest - row;
        if self.average.value(back).is_some() {
            return None;
        }
        let held = |plane: Option<Plane<'_>>| plane.and_then(|plane| plane.value(back));
        let [last, max, min] = [self.last, self.max, self.min].map(held);
        // The newest step may be unknown in a known row, the least and the greatest are not.
        let stands_in = max.or(min).filter(|value| value.is_nan());
        let average = stands_in.or(last.filter(|v| !v.is_nan())).or(max).or(min).or(last)?;
        Some(Extremes { average, min, max, last })
    }

    /// Where the oldest row begins, in milliseconds since 1970.
    pub(super) fn begins_ms(&self) -> i64 {
        let planes = [Some(self.average), self.min, self.max, self.last];
        let rows = planes.iter().flatten().map(|plane| plane.rows).max().unwrap_or(0);
        (self.newest - rows) * self.width_ms
    }

    /// True where rows are means: not where greatest, least or newest steps stand in for them.
    pub(super) fn has_average(&self) -> bool {
        self.steps_per_row == 1 || self.archives[0].is_some()
    }
}

impl Plane<'_> {
    fn value(self, back: i64) -> Option<f64> {
        let row = usize::try_from(self.rows - 1 - back).ok().filter(|_| back >= 0)?;
        self.values.get(row * self.source_count + self.source).copied()
    }
}
