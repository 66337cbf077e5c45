//! Worked examples: the real rrdtool's answers, and the right ones where rrdtool errs.

use super::timeline::{Timeline, archives, definition, gauge, is_close};
use super::{Definition, Verdict};
use crate::{Kind, Timestamp};

const U: f64 = f64::NAN;
const NO: f64 = f64::NAN;
/// 2023-11-14 00:00 UTC: a boundary of every step used here.
const T: i64 = 1_699_920_000;

/// A series of one-minute steps that begins `start` seconds after T, its readings and rows relative to T.
#[track_caller]
fn check(definition: Definition, start: i64, readings: &[(i64, f64)], rows: &[(u64, i64, f64)]) {
    let mut widths: Vec<u64> = rows.iter().map(|&(per_row, ..)| per_row).collect();
    widths.sort_unstable();
    widths.dedup();
    widths.retain(|&per_row| per_row > 1);
    let begin = Timestamp::from_secs(T + start);
    let mut timeline = Timeline::begun(definition, archives(60_000, &widths), begin);
    for &(at, value) in readings {
        assert_eq!(timeline.at(T + at, value), Verdict::Stored, "at +{at}");
    }
    for &(per_row, end, want) in rows {
        let archive = widths.iter().position(|&width| width == per_row).map_or(0, |at| at + 1);
        let got = timeline.average(archive, Timestamp::from_secs(T + end), 0.5);
        assert!(is_close(got, want), "row of {per_row} ending +{end}: {got}, not {want}");
    }
}

#[test]
fn a_late_first_reading_covers_from_the_start() {
    let (readings, rows) = (
        [(100, 7.0), (120, 9.0), (180, 1.0)],
        [(1, 60, 7.0), (1, 120, 23.0 / 3.0), (1, 180, 1.0), (1, 240, NO)],
    );
    check(gauge(120), 0, &readings, &rows); // E1
}

#[test]
fn a_first_reading_beyond_the_heartbeat_covers_nothing() {
    let (readings, rows) = (
        [(130, 7.0), (180, 9.0), (240, 1.0)],
        [(1, 60, NO), (1, 120, NO), (1, 180, 9.0), (1, 240, 1.0), (1, 300, NO)],
    );
    check(gauge(120), 0, &readings, &rows); // E2
}

#[test]
fn a_gap_as_long_as_the_heartbeat_is_known_and_a_longer_one_is_not() {
    let (readings, rows) = (
        [(60, 1.0), (180, 5.0), (240, 2.0)],
        [(1, 60, 1.0), (1, 120, 5.0), (1, 180, 5.0), (1, 240, 2.0)],
    );
    check(gauge(120), 0, &readings, &rows); // E3
    let (readings, rows) = (
        [(60, 1.0), (181, 5.0), (240, 2.0)],
        [(1, 60, 1.0), (1, 120, NO), (1, 180, NO), (1, 240, 2.0)],
    );
    check(gauge(120), 0, &readings, &rows);
}

#[test]
fn one_reading_may_close_an_open_step_and_whole_ones() {
    let (readings, rows) = (
        [(40, 1.0), (225, 9.0), (300, 2.0)],
        [(1, 60, 11.0 / 3.0), (1, 120, 9.0), (1, 180, 9.0), (1, 240, 7.25), (1, 300, 2.0)],
    );
    check(gauge(300), 0, &readings, &rows); // E4
}

#[test]
fn readings_within_a_step_are_weighted_by_time() {
    let (readings, rows) =
        ([(10, 6.0), (25, 2.0), (60, 12.0), (90, 0.0), (120, 4.0)], [(1, 60, 8.5), (1, 120, 2.0)]);
    check(gauge(120), 0, &readings, &rows); // E5
}

#[test]
fn a_step_is_known_while_at_most_half_of_it_is_unknown() {
    check(gauge(120), 0, &[(10, 6.0), (40, U), (60, 12.0)], &[(1, 60, 10.0)]); // E6
    check(gauge(120), 0, &[(10, 6.0), (41, U), (60, 12.0)], &[(1, 60, NO)]);
    // Oddity u-closes-step: rrdtool does not count the unknown time that closes a step, and says 7.
    check(gauge(120), 0, &[(1, 7.0), (60, U)], &[(1, 60, NO)]);
    check(gauge(120), 0, &[(30, 7.0), (60, U)], &[(1, 60, 7.0)]);
}

#[test]
fn a_rate_outside_the_limits_is_unknown_and_not_clamped() {
    let limited = Definition { min: 0.0, max: 100.0, ..gauge(120) };
    let (readings, rows) = (
        [(60, 0.0), (120, 100.0), (180, -0.001), (240, 100.001), (300, 50.0)],
        [(1, 60, 0.0), (1, 120, 100.0), (1, 180, NO), (1, 240, NO), (1, 300, 50.0)],
    );
    check(limited, 0, &readings, &rows); // E7
}

