//! Graphite's lines from collectd's `write_graphite`, through a kill.

use std::time::Duration;

use crate::collectd::collectd;
use crate::docs::{block, filled, relay};
use crate::http;
use crate::peers::{free_port, program};
use crate::server::{Server, config, eventually, folder};

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn collectd_writes_lines_of_which_nan_is_unknown_and_goes_on_after_a_kill() {
    let Some(program) = program("collectd's write_graphite", "collectd") else { return };
    let dir = folder();
    let port = free_port().to_string();
    let first = Server::start(dir.path(), &[]);
    let relay = relay(&first, "graphite").await;
    first.stop();
    let fill = |text: &str| filled(text, "http://127.0.0.1:1", &relay).replace("2003", &port);
    let file = config(dir.path(), &fill(&block("Graphite", "toml", 0)));
    let arguments = ["--policy", "1s:1h", "--config", file.to_str().unwrap()];
    let server = Server::start(dir.path(), &arguments);
    let _collectd = collectd(&program, dir.path(), &fill(&block("Graphite", "", 0)));
    values(&server.url).await;
    server.kill();
    let server = Server::start(dir.path(), &arguments);
    values(&server.url).await;
    let books = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
    assert!(books["total"]["refused"].as_object().unwrap().is_empty(), "{books}");
    let answer = http::get(&format!("{}/v1/instances", server.url)).await.json();
    assert_eq!(answer.as_array().unwrap().len(), 1, "{answer}");
}

/// Waits for a rate that collectd made itself, and for a level.
async fn values(url: &str) {
    let place = "job=\"graphite\",instance=\"web-1\"";
    for query in [
        format!("collectd_load_shortterm{{{place}}}"),
        format!("collectd_cpu{{{place},cpu=\"0\",type=\"idle\"}}"),
        format!("collectd_interface_if_octets_rx{{{place},interface=\"lo\"}}"),
    ] {
        eventually(&query, PATIENCE, async || http::query(url, &query, None).await.pop()).await;
    }
}
