//! A phase: where one rule stands with one series, between one evaluation and the next.

use bincode::{Decode, Encode};
use rrd::{Labels, Timestamp};

use crate::codec::{LabelKey, Moment};
use crate::letter::fill;
use crate::rules::{Level, NoData, Rule};
use crate::transition::{IncidentId, Reason, State, Transition, TransitionId};

/// Evaluations a series may miss before its absence means something: a late push is not a fault.
pub(crate) const NO_DATA_AFTER: u32 = 3;

/// How long a vanished series that never alarmed is remembered, in milliseconds: a day, so that
/// the list of unknowns does not grow with everything that ever was. What alarmed is never forgotten.
pub(crate) const FORGOTTEN_AFTER_MS: i64 = 86_400_000;

/// A rule and one of its series.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) labels: &'a Labels,
}

/// Where one rule stands with one series.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub(crate) struct Phase {
    state: State,
    warning: Track,
    critical: Track,
    /// The newest value; `None` when it is missing.
    value: Option<f64>,
    seen: Option<Moment>,
    missed: u32,
    missing_since: Option<Moment>,
    incident: Option<Incident>,
}

/// One severity: whether it is on, and since when its next change is pending.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
struct Track {
    on: bool,
    breach_since: Option<Moment>,
    clear_since: Option<Moment>,
}

/// An incident while it is open.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
struct Incident {
    id: IncidentId,
    sequence: u32,
    since: Moment,
    /// It is, or was, WARNING or CRITICAL.
    alarmed: bool,
    /// The labels its transitions carry.
    shown: LabelKey,
}

/// What a value, or its absence, says to one severity.
#[derive(Clone, Copy)]
enum Signal {
    Breach,
    /// Neither in breach nor clear: within the hysteresis.
    Between,
    Clear,
}

impl Signal {
    fn of(level: &Level, value: f64) -> Self {
        if level.raise.holds(value) {
            Self::Breach
        } else if level.clear.holds(value) {
            Self::Clear
        } else {
            Self::Between
        }
    }
}

impl Track {
    fn push(&mut self, level: &Level, signal: Signal, at: Timestamp) {
        match signal {
            Signal::Breach => {
                let since = self.breach_since.get_or_insert(Moment(at)).0;
                self.clear_since = None;
                self.on |= has_lasted(since, level.for_ms, at);
            }
            Signal::Clear if self.on => {
                let since = self.clear_since.get_or_insert(Moment(at)).0;
                if has_lasted(since, level.clear_for_ms, at) {
                    *self = Self::default();
                }
            }
            Signal::Between if self.on => self.clear_since = None,
            Signal::Clear | Signal::Between => self.breach_since = None,
        }
    }

    /// Forgets a change that was pending: nobody knows what happened meanwhile.
    fn freeze(&mut self) {
        self.clear_since = None;
        if !self.on {
            self.breach_since = None;
        }
    }
}

fn has_lasted(since: Timestamp, millis: u64, at: Timestamp) -> bool {
    u64::try_from(at.millis_since(since)).is_ok_and(|lasted| lasted >= millis)
}

impl Phase {
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The newest value; `None` when it is missing.
    pub(crate) fn value(&self) -> Option<f64> {
        self.value
    }

    /// The open incident.
    pub(crate) fn incident(&self) -> Option<IncidentId> {
        self.incident.as_ref().map(|incident| incident.id)
    }

    pub(crate) fn was_seen(&self, at: Timestamp) -> bool {
        self.seen == Some(Moment(at))
    }

    /// A value arrived.
    pub(crate) fn see(&mut self, of: Subject<'_>, value: f64, at: Timestamp) -> Option<Transition> {
        self.value = Some(value);
        self.seen = Some(Moment(at));
        self.missed = 0;
        self.missing_since = None;
        self.signal(of.rule, at, |level| Signal::of(level, value));
        self.turn(of, self.standing(), Reason::Threshold, at)
    }

    /// No value arrived.
    pub(crate) fn miss(&mut self, of: Subject<'_>, at: Timestamp) -> Option<Transition> {
        self.value = None;
        self.missed = self.missed.saturating_add(1);
        let since = self.missing_since.get_or_insert(Moment(at)).0;
        if self.missed < NO_DATA_AFTER {
            return None;
        }
        if self.is_forgettable() && at.millis_since(since) >= FORGOTTEN_AFTER_MS {
            return self.close(&of.rule.name, Reason::Forgotten, at);
        }
        match of.rule.no_data {
            NoData::Keep => return None,
            NoData::Ok => self.signal(of.rule, at, |_| Signal::Clear),
            NoData::Breach => self.signal(of.rule, at, |_| Signal::Breach),
            NoData::Unknown => {
                self.warning.freeze();
                self.critical.freeze();
                return self.turn(of, State::Unknown, Reason::NoData, at);
            }
        }
        self.turn(of, self.standing(), Reason::NoData, at)
    }

