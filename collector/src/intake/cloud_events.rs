//! What a cloud says of its machines: events of EC2 as `EventBridge` and SNS send them.

mod sns;
mod word;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::hmac;
use rrd::Timestamp;
use rrd::hex::bytes_of_hex;
use serde::Serialize;

use super::{Denial, Inner, Intake, to_the_end};
use crate::auth::Caller;
use crate::lifecycle::{Evidence, Hint, Who};
use crate::limits::JSON_BODY_LIMIT;
use crate::registry::{Approval, Change, Event, Instance, Token, TokenId, TokenKind, What};
use word::{Verdict, Word, word};

/// The header with `id=TOKEN,t=MILLISECONDS,v1=HMAC`.
const SIGNATURE_HEADER: &str = "roundel-signature";
/// How far the time of a signature may be from ours.
const FRESH_MS: i64 = 5 * 60_000;
/// A word on an instance that is repeated within this is not written again; later, it counts from then.
const REPEAT_MS: i64 = 60_000;
/// Events remembered, so that one that is sent again is known.
const KNOWN_LIMIT: usize = 10_000;
/// Labels that hold what a cloud calls a machine.
const MACHINE_LABELS: [&str; 3] = ["cloud_instance_id", "instance_id", "cloud_id"];

/// Ids of events taken lately.
#[derive(Debug, Default)]
pub(super) struct Heard {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Heard {
    /// Notes an event; false when it is known.
    fn is_new(&mut self, id: &str) -> bool {
        if id.is_empty() || !self.known.insert(id.to_owned()) {
            return id.is_empty();
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > KNOWN_LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    fn forget(&mut self, id: &str) {
        self.known.remove(id);
        self.order.retain(|known| known != id);
    }
}

/// What was made of an event.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// It told something of an instance of ours.
    taken: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    message: String,
}

pub(super) async fn post(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Outcome>, Denial> {
    let inner = intake.0;
    let signature = headers.get(SIGNATURE_HEADER).and_then(|value| value.to_str().ok());
    let by_sns = inner.clouds().filter(|clouds| !clouds.trust.sns_topics.is_empty());
    let by_sns = by_sns.filter(|_| signature.is_none() && !headers.contains_key(AUTHORIZATION));
    if signature.is_none() && by_sns.is_none() {
        match inner.caller(&headers)? {
            Caller::Admin | Caller::Events(_) => {}
            _ => return Err(Denial::forbidden("this needs a token of kind events")),
        }
    }
    let (_held, body) = match signature {
        None if by_sns.is_some() => {
            inner.room.stranger_body(&headers, body, JSON_BODY_LIMIT).await?
        }
        None => inner.room.body(&headers, body, JSON_BODY_LIMIT).await?,
        Some(signature) => {
            let claim = inner.claim(signature)?;
            let (held, body) = inner.room.stranger_body(&headers, body, JSON_BODY_LIMIT).await?;
            claim.check(&body)?;
            (held, body)
        }
    };
    if let Some(clouds) = by_sns {
        if !sns::is_message(&body) {
            let why = "this needs a token of kind events, or a message that SNS signed";
            return Err(Denial::unauthorised("unauthorised", why));
        }
        let checked = sns::check(&clouds, &body, inner.both_clocks()).await;
        checked.map_err(|why| wrong(&format!("the message of SNS: {why}")))?;
    }
    let word = word(&body).map_err(Denial::bad)?;
    to_the_end(async move { inner.hear(word).await }).await.map(Json)
}

/// A signature before the body that it signs is there: an HMAC-SHA256 of time and body. Its key is the
/// SHA-256 of the token's text, which is all that is kept of the token here.
struct Claim<'a> {
    token: Arc<Token>,
    at: &'a str,
    mac: [u8; 32],
}

impl Claim<'_> {
    fn check(&self, body: &[u8]) -> Result<(), Denial> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.token.digest.bytes());
        let signed = [self.at.as_bytes(), b".", body].concat();
        hmac::verify(&key, &signed, &self.mac).map_err(|_| wrong("the signature does not fit"))
    }
}

fn wrong(why: &str) -> Denial {
    Denial::unauthorised("bad_signature", why)
}

