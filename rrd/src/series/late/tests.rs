//! Late readings as timelines: what fills, what splits, and what becomes of the rows above.

use super::*;
use crate::series::timeline::{Timeline, archives, definition, gauge};

const U: f64 = f64::NAN;

fn minutes(definition: Definition) -> Timeline {
    Timeline::unborn(definition, archives(60_000, &[5]))
}

/// The value of the open step once it is closed by the last reading again, held to its end.
#[track_caller]
fn step_is(series: &mut Timeline, end: i64, want: f64) {
    series.at(end, 8.0);
    let got = series.averages(0).into_iter().find(|&(at, _)| at == end).unwrap().1;
    assert!((got - want).abs() < 1e-12, "{got}, not {want}");
}

#[test]
fn a_reading_between_the_last_two_splits_what_the_last_one_covers() {
    // Seconds and values in the minute after 600, the late one, and the mean with 8 for the last ten.
    for (readings, late, want) in [
        (vec![(50, 4.0)], (20, 1.0), (20.0 + 30.0 * 4.0 + 80.0) / 60.0),
        (vec![(10, 2.0), (50, 4.0)], (20, 1.0), (20.0 + 10.0 + 30.0 * 4.0 + 80.0) / 60.0),
        (vec![(10, f64::NAN), (50, 4.0)], (20, 1.0), (10.0 + 30.0 * 4.0 + 80.0) / 50.0),
        (vec![(50, f64::NAN)], (20, 1.0), (20.0 + 80.0) / 30.0),
        (vec![(50, f64::INFINITY)], (20, 1.0), f64::INFINITY),
    ] {
        let mut series = minutes(gauge(300));
        series.at(600, 7.0);
        for &(at, value) in &readings {
            series.at(600 + at, value);
        }
        assert_eq!(series.at(600 + late.0, late.1), Verdict::Stored, "{readings:?}");
        if want.is_infinite() {
            series.at(660, 8.0);
            assert!(series.averages(0).last().unwrap().1.is_infinite());
        } else {
            step_is(&mut series, 660, want);
        }
        assert_eq!(series.averages(0)[0], (600, 7.0), "a closed step stays");
    }
}

#[test]
fn a_second_reading_between_the_last_two_splits_the_rest_and_an_earlier_one_nothing() {
    let mut series = minutes(gauge(300));
    series.at(600, 7.0);
    series.at(650, 4.0);
    for (at, verdict) in [
        (620, Verdict::Stored),
        (630, Verdict::Stored),
        (620, Verdict::Duplicate),
        (610, Verdict::Duplicate),
        (650, Verdict::Duplicate),
    ] {
        assert_eq!(series.at(at, 1.0), verdict, "at {at}");
    }
    step_is(&mut series, 660, (30.0 + 20.0 * 4.0 + 80.0) / 60.0);
}

#[test]
fn a_split_interval_longer_than_the_heartbeat_is_known_as_far_as_its_parts_are() {
    let mut series = minutes(gauge(20));
    series.at(600, 7.0);
    series.at(645, 4.0); // 45 s unknown.
    assert_eq!(series.at(635, 1.0), Verdict::Stored); // 35 s unknown, 10 s at 4.
    series.at(660, 8.0);
    assert!(series.averages(0)[1].1.is_nan(), "35 s of the minute are unknown");
    let mut series = minutes(gauge(20));
    series.at(600, 7.0);
    series.at(640, 4.0);
    assert_eq!(series.at(625, 1.0), Verdict::Stored); // 25 s unknown, then 15 s at 4.
    step_is(&mut series, 660, (15.0 * 4.0 + 20.0 * 8.0) / 35.0);
}

#[test]
fn what_cannot_be_a_value_splits_nothing() {
    let limited = Definition { max: 5.0, ..gauge(300) };
    for (definition, value, verdict) in [
        (limited, 6.0, Verdict::Duplicate),
        (limited, f64::NAN, Verdict::Duplicate),
        (limited, 5.0, Verdict::Stored),
        (definition(Kind::Total, 300), 1.0, Verdict::Duplicate),
        (definition(Kind::Absolute, 300), 1.0, Verdict::Duplicate),
    ] {
        let mut series = minutes(definition);
        series.at(600, 1.0);
        series.at(650, 2.0);
        let before = series.open.clone();
        assert_eq!(series.at(620, value), verdict, "{value} of {definition:?}");
        assert_eq!(series.open == before, verdict == Verdict::Duplicate);
    }
}

#[test]
fn a_reading_long_after_the_one_before_is_not_split() {
    let mut series = minutes(gauge(100_000));
    series.at(600, 1.0);
    series.at(600 + 16_778, 2.0); // More milliseconds than a record keeps.
    assert_eq!(series.at(600 + 16_770, 3.0), Verdict::Duplicate);
    let mut series = minutes(gauge(100_000));
    series.at(600, 1.0);
    series.at(600 + 16_777, 2.0);
    assert_eq!(series.at(600 + 16_770, 3.0), Verdict::Stored);
}

