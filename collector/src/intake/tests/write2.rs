//! Tests of remote write 2.0: the cases of Prometheus' compliance suite, negotiation, references.

use http::Request;

use super::support::*;
use crate::accounting::Reason;

const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// What a sender of 2.0 puts into one series.
#[derive(Clone, Default)]
struct Parts2<'a> {
    samples: Vec<(i64, f64)>,
    histograms: usize,
    /// Labels of each exemplar.
    exemplars: Vec<&'a [(&'a str, &'a str)]>,
    family: Option<u8>,
    created: bool,
}

/// A request of 2.0 with its table of strings.
#[derive(Clone, Default)]
struct Write2 {
    symbols: Vec<String>,
    series: Vec<u8>,
}

impl Write2 {
    fn symbol(&mut self, text: &str) -> u64 {
        if self.symbols.is_empty() {
            self.symbols.push(String::new());
        }
        let held = self.symbols.iter().position(|symbol| symbol == text);
        let at = held.unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        });
        u64::try_from(at).unwrap()
    }

    fn refs(&mut self, labels: &[(&str, &str)]) -> Vec<u8> {
        let mut refs = Vec::new();
        for (name, value) in labels {
            refs.extend(varint(self.symbol(name)));
            refs.extend(varint(self.symbol(value)));
        }
        refs
    }

    fn series(mut self, labels: &[(&str, &str)], parts: &Parts2<'_>) -> Self {
        let mut series = field(1, &self.refs(labels));
        let created = varint(at(-3600).as_millis().cast_unsigned());
        for (secs, value) in &parts.samples {
            let mut sample = [&[0x09][..], &value.to_le_bytes(), &[0x10]].concat();
            sample.extend(varint(at(*secs).as_millis().cast_unsigned()));
            if parts.created {
                // The start of the count, where newer senders put it.
                sample.push(0x18);
                sample.extend(&created);
            }
            series.extend(field(2, &sample));
        }
        for _ in 0..parts.histograms {
            let count_and_sum = [&[0x08, 7, 0x19][..], &1.5_f64.to_le_bytes(), &[0x28, 6]].concat();
            series.extend(field(3, &count_and_sum));
        }
        for labels in &parts.exemplars {
            let refs = self.refs(labels);
            let value = [&[0x11][..], &1.0_f64.to_le_bytes()].concat();
            series.extend(field(4, &[field(1, &refs), value].concat()));
        }
        if let Some(family) = parts.family {
            let help = varint(self.symbol("what \"it\" is\nfor"));
            series.extend(field(5, &[&[0x08, family, 0x18][..], &help].concat()));
        }
        if parts.created {
            series.push(0x30);
            series.extend(&created);
        }
        self.series.extend(field(5, &series));
        self
    }

    fn sample(self, labels: &[(&str, &str)], value: f64) -> Self {
        self.series(labels, &Parts2 { samples: vec![(0, value)], ..Parts2::default() })
    }

    fn bytes(&self) -> Vec<u8> {
        let symbols = self.symbols.iter().flat_map(|text| field(4, text.as_bytes()));
        symbols.chain(self.series.iter().copied()).collect()
    }
}

fn written(answer: &Answer) -> [Option<&str>; 3] {
    ["samples", "histograms", "exemplars"].map(|kind| {
        let name = format!("x-prometheus-remote-write-{kind}-written");
        answer.headers.get(name).map(|value| value.to_str().unwrap())
    })
}

async fn send(server: &Server, content_type: &str, body: &[u8]) -> Answer {
    let packed = snap::raw::Encoder::new().compress_vec(body).unwrap();
    let request = request("POST", "/api/v1/write", ADMIN)
        .header("content-type", content_type)
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "2.0.0");
    server.send(request.body(packed.into()).unwrap()).await
}

/// A case of the suite: what it wants, and how many samples are good.
struct Case {
    name: String,
    body: Write2,
    wanted: bool,
    samples: u64,
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: &str, body: Write2, (wanted, samples): (bool, u64)) {
        self.0.push(Case { name: name.to_owned(), body, wanted, samples });
    }
}

