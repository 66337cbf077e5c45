//! One line of StatsD or DogStatsD: `name:value[:value…]|type[|@rate][|#tags][|T…][|c:…]`.

/// A line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Line<'a> {
    Metric(Metric<'a>),
    /// A DogStatsD event, which is no number.
    Event,
    /// A DogStatsD service check, which is a text.
    Check,
}

/// Values of one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    pub(super) kind: MetricKind,
    /// How many values stand for each: one over the rate of sampling.
    pub(super) weight: f64,
    /// `key:value` or `word`, with commas between.
    pub(super) tags: &'a str,
    /// The second that the sender gives them.
    pub(super) at: Option<i64>,
    values: &'a str,
}

/// What a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
    /// Milliseconds.
    Timer,
    /// DogStatsD's histograms and distributions.
    Histogram,
    Set,
}

impl<'a> Metric<'a> {
    /// The values, as they are written.
    pub(super) fn values(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values.split(':')
    }
}

/// Reads a line; `None` when it is none.
pub(super) fn parse(line: &str) -> Option<Line<'_>> {
    if line.starts_with("_e{") {
        return Some(Line::Event);
    }
    if line.starts_with("_sc|") {
        return Some(Line::Check);
    }
    let (name, rest) = line.split_once(':')?;
    let mut parts = rest.split('|');
    let values = parts.next().filter(|values| !values.is_empty())?;
    let kind = match parts.next()? {
        "c" => MetricKind::Counter,
        "g" => MetricKind::Gauge,
        "ms" => MetricKind::Timer,
        "h" | "d" => MetricKind::Histogram,
        "s" => MetricKind::Set,
        _ => return None,
    };
    let mut metric = Metric { name, kind, weight: 1.0, tags: "", at: None, values };
    for part in parts {
        metric.part(part)?;
    }
    (!name.is_empty()).then_some(Line::Metric(metric))
}

impl<'a> Metric<'a> {
    /// A part behind the type. What is not known may be of a later version, and changes no value.
    fn part(&mut self, part: &'a str) -> Option<()> {
        if let Some(rate) = part.strip_prefix('@') {
            let rate = number(rate).filter(|rate| (1e-6..=1.0).contains(rate))?;
            self.weight = 1.0 / rate;
        } else if let Some(tags) = part.strip_prefix('#') {
            self.tags = tags;
        } else if let Some(at) = part.strip_prefix('T') {
            self.at = Some(at.parse().ok()?);
        }
        Some(())
    }
}

/// A finite number.
pub(super) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn metric(text: &str) -> Metric<'_> {
        match parse(text) {
            Some(Line::Metric(metric)) => metric,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn types_values_rates_and_tags_are_read() {
        for (text, name, kind, values, weight, tags) in [
            ("gorets:1|c", "gorets", MetricKind::Counter, "1", 1.0, ""),
            ("gorets:1|c|@0.1", "gorets", MetricKind::Counter, "1", 10.0, ""),
            ("glork:320.5|ms|@0.25", "glork", MetricKind::Timer, "320.5", 4.0, ""),
            ("gaugor:+4|g", "gaugor", MetricKind::Gauge, "+4", 1.0, ""),
            ("uniques:765|s", "uniques", MetricKind::Set, "765", 1.0, ""),
            ("a.b:1:2:3|d|#x:y,z", "a.b", MetricKind::Histogram, "1 2 3", 1.0, "x:y,z"),
            ("a:1|h|#url:http://x|@0.5", "a", MetricKind::Histogram, "1", 2.0, "url:http://x"),
            ("a:1|c|#t:1|c:83c0a99c0a54", "a", MetricKind::Counter, "1", 1.0, "t:1"),
            ("a:1|g|e:it-false|card:low", "a", MetricKind::Gauge, "1", 1.0, ""),
        ] {
            let found = metric(text);
            let held = found.values().collect::<Vec<_>>().join(" ");
            assert_eq!((found.name, found.kind, held.as_str()), (name, kind, values), "{text}");
            assert_eq!((found.weight, found.tags), (weight, tags), "{text}");
        }
        assert_eq!(metric("page.views:15|c|#env:dev|T1656581400").at, Some(1_656_581_400));
    }

    #[test]
    fn events_and_checks_are_told_apart() {
        assert_eq!(parse("_e{5,4}:title|text|#shell"), Some(Line::Event));
        assert_eq!(parse("_sc|Redis connection|2|m:timed out"), Some(Line::Check));
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in [
            "",
            "a",
            "a:",
            "a:1",
            ":1|c",
            "a:|c",
            "a:1|",
            "a:1|x",
            "a:1|c|@0",
            "a:1|c|@2",
            "a:1|c|@x",
            "a:1|g|Tsoon",
            "a|c:1",
            "a:1|c|@nan",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
