//! Join policies: who is let in without a person; tried on the requests of the last days before they hold.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::enroll::check_reserved;
use super::tokens::{Spans, networks};
use super::{Denial, Intake, to_the_end};
use crate::lifecycle::Terms;
use crate::limits::{LABEL_NAME_LIMIT, checked_labels};
use crate::registry::{Account, AccountError, Change, JoinPolicy, Request};

/// Policies at once: each is held against every request.
const POLICY_LIMIT: usize = 100;
/// Accounts of one policy: more than an organisation has of one kind.
const ACCOUNT_LIMIT: usize = 100;
const DAY_MS: i64 = 86_400_000;

/// A policy as people write it. Everything named in it has to hold.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    name: String,
    #[serde(default)]
    cidr: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_like: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Its cloud's document has to hold, and to say the labels named here that begin with `cloud_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    require: Option<Require>,
    /// Accounts, projects and subscriptions, by its cloud's document: it has to be of one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<String>,
    /// How long before it asked the machine may have been started, by its document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_within_secs: Option<u64>,
    #[serde(default)]
    forced_labels: BTreeMap<String, String>,
    #[serde(flatten)]
    spans: Spans,
}

/// What has to hold beside what a machine says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Require {
    Verified,
}

/// A policy to be tried.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TryRequest {
    policy: Written,
    #[serde(default)]
    days: Option<u32>,
}

/// What a policy would have done.
#[derive(Debug, Serialize)]
pub(super) struct Tried {
    days: u32,
    admitted: Vec<Outcome>,
    refused: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    request: String,
    name: String,
    at_ms: i64,
    /// What was decided then.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

pub(super) async fn put(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    intake.0.admin(&headers)?;
    let policy = meant(intake.0.room.json(&headers, body).await?)?;
    let inner = intake.0.clone();
    to_the_end(async move {
        let mut turn = inner.turn().await?;
        let held = inner.parts.registry.policies();
        if held.len() >= POLICY_LIMIT && held.iter().all(|one| one.name != policy.name) {
            return Err(Denial::no_space("there are too many policies; remove some"));
        }
        inner.change(&mut turn, &[Change::Policy(policy)]).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

pub(super) async fn list(
    State(intake): State<Intake>,
    headers: HeaderMap,
) -> Result<Json<Vec<Written>>, Denial> {
    intake.0.admin(&headers)?;
    Ok(Json(intake.0.parts.registry.policies().iter().map(|one| written(one)).collect()))
}

pub(super) async fn remove(
    State(intake): State<Intake>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Denial> {
    intake.0.admin(&headers)?;
    let inner = intake.0.clone();
    to_the_end(async move {
        let mut turn = inner.turn().await?;
        if inner.parts.registry.policies().iter().all(|one| one.name != name) {
            return Err(Denial::missing("no policy has this name"));
        }
        inner.change(&mut turn, &[Change::ForgetPolicy(name)]).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Who of the last days would have been let in.
pub(super) async fn try_out(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Tried>, Denial> {
    intake.0.admin(&headers)?;
    let wanted: TryRequest = intake.0.room.json(&headers, body).await?;
    let policy = meant(wanted.policy)?;
    let days = wanted.days.unwrap_or(7).clamp(1, 7);
    let since = intake.0.parts.clock.wall().plus_millis(-DAY_MS * i64::from(days));
    let mut tried = Tried { days, admitted: Vec::new(), refused: Vec::new() };
    for request in intake.0.parts.registry.requests().iter().filter(|one| one.at >= since) {
        match policy.admits(request) {
            Ok(()) => tried.admitted.push(outcome(request, None)),
            Err(why_not) => tried.refused.push(outcome(request, Some(why_not))),
        }
    }
    Ok(Json(tried))
}

fn outcome(request: &Request, why_not: Option<String>) -> Outcome {
    Outcome {
        request: request.id.to_string(),
        name: request.name.clone(),
        at_ms: request.at.as_millis(),
        state: request.lifecycle.state.word(),
        why_not,
    }
}

fn meant(written: Written) -> Result<JoinPolicy, Denial> {
    let Written { name, cidr, name_like, labels, token, require, .. } = written;
    let (forced_labels, spans) = (written.forced_labels, written.spans);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > LABEL_NAME_LIMIT || !name.chars().all(plain) {
        return Err(Denial::bad("name: letters, digits, '-', '_' and '.', and not too many"));
    }
    check_reserved(&forced_labels)?;
    let pairs: Vec<(&str, &str)> =
        forced_labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let forced = checked_labels(&pairs).map_err(|(_, message)| Denial::bad(message))?;
    let token = token.map(|id| id.parse()).transpose();
    let policy = JoinPolicy {
        name,
        networks: networks(&cidr)?,
        name_like,
        labels,
        token: token.map_err(|error| Denial::bad(format!("token: {error}")))?,
        requires_document: require == Some(Require::Verified),
        accounts: accounts(&written.accounts)?,
        started_within_ms: written.started_within_secs.map(|secs| secs.saturating_mul(1000)),
        forced,
        terms: spans.over(Terms::default())?,
    };
    let says_nothing = policy.networks.is_empty()
        && policy.name_like.is_none()
        && policy.labels.is_empty()
        && policy.token.is_none()
        && policy.accounts.is_empty();
    if says_nothing {
        let message = "a policy names at least one of cidr, name_like, labels, token and accounts: \
                       one without lets everybody in";
        return Err(Denial::bad(message));
    }
    let is_anybodys = policy.accounts.is_empty() && !policy.labels.contains_key("cloud_account");
    if policy.needs_document() && is_anybodys {
        let message = "a policy that requires a document names accounts (or cloud_account in labels): \
                       every customer of a cloud has documents that hold";
        return Err(Denial::bad(message));
    }
    Ok(policy)
}

fn accounts(texts: &[String]) -> Result<Vec<Account>, Denial> {
    if texts.len() > ACCOUNT_LIMIT {
        return Err(Denial::bad(format!("accounts: at most {ACCOUNT_LIMIT} a policy")));
    }
    let read = |text: &String| {
        text.parse().map_err(|error: AccountError| Denial::bad(format!("accounts: {error}")))
    };
    texts.iter().map(read).collect()
}

fn written(policy: &JoinPolicy) -> Written {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Written {
        name: policy.name.clone(),
        cidr: policy.networks.iter().map(ToString::to_string).collect(),
        name_like: policy.name_like.clone(),
        labels: policy.labels.clone(),
        token: policy.token.map(|id| id.to_string()),
        require: policy.requires_document.then_some(Require::Verified),
        accounts: policy.accounts.iter().map(ToString::to_string).collect(),
        started_within_secs: policy.started_within_ms.map(|millis| millis / 1000),
        forced_labels: policy.forced.iter().map(owned).collect(),
        spans: Spans::of(&policy.terms),
    }
}
