//! Days of a time zone: rows of 23 to 25 hours, which end at the zone's midnights.

use query::Options;

use crate::story::{Story, load, written};

/// Minutes from 1970 to the beginning of 29 March 2026 in Paris, a day of 23 hours.
const BEGIN: i64 = 1_774_738_800 / 60;
const SHORT: i64 = 23 * 60;
const DAY: i64 = 24 * 60;

/// Quarters of an hour for an hour, then days: the 28th has ones, the 29th twos, and so on.
fn days(kind: &str) -> Story {
    let start = (BEGIN - DAY + 15) * 60;
    load(&format!(
        "archives 15m:4,1d@Europe/Paris:30\nkind {kind}\nstart {start}s\n\
         a 1x95 2x91 3x95 4x95 5x95 6x9"
    ))
}

#[test]
fn the_newest_day_that_has_ended_answers() {
    let gauge = days("gauge");
    for (minute, value) in [
        (BEGIN, "a 1"),
        (BEGIN + SHORT - 1, "a 1"),
        (BEGIN + SHORT, "a 2"),
        (BEGIN + SHORT + 1, "a 2"),
        (BEGIN + SHORT + DAY - 1, "a 2"),
        (BEGIN + SHORT + DAY, "a 3"),
    ] {
        gauge.at(minute, "a", value);
    }
    gauge.at(BEGIN + SHORT + 77, "timestamp(a)", &format!("{{}} {}", (BEGIN + SHORT) * 60));
}

#[test]
fn a_range_finds_one_row_for_each_day_whatever_its_width() {
    let story = days("gauge");
    // Every 24 hours, an hour after midnight at first and on it in summer.
    let range = (BEGIN + 60, BEGIN + 60 + 3 * DAY, 1440);
    let answer = story.try_range(range, "a", Options::default()).unwrap();
    let at = |day: i64| BEGIN + 60 + day * DAY;
    let expected = format!("a {}:1 {}:2 {}:3 {}:4", at(0), at(1), at(2), at(3));
    assert_eq!(written(&answer.value), expected);
}

#[test]
fn a_window_counts_the_days_that_end_in_it_by_what_is_known_of_them() {
    let gauge = days("gauge");
    let midnight = BEGIN + SHORT;
    for (minute, expr, expected) in [
        // 24 hours before the end of a day of 23 another day ends.
        (midnight, "count_over_time(a[1d])", format!("{{}} {}", 96 + 92)),
        (midnight + 60, "count_over_time(a[1d])", "{} 92".to_owned()),
        (midnight + DAY, "count_over_time(a[1d])", "{} 96".to_owned()),
        (midnight, "count_over_time(a[2d])", format!("{{}} {}", 96 + 92)),
        (midnight, "sum_over_time(a[2d])", format!("{{}} {}", 96 + 2 * 92)),
        (midnight + DAY, "avg_over_time(a[47h])", format!("{{}} {:.9}", (184.0 + 288.0) / 188.0)),
        (midnight + DAY, "max_over_time(a[2d])", "{} 3".to_owned()),
    ] {
        gauge.at(minute, expr, &expected);
    }
    let counter = days("counter");
    counter.at(midnight + 60, "increase(a[1d])", &format!("{{}} {}", 2 * 92 * 900));
    counter.at(midnight + DAY, "increase(a[1d])", &format!("{{}} {}", 3 * 96 * 900));
    counter.at(midnight + 60, "rate(a[1d])", "{} 2");
}

#[test]
fn what_the_ring_of_days_no_longer_holds_is_absent() {
    let start = (BEGIN - DAY + 15) * 60;
    let story = load(&format!(
        "archives 15m:4,1d@Europe/Paris:2\nstart {start}s\na 1x95 2x91 3x95 4x95 5x9"
    ));
    story.at(BEGIN + SHORT + 2 * DAY, "a", "a 4");
    story.at(BEGIN + SHORT + DAY, "a", "a 3");
    story.at(BEGIN + SHORT, "a", "");
}
