//! The open end of a series that goes on where rrdtool left it: last reading, open step, open rows.

use super::column::{Column, Filler};
use super::rings::Ring;
use super::{Rra, Source, SourceKind};
use crate::Kind;
use crate::series::{LastReading, Open, OpenRow, Resumed, Run};

/// What the open end is made of, and what of the file could not be taken over.
pub(super) struct OpenEnd<'a> {
    pub(super) source: &'a Source,
    /// Its place among the sources of the file.
    pub(super) place: usize,
    pub(super) filler: &'a Filler<'a>,
    pub(super) remarks: Vec<String>,
}

impl OpenEnd<'_> {
    pub(super) fn open(&mut self, column: &Column) -> Open {
        let (sum, unknown_ms) = self.open_step();
        let archives = 1..self.filler.archives.len();
        let rows = archives.map(|archive| self.open_row(archive, &column.rows[0])).collect();
        Open::resumed(Resumed {
            birth: column.birth,
            last: self.filler.last_update,
            newest_row: self.filler.newest(),
            reading: self.last_reading(),
            sum,
            unknown_ms,
            rows,
        })
    }

    fn last_reading(&self) -> Option<LastReading> {
        let text = self.source.last_reading.trim();
        match self.source.kind {
            SourceKind::Known(Kind::Counter | Kind::Derive) => {
                text.parse().ok().map(LastReading::Whole)
            }
            _ => text.parse().ok().map(LastReading::Real),
        }
    }

    /// Rate x milliseconds in our open step, and how much of it is unknown.
    fn open_step(&mut self) -> (f64, u64) {
        let (step_ms, base_ms) = (self.filler.step_ms(0), self.filler.base_ms);
        let last_ms = self.filler.last_update.as_millis();
        let opened_ms = last_ms - last_ms.rem_euclid(step_ms);
        let known = |value: f64| if value.is_nan() { 0.0 } else { value * 1000.0 };
        let sum = known(self.source.value);
        let unknown_ms = (self.source.unknown_s * 1000).cast_signed();
        let (sum, unknown_ms) = if step_ms % base_ms == 0 {
            let base = last_ms.div_euclid(base_ms);
            let (earlier, earlier_ms) = self.closed_steps(opened_ms / base_ms + 1..=base);
            (sum + earlier, unknown_ms + earlier_ms)
        } else if base_ms % step_ms == 0 && !self.filler.open_rate.is_nan() {
            (self.filler.open_rate * ms(last_ms - opened_ms), 0)
        } else {
            if last_ms > opened_ms && base_ms % step_ms != 0 {
                let why =
                    "its open step begins as unknown: its own step and the policy's do not fit";
                self.remarks.push(why.to_owned());
            }
            (0.0, last_ms - opened_ms)
        };
        (sum, unknown_ms.clamp(0, last_ms - opened_ms).unsigned_abs())
    }

    /// Steps of the file that lie in our open step: rate x milliseconds, and unknown milliseconds.
    fn closed_steps(&mut self, steps: std::ops::RangeInclusive<i64>) -> (f64, i64) {
        let base_ms = self.filler.base_ms;
        let ring = self.filler.rings.iter().find(|ring| ring.width_ms == base_ms);
        let (mut sum, mut unknown_ms, mut is_missing) = (0.0, 0, false);
        for step in steps {
            match ring.and_then(|ring| ring.row(step)).map(|row| row.average) {
                Some(rate) if !rate.is_nan() => sum += rate * ms(base_ms),
                found => {
                    is_missing |= found.is_none();
                    unknown_ms += base_ms;
                }
            }
        }
        if is_missing {
            let why =
                "part of its open step is taken as unknown: the file keeps no row of one step";
            self.remarks.push(why.to_owned());
        }
        (sum, unknown_ms)
    }

    /// The open row of a coarser archive: as the file has it, else from the steps since it began.
    fn open_row(&mut self, archive: usize, steps: &[Run]) -> OpenRow {
        let filler = self.filler;
        let per_row = filler.step_ms(archive) / filler.step_ms(0);
        let begun = filler.newest().rem_euclid(per_row);
        let count = |steps: i64| u32::try_from(steps).expect("Policy::parse checks it");
        let mut row = OpenRow::empty(count(per_row - begun));
        if begun == 0 {
            return row;
        }
        let is_covered = add_steps(&mut row, steps, filler.newest() - begun + 1);
        let own_step = filler.step_ms(0) == filler.base_ms;
        let same_width = |ring: &&Ring<'_>| ring.width_ms == filler.step_ms(archive);
        let ring = filler.rings.iter().find(same_width).filter(|_| own_step);
        let [average, min, max] = ring.map_or([None; 3], |ring| ring.archives);
        let prepared = |rra: &Rra| rra.prepared.get(self.place).copied();
        let value = |rra: Option<&Rra>| {
            rra.and_then(prepared).map(|prepared| prepared.value).filter(|value| !value.is_nan())
        };
        let Some(counted) = average.or(max).or(min).and_then(prepared) else {
            if !is_covered {
                let step = filler.archives[archive].step;
                let why = "its open row is filled as far as finer rows reach";
                self.remarks.push(format!("{step}: {why}"));
            }
            return row;
        };
        let known = u64::from(count(begun)).saturating_sub(counted.unknown_steps);
        row.known = u32::try_from(known).expect("at most the steps begun");
        if row.known == 0 {
            return OpenRow::empty(row.left);
        }
        if let Some(sum) = value(average) {
            row.sum = sum;
        } else if !is_covered {
            row.sum = value(max.or(min)).unwrap_or_default() * f64::from(row.known);
        }
        let mean = row.sum / f64::from(row.known);
        let spare = |of_steps: f64| if is_covered { of_steps } else { mean };
        row.min = value(min).unwrap_or(spare(row.min));
        row.max = value(max).unwrap_or(spare(row.max));
        row
    }
}

/// Adds the closed steps from number `first` on; false when they are not all there.
fn add_steps(row: &mut OpenRow, steps: &[Run], first: i64) -> bool {
    for run in steps {
        let end = run.first_row.saturating_add_unsigned(run.count);
        let count = u32::try_from(end - run.first_row.max(first)).unwrap_or(0);
        if count > 0 && run.known > 0 {
            row.sum += run.average * f64::from(count);
            row.min = row.min.min(run.average);
            row.max = row.max.max(run.average);
            row.known += count;
        }
    }
    steps.first().is_some_and(|run| run.first_row <= first)
}

/// The mean rate in the open step of the file; `NaN` when more than half of it is unknown.
pub(super) fn open_rate(source: &Source, elapsed_ms: i64) -> f64 {
    let unknown_ms = (source.unknown_s * 1000).cast_signed();
    let known_ms = elapsed_ms - unknown_ms;
    if known_ms < unknown_ms || known_ms <= 0 {
        f64::NAN
    } else {
        source.value * 1000.0 / ms(known_ms)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a century: exact")]
const fn ms(millis: i64) -> f64 {
    millis as f64
}
