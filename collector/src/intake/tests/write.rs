//! Tests of remote write 1.0: the requests of the reference table, relayed instances, limits.

use proptest::prelude::*;
use serde_json::json;

use super::support::*;
use crate::accounting::Reason;
use crate::limits::{LABEL_COUNT_LIMIT, WRITE_BODY_LIMIT, WRITE_SAMPLE_LIMIT};
use crate::registry::Source;

const UP: [(&str, &str); 3] = [("__name__", "up"), ("instance", "a:1"), ("job", "j")];
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

fn one(labels: &[(&str, &str)], secs: i64) -> WriteBody {
    WriteBody::default().series(labels, &[(at(secs), 1.0)])
}

#[tokio::test]
async fn the_reference_requests_are_answered_as_they_should_be() {
    let server = Server::start();
    let with = |more: &[(&'static str, &'static str)]| [&UP[..], more].concat();
    let many: Vec<(String, String)> =
        (0..LABEL_COUNT_LIMIT).map(|number| (format!("l{number}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let raw = |name: &[u8], value: &[u8]| {
        WriteBody::default().raw_series(&[(b"__name__", b"up"), (name, value)], &[(at(0), 1.0)])
    };
    let good = || one(&UP, 0);
    let histogram =
        [field(1, &[field(1, b"__name__"), field(2, b"h")].concat()), field(4, &[])].concat();
    for (case, body, status, reasons) in [
        ("a sample", good(), 204, &[][..]),
        ("the same again", good(), 204, &[]),
        (
            "another value at the same time",
            WriteBody::default().series(&UP, &[(at(0), 2.0)]),
            204,
            &[],
        ),
        ("30 s older", one(&UP, -30), 204, &[]),
        ("a good one and an old one", one(&UP, 30).series(&UP, &[(at(-60), 1.0)]), 204, &[]),
        ("3 h old", one(&UP, -3 * 3600), 204, &[]),
        ("3 days old", one(&UP, -3 * 86_400), 400, &["too_old"]),
        ("1 h in the future", one(&UP, 3600), 400, &["future"]),
        ("no name", one(&UP[1..], 0), 400, &["no_name"]),
        ("no label at all", one(&[], 0), 400, &["no_name"]),
        ("unsorted", one(&[UP[2], UP[0], UP[1]], 0), 204, &[]),
        ("an empty value", one(&with(&[("empty", "")]), 0), 204, &[]),
        ("a name with a dash", one(&[("__name__", "g-h")], 0), 204, &[]),
        ("a name in UTF-8", one(&with(&[("größe", "ü")]), 0), 204, &[]),
        ("invalid UTF-8 in a value", raw(b"a", &[0xc0, 0x80]), 400, &["bad_label"]),
        ("invalid UTF-8 in a name", raw(&[0xff], b"a"), 400, &["bad_label"]),
        ("a duplicate label", one(&with(&[("a", "1"), ("a", "2")]), 0), 400, &["duplicate_label"]),
        ("an empty label name", one(&with(&[("", "1")]), 0), 400, &["bad_label"]),
        ("too many labels", one(&[&[UP[0]][..], &many].concat(), 0), 400, &["label_limit"]),
        ("a stale marker", WriteBody::default().series(&UP, &[(at(45), STALE)]), 204, &[]),
        ("metadata only", WriteBody::default().family(1, "requests"), 204, &[]),
        ("nothing", WriteBody::default(), 204, &[]),
        ("a series without samples", WriteBody::default().series(&UP, &[]), 204, &[]),
        ("a native histogram", WriteBody(field(1, &histogram)), 400, &["native_histogram"]),
        ("good and bad", one(&UP, 60).series(&UP[1..], &[(at(60), 1.0)]), 400, &["no_name"]),
    ] {
        let answer = server.write(ADMIN, &body.0).await;
        assert_eq!(
            (answer.status.as_u16(), answer.reasons().as_slice()),
            (status, reasons),
            "{case}"
        );
    }
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!(total.in_flight(), 0, "{total:?}");
    assert_eq!(total.refused[&Reason::NoName], 3);
}

#[tokio::test]
async fn what_comes_again_or_late_is_a_success_and_stands_in_the_books() {
    let server = Server::start();
    let other = [UP[0], ("instance", "b:1"), UP[2]];
    let mut before = server.parts().accounting.total();
    for (case, body, books) in [
        ("a sample", one(&UP, 0), (1, 0, 0)),
        ("the same again", one(&UP, 0), (0, 1, 0)),
        ("another value then", WriteBody::default().series(&UP, &[(at(0), 2.0)]), (0, 1, 0)),
        ("a newer one", one(&UP, 200), (1, 0, 0)),
        ("30 s older, between the last two", one(&UP, 170), (1, 0, 0)),
        ("100 s older, in a step without one", one(&UP, 100), (1, 0, 0)),
        ("a good one and an older one", one(&other, 200).series(&UP, &[(at(150), 1.0)]), (2, 0, 0)),
        ("3 h old", one(&UP, -3 * 3600), (0, 0, 1)),
    ] {
        assert_eq!(server.write(ADMIN, &body.0).await.status, 204, "{case}");
        server.settle().await;
        let after = server.parts().accounting.total();
        let stored = after.stored - before.stored;
        let known = (after.duplicate - before.duplicate, after.late - before.late);
        assert_eq!((stored, known.0, known.1), books, "{case}");
        before = after;
    }
}

#[tokio::test]
async fn what_is_not_remote_write_is_refused_before_it_is_decoded() {
    let server = Server::start();
    let body = snap::raw::Encoder::new().compress_vec(&one(&UP, 0).0).unwrap();
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let v1 = "application/x-protobuf; proto=prometheus.WriteRequest";
    for (content_type, encoding, status) in [
        (Some("application/x-protobuf"), Some("snappy"), 204),
        (Some(v1), Some("snappy"), 204),
        (Some("application/x-protobuf"), Some("gzip"), 415),
        (Some("application/x-protobuf"), None, 415),
        (Some("application/json"), Some("snappy"), 415),
        // Read as what the type says, it would pass for an empty request.
        (Some(v2), Some("snappy"), 400),
        (None, Some("snappy"), 415),
    ] {
        let mut request = request("POST", "/api/v1/write", ADMIN);
        for (name, value) in [("content-type", content_type), ("content-encoding", encoding)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let answer = server.send(request.body(body.clone().into()).unwrap()).await;
        assert_eq!(answer.status, status, "{content_type:?} {encoding:?}");
    }
}

#[tokio::test]
async fn bodies_that_lie_or_break_off_are_refused_whole() {
    let server = Server::start();
    let good = one(&UP, 0).0;
    let packed = snap::raw::Encoder::new().compress_vec(&good).unwrap();
    server
        .write_raw(ADMIN, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0])
        .await
        .is(400, "bad_request");
    server.write_raw(ADMIN, &packed[..packed.len() - 1]).await.is(400, "bad_request");
    server.write_raw(ADMIN, &[]).await.is(400, "bad_request");
    server.write_raw(ADMIN, &vec![0; WRITE_BODY_LIMIT + 1]).await.is(413, "too_large");
    for cut in 1..good.len() {
        let answer = server.write(ADMIN, &good[..cut]).await;
        assert_eq!(answer.status, 400, "cut at {cut}");
    }
    let samples = vec![(at(0), 1.0); WRITE_SAMPLE_LIMIT + 1];
    server.write(ADMIN, &WriteBody::default().series(&UP, &samples).0).await.is(400, "bad_request");
    assert!(server.parts().registry.instances().is_empty());
    assert_eq!(server.parts().accounting.total().received, 0);
}

#[tokio::test]
async fn only_relays_and_the_admin_may_write() {
    let server = Server::start();
    let join = server.token(json!({"kind": "join"})).await;
    let relay = server.token(json!({"kind": "relay"})).await;
    let body = one(&UP, 0).0;
    server.write("nobody", &body).await.is(401, "unauthorised");
    server.write(&join, &body).await.is(403, "forbidden");
    assert_eq!(server.write(&relay, &body).await.status, 204);
    let basic =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("x:{relay}"));
    let mut request = write_request("", &snap::raw::Encoder::new().compress_vec(&body).unwrap());
    request.headers_mut().insert("authorization", format!("Basic {basic}").parse().unwrap());
    assert_eq!(server.send(request).await.status, 204);
}

#[tokio::test]
async fn job_and_instance_name_the_instance_and_leave_the_series() {
    let server = Server::start();
    let relay = server.token(json!({"kind": "relay", "labels": {"site": "lab"}})).await;
    let body = one(&[("__name__", "up"), ("instance", "a:1"), ("job", "j"), ("cpu", "0")], 0)
        .series(&[("__name__", "up"), ("instance", "b:1"), ("job", "j")], &[(at(0), 1.0)])
        .series(&[("__name__", "up")], &[(at(0), 1.0)]);
    assert_eq!(server.write(&relay, &body.0).await.status, 204);
    let parts = server.parts();
    let mut shown: Vec<String> = parts
        .registry
        .instances()
        .iter()
        .map(|one| format!("{} {}", one.name, one.labels))
        .collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            r#"a:1 {instance="a:1",job="j",site="lab"}"#,
            r#"b:1 {instance="b:1",job="j",site="lab"}"#,
            r#"unnamed {site="lab"}"#,
        ]
    );
    let a = parts.registry.named("j", "a:1").unwrap();
    let key = rrd::Labels::from_pairs([("__name__", "up"), ("cpu", "0")]).unwrap().to_key();
    assert!(parts.store.resolve(a.id, &key).is_some());
}

