//! Functions of all values of a window: trends, spreads, order, and their parameters.

use crate::story::load;

#[test]
fn trends_of_a_straight_line_are_that_line() {
    let story = load("a 0+3x20\nb 5x20\nc 7");
    for (expr, expected) in [
        ("deriv(a[10m]) * 60", "{} 3"),
        ("deriv(b[10m])", "{} 0"),
        ("deriv(c[1h])", ""),
        ("predict_linear(a[10m], 600)", "{} 60"),
        ("predict_linear(b[10m], 600)", "{} 5"),
        ("predict_linear(a[10m] offset 5m, 0)", "{} 30"),
        ("predict_linear(a[5m] @ 300, 60)", "{} 33"),
        ("holt_winters(a[10m], 0.5, 0.5)", "{} 30"),
        ("double_exponential_smoothing(a[10m], 0.1, 0.9)", "{} 30"),
    ] {
        story.at(10, expr, expected);
    }
    // At each moment the same rows, but another moment to predict from.
    story.range(10, 12, "predict_linear(a[5m] @ 300, 0)", "{} 10:30 11:33 12:36");
    story.range(
        10,
        12,
        "quantile_over_time(time() / 600 - 1, a[2m] @ 300)",
        "{} 10:12 11:12.3 12:12.6",
    );
}

#[test]
fn trends_of_scattered_values_are_least_squares() {
    // Minutes 0..4: slope = (-2*1 - 1*3 + 0*2 + 1*5 + 2*4) / 10 = 0.8 a minute around 3.
    let story = load("a 1 3 2 5 4");
    story.at(4, "deriv(a[5m]) * 60", "{} 0.8").at(4, "predict_linear(a[5m], 60)", "{} 5.4");
    // Level 1, 3: trend 2; then 0.5*2 + 0.5*5 = 3.5, trend 0.5*0.5 + 0.5*2; and so on.
    story.at(2, "holt_winters(a[5m], 0.5, 0.5)", "{} 3.5");
    story.at(3, "holt_winters(a[5m], 0.5, 0.5)", "{} 4.875");
    story.at(4, "holt_winters(a[5m], 0.5, 0.5)", "{} 5.09375");
    story.at(0, "holt_winters(a[5m], 0.5, 0.5)", "");
    story.fails(4, "holt_winters(a[5m], 1, 0.5)", "invalid smoothing factor 1");
    story.fails(4, "holt_winters(a[5m], 0.5, 0)", "invalid trend factor 0");
}

#[test]
fn spreads_and_quantiles_leave_out_what_is_unknown() {
    let story = load("a 8 _ 2 4 _ 6");
    for (expr, expected) in [
        ("stddev_over_time(a[6m])", "{} 2.236067977"),
        ("stdvar_over_time(a[6m])", "{} 5"),
        ("stdvar_over_time(a[1m])", "{} 0"),
        ("quantile_over_time(0, a[6m])", "{} 2"),
        ("quantile_over_time(0.5, a[6m])", "{} 5"),
        ("quantile_over_time(0.9, a[6m])", "{} 7.4"),
        ("quantile_over_time(1.5, a[6m])", "{} inf"),
        ("quantile_over_time(-1, a[6m])", "{} -inf"),
        ("quantile_over_time(NaN, a[6m])", "{} NaN"),
        ("mad_over_time(a[6m])", "{} 2"),
        ("first_over_time(a[6m])", "a 8"),
        ("first_over_time(a[5m])", "a 2"),
        ("ts_of_max_over_time(a[5m])", "{} 300"),
        ("ts_of_min_over_time(a[6m])", "{} 120"),
        ("ts_of_first_over_time(a[5m])", "{} 120"),
        ("ts_of_last_over_time(a[5m])", "{} 300"),
    ] {
        story.at(5, expr, expected);
    }
    story.warns(5, "quantile_over_time(1.5, a[6m])", "should be between 0 and 1, got 1.5");
    story.warns(5, "quantile(2, a)", "should be between 0 and 1, got 2");
    story.at(1, "stddev_over_time(a[1m])", "").at(1, "quantile_over_time(0.5, a[1m])", "");
}

#[test]
fn on_coarse_rows_spreads_are_those_of_averages_and_say_so() {
    let story = load("archives 1m:2,5m:100\na 0+1x60");
    // Rows of five minutes: 43, 48, 53, 58.
    for (expr, expected) in [
        ("quantile_over_time(0.5, a[20m])", "{} 50.5"),
        ("stddev_over_time(a[20m])", "{} 5.590169944"),
        ("mad_over_time(a[20m])", "{} 5"),
        ("max_over_time(a[20m])", "{} 60"),
        ("ts_of_max_over_time(a[20m])", "{} 3600"),
    ] {
        story.at(60, expr, expected);
    }
    let says = "looked at averages of 5m rows";
    for expr in ["quantile_over_time(0.5, a[20m])", "stdvar_over_time(a[20m])", "changes(a[20m])"] {
        story.warns(60, expr, says);
    }
    assert!(story.answer("max_over_time(a[20m])", 60).warnings.is_empty());
}
