//! What others follow: our active instances as Prometheus' service discovery, and events as they come.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::instances::Wanted;
use super::{Denial, Intake};
use crate::lifecycle::State as Life;
use crate::registry::{Event, Instance, What};

/// Page in one answer, unless fewer are asked for.
const EVENTS_LIMIT: usize = 1_000;

/// A group of targets, as Prometheus reads it.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// Page, and where to go on.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    events: Vec<Shown>,
    /// The number to ask with next time.
    next: u64,
    /// Page between `after` and the first of these are forgotten here.
    is_gap: bool,
}

#[derive(Debug, Serialize)]
struct Shown {
    number: u64,
    at_ms: i64,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    name: String,
    who: &'static str,
    evidence: String,
}

/// Instances that report, or would if they were not silent: a target that is down must be seen to be.
pub(super) async fn prometheus(
    State(intake): State<Intake>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Json<Vec<Group>>, Denial> {
    intake.0.reader(&headers)?;
    let filter = Wanted::read(&query)?;
    let port = query.iter().find(|(name, _)| name == "port").map(|(_, port)| port.parse::<u16>());
    let port = port.transpose().map_err(|_| Denial::bad("port: a number up to 65535"))?;
    let instances = intake.0.parts.registry.instances();
    let listed = instances.iter().filter(|one| is_target(one) && filter.holds(one));
    Ok(Json(listed.map(|one| group(one, port)).collect()))
}

pub(super) async fn events(
    State(intake): State<Intake>,
    Query(wanted): Query<After>,
    headers: HeaderMap,
) -> Result<Json<Page>, Denial> {
    intake.0.reader(&headers)?;
    let limit = wanted.limit.unwrap_or(EVENTS_LIMIT).clamp(1, EVENTS_LIMIT);
    let found = intake.0.parts.registry.events(wanted.after, limit);
    let next = found.last().map_or(wanted.after, |event| event.number);
    let is_gap = found.first().is_some_and(|first| first.number > wanted.after + 1);
    let events = found.iter().map(|event| shown(event)).collect();
    Ok(Json(Page { events, next, is_gap }))
}

fn is_target(instance: &Instance) -> bool {
    matches!(instance.lifecycle.state, Life::Active | Life::Silent | Life::Lost | Life::Maintenance)
}

/// Labels become `__meta_roundel_label_NAME`, for the other side to keep what it wants.
fn group(instance: &Instance, port: Option<u16>) -> Group {
    let name = |label: &str| -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        format!("__meta_roundel_label_{}", label.chars().map(plain).collect::<String>())
    };
    let mut labels: BTreeMap<String, String> =
        instance.labels.iter().map(|(label, value)| (name(label), value.to_owned())).collect();
    labels.insert("__meta_roundel_id".to_owned(), instance.id.to_string());
    labels.insert("__meta_roundel_name".to_owned(), instance.name.clone());
    labels.insert("__meta_roundel_state".to_owned(), instance.lifecycle.state.word().to_owned());
    Group { targets: [address(instance, port)], labels }
}

/// Where it is reached: its label `address`, its host name, or its name.
fn address(instance: &Instance, port: Option<u16>) -> String {
    let own = instance.labels.get("address").filter(|address| !address.is_empty());
    let host = Some(instance.facts.hostname.as_str()).filter(|host| !host.is_empty());
    let address = own.or(host).unwrap_or(&instance.name);
    let bare = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    match (port, bare) {
        (Some(port), Some((host, _))) => format!("{host}:{port}"),
        (Some(port), None) => format!("{address}:{port}"),
        (None, _) => address.to_owned(),
    }
}

fn shown(event: &Event) -> Shown {
    let (from, to) = match event.what {
        What::Moved { from, to } => (from, Some(to)),
        _ => (None, None),
    };
    Shown {
        number: event.number,
        at_ms: event.at.as_millis(),
        what: event.what.word(),
        from: from.map(Life::word),
        to: to.map(Life::word),
        instance: event.instance.map(|id| id.to_string()),
        name: event.name.clone(),
        who: event.evidence.who.word(),
        evidence: event.evidence.what.clone(),
    }
}
