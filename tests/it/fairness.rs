//! Limits for each sender and the stop between them, by the real server: a relay that floods is asked
//! to wait, an agent is not.

use std::time::Duration;

use fixtures::remote_write::{Series, body};
use serde_json::json;

use crate::bad_input::write_request;
use crate::http;
use crate::server::{Server, config, eventually, folder};
use crate::steady::now_secs;

async fn relay(server: &Server) -> String {
    let token = json!({ "kind": "relay" });
    let token = http::post_json(&format!("{}/v1/tokens", server.url), &token).await.json();
    token["token"].as_str().unwrap().to_owned()
}

fn samples(instance: &str, count: u64) -> Vec<u8> {
    let labels = [("__name__", "level"), ("job", "fair"), ("instance", instance)];
    let now = i64::try_from(now_secs()).unwrap();
    let series = (0..i64::try_from(count).unwrap())
        .fold(Series::new(&labels), |series, back| series.reading((now - back) * 1000, 1.0));
    body(&[series])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_above_its_rate_waits_and_the_books_hold_only_what_was_taken() {
    let dir = folder();
    let file = config(dir.path(), "[limits.relay]\nsamples_per_s = 10\n");
    let more = ["--policy", "1s:1h", "--config", file.to_str().unwrap()];
    let server = Server::start(dir.path(), &more);
    let (flood, calm) = (relay(&server).await, relay(&server).await);
    let send = async |token: &str, count| {
        let request = write_request(&server.url, token, samples("a", count));
        http::send(request).await.unwrap()
    };
    assert_eq!(send(&flood, 1_000).await.status, 204, "a request is never taken in part");
    let refused = send(&flood, 1).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["error"], "rate");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((70..=95).contains(&wait), "{wait}: eight hundred in debt at ten a second");
    assert_eq!(send(&calm, 10).await.status, 204);
    eventually("the books to balance", Duration::from_secs(10), async || {
        let books = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
        let total = &books["total"];
        (total["in_flight"] == 0).then(|| {
            assert_eq!(total["received"], 1_010, "{books}");
            let senders = books["senders"].as_array().unwrap();
            let received: Vec<_> = senders.iter().map(|line| &line["received"]).collect();
            assert!(received.contains(&&json!(1_000)) && received.contains(&&json!(10)), "{books}");
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_relay_does_not_turn_another_sender_away() {
    let dir = folder();
    let server = Server::start(dir.path(), &["--policy", "1s:1h"]);
    let (flood, calm) = (relay(&server).await, relay(&server).await);
    // Larger than a sender's turn, and all at once.
    let large = samples("flood", 3_000);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..64 {
        requests.spawn(http::send(write_request(&server.url, &flood, large.clone())));
    }
    for _ in 0..20 {
        let answer =
            http::send(write_request(&server.url, &calm, samples("calm", 10))).await.unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    for answer in requests.join_all().await {
        let answer = answer.expect("every request is answered");
        assert!(matches!(answer.status.as_u16(), 204 | 503), "{}", answer.text());
    }
}
