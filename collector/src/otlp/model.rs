//! What a request holds, the same for both encodings: resources, metrics, points.

use std::borrow::Cow;

use rrd::Timestamp;

use super::OtlpError;

/// Takes what a request holds.
pub(super) trait Visit {
    /// All points up to the next resource are its.
    fn resource(&mut self, attributes: &[Attribute<'_>]) -> Result<(), OtlpError>;

    /// Asked before a point is read.
    fn room(&mut self) -> Result<(), OtlpError>;

    fn point(&mut self, metric: &Metric<'_>, point: &Point<'_>) -> Result<(), OtlpError>;
}

/// A name and its value as text; `None` where it has none: an array, a map, bytes.
pub(super) type Attribute<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Metric<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) unit: Cow<'a, str>,
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Gauge,
    Sum { since: Since, only_rises: bool },
    Histogram(Since),
    ExponentialHistogram,
    Summary,
}

/// What a count counts from: the protocol's aggregation temporality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// The sender did not say.
    Unsaid,
    /// The point before (delta).
    Previous,
    /// The start of the sender (cumulative).
    Start,
}

impl Since {
    pub(super) const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Previous,
            2 => Self::Start,
            _ => Self::Unsaid,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point<'a> {
    pub(super) attributes: Vec<Attribute<'a>>,
    pub(super) start: Timestamp,
    pub(super) at: Timestamp,
    /// There is no value from now on (`NO_RECORDED_VALUE`).
    pub(super) ended: bool,
    pub(super) exemplars: u64,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(Option<f64>),
    Histogram { count: u64, sum: Option<f64>, buckets: Vec<u64>, bounds: Vec<f64> },
    Summary { count: u64, sum: f64, quantiles: Vec<(f64, f64)> },
    ExponentialHistogram,
}

/// The flag of a point without a value.
const NO_RECORDED_VALUE: u64 = 1;

pub(super) const fn ended(flags: u64) -> bool {
    flags & NO_RECORDED_VALUE != 0
}

pub(super) fn moment(nanos: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(nanos / 1_000_000).expect("2^64 / 10^6 is below 2^63"))
}

/// A count as archives hold it; above 2^53 the last digits go.
#[expect(clippy::cast_precision_loss, reason = "every reading is a double")]
pub(super) const fn real(count: u64) -> f64 {
    count as f64
}
