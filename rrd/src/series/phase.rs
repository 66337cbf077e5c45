//! Where the steps of an instance stand: which step is open, and how far the rows above it are.
//!
//! Worked out once for neighbouring series, which nearly always stand at the same step, so that a
//! sample costs a comparison and no division.

use crate::calendar::RowWidth;
use crate::policy::ArchiveSpec;
use crate::{Policy, Step, Timestamp};

/// Finest steps of which a counter keeps one anchor.
pub(crate) const RUN_STEPS: i64 = 64;
/// Archives beside the finest.
pub(super) const MOST_COARSER: usize = Policy::MOST_ARCHIVES - 1;

/// The widths of an instance's rows.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    step: Step,
    /// The width of [`RUN_STEPS`].
    run_ms: i64,
    coarser_count: u8,
    /// Finest steps a row, of each archive but the finest; [`NOT_EVEN`] for days of a zone.
    per_row: [u32; MOST_COARSER],
    widths: [RowWidth; MOST_COARSER],
    /// Which of them are days of a zone.
    days: Option<usize>,
}

/// Instead of a count of steps: it differs from row to row, and is looked up when one is full.
const NOT_EVEN: u32 = u32::MAX;

/// The open step, and what is left of the rows it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Phase<'a> {
    grid: &'a Grid,
    /// The number of the newest closed row of the finest archive.
    newest_row: i64,
    /// Its END, where the open step begins.
    opened_ms: i64,
    /// Where the run of steps ends that this one is of, which a counter keeps one anchor of.
    run_end_ms: i64,
    left: [u32; MOST_COARSER],
    /// The next step fills some row.
    fills: bool,
}

impl Grid {
    pub(crate) fn of(archives: &[ArchiveSpec]) -> Self {
        let step = archives[0].step;
        let mut per_row = [u32::MAX; MOST_COARSER];
        let mut widths = [RowWidth::Even(u32::MAX); MOST_COARSER];
        for (index, archive) in archives[1..].iter().enumerate() {
            widths[index] = archive.width(step);
            per_row[index] = match widths[index] {
                RowWidth::Even(steps) => steps,
                RowWidth::Days(..) => NOT_EVEN,
            };
        }
        let coarser_count = u8::try_from(archives.len() - 1).expect("at most eight archives");
        let days = archives[1..].iter().position(|archive| archive.days.is_some());
        Self { step, run_ms: run_ms(step), coarser_count, per_row, widths, days }
    }

    pub(crate) const fn step(&self) -> Step {
        self.step
    }

    /// How many archives there are beside the finest.
    pub(crate) fn coarser_count(&self) -> usize {
        usize::from(self.coarser_count)
    }

    /// Steps that the open row of an archive has when row `newest` of the finest archive has closed; the
    /// archive is counted from the first but the finest.
    pub(crate) fn begun(&self, coarser: usize, newest: i64) -> u32 {
        self.widths()[coarser].begun(newest)
    }

    /// How wide the rows are, of each archive but the finest.
    pub(super) fn widths(&self) -> &[RowWidth] {
        &self.widths[..self.coarser_count()]
    }
}

impl<'a> Phase<'a> {
    /// At the start of 1970, where rows of all widths begin.
    pub(crate) fn new(grid: &'a Grid) -> Self {
        let mut phase = Self {
            grid,
            newest_row: 0,
            opened_ms: 0,
            run_end_ms: 0,
            left: grid.per_row,
            fills: false,
        };
        phase.look_up_days();
        phase.look();
        phase
    }

    pub(super) const fn step(&self) -> Step {
        self.grid.step
    }

    /// The last END of a run at or before this moment.
    pub(super) const fn run_end_before(&self, at: Timestamp) -> Timestamp {
        at.plus_millis(-at.as_millis().rem_euclid(self.grid.run_ms))
    }

    pub(super) const fn newest_row(&self) -> i64 {
        self.newest_row
    }

    pub(super) const fn opened(&self) -> Timestamp {
        Timestamp::from_millis(self.opened_ms)
    }

    /// The END of the last step of the run that the open step is of.
    #[inline]
    pub(super) const fn run_end(&self) -> Timestamp {
        Timestamp::from_millis(self.run_end_ms)
    }

    pub(super) const fn fills(&self) -> bool {
        self.fills
    }

    pub(super) fn widths(&self) -> &[RowWidth] {
        self.grid.widths()
    }

    /// Steps still to come, of each row being filled.
    pub(super) fn left(&self) -> &[u32] {
        &self.left[..self.grid.coarser_count()]
    }