const NAME: &str = "__name__";
const JOB: [(&str, &str); 3] = [(NAME, "up"), ("job", "testjob"), ("instance", "localhost:9090")];

fn of_target(instance: &str) -> [(&str, &str); 3] {
    [JOB[0], JOB[1], ("instance", instance)]
}

fn samples() -> Cases {
    let mut cases = Cases::default();
    let spaced = [(NAME, "resource cpu usage"), ("job name", "j"), ("instance name", "h:9090")];
    let dotted = [(NAME, "resource.cpu.usage"), ("job.name", "j"), ("instance.name", "h:9090")];
    for value in [1.0, STALE, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (name, labels, wanted) in [
            ("a name alone", &JOB[..1], true),
            ("more labels", &JOB, true),
            ("a line feed in a value", &[JOB[0], ("job", "test\njob\n"), JOB[2]], true),
            ("dots", &dotted, true),
            ("blanks", &spaced, true),
            ("no name", &JOB[1..], false),
            ("no label", &[], false),
        ] {
            let body = Write2::default().sample(labels, value);
            cases.add(&format!("{name}: {value}"), body, (wanted, u64::from(wanted)));
        }
        let targets = ["h:1", "h:2", "h:3", "h:4"];
        let all = targets
            .iter()
            .fold(Write2::default(), |body, target| body.sample(&of_target(target), value));
        cases.add("four series", all, (true, 4));
        let nameless = targets
            .iter()
            .fold(Write2::default(), |body, target| body.sample(&of_target(target)[1..], value));
        cases.add("four series without names", nameless, (false, 0));
        let mixed = targets[1..]
            .iter()
            .fold(Write2::default().sample(&of_target(targets[0])[1..], value), |body, target| {
                body.sample(&of_target(target), value)
            });
        cases.add("one of four without a name", mixed, (false, 3));
    }
    let created = Parts2 { samples: vec![(0, 100.0)], created: true, ..Parts2::default() };
    let counter = [(NAME, "http_requests_total"), ("job", "api")];
    cases.add("when it began", Write2::default().series(&counter, &created), (true, 1));
    cases
}

fn metadata() -> Cases {
    let mut cases = Cases::default();
    let of_family =
        |family: u8| Parts2 { samples: vec![(0, 1.0)], family: Some(family), ..Parts2::default() };
    for (metric, family) in [
        ("http_requests_total", 1),
        ("cpu_usage_percent", 2),
        ("simple_counter", 1),
        ("test_metric", 2),
        ("unknown_metric", 0),
        ("build_info", 6),
        ("node_state", 7),
        ("request_latency_summary", 5),
        ("temperature_histogram", 4),
        ("metadata of a valid name", 1),
    ] {
        let body = Write2::default().series(&[(NAME, metric)], &of_family(family));
        cases.add(metric, body, (true, 1));
    }
    let labels = [(NAME, "http_requests_total"), ("job", "api")];
    let created = Parts2 { created: true, ..of_family(1) };
    cases.add("with its begin", Write2::default().series(&labels, &created), (true, 1));
    cases.add("with a sample", Write2::default().series(&labels, &of_family(1)), (true, 1));
    let many = ["cpu_usage", "memory_usage", "disk_usage"]
        .iter()
        .fold(Write2::default(), |body, name| body.series(&[(NAME, name)], &of_family(2)));
    cases.add("of three families", many, (true, 3));
    let nameless = Write2::default().series(&[("job", "test")], &of_family(1));
    cases.add("without a name", nameless, (false, 0));
    let empty = Write2::default().series(&[(NAME, "")], &of_family(2));
    cases.add("with an empty name", empty, (false, 0));
    let alone = Parts2 { family: Some(1), ..Parts2::default() };
    cases.add("alone", Write2::default().series(&[(NAME, "orphan")], &alone), (true, 0));
    let special = [(NAME, "test_metric"), ("job", "test-job_with.special@chars"), ("e", "t🚀")];
    cases.add("special labels", Write2::default().series(&special, &of_family(2)), (true, 1));
    cases
}

