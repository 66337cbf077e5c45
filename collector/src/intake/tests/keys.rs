//! Tests of machines with keys: enrolled, waiting, approved, renewed, back, cloned.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use http_body_util::BodyExt as _;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rrd::hex::Hex;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::super::router;
use super::support::*;
use crate::identity::{KEY_HEADER, PROOF_HEADER, Signed, TIME_HEADER};
use crate::lifecycle::State;
use crate::native::{EnrollAnswer, Entry, Push, Reading};

/// A machine with a key, and the boot it is in.
pub(super) struct Machine {
    pair: Ed25519KeyPair,
    pub(super) name: String,
    pub(super) boot: u128,
    /// Added to the server's clock for each proof, so that no two have one time.
    proofs: std::cell::Cell<i64>,
}

impl Machine {
    pub(super) fn of(seed: u64, name: &str) -> Self {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            pair: Ed25519KeyPair::from_seed_unchecked(&bytes).unwrap(),
            name: name.to_owned(),
            boot: u128::from(seed) + 1,
            proofs: std::cell::Cell::new(0),
        }
    }

    /// A request signed with its key.
    pub(super) fn request(
        &self,
        server: &Server,
        (method, path, secret): (&str, &str, Option<&str>),
        body: &str,
    ) -> Request<Body> {
        self.proofs.set(self.proofs.get() + 1);
        let at = wall(server).plus_millis(self.proofs.get());
        let signed = Signed { method, path, at, body: body.as_bytes() };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(KEY_HEADER, Hex(self.pair.public_key().as_ref()).to_string())
            .header(TIME_HEADER, at.as_millis().to_string())
            .header(PROOF_HEADER, Hex(self.pair.sign(&signed.bytes()).as_ref()).to_string())
            .extension(ConnectInfo(SocketAddr::from(([10, 1, 2, 3], 4000))));
        if let Some(secret) = secret {
            request = request.header("authorization", format!("Bearer {secret}"));
        }
        request.body(Body::from(body.to_owned())).unwrap()
    }

    pub(super) async fn asks(
        &self,
        server: &Server,
        secret: Option<&str>,
        labels: Value,
    ) -> Answer {
        let boot = format!("{:032x}", self.boot);
        let body = json!({"name": self.name, "boot_id": boot, "labels": labels}).to_string();
        server.send(self.request(server, ("POST", "/v1/enroll", secret), &body)).await
    }

    pub(super) async fn enrols(&self, server: &Server, secret: &str) -> EnrollAnswer {
        let answer = self.asks(server, Some(secret), json!({})).await;
        assert_eq!(answer.status, 201, "{:?}", answer.json);
        serde_json::from_value(answer.json).unwrap()
    }

    async fn polls(&self, server: &Server, request: &str) -> Answer {
        let path = format!("/v1/enroll/{request}");
        server.send(self.request(server, ("GET", &path, None), "")).await
    }
}

/// A push of one reading by a process of a machine.
pub(super) fn push(
    enrolled: &EnrollAnswer,
    life: (u64, u128),
    number: u64,
    at: rrd::Timestamp,
) -> Push {
    let labels = vec![("__name__".to_owned(), "load".to_owned())];
    Push {
        instance: enrolled.id,
        incarnation: life.0,
        boot_id: life.1,
        number,
        floor: number,
        sent_ms: at.as_millis(),
        dictionary: vec![Entry { id: 0, kind: 1, labels }],
        readings: vec![Reading { at_ms: at.as_millis(), values: vec![(0, 1.0)] }],
    }
}

#[track_caller]
fn state_of(server: &Server, id: u128) -> State {
    server.parts().registry.instance(rrd::InstanceId(id)).unwrap().lifecycle.state
}

async fn act(server: &Server, id: u128, word: &str, body: Value) -> Answer {
    server.json("POST", &format!("/v1/instances/{id:032x}/{word}"), ADMIN, body).await
}