    /// True when nothing would be lost by forgetting this series.
    fn is_forgettable(&self) -> bool {
        self.incident.as_ref().is_none_or(|incident| !incident.alarmed)
    }

    /// True when the series stayed away for so long that it has been closed as forgotten.
    pub(crate) fn is_over(&self, at: Timestamp) -> bool {
        let away =
            self.missing_since.is_some_and(|since| at.millis_since(since.0) >= FORGOTTEN_AFTER_MS);
        away && self.incident.is_none()
    }

    fn signal(&mut self, rule: &Rule, at: Timestamp, signal: impl Fn(&Level) -> Signal) {
        if let Some(level) = &rule.critical {
            self.critical.push(level, signal(level), at);
        }
        if let Some(level) = &rule.warning {
            self.warning.push(level, signal(level), at);
            // What is critical is in warning too, so that stepping down never skips it.
            if self.critical.on {
                self.warning.on = true;
                self.warning.breach_since =
                    self.warning.breach_since.or(self.critical.breach_since);
            }
        }
        // A level that the rule no longer has can be on after its rules were changed.
        if rule.critical.is_none() {
            self.critical = Track::default();
        }
        if rule.warning.is_none() {
            self.warning = Track::default();
        }
    }

    /// The state the severities add up to.
    fn standing(&self) -> State {
        match (self.critical.on, self.warning.on) {
            (true, _) => State::Critical,
            (false, true) => State::Warning,
            (false, false) => State::Ok,
        }
    }

    /// Moves to `to`, within the open incident or opening one; `None` when it is there already.
    fn turn(
        &mut self,
        of: Subject<'_>,
        to: State,
        reason: Reason,
        at: Timestamp,
    ) -> Option<Transition> {
        if to == self.state {
            return None;
        }
        let Subject { rule, labels } = of;
        if self.incident.is_none() {
            let since = self.first_breach(at);
            let id = IncidentId::of(&rule.name, labels, since);
            let shown = LabelKey(labels.overlaid(&rule.labels));
            self.incident =
                Some(Incident { id, sequence: 0, since: Moment(since), alarmed: false, shown });
        }
        let threshold = match to {
            State::Ok => rule.mildest().clear.to_string(),
            _ => rule.level(to).map(|level| level.raise.to_string()).unwrap_or_default(),
        };
        let mut transition = self.step(&rule.name, to, reason, at)?;
        transition.threshold = threshold;
        transition.unit.clone_from(&rule.unit);
        transition.summary = fill(&rule.summary, &transition);
        Some(transition)
    }

    /// Ends the open incident without a recovery.
    pub(crate) fn close(
        &mut self,
        rule: &str,
        reason: Reason,
        at: Timestamp,
    ) -> Option<Transition> {
        self.value = None;
        let transition = self.step(rule, State::Ok, reason, at);
        self.warning = Track::default();
        self.critical = Track::default();
        transition
    }

    /// The next transition of the open incident; `None` when there is none.
    fn step(&mut self, rule: &str, to: State, reason: Reason, at: Timestamp) -> Option<Transition> {
        let since = self.since(to);
        let incident = self.incident.as_mut()?;
        incident.sequence += 1;
        incident.alarmed |= to.is_alarm();
        let transition = Transition {
            id: TransitionId::of(incident.id, incident.sequence),
            incident: incident.id,
            sequence: incident.sequence,
            rule: rule.to_owned(),
            labels: incident.shown.0.clone(),
            from: self.state,
            to,
            reason,
            at,
            value: self.value,
            unit: String::new(),
            threshold: String::new(),
            since: since.unwrap_or(incident.since).0,
            summary: String::new(),
            notify: incident.alarmed,
        };
        self.state = to;
        if to == State::Ok {
            self.incident = None;
        }
        Some(transition)
    }

    /// When what led to `to` began; `None` for OK, whose incident began it.
    fn since(&self, to: State) -> Option<Moment> {
        match to {
            State::Critical => self.critical.breach_since,
            State::Warning => self.warning.breach_since,
            State::Unknown => self.missing_since,
            State::Ok => None,
        }
    }

    /// When the incident that opens at `at` began.
    fn first_breach(&self, at: Timestamp) -> Timestamp {
        let breaches = [self.warning.breach_since, self.critical.breach_since];
        let first = breaches.into_iter().flatten().min().or(self.missing_since);
        first.map_or(at, |moment| moment.0)
    }

    /// Stands where `transition` says.
    pub(crate) fn adopt(&mut self, transition: &Transition) {
        self.state = transition.to;
        self.incident = (transition.to != State::Ok).then_some(Incident {
            id: transition.incident,
            sequence: transition.sequence,
            since: Moment(transition.since),
            alarmed: transition.notify,
            shown: LabelKey(transition.labels.clone()),
        });
        self.critical.on = transition.to == State::Critical;
        self.warning.on = transition.to.is_alarm();
    }
}
