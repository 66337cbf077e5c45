//! Tests of the books and of limits for each sender: random requests of several senders balance;
//! who brings too much waits and nobody else does.

use std::collections::BTreeMap;
use std::task::Poll;

use proptest::prelude::*;
use serde_json::json;

use super::support::*;
use crate::accounting::{Counts, Way};
use crate::intake::{Rate, Rates, Sender};
use crate::registry::TokenId;

/// One series of a random request: its name, the seconds of its samples, whether it repeats a label.
type Wished = (u8, Vec<i64>, bool);

fn body(wished: &[Wished]) -> WriteBody {
    wished.iter().fold(WriteBody::default(), |body, (name, seconds, is_bad)| {
        let metric = format!("m{}", name % 5);
        let instance = format!("i{}", name % 3);
        let mut labels = vec![("__name__", metric.as_str()), ("job", "j"), ("instance", &instance)];
        if *is_bad {
            labels.extend([("a", "1"), ("a", "2")]);
        }
        let samples: Vec<_> = seconds.iter().map(|secs| (at(*secs), 1.0)).collect();
        body.series(&labels, &samples)
    })
}

fn sum<'a>(all: impl Iterator<Item = &'a Counts>) -> [u64; 5] {
    let mut sum = [0; 5];
    for counts in all {
        let parts =
            [counts.received, counts.stored, counts.duplicate, counts.late, counts.refused_total()];
        sum.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
    }
    sum
}

#[test]
fn the_books_balance_by_instance_and_by_way_whatever_comes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let rules = json!({"rules": [
        {"source_labels": ["__name__"], "regex": "m3", "action": "drop"}]});
    let senders = runtime.block_on(async {
        let plain = server.token(json!({"kind": "relay"})).await;
        let ruled = server.token(json!({"kind": "relay", "relabel": rules})).await;
        [plain, ruled, ADMIN.to_owned()]
    });
    // Seconds reach from before every archive to beyond the future limit.
    let seconds = proptest::collection::vec(-200_000_i64..1_200, 0..6);
    let series = proptest::collection::vec((any::<u8>(), seconds, any::<bool>()), 0..6);
    let received = std::cell::Cell::new(0);
    proptest!(ProptestConfig::with_cases(64), |(sender in 0..3_usize, wished in series)| {
        let answer = runtime.block_on(server.write(&senders[sender], &body(&wished).0));
        prop_assert!(matches!(answer.status.as_u16(), 204 | 400), "{}", answer.status);
        let more: usize = wished.iter().map(|(_, seconds, _)| seconds.len()).sum();
        received.set(received.get() + more);
    });
    runtime.block_on(server.settle());
    let books = &server.parts().accounting;
    let total = books.total();
    let whole = sum(std::iter::once(&total));
    assert_eq!(whole[0], u64::try_from(received.get()).unwrap());
    let (instances, ways) = (books.instances(), books.ways());
    assert_eq!(sum(instances.iter().map(|(_, counts)| counts)), whole);
    assert_eq!(sum(ways.iter().map(|(_, counts)| counts)), whole);
    for (who, counts) in &instances {
        assert_eq!(counts.in_flight(), 0, "{who:?}: {counts:?}");
    }
    for (way, counts) in &ways {
        assert_eq!(counts.in_flight(), 0, "{way:?}: {counts:?}");
    }
    assert_eq!(ways.len(), 3);
    assert!(total.refused[&crate::accounting::Reason::Relabelled] > 0);
}

#[tokio::test]
async fn the_books_name_senders_and_what_they_could_do_better() {
    let server = Server::start();
    let relay = server.token(json!({"kind": "relay", "name": "prod"})).await;
    let up = [("__name__", "up"), ("job", "j"), ("instance", "a")];
    for secs in [0, 0, 60, 3_600] {
        server.write(&relay, &WriteBody::default().series(&up, &[(at(secs), 1.0)]).0).await;
    }
    server.settle().await;
    let books = server.get("/api/v1/accounting").await.json;
    let senders: BTreeMap<&str, &serde_json::Value> = books["senders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["name"].as_str().unwrap(), line))
        .collect();
    let line = senders["prod"];
    assert_eq!(line["protocol"], "remote_write");
    assert_eq!((line["received"].as_u64(), line["duplicate"].as_u64()), (Some(4), Some(1)));
    assert_eq!(line["refused"], json!({"future": 1}));
    let advice = line["advice"].to_string();
    assert!(advice.contains("clock") && advice.contains("drop_labels"), "{advice}");
}

#[tokio::test]
async fn a_sender_above_its_rate_is_asked_to_wait_and_the_others_are_not() {
    let server = Server::start();
    let (one, two) = (
        server.token(json!({"kind": "relay"})).await,
        server.token(json!({"kind": "relay"})).await,
    );
    let few = Rate { samples: 10, bytes: 0 };
    server.intake.limit_rates(Rates { instance: few, relay: few });
    let up = [("__name__", "up"), ("job", "j"), ("instance", "a")];
    let burst: Vec<_> = (0..250).map(|second| (at(-second), 1.0)).collect();
    let body = WriteBody::default().series(&up, &burst).0;
    assert_eq!(server.write(&one, &body).await.status, 204, "a burst is taken whole");
    let refused = server.write(&one, &body).await.is(503, "rate");
    let secs: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((6..=16).contains(&secs), "{secs}: fifty in debt at ten a second, and a spread of ten");
    assert_eq!(server.write(&two, &body).await.status, 204);
    server.clock.advance(std::time::Duration::from_secs(6));
    assert_eq!(server.write(&one, &body).await.status, 204);
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.in_flight()), (750, 0), "what waits is not received");
}

