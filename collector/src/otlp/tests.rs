//! Tests of OTLP: what points become, the same from both encodings; requests that are none.

use rrd::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::foreign::cache::SeriesCache;
use crate::foreign::{Origin, Protocol};
use crate::limits::Window;

const SECS: i64 = 1_790_000_000;

/// Fields of the messages that tests need: message, name, number, type.
const FIELDS: [(&str, &str, u64, &str); 53] = [
    ("request", "resourceMetrics", 1, "resource_metrics"),
    ("resource_metrics", "resource", 1, "resource"),
    ("resource_metrics", "scopeMetrics", 2, "scope_metrics"),
    ("resource", "attributes", 1, "pair"),
    ("scope_metrics", "metrics", 2, "metric"),
    ("metric", "name", 1, "text"),
    ("metric", "unit", 3, "text"),
    ("metric", "gauge", 5, "data"),
    ("metric", "sum", 7, "data"),
    ("metric", "histogram", 9, "histogram_data"),
    ("metric", "exponentialHistogram", 10, "exponential_data"),
    ("metric", "summary", 11, "summary_data"),
    ("data", "dataPoints", 1, "number"),
    ("data", "aggregationTemporality", 2, "varint"),
    ("data", "isMonotonic", 3, "varint"),
    ("histogram_data", "dataPoints", 1, "histogram"),
    ("histogram_data", "aggregationTemporality", 2, "varint"),
    ("exponential_data", "dataPoints", 1, "exponential"),
    ("exponential_data", "aggregationTemporality", 2, "varint"),
    ("summary_data", "dataPoints", 1, "summary"),
    ("number", "startTimeUnixNano", 2, "fixed"),
    ("number", "timeUnixNano", 3, "fixed"),
    ("number", "asDouble", 4, "double"),
    ("number", "exemplars", 5, "exemplar"),
    ("number", "asInt", 6, "fixed"),
    ("number", "attributes", 7, "pair"),
    ("number", "flags", 8, "varint"),
    ("histogram", "startTimeUnixNano", 2, "fixed"),
    ("histogram", "timeUnixNano", 3, "fixed"),
    ("histogram", "count", 4, "fixed"),
    ("histogram", "sum", 5, "double"),
    ("histogram", "bucketCounts", 6, "fixed"),
    ("histogram", "explicitBounds", 7, "double"),
    ("histogram", "exemplars", 8, "exemplar"),
    ("histogram", "attributes", 9, "pair"),
    ("histogram", "flags", 10, "varint"),
    ("exponential", "attributes", 1, "pair"),
    ("exponential", "timeUnixNano", 3, "fixed"),
    ("summary", "timeUnixNano", 3, "fixed"),
    ("summary", "count", 4, "fixed"),
    ("summary", "sum", 5, "double"),
    ("summary", "quantileValues", 6, "quantile"),
    ("summary", "attributes", 7, "pair"),
    ("summary", "flags", 8, "varint"),
    ("quantile", "quantile", 1, "double"),
    ("quantile", "value", 2, "double"),
    ("pair", "key", 1, "text"),
    ("pair", "value", 2, "any"),
    ("any", "stringValue", 1, "text"),
    ("any", "boolValue", 2, "varint"),
    ("any", "intValue", 3, "varint"),
    ("any", "doubleValue", 4, "double"),
    ("any", "arrayValue", 5, "array"),
];

/// The protobuf of a request that is given as JSON.
pub(crate) fn protobuf(request: &Value) -> Vec<u8> {
    message("request", request)
}

fn message(of: &str, content: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in content.as_object().unwrap() {
        if of == "exemplar" || of == "array" {
            continue;
        }
        let field = FIELDS.iter().find(|field| (field.0, field.1) == (of, name.as_str()));
        let (_, _, number, kind) = field.unwrap_or_else(|| panic!("{of} has no field {name}"));
        let one = std::slice::from_ref(value);
        for value in value.as_array().map_or(one, Vec::as_slice) {
            push(&mut bytes, (*number, kind), value);
        }
    }
    bytes
}

