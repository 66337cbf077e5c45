//! Where a count fell: which rows say so, and that no other series ever does.

use super::timeline::{Timeline, archives, definition};
use crate::{Kind, Timestamp};

const U: f64 = f64::NAN;

fn steps(kind: Kind) -> Timeline {
    // Steps of 10 s, rows of three and of six; longer than half a minute is a gap.
    Timeline::unborn(definition(kind, 30), archives(10_000, &[3, 6]))
}

/// Rows as `1 2 -! 3`: unknown is `-`, and a reset `!`.
fn shown(series: &Timeline, archive: usize) -> String {
    let step = series.archives[archive].step;
    let one = |row: i64| {
        let run = series.closed_row(archive, Timestamp::row_end(row, step)).unwrap();
        let value = if run.known == 0 { "-".to_owned() } else { run.average.to_string() };
        assert!(run.known == 0 || run.average.is_sign_positive(), "row {row}: {run:?}");
        format!("{value}{}", if run.reset { "!" } else { "" })
    };
    series.row_numbers(archive).into_iter().map(one).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(story: &str, readings: &[(i64, f64)], rows: [&str; 3]) {
    let mut series = steps(Kind::Total);
    for &(at, count) in readings {
        series.at(at, count);
        // As after a restart, at every moment.
        let mut bytes = vec![0; super::Open::encoded_len(2)];
        series.open.encode(&mut bytes);
        assert_eq!(super::Open::decode(&bytes).as_ref(), Ok(&series.open), "{story} at {at}");
    }
    for (archive, rows) in rows.into_iter().enumerate() {
        assert_eq!(shown(&series, archive), rows, "{story}, archive {archive}");
    }
}

#[test]
fn the_step_of_the_falling_reading_says_so_and_every_row_above_it() {
    check(
        "no reset",
        &[(10, 0.0), (20, 10.0), (30, 20.0), (40, 20.0), (50, 30.0), (60, 40.0)],
        ["- 1 1 0 1 1", "1 0.6666666666666666", "0.8"],
    );
    check(
        "at a boundary: the step that it closes",
        &[(10, 50.0), (20, 60.0), (30, 5.0), (40, 15.0), (50, 25.0), (60, 35.0)],
        ["- 1 -! 1 1 1", "1! 1", "1!"],
    );
    check(
        "in a step that stays known",
        &[(10, 50.0), (20, 60.0), (22, 5.0), (30, 13.0), (40, 23.0), (60, 43.0)],
        ["- 1 1! 1 1 1", "1! 1", "1!"],
    );
    check(
        "in a step of which too little is known",
        &[(10, 50.0), (20, 60.0), (26, 5.0), (30, 9.0), (40, 19.0), (60, 39.0)],
        ["- 1 -! 1 1 1", "1! 1", "1!"],
    );
    check(
        "between two readings in different steps: the step of the later one",
        &[(10, 50.0), (25, 65.0), (32, 5.0), (40, 13.0), (60, 33.0)],
        ["- 1 1 1! 1 1", "1 1!", "1!"],
    );
    check(
        "over several steps",
        &[(10, 50.0), (35, 5.0), (40, 10.0), (60, 30.0)],
        ["- - - 1! 1 1", "- 1!", "1!"],
    );
    check(
        "over several steps, at the boundary that ends the last",
        &[(10, 50.0), (40, 5.0), (60, 25.0)],
        ["- - - -! 1 1", "- 1!", "1!"],
    );
    check(
        "over several steps, at the boundary that ends all rows",
        &[(10, 50.0), (30, 70.0), (60, 5.0)],
        ["- 1 1 - - -!", "1 -!", "1!"],
    );
    check(
        "twice in a step, and in the next",
        &[(10, 9.0), (21, 8.0), (25, 7.0), (30, 12.0), (32, 5.0), (40, 13.0), (60, 33.0)],
        ["- - 1! 1! 1 1", "1! 1!", "1!"],
    );
}

#[test]
fn a_fall_is_noticed_across_a_gap_and_across_a_marker() {
    check(
        "a gap that ends inside a step",
        &[(10, 50.0), (20, 60.0), (72, 5.0), (80, 13.0)],
        ["- 1 - - - - - 1!", "1 -", "1"],
    );
    check(
        "a gap that ends at a boundary",
        &[(10, 50.0), (20, 60.0), (70, 5.0), (80, 15.0)],
        ["- 1 - - - - -! 1", "1 -", "1"],
    );
    check(
        "a gap without a fall",
        &[(10, 50.0), (20, 60.0), (70, 60.0), (80, 70.0)],
        ["- 1 - - - - - 1", "1 -", "1"],
    );
    check(
        "a marker, then less",
        &[(10, 50.0), (20, 60.0), (30, U), (40, 5.0), (50, 15.0)],
        ["- 1 - -! 1", "1", ""],
    );
    check(
        "two markers, then more, of which nobody knows the rate",
        &[(10, 50.0), (20, 60.0), (25, U), (30, U), (40, 65.0), (50, 75.0)],
        ["- 1 - - 1", "1", ""],
    );
}

#[test]
fn silence_keeps_what_fell() {
    let mut series = steps(Kind::Total);
    for (at, count) in [(10, 50.0), (20, 60.0), (28, 5.0)] {
        series.at(at, count);
    }
    series.silence(60);
    assert_eq!(shown(&series, 0), "- 1 -!");
    series.at(40, 17.0);
    assert_eq!((shown(&series, 0).as_str(), shown(&series, 1).as_str()), ("- 1 -! 1", "1!"));
}

#[test]
fn only_a_count_that_starts_anew_is_a_reset() {
    for kind in [
        Kind::Gauge,
        Kind::Counter,
        Kind::Derive,
        Kind::Absolute,
        Kind::DDerive,
        Kind::DCounter,
        Kind::Unknown,
    ] {
        let mut series = steps(kind);
        let falls = [(10, 9.0), (20, -8.0), (25, -0.0), (30, -1e9), (40, 1.0)];
        for (at, value) in falls.into_iter().chain([(50, -U), (60, -3.0), (120, -9.0)]) {
            series.at(at, value);
        }
        for archive in 0..3 {
            for end in (10..=120).step_by(10) {
                let row = series.closed_row(archive, Timestamp::from_secs(end));
                assert!(row.is_none_or(|row| !row.reset), "{kind:?}: {row:?}");
            }
        }
    }
}
