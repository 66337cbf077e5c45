//! Routes: every path this crate answers, in one table.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use crate::views::Web;
use crate::{api, assets, guard, pages};

/// Paths and their handlers.
fn table() -> Vec<(&'static str, MethodRouter<Web>)> {
    vec![
        ("/", get(pages::fleet::show)),
        ("/login", get(pages::login::show).post(pages::login::enter)),
        ("/logout", post(pages::login::leave)),
        ("/i/{id}", get(pages::instance::show)),
        ("/g/{id}/{file}", get(pages::graph::show)),
        ("/alerts", get(pages::alerts::show)),
        ("/enrol", get(pages::enrol::show).post(pages::enrol::mint)),
        ("/status", get(pages::status::show)),
        ("/api/v1/query", get(api::query::instant).post(api::query::instant)),
        ("/api/v1/query_range", get(api::query::range).post(api::query::range)),
        ("/api/v1/series", get(api::meta::series).post(api::meta::series)),
        ("/api/v1/labels", get(api::meta::labels).post(api::meta::labels)),
        ("/api/v1/label/{name}/values", get(api::meta::label_values)),
        ("/api/v1/metadata", get(api::metadata::metadata)),
        ("/api/v1/query_exemplars", get(api::query::exemplars).post(api::query::exemplars)),
        ("/api/v1/format_query", get(api::query::format).post(api::query::format)),
        ("/api/v1/parse_query", get(api::query::parse).post(api::query::parse)),
        ("/api/v1/rules", get(api::rules::rules)),
        ("/api/v1/alerts", get(api::rules::alerts)),
        ("/api/v1/status/buildinfo", get(api::metadata::build_info)),
        ("/metrics", get(metrics)),
        ("/healthz", get(alive)),
        ("/readyz", get(ready)),
        ("/assets/{name}", get(assets::asset)),
    ]
}

/// The router of everything that is asked of this program. Merge it with the intake's: the guard
/// stands before these routes and the fallback only.
pub fn router(web: Web) -> Router {
    let mut router = Router::new();
    for (path, handler) in table() {
        router = router.route(path, handler);
    }
    router
        .fallback(pages::not_found)
        .layer(from_fn_with_state(web.clone(), guard::guard))
        .with_state(web)
}

/// `GET /healthz`: the process answers.
async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: recovery is done, and the journal takes samples.
async fn ready(State(web): State<Web>) -> Response {
    if web.health.ready() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "recovering, or the journal has stopped: see /status\n")
        .into_response()
}

/// `GET /metrics`: about this program. Not open: counts of a fleet are nobody else's business; a
/// scraper sends the admin token.
async fn metrics(State(web): State<Web>) -> Response {
    let mut text = String::new();
    web.health.metrics(&mut text);
    let kind = [(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;
    use crate::rig::{ADMIN, ID, Rig, text};

    /// The table is written for people; this is what a stranger may have, said once more.
    const OPEN: [&str; 4] = ["/healthz", "/readyz", "/login", "/assets/{name}"];

    fn address(path: &str) -> String {
        path.replace("{id}", ID).replace("{file}", "load.svg").replace("{name}", "job")
    }

    #[tokio::test]
    async fn every_route_but_the_open_ones_is_closed_to_strangers() {
        let rig = Rig::with("a", "");
        let paths = table().into_iter().map(|(path, _)| path);
        for path in paths.chain(["/nowhere", "/api/v1/nowhere", "/assets", "/login/x", "//", "/i/"])
        {
            let response = rig.stranger(&address(path)).await;
            let status = response.status();
            if OPEN.contains(&path) {
                assert!(
                    status != StatusCode::UNAUTHORIZED && status != StatusCode::SEE_OTHER,
                    "{path}"
                );
                continue;
            }
            let programs =
                path.starts_with("/api/") || path.starts_with("/g/") || path == "/metrics";
            if programs {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
                assert!(response.headers().contains_key(header::WWW_AUTHENTICATE), "{path}");
            } else {
                assert_eq!(status, StatusCode::SEE_OTHER, "{path}");
                assert_eq!(response.headers()[header::LOCATION], "/login", "{path}");
            }
            if path.starts_with("/api/") {
                assert!(text(response).await.1.starts_with("{\"status\":\"error\""), "{path}");
            }
        }
    }

    #[tokio::test]
    async fn every_answer_is_hardened() {
        let rig = Rig::with("a", "");
        for path in table().into_iter().map(|(path, _)| path) {
            let response = rig.stranger(&address(path)).await;
            let headers = response.headers();
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{path}");
            assert!(!policy.contains("script-src 'unsafe"), "{path}");
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer", "{path}");
            assert!(headers.contains_key(header::CACHE_CONTROL), "{path}");
        }
    }

    #[tokio::test]
    async fn the_admin_token_opens_pages_and_api() {
        let rig = Rig::with("a", "node_load1{instance=\"a\",job=\"node\"} 1x59");
        let query = [
            ("/api/v1/query", "?query=up"),
            ("/api/v1/series", "?match[]=up"),
            ("/api/v1/format_query", "?query=up"),
            ("/api/v1/parse_query", "?query=up"),
            ("/api/v1/query_exemplars", "?query=up"),
        ];
        for path in [
            "/",
            "/alerts",
            "/enrol",
            "/status",
            "/metrics",
            "/api/v1/query",
            "/api/v1/labels",
            "/api/v1/series",
            "/api/v1/label/{name}/values",
            "/api/v1/status/buildinfo",
            "/api/v1/metadata",
            "/api/v1/query_exemplars",
            "/api/v1/format_query",
            "/api/v1/parse_query",
            "/api/v1/rules",
            "/api/v1/alerts",
            "/i/{id}",
            "/g/{id}/{file}",
        ] {
            let more = query.iter().find(|(with, _)| *with == path).map_or("", |(_, more)| more);
            let (status, body) = rig.get(&format!("{}{more}", address(path))).await;
            assert_eq!(status, StatusCode::OK, "{path}: {body}");
        }
    }

    #[tokio::test]
    async fn a_wrong_bearer_opens_nothing() {
        let rig = Rig::with("a", "");
        for value in ["Bearer wrong", "Bearer ", "Bearer", &format!("Basic {ADMIN}"), ADMIN] {
            let request =
                axum::http::Request::get("/api/v1/labels").header(header::AUTHORIZATION, value);
            let response = rig.send(request.body(axum::body::Body::empty()).unwrap()).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{value}");
        }
    }

    #[tokio::test]
    async fn recovery_is_not_ready_but_alive() {
        let rig = Rig::with("a", "");
        rig.health.set_ready(false);
        assert_eq!(rig.stranger("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(rig.stranger("/healthz").await.status(), StatusCode::OK);
        rig.health.set_ready(true);
        assert_eq!(rig.stranger("/readyz").await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn assets_are_kept_for_ever_under_their_hashed_name() {
        let rig = Rig::with("a", "");
        let response = rig.stranger(&assets::STYLE.path).await;
        let caching = response.headers()[header::CACHE_CONTROL].to_str().unwrap().to_owned();
        assert!(response.status() == StatusCode::OK && caching.contains("immutable"), "{caching}");
        assert_eq!(rig.stranger("/assets/x.css").await.status(), StatusCode::NOT_FOUND);
    }
}
