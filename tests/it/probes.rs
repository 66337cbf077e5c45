//! Probes of the server and of an agent, from the file to a rule that judges them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use crate::http::{self, receiver};
use crate::plugins::{POLICY, Scene};
use crate::server::{Server, config, eventually, folder};

const PATIENCE: Duration = Duration::from_mins(1);
const RULE: &str = r#"
[[rule]]
name = "service down"
expr = 'probe_success{job="probe"}'
critical = "< 1"
for = "0s"
every = "1s"
annotations = { summary = "a service does not answer" }
"#;

/// A shop that can be told to fail.
async fn shop() -> (String, Arc<AtomicBool>) {
    let is_broken = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_broken);
    let answer = async move || {
        let broken = told.load(Ordering::SeqCst);
        if broken { (StatusCode::BAD_GATEWAY, "no") } else { (StatusCode::OK, "open") }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address.to_string(), is_broken)
}

async fn value(url: &str, expr: &str) -> Option<f64> {
    let found = http::query(url, expr, None).await;
    found.first()?["value"][1].as_str()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_is_seen_by_a_rule_and_the_file_is_read_again() {
    let dir = folder();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("rules")).unwrap();
    fs::write(data.join("rules/down.toml"), RULE).unwrap();
    let (shop, is_broken) = shop().await;
    let file = data.join("probes.toml");
    let of_shop = format!(
        "every = \"1s\"\n[[http]]\nname = \"shop\"\nurl = \"http://{shop}/\"\nbody = \"open\"\n\
         labels = {{ role = \"web\" }}\n"
    );
    fs::write(&file, &of_shop).unwrap();
    let (hook, received) = receiver().await;
    let secret = "whsec_YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCBudW1iZXIgMDE=";
    let hook = format!("[[webhook]]\nname = \"one\"\nurl = {hook:?}\nsecret = {secret:?}\n");
    let roundel = config(dir.path(), &hook);
    let server =
        Server::start(dir.path(), &["--config", roundel.to_str().unwrap(), POLICY[0], POLICY[1]]);
    let shown = "probe_success{job=\"probe\",instance=\"shop\",role=\"web\"}";
    eventually("the shop is open", PATIENCE, async || {
        value(&server.url, shown).await.filter(|up| *up > 0.5)
    })
    .await;
    let phases = "count(probe_http_duration_seconds{instance=\"shop\"})";
    eventually("the parts of the way", PATIENCE, async || {
        value(&server.url, phases).await.filter(|count| *count > 3.5)
    })
    .await;
    is_broken.store(true, Ordering::SeqCst);
    eventually("the webhook of CRITICAL", PATIENCE, async || {
        let told = received.all();
        let says =
            |word: &str| told.iter().any(|(_, body)| String::from_utf8_lossy(body).contains(word));
        (says("\"state\":\"CRITICAL\"") && says("shop")).then_some(())
    })
    .await;
    let status = value(&server.url, "probe_http_status_code{instance=\"shop\"}").await;
    assert!(status.is_some_and(|status| (status - 502.0).abs() < 0.5), "{status:?}");

    // A file that is wrong changes nothing; a good one adds a target.
    fs::write(&file, format!("{of_shop}[[http]]\nurl = \"nowhere\"\n")).unwrap();
    eventually("the refusal in the log", PATIENCE, async || {
        let log = fs::read_to_string(dir.path().join("log.txt")).unwrap();
        log.contains("http probe number 2: url is no web address").then_some(())
    })
    .await;
    fs::write(&file, format!("{of_shop}[[tcp]]\nname = \"door\"\naddress = \"{shop}\"\n")).unwrap();
    eventually("the door", PATIENCE, async || {
        value(&server.url, "probe_success{instance=\"door\"}").await.filter(|up| *up > 0.5)
    })
    .await;
    let books = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
    assert!(books["total"]["received"].as_u64().is_some_and(|count| count > 0), "{books}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_probes_with_the_same_words() {
    let dir = folder();
    let (shop, _) = shop().await;
    let sources = format!(
        "[sources.probes]\nkind = \"probe\"\nevery = \"1s\"\n\
         [[sources.probes.http]]\nname = \"shop\"\nurl = \"http://{shop}/\"\n\
         [[sources.probes.http]]\nname = \"gone\"\nurl = \"http://{shop}/gone\"\n"
    );
    let scene = Scene::with(dir.path(), &sources).await;
    let of = |target: &str| format!("probe_success{{instance=\"web-1\",target=\"{target}\"}}");
    scene.value(&of("shop"), |up| up > 0.5).await;
    scene.value(&of("gone"), |up| up < 0.5).await;
}
