//! Webhooks: signatures others verify, and a real receiver on loopback.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rrd::Timestamp;
use tokio::net::TcpListener;

use super::mail::transition;
use crate::webhook::{Secret, WebClient, Webhook, generate_secret, payload};
use crate::{Channel, Failure, Reason, State, Transition};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// V40 and V41: the published vectors.
#[test]
fn signatures_match_the_published_vectors() {
    for (secret, id, seconds, body, signature) in [
        (
            SECRET,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ] {
        let signed = Secret::parse(secret).unwrap().sign(id, seconds, body.as_bytes());
        assert_eq!(signed, signature, "{id}");
    }
}

#[test]
fn a_generated_secret_is_a_secret_and_others_are_refused_with_the_remedy() {
    let written = generate_secret(&[7; 32]);
    assert!(written.starts_with("whsec_") && Secret::parse(&written).is_ok(), "{written}");
    for (bad, said) in [
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_"),
        ("whsec_***", "base64"),
        ("whsec_c2hvcnQ=", "24 to 64"),
    ] {
        let error = Secret::parse(bad).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(format!("{:?}", Secret::parse(SECRET).unwrap()), "Secret(***)");
}

#[test]
fn the_native_body_is_complete() {
    let told = transition("web-1");
    let body = payload(&told, Some("https://roundel.example.org"));
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let expected = serde_json::json!({
        "type": "alert.changed",
        "timestamp": "2026-01-01T00:05:00Z",
        "data": {
            "incident": told.incident.to_string(),
            "sequence": 2,
            "rule": "cpu busy",
            "labels": { "instance": "web-1", "team": "web" },
            "state": "CRITICAL",
            "prev_state": "WARNING",
            "reason": "threshold",
            "value": 97.04,
            "unit": "%",
            "threshold": "> 95",
            "since": "2026-01-01T00:00:00Z",
            "summary": "web-1 has little processor time left: 97 % busy.",
            "links": { "alert": format!("https://roundel.example.org/alerts#{}", told.incident) },
        },
    });
    assert_eq!(json, expected);
}

#[test]
fn the_type_says_what_happened() {
    for (from, to, kind) in [
        (State::Ok, State::Warning, "alert.raised"),
        (State::Warning, State::Critical, "alert.changed"),
        (State::Critical, State::Unknown, "alert.changed"),
        (State::Critical, State::Ok, "alert.cleared"),
    ] {
        let reason = Reason::Threshold;
        let told = Transition { from, to, reason, value: Some(f64::INFINITY), ..transition("a") };
        let json: serde_json::Value = serde_json::from_slice(&payload(&told, None)).unwrap();
        assert_eq!(json["type"], kind);
        assert!(json["data"]["value"].is_null(), "JSON has no infinity");
        assert_eq!(json["data"]["links"], serde_json::json!({}));
    }
}

type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A receiver on a free port of loopback that answers everything alike; where it listens.
async fn receiver(status: u16, headers: &'static [(&'static str, &'static str)]) -> (String, Seen) {
    let seen = Seen::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    kept.lock().unwrap().push((head.headers, body));
                    let mut answer = Response::new(Full::new(Bytes::from_static(b"said\r\nso")));
                    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
                    for (name, value) in headers {
                        answer.headers_mut().insert(*name, value.parse().unwrap());
                    }
                    Ok::<_, hyper::Error>(answer)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, seen)
}

fn webhook(url: &str) -> Webhook {
    Webhook {
        url: url.parse().unwrap(),
        secret: Secret::parse(SECRET).unwrap(),
        base_url: None,
        client: WebClient::new(),
    }
}

/// The receiver's library checks the time too, so this one test needs the real one.
fn real_now() -> Timestamp {
    let now = jiff::Timestamp::now();
    Timestamp::from_millis(now.as_millisecond())
}

#[tokio::test]
async fn a_receiver_verifies_what_it_gets_and_retries_carry_the_same_id() {
    let (url, seen) = receiver(204, &[]).await;
    let (hook, told) = (webhook(&url), transition("web-1"));
    hook.deliver(&told, real_now()).await.unwrap();
    hook.deliver(&told, real_now().plus_millis(2_000)).await.unwrap();
    let seen = seen.lock().unwrap();
    let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
    for (headers, body) in seen.iter() {
        theirs.verify(body, headers).unwrap();
        assert_eq!(headers["webhook-id"], told.id.to_string());
        assert_eq!(headers["content-type"], "application/json");
    }
    assert_eq!(seen[0].1, seen[1].1, "the same body");
    assert_ne!(seen[0].0["webhook-timestamp"], seen[1].0["webhook-timestamp"]);
    assert_ne!(seen[0].0["webhook-signature"], seen[1].0["webhook-signature"]);
}

#[tokio::test]
async fn answers_decide_what_happens_next() {
    let said = |status: &str| format!("{status}: said  so");
    let later = |status: &str, wish: Option<u64>| Failure::Later {
        error: said(status),
        wish: wish.map(Duration::from_secs),
    };
    let refused = |status: &str| Failure::Refused { error: said(status) };
    let after: &[(&str, &str)] = &[("retry-after", "120")];
    let date: &[(&str, &str)] = &[("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT")];
    let elsewhere: &[(&str, &str)] = &[("location", "http://169.254.169.254/")];
    let now = Timestamp::from_secs(1_767_225_600);
    for (status, headers, expected) in [
        (200, &[][..], Ok(())),
        (503, &[][..], Err(later("503 Service Unavailable", None))),
        (429, after, Err(later("429 Too Many Requests", Some(120)))),
        (503, date, Err(later("503 Service Unavailable", Some(60)))),
        (400, &[][..], Err(refused("400 Bad Request"))),
        (410, &[][..], Err(Failure::Never { error: said("410 Gone") })),
        (
            302,
            elsewhere,
            Err(Failure::Refused {
                error: "302 Found: said  so; redirects are not followed".to_owned(),
            }),
        ),
    ] {
        let (url, _) = receiver(status, headers).await;
        let result = webhook(&url).deliver(&transition("web-1"), now).await;
        assert_eq!(result, expected, "{status}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_tried_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let failure = webhook(&url).deliver(&transition("web-1"), Timestamp::from_secs(0)).await;
    let Err(Failure::Later { error, wish: None }) = failure else { panic!("{failure:?}") };
    assert!(error.contains("refused"), "{error}");
}
