//! One archive of a policy: how wide its rows are, when they end and how many are kept.

use std::fmt;

use super::{Policy, PolicyError};
use crate::calendar::{Calendar, DAY_MS, RowWidth};
use crate::time::parse_duration_ms;
use crate::{Step, Timestamp};

/// One archive of a series: rows of one width, a fixed number of them (rrdtool's RRA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArchiveSpec {
    /// The width of a row; 24 hours for the days of a zone, which may be longer or shorter.
    pub step: Step,
    /// How many rows are kept; the newest takes the place of the oldest.
    pub row_count: u64,
    /// Where the rows are days of a time zone: which; else rows end on multiples of the step.
    pub days: Option<&'static Calendar>,
}

impl ArchiveSpec {
    /// Rows that end on multiples of `step`.
    pub const fn even(step: Step, row_count: u64) -> Self {
        Self { step, row_count, days: None }
    }

    /// How many steps of `finest` one row holds; 1 for the finest archive itself. For the days of a
    /// zone, those of a day of 24 hours.
    pub fn steps_per_row(&self, finest: Step) -> u32 {
        u32::try_from(self.step.as_millis() / finest.as_millis())
            .expect("Policy::parse refuses rows of more than u32::MAX steps")
    }

    /// How many steps of `finest` this row holds.
    pub fn steps_in(&self, row: i64, finest: Step) -> u32 {
        self.width(finest).steps(row)
    }

    /// The newest row that has ended at `at`.
    #[inline]
    pub fn ended_row(&self, at: Timestamp) -> i64 {
        match self.days {
            None => at.as_millis().div_euclid(self.step.as_millis().cast_signed()),
            Some(days) => days.ended_row(at),
        }
    }

    /// When row `row` ends.
    #[inline]
    pub fn row_end(&self, row: i64) -> Timestamp {
        match self.days {
            None => Timestamp::row_end(row, self.step),
            Some(days) => days.row_end(row),
        }
    }

    /// The first row that begins at `at`, or later.
    pub(crate) fn first_after(&self, at: Timestamp) -> i64 {
        let newest = self.ended_row(at);
        if self.row_end(newest) < at { newest + 2 } else { newest + 1 }
    }

    /// The last end of a row at or before `at`.
    #[must_use]
    pub fn floor(&self, at: Timestamp) -> Timestamp {
        self.row_end(self.ended_row(at))
    }

    /// True where both have the same rows, as far as they are kept.
    pub fn has_rows_of(&self, other: &Self) -> bool {
        (self.step, self.days) == (other.step, other.days)
    }

    /// Its step with the zone, as policies write it.
    pub fn step_name(&self) -> String {
        let zone = self.days.map_or_else(String::new, |days| format!("@{}", days.zone()));
        format!("{}{zone}", self.step)
    }

    /// Where its rows end among those of the finest archive.
    pub(crate) fn width(&self, finest: Step) -> RowWidth {
        match self.days {
            None => RowWidth::Even(self.steps_per_row(finest)),
            Some(days) => RowWidth::Days(days, finest.as_millis().cast_signed()),
        }
    }

    pub(super) fn parse(part: &str) -> Result<Self, PolicyError> {
        let refuse = || PolicyError::NotAnArchive(part.to_owned());
        let (step, keep) = part.split_once(':').ok_or_else(refuse)?;
        let (step, zone) = match step.split_once('@') {
            Some((step, zone)) => (step, Some(zone)),
            None => (step, None),
        };
        let no_duration =
            |text: &str| PolicyError::NotADuration { part: part.to_owned(), text: text.to_owned() };
        let step_ms = parse_duration_ms(step).ok_or_else(|| no_duration(step))?;
        let keep_ms = parse_keep_ms(keep).ok_or_else(|| no_duration(keep))?;
        let step =
            Step::from_millis(step_ms).ok_or_else(|| PolicyError::BadStep(part.to_owned()))?;
        if keep_ms < step_ms {
            return Err(PolicyError::KeepsNothing(part.to_owned()));
        }
        let row_count = keep_ms.div_ceil(step_ms);
        if row_count > Policy::MOST_ROWS {
            return Err(PolicyError::TooManyRows { part: part.to_owned(), rows: row_count });
        }
        let days = zone.map(|zone| days_of(zone, step, part)).transpose()?;
        Ok(Self { step, row_count, days })
    }

    /// Errors if a row of this archive cannot be put together from steps of `finest`.
    pub(super) fn check_over(&self, finest: Step, part: &str) -> Result<(), PolicyError> {
        let (wide, narrow) = (self.step.as_millis(), finest.as_millis());
        let part = || part.to_owned();
        if !wide.is_multiple_of(narrow) {
            return Err(PolicyError::NotAMultiple { part: part(), finest });
        }
        if wide / narrow > u64::from(u32::MAX) {
            return Err(PolicyError::RowTooWide { part: part(), finest });
        }
        match self.days {
            Some(days) if !days.fits(finest) => Err(PolicyError::DaysBetweenSteps {
                part: part(),
                zone: days.zone().to_owned(),
                finest,
                grain: Step::from_millis(days.grain_ms()).expect("a divisor of a day"),
            }),
            _ => Ok(()),
        }
    }
}

/// `STEP:KEEP`, KEEP in the largest unit that says it exactly.
impl fmt::Display for ArchiveSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keep_ms = self.row_count * self.step.as_millis();
        let years = keep_ms.div_ceil(365 * A_DAY_MS + A_DAY_MS / 4);
        let step = self.step_name();
        if years > 0 && years_ms(years) == Some(keep_ms) {
            return write!(f, "{step}:{years}y");
        }
        write!(f, "{step}:{}", Duration(keep_ms))
    }
}

/// A span of time that may be longer than a step can be; prints as a step does.
struct Duration(u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("d", A_DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let (unit, width) = units
            .into_iter()
            .find(|&(_, width)| self.0.is_multiple_of(width))
            .expect("every number is a multiple of one");
        write!(f, "{}{unit}", self.0 / width)
    }
}

const A_DAY_MS: u64 = DAY_MS.unsigned_abs();

/// The days that `part` names the zone of.
fn days_of(zone: &str, step: Step, part: &str) -> Result<&'static Calendar, PolicyError> {
    if step.as_millis() != A_DAY_MS {
        return Err(PolicyError::ZoneOfNoDay(part.to_owned()));
    }
    let unknown = || PolicyError::UnknownZone { part: part.to_owned(), zone: zone.to_owned() };
    Calendar::of(zone).ok_or_else(unknown)
}

/// Whole days in `years` years of 365.25 days, so that "5y" keeps five calendar years of days.
fn years_ms(years: u64) -> Option<u64> {
    (years.checked_mul(1461)? / 4).checked_mul(A_DAY_MS)
}

fn parse_keep_ms(text: &str) -> Option<u64> {
    match text.strip_suffix('y').map(str::parse) {
        Some(Ok(years)) => years_ms(years),
        _ => parse_duration_ms(text),
    }
}
