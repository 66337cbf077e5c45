//! Tests of the Pushgateway's addresses: what a push replaces, repeats, ends and is refused for.

use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use rrd::{MatchOp, Matcher, Span, Step};
use serde_json::json;

use super::support::*;

impl Server {
    async fn put(&self, path: &str, body: &str) -> Answer {
        self.pushed("PUT", path, body).await
    }

    async fn pushed(&self, method: &str, path: &str, body: &str) -> Answer {
        let request =
            request(method, path, ADMIN).header("content-type", "text/plain; version=0.0.4");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    /// Lets time pass minute by minute, the pushed values repeated at each.
    async fn pass(&self, minutes: u64) {
        let step = Step::from_secs(60).unwrap();
        for _ in 0..minutes {
            let at = wall(self).floor(step) + step;
            self.clock.advance(Duration::from_millis(at.millis_since(wall(self)).cast_unsigned()));
            self.intake.0.repeat_pushed(at).await;
        }
        self.settle().await;
    }

    /// The series of a metric: their labels, the rows of their minutes, and whether they have ended.
    fn shown(&self, metric: &str) -> Vec<(String, Vec<f64>, bool)> {
        let matcher = Matcher::new(rrd::NAME, MatchOp::Equal, metric).unwrap();
        let span = Span::new(at(0), at(86_400)).unwrap();
        let store = &self.parts().store;
        let show = |found: &rrd::SeriesInfo| {
            let labels = found.labels.filtered(|name| name != rrd::NAME).to_string();
            (labels, store.rows_of(found, 0, span).average, found.visible_ms.is_none())
        };
        let mut shown: Vec<_> = store.select(&[matcher]).iter().map(show).collect();
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        shown
    }

    #[track_caller]
    fn value(&self, metric: &str) -> (Option<f64>, bool) {
        let mut shown = self.shown(metric);
        assert_eq!(shown.len(), 1, "{metric}: {shown:?}");
        let (_, rows, is_ended) = shown.remove(0);
        (rows.iter().rev().find(|row| !row.is_nan()).copied(), is_ended)
    }
}

#[tokio::test]
async fn a_pushed_value_is_repeated_until_its_time_is_over() {
    let server = Server::start();
    server.put("/metrics/job/backup?ttl=5m", "# TYPE bytes gauge\nbytes 7\n").await.is(200, "");
    server.pass(4).await;
    assert_eq!(server.value("bytes"), (Some(7.0), false));
    let rows = server.shown("bytes").remove(0).1;
    assert!(rows.iter().filter(|row| !row.is_nan()).count() >= 3, "{rows:?}");
    assert_eq!(server.value("push_time_seconds"), (Some(NOW.as_secs_f64()), false));
    server.pass(2).await;
    assert!(server.value("bytes").1, "ended");
    assert!(server.value("push_time_seconds").1);
    server.pass(3).await;
    let late = server.shown("bytes").remove(0).1;
    assert!(late.iter().skip(7).all(|row| row.is_nan()), "{late:?}");
    assert_eq!(server.parts().accounting.total().in_flight(), 0);
}

#[tokio::test]
async fn the_groups_labels_win_over_the_bodys_and_an_empty_one_takes_a_label_away() {
    let server = Server::start();
    let body = "m{job=\"theirs\",instance=\"theirs\",zone=\"z\",x=\"y\"} 1\n";
    server.put("/metrics/job/ours/zone/b/x@base64/=", body).await.is(200, "");
    server.pass(1).await;
    let shown = server.shown("m");
    assert_eq!(shown[0].0, r#"{instance="theirs",job="ours",zone="b"}"#);
}

#[tokio::test]
async fn put_replaces_the_group_and_post_the_metrics_of_the_same_name() {
    let server = Server::start();
    let first = "# TYPE lat histogram\nlat_bucket{le=\"+Inf\"} 1\nlat_sum 1\nlat_count 1\nb{x=\"1\"} 1\nb{x=\"2\"} 1\n";
    server.put("/metrics/job/j", first).await.is(200, "");
    let later = "# TYPE lat histogram\nlat_sum 2\nb{x=\"1\"} 3\n";
    server.pass(1).await;
    server.pushed("POST", "/metrics/job/j", later).await.is(200, "");
    server.pass(2).await;
    assert!(server.value("lat_bucket").1, "replaced with its family");
    let ended: Vec<bool> = server.shown("b").iter().map(|one| one.2).collect();
    assert_eq!(ended, [false, true]);
    server.pushed("POST", "/metrics/job/j", "c 1\n").await.is(200, "");
    server.pass(2).await;
    assert!(!server.shown("b")[0].2, "another metric's push leaves it");
    server.put("/metrics/job/j", "c 2\n").await.is(200, "");
    server.pass(2).await;
    assert!(server.shown("b")[0].2);
    assert_eq!(server.value("c"), (Some(2.0), false));
}

#[tokio::test]
async fn delete_and_an_empty_put_end_the_group_and_no_other() {
    let server = Server::start();
    for group in ["/metrics/job/a", "/metrics/job/a/of/b", "/metrics/job/c"] {
        server.put(group, "m 1\n").await.is(200, "");
    }
    server.pass(1).await;
    server.pushed("DELETE", "/metrics/job/a", "").await.is(202, "");
    server.put("/metrics/job/c", "").await.is(200, "");
    server.pass(2).await;
    let shown = server.shown("m").into_iter().map(|(labels, _, is_ended)| (labels, is_ended));
    let expected = [(r#"{job="a",of="b"}"#, false), (r#"{job="a"}"#, true), (r#"{job="c"}"#, true)];
    assert_eq!(
        shown.collect::<Vec<_>>(),
        expected.map(|(labels, ended)| (labels.to_owned(), ended))
    );
    server.pushed("DELETE", "/metrics/job/unheard-of", "").await.is(202, "");
}

#[tokio::test]
async fn a_push_with_anything_wrong_changes_nothing() {
    let server = Server::start();
    server.put("/metrics/job/j", "m 1\n").await.is(200, "");
    for (method, path, body, status) in [
        ("PUT", "/metrics/job/j", "m 2 1790000000000\n", 400),
        ("PUT", "/metrics/job/j", "m 2\nn\n", 400),
        ("PUT", "/metrics/job/j", "m 2\nm 3\n", 400),
        ("PUT", "/metrics/job/j?ttl=soon", "m 2\n", 400),
        ("PUT", "/metrics/job/j?ttl=31d", "m 2\n", 400),
        ("PUT", "/metrics/job", "m 2\n", 400),
        ("POST", "/metrics/job/j/x", "m 2\n", 400),
        ("DELETE", "/metrics/jobs/j", "", 400),
    ] {
        assert_eq!(
            server.pushed(method, path, body).await.status.as_u16(),
            status,
            "{path} {body}"
        );
    }
    let told = server.put("/metrics/job/j", "m 2 1790000000000\n").await;
    assert!(told.json["message"].as_str().unwrap().contains("leave them out"), "{}", told.json);
    let protobuf = request("PUT", "/metrics/job/j", ADMIN)
        .header("content-type", "application/vnd.google.protobuf; encoding=delimited");
    server.send(protobuf.body(Body::from("x")).unwrap()).await.is(415, "unsupported");
    let stranger = request("PUT", "/metrics/job/j", "wrong").body(Body::from("m 2\n")).unwrap();
    assert_eq!(server.send(stranger).await.status, 401);
    server.pass(2).await;
    assert_eq!(server.value("m"), (Some(1.0), false));
}

#[tokio::test]
async fn a_packed_push_and_the_header_for_its_time_are_taken() {
    let server = Server::start();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"m 1\n").unwrap();
    let request = request("POST", "/metrics/job/j", ADMIN)
        .header("content-encoding", "gzip")
        .header("roundel-ttl", "90s");
    server.send(request.body(Body::from(packed.finish().unwrap())).unwrap()).await.is(200, "");
    server.pass(3).await;
    assert_eq!(server.value("m"), (Some(1.0), true));
}

#[tokio::test]
async fn a_restart_repeats_what_was_pushed_last_and_nothing_that_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = || folder.path().join("pushed");
    let server = Server::start();
    server.intake.keep_pushed(path()).unwrap();
    for (group, body) in [("a", "m 1\n"), ("a", "m NaN\nn 2\n"), ("b", "m 3\n"), ("c/d/e", "m 4\n")]
    {
        server.put(&format!("/metrics/job/{group}?ttl=10m"), body).await.is(200, "");
    }
    server.pushed("DELETE", "/metrics/job/b", "").await.is(202, "");
    server.pass(2).await;
    let (disk, registry) = server.stop();
    std::fs::write(path().join("damaged.json"), "{").unwrap();
    let server = Server::over(disk, registry);
    server.intake.keep_pushed(path()).unwrap();
    server.clock.advance(Duration::from_mins(3));
    server.pass(2).await;
    assert_eq!(server.value("n"), (Some(2.0), false));
    let m: Vec<bool> = server.shown("m").iter().map(|one| one.2).collect();
    assert_eq!(m, [false, true, true], "job a's is NaN, job b's deleted");
    server.pass(8).await;
    assert!(server.value("n").1);
    assert!(!path().read_dir().unwrap().any(|file| {
        let name = file.unwrap().file_name();
        name != "damaged.json"
    }));
}

#[tokio::test]
async fn what_was_put_out_does_not_come_back_by_being_repeated() {
    let server = Server::start();
    let token = server.token(json!({"kind": "relay", "name": "jobs"})).await;
    let relayed = request("PUT", "/metrics/job/r", &token).body(Body::from("m 1\n")).unwrap();
    server.send(relayed).await.is(200, "");
    server.put("/metrics/job/j", "m 1\n").await.is(200, "");
    server.pass(1).await;
    let id = server.parts().registry.named("j", "j").unwrap().id;
    server.clock.advance(Duration::from_secs(1));
    server
        .json("POST", &format!("/v1/instances/{id}/withdraw"), ADMIN, json!({}))
        .await
        .is(204, "");
    let tokens = server.get("/v1/tokens").await.json;
    let token_id = tokens.as_array().unwrap()[0]["id"].as_str().unwrap().to_owned();
    let revoked = server.json("DELETE", &format!("/v1/tokens/{token_id}"), ADMIN, json!({})).await;
    assert!(revoked.status.is_success(), "{:?}", revoked.json);
    let before = server.parts().accounting.total().received;
    server.pass(3).await;
    assert_eq!(server.parts().accounting.total().received, before, "nothing is repeated");
    assert!(!server.parts().registry.instance(id).unwrap().is_active());
}

#[tokio::test]
async fn what_came_under_a_token_is_not_repeated_once_that_has_expired() {
    let server = Server::start();
    let token = server.token(json!({"kind": "relay", "name": "jobs", "ttl_secs": 150})).await;
    let relayed = request("PUT", "/metrics/job/r", &token).body(Body::from("m 1\n")).unwrap();
    server.send(relayed).await.is(200, "");
    server.pass(1).await;
    let before = server.parts().accounting.total().received;
    server.pass(1).await;
    assert!(server.parts().accounting.total().received > before);
    server.pass(1).await;
    let before = server.parts().accounting.total().received;
    server.pass(2).await;
    assert_eq!(server.parts().accounting.total().received, before, "nothing is repeated");
}

#[tokio::test]
async fn a_relay_whose_groups_cannot_be_stored_holds_up_no_other() {
    let server = Server::start();
    let token = server.token(json!({"kind": "relay", "name": "jobs"})).await;
    let relayed = request("PUT", "/metrics/job/good", &token).body(Body::from("m 1\n")).unwrap();
    server.send(relayed).await.is(200, "");
    server.pass(1).await;
    server.fill_disk();
    // The operator's groups come first.
    server.put("/metrics/job/bad", "n 1\n").await.is(507, "disk_full");
    let before = server.parts().accounting.total().stored;
    server.pass(1).await;
    assert!(server.parts().accounting.total().stored > before, "the other's are repeated");
}
