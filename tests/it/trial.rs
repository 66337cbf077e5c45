//! A trial of a sender: it sends through a front to a server that is killed twice, beside a Prometheus
//! that scrapes the same figures; what both know afterwards is compared.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tempfile::TempDir;

use crate::front::Front;
use crate::http;
use crate::peers::{Peer, free_port, program};
use crate::server::{Server, eventually, folder};
use crate::steady::now_secs;

const PATIENCE: Duration = Duration::from_mins(1);
/// Steps of a second, so that rows close soon.
const POLICY: [&str; 2] = ["--policy", "1s:1h,1m:1d"];
/// Seconds of one wave; a trial is compared over whole waves, whose mean is the same everywhere.
const WAVE_SECS: u64 = 10;

/// Figures that follow from the time alone: a counter of 7 a second and a wave around 100.
#[derive(Clone)]
pub(crate) struct Figures {
    from: f64,
}

impl Figures {
    fn now() -> Self {
        Self { from: now() }
    }

    pub(crate) fn work(&self) -> f64 {
        1000.0 + 7.0 * (now() - self.from)
    }

    pub(crate) fn wave(&self) -> f64 {
        let period = f64::from(u32::try_from(WAVE_SECS).unwrap());
        100.0 + 50.0 * ((now() - self.from) / period * std::f64::consts::TAU).sin()
    }

    fn text(&self) -> String {
        format!(
            "# TYPE work_total counter\nwork_total {}\n# TYPE wave gauge\nwave {}\n",
            self.work(),
            self.wave()
        )
    }
}

#[expect(clippy::disallowed_methods, reason = "a test drives the real program in real time")]
fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Seconds that a trial is compared over; `ROUNDEL_TRIAL_SECS` makes it longer, and its outages.
fn trial_secs() -> u64 {
    std::env::var("ROUNDEL_TRIAL_SECS").map_or(30, |text| text.parse().unwrap())
}

/// What a sender keeps for later while nobody takes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    Everything,
    /// Its counts alone, which go on by themselves.
    Counts,
}

pub(crate) struct Trial {
    pub(crate) dir: TempDir,
    pub(crate) front: Front,
    pub(crate) figures: Figures,
    /// Where the figures can be scraped.
    pub(crate) target: String,
    server: Option<Server>,
    reference: String,
    _reference: Peer,
    /// Scrapes by the reference: once a second, and so the clock of the trial.
    ticks: Arc<AtomicU64>,
}

