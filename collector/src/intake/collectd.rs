//! What collectd's plugin `write_http` posts.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Denial, Intake};
use crate::collectd::{BODY_LIMIT, sort};
use crate::foreign::{Origin, Protocol};

pub(super) async fn post(State(intake): State<Intake>, headers: HeaderMap, body: Body) -> Response {
    let mut answer = taken(intake, headers, body).await.into_response();
    if answer.status() == StatusCode::UNAUTHORIZED {
        // It shows its password only to who asks for one.
        let challenge = HeaderValue::from_static("Basic realm=\"roundel\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    answer
}

async fn taken(intake: Intake, headers: HeaderMap, body: Body) -> Result<StatusCode, Denial> {
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
