//! Kill -9 in the middle of a steady push: every acknowledged sample is there afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use fixtures::remote_write::Series;

use crate::http;
use crate::server::{Server, eventually, folder};

/// How many series are pushed in every request.
const SERIES: usize = 20;
/// How many times the server is killed.
const KILLS: u32 = 5;
/// Steps of a second, so that a push faster than time has an hour of moments to use.
const POLICY: &str = "1s:1h,1m:1d";
/// The width of a step.
const STEP_MS: i64 = 1000;

/// What was acknowledged: (series, END) to value.
pub(crate) type Acknowledged = BTreeMap<(usize, i64), f64>;

pub(crate) fn start(dir: &Path) -> Server {
    Server::start(dir, &["--policy", POLICY])
}

/// The reading of a series at a moment; whole, so that f32 keeps it.
pub(crate) fn value(series: usize, at_ms: i64) -> f64 {
    let mixed = (at_ms / STEP_MS).wrapping_mul(31) + i64::try_from(series).unwrap() * 17;
    f64::from(i32::try_from(mixed.rem_euclid(100_000)).unwrap())
}

pub(crate) fn request(at_ms: i64) -> Vec<Series> {
    (0..SERIES)
        .map(|n| {
            let number = n.to_string();
            Series::new(&[
                ("__name__", "steady"),
                ("job", "crash"),
                ("instance", "i"),
                ("n", &number),
            ])
            .reading(at_ms, value(n, at_ms))
        })
        .collect()
}

/// Pushes one reading a series and step until the server stops answering.
pub(crate) async fn push_until_gone(url: &str, at_ms: &mut i64, acknowledged: &mut Acknowledged) {
    while let Some(answer) = http::remote_write(url, &request(*at_ms)).await {
        assert!(answer.status.is_success(), "{} {}", answer.status, answer.text());
        acknowledged.extend((0..SERIES).map(|n| ((n, *at_ms), value(n, *at_ms))));
        *at_ms += STEP_MS;
    }
}

/// All that the server answers for the metric over the pushed span.
pub(crate) async fn stored(url: &str, from_ms: i64, to_ms: i64) -> Acknowledged {
    let pairs = [
        ("query", "steady".to_owned()),
        ("start", (from_ms / 1000).to_string()),
        ("end", (to_ms / 1000).to_string()),
        ("step", (STEP_MS / 1000).to_string()),
    ];
    let answer = http::get(&format!("{url}/api/v1/query_range?{}", http::encoded(&pairs))).await;
    let json = answer.json();
    assert_eq!(json["status"], "success", "{json}");
    let mut found = Acknowledged::new();
    for line in json["data"]["result"].as_array().unwrap() {
        let series = line["metric"]["n"].as_str().unwrap().parse().unwrap();
        for point in line["values"].as_array().unwrap() {
            #[expect(clippy::cast_possible_truncation, reason = "whole seconds of this century")]
            let at_ms = (point[0].as_f64().unwrap() * 1000.0) as i64;
            found.insert((series, at_ms), point[1].as_str().unwrap().parse().unwrap());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_sample_survives_kill_9() {
    let dir = folder();
    // From the past on, so that nothing is refused as future and the ring of an hour holds all.
    let now_ms = i64::try_from(now_secs()).unwrap() * 1000;
    let from_ms = (now_ms - 3_000_000) / STEP_MS * STEP_MS;
    let mut at_ms = from_ms;
    let mut acknowledged = Acknowledged::new();
    for kill in 0..KILLS {
        let server = start(dir.path());
        let url = server.url.clone();
        let pause = Duration::from_millis(40 + 70 * u64::from(kill));
        let killer = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            server.kill();
        });
        push_until_gone(&url, &mut at_ms, &mut acknowledged).await;
        killer.await.unwrap();
    }
    assert!(acknowledged.len() > SERIES * 10, "the push was no push: {}", acknowledged.len());
    let server = start(dir.path());
    let found = stored(&server.url, from_ms, at_ms).await;
    let lost: Vec<_> = acknowledged.iter().filter(|(key, v)| found.get(key) != Some(v)).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_keep_everything() {
    let dir = folder();
    let server = start(dir.path());
    let now_ms = i64::try_from(now_secs()).unwrap() * 1000;
    let from_ms = (now_ms - 600_000) / STEP_MS * STEP_MS;
    for step in 0..30 {
        let answer =
            http::remote_write(&server.url, &request(from_ms + step * STEP_MS)).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    let to_ms = from_ms + 29 * STEP_MS;
    let url = server.url.clone();
    let whole = SERIES * 30;
    let before = eventually("all rows", Duration::from_secs(5), async || {
        let found = stored(&url, from_ms, to_ms).await;
        (found.len() == whole).then_some(found)
    })
    .await;
    assert!(server.stop().success());
    let server = start(dir.path());
    assert_eq!(stored(&server.url, from_ms, to_ms).await, before);
}

#[expect(clippy::disallowed_methods, reason = "a test drives the real program in real time")]
pub(crate) fn now_secs() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
