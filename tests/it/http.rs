//! A small HTTP client for the tests, and a receiver that keeps what it is sent.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::server::ADMIN;

/// An answer: its status, headers and whole body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }
}

/// Sends a request; `None` when there is no server.
pub(crate) async fn send(request: Request<Full<Bytes>>) -> Option<Answer> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.ok()?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    Some(Answer { status: head.status, headers: head.headers, body })
}

/// GET with the admin token.
pub(crate) async fn get(url: &str) -> Answer {
    let request = Request::get(url).header("authorization", format!("Bearer {ADMIN}"));
    send(request.body(Full::default()).unwrap()).await.expect("the server answers")
}

/// GET without any credential.
pub(crate) async fn get_bare(url: &str) -> Answer {
    send(Request::get(url).body(Full::default()).unwrap()).await.expect("the server answers")
}

/// GET without any credential, when there may be no server yet; `None` unless it is a success.
pub(crate) async fn send_get(url: &str) -> Option<Answer> {
    let answer = send(Request::get(url).body(Full::default()).unwrap()).await?;
    answer.status.is_success().then_some(answer)
}

/// POST of a form with the admin token.
pub(crate) async fn post_form(url: &str, pairs: &[(&str, String)]) -> Answer {
    let request = Request::post(url)
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", "application/x-www-form-urlencoded");
    let body = Full::from(Bytes::from(encoded(pairs)));
    send(request.body(body).unwrap()).await.expect("the server answers")
}

/// POST of JSON with the admin token.
pub(crate) async fn post_json(url: &str, body: &Value) -> Answer {
    let request = Request::post(url)
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", "application/json");
    send(request.body(Full::from(body.to_string())).unwrap()).await.expect("the server answers")
}

/// One remote-write request with the admin token; `None` when there is no server.
pub(crate) async fn remote_write(
    url: &str,
    series: &[fixtures::remote_write::Series],
) -> Option<Answer> {
    let request = Request::post(format!("{url}/api/v1/write"))
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0");
    send(request.body(Full::from(fixtures::remote_write::body(series))).unwrap()).await
}

/// The result of an instant query.
pub(crate) async fn query(url: &str, expr: &str, time: Option<f64>) -> Vec<Value> {
    let mut pairs = vec![("query", expr.to_owned())];
    pairs.extend(time.map(|time| ("time", time.to_string())));
    let answer = get(&format!("{url}/api/v1/query?{}", encoded(&pairs))).await;
    let json = answer.json();
    assert_eq!(json["status"], "success", "{expr}: {json}");
    json["data"]["result"].as_array().cloned().unwrap_or_default()
}

/// Pairs as a query string.
pub(crate) fn encoded(pairs: &[(&str, String)]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect()
    };
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}={}", escape(v))).collect();
    pairs.join("&")
}

/// What a webhook receiver was sent: headers and body, in order of arrival.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<Mutex<Vec<(HeaderMap, Bytes)>>>);

impl Received {
    /// All requests so far.
    pub(crate) fn all(&self) -> Vec<(HeaderMap, Bytes)> {
        self.0.lock().unwrap().clone()
    }
}

/// Starts a receiver on a free port of loopback; answers its URL and what it gets.
pub(crate) async fn receiver() -> (String, Received) {
    let received = Received::default();
    let keep = async |State(kept): State<Received>, headers: HeaderMap, body: Bytes| {
        kept.0.lock().unwrap().push((headers, body));
        StatusCode::NO_CONTENT
    };
    let router = Router::new().route("/hook", post(keep)).with_state(received.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}
