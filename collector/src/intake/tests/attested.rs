//! Tests of machines that show a document of their cloud at the door.

use serde_json::{Value, json};

use super::keys::Machine;
use super::support::*;
use crate::identity::clouds::CloudTrust;
use crate::identity::openssl::OpenSsl;

/// A machine asks with a document of AWS.
async fn shows(server: &Server, machine: &Machine, token: Option<&str>, body: Value) -> Answer {
    let boot = format!("{:032x}", machine.boot);
    let mut whole = json!({"name": machine.name, "boot_id": boot});
    whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let request = ("POST", "/v1/enroll", token);
    server.send(machine.request(server, request, &whole.to_string())).await
}

fn aws(tool: &OpenSsl, instance: &str, signer: &str) -> Value {
    let said = json!({"instanceId": instance, "accountId": "123", "region": "eu-west-1",
                      "availabilityZone": "eu-west-1b", "pendingTime": "2026-09-21T13:00:00Z"});
    json!({"cloud": "aws", "text": tool.signed_data(signer, &said, &["-nocerts"])})
}

async fn document_of(server: &Server, request: &Value) -> String {
    let list = server.get("/v1/enrollments").await.json;
    let all = list.as_array().unwrap();
    let found = all.iter().find(|one| one["id"] == *request).unwrap();
    found["document"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_policy_that_wants_a_document_lets_in_who_shows_one_and_the_others_wait() {
    let Some(tool) = OpenSsl::for_test("policies that want a document") else { return };
    let server = Server::start();
    let regions = tool.dated("region", "20260101000000Z", "20290101000000Z");
    tool.itself("stranger");
    let policy = json!({"name": "fleet", "require": "verified", "labels": {"cloud_account": "123"},
                        "started_within_secs": 86_400});
    let anybody = json!({"name": "fleet", "require": "verified", "name_like": "web*"});
    let refused = server.json("POST", "/v1/policies", ADMIN, anybody).await.is(400, "bad_request");
    assert!(refused.json["message"].as_str().unwrap().contains("cloud_account"));
    assert_eq!(server.json("POST", "/v1/policies", ADMIN, policy.clone()).await.status, 204);
    assert_eq!(
        server.get("/v1/policies").await.json,
        json!([{
        "name": "fleet", "cidr": [], "labels": {"cloud_account": "123"}, "require": "verified",
        "started_within_secs": 86_400, "forced_labels": {}}])
    );

    let web = Machine::of(1, "web-1");
    let declared = json!({"cloud_account": "123", "role": "web"});
    let early = json!({"labels": declared, "document": aws(&tool, "i-0", "region")});
    let waits = shows(&server, &Machine::of(9, "web-9"), None, early).await;
    assert_eq!(waits.status, 202, "nothing was given to check it with: {:?}", waits.json);
    let why = document_of(&server, &waits.json["request_id"]).await;
    assert!(why.contains("nothing to check it with"), "{why}");

    let trust = CloudTrust { aws: Some(regions), ..CloudTrust::default() };
    server.intake.trust_clouds(trust).unwrap();
    let good = json!({"labels": declared, "document": aws(&tool, "i-1", "region")});
    let taken = shows(&server, &web, None, good.clone()).await;
    assert_eq!(taken.status, 201, "{:?}", taken.json);
    assert_eq!(taken.json["labels"]["cloud_instance_id"], "i-1", "the document says so");
    assert_eq!(taken.json["labels"]["cloud_zone"], "eu-west-1b");
    assert_eq!(taken.json["labels"]["role"], "web");

    for (name, body, why) in [
        ("a", json!({"labels": declared}), ""),
        (
            "b",
            json!({"labels": declared, "document": aws(&tool, "i-2", "stranger")}),
            "not verified: none of AWS' certificates given here signed it",
        ),
        (
            "c",
            json!({"labels": {"cloud_instance_id": "i-4"}, "document": aws(&tool, "i-3", "region")}),
            "contradicted: the machine declares cloud_instance_id as \"i-4\", its document says \"i-3\"",
        ),
        (
            "d",
            good.clone(),
            "contradicted: instance \"web-1\" is this machine already, by another key",
        ),
    ] {
        let machine = Machine::of(u64::from(name.as_bytes()[0]), name);
        let waits = shows(&server, &machine, None, body).await;
        assert_eq!(waits.status, 202, "{name}: {:?}", waits.json);
        let said = document_of(&server, &waits.json["request_id"]).await;
        assert!(said.starts_with(why) && why.is_empty() == said.is_empty(), "{name}: {said}");
    }
    // A token lets in who shows nothing or what cannot be checked, and nobody whose document says other.
    let token = server.token(json!({"kind": "join"})).await;
    for (name, body, status) in [
        ("e", json!({"document": aws(&tool, "i-5", "stranger")}), 201),
        ("f", json!({"document": {"cloud": "gcp", "text": "a.b.c"}}), 201),
        ("g", good, 202),
        ("h", json!({"document": {"cloud": "aws", "text": "x".repeat(33_000)}}), 400),
        ("i", json!({"document": {"cloud": "moon", "text": ""}}), 400),
    ] {
        let machine = Machine::of(u64::from(name.as_bytes()[0]), name);
        let answer = shows(&server, &machine, Some(&token), body).await;
        assert_eq!(answer.status, status, "{name}: {:?}", answer.json);
    }
    let tried = json!({"policy": policy});
    let tried = server.json("POST", "/v1/policies/try", ADMIN, tried).await.json;
    let names = |list: &Value| {
        let all = list.as_array().unwrap();
        all.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&tried["admitted"]), ["web-1"], "{tried}");
    let old = json!({"policy": {"name": "x", "labels": {"cloud_account": "123"},
                                "started_within_secs": 1}});
    let tried = server.json("POST", "/v1/policies/try", ADMIN, old).await.json;
    assert!(tried["admitted"].as_array().unwrap().is_empty(), "{tried}");
    assert!(tried.to_string().contains("s before it asked"), "{tried}");
}

#[tokio::test]
async fn a_policy_names_the_accounts_that_a_token_s_machines_may_be_of() {
    let Some(tool) = OpenSsl::for_test("policies that name accounts") else { return };
    let server = Server::start();
    let aws_trust = Some(tool.dated("region", "20260101000000Z", "20290101000000Z"));
    server.intake.trust_clouds(CloudTrust { aws: aws_trust, ..CloudTrust::default() }).unwrap();
    let minted = json!({"kind": "join", "auto_approve": false});
    let minted = server.json("POST", "/v1/tokens", ADMIN, minted).await.json;
    let (id, token) = (&minted["id"], minted["token"].as_str().unwrap());
    let policy = |accounts: &[&str]| json!({"name": "fleet", "token": id, "accounts": accounts});
    for (accounts, part) in [(&["123"][..], "write aws:"), (&["aws:1"; 101], "at most 100")] {
        let refused = server.json("POST", "/v1/policies", ADMIN, policy(accounts)).await;
        let said = refused.is(400, "bad_request").json["message"].as_str().unwrap().to_owned();
        assert!(said.contains(part), "{said}");
    }
    let machine = |seed: u64| Machine::of(seed, &format!("web-{seed}"));
    let shown = |instance: &str| json!({"document": aws(&tool, instance, "region")});
    let waits = shows(&server, &machine(1), Some(token), shown("i-1")).await;
    assert_eq!(waits.status, 202, "no policy yet: {:?}", waits.json);
    assert_eq!(shows(&server, &machine(2), Some(token), json!({})).await.status, 202);
    let claimed = json!({"labels": {"cloud_provider": "aws", "cloud_account": "123"}});
    assert_eq!(shows(&server, &machine(3), Some(token), claimed).await.status, 202);
    // The account's number is that of AWS alone.
    for (accounts, admits) in [
        (&["aws:999", "gcp:123"][..], [false, false, false]),
        (&["aws:999", "aws:123"], [true, false, false]),
    ] {
        let tried = json!({"policy": policy(accounts)});
        let tried = server.json("POST", "/v1/policies/try", ADMIN, tried).await.json;
        for (seed, admits) in (1..).zip(admits) {
            let listed = tried[if admits { "admitted" } else { "refused" }].as_array().unwrap();
            let name = format!("web-{seed}");
            assert!(listed.iter().any(|one| one["name"] == name), "{name} {accounts:?} {tried}");
        }
        if !admits[0] {
            let text = tried.to_string();
            assert!(text.contains("its document is of aws:123, none of its accounts"), "{text}");
            assert!(text.contains("it shows no document of a cloud"), "{text}");
        }
    }
    let added = server.json("POST", "/v1/policies", ADMIN, policy(&["aws:999", "aws:123"])).await;
    assert_eq!(added.status, 204);
    assert_eq!(server.get("/v1/policies").await.json[0]["accounts"], json!(["aws:999", "aws:123"]));
    assert_eq!(shows(&server, &machine(4), Some(token), shown("i-4")).await.status, 201);
    let strangers = shows(&server, &machine(5), None, shown("i-5")).await;
    assert_eq!(strangers.status, 202, "the account without the token: {:?}", strangers.json);
    assert_eq!(shows(&server, &machine(6), Some(token), json!({})).await.status, 202);
}

/// A message of SNS about a machine, signed by `signer`.
fn message(tool: &OpenSsl, (signer, version): (&str, &str), about: &Value) -> Value {
    let mut message = json!({
        "Type": "Notification", "MessageId": "m-1", "Subject": "EC2", "Message": about.to_string(),
        "TopicArn": "arn:aws:sns:eu-west-1:123:fleet", "Timestamp": "2026-09-21T14:13:00.123Z",
        "SignatureVersion": version,
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-00.pem",
    });
    let mut signed = String::new();
    for name in ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"] {
        signed.extend([name, "\n", message[name].as_str().unwrap(), "\n"]);
    }
    let hash = if version == "1" { "-sha1" } else { "-sha256" };
    let signature = tool.signature(signer, hash, signed.as_bytes());
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signature);
    message["Signature"] = json!(encoded);
    message
}

