//! Heartbeats: `/v1/beat/{token}` for jobs that run now and then, kept alive between two of them.
//!
//! An archive forgets a value that is not repeated, so what is known of each job is stored anew at
//! every step. Samples stand on the ends of steps: a row then holds one value and no mixture.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State as Shared};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use rrd::{Kind, MatchOp, Matcher, NAME, SeriesInfo, Span, Step, Timestamp};
use serde::Deserialize;
use tokio::task::JoinSet;
use tracing::warn;

use super::{Denial, Inner, Intake};
use crate::beat::{Beat, DURATION, FAILURE, JOB, SUCCESS, State};
use crate::foreign::{Origin, Protocol};
use crate::registry::{Namespace, Source, TokenId};

/// Shortest time between two samples that only repeat.
const REPEAT_MIN: Duration = Duration::from_secs(10);
/// Widest step at whose end a sample stands: beyond it that is too far in the future.
const STEP_MAX: Step = match Step::from_secs(300) {
    Some(step) => step,
    None => panic!("five minutes are a step"),
};
/// Jobs whose samples wait for the journal together.
const TOGETHER: usize = 64;
/// How far behind its newest row a series is looked at for what it last held.
const LOOK_BACK_MS: i64 = 3_600_000;

/// What is known of every job, by the token in its address. Relay tokens bound it.
#[derive(Debug, Default)]
pub(super) struct Beats(Mutex<HashMap<TokenId, State>>);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Parameters {
    status: String,
    duration: String,
}

pub(super) async fn beat(
    Shared(intake): Shared<Intake>,
    Path(secret): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<StatusCode, Denial> {
    let inner = intake.0;
    let beat = Beat::read(&parameters.status, &parameters.duration)
        .map_err(|error| Denial::bad(error.to_string()))?;
    let bearer = HeaderValue::try_from(format!("Bearer {secret}"))
        .map_err(|_| Denial::bad("the address holds no token"))?;
    let relay = inner.relay(&HeaderMap::from_iter([(AUTHORIZATION, bearer)]))?;
    let (id, name) = inner.beating(relay)?;
    let now = inner.parts.clock.wall();
    let state = inner.beats.update(id, |state| state.after(beat, now));
    let refused = inner.keep(id, &name, state, now).await?;
    if refused > 0 {
        return Err(Denial::bad("the beat cannot be kept; /api/v1/accounting says why"));
    }
    Ok(StatusCode::NO_CONTENT)
}

impl Intake {
    /// Repeats what is known of jobs that beat, until `shutdown` ends. The store must be recovered.
    pub async fn beats(self, shutdown: impl Future<Output = ()>) {
        let inner = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || inner.remember()).await {
            Ok(()) => {}
            Err(error) => warn!(%error, "what jobs told before the restart cannot be read"),
        }
        let step = self.0.parts.foreign_policy.step();
        let every = Duration::from_millis(step.as_millis()).max(REPEAT_MIN);
        let mut tick = tokio::time::interval(every);
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                _ = tick.tick() => self.0.repeat().await,
            }
        }
    }
}

impl Beats {
    /// Changes what is known of a job, and tells it.
    fn update(&self, id: TokenId, change: impl FnOnce(State) -> State) -> State {
        let mut held = self.held();
        let state = held.entry(id).or_default();
        *state = change(*state);
        *state
    }

    fn all(&self) -> Vec<(TokenId, State)> {
        self.held().iter().map(|(id, state)| (*id, *state)).collect()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<TokenId, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The token of a job, and the job's name.
    fn beating(&self, relay: Option<TokenId>) -> Result<(TokenId, String), Denial> {
        let token = relay.and_then(|id| self.parts.registry.token(id));
        let named = token.filter(|token| !token.name.is_empty());
        let named = named.ok_or_else(|| {
            Denial::forbidden("this needs a relay token with a name, which is the job's")
        })?;
        Ok((named.id, named.name.clone()))
    }

    /// Stores what is known of a job at the end of the step that `now` is in.
    async fn keep(
        self: &Arc<Self>,
        id: TokenId,
        name: &str,
        state: State,
        now: Timestamp,
    ) -> Result<u64, Denial> {
        let step = self.parts.foreign_policy.step();
        let at = if step <= STEP_MAX { now.ceil(step) } else { now };
        let origin = Origin { protocol: Protocol::Beat, relay: Some(id) };
        let held = self.room.take(0).await?;
        let name = name.to_owned();
        let taken = self
            .store(origin, held, move |_, _, mut sorter| {
                for (labels, value) in state.series(&name) {
                    let labels: Vec<(&str, &str)> =
                        labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                    let key = labels.iter().flat_map(|(_, v)| [v.as_bytes(), &[0]]).flatten();
                    let key: Vec<u8> = key.copied().collect();
                    sorter.series(&key, &labels.as_slice(), (&[(at, value)], Some(Kind::Gauge)));
                }
                Ok(sorter.sorted)
            })
            .await?;
        Ok(taken.refusals.samples())
    }

    /// Stores anew what is known of every job whose token holds and whose instance is there.
    pub(super) async fn repeat(self: &Arc<Self>) {
        let now = self.parts.clock.wall();
        for some in self.beats.all().chunks(TOGETHER) {
            let mut stored = JoinSet::new();
            for (id, state) in some.iter().copied() {
                let Some(name) = self.still_beats(id) else { continue };
                let inner = Arc::clone(self);
                stored.spawn(async move { inner.keep(id, &name, state, now).await });
            }
            while let Some(outcome) = stored.join_next().await {
                if let Ok(Err(error)) = outcome {
                    // The next turn repeats it.
                    warn!(%error, "what is known of a job cannot be stored");
                }
            }
        }
    }

    /// The name of a job whose token holds and whose instance nobody withdrew: only a beat of its own
    /// brings that back.
    fn still_beats(&self, id: TokenId) -> Option<String> {
        self.standing(Some(id)).ok()?;
        let (_, name) = self.beating(Some(id)).ok()?;
        let space = Namespace { relay: Some(id), job: JOB.to_owned(), instance: name.clone() };
        let instance = self.parts.registry.relayed(&space)?;
        instance.is_active().then_some(name)
    }

    /// Reads back what an earlier process knew.
    pub(super) fn remember(&self) {
        for metric in [SUCCESS, FAILURE, DURATION] {
            let matchers = [(NAME, metric), ("job", JOB)]
                .map(|(name, value)| Matcher::new(name, MatchOp::Equal, value));
            let Ok(matchers) = matchers.into_iter().collect::<Result<Vec<_>, _>>() else { return };
            for found in self.parts.store.select(&matchers) {
                let instance = self.parts.registry.instance(found.series.instance);
                let source = instance.map(|instance| instance.source.clone());
                let Some(Source::Relay(Namespace { relay: Some(id), .. })) = source else {
                    continue;
                };
                if let Some(value) = self.last_value(&found) {
                    self.beats.update(id, |state| state.restored(metric, value));
                }
            }
        }
    }

    fn last_value(&self, found: &SeriesInfo) -> Option<f64> {
        let span = Span::new(found.newest.plus_millis(-LOOK_BACK_MS), found.newest)?;
        let rows = self.parts.store.rows_of(found, 0, span);
        rows.average.iter().rev().find(|value| !value.is_nan()).copied()
    }
}
