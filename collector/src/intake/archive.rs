//! Archives at the operator's word: other rows to keep, series dropped, the archive of who is gone given back.
//!
//! A dry run says what would happen and changes nothing.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::HeaderMap;
use rrd::{Change, ChangeError, ChangeFrame, InstanceId, MatchOp, Matcher, Policy, SeriesInfo};
use serde::{Deserialize, Serialize};

use super::{Denial, Inner, Intake, UNAVAILABLE, aside, to_the_end};
use crate::lifecycle::{Act, Who};
use crate::registry;

/// Matchers of one request: more say nothing that fewer could not.
const MATCHERS_LIMIT: usize = 32;

/// Other rows to keep.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyRequest {
    policy: String,
    #[serde(default)]
    dry_run: bool,
}

/// What a change of rows comes to.
#[derive(Debug, Serialize)]
pub(super) struct PolicyAnswer {
    changed: bool,
    policy: String,
    former_policy: String,
    /// Bytes of the archive there is, which come back when the change is done.
    bytes: u64,
    /// Bytes that must be free beside them.
    bytes_needed: u64,
    loses: Vec<Lost>,
}

/// Rows of one kind that are kept for less time.
#[derive(Debug, Serialize)]
struct Lost {
    step: String,
    kept_ms: u64,
    keeps_ms: u64,
    /// Days of another zone take their place, made of narrower rows as far as these reach.
    other_days: bool,
    /// Wider rows are kept, to which they have been added.
    has_wider: bool,
}

