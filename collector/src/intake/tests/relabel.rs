//! Tests of rules for a relay's series: kept, left out, renamed, of two replicas; changed while it
//! sends.

use serde_json::json;

use super::support::*;
use crate::accounting::Reason;

const UP: [(&str, &str); 3] = [("__name__", "up"), ("instance", "a:1"), ("job", "j")];

fn one(labels: &[(&str, &str)], secs: i64) -> Vec<u8> {
    WriteBody::default().series(labels, &[(at(secs), 1.0)]).0
}

fn all_series(server: &Server) -> Vec<String> {
    let found = server.parts().store.select(&[]).into_iter();
    let mut found: Vec<String> = found.map(|one| one.labels.to_string()).collect();
    found.sort();
    found
}

fn token_id(server: &Server) -> String {
    server.parts().registry.tokens().last().unwrap().id.to_string()
}

#[tokio::test]
async fn two_replicas_of_one_prometheus_are_one_series_with_duplicates() {
    let server = Server::start();
    let rules = json!({"drop_labels": ["prometheus_replica"]});
    let relay = server.token(json!({"kind": "relay", "relabel": rules})).await;
    for secs in [0, 10, 20] {
        for replica in ["r1", "r2"] {
            let labels = [&UP[..], &[("prometheus_replica", replica)]].concat();
            assert_eq!(server.write(&relay, &one(&labels, secs)).await.status, 204, "{replica}");
        }
    }
    server.settle().await;
    assert_eq!(all_series(&server), [r#"up{instance="a:1",job="j"}"#]);
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.stored, total.duplicate), (6, 3, 3));
}

#[tokio::test]
async fn what_rules_leave_out_is_no_error_and_is_counted() {
    let server = Server::start();
    let rules = json!({"rules": [
        {"source_labels": ["__name__"], "regex": "go_.*", "action": "drop"},
        {"source_labels": ["instance"], "regex": "(.+):\\d+", "target_label": "instance"},
        {"action": "labeldrop", "regex": "pod"}]});
    let relay = server.token(json!({"kind": "relay", "relabel": rules})).await;
    for secs in [0, 10] {
        let body = WriteBody::default()
            .series(&[&UP[..], &[("pod", "x")]].concat(), &[(at(secs), 1.0)])
            .series(
                &[("__name__", "go_threads"), UP[1], UP[2]],
                &[(at(secs), 1.0), (at(secs + 1), 1.0)],
            );
        assert_eq!(server.write(&relay, &body.0).await.status, 204);
    }
    server.settle().await;
    assert_eq!(all_series(&server), [r#"up{instance="a",job="j"}"#]);
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.stored, total.in_flight()), (6, 2, 0));
    assert_eq!(total.refused, [(Reason::Relabelled, 4)].into());
}

#[tokio::test]
async fn other_rules_hold_from_the_next_request_on_and_outlive_a_restart() {
    let server = Server::start();
    let relay = server.token(json!({"kind": "relay"})).await;
    let path = format!("/v1/tokens/{}/relabel", token_id(&server));
    assert_eq!(server.write(&relay, &one(&UP, 0)).await.status, 204);
    let drop = json!({"rules": [{"source_labels": ["job"], "regex": "j", "action": "drop"}]});
    assert_eq!(server.json("PUT", &path, ADMIN, drop.clone()).await.status, 204);
    assert_eq!(server.get(&path).await.json["rules"][0]["action"], "drop");
    assert_eq!(server.write(&relay, &one(&UP, 10)).await.status, 204);
    server.settle().await;
    let stored = |server: &Server| server.parts().accounting.total().stored;
    assert_eq!(stored(&server), 1);
    let bytes = server.parts().registry.snapshot();
    let restored = crate::registry::Registry::restore(&bytes).unwrap();
    assert_eq!(restored.snapshot(), bytes);
    assert_eq!(
        restored.rules(restored.tokens().last().map(|t| t.id)).unwrap().written().rules.len(),
        1
    );
    assert_eq!(server.json("PUT", &path, ADMIN, json!({})).await.status, 204);
    assert_eq!(server.write(&relay, &one(&UP, 20)).await.status, 204);
    server.settle().await;
    assert_eq!(stored(&server), 2);
}

#[tokio::test]
async fn common_rules_come_before_those_of_a_token_and_hold_for_the_operator_too() {
    let server = Server::start();
    let rules = json!({"rules": [{"source_labels": ["b"], "target_label": "c"}]});
    let relay = server.token(json!({"kind": "relay", "relabel": rules})).await;
    let common = json!({"rules": [{"source_labels": ["a"], "target_label": "b"}]});
    server.intake.relabel(serde_json::from_value(common).unwrap()).unwrap();
    let labels = [&UP[..], &[("a", "1")]].concat();
    assert_eq!(server.write(&relay, &one(&labels, 0)).await.status, 204);
    assert_eq!(server.write(ADMIN, &one(&labels, 0)).await.status, 204);
    server.settle().await;
    let found = all_series(&server);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.contains(&r#"up{a="1",b="1",c="1",instance="a:1",job="j"}"#.to_owned()),
        "{found:?}"
    );
}

#[tokio::test]
async fn rules_that_cannot_be_are_refused_and_nobody_but_the_operator_sets_any() {
    let server = Server::start();
    let wrong = json!({"kind": "relay", "relabel": {"rules": [{"action": "drop"}]}});
    let refused = server.json("POST", "/v1/tokens", ADMIN, wrong).await.is(400, "bad_request");
    assert!(refused.json["message"].as_str().unwrap().starts_with("relabel: rule 1"));
    let join = json!({"kind": "join", "relabel": {}});
    server.json("POST", "/v1/tokens", ADMIN, join).await.is(400, "bad_request");
    let relay = server.token(json!({"kind": "relay"})).await;
    let path = format!("/v1/tokens/{}/relabel", token_id(&server));
    server.json("PUT", &path, &relay, json!({})).await.is(403, "forbidden");
    server
        .json("PUT", "/v1/tokens/0000000000000001/relabel", ADMIN, json!({}))
        .await
        .is(404, "not_found");
    let unknown = json!({"rules": [{"action": "hashmod"}]});
    server.json("PUT", &path, ADMIN, unknown).await.is(400, "bad_request");
    assert_eq!(server.json("PUT", "/v1/tokens/admin/relabel", ADMIN, json!({})).await.status, 204);
}
