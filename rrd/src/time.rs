//! Moments, steps and spans: integer milliseconds, aligned to 1970 UTC.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};

/// A moment: whole milliseconds since 1970-01-01T00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest moment that can be named; used for "never".
    pub const MIN: Self = Self(i64::MIN);
    /// The latest moment that can be named; used for "for ever".
    pub const MAX: Self = Self(i64::MAX);

    /// The moment `millis` milliseconds after 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The moment `secs` seconds after 1970, saturating at the ends of time.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since 1970, with the milliseconds as decimals (the unit of Prometheus' API).
    #[expect(clippy::cast_precision_loss, reason = "exact for any moment within 285,000 years")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Which row of `step` ends at or after this moment, counted from 1970: rows cover (END - step, END].
    pub const fn row(self, step: Step) -> i64 {
        -(-self.0).div_euclid(step.0.get().cast_signed())
    }

    /// The END of row number `row` of `step`.
    pub const fn row_end(row: i64, step: Step) -> Self {
        Self(row.saturating_mul(step.0.get().cast_signed()))
    }

    /// The last boundary of `step` at or before this moment.
    #[must_use]
    pub const fn floor(self, step: Step) -> Self {
        let width = step.0.get().cast_signed();
        Self(self.0.div_euclid(width).saturating_mul(width))
    }

    /// The first boundary of `step` at or after this moment.
    #[must_use]
    pub const fn ceil(self, step: Step) -> Self {
        Self::row_end(self.row(step), step)
    }

    /// Milliseconds from `earlier` to this moment; negative when `earlier` is later.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment moved by `millis`, saturating.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Add<Step> for Timestamp {
    type Output = Self;
    fn add(self, step: Step) -> Self {
        self.plus_millis(step.0.get().cast_signed())
    }
}

impl Sub<Step> for Timestamp {
    type Output = Self;
    fn sub(self, step: Step) -> Self {
        self.plus_millis(-step.0.get().cast_signed())
    }
}

/// Milliseconds since 1970, as a bare number.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The width of a row: whole milliseconds, never zero, at most 100 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(NonZeroU64);

/// A century: longer rows are a mistake, and within it no sum of a moment and a step overflows.
const LONGEST_STEP_MS: u64 = 100 * 366 * 86_400_000;

impl Step {
    /// A step of `millis` milliseconds; `None` when zero or above 100 years.
    pub const fn from_millis(millis: u64) -> Option<Self> {
        match NonZeroU64::new(millis) {
            Some(n) if millis <= LONGEST_STEP_MS => Some(Self(n)),
            _ => None,
        }
    }

    /// A step of `secs` seconds; `None` when zero or above 100 years.
    pub const fn from_secs(secs: u64) -> Option<Self> {
        match secs.checked_mul(1000) {
            Some(millis) => Self::from_millis(millis),
            None => None,
        }
    }

    /// Milliseconds in the step.
    pub const fn as_millis(self) -> u64 {
        self.0.get()
    }

    /// Seconds in the step, with decimals.
    #[expect(clippy::cast_precision_loss, reason = "exact below 285,000 years")]
    pub fn as_secs_f64(self) -> f64 {
        self.0.get() as f64 / 1000.0
    }
}

/// The shortest exact spelling: `10s`, `5m`, `1h`, `1d`, `1500ms`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.get();
        for (unit, width) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if millis.is_multiple_of(width) {
                return write!(f, "{}{unit}", millis / width);
            }
        }
        write!(f, "{millis}ms")
    }
}

/// A stretch of time, open at its start and closed at its end, as rows are: (start, end].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    start: Timestamp,
    end: Timestamp,
}

impl Span {
    /// The span (start, end]; `None` when it would end before it starts.
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The moment just before the span.
    pub const fn start(self) -> Timestamp {
        self.start
    }

    /// The last moment of the span.
    pub const fn end(self) -> Timestamp {
        self.end
    }
}

/// Milliseconds in a written duration: a whole number and a unit of `ms s m h d w y`, or several
/// such parts (`1h30m`). `None` when it is not one, or overflows.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let width: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(width)?)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_covers_its_step_and_is_numbered_by_its_end() {
        let minute = Step::from_secs(60).unwrap();
        for (at, row) in [(0, 0), (1, 1), (59_999, 1), (60_000, 1), (60_001, 2), (-1, 0)] {
            assert_eq!(Timestamp::from_millis(at).row(minute), row, "at {at}");
        }
    }

    #[test]
    fn floor_and_ceil_meet_on_a_boundary() {
        let minute = Step::from_secs(60).unwrap();
        let boundary = Timestamp::from_secs(120);
        assert_eq!((boundary.floor(minute), boundary.ceil(minute)), (boundary, boundary));
        let inside = Timestamp::from_secs(121);
        assert_eq!(inside.floor(minute), boundary);
        assert_eq!(inside.ceil(minute), Timestamp::from_secs(180));
    }

    #[test]
    fn durations_are_read_as_prometheus_writes_them() {
        for (text, millis) in [("10s", Some(10_000)), ("1h30m", Some(5_400_000)), ("5ms", Some(5))]
        {
            assert_eq!(parse_duration_ms(text), millis, "{text}");
        }
        for bad in ["", "10", "s", "1x", "-1s", "99999999999999999999s", "99999999999999y"] {
            assert_eq!(parse_duration_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_step_prints_in_its_largest_whole_unit() {
        for (millis, text) in
            [(10_000, "10s"), (60_000, "1m"), (86_400_000, "1d"), (1500, "1500ms")]
        {
            assert_eq!(Step::from_millis(millis).unwrap().to_string(), text);
        }
    }
}
