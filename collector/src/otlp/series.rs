//! Points as series: what Prometheus' OTLP receiver makes of them, with kinds that archives know.

use std::collections::BTreeMap;

use rrd::{Kind, Labels, NAME, Timestamp};

use super::model::{Attribute, Metric, Point, Shape, Since, Value, Visit, real};
use super::names::{label_name, metric_name};
use super::resource::Resource;
use super::{BUCKET_LIMIT, OtlpError, POINT_LIMIT, SAMPLE_LIMIT};
use crate::accounting::Reason;
use crate::foreign::{Named, Sorted, Sorter, shown_pairs};
use crate::limits::{KEY_SIZE_LIMIT, LABEL_VALUE_LIMIT, checked_series};

/// Bytes of a point's attributes that are looked at: empty values, which leave no label, have long
/// names too.
const ATTRIBUTES_SIZE_LIMIT: usize = 4 * KEY_SIZE_LIMIT;

/// The series of one request on their way to a sorter.
pub(super) struct Export<'a> {
    sorter: Sorter<'a>,
    resource: Resource,
    /// Bytes that stand for the series at hand.
    key: Vec<u8>,
    points: usize,
    samples_left: usize,
}

impl<'a> Export<'a> {
    pub(super) fn new(sorter: Sorter<'a>) -> Self {
        let resource = Resource::default();
        Self { sorter, resource, key: Vec::new(), points: 0, samples_left: SAMPLE_LIMIT }
    }

    /// What was sorted, and how many data points it was.
    pub(super) fn into_parts(mut self) -> (Sorted, u64) {
        self.tell_target();
        (self.sorter.sorted, u64::try_from(self.points).expect("limited"))
    }

    /// One sample, 1, of all that the resource says of itself beside its name.
    fn tell_target(&mut self) {
        let resource = std::mem::take(&mut self.resource);
        if let (Some(newest), false) = (resource.newest, resource.info.is_empty()) {
            self.key.clear();
            push_text(&mut self.key, &resource.job);
            push_text(&mut self.key, &resource.instance);
            for (name, value) in &resource.info {
                push_text(&mut self.key, name);
                push_text(&mut self.key, value);
            }
            // No other key ends with this byte.
            self.key.push(TARGET);
            self.sorter.series(
                &self.key,
                &Target(&resource),
                (&[(newest, 1.0)], Some(Kind::Gauge)),
            );
        }
    }

    fn refuse(
        &mut self,
        (metric, point): (&Metric<'_>, &Point<'_>),
        (reason, message): (Reason, &str),
    ) {
        let name = Name { resource: &self.resource, metric, point, part: Part::Whole };
        self.sorter.refuse(reason, 1, &name, message);
    }

    /// What is far too long, found before it is copied for every series that it names.
    fn long(&self, (metric, point): (&Metric<'_>, &Point<'_>)) -> Option<Fault> {
        let Resource { job, instance, .. } = &self.resource;
        let longest = job.len().max(instance.len()).max(metric.name.len()).max(metric.unit.len());
        let len = |(name, value): &Attribute<'_>| name.len() + value.as_deref().map_or(0, str::len);
        let all: usize = point.attributes.iter().map(len).sum();
        let message = "names and values are over the limits of labels; shorten them";
        let is_long = longest > LABEL_VALUE_LIMIT || all > ATTRIBUTES_SIZE_LIMIT;
        is_long.then_some((Reason::LabelLimit, message))
    }

    /// Bytes that stand for a point's attributes, metric and resource.
    fn begin(&mut self, metric: &Metric<'_>, point: &Point<'_>) {
        let key = &mut self.key;
        key.clear();
        for text in [&self.resource.job, &self.resource.instance] {
            push_text(key, text);
        }
        for text in [&metric.name, &metric.unit] {
            push_text(key, text);
        }
        key.push(match metric.shape {
            Shape::Gauge => 0,
            Shape::Sum { only_rises: false, .. } => 1,
            Shape::Sum { only_rises: true, .. } => 2,
            Shape::Histogram(_) | Shape::ExponentialHistogram => 3,
            Shape::Summary => 4,
        });
        for (name, value) in &point.attributes {
            push_text(key, name);
            key.push(u8::from(value.is_some()));
            push_text(key, value.as_deref().unwrap_or_default());
        }
    }

    /// Hands over one sample of a part of the point that was begun.
    fn part(
        &mut self,
        (metric, point): (&Metric<'_>, &Point<'_>),
        part: Part,
        (kind, value): (Kind, f64),
    ) -> Result<(), OtlpError> {
        let value = if point.ended || value.is_nan() { f64::NAN } else { value };
        let samples = [(point.start.plus_millis(1), 0.0), (point.at, value)];
        let samples = if counts_from_start(point, kind) { &samples[..] } else { &samples[1..] };
        self.samples_left =
            self.samples_left.checked_sub(samples.len()).ok_or(OtlpError::Samples)?;
        let begun = self.key.len();
        part.push(&mut self.key);
        let name = Name { resource: &self.resource, metric, point, part };
        self.sorter.series(&self.key, &name, (samples, Some(kind)));
        self.key.truncate(begun);
        Ok(())
    }

