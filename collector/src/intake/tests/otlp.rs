//! Tests of OTLP over HTTP: answers in both encodings, what is stored, and what is left out.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::support::*;
use crate::accounting::Reason;
use crate::intake::router;
use crate::limits::{OTLP_BODY_LIMIT, OTLP_DECODED_LIMIT};
use crate::otlp::tests::{protobuf, request as metrics_of, time};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const API: [(&str, &str); 2] = [("service.name", "api"), ("service.instance.id", "api-1")];

/// A request as it goes over the wire: type, encoding, body.
struct Sent<'a>(&'a str, &'a str, Vec<u8>);

/// Status, `Content-Type`, `Retry-After` if any, and the body.
async fn send(server: &Server, secret: &str, sent: Sent<'_>) -> (u16, String, bool, Vec<u8>) {
    let request = request("POST", "/v1/metrics", secret)
        .header("content-type", sent.0)
        .header("content-encoding", sent.1)
        .body(axum::body::Body::from(sent.2))
        .unwrap();
    let answer = router(server.intake.clone()).oneshot(request).await.unwrap();
    let header = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let (kind, retry) = (header("content-type").unwrap(), header("retry-after").is_some());
    let status = answer.status().as_u16();
    (status, kind, retry, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn gauge(name: &str, secs: i64) -> Value {
    json!({"name": name, "gauge": {"dataPoints": [{"timeUnixNano": time(secs), "asInt": "7"}]}})
}

#[tokio::test]
async fn a_request_is_stored_and_answered_in_its_own_encoding() {
    let server = Server::start();
    let request = metrics_of(&API, &json!([gauge("queue", 0)]));
    let (json, binary) = (request.to_string().into_bytes(), protobuf(&request));
    for (kind, encoding, body, empty) in [
        (PROTOBUF, "", binary.clone(), &b""[..]),
        (PROTOBUF, "gzip", gzip(&binary), b""),
        (JSON, "", json.clone(), b"{}"),
        ("application/json; charset=utf-8", "gzip", gzip(&json), b"{}"),
        (PROTOBUF, "", Vec::new(), b""),
    ] {
        let (status, answered, _, body) = send(&server, ADMIN, Sent(kind, encoding, body)).await;
        assert_eq!((status, body.as_slice()), (200, empty), "{kind} {encoding}");
        assert_eq!(answered, kind.split(';').next().unwrap());
    }
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.stored, total.duplicate, total.in_flight()), (1, 3, 0));
    let name = server.parts().registry.instances()[0].labels.to_string();
    assert_eq!(name, r#"{instance="api-1",job="api"}"#);
    let kinds = kinds(&server);
    let queue = r#"queue{instance="api-1",job="api"}"#;
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [(queue.to_owned(), rrd::Kind::Gauge)]);
}

#[tokio::test]
async fn what_is_left_out_is_a_partial_success_that_says_why() {
    let server = Server::start();
    let exponential = json!({"name": "exp", "exponentialHistogram": {
        "aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": time(0)}]}});
    let traced = json!({"name": "traced", "gauge": {"dataPoints": [
        {"timeUnixNano": time(0), "asInt": "7", "exemplars": [{"asInt": "7"}, {"asInt": "8"}]}]}});
    let request = metrics_of(
        &API,
        &json!([gauge("good", 0), exponential, gauge("future", 3600), gauge("", 0), traced,]),
    );
    let body = Sent(JSON, "", request.to_string().into_bytes());
    let (status, _, _, body) = send(&server, ADMIN, body).await;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let told = &answer["partialSuccess"];
    assert_eq!((status, &told["rejectedDataPoints"]), (200, &json!("3")), "{answer}");
    let why = told["errorMessage"].as_str().unwrap();
    assert!(why.starts_with("2 samples stored, 3 refused; first: "), "{why}");
    let (_, _, _, body) = send(&server, ADMIN, Sent(PROTOBUF, "", protobuf(&request))).await;
    assert_eq!(body[3..5], [0x08, 3], "{body:x?}");
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.in_flight(), total.exemplars), (0, 4));
    for reason in [Reason::NativeHistogram, Reason::Future, Reason::NoName] {
        assert_eq!(total.refused[&reason], 2, "{reason:?}");
    }
}

