//! Histograms of buckets, values counted, labels joined and sorted, dates.

use crate::story::load;

/// The buckets of Prometheus' own test of quantiles.
const BUCKETS: &str = "\
h_bucket{le=\"0.1\",start=\"positive\"} 50
h_bucket{le=\".2\",start=\"positive\"} 70
h_bucket{le=\"1e0\",start=\"positive\"} 110
h_bucket{le=\"+Inf\",start=\"positive\"} 120
h_bucket{le=\"-.2\",start=\"negative\"} 10
h_bucket{le=\"-0.1\",start=\"negative\"} 20
h_bucket{le=\"0.3\",start=\"negative\"} 20
h_bucket{le=\"Inf\",start=\"negative\"} 30";

#[test]
fn quantiles_of_buckets() {
    let story = load(BUCKETS);
    for (share, positive, negative) in [
        ("0", "0", "-0.2"),
        ("0.2", "0.048", "-0.2"),
        ("0.5", "0.15", "-0.15"),
        ("0.8", "0.72", "0.3"),
        ("1", "1", "0.3"),
        ("-1", "-inf", "-inf"),
        ("1.01", "inf", "inf"),
        ("NaN", "NaN", "NaN"),
    ] {
        let expected =
            format!("{{start=\"positive\"}} {positive}; {{start=\"negative\"}} {negative}");
        story.at(0, &format!("histogram_quantile({share}, h_bucket)"), &expected);
    }
    // Buckets of one bound count together: 80, 90, 130, 150 up to 0.1, 0.2, 1 and beyond, among others.
    story.at(
        0,
        "histogram_quantile(0.5, sum by (le) (h_bucket{le=~\"0.1|.2|1e0|.Inf\"}))",
        "{} 0.15",
    );
    story.at(
        0,
        "histogram_fraction(0, 0.2, h_bucket{start=\"positive\"})",
        "{start=\"positive\"} 0.583333333",
    );
}

#[test]
fn a_quantile_of_rates_follows_the_moments() {
    let story = load(
        "kind counter\nd_bucket{le=\"1\"} 1 1 _ 1\nd_bucket{le=\"2\"} 2 1 _ 4\nd_bucket{le=\"+Inf\"} 2 1 _ 4",
    );
    story.range(
        0,
        3,
        "histogram_quantile(0.75, rate(d_bucket[1m]))",
        "{} 0:1.5 1:0.75 3:1.666666667",
    );
}

#[test]
fn what_is_no_histogram_is_left_out_or_nan_and_said_so() {
    let story =
        load("a 1\na{le=\"x\"} 2\nb{le=\"1\"} 2\nc{le=\"1\"} 5\nc{le=\"2\"} 4\nc{le=\"+Inf\"} 10");
    story.at(0, "histogram_quantile(0.5, a)", "");
    story.warns(0, "histogram_quantile(0.5, a)", "malformed value of \"x\"");
    story.at(0, "histogram_quantile(0.5, b)", "{} NaN");
    story.at(0, "histogram_quantile(0.5, c)", "{} 1");
    story.warns(0, "histogram_quantile(0.5, c)", "needed to be fixed for monotonicity");
}

#[test]
fn values_are_counted_into_labels() {
    let story = load(
        "v{i=\"1\",z=\"e\"} 6 7\nv{i=\"2\",z=\"e\"} 6 6.5\nv{i=\"3\",z=\"w\"} 7 7\nv{i=\"4\",z=\"w\"} 6 _",
    );
    story.at(0, "count_values(\"version\", v)", "{version=\"6\"} 3; {version=\"7\"} 1");
    story.at(
        0,
        "count_values by (z) (\"version\", v)",
        "{version=\"6\",z=\"e\"} 2; {version=\"7\",z=\"w\"} 1; {version=\"6\",z=\"w\"} 1",
    );
    story.at(0, "count_values without (i) (\"z\", v)", "{z=\"6\"} 3; {z=\"7\"} 1");
    story.at(0, "count_values without (i, n) (\"n\", v)", "{z=\"e\"} 2; {z=\"w\"} 2");
    story.range(
        0,
        1,
        "count_values(\"version\", v)",
        "{version=\"6\"} 0:3; {version=\"6.5\"} 1:1; {version=\"7\"} 0:1 1:2",
    );
}

#[test]
fn labels_join_and_order() {
    let story = load("a{x=\"web\",y=\"10\"} 1\na{x=\"web\",y=\"9\"} 2\na{x=\"db\",y=\"9\"} 3");
    story.at(
        0,
        "label_join(a{x=\"db\"}, \"host\", \"-\", \"x\", \"y\", \"none\")",
        "a{host=\"db-9-\",x=\"db\",y=\"9\"} 3",
    );
    story.at(0, "label_join(a{x=\"db\"}, \"y\", \"-\")", "a{x=\"db\"} 3");
    story.fails(0, "label_join(a, \"x\", \"\", \"none\")", "");
    let (ten, nine, db) =
        ("a{x=\"web\",y=\"10\"} 1", "a{x=\"web\",y=\"9\"} 2", "a{x=\"db\",y=\"9\"} 3");
    story.at(0, "sort_by_label(a, \"y\")", &format!("{db}; {nine}; {ten}"));
    story.at(0, "sort_by_label_desc(a, \"y\", \"x\")", &format!("{ten}; {nine}; {db}"));
    story.at(0, "sort_by_label(a, \"x\", \"y\")", &format!("{db}; {nine}; {ten}"));
}

#[test]
fn dates_are_parts_of_a_value_or_of_now() {
    let story = load("a{x=\"1\"} 951782400");
    for (expr, expected) in [
        ("day_of_month(a)", "{x=\"1\"} 29"),
        ("day_of_week(a)", "{x=\"1\"} 2"),
        ("day_of_year(a)", "{x=\"1\"} 60"),
        ("days_in_month(a)", "{x=\"1\"} 29"),
        ("month(a)", "{x=\"1\"} 2"),
        ("year(a)", "{x=\"1\"} 2000"),
        ("hour(a + 7199)", "{x=\"1\"} 1"),
        ("minute(a + 7199)", "{x=\"1\"} 59"),
        ("minute()", "{} 2"),
        ("year()", "{} 1970"),
        ("hour(vector(-1))", "{} 23"),
        ("month(a / 0)", "{x=\"1\"} NaN"),
    ] {
        story.at(2, expr, expected);
    }
    story.range(59, 61, "hour()", "{} 59:0 60:1 61:1");
}
