//! Tests of what GCP and Azure tell of their machines: who may tell it, and what comes of it.

use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::super::router;
use super::keys::{Machine, push};
use super::support::*;
use crate::identity::clouds::CloudTrust;
use crate::identity::openssl::OpenSsl;
use crate::lifecycle::State;
use crate::native::EnrollAnswer;

const AUDIENCE: &str = "https://collector.example/v1/cloud-events";
const PUSHER: &str = "pusher@shop.iam.gserviceaccount.com";

/// A machine with these labels that has reported, and an hour of silence after `told`.
async fn silent_after(server: &Server, labels: Value, told: impl AsyncFnOnce()) -> (State, String) {
    let token = server.token(json!({"kind": "join"})).await;
    let machine = Machine::of(1, "web");
    let answer = machine.asks(server, Some(&token), labels).await;
    let answer: EnrollAnswer = serde_json::from_value(answer.json).unwrap();
    let batch = push(&answer, (1, machine.boot), 1, wall(server));
    assert_eq!(server.push(&answer.credential, &batch).await.status, 200);
    server.intake.sweep().await.unwrap();
    told().await;
    for _ in 0..300 {
        server.clock.advance(Duration::from_secs(2));
        server.intake.sweep().await.unwrap();
    }
    let one = server.parts().registry.instance(rrd::InstanceId(answer.id)).unwrap();
    (one.lifecycle.state, one.lifecycle.sentence())
}

async fn posted(server: &Server, path: &str, bearer: Option<&str>, body: &Value) -> Answer {
    let mut request = Request::post(path);
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    server.send(request.body(Body::from(body.to_string())).unwrap()).await
}

fn deleted(message: &str, machine: &str) -> Value {
    let entry = json!({
        "insertId": "i1", "severity": "NOTICE",
        "resource": {"type": "gce_instance", "labels": {"instance_id": machine}},
        "protoPayload": {"methodName": "v1.compute.instances.delete"},
        "operation": {"id": "o", "last": true}});
    json!({"subscription": "projects/shop/subscriptions/roundel",
           "message": {"messageId": message, "data": STANDARD.encode(entry.to_string())}})
}

/// What Google says of who sends, an hour long from the time of the server.
fn claims(server: &Server) -> Value {
    let now = wall(server).as_millis() / 1000;
    json!({"iss": "https://accounts.google.com", "aud": AUDIENCE, "email": PUSHER,
           "email_verified": true, "iat": now, "exp": now + 3600})
}

#[tokio::test]
async fn a_push_of_pubsub_is_taken_by_googles_word_for_its_account_and_audience() {
    let Some(tool) = OpenSsl::for_test("pushes of Pub/Sub") else { return };
    let server = Server::start();
    tool.itself("g1");
    tool.itself("stranger");
    let (good, keys) = tool.jwt("g1", &claims(&server));
    std::fs::write(tool.path("keys.json"), keys.to_string()).unwrap();
    let path = "/v1/cloud-events";
    let body = deleted("m1", "42");
    posted(&server, path, Some(&good), &body).await.is(401, "unauthorised");
    let trust = CloudTrust {
        gcp: Some(tool.path("keys.json").display().to_string()),
        pubsub_accounts: vec![PUSHER.to_owned()],
        pubsub_audience: Some(AUDIENCE.to_owned()),
        ..CloudTrust::default()
    };
    for (lacking, word) in [
        (CloudTrust { gcp: None, ..trust.clone() }, "as gcp"),
        (CloudTrust { pubsub_audience: None, ..trust.clone() }, "pubsub_audience"),
    ] {
        assert!(server.intake.trust_clouds(lacking).unwrap_err().contains(word));
    }
    server.intake.trust_clouds(trust).unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = claims(&server);
        claims[name] = value;
        claims
    };
    for (signer, claims, why) in [
        ("stranger", claims(&server), "has the name in the document"),
        ("g1", with("aud", json!("https://elsewhere.example/")), "another audience"),
        ("g1", with("aud", json!(null)), "another audience"),
        (
            "g1",
            with("email", json!("other@shop.iam.gserviceaccount.com")),
            "none of pubsub_accounts",
        ),
        ("g1", with("email_verified", json!(false)), "none of pubsub_accounts"),
        ("g1", with("iss", json!("https://example.org")), "is not Google's"),
        ("g1", with("exp", json!(1)), "has expired"),
    ] {
        let token = tool.jwt(signer, &claims).0;
        let answer = posted(&server, path, Some(&token), &body).await.is(401, "bad_signature");
        assert!(answer.json["message"].as_str().unwrap().contains(why), "{why}: {:?}", answer.json);
    }
    posted(&server, path, Some("a.b.c"), &body).await.is(401, "unauthorised");
    posted(&server, path, None, &body).await.is(401, "unauthorised");
    let labels = json!({"cloud_instance_id": "42"});
    let (state, evidence) = silent_after(&server, labels, async || {
        let taken = posted(&server, path, Some(&good), &body).await;
        assert_eq!((taken.status.as_u16(), &taken.json["taken"]), (200, &json!(true)));
        let again = posted(&server, path, Some(&good), &body).await;
        assert_eq!(again.json["message"], "this event was taken before");
        let other = posted(&server, path, Some(&good), &deleted("m2", "43")).await;
        assert_eq!(other.json["message"], "no instance here is 43");
    })
    .await;
    assert_eq!(state, State::Terminated);
    assert_eq!(evidence, "silent, and the cloud says that 42 is deleted");
}

