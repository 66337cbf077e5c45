//! Tests of roles: what instances that were reclaimed leave behind.

use std::time::Duration;

use rrd::{MatchOp, Matcher, SeriesInfo, Span, Timestamp};
use serde_json::{Value, json};

use super::keys::{Machine, push};
use super::support::*;
use crate::lifecycle::State;
use crate::native::EnrollAnswer;

/// Instances with these labels that sent for a minute together, at most three; their ids.
async fn fleet(server: &Server, labels: &Value, count: u64) -> Vec<String> {
    let token = server.token(json!({"kind": "join"})).await;
    let mut members: Vec<(EnrollAnswer, u128)> = Vec::new();
    for seed in 0..count {
        let machine = Machine::of(seed, &format!("m{seed}"));
        let answer = machine.asks(server, Some(&token), labels.clone()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.json);
        members.push((serde_json::from_value(answer.json).unwrap(), machine.boot));
    }
    for number in 1..=7 {
        for ((answer, boot), value) in members.iter().zip([1.0, 4.0, 9.0]) {
            let mut batch = push(answer, (1, *boot), number, wall(server));
            batch.dictionary[0].kind = rrd::Kind::Gauge as u8;
            batch.readings[0].values[0].1 = value;
            assert_eq!(server.push(&answer.credential, &batch).await.status, 200);
        }
        server.clock.advance(Duration::from_secs(10));
    }
    server.settle().await;
    members.iter().map(|(answer, _)| format!("{:032x}", answer.id)).collect()
}

async fn act(server: &Server, id: &str, word: &str) -> u16 {
    let path = format!("/v1/instances/{id}/{word}");
    server.json("POST", &path, ADMIN, json!({})).await.status.as_u16()
}

fn of_role(server: &Server, name: &str) -> Option<SeriesInfo> {
    let matcher = |label, value| Matcher::new(label, MatchOp::Equal, value).unwrap();
    let found = server.parts().store.select(&[matcher("role", "web"), matcher("__name__", name)]);
    found.into_iter().next()
}

/// Known minutes of a series of the role.
fn minutes(server: &Server, name: &str) -> Vec<f64> {
    let Some(series) = of_role(server, name) else { return Vec::new() };
    let all = Span::new(Timestamp::from_secs(0), at(86_400)).unwrap();
    let rows = server.parts().store.rows_of(&series, 1, all);
    rows.average.into_iter().filter(|value| !value.is_nan()).collect()
}

/// Steps of 10 s that members knew, by their number in each minute.
fn steps(counts: &[f64]) -> u32 {
    let steps = (counts.iter().sum::<f64>() * 6.0).round();
    (0..100).find(|known| f64::from(*known) >= steps).unwrap()
}

fn has_archive(server: &Server, id: &str) -> bool {
    server.parts().store.info(id.parse().unwrap()).is_some()
}

#[tokio::test]
async fn who_is_reclaimed_leaves_its_rows_to_its_role() {
    let server = Server::start();
    let ids = fleet(&server, &json!({"role": "web"}), 3).await;
    for id in &ids[..2] {
        assert_eq!(act(&server, id, "withdraw").await, 204);
        assert_eq!(act(&server, id, "reclaim").await, 200);
        assert!(!has_archive(&server, id));
    }
    let check = |server: &Server| {
        let counts = minutes(server, "role:load:count");
        assert_eq!(steps(&counts), 14, "both were there for seven steps: {counts:?}");
        let means = minutes(server, "role:load:avg");
        assert_eq!(means, vec![2.5; counts.len()]);
        let series = of_role(server, "role:load:avg").unwrap();
        let labels = ["job", "instance", "role"].map(|name| series.labels.get(name).unwrap());
        assert_eq!(labels, ["rollup", "web", "web"]);
        assert_eq!(series.visible_ms, None, "it is no series that goes on");
    };
    check(&server);
    assert!(has_archive(&server, &ids[2]), "who is there stays");
    let roles = server.get("/v1/roles").await.json;
    assert_eq!((&roles[0]["name"], roles.as_array().unwrap().len()), (&"web".into(), 1));
    assert!(roles[0]["archive"]["bytes"].as_u64() > Some(0), "{roles}");
    let listed = server.get("/v1/instances").await.json;
    assert_eq!(
        listed.as_array().unwrap().len(),
        3,
        "a role is no instance that could be withdrawn"
    );
    let store = &server.parts().store;
    let round = store.begin_round(1 << 40, 1);
    assert_eq!(round.write().failed, []);
    store.finish_round(1 << 40);
    check(&server);
    let files = rrd::Disk::list(&server.disk, std::path::Path::new("archives")).unwrap();
    assert_eq!(files.len(), 2, "the role's and that of who stayed: {files:?}");
}

