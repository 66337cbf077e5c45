//! An alert's whole way: OK, WARNING, CRITICAL, OK, in mail files and in signed webhooks.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fixtures::remote_write::Series;
use http::HeaderMap;
use serde_json::Value;

use crate::http::{self as client, Received, receiver};
use crate::server::{Server, config, eventually, folder};
use crate::steady::now_secs;

const SECRETS: [&str; 2] = [
    "whsec_YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCBudW1iZXIgMDE=",
    "whsec_YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCBudW1iZXIgMDI=",
];
const RULE: &str = r#"
[[rule]]
name = "level"
expr = 'test_level{role="web"}'
warning = "> 80"
critical = "> 95"
clear = "< 70"
for = "0s"
every = "1s"
annotations = { summary = "the level is high" }
"#;
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with the rule, mail files and two webhooks; the level it is told every half second.
struct Scene {
    server: Server,
    level: Arc<AtomicU32>,
    hooks: [Received; 2],
}

async fn scene(dir: &Path) -> Scene {
    let rules = dir.join("data/rules");
    fs::create_dir_all(&rules).unwrap();
    fs::write(rules.join("level.toml"), RULE).unwrap();
    let (first, one) = receiver().await;
    let (second, two) = receiver().await;
    let hooks = [("one", first, SECRETS[0]), ("two", second, SECRETS[1])]
        .map(|(name, url, secret)| {
            format!("[[webhook]]\nname = {name:?}\nurl = {url:?}\nsecret = {secret:?}\n")
        })
        .concat();
    config(dir, &format!("[mail]\nto = [\"night@example.org\"]\n{hooks}"));
    let file = dir.join("roundel.toml");
    let arguments = ["--config", file.to_str().unwrap(), "--policy", "1s:10m,1m:1d"];
    let server = Server::start(dir, &arguments);
    let level = Arc::new(AtomicU32::new(50));
    tokio::spawn(push(server.url.clone(), "web-1", Arc::clone(&level)));
    Scene { server, level, hooks: [one, two] }
}

/// A level at which the instance falls silent.
const SILENT: u32 = 0;

