//! Tests of writes in InfluxDB's line protocol.

use std::io::Write as _;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use rrd::Labels;
use serde_json::{Value, json};

use super::support::*;
use crate::accounting::Reason;
use crate::limits::{WRITE_BODY_LIMIT, WRITE_DECODED_LIMIT};

async fn post(server: &Server, path: &str, body: impl Into<Body>) -> Answer {
    server.send(request("POST", path, ADMIN).body(body.into()).unwrap()).await
}

fn error(answer: &Answer) -> &str {
    answer.json["error"].as_str().unwrap_or_default()
}

fn secs() -> i64 {
    NOW.as_millis() / 1000
}

fn has(server: &Server, instance: &str, pairs: &[(&str, &str)]) -> bool {
    let Some(found) = server.parts().registry.named("telegraf", instance) else { return false };
    let key = Labels::from_pairs(pairs.iter().copied()).unwrap().to_key();
    server.parts().store.resolve(found.id, &key).is_some()
}

#[tokio::test]
async fn a_write_of_either_version_becomes_series_of_the_host() {
    let server = Server::start();
    let line = format!("cpu,host=web-1,cpu=cpu0 usage_idle=98.5,value=2i {}", secs());
    for path in
        ["/write?db=telegraf&precision=s", "/api/v2/write?org=o&bucket=telegraf&precision=s"]
    {
        let answer = post(&server, path, line.clone()).await;
        assert_eq!(answer.status, 204, "{path}: {}", answer.json);
    }
    let cpu = ("cpu", "cpu0");
    assert!(has(&server, "web-1", &[("__name__", "cpu_usage_idle"), cpu]));
    assert!(has(&server, "web-1", &[("__name__", "cpu"), cpu]));
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.stored, total.duplicate), (4, 2, 2));
}

#[tokio::test]
async fn good_lines_of_a_write_are_stored_and_the_answer_says_what_was_dropped() {
    let server = Server::start();
    let text = "m,host=a v=1\nm,host=a\nm,host=a v=2 5000000000000000000\nm,host=b v=x\n";
    let answer = post(&server, "/write?db=telegraf", text).await;
    assert_eq!(answer.status, 400);
    let told = "partial write: m,host=a: missing fields dropped=3";
    assert_eq!(answer.json, json!({ "error": told }));
    let answer = post(&server, "/api/v2/write?bucket=telegraf", "m,host=a v=1\nm v=\n").await;
    assert_eq!((answer.status.as_u16(), &answer.json["code"]), (400, &json!("invalid")));
    assert!(answer.json["message"].as_str().unwrap().ends_with("dropped=1"), "{}", answer.json);
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.refused[&Reason::Malformed], total.in_flight()), (6, 3, 0));
    assert_eq!(total.refused[&Reason::Future], 1);
}

#[tokio::test]
async fn texts_are_passed_over_and_counted() {
    let server = Server::start();
    let line = "system,host=a uptime=5i,uptime_format=\"1 day, 3:00\"";
    assert_eq!(post(&server, "/write?db=telegraf", line).await.status, 204);
    assert_eq!(post(&server, "/write?db=telegraf", "log line=\"all text\"").await.status, 204);
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.stored, total.refused[&Reason::Text]), (3, 1, 2));
    assert_eq!(total.in_flight(), 0);
}

#[tokio::test]
async fn a_line_without_a_time_is_of_now_and_units_are_heeded() {
    let server = Server::start();
    for (precision, count) in [
        ("ns", secs() * 1_000_000_000),
        ("u", secs() * 1_000_000),
        ("ms", secs() * 1_000),
        ("s", secs()),
        ("m", secs() / 60),
        ("h", secs() / 3600),
    ] {
        let path = format!("/write?db=telegraf&precision={precision}");
        let answer = post(&server, &path, format!("m,host={precision} v=1 {count}\n")).await;
        assert_eq!(answer.status, 204, "{precision}: {}", answer.json);
    }
    assert_eq!(post(&server, "/write?db=telegraf&precision=s", "m,host=now v=1").await.status, 204);
    let wrong = post(&server, "/write?db=telegraf&precision=d", "m v=1").await;
    assert_eq!(
        (wrong.status.as_u16(), error(&wrong)),
        (400, "precision: one of ns, us, ms, s, m and h")
    );
    server.settle().await;
    assert_eq!(server.parts().accounting.total().stored, 7);
}

