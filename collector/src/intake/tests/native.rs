//! Tests of pushes: order, dictionary, refusals.

use serde_json::json;

use super::support::*;
use crate::limits::{FUTURE_LIMIT_MS, SERIES_GRANT};
use crate::native::{EnrollAnswer, Entry, PUSH_SAMPLE_LIMIT, Push, Reading};

struct Agent {
    enrolled: EnrollAnswer,
    incarnation: u64,
    number: u64,
}

impl Agent {
    async fn of(server: &Server) -> Self {
        let token = server.token(json!({"kind": "join"})).await;
        Self { enrolled: server.enroll(&token, "web", 1).await, incarnation: 5, number: 0 }
    }

    /// The next batch, with the dictionary entries `define` and one reading of `values`.
    fn next(&mut self, define: &[u32], values: &[(u32, f64)]) -> Push {
        self.number += 1;
        Push {
            instance: self.enrolled.id,
            incarnation: self.incarnation,
            boot_id: 1,
            number: self.number,
            floor: 1,
            sent_ms: NOW.as_millis(),
            dictionary: define.iter().map(|id| entry(*id, &format!("m{id}"))).collect(),
            readings: vec![Reading {
                at_ms: at(i64::try_from(self.number).unwrap()).as_millis(),
                values: values.to_vec(),
            }],
        }
    }
}

fn entry(id: u32, metric: &str) -> Entry {
    Entry { id, kind: 0, labels: vec![("__name__".to_owned(), metric.to_owned())] }
}

#[tokio::test]
async fn a_push_is_answered_when_durable_and_the_books_balance() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    let answer = server.push(&credential, &agent.next(&[0, 1], &[(0, 1.0), (1, 2.0)])).await;
    assert_eq!((answer.status.as_u16(), &answer.json["samples"]), (200, &json!(2)));
    assert_eq!(answer.json["accepted"], answer.json["durable"]);
    assert_eq!(answer.json["durable"]["log_epoch"], server.parts().journal.epoch());
    let answer = server.push(&credential, &agent.next(&[], &[(0, 1.0)])).await;
    assert_eq!(answer.status, 200);
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.stored, total.in_flight()), (3, 3, 0));
    let report = server.get("/api/v1/accounting").await.json;
    assert_eq!(report["total"]["stored"], 3);
    let id = rrd::InstanceId(agent.enrolled.id);
    assert_eq!(server.parts().registry.last_seen(id), Some(wall(&server)));
}

#[tokio::test]
async fn a_repeat_is_a_success_and_is_stored_once() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    let push = agent.next(&[0], &[(0, 1.0)]);
    let first = server.push(&credential, &push).await;
    let again = server.push(&credential, &push).await;
    assert_eq!((again.status.as_u16(), &again.json["samples"]), (200, &json!(0)));
    assert_eq!(again.json["accepted"], first.json["accepted"]);
    server.settle().await;
    assert_eq!(server.parts().accounting.total().received, 1);
}

#[tokio::test]
async fn a_gap_above_the_floor_is_refused_and_below_it_taken() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    let first = agent.next(&[0], &[(0, 1.0)]);
    server.push(&credential, &first).await;
    agent.number = 4;
    let mut fifth = agent.next(&[], &[(0, 5.0)]);
    fifth.floor = 2;
    let answer = server.push(&credential, &fifth).await.is(409, "gap");
    assert_eq!(answer.json["resend_from"], 2);
    fifth.floor = 5;
    assert_eq!(server.push(&credential, &fifth).await.status, 200);
    server.settle().await;
    assert_eq!(server.parts().accounting.total().received, 2);
}

#[tokio::test]
async fn a_restarted_server_knows_the_batch_and_asks_for_the_dictionary() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    let first = agent.next(&[0], &[(0, 1.0)]);
    server.push(&credential, &first).await;
    server.settle().await;
    let (disk, registry) = server.stop();
    let server = Server::over(disk, registry);
    let repeat = server.push(&credential, &first).await;
    assert_eq!((repeat.status.as_u16(), &repeat.json["samples"]), (200, &json!(0)));
    let mut second = agent.next(&[], &[(0, 2.0)]);
    let answer = server.push(&credential, &second).await.is(409, "dictionary");
    assert_eq!(answer.json["resend_dictionary"], true);
    second.dictionary = vec![entry(0, "m0")];
    assert_eq!(server.push(&credential, &second).await.status, 200);
}

#[tokio::test]
async fn a_new_incarnation_starts_anew_with_its_own_dictionary() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    server.push(&credential, &agent.next(&[0], &[(0, 1.0)])).await;
    server.push(&credential, &agent.next(&[], &[(0, 1.0)])).await;
    (agent.incarnation, agent.number) = (6, 0);
    let mut first = agent.next(&[], &[(0, 1.0)]);
    server.push(&credential, &first).await.is(409, "dictionary");
    first.dictionary = vec![entry(0, "m0")];
    assert_eq!(server.push(&credential, &first).await.status, 200);
}