fn push(bytes: &mut Vec<u8>, (number, kind): (u64, &str), value: &Value) {
    let number = u8::try_from(number << 3).unwrap();
    let whole = || {
        let text = value.as_str().map(|text| text.parse().unwrap());
        text.or(value.as_i64()).or(value.as_bool().map(i64::from)).unwrap().cast_unsigned()
    };
    match kind {
        "text" => push_block(bytes, number, value.as_str().unwrap().as_bytes()),
        "varint" => {
            bytes.push(number);
            push_varint(bytes, whole());
        }
        "fixed" => {
            bytes.push(number | 1);
            bytes.extend(whole().to_le_bytes());
        }
        "double" => {
            bytes.push(number | 1);
            let real = value.as_f64().or_else(|| value.as_str()?.parse().ok());
            bytes.extend(real.unwrap().to_le_bytes());
        }
        of => push_block(bytes, number, &message(of, value)),
    }
}

fn push_block(bytes: &mut Vec<u8>, number: u8, content: &[u8]) {
    bytes.push(number | 2);
    push_varint(bytes, u64::try_from(content.len()).unwrap());
    bytes.extend_from_slice(content);
}

fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
}

/// A request of one resource with these metrics.
pub(crate) fn request(attributes: &[(&str, &str)], metrics: &Value) -> Value {
    let pair = |(key, value): &(&str, &str)| json!({"key": key, "value": {"stringValue": value}});
    let attributes: Vec<_> = attributes.iter().map(pair).collect();
    json!({"resourceMetrics": [{
        "resource": {"attributes": attributes},
        "scopeMetrics": [{"metrics": metrics}],
    }]})
}

/// Seconds after the start as the protocol writes a time.
pub(crate) fn time(secs: i64) -> String {
    ((SECS + secs) * 1_000_000_000).to_string()
}

fn sorted(encoding: Encoding, bytes: &[u8]) -> Result<(Sorted, u64), OtlpError> {
    let cache = SeriesCache::new(7);
    let origin = Origin { protocol: Protocol::Otlp, relay: None };
    let now = Timestamp::from_millis(SECS * 1000);
    sort(encoding, bytes, Sorter::new(&cache, origin, Window::at(now, 3_600_000)))
}

/// A line for every series: labels, kind, and samples by seconds after the start.
fn shown(sorted: &Sorted) -> Vec<String> {
    let start = SECS * 1000;
    let series = sorted.strangers.iter().map(|one| {
        let samples = one.samples.iter().map(|(at, value)| {
            let millis = at.as_millis() - start;
            if millis % 1000 == 0 {
                format!("{value}@{}", millis / 1000)
            } else {
                format!("{value}@{millis}ms")
            }
        });
        let samples: Vec<_> = samples.collect();
        let kind = one.kind.unwrap();
        format!("{} {kind:?} {}", one.labels, samples.join(" "))
    });
    series.collect()
}

/// The same from both encodings.
#[track_caller]
fn check(metric: &Value, expected: &[&str], refused: u64) {
    let request = request(&[("service.name", "api")], &json!([metric]));
    for (encoding, bytes) in [
        (Encoding::Json, request.to_string().into_bytes()),
        (Encoding::Protobuf, protobuf(&request)),
    ] {
        let (sorted, points) = sorted(encoding, &bytes).unwrap();
        assert_eq!(shown(&sorted), expected, "{encoding:?}");
        assert_eq!((sorted.refusals.samples(), points), (refused, 1), "{encoding:?}");
        assert!(sorted.strangers.iter().all(|one| one.space.job == "api"));
    }
}

fn number(value: &Value) -> Value {
    let mut point = json!({"timeUnixNano": time(10), "attributes": [
        {"key": "http.method", "value": {"stringValue": "GET"}},
        {"key": "ok", "value": {"boolValue": true}},
        {"key": "code", "value": {"intValue": "200"}},
    ]});
    point.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    point
}

#[test]
fn gauges_and_sums_keep_their_meaning() {
    let labels = r#"{code="200",http_method="GET",ok="true"}"#;
    let sum = |temporality: u8, rises: bool, value: Value| {
        json!({"name": "requests", "sum": {
            "aggregationTemporality": temporality, "isMonotonic": rises,
            "dataPoints": [number(&value)],
        }})
    };
    let gauge = |value: Value| json!({"name": "pool.used", "unit": "By", "gauge": {"dataPoints": [number(&value)]}});
    let used = |value: &str| format!("pool_used_bytes{labels} Gauge {value}@10");
    check(&gauge(json!({"asDouble": 0.5})), &[&used("0.5")], 0);
    check(&gauge(json!({"asInt": "-7"})), &[&used("-7")], 0);
    check(&gauge(json!({"asDouble": "NaN"})), &[&used("NaN")], 0);
    check(&gauge(json!({"flags": 1})), &[&used("NaN")], 0);
    check(&gauge(json!({})), &[], 1);
    let started = || json!({"startTimeUnixNano": time(0), "asInt": "7"});
    let total = format!("requests_total{labels}");
    check(&sum(2, true, started()), &[&format!("{total} Total 7@10")], 0);
    check(&sum(1, true, started()), &[&format!("{total} Absolute 0@1ms 7@10")], 0);
    check(&sum(1, true, json!({"asInt": "7"})), &[&format!("{total} Absolute 7@10")], 0);
    check(&sum(2, false, started()), &[&format!("requests{labels} Gauge 7@10")], 0);
    check(&sum(1, false, started()), &[], 1);
    check(&sum(0, true, started()), &[], 1);
}

