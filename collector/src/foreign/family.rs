//! What a sender may say about a family, and what that makes of the series that belong to it.

use rrd::Kind;

/// The types of Prometheus' formats, in the order of remote write's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    Unknown,
}

impl FamilyKind {
    /// The kind with this number on the wire; `None` for "unknown", which says nothing, and for numbers
    /// of later protocols.
    pub(crate) const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => return None,
        })
    }

    /// The kind of this name in a TYPE line; exporters are not of one mind about capitals.
    pub(crate) fn named(name: &str) -> Option<Self> {
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

    /// What a series is whose name is the family's and `suffix`; `None` when nobody knows.
    pub(crate) fn kind(self, suffix: &str) -> Option<Kind> {
        match (self, suffix) {
            (Self::Unknown, _) => None,
            (_, "_created") => Some(Kind::Gauge),
            (Self::Counter, _)
            | (Self::Histogram, "_bucket" | "_count" | "_sum")
            | (Self::Summary, "_count" | "_sum") => Some(Kind::Total),
            _ => Some(Kind::Gauge),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_and_an_ending_tell_what_is_counted() {
        for (family, suffix, kind) in [
            (FamilyKind::Counter, "", Some(Kind::Total)),
            (FamilyKind::Counter, "_total", Some(Kind::Total)),
            (FamilyKind::Counter, "_sum", Some(Kind::Total)),
            (FamilyKind::Counter, "_created", Some(Kind::Gauge)),
            (FamilyKind::Histogram, "", Some(Kind::Gauge)),
            (FamilyKind::Histogram, "_bucket", Some(Kind::Total)),
            (FamilyKind::Histogram, "_count", Some(Kind::Total)),
            (FamilyKind::Histogram, "_sum", Some(Kind::Total)),
            (FamilyKind::Histogram, "_created", Some(Kind::Gauge)),
            (FamilyKind::Summary, "", Some(Kind::Gauge)),
            (FamilyKind::Summary, "_bucket", Some(Kind::Gauge)),
            (FamilyKind::Summary, "_count", Some(Kind::Total)),
            (FamilyKind::GaugeHistogram, "_bucket", Some(Kind::Gauge)),
            (FamilyKind::Gauge, "_total", Some(Kind::Gauge)),
            (FamilyKind::Info, "_info", Some(Kind::Gauge)),
            (FamilyKind::StateSet, "", Some(Kind::Gauge)),
            (FamilyKind::Unknown, "_total", None),
            (FamilyKind::Unknown, "_created", None),
        ] {
            assert_eq!(family.kind(suffix), kind, "{family:?} {suffix}");
        }
    }

    #[test]
    fn a_number_that_tells_nothing_is_no_kind() {
        for (number, kind) in [(0, None), (1, Some(FamilyKind::Counter)), (8, None)] {
            assert_eq!(FamilyKind::from_number(number), kind, "{number}");
        }
    }
}
