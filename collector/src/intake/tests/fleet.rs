//! Tests of fleets over time: clouds, zones, what others follow, and a thousand short lives.

use std::collections::BTreeMap;
use std::time::Duration;

use fixtures::dice::{Dice, told};
use ring::hmac;
use rrd::hex::Hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::keys::{Machine, push};
use super::support::*;
use crate::lifecycle::State;
use crate::native::EnrollAnswer;
use crate::registry::Registry;

/// The state and evidence of every instance by name.
fn states(server: &Server) -> BTreeMap<String, (State, String)> {
    let all = server.parts().registry.instances();
    all.iter()
        .map(|one| (one.name.clone(), (one.lifecycle.state, one.lifecycle.sentence())))
        .collect()
}

/// Lets time pass, with a sweep every two seconds at first and every minute later.
async fn pass(server: &Server, secs: u64) {
    let step = if secs <= 600 { 2 } else { 60 };
    for _ in 0..secs.div_ceil(step) {
        server.clock.advance(Duration::from_secs(step));
        server.intake.sweep().await.unwrap();
    }
}

async fn enrolled(server: &Server, seed: u64, token: &str, labels: Value) -> (EnrollAnswer, u128) {
    let machine = Machine::of(seed, &format!("m{seed}"));
    let answer = machine.asks(server, Some(token), labels).await;
    assert_eq!(answer.status, 201, "{:?}", answer.json);
    (serde_json::from_value(answer.json).unwrap(), machine.boot)
}

async fn heard(server: &Server, (answer, boot): &(EnrollAnswer, u128), number: u64) {
    let batch = push(answer, (1, *boot), number, wall(server));
    assert_eq!(server.push(&answer.credential, &batch).await.status, 200);
}

fn state_change(id: &str, machine: &str, state: &str) -> String {
    let kind = "EC2 Instance State-change Notification";
    let detail = json!({"instance-id": machine, "state": state});
    json!({"id": id, "detail-type": kind, "source": "aws.ec2", "detail": detail}).to_string()
}

#[tokio::test]
async fn the_cloud_s_word_makes_silence_an_end_and_running_a_death() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let gone = enrolled(&server, 1, &token, json!({"cloud_instance_id": "i-1"})).await;
    let dead = enrolled(&server, 2, &token, json!({"cloud_instance_id": "i-2"})).await;
    for one in [&gone, &dead] {
        heard(&server, one, 1).await;
    }
    pass(&server, 2).await;
    let events = server.token(json!({"kind": "events"})).await;
    let tell = |secret: &str, body: String| {
        let request = request("POST", "/v1/cloud-events", secret);
        server.send(request.body(axum::body::Body::from(body)).unwrap())
    };
    let taken = tell(&events, state_change("e1", "i-1", "shutting-down")).await;
    assert_eq!((taken.status.as_u16(), &taken.json["taken"]), (200, &json!(true)));
    let again = tell(&events, state_change("e1", "i-1", "shutting-down")).await;
    assert_eq!((again.status.as_u16(), &again.json["taken"]), (200, &json!(false)));
    let other = tell(&events, state_change("e2", "i-9", "terminated")).await;
    assert_eq!(other.json["message"], "no instance here is i-9");
    assert_eq!(tell(&events, state_change("e3", "i-2", "running")).await.json["taken"], true);
    tell(&token, state_change("e4", "i-2", "terminated")).await.is(403, "forbidden");
    tell("nobody", state_change("e4", "i-2", "terminated")).await.is(401, "unauthorised");
    tell(&events, "{}".to_owned()).await.is(400, "bad_request");
    assert_eq!(states(&server)["m1"].0, State::Active, "its word alone ends nobody");
    pass(&server, 600).await;
    let states = states(&server);
    let (state, evidence) = &states["m1"];
    assert_eq!(*state, State::Terminated);
    assert_eq!(evidence, "silent, and the cloud says that i-1 is shutting-down");
    let (state, evidence) = &states["m2"];
    assert_eq!(*state, State::Lost);
    assert!(evidence.starts_with("its agent is dead and its host is not"), "{evidence}");
}

