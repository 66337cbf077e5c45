//! OTLP in protobuf, visited in place: one point at a time.

use std::borrow::Cow;

use super::model::{Attribute, Metric, Point, Shape, Since, Value, Visit, ended, moment};
use super::{ATTRIBUTE_LIMIT, BUCKET_LIMIT, OtlpError};
use crate::remote_write::wire::{Content, Fields, WireError};

/// Visits `request`. An error may come after some visits: whoever visits acts only on success.
pub(super) fn visit(request: &[u8], visitor: &mut impl Visit) -> Result<(), OtlpError> {
    each(request, 1, |resource_metrics| {
        let mut attributes = Vec::new();
        each(resource_metrics, 1, |resource| {
            each(resource, 1, |pair| Ok(keep(&mut attributes, pair)?))
        })?;
        visitor.resource(&attributes)?;
        each(resource_metrics, 2, |scope| each(scope, 2, |message| metric(message, visitor)))
    })
}

/// Calls `act` for every message in field `wanted`.
fn each<'a>(
    message: &'a [u8],
    wanted: u64,
    mut act: impl FnMut(&'a [u8]) -> Result<(), OtlpError>,
) -> Result<(), OtlpError> {
    let mut fields = Fields::of(message);
    while let Some((field, content)) = fields.next()? {
        if field == wanted {
            act(content.bytes()?)?;
        }
    }
    Ok(())
}

fn metric(message: &[u8], visitor: &mut impl Visit) -> Result<(), OtlpError> {
    let (mut name, mut unit, mut data) = (Cow::default(), Cow::default(), None);
    let mut fields = Fields::of(message);
    while let Some((field, content)) = fields.next()? {
        match field {
            1 => name = String::from_utf8_lossy(content.bytes()?),
            3 => unit = String::from_utf8_lossy(content.bytes()?),
            5 | 7 | 9 | 10 | 11 => data = Some((field, content.bytes()?)),
            _ => {}
        }
    }
    let Some((field, data)) = data else { return Ok(()) };
    let metric = Metric { name, unit, shape: shape(field, data)? };
    each(data, 1, |message| {
        visitor.room()?;
        let point = match metric.shape {
            Shape::Gauge | Shape::Sum { .. } => number(message)?,
            Shape::Histogram(_) => histogram(message)?,
            Shape::Summary => summary(message)?,
            Shape::ExponentialHistogram => exponential(message)?,
        };
        visitor.point(&metric, &point)
    })
}

fn shape(field: u64, data: &[u8]) -> Result<Shape, WireError> {
    let (mut since, mut only_rises) = (Since::Unsaid, false);
    let mut fields = Fields::of(data);
    while let Some((field, content)) = fields.next()? {
        match (field, content) {
            (2, Content::Number(number)) => since = Since::from_number(number),
            (3, Content::Number(number)) => only_rises = number != 0,
            _ => {}
        }
    }
    Ok(match field {
        5 => Shape::Gauge,
        7 => Shape::Sum { since, only_rises },
        9 => Shape::Histogram(since),
        10 => Shape::ExponentialHistogram,
        _ => Shape::Summary,
    })
}

/// A point of no value yet.
const fn point<'a>() -> Point<'a> {
    Point {
        attributes: Vec::new(),
        start: rrd::Timestamp::from_millis(0),
        at: rrd::Timestamp::from_millis(0),
        ended: false,
        exemplars: 0,
        value: Value::Number(None),
    }
}

fn number(message: &[u8]) -> Result<Point<'_>, WireError> {
    let mut point = point();
    let mut fields = Fields::of(message);
    while let Some((field, content)) = fields.next()? {
        match field {
            2 => point.start = moment(fixed(content)?),
            3 => point.at = moment(fixed(content)?),
            4 => point.value = Value::Number(Some(content.double()?)),
            5 => point.exemplars += 1,
            6 => point.value = Value::Number(Some(whole(fixed(content)?.cast_signed()))),
            7 => keep(&mut point.attributes, content.bytes()?)?,
            8 => point.ended = ended(content.number()?),
            _ => {}
        }
    }
    Ok(point)
}

fn histogram(message: &[u8]) -> Result<Point<'_>, WireError> {
    let mut point = point();
    let (mut count, mut sum, mut buckets, mut bounds) = (0, None, Vec::new(), Vec::new());
    let mut fields = Fields::of(message);
    while let Some((field, content)) = fields.next()? {
        match field {
            2 => point.start = moment(fixed(content)?),
            3 => point.at = moment(fixed(content)?),
            4 => count = fixed(content)?,
            5 => sum = Some(content.double()?),
            6 => eights(content, &mut buckets, u64::from_le_bytes)?,
            7 => eights(content, &mut bounds, f64::from_le_bytes)?,
            8 => point.exemplars += 1,
            9 => keep(&mut point.attributes, content.bytes()?)?,
            10 => point.ended = ended(content.number()?),
            _ => {}
        }
    }
    Ok(Point { value: Value::Histogram { count, sum, buckets, bounds }, ..point })
}

