//! Panels: a template and an instance become a graph, by queries over its rows.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use query::{Expr, Limits, Options, Range, Read, Series, Value};
use rrd::{Labels, MatchOp, Matcher, Span, Step};
use thiserror::Error;

use crate::graph::{Graph, Hue, Line, Unit};
use crate::period::Window;
use crate::template::{BUILT_IN, Template};

/// More lines than this nobody tells apart; the largest are kept.
pub const MOST_LINES: usize = 8;

/// What one graph's query may cost.
pub const LIMITS: Limits = Limits {
    points_per_line: 4000,
    series: 5000,
    points: 5_000_000,
    answer: 1_000_000,
    looks: query::LOOKS,
    patience: query::Patience::ENDLESS,
};

/// Why a graph cannot be drawn.
#[derive(Debug, Error)]
#[error("graph {graph}: {reason}")]
pub struct PanelError {
    graph: String,
    reason: query::Error,
}

/// Every series of the instance that `selector` names; none when nothing names it.
pub fn series_of(read: &dyn Read, selector: &Labels) -> Vec<Series> {
    let matchers: Option<Vec<Matcher>> = selector
        .iter()
        .map(|(name, value)| Matcher::new(name, MatchOp::Equal, value).ok())
        .collect();
    match matchers {
        Some(matchers) if !matchers.is_empty() => read.select(&matchers),
        _ => Vec::new(),
    }
}

/// The templates that fit what `series` report.
pub fn fitting(series: &[Series]) -> Vec<&'static Template> {
    let metrics: BTreeSet<&str> = series.iter().filter_map(|one| one.labels.metric()).collect();
    BUILT_IN.iter().filter(|template| template.fits(&metrics)).collect()
}

/// The graph of `template` for the instance that `selector` names.
pub fn graph_of(
    read: &dyn Read,
    template: &Template,
    selector: &Labels,
    window: &Window,
    zone: &TimeZone,
) -> Result<Graph, PanelError> {
    let mut found = Vec::new();
    for line in &template.lines {
        let text = line.text(selector, window.step);
        let rows = rows_of(read, &text, window.span, window.step)
            .map_err(|reason| PanelError { graph: template.key.clone(), reason })?;
        found.extend(rows.into_iter().map(|(labels, points)| {
            let label = line.legend(&labels);
            Line { key: label.clone(), label, hue: Hue::Grey, below: line.below, points }
        }));
    }
    let left_out = keep_largest(&mut found, template);
    found.sort_by_key(|line| (rank(template, &line.key), line.key.clone()));
    colour(&mut found, template);
    Ok(Graph {
        key: template.key.clone(),
        title: template.title.clone(),
        unit: Unit::new(&template.unit, template.base),
        stack: template.stack,
        fill: template.fill,
        max: template.max,
        soft_max: template.soft_max,
        span: window.span,
        step: window.step,
        days: window.days,
        zone: zone.clone(),
        series: found,
        left_out,
        thresholds: Vec::new(),
    })
}

/// A series' labels and its points.
pub(crate) type Row = (Labels, Vec<Option<f64>>);

/// The answer of `text` on the grid of steps within `span`: labels, and a point per step.
pub(crate) fn rows_of(
    read: &dyn Read,
    text: &str,
    span: Span,
    step: Step,
) -> Result<Vec<Row>, query::Error> {
    let range = Range { start: span.start() + step, end: span.end(), step };
    let options = Options { coarse: true };
    let answer = Expr::parse(text)?.range_with(read, range, &LIMITS, options)?;
    let Value::Matrix(lines) = answer.value else { return Ok(Vec::new()) };
    let width = step.as_millis().cast_signed();
    let count = span.end().millis_since(span.start()) / width;
    let blank = vec![None; usize::try_from(count).unwrap_or(0)];
    let grid = |line: query::Line| {
        let mut points = blank.clone();
        for (at, value) in line.points {
            let index = at.millis_since(range.start) / width;
            let slot = usize::try_from(index).ok().and_then(|index| points.get_mut(index));
            // Neither NaN nor an infinity can be drawn.
            if let (Some(slot), true) = (slot, value.is_finite()) {
                *slot = Some(value);
            }
        }
        (line.labels, points)
    };
    Ok(lines.into_iter().map(grid).collect())
}

/// Drops what there is no room for; how many lines that were. Keys that the template colours stay.
fn keep_largest(lines: &mut Vec<Line>, template: &Template) -> usize {
    let before = lines.len();
    if before <= MOST_LINES {
        return 0;
    }
    let size = |line: &Line| line.points.iter().copied().flatten().fold(0.0_f64, f64::max);
    lines.sort_by(|a, b| {
        let named = |line: &Line| template.hues.contains_key(&line.key);
        named(b).cmp(&named(a)).then(size(b).total_cmp(&size(a))).then(a.key.cmp(&b.key))
    });
    lines.truncate(MOST_LINES);
    before - lines.len()
}

