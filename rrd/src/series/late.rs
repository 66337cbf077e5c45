//! Late readings of gauges: which step they fill, and what that makes of the rows above.

use super::consolidate::{OpenRow, Run, Sums};
use super::head::{Head, OpenMut};
use super::touched::Touched;
use super::{Definition, Verdict, is_sane};
use crate::calendar::RowWidth;
use crate::{Cell, Kind, Step, Timestamp};

/// Closed steps that a late reading may still fill: the open one is the last of the 128.
pub(crate) const LATE_ROWS: i64 = Touched::STEP_COUNT.cast_signed() - 1;

/// What becomes of a late reading whose step is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// It is the value of this row of the finest archive.
    Fills(i64),
    /// The step had a reading.
    Duplicate,
    /// Too late, or no value: it changes nothing.
    Ignored,
}

/// How far a series has come, in rows of the finest archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Rows up to this one are before the series began.
    pub(crate) birth_row: i64,
    /// The newest closed one.
    pub(crate) newest_row: i64,
    /// How many the finest archive keeps.
    pub(crate) row_count: u64,
}

/// A step whose value a late reading has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// As its cell had it; `NaN` for unknown.
    pub(crate) old: f64,
    /// As its cell has it from now on; never `NaN`.
    pub(crate) new: f64,
    /// It is the newest of the row looked at.
    pub(crate) is_newest: bool,
}

impl Reach {
    /// The oldest row that a late reading may fill.
    pub(crate) fn oldest(&self) -> i64 {
        let kept = i64::try_from(self.row_count).unwrap_or(i64::MAX);
        (self.newest_row.saturating_sub(kept.min(LATE_ROWS))).max(self.birth_row) + 1
    }

    /// The closed steps of a coarser row, if late readings may fill all of them: then it can be put
    /// together anew. Decided by numbers alone, so that replay decides the same.
    pub(crate) fn steps(&self, row: i64, width: RowWidth) -> Option<(i64, i64)> {
        let first = width.end(row - 1).max(self.birth_row) + 1;
        (first >= self.oldest()).then_some((first, width.end(row).min(self.newest_row)))
    }
}

impl Definition {
    /// Late readings of gauges are values; those of counters would need the one before.
    pub(crate) const fn takes_late(&self) -> bool {
        matches!(self.kind, Kind::Gauge | Kind::Unknown)
    }
}

impl Head {
    /// What becomes of a late reading of a gauge: its touched bit decides, never the cells.
    pub(crate) fn late(
        &self,
        definition: &Definition,
        reach: Reach,
        step: Step,
        (at, value): (Timestamp, f64),
    ) -> Late {
        if value.is_nan() || !is_sane(at) || !definition.takes_late() {
            return Late::Ignored;
        }
        let row = at.row(step);
        if !(reach.oldest()..=reach.newest_row).contains(&row) {
            return Late::Ignored;
        }
        match self.touched.is_set((reach.newest_row + 1 - row).unsigned_abs()) {
            true => Late::Duplicate,
            false if definition.counted(value).is_nan() => Late::Ignored,
            false => Late::Fills(row),
        }
    }

    /// Notes that the step of this closed row has its reading.
    pub(crate) fn touch(&mut self, row: i64, newest_row: i64) {
        self.touched.mark((newest_row + 1 - row).unsigned_abs());
    }