#[tokio::test]
async fn a_machine_is_its_key_wherever_its_name_and_boot_come_from() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join", "labels": {"team": "a"}})).await;
    let (web, same_name) = (Machine::of(1, "web"), Machine::of(2, "web"));
    let first = web.enrols(&server, &token).await;
    assert!(first.expires_ms.unwrap() > wall(&server).as_millis(), "it can be renewed");
    let other = same_name.enrols(&server, &token).await;
    assert_eq!(
        (first.labels["instance"].as_str(), other.labels["instance"].as_str()),
        ("web", "web-2")
    );
    // The same key again: the same instance, with or without a token, and a name of its own.
    let again = web.asks(&server, None, json!({})).await;
    assert_eq!(
        (again.status.as_u16(), &again.json["id"]),
        (201, &json!(format!("{:032x}", first.id)))
    );
    assert_ne!(again.json["credential"], json!(first.credential));
    // Who claims its boot without its key is another.
    let claimed = server.enroll(&token, "web", web.boot).await;
    assert_ne!(claimed.id, first.id);
    let list = server.get("/v1/instances?state=approved&label=team:a").await.json;
    assert_eq!(list.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_token_s_word_is_kept_and_every_no_has_its_own() {
    let server = Server::start();
    let near = json!({"kind": "join", "cidr": ["10.0.0.0/8"], "allowed_label_keys": ["role"]});
    let near = server.token(near).await;
    let far = server.token(json!({"kind": "join", "cidr": ["192.0.2.0/24"]})).await;
    let queue = server.token(json!({"kind": "join", "auto_approve": false})).await;
    let web = Machine::of(1, "web");
    web.asks(&server, Some(&far), json!({})).await.is(403, "cidr");
    web.asks(&server, Some(&near), json!({"zone": "a"})).await.is(403, "label_forbidden");
    web.asks(&server, Some("rj_0000000000000001_0"), json!({})).await.is(401, "token_unknown");
    let keyless = json!({"name": "x", "boot_id": "1"});
    server.json("POST", "/v1/enroll", &queue, keyless.clone()).await.is(403, "policy_denied");
    server.json("POST", "/v1/enroll", &near, keyless).await.is(403, "cidr");
    assert_eq!(web.asks(&server, Some(&near), json!({"role": "web"})).await.status, 201);
    let mut old = web.request(&server, ("POST", "/v1/enroll", None), "{}");
    server.clock.advance(Duration::from_mins(6));
    let stale = server.send(old).await.is(401, "stale_proof");
    assert_eq!(stale.json["server_ms"], wall(&server).as_millis());
    old = web.request(&server, ("POST", "/v1/enroll", None), "{}");
    *old.body_mut() = Body::from("{ }");
    server.send(old).await.is(401, "bad_proof");
    for wrong in [
        json!({"kind": "join", "cidr": ["10.0.0.0/40"]}),
        json!({"kind": "join", "series_quota": 0}),
        json!({"kind": "join", "silent_secs": 0}),
        json!({"kind": "join", "lifecycle": "eternal"}),
        json!({"kind": "join", "surprise": 1}),
    ] {
        server.json("POST", "/v1/tokens", ADMIN, wrong).await.is(400, "bad_request");
    }
}

#[tokio::test]
async fn what_only_enrolment_looks_at_is_refused_to_a_token_that_enrols_nobody() {
    let server = Server::start();
    let asked = async |wish| server.json("POST", "/v1/tokens", ADMIN, wish).await;
    for kind in ["relay", "events", "read"] {
        let near = asked(json!({"kind": kind, "cidr": ["10.0.0.0/8"]})).await;
        let message = &near.is(400, "bad_request").json["message"];
        assert_eq!(message, "cidr: only a join token is confined to networks; leave it out");
        for keys in [json!(["role"]), json!([])] {
            let plain = asked(json!({"kind": kind, "allowed_label_keys": keys})).await;
            let message = &plain.is(400, "bad_request").json["message"];
            let told = "allowed_label_keys: only a join token says what machines may declare; leave it out";
            assert_eq!(message, told);
        }
        let nothing = json!({"kind": kind, "cidr": [], "allowed_label_keys": null});
        assert_eq!(asked(nothing).await.status, 201, "{kind}: nothing is asked for");
    }
}

#[tokio::test]
async fn a_proof_made_before_the_collector_started_is_made_again() {
    let server = Server::start();
    let web = Machine::of(1, "web");
    web.proofs.set(-2);
    let early = web.asks(&server, Some(ADMIN), json!({})).await.is(401, "stale_proof");
    assert_eq!(early.json["server_ms"], wall(&server).as_millis());
    web.enrols(&server, ADMIN).await;
}

#[tokio::test]
async fn a_question_for_a_request_that_is_not_there_is_not_looked_at_further() {
    let server = Server::start();
    let path = "/v1/enroll/000000000000000000000000000000ab";
    let question = Machine::of(1, "web").request(&server, ("GET", "/elsewhere", None), "");
    let (mut parts, body) = question.into_parts();
    parts.uri = path.parse().unwrap();
    server.send(Request::from_parts(parts, body)).await.is(404, "not_found");
}

#[tokio::test]
async fn strangers_that_stall_keep_neither_the_room_nor_those_with_a_token_out() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let mut stalled = tokio::task::JoinSet::new();
    for seed in 0..100 {
        let begun = Machine::of(seed, "x").request(&server, ("POST", "/v1/enroll", None), "{}");
        let begun = begun.map(|body| Body::new(body.with_trailers(std::future::pending())));
        stalled.spawn(router(server.intake.clone()).oneshot(begun));
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let web = Machine::of(900, "web");
    web.asks(&server, None, json!({})).await.is(503, "busy");
    web.enrols(&server, &token).await;
}

#[tokio::test]
async fn a_machine_waits_for_a_person_and_hears_what_was_decided() {
    let server = Server::start();
    let token =
        server.token(json!({"kind": "join", "auto_approve": false, "labels": {"team": "a"}})).await;
    let (web, bad) = (Machine::of(1, "web"), Machine::of(2, "bad"));
    let asked = web.asks(&server, Some(&token), json!({})).await;
    assert_eq!(asked.status, 202, "{:?}", asked.json);
    let id = asked.json["request_id"].as_str().unwrap().to_owned();
    let again = web.asks(&server, Some(&token), json!({})).await;
    assert_eq!(
        (again.status.as_u16(), &again.json),
        (202, &asked.json),
        "asking twice is asking once"
    );
    assert_eq!(web.polls(&server, &id).await.status, 202);
    bad.polls(&server, &id).await.is(404, "not_found");
    let queue = server.get("/v1/enrollments?state=pending").await.json;
    assert_eq!((&queue[0]["name"], &queue[0]["peer"]), (&json!("web"), &json!("10.1.2.3")));
    assert_eq!(queue[0]["fingerprint"], asked.json["fingerprint"]);

    let approve = format!("/v1/enrollments/{id}/approve");
    let wrong = json!({"fingerprint": "0000"});
    server.json("POST", &approve, ADMIN, wrong).await.is(409, "fingerprint_mismatch");
    server.json("POST", &approve, &token, json!({})).await.is(403, "forbidden");
    let right = json!({"fingerprint": asked.json["fingerprint"], "labels": {"zone": "eu"},
                       "series_quota": 7, "lifecycle": "ephemeral"});
    let approved = server.json("POST", &approve, ADMIN, right).await;
    assert_eq!(approved.status, 200, "{:?}", approved.json);
    let not_twice = server.json("POST", &approve, ADMIN, json!({})).await.is(409, "not_pending");
    assert_eq!(not_twice.json["state"], "approved");
    let handed = web.polls(&server, &id).await;
    assert_eq!(handed.status, 200, "{:?}", handed.json);
    let labels = json!({"instance": "web", "job": "node", "team": "a", "zone": "eu"});
    assert_eq!((&handed.json["labels"], &handed.json["id"]), (&labels, &approved.json["id"]));
    let enrolled: EnrollAnswer = serde_json::from_value(handed.json).unwrap();
    let first = push(&enrolled, (1, web.boot), 1, wall(&server));
    assert_eq!(server.push(&enrolled.credential, &first).await.status, 200);
    let instance = server.parts().registry.keyed(&key_of(&server, "web")).unwrap();
    assert_eq!(instance.series_quota, Some(7));
    assert_eq!(instance.lifecycle.evidence.what, "approved by an operator");

    let asked = bad.asks(&server, Some(&token), json!({})).await;
    let id = asked.json["request_id"].as_str().unwrap();
    let reject = format!("/v1/enrollments/{id}/reject");
    let reason = json!({"reason": "nobody knows it"});
    assert_eq!(server.json("POST", &reject, ADMIN, reason).await.status, 204);
    let told = bad.polls(&server, id).await.is(403, "rejected");
    assert_eq!(told.json["message"], "rejected by an operator: nobody knows it");
    bad.asks(&server, Some(&token), json!({})).await.is(403, "rejected");
}

fn key_of(server: &Server, name: &str) -> crate::PublicKey {
    server.parts().registry.named("node", name).unwrap().key.unwrap()
}

#[tokio::test]
async fn a_request_that_nobody_decides_on_ends_after_a_day_and_may_be_made_again() {
    let server = Server::start();
    let web = Machine::of(1, "web");
    let asked = web.asks(&server, None, json!({})).await;
    assert_eq!(asked.status, 202, "no token: a person decides");
    let id = asked.json["request_id"].as_str().unwrap().to_owned();
    server.clock.advance(Duration::from_hours(24));
    server.intake.sweep().await.unwrap();
    web.polls(&server, &id).await.is(410, "expired");
    let again = web.asks(&server, None, json!({})).await;
    assert_eq!(again.status, 202);
    assert_ne!(again.json["request_id"].as_str(), Some(id.as_str()));
}

#[tokio::test]
async fn strangers_cannot_fill_the_queue_for_those_with_a_token() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join", "auto_approve": false})).await;
    for seed in 0..200 {
        assert_eq!(Machine::of(seed, "x").asks(&server, None, json!({})).await.status, 202);
    }
    let refused = Machine::of(900, "x").asks(&server, None, json!({})).await.is(429, "queue_full");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(Machine::of(901, "x").asks(&server, Some(&token), json!({})).await.status, 202);
}

