//! A change to another finest step: rows and open ends counted in steps of another width.
//!
//! One of the two steps is a multiple of the other. Steps that become wider are put together from rows; of
//! steps that become finer only what comes after the change is known, and wider rows count them.

use std::ops::Range;

use super::change::Derived;
use super::former::End;
use crate::series::{Open, OpenRow, OpenStep, Run};
use crate::{Policy, Step, Timestamp};

/// A column's rows in archives of another finest step.
pub(super) struct Restepped<'a> {
    derived: &'a Derived<'a>,
    end: End,
    former: Step,
    step: Step,
}

/// How the new steps lie to the former ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ratio {
    /// So many former steps are one.
    Wider(i64),
    /// A former step is so many.
    Finer(i64),
}

/// True where the finest steps are the same, or one is a multiple of the other and neither policy has days
/// of a zone: these are counted in steps of one width.
pub(super) fn can_become(former: &Policy, policy: &Policy) -> bool {
    let (one, other) = (former.step().as_millis(), policy.step().as_millis());
    let has_days =
        || [former, policy].iter().any(|policy| policy.archives().iter().any(|a| a.days.is_some()));
    one == other || ((one.is_multiple_of(other) || other.is_multiple_of(one)) && !has_days())
}

impl<'a> Restepped<'a> {
    /// `None` where the step stays.
    pub(super) fn of(derived: &'a Derived<'a>, end: End) -> Option<Self> {
        let (former, step) = (derived.former.form().policy.step(), derived.form.policy.step());
        (former != step).then_some(Self { derived, end, former, step })
    }

    fn ratio(&self) -> Ratio {
        let (former, step) = (ms(self.former), ms(self.step));
        if step > former { Ratio::Wider(step / former) } else { Ratio::Finer(former / step) }
    }

    /// The END of the newest step that has closed. A step that silence closed is open again: it has the
    /// time up to the last reading, and silence closes it as it would have.
    pub(super) fn newest(&self) -> Timestamp {
        self.end.last.floor(self.step)
    }

    /// Former archives that rows of this one can be put together from, the best first. Wider steps want
    /// the finest rows, whose sums, extremes and counts are those of the steps; else, and for finer ones,
    /// rows of the same width have been rounded the least.
    pub(super) fn sources(&self, archive: usize) -> impl Iterator<Item = usize> + use<> {
        let width = self.derived.width_ms(archive);
        let former = self.derived.former;
        let of_width = |n: usize| former.width_ms(n);
        let all = 0..former.form().archives.len();
        let mut found: Vec<usize> = all.filter(|&n| width % of_width(n) == 0).collect();
        if let Ratio::Finer(_) = self.ratio() {
            found.sort_by_key(|&n| of_width(n) != width);
        } else {
            found.sort_by_key(|&n| (n > 0, of_width(n) != width));
        }
        found.into_iter()
    }

    /// Rows of an archive, all of whose time a former one has.
    pub(super) fn put_together(&self, from: usize, archive: usize, rows: Range<i64>) -> Vec<Run> {
        let (width, narrow) = (self.derived.width_ms(archive), self.derived.former.width_ms(from));
        let steps_per_row = width / ms(self.step);
        if self.has_steps(from) {
            let steps = (rows.start - 1) * steps_per_row + 1..(rows.end - 1) * steps_per_row + 1;
            let mut steps = self.steps(from, steps).into_iter();
            let wide = |row| {
                let mut sum = OpenRow::empty(u32::MAX);
                let mut last = f64::NAN;
                for step in steps.by_ref().take(usize::try_from(steps_per_row).unwrap_or(0)) {
                    add(&mut sum, step, 1);
                    last = step.value;
                }
                sum.run(archive, row, last)
            };
            return rows.map(wide).collect();
        }
        let ratio = width / narrow;
        let kept =
            self.derived.kept(from, (rows.start - 1) * ratio + 1..(rows.end - 1) * ratio + 1);
        let mut kept = kept.into_iter().peekable();
        let wide = |row| {
            let mut sum = OpenRow::empty(u32::MAX);
            let (mut last, mut newest) = (f64::NAN, None);
            while let Some(run) = kept.next_if(|run| run.first_row <= row * ratio) {
                sum.add_row(&OpenRow::of_run(&run));
                last = if from == 0 { run.average } else { run.last };
                newest = Some(run);
            }
            // Its newest step was another one where steps become wider.
            let last = if let Ratio::Finer(_) = self.ratio() { last } else { f64::NAN };
            let counted = self.counted(&sum, steps_per_row);
            match newest {
                Some(whole) if ratio == 1 => {
                    Run { archive, first_row: row, known: counted.known, last, ..whole }
                }
                _ => counted.run(archive, row, last),
            }
        };
        rows.map(wide).collect()
    }

