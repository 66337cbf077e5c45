//! Functions: of windows over gauges as Prometheus computes them, of values, of labels.

use crate::story::load;

#[test]
fn windows_over_gauges() {
    let story = load("a 0 10 5 _ 20 20 30");
    for (minute, expr, expected) in [
        (6, "avg_over_time(a[3m])", "{} 23.333333333"),
        (4, "avg_over_time(a[3m])", "{} 12.5"),
        (6, "min_over_time(a[6m])", "{} 5"),
        (6, "max_over_time(a[6m])", "{} 30"),
        (6, "sum_over_time(a[6m])", "{} 85"),
        (6, "count_over_time(a[6m])", "{} 5"),
        (3, "last_over_time(a[2m])", "a 5"),
        (3, "present_over_time(a[1m])", ""),
        (3, "present_over_time(a[2m])", "{} 1"),
        (6, "changes(a[7m])", "{} 4"),
        (6, "resets(a[7m])", "{} 1"),
        (6, "idelta(a[3m])", "{} 10"),
    ] {
        story.at(minute, expr, expected);
    }
}

/// The figures are those of Prometheus' own extrapolation: 5 samples a minute apart, rising by 10.
#[test]
fn rates_of_gauges_reach_for_the_edges_of_the_window() {
    let story = load("a 0+10x10");
    story.at(10, "rate(a[5m])", "{} 0.166666667");
    story.at(10, "increase(a[5m])", "{} 50");
    story.at(10, "delta(a[5m])", "{} 50");
    story.at(10, "irate(a[5m])", "{} 0.166666667");
    story.at(0, "rate(a[5m])", "");
    // A counter is not extrapolated below zero; a gauge is.
    load("a 0 10 20").at(2, "increase(a[5m])", "{} 20").at(2, "delta(a[5m])", "{} 25");
    // A reset adds what was lost: 10 + 5 + 10 over four samples.
    load("a 0 10 5 15").at(3, "increase(a[4m])", "{} 25");
}

#[test]
fn values_map_to_values_and_lose_their_name() {
    let story = load("a{x=\"1\"} -2.5");
    for (expr, expected) in [
        ("abs(a)", "2.5"),
        ("ceil(a)", "-2"),
        ("floor(a)", "-3"),
        ("round(a)", "-2"),
        ("round(a, 5)", "0"),
        ("sgn(a)", "-1"),
        ("-a", "2.5"),
        ("clamp(a, -1, 1)", "-1"),
        ("clamp_min(a, 0)", "0"),
        ("clamp_max(a, -3)", "-3"),
        ("sqrt(a * -1.6)", "2"),
        ("exp(a * 0)", "1"),
        ("ln(a)", "NaN"),
        ("log2(a * -3.2)", "3"),
        ("log10(a * -40)", "2"),
    ] {
        story.at(0, expr, &format!("{{x=\"1\"}} {expected}"));
    }
    story.at(0, "clamp(a, 1, -1)", "");
}

#[test]
fn scalars_and_vectors_turn_into_each_other() {
    let story = load("a{x=\"1\"} 7 8\nb{x=\"1\"} 1\nb{x=\"2\"} 2");
    story.at(0, "scalar(a)", "7").at(0, "scalar(b)", "NaN").at(0, "scalar(nothing)", "NaN");
    story.at(0, "vector(3)", "{} 3").at(1, "vector(time())", "{} 60").at(0, "pi()", "3.141592654");
    story.at(0, "\"text\"", "\"text\"").at(0, "(1 + 2) * 3", "9").at(0, "-2 ^ 2", "-4");
    story.range(0, 1, "scalar(a) + 1", "{} 0:8 1:9");
}

#[test]
fn sort_orders_an_instant_answer() {
    let story = load("a{x=\"1\"} 2\na{x=\"2\"} NaN\na{x=\"3\"} 1\na{x=\"4\"} 3");
    story.at(0, "sort(a)", "a{x=\"3\"} 1; a{x=\"1\"} 2; a{x=\"4\"} 3");
    story.at(0, "sort_desc(a)", "a{x=\"4\"} 3; a{x=\"1\"} 2; a{x=\"3\"} 1");
    story.at(0, "sort(a - 2 > bool 0 or -a)", "{x=\"1\"} 0; {x=\"3\"} 0; {x=\"4\"} 1");
}

#[test]
fn label_replace_makes_a_label_of_another() {
    let story = load("a{host=\"web-1.eu\"} 1");
    let replace = |target: &str, replacement: &str, pattern: &str| {
        format!("label_replace(a, {target:?}, {replacement:?}, \"host\", {pattern:?})")
    };
    let check = |target, replacement, pattern, expected: &str| {
        story.at(0, &replace(target, replacement, pattern), expected);
    };
    check("zone", "$1", ".*\\\\.(.*)", "a{host=\"web-1.eu\"} 1");
    check("zone", "$1", "[^.]*.(.*)", "a{host=\"web-1.eu\",zone=\"eu\"} 1");
    check("zone", "${1}x$2$", "web-(.).(.*)", "a{host=\"web-1.eu\",zone=\"1xeu$\"} 1");
    check("host", "", ".*", "a 1");
    check("zone", "x", "nothing", "a{host=\"web-1.eu\"} 1");
    story.fails(0, &replace("zone", "x", "("), "invalid regular expression in label_replace()");
}

#[test]
fn a_function_that_leaves_two_series_alike_fails() {
    let story = load("a{x=\"1\"} 1\nb{x=\"1\"} 2");
    let same = "vector cannot contain metrics with the same labelset";
    story.fails(0, "abs({x=\"1\"})", same);
    story.at(0, "count({x=\"1\"})", "{} 2");
}
