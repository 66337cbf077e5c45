//! Selectors: which series, at which time, and how long they are seen.

use crate::story::load;

#[test]
fn the_value_is_the_newest_row_that_ended_by_then() {
    load("up{job=\"a\"} 0 1 2 3").at(2, "up", "up{job=\"a\"} 2").range(
        1,
        3,
        "up",
        "up{job=\"a\"} 1:1 2:2 3:3",
    );
}

#[test]
fn an_unknown_row_hides_the_series_at_once() {
    load("up 0 1 _ 3").range(0, 3, "up", "up 0:0 1:1 3:3");
    load("up 0 1 _").range(0, 4, "up", "up 0:0 1:1");
}

#[test]
fn after_its_last_row_a_series_is_seen_for_a_heartbeat_unless_it_ended() {
    load("visible 2m\nup 0 1").range(0, 6, "up", "up 0:0 1:1 2:1 3:1");
    load("visible ended\nup 0 1").range(0, 6, "up", "up 0:0 1:1");
}

#[test]
fn matchers_choose_series() {
    let story = load("up{job=\"a\"} 1\nup{job=\"b\"} 2\nup 3");
    for (expr, expected) in [
        ("up{job=\"a\"}", "up{job=\"a\"} 1"),
        ("up{job!=\"a\"}", "up{job=\"b\"} 2; up 3"),
        ("up{job=~\"a|b\"}", "up{job=\"a\"} 1; up{job=\"b\"} 2"),
        ("up{job!~\".+\"}", "up 3"),
        ("{__name__=\"up\",job=\"\"}", "up 3"),
        ("down", ""),
    ] {
        story.at(0, expr, expected);
    }
}

#[test]
fn offset_and_at_move_the_moment() {
    let story = load("up 0+1x10");
    for (expr, expected) in [
        ("up offset 2m", "up 3"),
        ("up offset -2m", "up 7"),
        ("up @ 120", "up 2"),
        ("up @ 120 offset 1m", "up 1"),
        ("up offset 1m @ 120", "up 1"),
    ] {
        story.at(5, expr, expected);
    }
    story.range(2, 4, "up @ start()", "up 2:2 3:2 4:2");
    story.range(2, 4, "up @ end()", "up 2:4 3:4 4:4");
    story.range(2, 4, "sum_over_time(up[2m] @ end() offset 1m)", "{} 2:5 3:5 4:5");
}

#[test]
fn a_bare_range_selector_gives_the_rows() {
    load("up 0 1 _ 3 4").at(4, "up[3m]", "up 3:3 4:4").at(3, "up[4m] offset 1m", "up 0:0 1:1");
}

#[test]
fn absent_says_what_is_missing() {
    let story = load("up{job=\"a\"} 1 _ 1");
    story.range(0, 2, "absent(up)", "{} 1:1");
    story.at(0, "absent(up{job=\"b\",zone=~\"x\"})", "{job=\"b\"} 1");
    story.at(0, "absent(sum(nothing))", "{} 1");
    story.at(2, "absent_over_time(up{job=\"a\"}[3m])", "");
    story.at(9, "absent_over_time(up{job=\"a\"}[3m])", "{job=\"a\"} 1");
}

#[test]
fn timestamp_is_the_end_of_the_row_or_the_asked_moment() {
    let story = load("visible 5m\nup 0 1 2");
    story.at(4, "timestamp(up)", "{} 120").at(4, "timestamp(up + 0)", "{} 240");
    story.at(4, "time()", "240");
}