    fn histogram(
        &mut self,
        whose: (&Metric<'_>, &Point<'_>),
        kind: Kind,
        (buckets, bounds): (&[u64], &[f64]),
    ) -> Result<(), OtlpError> {
        let mut sum = 0_u64;
        for (at, bound) in bounds.iter().enumerate() {
            sum = sum.saturating_add(buckets.get(at).copied().unwrap_or_default());
            self.part(whose, Part::Bucket(*bound), (kind, real(sum)))?;
        }
        Ok(())
    }
}

/// A delta says how much came since `start`. An archive takes a count to have come since the reading
/// before, so nothing is said to have come up to just after `start`: then the first delta counts, and
/// one after a pause is not spread over the pause. Both samples may come twice and count once, which
/// a running sum kept here would not.
fn counts_from_start(point: &Point<'_>, kind: Kind) -> bool {
    let first = point.start.plus_millis(1);
    kind == Kind::Absolute
        && !point.ended
        && point.start > Timestamp::from_millis(0)
        && first < point.at
}

impl Visit for Export<'_> {
    fn resource(&mut self, attributes: &[Attribute<'_>]) -> Result<(), OtlpError> {
        self.tell_target();
        self.resource = Resource::of(attributes);
        Ok(())
    }

    fn room(&mut self) -> Result<(), OtlpError> {
        if self.points == POINT_LIMIT {
            return Err(OtlpError::Points);
        }
        self.points += 1;
        Ok(())
    }

    fn point(&mut self, metric: &Metric<'_>, point: &Point<'_>) -> Result<(), OtlpError> {
        self.sorter.sorted.exemplars += point.exemplars;
        let whose = (metric, point);
        let faults = self.long(whose).or_else(|| fault(point));
        let kind = match (kind(metric.shape), faults) {
            (Ok(kind), None) => kind,
            (Err(fault), _) | (_, Some(fault)) => {
                self.refuse(whose, fault);
                return Ok(());
            }
        };
        self.begin(metric, point);
        match &point.value {
            Value::Number(value) => {
                self.part(whose, Part::Whole, (kind, value.unwrap_or(f64::NAN)))?;
            }
            Value::Histogram { count, sum, buckets, bounds } => {
                self.histogram(whose, kind, (buckets, bounds))?;
                self.part(whose, Part::Bucket(f64::INFINITY), (kind, real(*count)))?;
                self.part(whose, Part::Count, (kind, real(*count)))?;
                if let Some(sum) = sum {
                    self.part(whose, Part::Sum, (kind, *sum))?;
                }
            }
            Value::Summary { count, sum, quantiles } => {
                for (quantile, value) in quantiles {
                    self.part(whose, Part::Quantile(*quantile), (Kind::Gauge, *value))?;
                }
                self.part(whose, Part::Count, (kind, real(*count)))?;
                self.part(whose, Part::Sum, (kind, *sum))?;
            }
            Value::ExponentialHistogram => {}
        }
        if !point.ended {
            self.resource.newest = self.resource.newest.max(Some(point.at));
        }
        Ok(())
    }
}

