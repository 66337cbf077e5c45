//! The parts of an answer's JSON, written as Prometheus writes them: moments in seconds, values as
//! strings.

use std::fmt::Write;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rrd::{Labels, Timestamp};

/// Answers `data` (JSON), all of it at hand.
pub(crate) fn success(data: &str) -> Response {
    let mut out = String::with_capacity(data.len() + 64);
    out.push_str("{\"status\":\"success\",\"data\":");
    out.push_str(data);
    out.push('}');
    (StatusCode::OK, body(out)).into_response()
}

/// A JSON body with its type.
pub(crate) fn body(text: impl Into<Body>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text.into())
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
pub(crate) fn list<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (at, item) in items.into_iter().enumerate() {
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

/// A text as a JSON string of its own.
pub(crate) fn quoted(content: &str) -> String {
    let mut out = String::with_capacity(content.len() + 2);
    text(&mut out, content);
    out
}

/// `[1435781451.781,"1"]`: seconds with no or three decimals.
pub(crate) fn pair(out: &mut String, at: Timestamp, value: f64) {
    let millis = at.as_millis();
    out.push('[');
    if millis < 0 {
        out.push('-');
    }
    let millis = millis.unsigned_abs();
    let rest = millis % 1000;
    digits(out, millis / 1000);
    if rest > 0 {
        write!(out, ".{rest:03}").expect("a string takes all");
    }
    out.push_str(",\"");
    number(out, value);
    out.push_str("\"]");
}

/// A scalar's or a string's moment, which Prometheus writes as a plain number: `1.5`.
pub(crate) fn plain_moment(out: &mut String, at: Timestamp) {
    write!(out, "{}", at.as_secs_f64()).expect("a string takes all");
}

/// A value as Go writes it: the shortest digits that read back the same.
pub(crate) fn number(out: &mut String, value: f64) {
    let size = value.abs();
    if value.to_bits() == size.to_bits()
        && let Some(whole) = whole(size)
    {
        return digits(out, whole);
    }
    if size != 0.0 && size.is_finite() && !(1e-6..1e21).contains(&size) {
        return exponent(out, value);
    }
    short_number(out, value);
}

/// A value in digits alone where those are few, as nearly all are: several times faster than the
/// standard library, which would take most of the time of an answer.
fn short_number(out: &mut String, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format(value);
    let is_plain = NEVER_A_POWER.contains(&value.abs()) || value.is_finite() && !text.contains('e');
    if is_plain {
        out.push_str(text.strip_suffix(".0").unwrap_or(text));
    } else {
        plain_number(out, value);
    }
}

/// Sizes that are never written with a power of ten, wherever the writer begins to.
const NEVER_A_POWER: std::ops::Range<f64> = 1e-3..1e12;

/// Up to here every whole number is a value of its own: 2^53.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// A size that is a whole number, and not too large to tell.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "not negative and at most 2^53, where whole numbers go there and back unchanged"
)]
fn whole(size: f64) -> Option<u64> {
    let number = size as u64;
    (size <= LARGEST_WHOLE && number as f64 == size).then_some(number)
}

/// A whole number. Moments and most values are such, and an answer has thousands of them.
fn digits(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// A value in digits alone, however many, as Prometheus writes scalars.
pub(crate) fn plain_number(out: &mut String, value: f64) {
    let written = if value.is_nan() {
        write!(out, "NaN")
    } else if value.is_infinite() {
        write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' })
    } else {
        write!(out, "{value}")
    };
    written.expect("a string takes all");
}

/// A value with its power of ten, as Prometheus writes an alert's: `1e+06`.
pub(crate) fn exponent(out: &mut String, value: f64) {
    if !value.is_finite() {
        return plain_number(out, value);
    }
    let short = format!("{value:e}");
    let (digits, power) = short.split_once('e').unwrap_or((&short, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    write!(out, "{digits}e{sign}{power:0>2}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        for (value, text) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (0.0, "0"),
            (-3.0, "-3"),
            (1e6, "1000000"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (123_456_789.0, "123456789"),
            (1e-6, "0.000001"),
            (1e-7, "1e-07"),
            (1.5e300, "1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(written(|out| number(out, value)), text);
        }
        assert_eq!(written(|out| plain_number(out, 1e-7)), "0.0000001");
        for (value, text) in [(1.0, "1e+00"), (1e6, "1e+06"), (-0.025, "-2.5e-02"), (0.0, "0e+00")]
        {
            assert_eq!(written(|out| exponent(out, value)), text);
        }
    }

    #[test]
    fn short_numbers_are_as_short_as_can_be_and_read_back() {
        let mut bits: u64 = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(0xd129_0d3e_8b1a_a7c5).rotate_left(23) ^ 0x5851;
            let decimal = f64::from(u32::try_from(bits >> 40).unwrap()) / 1000.0;
            for value in [f64::from_bits(bits), decimal, -decimal, decimal * 1e-4] {
                // Of two that are as near the standard library may choose the other.
                let (short, plain) = (written(|out| short_number(out, value)), value.to_string());
                let back: f64 = short.parse().unwrap();
                let is_same =
                    back.to_bits() == value.to_bits() || (back.is_nan() && value.is_nan());
                let is_infinite = value.is_infinite();
                assert!(is_same && (short.len() == plain.len() || is_infinite), "{short} {plain}");
            }
        }
    }

    #[test]
    fn moments_have_no_or_three_decimals() {
        for (millis, json) in [
            (1500, r#"[1.500,"0"]"#),
            (-500, r#"[-0.500,"0"]"#),
            (10, r#"[0.010,"0"]"#),
            (-60_000, r#"[-60,"0"]"#),
        ] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(written(|out| pair(out, at, 0.0)), json);
        }
        let at = Timestamp::from_millis(1500);
        assert_eq!(written(|out| plain_moment(out, at)), "1.5");
    }

    #[test]
    fn hostile_labels_are_json_and_not_html() {
        let hostile = Labels::from_pairs([("a\"b", "</script>\u{1}\\")]).unwrap();
        let out = written(|out| labels(out, &hostile));
        let read: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(read["a\"b"], "</script>\u{1}\\");
        assert!(!out.contains('<'));
    }
}
