//! OTLP in JSON: the same messages with names in camel case, and numbers of 64 bits as text or not.
//!
//! Lists are walked, never collected: what a request becomes in memory does not depend on how many
//! empty objects it holds.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::model::{Attribute, Metric, Point, Shape, Since, Value, Visit, ended, moment};
use super::{ATTRIBUTE_LIMIT, BUCKET_LIMIT, OtlpError};

/// Visits `request`. An error may come after some visits: whoever visits acts only on success.
pub(super) fn visit(request: &[u8], visitor: &mut impl Visit) -> Result<(), OtlpError> {
    let request: Request<'_> = serde_json::from_slice(request)?;
    each(request.resource_metrics, |one: ResourceMetrics<'_>| {
        let attributes = one.resource.map(|resource| attributes(resource.attributes));
        visitor.resource(&attributes.unwrap_or_default())?;
        each(one.scope_metrics, |scope: ScopeMetrics<'_>| {
            each(scope.metrics, |message: RawMetric<'_>| metric(message, visitor))
        })
    })
}

fn metric(message: RawMetric<'_>, visitor: &mut impl Visit) -> Result<(), OtlpError> {
    let RawMetric { name, unit, gauge, sum, histogram, exponential_histogram, summary } = message;
    let since = |data: &Data<'_>| Since::from_number(data.aggregation_temporality.count());
    let (shape, data) = if let Some(data) = gauge {
        (Shape::Gauge, data)
    } else if let Some(data) = sum {
        (Shape::Sum { since: since(&data), only_rises: data.is_monotonic }, data)
    } else if let Some(data) = histogram {
        (Shape::Histogram(since(&data)), data)
    } else if let Some(data) = exponential_histogram {
        (Shape::ExponentialHistogram, data)
    } else if let Some(data) = summary {
        (Shape::Summary, data)
    } else {
        return Ok(());
    };
    let metric = Metric { name, unit, shape };
    each(data.points, |point: RawPoint<'_>| {
        visitor.room()?;
        visitor.point(&metric, &point.read(shape))
    })
}

fn attributes(pairs: Capped<KeyValue<'_>, ATTRIBUTE_LIMIT>) -> Vec<Attribute<'_>> {
    pairs.0.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

/// A value as text: empty where it is not set, `None` for what is no text.
fn text<'a>(value: Option<AnyValue>) -> Option<Cow<'a, str>> {
    let value = value.unwrap_or_default();
    if value.list.or(value.map).or(value.bytes).is_some() {
        return None;
    }
    let flag = value.flag.map(|flag| flag.to_string());
    let whole = value.whole.map(|whole| whole.0.to_string());
    let real = value.real.map(|real| real.0.to_string());
    Some(value.text.or(flag).or(whole).or(real).unwrap_or_default().into())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, default)]
    resource_metrics: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    #[serde(borrow, default)]
    resource: Option<RawResource<'a>>,
    #[serde(borrow, default)]
    scope_metrics: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawResource<'a> {
    #[serde(borrow, default)]
    attributes: Capped<KeyValue<'a>, ATTRIBUTE_LIMIT>,
}

#[derive(Deserialize)]
struct ScopeMetrics<'a> {
    #[serde(borrow, default)]
    metrics: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetric<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    unit: Cow<'a, str>,
    #[serde(borrow, default)]
    gauge: Option<Data<'a>>,
    #[serde(borrow, default)]
    sum: Option<Data<'a>>,
    #[serde(borrow, default)]
    histogram: Option<Data<'a>>,
    #[serde(borrow, default)]
    exponential_histogram: Option<Data<'a>>,
    #[serde(borrow, default)]
    summary: Option<Data<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow, default, rename = "dataPoints")]
    points: Option<&'a RawValue>,
    #[serde(default)]
    aggregation_temporality: Whole,
    #[serde(default)]
    is_monotonic: bool,
}

/// A point of any shape.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct RawPoint<'a> {
    #[serde(borrow)]
    attributes: Capped<KeyValue<'a>, ATTRIBUTE_LIMIT>,
    start_time_unix_nano: Whole,
    time_unix_nano: Whole,
    flags: Whole,
    exemplars: Counted,
    as_double: Option<Real>,
    as_int: Option<Whole>,
    count: Whole,
    sum: Option<Real>,
    bucket_counts: Capped<Whole, { BUCKET_LIMIT + 2 }>,
    explicit_bounds: Capped<Real, { BUCKET_LIMIT + 2 }>,
    quantile_values: Capped<Quantile, { BUCKET_LIMIT + 1 }>,
}

