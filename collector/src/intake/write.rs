//! Prometheus remote write, 1.0 and 2.0: one request of many instances' samples.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::foreign::Taken;
use super::{Denial, Intake};
use crate::foreign::{Origin, Protocol};
use crate::limits::{WRITE_BODY_LIMIT, WRITE_DECODED_LIMIT};
use crate::registry::TokenId;
use crate::remote_write::{decompress, sort, v2};

const SAMPLES_WRITTEN: &str = "x-prometheus-remote-write-samples-written";
const HISTOGRAMS_WRITTEN: &str = "x-prometheus-remote-write-histograms-written";
const EXEMPLARS_WRITTEN: &str = "x-prometheus-remote-write-exemplars-written";

pub(super) async fn post(State(intake): State<Intake>, headers: HeaderMap, body: Body) -> Response {
    let admitted = intake.0.relay(&headers).and_then(|relay| Ok((relay, Version::of(&headers)?)));
    match admitted {
        Ok((relay, Version::One)) => {
            let taken = write(intake, (Version::One, relay), (headers, body)).await;
            taken.and_then(Taken::answer).into_response()
        }
        Ok((relay, Version::Two)) => {
            told_what_is_written(write(intake, (Version::Two, relay), (headers, body)).await)
        }
        Err(denial) => denial.into_response(),
    }
}

async fn write(
    intake: Intake,
    (version, relay): (Version, Option<TokenId>),
    (headers, body): (HeaderMap, Body),
) -> Result<Taken, Denial> {
    let inner = intake.0;
    let origin = Origin { protocol: version.protocol(), relay };
    let (held, body) = inner.room.body(&headers, body, WRITE_BODY_LIMIT).await?;
    inner
        .store(origin, held, move |inner, held, sorter| {
            let claimed = snap::raw::decompress_len(&body).unwrap_or_default();
            inner.room.add(held, claimed.min(WRITE_DECODED_LIMIT))?;
            decompress(&body)
                .and_then(|bytes| match version {
                    Version::One => sort(&bytes, sorter),
                    Version::Two => v2::sort(&bytes, sorter),
                })
                .map_err(|error| Denial::bad(error.to_string()))
        })
        .await
}

/// The answer of 2.0: it says how much of each kind was written, whatever its status. A sender of 1.0
/// must not be told so, or it would take us for one that speaks 2.0 only.
fn told_what_is_written(taken: Result<Taken, Denial>) -> Response {
    let samples = taken.as_ref().map_or(0, |taken| taken.samples);
    let mut answer = taken.and_then(wholly_written).into_response();
    for (name, count) in
        [(SAMPLES_WRITTEN, samples), (HISTOGRAMS_WRITTEN, 0), (EXEMPLARS_WRITTEN, 0)]
    {
        answer.headers_mut().insert(name, HeaderValue::from(count));
    }
    answer
}

/// 2.0 forbids success where anything known was left out, exemplars included.
fn wholly_written(taken: Taken) -> Result<StatusCode, Denial> {
    let (stored, exemplars) = (taken.samples, taken.exemplars);
    let answer = taken.answer()?;
    if exemplars == 0 {
        return Ok(answer);
    }
    let message = format!(
        "{stored} samples stored, {exemplars} exemplars left out: no archive holds them; turn \
         send_exemplars off"
    );
    Err(Denial::partial(message, Vec::new()))
}

/// Which remote write a sender speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// What the headers say. Checked before the body is looked at: a request of one version may
    /// decode as an empty one of the other.
    fn of(headers: &HeaderMap) -> Result<Self, Denial> {
        let header = |name: HeaderName| {
            let mut values = headers.get_all(name).iter();
            let first = values.next()?.to_str().ok()?;
            values.next().is_none().then_some(first)
        };
        let snappy = |encoding: &str| encoding.eq_ignore_ascii_case("snappy");
        if !header(CONTENT_ENCODING).is_some_and(snappy) {
            return Err(Denial::unsupported("Content-Encoding: remote write sends snappy"));
        }
        header(CONTENT_TYPE).and_then(Self::named).ok_or_else(|| {
            Denial::unsupported(
                "Content-Type: application/x-protobuf of remote write 1.0 or 2.0 is taken",
            )
        })
    }

    fn named(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("application/x-protobuf") {
            return None;
        }
        let proto = parts.filter_map(|part| part.split_once('=')).find_map(|(name, proto)| {
            name.trim().eq_ignore_ascii_case("proto").then_some(proto.trim().trim_matches('"'))
        });
        match proto {
            None | Some("prometheus.WriteRequest") => Some(Self::One),
            Some("io.prometheus.write.v2.Request") => Some(Self::Two),
            Some(_) => None,
        }
    }

    const fn protocol(self) -> Protocol {
        match self {
            Self::One => Protocol::RemoteWrite,
            Self::Two => Protocol::RemoteWrite2,
        }
    }
}
