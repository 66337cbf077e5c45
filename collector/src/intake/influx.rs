//! InfluxDB's HTTP interface, as far as its clients need it to write: versions 1 and 2.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use super::foreign::Taken;
use super::{Denial, Inner, Intake};
use crate::foreign::{Origin, Protocol};
use crate::influx::{Context, FIELD_LIMIT, Precision, STRANGER_LIMIT, sort};
use crate::limits::{LABEL_VALUE_LIMIT, WRITE_BODY_LIMIT, WRITE_DECODED_LIMIT};
use crate::registry::TokenId;

/// The version that is spoken, for clients that ask.
const VERSION: &str = "1.8.10";
/// Bytes of a statement: clients send `CREATE DATABASE` and a name.
const STATEMENT_LIMIT: usize = 4 << 10;

/// The words in which a client expects errors.
#[derive(Clone, Copy)]
enum Speech {
    V1,
    V2,
}

/// Parameters of either version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parameters {
    db: String,
    bucket: String,
    precision: String,
    p: Option<String>,
    q: String,
}

pub(super) async fn write_v1(
    State(intake): State<Intake>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    Speech::V1.answer(write(intake, &uri, headers, body).await)
}

pub(super) async fn write_v2(
    State(intake): State<Intake>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    Speech::V2.answer(write(intake, &uri, headers, body).await)
}

/// Alive, and which version: asked before a client has a credential.
pub(super) async fn ping() -> impl axum::response::IntoResponse {
    let headers = [("x-influxdb-version", VERSION), ("x-influxdb-build", "OSS")];
    (StatusCode::NO_CONTENT, headers)
}

/// What clients of version 2 ask before they write.
pub(super) async fn health() -> Response {
    let told = json!({
        "name": "influxdb", "message": "ready for writes", "status": "pass", "checks": [],
        "version": VERSION,
    });
    Json(told).into_response()
}

/// A statement of version 1: making a database does nothing, for every name is one.
pub(super) async fn query(
    State(intake): State<Intake>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let said = async {
        let parameters = parameters(&uri)?;
        relay(&intake.0, &headers, &parameters)?;
        if parameters.q.is_empty() && method == Method::POST {
            let (_held, body) = intake.0.room.body(&headers, body, STATEMENT_LIMIT).await?;
            return statement(&form(&body)?.q);
        }
        statement(&parameters.q)
    };
    match said.await {
        Ok(results) => Json(json!({ "results": [results] })).into_response(),
        Err(denial) => Speech::V1.denied(denial),
    }
}

fn statement(text: &str) -> Result<serde_json::Value, Denial> {
    let words: Vec<String> = text.split_whitespace().take(2).map(str::to_ascii_uppercase).collect();
    match (words.first().map(String::as_str), words.get(1).map(String::as_str)) {
        (Some("CREATE"), Some("DATABASE")) => Ok(json!({ "statement_id": 0 })),
        (Some("SHOW"), Some("DATABASES")) => Ok(json!({
            "statement_id": 0,
            "series": [{ "name": "databases", "columns": ["name"], "values": [] }],
        })),
        _ => Err(Denial::bad(
            "of InfluxQL only CREATE DATABASE is known, which does nothing; ask in PromQL at /api/v1/query",
        )),
    }
}

async fn write(intake: Intake, uri: &Uri, headers: HeaderMap, body: Body) -> Result<Taken, Denial> {
    let inner = intake.0;
    let parameters = parameters(uri)?;
    let relay = relay(&inner, &headers, &parameters)?;
    let precision = Precision::of(&parameters.precision)
        .ok_or_else(|| Denial::bad("precision: one of ns, us, ms, s, m and h"))?;
    let database = if parameters.db.is_empty() { parameters.bucket } else { parameters.db };
    if database.len() > LABEL_VALUE_LIMIT {
        return Err(Denial::bad(format!("the database's name: at most {LABEL_VALUE_LIMIT} bytes")));
    }
    let origin = Origin { protocol: Protocol::Influx, relay };
    let (held, body) = inner.room.body(&headers, body, WRITE_BODY_LIMIT).await?;
    inner
        .store(origin, held, move |inner, held, sorter| {
            let text = inner.room.unpack(held, &headers, (body, WRITE_DECODED_LIMIT))?;
            let now = inner.parts.clock.wall();
            let context = Context { database: &database, precision, now };
            sort(&text, context, sorter).map_err(|_| {
                Denial::many(format!(
                    "the write has more than {FIELD_LIMIT} fields or {STRANGER_LIMIT} new series; send fewer lines at once"
                ))
            })
        })
        .await
}

/// The relay that a write comes from. Old clients put the secret into the address, as the password.
fn relay(
    inner: &Inner,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Option<TokenId>, Denial> {
    match (&parameters.p, headers.contains_key(AUTHORIZATION)) {
        (Some(secret), false) => {
            let bearer = HeaderValue::try_from(format!("Bearer {secret}"))
                .map_err(|_| Denial::bad("p: the password holds control characters"))?;
            inner.relay(&HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
        }
        _ => inner.relay(headers),
    }
}

fn parameters(uri: &Uri) -> Result<Parameters, Denial> {
    let read = Query::try_from_uri(uri);
    let Query(parameters) =
        read.map_err(|error| Denial::bad(format!("the address cannot be read: {error}")))?;
    Ok(parameters)
}

/// Parameters in a form's body are written as those in an address.
fn form(body: &[u8]) -> Result<Parameters, Denial> {
    let text = str::from_utf8(body).ok().and_then(|text| format!("/?{text}").parse().ok());
    parameters(&text.ok_or_else(|| Denial::bad("the body is not a form with a statement q"))?)
}

impl Speech {
    fn answer(self, taken: Result<Taken, Denial>) -> Response {
        match taken {
            Ok(taken) if taken.refusals.told() == 0 => StatusCode::NO_CONTENT.into_response(),
            Ok(taken) => self.partial(taken),
            Err(denial) => self.denied(denial),
        }
    }

    fn partial(self, taken: Taken) -> Response {
        let dropped = taken.refusals.told();
        let first = taken.refusals.into_shown().into_iter().next();
        let first = first.map(|one| format!("{}: {}", one.series, one.message));
        let first = first.unwrap_or_default();
        self.denied(Denial::bad(format!("partial write: {first} dropped={dropped}")))
    }

    /// A denial with its status and headers, in the words of the version.
    fn denied(self, denial: Denial) -> Response {
        let message = denial.to_string();
        let said = match self {
            Self::V1 => json!({ "error": message }),
            Self::V2 => json!({ "code": code(denial.status()), "message": message }),
        };
        let (head, _) = denial.into_response().into_parts();
        let mut answer = (head.status, Json(said)).into_response();
        for (name, value) in &head.headers {
            if !answer.headers().contains_key(name) && name != http::header::CONTENT_LENGTH {
                answer.headers_mut().insert(name.clone(), value.clone());
            }
        }
        answer
    }
}

/// What version 2 calls a status.
fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "invalid",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported media type",
        _ => "unavailable",
    }
}