impl<'a> RawPoint<'a> {
    fn read(self, shape: Shape) -> Point<'a> {
        let value = match shape {
            Shape::Gauge | Shape::Sum { .. } => {
                let whole = self.as_int.map(Whole::real);
                Value::Number(self.as_double.map(|real| real.0).or(whole))
            }
            Shape::Histogram(_) => Value::Histogram {
                count: self.count.count(),
                sum: self.sum.map(|real| real.0),
                buckets: self.bucket_counts.0.into_iter().map(Whole::count).collect(),
                bounds: self.explicit_bounds.0.into_iter().map(|real| real.0).collect(),
            },
            Shape::Summary => Value::Summary {
                count: self.count.count(),
                sum: self.sum.unwrap_or_default().0,
                quantiles: self
                    .quantile_values
                    .0
                    .iter()
                    .map(|q| (q.quantile.0, q.value.0))
                    .collect(),
            },
            Shape::ExponentialHistogram => Value::ExponentialHistogram,
        };
        Point {
            attributes: attributes(self.attributes),
            start: moment(self.start_time_unix_nano.count()),
            at: moment(self.time_unix_nano.count()),
            ended: ended(self.flags.count()),
            exemplars: self.exemplars.0,
            value,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Quantile {
    quantile: Real,
    value: Real,
}

#[derive(Deserialize)]
struct KeyValue<'a> {
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    #[serde(default)]
    value: Option<AnyValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AnyValue {
    #[serde(rename = "stringValue")]
    text: Option<String>,
    #[serde(rename = "boolValue")]
    flag: Option<bool>,
    #[serde(rename = "intValue")]
    whole: Option<Whole>,
    #[serde(rename = "doubleValue")]
    real: Option<Real>,
    #[serde(rename = "arrayValue")]
    list: Option<IgnoredAny>,
    #[serde(rename = "kvlistValue")]
    map: Option<IgnoredAny>,
    #[serde(rename = "bytesValue")]
    bytes: Option<IgnoredAny>,
}

/// A whole number, as text or not; one beyond 63 bits is the largest.
#[derive(Clone, Copy, Default)]
struct Whole(i64);

impl Whole {
    fn count(self) -> u64 {
        u64::try_from(self.0).unwrap_or_default()
    }

    #[expect(clippy::cast_precision_loss, reason = "every reading is a double")]
    const fn real(self) -> f64 {
        self.0 as f64
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, as text or not")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(i64::try_from(number).unwrap_or(i64::MAX)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Whole, E> {
                let number: i128 = text.parse().map_err(E::custom)?;
                Ok(Whole(i64::try_from(number).unwrap_or(i64::MAX)))
            }
            fn visit_unit<E: Error>(self) -> Result<Whole, E> {
                Ok(Whole(0))
            }
        }
        from.deserialize_any(Read)
    }
}

/// A number; as text where JSON has no sign for it.
#[derive(Clone, Copy, Default)]
struct Real(f64);

impl<'de> Deserialize<'de> for Real {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Real;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Real, E> {
                Ok(Real(number))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Real, E> {
                Ok(Real(Whole(number).real()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Real, E> {
                Ok(Real(super::model::real(number)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Real, E> {
                // Rust reads the three words as protobuf's JSON writes them.
                text.parse().map(Real).map_err(E::custom)
            }
            fn visit_unit<E: Error>(self) -> Result<Real, E> {
                Ok(Real(0.0))
            }
        }
        from.deserialize_any(Read)
    }
}

/// How many there are of what is not read.
#[derive(Default)]
struct Counted(u64);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut count = 0;
        let add = |_: IgnoredAny| {
            count += 1;
            Ok(())
        };
        from.deserialize_any(Each(add, PhantomData))?;
        Ok(Self(count))
    }
}

/// The first `N` of a list.
struct Capped<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Default for Capped<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Capped<T, N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut held = Vec::new();
        let keep = |one: T| {
            if held.len() < N {
                held.push(one);
            }
            Ok(())
        };
        from.deserialize_any(Each(keep, PhantomData))?;
        Ok(Self(held))
    }
}

/// Calls its function for every element of a list; `null` is an empty one.
struct Each<F, T>(F, PhantomData<T>);

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), ()>> Visitor<'de> for Each<F, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(one) = list.next_element::<T>()? {
            (self.0)(one).map_err(|()| A::Error::custom("stopped"))?;
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), ()>> DeserializeSeed<'de> for Each<F, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

/// Calls `act` for every element of the list in `raw`.
fn each<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    mut act: impl FnMut(T) -> Result<(), OtlpError>,
) -> Result<(), OtlpError> {
    let Some(raw) = raw else { return Ok(()) };
    let mut failed = None;
    let walk = Each(|one: T| act(one).map_err(|error| failed = Some(error)), PhantomData);
    let walked = walk.deserialize(&mut serde_json::Deserializer::from_str(raw.get()));
    match failed {
        Some(error) => Err(error),
        None => Ok(walked?),
    }
}