type Fault = (Reason, &'static str);

/// What an archive makes of a shape: a sum that only rises is a count, and so are a histogram's parts.
const fn kind(shape: Shape) -> Result<Kind, Fault> {
    let unsaid = "the aggregation temporality is not set; send cumulative sums";
    match shape {
        Shape::Sum { since: Since::Unsaid, .. } | Shape::Histogram(Since::Unsaid) => {
            Err((Reason::Temporality, unsaid))
        }
        Shape::Sum { since: Since::Previous, only_rises: false } => Err((
            Reason::Temporality,
            "a delta of what may fall says nothing about its level; send cumulative sums",
        )),
        Shape::Gauge | Shape::Sum { since: Since::Start, only_rises: false } => Ok(Kind::Gauge),
        Shape::Sum { since: Since::Start, only_rises: true }
        | Shape::Histogram(Since::Start)
        | Shape::Summary => Ok(Kind::Total),
        Shape::Sum { since: Since::Previous, only_rises: true }
        | Shape::Histogram(Since::Previous) => Ok(Kind::Absolute),
        Shape::ExponentialHistogram => Err((
            Reason::NativeHistogram,
            "exponential histograms are not kept; send explicit buckets",
        )),
    }
}

/// What is wrong with a point, if anything.
fn fault(point: &Point<'_>) -> Option<Fault> {
    let odd = match &point.value {
        _ if point.ended => None,
        Value::Number(None) => Some("the point has neither a value nor the flag for that"),
        Value::Histogram { bounds, .. } if bounds.len() > BUCKET_LIMIT => {
            Some("the histogram has more than 1024 bounds; send fewer")
        }
        Value::Histogram { buckets, bounds, .. }
            if !(buckets.is_empty() && bounds.is_empty()) && buckets.len() != bounds.len() + 1 =>
        {
            Some("a histogram has one bucket more than it has bounds")
        }
        Value::Summary { quantiles, .. } if quantiles.len() > BUCKET_LIMIT => {
            Some("the summary has more than 1024 quantiles; send fewer")
        }
        _ => None,
    };
    odd.map(|message| (Reason::Malformed, message))
}

const WHOLE: u8 = 0;
const BUCKET: u8 = 1;
const COUNT: u8 = 2;
const SUM: u8 = 3;
const QUANTILE: u8 = 4;
const TARGET: u8 = 5;

/// Which series of a point.
#[derive(Clone, Copy, Debug)]
enum Part {
    Whole,
    /// Up to a bound.
    Bucket(f64),
    Count,
    Sum,
    Quantile(f64),
}

impl Part {
    /// Ends a key; the last byte tells parts apart.
    fn push(self, key: &mut Vec<u8>) {
        let (bound, number) = match self {
            Self::Whole => (None, WHOLE),
            Self::Bucket(bound) => (Some(bound), BUCKET),
            Self::Count => (None, COUNT),
            Self::Sum => (None, SUM),
            Self::Quantile(quantile) => (Some(quantile), QUANTILE),
        };
        if let Some(bound) = bound {
            key.extend(bound.to_le_bytes());
        }
        key.push(number);
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Whole | Self::Quantile(_) => "",
            Self::Bucket(_) => "_bucket",
            Self::Count => "_count",
            Self::Sum => "_sum",
        }
    }

    fn label(self) -> Option<(&'static str, String)> {
        match self {
            Self::Bucket(bound) if bound == f64::INFINITY => Some(("le", "+Inf".to_owned())),
            Self::Bucket(bound) => Some(("le", bound.to_string())),
            Self::Quantile(quantile) => Some(("quantile", quantile.to_string())),
            _ => None,
        }
    }
}

fn push_text(key: &mut Vec<u8>, text: &str) {
    key.extend(u64::try_from(text.len()).expect("within a body").to_le_bytes());
    key.extend_from_slice(text.as_bytes());
}

/// What a series is called, worked out only where it is not known yet.
struct Name<'a> {
    resource: &'a Resource,
    metric: &'a Metric<'a>,
    point: &'a Point<'a>,
    part: Part,
}

impl Name<'_> {
    fn pairs(&self) -> BTreeMap<String, String> {
        let mut sent: Vec<_> = self.point.attributes.iter().collect();
        sent.sort_by(|one, other| one.0.cmp(&other.0));
        let mut pairs = BTreeMap::<String, String>::new();
        for (name, value) in sent {
            let value = value.as_deref().unwrap_or_default();
            // Two attributes may become one label: it keeps what both say.
            pairs
                .entry(label_name(name))
                .and_modify(|held| *held = format!("{held};{value}"))
                .or_insert_with(|| value.to_owned());
        }
        let ours = [("job", &self.resource.job), ("instance", &self.resource.instance)];
        let ours = ours.into_iter().filter(|(_, value)| !value.is_empty());
        pairs.extend(ours.map(|(name, value)| (name.to_owned(), value.clone())));
        pairs.extend(self.part.label().map(|(name, value)| (name.to_owned(), value)));
        let metric = metric_name(self.metric);
        let suffix = if metric.is_empty() { "" } else { self.part.suffix() };
        pairs.insert(NAME.to_owned(), metric + suffix);
        pairs
    }
}

impl Named for Name<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        if let Some((name, _)) = self.point.attributes.iter().find(|(_, value)| value.is_none()) {
            let name: String = name.chars().take(100).collect();
            let message = format!("attribute {name} is no text, number or flag; send it as text");
            return Err((Reason::BadLabel, message));
        }
        let pairs = self.pairs();
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        checked_series(&pairs)
    }

    fn shown(&self) -> String {
        if self.metric.name.len() > LABEL_VALUE_LIMIT {
            return shown_pairs(std::iter::once((NAME, &self.metric.name)));
        }
        shown_pairs(self.pairs().into_iter())
    }
}

/// The series that holds what a resource says of itself.
struct Target<'a>(&'a Resource);

impl Named for Target<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        let mut pairs =
            vec![(NAME, "target_info"), ("job", &self.0.job), ("instance", &self.0.instance)];
        pairs.extend(self.0.info.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        checked_series(&pairs)
    }

    fn shown(&self) -> String {
        format!("target_info of {} {}", self.0.job, self.0.instance)
    }
}
