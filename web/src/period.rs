//! Periods: which stretch of time a graph shows, and how wide its points are.

use query::Series;
use rrd::{Calendar, Span, Step, Timestamp};

/// A stretch of time up to now that has a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Period {
    #[default]
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// What a request asked to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Up to now.
    Period(Period),
    /// Two fixed moments.
    Between(Span),
}

/// The grid of a graph: whole steps, aligned to 1970 as rows are, or to the days of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From the first point's beginning to the last one's end.
    pub span: Span,
    /// The width of a point.
    pub step: Step,
    /// Where points are days of a zone: which. Each then ends at, or up to a change of the clocks
    /// after, the end of its last day.
    pub days: Option<&'static Calendar>,
    /// The instance is younger than the period: only its life is shown.
    pub shortened: bool,
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// However young an instance is, its graph has room for this many of its finest rows: narrow enough
/// that the first rows are seen, wide enough that they are a graph.
const FEWEST_ROWS: u64 = 12;
/// A graph has at most this many points: about one per pixel of its usual width.
pub const MOST_POINTS: u64 = 400;

/// Widths that divide a day, or are days.
const STEPS: [u64; 26] = [
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    20 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    3 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    4 * HOUR,
    6 * HOUR,
    8 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    30 * DAY,
];

/// Lives are shown rounded up to one of these, so that the axis does not creep.
const LIVES: [u64; 18] = [
    2 * MINUTE,
    3 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    45 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    8 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    4 * DAY,
    7 * DAY,
    14 * DAY,
];

impl Period {
    /// All of them, shortest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// Its name in URLs and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Its name as a heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Hour => "Hour",
            Self::Day => "Day",
            Self::Week => "Week",
            Self::Month => "Month",
            Self::Year => "Year",
        }
    }

    /// The period of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.name() == name)
    }

    const fn millis(self) -> u64 {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
            Self::Week => 7 * DAY,
            Self::Month => 30 * DAY,
            Self::Year => 365 * DAY,
        }
    }
}

impl Window {
    /// The window of `asked` over `series`, of which the first was born at the earliest birth.
    pub fn of(asked: Asked, series: &[Series], now: Timestamp) -> Self {
        match asked {
            Asked::Period(period) => Self::up_to(period, series, now),
            Asked::Between(span) => Self::between(span, series, now),
        }
    }

    fn up_to(period: Period, series: &[Series], now: Timestamp) -> Self {
        let birth = series.iter().map(|series| series.birth).min().unwrap_or(now);
        let age = u64::try_from(now.millis_since(birth)).unwrap_or(0);
        let row = series.iter().filter_map(|series| row_for(0, series)).max().unwrap_or(MINUTE);
        let least = age.max(FEWEST_ROWS.saturating_mul(row));
        let life = LIVES.into_iter().find(|life| *life >= least).unwrap_or(u64::MAX);
        let width = period.millis().min(life);
        let step = step_for(width, width, series);
        let days = days_of(step, series);
        let phase = phase(days, now, width);
        let grid = days.map_or(step, |_| DAY_STEP);
        let end = now.plus_millis(-phase).floor(grid).plus_millis(phase);
        let start = end.plus_millis(-whole(width, step));
        Self { span: span(start, end), step, days, shortened: width < period.millis() }
    }

    fn between(asked: Span, series: &[Series], now: Timestamp) -> Self {
        let width = u64::try_from(asked.end().millis_since(asked.start())).unwrap_or(0);
        let reach = u64::try_from(now.millis_since(asked.start())).unwrap_or(0);
        let step = step_for(width, reach, series);
        let days = days_of(step, series);
        let phase = phase(days, asked.end(), width);
        let [start, end] = [asked.start(), asked.end()].map(|at| at.plus_millis(-phase));
        let (start, end) = (start.floor(step), end.ceil(step));
        let end = if end == start { start + step } else { end };
        let [start, end] = [start, end].map(|at| at.plus_millis(phase));
        Self { span: span(start, end), step, days, shortened: false }
    }

