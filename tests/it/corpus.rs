//! The corpus of bad and strange requests: each with the status it gets, none with a side effect
//! that its answer does not tell, all within a bound of memory.

use std::fmt::Write as _;
use std::fs;

use ::http::Request;
use bytes::Bytes;
use fixtures::remote_write::{Series, body, packed};
use http_body_util::Full;
use serde_json::json;

use crate::bad_input::write_request;
use crate::hostile::{assert_quiet, grown_kib, peak_kib};
use crate::http;
use crate::server::{ADMIN, Server, eventually, folder};
use crate::steady::now_secs;

const POLICY: [&str; 2] = ["--policy", "1s:1h,1m:1d"];
/// What all of one test's requests together may add to the server's memory: the body that is being
/// worked on, once as it came and once unpacked, and the first pages of the store.
const GROWTH_KIB: u64 = 64 << 10;

fn now_ms() -> i64 {
    i64::try_from(now_secs()).unwrap() * 1000
}

fn up() -> Series {
    Series::new(&[("__name__", "up"), ("job", "corpus"), ("instance", "a")])
}

async fn status(server: &Server, body: Vec<u8>) -> u16 {
    let answer = http::send(write_request(&server.url, ADMIN, body)).await;
    answer.expect("the server answers").status.as_u16()
}

/// Samples received, as the books have them.
async fn received(server: &Server) -> u64 {
    let books = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
    books["total"]["received"].as_u64().unwrap()
}

fn varint(mut number: u128) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

fn field(number: u128, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u128), content.to_vec()].concat()
}