impl Trial {
    /// A server, a front before it, and a Prometheus that scrapes what the sender will send. `None`
    /// without Prometheus.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let prometheus = program(test, "prometheus")?;
        let (dir, figures) = (folder(), Figures::now());
        let (target, ticks) = exporter(figures.clone()).await;
        let file = dir.path().join("reference.yml");
        let config = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: reference\n  \
             metrics_path: /reference\n  static_configs:\n  - targets: ['{target}']\n"
        );
        std::fs::write(&file, config).unwrap();
        let port = free_port();
        let reference = Peer::start(
            Command::new(prometheus)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", dir.path().join("reference").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}")),
            &dir.path().join("reference.log"),
        );
        let server = Server::start(dir.path(), &POLICY);
        let front = Front::start().await;
        front.lead_to(&server.url);
        Some(Self {
            dir,
            front,
            figures,
            target,
            server: Some(server),
            reference: format!("http://127.0.0.1:{port}"),
            _reference: reference,
            ticks,
        })
    }

    /// The file of a test's configuration, or of what a program says.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Lets the sender send, kills the server twice, turns the sender away in between, and compares what
    /// `keeps` says.
    pub(crate) async fn run(mut self, keeps: Keeps) {
        let (secs, pause) = if trial_secs() > 60 { (trial_secs(), 30) } else { (trial_secs(), 3) };
        for what in ["work_total", "wave"] {
            eventually(what, PATIENCE, async || {
                http::query(self.url(), what, None).await.first().map(|_| ())
            })
            .await;
        }
        let begin = now_secs();
        self.pass(secs / 4).await;
        self.kill(pause).await;
        self.pass(secs / 4).await;
        let server = self.front.close().unwrap();
        self.pass(pause).await;
        self.front.lead_to(&server);
        self.pass(secs / 4).await;
        self.kill(pause).await;
        self.pass(secs / 4).await;
        let end = now_secs();
        self.compare(end, (end - begin) / WAVE_SECS * WAVE_SECS, keeps).await;
    }

    fn url(&self) -> &str {
        &self.server.as_ref().unwrap().url
    }

    /// Waits for so many seconds of the reference.
    async fn pass(&self, secs: u64) {
        let until = self.ticks.load(Ordering::SeqCst) + secs;
        let limit = PATIENCE + Duration::from_secs(2 * secs);
        eventually("the reference's scrapes", limit, async || {
            (self.ticks.load(Ordering::SeqCst) >= until).then_some(())
        })
        .await;
    }

    /// kill -9, a while without a server, and a new one on the same folder.
    async fn kill(&mut self, pause: u64) {
        self.server.take().unwrap().kill();
        self.pass(pause).await;
        let server = Server::start(self.dir.path(), &POLICY);
        self.front.lead_to(&server.url);
        self.server = Some(server);
    }

    /// Every second is known, and mean and increase are those of the reference within 1 %.
    async fn compare(self, end: u64, secs: u64, keeps: Keeps) {
        let at = f64::from(u32::try_from(end).unwrap());
        let ask = async |url: &str, expr: &str| -> Option<f64> {
            let found = http::query(url, expr, Some(at)).await;
            assert!(found.len() < 2, "{expr}: {found:?}");
            found.first().map(|one| one["value"][1].as_str().unwrap().parse().unwrap())
        };
        let known = format!("count_over_time(wave[{secs}s])");
        let rows = f64::from(u32::try_from(secs).unwrap());
        eventually("a known row for every second", PATIENCE, async || {
            ask(self.url(), &known).await.filter(|count| *count >= rows)
        })
        .await;
        let mean = format!("avg_over_time(wave[{secs}s])");
        let mean = (keeps == Keeps::Everything).then_some(mean);
        for expr in mean.into_iter().chain([format!("increase(work_total[{secs}s])")]) {
            let expected = ask(&self.reference, &expr).await.expect("the reference knows it");
            let close = async || {
                let found = ask(self.url(), &expr).await?;
                ((found - expected).abs() < expected * 0.01).then_some(found)
            };
            let what = format!("{expr} to be {expected} within 1 %");
            let found = eventually(&what, Duration::from_secs(20), close).await;
            self.say(&format!("{expr}: {found}, the reference has {expected}"));
        }
        let books = eventually("books that balance", PATIENCE, async || {
            let books = http::get(&format!("{}/api/v1/accounting", self.url())).await.json();
            (books["total"]["in_flight"] == 0).then_some(books)
        })
        .await;
        let turned_away = self.front.turned_away();
        self.say(&format!("{turned_away} requests turned away; the books: {}", books["total"]));
        assert!(turned_away > 0, "the sender never met an outage");
        assert_eq!(books["total"]["refused"], serde_json::json!({}), "{books}");
    }

    #[expect(clippy::print_stderr, reason = "the figures of a long trial are its result")]
    fn say(&self, line: &str) {
        eprintln!("{}: {line}", self.target);
    }
}

/// Serves the figures under two paths, and counts the scrapes of the reference.
async fn exporter(figures: Figures) -> (String, Arc<AtomicU64>) {
    let ticks = Arc::new(AtomicU64::new(0));
    let (counted, shown) = (ticks.clone(), figures.clone());
    let router = Router::new().route("/metrics", get(async move || shown.text())).route(
        "/reference",
        get(async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            figures.text()
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (target, ticks)
}

/// Writes a file of a trial.
pub(crate) fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}
