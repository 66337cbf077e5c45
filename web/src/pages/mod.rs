//! Pages: what a person sees, rendered on the server and readable without scripts.

pub(crate) mod alerts;
pub(crate) mod enrol;
pub(crate) mod fleet;
pub(crate) mod graph;
pub(crate) mod instance;
pub(crate) mod login;
mod shell;
pub(crate) mod status;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use self::shell::Shell;
use crate::guard::html;
use crate::views::Web;

/// Pages rendered at once: graphs take milliseconds of a core, and intake comes first.
const AT_ONCE: usize = 4;

static TURNS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(AT_ONCE);

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    shell: Shell,
    heading: &'a str,
    text: &'a str,
}

/// Renders `page`; a template that fails is our mistake, and the page says so.
fn answer(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => html(status, text),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            let text = "This page could not be rendered; the server's log says why.";
            html(StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
        }
    }
}

/// A page with only a message on it.
fn message(
    web: &Web,
    headers: &HeaderMap,
    status: StatusCode,
    heading: &str,
    text: &str,
) -> Response {
    answer(status, &Message { shell: Shell::of(web, headers, ""), heading, text })
}

/// Whatever has no page.
pub(crate) async fn not_found(
    State(web): State<Web>,
    headers: HeaderMap,
    uri: axum::http::Uri,
) -> Response {
    if uri.path().starts_with("/api/") {
        let text = "no such endpoint";
        return crate::api::problem(StatusCode::NOT_FOUND, "not_found", text);
    }
    let text = "There is nothing at this address.";
    message(&web, &headers, StatusCode::NOT_FOUND, "Not found", text)
}

/// Runs `work` where it blocks nobody. `None` when it panicked or the server is stopping.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let turn = TURNS.acquire().await.ok()?;
    let task = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    task.await.ok()
}

