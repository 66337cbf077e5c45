//! Ticks: where an axis is labelled, and with what; time in the viewer's zone, across DST changes.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use rrd::{Span, Timestamp};

use super::numbers::{Scale, Unit};

/// One line of the grid, perhaps with a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeTick {
    /// Where the line stands.
    pub at: Timestamp,
    /// Empty for a minor line.
    pub label: String,
    /// Where the label's middle stands: on the line, or amid the interval that it names.
    pub label_at: Timestamp,
    /// The label names a date among times of day.
    pub strong: bool,
}

/// One labelled line of the y axis.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueTick {
    /// Where the line stands.
    pub value: f64,
    /// What stands beside it.
    pub label: String,
}

/// The range of a y axis that begins and ends on a tick.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueAxis {
    /// Bottom of the plot.
    pub low: f64,
    /// Top of the plot; always above `low`.
    pub high: f64,
    /// Labelled lines, from the bottom up.
    pub ticks: Vec<ValueTick>,
}

/// How far labelled ticks are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Every {
    Millis(i64),
    Days(i16),
    Weeks,
    Months(i8),
    Years(i16),
}

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Labelled ticks and the unlabelled ones between them, the densest first.
const LADDER: [(Every, Option<Every>); 23] = {
    use Every::{Days, Millis, Months, Weeks, Years};
    [
        (Millis(10_000), None),
        (Millis(30_000), Some(Millis(10_000))),
        (Millis(MINUTE), Some(Millis(30_000))),
        (Millis(2 * MINUTE), Some(Millis(MINUTE))),
        (Millis(5 * MINUTE), Some(Millis(MINUTE))),
        (Millis(10 * MINUTE), Some(Millis(5 * MINUTE))),
        (Millis(15 * MINUTE), Some(Millis(5 * MINUTE))),
        (Millis(30 * MINUTE), Some(Millis(10 * MINUTE))),
        (Millis(HOUR), Some(Millis(30 * MINUTE))),
        (Millis(2 * HOUR), Some(Millis(HOUR))),
        (Millis(3 * HOUR), Some(Millis(HOUR))),
        (Millis(4 * HOUR), Some(Millis(HOUR))),
        (Millis(6 * HOUR), Some(Millis(2 * HOUR))),
        (Millis(12 * HOUR), Some(Millis(6 * HOUR))),
        (Days(1), Some(Millis(12 * HOUR))),
        (Days(2), Some(Days(1))),
        (Weeks, Some(Days(1))),
        (Months(1), Some(Weeks)),
        (Months(2), Some(Months(1))),
        (Months(3), Some(Months(1))),
        (Months(6), Some(Months(1))),
        (Years(1), Some(Months(3))),
        (Years(5), Some(Years(1))),
    ]
};

/// A label needs this many pixels, its air included.
const TIME_LABEL_WIDTH: f64 = 58.0;
/// Labelled lines of the y axis stand at least this many pixels apart.
const VALUE_LABEL_HEIGHT: f64 = 26.0;
/// More lines than this no graph can show; a guard against absurd spans.
const MOST_TICKS: usize = 400;

/// The time axis over `span`, `width` pixels wide, labelled in `zone`.
#[expect(clippy::cast_precision_loss, reason = "pixels, not moments")]
pub fn time_ticks(span: Span, zone: &TimeZone, width: f64) -> Vec<TimeTick> {
    let length = span.end().millis_since(span.start()).max(1) as f64;
    let wanted = TIME_LABEL_WIDTH / width.max(1.0) * length;
    let fits = |every: Every| every.millis() as f64 >= wanted;
    let (labelled, between) =
        LADDER.into_iter().find(|(every, _)| fits(*every)).unwrap_or(LADDER[LADDER.len() - 1]);
    let lines = moments(labelled, span, zone);
    let mut ticks: Vec<TimeTick> = between
        .map(|every| moments(every, span, zone))
        .unwrap_or_default()
        .into_iter()
        .filter(|at| !lines.contains(at))
        .map(|at| TimeTick { at, label: String::new(), label_at: at, strong: false })
        .collect();
    // An interval that begins before the graph is still named by its label.
    let before = labelled.begin_before(span.start(), zone);
    let named = before.into_iter().chain(lines);
    ticks.extend(named.filter_map(|at| labelled.tick(at, span, zone)));
    ticks.sort_by_key(|tick| tick.at);
    ticks.truncate(MOST_TICKS);
    ticks
}

