//! Parts of the date that a value is, as seconds since 1970 in UTC.

use crate::functions::OfOne;

/// Names of the date functions and what each makes of a moment.
pub(crate) const DATES: &[(&str, OfOne)] = &[
    ("day_of_month", |secs| part(secs, |date| f64::from(date.day))),
    ("day_of_week", |secs| part(secs, Date::weekday)),
    ("day_of_year", |secs| part(secs, Date::day_of_year)),
    ("days_in_month", |secs| part(secs, |date| f64::from(days_in(date.year, date.month)))),
    ("hour", |secs| clock(secs, 3600, 24)),
    ("minute", |secs| clock(secs, 60, 60)),
    ("month", |secs| part(secs, |date| f64::from(date.month))),
    ("year", |secs| part(secs, Date::year)),
];

const DAY_SECS: i64 = 86_400;

/// Values beyond this many seconds on either side of 1970 are no dates: three million years.
const FARTHEST_SECS: f64 = 1e14;

/// A day of the Gregorian calendar.
struct Date {
    /// Days since 1970.
    number: i64,
    year: i64,
    month: u8,
    day: u8,
}

impl Date {
    /// The day of this number. Years are counted from March, so that a leap day is the last one.
    fn of(number: i64) -> Self {
        // 0000-03-01 is 719,468 days before 1970; 400 years are 146,097 days.
        let days = number + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let leaps = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leaps) / 365;
        let in_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * in_year + 2) / 153;
        let day = in_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let small = |number: i64| u8::try_from(number).expect("a day or month, at most 31");
        Self { number, year, month: small(month), day: small(day) }
    }

    /// Sunday is 0. The first of January 1970 was a Thursday.
    fn weekday(&self) -> f64 {
        number(self.number + 4, 7)
    }

    fn day_of_year(&self) -> f64 {
        let before = (1..self.month).map(|month| u32::from(days_in(self.year, month))).sum::<u32>();
        f64::from(before + u32::from(self.day))
    }

    #[expect(clippy::cast_precision_loss, reason = "years of at most seven digits")]
    fn year(&self) -> f64 {
        self.year as f64
    }
}

fn days_in(year: i64, month: u8) -> u8 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn part(secs: f64, of: impl Fn(&Date) -> f64) -> f64 {
    whole(secs).map_or(f64::NAN, |secs| of(&Date::of(secs.div_euclid(DAY_SECS))))
}

fn clock(secs: f64, unit_secs: i64, count: i64) -> f64 {
    whole(secs).map_or(f64::NAN, |secs| number(secs.div_euclid(unit_secs), count))
}

fn number(value: i64, count: i64) -> f64 {
    f64::from(i32::try_from(value.rem_euclid(count)).expect("less than `count`, at most 60"))
}

/// Whole seconds, fractions cut towards 1970; `None` for what is no date.
#[expect(clippy::cast_possible_truncation, reason = "bounded by FARTHEST_SECS")]
fn whole(secs: f64) -> Option<i64> {
    (secs.abs() <= FARTHEST_SECS).then(|| secs.trunc() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(secs: f64) -> Vec<f64> {
        DATES.iter().map(|(_, of)| of(secs)).collect()
    }

    #[test]
    fn a_moment_has_its_parts_in_utc() {
        // Day of month, of week, of year, days in month, hour, minute, month, year.
        for (secs, expected) in [
            (0.0, [1.0, 4.0, 1.0, 31.0, 0.0, 0.0, 1.0, 1970.0]),
            (-1.0, [31.0, 3.0, 365.0, 31.0, 23.0, 59.0, 12.0, 1969.0]),
            (951_782_400.0, [29.0, 2.0, 60.0, 29.0, 0.0, 0.0, 2.0, 2000.0]),
            (1_136_239_445.9, [2.0, 1.0, 2.0, 31.0, 22.0, 4.0, 1.0, 2006.0]),
            (4_107_542_399.0, [28.0, 0.0, 59.0, 28.0, 23.0, 59.0, 2.0, 2100.0]),
            (4_133_894_400.0, [31.0, 5.0, 365.0, 31.0, 0.0, 0.0, 12.0, 2100.0]),
        ] {
            assert_eq!(all(secs), expected, "{secs}");
        }
    }

    #[test]
    fn what_is_no_date_has_no_parts() {
        for secs in [f64::NAN, f64::INFINITY, 1e300, -1e15] {
            assert!(all(secs).iter().all(|part| part.is_nan()), "{secs}");
        }
        assert!(all(FARTHEST_SECS).iter().all(|part| part.is_finite()));
    }
}