impl Inner {
    /// Whose signature it claims to be, and that it is of now: what can be known without the body.
    fn claim<'a>(&self, header: &'a str) -> Result<Claim<'a>, Denial> {
        let part = |name: &str| {
            let mut parts = header.split(',').filter_map(|part| part.trim().split_once('='));
            parts.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let (Some(id), Some(at), Some(mac)) = (part("id"), part("t"), part("v1")) else {
            return Err(wrong("the signature is written id=TOKEN,t=MILLISECONDS,v1=HMAC"));
        };
        let now = self.parts.clock.wall();
        let id: TokenId = id.parse().map_err(|_| wrong("id names no token"))?;
        let token = self.parts.registry.token(id).filter(|token| is_good(token, now));
        let token = token.ok_or_else(|| wrong("id names no token of kind events that is good"))?;
        let mac = bytes_of_hex(mac).ok_or_else(|| wrong("v1 is 64 hexadecimal digits"))?;
        let at_ms = at.parse().map_err(|_| wrong("t is milliseconds since 1970"))?;
        if now.millis_since(Timestamp::from_millis(at_ms)).saturating_abs() > FRESH_MS {
            return Err(wrong("the signature is too old, or ahead of the time here"));
        }
        Ok(Claim { token, at, mac })
    }

    async fn hear(self: Arc<Self>, word: Word) -> Result<Outcome, Denial> {
        let passed_over = |message: String| Ok(Outcome { taken: false, instance: None, message });
        let heard = || self.heard_events.lock().unwrap_or_else(PoisonError::into_inner);
        if !heard().is_new(&word.id) {
            return passed_over("this event was taken before".to_owned());
        }
        let outcome = self.weighed(&word).await;
        if outcome.is_err() {
            heard().forget(&word.id);
        }
        outcome
    }

    async fn weighed(&self, word: &Word) -> Result<Outcome, Denial> {
        let passed_over = |message: String| Ok(Outcome { taken: false, instance: None, message });
        let mut turn = self.turn().await?;
        let now = self.parts.clock.wall();
        let is_gone = match word.verdict {
            Verdict::Gone => true,
            Verdict::Runs => false,
            Verdict::Nothing => return passed_over(word.what.clone()),
            Verdict::Person => {
                let evidence = Evidence::of(Who::Cloud, word.what.clone());
                let notice = What::CloudNotice;
                let name = "cloud".to_owned();
                let event =
                    Event { number: 0, at: now, what: notice, instance: None, name, evidence };
                self.change(&mut turn, &[Change::Event(event)]).await?;
                return passed_over(word.what.clone());
            }
        };
        let Some(instance) = self.machine(&word.machine) else {
            return passed_over(format!("no instance here is {}", word.machine));
        };
        let hint = Hint { at: now, is_gone, what: Evidence::of(Who::Cloud, &word.what).what };
        let same = |former: &Hint| {
            (former.is_gone, &former.what) == (hint.is_gone, &hint.what)
                && hint.at.millis_since(former.at) < REPEAT_MS
        };
        if !instance.hint.as_ref().is_some_and(same) {
            tracing::info!(instance = %instance.id, name = instance.name, what = word.what, "the cloud says");
            let told = Instance { hint: Some(hint), ..(*instance).clone() };
            self.change(&mut turn, &[Change::Instance(told)]).await?;
        }
        let instance = Some(instance.id.to_string());
        Ok(Outcome { taken: true, instance, message: word.what.clone() })
    }

    /// The instance that runs on a machine of the cloud.
    pub(in crate::intake) fn machine(&self, machine: &str) -> Option<Arc<Instance>> {
        let instances = self.parts.registry.instances();
        let is_it = |one: &&Arc<Instance>| {
            one.is_active()
                && MACHINE_LABELS.iter().any(|label| one.labels.get(label) == Some(machine))
        };
        instances.iter().find(is_it).cloned()
    }
}

fn is_good(token: &Token, now: Timestamp) -> bool {
    token.kind == TokenKind::Events
        && !token.revoked
        && token.approval == Approval::Auto
        && token.expires_at.is_none_or(|end| end > now)
}