#[tokio::test]
async fn a_policy_is_tried_on_the_last_days_before_it_lets_anybody_in() {
    let server = Server::start();
    for (seed, name) in [(1, "web-1"), (2, "web-2"), (3, "db-1")] {
        Machine::of(seed, name).asks(&server, None, json!({"role": "web"})).await;
    }
    let policy = json!({"name": "web", "name_like": "web-*", "cidr": ["10.0.0.0/8"],
                        "labels": {"role": "web"}, "forced_labels": {"tier": "front"},
                        "lifecycle": "ephemeral"});
    let tried = server.json("POST", "/v1/policies/try", ADMIN, json!({"policy": policy})).await;
    let names = |list: &Value| -> std::collections::BTreeSet<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    // They asked within one millisecond, and stand in the order of their random ids.
    let both = ["web-1", "web-2"].map(str::to_owned).into();
    assert_eq!(names(&tried.json["admitted"]), both, "{:?}", tried.json);
    assert_eq!(names(&tried.json["refused"]), ["db-1".to_owned()].into());
    assert_eq!(tried.json["refused"][0]["why_not"], "the name \"db-1\" is not like \"web-*\"");
    assert_eq!(server.get("/v1/instances").await.json, json!([]), "a trial lets nobody in");
    assert_eq!(server.json("POST", "/v1/policies", ADMIN, policy.clone()).await.status, 204);
    assert_eq!(server.get("/v1/policies").await.json[0]["name"], "web");
    let in_ = Machine::of(4, "web-4").asks(&server, None, json!({"role": "web"})).await;
    assert_eq!((in_.status.as_u16(), &in_.json["labels"]["tier"]), (201, &json!("front")));
    let out = Machine::of(5, "web-5").asks(&server, None, json!({"role": "db"})).await;
    assert_eq!(out.status, 202, "a policy never says no: a person may");
    server.clock.advance(Duration::from_hours(8 * 24));
    let later = server.json("POST", "/v1/policies/try", ADMIN, json!({"policy": policy})).await;
    assert_eq!((&later.json["admitted"], &later.json["refused"]), (&json!([]), &json!([])));
    assert_eq!(server.json("DELETE", "/v1/policies/web", ADMIN, json!({})).await.status, 204);
    server.json("DELETE", "/v1/policies/web", ADMIN, json!({})).await.is(404, "not_found");
    let everybody = json!({"name": "all"});
    server.json("POST", "/v1/policies", ADMIN, everybody).await.is(400, "bad_request");
}

