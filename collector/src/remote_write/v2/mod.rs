//! Prometheus remote write 2.0: series whose labels are references to a table of strings.

mod symbols;
mod visit;

use rrd::Kind;

use super::WriteError;
use crate::accounting::Reason;
use crate::foreign::family::FamilyKind;
use crate::foreign::kinds::SUFFIXES;
use crate::foreign::{Named as _, Sorted, Sorter};
use visit::RawSeries;

/// Reads the request in `bytes` into `sorter`.
pub(crate) fn sort(bytes: &[u8], mut sorter: Sorter<'_>) -> Result<Sorted, WriteError> {
    visit::visit(bytes, |series| take(&mut sorter, series))?;
    Ok(sorter.sorted)
}

fn take(sorter: &mut Sorter<'_>, series: &RawSeries<'_>) {
    sorter.sorted.exemplars += series.exemplars;
    let labels = &series.labels;
    match series.key {
        _ if series.samples.is_empty() => {}
        Some(key) => {
            let kind = FamilyKind::from_number(series.family);
            let kind = kind.and_then(|family| told(family, labels.metric()));
            sorter.series(key, labels, (series.samples, kind));
        }
        None => {
            let long = || (Reason::LabelLimit, "the labels are too long; shorten them".to_owned());
            let (reason, message) = labels.labels().err().unwrap_or_else(long);
            let count = u64::try_from(series.samples.len()).expect("limited");
            sorter.refuse(reason, count, labels, &message);
        }
    }
    let message = "native histograms are not kept; send classic ones";
    sorter.refuse(Reason::NativeHistogram, series.histograms, labels, message);
}

/// What a series of a family is: its own name tells which part of a histogram or summary.
fn told(family: FamilyKind, metric: &[u8]) -> Option<Kind> {
    let suffix = SUFFIXES.iter().find(|suffix| metric.ends_with(suffix.as_bytes()));
    family.kind(suffix.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_and_the_name_tell_the_kind() {
        for (family, metric, kind) in [
            (FamilyKind::Counter, "hits", Kind::Total),
            (FamilyKind::Counter, "hits_created", Kind::Gauge),
            (FamilyKind::Gauge, "odd_total", Kind::Gauge),
            (FamilyKind::Histogram, "lat_bucket", Kind::Total),
            (FamilyKind::Histogram, "lat_sum", Kind::Total),
            (FamilyKind::Summary, "rpc", Kind::Gauge),
            (FamilyKind::Summary, "rpc_count", Kind::Total),
            (FamilyKind::Info, "build_info", Kind::Gauge),
        ] {
            assert_eq!(told(family, metric.as_bytes()), Some(kind), "{metric}");
        }
    }
}