fn exemplars() -> Cases {
    let mut cases = Cases::default();
    let trace: &[(&str, &str)] = &[("trace_id", "abc123def456")];
    let with = |value: f64, labels| Parts2 {
        samples: vec![(0, value)],
        exemplars: vec![labels],
        ..Parts2::default()
    };
    for (name, labels) in [
        ("a trace", trace),
        ("a trace and a span", &[("trace_id", "xyz789"), ("span_id", "span123")]),
        ("no trace", &[("user_id", "user123")]),
        ("more labels", &[("trace_id", "t"), ("user", "admin"), ("endpoint", "/login")]),
        ("no label", &[]),
        ("dashes", &[("trace_id", "trace-with-dashes_and_underscores.123")]),
        ("unicode", &[("trace_id", "unicode_trace_测试")]),
    ] {
        let body = Write2::default().series(&[(NAME, "x_total")], &with(1.0, labels));
        cases.add(name, body, (true, 1));
    }
    let created = Parts2 { created: true, ..with(250.0, trace) };
    let labels = [(NAME, "http_requests_total"), ("job", "api")];
    cases.add("with its begin", Write2::default().series(&labels, &created), (true, 1));
    let counted = Parts2 { family: Some(1), ..with(1.0, trace) };
    cases.add("with metadata", Write2::default().series(&labels, &counted), (true, 1));
    let three = ["GET", "POST", "PUT"].iter().fold(Write2::default(), |body, method| {
        body.series(&[(NAME, "request_duration"), ("method", method)], &with(0.1, trace))
    });
    cases.add("three of them", three, (true, 3));
    let old = [-3600, -60, 0].iter().fold(Write2::default(), |body, secs| {
        let parts = Parts2 { samples: vec![(*secs, 0.05)], ..with(0.0, trace) };
        body.series(&[(NAME, "latency_hist")], &parts)
    });
    cases.add("at three times", old, (true, 3));
    for (labels, wanted) in
        [(("job", "test"), false), ((NAME, ""), false), ((NAME, "valid_metric"), true)]
    {
        let body = Write2::default().series(&[labels], &with(1.0, trace));
        cases.add(labels.0, body, (wanted, u64::from(wanted)));
    }
    for value in [0.0, -123.456, 1e10, 1e-10, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let body = Write2::default().series(&[(NAME, "test_metric")], &with(value, trace));
        cases.add(&format!("of {value}"), body, (true, 1));
    }
    let alone = Parts2 { exemplars: vec![trace], ..Parts2::default() };
    cases.add("alone", Write2::default().series(&[(NAME, "orphan")], &alone), (true, 0));
    let many = (0..50).fold(Write2::default(), |body, number| {
        let name = format!("counter_metric_{number}");
        body.series(&[(NAME, &name)], &Parts2 { family: Some(1), ..with(1.0, trace) })
    });
    cases.add("fifty series", many, (true, 50));
    cases
}

fn histograms() -> Cases {
    let mut cases = Cases::default();
    let one = Parts2 { histograms: 1, ..Parts2::default() };
    let trace: &[(&str, &str)] = &[("trace_id", "abc123def456")];
    // What is in a histogram makes no difference here, so the suite's shapes of buckets are one case.
    for (name, parts, wanted) in [
        ("a histogram", one.clone(), true),
        ("of a wrong count", one.clone(), false),
        ("with its begin", Parts2 { created: true, ..one.clone() }, true),
        ("with metadata", Parts2 { family: Some(3), ..one.clone() }, true),
        ("with an exemplar", Parts2 { exemplars: vec![trace], ..one.clone() }, true),
        ("beside a sample", Parts2 { samples: vec![(0, 1.0)], ..one.clone() }, false),
    ] {
        let samples = u64::try_from(parts.samples.len()).unwrap();
        let body = Write2::default().series(&[(NAME, "test_histogram")], &parts);
        cases.add(name, body, (wanted, samples));
    }
    let many = (0..50).fold(Write2::default(), |body, number| {
        body.series(&[(NAME, &format!("histogram_metric_{number}"))], &one)
    });
    cases.add("fifty histograms", many, (true, 0));
    cases
}

