//! The moments a query asks about: one, or evenly spaced ones.

use rrd::{Step, Timestamp};

use crate::{Error, Limits};

/// The span and spacing of a range query: start, start + step, ... up to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first moment.
    pub start: Timestamp,
    /// No moment is later than this.
    pub end: Timestamp,
    /// From one moment to the next.
    pub step: Step,
}

/// `count` moments, `stride_ms` apart; the stride of a single one is 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    first: Timestamp,
    stride_ms: i64,
    count: usize,
}

impl Moments {
    pub(crate) const fn one(at: Timestamp) -> Self {
        Self { first: at, stride_ms: 0, count: 1 }
    }

    pub(crate) fn of(range: Range, limits: &Limits) -> Result<Self, Error> {
        if range.end < range.start {
            return Err(Error::Execution(
                "the end of the range is before its start; exchange them".to_owned(),
            ));
        }
        let stride_ms = range.step.as_millis().cast_signed();
        let gaps = usize::try_from(range.end.millis_since(range.start) / stride_ms);
        match gaps {
            Ok(gaps) if gaps < limits.points_per_line => {
                Ok(Self { first: range.start, stride_ms, count: gaps + 1 })
            }
            _ => Err(Error::Limit(format!(
                "exceeded maximum resolution of {} points per timeseries; ask for a longer step",
                limits.points_per_line
            ))),
        }
    }

    /// `count` moments, `step` apart.
    pub(crate) fn spaced(first: Timestamp, step: Step, count: usize) -> Self {
        Self { first, stride_ms: step.as_millis().cast_signed(), count }
    }

    /// A single moment as often as asked for; more than one as they are.
    pub(crate) const fn repeated(self, count: usize) -> Self {
        if self.count == 1 { Self { count, stride_ms: 0, ..self } } else { self }
    }

    /// All of these, `millis` earlier.
    pub(crate) const fn earlier(self, millis: i64) -> Self {
        Self { first: self.first.plus_millis(millis.saturating_neg()), ..self }
    }

    pub(crate) const fn count(self) -> usize {
        self.count
    }

    pub(crate) const fn stride_ms(self) -> i64 {
        self.stride_ms
    }

    pub(crate) const fn first(self) -> Timestamp {
        self.first
    }

    pub(crate) fn last(self) -> Timestamp {
        self.at(self.count - 1)
    }

    pub(crate) fn at(self, index: usize) -> Timestamp {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        self.first.plus_millis(self.stride_ms.saturating_mul(index))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Timestamp> {
        (0..self.count).map(move |index| self.at(index))
    }

    /// How many of these moments are earlier than `at`.
    pub(crate) fn before(self, at: Timestamp) -> usize {
        if at <= self.first {
            return 0;
        }
        if self.stride_ms == 0 {
            return self.count;
        }
        let gap = at.millis_since(self.first);
        let whole = usize::try_from((gap - 1) / self.stride_ms).unwrap_or(usize::MAX);
        whole.saturating_add(1).min(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: i64) -> Moments {
        let range = Range {
            start: Timestamp::from_secs(0),
            end: Timestamp::from_secs(60 * (count - 1)),
            step: Step::from_secs(60).unwrap(),
        };
        Moments::of(range, &Limits::default()).unwrap()
    }

    #[test]
    fn moments_before_a_time_are_counted_without_it() {
        for (at, expected) in
            [(-1, 0), (0, 0), (1, 1), (60, 1), (61, 2), (120, 2), (121, 3), (999, 3)]
        {
            assert_eq!(minutes(3).before(Timestamp::from_secs(at)), expected, "before {at}");
        }
    }

    #[test]
    fn a_range_over_the_limit_or_backwards_is_refused() {
        let range = |end| Range {
            start: Timestamp::from_secs(0),
            end: Timestamp::from_secs(end),
            step: Step::from_secs(1).unwrap(),
        };
        assert!(Moments::of(range(10_999), &Limits::default()).is_ok());
        assert!(matches!(Moments::of(range(11_000), &Limits::default()), Err(Error::Limit(_))));
        assert!(matches!(Moments::of(range(-1), &Limits::default()), Err(Error::Execution(_))));
    }
}
