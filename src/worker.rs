//! The worker: the one visible loop, which applies committed frames in log order.
//!
//! Its `now` is the stamp of the frame at hand. It works in memory only: rounds write the files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alerter::Engine;
use collector::registry::Instance;
use collector::{Accounting, Intake, Registry};
use journal::{Frame, Journal};
use rrd::{Clock, InstanceChange, InstanceId, Matcher, Span, Step, Store, Timestamp, Verdicts};
use tracing::error;

use crate::rounds::{Moment, Reached, Rounds};
use crate::views::Pulse;

/// A journal without frames for this long gets a tick, so that silence is judged too.
const IDLE: Duration = Duration::from_secs(5);
/// How often an idle loop looks whether it should stop, or a round has ended.
const PATIENCE: Duration = Duration::from_millis(200);
/// The grid of journal time on which the steps of silent series are closed.
pub(crate) const SILENCE_GRID: Step = match Step::from_secs(5) {
    Some(step) => step,
    None => panic!("five seconds are a step"),
};

/// What a frame changes: the parts that the worker alone may write to.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) engine: Arc<Mutex<Engine>>,
    pub(crate) accounting: Arc<Accounting>,
}

/// What a frame made of itself.
#[derive(Default)]
pub(crate) struct Applied {
    /// Of samples: whose they were, and what became of them.
    pub(crate) verdicts: Option<(InstanceId, Verdicts)>,
    /// Bodies of transitions to append; none during replay.
    pub(crate) transitions: Vec<Vec<u8>>,
}

/// The loop and what it holds.
pub(crate) struct Worker {
    pub(crate) state: State,
    pub(crate) journal: Journal,
    pub(crate) rounds: Rounds,
    pub(crate) clock: Arc<dyn Clock>,
    /// Hears what became of samples.
    pub(crate) intake: Intake,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stop: Arc<AtomicBool>,
    /// The last frame applied.
    pub(crate) applied: u64,
}

impl Worker {
    /// Applies frames until told to stop; ends with a last round, so that a restart replays nothing.
    pub(crate) fn run(mut self) {
        let mut last_frame = self.clock.monotonic();
        let mut stamp = self.clock.wall();
        while !self.stop.load(Ordering::Acquire) {
            let frames = self.journal.next(PATIENCE);
            if !frames.is_empty() {
                last_frame = self.clock.monotonic();
            } else if self.clock.monotonic().saturating_sub(last_frame) >= IDLE {
                if let Err(refused) = self.journal.append_reserved(journal::TICK, &[]) {
                    error!(%refused, "the journal's time stands still");
                }
                last_frame = self.clock.monotonic();
            }
            self.take(&frames);
            if let Some(last) = frames.last() {
                stamp = last.stamp;
            }
            let at = Reached { seq: self.applied, stamp, now: self.clock.monotonic() };
            self.rounds.advance(at, || self.state.moment());
        }
        let rest = self.journal.next(Duration::ZERO);
        self.take(&rest);
        self.rounds.last(self.applied, || self.state.moment());
    }

    fn take(&mut self, frames: &[Frame]) {
        for frame in frames {
            append_transitions(&self.state, &self.journal, self.state.advance(frame.stamp));
            let Applied { verdicts, transitions } = self.state.apply(frame);
            if let Some((instance, verdicts)) = verdicts {
                self.intake.applied(frame.seq, instance, &verdicts);
            }
            append_transitions(&self.state, &self.journal, transitions);
            self.applied = frame.seq;
            self.pulse.applied.store(frame.seq, Ordering::Release);
            self.journal.mark_applied(frame.seq);
        }
    }
}

/// Appends bodies of transitions, for which room is kept. If one is refused all the same, it and
/// those after it stay owed, so that they come in order.
pub(crate) fn append_transitions(state: &State, journal: &Journal, bodies: Vec<Vec<u8>>) {
    for body in bodies {
        if let Err(refused) = journal.append_reserved(alerter::FRAME_TRANSITIONS, &body) {
            error!(%refused, "changes of alerts wait for the journal");
            return lock(&state.engine).append_refused();
        }
    }
}

impl State {
    /// Moves journal time on to `stamp`, before the frame of that stamp is applied: closes the steps
    /// of silent series and judges every rule whose time has come.
    ///
    /// Answers bodies of transitions to append; none during replay.
    pub(crate) fn advance(&self, stamp: Timestamp) -> Vec<Vec<u8>> {
        // On a grid, so that a replay that begins between two frames closes the same steps.
        self.store.advance(stamp.floor(SILENCE_GRID));
        let active = Active { store: &self.store, registry: &self.registry };
        lock(&self.engine).advance(stamp, &active)
    }

    /// Applies one committed frame. One that cannot be read is reported and passed over: what it
    /// held was refused at intake or written by a newer program.
    pub(crate) fn apply(&self, frame: &Frame) -> Applied {
        self.dispatch(frame).unwrap_or_else(|reason| {
            error!(seq = frame.seq, kind = frame.kind, reason, "a frame was not applied");
            Applied::default()
        })
    }

