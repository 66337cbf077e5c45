//! Heartbeats as a crontab sends them, and the rules that miss one.

use std::process::Command;
use std::time::Duration;

use crate::docs::{block, filled, relay};
use crate::http;
use crate::peers::{free_port, program};
use crate::server::{Server, eventually, folder};

const SECTION: &str = "Heartbeats of cron jobs";
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_crontabs_line_keeps_a_job_alive_and_an_overdue_one_alarms() {
    let Some(_) = program("curl", "curl") else { return };
    let dir = folder();
    let listen = format!("127.0.0.1:{}", free_port());
    let arguments = ["--policy", "1s:1h", "--listen", &listen];
    let server = Server::start(dir.path(), &arguments);
    let relay = relay(&server, "backup").await;
    let rules = block(SECTION, "toml", 0).replace("> 90000", "> 8").replace("> 180000", "> 12");
    let rules = rules.replace("< 90000", "< 8").replace("name =", "every = \"1s\"\nname =");
    std::fs::write(dir.path().join("data/rules/beats.toml"), rules).unwrap();
    let line = filled(&block(SECTION, "sh", 0), &server.url, &relay);
    let line = line.replace("/usr/local/bin/backup", "true");
    let told = Command::new("sh").arg("-euc").arg(&line).output().unwrap();
    assert!(told.status.success() && told.stdout.is_empty(), "{told:?}");

    server.kill();
    let server = Server::start(dir.path(), &arguments);
    let state = async |name: &str, wanted: &str| {
        eventually(&format!("{name} is {wanted}"), PATIENCE, async || {
            let told = http::get(&format!("{}/api/v1/alerts", server.url)).await.json();
            let alerts = told["data"]["alerts"].as_array().unwrap();
            let of_name = |alert: &&serde_json::Value| alert["labels"]["alertname"] == name;
            let held = alerts.iter().find(of_name).map(|alert| alert["labels"]["severity"].clone());
            let held = held.map_or("none".to_owned(), |word| word.as_str().unwrap().to_owned());
            (held == wanted).then_some(())
        })
        .await;
    };
    state("job overdue", "critical").await;
    let told = Command::new("sh").arg("-euc").arg(&line).output().unwrap();
    assert!(told.status.success(), "{told:?}");
    state("job overdue", "none").await;
    let url = format!("{}/v1/beat/{}?status=fail&duration=3", server.url, relay.secret);
    assert_eq!(http::get_bare(&url).await.status, 204);
    state("job failed", "critical").await;
    let duration = "beat_duration_seconds{job=\"beat\",instance=\"backup\"}";
    let found = http::query(&server.url, duration, None).await;
    assert_eq!(found[0]["value"][1], "3");
}
