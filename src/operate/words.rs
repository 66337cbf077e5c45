//! Words for people: bytes, counts, durations and moments.

use rrd::Timestamp;

/// Bytes as a person says them, such as `18.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut number = float(count);
    let mut unit = "B";
    for next in units {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, next);
    }
    if unit == "B" { format!("{count} B") } else { format!("{number:.1} {unit}") }
}

/// A whole number with its thousands apart: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 archive`, `1,200 archives`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    let many = if number == 1 { "" } else { "s" };
    format!("{} {thing}{many}", count(number))
}

/// How far back something reaches, in the largest unit that leaves no crooked number: `2 days`. Days
/// enough for years say those too.
pub(crate) fn reach(millis: u64) -> String {
    const YEAR: u64 = 365 * 86_400_000;
    if millis > YEAR && millis.is_multiple_of(86_400_000) && !millis.is_multiple_of(YEAR) {
        let days = count(millis / 86_400_000);
        return format!("{days} days ({:.1} years)", float(millis) / float(YEAR));
    }
    let units = [
        (YEAR, "year"),
        (86_400_000, "day"),
        (3_600_000, "hour"),
        (60_000, "minute"),
        (1000, "second"),
    ];
    for (width, unit) in units {
        if millis >= width && millis.is_multiple_of(width) {
            let number = millis / width;
            return format!("{} {unit}{}", count(number), if number == 1 { "" } else { "s" });
        }
    }
    format!("{} ms", count(millis))
}

/// A moment in UTC, to the second.
pub(crate) fn moment(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{at} ms"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
        let reaches = [1500, 172_800_000, 5 * 365 * 86_400_000, 3_600_000].map(reach);
        assert_eq!(reaches, ["1,500 ms", "2 days", "5 years", "1 hour"]);
        assert_eq!(reach(1826 * 86_400_000), "1,826 days (5.0 years)");
        assert_eq!(moment(Timestamp::from_secs(86_399)), "1970-01-01 23:59:59");
    }
}
