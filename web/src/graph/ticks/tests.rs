//! Tables of ticks: every period, days of 23 and 25 hours, odd zones, units.

use super::*;

fn span(from: &str, to: &str) -> Span {
    let moment = |text: &str| {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_millis(moment.as_millisecond())
    };
    Span::new(moment(from), moment(to)).unwrap()
}

fn labels(from: &str, to: &str, zone: &str, width: f64) -> Vec<String> {
    let zone = TimeZone::get(zone).unwrap();
    let ticks = time_ticks(span(from, to), &zone, width);
    ticks.into_iter().map(|tick| tick.label).filter(|label| !label.is_empty()).collect()
}

#[track_caller]
fn check(from: &str, to: &str, zone: &str, expected: &str) {
    assert_eq!(labels(from, to, zone, 540.0).join(" | "), expected, "{from} to {to} in {zone}");
}

#[test]
fn each_period_has_labels_that_read_well() {
    check(
        "2026-06-21T13:05:00Z",
        "2026-06-21T14:05:00Z",
        "UTC",
        "13:10 | 13:20 | 13:30 | 13:40 | 13:50 | 14:00",
    );
    check(
        "2026-06-21T14:00:00Z",
        "2026-06-21T14:05:00Z",
        "UTC",
        "14:00 | 14:01 | 14:02 | 14:03 | 14:04 | 14:05",
    );
    check(
        "2026-06-20T14:05:00Z",
        "2026-06-21T14:05:00Z",
        "UTC",
        "15:00 | 18:00 | 21:00 | Sun 21 | 03:00 | 06:00 | 09:00 | 12:00",
    );
    check(
        "2026-06-14T14:00:00Z",
        "2026-06-21T14:00:00Z",
        "UTC",
        "Mon 15 | Tue 16 | Wed 17 | Thu 18 | Fri 19 | Sat 20 | Sun 21",
    );
    check("2026-05-22T14:00:00Z", "2026-06-21T14:00:00Z", "UTC", "25 May | 1 Jun | 8 Jun | 15 Jun");
    check(
        "2025-06-21T00:00:00Z",
        "2026-06-21T00:00:00Z",
        "UTC",
        "Jul | Sep | Nov | 2026 | Mar | May",
    );
}

#[test]
fn the_day_of_23_hours_skips_the_hour_that_was_not() {
    check(
        "2026-03-28T23:00:00Z",
        "2026-03-29T06:00:00Z",
        "Europe/Paris",
        "Sun 29 | 01:00 | 03:00 | 04:00 | 05:00 | 06:00 | 07:00 | 08:00",
    );
}

#[test]
fn the_day_of_25_hours_has_an_hour_twice() {
    check(
        "2026-10-24T22:00:00Z",
        "2026-10-25T05:00:00Z",
        "Europe/Paris",
        "Sun 25 | 01:00 | 02:00 | 02:00 | 03:00 | 04:00 | 05:00 | 06:00",
    );
}

#[test]
fn days_begin_at_local_midnight_whatever_their_length() {
    let zone = TimeZone::get("Europe/Paris").unwrap();
    let ticks = time_ticks(span("2026-10-22T00:00:00Z", "2026-10-28T00:00:00Z"), &zone, 540.0);
    let lines: Vec<_> = ticks.iter().filter(|tick| !tick.label.is_empty()).collect();
    let hours: Vec<i64> =
        lines.windows(2).map(|two| two[1].at.millis_since(two[0].at) / HOUR).collect();
    assert!(hours.contains(&25) && hours.iter().all(|h| [24, 25].contains(h)), "{hours:?}");
}

#[test]
fn zones_of_half_hours_have_round_times() {
    check(
        "2026-06-21T00:00:00Z",
        "2026-06-21T06:00:00Z",
        "Asia/Kolkata",
        "06:00 | 07:00 | 08:00 | 09:00 | 10:00 | 11:00",
    );
}

#[test]
fn a_day_that_begins_at_one_is_still_a_day() {
    // Beirut skips midnight itself when summer begins.
    let zone = TimeZone::get("Asia/Beirut").unwrap();
    let ticks = time_ticks(span("2026-03-26T00:00:00Z", "2026-03-31T00:00:00Z"), &zone, 540.0);
    assert!(ticks.iter().any(|tick| tick.label == "Sun 29"), "{ticks:?}");
}

#[test]
fn absurd_spans_have_few_ticks() {
    let all =
        Span::new(Timestamp::from_secs(-60_000_000_000), Timestamp::from_secs(90_000_000_000));
    assert!(time_ticks(all.unwrap(), &TimeZone::UTC, 540.0).len() <= MOST_TICKS);
    let none = Span::new(Timestamp::from_secs(0), Timestamp::from_secs(0)).unwrap();
    assert!(time_ticks(none, &TimeZone::UTC, 540.0).len() <= 2);
}

#[track_caller]
fn check_axis(low: f64, high: f64, symbol: &str, base: u32, expected: &str) {
    let axis = value_axis(low, high, false, 130.0, &Unit::new(symbol, base));
    let labels: Vec<&str> = axis.ticks.iter().map(|tick| tick.label.as_str()).collect();
    assert_eq!(labels.join(" | "), expected, "{low} to {high} {symbol}");
    assert!(axis.low <= low && axis.high * (1.0 + 2.0 * HAIR) >= high && axis.high > axis.low);
}

#[test]
fn value_axes_go_by_one_two_five_or_powers_of_two() {
    let gib = 1024.0 * 1024.0 * 1024.0;
    for (low, high, symbol, base, expected) in [
        (0.0, 100.0, "%", 1000, "0 % | 20 % | 40 % | 60 % | 80 % | 100 %"),
        (0.0, 3.2, "", 1000, "0 | 1 | 2 | 3 | 4"),
        (0.0, 0.9, "", 1000, "0 | 0.2 | 0.4 | 0.6 | 0.8 | 1.0"),
        (0.0, 16.0 * gib, "B", 1024, "0 | 4 GiB | 8 GiB | 12 GiB | 16 GiB"),
        (0.0, 1_430_000.0, "bit/s", 1000, "0 | 0.5 M | 1.0 M | 1.5 M"),
        (-2e6, 1e6, "bit/s", 1000, "2 M | 1 M | 0 | 1 M"),
        (0.0, 0.0, "%", 1000, "0 % | 0.2 % | 0.4 % | 0.6 % | 0.8 % | 1.0 %"),
    ] {
        check_axis(low, high, symbol, base, expected);
    }
}

#[test]
fn labels_of_a_narrow_range_can_be_told_apart() {
    let axis = value_axis(69.998, 70.001, false, 130.0, &Unit::new("%", 1000));
    let mut labels: Vec<&String> = axis.ticks.iter().map(|tick| &tick.label).collect();
    let before = labels.len();
    labels.dedup();
    assert_eq!(labels.len(), before, "{labels:?}");
}
