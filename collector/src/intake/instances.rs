//! Instances: listed with their state and evidence, and moved by an operator's word or their own goodbye.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use http::{HeaderMap, StatusCode};
use rrd::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Denial, Inner, Intake, to_the_end};
use crate::auth::Caller;
use crate::lifecycle::{Act, Farewell, Permanence, State as Life, Who, after};
use crate::limits::LABEL_VALUE_LIMIT;
use crate::registry::{Change, Instance, Source};

/// Why an operator says so.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Reason {
    reason: String,
}

/// Why an agent goes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Goodbye {
    reason: Farewell,
    /// What it knows of the reason: a spot notice, a lifecycle state.
    evidence: String,
}

/// An instance as lists show it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: String,
    name: String,
    labels: BTreeMap<String, String>,
    state: &'static str,
    since_ms: i64,
    who: &'static str,
    evidence: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    past: Vec<Past>,
    source: &'static str,
    lifecycle: Permanence,
    enrolled_ms: i64,
    last_seen_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<Archive>,
}

/// A state that is over.
#[derive(Debug, Serialize)]
struct Past {
    state: &'static str,
    since_ms: i64,
    who: &'static str,
    evidence: String,
}

/// What an instance's archive is.
#[derive(Debug, Serialize)]
pub(super) struct Archive {
    policy: String,
    series: usize,
    bytes: u64,
}

impl From<rrd::InstanceInfo> for Archive {
    fn from(info: rrd::InstanceInfo) -> Self {
        Self { policy: info.policy.to_string(), series: info.series_count, bytes: info.file_len }
    }
}

/// Which instances are asked for: `state=` once, `label=NAME:VALUE` or `label=NAME=VALUE` any number of
/// times.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    state: Option<Life>,
    labels: Vec<(String, String)>,
}

impl Wanted {
    pub(super) fn read(pairs: &[(String, String)]) -> Result<Self, Denial> {
        let mut wanted = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "state" => {
                    let state = value.parse();
                    wanted.state =
                        Some(state.map_err(|error| Denial::bad(format!("state: {error}")))?);
                }
                "label" => {
                    let split = value.split_once(['=', ':']);
                    let (name, value) =
                        split.ok_or_else(|| Denial::bad("label: write it as label=role=web"))?;
                    wanted.labels.push((name.to_owned(), value.to_owned()));
                }
                // What else a caller asks for is its own.
                _ => {}
            }
        }
        Ok(wanted)
    }

    pub(super) fn holds(&self, instance: &Instance) -> bool {
        self.state.is_none_or(|state| instance.lifecycle.state == state)
            && self
                .labels
                .iter()
                .all(|(name, value)| instance.labels.get(name) == Some(value.as_str()))
    }
}

