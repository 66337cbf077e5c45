//! Tests of the drawing: gaps, flat lines, sums, hostile names.

use jiff::tz::TimeZone;
use rrd::{Span, Step, Timestamp};

use super::*;
use crate::graph::{Hue, Threshold, Unit};

const SIZE: Size = Size { width: 600, height: 190 };

fn line(key: &str, points: &[Option<f64>]) -> Line {
    let label = key.to_owned();
    Line { key: key.to_owned(), label, hue: Hue::Blue, below: false, points: points.to_vec() }
}

fn graph(stack: bool, series: Vec<Line>) -> Graph {
    let count = series.iter().map(|line| line.points.len()).max().unwrap_or(6);
    let end = Timestamp::from_secs(60 * i64::try_from(count).unwrap());
    Graph {
        key: "cpu".to_owned(),
        title: "CPU".to_owned(),
        unit: Unit::new("%", 1000),
        stack,
        fill: false,
        max: None,
        soft_max: None,
        span: Span::new(Timestamp::from_secs(0), end).unwrap(),
        step: Step::from_secs(60).unwrap(),
        days: None,
        zone: TimeZone::UTC,
        series,
        left_out: 0,
        thresholds: Vec::new(),
    }
}

fn svg(graph: &Graph) -> String {
    let svg = draw(graph, SIZE, Frame::Inline);
    for never in ["NaN", "inf", "style="] {
        assert!(!svg.contains(never), "{never} in {svg}");
    }
    svg
}

/// What is drawn of the series `key`.
fn of_series<'a>(svg: &'a str, key: &str) -> &'a str {
    let (_, rest) = svg.split_once(&format!("data-k=\"{key}\"")).unwrap();
    rest.split_once("</g>").unwrap().0
}

/// The pixels of a path, one by one.
fn pixels(path: &str) -> Vec<(f64, f64)> {
    let text = path.split_once("d=\"M").unwrap().1.split_once('"').unwrap().0;
    let spaced = text.trim_end_matches('z').replace('-', " -").replace('l', " ");
    let numbers: Vec<f64> = spaced.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let mut at = (0.0, 0.0);
    let steps = numbers.chunks_exact(2);
    steps
        .map(|step| {
            at = (at.0 + step[0], at.1 + step[1]);
            at
        })
        .collect()
}

#[test]
fn a_gap_breaks_the_line_and_is_never_zero() {
    let x = Some(50.0);
    let svg = svg(&graph(false, vec![line("a", &[x, x, None, x, x, x])]));
    let drawn = of_series(&svg, "a");
    assert_eq!(drawn.matches("class=\"l\"").count(), 2, "{drawn}");
    let heights: Vec<f64> = drawn.split("<path").skip(1).flat_map(pixels).map(|(_, y)| y).collect();
    assert!(heights.windows(2).all(|two| (two[0] - two[1]).abs() < 0.2), "{heights:?}");
}

#[test]
fn a_lone_point_is_a_dot() {
    let svg = svg(&graph(false, vec![line("a", &[None, Some(1.0), None])]));
    let drawn = of_series(&svg, "a");
    assert_eq!((drawn.matches("<circle").count(), drawn.matches("<path").count()), (1, 0));
}

#[test]
fn flat_lines_are_on_the_canvas() {
    for value in [0.0, 1e-9, 5.0, 1e15] {
        let svg = svg(&graph(false, vec![line("a", &[Some(value); 6])]));
        for (_, y) in pixels(of_series(&svg, "a")) {
            assert!((f64::from(TOP)..=168.1).contains(&y), "{value} at {y}");
        }
    }
}

#[test]
fn layers_stand_on_each_other() {
    let mut stacked = graph(true, vec![line("a", &[Some(25.0); 6]), line("b", &[Some(50.0); 6])]);
    stacked.max = Some(100.0);
    let svg = svg(&stacked);
    let edge = |key| {
        let path = of_series(&svg, key).rsplit_once("<path").unwrap().1.to_owned();
        pixels(&path)[0].1
    };
    let (bottom, top) = (168.0, 10.0);
    let expected = |share: f64| bottom - share * (bottom - top);
    assert!((edge("a") - expected(0.25)).abs() < 0.3, "{}", edge("a"));
    assert!((edge("b") - expected(0.75)).abs() < 0.3, "{}", edge("b"));
}

#[test]
fn a_gap_in_one_layer_leaves_the_others_whole() {
    let x = Some(10.0);
    let a = line("a", &[x, x, None, None, x, x]);
    let svg = svg(&graph(true, vec![a, line("b", &[x; 6])]));
    assert_eq!(of_series(&svg, "a").matches("class=\"a\"").count(), 2);
    assert_eq!(of_series(&svg, "b").matches("class=\"a\"").count(), 1);
}

#[test]
fn nothing_known_says_so() {
    let svg = svg(&graph(false, vec![line("a", &[None; 6])]));
    assert!(svg.contains("No data in this period</text>"));
    assert!(!self::svg(&graph(false, vec![line("a", &[Some(1.0); 6])])).contains("No data"));
}

#[test]
fn the_root_tells_scripts_where_the_plot_is() {
    let svg = svg(&graph(false, vec![line("a", &[Some(7.0); 6])]));
    for part in [
        "viewBox=\"0 0 600 190\"",
        "data-x0=\"0\"",
        "data-x1=\"360000\"",
        "data-y0=\"0\"",
        "data-plot=\"62 10 524 158\"",
        "role=\"img\"",
        "<title id=\"t-cpu\">CPU</title>",
        "<desc id=\"d-cpu\">a averages 7.00 %, at most 7.00 %.</desc>",
    ] {
        assert!(svg.contains(part), "{part} in {svg}");
    }
}

#[test]
fn hostile_names_stay_text() {
    let name = "\"><script>alert(1)</script>\u{0}&";
    let mut hostile = graph(false, vec![line(name, &[Some(1.0); 6])]);
    hostile.title = name.to_owned();
    for frame in [Frame::Inline, Frame::Standalone(Theme::Auto)] {
        let svg = draw(&hostile, SIZE, frame);
        assert!(!svg.contains("<script") && !svg.contains('\u{0}'), "{svg}");
    }
}

#[test]
fn a_threshold_is_drawn_once_values_come_near() {
    let limit = Threshold { value: 90.0, severity: Severity::Critical };
    for (value, drawn) in [(10.0, false), (60.0, true)] {
        let mut watched = graph(false, vec![line("a", &[Some(value); 6])]);
        watched.thresholds.push(limit);
        assert_eq!(svg(&watched).contains("limit critical"), drawn, "at {value}");
    }
}

#[test]
fn a_standalone_image_brings_its_colours() {
    let svg =
        draw(&graph(false, vec![line("a", &[Some(1.0); 6])]), SIZE, Frame::Standalone(Theme::Auto));
    assert!(svg.contains("prefers-color-scheme:dark") && svg.contains(".series"));
}
