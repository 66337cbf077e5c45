//! The sweep: what time alone has done to instances and requests, looked at every other second.
//!
//! Most of it is pure and in [`crate::lifecycle`]; here it meets clocks, the store and the journal.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rrd::{InstanceId, Timestamp};

use super::{Denial, Inner, Intake, aside, to_the_end};
use crate::lifecycle::{
    Evidence, Fault, Kept, Member, Move, PENDING_MS, Sight, State, Who, Zones, due,
};
use crate::registry::{Change, Event, Instance, Request, Source, What};

/// How often everything is looked at: a tenth of the shortest silence that is noted.
const EVERY: Duration = Duration::from_secs(2);
/// Archives given back in one sweep: each waits for the worker.
const RECLAIMS_IN_SWEEP: usize = 200;
/// A relay's instance is silent when nothing came for the longest heartbeat of foreign senders.
const FOREIGN_SILENT_MS: u64 = 300_000;
/// Looks of an agent that may be missed.
const LOOKS: u64 = 3;
/// A wall clock that went on so much further than time did was set, and tells nothing of silence.
const LEAP_MS: i64 = 30_000;

/// What the sweep remembers.
#[derive(Debug)]
pub(super) struct Watch {
    /// Since when silence is heard.
    listening_since: Timestamp,
    zones: Zones,
    last: (Timestamp, Duration),
}

impl Watch {
    pub(super) fn begun(wall: Timestamp, monotonic: Duration) -> Self {
        Self { listening_since: wall, zones: Zones::default(), last: (wall, monotonic) }
    }

    fn clocks(&mut self, wall: Timestamp, monotonic: Duration) {
        let (last_wall, last_monotonic) = self.last;
        let passed = monotonic.saturating_sub(last_monotonic).as_millis();
        let passed_ms = i64::try_from(passed).unwrap_or(i64::MAX);
        let leap_ms = wall.millis_since(last_wall).saturating_sub(passed_ms);
        if leap_ms.saturating_abs() > LEAP_MS {
            tracing::warn!(leap_ms, "the clock was set: silence is counted from now on");
            self.listening_since = wall;
        }
        self.last = (wall, monotonic);
    }
}

impl Intake {
    /// Looks at every instance and request once, and makes what is due last.
    pub async fn sweep(&self) -> Result<(), Denial> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { inner.sweep().await }).await
    }

    /// Sweeps until `shutdown` is ready.
    pub async fn watch_over(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(reason) = self.sweep().await {
                tracing::warn!(%reason, "states of instances stand still");
            }
        }
    }
}

/// What a look found: nothing of it is made yet.
#[derive(Default)]
struct Found {
    moves: Vec<(Arc<Instance>, Move)>,
    faults: Vec<Fault>,
}

impl Inner {
    async fn sweep(self: Arc<Self>) -> Result<(), Denial> {
        let inner = Arc::clone(&self);
        let found = aside(move || Ok(inner.look())).await?;
        let late = self.late_requests();
        if found.moves.is_empty() && found.faults.is_empty() && late.is_empty() {
            return Ok(());
        }
        let mut turn = self.turn().await?;
        let now = self.parts.clock.wall();
        let mut changes: Vec<Change> = late.into_iter().map(|one| self.too_late(&one)).collect();
        changes.extend(found.faults.iter().map(|fault| Change::Event(told(fault, now))));
        let mut reclaimed = 0;
        let mut gone: HashSet<InstanceId> = HashSet::new();
        let mut leaving = Vec::new();
        for (seen, step) in found.moves {
            // Somebody's word came in between: the next sweep looks again.
            let same = self.parts.registry.instance(seen.id).filter(|now| Arc::ptr_eq(now, &seen));
            let Some(instance) = same else { continue };
            if step.to == State::Reclaimed {
                reclaimed += 1;
                if reclaimed > RECLAIMS_IN_SWEEP || !self.give_back(instance.id).await {
                    continue;
                }
            }
            if step.to.is_gone() {
                gone.insert(instance.id);
                if step.to != State::Reclaimed {
                    leaving.push(Arc::clone(&instance));
                }
            }
            changes.push(self.stepped(&instance, step, now));
        }
        self.change(&mut turn, &changes).await?;
        // Nobody waits for this, and it looks at every known series.
        drop(turn);
        let inner = Arc::clone(&self);
        aside(move || {
            inner.cache.forget_all(&gone);
            for instance in &leaving {
                inner.prepare_role(instance);
            }
            Ok(())
        })
        .await?;
        self.forget_reclaimed();
        Ok(())
    }

