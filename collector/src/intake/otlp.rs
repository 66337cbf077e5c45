//! OpenTelemetry's protocol over HTTP: metrics of one or more resources, in protobuf or JSON.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::foreign::Taken;
use super::{Denial, Intake};
use crate::foreign::{Origin, Protocol};
use crate::limits::{OTLP_BODY_LIMIT, OTLP_DECODED_LIMIT};
use crate::otlp::{Encoding, Rejected, partial_success, sort, status};

pub(super) const PATH: &str = "/v1/metrics";

pub(super) async fn post(State(intake): State<Intake>, headers: HeaderMap, body: Body) -> Response {
    let Some(encoding) = encoding(&headers) else {
        let message = "Content-Type: application/x-protobuf and application/json are taken";
        return Denial::unsupported(message).into_response();
    };
    match export(intake, encoding, (headers, body)).await {
        Ok((taken, points)) => {
            let body = partial_success(encoding, rejected(taken, points));
            answer(encoding, StatusCode::OK.into_response(), body)
        }
        Err(denial) => denied(encoding, denial),
    }
}

/// What stands in the journal of a request, and how many data points it held.
async fn export(
    intake: Intake,
    encoding: Encoding,
    (headers, body): (HeaderMap, Body),
) -> Result<(Taken, u64), Denial> {
    let inner = intake.0;
    let origin = Origin { protocol: Protocol::Otlp, relay: inner.relay(&headers)? };
    let (held, body) = inner.room.body(&headers, body, OTLP_BODY_LIMIT).await?;
    let points = Arc::new(AtomicU64::new(0));
    let counted = points.clone();
    let taken = inner
        .store(origin, held, move |inner, held, sorter| {
            let body = inner.room.unpack(held, &headers, (body, OTLP_DECODED_LIMIT))?;
            let (sorted, points) =
                sort(encoding, &body, sorter).map_err(|error| Denial::bad(error.to_string()))?;
            counted.store(points, Ordering::Relaxed);
            Ok(sorted)
        })
        .await?;
    Ok((taken, points.load(Ordering::Relaxed)))
}

/// How a request is written.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    match kind.to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Some(Encoding::Protobuf),
        "application/json" => Some(Encoding::Json),
        _ => None,
    }
}

/// What was left out, in the protocol's words. Refusals are of samples, of which a histogram's point
/// is many; never more points are named than came.
fn rejected(taken: Taken, points: u64) -> Option<Rejected> {
    if taken.refusals.is_empty() {
        return None;
    }
    let rejected_data_points = taken.refusals.samples().min(points);
    let denial = taken.answer().err()?;
    Some(Rejected { rejected_data_points, error_message: denial.to_string() })
}

/// A denial as a status of gRPC. Senders give up what is answered 507, and space may come.
fn denied(encoding: Encoding, denial: Denial) -> Response {
    let body = status(encoding, told(denial.status()), &denial.to_string());
    let mut response = denial.into_response();
    *response.status_mut() = told(response.status());
    answer(encoding, response, body)
}

const fn told(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::INSUFFICIENT_STORAGE => StatusCode::SERVICE_UNAVAILABLE,
        status => status,
    }
}

fn answer(encoding: Encoding, response: Response, body: Vec<u8>) -> Response {
    let (mut head, _) = response.into_parts();
    head.headers.remove(http::header::CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
    Response::from_parts(head, Body::from(body))
}
