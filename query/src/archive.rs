//! The choice of archives: which rows answer which of the asked moments.

use std::ops::Range;

use rrd::{ArchiveSpec, Step, Timestamp};

use crate::moments::Moments;
use crate::read::Series;

/// Consecutive asked moments (by index) that one archive answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) archive: usize,
    pub(crate) moments: Range<usize>,
}

/// Divides `moments` among the archives of `series`, oldest first.
///
/// Each moment goes to the finest archive that still holds all it looks back on: the row that ends
/// at or before it, or the window of `width_ms`. With `widest` the coarsest archive of at most that
/// step comes first. What no archive holds in full goes to the one that reaches back farthest.
pub(crate) fn stretches(
    series: &Series,
    moments: Moments,
    width_ms: Option<i64>,
    widest: Option<Step>,
) -> Vec<Stretch> {
    let preferred = widest
        .and_then(|widest| series.archives.iter().rposition(|shape| shape.step <= widest))
        .unwrap_or(0);
    let last = series.archives.len() - 1;
    let mut all = Vec::new();
    let mut end = moments.count();
    for (archive, shape) in series.archives.iter().enumerate().skip(preferred) {
        let begin = if archive == last {
            0
        } else {
            moments.before(earliest(series, *shape, width_ms)).min(end)
        };
        if begin < end {
            all.push(Stretch { archive, moments: begin..end });
        }
        end = begin;
    }
    all.reverse();
    all
}

/// The width of a window over rows of `step`: at least one row.
pub(crate) fn grown_ms(width_ms: i64, step: Step) -> i64 {
    width_ms.max(step.as_millis().cast_signed())
}

/// The moment after which the ring holds rows: START of its oldest.
pub(crate) fn oldest(series: &Series, shape: ArchiveSpec) -> Timestamp {
    let newest = shape.ended_row(series.newest);
    shape.row_end(newest.saturating_sub_unsigned(shape.row_count))
}

/// The first moment that the archive can answer without a loss.
fn earliest(series: &Series, shape: ArchiveSpec, width_ms: Option<i64>) -> Timestamp {
    let oldest = oldest(series, shape);
    if series.birth >= oldest {
        return Timestamp::MIN; // The whole life of the series is still in this ring.
    }
    match width_ms {
        Some(width_ms) => oldest.plus_millis(grown_ms(width_ms, shape.step)),
        None => shape.row_end(shape.ended_row(oldest).saturating_add(1)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rrd::{Column, InstanceId, Kind, Labels, SeriesRef};

    use super::*;
    use crate::Limits;
    use crate::moments::Range as Asked;

    /// Ten rows of a minute, ten of five: at minute 100 they reach back to minutes 90 and 50.
    fn series(birth_minute: i64) -> Series {
        let shape = |minutes: u64, row_count| {
            ArchiveSpec::even(Step::from_secs(60 * minutes).unwrap(), row_count)
        };
        Series {
            series: SeriesRef {
                instance: InstanceId(0),
                column: Column { index: 0, generation: 1 },
            },
            labels: Labels::default(),
            kind: Kind::Gauge,
            archives: Arc::new([shape(1, 10), shape(5, 10)]),
            newest: Timestamp::from_secs(60 * 100),
            visible_ms: None,
            birth: Timestamp::from_secs(60 * birth_minute),
        }
    }

    fn minutes(first: i64, last: i64) -> Moments {
        let range = Asked {
            start: Timestamp::from_secs(60 * first),
            end: Timestamp::from_secs(60 * last),
            step: Step::from_secs(60).unwrap(),
        };
        Moments::of(range, &Limits::default()).unwrap()
    }

    #[track_caller]
    fn check(found: &[Stretch], expected: &[(usize, Range<usize>)]) {
        let found: Vec<_> = found.iter().map(|s| (s.archive, s.moments.clone())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_moment_goes_to_the_finest_archive_that_holds_its_row() {
        check(&stretches(&series(0), minutes(80, 100), None, None), &[(1, 0..11), (0, 11..21)]);
        check(&stretches(&series(0), minutes(95, 100), None, None), &[(0, 0..6)]);
        check(&stretches(&series(0), minutes(10, 20), None, None), &[(1, 0..11)]);
    }

    #[test]
    fn a_window_must_lie_wholly_in_the_ring() {
        let three = Some(3 * 60_000);
        check(&stretches(&series(0), minutes(90, 100), three, None), &[(1, 0..3), (0, 3..11)]);
    }

    #[test]
    fn a_young_series_is_answered_from_its_finest_rows() {
        check(&stretches(&series(95), minutes(80, 100), Some(3_600_000), None), &[(0, 0..21)]);
    }

    #[test]
    fn coarse_rows_are_taken_when_asked_for() {
        let widest = Step::from_secs(300);
        check(&stretches(&series(0), minutes(95, 100), None, widest), &[(1, 0..6)]);
    }
}
