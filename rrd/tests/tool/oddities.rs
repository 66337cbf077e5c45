//! rrdtool's known oddities, each by its name: what we answer in its place.

use super::file::{Case, START_S};

#[test]
fn u_closes_step_counts_the_unknown_time_that_closes_a_step() {
    let case = Case::create(&["DS:a:GAUGE:120:U:U", "RRA:AVERAGE:0.5:1:9"]);
    case.updates(&["1:7", "60:U"]);
    assert_eq!(case.rows("AVERAGE", (0, 0)), "60=U", "59 of 60 seconds are unknown");
}

#[test]
fn wrap32_off_by_one_and_wrap64_precision_count_every_unit() {
    for before in ["4294967290", "18446744073709551610"] {
        let case = Case::create(&["DS:a:COUNTER:120:U:U", "RRA:AVERAGE:0.5:1:9"]);
        case.updates(&[&format!("60:{before}"), "120:50", "180:110"]);
        // 56 in 60 seconds, as eleven digits say it.
        assert_eq!(case.rows("AVERAGE", (0, 120)), "60=U 120=0.93333333333 180=1", "{before}");
    }
}

#[test]
fn a_gap_leaves_the_step_before_it_known_unless_it_closes_that_one_alone() {
    for (resumes, first) in [("119:3", "U"), ("120:3", "6.9636363636"), ("200:3", "6.9636363636")] {
        let case = Case::create(&["DS:a:GAUGE:60:U:U", "RRA:AVERAGE:0.5:1:9"]);
        case.updates(&["1:5", "55:7", resumes]);
        let rows = case.rows("AVERAGE", (0, 0));
        assert_eq!(rows, format!("60={first}"), "{resumes}");
    }
}

#[test]
fn derive_across_zero_is_known() {
    let case = Case::create(&["DS:a:DERIVE:120:U:U", "RRA:AVERAGE:0.5:1:9"]);
    case.updates(&["60:400", "120:-200", "180:-800"]);
    assert_eq!(case.rows("AVERAGE", (0, 120)), "60=U 120=-10 180=-10");
}

#[test]
fn refused_sample_leak_leaves_nothing_behind() {
    let definitions = ["DS:a:COUNTER:300:U:U", "DS:b:COUNTER:300:U:U", "RRA:AVERAGE:0.5:1:9"];
    let case = Case::create(&definitions);
    case.updates(&["60:100:100"]);
    assert!(!case.update(&["120:700:abc"]).is_ok());
    case.updates(&["180:1300:1300"]);
    assert_eq!(case.rows("AVERAGE", (60, 120)), "120=10,10 180=10,10");
}

#[test]
fn ring_gap_misplaced_row_is_in_its_place() {
    let case = Case::create(&["DS:a:GAUGE:7200:U:U", "RRA:AVERAGE:0.5:5:3"]);
    case.updates(&["60:1", "120:2", "180:3", "3630:77"]);
    assert_eq!(case.rows("AVERAGE", (2700, 3600)), "3000=77 3300=77 3600=77 3900=U");
}

#[test]
fn subsecond_floor_counts_unknown_time_in_milliseconds() {
    let case = Case::create(&["DS:a:GAUGE:120:U:U", "RRA:AVERAGE:0.5:1:9"]);
    case.updates(&["29.1:4", "59.8:U", "60:4"]);
    assert_eq!(case.rows("AVERAGE", (0, 0)), "60=U", "30.7 s are unknown, rrdtool says 30");
}

#[test]
fn fetch_extra_row_is_printed_as_rrdtool_prints_it() {
    let case = Case::create(&["DS:a:GAUGE:120:U:U", "RRA:AVERAGE:0.5:1:9"]);
    case.updates(&["60:1", "120:2", "180:3"]);
    assert_eq!(case.rows("AVERAGE", (0, 60)), "60=1 120=2");
}

#[test]
fn unread_text_is_read_and_refused() {
    let case = Case::create(&["DS:a:DCOUNTER:120:U:U", "RRA:AVERAGE:0.5:1:9"]);
    assert!(!case.update(&["60:1x"]).is_ok(), "rrdtool reads no text before it has a count");
    case.updates(&["60:1"]);
    assert!(!case.update(&["600:1x"]).is_ok(), "nor after a gap");
}

#[test]
fn a_count_beyond_64_bits_is_unknown() {
    let case = Case::create(&["DS:a:COUNTER:120:U:U", "RRA:AVERAGE:0.5:1:9"]);
    case.updates(&["60:5", "120:99999999999999999999999", "180:7", "240:67"]);
    assert_eq!(case.rows("AVERAGE", (0, 180)), "60=U 120=U 180=U 240=1");
}