#[tokio::test]
async fn two_relays_with_the_same_words_name_two_instances() {
    let server = Server::start();
    let one_relay = server.token(json!({"kind": "relay"})).await;
    let two_relay = server.token(json!({"kind": "relay"})).await;
    for relay in [&one_relay, &two_relay, &one_relay] {
        assert_eq!(server.write(relay, &one(&UP, 0).0).await.status, 204);
    }
    let names: Vec<String> =
        server.parts().registry.instances().iter().map(|i| i.name.clone()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"a:1".to_owned()) && names.contains(&"a:1-2".to_owned()));
}

#[tokio::test]
async fn a_withdrawn_instance_comes_back_by_values_after_its_end_only() {
    let server = Server::start();
    assert_eq!(server.write(ADMIN, &one(&UP, 0).0).await.status, 204);
    let instance = server.parts().registry.instances()[0].clone();
    assert!(matches!(instance.source, Source::Relay(_)));
    let path = format!("/v1/instances/{}/withdraw", instance.id);
    assert_eq!(server.json("POST", &path, ADMIN, json!({})).await.status, 204);
    let straggler = server.write(ADMIN, &one(&UP, -5).0).await;
    assert_eq!((straggler.status.as_u16(), straggler.reasons()), (400, vec!["withdrawn"]));
    let marker = WriteBody::default().series(&UP, &[(at(5), STALE)]);
    assert_eq!(server.write(ADMIN, &marker.0).await.reasons(), ["withdrawn"]);
    assert!(!server.parts().registry.instances()[0].is_active());
    assert_eq!(server.write(ADMIN, &one(&UP, 10).0).await.status, 204);
    let back = server.parts().registry.instances();
    assert_eq!((back.len(), back[0].id, back[0].is_active()), (1, instance.id, true));
    server.settle().await;
    assert_eq!(server.parts().accounting.total().in_flight(), 0);
}

