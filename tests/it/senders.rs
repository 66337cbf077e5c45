//! Real senders: Debian's Prometheus and our own agent, as an operator starts them.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use fixtures::remote_write::Series;
use serde_json::json;

use crate::http;
use crate::peers::{Peer, free_port, program};
use crate::server::{ADMIN, Server, eventually, folder, roundel};
use crate::steady::now_secs;

const PATIENCE: Duration = Duration::from_mins(1);
/// Steps of a second, so that rows close soon.
const POLICY: [&str; 2] = ["--policy", "1s:1h,1m:1d"];

/// Prometheus in agent mode, which scrapes the exporter and writes to us.
fn prometheus_config(url: &str, exporter: u16) -> String {
    format!(
        "global:\n  scrape_interval: 1s\n\
         scrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:{exporter}']\n\
         remote_write:\n- url: {url}/api/v1/write\n  authorization:\n    credentials: {ADMIN}\n  \
         metadata_config:\n    send_interval: 1s\n  queue_config:\n    batch_send_deadline: 1s\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_in_agent_mode_shows_up_as_an_instance_with_graphs() {
    let test = "prometheus in agent mode";
    let Some(prometheus) = program(test, "prometheus") else { return };
    let Some(exporter) = program(test, "prometheus-node-exporter") else { return };
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let port = free_port();
    let _exporter = Peer::start(
        Command::new(exporter).arg(format!("--web.listen-address=127.0.0.1:{port}")),
        &dir.path().join("exporter.log"),
    );
    let file = dir.path().join("prometheus.yml");
    fs::write(&file, prometheus_config(&server.url, port)).unwrap();
    let _prometheus = Peer::start(
        Command::new(prometheus)
            .arg("--enable-feature=agent")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.agent.path={}", dir.path().join("agent").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", free_port())),
        &dir.path().join("prometheus.log"),
    );

    let name = format!("127.0.0.1:{port}");
    let rate = format!("sum(rate(node_cpu_seconds_total{{instance=\"{name}\"}}[10s]))");
    eventually("a rate of its CPU time", PATIENCE, async || {
        http::query(&server.url, &rate, None).await.first().cloned()
    })
    .await;
    let id = instance(&server.url, &name).await;
    let page = http::get(&format!("{}/i/{id}", server.url)).await;
    assert!(page.status.is_success(), "{}", page.status);
    for graph in ["cpu", "memory", "load", "network"] {
        let url = format!("{}/g/{id}/{graph}.svg?period=hour", server.url);
        let svg = http::get(&url).await;
        assert_eq!(svg.headers["content-type"], "image/svg+xml", "{graph}");
        assert!(svg.text().contains("class=\"series "), "{graph} shows no series: {}", svg.text());
    }
}

/// The id of the instance of this name.
async fn instance(url: &str, name: &str) -> String {
    let list = http::get(&format!("{url}/v1/instances")).await.json();
    let found = list.as_array().unwrap().iter().find(|instance| instance["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} is not among {list}"));
    found["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_enrols_with_a_join_token_and_reports_its_host() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let wanted = json!({ "kind": "join", "name": "test", "labels": { "role": "web" } });
    let token = http::post_json(&format!("{}/v1/tokens", server.url), &wanted).await;
    assert_eq!(token.status, 201, "{}", token.text());
    let secret = token.json()["token"].as_str().unwrap().to_owned();
    let _agent = Peer::start(
        roundel()
            .args(["agent", "--collector", &server.url, "--token", &secret, "--step", "1s"])
            .args(["--name", "web-7", "--label", "zone=b", "--state"])
            .arg(dir.path().join("agent"))
            .stdin(Stdio::null()),
        &dir.path().join("agent.log"),
    );
    let loads = eventually("its load", PATIENCE, async || {
        let found = http::query(&server.url, "node_load1{instance=\"web-7\"}", None).await;
        found.first().cloned()
    })
    .await;
    assert_eq!(loads["metric"]["role"], "web", "forced by the token: {loads}");
    assert_eq!(loads["metric"]["zone"], "b", "told by the agent: {loads}");
    assert_eq!(loads["metric"]["job"], "node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_whole_number_is_answered_to_its_last_digit() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let now = now_secs();
    let labels = [("__name__", "memory_bytes"), ("job", "it"), ("instance", "a")];
    for at in now - 5..now {
        let series =
            Series::new(&labels).reading(i64::try_from(at).unwrap() * 1000, 25_267_003_393.0);
        let answer = http::remote_write(&server.url, &[series]).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    let found = eventually("its value", PATIENCE, async || {
        let time = f64::from(u32::try_from(now - 2).unwrap());
        http::query(&server.url, "memory_bytes", Some(time)).await.first().cloned()
    })
    .await;
    assert_eq!(found["value"][1], "25267003393");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_metrics_are_text_that_prometheus_reads() {
    let dir = folder();
    let server = Server::start(dir.path(), &[]);
    let text = http::get(&format!("{}/metrics", server.url)).await.text();
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
    for name in ["roundel_journal_fill_ratio", "roundel_instances"] {
        assert!(scrape.samples.iter().any(|s| s.metric == name), "{name} is missing:\n{text}");
    }
}
