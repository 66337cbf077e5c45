//! What collectd's plugin `write_http` posts.

use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};

use super::{Denial, Intake};
use crate::collectd::{BODY_LIMIT, sort};
use crate::foreign::{Origin, Protocol};

pub(super) async fn post(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    let inner = intake.0;
    let origin = Origin { protocol: Protocol::Collectd, relay: inner.relay(&headers)? };
    let (held, body) = inner.room.body(&headers, body, BODY_LIMIT).await?;
    let taken = inner
        .store(origin, held, move |inner, held, sorter| {
            let body = inner.room.unpack(held, &headers, (body, BODY_LIMIT))?;
            sort(&body, sorter).map_err(|error| Denial::bad(error.to_string()))
        })
        .await?;
    taken.answer()
}
