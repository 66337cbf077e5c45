//! Prometheus remote write 1.0: one request of many instances' samples.

use axum::body::Body;
use axum::extract::State;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};

use super::{Denial, Intake};
use crate::foreign::{Origin, Protocol};
use crate::limits::{WRITE_BODY_LIMIT, WRITE_DECODED_LIMIT};
use crate::remote_write::{decompress, sort};

pub(super) async fn post(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    let inner = intake.0;
    let origin = Origin { protocol: Protocol::RemoteWrite, relay: inner.relay(&headers)? };
    check_type(&headers)?;
    let (held, body) = inner.room.body(&headers, body, WRITE_BODY_LIMIT).await?;
    let taken = inner
        .store(origin, held, move |inner, held, sorter| {
            let claimed = snap::raw::decompress_len(&body).unwrap_or_default();
            inner.room.add(held, claimed.min(WRITE_DECODED_LIMIT))?;
            decompress(&body)
                .and_then(|bytes| sort(&bytes, sorter))
                .map_err(|error| Denial::bad(error.to_string()))
        })
        .await?;
    taken.answer()
}

/// Checked before the body is looked at: a request of another protocol may decode as an empty one
/// of this.
fn check_type(headers: &HeaderMap) -> Result<(), Denial> {
    let header = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(first)
    };
    if header(CONTENT_ENCODING).is_none_or(|encoding| !encoding.eq_ignore_ascii_case("snappy")) {
        return Err(Denial::unsupported("Content-Encoding: remote write sends snappy"));
    }
    let content_type = header(CONTENT_TYPE).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let protobuf =
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-protobuf"));
    let v1 = parts.all(|part| match part.split_once('=') {
        Some((name, proto)) if name.trim().eq_ignore_ascii_case("proto") => {
            proto.trim() == "prometheus.WriteRequest"
        }
        _ => true,
    });
    if protobuf && v1 {
        return Ok(());
    }
    Err(Denial::unsupported("Content-Type: application/x-protobuf of remote write 1.0 is taken"))
}
