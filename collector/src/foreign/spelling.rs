//! Spelling: names, numbers and times of other protocols as ours; where a host names the instance.

use rrd::Timestamp;

/// Names and values of a series' labels.
pub(crate) type Pairs = Vec<(String, String)>;

/// A metric's name: letters, digits, `_` and `:`; any other byte becomes `_`, and a digit in front
/// gets one before it.
pub(crate) fn metric_name(text: &str) -> String {
    spelled(text, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

/// A label's name: letters, digits and `_`.
pub(crate) fn label_name(text: &str) -> String {
    spelled(text, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn spelled(text: &str, legal: impl Fn(u8) -> bool) -> String {
    let mut name = String::with_capacity(text.len() + 1);
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        name.push('_');
    }
    name.extend(text.chars().map(|c| match u8::try_from(c) {
        Ok(byte) if legal(byte) => c,
        _ => '_',
    }));
    name
}

/// A finite number in decimal digits, as every protocol writes them; `None` for words such as `inf`
/// and for what no float holds.
pub(crate) fn number(text: &str) -> Option<f64> {
    let digits = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    if !text.bytes().all(digits) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The moment so many seconds after 1970; one beyond all time is the end of it, which the window of
/// samples refuses.
#[expect(clippy::cast_possible_truncation, reason = "clamped to whole numbers that an i64 holds")]
pub(crate) fn moment(secs: f64) -> Timestamp {
    const END_MS: f64 = 9e15;
    Timestamp::from_millis((secs * 1000.0).round().clamp(-END_MS, END_MS) as i64)
}

/// Lets the label `host` name the instance, unless `instance` does, and names the job where no label
/// does.
pub(crate) fn place(pairs: &mut Pairs, job: &str) {
    let has = |pairs: &Pairs, wanted| pairs.iter().any(|(name, _)| name == wanted);
    if !has(pairs, "instance")
        && let Some(host) = pairs.iter_mut().find(|(name, _)| name == "host")
    {
        "instance".clone_into(&mut host.0);
    }
    if !has(pairs, "job") {
        pairs.push(("job".to_owned(), job.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_what_promql_can_write() {
        for (text, metric, label) in [
            ("cpu", "cpu", "cpu"),
            ("net.if-in", "net_if_in", "net_if_in"),
            ("a:b", "a:b", "a_b"),
            ("5xx", "_5xx", "_5xx"),
            ("größe", "gr__e", "gr__e"),
            ("", "", ""),
        ] {
            assert_eq!((metric_name(text), label_name(text)), (metric.into(), label.into()));
        }
    }

    #[test]
    fn moments_are_rounded_to_milliseconds_and_never_wrap() {
        for (secs, millis) in [
            (1_700_000_000.123_6, 1_700_000_000_124),
            (-1.0, -1_000),
            (1e300, 9_000_000_000_000_000),
            (f64::NEG_INFINITY, -9_000_000_000_000_000),
        ] {
            assert_eq!(moment(secs).as_millis(), millis, "{secs}");
        }
    }

    #[test]
    fn numbers_are_finite_decimals() {
        for (text, value) in [
            ("1", Some(1.0)),
            ("-1.5e3", Some(-1500.0)),
            ("+.5", Some(0.5)),
            ("1.", Some(1.0)),
            ("1e999", None),
            ("nan", None),
            ("inf", None),
            ("0x10", None),
            ("1_000", None),
            ("", None),
            ("-", None),
            (" 1", None),
        ] {
            assert_eq!(number(text), value, "{text:?}");
        }
    }
}
