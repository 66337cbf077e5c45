//! Operators and aggregations: which elements meet, and what becomes of their labels.

use crate::story::load;

const ERRORS: &str = "\
errors{method=\"get\",code=\"500\"} 24
errors{method=\"get\",code=\"404\"} 30
errors{method=\"put\",code=\"501\"} 3
errors{method=\"post\",code=\"500\"} 6
requests{method=\"get\"} 600
requests{method=\"del\"} 34
requests{method=\"post\"} 120";

#[test]
fn numbers_compute_and_compare() {
    let story = load("a 1");
    for (expr, expected) in [
        ("7 % 4", "3"),
        ("2 ^ 3 ^ 2", "512"),
        ("1 / 0", "inf"),
        ("1 < bool 2", "1"),
        ("1 > bool 2", "0"),
        ("1 == bool 1", "1"),
        ("1 != bool NaN", "1"),
    ] {
        story.at(0, expr, expected);
    }
}

#[test]
fn a_vector_and_a_number_keep_the_name_only_when_filtering() {
    let story = load("a{x=\"1\"} 1\na{x=\"2\"} 2");
    for (expr, expected) in [
        ("a + 1", "{x=\"1\"} 2; {x=\"2\"} 3"),
        ("1 - a", "{x=\"1\"} 0; {x=\"2\"} -1"),
        ("a > 1", "a{x=\"2\"} 2"),
        ("1 < a", "a{x=\"2\"} 2"),
        ("a > bool 1", "{x=\"1\"} 0; {x=\"2\"} 1"),
        ("a > 5", ""),
    ] {
        story.at(0, expr, expected);
    }
}

/// The examples of Prometheus' documentation.
#[test]
fn vectors_meet_by_their_labels() {
    let story = load(ERRORS);
    for (expr, expected) in [
        (
            "errors{code=\"500\"} / ignoring(code) requests",
            "{method=\"get\"} 0.04; {method=\"post\"} 0.05",
        ),
        (
            "errors / ignoring(code) group_left requests",
            "{code=\"500\",method=\"get\"} 0.04; {code=\"404\",method=\"get\"} 0.05; {code=\"500\",method=\"post\"} 0.05",
        ),
        (
            "requests / on(method) group_right errors",
            "{code=\"500\",method=\"get\"} 25; {code=\"404\",method=\"get\"} 20; {code=\"500\",method=\"post\"} 20",
        ),
        (
            "requests * on(method) requests",
            "{method=\"get\"} 360000; {method=\"del\"} 1156; {method=\"post\"} 14400",
        ),
        (
            "errors and on(method) requests > 5",
            "errors{code=\"500\",method=\"get\"} 24; errors{code=\"404\",method=\"get\"} 30; errors{code=\"500\",method=\"post\"} 6",
        ),
        ("errors unless on(method) requests", "errors{code=\"501\",method=\"put\"} 3"),
        (
            "errors{code=\"501\"} or requests{method=\"del\"}",
            "errors{code=\"501\",method=\"put\"} 3; requests{method=\"del\"} 34",
        ),
        ("errors{code=\"500\"} > ignoring(code) requests / 21", "errors{method=\"post\"} 6"),
        (
            "errors{code=\"500\"} > bool ignoring(code) requests / 21",
            "{method=\"get\"} 0; {method=\"post\"} 1",
        ),
        (
            "requests < on(method) group_right errors * 25",
            "{code=\"404\",method=\"get\"} 600; {code=\"500\",method=\"post\"} 120",
        ),
    ] {
        story.at(0, expr, expected);
    }
}

#[test]
fn group_left_takes_labels_from_the_one_side() {
    let story =
        load("a{i=\"1\"} 5\na{i=\"2\"} 6\ninfo{i=\"1\",v=\"x\"} 1\ninfo{i=\"2\",v=\"y\"} 1");
    story.at(0, "a * on(i) group_left(v) info", "{i=\"1\",v=\"x\"} 5; {i=\"2\",v=\"y\"} 6");
}

#[test]
fn a_label_that_moves_to_another_value_does_not_disturb_a_range() {
    let story = load("a 5 6 7\ninfo{v=\"x\"} 1 _ _\ninfo{v=\"y\"} _ 1 1");
    story.range(0, 2, "a * on() group_left(v) info", "{v=\"x\"} 0:5; {v=\"y\"} 1:6 2:7");
    story.range(0, 2, "a * on() info", "{} 0:5 1:6 2:7");
}

#[test]
fn ambiguous_matches_fail_as_in_prometheus() {
    let story = load(ERRORS);
    story.fails(0, "requests / ignoring(code) errors", "found duplicate series for the match group {method=\"get\"} on the right hand-side of the operation");
    story.fails(
        0,
        "errors / ignoring(code) requests",
        "many-to-one matching must be explicit (group_left/group_right)",
    );
    story.fails(
        0,
        "errors * ignoring(code) group_left(code) requests",
        "grouping labels must ensure unique matches",
    );
}

#[test]
fn set_operators_look_at_each_moment() {
    let story = load("visible ended\na 1 _ 1 1\nb 2 2 _ 2");
    story.range(0, 3, "a and on() b", "a 0:1 3:1");
    story.range(0, 3, "a or on() b", "a 0:1 2:1 3:1; b 1:2");
    story.range(0, 3, "a unless on() b", "a 2:1");
}

#[test]
fn groups_come_to_one_value() {
    let story = load("a{z=\"e\",i=\"1\"} 1\na{z=\"e\",i=\"2\"} 3\na{z=\"w\",i=\"3\"} 5");
    for (expr, expected) in [
        ("sum(a)", "{} 9"),
        ("sum by (z) (a)", "{z=\"e\"} 4; {z=\"w\"} 5"),
        ("sum without (i) (a)", "{z=\"e\"} 4; {z=\"w\"} 5"),
        ("sum without () (a)", "{i=\"1\",z=\"e\"} 1; {i=\"2\",z=\"e\"} 3; {i=\"3\",z=\"w\"} 5"),
        ("avg(a) by (z)", "{z=\"e\"} 2; {z=\"w\"} 5"),
        ("min(a)", "{} 1"),
        ("max(a)", "{} 5"),
        ("count(a)", "{} 3"),
        ("group(a)", "{} 1"),
        ("stddev by (z) (a)", "{z=\"e\"} 1; {z=\"w\"} 0"),
        ("stdvar(a)", "{} 2.666666667"),
        ("quantile(0.5, a)", "{} 3"),
        ("quantile by (z) (0.75, a)", "{z=\"e\"} 2.5; {z=\"w\"} 5"),
        ("sum by (nothing) (a)", "{} 9"),
        ("sum(nothing)", ""),
        ("count(a > 2) by (z) / count(a) by (z)", "{z=\"e\"} 0.5; {z=\"w\"} 1"),
    ] {
        story.at(0, expr, expected);
    }
}

#[test]
fn the_most_extreme_stay_as_they_are() {
    let story = load("a{i=\"1\"} 1 9\na{i=\"2\"} 3 3\na{i=\"3\"} 2 1");
    story.at(0, "topk(2, a)", "a{i=\"2\"} 3; a{i=\"3\"} 2");
    story.at(0, "bottomk(1, a)", "a{i=\"1\"} 1");
    story.at(0, "topk(0, a)", "").at(0, "topk(9, a) > 2", "a{i=\"2\"} 3");
    story.range(0, 1, "topk(1, a)", "a{i=\"1\"} 1:9; a{i=\"2\"} 0:3");
}

#[test]
fn computed_nan_is_a_value() {
    let story = load("a{i=\"1\"} 0\na{i=\"2\"} 4");
    story.at(0, "a / 0", "{i=\"1\"} NaN; {i=\"2\"} inf");
    story.at(0, "sum(a / 0)", "{} NaN").at(0, "max(a / 0)", "{} inf");
    story.at(0, "count(a / 0)", "{} 2").at(0, "a / 0 > 0", "{i=\"2\"} inf");
    story.at(0, "topk(1, a / 0)", "{i=\"2\"} inf");
}