/// Tells the server the level until it is gone.
async fn push(url: String, instance: &'static str, level: Arc<AtomicU32>) {
    let labels =
        [("__name__", "test_level"), ("job", "it"), ("instance", instance), ("role", "web")];
    loop {
        let at_ms = i64::try_from(now_secs()).unwrap() * 1000;
        let now = level.load(Ordering::SeqCst);
        let series = Series::new(&labels).reading(at_ms, f64::from(now));
        if now != SILENT && client::remote_write(&url, &[series]).await.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Lets the level rise until the first webhook is told that it is critical.
async fn raise(level: &AtomicU32, hook: &Received) {
    level.store(99, Ordering::SeqCst);
    eventually("the webhook of CRITICAL", PATIENCE, async || {
        states(hook, SECRETS[0]).iter().any(|(_, to)| to == "CRITICAL").then_some(())
    })
    .await;
}

/// The states that a webhook was told of, in order; every signature is checked.
fn states(received: &Received, secret: &str) -> Vec<(String, String)> {
    let verifier = standardwebhooks::Webhook::new(secret).unwrap();
    let told = |(headers, body): &(HeaderMap, bytes::Bytes)| {
        verifier.verify(body, headers).unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        let data = &body["data"];
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (word(&data["prev_state"]), word(&data["state"]))
    };
    received.all().iter().map(told).collect()
}

/// The subjects of the mail files, in order of their names.
fn subjects(dir: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(dir.join("data/mail")) else { return Vec::new() };
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "eml"));
    paths.sort();
    let subject = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("Subject: ")).unwrap_or_default();
        line.to_owned()
    };
    paths.iter().map(subject).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_rises_and_falls_is_mailed_and_sent_signed() {
    let dir = folder();
    let scene = scene(dir.path()).await;
    let mut expected: Vec<(String, String)> = Vec::new();
    for (level, from, to) in
        [(85, "OK", "WARNING"), (99, "WARNING", "CRITICAL"), (10, "CRITICAL", "OK")]
    {
        scene.level.store(level, Ordering::SeqCst);
        expected.push((from.to_owned(), to.to_owned()));
        for (hook, secret) in scene.hooks.iter().zip(SECRETS) {
            eventually(&format!("the webhook of {to}"), PATIENCE, async || {
                (states(hook, secret) == expected).then_some(())
            })
            .await;
        }
        eventually(&format!("the mail of {to}"), PATIENCE, async || {
            subjects(dir.path()).iter().any(|s| s.contains(&format!("[{to}]"))).then_some(())
        })
        .await;
    }
    assert_eq!(subjects(dir.path()).len(), 3, "one mail a transition");
    let alerts = client::get(&format!("{}/alerts", scene.server.url)).await;
    assert!(alerts.text().contains("level"), "the page of alerts tells of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_alert_outlives_kill_9_and_still_clears() {
    let dir = folder();
    let Scene { server, level, hooks } = scene(dir.path()).await;
    raise(&level, &hooks[0]).await;
    server.kill();
    let told_before = states(&hooks[0], SECRETS[0]).len();

    let file = dir.path().join("roundel.toml");
    let arguments = ["--config", file.to_str().unwrap(), "--policy", "1s:10m,1m:1d"];
    let server = Server::start(dir.path(), &arguments);
    level.store(10, Ordering::SeqCst);
    tokio::spawn(push(server.url.clone(), "web-1", Arc::clone(&level)));
    eventually("the webhook of OK", PATIENCE, async || {
        let told = states(&hooks[0], SECRETS[0]);
        (told.len() > told_before && told.last().is_some_and(|(_, to)| to == "OK")).then_some(())
    })
    .await;
    let criticals = hooks[0].all();
    let critical_ids: std::collections::BTreeSet<_> = criticals
        .iter()
        .filter(|(_, body)| String::from_utf8_lossy(body).contains("\"state\":\"CRITICAL\""))
        .map(|(headers, _)| headers["webhook-id"].to_str().unwrap())
        .collect();
    assert_eq!(critical_ids.len(), 1, "a transition told twice keeps its id");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alert_of_a_withdrawn_instance_closes_as_withdrawn() {
    let dir = folder();
    let Scene { server, level, hooks } = scene(dir.path()).await;
    raise(&level, &hooks[0]).await;
    level.store(SILENT, Ordering::SeqCst);
    let list = client::get(&format!("{}/v1/instances", server.url)).await.json();
    let id = list[0]["id"].as_str().unwrap().to_owned();
    let gone = serde_json::json!({ "reason": "scaled in" });
    let answer =
        client::post_json(&format!("{}/v1/instances/{id}/withdraw", server.url), &gone).await;
    assert!(answer.status.is_success(), "{} {}", answer.status, answer.text());
    let last = eventually("the webhook of the end", PATIENCE, async || {
        let all = hooks[0].all();
        let (_, body) = all.last()?;
        let body: Value = serde_json::from_slice(body).unwrap();
        (body["data"]["state"] == "OK").then_some(body)
    })
    .await;
    assert_eq!(last["data"]["reason"], "withdrawn", "{last}");

    // Judgement goes on, and never again of the one that is gone.
    let told = hooks[0].all().len();
    tokio::spawn(push(server.url.clone(), "web-2", Arc::new(AtomicU32::new(99))));
    eventually("the webhook of the other", PATIENCE, async || {
        (hooks[0].all().len() > told).then_some(())
    })
    .await;
    let others = hooks[0].all().split_off(told);
    let named = |name: &str| {
        others.iter().filter(|(_, body)| String::from_utf8_lossy(body).contains(name)).count()
    };
    assert_eq!((named("web-1"), named("web-2")), (0, others.len()));
}