#[tokio::test]
async fn the_same_word_of_the_cloud_heard_again_counts_from_then() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let one = enrolled(&server, 1, &token, json!({"cloud_instance_id": "i-1"})).await;
    let events = server.token(json!({"kind": "events"})).await;
    for number in 1..3 {
        server.clock.advance(Duration::from_hours(2));
        heard(&server, &one, number).await;
        pass(&server, 2).await;
        let told = state_change(&format!("e{number}"), "i-1", "stopped");
        let request = request("POST", "/v1/cloud-events", &events);
        let answer = server.send(request.body(axum::body::Body::from(told)).unwrap()).await;
        assert_eq!(answer.json["taken"], true, "{:?}", answer.json);
    }
    pass(&server, 600).await;
    assert_eq!(states(&server)["m1"].0, State::Terminated);
}

#[tokio::test]
async fn a_signature_takes_the_place_of_a_secret_in_the_clear() {
    let server = Server::start();
    let minted = server.json("POST", "/v1/tokens", ADMIN, json!({"kind": "events"})).await.json;
    let (id, secret) = (minted["id"].as_str().unwrap(), minted["token"].as_str().unwrap());
    let body = state_change("e1", "i-1", "running");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &Sha256::digest(secret.as_bytes()));
    let signed = |at_ms: i64, body: &str| {
        let mac = hmac::sign(&key, format!("{at_ms}.{body}").as_bytes());
        format!("id={id},t={at_ms},v1={}", Hex(mac.as_ref()))
    };
    let now_ms = NOW.as_millis();
    for (header, status) in [
        (signed(now_ms, &body), 200),
        (signed(now_ms - 299_000, &body), 200),
        (signed(now_ms - 301_000, &body), 401),
        (signed(now_ms, "{}"), 401),
        (signed(now_ms, &body).replace(id, "00000000000000ff"), 401),
        ("v1=".to_owned(), 401),
    ] {
        let request = http::Request::post("/v1/cloud-events").header("roundel-signature", &header);
        let answer = server.send(request.body(axum::body::Body::from(body.clone())).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{header}: {:?}", answer.json);
    }
    // Of who names no good token, or signed long ago, no body is read.
    let large = " ".repeat(100_000);
    for (header, status, word) in [
        (signed(now_ms, &large), 413, "too_large"),
        (signed(now_ms - 301_000, &large), 401, "bad_signature"),
        (signed(now_ms, &large).replace(id, "00000000000000ff"), 401, "bad_signature"),
    ] {
        let request = http::Request::post("/v1/cloud-events").header("roundel-signature", &header);
        let request = request.body(axum::body::Body::from(large.clone())).unwrap();
        server.send(request).await.is(status, word);
    }
}

#[tokio::test]
async fn a_zone_that_falls_silent_at_once_is_nobody_s_death() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let mut fleet = Vec::new();
    for seed in 0..20 {
        let zone = if seed < 10 { "a" } else { "b" };
        fleet.push(enrolled(&server, seed, &token, json!({"zone": zone})).await);
    }
    // All of zone a but three fall silent, and one of zone b.
    let reports = |seed: usize| !(seed < 7 || seed == 10);
    let mut number = 0;
    for round in 0..60 {
        number += 1;
        for (seed, one) in fleet.iter().enumerate() {
            if round < 4 || reports(seed) {
                heard(&server, one, number).await;
            }
        }
        pass(&server, 10).await;
    }
    let counted = |zone: usize| -> Vec<State> {
        let states = states(&server);
        (zone * 10..zone * 10 + 10).map(|seed| states[&format!("m{seed}")].0).collect()
    };
    assert_eq!(counted(0)[..7], [State::Silent; 7], "frozen, not lost");
    assert_eq!(counted(0)[7..], [State::Active; 3]);
    assert_eq!(counted(1)[0], State::Lost, "alone in its zone it is");
    let events = server.get("/v1/events").await.json;
    let faults: Vec<_> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["what"] == "zone_fault")
        .collect();
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0]["evidence"].as_str().unwrap().contains("of 10 instances of zone a fell silent")
    );
    // Most come back: the timers run again, and who stays away is lost five minutes later.
    number += 1;
    for one in &fleet[2..7] {
        heard(&server, one, number).await;
    }
    pass(&server, 4).await;
    assert_eq!(counted(0)[..3], [State::Silent, State::Silent, State::Active]);
    for _ in 0..31 {
        number += 1;
        for one in &fleet[2..10] {
            heard(&server, one, number).await;
        }
        pass(&server, 10).await;
    }
    assert_eq!(counted(0)[..3], [State::Lost, State::Lost, State::Active]);
}

