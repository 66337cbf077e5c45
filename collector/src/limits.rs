//! Limits: what one request, one sender and one series may take, each with its reason.

use rrd::{LabelError, Labels, NAME, Timestamp};

use crate::accounting::Reason;

/// Compressed bytes of a remote-write request: Prometheus sends 10 KB, vmagent up to some megabytes
/// after an outage.
pub(crate) const WRITE_BODY_LIMIT: usize = 8 << 20;
/// Decoded bytes of a remote-write request, checked in its header before a byte is decoded.
pub(crate) const WRITE_DECODED_LIMIT: usize = 8 << 20;
/// Series in a remote-write request: vmagent sends up to 10,000.
pub(crate) const WRITE_SERIES_LIMIT: usize = 20_000;
/// Samples in a remote-write request.
pub(crate) const WRITE_SAMPLE_LIMIT: usize = 20_000;
/// Bytes of an OTLP request as it is sent.
pub(crate) const OTLP_BODY_LIMIT: usize = 8 << 20;
/// Unpacked bytes of an OTLP request; no more of them are unpacked.
pub(crate) const OTLP_DECODED_LIMIT: usize = 8 << 20;
/// Bytes of a JSON request (enrolment, tokens): a hundred labels fit.
pub(crate) const JSON_BODY_LIMIT: usize = 64 << 10;

/// Bytes of a label's name.
pub(crate) const LABEL_NAME_LIMIT: usize = 128;
/// Bytes of a label's value.
pub(crate) const LABEL_VALUE_LIMIT: usize = 1 << 10;
/// Labels of a series, `__name__` included.
pub(crate) const LABEL_COUNT_LIMIT: usize = 32;
/// Bytes of a series' key.
pub(crate) const KEY_SIZE_LIMIT: usize = 2 << 10;

/// How far ahead of our clock a sample may be: beyond it a wrong clock would hide the true samples
/// that follow.
pub(crate) const FUTURE_LIMIT_MS: i64 = 10 * 60_000;

/// Series of an instance, unless its grant says otherwise; `node_exporter` sends 500 and more.
pub(crate) const SERIES_GRANT: usize = 2_000;

/// Instances in the registry: a file each, and a page that still lists them.
pub(crate) const INSTANCE_LIMIT: usize = 100_000;
/// Instances that one relay token may name.
pub(crate) const RELAY_INSTANCE_LIMIT: usize = 10_000;
/// Tokens in the registry, expired ones included.
pub(crate) const TOKEN_LIMIT: usize = 10_000;

/// Bytes of all requests being worked on; beyond it senders are asked to wait.
pub(crate) const IN_FLIGHT_LIMIT: usize = 64 << 20;

/// Seconds a body may take to arrive.
pub(crate) const BODY_READ_SECS: u64 = 15;

/// The labels of a series as a sender wrote them: checked, sorted, empty values dropped.
///
/// Errors name the limit for a person.
pub(crate) fn checked_series(pairs: &[(&str, &str)]) -> Result<Labels, (Reason, String)> {
    let labels = checked_labels(pairs)?;
    if labels.metric().is_none() {
        return Err((Reason::NoName, format!("the series has no {NAME}; name the metric")));
    }
    Ok(labels)
}

/// Labels of a series or an instance, within the limits.
pub(crate) fn checked_labels(pairs: &[(&str, &str)]) -> Result<Labels, (Reason, String)> {
    let over = |what: &str, have: usize, limit: usize| {
        Err((
            Reason::LabelLimit,
            format!("{what} is {have}, over the limit of {limit}; shorten it"),
        ))
    };
    if pairs.len() > LABEL_COUNT_LIMIT {
        return over("the number of labels", pairs.len(), LABEL_COUNT_LIMIT);
    }
    for (name, value) in pairs {
        if name.len() > LABEL_NAME_LIMIT {
            return over("the length of a label's name", name.len(), LABEL_NAME_LIMIT);
        }
        if value.len() > LABEL_VALUE_LIMIT {
            return over(&format!("the length of label {name}"), value.len(), LABEL_VALUE_LIMIT);
        }
        if name.chars().any(char::is_control) {
            return Err((
                Reason::BadLabel,
                "a label's name holds control characters; rename it".to_owned(),
            ));
        }
    }
    let labels = Labels::from_pairs(pairs.iter().copied()).map_err(|error| {
        let reason = match error {
            LabelError::Duplicate(_) => Reason::DuplicateLabel,
            _ => Reason::BadLabel,
        };
        (reason, error.to_string())
    })?;
    let size: usize = labels.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    if size > KEY_SIZE_LIMIT {
        return over("the length of all labels", size, KEY_SIZE_LIMIT);
    }
    Ok(labels)
}