#[test]
fn a_counter_wraps_exactly_at_32_and_64_bits() {
    // Oddities wrap32-off-by-one and wrap64-precision: rrdtool says 55/60 and 0.
    for edge in [4_294_967_290_i128, 18_446_744_073_709_551_610] {
        let begin = Timestamp::from_secs(T);
        let counter = definition(Kind::Counter, 120);
        let mut timeline = Timeline::begun(counter, archives(60_000, &[]), begin);
        for (at, count) in [(60, edge), (120, 50), (180, 110)] {
            timeline.read_whole(Timestamp::from_secs(T + at), count);
        }
        let row = |end| timeline.average(0, Timestamp::from_secs(T + end), 0.5);
        assert!(row(60).is_nan() && is_close(row(120), 56.0 / 60.0) && is_close(row(180), 1.0)); // E8
    }
}

#[test]
fn a_counter_that_is_reset_looks_wrapped_unless_a_limit_says_no() {
    let readings = [(60, 1000.0), (120, 1600.0), (180, 0.0), (240, 600.0)];
    let wrapped = (4_294_967_296.0 - 1600.0) / 60.0;
    let rows = [(1, 60, NO), (1, 120, 10.0), (1, 180, wrapped), (1, 240, 10.0)];
    check(definition(Kind::Counter, 120), 0, &readings, &rows); // E8
    let rows = [(1, 60, NO), (1, 120, 10.0), (1, 180, NO), (1, 240, 10.0)];
    let limited = Definition { min: 0.0, max: 1000.0, ..definition(Kind::Counter, 120) };
    check(limited, 0, &readings, &rows);
    // E9, and the Prometheus counter, which needs no limit to know a reset.
    let limited = Definition { min: 0.0, ..definition(Kind::Derive, 120) };
    check(limited, 0, &readings, &rows);
    check(definition(Kind::Total, 120), 0, &readings, &rows);
}

#[test]
fn a_decimal_counter_moves_away_from_zero() {
    let readings = [(60, 1000.0), (120, 1600.0), (180, 400.0), (240, 1000.0), (300, 0.0)];
    // rrdtool's rule: a fall to nought is no reset.
    let rows = [(1, 120, 10.0), (1, 180, NO), (1, 240, 10.0), (1, 300, -1000.0 / 60.0)];
    check(definition(Kind::DCounter, 120), 0, &readings, &rows);
    let (readings, rows) = (readings.map(|(at, v)| (at, -v)), rows.map(|(n, at, v)| (n, at, -v)));
    check(definition(Kind::DCounter, 120), 0, &readings, &rows);
}

#[test]
fn a_count_may_fall_through_zero() {
    // Oddity derive-across-zero: rrdtool says unknown where the sign changes.
    let (readings, rows) = (
        [(60, 400.0), (120, -200.0), (180, -800.0)],
        [(1, 60, NO), (1, 120, -10.0), (1, 180, -10.0)],
    );
    check(definition(Kind::Derive, 120), 0, &readings, &rows); // E9
    check(definition(Kind::DDerive, 120), 0, &readings, &rows);
}

#[test]
fn a_counter_loses_the_intervals_on_both_sides_of_a_marker() {
    let (readings, rows) = (
        [(60, 100.0), (120, 160.0), (180, U), (240, 280.0), (300, 340.0)],
        [(1, 60, NO), (1, 120, 1.0), (1, 180, NO), (1, 240, NO), (1, 300, 1.0)],
    );
    for kind in [Kind::Counter, Kind::Derive, Kind::Total, Kind::DDerive, Kind::DCounter] {
        check(definition(kind, 120), 0, &readings, &rows); // E9
    }
}

#[test]
fn an_absolute_reading_is_spread_over_the_time_since_the_last() {
    let (readings, rows) = (
        [(30, 60.0), (60, 60.0), (150, 90.0), (180, 0.0)],
        [(1, 60, 2.0), (1, 120, 1.0), (1, 180, 0.5)],
    );
    check(definition(Kind::Absolute, 120), 0, &readings, &rows); // E9
}

#[test]
fn a_row_is_known_while_at_most_its_share_of_steps_is_unknown() {
    let readings =
        [(60, 1.0), (120, U), (180, U), (240, 4.0), (300, 5.0), (360, U), (420, U), (480, U)];
    check(gauge(60), 0, &readings, &[(4, 240, 2.5), (4, 480, NO)]); // E10
}