#[test]
fn histograms_and_summaries_become_series_as_prometheus_names_them() {
    let histogram = |temporality: u8, more: Value| {
        let mut point = json!({
            "timeUnixNano": time(10), "count": "6", "sum": 7.5,
            "bucketCounts": ["1", "2", "3"], "explicitBounds": [0.005, 1],
        });
        point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"name": "lat", "unit": "s", "histogram": {
            "aggregationTemporality": temporality, "dataPoints": [point],
        }})
    };
    let of = |kind: &str, values: [&str; 5]| {
        let names = [
            r#"lat_seconds_bucket{le="0.005"}"#,
            r#"lat_seconds_bucket{le="1"}"#,
            r#"lat_seconds_bucket{le="+Inf"}"#,
            "lat_seconds_count",
            "lat_seconds_sum",
        ];
        names.iter().zip(values).map(|(n, v)| format!("{n} {kind} {v}")).collect::<Vec<_>>()
    };
    let lines = |lines: Vec<String>, expected: &mut dyn FnMut(&[&str])| {
        expected(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    };
    lines(of("Total", ["1@10", "3@10", "6@10", "6@10", "7.5@10"]), &mut |expected| {
        check(&histogram(2, json!({})), expected, 0);
    });
    let started = ["0@1ms 1@10", "0@1ms 3@10", "0@1ms 6@10", "0@1ms 6@10", "0@1ms 7.5@10"];
    lines(of("Absolute", started), &mut |expected| {
        check(&histogram(1, json!({"startTimeUnixNano": time(0)})), expected, 0);
    });
    lines(of("Total", ["NaN@10"; 5]), &mut |expected| {
        check(&histogram(2, json!({"flags": 1})), expected, 0);
    });
    check(&histogram(0, json!({})), &[], 1);
    check(&histogram(2, json!({"bucketCounts": ["1", "2"]})), &[], 1);
    check(
        &json!({"name": "rpc", "summary": {"dataPoints": [{
            "timeUnixNano": time(10), "count": "4", "sum": 2.5,
            "quantileValues": [{"quantile": 0.5, "value": 0.25}, {"quantile": 1, "value": 1}],
        }]}}),
        &[
            r#"rpc{quantile="0.5"} Gauge 0.25@10"#,
            r#"rpc{quantile="1"} Gauge 1@10"#,
            "rpc_count Total 4@10",
            "rpc_sum Total 2.5@10",
        ],
        0,
    );
    check(
        &json!({"name": "exp", "exponentialHistogram": {"aggregationTemporality": 2,
            "dataPoints": [{"timeUnixNano": time(10)}]}}),
        &[],
        1,
    );
}