#[tokio::test]
async fn credentials_end_after_a_day_unless_they_are_renewed_with_the_key() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let (web, thief) = (Machine::of(1, "web"), Machine::of(2, "thief"));
    let first = web.enrols(&server, &token).await;
    let path = format!("/v1/instances/{:032x}/renew", first.id);
    server.clock.advance(Duration::from_hours(12));
    let renew = |machine: &Machine, secret: &str| {
        server.send(machine.request(&server, ("POST", &path, Some(secret)), ""))
    };
    renew(&thief, &first.credential).await.is(403, "other_key");
    server.json("POST", &path, &first.credential, json!({})).await.is(401, "unauthorised");
    let renewed = renew(&web, &first.credential).await;
    assert_eq!(renewed.status, 200, "{:?}", renewed.json);
    let second: EnrollAnswer = serde_json::from_value(renewed.json).unwrap();
    // The answer could have been lost: the former one holds on.
    for (number, answer) in [(1, &first), (2, &second)] {
        let batch = push(answer, (1, web.boot), number, wall(&server));
        assert_eq!(server.push(&answer.credential, &batch).await.status, 200);
    }
    server.clock.advance(Duration::from_hours(13));
    let batch = push(&first, (1, web.boot), 3, wall(&server));
    server.push(&first.credential, &batch).await.is(401, "credential_expired");
    assert_eq!(server.push(&second.credential, &batch).await.status, 200);
    server.clock.advance(Duration::from_hours(12));
    server.push(&second.credential, &batch).await.is(401, "credential_expired");
    assert_eq!(web.enrols(&server, &token_of_none()).await.id, first.id, "its key is enough");
}