    /// What is due now.
    fn look(&self) -> Found {
        let (now, monotonic) = (self.parts.clock.wall(), self.parts.clock.monotonic());
        let instances = self.parts.registry.instances();
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.clocks(now, monotonic);
        let since = watch.listening_since;
        let members = instances.iter().filter_map(|one| self.member(one, since, now));
        let faults = watch.zones.look(members, now);
        let due = |instance: &Arc<Instance>| {
            let step = self.due(instance, &watch, now)?;
            Some((Arc::clone(instance), step))
        };
        let moves = instances.iter().filter_map(due).collect();
        Found { moves, faults }
    }

    fn due(&self, instance: &Instance, watch: &Watch, now: Timestamp) -> Option<Move> {
        let seen = self.parts.registry.seen(instance.id);
        let usual_ms = self.usual_silent_ms(instance);
        let state = instance.lifecycle.state;
        let sight = Sight {
            heard: seen.map(|seen| seen.at).or_else(|| self.heard_before(instance)),
            silent_ms: instance.terms.silent_ms(usual_ms, seen.and_then(|seen| seen.gap_ms())),
            listening_since: watch
                .zones
                .healed_at(instance.zone())
                .map_or(watch.listening_since, |healed| healed.max(watch.listening_since)),
            is_frozen: watch.zones.is_frozen(instance.zone()),
            hint: instance.hint.as_ref(),
            kept: if state == State::Archived { self.kept(instance) } else { Kept::Unknown },
        };
        due(&instance.lifecycle, &instance.terms, &sight, now)
    }

    /// Silence that is noted, unless the token or the sender's own pace says otherwise.
    pub(super) fn usual_silent_ms(&self, instance: &Instance) -> u64 {
        match instance.source {
            Source::Enrolled(_) => LOOKS.saturating_mul(self.parts.agent_step.as_millis()),
            Source::Relay(_) => FOREIGN_SILENT_MS,
        }
    }

