//! Tests of archives at the operator's word, and of the disk limit.

use serde_json::{Value, json};

use super::support::*;
use crate::registry::State;

/// Writes a series of each of these metrics of an instance; answers its id.
async fn written(server: &Server, instance: &str, metrics: &[&str]) -> String {
    let body = metrics.iter().fold(WriteBody::default(), |body, metric| {
        let labels = [("__name__", *metric), ("instance", instance), ("job", "j")];
        body.series(&labels, &[(at(0), 1.0)])
    });
    assert_eq!(server.write(ADMIN, &body.0).await.status, 204);
    server.settle().await;
    let all = server.parts().registry.instances();
    let found = all.iter().find(|known| known.labels.get("instance") == Some(instance));
    found.unwrap().id.to_string()
}

async fn ask(server: &Server, id: &str, action: &str, body: Value) -> Answer {
    server.json("POST", &format!("/v1/instances/{id}/{action}"), ADMIN, body).await
}

/// A round, as the program's would be.
fn round(server: &Server) {
    let store = &server.parts().store;
    let round = store.begin_round(1 << 40, 1);
    assert_eq!(round.write().failed, []);
    store.finish_round(1 << 40);
}

#[tokio::test]
async fn a_policy_is_tried_then_changed_and_not_twice_at_once() {
    let server = Server::start();
    let id = written(&server, "a:1", &["up", "load"]).await;
    let wanted = json!({"policy": "30s:1d,5m:14d", "dry_run": true});
    let tried = ask(&server, &id, "policy", wanted).await;
    assert_eq!(tried.status, 200, "{:?}", tried.json);
    let lost = json!([{
        "step": "1m", "kept_ms": 172_800_000, "keeps_ms": 0, "other_days": false, "has_wider": true,
    }]);
    assert_eq!((&tried.json["changed"], &tried.json["loses"]), (&json!(false), &lost));
    assert!(tried.json["bytes_needed"].as_u64() > tried.json["bytes"].as_u64());
    let list = server.get("/v1/instances").await.json;
    assert_eq!(list[0]["archive"]["policy"], "1m:2d");
    let changed = ask(&server, &id, "policy", json!({"policy": "30s:1d,5m:14d"})).await;
    assert_eq!((changed.status.as_u16(), &changed.json["changed"]), (200, &json!(true)));
    let list = server.get("/v1/instances").await.json;
    let archive = &list[0]["archive"];
    assert_eq!((&archive["policy"], &archive["series"]), (&json!("30s:1d,5m:14d"), &json!(2)));
    ask(&server, &id, "policy", json!({"policy": "1m:2d"})).await.is(409, "under_way");
}

/// Days of UTC are no parts of days elsewhere: what only they have goes, and that is said before.
#[tokio::test]
async fn days_of_another_zone_are_lost_beyond_what_narrower_rows_hold() {
    let server = Server::start();
    let id = written(&server, "a:1", &["up"]).await;
    let with_days = json!({"policy": "1m:2d,1h:90d,1d:5y"});
    assert_eq!(ask(&server, &id, "policy", with_days).await.status, 200);
    server.settle().await;
    round(&server);
    let day_ms = 86_400_000_u64;
    for (policy, keeps_days) in [
        ("1m:2d,1h:90d,1d@Europe/Paris:5y", 90),
        ("1m:2d,1h:90d,1d@Asia/Kolkata:5y", 2),
        ("1m:2d,1h:90d,1d@Europe/Paris:30d", 30),
    ] {
        let wanted = json!({"policy": policy, "dry_run": true});
        let tried = ask(&server, &id, "policy", wanted).await;
        let lost = json!([{
            "step": "1d", "kept_ms": 1826 * day_ms, "keeps_ms": keeps_days * day_ms,
            "other_days": true, "has_wider": false,
        }]);
        assert_eq!(tried.json["loses"], lost, "{policy}: {:?}", tried.json);
    }
}

