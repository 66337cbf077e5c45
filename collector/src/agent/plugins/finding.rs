//! A finding: one value that a source outside of `/proc` gave, with a name that is known only then.

use std::borrow::Cow;

use rrd::Kind;

use crate::agent::reading::Readings;

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) metric: Cow<'static, str>,
    /// Names and values in the order in which the series has them.
    pub(crate) labels: Vec<(Cow<'static, str>, String)>,
    pub(crate) kind: Kind,
    pub(crate) value: f64,
}

impl Finding {
    /// The level of something.
    pub(crate) fn gauge(metric: &'static str, labels: &[(&'static str, &str)], value: f64) -> Self {
        Self::of(metric, labels, (Kind::Gauge, value))
    }

    /// A reading of this kind.
    pub(crate) fn of(
        metric: &'static str,
        labels: &[(&'static str, &str)],
        (kind, value): (Kind, f64),
    ) -> Self {
        // A label without a value is none.
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|(name, value)| (Cow::Borrowed(*name), (*value).to_owned()));
        Self { metric: Cow::Borrowed(metric), labels: labels.collect(), kind, value }
    }

    /// Adds it to the readings of a look.
    pub(crate) fn tell(&self, out: &mut Readings) {
        let labels: Vec<(&str, &str)> =
            self.labels.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect();
        out.add(&self.metric, &labels, self.kind, self.value);
    }
}

#[cfg(test)]
impl Finding {
    /// As text exposition writes it, for tests.
    pub(crate) fn text(&self) -> String {
        let pairs: Vec<String> =
            self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let braces =
            if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        format!("{}{braces} {}", self.metric, self.value)
    }
}
