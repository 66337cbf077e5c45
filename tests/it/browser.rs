//! A person's first minute, in a real browser: log in by the printed link, see this host, see a graph.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http as client;
use crate::peers::{Peer, free_port, program};
use crate::server::{Server, eventually, folder};

const PATIENCE: Duration = Duration::from_mins(1);

/// A headless Chromium that we drive, with a profile of its own.
struct Browser {
    client: Client,
    driver_url: String,
    _driver: Peer,
    _profile: TempDir,
}

impl Browser {
    /// `None`, and said, where there is no Chromium.
    async fn start(test: &str, log: &Path) -> Option<Self> {
        let chromium = program(test, "chromium")?;
        let chromedriver = program(test, "chromedriver")?;
        let port = free_port();
        let driver = Peer::start(Command::new(chromedriver).arg(format!("--port={port}")), log);
        let driver_url = format!("http://127.0.0.1:{port}");
        eventually("chromedriver", PATIENCE, async || {
            let request =
                Request::get(format!("{driver_url}/status")).body(Full::default()).unwrap();
            client::send(request).await
        })
        .await;
        let profile = tempfile::tempdir().unwrap();
        let options = json!({ "binary": chromium, "args": arguments(profile.path()) });
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(serde_json::Map::from_iter([
            ("browserName".to_owned(), json!("chrome")),
            ("goog:chromeOptions".to_owned(), options),
            ("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" })),
        ]));
        let client = builder.connect(&driver_url).await.unwrap();
        Some(Self { client, driver_url, _driver: driver, _profile: profile })
    }

    /// A command of Chromium's own protocol.
    async fn chromium(&self, command: &str, parameters: Value) -> Value {
        let session = self.client.session_id().await.unwrap().unwrap();
        let body = json!({ "cmd": command, "params": parameters }).to_string();
        let request =
            Request::post(format!("{}/session/{session}/goog/cdp/execute", self.driver_url))
                .header("content-type", "application/json")
                .body(Full::from(body))
                .unwrap();
        client::send(request).await.unwrap().json()
    }

    /// Draws as a screen of this width would, light or dark.
    async fn look(&self, width: u32, scheme: &str) {
        let screen =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.chromium("Emulation.setDeviceMetricsOverride", screen).await;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.chromium("Emulation.setEmulatedMedia", scheme).await;
    }

    /// The whole page as a PNG among the artefacts.
    async fn screenshot(&self, name: &str) {
        let picture =
            self.chromium("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let data = picture["value"]["data"].as_str().unwrap();
        let png = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        std::fs::write(artefacts().join(format!("{name}.png")), png).unwrap();
    }

    /// What the browser complained of: refused scripts, missing files, errors.
    async fn complaints(&self) -> Vec<String> {
        let session = self.client.session_id().await.unwrap().unwrap();
        let request = Request::post(format!("{}/session/{session}/se/log", self.driver_url))
            .header("content-type", "application/json")
            .body(Full::from(json!({ "type": "browser" }).to_string()))
            .unwrap();
        let log = client::send(request).await.unwrap().json();
        let lines = log["value"].as_array().cloned().unwrap_or_default();
        lines.iter().map(|line| line["message"].to_string()).collect()
    }

    /// The answer of a script on the page.
    async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }
}

fn arguments(profile: &Path) -> Vec<String> {
    let mut all: Vec<String> = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,900",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("--user-data-dir={}", profile.display()));
    all
}

/// Where pictures are kept for people.
fn artefacts() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// How many points the page's graphs have drawn: numbers in the paths of series.
const DRAWN: &str = "return [...document.querySelectorAll('svg .series path, svg .series polyline, \
                     svg .series polygon, svg .series circle')].length";

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_by_the_link_and_sees_this_host_and_its_graphs() {
    let dir = folder();
    let log = dir.path().join("driver.log");
    let Some(browser) = Browser::start("the browser", &log).await else { return };
    crate::server::config(dir.path(), "");
    let file = dir.path().join("roundel.toml");
    let server = Server::spawn(dir.path(), &["--config", file.to_str().unwrap()]);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();

    browser.client.goto(&server.link).await.unwrap();
    eventually("this host on the page of the fleet", PATIENCE, async || {
        browser.client.refresh().await.unwrap();
        browser.client.source().await.unwrap().contains(&host).then_some(())
    })
    .await;
    for (width, scheme) in [(1280, "light"), (1280, "dark"), (360, "light")] {
        browser.look(width, scheme).await;
        browser.screenshot(&format!("fleet-{scheme}-{width}")).await;
    }

    browser.look(1280, "light").await;
    browser.client.find(Locator::Css("tbody a")).await.unwrap().click().await.unwrap();
    let drawn = eventually("a drawn series", PATIENCE, async || {
        browser.client.refresh().await.unwrap();
        browser.ask(DRAWN).await.as_u64().filter(|drawn| *drawn > 0)
    })
    .await;
    assert!(drawn > 0);
    for (width, scheme) in [(1280, "light"), (1280, "dark"), (360, "light")] {
        browser.look(width, scheme).await;
        browser.screenshot(&format!("instance-{scheme}-{width}")).await;
        let wide = "return document.documentElement.scrollWidth > window.innerWidth";
        assert_eq!(browser.ask(wide).await, json!(false), "scrolls sideways at {width}");
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new(), "the browser complained");

    browser.client.delete_all_cookies().await.unwrap();
    browser.client.goto(&server.link).await.unwrap();
    let source = browser.client.source().await.unwrap();
    assert!(!source.contains(&host), "the link logged in twice");
    browser.client.clone().close().await.unwrap();
}
