//! Hostile senders and askers: names that are markup, bombs, credentials of others. Nothing breaks,
//! nothing is believed, memory stays bounded.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use ::http::{Request, StatusCode};
use bytes::Bytes;
use collector::native::{Entry, PUSH_CONTENT_TYPE, Push, Reading};
use fixtures::remote_write::Series;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::server::{ADMIN, Server, eventually, folder};
use crate::steady::now_secs;

/// Names as nobody should choose them: markup, quotes, control characters, other directions.
const NAMES: [&str; 12] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "a\r\nBcc: x@example.org",
    "\0\u{1}\u{1b}[31mred",
    "\u{202e}evil\u{202c}",
    "]]>",
    "{{7*7}}",
    "&lt;b&gt;",
    "'\"`",
    "../../etc/passwd",
    "\u{85}\u{2028}\u{fffe}",
    "%0d%0a",
];

/// What any one of these tests may add to the server's memory.
const GROWTH_KIB: u64 = 300 << 10;

fn now_ms() -> i64 {
    i64::try_from(now_secs()).unwrap() * 1000
}

/// Most memory that the process ever took, in KiB.
pub(crate) fn peak_kib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How far its peak has moved since. The kernel sums counters of processors only roughly: it may read a
/// little less than before.
pub(crate) fn grown_kib(server: &Server, before: u64) -> u64 {
    peak_kib(server).saturating_sub(before)
}

