//! The guard: who may pass. Everything is closed but a short list, and every answer is hardened.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;

use crate::api::problem;
use crate::api::request::LONGEST_FORM;
use crate::sessions::same;
use crate::views::Web;

/// What a page may load: itself, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";
/// A standalone image brings its own style sheet and nothing else.
const IMAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// Paths that need no credential. `/assets/` holds only what is compiled in.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/login"];
const OPEN_FOLDER: &str = "/assets/";
/// A form arrives within this, or its sender gives up one of few connections.
const LONGEST_ARRIVAL: Duration = Duration::from_secs(15);

/// How a closed path answers a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// A browser is shown the way to the login page.
    Page,
    /// A program is told in its own language.
    Api,
    /// Anything that is fetched, not visited.
    Plain,
}

/// Lets pass who may, and hardens what comes back.
pub(crate) async fn guard(State(web): State<Web>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let image = path.starts_with("/g/");
    let refused = if is_open(path) {
        check_origin(&web, request.method(), request.headers())
    } else {
        check(&web, &request)
    };
    let mut response = match refused {
        Some(refused) => refused,
        None => match arrived(request).await {
            Ok(request) => next.run(request).await,
            Err(refused) => refused,
        },
    };
    harden(response.headers_mut(), image);
    response
}

/// The request with its form read, in bounds of size and time: strangers may send one to `/login`.
async fn arrived(request: Request) -> Result<Request, Response> {
    if is_safe(request.method()) {
        return Ok(request);
    }
    let (head, body) = request.into_parts();
    let refused = |status, message: &str| match Refusal::of(head.uri.path()) {
        Refusal::Api => problem(status, "bad_data", message),
        Refusal::Page | Refusal::Plain => (status, message.to_owned()).into_response(),
    };
    match tokio::time::timeout(LONGEST_ARRIVAL, to_bytes(body, LONGEST_FORM)).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Body::from(body))),
        Ok(Err(_)) => {
            let message = format!("the form has more than {LONGEST_FORM} bytes; send less");
            Err(refused(StatusCode::PAYLOAD_TOO_LARGE, &message))
        }
        Err(_) => {
            let message = "the form did not arrive in time; send it again";
            Err(refused(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

/// True for methods that change nothing and bring no form.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || path.starts_with(OPEN_FOLDER)
}

/// The refusal of a request to a closed path, if it is refused.
fn check(web: &Web, request: &Request) -> Option<Response> {
    let headers = request.headers();
    if bearer(headers).is_some_and(|token| web.accepts_bearer(token)) {
        return None; // A browser never adds this header by itself, so no site can forge it.
    }
    let of_api = request.uri().path().starts_with("/api/");
    if of_api && basic(headers).is_some_and(|token| web.accepts_bearer(&token)) {
        return check_origin(web, request.method(), headers); // This one a browser does add.
    }
    if web.sessions.knows(&cookies(headers), web.clock.monotonic()) {
        return check_origin(web, request.method(), headers);
    }
    Some(refuse(Refusal::of(request.uri().path())))
}

/// Requests that change something must come from our own pages.
fn check_origin(web: &Web, method: &Method, headers: &HeaderMap) -> Option<Response> {
    if is_safe(method) {
        return None;
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let ours = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            origin == &*web.public_url || (host.is_some() && host == text("host"))
        }
        // Neither header: not a browser of this decade, and no cookie of it is sent cross-site.
        (None, None) => true,
    };
    let refusal = "This form was sent from another site; open the page here and send it again.";
    (!ours).then(|| (StatusCode::FORBIDDEN, refusal).into_response())
}

impl Refusal {
    fn of(path: &str) -> Self {
        if path.starts_with("/api/") {
            Self::Api
        } else if path.starts_with("/g/") || path == "/metrics" {
            Self::Plain
        } else {
            Self::Page
        }
    }
}

fn refuse(refusal: Refusal) -> Response {
    let message = "sign in, or send the admin token as `Authorization: Bearer …`";
    let mut response = match refusal {
        Refusal::Page => {
            let mut away = StatusCode::SEE_OTHER.into_response();
            away.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/login"));
            return away;
        }
        Refusal::Api => problem(StatusCode::UNAUTHORIZED, "unauthorized", message),
        Refusal::Plain => (StatusCode::UNAUTHORIZED, message).into_response(),
    };
    let scheme = HeaderValue::from_static("Bearer realm=\"roundel\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

impl Web {
    /// True when `token` is the admin token.
    pub(crate) fn accepts_bearer(&self, token: &str) -> bool {
        self.admin_token.as_ref().is_some_and(|good| !good.is_empty() && same(good, token))
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The password of an `Authorization: Basic` header, for programs that take no token but an address
/// such as `http://admin:TOKEN@host`; promtool is one.
fn basic(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(BASE64.decode(credentials.trim()).ok()?).ok()?;
    plain.split_once(':').map(|(_, password)| password.to_owned())
}

/// All cookies that came, as one header.
pub(crate) fn cookies(headers: &HeaderMap) -> String {
    let all: Vec<&str> =
        headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    all.join("; ")
}

fn harden(headers: &mut HeaderMap, image: bool) {
    let policy = if image { IMAGE_POLICY } else { POLICY };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What a session may see must not stay in a shared cache, unless the handler said how long.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// An answer of HTML.
pub(crate) fn html(status: StatusCode, page: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, kind, Body::from(page)).into_response()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::rig::{ADMIN, Rig, form_request};

    #[tokio::test(start_paused = true)]
    async fn a_form_that_does_not_arrive_is_given_up() {
        let rig = Rig::with("a", "");
        // The first byte comes and the end never does.
        let body = Full::new(Bytes::from("t")).with_trailers(pending());
        let request = form_request("/login").body(Body::new(body)).unwrap();
        let response = rig.send(request).await;
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn the_token_as_a_password_opens_the_api_alone() {
        let rig = Rig::with("a", "");
        let ask = |path: &'static str, password: &str| {
            let value = format!("Basic {}", BASE64.encode(format!("anyone:{password}")));
            Request::get(path).header(header::AUTHORIZATION, value).body(Body::empty()).unwrap()
        };
        for (path, password, status) in [
            ("/api/v1/labels", ADMIN, StatusCode::OK),
            ("/api/v1/labels", "wrong", StatusCode::UNAUTHORIZED),
            ("/api/v1/labels", "", StatusCode::UNAUTHORIZED),
            ("/status", ADMIN, StatusCode::SEE_OTHER),
        ] {
            let response = rig.send(ask(path, password)).await;
            assert_eq!(response.status(), status, "{path} {password}");
        }
        let mut foreign = form_request("/api/v1/query");
        let value = format!("Basic {}", BASE64.encode(format!("anyone:{ADMIN}")));
        foreign =
            foreign.header(header::AUTHORIZATION, value).header("sec-fetch-site", "cross-site");
        let response = rig.send(foreign.body(Body::from("query=1")).unwrap()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn a_form_over_the_limit_is_refused_on_pages_too() {
        let rig = Rig::with("a", "");
        let form = Body::from("x".repeat(LONGEST_FORM + 1));
        let response = rig.send(form_request("/login").body(form).unwrap()).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
