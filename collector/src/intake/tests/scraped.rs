//! Tests of the scraper: targets on loopback, from their file to the store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use rrd::{Clock, MatchOp, Matcher, Timestamp};
use tokio::sync::oneshot;

use super::graphite::free;
use super::support::*;
use crate::accounting::Reason;
use crate::scrape::{self, Scraper};

/// Long enough for a busy machine; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A clock that goes on by itself from where the tests' clock stands.
struct Running(tokio::time::Instant);

impl Clock for Running {
    fn wall(&self) -> Timestamp {
        NOW.plus_millis(i64::try_from(self.0.elapsed().as_millis()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

type Said = Arc<Mutex<&'static str>>;

/// A target and what it says next; nothing is a failure.
async fn target(said: &'static str) -> (String, Said) {
    let said: Said = Arc::new(Mutex::new(said));
    let answer = said.clone();
    let say = move || async move {
        let said = *answer.lock().unwrap();
        if said.is_empty() { Err(StatusCode::BAD_GATEWAY) } else { Ok(said) }
    };
    let router = Router::new().route("/metrics", get(say));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, said)
}

struct Scraping {
    server: Server,
    folder: tempfile::TempDir,
    _stop: oneshot::Sender<()>,
}

impl Scraping {
    /// A scraper of the targets in `file`.
    fn of(file: &str) -> Self {
        let server = Server::start();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("web.json"), file).unwrap();
        let (stop, stopped) = oneshot::channel();
        let scraper = Scraper {
            intake: server.intake.clone(),
            clock: Arc::new(Running(tokio::time::Instant::now())),
            folder: folder.path().to_owned(),
        };
        tokio::spawn(scrape::run(scraper, async {
            stopped.await.ok();
        }));
        Self { server, folder, _stop: stop }
    }

    /// Waits until some series of `metric` is, or is not, under way.
    async fn until(&self, metric: &str, is_shown: bool) -> Option<rrd::SeriesInfo> {
        let matcher = Matcher::new(rrd::NAME, MatchOp::Equal, metric).unwrap();
        let waited = async {
            loop {
                let found = self.server.parts().store.select(std::slice::from_ref(&matcher));
                let shown = found.into_iter().find(|one| one.visible_ms.is_some() == is_shown);
                if shown.is_some() {
                    return shown;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waited).await;
        waited.unwrap_or_else(|_| panic!("{metric} is not shown: {is_shown}"))
    }
}

fn file(address: &str) -> String {
    format!(
        r#"[{{"targets": ["{address}"], "labels": {{"zone": "b", "__scrape_interval__": "1s"}}}}]"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_of_a_file_becomes_an_instance_whose_vanished_series_end() {
    let (address, said) = target("# TYPE hits counter\nhits{a=\"x,y\"} 1\ngone 1\n").await;
    let scraping = Scraping::of(&file(&address));
    let hits = scraping.until("hits", true).await.unwrap();
    assert_eq!(hits.kind, rrd::Kind::Total);
    let expected = format!(r#"hits{{a="x,y",instance="{address}",job="web",zone="b"}}"#);
    assert_eq!(hits.labels.to_string(), expected);
    scraping.until("gone", true).await;
    for own in ["up", "scrape_duration_seconds", "scrape_samples_scraped"] {
        scraping.until(own, true).await;
    }
    *said.lock().unwrap() = "# TYPE hits counter\nhits{a=\"x,y\"} 2\n";
    scraping.until("gone", false).await;
    scraping.until("hits", true).await;
    *said.lock().unwrap() = "";
    scraping.until("hits", false).await;
    scraping.until("up", true).await;
    std::fs::remove_file(scraping.folder.path().join("web.json")).unwrap();
    scraping.until("up", false).await;
    scraping.server.settle().await;
    assert_eq!(scraping.server.parts().accounting.total().in_flight(), 0);
}

/// Leaves no room in the journal.
fn fill(server: &Server) {
    let mut size = 256 << 10;
    while size > 0 {
        let filled = server.parts().journal.append(journal::TICK, &vec![0; size]);
        size = if filled.is_ok() { size } else { size / 2 };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_that_is_lost_is_in_the_books_and_what_vanished_in_it_ends_later() {
    let (address, said) = target("here 1\ngone 1\n").await;
    let mut scraping = Scraping::of(&file(&address));
    scraping.until("gone", true).await;
    scraping.server.stall();
    *said.lock().unwrap() = "# a comment\nhere 1\n";
    let lost = || {
        let total = scraping.server.parts().accounting.total();
        total.refused.get(&Reason::Unstored).copied().unwrap_or_default()
    };
    let two = async {
        while lost() < 2 * 5 {
            fill(&scraping.server);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, two).await.expect("lost scrapes are counted");
    scraping.server.resume();
    while scraping.server.parts().journal.stats().fill > 0.5 {
        free(&scraping.server);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    scraping.until("gone", false).await;
    scraping.until("here", true).await;
    scraping.server.settle().await;
    assert_eq!(scraping.server.parts().accounting.total().in_flight(), 0);
}
