//! Bodies that are small and want to be large: refused at once, and the server does not grow.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ::http::Request;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http;
use crate::server::{ADMIN, Server, folder};

/// How much the server may grow by one of them.
const GROWTH_LIMIT_KIB: u64 = 16 << 10;
/// Far above what a release build takes on an idle machine (below 50 ms), far below what unpacking or
/// building what is claimed would take.
const PATIENCE: Duration = Duration::from_secs(5);

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

struct Bomb {
    name: &'static str,
    path: &'static str,
    content_type: &'static str,
    encoding: &'static str,
    body: Vec<u8>,
}

/// A message in a field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        bytes.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
        len >>= 7;
    }
    bytes.push(u8::try_from(len).unwrap());
    [bytes.as_slice(), content].concat()
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

/// A file of many members, each packed a thousand to one.
fn gzip_many(byte: u8) -> Vec<u8> {
    gzip(&vec![byte; 1 << 20]).repeat(256)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn write(name: &'static str, content_type: &'static str, body: Vec<u8>) -> Bomb {
    Bomb { name, path: "/api/v1/write", content_type, encoding: "snappy", body }
}

fn otlp(
    name: &'static str,
    (content_type, encoding): (&'static str, &'static str),
    body: Vec<u8>,
) -> Bomb {
    Bomb { name, path: "/v1/metrics", content_type, encoding, body }
}

/// An attribute that is a text.
fn attribute(name: &[u8], value: &[u8]) -> Vec<u8> {
    [field(1, name), field(2, &field(1, value))].concat()
}

/// One metric of one resource, around what stands in field 5, a gauge.
fn gauge(points: &[u8]) -> Vec<u8> {
    let metric = [field(1, b"x"), field(5, points)].concat();
    field(1, &field(2, &field(2, &metric)))
}

fn bombs() -> Vec<Bomb> {
    let four_gib = || vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0];
    let million = |pair: [u8; 2]| pair.repeat(1_000_000);
    let label = vec![b'x'; 1 << 20];
    let sample = field(2, &[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    let old_label = field(1, &[field(1, b"__name__"), field(2, &label)].concat());
    let of_label = [field(4, b"__name__"), field(4, &label)].concat();
    let new_label = field(5, &[field(1, &[0, 1]), sample.clone()].concat());
    let many_refs = field(5, &[field(1, &vec![0; 7 << 20]), sample.clone()].concat());
    let value = [&[0x21][..], &1.0_f64.to_le_bytes()].concat();
    let points = field(5, &field(1, &value).repeat(20_000));
    let long_name = field(1, &field(2, &field(2, &[field(1, &label), points.clone()].concat())));
    let service = field(1, &field(1, &attribute(b"service.name", &label)));
    let metrics = field(2, &field(2, &[field(1, b"x"), points].concat()));
    let long_service = field(1, &[service, metrics].concat());
    let bounds = [field(6, &[0; 8 * 1001]), field(7, &[0; 8 * 1000])].concat();
    let wide_point = [field(9, &attribute(b"x", &label.repeat(4))), bounds].concat();
    let wide = [&[0x10, 2][..], &field(1, &wide_point)].concat();
    let wide = [field(1, b"x"), field(9, &wide)].concat();
    let wide = field(1, &field(2, &field(2, &wide)));
    let json = |points: &str| {
        format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":{points}}}}}]}}]}}]}}"#)
            .into_bytes()
    };
    vec![
        write("4 GiB claimed of 1.0", V1, four_gib()),
        write("4 GiB claimed of 2.0", V2, four_gib()),
        write("a million series of 1.0", V1, snappy(&million([0x0a, 0]))),
        write("a million series of 2.0", V2, snappy(&million([0x2a, 0]))),
        write("a million symbols", V2, snappy(&million([0x22, 0]))),
        write("seven million references", V2, snappy(&[field(4, b""), many_refs].concat())),
        write("a label of 1 MiB of 1.0", V1, snappy(&field(1, &[old_label, sample].concat()))),
        write(
            "a label of 1 MiB of 2.0",
            V2,
            snappy(&[of_label, new_label.repeat(10_000)].concat()),
        ),
        otlp("gzip 1000:1", (V1, "gzip"), gzip_many(0)),
        otlp("gzip 1000:1 as JSON", ("application/json", "gzip"), gzip_many(b' ')),
        otlp("a million points", (V1, "gzip"), gzip(&gauge(&million([0x0a, 0])))),
        otlp(
            "a million points as JSON",
            ("application/json", "gzip"),
            gzip(&json(&format!("[{}{{}}]", "{},".repeat(1_000_000)))),
        ),
        otlp(
            "a million attributes as JSON, in a list that does not end",
            ("application/json", "gzip"),
            gzip(&json(&format!(r#"[{{"attributes":[{}"#, "{},".repeat(1_000_000)))),
        ),
        otlp("a name of 1 MiB for twenty thousand points", (V1, ""), long_name),
        otlp("a service of 1 MiB for twenty thousand points", (V1, ""), long_service),
        otlp("an attribute of 4 MiB on a histogram", (V1, ""), wide),
        otlp("deep JSON", ("application/json", ""), json(&"[".repeat(1_000_000))),
    ]
}

/// The most memory that a process had at once since [`forget_peak`].
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn forget_peak(pid: u32) {
    let file = format!("/proc/{pid}/clear_refs");
    std::fs::File::options().write(true).open(Path::new(&file)).unwrap().write_all(b"5").unwrap();
}

async fn send(url: &str, bomb: &Bomb) -> (u16, String) {
    let request = Request::post(format!("{url}{}", bomb.path))
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", bomb.content_type)
        .header("content-encoding", bomb.encoding);
    let answer = http::send(request.body(bomb.body.clone().into()).unwrap()).await.unwrap();
    (answer.status.as_u16(), answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_at_once_and_take_no_memory() {
    let dir = folder();
    let server = Server::start(dir.path(), &[]);
    let pid = server.pid();
    // What is loaded with the first requests of a kind is not a bomb's doing.
    let bombs = bombs();
    for bomb in bombs.iter().filter(|bomb| bomb.body.len() < 100) {
        send(&server.url, bomb).await;
    }
    forget_peak(pid);
    let begun_with = peak_kib(pid);
    for bomb in bombs {
        forget_peak(pid);
        let before = peak_kib(pid);
        #[expect(clippy::disallowed_methods, reason = "how long an answer takes is the claim")]
        let begun = Instant::now();
        let (status, text) = send(&server.url, &bomb).await;
        let taken = begun.elapsed();
        let growth = peak_kib(pid).saturating_sub(before);
        let kept = peak_kib(pid).saturating_sub(begun_with);
        let Bomb { name, body, .. } = bomb;
        let cost = format!("{name}, {} bytes: {status} in {taken:?}, {growth} KiB", body.len());
        // In OTLP a success may say that all of it was refused.
        let stored = text.split(" samples stored").next().unwrap_or_default();
        let stored = stored.rsplit(|c: char| !c.is_ascii_digit()).next();
        let is_refused = (400..500).contains(&status) || stored == Some("0");
        assert!(is_refused, "{cost}: {text}");
        assert!(taken < PATIENCE && growth < GROWTH_LIMIT_KIB, "{cost}");
        // What the allocator keeps for the next request, of each thread and for about a second, is not
        // let grow from bomb to bomb.
        assert!(kept < 4 * GROWTH_LIMIT_KIB, "{cost}, {kept} KiB since the start");
        say(&format!("{cost}: {}", text.chars().take(120).collect::<String>()));
    }
}

#[expect(clippy::print_stderr, reason = "the figures are for whoever reads the test's output")]
fn say(line: &str) {
    eprintln!("{line}");
}