#[tokio::test]
async fn a_failure_is_a_status_that_says_whether_to_come_again() {
    let server = Server::start();
    let join = server.token(json!({"kind": "join"})).await;
    let request = metrics_of(&API, &json!([gauge("queue", 0)]));
    let good = || protobuf(&request);
    let (huge, bomb) = (vec![0; OTLP_BODY_LIMIT + 1], gzip(&vec![0; OTLP_DECODED_LIMIT + 1]));
    for (secret, sent, status, code) in [
        (ADMIN, Sent(PROTOBUF, "", b"\x0a\x05\x00".to_vec()), 400, 3),
        (ADMIN, Sent(PROTOBUF, "gzip", good()), 400, 3),
        (ADMIN, Sent(PROTOBUF, "br", good()), 415, 3),
        (ADMIN, Sent(PROTOBUF, "", huge), 413, 8),
        (ADMIN, Sent(PROTOBUF, "gzip", bomb), 413, 8),
        ("nobody", Sent(PROTOBUF, "", good()), 401, 16),
        (&join, Sent(PROTOBUF, "", good()), 403, 7),
    ] {
        let (answered, kind, retry, body) = send(&server, secret, sent).await;
        assert_eq!((answered, kind.as_str(), retry), (status, PROTOBUF, false));
        assert_eq!((body[..2].to_vec(), body[2]), (vec![0x08, code], 0x12), "{body:x?}");
    }
    let (status, _, _, body) = send(&server, ADMIN, Sent(JSON, "", b"x".to_vec())).await;
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &told["code"]), (400, &json!(3)), "{told}");
    assert_eq!(send(&server, ADMIN, Sent("text/plain", "", good())).await.0, 415);
    // Space may come, and a sender gives up whatever is not one of four statuses.
    server.fill_disk();
    let (status, _, retry, body) = send(&server, ADMIN, Sent(PROTOBUF, "", good())).await;
    assert_eq!((status, retry, &body[..2]), (503, true, &[0x08, 14][..]));
    server.parts().journal.close();
    let (status, _, retry, _) =
        send(&server, ADMIN, Sent(JSON, "", request.to_string().into())).await;
    assert_eq!((status, retry), (503, true));
}

/// A request that says how much came between two moments.
fn delta(from: i64, until: i64) -> Vec<u8> {
    let metrics = json!([{"name": "hits", "sum": {
        "aggregationTemporality": 1, "isMonotonic": true,
        "dataPoints": [{
            "startTimeUnixNano": time(from), "timeUnixNano": time(until), "asInt": "6",
        }],
    }}]);
    protobuf(&metrics_of(&API, &metrics))
}

/// What the rows of the only series count in a span of seconds.
fn counted(server: &Server, from: i64, until: i64) -> f64 {
    let series = server.parts().store.select(&[]).remove(0);
    let span = rrd::Span::new(at(from), at(until)).unwrap();
    let rows = server.parts().store.rows(series.series, 0, span).average;
    rows.iter().filter(|rate| !rate.is_nan()).map(|rate| rate * 60.0).sum()
}

#[tokio::test]
async fn a_batch_that_comes_twice_counts_once() {
    let server = Server::start();
    for (from, until) in [(0, 60), (60, 120), (60, 120), (120, 180), (180, 240)] {
        let body = Sent(PROTOBUF, "", delta(from, until));
        assert_eq!(send(&server, ADMIN, body).await.0, 200);
    }
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.stored, total.duplicate), (8, 2), "{total:?}");
    // A row ends at 160 s; nothing came before the first moment.
    let counted = counted(&server, 0, 180);
    assert!((counted - 16.0).abs() < 1e-4, "{counted}");
}

#[tokio::test]
async fn a_delta_after_a_pause_counts_whole_and_where_it_belongs() {
    let server = Server::start();
    for (from, until) in [(-140, -80), (-80, -20), (400, 460), (460, 520)] {
        let body = Sent(PROTOBUF, "", delta(from, until));
        assert_eq!(send(&server, ADMIN, body).await.0, 200);
    }
    server.settle().await;
    for (from, until, expected) in [(-140, -20, 12.0), (400, 460, 6.0), (-200, 520, 24.0)] {
        let counted = counted(&server, from, until);
        assert!((counted - expected).abs() < 1e-3, "{from} to {until}: {counted}");
    }
}
