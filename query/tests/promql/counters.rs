//! Counters: rows hold rates a second, an increase is their sum, and nothing is guessed.

use crate::story::load;

const REQUESTS: &str = "kind counter\nstart 1m\nhits_total{job=\"a\"} 1 1 2 _ 4";

#[test]
fn an_increase_is_the_sum_of_rates_times_known_seconds() {
    let story = load(REQUESTS);
    story.at(3, "increase(hits_total[3m])", "{job=\"a\"} 240");
    story.at(5, "increase(hits_total[3m])", "{job=\"a\"} 360");
    story.at(5, "increase(hits_total[1h])", "{job=\"a\"} 480");
}

#[test]
fn a_rate_is_taken_over_the_known_seconds_only() {
    let story = load(REQUESTS);
    story.at(5, "rate(hits_total[3m])", "{job=\"a\"} 3");
    story.at(4, "rate(hits_total[1m])", "");
    story.range(1, 6, "rate(hits_total[1m])", "{job=\"a\"} 1:1 2:1 3:2 5:4");
}

#[test]
fn irate_is_the_newest_known_row() {
    let story = load(REQUESTS);
    story.at(4, "irate(hits_total[3m])", "{job=\"a\"} 2");
    story.at(5, "irate(hits_total[3m])", "{job=\"a\"} 4");
    story.at(9, "irate(hits_total[3m])", "");
}

#[test]
fn a_coarse_row_counts_its_known_seconds() {
    let story = load("archives 1m:2,5m:100\nkind counter\nstart 1m\nhits_total 1 1 2 _ 4 1x9");
    story.at(5, "increase(hits_total[5m])", "{} 480").at(5, "rate(hits_total[5m])", "{} 2");
    story.at(15, "increase(hits_total[15m])", "{} 1080");
}

/// One a second; read as 160 at 1m and as 40 at 6m, after a reset in the row that ends at 5m.
const READ: &str = "\
kind counter
start 1m
readings 1m=160 6m=40
resets 5m
hits_total{job=\"a\"} 1 2 2 1 0.5 0.5 0.5 _ 0.5";

#[test]
fn a_bare_counter_is_rebuilt_from_the_nearest_reading_with_neither_gap_nor_reset_between() {
    let story = load(READ);
    let count = |all: &str| format!("hits_total{{job=\"a\"}}{all}");
    story.range(1, 12, "hits_total", &count(" 1:160 2:280 3:400 4:460 5:10 6:40 7:70"));
    story.at(4, "hits_total[3m]", &count(" 2:280 3:400 4:460"));
    story.warns(
        9,
        "hits_total",
        "1 counters such as hits_total{job=\"a\"} are absent where no raw",
    );
    assert!(story.answer("hits_total", 7).warnings.is_empty());
    story.at(7, "hits_total + 1", "{job=\"a\"} 71").at(7, "sum(hits_total)", "{} 70");
    story.at(9, "hits_total @ 120", &count(" 280")).at(9, "hits_total offset 5m", &count(" 460"));
}

#[test]
fn functions_that_need_readings_see_the_rebuilt_ones() {
    let story = load(READ);
    for (expr, expected) in [
        ("idelta(hits_total[3m])", "{job=\"a\"} 60"),
        ("delta(hits_total[3m])", "{job=\"a\"} 270"),
        ("deriv(hits_total[3m])", "{job=\"a\"} 1.5"),
        ("predict_linear(hits_total[3m], 60)", "{job=\"a\"} 560"),
        ("changes(hits_total[4m])", "{job=\"a\"} 3"),
        ("min_over_time(hits_total[3m])", "{job=\"a\"} 280"),
        ("max_over_time(hits_total[4m])", "{job=\"a\"} 460"),
        ("avg_over_time(hits_total[2m])", "{job=\"a\"} 430"),
        ("sum_over_time(hits_total[2m])", "{job=\"a\"} 860"),
        ("last_over_time(hits_total[2m])", "hits_total{job=\"a\"} 460"),
        ("quantile_over_time(0.5, hits_total[3m])", "{job=\"a\"} 400"),
        ("stddev_over_time(hits_total[2m])", "{job=\"a\"} 30"),
        ("increase(hits_total[4m:1m])", "{job=\"a\"} 400"),
    ] {
        story.at(4, expr, expected);
    }
}

#[test]
fn resets_are_counted_where_they_were_seen() {
    let story = load(READ);
    story.at(9, "resets(hits_total[9m])", "{job=\"a\"} 1");
    story.at(9, "resets(hits_total[4m])", "{job=\"a\"} 0");
    story.at(8, "resets(hits_total[1m])", "");
    story.range(4, 6, "resets(hits_total[2m])", "{job=\"a\"} 4:0 5:1 6:1");
    assert!(story.answer("resets(hits_total[9m])", 9).warnings.is_empty());
}

#[test]
fn a_coarse_row_has_one_reading_at_its_end_and_says_so() {
    let story = load(
        "archives 1m:2,5m:100\nkind counter\nstart 1m\nreadings 3m=100 15m=1000\nhits_total 1x4 2x4 _ 1x13",
    );
    // Of the third row one minute is unknown: its own count is read, but none is carried through it.
    story.at(24, "hits_total[20m]", "hits_total 5:220 10:820 15:1000 20:1300");
    story.at(24, "max_over_time(hits_total[12m])", "{} 1300");
    story.warns(24, "max_over_time(hits_total[12m])", "one reading a counter for each 5m row");
    story.warns(24, "resets(hits_total[20m])", "resets saw at most one a 5m row");
}

#[test]
fn without_a_reading_a_bare_counter_is_absent_with_a_warning_but_still_counts() {
    let story = load(REQUESTS);
    let ask = "ask rate(), increase() or irate()";
    story.at(2, "hits_total", "").warns(2, "hits_total", ask);
    story.at(2, "delta(hits_total[2m])", "").warns(2, "delta(hits_total[2m])", "hits_total");
    story.at(2, "count(hits_total)", "{} 1");
    story.at(2, "absent(hits_total)", "");
    story.at(2, "timestamp(hits_total)", "{job=\"a\"} 120");
    story.at(5, "count_over_time(hits_total[5m])", "{job=\"a\"} 4");
}