    /// True where rows of a former archive make up steps.
    fn has_steps(&self, from: usize) -> bool {
        matches!(self.ratio(), Ratio::Wider(_))
            && ms(self.step) % self.derived.former.width_ms(from) == 0
    }

    /// The values of these steps, from the rows of a former archive: known where at most half is unknown.
    fn steps(&self, from: usize, steps: Range<i64>) -> Vec<Closed> {
        let ratio = ms(self.step) / self.derived.former.width_ms(from);
        let all = ms(self.step) / ms(self.former);
        let kept =
            self.derived.kept(from, (steps.start - 1) * ratio + 1..(steps.end - 1) * ratio + 1);
        let mut kept = kept.into_iter().peekable();
        let value = |step| {
            let (mut sum, mut whole) = (OpenRow::empty(0), f64::NAN);
            while let Some(run) = kept.next_if(|run| run.first_row <= step * ratio) {
                sum.add_row(&OpenRow::of_run(&run));
                whole = run.average;
            }
            let value = match sum.known {
                known if known == 0 || i64::from(known) * 2 < all => f64::NAN,
                // What never changed is not rounded.
                _ if sum.min.to_bits() == sum.max.to_bits() => sum.min,
                _ if ratio == 1 => whole,
                known => sum.sum / f64::from(known),
            };
            Closed { value, reset: sum.reset }
        };
        steps.map(value).collect()
    }

    /// A row whose former steps are counted in new ones, of which it has so many at most.
    fn counted(&self, row: &OpenRow, most: i64) -> OpenRow {
        let nothing = OpenRow { reset: row.reset, ..OpenRow::empty(row.left) };
        if row.known == 0 {
            return nothing;
        }
        let known = i64::from(row.known);
        let counted = match self.ratio() {
            Ratio::Wider(ratio) => ((known + ratio / 2) / ratio).max(1),
            Ratio::Finer(ratio) => known.saturating_mul(ratio),
        };
        let counted = u32::try_from(counted.min(most)).unwrap_or(u32::MAX);
        if counted == 0 {
            return nothing;
        }
        let sum = row.sum / f64::from(row.known) * f64::from(counted);
        OpenRow { sum, known: counted, ..*row }
    }

    /// The series in its new archives.
    pub(super) fn open(&self, open: &Open) -> Open {
        let begun = self.begun(open);
        let step = match self.ratio() {
            Ratio::Wider(_) => self.wider_step(&begun),
            Ratio::Finer(_) => self.finer_step(&begun),
        };
        let newest_row = self.newest().row(self.step);
        let archives = 1..self.derived.form.archives.len();
        let rows = archives.map(|archive| self.open_row(archive, open, &begun)).collect();
        let birth = open.birth.floor(self.step);
        open.restepped(OpenStep { birth, newest_row, ..step }, rows, (self.former, self.step))
    }

    /// What is known of the former step that the last reading lies in, up to that reading.
    fn begun(&self, open: &Open) -> Begun {
        let last = self.end.last;
        let opened = last.floor(self.former);
        let row = opened.row(self.former) + 1;
        let covered_ms = last.millis_since(opened).unsigned_abs();
        if self.end.newest_row < row {
            let OpenStep { sum, unknown_ms, reset, .. } = open.open_step();
            return Begun { row, opened, sum, unknown_ms, reset, covered_ms };
        }
        // Silence has closed it.
        let closed = self.derived.kept(0, row..row + 1);
        let (value, reset) =
            closed.first().map_or((f64::NAN, false), |run| (run.average, run.reset));
        let (sum, unknown_ms) = spread(value, covered_ms);
        Begun { row, opened, sum, unknown_ms, reset, covered_ms }
    }

    /// The open step, wider: rows that have closed in it, and what is begun.
    fn wider_step(&self, begun: &Begun) -> OpenStep {
        let first = self.newest().row(self.former) + 1;
        let mut kept = self.derived.kept(0, first..begun.row).into_iter().peekable();
        let (mut sum, mut unknown_ms, mut reset) = (0.0, 0, begun.reset);
        for row in first..begun.row {
            let run = kept.next_if(|run| run.first_row == row);
            reset |= run.is_some_and(|run| run.reset);
            let (more, unknown) =
                spread(run.map_or(f64::NAN, |run| run.average), self.former.as_millis());
            sum += more;
            unknown_ms += unknown;
        }
        OpenStep { reset, ..OpenStep::of(sum + begun.sum, unknown_ms + begun.unknown_ms) }
    }

    /// The open step, finer: its share of what is begun.
    fn finer_step(&self, begun: &Begun) -> OpenStep {
        let covered_ms = self.end.last.millis_since(self.newest()).unsigned_abs();
        let (sum, unknown_ms) = spread(begun.mean(), covered_ms);
        OpenStep { reset: begun.reset, ..OpenStep::of(sum, unknown_ms) }
    }

