//! Tests of tokens, enrolment and withdrawal.

use std::time::Duration;

use axum::body::Body;
use http::StatusCode;
use serde_json::json;
use tower::ServiceExt as _;

use super::support::*;
use crate::intake::router;
use crate::registry::Registry;

#[tokio::test]
async fn an_agent_enrols_with_a_join_token_and_is_listed() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join", "labels": {"team": "a", "zone": "eu"}})).await;
    let body = json!({
        "name": "web-1", "boot_id": "0000000000000000000000000000000a",
        "facts": {"hostname": "web-1", "os": "Debian", "kernel": "6.1", "cpus": 2, "memory_bytes": 5},
        "labels": {"role": "web", "zone": "self"},
    });
    let answer = server.json("POST", "/v1/enroll", &token, body).await;
    assert_eq!(answer.status, 201, "{:?}", answer.json);
    let labels =
        json!({"instance": "web-1", "job": "node", "role": "web", "team": "a", "zone": "eu"});
    assert_eq!(answer.json["labels"], labels);
    assert_eq!(answer.json["step_ms"], 10_000);
    let list = server.get("/v1/instances").await.json;
    assert_eq!(list[0]["name"], "web-1");
    assert_eq!(list[0]["state"], "approved");
    assert_eq!(list[0]["evidence"], "its token approves by itself");
    assert_eq!(list[0]["id"], answer.json["id"]);
    assert!(!list.to_string().contains(answer.json["credential"].as_str().unwrap()));
}

#[tokio::test]
async fn a_name_in_use_is_numbered_unless_the_same_boot_comes_back() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let first = server.enroll(&token, "web", 1).await;
    let other = server.enroll(&token, "web", 2).await;
    let unknown_boot = server.enroll(&token, "web", 0).await;
    assert_eq!(other.labels["instance"], "web-2");
    assert_eq!(unknown_boot.labels["instance"], "web-3");
    let again = server.enroll(&token, "web", 1).await;
    assert_eq!((again.id, again.labels["instance"].as_str()), (first.id, "web"));
    assert_ne!(again.credential, first.credential);
    let goodbye = format!("/v1/instances/{:032x}/withdraw", first.id);
    server.json("POST", &goodbye, &first.credential, json!({})).await.is(401, "unauthorised");
}

#[tokio::test]
async fn a_join_token_ends_by_uses_by_time_and_by_revocation() {
    let server = Server::start();
    let body = json!({"name": "x", "boot_id": "1"});
    let once = server.token(json!({"kind": "join", "uses": 1})).await;
    server.enroll(&once, "x", 1).await;
    server.json("POST", "/v1/enroll", &once, body.clone()).await.is(410, "token_exhausted");

    let brief = server.token(json!({"kind": "join", "ttl_secs": 60})).await;
    server.clock.advance(Duration::from_secs(59));
    server.enroll(&brief, "x", 2).await;
    server.clock.advance(Duration::from_secs(1));
    server.json("POST", "/v1/enroll", &brief, body.clone()).await.is(410, "token_expired");

    let taken_back = server.json("POST", "/v1/tokens", ADMIN, json!({"kind": "join"})).await.json;
    let path = format!("/v1/tokens/{}", taken_back["id"].as_str().unwrap());
    assert_eq!(server.json("DELETE", &path, ADMIN, json!({})).await.status, 204);
    let secret = taken_back["token"].as_str().unwrap();
    server.json("POST", "/v1/enroll", secret, body).await.is(401, "revoked");
}

#[tokio::test]
async fn a_hundred_enrolments_at_once_use_a_token_exactly_as_often_as_it_may_be() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join", "uses": 40})).await;
    let bodies =
        (0..100_u32).map(|boot| json!({"name": "web", "boot_id": format!("{:x}", boot + 1)}));
    let mut sent = tokio::task::JoinSet::new();
    for body in bodies {
        let request =
            request("POST", "/v1/enroll", &token).body(Body::from(body.to_string())).unwrap();
        sent.spawn(router(server.intake.clone()).oneshot(request));
    }
    let answers = sent.join_all().await;
    let count =
        |status| answers.iter().filter(|one| one.as_ref().unwrap().status() == status).count();
    let taken = count(StatusCode::CREATED);
    assert_eq!(count(StatusCode::GONE), 60);
    let names: std::collections::BTreeSet<String> =
        server.parts().registry.instances().iter().map(|one| one.name.clone()).collect();
    assert_eq!((taken, names.len()), (40, 40));
}

