//! The queue: machines that wait for a person, what the person decides, and how they hear of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use rrd::Timestamp;
use serde::{Deserialize, Serialize};

use super::enroll::{self, Plan, Welcome, check_reserved};
use super::tokens::{Spans, quota};
use super::{Denial, Inner, Intake, to_the_end};
use crate::lifecycle::{Evidence, Move, State as Life, Terms, Who};
use crate::limits::{LABEL_VALUE_LIMIT, checked_labels};
use crate::native::ENROLL_PATH;
use crate::registry::{Approval, Change, Request, RequestId, Token, TokenId};

/// What a person adds when approving.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ApproveRequest {
    /// The fingerprint that the person compared.
    fingerprint: Option<String>,
    /// Labels forced on the instance, over those of its token.
    labels: BTreeMap<String, String>,
    series_quota: Option<u32>,
    #[serde(flatten)]
    spans: Spans,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RejectRequest {
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    state: Option<String>,
}

/// A request as lists show it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: String,
    name: String,
    state: &'static str,
    evidence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// What its cloud's document is worth.
    #[serde(skip_serializing_if = "String::is_empty")]
    document: String,
    labels: BTreeMap<String, String>,
    hostname: String,
    os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    at_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
}

/// What became of an approval.
#[derive(Debug, Serialize)]
pub(super) struct Approved {
    id: String,
    name: String,
}

