//! Numbers in rrdtool's spelling, read and printed.

use std::fmt::{self, Write as _};

/// A decimal number, `inf` or `nan` in any case; `None` for anything else, hexadecimal included.
pub(super) fn parse_decimal(text: &str) -> Option<f64> {
    let text = text.trim_start_matches(' ');
    text.parse().ok()
}

/// Whole digits, at least one and nothing else; more than an i128 holds is its largest.
pub(super) fn parse_digits(text: &str) -> Option<i128> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().unwrap_or(i128::MAX))
}

/// Why a count with a suffix is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScaledError {
    #[error("write a positive number, or a time as in 90s, 5m, 1h, 1d, 1w, 1M or 1y")]
    NotANumber,
    #[error("it must be at least 1")]
    Zero,
    #[error("it must be a whole multiple of {0} seconds")]
    NotAMultiple(u64),
    #[error("it is too large")]
    TooLarge,
}

/// A count, or a time in suffixed seconds as a count of `unit_s`. A month has 31 days, a year 366.
pub(super) fn parse_scaled(text: &str, unit_s: u64) -> Result<u64, ScaledError> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    if digits.is_empty() {
        return Err(ScaledError::NotANumber);
    }
    let number: u64 = digits.parse().map_err(|_| ScaledError::TooLarge)?;
    let width_s: u64 = match suffix {
        "" => return if number == 0 { Err(ScaledError::Zero) } else { Ok(number) },
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        "M" => 31 * 86_400,
        "y" => 366 * 86_400,
        _ => return Err(ScaledError::NotANumber),
    };
    let seconds = number.checked_mul(width_s).ok_or(ScaledError::TooLarge)?;
    match seconds {
        0 => Err(ScaledError::Zero),
        _ if !seconds.is_multiple_of(unit_s) => Err(ScaledError::NotAMultiple(unit_s)),
        _ => Ok(seconds / unit_s),
    }
}

/// Adds to a text.
pub(super) fn add(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a text takes whatever is written");
}

/// A number as C's `%.10e` prints it, unknown as the given word.
pub(super) struct Printed(pub(super) f64, pub(super) &'static str);

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unknown) = *self;
        if value.is_nan() {
            return f.write_str(unknown);
        }
        if value.is_infinite() {
            return f.write_str(if value > 0.0 { "inf" } else { "-inf" });
        }
        let text = format!("{value:.10e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        write!(f, "{mantissa}e{sign}{digits:0>2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_c_does() {
        for (value, text) in [
            (1.5, "1.5000000000e+00"),
            (0.0, "0.0000000000e+00"),
            (-1e-7, "-1.0000000000e-07"),
            (1e100, "1.0000000000e+100"),
            (99_999_999_999.9, "1.0000000000e+11"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "-nan"),
        ] {
            assert_eq!(Printed(value, "-nan").to_string(), text);
        }
    }

    #[test]
    fn a_time_is_a_count_of_its_unit() {
        use ScaledError::{NotAMultiple, NotANumber, TooLarge, Zero};
        for (text, unit_s, count) in [
            ("300", 60, Ok(300)),
            ("300s", 60, Ok(5)),
            ("18M", 3600, Ok(13_392)),
            ("10y", 86_400, Ok(3660)),
            ("1w", 1, Ok(604_800)),
            ("15s", 10, Err(NotAMultiple(10))),
            ("0", 1, Err(Zero)),
            ("0h", 1, Err(Zero)),
            ("", 1, Err(NotANumber)),
            ("-5", 1, Err(NotANumber)),
            ("1.5", 1, Err(NotANumber)),
            ("2H", 1, Err(NotANumber)),
            ("99999999999999999999", 1, Err(TooLarge)),
            ("999999999999999999y", 1, Err(TooLarge)),
        ] {
            assert_eq!(parse_scaled(text, unit_s), count, "{text}");
        }
    }
}
