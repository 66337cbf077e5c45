//! Numbers of a page: values as Go's `ParseFloat` reads them, and timestamps.

use rrd::Timestamp;

use super::Format;
use super::fault::Fault;

/// Digits of a hexadecimal number that are read exactly; a float keeps thirteen and a half.
const HEX_DIGITS: usize = 15;

/// The value written so.
pub(super) fn value(text: &str, format: Format) -> Result<f64, Fault> {
    let read = match text.parse::<f64>() {
        // What is written in digits and does not fit is a fault, not infinity.
        Ok(value) if value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) => None,
        Ok(value) if value.is_nan() => Some(f64::NAN),
        Ok(value) => Some(value),
        Err(_) if format == Format::Text => hexadecimal(text),
        Err(_) => None,
    };
    read.ok_or_else(|| Fault::Value(cut(text)))
}

/// The moment written so: milliseconds in the text format, seconds in `OpenMetrics`.
pub(super) fn timestamp(text: &str, format: Format) -> Result<Timestamp, Fault> {
    match format {
        Format::Text => match text.parse() {
            Ok(millis) => Ok(Timestamp::from_millis(millis)),
            Err(_) => Err(Fault::Timestamp(cut(text))),
        },
        Format::OpenMetrics => seconds(text).ok_or_else(|| Fault::Seconds(cut(text))),
    }
}

/// Seconds of the years that a calendar has: their milliseconds are exact in a float.
const SECONDS_MAX: f64 = 253_402_300_800.0;

#[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
fn seconds(text: &str) -> Option<Timestamp> {
    let seconds: f64 = text.parse().ok()?;
    let is_in_range = seconds.abs() <= SECONDS_MAX; // Not so for NaN.
    is_in_range.then(|| Timestamp::from_millis((seconds * 1000.0).round() as i64))
}

/// A hexadecimal floating-point number with its exponent of two, such as `0x1.8p3`.
fn hexadecimal(text: &str) -> Option<f64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let rest = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X"))?;
    let (mantissa, exponent) = rest.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = whole.bytes().chain(fraction.bytes());
    let places = i32::try_from(fraction.len()).ok()?;
    let mut value = 0.0_f64;
    let mut left_out = 0_i32;
    let mut taken = 0;
    let mut is_empty = true;
    for digit in digits {
        let digit = char::from(digit).to_digit(16)?;
        is_empty = false;
        if taken < HEX_DIGITS {
            value = value * 16.0 + f64::from(digit);
            taken += usize::from(value > 0.0);
        } else {
            left_out += 1;
        }
    }
    if is_empty {
        return None;
    }
    let power = exponent.checked_add(left_out.checked_sub(places)?.checked_mul(4)?)?;
    let value = sign * scaled(value, power);
    value.is_finite().then_some(value)
}

/// `value` times two to the `power`, in steps that do not overflow before the end is reached.
fn scaled(mut value: f64, power: i32) -> f64 {
    let mut left = power.clamp(-3_000, 3_000);
    while left != 0 {
        let step = left.clamp(-512, 512);
        value *= 2.0_f64.powi(step);
        left -= step;
    }
    value
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("+1", Some(1.0)),
            ("-1.5e3", Some(-1500.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1E-3", Some(0.001)),
            ("+Inf", Some(f64::INFINITY)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("Infinity", Some(f64::INFINITY)),
            ("0x1.8p3", Some(12.0)),
            ("-0X1p-2", Some(-0.25)),
            ("0x.8p0", Some(0.5)),
            ("0x10p0", Some(16.0)),
            ("0x1p-1074", Some(5e-324)),
            ("0x1.fffffffffffffp1023", Some(f64::MAX)),
            ("0x000000000000000000001p0", Some(1.0)),
            ("0x1p1024", None),
            ("0x1p99999999999", None),
            ("0x10", None),
            ("0xp1", None),
            ("0x1.2.3p1", None),
            ("1e999", None),
            ("1_000", None),
            ("", None),
            ("one", None),
            ("1,5", None),
        ] {
            assert_eq!(value(text, Format::Text).ok(), expected, "{text}");
        }
        for text in ["NaN", "nan", "-nan"] {
            assert!(value(text, Format::Text).unwrap().is_nan(), "{text}");
        }
        assert!(
            value("0x1p0", Format::OpenMetrics).is_err(),
            "OpenMetrics has decimal numbers only"
        );
    }

    #[test]
    fn timestamps_are_milliseconds_in_text_and_seconds_in_openmetrics() {
        for (text, in_text, in_openmetrics) in [
            ("1600000000123", Some(1_600_000_000_123), None),
            ("1600000000", Some(1_600_000_000), Some(1_600_000_000_000)),
            ("1600000000.123", None, Some(1_600_000_000_123)),
            ("-5", Some(-5), Some(-5_000)),
            ("1.6e9", None, Some(1_600_000_000_000)),
            ("NaN", None, None),
            ("Inf", None, None),
            ("9223372036854775808", None, None),
            ("x", None, None),
        ] {
            let millis = |format| timestamp(text, format).ok().map(Timestamp::as_millis);
            assert_eq!(millis(Format::Text), in_text, "{text}");
            assert_eq!(millis(Format::OpenMetrics), in_openmetrics, "{text}");
        }
    }
}
