//! A point of a metric: the samples of one moment that only together say something.

use std::collections::HashSet;

use rrd::Timestamp;

use super::super::fault::Fault;
use super::super::names::Pairs;
use crate::foreign::family::FamilyKind;

/// Samples of one metric with one time.
pub(super) struct Point {
    told: FamilyKind,
    /// Labels without the one that tells the samples of the point apart.
    pub(super) labels: Pairs,
    pub(super) at: Option<Timestamp>,
    parts: Vec<Part>,
    seen: HashSet<(&'static str, Option<String>)>,
}

/// One sample of a point.
pub(super) struct Part {
    pub(super) suffix: &'static str,
    /// The value of the label that tells it from the others of its name.
    pub(super) special: Option<String>,
    pub(super) value: f64,
}

impl Point {
    pub(super) fn begun(told: FamilyKind, labels: Pairs, at: Option<Timestamp>) -> Self {
        Self { told, labels, at, parts: Vec::new(), seen: HashSet::new() }
    }

    /// The point of the same metric at a later time.
    pub(super) fn next(&self, at: Option<Timestamp>) -> Result<Self, Fault> {
        match (self.at, at) {
            (Some(before), Some(after)) if before < after => {
                Ok(Self::begun(self.told, self.labels.clone(), at))
            }
            (Some(_), Some(_)) => Err(Fault::rule("the times of a metric rise")),
            _ => Err(Fault::rule("all samples of a metric have a time, or none has")),
        }
    }

    pub(super) fn add(&mut self, part: Part) -> Result<(), Fault> {
        if !self.seen.insert((part.suffix, part.special.clone())) {
            return Err(Fault::rule("a sample stands there twice"));
        }
        self.parts.push(part);
        Ok(())
    }

    /// Checks what only a whole point can break.
    pub(super) fn end(self) -> Result<(), Fault> {
        match self.told {
            FamilyKind::Counter if self.value("_total").is_none() => {
                Err(Fault::rule("a counter has a _total"))
            }
            FamilyKind::Histogram => self.histogram("_count", "_sum"),
            FamilyKind::GaugeHistogram => self.histogram("_gcount", "_gsum"),
            _ => Ok(()),
        }
    }

    fn value(&self, suffix: &str) -> Option<f64> {
        self.parts.iter().find(|part| part.suffix == suffix).map(|part| part.value)
    }

    fn histogram(&self, count: &str, sum: &str) -> Result<(), Fault> {
        let mut last = (f64::NEG_INFINITY, 0.0);
        let mut has_negative = false;
        for bucket in self.parts.iter().filter(|part| part.suffix == "_bucket") {
            let bound =
                number(bucket.special.as_deref()).ok_or_else(|| Fault::rule("le is a number"))?;
            if bound <= last.0 || bucket.value < last.1 {
                return Err(Fault::rule("the bounds and counts of a histogram rise"));
            }
            has_negative |= bound < 0.0;
            last = (bound, bucket.value);
        }
        if last.0 < f64::INFINITY {
            return Err(Fault::rule("a histogram has a bucket with le=\"+Inf\""));
        }
        let (count, sum) = (self.value(count), self.value(sum));
        if count.is_some() != sum.is_some() && !(has_negative && sum.is_none()) {
            return Err(Fault::rule("a histogram has its count and its sum, or neither"));
        }
        if count.is_some_and(|count| count.total_cmp(&last.1).is_ne()) {
            return Err(Fault::rule("a histogram's count is that of its bucket +Inf"));
        }
        if has_negative && sum.is_some() && self.told == FamilyKind::Histogram {
            return Err(Fault::rule("a histogram with bounds below 0 has no sum"));
        }
        Ok(())
    }
}

/// The label that tells samples of one point and name apart.
pub(super) fn special_label<'n>(
    told: FamilyKind,
    suffix: &str,
    family: &'n str,
) -> Option<&'n str> {
    match (told, suffix) {
        (FamilyKind::Histogram | FamilyKind::GaugeHistogram, "_bucket") => Some("le"),
        (FamilyKind::Summary, "") => Some("quantile"),
        (FamilyKind::StateSet, "") => Some(family),
        _ => None,
    }
}

/// Checks what a sample of this type can break by itself.
pub(super) fn check(told: FamilyKind, part: &Part) -> Result<(), Fault> {
    let value = part.value;
    let is_count = value >= 0.0; // Not so for NaN.
    let (is_good, rule) = match (told, part.suffix) {
        (FamilyKind::Counter, "_total") => (is_count, "a counter is a number not below 0"),
        (FamilyKind::Histogram | FamilyKind::GaugeHistogram, "_bucket" | "_count" | "_gcount")
        | (FamilyKind::Summary, "_count") => (is_count, "a count is a number not below 0"),
        (FamilyKind::Histogram | FamilyKind::Summary, "_sum") => {
            (is_count || value.is_nan(), "the sum of a histogram or summary is not below 0")
        }
        (FamilyKind::Summary, "") => {
            let quantile = number(part.special.as_deref());
            let is_quantile = quantile.is_some_and(|quantile| (0.0..=1.0).contains(&quantile));
            (
                is_quantile && (is_count || value.is_nan()),
                "a quantile is from 0 to 1 and its value not below 0",
            )
        }
        (FamilyKind::StateSet, _) => {
            (value == 0.0 || value.total_cmp(&1.0).is_eq(), "a state is 0 or 1")
        }
        (FamilyKind::Info, _) => (value.total_cmp(&1.0).is_eq(), "an info is 1"),
        _ => (true, ""),
    };
    if is_good { Ok(()) } else { Err(Fault::rule(rule)) }
}

fn number(text: Option<&str>) -> Option<f64> {
    text?.parse().ok().filter(|number: &f64| !number.is_nan())
}
