//! The requests that Grafana's data source for Prometheus makes, from "Save & test" to a panel, and
//! the shapes it reads out of their answers.

use serde_json::{Value, json};

use super::{Pair, ask};
use crate::http;

#[tokio::test(flavor = "multi_thread")]
async fn a_data_source_is_tested_browsed_and_drawn() {
    let Some(pair) = Pair::start("Grafana's requests against Prometheus").await else { return };
    let end = pair.data.asked_secs();
    let span = [("start", (end - 1800).to_string()), ("end", end.to_string())];
    let with = |more: &[(&'static str, &str)]| {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        more.chain(span.clone()).collect::<Vec<_>>()
    };

    // Save & test: which program is it, and does it answer?
    let build = get(&pair.ours.url, "status/buildinfo", &[]).await;
    let version = build["version"].as_str().unwrap();
    assert!(version.split('.').count() == 3 && version.starts_with("2."), "{build}");
    assert!(build.get("features").is_none(), "features are how Mimir is told from Prometheus");
    let (status, answer) = ask(&pair.ours.url, "query", &pair.instant("1+1")).await;
    assert_eq!((status, &answer["data"]["result"][1]), (200, &json!("2")));
    for path in ["rules", "alerts"] {
        let data = get(&pair.ours.url, path, &[]).await;
        let list = if path == "rules" { &data["groups"] } else { &data["alerts"] };
        assert!(list.is_array(), "{path}: {data}");
    }

    // The query builder: metrics, their types, labels, values.
    for (path, asked) in [
        ("label/__name__/values", with(&[])),
        ("label/__name__/values", with(&[("match[]", "{instance=\"host-1\"}")])),
        ("labels", with(&[("match[]", "memory_bytes")])),
        ("labels", with(&[("match[]", "{__name__=\"memory_bytes\",type=~\"f.*\"}")])),
        ("label/type/values", with(&[("match[]", "memory_bytes")])),
        ("label/instance/values", with(&[("match[]", "cpus{job=\"demo\"}")])),
        ("series", with(&[("match[]", "memory_bytes{type=\"used\"}")])),
        ("series", with(&[("match[]", "cpus"), ("match[]", "{__name__=~\"temp.*\"}")])),
    ] {
        let ours = get(&pair.ours.url, path, &asked).await;
        assert_eq!(ours, get(&pair.theirs, path, &asked).await, "{path} {asked:?}");
        assert!(!ours.as_array().unwrap().is_empty(), "{path} {asked:?}");
    }
    let limits = [("limit", "40000".to_owned()), ("limit_per_metric", "1".to_owned())];
    let metadata = get(&pair.ours.url, "metadata", &limits).await;
    for (metric, kind) in [
        ("cpus", "unknown"),
        ("requests_total", "counter"),
        ("latency_seconds", "histogram"),
        ("sizes", "histogram"),
    ] {
        let entry = json!([{ "type": kind, "help": "", "unit": "" }]);
        assert_eq!(metadata[metric], entry, "{metric}");
    }
    assert!(metadata.get("latency_seconds_count").is_none(), "{metadata}");

    // A panel: the range by POST, the instant of its table, and exemplars.
    let panel = pair.range("sum by (type) (memory_bytes{instance=~\"host-0|host-2\"})");
    let [ours, theirs] = pair.both("query_range", &panel).await;
    assert_eq!(ours, theirs);
    let [ours, theirs] = pair.both("query", &pair.instant("sort(cpus)")).await;
    assert_eq!(ours, theirs);
    let [ours, theirs] = pair.both("query_exemplars", &with(&[("query", "cpus")])).await;
    assert_eq!(ours, theirs);

    // A panel zoomed in far beyond the rows: half a megabyte, which comes in chunks.
    let wide = with(&[("query", "memory_bytes"), ("step", "1")]);
    let url = format!("{}/api/v1/query_range?{}", pair.ours.url, http::encoded(&wide));
    let answer = http::get(&url).await;
    assert!(answer.headers.get("content-length").is_none(), "it is not sent as a whole");
    let [ours, theirs] = pair.both("query_range", &wide).await;
    assert_eq!(answer.json(), ours.1);
    assert!(ours == theirs, "{} bytes differ from Prometheus'", answer.body.len());

    // An annotation with a step below the rows', and a variable of a query's values.
    let (status, answer) = ask(
        &pair.ours.url,
        "query_range",
        &[with(&[("query", "temperature > 1000"), ("step", "15")])].concat(),
    )
    .await;
    assert_eq!((status, &answer["data"]["result"]), (200, &json!([])));
    let rate = "sum by (instance) (rate(cpu_seconds_total{mode!=\"idle\"}[5m0s]))";
    let (status, answer) = ask(&pair.ours.url, "query_range", &pair.range(rate)).await;
    assert_eq!((status, answer["data"]["result"].as_array().unwrap().len()), (200, 3));
}

/// The `data` of a GET.
async fn get(url: &str, path: &str, pairs: &[(&str, String)]) -> Value {
    let answer = http::get(&format!("{url}/api/v1/{path}?{}", http::encoded(pairs))).await;
    assert_eq!(answer.headers["content-type"], "application/json", "{path}");
    let json = answer.json();
    assert_eq!(json["status"], "success", "{path}: {json}");
    json["data"].clone()
}