impl Every {
    /// The usual length, to choose by.
    fn millis(self) -> i64 {
        match self {
            Self::Millis(millis) => millis,
            Self::Days(days) => i64::from(days) * DAY,
            Self::Weeks => 7 * DAY,
            Self::Months(months) => i64::from(months) * 30 * DAY,
            Self::Years(years) => i64::from(years) * 365 * DAY,
        }
    }

    /// Days, months and years are intervals with a name; times of day are moments.
    fn names_an_interval(self) -> bool {
        matches!(self, Self::Days(1) | Self::Months(1) | Self::Years(1))
    }

    /// The beginning of the interval that `at` is in, when intervals have names.
    fn begin_before(self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if !self.names_an_interval() {
            return None;
        }
        let begin = floor_date(self, local(at, zone)?.date());
        start_of(begin, zone).filter(|begin| *begin < at)
    }

    /// The labelled tick that begins at `at`.
    fn tick(self, at: Timestamp, span: Span, zone: &TimeZone) -> Option<TimeTick> {
        let here = local(at, zone)?;
        let midnight = here.date().to_zoned(zone.clone()).is_ok_and(|first| first == here);
        let (format, strong) = match self {
            Self::Millis(_) if midnight => ("%a %-d", true),
            Self::Millis(millis) if millis < MINUTE => ("%H:%M:%S", false),
            Self::Millis(_) => ("%H:%M", false),
            Self::Days(1) => ("%a %-d", false),
            Self::Days(_) | Self::Weeks => ("%-d %b", false),
            Self::Months(_) if here.month() == 1 => ("%Y", true),
            Self::Months(_) => ("%b", false),
            Self::Years(_) => ("%Y", false),
        };
        let label = here.strftime(format).to_string();
        if !self.names_an_interval() {
            return Some(TimeTick { at, label, label_at: at, strong });
        }
        let end = start_of(next_date(self, here.date())?, zone)?;
        let (first, last) = (at.max(span.start()), end.min(span.end()));
        let middle = first.plus_millis(last.millis_since(first) / 2);
        // A sliver at the edge of the graph has no room for its name.
        let shown = last.millis_since(first).saturating_mul(2) >= self.millis();
        let label = if shown { label } else { String::new() };
        Some(TimeTick { at, label, label_at: middle, strong })
    }
}

/// The moments of `every` within `span`.
fn moments(every: Every, span: Span, zone: &TimeZone) -> Vec<Timestamp> {
    match every {
        Every::Millis(width) => times_of_day(width, span, zone),
        _ => dates(every, span, zone),
    }
}

/// Moments whose local time of day is a multiple of `width`. Walks in real time, so that the hour
/// which DST repeats is there twice and the one it skips is not invented.
fn times_of_day(width: i64, span: Span, zone: &TimeZone) -> Vec<Timestamp> {
    // Offsets change by quarters of an hour, so no aligned moment lies between two candidates.
    let stride = width.min(15 * MINUTE);
    let mut at = span.start().as_millis().div_euclid(stride) * stride;
    let mut found: Vec<Timestamp> = Vec::new();
    while at <= span.end().as_millis() && found.len() < MOST_TICKS {
        let moment = Timestamp::from_millis(at);
        let offset =
            local(moment, zone).map_or(0, |here| i64::from(here.offset().seconds()) * 1000);
        let close = found.last().is_some_and(|last| moment.millis_since(*last) * 2 < width);
        if (at + offset).rem_euclid(width) == 0 && moment >= span.start() && !close {
            found.push(moment);
        }
        at += stride;
    }
    found
}

/// Local midnights on which an interval of `every` begins.
fn dates(every: Every, span: Span, zone: &TimeZone) -> Vec<Timestamp> {
    let mut found = Vec::new();
    let Some(first) = local(span.start(), zone) else { return found };
    let mut date = Some(floor_date(every, first.date()));
    while let Some(day) = date.filter(|_| found.len() < MOST_TICKS) {
        match start_of(day, zone) {
            Some(at) if at > span.end() => break,
            Some(at) if at >= span.start() => found.push(at),
            _ => {}
        }
        date = next_date(every, day);
    }
    found
}