#[tokio::test]
async fn the_secret_may_come_as_a_token_a_parameter_or_a_password() {
    let server = Server::start();
    let relay = server.token(json!({"kind": "relay"})).await;
    let send = async |path: &str, header: Option<String>| {
        let mut request = Request::post(path);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let answer = server.send(request.body(Body::from("m v=1")).unwrap()).await;
        (answer.status.as_u16(), answer.json)
    };
    for (path, header) in [
        ("/api/v2/write?bucket=b".to_owned(), Some(format!("Token {relay}"))),
        ("/write?db=b".to_owned(), Some(format!("Bearer {relay}"))),
        (format!("/write?db=b&u=x&p={relay}"), None),
    ] {
        assert_eq!(send(&path, header).await, (204, Value::Null), "{path}");
    }
    let (status, json) = send("/write?db=b&u=x&p=wrong", None).await;
    assert_eq!(status, 401);
    assert!(json["error"].as_str().unwrap().contains("not known here"), "{json}");
    let (status, json) = send("/api/v2/write?bucket=b", None).await;
    assert_eq!((status, &json["code"]), (401, &json!("unauthorized")), "{json}");
    let join = server.token(json!({"kind": "join"})).await;
    assert_eq!(send("/write?db=b", Some(format!("Token {join}"))).await.0, 403);
}

#[tokio::test]
async fn old_clients_may_ping_and_make_databases() {
    let server = Server::start();
    let ping = server.send(Request::get("/ping").body(Body::empty()).unwrap()).await;
    assert_eq!(
        (ping.status.as_u16(), &ping.headers["x-influxdb-version"]),
        (204, &"1.8.10".parse().unwrap())
    );
    assert_eq!(server.get("/health").await.json["status"], "pass");
    let made = post(&server, "/query?q=CREATE+DATABASE+%22telegraf%22", "").await;
    assert_eq!(made.json, json!({"results": [{"statement_id": 0}]}));
    let form = post(&server, "/query", "q=create%20database+x&db=").await;
    assert_eq!(form.json, json!({"results": [{"statement_id": 0}]}));
    assert_eq!(server.get("/query?q=SHOW%20DATABASES").await.status, 200);
    let asked = server.get("/query?q=SELECT%20*%20FROM%20cpu").await;
    assert_eq!(asked.status, 400);
    assert!(error(&asked).contains("PromQL"), "{}", asked.json);
    let bare = server.send(Request::get("/query?q=SHOW%20DATABASES").body(Body::empty()).unwrap());
    assert_eq!(bare.await.status, 401);
}

#[tokio::test]
async fn bombs_are_refused_before_they_unfold() {
    let server = Server::start();
    let gzip = |bytes: &[u8]| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let packed = async |body: Vec<u8>| {
        let request = request("POST", "/write?db=b", ADMIN).header("content-encoding", "gzip");
        server.send(request.body(Body::from(body)).unwrap()).await.status.as_u16()
    };
    assert_eq!(packed(gzip(b"m v=1")).await, 204);
    assert_eq!(packed(gzip(&vec![b'a'; 2 * WRITE_DECODED_LIMIT])).await, 413);
    assert_eq!(packed(b"no gzip".to_vec()).await, 400);
    let write = async |text: Vec<u8>| post(&server, "/write?db=b", text).await.status.as_u16();
    assert_eq!(write(vec![b'a'; WRITE_BODY_LIMIT + 1]).await, 413);
    assert_eq!(write(vec![b'a'; 1 << 20]).await, 400);
    assert_eq!(write([b"m ".to_vec(), b"a=1,".repeat(200_000)].concat()).await, 400);
    assert_eq!(write(b"m a=1,b=2,c=3,d=4,e=5\n".repeat(21_000)).await, 413);
    assert_eq!(write([&b"m,t="[..], &vec![b'a'; 1 << 20], b" v=1"].concat()).await, 400);
    assert!(server.parts().registry.instances().len() <= 1);
}
