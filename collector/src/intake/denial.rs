//! Answers that are not 2xx: a status a sender acts upon, and a body that says why and what to do.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::auth::AuthError;
use crate::native::{Problem, RefusedSeries};

/// Why a request was denied. Its message is for the sender; details of our inside stay in the log.
#[derive(Clone, Debug)]
pub struct Denial {
    status: StatusCode,
    problem: Box<Problem>,
    /// Seconds after which the same request may be taken.
    retry: Option<u16>,
}

/// Shortest `Retry-After`.
const RETRY_SECS_MIN: u16 = 1;
/// Longest, but for the spread: who waits longer may as well ask again.
const RETRY_SECS_MAX: u16 = 600;
/// How far `Retry-After` is spread above it: senders that were turned away together shall not
/// return together.
const RETRY_SECS_SPREAD: u8 = 10;

impl Denial {
    fn new(status: StatusCode, error: &str, message: impl Into<String>) -> Self {
        let problem =
            Problem { error: error.to_owned(), message: message.into(), ..Problem::default() };
        Self { status, problem: Box::new(problem), retry: None }
    }

    /// 400: sending it again changes nothing.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 400: some of it was stored, the rest never will be.
    pub(crate) fn partial(message: impl Into<String>, refused: Vec<RefusedSeries>) -> Self {
        let mut denial = Self::new(StatusCode::BAD_REQUEST, "partial", message);
        denial.problem.refused = refused;
        denial
    }

    /// 403: a good credential for something else.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 401 with another word than [`AuthError`] has.
    pub(crate) fn unauthorised(error: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error, message)
    }

    /// 409: it stands against what is there.
    pub(crate) fn conflict(error: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error, message)
    }

    /// 409: a batch before this one is missing.
    pub(crate) fn gap(resend_from: u64) -> Self {
        let message = format!("batch {resend_from} is missing; send it and those after it");
        let mut denial = Self::new(StatusCode::CONFLICT, "gap", message);
        denial.problem.resend_from = Some(resend_from);
        denial
    }

    /// 409: the readings use numbers whose labels are not known here.
    pub(crate) fn dictionary() -> Self {
        let message = "the dictionary of this incarnation is not known here; send all of it again";
        let mut denial = Self::new(StatusCode::CONFLICT, "dictionary", message);
        denial.problem.resend_dictionary = true;
        denial
    }

    /// 413.
    pub(crate) fn large(limit: usize) -> Self {
        let message = format!("the body has more than {limit} bytes; send less at once");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 413: more elements than are taken at once.
    pub(crate) fn many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 415.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", message)
    }

    /// 503 with `Retry-After`: the same request will be taken later.
    pub(crate) fn later(error: &str, message: impl Into<String>) -> Self {
        let denial = Self::new(StatusCode::SERVICE_UNAVAILABLE, error, message);
        Self { retry: Some(RETRY_SECS_MIN), ..denial }
    }

    /// 503 with a `Retry-After` of at least `wait`: the sender brings more than it may. No 429, upon
    /// which some senders drop what they have.
    pub(crate) fn rate(wait: Duration) -> Self {
        let message = "more samples or bytes came than this sender may bring in a second; it may \
                       bring more shortly, and its limits are under [limits] in the configuration";
        let secs = u16::try_from(wait.as_secs()).unwrap_or(u16::MAX);
        let retry = Some(secs.saturating_add(1).clamp(RETRY_SECS_MIN, RETRY_SECS_MAX));
        Self { retry, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "rate", message) }
    }

    /// 507 with `Retry-After`: somebody has to make room first.
    pub(crate) fn no_space(message: impl Into<String>) -> Self {
        let denial = Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message);
        Self { retry: Some(RETRY_SECS_MIN), ..denial }
    }

    /// The status of the answer.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The body of the answer.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// The message alone.
impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Denial {}

impl From<AuthError> for Denial {
    fn from(error: AuthError) -> Self {
        let word = match error {
            AuthError::Missing | AuthError::Unknown => "unauthorised",
            AuthError::Expired => "expired",
            AuthError::Revoked => "revoked",
            AuthError::Withdrawn => "withdrawn",
        };
        Self::unauthorised(word, error.to_string())
    }
}

impl From<journal::Refused> for Denial {
    fn from(refused: journal::Refused) -> Self {
        match refused {
            journal::Refused::TooLarge { .. } => {
                Self::bad("the request is larger than one journal frame; send less at once")
            }
            refused => Self::later("busy", refused.to_string()),
        }
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(least) = self.retry {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(least + spread()));
        }
        response
    }
}

fn spread() -> u16 {
    let mut random = [0_u8; 1];
    // Without randomness senders merely return together, which is better than no answer.
    getrandom::fill(&mut random).map_or(0, |()| u16::from(random[0] % RETRY_SECS_SPREAD))
}
