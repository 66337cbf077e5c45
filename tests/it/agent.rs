//! The agent as a program: what it keeps over kills, and what it says about its configuration.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::http;
use crate::peers::Peer;
use crate::server::{Server, eventually, folder, roundel};

const PATIENCE: Duration = Duration::from_mins(1);

/// Rows as fine as the agent's step here.
const POLICY: [&str; 2] = ["--policy", "1s:10m"];

/// An agent of `dir` that reports to `url`.
fn agent(dir: &Path, url: &str, more: &[&str]) -> Peer {
    let file = dir.join("agent.toml");
    let state = dir.join("agent");
    let text = format!(
        "name = \"web-9\"\nstep = \"1s\"\nspool = \"4MiB\"\nimds = \"off\"\nstate = \"{}\"\n",
        state.display()
    );
    fs::write(&file, text).unwrap();
    let mut command = roundel();
    command.args(["agent", "--collector", url, "--config"]).arg(file).args(more);
    Peer::start(command.stdin(Stdio::null()), &dir.join("agent.log"))
}

/// When the spool was written to last.
fn written(dir: &Path) -> SystemTime {
    fs::metadata(dir.join("agent/spool")).and_then(|file| file.modified()).unwrap()
}

fn unix_secs(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Rows of the instance among the three seconds up to `at`.
async fn rows(server: &Server, at: u64) -> Option<f64> {
    let expr = format!("count_over_time(node_boot_time_seconds{{instance=\"web-9\"}}[3s] @ {at})");
    let found = http::query(&server.url, &expr, None).await;
    found.first()?["value"][1].as_str()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_agent_read_while_the_collector_was_away_is_there_afterwards() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let wanted = json!({ "kind": "join", "name": "test", "labels": {} });
    let token = http::post_json(&format!("{}/v1/tokens", server.url), &wanted).await.json();
    let first = agent(dir.path(), &server.url, &["--token", token["token"].as_str().unwrap()]);
    eventually("the agent's first reading", PATIENCE, async || {
        let expr = "node_boot_time_seconds{instance=\"web-9\"}";
        http::query(&server.url, expr, None).await.first().cloned()
    })
    .await;
    server.kill();
    eventually("the agent sees that it is away", PATIENCE, async || {
        let log = fs::read_to_string(dir.path().join("agent.log")).unwrap();
        log.contains("they are kept and sent later").then_some(())
    })
    .await;
    let away = written(dir.path());
    eventually("some seconds in the spool", PATIENCE, async || {
        let since = written(dir.path()).duration_since(away).unwrap_or_default();
        (since >= Duration::from_secs(4)).then_some(())
    })
    .await;
    let end = unix_secs(written(dir.path()));
    drop(first);
    let server = Server::start(dir.path(), &POLICY);
    let _second = agent(dir.path(), &server.url, &[]);
    eventually("the rows of that time", PATIENCE, async || {
        rows(&server, end).await.filter(|count| *count >= 2.0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_do_not_share_a_state_folder() {
    let dir = folder();
    let nowhere = "http://127.0.0.1:1";
    let _first = agent(dir.path(), nowhere, &["--token", "x"]);
    eventually("the first agent's spool", PATIENCE, async || {
        dir.path().join("agent/spool").exists().then_some(())
    })
    .await;
    let second = roundel()
        .args(["agent", "--collector", nowhere, "--token", "x", "--config"])
        .arg(dir.path().join("agent.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("in use by process"), "{said}");
}

#[test]
fn a_configuration_is_read_and_its_mistakes_are_named() {
    let dir = folder();
    let file = dir.path().join("agent.toml");
    for (text, said) in [
        ("stepp = \"1s\"", "unknown field `stepp`"),
        ("step = \"1d\"", "write it as \"10s\""),
        ("[sources.x]\nkind = \"shell\"", "source x: there is no kind \"shell\""),
        ("[sources.x]\nkind = \"statsd\"\nwhen = \"never\"", "when: write \"always\""),
    ] {
        fs::write(&file, text).unwrap();
        let ended = roundel().args(["agent", "--once", "--config"]).arg(&file).output().unwrap();
        let complaint = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && complaint.contains(said), "{text}: {complaint}");
    }
    fs::write(&file, "imds = \"off\"\nstep = \"30s\"").unwrap();
    let ended =
        roundel().args(["agent", "--once", "--print", "--config"]).arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(text.contains("# TYPE node_load1 gauge\n"), "{text}");
}
