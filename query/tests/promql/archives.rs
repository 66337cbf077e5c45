//! Archives: which rows answer, and what coarse rows make of a function.

use query::Options;
use rrd::Step;

use crate::story::{load, written};

/// Ten minutes of fine rows, then hours of five-minute rows; 61 values, newest at minute 60.
const RINGS: &str = "archives 1m:10,5m:100\na 0+1x60";

#[track_caller]
fn steps(expr: &str, minute: i64, expected: &[u64]) {
    let answer = load(RINGS).answer(expr, minute);
    let found: Vec<_> = answer.resolutions.iter().map(|used| used.step).collect();
    let expected: Vec<_> = expected.iter().map(|m| Step::from_secs(60 * m).unwrap()).collect();
    assert_eq!(found, expected, "{expr} at {minute}m");
}

#[test]
fn the_finest_archive_that_reaches_back_answers() {
    steps("a", 60, &[1]);
    steps("a", 51, &[1]);
    steps("a", 50, &[5]);
    steps("a offset 30m", 60, &[5]);
    steps("a @ 600", 60, &[5]);
    steps("max_over_time(a[10m])", 60, &[1]);
    steps("max_over_time(a[11m])", 60, &[5]);
    steps("a + a offset 30m", 60, &[1, 5]);
    steps("1 + 1", 60, &[]);
}

#[test]
fn the_step_of_the_query_never_coarsens_it_unless_asked() {
    let story = load(RINGS);
    let fine = story.try_range((55, 60, 5), "a", Options::default()).unwrap();
    assert_eq!(written(&fine.value), "a 55:55 60:60");
    let coarse = story.try_range((55, 60, 5), "a", Options { coarse: true }).unwrap();
    assert_eq!(written(&coarse.value), "a 55:53 60:58");
    assert_eq!(coarse.resolutions[0].step, Step::from_secs(300).unwrap());
}

#[test]
fn one_range_may_be_answered_by_several_archives() {
    load(RINGS).range(48, 53, "a", "a 48:43 49:43 50:48 51:51 52:52 53:53");
}

#[test]
fn coarse_rows_keep_peaks_and_weigh_by_what_is_known() {
    let story = load("archives 1m:2,5m:100\nstart 1m\na 1 2 9 _ 4 10x4 _x9 1");
    for (expr, expected) in [
        ("max_over_time(a[10m] @ 600)", "{} 10"),
        ("min_over_time(a[10m] @ 600)", "{} 1"),
        ("count_over_time(a[10m] @ 600)", "{} 9"),
        ("sum_over_time(a[10m] @ 600)", "{} 66"),
        ("avg_over_time(a[10m] @ 600)", "{} 7.333333333"),
        ("last_over_time(a[10m] @ 600)", "a 10"),
        ("present_over_time(a[10m] @ 600)", "{} 1"),
        ("a @ 600", "a 10"),
        ("a @ 599", "a 4"),
    ] {
        story.at(20, expr, expected);
    }
}

#[test]
fn a_window_shorter_than_its_rows_grows_to_one_row_and_says_so() {
    let story = load(RINGS);
    story.at(20, "count_over_time(a[1m])", "{} 5");
    story.warns(20, "count_over_time(a[1m])", "widened to one row");
    assert!(story.answer("count_over_time(a[1m])", 60).warnings.is_empty());
}

#[test]
fn resets_and_changes_on_averages_carry_a_warning() {
    load(RINGS).warns(30, "changes(a[20m])", "changes looked at averages of 5m rows");
}

#[test]
fn a_young_series_is_answered_from_its_finest_rows_however_wide_the_window() {
    let story = load("archives 1m:10,5m:100\nstart 55m\na 1 2 3 4 5 6");
    story.at(60, "count_over_time(a[1d])", "{} 6");
    assert_eq!(story.answer("avg_over_time(a[1d])", 60).resolutions.len(), 1);
}
