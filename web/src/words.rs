//! Words for numbers and moments, as the pages write them.

use jiff::tz::TimeZone;
use rrd::Timestamp;

use crate::graph::ticks::local;
use crate::graph::{Scale, Unit};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A length of time in its largest unit that keeps two digits' worth: `90 s`, `12 min`, `3 days`.
pub(crate) fn length(millis: u64) -> String {
    let (count, unit) = match millis {
        0..SECOND => (millis, "ms"),
        SECOND..120_000 => (millis / SECOND, "s"),
        120_000..7_200_000 => (millis / MINUTE, "min"),
        7_200_000..172_800_000 => (millis / HOUR, "h"),
        _ => (millis / DAY, "days"),
    };
    format!("{count}\u{a0}{unit}")
}

/// How long ago `at` was.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    match u64::try_from(now.millis_since(at)) {
        Ok(millis) if millis < 2 * SECOND => "just now".to_owned(),
        Ok(millis) => format!("{} ago", length(millis)),
        Err(_) => "just now".to_owned(), // Clocks of two machines differ by a little.
    }
}

/// A moment in full: `21 Nov 2026, 14:05:09`.
pub(crate) fn moment(at: Timestamp, zone: &TimeZone) -> String {
    local(at, zone)
        .map_or_else(|| "never".to_owned(), |here| here.strftime("%-d %b %Y, %H:%M:%S").to_string())
}

/// A moment as machines read it.
pub(crate) fn iso(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis())
        .map(|moment| moment.to_string())
        .unwrap_or_default()
}

/// A number of bytes.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(count: u64) -> String {
    Unit { symbol: "B".to_owned(), scale: Scale::Binary }.text(count as f64)
}

/// A whole number with its thousands apart: `1 234 567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// `1 series`, `2 series`; `1 row`, `2 rows`.
pub(crate) fn plural(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_counts_read_well() {
        for (millis, text) in [
            (5, "5\u{a0}ms"),
            (90_000, "90\u{a0}s"),
            (720_000, "12\u{a0}min"),
            (10_800_000, "3\u{a0}h"),
            (259_200_000, "3\u{a0}days"),
        ] {
            assert_eq!(length(millis), text);
        }
        for (number, text) in [(7, "7"), (1234, "1\u{202f}234"), (123_456, "123\u{202f}456")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn a_moment_ahead_of_our_clock_is_now() {
        let now = Timestamp::from_secs(100);
        assert_eq!(ago(Timestamp::from_secs(103), now), "just now");
        assert_eq!(ago(Timestamp::from_secs(70), now), "30\u{a0}s ago");
    }
}