#[tokio::test]
async fn others_follow_who_is_there_and_may_do_nothing_else() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let web = enrolled(&server, 1, &token, json!({"role": "web"})).await;
    enrolled(&server, 2, &token, json!({"role": "db"})).await;
    heard(&server, &web, 1).await;
    pass(&server, 2).await;
    let reader = server.token(json!({"kind": "read"})).await;
    let get = |path: &'static str| {
        server.send(request("GET", path, &reader).body(axum::body::Body::empty()).unwrap())
    };
    let targets = get("/v1/sd/prometheus?port=9100").await;
    let labels = &targets.json[0]["labels"];
    assert_eq!(targets.json.as_array().unwrap().len(), 1, "who never sent is no target yet");
    assert_eq!(targets.json[0]["targets"], json!(["m1:9100"]));
    assert_eq!(labels["__meta_roundel_label_role"], "web");
    assert_eq!(labels["__meta_roundel_state"], "active");
    assert_eq!(get("/v1/sd/prometheus?label=role:db").await.json, json!([]));
    assert_eq!(get("/v1/instances?label=role:db").await.json.as_array().unwrap().len(), 1);
    get("/v1/instances?state=sleeping").await.is(400, "bad_request");
    assert_eq!(get("/v1/events?after=1&limit=1").await.json["next"], 2);
    get("/v1/enrollments").await.is(403, "forbidden");
    get("/v1/tokens").await.is(403, "forbidden");
}

#[tokio::test]
async fn a_clock_that_is_set_forward_makes_nobody_silent() {
    let server = Server::start();
    let web = enrolled(&server, 1, ADMIN, json!({})).await;
    heard(&server, &web, 1).await;
    pass(&server, 2).await;
    server.clock.set_wall(wall(&server).plus_millis(3_600_000));
    pass(&server, 20).await;
    assert_eq!(states(&server)["m1"].0, State::Active);
    pass(&server, 90).await;
    assert_eq!(states(&server)["m1"].0, State::Silent, "but who is silent still is");
}

