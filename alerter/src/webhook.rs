//! Webhooks: one signed POST per transition, after Standard Webhooks.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rrd::Timestamp;
use serde::Serialize;
use sha2::Sha256;

use crate::letter::{alert_link, moment_text, one_line};
use crate::mail::one_error_line;
use crate::notify::{Attempt, Channel, Failure};
use crate::transition::{State, Transition};

/// What a written secret starts with.
const SECRET_PREFIX: &str = "whsec_";

/// Lengths of a key that Standard Webhooks allows, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Most of an answer that is read: enough for its first words in an error.
const ANSWER_BYTES: usize = 16 << 10;

/// Letters of an answer kept with an error.
const ANSWER_LETTERS: usize = 120;

/// The key that signs what goes to one receiver.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// Keys are never shown.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// A written secret that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It does not start with `whsec_` or is not base64 behind it.
    #[error(
        "the secret is not `whsec_` followed by base64; take the one the receiver shows, or generate one"
    )]
    Form,
    /// Too short to be safe, or longer than receivers take.
    #[error("the secret holds {0} bytes, 24 to 64 are allowed; generate a new one")]
    Length(usize),
}

impl Secret {
    /// Reads a secret as receivers show it: `whsec_` and base64.
    pub fn parse(written: &str) -> Result<Self, SecretError> {
        let encoded = written.trim().strip_prefix(SECRET_PREFIX).ok_or(SecretError::Form)?;
        let key = BASE64.decode(encoded).map_err(|_| SecretError::Form)?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(SecretError::Length(key.len()));
        }
        Ok(Self(key))
    }

    /// The header `webhook-signature` of a message sent at `seconds` since 1970.
    pub fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

/// A new secret, as it is written, from 32 random bytes.
pub fn generate_secret(random: &[u8; 32]) -> String {
    format!("{SECRET_PREFIX}{}", BASE64.encode(random))
}

/// The body of a webhook, native form.
#[derive(Serialize)]
struct Payload<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    incident: String,
    sequence: u32,
    rule: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    state: String,
    prev_state: String,
    reason: String,
    value: Option<f64>,
    unit: &'a str,
    threshold: &'a str,
    since: String,
    summary: &'a str,
    links: BTreeMap<&'static str, String>,
}

/// The body about `transition`: the same bytes at every attempt.
pub fn payload(transition: &Transition, base_url: Option<&str>) -> Vec<u8> {
    let kind = match transition.to {
        State::Ok => "alert.cleared",
        _ if transition.from == State::Ok => "alert.raised",
        _ => "alert.changed",
    };
    let link = base_url.map(|base| ("alert", alert_link(base, transition)));
    let payload = Payload {
        r#type: kind,
        timestamp: moment_text(transition.at),
        data: Data {
            incident: transition.incident.to_string(),
            sequence: transition.sequence,
            rule: &transition.rule,
            labels: transition.labels.iter().collect(),
            state: transition.to.to_string(),
            prev_state: transition.from.to_string(),
            reason: transition.reason.to_string(),
            value: transition.value.filter(|value| value.is_finite()),
            unit: &transition.unit,
            threshold: &transition.threshold,
            since: moment_text(transition.since),
            summary: &transition.summary,
            links: link.into_iter().collect(),
        },
    };
    serde_json::to_vec(&payload).expect("texts and finite numbers always make JSON")
}

/// The HTTP client of all webhooks. Follows no redirects; verifies certificates.
#[derive(Clone)]
pub struct WebClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl WebClient {
    /// A client that trusts the web's usual authorities.
    pub fn new() -> Self {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .build();
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }
}

impl Default for WebClient {
    fn default() -> Self {
        Self::new()
    }
}

/// The channel of one webhook.
pub struct Webhook {
    /// Where to.
    pub url: Uri,
    /// What signs it.
    pub secret: Secret,
    /// Start of links, when the server knows its own.
    pub base_url: Option<String>,
    /// How it goes out.
    pub client: WebClient,
}

impl Channel for Webhook {
    fn deliver<'a>(&'a self, transition: &'a Transition, now: Timestamp) -> Attempt<'a> {
        Box::pin(async move {
            let request = self.request(transition, now);
            let later = |error| Failure::Later { error, wish: None };
            let answer = self.client.0.request(request).await;
            let answer = answer.map_err(|error| later(one_error_line(&error)))?;
            let (head, body) = answer.into_parts();
            if head.status.is_success() {
                return Ok(());
            }
            let read = Limited::new(body, ANSWER_BYTES).collect().await;
            let said = read.map(|all| String::from_utf8_lossy(&all.to_bytes()).into_owned());
            Err(verdict(head.status, &head.headers, &said.unwrap_or_default(), now))
        })
    }
}

impl Webhook {
    fn request(&self, transition: &Transition, now: Timestamp) -> Request<Full<Bytes>> {
        let body = payload(transition, self.base_url.as_deref());
        let id = transition.id.to_string();
        let seconds = now.as_millis().div_euclid(1000);
        Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("Roundel/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", self.secret.sign(&id, seconds, &body))
            .body(Full::new(Bytes::from(body)))
            .expect("checked parts make a request")
    }
}

/// What an answer that is no success means.
fn verdict(status: StatusCode, headers: &HeaderMap, said: &str, now: Timestamp) -> Failure {
    let said: String = one_line(said).chars().take(ANSWER_LETTERS).collect();
    let error = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
    match status.as_u16() {
        410 => Failure::Never { error },
        408 | 425 | 429 | 500..=599 => Failure::Later { error, wish: retry_after(headers, now) },
        300..=399 => Failure::Refused { error: format!("{error}; redirects are not followed") },
        _ => Failure::Refused { error },
    }
}

/// How long the receiver asks to be left alone: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let written = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = written.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(written).ok()?.timestamp();
    let wait = date.as_millisecond().saturating_sub(now.as_millis());
    Some(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
}