/// The page for work that broke off.
fn broken(web: &Web, headers: &HeaderMap) -> Response {
    let text = "The server could not finish this page; its log says why.";
    message(web, headers, StatusCode::INTERNAL_SERVER_ERROR, "Something broke", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{HOSTILE, ID, Rig, text};

    const LOAD: &str = "node_load1{instance=\"a\",job=\"node\"} 1x59";

    #[tokio::test]
    async fn hostile_names_stay_text_on_every_page() {
        let rig = Rig::with(HOSTILE, "");
        for path in
            ["/", "/alerts", "/enrol", "/status", &format!("/i/{ID}"), "/?q=%22%3E%3Cscript%3E"]
        {
            let (status, page) = rig.get(path).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert!(!page.contains("<script>"), "{path}");
        }
    }

    #[tokio::test]
    async fn no_page_has_inline_script_or_style() {
        let rig = Rig::with("a", LOAD);
        for path in ["/", "/alerts", "/enrol", "/status", &format!("/i/{ID}")] {
            let (_, page) = rig.get(path).await;
            for never in ["style=", "<style", "onclick", "onload", "javascript:"] {
                assert!(!page.contains(never), "{never} on {path}");
            }
        }
    }

    #[tokio::test]
    async fn an_instance_shows_the_graphs_that_it_has_series_for() {
        let rig = Rig::with("a", LOAD);
        let (_, page) = rig.get(&format!("/i/{ID}")).await;
        assert!(page.contains("id=\"graph-load\"") && !page.contains("id=\"graph-cpu\""));
        assert!(
            page.contains("class=\"series thin sky\" data-k=\"1 min\"><path"),
            "a line is drawn"
        );
        assert!(page.contains("1\u{a0}min averages"));
    }

    #[tokio::test]
    async fn an_instance_without_series_says_so() {
        let (_, page) = Rig::with("a", "").get(&format!("/i/{ID}")).await;
        assert!(page.contains("Nothing to draw yet"));
    }

    #[tokio::test]
    async fn a_young_instance_shows_its_whole_life_and_says_so() {
        let young =
            "archives 10s:720,1m:2880\nstart 58m\nnode_load1{instance=\"a\",job=\"node\"} 1x12";
        for period in ["hour", "year"] {
            let rig = Rig::with("a", young);
            let (_, page) = rig.get(&format!("/i/{ID}?period={period}")).await;
            assert!(page.contains("Last 3\u{a0}min: there is nothing older yet"), "{period}");
            assert!(page.contains("10\u{a0}s averages"), "{period}");
        }
    }

    #[tokio::test]
    async fn an_image_is_kept_for_its_step_and_comes_in_the_asked_size() {
        let rig = Rig::with("a", LOAD);
        let (status, svg) = rig.get(&format!("/g/{ID}/load.svg?w=300&h=100000&theme=dark")).await;
        assert_eq!(status, StatusCode::OK);
        assert!(svg.contains("viewBox=\"0 0 300 2000\""), "{svg}");
        for (path, expected) in [
            ("load.png", StatusCode::NOT_FOUND),
            ("cpu.svg", StatusCode::NOT_FOUND),
            ("load.svg?period=age", StatusCode::BAD_REQUEST),
            ("load.svg?from=10&to=5", StatusCode::BAD_REQUEST),
            ("load.svg?from=99999999999999999", StatusCode::BAD_REQUEST),
            ("load.svg?from=-9223372036854775808", StatusCode::BAD_REQUEST),
            ("load.svg?from=0&to=9223372036854775807", StatusCode::BAD_REQUEST),
            ("load.svg?w=-1", StatusCode::BAD_REQUEST),
            ("load.svg?from=0&to=3600000", StatusCode::OK),
            ("load.svg?from=5&to=5", StatusCode::OK),
            ("load.svg?from=-90000000000000&to=90000000000000", StatusCode::OK),
        ] {
            assert_eq!(rig.get(&format!("/g/{ID}/{path}")).await.0, expected, "{path}");
        }
        assert_eq!(rig.get("/g/nobody/load.svg").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_token_is_shown_in_the_command_that_uses_it() {
        let rig = Rig::with("a", "");
        let (_, page) = rig.post("/enrol", "kind=join&note=web").await;
        let command = "roundel agent --collector http://127.0.0.1:4270 --token secret-Join";
        assert!(page.contains(command), "{page}");
        let (_, page) = rig.post("/enrol", "kind=relay").await;
        assert!(page.contains("credentials: secret-Relay") && page.contains("/api/v1/write"));
        assert_eq!(rig.post("/enrol", "kind=king").await.0, StatusCode::BAD_REQUEST);
        let (status, page) = rig.post("/enrol", "kind=join&note=refuse").await;
        assert!(status == StatusCode::SERVICE_UNAVAILABLE && page.contains("the journal is full"));
    }

    #[tokio::test]
    async fn the_fleet_is_searched_by_name_and_label() {
        let rig = Rig::with("web-1", "");
        for (wanted, found) in [("WEB", true), ("zone", true), ("db", false)] {
            let (_, page) = rig.get(&format!("/?q={wanted}")).await;
            assert_eq!(page.contains(&format!("/i/{ID}")), found, "{wanted}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_in_the_asker_s_language() {
        let rig = Rig::with("a", "");
        let (status, page) = rig.get("/nowhere").await;
        assert!(status == StatusCode::NOT_FOUND && page.contains("<h1>Not found</h1>"));
        let (status, body) = rig.get("/api/v1/nowhere").await;
        assert!(status == StatusCode::NOT_FOUND && body.contains("\"errorType\":\"not_found\""));
        assert_eq!(rig.get("/i/nobody").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn the_browser_s_zone_labels_the_axes() {
        let rig = Rig::with("a", LOAD);
        let request = axum::http::Request::get(format!("/i/{ID}"))
            .header("authorization", format!("Bearer {}", crate::rig::ADMIN))
            .header("cookie", "roundel-zone=Asia%2FKolkata");
        let (_, page) =
            text(rig.send(request.body(axum::body::Body::empty()).unwrap()).await).await;
        assert!(page.contains("Times in Asia/Kolkata") && page.contains(">06:00</text>"), "{page}");
    }
}
