//! OpenTelemetry metrics (OTLP): from a body, protobuf or JSON, to series under the names that
//! Prometheus' own receiver gives them.

mod answer;
mod json;
mod model;
mod names;
mod protobuf;
mod resource;
mod series;
#[cfg(test)]
pub(crate) mod tests;

use thiserror::Error;

use crate::foreign::{Sorted, Sorter};
use crate::remote_write::wire::WireError;

pub(crate) use answer::{Rejected, partial_success, status};

/// Points in a request: a collector sends 8,192 in a batch.
pub(crate) const POINT_LIMIT: usize = 20_000;
/// Samples that a request's points may become: a histogram of ten bounds is thirteen.
pub(crate) const SAMPLE_LIMIT: usize = 100_000;
/// Attributes that are looked at, as many as an OpenTelemetry SDK keeps by itself. A point with more
/// is over the limit of labels long before.
const ATTRIBUTE_LIMIT: usize = 128;
/// Bounds and quantiles of one point that are looked at. A point with more is refused.
const BUCKET_LIMIT: usize = 1_024;

/// How a request is written, and so how its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Protobuf,
    Json,
}

/// Why a body is not a request for metrics.
#[derive(Debug, Error)]
pub(crate) enum OtlpError {
    #[error("the body is not an OTLP request: {0}")]
    Wire(#[from] WireError),
    #[error("the body is not an OTLP request in JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the request holds more than {POINT_LIMIT} data points; send fewer at once")]
    Points,
    #[error("the request's data points are more than {SAMPLE_LIMIT} samples; send fewer at once")]
    Samples,
}

/// Reads the request in `bytes` into `sorter`; answers also how many data points it holds.
pub(crate) fn sort(
    encoding: Encoding,
    bytes: &[u8],
    sorter: Sorter<'_>,
) -> Result<(Sorted, u64), OtlpError> {
    let mut export = series::Export::new(sorter);
    match encoding {
        Encoding::Protobuf => protobuf::visit(bytes, &mut export)?,
        Encoding::Json => json::visit(bytes, &mut export)?,
    }
    Ok(export.into_parts())
}