/// A token that has run out long ago.
fn token_of_none() -> String {
    "rj_00000000000000aa_00".to_owned()
}

#[tokio::test]
async fn an_earlier_agent_s_instance_gets_the_key_that_renews_first() {
    let server = Server::start();
    let old = server.enroll(ADMIN, "web", 1).await;
    assert_eq!(old.expires_ms, None);
    let web = Machine::of(1, "web");
    let path = format!("/v1/instances/{:032x}/renew", old.id);
    let renewed =
        server.send(web.request(&server, ("POST", &path, Some(&old.credential)), "")).await;
    assert_eq!(renewed.status, 200, "{:?}", renewed.json);
    assert_eq!(web.enrols(&server, &token_of_none()).await.id, old.id);
}

#[tokio::test]
async fn who_is_gone_comes_back_by_its_key_unless_it_was_put_out() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let web = Machine::of(1, "web");
    let first = web.enrols(&server, &token).await;
    let goodbye = format!("/v1/instances/{:032x}/goodbye", first.id);
    let reason = json!({"reason": "terminate", "evidence": "spot notice"});
    assert_eq!(server.json("POST", &goodbye, &first.credential, reason).await.status, 204);
    assert_eq!(state_of(&server, first.id), State::Withdrawn);
    let batch = push(&first, (1, web.boot), 1, wall(&server));
    server.push(&first.credential, &batch).await.is(401, "ended");
    let other = server.enroll(&token, "web", 77).await;
    assert_eq!(other.labels["instance"], "web", "its name was free");
    let back = web.enrols(&server, &token_of_none()).await;
    assert_eq!((back.id, back.labels["instance"].as_str()), (first.id, "web-2"));
    assert_eq!(state_of(&server, first.id), State::Approved);
    assert_eq!(server.push(&back.credential, &batch).await.status, 200);

    assert_eq!(act(&server, first.id, "withdraw", json!({})).await.status, 204);
    server.push(&back.credential, &batch).await.is(401, "withdrawn");
    let back = web.enrols(&server, &token).await;
    assert_eq!(act(&server, first.id, "revoke", json!({"reason": "stolen"})).await.status, 204);
    server.push(&back.credential, &batch).await.is(401, "revoked");
    web.asks(&server, Some(&token), json!({})).await.is(403, "revoked");
    server.clock.advance(Duration::from_hours(25));
    server.intake.sweep().await.unwrap();
    assert_eq!(state_of(&server, first.id), State::Archived);
    web.asks(&server, Some(&token), json!({})).await.is(403, "revoked");
    assert_eq!(act(&server, first.id, "reclaim", json!({})).await.status, 200);
    assert_eq!(state_of(&server, first.id), State::Reclaimed);
    web.asks(&server, Some(&token), json!({})).await.is(403, "revoked");
}