    fn dispatch(&self, frame: &Frame) -> Result<Applied, String> {
        fn text(reason: impl std::fmt::Display) -> String {
            reason.to_string()
        }
        let Frame { seq, stamp, kind, body } = frame;
        match *kind {
            journal::TICK => {}
            rrd::FRAME_SAMPLES => {
                let samples = rrd::SampleFrame::decode(body).map_err(text)?;
                let verdicts = self.store.apply(*seq, *stamp, &samples);
                return Ok(Applied {
                    verdicts: Some((samples.instance, verdicts)),
                    ..Applied::default()
                });
            }
            rrd::FRAME_GRANT => {
                let grant = rrd::GrantFrame::decode(body).map_err(text)?;
                self.store.apply_grant(*seq, &grant).map_err(text)?;
            }
            rrd::FRAME_CHANGE => {
                let change = rrd::ChangeFrame::decode(body).map_err(text)?;
                self.store.apply_change(*seq, &change).map_err(text)?;
            }
            collector::FRAME_REGISTRY => {
                let changed = self.registry.apply(*seq, body).map_err(text)?;
                return Ok(self.tell(*seq, *stamp, &changed));
            }
            alerter::FRAME_RULES | alerter::FRAME_TRANSITIONS | alerter::FRAME_DELIVERY => {
                lock(&self.engine).apply(*seq, *kind, body).map_err(text)?;
            }
            unknown => return Err(format!("kind {unknown} is not known to this program")),
        }
        Ok(Applied::default())
    }

    /// Tells the other parts of instances that were made or changed: their archives get the labels;
    /// of those that are gone the series end and the alerts are closed as withdrawn.
    fn tell(&self, seq: u64, stamp: Timestamp, changed: &[Arc<Instance>]) -> Applied {
        let mut applied = Applied::default();
        for instance in changed {
            let told = InstanceChange {
                id: instance.id,
                labels: &instance.labels,
                is_gone: !instance.is_active(),
            };
            if let Err(reason) = self.store.apply_instance(seq, stamp, told) {
                error!(seq, instance = %instance.id, %reason, "its archive keeps its old labels");
            }
            // Nobody is woken for who is gone, is expected back in minutes, or is not believed.
            if !instance.lifecycle.state.is_judged() {
                let labels = self.registry.telling_labels(instance);
                applied.transitions.extend(lock(&self.engine).withdraw(&labels, stamp));
            }
        }
        applied
    }

    /// Applies a frame that was set aside for `instance`. One that was applied before changes nothing.
    pub(crate) fn apply_aside(&self, instance: InstanceId, frame: &Frame) {
        self.store.advance_one(instance, frame.stamp.floor(SILENCE_GRID));
        // The rest of what a frame does (books, alerts) was done when it was new.
        self.apply(frame);
    }

    /// Has the archive of `instance` take over what the registry says of it as of frame `seq`.
    pub(crate) fn take_over(&self, instance: InstanceId, seq: u64) {
        let Some(known) = self.registry.instance(instance) else { return };
        let ended = known.lifecycle.end.as_ref().map_or(Timestamp::MIN, |end| end.at);
        let told =
            InstanceChange { id: instance, labels: &known.labels, is_gone: !known.is_active() };
        self.store.take_over(seq, told, ended);
    }

    /// All that a round must write, at this boundary between two frames.
    pub(crate) fn moment(&self) -> Moment {
        Moment { registry: self.registry.snapshot(), alerts: lock(&self.engine).snapshot() }
    }
}

/// The archives as rules see them: without the series of instances that are gone, whose last hour
/// would otherwise go on to be judged, and of those that nobody is to be woken for.
struct Active<'a> {
    store: &'a Store,
    registry: &'a Registry,
}

impl query::Read for Active<'_> {
    fn select(&self, matchers: &[Matcher]) -> Vec<query::Series> {
        let mut found = query::Read::select(self.store, matchers);
        // Series come instance by instance, so that each instance is looked up once.
        let mut last: Option<(InstanceId, bool)> = None;
        found.retain(|series| {
            let id = series.series.instance;
            let (_, is_judged) = *last.insert(match last {
                Some(known) if known.0 == id => known,
                _ => (
                    id,
                    self.registry
                        .instance(id)
                        .is_none_or(|found| found.lifecycle.state.is_judged()),
                ),
            });
            is_judged
        });
        found
    }

    fn rows(&self, series: &query::Series, archive: usize, span: Span) -> query::Rows {
        query::Read::rows(self.store, series, archive, span)
    }

    fn rows_into(&self, rows: &mut query::Rows, series: &query::Series, wanted: query::RowsWanted) {
        query::Read::rows_into(self.store, rows, series, wanted);
    }
}

/// The alerter's lock. A panic elsewhere leaves plain data behind: going on is right.
pub(crate) fn lock(engine: &Mutex<Engine>) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod crash;