#[tokio::test]
async fn a_message_of_sns_is_taken_by_its_own_signature_where_its_topic_is_named() {
    let Some(tool) = OpenSsl::for_test("messages of SNS") else { return };
    let server = Server::start();
    let certificate = tool.dated("sns", "20260901000000Z", "20270901000000Z");
    let ended = tool.dated("ended", "20250901000000Z", "20260920235959Z");
    let early = tool.dated("early", "20260922000000Z", "20270921000000Z");
    let all = [&certificate, &ended, &early].map(|pem| std::fs::read(pem).unwrap()).concat();
    std::fs::write(tool.path("all.pem"), all).unwrap();
    tool.itself("stranger");
    let is_over = json!({"id": "e1", "detail-type": "EC2 Instance State-change Notification",
                       "detail": {"instance-id": "i-1", "state": "terminated"}});
    let post = async |message: &Value| {
        let request = http::Request::post("/v1/cloud-events").body(message.to_string().into());
        server.send(request.unwrap()).await
    };
    let good = message(&tool, ("sns", "2"), &is_over);
    post(&good).await.is(401, "unauthorised");
    let trust = CloudTrust {
        sns_topics: vec!["arn:aws:sns:eu-west-1:123:fleet".to_owned()],
        sns_certificate: Some(tool.path("all.pem")),
        ..CloudTrust::default()
    };
    server.intake.trust_clouds(trust).unwrap();
    let web = Machine::of(1, "web");
    let token = server.token(json!({"kind": "join"})).await;
    let labels = json!({"labels": {"cloud_instance_id": "i-1"}});
    assert_eq!(shows(&server, &web, Some(&token), labels).await.status, 201);

    let forged = message(&tool, ("stranger", "2"), &is_over);
    let mut changed = good.clone();
    changed["Message"] = json!(is_over.to_string().replace("i-1", "i-2"));
    let mut late = good.clone();
    late["Timestamp"] = json!("2026-09-21T13:00:00Z");
    let mut elsewhere = good.clone();
    elsewhere["TopicArn"] = json!("arn:aws:sns:eu-west-1:666:fleet");
    let mut newer = good.clone();
    newer["SignatureVersion"] = json!("3");
    for (message, why) in [
        (forged, "the signature does not fit"),
        (
            message(&tool, ("ended", "2"), &is_over),
            "the certificate that it is signed with ended 14 h ago",
        ),
        (message(&tool, ("early", "1"), &is_over), "signed with begins only in 9 h"),
        (changed, "the signature does not fit"),
        (late, "too old"),
        (elsewhere, "its topic is not one of"),
        (newer, "neither 1 nor 2"),
    ] {
        let answer = post(&message).await.is(401, "bad_signature");
        assert!(answer.json["message"].as_str().unwrap().contains(why), "{why}: {:?}", answer.json);
    }
    // What is no message of SNS is not heard from a stranger.
    post(&is_over).await.is(401, "unauthorised");
    let taken = post(&good).await;
    assert_eq!(
        (taken.status.as_u16(), &taken.json["taken"]),
        (200, &json!(true)),
        "{:?}",
        taken.json
    );
    let again = post(&good).await;
    assert_eq!(again.json["taken"], json!(false), "it comes twice");
    let mut runs = is_over.clone();
    runs["detail"]["state"] = json!("running");
    let mut older = message(&tool, ("sns", "1"), &runs);
    older["MessageId"] = json!("m-2");
    post(&older).await.is(401, "bad_signature");
    let older = message(&tool, ("sns", "1"), &runs);
    assert_eq!(post(&older).await.json["message"], "this event was taken before");
}