/// A series named `up` with one sample and, in front of it, other fields.
fn series_with(more: &[u8]) -> Vec<u8> {
    let labels = [("__name__", "up"), ("job", "corpus"), ("instance", "a")];
    let labels = labels.map(|(name, value)| {
        field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
    });
    let at = varint(u128::from(now_ms().unsigned_abs()));
    let sample = [&[0x09][..], &1.0_f64.to_le_bytes(), &[0x10], &at].concat();
    field(1, &[more.to_vec(), labels.concat(), field(2, &sample)].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_that_is_none_is_refused_whole_and_what_is_unknown_is_passed_over() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let good = series_with(&[]);
    assert_eq!(status(&server, packed(&good)).await, 204);
    let before = (peak_kib(&server), received(&server).await);
    for cut in 1..good.len() {
        assert_eq!(status(&server, packed(&good[..cut])).await, 400, "cut at {cut}");
    }
    let long_varint = [&[0x08][..], &[0xff; 11], &[0x01]].concat();
    for (what, request) in [
        ("field 0", vec![0x02, 0x00]),
        ("wire type 6", vec![0x0e, 0x00]),
        ("wire type 7", vec![0x0f, 0x00]),
        ("a number of eleven bytes", long_varint),
        ("a length of 2^31", [&[0x0a][..], &varint(1 << 31)].concat()),
        ("a length of 2^63", [&[0x0a][..], &varint(1 << 63)].concat()),
        ("a length of 2^64 - 1", [&[0x0a][..], &varint(u128::from(u64::MAX))].concat()),
        ("half a million empty series", [0x0a, 0x00].repeat(500_000)),
        ("half a million empty samples", field(1, &[0x12, 0x00].repeat(500_000))),
        ("a label field that is a number", field(1, &[0x08, 0x01])),
    ] {
        assert_eq!(status(&server, packed(&request)).await, 400, "{what}");
    }
    assert_eq!(received(&server).await, before.1, "nothing of it was taken");
    let nested = (0..1_000).fold(vec![], |inner: Vec<u8>, _| field(15, &inner));
    for (what, request) in [
        ("an unknown field", series_with(&field(99, b"x"))),
        ("an unknown field of 4 MiB", series_with(&field(99, &vec![b'x'; 4 << 20]))),
        ("unknown fields in unknown fields", series_with(&nested)),
        ("an unknown number", series_with(&[0x78, 0x01])),
        ("the request twice", [good.clone(), good].concat()),
    ] {
        assert_eq!(status(&server, packed(&request)).await, 204, "{what}");
    }
    let grown = grown_kib(&server, before.0);
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
    assert_quiet(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_bodies_that_lie_are_refused_before_they_cost_anything() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    assert_eq!(status(&server, body(&[up().reading(now_ms(), 1.0)])).await, 204);
    let before = (peak_kib(&server), received(&server).await);
    let claims = |size: u128, rest: &[u8]| [varint(size), rest.to_vec()].concat();
    for (what, bytes) in [
        ("4 GiB of ten bytes", claims((4 << 30) - 1, &[0; 5])),
        ("256 MiB of ten bytes", claims(256 << 20, &[0; 5])),
        ("8 MiB of ten bytes", claims(8 << 20, &[0; 5])),
        ("a literal past the end", claims(100, &[0xf0, 99, 1, 2, 3])),
        ("a copy from before the start", claims(8, &[0x00, b'a', 0x05, 0xff])),
        ("a copy from here", claims(8, &[0x00, b'a', 0x05, 0x00])),
        ("less than it claims", claims(9, &[0x00, b'a'])),
        ("more than it claims", claims(1, &[0x04, b'a', b'b'])),
        ("nothing at all", vec![]),
        ("gzip under another name", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]),
    ] {
        assert_eq!(status(&server, bytes).await, 400, "{what}");
    }
    for encoding in ["gzip", "gzip, gzip", "zstd", "snappy, snappy", "identity", ""] {
        let mut request = write_request(&server.url, ADMIN, packed(b""));
        request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        let answer = http::send(request).await.unwrap();
        assert_eq!(answer.status.as_u16(), 415, "{encoding:?}");
    }
    assert_eq!(received(&server).await, before.1);
    let grown = grown_kib(&server, before.0);
    assert!(grown < 16 << 10, "{grown} KiB more");
    assert_quiet(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_taken_to_the_byte_and_stay_what_they_are() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let long = |len: usize| "x".repeat(len);
    let (name, over_name, value, over_value) = (long(128), long(129), long(1024), long(1025));
    let many: Vec<String> = (0..30).map(|number| format!("l{number}")).collect();
    let mut full: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "v")).collect();
    full.push(("instance", "a"));
    let mut over = full.clone();
    over.push(("more", "v"));
    for (what, labels, expected) in [
        ("the longest name", vec![(name.as_str(), "v")], 204),
        ("a byte more", vec![(over_name.as_str(), "v")], 400),
        ("the longest value", vec![("a", value.as_str())], 204),
        ("a byte more of it", vec![("a", over_value.as_str())], 400),
        ("64 KiB", vec![("a", &*long(64 << 10))], 400),
        ("as many as may be", full, 204),
        ("one more", over, 400),
        ("one twice", vec![("a", "1"), ("a", "2")], 400),
        ("one twice and the same", vec![("a", "1"), ("a", "1")], 400),
        ("unsorted", vec![("z", "1"), ("a", "2")], 204),
        ("an empty value", vec![("a", "")], 204),
        ("an empty name", vec![("", "v")], 400),
        ("NUL in a name", vec![("a\0", "v")], 400),
        ("a line's end in a name", vec![("a\r\nb", "v")], 400),
        ("NUL in a value", vec![("a", "\0")], 204),
    ] {
        let labels = [&[("__name__", "m")], labels.as_slice()].concat();
        let request = body(&[Series::new(&labels).reading(now_ms(), 1.0)]);
        assert_eq!(status(&server, request).await, expected, "{what}");
    }
    for bytes in [&b"\xc0\x80"[..], b"\xed\xa0\x80", b"\xff", b"a\xf0\x9f"] {
        for place in 1..=2 {
            let other = field(3 - place, b"a");
            let label = [field(place, bytes), other].concat();
            assert_eq!(status(&server, packed(&series_with(&field(1, &label)))).await, 400);
        }
    }
    let twins = [
        "Straße",
        "STRASSE",
        "\u{e9}t\u{e9}",
        "e\u{301}te\u{301}",
        "a",
        "A",
        "a\u{200b}",
        "\u{202e}a",
    ];
    let paths =
        ["../../x", "%2e%2e%2f", "/etc/passwd", &*long(300), "=cmd()", "$(id)", "`id`", "${x}"];
    let values = twins.iter().chain(&paths);
    let series: Vec<Series> = values
        .map(|value| {
            let labels =
                [("__name__", "twins"), ("job", "corpus"), ("instance", value), ("v", value)];
            Series::new(&labels).reading(now_ms() - 2_000, 1.0)
        })
        .collect();
    assert_eq!(status(&server, body(&series)).await, 204);
    let time = Some(f64::from(u32::try_from(now_secs() - 1).unwrap()));
    let limit = std::time::Duration::from_secs(10);
    eventually("each as a series of its own", limit, async || {
        let count = format!("count(count by (v) (twins)) == {}", series.len());
        (!http::query(&server.url, &count, time).await.is_empty()).then_some(())
    })
    .await;
    let archives = fs::read_dir(dir.path().join("data/archives")).unwrap();
    for file in archives {
        let name = file.unwrap().file_name().to_string_lossy().into_owned();
        let plain = name.split('.').next().unwrap().bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(plain || name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.'), "{name}");
    }
    assert_quiet(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_values_are_taken_and_never_read_back_as_something_else() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let second = now_ms() - 20_000;
    let values: [(&str, u64); 12] = [
        ("a quiet NaN", 0x7ff8_0000_0000_0000),
        ("a NaN with a payload", 0x7ff8_dead_beef_0001),
        ("a signalling NaN", 0x7ff4_0000_0000_0001),
        ("the stale marker", 0x7ff0_0000_0000_0002),
        ("a negative NaN", 0xffff_ffff_ffff_ffff),
        ("infinity", f64::INFINITY.to_bits()),
        ("negative infinity", f64::NEG_INFINITY.to_bits()),
        ("negative zero", (-0.0_f64).to_bits()),
        ("a subnormal", 1),
        ("the largest", f64::MAX.to_bits()),
        ("the largest negative", f64::MIN.to_bits()),
        ("2^53 + 1", 9_007_199_254_740_993.0_f64.to_bits()),
    ];
    for (metric, fall) in [("level", false), ("odd_total", true)] {
        for (what, bits) in values {
            let labels =
                [("__name__", metric), ("job", "corpus"), ("instance", "a"), ("what", what)];
            let mut series = Series::new(&labels);
            for (at, value) in (0_i32..15).zip([1.0, f64::from_bits(bits)].into_iter().cycle()) {
                series = series.reading(second + i64::from(at) * 1000, value);
            }
            if fall {
                // A counter that wraps at 2^32 and at 2^64.
                series = series.reading(second + 15_000, 4_294_967_295.0);
                series = series.reading(second + 16_000, 0.0);
                series = series.reading(second + 17_000, 18_446_744_073_709_551_615.0);
                series = series.reading(second + 18_000, 0.0);
            }
            assert_eq!(status(&server, body(&[series])).await, 204, "{what} in {metric}");
        }
    }
    let range = |expr: &str| {
        let pairs = [("query", expr.to_owned()), ("step", "1".to_owned())];
        let (start, end) = (second / 1000, second / 1000 + 20);
        let times = [("start", start.to_string()), ("end", end.to_string())];
        format!("{}/api/v1/query_range?{}", server.url, http::encoded(&[pairs, times].concat()))
    };
    eventually("the rows", std::time::Duration::from_secs(10), async || {
        let json = http::get(&range("level{what=\"a subnormal\"}")).await.json();
        (json["data"]["result"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    for expr in ["level", "sum(level)", "odd_total", "sum(rate(odd_total[10s]))", "avg(level)"] {
        let answer = http::get(&range(expr)).await;
        let json = answer.json();
        assert_eq!(json["status"], "success", "{expr}: {json}");
    }
    // What was no number is unknown, not a number of other bits.
    let nan = http::get(&range("level{what=~\".*NaN.*|the stale marker\"} != 1")).await.json();
    assert_eq!(nan["data"]["result"], json!([]), "{nan}");
    assert_quiet(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn moments_that_cannot_be_are_refused_with_their_reason() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let now = now_ms();
    let day = 86_400_000;
    for (what, at, reason) in [
        ("now", now, None),
        ("now again, with another value", now, None),
        ("a second earlier", now - 1_000, None),
        ("nearly ten minutes ahead", now + 590_000, None),
        ("more than ten minutes ahead", now + 620_000, Some("future")),
        ("nearly a day ago", now - day + 10_000, None),
        ("more than a day ago", now - day - 10_000, Some("too_old")),
        ("1970", 0, Some("too_old")),
        ("before 1970", -1, Some("too_old")),
        ("the first moment", i64::MIN, Some("too_old")),
        ("the last moment", i64::MAX, Some("future")),
        ("seconds for milliseconds", now / 1_000, Some("too_old")),
        ("microseconds for milliseconds", now * 1_000, Some("future")),
        ("nanoseconds for milliseconds", now * 1_000_000, Some("future")),
    ] {
        let request = write_request(&server.url, ADMIN, body(&[up().reading(at, 1.0)]));
        let answer = http::send(request).await.unwrap();
        let json = serde_json::from_slice(&answer.body).unwrap_or(json!({}));
        assert_eq!(answer.status.as_u16(), if reason.is_some() { 400 } else { 204 }, "{what}");
        assert_eq!(json["refused"][0]["reason"].as_str(), reason, "{what}");
    }
    let mixed = [up().reading(now + 1_000, 1.0).reading(now - 3_000, 1.0).reading(i64::MAX, 1.0)];
    let answer = http::send(write_request(&server.url, ADMIN, body(&mixed))).await.unwrap();
    assert!(answer.text().contains("2 samples stored, 1 refused"), "{}", answer.text());
    let limit = std::time::Duration::from_secs(10);
    eventually("the books to balance", limit, async || {
        let total = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
        (total["total"]["in_flight"] == 0).then_some(())
    })
    .await;
    assert_quiet(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_none_is_refused() {
    let dir = folder();
    let mut server = Server::start(dir.path(), &POLICY);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let mut wide = String::from("{\"kind\":\"relay\",\"labels\":{");
    for number in 0..2_000 {
        write!(wide, "\"l{number}\":\"v\",").unwrap();
    }
    let wide = format!("{}}}}}", wide.trim_end_matches(','));
    for path in ["/v1/tokens", "/v1/enroll"] {
        for (what, text) in [
            ("depth", deep.clone()),
            ("a number beyond all", r#"{"kind":"relay","ttl_secs":1e400}"#.to_owned()),
            ("half of a pair", r#"{"kind":"relay","name":"\ud800"}"#.to_owned()),
            ("a mark at the start", "\u{feff}{\"kind\":\"relay\"}".to_owned()),
            ("a key twice", r#"{"kind":"relay","kind":"join","name":"a","name":"b"}"#.to_owned()),
            ("a key too much", r#"{"kind":"relay","name":"a","admin":true}"#.to_owned()),
            ("another type", r#"["relay"]"#.to_owned()),
            ("many labels", wide.clone()),
            ("control characters", r#"{"kind":"relay","name":"\u0000\r\n"}"#.to_owned()),
        ] {
            let request = Request::post(format!("{}{path}", server.url))
                .header("authorization", format!("Bearer {ADMIN}"))
                .header("content-type", "application/json")
                .body(Full::from(Bytes::from(text)));
            let answer = http::send(request.unwrap()).await.expect("the server answers");
            assert_eq!(answer.status.as_u16(), 400, "{what} to {path}: {}", answer.text());
        }
    }
    let tokens = http::get(&format!("{}/v1/tokens", server.url)).await.json();
    assert_eq!(tokens, json!([]));
    let instances = http::get(&format!("{}/v1/instances", server.url)).await.json();
    assert_eq!(instances, json!([]));
    for (what, pairs) in [
        ("no step", [("start", "1"), ("end", "2"), ("step", "0")]),
        ("a negative step", [("start", "1"), ("end", "2"), ("step", "-1")]),
        ("an end before the start", [("start", "2"), ("end", "1"), ("step", "1")]),
        ("a thousand million points", [("start", "0"), ("end", "1000000000"), ("step", "1")]),
        ("no number", [("start", "NaN"), ("end", "1e400"), ("step", "1")]),
    ] {
        let pairs = pairs.map(|(name, value)| (name, value.to_owned()));
        let all = [&[("query", "up".to_owned())][..], &pairs].concat();
        let url = format!("{}/api/v1/query_range?{}", server.url, http::encoded(&all));
        let answer = http::get(&url).await;
        assert!(matches!(answer.status.as_u16(), 400 | 422), "{what}: {}", answer.text());
    }
    assert!(server.lives());
    assert_quiet(dir.path());
}
