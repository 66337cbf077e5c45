//! JSON of answers, written as Prometheus writes it: moments in seconds, values as strings.

use std::fmt::Write;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use query::{Answer, Value};
use rrd::{Labels, Timestamp};

/// Answers `data` (JSON) with its warnings.
pub(crate) fn success(data: &str, warnings: &[String]) -> Response {
    let mut out = String::with_capacity(data.len() + 64);
    out.push_str("{\"status\":\"success\",\"data\":");
    out.push_str(data);
    if !warnings.is_empty() {
        out.push_str(",\"warnings\":");
        list(&mut out, warnings, |out, warning| text(out, warning));
    }
    out.push('}');
    (StatusCode::OK, body(out)).into_response()
}

/// A JSON body with its type.
pub(crate) fn body(text: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(text))
}

/// The `data` of an answer.
pub(crate) fn answer(answer: &Answer) -> String {
    let mut out = String::from("{\"resultType\":\"");
    match &answer.value {
        Value::Scalar { at, value } => {
            out.push_str("scalar\",\"result\":");
            pair(&mut out, *at, *value);
        }
        Value::Text(content) => {
            out.push_str("string\",\"result\":[0,");
            text(&mut out, content);
            out.push(']');
        }
        Value::Vector(points) => {
            out.push_str("vector\",\"result\":");
            list(&mut out, points, |out, point| {
                out.push_str("{\"metric\":");
                labels(out, &point.labels);
                out.push_str(",\"value\":");
                pair(out, point.at, point.value);
                out.push('}');
            });
        }
        Value::Matrix(lines) => {
            out.push_str("matrix\",\"result\":");
            list(&mut out, lines, |out, line| {
                out.push_str("{\"metric\":");
                labels(out, &line.labels);
                out.push_str(",\"values\":");
                list(out, &line.points, |out, (at, value)| pair(out, *at, *value));
                out.push('}');
            });
        }
    }
    out.push('}');
    out
}

/// Labels as an object.
pub(crate) fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        text(out, name);
        out.push(':');
        text(out, value);
    }
    out.push('}');
}

/// `[a,b]`, each item written by `write`.
pub(crate) fn list<T>(out: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// A JSON string.
pub(crate) fn text(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Beyond what JSON asks for: an answer shown as HTML by mistake stays text.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{0}'..'\u{20}' => {
                write!(out, "\\u{:04x}", u32::from(letter)).expect("a string takes all");
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}

/// `[1435781451.781,"1"]`
fn pair(out: &mut String, at: Timestamp, value: f64) {
    let millis = at.as_millis();
    let (whole, rest) = (millis / 1000, (millis % 1000).abs());
    let sign = if millis < 0 && whole == 0 { "-" } else { "" };
    write!(out, "[{sign}{whole}").expect("a string takes all");
    if rest != 0 {
        let decimals = format!("{rest:03}");
        write!(out, ".{}", decimals.trim_end_matches('0')).expect("a string takes all");
    }
    out.push_str(",\"");
    number(out, value);
    out.push_str("\"]");
}

/// A value as Go writes it: the shortest digits that read back the same.
fn number(out: &mut String, value: f64) {
    let size = value.abs();
    let written = if value.is_nan() {
        write!(out, "NaN")
    } else if value.is_infinite() {
        write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' })
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let short = format!("{value:e}");
        let (digits, power) = short.split_once('e').unwrap_or((&short, "0"));
        let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
        write!(out, "{digits}e{sign}{power:0>2}")
    } else {
        write!(out, "{value}")
    };
    written.expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use query::{Line, Point};

    use super::*;

    fn labels_of(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn json_of(value: Value) -> String {
        answer(&Answer { value, warnings: Vec::new(), resolutions: Vec::new() })
    }

    #[test]
    fn the_four_shapes_are_those_of_prometheus() {
        let at = Timestamp::from_millis(1_435_781_451_781);
        let up = labels_of(&[("__name__", "up"), ("job", "a")]);
        for (value, json) in [
            (
                Value::Vector(vec![Point { labels: up.clone(), at, value: 1.0 }]),
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1435781451.781,"1"]}]}"#,
            ),
            (
                Value::Matrix(vec![Line { labels: up, points: vec![(at, 0.5), (at, f64::NAN)] }]),
                r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"a"},"values":[[1435781451.781,"0.5"],[1435781451.781,"NaN"]]}]}"#,
            ),
            (
                Value::Scalar { at: Timestamp::from_secs(5), value: f64::INFINITY },
                r#"{"resultType":"scalar","result":[5,"+Inf"]}"#,
            ),
            (Value::Text("a".into()), r#"{"resultType":"string","result":[0,"a"]}"#),
        ] {
            assert_eq!(json_of(value), json);
        }
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (1e21, "1e+21"),
            (123_456_789.0, "123456789"),
            (1e-7, "1e-07"),
            (1.5e300, "1.5e+300"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn moments_keep_their_milliseconds_and_no_more() {
        for (millis, json) in
            [(1500, r#"[1.5,"0"]"#), (-500, r#"[-0.5,"0"]"#), (10, r#"[0.01,"0"]"#)]
        {
            let mut out = String::new();
            pair(&mut out, Timestamp::from_millis(millis), 0.0);
            assert_eq!(out, json);
        }
    }

    #[test]
    fn hostile_labels_are_json_and_not_html() {
        let mut out = String::new();
        labels(&mut out, &labels_of(&[("a\"b", "</script>\u{1}\\")]));
        let read: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(read["a\"b"], "</script>\u{1}\\");
        assert!(!out.contains('<'));
    }
}