/// A receiver that refuses everything passes the suite. So what is counted is not "passed" but how
/// many are taken, how many refused, and how many of these are no fault of the sender.
#[tokio::test]
async fn the_compliance_cases_are_taken_or_refused_for_a_reason() {
    for (of, cases, expected) in [
        ("samples", samples(), (31, 20, 0)),
        ("metadata", metadata(), (15, 2, 0)),
        // No archive holds exemplars and native histograms, and 2.0 forbids to call them written.
        ("exemplars", exemplars(), (0, 23, 21)),
        ("histograms", histograms(), (0, 7, 5)),
    ] {
        let server = Server::start();
        let (mut taken, mut refused, mut ours) = (0, 0, 0);
        for case in cases.0 {
            let answer = send(&server, V2, &case.body.bytes()).await;
            let count = case.samples.to_string();
            let head = [Some(count.as_str()), Some("0"), Some("0")];
            assert_eq!(written(&answer), head, "{of}: {}: {}", case.name, answer.json);
            match answer.status.as_u16() {
                204 => taken += 1,
                400 => refused += 1,
                other => panic!("{of}: {}: {other}", case.name),
            }
            assert!(case.wanted || answer.status == 400, "{of}: {} was taken", case.name);
            ours += usize::from(case.wanted && answer.status == 400);
        }
        assert_eq!((taken, refused, ours), expected, "{of}: taken, refused, refused by us alone");
        server.settle().await;
        assert_eq!(server.parts().accounting.total().in_flight(), 0, "{of}");
    }
}

#[tokio::test]
async fn a_request_is_negotiated_before_it_is_decoded() {
    let server = Server::start();
    let good = Write2::default().sample(&JOB, 1.0).bytes();
    let packed = snap::raw::Encoder::new().compress_vec(&good).unwrap();
    let quoted = "application/x-protobuf; proto=\"io.prometheus.write.v2.Request\"";
    let v1 = "application/x-protobuf";
    for (content_type, encoding, body, status) in [
        (V2, "snappy", &packed[..], 204),
        (quoted, "snappy", &packed, 204),
        (V2, "Snappy", &packed, 204),
        (V2, "snappy", b"\xff\xff\xff", 400),
        (V2, "snappy", &good, 400),
        (V2, "snappy", &packed[..packed.len() - 1], 400),
        (v1, "snappy", &packed, 400),
        (V2, "gzip", b"\xff\xff\xff", 415),
        (V2, "deflate", b"\xff\xff\xff", 415),
        (V2, "", &packed, 415),
        ("application/json", "snappy", b"\xff\xff\xff", 415),
        ("image/png", "snappy", &packed, 415),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", &packed, 415),
    ] {
        let request = Request::post("/api/v1/write")
            .header("authorization", format!("Bearer {ADMIN}"))
            .header("content-type", content_type)
            .header("content-encoding", encoding)
            .body(body.to_vec().into())
            .unwrap();
        let answer = server.send(request).await;
        assert_eq!(answer.status, status, "{content_type} {encoding}: {}", answer.json);
        let speaks_2 = status != 415 && content_type != v1;
        assert_eq!(written(&answer)[0].is_some(), speaks_2, "{content_type} {encoding}");
    }
    let answer = server.write(ADMIN, &WriteBody::default().series(&JOB, &[(at(1), 1.0)]).0).await;
    assert_eq!((answer.status.as_u16(), written(&answer)), (204, [None; 3]), "as 1.0");
    let old = WriteBody::default().series(&JOB, &[(at(2), 1.0)]).0;
    assert_eq!(send(&server, V2, &old).await.status, 400, "a body of 1.0 as 2.0");
}

