//! Families of a page: what TYPE lines say, and what that makes of each sample's name.

use std::collections::HashMap;

use rrd::Kind;

/// What a TYPE line may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    Unknown,
}

impl Type {
    /// The type of this name; exporters are not of one mind about capitals.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            "unknown" | "untyped" => Self::Unknown,
            _ => return None,
        })
    }

    /// What may stand behind the family's name in a sample's. The text format calls a counter's
    /// sample as its family, `OpenMetrics` does not.
    pub(super) const fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["", "_total", "_created"],
            Self::Histogram => &["_bucket", "_count", "_sum", "_created"],
            Self::GaugeHistogram => &["_bucket", "_gcount", "_gsum"],
            Self::Summary => &["", "_count", "_sum", "_created"],
            Self::Info => &["", "_info"],
            Self::Gauge | Self::StateSet | Self::Unknown => &[""],
        }
    }

    /// The kind of a sample that ends in `suffix`; `None` when the type does not tell.
    fn kind(self, suffix: &str) -> Option<Kind> {
        match (self, suffix) {
            (Self::Unknown, _) => None,
            (Self::Counter, "" | "_total")
            | (Self::Histogram, "_bucket" | "_count" | "_sum")
            | (Self::Summary, "_count" | "_sum") => Some(Kind::Total),
            _ => Some(Kind::Gauge),
        }
    }
}

/// Every suffix of any type.
const SUFFIXES: [&str; 8] =
    ["_bucket", "_count", "_sum", "_total", "_created", "_info", "_gcount", "_gsum"];

/// The types of a page's families, by name.
#[derive(Debug, Default)]
pub(super) struct Families<'a>(HashMap<&'a str, Type>);

impl<'a> Families<'a> {
    /// Remembers a family. False when it was known with another type, which stays.
    pub(super) fn learn(&mut self, name: &'a str, told: Type) -> bool {
        *self.0.entry(name).or_insert(told) == told
    }

    /// The family of the metric `name`, itself where no type was told before it, and its kind.
    pub(super) fn of<'n>(&self, name: &'n str) -> (&'n str, Option<Kind>) {
        if self.0.is_empty() {
            return (name, None);
        }
        if let Some(told) = self.0.get(name) {
            return (name, told.kind(""));
        }
        self.part_of(name).unwrap_or((name, None))
    }

    /// The same for a name with one of the endings of its family's type.
    fn part_of<'n>(&self, name: &'n str) -> Option<(&'n str, Option<Kind>)> {
        let suffix = SUFFIXES.iter().find(|suffix| name.ends_with(**suffix))?;
        let family = name.strip_suffix(suffix)?;
        let told = self.0.get(family)?;
        told.suffixes().contains(suffix).then(|| (family, told.kind(suffix)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_the_kind_of_its_family() {
        let mut families = Families::default();
        for (name, told) in [
            ("foo", "counter"),
            ("bar_total", "Counter"),
            ("lat", "histogram"),
            ("rpc", "summary"),
            ("temp", "gauge"),
            ("build", "info"),
            ("odd", "untyped"),
            ("size", "gaugehistogram"),
        ] {
            assert!(families.learn(name, Type::named(told).unwrap()));
        }
        for (name, kind) in [
            ("foo", Some(Kind::Total)),
            ("foo_total", Some(Kind::Total)),
            ("foo_created", Some(Kind::Gauge)),
            ("foo_sum", None),
            ("bar_total", Some(Kind::Total)),
            ("lat_bucket", Some(Kind::Total)),
            ("lat_count", Some(Kind::Total)),
            ("lat_sum", Some(Kind::Total)),
            ("lat_created", Some(Kind::Gauge)),
            ("lat_total", None),
            ("rpc", Some(Kind::Gauge)),
            ("rpc_sum", Some(Kind::Total)),
            ("temp", Some(Kind::Gauge)),
            ("temp_total", None),
            ("build_info", Some(Kind::Gauge)),
            ("odd", None),
            ("size_gcount", Some(Kind::Gauge)),
            ("size_bucket", Some(Kind::Gauge)),
            ("unheard_of", None),
        ] {
            assert_eq!(families.of(name).1, kind, "{name}");
        }
        assert!(!families.learn("foo", Type::Gauge), "the first type stays");
        assert_eq!(families.of("foo_total"), ("foo", Some(Kind::Total)));
        assert_eq!(families.of("foo_sum"), ("foo_sum", None));
    }
}
