//! The API for programs, in Prometheus' shape.

mod document;
mod json;
pub(crate) mod meta;
pub(crate) mod metadata;
pub(crate) mod query;
pub(crate) mod request;
pub(crate) mod rules;
mod threads;
mod turn;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use self::json::body;

/// The warning with an answer of which only the first items are shown.
const CUT: &str = "results truncated due to limit";

/// An error as Prometheus' API says it.
pub(crate) fn problem(status: StatusCode, kind: &str, message: &str) -> Response {
    let mut text = String::from("{\"status\":\"error\",\"errorType\":");
    json::text(&mut text, kind);
    text.push_str(",\"error\":");
    json::text(&mut text, message);
    text.push('}');
    (status, body(text)).into_response()
}

#[cfg(test)]
mod tests;
