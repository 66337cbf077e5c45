//! Subqueries: which moments they are evaluated at, and what functions make of them.

use crate::story::load;

/// One row a minute, minute by minute one more.
const RISING: &str = "a 0+1x60";

#[test]
fn a_subquery_is_evaluated_at_multiples_of_its_step_in_a_window_open_on_the_left() {
    let story = load(RISING);
    for (expr, expected) in [
        ("a[10m:5m]", "a 15:15 20:20"),
        ("a[10m:3m]", "a 12:12 15:15 18:18"),
        ("a[10m:7m]", "a 14:14"),
        ("a[5m:]", "a 16:16 17:17 18:18 19:19 20:20"),
        ("a[10m:5m] offset 1m", "a 10:10 15:15"),
        ("a[10m:5m] offset -2m", "a 15:15 20:20"),
        ("a[10m:5m] @ 1380", "a 15:15 20:20"),
        ("(a + 1)[5m:5m]", "{} 20:21"),
        ("vector(time() / 60)[3m:1m]", "{} 18:18 19:19 20:20"),
        ("nothing[5m:1m]", ""),
        ("a[1m:2h]", ""),
    ] {
        story.at(20, expr, expected);
    }
}

#[test]
fn functions_look_back_on_what_a_subquery_computed() {
    let story = load(RISING);
    for (expr, expected) in [
        ("avg_over_time(a[10m:5m])", "{} 17.5"),
        ("max_over_time((-a)[10m:1m])", "{} -11"),
        ("min_over_time((-a)[10m:1m])", "{} -20"),
        ("count_over_time(a[10m:1m])", "{} 10"),
        ("sum_over_time(a[3m:1m])", "{} 57"),
        ("sum_over_time(a[3m:30s])", "{} 111"),
        ("last_over_time(a[3m:2m])", "a 20"),
        ("max_over_time(rate(a[2m])[10m:1m]) * 60", "{} 1"),
        ("rate(a[10m:5m])", "{} 0.016666667"),
        ("deriv(a[10m:1m]) * 60", "{} 1"),
        ("quantile_over_time(0.5, a[5m:1m])", "{} 18"),
        ("sum_over_time(sum_over_time(a[2m:1m])[2m:1m])", "{} 76"),
        ("absent_over_time(a[5m:1m])", ""),
        ("absent_over_time(nothing[5m:1m])", "{} 1"),
        ("stddev_over_time(a[4m:1m])", "{} 1.118033989"),
        ("changes((a > 15)[10m:1m])", "{} 4"),
    ] {
        story.at(20, expr, expected);
    }
}

#[test]
fn a_computed_nan_is_a_value_of_a_subquery_and_an_absence_is_none() {
    let story = load("a 0 1 0 _ 0");
    story.at(4, "count_over_time((a / a)[5m:1m])", "{} 4");
    story.at(4, "max_over_time((a / a)[5m:1m])", "{} 1");
    story.at(4, "sum_over_time((a / a)[5m:1m])", "{} NaN");
    // NaN, 1, NaN, NaN: from NaN to NaN nothing changes.
    story.at(4, "changes((a / a)[5m:1m])", "{} 2");
}

#[test]
fn a_range_asks_each_subquery_once_and_start_and_end_are_those_of_the_query() {
    let story = load(RISING);
    story.range(10, 12, "sum_over_time(a[2m:1m])", "{} 10:19 11:21 12:23");
    story.range(10, 12, "max_over_time(a[3m:1m] @ end())", "{} 10:12 11:12 12:12");
    story.range(10, 12, "max_over_time((a @ start())[3m:1m])", "{} 10:10 11:10 12:10");
    story.range(10, 12, "count_over_time(a[5m:5m])", "{} 10:1 11:1 12:1");
}

#[test]
fn archives_are_chosen_for_the_moments_of_the_subquery() {
    let story = load("archives 1m:10,5m:100\na 0+1x60");
    // Rows of five minutes are averages: at 50 minutes 48, at 40 minutes 38.
    story.at(60, "(a offset 10m)[11m:10m]", "a 50:38 60:48");
    let used = story.answer("max_over_time(a[20m:10m])", 60).resolutions;
    assert_eq!(used.len(), 2, "{used:?}");
}