/// The date on which the interval that holds `date` began.
fn floor_date(every: Every, date: Date) -> Date {
    let day_number = date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
    match every {
        Every::Millis(_) | Every::Days(1) => date,
        Every::Days(days) => {
            let over = day_number.rem_euclid(i64::from(days));
            date.checked_sub(over.days()).unwrap_or(date)
        }
        Every::Weeks => {
            let over = date.weekday().since(Weekday::Monday);
            date.checked_sub(i64::from(over).days()).unwrap_or(date)
        }
        Every::Months(months) => {
            let month = (date.month() - 1) / months * months + 1;
            Date::new(date.year(), month, 1).unwrap_or(date)
        }
        Every::Years(years) => Date::new(date.year() / years * years, 1, 1).unwrap_or(date),
    }
}

/// The date on which the next interval begins; `None` at the end of the calendar.
fn next_date(every: Every, date: Date) -> Option<Date> {
    let step = match every {
        Every::Millis(_) => 1.day(),
        Every::Days(days) => i64::from(days).days(),
        Every::Weeks => 7.days(),
        Every::Months(months) => i64::from(months).months(),
        Every::Years(years) => i64::from(years).years(),
    };
    date.checked_add(step).ok()
}

/// The first moment of `date`: 01:00 in zones that skip midnight.
fn start_of(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    let first = date.to_zoned(zone.clone()).ok()?;
    Some(Timestamp::from_millis(first.timestamp().as_millisecond()))
}

/// `at` on the clocks of `zone`.
pub fn local(at: Timestamp, zone: &TimeZone) -> Option<Zoned> {
    let moment = jiff::Timestamp::from_millisecond(at.as_millis()).ok()?;
    Some(moment.to_zoned(zone.clone()))
}

/// An axis over `low..=high`, `height` pixels high, that begins and ends on a tick unless
/// `fixed_top` says where it ends.
#[expect(clippy::cast_precision_loss, reason = "a few ticks")]
#[expect(clippy::cast_possible_truncation, reason = "a few ticks")]
#[expect(clippy::cast_sign_loss, reason = "the range is never turned")]
pub fn value_axis(low: f64, high: f64, fixed_top: bool, height: f64, unit: &Unit) -> ValueAxis {
    let (low, high) = widened(low, high);
    let most = (height / VALUE_LABEL_HEIGHT).max(1.0);
    let distance = round_distance((high - low) / most, unit);
    // A hair over a line is on it: sums of decimals are never exact.
    let first = (low / distance + HAIR).floor();
    let last = if fixed_top { high / distance + HAIR } else { (high / distance - HAIR).ceil() };
    let last = last.floor();
    let largest = (first.abs()).max(last.abs()) * distance;
    let prefix = unit.prefix(largest);
    let count = ((last - first).clamp(1.0, MOST_TICKS as f64)) as usize;
    let ticks = (0..=count)
        .map(|at| {
            let value = (first + at as f64) * distance + 0.0; // Never -0.
            ValueTick { value, label: unit.label(value.abs(), distance, prefix) }
        })
        .collect();
    let top = if fixed_top { high } else { last.max(first + 1.0) * distance };
    ValueAxis { low: first * distance, high: top, ticks }
}

const HAIR: f64 = 1e-4;

/// A range that is never empty: a flat line must be seen.
fn widened(low: f64, high: f64) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    if high - low > size * 1e-9 {
        return (low, high);
    }
    if size == 0.0 { (0.0, 1.0) } else { (low - size * 0.05, high + size * 0.05) }
}

/// The next distance above `least` that reads well: 1-2-5, or a power of two for binary units.
fn round_distance(least: f64, unit: &Unit) -> f64 {
    if unit.scale == Scale::Binary {
        return least.log2().ceil().exp2();
    }
    let power = 10.0_f64.powf(least.log10().floor());
    let lead = least / power;
    // A hair of tolerance: 1.0000000001 is 1.
    let rung = [1.0, 2.0, 5.0, 10.0].into_iter().find(|rung| lead <= rung * (1.0 + 1e-9));
    rung.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests;
