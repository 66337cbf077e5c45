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

#[test]
fn a_bare_counter_is_absent_with_a_warning_but_still_counts() {
    let story = load(REQUESTS);
    story.at(2, "hits_total", "").warns(2, "hits_total", "ask rate(), increase() or irate()");
    story.at(2, "delta(hits_total[2m])", "").warns(2, "delta(hits_total[2m])", "hits_total");
    story.at(2, "count(hits_total)", "{} 1");
    story.at(2, "absent(hits_total)", "");
    story.at(2, "timestamp(hits_total)", "{job=\"a\"} 120");
    story.at(5, "count_over_time(hits_total[5m])", "{job=\"a\"} 4");
}
