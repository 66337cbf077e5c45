//! Rules for series, from the configuration and of a token, and kinds by the operator's word, in the
//! real server.

use std::time::Duration;

use ::http::{Request, StatusCode};
use fixtures::remote_write::{Series, body};
use http_body_util::Full;
use serde_json::json;

use crate::bad_input::write_request;
use crate::http;
use crate::server::{ADMIN, Server, config, eventually, folder, roundel};
use crate::steady::now_secs;

const RULES: &str = r#"
[relabel]
drop_labels = ["prometheus_replica"]

[[relabel.rules]]
source_labels = ["__name__"]
regex = "go_.*"
action = "drop"

[[kind]]
match = ["__name__=done", "job=app"]
kind = "counter"
"#;

fn series(metric: &str, replica: &str) -> Series {
    let now = i64::try_from(now_secs()).unwrap();
    let labels =
        [("__name__", metric), ("job", "app"), ("instance", "a"), ("prometheus_replica", replica)];
    (0..30).rev().fold(Series::new(&labels), |series, back| {
        let value = f64::from(u32::try_from(1_000 - back).unwrap());
        series.reading((now - back) * 1000, value)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_kinds_of_the_configuration_and_rules_of_a_token_hold() {
    let dir = folder();
    let file = config(dir.path(), RULES);
    let more = ["--policy", "1s:1h", "--config", file.to_str().unwrap()];
    let server = Server::start(dir.path(), &more);
    let token = json!({ "kind": "relay", "relabel": { "rules": [
        { "source_labels": ["job"], "target_label": "team", "replacement": "of-$1" }] } });
    let token = http::post_json(&format!("{}/v1/tokens", server.url), &token).await.json();
    let (id, secret) = (token["id"].as_str().unwrap(), token["token"].as_str().unwrap());
    for replica in ["r1", "r2"] {
        let all: Vec<Series> = ["up", "done", "go_threads"].map(|m| series(m, replica)).into();
        let answer = http::send(write_request(&server.url, secret, body(&all))).await.unwrap();
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    }
    let time = Some(f64::from(u32::try_from(now_secs() - 2).unwrap()));
    let rate = eventually("the counter", Duration::from_secs(10), async || {
        http::query(&server.url, "rate(done[10s])", time).await.first().cloned()
    })
    .await;
    assert_eq!(rate["metric"], json!({ "job": "app", "instance": "a", "team": "of-app" }));
    let value: f64 = rate["value"][1].as_str().unwrap().parse().unwrap();
    assert!((value - 1.0).abs() < 1e-6, "{rate}");
    assert!(http::query(&server.url, "go_threads", time).await.is_empty());
    let books = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
    assert_eq!(books["total"]["refused"], json!({ "relabelled": 60 }), "{books}");
    assert_eq!(books["total"]["duplicate"], 60, "{books}");

    let url = format!("{}/v1/tokens/{id}/relabel", server.url);
    let rules =
        json!({ "rules": [{ "source_labels": ["job"], "regex": "app", "action": "drop" }] });
    let request = Request::put(&url).header("authorization", format!("Bearer {ADMIN}"));
    let answer = http::send(request.body(Full::from(rules.to_string())).unwrap()).await.unwrap();
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    server.kill();
    let server = Server::start(dir.path(), &more);
    let request = write_request(&server.url, secret, body(&[series("up", "r1")]));
    assert_eq!(http::send(request).await.unwrap().status, StatusCode::NO_CONTENT);
    let books = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
    assert_eq!(books["total"]["refused"], json!({ "relabelled": 30 }), "{books}");
}

#[test]
fn rules_that_cannot_be_are_told_at_the_start() {
    let dir = folder();
    for (text, told) in [
        ("[relabel]\ndrop_label = []\n", "unknown field `drop_label`"),
        ("[[relabel.rules]]\naction = \"hashmod\"\n", "unknown variant `hashmod`"),
        ("[[relabel.rules]]\nregex = \"(\"\ntarget_label = \"a\"\n", "rule 1: regex"),
        ("[[kind]]\nmatch = [\"done\"]\nkind = \"counter\"\n", "NAME=VALUE"),
        ("[[kind]]\nmatch = [\"a=b\"]\nkind = \"histogram\"\n", "unknown variant `histogram`"),
        ("[limits.relay]\nsamples = 1\n", "unknown field `samples`"),
        ("[tls]\ncert = \"/none.pem\"\nkey = \"/none.key\"\n", "/none.pem"),
    ] {
        let file = config(dir.path(), text);
        let data = dir.path().join("data");
        let mut command = roundel();
        command.args(["serve", "--listen", "127.0.0.1:0", "--no-local-agent"]);
        command.arg("--data").arg(data).arg("--config").arg(file);
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(told), "{text}: {error}");
    }
}