#[tokio::test]
async fn bad_samples_are_named_and_good_ones_stored() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    let mut push = agent.next(&[0], &[(0, 1.0), (1, 1.0)]);
    push.dictionary.push(Entry { id: 1, kind: 0, labels: vec![("a".to_owned(), "b".to_owned())] });
    let early = NOW.plus_millis(FUTURE_LIMIT_MS + 1).as_millis();
    push.readings.push(Reading { at_ms: early, values: vec![(0, 1.0)] });
    push.readings.push(Reading { at_ms: i64::MIN, values: vec![(0, 1.0)] });
    let answer = server.push(&credential, &push).await;
    assert_eq!((answer.status.as_u16(), &answer.json["samples"]), (200, &json!(1)));
    assert_eq!(answer.reasons(), ["no_name", "future", "too_old"]);
    assert_eq!(answer.json["refused_samples"], 3);
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.refused_total(), total.in_flight()), (4, 3, 0));
}

#[tokio::test]
async fn a_batch_of_refusals_still_counts_as_taken() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    let mut first = agent.next(&[0], &[(0, 1.0)]);
    first.readings[0].at_ms = 0;
    assert_eq!(server.push(&credential, &first).await.status, 200);
    assert_eq!(server.push(&credential, &agent.next(&[], &[(0, 1.0)])).await.status, 200);
}

#[tokio::test]
async fn series_beyond_the_grant_are_refused_one_by_one() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    let ids: Vec<u32> = (0..u32::try_from(SERIES_GRANT).unwrap() + 3).collect();
    let values: Vec<(u32, f64)> = ids.iter().map(|id| (*id, 1.0)).collect();
    let answer = server.push(&credential, &agent.next(&ids, &values)).await;
    assert_eq!(answer.json["samples"], SERIES_GRANT);
    assert_eq!(answer.reasons(), ["series_limit"; 3]);
}

#[tokio::test]
async fn pushes_that_cannot_be_right_are_refused() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    let good = agent.next(&[0], &[(0, 1.0)]);
    let token = server.token(json!({"kind": "relay"})).await;
    server.push(&token, &good).await.is(403, "forbidden");
    server.push("nobody", &good).await.is(401, "unauthorised");
    let wrong = |change: &dyn Fn(&mut Push)| {
        let mut push = good.clone();
        change(&mut push);
        push
    };
    for (push, status, word) in [
        (wrong(&|push| push.instance = 7), 403, "forbidden"),
        (wrong(&|push| push.number = 0), 400, "bad_request"),
        (wrong(&|push| push.floor = 0), 400, "bad_request"),
        (wrong(&|push| push.floor = 2), 400, "bad_request"),
        (wrong(&|push| push.dictionary[0].id = u32::MAX), 400, "bad_request"),
        (wrong(&|push| push.readings[0].values = vec![(9, 1.0)]), 409, "dictionary"),
        (
            wrong(&|push| push.readings[0].values = vec![(0, 1.0); PUSH_SAMPLE_LIMIT + 1]),
            400,
            "bad_request",
        ),
    ] {
        server.push(&credential, &push).await.is(status, word);
    }
    let typed =
        |kind: &'static str| request("POST", "/v1/push", &credential).header("content-type", kind);
    let plain = typed("text/plain").body(good.encode().into()).unwrap();
    server.send(plain).await.is(415, "unsupported");
    let frame = crate::native::PUSH_CONTENT_TYPE;
    let cut = typed(frame).body(good.encode()[..20].to_vec().into()).unwrap();
    server.send(cut).await.is(400, "bad_request");
    let large = typed(frame).body(vec![0; (1 << 20) + 1].into()).unwrap();
    server.send(large).await.is(413, "too_large");
    assert_eq!(server.push(&credential, &good).await.status, 200);
    server.settle().await;
    assert_eq!(server.parts().accounting.total().received, 1);
}

#[tokio::test]
async fn a_full_disk_is_told_before_the_batch_is_taken() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    server.fill_disk();
    let first = agent.next(&[0], &[(0, 1.0)]);
    server.push(&credential, &first).await.is(507, "disk_full");
    server.disk.set_capacity(u64::MAX);
    let answer = server.push(&credential, &first).await;
    assert_eq!((answer.status.as_u16(), &answer.json["samples"]), (200, &json!(1)));
}

#[tokio::test]
async fn series_whose_labels_fill_more_than_a_frame_of_the_journal_are_granted_in_parts() {
    let server = Server::start();
    let mut agent = Agent::of(&server).await;
    let credential = agent.enrolled.credential.clone();
    let values: Vec<(u32, f64)> = (0..700).map(|id| (id, 1.0)).collect();
    let mut push = agent.next(&[], &values);
    push.dictionary = (0..700).map(|id| entry(id, &format!("m{id}"))).collect();
    for entry in &mut push.dictionary {
        entry.labels.push(("path".to_owned(), "x".repeat(1000)));
    }
    let answer = server.push(&credential, &push).await;
    assert_eq!((answer.status.as_u16(), &answer.json["samples"]), (200, &json!(700)));
}