/// A thousand enrol at once, live for up to an hour, and end with a goodbye or without.
#[tokio::test]
async fn a_thousand_short_lives_end_as_they_should_and_leave_nothing_behind() {
    const COUNT: u64 = 1_000;
    let seed = told().unwrap_or_else(|| getrandom::u64().unwrap());
    println!("ROUNDEL_SEED={seed}");
    let mut dice = Dice::new(seed);
    let server = Server::roomy();
    let token = json!({"kind": "join", "lifecycle": "ephemeral", "ttl_secs": 864_000});
    let token = server.token(token).await;
    let ask = |seed: u64| {
        let machine = Machine::of(seed, &format!("m{seed}"));
        let boot = format!("{:032x}", machine.boot);
        let body = json!({"name": machine.name, "boot_id": boot}).to_string();
        let request = machine.request(&server, ("POST", "/v1/enroll", Some(&token)), &body);
        let routes = crate::intake::router(server.intake.clone());
        tokio::spawn(async move {
            use http_body_util::BodyExt as _;
            use tower::ServiceExt as _;
            let response = routes.oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            assert!([201, 503].contains(&status), "{status}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let answer = (status == 201).then(|| serde_json::from_slice(&body).unwrap());
            answer.map(|answer: EnrollAnswer| (answer, machine.boot))
        })
    };
    let mut enrolled = BTreeMap::new();
    for _ in 0..50 {
        // Who was told to come back later does, as agents do.
        let left = (0..COUNT).filter(|seed| !enrolled.contains_key(seed));
        let asked: Vec<_> = left.map(|seed| (seed, ask(seed))).collect();
        for (seed, one) in asked {
            enrolled.extend(one.await.unwrap().map(|answer| (seed, answer)));
        }
    }
    // Minutes each lives, and whether it says goodbye.
    let lives = |one| (one, 1 + dice.below(60), dice.below(2) == 0);
    let fleet: Vec<_> = enrolled.into_values().map(lives).collect();
    assert_eq!(states(&server).len(), 1_000);

    for minute in 1..=60 {
        for (one, lives, says_goodbye) in &fleet {
            // Rows come once: an hour of them would only fill the journal of this test.
            match minute {
                1 => heard(&server, one, 1).await,
                _ if *lives >= minute => {
                    let id = rrd::InstanceId(one.0.id);
                    server.parts().registry.saw([id], wall(&server));
                }
                _ => {}
            }
            if *lives == minute && *says_goodbye {
                let path = format!("/v1/instances/{:032x}/goodbye", one.0.id);
                let body = json!({"reason": "terminate", "evidence": "scale-in"});
                let said = server.json("POST", &path, &one.0.credential, body).await;
                assert_eq!(said.status, 204);
            }
        }
        server.clock.advance(Duration::from_mins(1));
        server.intake.sweep().await.unwrap();
    }
    assert!(server.parts().store.instances().len() == 1_000, "each has rows");
    pass(&server, 3 * 3_600).await;
    let found = states(&server);
    for (number, (_, lives, says_goodbye)) in fleet.iter().enumerate() {
        let (state, evidence) = &found[&format!("m{number}")];
        let expected =
            if *says_goodbye { "(terminate): scale-in" } else { "ephemeral by its token" };
        assert_eq!(*state, State::Withdrawn, "m{number} lived {lives} min: {evidence}");
        assert!(evidence.contains(expected), "m{number}: {evidence}");
    }
    let vanished = fleet.iter().position(|(_, _, says_goodbye)| !says_goodbye).unwrap();
    let vanished = rrd::InstanceId(fleet[vanished].0.0.id);
    let past = &server.parts().registry.instance(vanished).unwrap().lifecycle.past;
    let came_through: Vec<State> = past.iter().map(|one| one.state).collect();
    assert!(
        came_through.ends_with(&[State::Active, State::Silent, State::Lost]),
        "{came_through:?}"
    );

    // A day later they are archived; when the longest archive (two days) is empty they are reclaimed.
    server.clock.advance(Duration::from_hours(24));
    server.intake.sweep().await.unwrap();
    assert!(states(&server).values().all(|(state, _)| *state == State::Archived));
    assert_eq!(server.parts().store.instances().len(), 1_000, "their rows can be read");
    server.clock.advance(Duration::from_hours(24));
    for _ in 0..10 {
        server.intake.sweep().await.unwrap();
    }
    server.settle().await;
    let store = &server.parts().store;
    let round = store.begin_round(1 << 40, 1);
    assert_eq!(round.write().failed, []);
    store.finish_round(1 << 40);
    assert!(store.instances().is_empty() && store.all_archive_bytes() == 0, "no slot is left");
    let files = rrd::Disk::list(&server.disk, std::path::Path::new("archives")).unwrap();
    assert!(files.is_empty(), "{} files are left", files.len());
    let registry = &server.parts().registry;
    for (state, evidence) in states(&server).values() {
        assert_eq!(*state, State::Reclaimed);
        assert!(
            evidence.starts_with("its longest archive had run empty; withdrawn: "),
            "{evidence}"
        );
    }
    assert!(registry.instances().iter().all(|one| registry.last_seen(one.id).is_none()));
    assert_eq!(registry.instance_count(), 0, "lines take nobody's place");
    let restored = Registry::restore(&registry.snapshot()).unwrap();
    assert_eq!(restored.snapshot(), registry.snapshot());
    assert_eq!(restored.last_event(), registry.last_event());
}

/// Ten thousand values of one label come and go: what is granted stays granted, and no more.
#[tokio::test]
async fn churning_labels_never_take_more_than_the_grant() {
    let server = Server::start();
    let token = server.token(json!({"kind": "relay", "series_quota": 100})).await;
    let series = |name: &str, value: &str| {
        let labels = [("__name__", name), ("device", value), ("instance", "a:1"), ("job", "j")];
        WriteBody::default().series(&labels, &[(at(0), 1.0)])
    };
    assert_eq!(server.write(&token, &series("running", "lo").0).await.status, 204);
    server.settle().await;
    let column = || {
        let matcher = rrd::Matcher::new("__name__", rrd::MatchOp::Equal, "running").unwrap();
        server.parts().store.select(&[matcher])[0].series.column
    };
    let (first, mut refused) = (column(), 0);
    for part in 0..20 {
        let body = (0..500).fold(WriteBody::default(), |body, number| {
            let device = format!("veth{}", part * 500 + number);
            let labels =
                [("__name__", "x"), ("device", &device), ("instance", "a:1"), ("job", "j")];
            body.series(&labels, &[(at(part), 1.0)])
        });
        let answer = server.write(&token, &body.0).await;
        refused += u64::from(answer.status == 400);
        assert!(answer.reasons().iter().all(|reason| *reason == "series_limit"));
    }
    assert_eq!(refused, 20);
    server.settle().await;
    let info = &server.parts().store.instances()[0];
    assert_eq!((info.series_count, column()), (100, first));
    let bytes = info.file_len;
    assert_eq!(server.write(&token, &series("running", "lo").0).await.status, 204);
    assert_eq!(server.parts().store.instances()[0].file_len, bytes, "the disk stays as it is");
}