#[tokio::test]
async fn quarantine_keeps_what_is_sent_and_ends_by_a_person_s_word() {
    let server = Server::start();
    let web = Machine::of(1, "web");
    let first = web.enrols(&server, ADMIN).await;
    assert_eq!(act(&server, first.id, "quarantine", json!({"reason": "odd"})).await.status, 204);
    let batch = push(&first, (1, web.boot), 1, wall(&server));
    assert_eq!(server.push(&first.credential, &batch).await.status, 200, "data are kept");
    for word in ["goodbye", "withdraw"] {
        let own = format!("/v1/instances/{:032x}/{word}", first.id);
        let refused = server.json("POST", &own, &first.credential, json!({})).await;
        assert_eq!(refused.is(409, "bad_state").json["state"], "quarantined", "{word}");
    }
    // Off for longer than its credential lasts: it gets another, and is quarantined still.
    server.clock.advance(Duration::from_hours(25));
    server.push(&first.credential, &batch).await.is(401, "credential_expired");
    let back = web.enrols(&server, &token_of_none()).await;
    assert_eq!((back.id, state_of(&server, first.id)), (first.id, State::Quarantined));
    assert_eq!(server.push(&back.credential, &batch).await.status, 200);
    assert_eq!(act(&server, first.id, "release", json!({})).await.status, 204);
    assert_eq!(state_of(&server, first.id), State::Active);
    act(&server, first.id, "release", json!({})).await.is(409, "bad_state");
    let told = server.get("/v1/events?after=0").await.json;
    let words: Vec<&str> = told["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["to"].as_str())
        .collect();
    assert_eq!(words, ["approved", "quarantined", "active"]);
    assert_eq!(told["events"][1]["evidence"], "quarantined by an operator: odd");
    let next = told["next"].as_u64().unwrap();
    assert_eq!(server.get(&format!("/v1/events?after={next}")).await.json["events"], json!([]));
}

#[tokio::test]
async fn two_processes_with_one_credential_are_told_apart_and_the_newer_goes() {
    let server = Server::start();
    let web = Machine::of(1, "web");
    let enrolled = web.enrols(&server, ADMIN).await;
    let mut numbers = [0, 0];
    let mut answers = Vec::new();
    for turn in 0..10 {
        let process = turn % 2;
        server.clock.advance(Duration::from_secs(5));
        numbers[process] += 1;
        let life = (process as u64 + 1, web.boot + process as u128);
        let batch = push(&enrolled, life, numbers[process], wall(&server));
        answers.push(server.push(&enrolled.credential, &batch).await.status.as_u16());
    }
    assert_eq!(answers, [200, 200, 200, 200, 200, 409, 200, 409, 200, 409]);
    let told = server.get("/v1/events").await.json;
    let conflicts = told["events"].as_array().unwrap().iter();
    let conflicts: Vec<_> = conflicts.filter(|one| one["what"] == "identity_conflict").collect();
    assert_eq!(conflicts.len(), 1, "{told:?}");
    // The same key from a third boot, while its instance reports.
    let clone = Machine { boot: 99, ..Machine::of(1, "web") };
    clone.proofs.set(1_000);
    let conflict = clone.asks(&server, Some(ADMIN), json!({})).await.is(409, "identity_conflict");
    assert_eq!(conflict.json["make_key"], true);
    server.clock.advance(Duration::from_mins(5));
    assert_eq!(
        clone.enrols(&server, ADMIN).await.id,
        enrolled.id,
        "once nobody reports it is back"
    );
}

#[tokio::test]
async fn who_was_reclaimed_is_another_instance_with_a_predecessor() {
    let server = Server::start();
    let web = Machine::of(1, "web");
    let first = web.enrols(&server, ADMIN).await;
    let batch = push(&first, (1, web.boot), 1, wall(&server));
    assert_eq!(server.push(&first.credential, &batch).await.status, 200);
    assert_eq!(act(&server, first.id, "withdraw", json!({})).await.status, 204);
    assert_eq!(act(&server, first.id, "reclaim", json!({})).await.status, 200);
    assert_eq!(state_of(&server, first.id), State::Reclaimed);
    let back = web.enrols(&server, ADMIN).await;
    assert_ne!(back.id, first.id);
    let list = server.get("/v1/instances?state=approved").await.json;
    assert_eq!(list[0]["predecessor"], format!("{:032x}", first.id));
    let tombstone = &server.get("/v1/instances?state=reclaimed").await.json[0];
    let evidence = "its archive was given back; withdrawn: withdrawn by an operator";
    assert_eq!(tombstone["evidence"], evidence);
}

#[tokio::test]
async fn a_relay_token_waits_with_503_and_what_was_kept_arrives() {
    let server = Server::start();
    let made = json!({"kind": "relay", "auto_approve": false});
    let made = server.json("POST", "/v1/tokens", ADMIN, made).await.json;
    let secret = made["token"].as_str().unwrap();
    let labels = [("__name__", "up"), ("instance", "a:1"), ("job", "j")];
    let body = WriteBody::default().series(&labels, &[(at(0), 1.0)]);
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let early = server.write(secret, &body.0).await.is(503, "pending");
        waits.insert(early.headers["retry-after"].to_str().unwrap().to_owned());
    }
    assert!(waits.len() > 3, "senders do not come back together: {waits:?}");
    assert!(server.parts().registry.instances().is_empty());
    let id = made["id"].as_str().unwrap();
    let approve = format!("/v1/tokens/{id}/approve");
    assert_eq!(server.json("POST", &approve, ADMIN, json!({})).await.status, 204);
    server.json("POST", &approve, ADMIN, json!({})).await.is(409, "not_pending");
    assert_eq!(server.write(secret, &body.0).await.status, 204);
    server.settle().await;
    assert_eq!(server.parts().accounting.total().stored, 1);
}