#[tokio::test]
async fn one_series_by_either_version_is_one_column() {
    let server = Server::start();
    let labels = [(NAME, "lat_bucket"), ("le", "1"), ("instance", "a:1"), ("job", "j")];
    let histogram =
        |secs| Parts2 { samples: vec![(secs, 1.0)], family: Some(3), ..Parts2::default() };
    for secs in [0, 10] {
        let body = Write2::default().series(&labels, &histogram(secs)).bytes();
        assert_eq!(send(&server, V2, &body).await.status, 204);
    }
    let old = WriteBody::default().series(&labels, &[(at(20), 3.0)]).0;
    assert_eq!(server.write(ADMIN, &old).await.status, 204);
    server.settle().await;
    let held = server.parts().store.instances();
    assert_eq!((held.len(), held[0].series_count), (1, 1));
    assert_eq!(server.parts().accounting.total().stored, 3);
}

#[tokio::test]
async fn what_the_wire_says_of_a_family_decides_the_kind() {
    let server = Server::start();
    let body = [(1, "odd"), (2, "odd_total"), (0, "plain_total"), (0, "plain")].iter().fold(
        Write2::default(),
        |body, (family, name)| {
            let parts =
                Parts2 { samples: vec![(0, 1.0)], family: Some(*family), ..Parts2::default() };
            body.series(&[(NAME, name), ("instance", "a:1")], &parts)
        },
    );
    assert_eq!(send(&server, V2, &body.bytes()).await.status, 204);
    server.settle().await;
    let kinds = kinds(&server);
    for (name, kind) in [
        ("odd", rrd::Kind::Total),
        ("odd_total", rrd::Kind::Gauge),
        ("plain_total", rrd::Kind::Total),
        ("plain", rrd::Kind::Unknown),
    ] {
        let labels = format!(r#"{name}{{instance="a:1"}}"#);
        assert_eq!(kinds.get(&labels), Some(&kind), "{name} in {kinds:?}");
    }
}

#[tokio::test]
async fn references_that_lead_nowhere_cost_their_series_alone() {
    let server = Server::start();
    let refs = |refs: &[u8]| {
        let sample = [&[0x09][..], &1.0_f64.to_le_bytes(), &[0x10]].concat();
        let sample = [sample, varint(NOW.as_millis().cast_unsigned())].concat();
        field(5, &[field(1, refs), field(2, &sample)].concat())
    };
    let good = Write2::default().sample(&JOB, 1.0);
    for bad in [&[1, 99][..], &[1], &[1, 2, 1], &[0xff, 0xff, 0xff, 0xff, 0x7f, 2]] {
        let body = [good.bytes(), refs(bad)].concat();
        let answer = send(&server, V2, &body).await;
        let found = (answer.status.as_u16(), answer.reasons(), written(&answer)[0]);
        assert_eq!(found, (400, vec!["bad_label"], Some("1")), "{bad:?}");
    }
    // The table may come last: what refers to it is read after it.
    let symbols = good.symbols.iter().flat_map(|text| field(4, text.as_bytes()));
    let reversed: Vec<u8> = good.series.iter().copied().chain(symbols).collect();
    assert_eq!(send(&server, V2, &reversed).await.status, 204);
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.in_flight(), total.refused[&Reason::BadLabel]), (0, 4));
}

#[tokio::test]
async fn what_must_be_sent_again_says_that_nothing_was_written() {
    let server = Server::start();
    server.parts().journal.close();
    let answer = send(&server, V2, &Write2::default().sample(&JOB, 1.0).bytes()).await;
    assert_eq!((answer.status.as_u16(), written(&answer)[0]), (503, Some("0")));
}

#[tokio::test]
async fn a_request_that_breaks_off_stores_nothing() {
    let server = Server::start();
    let good = Write2::default().sample(&JOB, 1.0).bytes();
    for cut in 0..good.len() {
        let answer = send(&server, V2, &good[..cut]).await;
        let found = (answer.status.as_u16(), written(&answer)[0]);
        // Up to the first series a part of a request is one without any.
        assert!(matches!(found, (204 | 400, Some("0"))), "cut at {cut}: {found:?}");
    }
    assert_eq!(server.parts().accounting.total().received, 0);
    assert_eq!(written(&send(&server, V2, &good).await)[0], Some("1"));
}