#[tokio::test]
async fn bad_requests_are_named() {
    let server = Server::start();
    let join = server.token(json!({"kind": "join"})).await;
    let relay = server.token(json!({"kind": "relay"})).await;
    let good = json!({"name": "x", "boot_id": "1"});
    let long = "x".repeat(2000);
    for (path, secret, body, status, error) in [
        ("/v1/enroll", "nobody", good.clone(), 401, "token_unknown"),
        ("/v1/enroll", relay.as_str(), good.clone(), 403, "forbidden"),
        ("/v1/enroll", &join, json!({"name": "", "boot_id": "1"}), 400, "bad_request"),
        ("/v1/enroll", &join, json!({"name": "a\nb", "boot_id": "1"}), 400, "bad_request"),
        ("/v1/enroll", &join, json!({"name": "x", "boot_id": "zz"}), 400, "bad_request"),
        ("/v1/enroll", &join, json!({"name": "x"}), 400, "bad_request"),
        ("/v1/enroll", &join, json!({"name": "x", "boot_id": "1", "more": 1}), 400, "bad_request"),
        (
            "/v1/enroll",
            &join,
            json!({"name": "x", "boot_id": "1", "labels": {"__a": "b"}}),
            400,
            "bad_request",
        ),
        (
            "/v1/enroll",
            &join,
            json!({"name": "x", "boot_id": "1", "labels": {"a": long}}),
            400,
            "bad_request",
        ),
        ("/v1/enroll", &join, json!([1, 2]), 400, "bad_request"),
        ("/v1/enroll", &join, json!("x".repeat(70_000)), 413, "too_large"),
        ("/v1/tokens", join.as_str(), json!({"kind": "join"}), 403, "forbidden"),
        ("/v1/tokens", ADMIN, json!({"kind": "other"}), 400, "bad_request"),
        ("/v1/tokens", ADMIN, json!({"kind": "join", "uses": 0}), 400, "bad_request"),
        (
            "/v1/tokens",
            ADMIN,
            json!({"kind": "join", "labels": {"__name__": "x"}}),
            400,
            "bad_request",
        ),
        ("/v1/tokens", ADMIN, json!({"kind": "join", "ttl_secs": 0}), 400, "bad_request"),
        ("/v1/tokens", ADMIN, json!({"kind": "join", "ttl_secs": u64::MAX}), 400, "bad_request"),
        ("/v1/instances/zz/withdraw", ADMIN, json!({}), 404, "not_found"),
        (
            "/v1/instances/00000000000000000000000000000001/withdraw",
            ADMIN,
            json!({}),
            404,
            "not_found",
        ),
    ] {
        let answer = server.json("POST", path, secret, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.word()), (status, error), "{path} {body}");
    }
    assert_eq!(
        server.send(http::Request::get("/v1/instances").body(Body::empty()).unwrap()).await.status,
        401
    );
    assert!(server.parts().registry.instances().is_empty());
}

#[tokio::test]
async fn a_goodbye_frees_the_name_and_ends_the_credential() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let (one, two) = (server.enroll(&token, "a", 1).await, server.enroll(&token, "b", 2).await);
    let path = format!("/v1/instances/{:032x}/withdraw", one.id);
    server.json("POST", &path, &two.credential, json!({})).await.is(403, "forbidden");
    let answer = server.json("POST", &path, &one.credential, json!({"reason": "scale-in"})).await;
    assert_eq!(answer.status, 204);
    server.json("POST", &path, &one.credential, json!({})).await.is(401, "ended");
    let list = server.get("/v1/instances").await.json;
    let gone = list.as_array().unwrap().iter().find(|one| one["name"] == "a").unwrap();
    assert_eq!(gone["evidence"], "goodbye of its agent: scale-in");
    assert_eq!(server.enroll(&token, "a", 3).await.labels["instance"], "a");
}

#[tokio::test]
async fn credentials_and_tokens_outlive_a_restart_from_a_snapshot() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join", "uses": 2})).await;
    let one = server.enroll(&token, "a", 1).await;
    let (disk, registry) = server.stop();
    let restored = Registry::restore(&registry.snapshot()).unwrap();
    let server = Server::over(disk, std::sync::Arc::new(restored));
    let path = format!("/v1/instances/{:032x}/withdraw", one.id);
    assert_eq!(server.json("POST", &path, &one.credential, json!({})).await.status, 204);
    server.enroll(&token, "b", 1).await;
    let body = json!({"name": "x", "boot_id": "1"});
    server.json("POST", "/v1/enroll", &token, body).await.is(410, "token_exhausted");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_worker_has_not_reached_is_waited_for_before_the_next_is_thought_of() {
    let mut server = Server::start();
    server.stall();
    for boot in 1..4 {
        let body = json!({"name": "web", "boot_id": format!("{boot:032x}")});
        server.json("POST", "/v1/enroll", ADMIN, body).await.is(503, "busy");
    }
    // From here on the worker, which lives in real time, is waited for.
    tokio::time::resume();
    server.resume();
    server.settle().await;
    let names = |json: &serde_json::Value| -> Vec<String> {
        let list = json.as_array().unwrap().iter();
        list.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names(&server.get("/v1/instances").await.json),
        ["web"],
        "the others were not begun"
    );
    server.enroll(ADMIN, "web", 2).await;
    let mut found = names(&server.get("/v1/instances").await.json);
    found.sort();
    assert_eq!(found, ["web", "web-2"]);
}