fn summary(message: &[u8]) -> Result<Point<'_>, WireError> {
    let mut point = point();
    let (mut count, mut sum, mut quantiles) = (0, 0.0, Vec::new());
    let mut fields = Fields::of(message);
    while let Some((field, content)) = fields.next()? {
        match field {
            2 => point.start = moment(fixed(content)?),
            3 => point.at = moment(fixed(content)?),
            4 => count = fixed(content)?,
            5 => sum = content.double()?,
            6 if quantiles.len() <= BUCKET_LIMIT => quantiles.push(quantile(content.bytes()?)?),
            7 => keep(&mut point.attributes, content.bytes()?)?,
            8 => point.ended = ended(content.number()?),
            _ => {}
        }
    }
    Ok(Point { value: Value::Summary { count, sum, quantiles }, ..point })
}

fn quantile(message: &[u8]) -> Result<(f64, f64), WireError> {
    let mut found = (0.0, 0.0);
    let mut fields = Fields::of(message);
    while let Some((field, content)) = fields.next()? {
        match field {
            1 => found.0 = content.double()?,
            2 => found.1 = content.double()?,
            _ => {}
        }
    }
    Ok(found)
}

/// Only whose point it is: it will be refused.
fn exponential(message: &[u8]) -> Result<Point<'_>, WireError> {
    let mut point = Point { value: Value::ExponentialHistogram, ..point() };
    let mut fields = Fields::of(message);
    while let Some((field, content)) = fields.next()? {
        match field {
            1 => keep(&mut point.attributes, content.bytes()?)?,
            3 => point.at = moment(fixed(content)?),
            11 => point.exemplars += 1,
            _ => {}
        }
    }
    Ok(point)
}

fn keep<'a>(attributes: &mut Vec<Attribute<'a>>, pair: &'a [u8]) -> Result<(), WireError> {
    if attributes.len() < ATTRIBUTE_LIMIT {
        attributes.push(attribute(pair)?);
    }
    Ok(())
}

fn attribute(pair: &[u8]) -> Result<Attribute<'_>, WireError> {
    let (mut name, mut value) = (Cow::default(), Some(Cow::default()));
    let mut fields = Fields::of(pair);
    while let Some((field, content)) = fields.next()? {
        match field {
            1 => name = String::from_utf8_lossy(content.bytes()?),
            2 => value = text(content.bytes()?)?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// A value as text: empty where it is not set, `None` for what is no text.
fn text(value: &[u8]) -> Result<Option<Cow<'_, str>>, WireError> {
    let mut found = Some(Cow::default());
    let mut fields = Fields::of(value);
    while let Some((field, content)) = fields.next()? {
        found = match field {
            1 => str::from_utf8(content.bytes()?).ok().map(Cow::Borrowed),
            2 => Some((if content.number()? == 0 { "false" } else { "true" }).into()),
            3 => Some(content.number()?.cast_signed().to_string().into()),
            4 => Some(content.double()?.to_string().into()),
            5..=7 => None,
            _ => found,
        };
    }
    Ok(found)
}

fn fixed(content: Content<'_>) -> Result<u64, WireError> {
    match content {
        Content::Eight(bytes) => Ok(u64::from_le_bytes(bytes)),
        _ => Err(WireError::Type),
    }
}

/// A whole number as archives hold it; above 2^53 the last digits go.
#[expect(clippy::cast_precision_loss, reason = "every reading is a double")]
const fn whole(number: i64) -> f64 {
    number as f64
}

/// Numbers of eight bytes, one or packed. One more than may be is kept, so that it is seen.
fn eights<T>(
    content: Content<'_>,
    into: &mut Vec<T>,
    read: impl Fn([u8; 8]) -> T,
) -> Result<(), WireError> {
    let single;
    let bytes = match content {
        Content::Eight(bytes) => {
            single = bytes;
            &single[..]
        }
        content => content.bytes()?,
    };
    let (numbers, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(WireError::Short);
    }
    let room = (BUCKET_LIMIT + 2).saturating_sub(into.len());
    into.extend(numbers.iter().take(room).map(|bytes| read(*bytes)));
    Ok(())
}