#[tokio::test]
async fn what_the_journal_cannot_hold_is_to_be_sent_again() {
    let server = Server::start();
    assert_eq!(server.write(ADMIN, &one(&UP, 0).0).await.status, 204);
    server.parts().journal.close();
    let answer = server.write(ADMIN, &one(&UP, 10).0).await;
    assert_eq!(answer.status, 503);
    let seconds: u16 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    assert_eq!(server.parts().accounting.total().received, 1);
}

#[test]
fn no_body_makes_the_intake_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let credential = runtime.block_on(async {
        let token = server.token(json!({"kind": "join"})).await;
        server.enroll(&token, "web", 1).await.credential
    });
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..400), packed: bool)| {
        let body = if packed { snap::raw::Encoder::new().compress_vec(&bytes).unwrap() } else { bytes };
        let write = runtime.block_on(server.write_raw(ADMIN, &body)).status.as_u16();
        prop_assert!(matches!(write, 204 | 400), "{write}");
        let kind = crate::native::PUSH_CONTENT_TYPE;
        let push = request("POST", "/v1/push", &credential).header("content-type", kind);
        let push = push.body(axum::body::Body::from(body)).unwrap();
        prop_assert_eq!(runtime.block_on(server.send(push)).status.as_u16(), 400);
    });
}

#[tokio::test]
async fn a_full_disk_refuses_new_series_and_keeps_the_known_ones_going() {
    let server = Server::start();
    assert_eq!(server.write(ADMIN, &one(&UP, 0).0).await.status, 204);
    server.fill_disk();
    let stranger = [("__name__", "up"), ("instance", "b:1"), ("job", "j")];
    let new = server.write(ADMIN, &one(&stranger, 0).0).await.is(507, "disk_full");
    assert!(new.headers.contains_key("retry-after"));
    let both = one(&UP, 10).series(&stranger, &[(at(10), 1.0)]);
    let answer = server.write(ADMIN, &both.0).await;
    assert_eq!((answer.status.as_u16(), answer.reasons()), (400, vec!["disk_full"]));
    server.disk.set_capacity(u64::MAX);
    assert_eq!(server.write(ADMIN, &one(&stranger, 0).0).await.status, 204);
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.stored, total.in_flight()), (3, 0));
}

#[tokio::test]
async fn the_same_new_series_twice_in_a_request_is_one_series() {
    let server = Server::start();
    let unsorted = [UP[2], UP[1], UP[0]];
    let body = one(&UP, 0).series(&unsorted, &[(at(10), 1.0)]);
    assert_eq!(server.write(ADMIN, &body.0).await.status, 204);
    let id = server.parts().registry.instances()[0].id;
    server.settle().await;
    let held = server.parts().store.instances();
    assert_eq!((held.len(), held[0].id, held[0].series_count), (1, id, 1));
}

#[tokio::test]
async fn more_new_instances_than_a_frame_holds_come_in_one_request() {
    let server = Server::start();
    let names: Vec<String> = (0..1_100).map(|number| format!("t{number}:9100")).collect();
    let body = names.iter().fold(WriteBody::default(), |body, name| {
        body.series(&[("__name__", "up"), ("instance", name), ("job", "j")], &[(at(0), 1.0)])
    });
    assert_eq!(server.write(ADMIN, &body.0).await.status, 204);
    server.settle().await;
    assert_eq!(server.parts().registry.instances().len(), names.len());
    assert_eq!(server.parts().accounting.total().stored, 1_100);
}