#[test]
fn a_coarser_row_keeps_average_minimum_maximum_and_known_steps() {
    let begin = Timestamp::from_secs(T);
    let mut timeline = Timeline::begun(gauge(60), archives(60_000, &[5]), begin);
    for (at, value) in [(60, 10.0), (120, U), (180, 10.0), (240, 1000.0), (300, 8.0)] {
        timeline.at(T + at, value);
    }
    let row = *timeline.closed_row(1, Timestamp::from_secs(T + 300)).unwrap(); // E11
    assert!(is_close(row.average, 257.0));
    assert_eq!((row.min.to_bits(), row.max.to_bits()), (8_f64.to_bits(), 1000_f64.to_bits()));
    assert_eq!(row.known, 4);
}

#[test]
fn a_row_has_its_average_though_its_last_step_is_unknown() {
    check(gauge(60), 0, &[(60, 3.0), (120, U)], &[(2, 120, 3.0)]); // E12
}

#[test]
fn rows_end_on_multiples_of_their_step_whatever_the_start() {
    let minutes = |from: i64, to: i64| (from..=to).step_by(60);
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let readings: Vec<(i64, f64)> =
        minutes(-26_400, 3900).map(|at| (at, (at.div_euclid(60) + 441) as f64)).collect();
    let rows = [
        (1, 3660, 502.0),
        (1, 3780, 504.0),
        (5, 3300, 494.0),
        (5, 3900, 504.0),
        (60, -3600, 351.5),
        (60, 0, 411.5),
        (60, 3600, 471.5),
        (60, 7200, NO),
        // 440 of 1,440 steps: below the share that is shown here, though the average is kept.
        (1440, 0, NO),
    ];
    check(gauge(120), -26_434, &readings, &rows); // E13
}

#[test]
fn a_reading_that_is_not_after_the_last_changes_nothing() {
    let begin = Timestamp::from_secs(T);
    let mut timeline = Timeline::begun(gauge(120), archives(60_000, &[]), begin);
    timeline.at(T + 60, 1.0);
    timeline.at(T + 120, 2.0);
    let before = timeline.open.clone();
    assert_eq!(timeline.at(T + 90, 9.0), Verdict::Duplicate, "its step has a reading"); // E14
    assert_eq!(timeline.at(T + 120, 9.0), Verdict::Duplicate);
    assert_eq!(timeline.at(T - 60, 9.0), Verdict::Late);
    assert_eq!(timeline.at(T + 30, U), Verdict::Duplicate, "an old marker ends nothing");
    assert_eq!(timeline.open, before);
}

#[test]
fn one_reading_fills_many_rows_and_a_gap_leaves_them_unknown() {
    let (readings, rows) = (
        [(60, 1.0), (130, 4.0), (1500, 8.0), (1800, 2.0)],
        [(5, 300, 17.0 / 3.0), (5, 600, 8.0), (5, 900, 8.0), (5, 1500, 8.0), (5, 1800, 2.0)],
    );
    check(gauge(3600), 0, &readings, &rows); // E16
    let readings = [60, 120, 180].map(|at| (at, 1.0)).into_iter();
    let later = [960, 1020, 1080, 1140, 1200].map(|at| (at, 9.0));
    let readings: Vec<(i64, f64)> = readings.chain(later).collect();
    let rows = [(5, 300, 1.0), (5, 600, NO), (5, 900, NO), (5, 1200, 9.0)];
    check(gauge(120), 0, &readings, &rows);
}

#[test]
fn a_gap_longer_than_the_ring_puts_every_row_in_its_place() {
    // Oddity ring-gap-misplaced-row: rrdtool shows the row of +300 at +3000.
    let (readings, rows) = (
        [(60, 1.0), (120, 2.0), (180, 3.0), (3630, 77.0)],
        [(5, 300, 32.0), (5, 3000, 77.0), (5, 3300, 77.0), (5, 3600, 77.0), (5, 3900, NO)],
    );
    check(gauge(7200), 0, &readings, &rows); // E18
}

#[test]
fn milliseconds_of_unknown_time_are_counted() {
    // Oddity subsecond-floor: rrdtool drops the fractions of unknown seconds.
    let begin = Timestamp::from_secs(T);
    let mut timeline = Timeline::begun(gauge(120), archives(1000, &[]), begin);
    let mut read = |ms: i64, value| timeline.read(begin.plus_millis(ms), value);
    for (ms, value) in [(200, U), (400, 1.0), (701, U), (1000, 5.0), (1499, U), (2000, 3.0)] {
        read(ms, value);
    }
    let row = |end_ms| timeline.average(0, begin.plus_millis(end_ms), 0.5);
    assert!(row(1000).is_nan(), "501 ms of 1000 are unknown");
    assert!(is_close(row(2000), 3.0), "499 ms of 1000 are unknown");
}