const MACHINE: &str =
    "/subscriptions/8d10/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web";

fn azure(id: &str, machine: &str) -> Value {
    json!({"id": id, "topic": "/subscriptions/8d10", "subject": machine,
           "eventType": "Microsoft.Resources.ResourceDeleteSuccess",
           "eventTime": "2026-09-21T14:13:00Z", "dataVersion": "2",
           "data": {"operationName": "Microsoft.Compute/virtualMachines/delete",
                    "resourceUri": machine, "status": "Succeeded"}})
}

#[tokio::test]
async fn events_of_event_grid_are_taken_by_a_token_in_the_address_or_a_header() {
    let server = Server::start();
    let events = server.token(json!({"kind": "events"})).await;
    let join = server.token(json!({"kind": "join"})).await;
    let path = format!("/v1/cloud-events?token={events}");
    let asked = json!([{"id": "v1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
                        "data": {"validationCode": "512d38b6", "validationUrl": "https://x/"}}]);
    let answer = posted(&server, &path, None, &asked).await;
    assert_eq!(answer.json, json!({"validationResponse": "512d38b6"}));
    let bare = "/v1/cloud-events";
    posted(&server, bare, None, &asked).await.is(401, "unauthorised");
    for (token, status, word) in [
        (join.as_str(), 403, "forbidden"),
        (&ADMIN.replace(' ', "%20"), 401, "unauthorised"),
        ("", 401, "unauthorised"),
        ("nobody", 401, "unauthorised"),
    ] {
        let path = format!("{bare}?token={token}");
        posted(&server, &path, None, &asked).await.is(status, word);
    }
    let labels = json!({"cloud_resource_id": MACHINE});
    let (state, evidence) = silent_after(&server, labels, async || {
        let both = json!([azure("e1", &MACHINE.to_uppercase()), azure("e2", "/other")]);
        let answer = posted(&server, &path, None, &both).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json);
        assert_eq!(answer.json[0]["taken"], true, "{:?}", answer.json);
        assert_eq!(answer.json[1]["message"], "an event that names no machine");
        let again = posted(&server, bare, Some(&events), &both).await;
        assert_eq!(again.json[0]["message"], "this event was taken before");
    })
    .await;
    assert_eq!(state, State::Terminated);
    let said = evidence.to_lowercase();
    assert!(said.ends_with("virtualmachines/web is deleted"), "{evidence}");
}

#[tokio::test]
async fn who_sends_cloud_events_is_told_that_it_may() {
    let server = Server::start();
    let events = server.token(json!({"kind": "events"})).await;
    let ask = async |path: String, origin: Option<&str>| {
        let mut request = Request::options(path);
        if let Some(origin) = origin {
            request = request.header("webhook-request-origin", origin);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = router(server.intake.clone()).oneshot(request).await.unwrap();
        (response.status().as_u16(), response.headers().clone())
    };
    let known = format!("/v1/cloud-events?token={events}");
    let (status, headers): (u16, HeaderMap) = ask(known.clone(), Some("eventgrid.azure.net")).await;
    assert_eq!(status, 200);
    assert_eq!(headers["webhook-allowed-origin"], "eventgrid.azure.net");
    assert_eq!(headers["webhook-allowed-rate"], "*");
    assert_eq!(ask(known, None).await.0, 400);
    let nobody = ask("/v1/cloud-events".to_owned(), Some("eventgrid.azure.net")).await;
    assert_eq!(nobody.0, 401);
    assert!(!nobody.1.contains_key("webhook-allowed-origin"));
}