#[tokio::test]
async fn what_cannot_be_changed_is_told_why() {
    let server = Server::start();
    let id = written(&server, "a:1", &["up"]).await;
    let unknown = "0".repeat(32);
    for (id, action, body, status, word) in [
        (&id, "policy", json!({"policy": "90s:1d"}), 400, "bad_request"),
        (&id, "policy", json!({"policy": "1m"}), 400, "bad_request"),
        (&id, "policy", json!({}), 400, "bad_request"),
        (&unknown, "policy", json!({"policy": "1m:3d"}), 404, "not_found"),
        (&"nobody".to_owned(), "policy", json!({"policy": "1m:3d"}), 404, "not_found"),
        (&id, "drop", json!({"match": []}), 400, "bad_request"),
        (&id, "drop", json!({"match": ["up"]}), 400, "bad_request"),
        (&id, "drop", json!({"match": ["x=~("]}), 400, "bad_request"),
        (&unknown, "drop", json!({"match": ["x=1"]}), 404, "not_found"),
        (&id, "reclaim", json!({}), 409, "active"),
        (&unknown, "reclaim", json!({}), 404, "not_found"),
    ] {
        let refused = ask(&server, id, action, body).await.is(status, word);
        assert!(refused.json["message"].as_str().unwrap().len() > 20, "{:?}", refused.json);
    }
    let relay = server.token(json!({"kind": "relay"})).await;
    for action in ["policy", "drop", "reclaim"] {
        let path = format!("/v1/instances/{id}/{action}");
        server.json("POST", &path, &relay, json!({})).await.is(403, "forbidden");
    }
    server.fill_disk();
    let full = ask(&server, &id, "policy", json!({"policy": "1m:30d"})).await;
    assert!(full.is(507, "disk_full").json["message"].as_str().unwrap().contains("no room"));
}

#[tokio::test]
async fn series_are_listed_then_dropped_and_begin_anew_when_sent_again() {
    let server = Server::start();
    let id = written(&server, "a:1", &["up", "load", "lost"]).await;
    written(&server, "b:1", &["load"]).await;
    let wanted = json!({"match": ["__name__=~lo.*", "instance=a:1"], "dry_run": true});
    let listed = ask(&server, &id, "drop", wanted).await;
    assert_eq!(listed.json["series"].as_array().unwrap().len(), 2, "{:?}", listed.json);
    assert_eq!(listed.json["dropped"], false);
    let dropped = ask(&server, &id, "drop", json!({"match": ["__name__=~lo.*"]})).await;
    assert_eq!((dropped.status.as_u16(), &dropped.json["dropped"]), (200, &json!(true)));
    let count = || server.parts().store.info(id.parse().unwrap()).unwrap().series_count;
    assert_eq!(count(), 1);
    written(&server, "a:1", &["load"]).await;
    assert_eq!(count(), 2);
    assert_eq!(server.parts().store.select(&[]).len(), 3);
}

#[tokio::test]
async fn who_was_withdrawn_gives_its_archive_back() {
    let server = Server::start();
    let id = written(&server, "a:1", &["up"]).await;
    assert_eq!(ask(&server, &id, "withdraw", json!({})).await.status, 204);
    let tried = ask(&server, &id, "reclaim", json!({"dry_run": true})).await;
    assert!(tried.json["bytes"].as_u64().unwrap() > 0);
    assert_eq!(server.parts().store.instances().len(), 1);
    let done = ask(&server, &id, "reclaim", json!({})).await;
    assert_eq!((done.status.as_u16(), &done.json["reclaimed"]), (200, &json!(true)));
    assert_eq!(server.parts().store.instances().len(), 0);
    round(&server);
    ask(&server, &id, "reclaim", json!({})).await.is(404, "not_found");
}