#[test]
fn attributes_that_become_one_label_say_both_and_arrays_are_refused() {
    let of = |attributes: Value| {
        json!({"name": "x", "gauge": {"dataPoints": [
            {"timeUnixNano": time(0), "asInt": "1", "attributes": attributes},
        ]}})
    };
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let both = of(json!([text("a_b", "2"), text("a.b", "1")]));
    check(&both, &[r#"x{a_b="1;2"} Gauge 1@0"#], 0);
    check(&of(json!([text("empty", ""), {"key": "unset"}])), &["x Gauge 1@0"], 0);
    check(&of(json!([{"key": "list", "value": {"arrayValue": {"values": []}}}])), &[], 1);
    check(
        &of(json!([{"key": "f", "value": {"doubleValue": 0.5}}])),
        &[r#"x{f="0.5"} Gauge 1@0"#],
        0,
    );
}

#[test]
fn a_resource_tells_of_itself_at_its_newest_point() {
    let attributes = [("service.name", "api"), ("host.name", "web-1"), ("os.type", "linux")];
    let points: Vec<_> =
        [10, 20, 5].iter().map(|at| json!({"timeUnixNano": time(*at), "asInt": 1})).collect();
    let metrics = json!([{"name": "x", "gauge": {"dataPoints": points}}]);
    let (sorted, points) =
        sorted(Encoding::Protobuf, &protobuf(&request(&attributes, &metrics))).unwrap();
    let info = r#"target_info{os_type="linux"} Gauge 1@20"#;
    assert_eq!(shown(&sorted), ["x Gauge 1@10", "x Gauge 1@20", "x Gauge 1@5", info]);
    assert_eq!((points, sorted.strangers[3].space.instance.as_str()), (3, "web-1"));
}

#[test]
fn points_and_samples_are_counted_before_anything_is_built() {
    let data = |number: u8, points: &[u8]| {
        let mut data = Vec::new();
        push_block(&mut data, 0x10, &[]);
        data.clear();
        data.extend([0x10, 2]);
        data.extend(points);
        let mut metric = Vec::new();
        push_block(&mut metric, number << 3, &data);
        let wrap = |content: &[u8], number: u8| {
            let mut message = Vec::new();
            push_block(&mut message, number << 3, content);
            message
        };
        wrap(&wrap(&wrap(&metric, 2), 2), 1)
    };
    let empty = [0x0a, 0].repeat(POINT_LIMIT + 1);
    let many = sorted(Encoding::Protobuf, &data(5, &empty));
    assert!(matches!(many, Err(OtlpError::Points)), "{:?}", many.err());
    let mut histogram = Vec::new();
    let bounds: Vec<u8> = (0..100_u8).flat_map(|at| f64::from(at).to_le_bytes()).collect();
    let mut point = Vec::new();
    push_block(&mut point, 6 << 3, &[0; 101 * 8]);
    push_block(&mut point, 7 << 3, &bounds);
    for _ in 0..=SAMPLE_LIMIT / 100 {
        push_block(&mut histogram, 1 << 3, &point);
    }
    let wide = sorted(Encoding::Protobuf, &data(9, &histogram));
    assert!(matches!(wide, Err(OtlpError::Samples)), "{:?}", wide.err());
    let objects = format!("[{}{{}}]", "{},".repeat(POINT_LIMIT));
    let json = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":{objects}}}}}]}}]}}]}}"#
    );
    let many = sorted(Encoding::Json, json.as_bytes());
    assert!(matches!(many, Err(OtlpError::Points)), "{:?}", many.err());
}

#[test]
fn what_is_no_request_is_refused_and_what_is_unknown_is_read_over() {
    let number = |value: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{{"asDouble":{value}}}]}}}}]}}]}}]}}"#
        )
    };
    assert!(sorted(Encoding::Json, number("1.5").as_bytes()).is_ok());
    let [huge, word, deep] = ["1e400", "\"one\"", &"[".repeat(10_000)].map(number);
    for json in [
        "",
        "x",
        "\u{feff}{}",
        r#"{"resourceMetrics": 1}"#,
        r#"{"resourceMetrics": [1]}"#,
        r#"{"resourceMetrics": [], "resourceMetrics": []}"#,
        r#"{"resourceMetrics": [{"resource": {"attributes": [{"key": "\ud800"}]}}]}"#,
        &huge,
        &word,
        &deep,
    ] {
        assert!(sorted(Encoding::Json, json.as_bytes()).is_err(), "{json}");
    }
    for json in ["{}", r#"{"resourceMetrics": null, "later": [1]}"#, r#"{"resourceMetrics": []}"#] {
        assert!(sorted(Encoding::Json, json.as_bytes()).is_ok(), "{json}");
    }
    let good = protobuf(&request(
        &[("service.name", "api")],
        &json!([{"name": "x", "gauge": {"dataPoints": [{"timeUnixNano": time(0), "asInt": 1}]}}]),
    ));
    for cut in 1..good.len() {
        assert!(sorted(Encoding::Protobuf, &good[..cut]).is_err(), "cut at {cut}");
    }
    let unknown = [&[0x78, 1][..], &good].concat();
    assert_eq!(sorted(Encoding::Protobuf, &unknown).unwrap().1, 1);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, json: String) {
        for (encoding, bytes) in [(Encoding::Protobuf, &bytes[..]), (Encoding::Json, json.as_bytes())] {
            if sorted(encoding, bytes).is_ok() {
                sorted(encoding, bytes).unwrap();
            }
        }
    }
}