    /// An instance as its zone sees it: one that reports, or fell silent.
    fn member<'a>(
        &self,
        instance: &'a Instance,
        listening_since: Timestamp,
        now: Timestamp,
    ) -> Option<Member<'a>> {
        let life = &instance.lifecycle;
        let seen = self.parts.registry.seen(instance.id);
        let heard = seen.map(|seen| seen.at);
        let silent_since = match life.state {
            State::Silent => heard.is_none_or(|heard| heard <= life.since).then_some(life.since),
            State::Active => {
                let usual_ms = self.usual_silent_ms(instance);
                let gap_ms = seen.and_then(|seen| seen.gap_ms());
                let patience_ms = instance.terms.silent_ms(usual_ms, gap_ms);
                let last = heard.unwrap_or(life.since).max(life.since).max(listening_since);
                let until = last.plus_millis(i64::try_from(patience_ms).unwrap_or(i64::MAX / 2));
                (until <= now).then_some(until)
            }
            _ => return None,
        };
        Some(Member { zone: instance.zone(), silent_since })
    }

    /// An instance that sent its first batch to an earlier life of this process has rows.
    fn heard_before(&self, instance: &Instance) -> Option<Timestamp> {
        if instance.lifecycle.state != State::Approved {
            return None;
        }
        let newest = self.parts.store.info(instance.id)?.newest;
        (newest > Timestamp::MIN).then_some(newest)
    }

    /// How long the rows of an instance go on to be of use.
    fn kept(&self, instance: &Instance) -> Kept {
        let store = &self.parts.store;
        if store.is_unavailable(instance.id) {
            return Kept::Unknown;
        }
        let Some(info) = store.info(instance.id) else { return Kept::Nothing };
        let Some(candidate) = store.reclaim_candidates([instance.id]).pop() else {
            return Kept::Unknown;
        };
        let keep_ms = Self::keep_ms(&info.policy);
        Kept::Until(candidate.last_heard.max(instance.enrolled_at).plus_millis(keep_ms))
    }

    /// Gives an archive back; false when that has to wait.
    async fn give_back(self: &Arc<Self>, id: InstanceId) -> bool {
        if self.parts.store.info(id).is_none() {
            return true;
        }
        match self.change_archive(id, rrd::Change::Remove).await {
            Ok(()) => true,
            Err(reason) => {
                tracing::warn!(instance = %id, %reason, "cannot be reclaimed now");
                false
            }
        }
    }

    fn stepped(&self, instance: &Instance, step: Move, now: Timestamp) -> Change {
        let (from, to) = (instance.lifecycle.state, step.to);
        if to != State::Active {
            let (id, what) = (instance.id, &step.evidence.what);
            tracing::info!(instance = %id, name = instance.name, %from, %to, ?what, "moved");
        }
        if to.is_gone() {
            self.sessions.forget(instance.id);
        }
        let lifecycle = instance.lifecycle.moved(step, now);
        Change::Instance(Instance { lifecycle, ..instance.clone() })
    }

    /// Requests that nobody decided on in time.
    fn late_requests(&self) -> Vec<Arc<Request>> {
        let now = self.parts.clock.wall();
        let mut requests = self.parts.registry.requests();
        requests.retain(|one| {
            one.lifecycle.state == State::Pending && now.millis_since(one.at) >= PENDING_MS
        });
        requests
    }

    fn too_late(&self, request: &Request) -> Change {
        let step = Move::to(State::Rejected, Who::Collector, "nobody decided within 24 hours");
        let lifecycle = request.lifecycle.moved(step, self.parts.clock.wall());
        Change::Request(Request { lifecycle, ..request.clone() })
    }

    /// Leaves nothing of instances behind whose line alone is left.
    fn forget_reclaimed(&self) {
        let instances = self.parts.registry.instances();
        let gone = instances.iter().filter(|one| one.lifecycle.state.is_tombstone());
        let gone: HashSet<InstanceId> = gone.map(|one| one.id).collect();
        self.parts.registry.forget_seen(|id| gone.contains(&id));
    }

    /// Has an event told as soon as the registry's turn comes.
    pub(super) fn tell_later(self: &Inner, event: Event) {
        let told = self.parts.journal.append_reserved(
            crate::registry::FRAME_REGISTRY,
            &Change::encode_all(&[Change::Event(event)]),
        );
        if let Err(refused) = told {
            tracing::warn!(%refused, "an event was not kept");
        }
    }
}

fn told(fault: &Fault, at: Timestamp) -> Event {
    let Fault { zone, has_begun, silent, of } = fault;
    let place = if zone.is_empty() { "the fleet".to_owned() } else { format!("zone {zone}") };
    let what = if *has_begun {
        format!(
            "{silent} of {of} instances of {place} fell silent at once: the network's or the \
             collector's fault; nobody is taken for lost"
        )
    } else {
        format!("{silent} of {of} instances of {place} are silent: the timers run again")
    };
    tracing::warn!(zone, silent, of, has_begun, "a fault of a zone");
    Event {
        number: 0,
        at,
        what: if *has_begun { What::ZoneFault } else { What::ZoneHealed },
        instance: None,
        name: zone.clone(),
        evidence: Evidence::of(Who::Collector, what),
    }
}
