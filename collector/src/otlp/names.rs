//! Names: from OpenTelemetry's to those that Prometheus' OTLP receiver gives by default.

use super::model::{Metric, Shape, Since};

/// Units by their full names, after UCUM's abbreviations.
const UNITS: [(&str, &str); 24] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
];

/// What follows the slash of a unit.
const PER: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The name of a metric with its unit and, for a count, `_total`; empty where nothing of it is left.
pub(super) fn metric_name(metric: &Metric<'_>) -> String {
    let mut words: Vec<String> = words(&metric.name);
    let (unit, per) = unit_words(&metric.unit);
    words.extend(unit.filter(|unit| !words.contains(unit)));
    words.extend(per.filter(|per| !words.contains(per)));
    let last = match metric.shape {
        Shape::Sum { only_rises: true, since: Since::Start | Since::Previous } => Some("total"),
        Shape::Gauge if metric.unit == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        words.retain(|word| word != last);
        words.push(last.to_owned());
    }
    let name = words.join("_");
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn words(name: &str) -> Vec<String> {
    let apart = |c: char| !(c.is_ascii_alphanumeric() || c == ':');
    name.split(apart).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The words of a unit: its name, and `per_second` for one by time. Annotations in braces are no
/// units.
fn unit_words(unit: &str) -> (Option<String>, Option<String>) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |text: &str, names: &[(&str, &str)]| {
        let text = text.trim();
        if text.is_empty() || text.contains(['{', '}']) {
            return None;
        }
        let known = names.iter().find(|(short, _)| *short == text).map(|(_, name)| *name);
        let word = words(known.unwrap_or(text)).join("_");
        (!word.is_empty()).then_some(word)
    };
    let main = match main.trim() {
        "1" => None,
        "%" => Some("percent".to_owned()),
        main => word(main, &UNITS),
    };
    (main, word(per, &PER).map(|per| format!("per_{per}")))
}

/// The name of a label.
pub(super) fn label_name(attribute: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = attribute.chars().map(plain).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("key_{name}")
    } else if name.starts_with('_') && !name.starts_with("__") {
        format!("key{name}")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: Shape = Shape::Sum { since: Since::Start, only_rises: true };
    const LEVEL: Shape = Shape::Sum { since: Since::Start, only_rises: false };

    #[test]
    fn metrics_are_named_as_prometheus_names_them() {
        for (name, unit, shape, expected) in [
            (
                "http.server.duration",
                "s",
                Shape::Histogram(Since::Start),
                "http_server_duration_seconds",
            ),
            ("http.server.duration", "ms", Shape::Summary, "http_server_duration_milliseconds"),
            ("requests.count", "1", COUNT, "requests_count_total"),
            ("requests", "{request}", COUNT, "requests_total"),
            ("total.requests", "", COUNT, "requests_total"),
            ("system.io", "By", COUNT, "system_io_bytes_total"),
            ("memory.usage", "By", Shape::Gauge, "memory_usage_bytes"),
            ("memory_bytes_used", "By", Shape::Gauge, "memory_bytes_used"),
            ("queue.length", "1", LEVEL, "queue_length"),
            ("disk.used", "1", Shape::Gauge, "disk_used_ratio"),
            ("ratio.used", "1", Shape::Gauge, "used_ratio"),
            ("cpu", "%", Shape::Gauge, "cpu_percent"),
            ("net.io", "By/s", Shape::Gauge, "net_io_bytes_per_second"),
            ("net.io", "{packet}/s", Shape::Gauge, "net_io_per_second"),
            ("speed", "m/h", Shape::Gauge, "speed_meters_per_hour"),
            ("odd", "widgets per box", Shape::Gauge, "odd_widgets_per_box"),
            ("a..b__c", "", Shape::Gauge, "a_b_c"),
            ("job:x", "", Shape::Gauge, "job:x"),
            ("3d.frames", "", Shape::Gauge, "_3d_frames"),
            ("größe", "", Shape::Gauge, "gr_e"),
            ("", "", Shape::Gauge, ""),
            ("…", "", Shape::Gauge, ""),
        ] {
            let metric = Metric { name: name.into(), unit: unit.into(), shape };
            assert_eq!(metric_name(&metric), expected, "{name} in {unit}");
        }
    }

    #[test]
    fn labels_are_named_as_prometheus_names_them() {
        for (attribute, expected) in [
            ("http.method", "http_method"),
            ("plain", "plain"),
            ("a..b", "a__b"),
            ("3d", "key_3d"),
            (".hidden", "key_hidden"),
            ("__reserved", "__reserved"),
            ("größe", "gr__e"),
            ("", ""),
        ] {
            assert_eq!(label_name(attribute), expected, "{attribute}");
        }
    }
}