pub(super) async fn list(
    State(intake): State<Intake>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Json<Vec<Shown>>, Denial> {
    intake.0.admin(&headers)?;
    let state = wanted.state.map(|word| word.parse::<Life>()).transpose();
    let state = state.map_err(|error| Denial::bad(format!("state: {error}")))?;
    let all = intake.0.parts.registry.requests();
    let found = all.iter().filter(|one| state.is_none_or(|state| one.lifecycle.state == state));
    Ok(Json(found.map(|one| shown(one)).collect()))
}

/// A machine asks what was decided.
pub(super) async fn poll(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Denial> {
    let inner = intake.0;
    let path = format!("{ENROLL_PATH}/{id}");
    let unknown = || Denial::missing("no request has this id; enrol again");
    let id: RequestId = id.parse().map_err(|_| unknown())?;
    let request = inner.parts.registry.request(id).ok_or_else(unknown)?;
    let key = inner.proved(&headers, ("GET", &path), b"")?;
    let key = key.ok_or_else(|| {
        Denial::unauthorised("unauthorised", "sign the question with the machine's key")
    })?;
    if request.key != Some(key) {
        return Err(unknown());
    }
    match (request.lifecycle.state, request.lifecycle.evidence.who) {
        (Life::Pending, _) => {
            Ok(Welcome::Waits(inner.pending(id, &key)).into_response_as(StatusCode::OK))
        }
        (Life::Approved, _) => {
            let welcome = to_the_end(async move { inner.handed_over(&request).await }).await?;
            Ok(welcome.into_response_as(StatusCode::OK))
        }
        (_, Who::Operator) => Err(enroll::rejected(&request)),
        _ => Err(Denial::over("expired", request.lifecycle.evidence.what.clone())),
    }
}

pub(super) async fn approve(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Approved>, Denial> {
    intake.0.admin(&headers)?;
    let wanted: ApproveRequest = intake.0.room.json(&headers, body).await?;
    check_reserved(&wanted.labels)?;
    let id: RequestId = id.parse().map_err(|_| no_request())?;
    let inner = intake.0.clone();
    to_the_end(async move { inner.approve(id, wanted).await }).await.map(Json)
}

pub(super) async fn reject(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    intake.0.admin(&headers)?;
    let wanted: RejectRequest = intake.0.room.json(&headers, body).await?;
    if wanted.reason.len() > LABEL_VALUE_LIMIT {
        return Err(Denial::bad(format!("reason: at most {LABEL_VALUE_LIMIT} bytes")));
    }
    let id: RequestId = id.parse().map_err(|_| no_request())?;
    let inner = intake.0.clone();
    to_the_end(async move {
        let mut turn = inner.turn().await?;
        let request = inner.waiting(id)?;
        let what = match wanted.reason.as_str() {
            "" => "rejected by an operator".to_owned(),
            reason => format!("rejected by an operator: {reason}"),
        };
        let step = Move::to(Life::Rejected, Who::Operator, what);
        let lifecycle = request.lifecycle.moved(step, inner.parts.clock.wall());
        let rejected = Request { lifecycle, ..(*request).clone() };
        inner.change(&mut turn, &[Change::Request(rejected)]).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// A token that waited for a person is good from now on.
pub(super) async fn approve_token(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Denial> {
    intake.0.admin(&headers)?;
    let unknown = || Denial::missing("no token has this id");
    let id: TokenId = id.parse().map_err(|_| unknown())?;
    let inner = intake.0.clone();
    to_the_end(async move {
        let mut turn = inner.turn().await?;
        let token = inner.parts.registry.token(id).ok_or_else(unknown)?;
        if token.revoked || token.approval != Approval::Waits {
            let message = "the token does not wait for approval, or was revoked";
            return Err(Denial::conflict("not_pending", message));
        }
        let approved = Token { approval: Approval::Auto, ..(*token).clone() };
        inner.change(&mut turn, &[Change::Token(approved)]).await?;
        tracing::info!(token = %id, "approved by an operator");
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

impl Inner {
    async fn approve(&self, id: RequestId, wanted: ApproveRequest) -> Result<Approved, Denial> {
        let mut turn = self.turn().await?;
        let request = self.waiting(id)?;
        let key = request.key.ok_or_else(no_request)?;
        let named = wanted.fingerprint.as_deref();
        if named.is_some_and(|named| named != key.fingerprint()) {
            let message = format!("the request's fingerprint is {}", key.fingerprint());
            return Err(Denial::conflict("fingerprint_mismatch", message));
        }
        let plan = self.plan(&request, &wanted)?;
        let evidence = plan.evidence.clone();
        // The secret is thrown away: the machine asks for its own.
        let (mut instance, _) = self.instance_of(&plan, &request)?;
        instance.credential = None;
        let approved = Approved { id: instance.id.to_string(), name: instance.name.clone() };
        let step = Move { to: Life::Approved, evidence };
        let decided = Request {
            lifecycle: request.lifecycle.moved(step, self.parts.clock.wall()),
            instance: Some(instance.id),
            ..(*request).clone()
        };
        let changes = [Change::Instance(instance), Change::Request(decided)];
        self.change(&mut turn, &changes).await?;
        tracing::info!(instance = approved.id, name = approved.name, "approved by an operator");
        Ok(approved)
    }

    fn plan(&self, request: &Request, wanted: &ApproveRequest) -> Result<Plan, Denial> {
        let token = request.token.and_then(|id| self.parts.registry.token(id));
        let pairs: Vec<(&str, &str)> =
            wanted.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let labels = checked_labels(&pairs).map_err(|(_, message)| Denial::bad(message))?;
        let forced = token.as_ref().map(|token| token.labels.clone()).unwrap_or_default();
        let terms = token.as_ref().map_or_else(Terms::default, |token| token.terms);
        let series_quota = quota(wanted.series_quota)?;
        Ok(Plan {
            token: request.token,
            forced: forced.overlaid(&labels),
            terms: wanted.spans.over(terms)?,
            series_quota: series_quota.or_else(|| token.and_then(|token| token.series_quota)),
            evidence: Evidence::of(Who::Operator, "approved by an operator"),
        })
    }

    /// The request, which nobody has decided on.
    fn waiting(&self, id: RequestId) -> Result<Arc<Request>, Denial> {
        let request = self.parts.registry.request(id).ok_or_else(no_request)?;
        match request.lifecycle.state {
            Life::Pending => Ok(request),
            state => Err(Denial::bad_state("not_pending", state)),
        }
    }

    /// Gives a machine that was approved its credential.
    async fn handed_over(&self, request: &Request) -> Result<Welcome, Denial> {
        let mut turn = self.turn().await?;
        let instance = request.instance.and_then(|id| self.parts.registry.instance(id));
        let instance = instance.filter(|one| one.lifecycle.state != Life::Reclaimed);
        let gone = || Denial::over("expired", "the instance of this request is gone; enrol again");
        let (changes, welcome) = self.resumed(&*instance.ok_or_else(gone)?, None)?;
        self.change(&mut turn, &changes).await?;
        Ok(welcome)
    }
}

fn no_request() -> Denial {
    Denial::missing("no request has this id; ask GET /v1/enrollments")
}

fn shown(request: &Request) -> Shown {
    Shown {
        id: request.id.to_string(),
        name: request.name.clone(),
        state: request.lifecycle.state.word(),
        evidence: request.lifecycle.sentence(),
        fingerprint: request.key.map(|key| key.fingerprint()),
        document: request.attestation.sentence(),
        labels: request.labels.clone(),
        hostname: request.facts.hostname.clone(),
        os: request.facts.os.clone(),
        token: request.token.map(|id| id.to_string()),
        peer: request.peer.map(|peer| peer.to_string()),
        at_ms: Timestamp::as_millis(request.at),
        instance: request.instance.map(|id| id.to_string()),
    }
}