    /// Takes a reading of a gauge in the open step, before the last one and after the one before it, as
    /// if it had come in time: it covers from that one on, and the last one covers the rest. Steps
    /// closed by the last one stay as they are.
    pub(super) fn split(
        &mut self,
        definition: &Definition,
        opened: Timestamp,
        (at, value): (Timestamp, f64),
    ) -> Option<Verdict> {
        let before = self.before_last()?;
        let earlier = definition.counted(value);
        if at <= before || earlier.is_nan() || !definition.takes_late() {
            return None;
        }
        let within = |rate: f64, from: Timestamp, to: Timestamp| {
            let is_gap = to.millis_since(from).unsigned_abs() > definition.heartbeat_ms;
            if is_gap { f64::NAN } else { definition.counted(rate) }
        };
        let later = self.previous_real();
        let from = before.max(opened);
        let mut whole = self.clone();
        if from == opened {
            // Nothing else is in the step: no difference is rounded.
            (whole.sum, whole.unknown_ms) = (0.0, 0);
        } else {
            let covered_ms = self.last.millis_since(from).unsigned_abs();
            whole.uncover(within(later, before, self.last), covered_ms);
        }
        whole.cover(within(earlier, before, at), at.millis_since(from).unsigned_abs());
        whole.cover(within(later, at, self.last), self.last.millis_since(at).unsigned_abs());
        // An infinite rate cannot be taken out again.
        if whole.sum.is_nan() {
            return None;
        }
        whole.touched.mark(0);
        whole.remember_before(self.last.millis_since(at).unsigned_abs());
        *self = whole;
        Some(Verdict::Stored)
    }

    /// Takes back what [`Head::cover`] counted.
    #[expect(clippy::cast_precision_loss, reason = "at most a step: exact below 285,000 years")]
    fn uncover(&mut self, rate: f64, covered_ms: u64) {
        if rate.is_nan() {
            self.unknown_ms = self.unknown_ms.saturating_sub(covered_ms);
        } else {
            self.sum -= rate * covered_ms as f64;
        }
    }
}

impl OpenMut<'_> {
    /// A closed step of the open row of a coarser archive, counted from the first of these, has another
    /// value. `begun` says how many have closed, `steps` are all of these, where they can be had.
    pub(crate) fn replace(
        &mut self,
        (coarser, begun): (usize, u32),
        change: Change,
        steps: Option<&[f64]>,
    ) {
        let (sums, known) = if let Some(steps) = steps {
            sum_of(steps)
        } else {
            let known = self.missing.known(coarser, begun);
            let before = OpenRow { left: 0, known, ..self.rows[coarser].open() };
            let after = before.replaced(change);
            (after.sums(), after.known)
        };
        self.rows[coarser] = sums;
        self.missing.know(coarser, (known, begun));
    }
}

impl Run {
    /// A closed row of a coarser archive, a step of which has another value, as its cell keeps it.
    /// `steps` are all its steps, where they can be had: then it is put together anew. Else its
    /// extremes can only widen.
    pub(crate) fn replaced(&self, change: Change, steps: Option<&[f64]>, cell: Cell) -> Self {
        let last = if change.is_newest { change.new } else { self.last };
        let row = match steps {
            Some(steps) => {
                let (sums, known) = sum_of(steps);
                OpenRow { left: 0, known, ..sums.open() }
            }
            None => OpenRow::of_run(self).replaced(change),
        };
        let run = row.run(self.archive, self.first_row, last);
        Self {
            average: cell.kept(run.average),
            min: cell.kept(run.min),
            max: cell.kept(run.max),
            last: cell.kept(run.last),
            ..run
        }
    }
}

impl OpenRow {
    fn replaced(&self, Change { old, new, .. }: Change) -> Self {
        let mut row = *self;
        let sum = if old.is_nan() { self.sum + new } else { self.sum - old + new };
        // Infinite steps cannot be taken out of a sum.
        row.sum = if sum.is_nan() { self.sum } else { sum };
        row.min = if new < row.min { new } else { row.min };
        row.max = if new > row.max { new } else { row.max };
        row.known += u32::from(old.is_nan());
        row
    }
}

/// Steps put together, oldest first; `NaN` is unknown.
fn sum_of(steps: &[f64]) -> (Sums, u32) {
    let (mut sums, mut known) = (Sums::EMPTY, 0);
    for &step in steps.iter().filter(|step| !step.is_nan()) {
        sums.add(step);
        known += 1;
    }
    (sums, known)
}

#[cfg(test)]
mod tests;
