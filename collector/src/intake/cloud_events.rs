//! What a cloud says of its machines: events of EC2 as `EventBridge` and SNS send them, of GCP as Pub/Sub
//! does, and of Azure as Event Grid does.

mod azure;
mod door;
mod gcp;
mod sns;
mod word;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderValue, Uri};
use serde::Serialize;

use super::{Denial, Inner, Intake, to_the_end};
use crate::lifecycle::{Evidence, Hint, Who};
use crate::limits::JSON_BODY_LIMIT;
use crate::registry::{Change, Event, Instance, What};
use door::Warrant;
use word::{Told, Verdict, Word, told};

/// Where a sender of `CloudEvents` says who it is, and where it is told that it may send, and how often.
const REQUEST_ORIGIN: &str = "webhook-request-origin";
const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
const ALLOWED_RATE: &str = "webhook-allowed-rate";
/// A word on an instance that is repeated within this is not written again; later, it counts from then.
const REPEAT_MS: i64 = 60_000;
/// Events remembered, so that one that is sent again is known.
const KNOWN_LIMIT: usize = 10_000;
/// Labels that hold what a cloud calls a machine.
const MACHINE_LABELS: [&str; 4] =
    ["cloud_instance_id", "cloud_resource_id", "instance_id", "cloud_id"];

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

/// What is answered to a body.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Reply {
    One(Outcome),
    Many(Vec<Outcome>),
    Validation {
        #[serde(rename = "validationResponse")]
        code: String,
    },
}

pub(super) async fn post(
    State(intake): State<Intake>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Reply>, Denial> {
    let inner = intake.0;
    let warrant = inner.warrant(&headers, &uri).await?;
    let (_held, body) = match warrant {
        Warrant::Held => inner.room.body(&headers, body, JSON_BODY_LIMIT).await?,
        _ => inner.room.stranger_body(&headers, body, JSON_BODY_LIMIT).await?,
    };
    warrant.check(&inner, &body).await?;
    let told = told(&body).map_err(Denial::bad)?;
    to_the_end(async move { inner.reply(told).await }).await.map(Json)
}

/// Who sends `CloudEvents` asks first whether it may.
pub(super) async fn may_send(
    State(intake): State<Intake>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Denial> {
    intake.0.teller(&headers, &uri)?;
    let origin = headers.get(REQUEST_ORIGIN).cloned();
    let origin =
        origin.ok_or_else(|| Denial::bad("this needs the header WebHook-Request-Origin"))?;
    Ok([(ALLOWED_ORIGIN, origin), (ALLOWED_RATE, HeaderValue::from_static("*"))])
}

impl Inner {
    async fn reply(self: Arc<Self>, told: Told) -> Result<Reply, Denial> {
        Ok(match told {
            Told::Validation(code) => Reply::Validation { code },
            Told::One(word) => Reply::One(self.hear(word).await?),
            Told::Many(words) => {
                let mut outcomes = Vec::with_capacity(words.len());
                for word in words {
                    outcomes.push(self.hear(word).await?);
                }
                Reply::Many(outcomes)
            }
        })
    }

    async fn hear(self: &Arc<Self>, word: Word) -> Result<Outcome, Denial> {
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
                && MACHINE_LABELS.iter().any(|label| {
                    // Azure writes a path now in these letters, now in those.
                    one.labels.get(label).is_some_and(|name| name.eq_ignore_ascii_case(machine))
                })
        };
        instances.iter().find(is_it).cloned()
    }
}