#[tokio::test]
async fn at_the_disk_limit_the_longest_silent_of_those_gone_are_reclaimed_and_nobody_else() {
    let server = Server::start();
    let mut ids = Vec::new();
    for name in ["a:1", "b:1", "c:1"] {
        ids.push(written(&server, name, &["up"]).await);
        server.clock.advance(std::time::Duration::from_secs(10));
    }
    let one = server.parts().store.archive_bytes(ids[0].parse().unwrap());
    server.intake.limit_disk(3 * one);
    for id in [&ids[1], &ids[0]] {
        assert_eq!(ask(&server, id, "withdraw", json!({})).await.status, 204);
    }
    let has = |id: &String| server.parts().store.info(id.parse().unwrap()).is_some();
    let fourth = written(&server, "d:1", &["up"]).await;
    assert_eq!([&ids[0], &ids[1], &ids[2], &fourth].map(has), [false, true, true, true]);
    written(&server, "e:1", &["up"]).await;
    assert!(!has(&ids[1]) && has(&ids[2]), "active ones never go");
    let stranger = [("__name__", "up"), ("instance", "f:1"), ("job", "j")];
    let body = WriteBody::default().series(&stranger, &[(at(0), 1.0)]);
    let refused = server.write(ADMIN, &body.0).await.is(507, "disk_full");
    assert!(refused.headers.contains_key("retry-after"));
    let message = refused.json["message"].as_str().unwrap();
    assert!(message.contains("the disk limit; raise it"), "{message}");
    let longer = json!({"policy": "1m:9d"});
    ask(&server, &fourth, "policy", longer).await.is(507, "disk_full");
    // What is known goes on, and a limit that was raised lets others in.
    written(&server, "c:1", &["up"]).await;
    server.intake.limit_disk(4 * one);
    assert_eq!(server.write(ADMIN, &body.0).await.status, 204);
    let gone = server.parts().registry.instance(ids[0].parse().unwrap()).unwrap();
    assert_eq!(gone.lifecycle.state, State::Reclaimed, "the registry remembers it");
}

#[tokio::test]
async fn who_comes_back_after_its_archive_was_reclaimed_is_another_instance() {
    let server = Server::start();
    let id = written(&server, "a:1", &["up"]).await;
    let one = server.parts().store.archive_bytes(id.parse().unwrap());
    server.intake.limit_disk(one);
    assert_eq!(ask(&server, &id, "withdraw", json!({})).await.status, 204);
    written(&server, "b:1", &["up"]).await;
    server.intake.limit_disk(9 * one);
    server.clock.advance(std::time::Duration::from_mins(1));
    let labels = [("__name__", "up"), ("instance", "a:1"), ("job", "j")];
    let body = WriteBody::default().series(&labels, &[(at(60), 1.0)]);
    let info = |id: &str| server.parts().store.info(id.parse().unwrap());
    assert_eq!(server.write(ADMIN, &body.0).await.status, 204);
    server.settle().await;
    assert!(info(&id).is_none(), "its rows are gone");
    let list = server.get("/v1/instances?state=active&label=instance=a:1").await.json;
    assert_eq!(list[0]["predecessor"], id.as_str());
    let now = list[0]["id"].as_str().unwrap();
    assert_eq!(info(now).map(|info| info.series_count), Some(1), "what was accepted is stored");
    round(&server);
    assert!(info(&id).is_none() && info(now).is_some());
}

#[tokio::test]
async fn a_replay_reclaims_the_same() {
    let server = Server::start();
    let id = written(&server, "a:1", &["up"]).await;
    let one = server.parts().store.archive_bytes(id.parse().unwrap());
    server.intake.limit_disk(one);
    assert_eq!(ask(&server, &id, "withdraw", json!({})).await.status, 204);
    let other = written(&server, "b:1", &["up"]).await;
    let held = |server: &Server| -> Vec<String> {
        server.parts().store.instances().iter().map(|info| info.id.to_string()).collect()
    };
    assert_eq!(held(&server), std::slice::from_ref(&other));
    let (disk, registry) = server.stop();
    assert_eq!(held(&Server::over(disk, registry)), [other]);
}