    fn open_row(&self, archive: usize, open: &Open, begun: &Begun) -> OpenRow {
        let width = self.derived.width_ms(archive);
        let newest_ms = self.newest().as_millis();
        let start = newest_ms.div_euclid(width) * width;
        let elapsed = (newest_ms - start) / ms(self.step);
        let left = u32::try_from(width / ms(self.step) - elapsed).expect("at most a row of steps");
        let closed = self.closed(archive, start, open, begun);
        let mut row = OpenRow { left, ..self.counted(&closed, elapsed) };
        if let Some(values) = self.closed_steps(archive, start) {
            row = OpenRow::empty(left);
            for step in values {
                add(&mut row, step, 1);
            }
        }
        if let Ratio::Finer(_) = self.ratio() {
            let from = start.max(begun.opened.as_millis());
            let step = Closed { value: begun.mean(), reset: false };
            add(&mut row, step, (newest_ms - from) / ms(self.step));
        }
        row
    }

    /// The steps since the row began, where finest rows make them up and all are there.
    fn closed_steps(&self, archive: usize, start: i64) -> Option<Vec<Closed>> {
        let has_all = |from: &usize| self.has_steps(*from) && self.reaches(*from, start);
        let from = self.sources(archive).find(has_all)?;
        let step = ms(self.step);
        Some(self.steps(from, start / step + 1..self.newest().as_millis() / step + 1))
    }

    /// Former steps since the row began, without those of which the new ones are still open.
    fn closed(&self, archive: usize, start: i64, open: &Open, begun: &Begun) -> OpenRow {
        let Some(from) = self.sources(archive).find(|&from| self.reaches(from, start)) else {
            return OpenRow::empty(0);
        };
        let width = self.derived.former.width_ms(from);
        let after = start.max(self.end.birth_ms(self.former));
        let newest_ms = Timestamp::row_end(self.end.newest_row, self.former).as_millis();
        let mut row = OpenRow::empty(0);
        for run in
            self.derived.kept(from, after.div_euclid(width) + 1..newest_ms.div_euclid(width) + 1)
        {
            row.add_row(&OpenRow::of_run(&run));
        }
        if let Some(begun) = open.open_row(from) {
            row.add_row(begun);
        }
        let still_open = match self.ratio() {
            Ratio::Wider(_) => self.newest().row(self.former) + 1..self.end.newest_row + 1,
            Ratio::Finer(_) => begun.row..self.end.newest_row + 1,
        };
        for run in self.derived.kept(0, still_open) {
            row.sum -= if run.known > 0 { run.average } else { 0.0 };
            row.known = row.known.saturating_sub(run.known);
        }
        if row.known == 0 { OpenRow { reset: row.reset, ..OpenRow::empty(0) } } else { row }
    }

    /// True where a former archive has all rows since `start`, or since the series' birth.
    fn reaches(&self, from: usize, start: i64) -> bool {
        let after = start.max(self.end.birth_ms(self.former));
        let width = self.derived.former.width_ms(from);
        after.div_euclid(width) + 1 >= self.derived.oldest(from, self.end)
    }
}

/// The former step that the last reading lies in.
struct Begun {
    row: i64,
    opened: Timestamp,
    sum: f64,
    unknown_ms: u64,
    reset: bool,
    /// From its start to the last reading.
    covered_ms: u64,
}

impl Begun {
    /// The mean of what is known of it; unknown if more than half is.
    #[expect(clippy::cast_precision_loss, reason = "at most a step: exact below 285,000 years")]
    fn mean(&self) -> f64 {
        let known_ms = self.covered_ms.saturating_sub(self.unknown_ms);
        if known_ms < self.unknown_ms || known_ms == 0 {
            return f64::NAN;
        }
        self.sum / known_ms as f64
    }
}

/// A value over so much time: its sum, and how much is unknown.
#[expect(clippy::cast_precision_loss, reason = "at most a step: exact below 285,000 years")]
fn spread(value: f64, covered_ms: u64) -> (f64, u64) {
    if value.is_nan() { (0.0, covered_ms) } else { (value * covered_ms as f64, 0) }
}

/// A step of the new width that has closed.
#[derive(Clone, Copy)]
struct Closed {
    value: f64,
    reset: bool,
}

/// Adds equal steps to a row.
fn add(row: &mut OpenRow, Closed { value, reset }: Closed, count: i64) {
    row.reset |= reset;
    let known = u32::try_from(count).unwrap_or(0);
    if !value.is_nan() && known > 0 {
        let sum = if known == 1 { value } else { value * f64::from(known) };
        row.add_row(&OpenRow { sum, min: value, max: value, known, left: 0, reset });
    }
}

fn ms(step: Step) -> i64 {
    step.as_millis().cast_signed()
}