    /// The consolidation, in words: `10 s averages`.
    pub fn consolidation(&self) -> String {
        let millis = self.step.as_millis();
        let (count, unit) = match millis {
            _ if millis.is_multiple_of(DAY) => (millis / DAY, "day"),
            _ if millis.is_multiple_of(HOUR) => (millis / HOUR, "hour"),
            _ if millis.is_multiple_of(MINUTE) => (millis / MINUTE, "min"),
            _ if millis.is_multiple_of(SECOND) => (millis / SECOND, "s"),
            _ => (millis, "ms"),
        };
        // Where a day ends is another question for each zone.
        let days = self.days.map_or(String::new(), |days| format!(", days of {}", days.zone()));
        format!("{count}\u{a0}{unit} averages{days}")
    }
}

/// The narrowest step that shows `width` in few enough points, and that whole rows of the finest
/// archive which reaches back by `reach` add up to.
fn step_for(width: u64, reach: u64, series: &[Series]) -> Step {
    let row = series.iter().filter_map(|series| row_for(reach, series)).max().unwrap_or(MINUTE);
    let step = STEPS
        .into_iter()
        .find(|step| step.is_multiple_of(row) && width.div_ceil(*step) <= MOST_POINTS)
        .unwrap_or_else(|| width.div_ceil(MOST_POINTS).div_ceil(row).max(1) * row);
    Step::from_millis(step).unwrap_or(DAY_STEP)
}

/// The zone that points of `step` are days of: that of all series, if it is one.
fn days_of(step: Step, series: &[Series]) -> Option<&'static Calendar> {
    let mut zones = series.iter().map(|one| one.archives.iter().find_map(|shape| shape.days));
    let first = zones.next().flatten()?;
    let is_theirs = zones.all(|zone| zone == Some(first));
    (step.as_millis().is_multiple_of(DAY) && is_theirs).then_some(first)
}

/// How far after multiples of 24 hours all days of the window have ended, and the next ones have not:
/// the days of a zone end an hour apart at most, by the time of the year.
fn phase(days: Option<&Calendar>, end: Timestamp, width: u64) -> i64 {
    let Some(days) = days else { return 0 };
    let last = days.ended_row(end);
    let count = i64::try_from(width / DAY).unwrap_or(i64::MAX).min(MOST_DAYS);
    let after = |row: i64| days.row_end(row).millis_since(Timestamp::row_end(row, DAY_STEP));
    (last - count..=last + 1).map(after).max().unwrap_or(0)
}

/// Days looked at for the phase of a graph: a decade, in which a zone has shown all its clocks.
const MOST_DAYS: i64 = 3653;

pub(crate) const DAY_STEP: Step = Step::from_millis(DAY).expect("a day is not zero");

/// The row width of the finest archive that reaches back by `reach`; else of the one that reaches
/// back furthest.
fn row_for(reach: u64, series: &Series) -> Option<u64> {
    let depth = |shape: &rrd::ArchiveSpec| shape.step.as_millis().saturating_mul(shape.row_count);
    let reaching = series.archives.iter().find(|shape| depth(shape) >= reach);
    let shape = reaching.or_else(|| series.archives.iter().max_by_key(|shape| depth(shape)))?;
    Some(shape.step.as_millis())
}

/// `width` rounded up to whole steps.
fn whole(width: u64, step: Step) -> i64 {
    let steps = width.div_ceil(step.as_millis());
    i64::try_from(steps.saturating_mul(step.as_millis())).unwrap_or(i64::MAX)
}

fn span(start: Timestamp, end: Timestamp) -> Span {
    Span::new(start, end.max(start)).expect("the end is made no earlier than the start")
}

#[cfg(test)]
mod tests {
    use query::Read;
    use query::memory::MemoryRead;

    use super::*;

    const OWN: &str = "archives 10s:720,1m:2880,5m:4032,1h:2160,1d:1825";
    const RELAYED: &str = "archives 1m:2880,5m:4032,1h:2160,1d:1825";
    /// Long after 1970, and on no boundary.
    const NOW: Timestamp = Timestamp::from_millis(1_782_050_709_123);

    /// Series that were born `age` before now.
    fn born(archives: &str, age_ms: u64) -> Vec<Series> {
        let row = if archives.contains("10s:") { 10_000 } else { 60_000 };
        let end = NOW.plus_millis(-age_ms.cast_signed()).as_millis() / row * row + row;
        let read = MemoryRead::load(&format!("{archives}\nstart {end}ms\nup 1")).unwrap();
        read.select(&[])
    }

