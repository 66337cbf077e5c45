//! Signing in by the one-time link, by a pasted token, and out again.

use askama::Template;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::answer;
use crate::assets::{LOGO, STYLE};
use crate::guard::cookies;
use crate::views::Web;

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    style: &'static str,
    logo: &'static str,
    problem: Option<&'static str>,
}

/// The token of a link or a form.
#[derive(Deserialize)]
pub(crate) struct Entry {
    token: Option<String>,
}

/// `GET /login?token=…`
pub(crate) async fn show(
    State(web): State<Web>,
    method: Method,
    Query(entry): Query<Entry>,
) -> Response {
    // Chat programs and scanners look at links by HEAD; that must not use up the token.
    match entry.token.filter(|token| !token.is_empty() && method == Method::GET) {
        None => page(StatusCode::OK, None),
        Some(token) if web.sessions.redeem(&token, web.clock.monotonic()) => begin(&web),
        Some(_) => {
            let problem =
                "This link has been used or is too old. Restart the server for a new one.";
            page(StatusCode::FORBIDDEN, Some(problem))
        }
    }
}

/// `POST /login`
pub(crate) async fn enter(State(web): State<Web>, Form(entry): Form<Entry>) -> Response {
    let token = entry.token.unwrap_or_default();
    let token = token.trim();
    if web.accepts_bearer(token) || web.sessions.redeem(token, web.clock.monotonic()) {
        return begin(&web);
    }
    page(StatusCode::FORBIDDEN, Some("This token is not good, or has been used already."))
}

/// `POST /logout`
pub(crate) async fn leave(State(web): State<Web>, headers: HeaderMap) -> Response {
    away("/login", Some(&web.sessions.end(&cookies(&headers))))
}

fn begin(web: &Web) -> Response {
    match web.sessions.begin(web.clock.monotonic()) {
        Ok(cookie) => away("/", Some(&cookie)),
        Err(error) => {
            tracing::error!(%error, "the system gives no random bytes");
            let problem = "The server has no randomness for a session; its log says why.";
            page(StatusCode::INTERNAL_SERVER_ERROR, Some(problem))
        }
    }
}

fn away(to: &'static str, cookie: Option<&str>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static(to));
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        headers.insert(header::SET_COOKIE, value);
    }
    response
}

fn page(status: StatusCode, problem: Option<&'static str>) -> Response {
    answer(status, &Login { style: &STYLE.path, logo: &LOGO.path, problem })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;

    use super::*;
    use crate::rig::{ADMIN, Rig, form_request, text};

    fn cookie_of(response: &Response) -> String {
        let header = response.headers()[header::SET_COOKIE].to_str().unwrap();
        header.split(';').next().unwrap().to_owned()
    }

    fn with_cookie(path: &str, cookie: &str) -> Request<Body> {
        Request::get(path).header(header::COOKIE, cookie).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn the_printed_link_signs_in_once() {
        let rig = Rig::with("a", "");
        let link = format!("/login?token={}", rig.token);
        let looked = Request::head(&link).body(Body::empty()).unwrap();
        assert!(!rig.send(looked).await.headers().contains_key(header::SET_COOKIE));
        let first = rig.stranger(&link).await;
        assert_eq!(
            (first.status(), &first.headers()[header::LOCATION]),
            (StatusCode::SEE_OTHER, &HeaderValue::from_static("/"))
        );
        let cookie = cookie_of(&first);
        assert_eq!(rig.send(with_cookie("/", &cookie)).await.status(), StatusCode::OK);
        assert_eq!(rig.send(with_cookie("/api/v1/labels", &cookie)).await.status(), StatusCode::OK);
        let again = rig.stranger(&link).await;
        assert_eq!(again.status(), StatusCode::FORBIDDEN);
        assert!(!again.headers().contains_key(header::SET_COOKIE));
    }

    #[tokio::test]
    async fn a_pasted_token_signs_in_and_a_wrong_one_does_not() {
        let rig = Rig::with("a", "");
        for (token, status) in [
            (ADMIN, StatusCode::SEE_OTHER),
            ("wrong", StatusCode::FORBIDDEN),
            ("", StatusCode::FORBIDDEN),
        ] {
            let request =
                form_request("/login").body(Body::from(format!("token={token}"))).unwrap();
            assert_eq!(rig.send(request).await.status(), status, "{token:?}");
        }
    }

    #[tokio::test]
    async fn signing_out_ends_the_session() {
        let rig = Rig::with("a", "");
        let cookie = cookie_of(&rig.stranger(&format!("/login?token={}", rig.token)).await);
        let request = form_request("/logout").header(header::COOKIE, &cookie);
        let out = rig.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(out.headers()[header::LOCATION], "/login");
        assert_eq!(rig.send(with_cookie("/", &cookie)).await.status(), StatusCode::SEE_OTHER);
    }

    #[tokio::test]
    async fn forms_from_other_sites_are_refused() {
        let rig = Rig::with("a", "");
        let cookie = cookie_of(&rig.stranger(&format!("/login?token={}", rig.token)).await);
        for (name, value, allowed) in [
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "same-origin", true),
            ("origin", "http://evil.example", false),
            ("origin", "null", false),
            ("origin", "http://127.0.0.1:4270", true),
        ] {
            let request =
                form_request("/enrol").header(header::COOKIE, &cookie).header(name, value);
            let body = Body::from("kind=join");
            let (status, page) = text(rig.send(request.body(body).unwrap()).await).await;
            assert_eq!(status == StatusCode::OK, allowed, "{name}: {value}");
            assert_eq!(page.contains("secret-Join"), allowed, "{name}: {value}");
            let login = form_request("/login").header(name, value);
            let body = Body::from(format!("token={ADMIN}"));
            let status = rig.send(login.body(body).unwrap()).await.status();
            assert_eq!(status == StatusCode::SEE_OTHER, allowed, "login, {name}: {value}");
        }
    }
}
