//! Tests of heartbeats: what a job tells, kept between two beats and over a restart.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use rrd::{MatchOp, Matcher, Span, Timestamp};
use serde_json::json;

use super::support::*;

async fn minted(server: &Server, name: &str) -> String {
    let labels = json!({"team": "db"});
    server.token(json!({"kind": "relay", "name": name, "labels": labels})).await
}

async fn call(server: &Server, method: &str, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(format!("/v1/beat/{path}"));
    server.send(request.body(Body::empty()).unwrap()).await
}

/// The known rows of a metric, by their END in seconds from the tests' start.
fn rows(server: &Server, metric: &str) -> Vec<(i64, f64)> {
    let matcher = Matcher::new("__name__", MatchOp::Equal, metric).unwrap();
    let store = &server.parts().store;
    let Some(found) = store.select(&[matcher]).into_iter().next() else { return Vec::new() };
    let all = Span::new(NOW.plus_millis(-3_600_000), NOW.plus_millis(86_400_000)).unwrap();
    let rows = store.rows_of(&found, 0, all);
    let end = |index: usize| {
        let index = i64::try_from(index).unwrap();
        (rows.first_end.as_millis() - NOW.as_millis()) / 1000 + 60 * index
    };
    let known = rows.average.iter().enumerate().filter(|(_, value)| !value.is_nan());
    known.map(|(index, value)| (end(index), *value)).collect()
}

const SUCCESS: &str = "beat_last_success_timestamp_seconds";

fn secs(at: Timestamp) -> f64 {
    at.as_secs_f64()
}

#[tokio::test]
async fn a_beat_needs_no_header_and_makes_an_instance_of_the_tokens_name() {
    let server = Server::start();
    let token = minted(&server, "backup").await;
    assert_eq!(call(&server, "GET", &token).await.status, 204);
    let path = format!("{token}?status=fail&duration=12.5");
    assert_eq!(call(&server, "POST", &path).await.status, 204);
    server.settle().await;
    let held = server.parts().registry.named("beat", "backup").unwrap();
    assert_eq!(held.labels.get("team"), Some("db"));
    let series = server.parts().store.info(held.id).unwrap().series_count;
    assert_eq!(series, 3, "success, failure and duration");
    let total = server.parts().accounting.total();
    assert_eq!((total.in_flight(), total.refused_total()), (0, 0));
}

#[tokio::test]
async fn what_is_no_beat_is_refused() {
    let server = Server::start();
    let token = minted(&server, "backup").await;
    let nameless = server.token(json!({"kind": "relay"})).await;
    let join = server.token(json!({"kind": "join", "name": "x"})).await;
    for (path, status) in [
        ("nonsense".to_owned(), 401),
        (format!("{token}x"), 401),
        (nameless, 403),
        (join, 403),
        (ADMIN.replace(' ', "%20"), 403),
        (format!("{token}?status=bad"), 400),
        (format!("{token}?duration=-1"), 400),
        ("%0d%0a".to_owned(), 400),
        ("x".repeat(10_000), 401),
    ] {
        assert_eq!(call(&server, "POST", &path).await.status, status, "{path}");
    }
    assert!(server.parts().registry.instances().is_empty());
}

#[tokio::test]
async fn between_two_beats_every_row_holds_the_last_success_and_no_mixture() {
    let server = Server::start();
    let token = minted(&server, "backup").await;
    server.clock.advance(Duration::from_secs(7));
    let first = secs(wall(&server));
    call(&server, "GET", &token).await;
    for _ in 0..5 {
        server.clock.advance(Duration::from_mins(1));
        server.intake.0.repeat().await;
    }
    server.clock.advance(Duration::from_secs(20));
    let second = secs(wall(&server));
    call(&server, "GET", &token).await;
    call(&server, "GET", &format!("{token}?status=fail")).await;
    for _ in 0..3 {
        server.clock.advance(Duration::from_mins(1));
        server.intake.0.repeat().await;
    }
    server.settle().await;
    let rows = rows(&server, SUCCESS);
    assert!(rows.len() >= 8, "{rows:?}");
    for pair in rows.windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, 60, "{rows:?}");
    }
    assert!(rows.iter().all(|(_, value)| [first, second].contains(value)), "{rows:?}");
    assert_eq!((rows[0].1, rows.last().unwrap().1), (first, second));
}

#[tokio::test]
async fn a_restart_forgets_no_job() {
    let server = Server::start();
    let token = minted(&server, "backup").await;
    let success = secs(wall(&server));
    call(&server, "GET", &token).await;
    for _ in 0..3 {
        server.clock.advance(Duration::from_mins(1));
        server.intake.0.repeat().await;
    }
    server.settle().await;
    let now = wall(&server);
    let (disk, registry) = server.stop();
    let server = Server::over(disk, registry);
    server.clock.advance(Duration::from_millis((now.as_millis() - NOW.as_millis()).unsigned_abs()));
    server.settle().await;
    server.intake.0.remember();
    for _ in 0..5 {
        server.clock.advance(Duration::from_mins(1));
        server.intake.0.repeat().await;
    }
    server.settle().await;
    let rows = rows(&server, SUCCESS);
    assert!(rows.len() >= 7, "{rows:?}");
    assert!(rows.iter().all(|(_, value)| *value == success), "{rows:?} {success}");
}

#[tokio::test]
async fn a_job_that_was_withdrawn_or_whose_token_was_revoked_is_not_repeated() {
    let server = Server::start();
    let (one, two) = (minted(&server, "one").await, minted(&server, "two").await);
    call(&server, "GET", &one).await;
    call(&server, "GET", &two).await;
    let gone = server.parts().registry.named("beat", "one").unwrap();
    let path = format!("/v1/instances/{}/withdraw", gone.id);
    assert_eq!(server.json("POST", &path, ADMIN, json!({})).await.status, 204);
    let tokens = server.parts().registry.tokens();
    let id = tokens.iter().find(|token| token.name == "two").unwrap().id;
    assert_eq!(
        server.json("DELETE", &format!("/v1/tokens/{id}"), ADMIN, json!({})).await.status,
        204
    );
    let before = server.parts().accounting.total().received;
    server.clock.advance(Duration::from_mins(2));
    server.intake.0.repeat().await;
    assert_eq!(server.parts().accounting.total().received, before);
    assert!(!server.parts().registry.instance(gone.id).unwrap().is_active());
    call(&server, "GET", &one).await;
    assert!(server.parts().registry.instance(gone.id).unwrap().is_active());
    assert_eq!(call(&server, "GET", &two).await.status, 401);
}