#[test]
fn forecasts_and_computed_sources_are_refused_with_what_to_do() {
    let case = Case { disk: rrd::MemDisk::new() };
    for (definitions, remedy) in [
        (["DS:a:GAUGE:120:U:U", "DS:b:COMPUTE:a,8,*", "RRA:AVERAGE:0.5:1:9"], "CDEF"),
        (["DS:a:GAUGE:120:U:U", "RRA:AVERAGE:0.5:1:9", "RRA:HWPREDICT:9:0.1:0.1:4"], "query"),
    ] {
        let answer = case.run(&[&["create", "f"], &definitions[..]].concat());
        assert!(!answer.is_ok() && answer.error.contains(remedy), "{}", answer.error);
    }
    assert!(!case.run(&["info", "f"]).is_ok(), "a refused file is not made");
}

#[test]
fn a_file_has_at_most_eight_widths_of_row() {
    let case = Case { disk: rrd::MemDisk::new() };
    let archives: Vec<String> = (2..10).map(|steps| format!("RRA:MAX:0.5:{steps}:9")).collect();
    let mut words = vec!["create", "f", "DS:a:GAUGE:600:U:U"];
    words.extend(archives.iter().map(String::as_str));
    let answer = case.run(&words);
    assert!(answer.error.contains("9 widths of row"), "{}", answer.error);
    case.does(&words[..words.len() - 1]);
}

#[test]
fn a_renamed_retyped_source_goes_on() {
    let case = Case::create(&["DS:a:GAUGE:120:U:U", "RRA:AVERAGE:0.5:1:9"]);
    case.updates(&["60:1"]);
    let tune = ["tune", "f", "-r", "a:b", "-d", "b:COUNTER", "-h", "b:5m", "-a", "b:9"];
    // Options apply in the order given, so that the new name is known at once.
    case.does(&tune);
    case.updates(&["120:60", "180:120", "240:1200"]);
    assert_eq!(case.rows("AVERAGE", (0, 180)), "60=1 120=U 180=1 240=U");
    assert!(case.does(&["info", "f"]).contains("ds[b].minimal_heartbeat = 300"));
    for wrong in [["-h", "q:3"], ["-h", "b:0"], ["-i", "b:x"], ["-d", "b:FOO"], ["-r", "b:x.y"]] {
        assert!(!case.run(&[&["tune", "f"], &wrong[..]].concat()).is_ok(), "{wrong:?}");
    }
}

#[test]
fn times_are_read_as_rrdtool_reads_them() {
    let case = Case::create(&["DS:a:GAUGE:120:U:U", "RRA:AVERAGE:0.5:1:9"]);
    let now = 3600; // After `START_S`, which is a midnight.
    for (text, offset) in [
        ("now", now),
        ("N", now),
        ("-1h", 0),
        ("-60", now - 60),
        ("now-1d", now - 86_400),
        ("now - 1 day", now - 86_400),
        ("-1d3h", now - 86_400 - 10_800),
        ("-6m", now - 360),
        ("-1m", now - 31 * 86_400),
        ("-1mon", now - 31 * 86_400),
        ("-1y", now - 365 * 86_400),
        ("-2weeks", now - 14 * 86_400),
        ("20231114", 0),
        ("20231113", -86_400),
        ("12:30 20231114", 45_000),
        ("20231114 12:30", 45_000),
        ("12:30", 45_000),
        ("noon", 43_200),
        ("midnight-1d", -86_400),
        ("end-1h", 86_400 * 365 - 3600),
        ("1699920000", 0),
        ("1699920000-1h", -3600),
    ] {
        let end = (START_S + 86_400 * 365).to_string();
        let answer = case.does(&["fetch", "f", "AVERAGE", "-s", text, "-e", &end]);
        let first = answer.lines().nth(2).unwrap().split(':').next().unwrap().trim();
        let first_offset = first.parse::<i64>().unwrap() - START_S;
        assert_eq!(first_offset, offset + 60, "{text}");
    }
    for text in [
        "",
        "today",
        "2023-11-14",
        "start+1h",
        "end",
        "999",
        "20231301",
        "24:00",
        "1e9",
        "-1fortnight",
        "99999999999999999999",
        "-9999999999y",
    ] {
        let answer = case.run(&["fetch", "f", "AVERAGE", "-s", text]);
        assert!(!answer.is_ok(), "{text:?} is a time: {}", answer.output);
    }
}