/// The stretch of time that samples are taken from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    oldest: Timestamp,
    newest: Timestamp,
}

impl Window {
    /// What an archive reaching back `keep_ms` takes at `now`.
    pub(crate) fn at(now: Timestamp, keep_ms: i64) -> Self {
        Self { oldest: now.plus_millis(-keep_ms), newest: now.plus_millis(FUTURE_LIMIT_MS) }
    }

    /// Why a sample at `at` is refused, if it is.
    pub(crate) fn refuses(self, at: Timestamp) -> Option<Reason> {
        if at > self.newest {
            Some(Reason::Future)
        } else if at <= self.oldest {
            Some(Reason::TooOld)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked_to_the_byte() {
        let long = |len: usize| "x".repeat(len);
        let (name_ok, name_over) = (long(LABEL_NAME_LIMIT), long(LABEL_NAME_LIMIT + 1));
        let (value_ok, value_over) = (long(LABEL_VALUE_LIMIT), long(LABEL_VALUE_LIMIT + 1));
        for (pairs, expected) in [
            (vec![(NAME, "m"), ("b", "1"), ("a", "2")], None),
            (vec![(NAME, "m"), ("empty", "")], None),
            (vec![(NAME, "m"), (name_ok.as_str(), "v")], None),
            (vec![(NAME, "m"), (name_over.as_str(), "v")], Some(Reason::LabelLimit)),
            (vec![(NAME, "m"), ("a", value_ok.as_str())], None),
            (vec![(NAME, "m"), ("a", value_over.as_str())], Some(Reason::LabelLimit)),
            (
                vec![(NAME, "m"), ("a", value_ok.as_str()), ("b", value_ok.as_str())],
                Some(Reason::LabelLimit),
            ),
            (vec![(NAME, "m"); LABEL_COUNT_LIMIT + 1], Some(Reason::LabelLimit)),
            (vec![(NAME, "m"), ("a", "1"), ("a", "1")], Some(Reason::DuplicateLabel)),
            (vec![(NAME, "m"), ("", "1")], Some(Reason::BadLabel)),
            (vec![(NAME, "m"), ("a\r\nb", "1")], Some(Reason::BadLabel)),
            (vec![("a", "1")], Some(Reason::NoName)),
            (vec![], Some(Reason::NoName)),
            (vec![(NAME, "")], Some(Reason::NoName)),
        ] {
            let found = checked_series(&pairs).err().map(|(reason, _)| reason);
            assert_eq!(found, expected, "{pairs:?}");
        }
    }

    #[test]
    fn time_is_checked_to_the_millisecond() {
        let now = Timestamp::from_secs(1_700_000_000);
        let window = Window::at(now, 3_600_000);
        for (at, expected) in [
            (now, None),
            (now.plus_millis(FUTURE_LIMIT_MS), None),
            (now.plus_millis(FUTURE_LIMIT_MS + 1), Some(Reason::Future)),
            (now.plus_millis(-3_599_999), None),
            (now.plus_millis(-3_600_000), Some(Reason::TooOld)),
            (Timestamp::from_millis(0), Some(Reason::TooOld)),
            (Timestamp::MIN, Some(Reason::TooOld)),
            (Timestamp::MAX, Some(Reason::Future)),
        ] {
            assert_eq!(window.refuses(at), expected, "{at}");
        }
    }
}
