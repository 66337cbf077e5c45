//! Readings as Prometheus' text exposition, for a person who asks what would be sent.

use std::fmt::Write as _;

use super::reading::{Reading, Readings};

/// All readings by metric, each under its TYPE line.
pub(super) fn exposition(readings: &Readings) -> String {
    let mut sorted: Vec<Reading<'_>> = readings.iter().collect();
    sorted.sort_by_key(|reading| reading.metric);
    let mut text = String::new();
    let mut metric = "";
    for reading in sorted {
        if reading.metric != metric {
            metric = reading.metric;
            let kind = if reading.kind.is_counter() { "counter" } else { "gauge" };
            text.push_str("# TYPE ");
            text.push_str(metric);
            text.push(' ');
            text.push_str(kind);
            text.push('\n');
        }
        text.push_str(metric);
        labels(&reading, &mut text);
        writeln!(text, " {}", reading.value).expect("a String takes all");
    }
    text
}

fn labels(reading: &Reading<'_>, text: &mut String) {
    let mut opening = '{';
    for (name, value) in reading.labels() {
        text.push(opening);
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                plain => text.push(plain),
            }
        }
        text.push('"');
        opening = ',';
    }
    if opening == ',' {
        text.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_written_by_metric_with_escaped_labels() {
        let mut readings = Readings::default();
        readings.gauge("node_load1", &[], 0.5);
        readings.total("node_x_total", &[("device", "a"), ("path", "/\"b\\\n")], 3.0);
        readings.gauge("node_load1", &[("a", "b")], 7e20);
        let expected = "\
# TYPE node_load1 gauge
node_load1 0.5
node_load1{a=\"b\"} 700000000000000000000
# TYPE node_x_total counter
node_x_total{device=\"a\",path=\"/\\\"b\\\\\\n\"} 3
";
        assert_eq!(exposition(&readings), expected);
    }
}
