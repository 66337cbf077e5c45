//! The calendar: days and months as a person counts them, at a fixed distance from UTC.

use super::Caller;

const DAY_S: i64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// A date and a time of day, of no particular zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: i64,
    /// From 1; beyond the month's end it counts on into the next.
    pub(super) day: i64,
    /// Seconds since midnight.
    pub(super) second: i64,
}

impl Civil {
    /// The date and time of `seconds` since 1970.
    pub(super) fn of(seconds: i64) -> Self {
        let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
        // Counted from 1 March of the year 0, so that the leap day is a year's last.
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month, day, second }
    }

    /// Seconds since 1970 of this date and time.
    pub(super) fn seconds(self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = (self.month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * ERA_DAYS + day_of_era - 719_468;
        days * DAY_S + self.second
    }

    pub(super) fn plus_months(self, months: i64) -> Self {
        let all = self.year * 12 + self.month - 1 + months;
        Self { year: all.div_euclid(12), month: all.rem_euclid(12) + 1, ..self }
    }
}

impl Caller<'_> {
    /// The local date and time of a moment in seconds since 1970.
    pub(super) fn civil(&self, seconds: i64) -> Civil {
        Civil::of(seconds + (self.offset_s)(seconds))
    }

    /// The moment of a local date and time.
    pub(super) fn moment(&self, civil: Civil) -> i64 {
        let local = civil.seconds();
        let near = local - (self.offset_s)(local);
        local - (self.offset_s)(near)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, year, month, day) in [
            (0, 1970, 1, 1),
            (951_782_400, 2000, 2, 29),
            (1_699_920_000, 2023, 11, 14),
            (4_107_542_400, 2100, 3, 1),
            (-86_400, 1969, 12, 31),
        ] {
            let civil = Civil { year, month, day, second: 0 };
            assert_eq!(Civil::of(seconds), civil);
            assert_eq!(civil.seconds(), seconds);
        }
    }

    #[test]
    fn months_are_counted_across_years() {
        let civil = Civil { year: 2023, month: 11, day: 14, second: 7 };
        assert_eq!(civil.plus_months(-11), Civil { month: 12, year: 2022, ..civil });
        assert_eq!(civil.plus_months(26), Civil { month: 1, year: 2026, ..civil });
    }
}