#[tokio::test]
async fn a_push_waits_for_its_turn_behind_no_more_than_a_round_of_a_relay() {
    let server = Server::start();
    let join = server.token(json!({"kind": "join"})).await;
    let told = server.enroll(&join, "web", 1).await;
    let inner = &server.intake.0;
    let relay = crate::intake::Sender::Relay(Some(TokenId(1)));
    // Every turn there is, and a flood behind them.
    let mut held = Vec::new();
    while let Ok(turn) =
        tokio::time::timeout(std::time::Duration::from_millis(50), inner.turns.take(relay, 1)).await
    {
        held.push(turn);
    }
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let turns = inner.turns.clone();
        flood.spawn(async move {
            let _turn = turns.take(relay, 8 << 20).await;
            std::future::pending::<()>().await;
        });
    }
    let push = empty_push(told.id);
    let pushed = server.push(&told.credential, &push);
    tokio::pin!(pushed);
    let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut pushed).await;
    assert!(early.is_err(), "it has no turn yet");
    // The turns of the flood are never given back: the push is answered only if it goes first.
    drop(held.pop());
    assert_eq!(pushed.await.status, 200);
    let way = Way::native(Some(join_id(&server)));
    assert!(server.parts().accounting.ways().iter().any(|(found, _)| *found == way));
}

/// Sends a request and hangs up once samples of it stand in the books, before it is answered.
async fn hang_up(server: &Server, request: http::Request<axum::body::Body>) {
    let before = server.parts().accounting.total().received;
    let mut sent = std::pin::pin!(server.send(request));
    while server.parts().accounting.total().received == before {
        let polled = std::future::poll_fn(|context| Poll::Ready(sent.as_mut().poll(context))).await;
        if polled.is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Waits until `sender` has to.
async fn pays(server: &Server, sender: Sender) {
    let inner = &server.intake.0;
    let wait = || inner.meters.wait(sender, inner.parts.clock.monotonic());
    let charged = async {
        while wait().is_none() {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(10), charged).await;
    assert!(in_time.is_ok(), "{sender:?} is not charged");
}

#[tokio::test]
async fn who_hangs_up_before_the_answer_pays_for_what_it_brought() {
    let readings: Vec<_> = (0..30).map(|second| (at(-second), 1.0)).collect();
    let push = |id| crate::native::Push {
        dictionary: vec![crate::native::Entry {
            id: 0,
            kind: 0,
            labels: vec![("__name__".to_owned(), "up".to_owned())],
        }],
        readings: readings
            .iter()
            .map(|(at, value)| crate::native::Reading {
                at_ms: at.as_millis(),
                values: vec![(0, *value)],
            })
            .collect(),
        ..empty_push(id)
    };
    for few in [Rate { samples: 1, bytes: 0 }, Rate { samples: 0, bytes: 1 }] {
        let server = Server::start();
        let join = server.token(json!({"kind": "join"})).await;
        let told = server.enroll(&join, "web", 1).await;
        server.intake.limit_rates(Rates { instance: few, relay: few });
        let body = push(told.id).encode();
        let pushed = request("POST", "/v1/push", &told.credential)
            .header("content-type", crate::native::PUSH_CONTENT_TYPE)
            .body(body.into());
        hang_up(&server, pushed.unwrap()).await;
        pays(&server, Sender::Instance(rrd::InstanceId(told.id))).await;

        let up = [("__name__", "up"), ("job", "j"), ("instance", "a")];
        let body = WriteBody::default().series(&up, &readings).0;
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        hang_up(&server, write_request(ADMIN, &body)).await;
        pays(&server, Sender::Relay(None)).await;
    }
}

fn join_id(server: &Server) -> TokenId {
    server.parts().registry.tokens()[0].id
}