/// Series to be dropped: those that satisfy all of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DropRequest {
    /// Each `NAME=VALUE`, or with `!=`, `=~` or `!~`.
    #[serde(rename = "match")]
    matchers: Vec<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct DropAnswer {
    dropped: bool,
    series: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReclaimRequest {
    dry_run: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct ReclaimAnswer {
    reclaimed: bool,
    /// Bytes that come back within a minute.
    bytes: u64,
}

pub(super) async fn policy(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PolicyAnswer>, Denial> {
    intake.0.admin(&headers)?;
    let request: PolicyRequest = intake.0.room.json(&headers, body).await?;
    let policy =
        Policy::parse(&request.policy).map_err(|error| Denial::bad(format!("policy: {error}")))?;
    let (inner, id) = (intake.0.clone(), known(&id)?);
    to_the_end(async move {
        inner.is_usable(id)?;
        let store = Arc::clone(&inner.parts.store);
        let wanted = policy.clone();
        let plan = aside(move || store.plan_change(id, &wanted).map_err(denied)).await?;
        let lost = |loss: &rrd::Loss| Lost {
            step: loss.rows.step_name(),
            kept_ms: loss.kept_ms,
            keeps_ms: loss.keeps_ms,
            other_days: loss.is_other_days,
            has_wider: loss.has_wider,
        };
        let answer = PolicyAnswer {
            changed: !request.dry_run,
            policy: policy.to_string(),
            former_policy: plan.former.to_string(),
            bytes: plan.file_len,
            bytes_needed: plan.needed,
            loses: plan.loses.iter().map(lost).collect(),
        };
        if answer.changed {
            inner.check_limit(answer.bytes, answer.bytes_needed)?;
            inner.change_archive(id, Change::Policy(policy)).await?;
            let (from, to) = (&answer.former_policy, &answer.policy);
            tracing::info!(instance = %id, from, to, "archives changed by an operator");
        }
        Ok(Json(answer))
    })
    .await
}

pub(super) async fn drop_series(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DropAnswer>, Denial> {
    intake.0.admin(&headers)?;
    let request: DropRequest = intake.0.room.json(&headers, body).await?;
    let matchers = matchers(&request.matchers)?;
    let (inner, id) = (intake.0.clone(), known(&id)?);
    to_the_end(async move {
        inner.is_usable(id)?;
        let store = Arc::clone(&inner.parts.store);
        let found: Vec<SeriesInfo> = aside(move || {
            store.info(id).ok_or_else(no_archive)?;
            let all = store.select(&matchers).into_iter();
            Ok(all.filter(|one| one.series.instance == id).collect())
        })
        .await?;
        let dropped = !request.dry_run && !found.is_empty();
        if dropped {
            let columns = found.iter().map(|one| one.series.column).collect();
            inner.change_archive(id, Change::Drop(columns)).await?;
            tracing::info!(instance = %id, series = found.len(), "series dropped by an operator");
        }
        let series = found.iter().map(|one| one.labels.to_string()).collect();
        Ok(Json(DropAnswer { dropped, series }))
    })
    .await
}

pub(super) async fn reclaim(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReclaimAnswer>, Denial> {
    intake.0.admin(&headers)?;
    let request: ReclaimRequest = intake.0.room.json(&headers, body).await?;
    let (inner, id) = (intake.0.clone(), known(&id)?);
    to_the_end(async move {
        // Nobody makes it active again meanwhile.
        let mut turn = inner.turn().await?;
        let instance = inner.parts.registry.instance(id);
        if instance.as_ref().is_some_and(|instance| instance.is_active()) {
            let message = "the instance is active; withdraw it first";
            return Err(Denial::conflict("active", message));
        }
        let store = &inner.parts.store;
        let info = store.info(id);
        if info.is_none() && !store.is_unavailable(id) {
            return Err(no_archive());
        }
        let bytes = info.map_or(0, |info| info.file_len);
        if !request.dry_run {
            inner.leave_archive(id).await?;
            tracing::info!(instance = %id, bytes, "reclaimed by an operator");
            let act = Act::Reclaim(Who::Operator, "its archive was given back".to_owned());
            if let Some(instance) = instance
                && let Some(moved) = inner.moved(&instance, act)?
            {
                inner.change(&mut turn, &[registry::Change::Instance(moved)]).await?;
            }
        }
        Ok(Json(ReclaimAnswer { reclaimed: !request.dry_run, bytes }))
    })
    .await
}

impl Inner {
    /// An archive that is set apart must not be changed.
    fn is_usable(&self, id: InstanceId) -> Result<(), Denial> {
        if self.parts.store.is_unavailable(id) {
            return Err(Denial::later("unavailable", UNAVAILABLE));
        }
        Ok(())
    }

    /// Makes a change last, and waits until the worker has applied it.
    pub(super) async fn change_archive(
        self: &Arc<Self>,
        id: InstanceId,
        change: Change,
    ) -> Result<(), Denial> {
        let inner = Arc::clone(self);
        // It waits for the disk, which makes room first.
        let seq = aside(move || inner.append_change(id, change).map_err(denied)).await?;
        self.shown(seq).await?;
        self.cache.forget(id);
        self.sessions.forget(id);
        Ok(())
    }

    /// Has an archive go, with what it leaves to its role, and waits until the worker has applied that.
    async fn leave_archive(self: &Arc<Self>, id: InstanceId) -> Result<(), Denial> {
        let inner = Arc::clone(self);
        let seq = aside(move || inner.append_leaving(id).map_err(denied)).await?;
        self.shown(seq).await?;
        self.cache.forget(id);
        self.sessions.forget(id);
        Ok(())
    }

    /// Hands a change to the journal, with room on the disk; answers its frame.
    pub(super) fn append_change(
        &self,
        id: InstanceId,
        change: Change,
    ) -> Result<u64, ChangeError<journal::Refused>> {
        let mut append =
            |frame: &ChangeFrame| self.parts.journal.append(rrd::FRAME_CHANGE, &frame.encode());
        self.parts.store.change(id, change, &mut append)
    }
}

fn known(id: &str) -> Result<InstanceId, Denial> {
    id.parse().map_err(|_| Denial::missing("no instance has this id; ask GET /v1/instances"))
}

fn no_archive() -> Denial {
    Denial::missing("no instance with an archive has this id; ask GET /v1/instances")
}

fn denied(error: ChangeError<journal::Refused>) -> Denial {
    let message = error.to_string();
    match error {
        ChangeError::NoInstance(_) => no_archive(),
        ChangeError::UnderWay(_) => Denial::conflict("under_way", message),
        ChangeError::NoSeries { .. } => Denial::conflict("changed", message),
        ChangeError::OtherStep { .. } | ChangeError::Role { .. } => Denial::bad(message),
        ChangeError::DiskFull { .. } => Denial::no_space(message),
        ChangeError::Disk { .. } => {
            tracing::error!(%message, "a change of archives");
            Denial::later("store", "the store could not make room; the server's log says why")
        }
        ChangeError::Append(refused) => refused.into(),
    }
}

/// The matchers of a request, of which there must be one: all series go with a reclaimed instance.
fn matchers(texts: &[String]) -> Result<Vec<Matcher>, Denial> {
    if texts.is_empty() || texts.len() > MATCHERS_LIMIT {
        let message = format!("match: name 1 to {MATCHERS_LIMIT} of them, as in \"__name__=up\"");
        return Err(Denial::bad(message));
    }
    texts.iter().map(|text| matcher(text)).collect()
}

pub(super) fn matcher(text: &str) -> Result<Matcher, Denial> {
    let wrong = |why: String| Denial::bad(format!("match {text:?}: {why}"));
    let at = text.find(['=', '!']).unwrap_or(text.len());
    let (name, rest) = text.split_at(at);
    let operators = [
        ("=~", MatchOp::Regex),
        ("!~", MatchOp::NotRegex),
        ("!=", MatchOp::NotEqual),
        ("=", MatchOp::Equal),
    ];
    let found = operators.iter().find_map(|(sign, op)| Some((*op, rest.strip_prefix(sign)?)));
    match found {
        Some((op, value)) if !name.is_empty() => {
            Matcher::new(name, op, value).map_err(|error| wrong(error.to_string()))
        }
        _ => Err(wrong("write NAME=VALUE, or with != =~ !~".to_owned())),
    }
}