    #[track_caller]
    fn check(archives: &str, age: u64, period: Period, width: u64, step: u64) {
        let window = Window::of(Asked::Period(period), &born(archives, age), NOW);
        let shown = window.span.end().millis_since(window.span.start());
        assert_eq!((shown.unsigned_abs(), window.step.as_millis()), (width, step), "{window:?}");
        assert_eq!(window.span.end(), NOW.floor(window.step), "the right edge is now");
        assert_eq!(window.shortened, width < period.millis());
    }

    #[test]
    fn each_period_has_whole_rows_and_a_point_per_pixel_or_two() {
        let old = 400 * DAY;
        for (period, width, step) in [
            (Period::Hour, HOUR, 10 * SECOND),
            (Period::Day, DAY, 5 * MINUTE),
            (Period::Week, 7 * DAY, 30 * MINUTE),
            (Period::Month, 30 * DAY, 2 * HOUR),
            (Period::Year, 365 * DAY, DAY),
        ] {
            check(OWN, old, period, width, step);
        }
        check(RELAYED, old, Period::Hour, HOUR, MINUTE);
    }

    #[test]
    fn a_young_instance_is_shown_from_its_birth() {
        for (age, width, step) in [
            (20 * SECOND, 2 * MINUTE, 10 * SECOND),
            (2 * MINUTE + SECOND, 3 * MINUTE, 10 * SECOND),
            (6 * MINUTE, 10 * MINUTE, 10 * SECOND),
            (50 * MINUTE, HOUR, 10 * SECOND),
            (3 * HOUR, 4 * HOUR, MINUTE),
        ] {
            check(OWN, age, Period::Year, width, step);
        }
        check(RELAYED, 90 * SECOND, Period::Hour, 15 * MINUTE, MINUTE);
        check(OWN, 6 * MINUTE, Period::Hour, 10 * MINUTE, 10 * SECOND);
        check(OWN, 3 * HOUR, Period::Hour, HOUR, 10 * SECOND);
    }

    #[test]
    fn fixed_moments_are_widened_to_whole_steps() {
        let from = NOW.plus_millis(-7_200_000);
        let span = Span::new(from, from.plus_millis(3_600_000)).unwrap();
        let window = Window::of(Asked::Between(span), &born(OWN, 400 * DAY), NOW);
        // Two hours and a bit ago: ten-second rows still reach back, if barely.
        assert_eq!(window.step.as_millis(), 10 * SECOND);
        assert!(window.span.start() <= span.start() && window.span.end() >= span.end());
        assert!(!window.shortened);
    }

    #[test]
    fn years_of_a_zone_end_at_its_midnight() {
        let zoned = "archives 1h:2160,1d@Europe/Paris:1825";
        let series = born(zoned, 400 * DAY);
        let window = Window::of(Asked::Period(Period::Year), &series, NOW);
        // Midnight is at 22:00 in summer, when it is now, and at 23:00 in winter.
        assert_eq!(window.span.end().as_millis() % DAY.cast_signed(), 23 * HOUR.cast_signed());
        assert_eq!(window.days.map(Calendar::zone), Some("Europe/Paris"));
        assert_eq!(window.consolidation(), "1\u{a0}day averages, days of Europe/Paris");
        let month = Window::of(Asked::Period(Period::Month), &series, NOW);
        assert_eq!((month.days, month.span.end()), (None, NOW.floor(month.step)));
        let from = NOW.plus_millis(-300 * DAY.cast_signed());
        let asked = Span::new(from, NOW).unwrap();
        let between = Window::of(Asked::Between(asked), &series, NOW);
        assert_eq!(between.span.start().as_millis() % DAY.cast_signed(), 23 * HOUR.cast_signed());
        assert!(between.span.start() <= from && between.span.end() >= NOW);
        let mut mixed = series;
        mixed.extend(born(OWN, 400 * DAY));
        assert_eq!(Window::of(Asked::Period(Period::Year), &mixed, NOW).days, None);
    }

    #[test]
    fn without_series_there_is_still_a_window() {
        let window = Window::of(Asked::Period(Period::Day), &[], NOW);
        assert_eq!(window.step.as_millis(), MINUTE);
    }

    #[test]
    fn the_consolidation_is_said_in_words() {
        for (period, text) in
            [(Period::Hour, "10\u{a0}s averages"), (Period::Year, "1\u{a0}day averages")]
        {
            let window = Window::of(Asked::Period(period), &born(OWN, 400 * DAY), NOW);
            assert_eq!(window.consolidation(), text);
        }
    }
}
