//! Instances: listed, and withdrawn by the operator or by their own goodbye.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use rrd::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Denial, Intake, to_the_end};
use crate::auth::Caller;
use crate::limits::LABEL_VALUE_LIMIT;
use crate::registry::{Change, Instance, Lifecycle, Source};

/// Why an instance is gone.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Goodbye {
    reason: String,
}

/// An instance as lists show it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: String,
    name: String,
    labels: BTreeMap<String, String>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
    source: &'static str,
    enrolled_ms: i64,
    last_seen_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<Archive>,
}

/// What an instance's archive is.
#[derive(Debug, Serialize)]
struct Archive {
    policy: String,
    series: usize,
    bytes: u64,
}

pub(super) async fn list(
    State(intake): State<Intake>,
    headers: HeaderMap,
) -> Result<Json<Vec<Shown>>, Denial> {
    intake.0.admin(&headers)?;
    let registry = &intake.0.parts.registry;
    let store = &intake.0.parts.store;
    let archive = |info: rrd::InstanceInfo| Archive {
        policy: info.policy.to_string(),
        series: info.series_count,
        bytes: info.file_len,
    };
    let shown = |instance: &std::sync::Arc<Instance>| Shown {
        archive: store.info(instance.id).map(archive),
        ..show(instance, registry.last_seen(instance.id))
    };
    Ok(Json(registry.instances().iter().map(shown).collect()))
}

pub(super) async fn withdraw(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    let unknown = || Denial::missing("no instance has this id");
    let id: InstanceId = id.parse().map_err(|_| unknown())?;
    let who = match intake.0.caller(&headers)? {
        Caller::Admin => "withdrawn by an operator",
        Caller::Instance(instance) if instance.id == id => "goodbye of its agent",
        _ => return Err(Denial::forbidden("this needs the admin token or the instance's own")),
    };
    let goodbye: Goodbye = intake.0.room.json(&headers, body).await?;
    if goodbye.reason.len() > LABEL_VALUE_LIMIT {
        return Err(Denial::bad(format!("reason: at most {LABEL_VALUE_LIMIT} bytes")));
    }
    let evidence = match goodbye.reason.as_str() {
        "" => who.to_owned(),
        reason => format!("{who}: {reason}"),
    };
    let inner = intake.0.clone();
    to_the_end(async move {
        let mut turn = inner.turn().await?;
        let instance = inner.parts.registry.instance(id).ok_or_else(unknown)?;
        if instance.is_active() {
            let told = evidence.clone();
            let lifecycle = Lifecycle::Withdrawn { at: inner.parts.clock.wall(), evidence };
            let gone = Instance { lifecycle, ..(*instance).clone() };
            inner.change(&mut turn, &[Change::Instance(gone)]).await?;
            inner.sessions.forget(id);
            tracing::info!(instance = %id, evidence = ?told, "withdrawn");
        }
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

fn show(instance: &Instance, last_seen: Option<Timestamp>) -> Shown {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let (state, evidence) = match &instance.lifecycle {
        Lifecycle::Active => ("active", None),
        Lifecycle::Withdrawn { evidence, .. } => ("withdrawn", Some(evidence.clone())),
    };
    Shown {
        id: instance.id.to_string(),
        name: instance.name.clone(),
        labels: instance.labels.iter().map(owned).collect(),
        state,
        evidence,
        source: match instance.source {
            Source::Enrolled(_) => "enrolled",
            Source::Relay(_) => "relay",
        },
        enrolled_ms: instance.enrolled_at.as_millis(),
        last_seen_ms: last_seen.map(Timestamp::as_millis),
        archive: None,
    }
}