    /// To the step that a moment lies in, its start counted and its end not.
    #[inline]
    pub(super) fn seek(&mut self, at: Timestamp) {
        let since = at.as_millis().wrapping_sub(self.opened_ms).cast_unsigned();
        let step = self.grid.step.as_millis();
        if since >= step {
            if since - step < step { self.next() } else { self.seek_far(at) }
        }
    }

    /// To the following step.
    #[inline]
    pub(super) fn next(&mut self) {
        self.newest_row += 1;
        self.opened_ms += self.grid.step.as_millis().cast_signed();
        let mut index = 0;
        while index < MOST_COARSER {
            self.left[index] -= 1;
            if self.left[index] == 0 {
                self.left[index] = self.grid.per_row[index];
            }
            index += 1;
        }
        if self.grid.days.is_some_and(|days| self.left[days] == NOT_EVEN) {
            self.look_up_days();
        }
        self.look();
    }

    #[inline(never)]
    fn seek_far(&mut self, at: Timestamp) {
        let step = self.grid.step;
        let opened = at.floor(step);
        self.opened_ms = opened.as_millis();
        self.newest_row = opened.row(step);
        let mut index = 0;
        while index < MOST_COARSER {
            self.left[index] = steps_left(self.newest_row, self.grid.per_row[index]);
            index += 1;
        }
        if self.grid.days.is_some() {
            self.look_up_days();
        }
        self.look();
    }

    /// What is left of the day that is being filled.
    #[cold]
    fn look_up_days(&mut self) {
        if let Some(days) = self.grid.days {
            self.left[days] = self.grid.widths[days].left(self.newest_row);
        }
    }

    const fn look(&mut self) {
        let run = self.newest_row.div_euclid(RUN_STEPS);
        self.run_end_ms = (run + 1) * self.grid.run_ms;
        self.fills = false;
        let mut index = 0;
        while index < MOST_COARSER {
            self.fills |= self.left[index] == 1;
            index += 1;
        }
    }
}

/// The milliseconds of a run: at most 6,400 years.
pub(crate) const fn run_ms(step: Step) -> i64 {
    step.as_millis().cast_signed() * RUN_STEPS
}

/// Steps from row `newest` of the finest archive to the end of the coarser row being filled.
#[expect(clippy::cast_possible_truncation, reason = "a remainder of a u32, never negative")]
const fn steps_left(newest: i64, per_row: u32) -> u32 {
    per_row - newest.rem_euclid(per_row as i64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_went_on_is_one_that_was_looked_up() {
        let policy = Policy::parse("1m:2d,2m:3d,5m:14d,1h:90d").unwrap();
        let grid = Grid::of(policy.archives());
        let shown = |phase: &Phase<'_>| {
            (phase.newest_row(), phase.opened(), phase.left().to_vec(), phase.fills())
        };
        let mut walking = Phase::new(&grid);
        for minute in [0, 1, 2, 3, 4, 59, 60, 61, 1439, 3, 4, 5, -1, 0, -61, -60] {
            let mut sought = Phase::new(&grid);
            let at = Timestamp::from_millis(minute * 60_000 + 59_999);
            walking.seek(at);
            sought.seek_far(at);
            assert_eq!(shown(&walking), shown(&sought), "minute {minute}");
            assert_eq!(walking.newest_row(), minute);
        }
        assert_eq!((walking.left(), walking.fills()), (&[2, 5, 60][..], false));
        walking.seek(Timestamp::from_secs(-60));
        assert_eq!((walking.left(), walking.fills()), (&[1, 1, 1][..], true));
    }

    #[test]
    fn what_is_left_of_a_day_is_as_its_zone_has_it() {
        let policy = Policy::parse("1m:2d,1h:90d,1d@Europe/Paris:5y").unwrap();
        let grid = Grid::of(policy.archives());
        // 29 March 2026 began at 23:00 and ended 23 hours later; 25 October has 25.
        for (begin_s, minutes) in [(1_774_738_800, 1380), (1_792_879_200, 1500)] {
            let mut walking = Phase::new(&grid);
            walking.seek(Timestamp::from_secs(begin_s - 120));
            for minute in -2..=minutes + 2 {
                let at = Timestamp::from_secs(begin_s + i64::from(minute) * 60);
                let mut sought = Phase::new(&grid);
                walking.seek(at);
                sought.seek_far(at);
                assert_eq!(walking.left(), sought.left(), "minute {minute}");
                let left = match minute {
                    ..0 => -minute,
                    _ if minute < minutes => minutes - minute,
                    _ => 1440 + minutes - minute,
                };
                assert_eq!(i64::from(walking.left()[1]), i64::from(left), "minute {minute}");
            }
        }
    }
}