/// Where the template wants a key; others keep the order of the template's lines.
fn rank(template: &Template, key: &str) -> usize {
    let listed = template.order.iter().position(|name| name == key);
    let line = || template.lines.iter().position(|line| line.label == key);
    listed.or_else(line).unwrap_or(usize::MAX)
}

/// Gives every line its hue. Both directions of one device have one hue: the part of the key before
/// the last space decides, where the template draws below zero.
fn colour(lines: &mut [Line], template: &Template) {
    let mirrored = template.lines.iter().any(|line| line.below);
    let stem = |key: &str| match key.rsplit_once(' ') {
        Some((stem, _)) if mirrored => stem.to_owned(),
        _ => key.to_owned(),
    };
    let own = |key: &str| template.hues.get(key).and_then(|name| Hue::named(name));
    let free: BTreeSet<String> =
        lines.iter().filter(|line| own(&line.key).is_none()).map(|line| stem(&line.key)).collect();
    let free: Vec<&str> = free.iter().map(String::as_str).collect();
    let taken: Vec<Hue> = lines.iter().filter_map(|line| own(&line.key)).collect();
    let hues = Hue::assign(&free, &taken);
    for line in lines {
        let place = free.iter().position(|key| *key == stem(&line.key));
        let handed = place.and_then(|place| hues.get(place).copied());
        line.hue = own(&line.key).or(handed).unwrap_or(Hue::Grey);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use query::memory::MemoryRead;
    use rrd::Timestamp;

    use super::*;

    fn selector() -> Labels {
        Labels::from_pairs([("instance", "a"), ("job", "node")]).unwrap()
    }

    /// The graph `key` over the first ten minutes of these series.
    fn graph(key: &str, series: &str) -> Graph {
        let read = MemoryRead::load(series).unwrap();
        let span = Span::new(Timestamp::from_secs(0), Timestamp::from_secs(600)).unwrap();
        let step = Step::from_secs(60).unwrap();
        let window = Window { span, step, days: None, shortened: false };
        let found = series_of(&read, &selector());
        let template = fitting(&found).into_iter().find(|template| template.key == key).unwrap();
        graph_of(&read, template, &selector(), &window, &TimeZone::UTC).unwrap()
    }

    fn point(graph: &Graph, key: &str, at: usize) -> Option<f64> {
        graph.series.iter().find(|line| line.key == key).unwrap().points[at]
    }

    #[track_caller]
    fn close(value: Option<f64>, expected: f64) {
        assert!(
            value.is_some_and(|value| (value - expected).abs() < 1e-9),
            "{value:?} is not {expected}"
        );
    }

    #[test]
    fn cpu_usage_is_the_same_for_summed_and_for_single_cpus() {
        let ours = "kind counter\nstart 1m\n\
            node_cpu_seconds_total{instance=\"a\",job=\"node\",mode=\"user\"} 0.5x9\n\
            node_cpu_seconds_total{instance=\"a\",job=\"node\",mode=\"idle\"} 1.5x9\n";
        let theirs = "kind counter\nstart 1m\n\
            node_cpu_seconds_total{cpu=\"0\",instance=\"a\",job=\"node\",mode=\"user\"} 0.1x9\n\
            node_cpu_seconds_total{cpu=\"1\",instance=\"a\",job=\"node\",mode=\"user\"} 0.4x9\n\
            node_cpu_seconds_total{cpu=\"0\",instance=\"a\",job=\"node\",mode=\"idle\"} 0.9x9\n\
            node_cpu_seconds_total{cpu=\"1\",instance=\"a\",job=\"node\",mode=\"idle\"} 0.6x9\n";
        for series in [ours, theirs] {
            let cpu = graph("cpu", series);
            assert_eq!(cpu.series.len(), 1, "idle is not drawn");
            close(point(&cpu, "user", 5), 25.0);
        }
    }

    #[test]
    fn used_memory_is_what_is_neither_free_nor_cached() {
        let mut series = String::new();
        for (name, value) in [("MemTotal", 16), ("MemFree", 4), ("Buffers", 1), ("Cached", 3)] {
            let labels = "instance=\"a\",job=\"node\"";
            writeln!(series, "node_memory_{name}_bytes{{{labels}}} {value}x10").unwrap();
        }
        let memory = graph("memory", &series);
        let keys: Vec<&str> = memory.series.iter().map(|line| line.key.as_str()).collect();
        assert_eq!(keys, ["used", "buffers", "cached", "free"]);
        close(point(&memory, "used", 5), 8.0);
    }

    #[test]
    fn days_of_a_zone_are_drawn_once_each_and_where_they_end() {
        for zone in ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC"] {
            let days = rrd::Calendar::of(zone).unwrap();
            let now = Timestamp::from_secs(1_782_050_700); // 21 June 2026
            let last = days.ended_row(now);
            let (first, quarters) =
                (last - 399, |row| days.row_end(row).millis_since(days.row_end(row - 1)) / 900_000);
            let start = days.row_end(first - 1).as_millis() / 1000 + 900;
            // Each day has its number as its value; of today some hours have gone.
            let mut series = format!(
                "archives 15m:40,1d@{zone}:500\nvisible 3h\nstart {start}s\nnode_load1{{instance=\"a\",job=\"node\"}}"
            );
            for row in first..=last {
                write!(series, " {row}x{}", quarters(row) - 1).unwrap();
            }
            let open = now.millis_since(days.row_end(last)) / 900_000;
            write!(series, " 1x{open}").unwrap();
            let read = MemoryRead::load(&series).unwrap();
            let found = series_of(&read, &selector());
            let asked = crate::period::Asked::Period(crate::period::Period::Year);
            let window = Window::of(asked, &found, now);
            let template = fitting(&found).into_iter().find(|t| t.key == "load").unwrap();
            let graph = graph_of(&read, template, &selector(), &window, &TimeZone::UTC).unwrap();
            let line = &graph.series[0];
            assert_eq!(line.points.len(), 365, "{zone}");
            let newest = days.ended_row(graph.end_of(364));
            assert!(now.millis_since(graph.end_of(364)) < 26 * 3_600_000, "{zone}: up to now");
            for (row, index) in (newest - 364..).zip(0..365) {
                close(line.points[index], f64::from(i32::try_from(row).unwrap()));
                assert_eq!(graph.end_of(index), days.row_end(row), "{zone}, point {index}");
            }
        }
    }

    #[test]
    fn another_instance_s_series_are_not_drawn() {
        let load = graph(
            "load",
            "node_load1{instance=\"a\",job=\"node\"} 1x10\nnode_load1{instance=\"b\",job=\"node\"} 9x10",
        );
        assert_eq!(load.series.len(), 1);
        close(point(&load, "1 min", 5), 1.0);
    }

    #[test]
    fn unknown_rows_are_gaps() {
        let load = graph("load", "start 1m\nnode_load1{instance=\"a\",job=\"node\"} 1x2 _x2 1x3");
        let known: Vec<bool> = load.series[0].points.iter().map(Option::is_some).collect();
        assert_eq!(known, [true, true, true, false, false, false, true, true, true, true]);
    }

    #[test]
    fn both_directions_of_a_device_have_its_colour_and_bits_are_counted() {
        let network = graph(
            "network",
            "kind counter\nstart 1m\n\
             node_network_receive_bytes_total{device=\"eth0\",instance=\"a\",job=\"node\"} 100x9\n\
             node_network_transmit_bytes_total{device=\"eth0\",instance=\"a\",job=\"node\"} 50x9\n\
             node_network_receive_bytes_total{device=\"lo\",instance=\"a\",job=\"node\"} 50x9\n\
             node_network_receive_bytes_total{device=\"wg0\",instance=\"a\",job=\"node\"} 1x9\n",
        );
        let hue = |key: &str| network.series.iter().find(|line| line.key == key).unwrap().hue;
        assert_eq!(network.series.len(), 3);
        assert_eq!(hue("eth0 in"), hue("eth0 out"));
        assert_ne!(hue("eth0 in"), hue("wg0 in"));
        close(point(&network, "eth0 in", 5), 800.0);
    }

    #[test]
    fn only_the_largest_of_many_lines_are_kept_and_the_rest_counted() {
        let mut series = String::from("kind counter\nstart 1m\n");
        for device in 0..20 {
            writeln!(
                series,
                "node_disk_io_time_seconds_total{{device=\"sd{device:02}\",instance=\"a\",job=\"node\"}} 0.{device:02}x9"
            )
            .unwrap();
        }
        let busy = graph("disk-busy", &series);
        assert_eq!((busy.series.len(), busy.left_out), (MOST_LINES, 20 - MOST_LINES));
        assert!(busy.series.iter().any(|line| line.key == "sd19"));
        assert!(!busy.series.iter().any(|line| line.key == "sd00"));
    }
}