pub(super) async fn list(
    State(intake): State<Intake>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Json<Vec<Shown>>, Denial> {
    intake.0.reader(&headers)?;
    let wanted = Wanted::read(&query)?;
    let registry = &intake.0.parts.registry;
    let store = &intake.0.parts.store;
    let shown = |instance: &Arc<Instance>| Shown {
        archive: store.info(instance.id).map(Archive::from),
        ..show(instance, registry.last_seen(instance.id))
    };
    let instances = registry.instances();
    Ok(Json(instances.iter().filter(|one| wanted.holds(one)).map(shown).collect()))
}

/// An operator's word, or, as earlier agents said it, an agent's.
pub(super) async fn withdraw(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    let id = known(&id)?;
    let (who, said) = match intake.0.caller(&headers)? {
        Caller::Admin => (Who::Operator, "withdrawn by an operator"),
        Caller::Instance(instance) if instance.id == id => (Who::Agent, "goodbye of its agent"),
        _ => return Err(Denial::forbidden("this needs the admin token or the instance's own")),
    };
    let reason = intake.0.reason(&headers, body).await?;
    let evidence = match reason.as_str() {
        "" => said.to_owned(),
        reason => format!("{said}: {reason}"),
    };
    intake.0.clone().acted(id, Act::Withdraw(who, evidence)).await
}

pub(super) async fn goodbye(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    let id = known(&id)?;
    match intake.0.caller(&headers)? {
        Caller::Instance(instance) if instance.id == id => {}
        _ => return Err(Denial::forbidden("this needs the instance's own credential")),
    }
    let goodbye: Goodbye = intake.0.room.json(&headers, body).await?;
    if goodbye.evidence.len() > LABEL_VALUE_LIMIT {
        return Err(Denial::bad(format!("evidence: at most {LABEL_VALUE_LIMIT} bytes")));
    }
    intake.0.clone().acted(id, Act::Goodbye(goodbye.reason, goodbye.evidence)).await
}

pub(super) async fn quarantine(
    state: State<Intake>,
    id: Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    by_operator(state, id, headers, body, Act::Quarantine).await
}

pub(super) async fn release(
    state: State<Intake>,
    id: Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    by_operator(state, id, headers, body, Act::Release).await
}

pub(super) async fn revoke(
    state: State<Intake>,
    id: Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    by_operator(state, id, headers, body, Act::Revoke).await
}

async fn by_operator(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
    act: impl FnOnce(String) -> Act,
) -> Result<StatusCode, Denial> {
    intake.0.admin(&headers)?;
    let id = known(&id)?;
    let reason = intake.0.reason(&headers, body).await?;
    intake.0.clone().acted(id, act(reason)).await
}

impl Inner {
    /// Whoever may read which instances there are.
    pub(super) fn reader(&self, headers: &HeaderMap) -> Result<(), Denial> {
        match self.caller(headers)? {
            Caller::Admin | Caller::Reader(_) => Ok(()),
            _ => Err(Denial::forbidden("this needs the admin token or a token of kind read")),
        }
    }

    async fn reason(&self, headers: &HeaderMap, body: Body) -> Result<String, Denial> {
        let Reason { reason } = self.room.json(headers, body).await?;
        if reason.len() > LABEL_VALUE_LIMIT {
            return Err(Denial::bad(format!("reason: at most {LABEL_VALUE_LIMIT} bytes")));
        }
        Ok(reason)
    }

    /// Does what somebody's word does to an instance; 204 also when it was so already.
    async fn acted(self: Arc<Self>, id: InstanceId, act: Act) -> Result<StatusCode, Denial> {
        to_the_end(async move {
            let mut turn = self.turn().await?;
            let instance = self.parts.registry.instance(id).ok_or_else(unknown)?;
            if let Some(moved) = self.moved(&instance, act)? {
                let (from, to) = (instance.lifecycle.state, moved.lifecycle.state);
                let evidence = moved.lifecycle.evidence.what.clone();
                let is_gone = !moved.is_active();
                self.change(&mut turn, &[Change::Instance(moved)]).await?;
                if is_gone {
                    self.sessions.forget(id);
                }
                tracing::info!(instance = %id, %from, %to, ?evidence, "moved");
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
    }

    /// The instance after somebody's word; `None` when it is so already.
    pub(super) fn moved(&self, instance: &Instance, act: Act) -> Result<Option<Instance>, Denial> {
        let step = after(&instance.lifecycle, instance.terms.permanence, act)
            .map_err(|bad| Denial::bad_state("bad_state", bad.state))?;
        let now = self.parts.clock.wall();
        Ok(step.map(|step| Instance {
            lifecycle: instance.lifecycle.moved(step, now),
            ..instance.clone()
        }))
    }
}

fn known(id: &str) -> Result<InstanceId, Denial> {
    id.parse().map_err(|_| unknown())
}

fn unknown() -> Denial {
    Denial::missing("no instance has this id")
}

fn show(instance: &Instance, last_seen: Option<Timestamp>) -> Shown {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let life = &instance.lifecycle;
    let past = |one: &crate::lifecycle::Past| Past {
        state: one.state.word(),
        since_ms: one.since.as_millis(),
        who: one.evidence.who.word(),
        evidence: one.evidence.what.clone(),
    };
    Shown {
        id: instance.id.to_string(),
        name: instance.name.clone(),
        labels: instance.labels.iter().map(owned).collect(),
        state: life.state.word(),
        since_ms: life.since.as_millis(),
        who: life.evidence.who.word(),
        evidence: life.sentence(),
        past: life.past.iter().map(past).collect(),
        source: match instance.source {
            Source::Enrolled(_) => "enrolled",
            Source::Relay(_) => "relay",
        },
        lifecycle: instance.terms.permanence,
        enrolled_ms: instance.enrolled_at.as_millis(),
        last_seen_ms: last_seen.map(Timestamp::as_millis),
        fingerprint: instance.key.map(|key| key.fingerprint()),
        predecessor: instance.predecessor.map(|id| id.to_string()),
        archive: None,
    }
}