#[track_caller]
pub(crate) fn assert_quiet(dir: &Path) {
    let log = fs::read_to_string(dir.join("log.txt")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let control = |c: &char| c.is_control() && *c != '\n' && *c != '\t';
    assert_eq!(log.chars().find(control), None, "a name reached the log raw:\n{log:?}");
}

async fn form(url: &str, path: &str, pairs: &[(&str, String)]) -> Answer {
    let request = Request::post(format!("{url}{path}"))
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", "application/x-www-form-urlencoded");
    let body = Full::from(http::encoded(pairs));
    http::send(request.body(body).unwrap()).await.expect("the server answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_stay_text_on_every_page_image_and_answer() {
    let dir = folder();
    let server = Server::start(dir.path(), &["--policy", "1s:1h"]);
    let start = now_ms() - 60_000;
    let mut all = Vec::new();
    for instance in NAMES {
        for metric in ["node_load1", "node_network_receive_bytes_total", "up"] {
            for device in NAMES {
                let mut series = Series::new(&[
                    ("__name__", metric),
                    ("job", "node"),
                    ("instance", instance),
                    ("device", device),
                ]);
                for second in 0..30 {
                    series = series.reading(start + second * 1000, 1.0);
                }
                all.push(series);
            }
        }
    }
    let answer = http::remote_write(&server.url, &all).await.unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
    eventually("the series", Duration::from_secs(10), async || {
        let at = f64::from(u32::try_from((start + 20_000) / 1000).unwrap());
        (http::query(&server.url, "node_load1", Some(at)).await.len() == 144).then_some(())
    })
    .await;

    let list = http::get(&format!("{}/v1/instances", server.url)).await.json();
    let ids = list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap());
    let mut paths: Vec<String> = ["/", "/alerts", "/enrol", "/status", "/metrics"]
        .into_iter()
        .chain(["/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/api/v1/labels"])
        .chain(["/api/v1/series?match%5B%5D=up", "/api/v1/label/device/values"])
        .map(str::to_owned)
        .collect();
    for id in ids {
        paths.push(format!("/i/{id}"));
        paths.extend(["load", "network"].map(|graph| format!("/g/{id}/{graph}.svg")));
    }
    for path in paths {
        let answer = http::get(&format!("{}{path}", server.url)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let (kind, text) = (answer.headers["content-type"].to_str().unwrap(), answer.text());
        if kind.starts_with("application/json") {
            answer.json();
            continue;
        }
        for never in ["<script>alert", "<img src=x", "]]>"] {
            assert!(!text.contains(never), "{never} on {path}");
        }
        if kind == "image/svg+xml" {
            let control = |c: char| c.is_control() && c != '\n' && c != '\t';
            assert!(!text.contains(control), "XML knows no such character: {path}");
        }
    }
    assert_quiet(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_ends_the_server_or_takes_its_memory() {
    let dir = folder();
    let mut server = Server::start(dir.path(), &[]);
    let before = peak_kib(&server);
    let bomb = |count: usize| format!("up{{{}}}", vec![r#"a=~"\\pL{400}""#; count].join(","));
    for (query, status) in [
        (format!("{}1{}", "(".repeat(8000), ")".repeat(8000)), 422),
        (format!("{}1", "-".repeat(16_000)), 422),
        (vec!["1"; 8000].join("^"), 422),
        ("a".repeat(60_000), 422),
        (bomb(1), 422),
        (bomb(900), 422),
        (format!("up{{a=~\"{}{}\"}}", "(".repeat(7000), ")".repeat(7000)), 400),
        ("label_replace(up, 'a', '', 'b', '(((a{99}){99}){99}){99}')".to_owned(), 422),
        ("up{a=\"\\é\"}".to_owned(), 400),
        ("up[99999999999999999999y]".to_owned(), 400),
        ("up @ NaN".to_owned(), 400),
        ("up\0".to_owned(), 400),
    ] {
        let shown: String = query.chars().take(40).collect();
        let answer = form(&server.url, "/api/v1/query", &[("query", query)]).await;
        assert_eq!(answer.status.as_u16(), status, "{shown}: {}", answer.text());
        assert!(server.lives(), "{shown}");
    }
    for path in ["/api/v1/series", "/api/v1/labels"] {
        for matches in [vec![("match[]", bomb(100))], vec![("match[]", "up".to_owned()); 100]] {
            let answer = form(&server.url, path, &matches).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}: {}", answer.text());
        }
    }
    let grown = grown_kib(&server, before);
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
    assert_quiet(dir.path());
}

/// Enrols under `token`: the instance's id and its credential.
async fn enrol(url: &str, token: &str, boot: &str) -> (u128, String) {
    let request = Request::post(format!("{url}/v1/enroll"))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    let body = json!({ "name": "web", "boot_id": boot }).to_string();
    let answer = http::send(request.body(Full::from(body)).unwrap()).await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let json: Value = answer.json();
    let id = u128::from_str_radix(json["id"].as_str().unwrap(), 16).unwrap();
    (id, json["credential"].as_str().unwrap().to_owned())
}

async fn push(url: &str, credential: &str, push: &Push) -> Answer {
    let request = Request::post(format!("{url}/v1/push"))
        .header("authorization", format!("Bearer {credential}"))
        .header("content-type", PUSH_CONTENT_TYPE);
    let body = Full::from(Bytes::from(push.encode()));
    http::send(request.body(body).unwrap()).await.expect("the server answers")
}

/// Batch `number` with one new entry, whose label is as long as `label`.
fn batch(instance: u128, number: u64, label: &str) -> Push {
    let id = u32::try_from(number).unwrap();
    let labels = vec![("__name__".to_owned(), "m".to_owned()), ("x".to_owned(), label.to_owned())];
    Push {
        instance,
        incarnation: 1,
        boot_id: 1,
        number,
        floor: number,
        sent_ms: now_ms(),
        dictionary: vec![Entry { id, kind: 0, labels }],
        readings: vec![Reading { at_ms: now_ms(), values: vec![(id, 1.0)] }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_believed_for_itself_alone_and_its_refusals_take_no_memory() {
    let dir = folder();
    let server = Server::start(dir.path(), &["--policy", "1s:1h"]);
    let url = &server.url;
    let token = http::post_json(&format!("{url}/v1/tokens"), &json!({ "kind": "join" })).await;
    let token = token.json()["token"].as_str().unwrap().to_owned();
    let (mine, credential) = enrol(url, &token, "1").await;
    let (other, _) = enrol(url, &token, "2").await;
    let answer = push(url, &credential, &batch(other, 1, "a")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());

    let before = peak_kib(&server);
    let long = "x".repeat(1_000_000);
    for number in 1..=400 {
        let answer = push(url, &credential, &batch(mine, number, &long)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert!(answer.body.len() < 2000, "{}", answer.text());
    }
    let grown = grown_kib(&server, before);
    assert!(grown < GROWTH_KIB, "{grown} KiB more");

    let gone = format!("{url}/v1/instances/{mine:032x}/withdraw");
    assert_eq!(http::post_json(&gone, &json!({})).await.status, StatusCode::NO_CONTENT);
    let answer = push(url, &credential, &batch(mine, 401, "a")).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
    assert!(answer.text().contains("withdrawn; enrol again"), "{}", answer.text());
    assert_quiet(dir.path());
}

/// What the server answers to raw bytes, up to the end of the connection.
fn raw(url: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // It may close before all is sent; the answer says why.
    let _sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ended = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_that_are_no_http_are_refused_and_the_connection_ends() {
    let dir = folder();
    let mut server = Server::start(dir.path(), &[]);
    let post = |rest: &str| {
        format!("POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n{rest}")
    };
    for (what, request, status) in [
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}"), "400"),
        ("a signed length", post("Content-Length: +2\r\n\r\n{}"), "400"),
        ("a bad chunk", post("Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n"), "400"),
        (
            "a chunk beyond every size",
            post("Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"),
            "400",
        ),
        (
            "a negative chunk",
            post("Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n"),
            "400",
        ),
        ("a bare carriage return", "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n".to_owned(), "400"),
        ("a name with a blank", "GET / HTTP/1.1\r\nX y: a\r\n\r\n".to_owned(), "400"),
        ("a long header", format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(400_000)), "431"),
        ("many headers", format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000)), "431"),
        ("NUL", "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n".to_owned(), "400"),
        (
            "a smuggled request",
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n",
            ),
            "400",
        ),
    ] {
        let answer = raw(&server.url, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer}");
        assert!(server.lives(), "{what}");
    }
    // Who speaks HTTP/2 without asking hears nothing that it could misread.
    assert_eq!(raw(&server.url, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "");
    assert!(server.lives());
    assert_quiet(dir.path());
}

/// A gzip of so many bytes, a thousand to one.
fn bomb(bytes: usize) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![b'['; bytes]).unwrap();
    packed.finish().unwrap()
}

/// What any one of the bombs may add to the server's memory: what a request may unpack to, twice.
const BOMB_GROWTH_KIB: u64 = 24 << 10;
/// How long the refusal of one may take, of a program that is not optimised on a busy machine.
const BOMB_PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn bombs_for_line_protocols_are_refused_soon_and_in_little_memory() {
    let dir = folder();
    let ports = [crate::peers::free_port(), crate::peers::free_port()];
    let sections = format!(
        "[graphite]\nlisten = \"127.0.0.1:{}\"\n[zabbix]\nlisten = \"127.0.0.1:{}\"\n",
        ports[0], ports[1]
    );
    let file = crate::server::config(dir.path(), &sections);
    let mut server = Server::start(dir.path(), &["--config", file.to_str().unwrap()]);
    let line = b"cpu,host=web-1 value=1\n".to_vec();
    let post = async |path: &str, encoding: &str, body: Vec<u8>| {
        let request = Request::post(format!("{}{path}", server.url))
            .header("authorization", format!("Bearer {ADMIN}"))
            .header("content-encoding", encoding);
        http::send(request.body(Full::from(body)).unwrap()).await.map(|answer| answer.status)
    };
    assert_eq!(post("/write?db=x", "identity", line).await, Some(StatusCode::NO_CONTENT));
    let mut told = Vec::new();
    for (what, path, encoding, body, expected) in [
        ("gzip 1000:1", "/write?db=x", "gzip", bomb(16 << 20), 413),
        ("gzip 1000:1", "/api/v2/write?bucket=x", "gzip", bomb(16 << 20), 413),
        ("gzip 1000:1", "/collectd", "gzip", bomb(16 << 20), 413),
        ("a line of 1 MB", "/write?db=x", "identity", vec![b'a'; 1 << 20], 400),
        ("a tag of 1 MB", "/write?db=x", "identity", tagged(1 << 20), 400),
        ("deep JSON", "/collectd", "identity", vec![b'['; 1 << 20], 400),
        ("deep meta", "/collectd", "identity", b"[{\"meta\":[".repeat(100_000), 400),
    ] {
        let (before, begun) = (peak_kib(&server), begun());
        let status = post(path, encoding, body).await.unwrap();
        told.push((what, path, begun.elapsed(), grown_kib(&server, before)));
        assert_eq!(status.as_u16(), expected, "{what} {path}");
    }
    let huge = [b"ZBXD\x05", &(1_u64 << 60).to_le_bytes()[..], &[0; 8]].concat();
    for (what, port, bytes) in [
        ("a packet of 2^60", ports[1], huge),
        ("a line without an end", ports[0], vec![b'a'; 8 << 20]),
    ] {
        let (before, begun) = (peak_kib(&server), begun());
        raw(&format!("http://127.0.0.1:{port}"), &bytes);
        told.push((what, "", begun.elapsed(), grown_kib(&server, before)));
    }
    eprintln!("{told:#?}");
    for (what, path, time, grown) in told {
        assert!(time < BOMB_PATIENCE && grown < BOMB_GROWTH_KIB, "{what} {path}: {time:?} {grown}");
    }
    assert!(server.lives());
    assert_quiet(dir.path());
}

fn tagged(bytes: usize) -> Vec<u8> {
    [&b"m,t="[..], &vec![b'a'; bytes], b" v=1\n"].concat()
}

#[expect(clippy::disallowed_methods, reason = "the test measures a real program")]
fn begun() -> std::time::Instant {
    std::time::Instant::now()
}
