//! Archives: which rows answer, and what coarse rows make of a function.

use query::{Options, Value};
use rrd::{Labels, Step, Timestamp};

use crate::story::{Story, load, written};

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

/// What a range answers, and what each of its moments answers alone: labels, minute and value.
fn both(story: &Story, (first, last, step): (i64, i64, u64), expr: &str) -> [Vec<String>; 2] {
    let shown = |labels: &Labels, at: Timestamp, value: f64| {
        format!("{labels} {} {:016x}", at.as_millis() / 60_000, value.to_bits())
    };
    let range = story.try_range((first, last, step), expr, Options::default()).unwrap();
    let Value::Matrix(lines) = range.value else { panic!("{expr} is no matrix") };
    let line = |line: &query::Line| -> Vec<String> {
        line.points.iter().map(|(at, value)| shown(&line.labels, *at, *value)).collect()
    };
    let mut together: Vec<String> = lines.iter().flat_map(line).collect();
    let mut alone = Vec::new();
    for minute in (first..=last).step_by(usize::try_from(step).unwrap()) {
        let Value::Vector(points) = story.answer(expr, minute).value else { panic!("{expr}") };
        alone.extend(points.iter().map(|p| shown(&p.labels, p.at, p.value)));
    }
    together.sort_unstable();
    alone.sort_unstable();
    [together, alone]
}

#[test]
fn each_moment_of_a_range_answers_what_it_does_alone() {
    let story = load(
        "archives 1m:20,5m:100\n\
         visible 7m\n\
         a{n=\"1\"} 0+1x57\n\
         visible ended\n\
         a{n=\"2\"} 5 _ 7x9 _x4 3+0.1x25\n\
         visible 4m\n\
         start 41m\n\
         a{n=\"3\"} 1 2 _ 4+1x12\n\
         start 56m\n\
         a{n=\"4\"} 0.1 0.2\n\
         start 62m\n\
         a{n=\"5\"} -1 -2",
    );
    for expr in ["a", "sum(a)", "avg by (n) (a)", "count(a)", "max(a)", "timestamp(a)", "absent(a)"]
    {
        for step in [1, 2, 3, 5, 7, 10, 15, 40] {
            for first in [-2, 0, 38, 39, 40, 41, 42, 43, 44, 57] {
                let [together, alone] = both(&story, (first, 70, step), expr);
                assert_eq!(together, alone, "{expr} from {first}m, each {step}m");
            }
        }
    }
}