#[tokio::test]
async fn a_replay_leaves_the_same_rows_to_the_role() {
    let server = Server::start();
    let ids = fleet(&server, &json!({"role": "web"}), 2).await;
    for id in &ids {
        assert_eq!(act(&server, id, "withdraw").await, 204);
        assert_eq!(act(&server, id, "reclaim").await, 200);
    }
    let names = ["role:load:avg", "role:load:count"];
    let before = names.map(|name| minutes(&server, name));
    assert!(before.iter().all(|values| !values.is_empty()), "{before:?}");
    let (disk, registry) = server.stop();
    let server = Server::over(disk, registry);
    assert_eq!(names.map(|name| minutes(&server, name)), before);
    assert!(ids.iter().all(|id| !has_archive(&server, id)));
}

#[tokio::test]
async fn without_a_role_nothing_is_left() {
    let server = Server::start();
    let ids = fleet(&server, &json!({"zone": "a"}), 1).await;
    assert_eq!(act(&server, &ids[0], "withdraw").await, 204);
    assert_eq!(act(&server, &ids[0], "reclaim").await, 200);
    assert_eq!(server.parts().store.instances(), []);
}

/// The role has its columns since the member was archived: nothing more is taken when nothing is left.
#[tokio::test]
async fn at_the_disk_limit_rows_go_to_the_role_that_was_prepared() {
    let server = Server::start();
    let ids = fleet(&server, &json!({"role": "web"}), 2).await;
    assert_eq!(act(&server, &ids[0], "withdraw").await, 204);
    server.clock.advance(Duration::from_hours(25));
    server.intake.sweep().await.unwrap();
    let state = |id: &str| server.parts().registry.instance(id.parse().unwrap()).unwrap();
    assert_eq!(state(&ids[0]).lifecycle.state, State::Archived);
    server.settle().await;
    assert!(of_role(&server, "role:load:avg").is_some() && has_archive(&server, &ids[0]));
    server.intake.limit_disk(server.parts().store.all_archive_bytes());
    let labels = [("__name__", "up"), ("instance", "b:1"), ("job", "j")];
    let body = WriteBody::default().series(&labels, &[(wall(&server), 1.0)]);
    assert_eq!(server.write(ADMIN, &body.0).await.status, 204);
    server.settle().await;
    assert!(!has_archive(&server, &ids[0]) && has_archive(&server, &ids[1]));
    assert_eq!(state(&ids[0]).lifecycle.state, State::Reclaimed);
    assert_eq!(steps(&minutes(&server, "role:load:count")), 7);
}

/// Without room for the role's archive the limit is kept, and what went is gone, as without a role.
#[tokio::test]
async fn a_role_takes_nothing_beyond_the_disk_limit() {
    let server = Server::start();
    let ids = fleet(&server, &json!({"role": "web"}), 1).await;
    assert_eq!(act(&server, &ids[0], "withdraw").await, 204);
    server.intake.limit_disk(server.parts().store.all_archive_bytes());
    let labels = [("__name__", "up"), ("instance", "b:1"), ("job", "j")];
    let body = WriteBody::default().series(&labels, &[(wall(&server), 1.0)]);
    assert_eq!(server.write(ADMIN, &body.0).await.status, 204);
    server.settle().await;
    assert!(!has_archive(&server, &ids[0]));
    assert!(of_role(&server, "role:load:avg").is_none());
}
