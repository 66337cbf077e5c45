//! Families of a page: what TYPE lines say, and what that makes of each sample's name.

use std::collections::HashMap;

use rrd::Kind;

use crate::foreign::family::FamilyKind;

/// What may stand behind a family's name in a sample's. The text format calls a counter's sample as
/// its family, `OpenMetrics` does not.
pub(super) const fn suffixes(told: FamilyKind) -> &'static [&'static str] {
    match told {
        FamilyKind::Counter => &["", "_total", "_created"],
        FamilyKind::Histogram => &["_bucket", "_count", "_sum", "_created"],
        FamilyKind::GaugeHistogram => &["_bucket", "_gcount", "_gsum"],
        FamilyKind::Summary => &["", "_count", "_sum", "_created"],
        FamilyKind::Info => &["", "_info"],
        FamilyKind::Gauge | FamilyKind::StateSet | FamilyKind::Unknown => &[""],
    }
}

/// Every suffix of any family.
const SUFFIXES: [&str; 8] =
    ["_bucket", "_count", "_sum", "_total", "_created", "_info", "_gcount", "_gsum"];

/// The types of a page's families, by name.
#[derive(Debug, Default)]
pub(super) struct Families<'a>(HashMap<&'a str, FamilyKind>);

impl<'a> Families<'a> {
    /// Remembers a family. False when it was known with another type, which stays.
    pub(super) fn learn(&mut self, name: &'a str, told: FamilyKind) -> bool {
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
        suffixes(*told).contains(suffix).then(|| (family, told.kind(suffix)))
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
            assert!(families.learn(name, FamilyKind::named(told).unwrap()));
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
        assert!(!families.learn("foo", FamilyKind::Gauge), "the first type stays");
        assert_eq!(families.of("foo_total"), ("foo", Some(Kind::Total)));
        assert_eq!(families.of("foo_sum"), ("foo_sum", None));
    }
}