#[test]
fn the_touched_bit_alone_decides_within_the_last_128_steps_of_the_ring() {
    let reach = |birth_row, row_count| Reach { birth_row, newest_row: 1000, row_count };
    let mut head = Head::unborn(1, 0);
    head.touched.mark(1000 + 1 - 950);
    let step = Step::from_secs(1).unwrap();
    for (row, value, reach, want) in [
        (1000, 1.0, reach(0, 2880), Late::Fills(1000)),
        (950, 1.0, reach(0, 2880), Late::Duplicate),
        (951, f64::NAN, reach(0, 2880), Late::Ignored),
        (874, 1.0, reach(0, 2880), Late::Fills(874)),
        (873, 1.0, reach(0, 2880), Late::Ignored),
        (1001, 1.0, reach(0, 2880), Late::Ignored),
        (981, 1.0, reach(0, 20), Late::Fills(981)),
        (980, 1.0, reach(0, 20), Late::Ignored),
        (901, 1.0, reach(900, 2880), Late::Fills(901)),
        (900, 1.0, reach(900, 2880), Late::Ignored),
    ] {
        let at = Timestamp::from_millis(row * 1000 - 1);
        assert_eq!(head.late(&gauge(60), reach, step, (at, value)), want, "row {row}, {value}");
    }
    let counter = definition(Kind::Total, 60);
    let at = Timestamp::from_secs(960);
    assert_eq!(head.late(&counter, reach(0, 2880), step, (at, 1.0)), Late::Ignored);
    let limited = Definition { min: 2.0, ..gauge(60) };
    assert_eq!(head.late(&limited, reach(0, 2880), step, (at, 1.0)), Late::Ignored);
}

#[test]
fn a_row_is_put_together_anew_only_where_late_readings_may_fill_all_its_steps() {
    let reach = Reach { birth_row: 902, newest_row: 1000, row_count: 95 };
    assert_eq!(reach.oldest(), 906);
    for (row, per_row, want) in [
        (200, 5, Some((996, 1000))),
        (201, 5, Some((1001, 1000))),
        (182, 5, Some((906, 910))),
        (181, 5, None),
        (17, 60, Some((961, 1000))),
        (15, 60, None),
    ] {
        assert_eq!(reach.steps(row, RowWidth::Even(per_row)), want, "row {row} of {per_row}");
    }
    let young = Reach { birth_row: 902, newest_row: 1000, row_count: 2880 };
    assert_eq!(
        young.steps(15 + 1, RowWidth::Even(60)),
        Some((903, 960)),
        "nothing is before its birth"
    );
}

#[test]
fn a_closed_row_follows_a_step_that_has_another_value() {
    let row = Run {
        archive: 1,
        first_row: 9,
        count: 1,
        average: 4.0,
        min: 1.0,
        max: 9.0,
        last: 9.0,
        known: 4,
        reset: false,
    };
    let none = Run { average: U, min: U, max: U, last: U, known: 0, ..row };
    let endless = Run { average: f64::INFINITY, max: f64::INFINITY, ..row };
    // Before, the change, all steps where they are known; average, min, max, last, known.
    for (before, change, steps, want) in [
        (row, (U, 14.0), None, (6.0, 1.0, 14.0, 9.0, 5)),
        (row, (9.0, 5.0), None, (3.0, 1.0, 9.0, 9.0, 4)),
        (row, (9.0, 5.0), Some(vec![1.0, U, 3.0, 3.0, 5.0]), (3.0, 1.0, 5.0, 9.0, 4)),
        (none, (U, 2.0), None, (2.0, 2.0, 2.0, U, 1)),
        (none, (U, 2.0), Some(vec![U, U, 2.0]), (2.0, 2.0, 2.0, U, 1)),
        (endless, (f64::INFINITY, 2.0), None, (f64::INFINITY, 1.0, f64::INFINITY, 9.0, 4)),
        (endless, (f64::INFINITY, 2.0), Some(vec![2.0, 4.0]), (3.0, 2.0, 4.0, 9.0, 2)),
    ] {
        let (old, new) = change;
        let change = Change { old, new, is_newest: false };
        let got = before.replaced(change, steps.as_deref(), Cell::F64);
        let shown = format!("{:?}", (got.average, got.min, got.max, got.last, got.known));
        assert_eq!(shown, format!("{want:?}"), "{change:?}");
        let newest = before.replaced(Change { is_newest: true, ..change }, None, Cell::F64);
        assert_eq!(newest.last.to_bits(), new.to_bits());
    }
}
