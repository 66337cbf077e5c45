//! Judgement: values in, transitions out. Pure, in the journal's time, three-valued.

use std::collections::BTreeMap;

use query::{Expr, Limits, Read, Value};
use rrd::{Labels, Timestamp};

use crate::codec::LabelKey;
use crate::phase::{Phase, Subject};
use crate::rules::{Rule, Rules};
use crate::transition::{IncidentId, Reason, State, Transition};

/// Most series one rule follows: a rule over more is better written as an aggregate.
pub(crate) const SERIES_PER_RULE_MOST: usize = 100_000;

/// One series' value at the moment of judgement. NaN is no data.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What the expression left of the labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// Judges every rule at `at`; phases move on, and what changed for somebody is returned in order.
pub fn judge(
    rules: &Rules,
    phases: &mut Phases,
    read: &dyn Read,
    at: Timestamp,
) -> Vec<Transition> {
    let mut transitions = phases.close_removed(rules, at);
    for rule in rules.iter() {
        // An evaluation that fails has no data for anybody.
        let readings = evaluate(&rule.expr, read, at).unwrap_or_default();
        transitions.extend(phases.judge(rule, readings, at));
    }
    transitions
}

/// What `expr` says at `at`, or why it says nothing.
pub(crate) fn evaluate(
    expr: &Expr,
    read: &dyn Read,
    at: Timestamp,
) -> Result<Vec<Reading>, String> {
    let answer = expr.instant(read, at, &Limits::default()).map_err(|error| error.to_string())?;
    match answer.value {
        Value::Scalar { value, .. } => Ok(vec![Reading { labels: Labels::default(), value }]),
        Value::Vector(points) if points.len() > SERIES_PER_RULE_MOST => Err(format!(
            "{} series, a rule follows at most {SERIES_PER_RULE_MOST}; aggregate them",
            points.len()
        )),
        Value::Vector(points) => {
            let reading =
                |point: query::Point| Reading { labels: point.labels, value: point.value };
            Ok(points.into_iter().map(reading).collect())
        }
        Value::Text(_) | Value::Matrix(_) => {
            Err("the expression gives no value per series; write one that does".to_owned())
        }
    }
}

/// Whether a missing series is held against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It is.
    Counts,
    /// It is not: this server was away itself, and senders need a moment to find back.
    Excused,
}

/// Where every rule stands with every series it ever saw. Pending breaches live here: they are
/// nobody's business until their `for` has passed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phases {
    rules: BTreeMap<String, BTreeMap<Labels, Phase>>,
}

impl Phases {
    /// Judges one rule on these readings. A series without a reading is missing.
    pub fn judge(&mut self, rule: &Rule, readings: Vec<Reading>, at: Timestamp) -> Vec<Transition> {
        self.judge_as(rule, readings, at, Absence::Counts)
    }

    /// Judges one rule on these readings; what is missing may be excused.
    pub(crate) fn judge_as(
        &mut self,
        rule: &Rule,
        readings: Vec<Reading>,
        at: Timestamp,
        absence: Absence,
    ) -> Vec<Transition> {
        let phases = self.rules.entry(rule.name.clone()).or_default();
        let mut transitions = Vec::new();
        for reading in readings.into_iter().filter(|reading| !reading.value.is_nan()) {
            if phases.len() >= SERIES_PER_RULE_MOST && !phases.contains_key(&reading.labels) {
                continue;
            }
            let phase = phases.entry(reading.labels.clone()).or_default();
            let subject = Subject { rule, labels: &reading.labels };
            transitions.extend(phase.see(subject, reading.value, at));
        }
        phases.retain(|labels, phase| {
            if absence == Absence::Counts && !phase.was_seen(at) {
                transitions.extend(phase.miss(Subject { rule, labels }, at));
            }
            !phase.is_over(at)
        });
        transitions
    }

    /// Closes what belongs to rules that are no more.
    pub fn close_removed(&mut self, rules: &Rules, at: Timestamp) -> Vec<Transition> {
        let kept = |name: &String| rules.get(name).is_some();
        let removed: Vec<String> = self.rules.keys().filter(|name| !kept(name)).cloned().collect();
        let mut transitions = Vec::new();
        for name in removed {
            for mut phase in self.rules.remove(&name).unwrap_or_default().into_values() {
                transitions.extend(phase.close(&name, Reason::RuleRemoved, at));
            }
        }
        transitions
    }

    /// Closes and forgets every series that carries all of `labels`: its instance was withdrawn.
    pub fn withdraw(&mut self, labels: &Labels, at: Timestamp) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for (rule, phases) in &mut self.rules {
            phases.retain(|series, phase| {
                let theirs = labels.iter().all(|(name, value)| series.get(name) == Some(value));
                if theirs {
                    transitions.extend(phase.close(rule, Reason::Withdrawn, at));
                }
                !theirs
            });
        }
        transitions
    }

    /// Takes over what the journal holds where judging it again came to something else, as it can
    /// after an upgrade: what people were told is the truth.
    pub(crate) fn adopt(&mut self, rule: &Rule, transition: &Transition) {
        let phases = self.rules.entry(rule.name.clone()).or_default();
        let shown = |labels: &Labels| labels.overlaid(&rule.labels) == transition.labels;
        let Some((_, phase)) = phases.iter_mut().find(|(labels, _)| shown(labels)) else { return };
        phase.adopt(transition);
    }

    /// The newest value of each open incident, for the page.
    pub(crate) fn latest(&self) -> BTreeMap<IncidentId, Option<f64>> {
        let phases = self.rules.values().flat_map(BTreeMap::values);
        phases.filter_map(|phase| phase.incident().map(|id| (id, phase.value()))).collect()
    }

    /// How many series of `rule` are in each state: OK, UNKNOWN, WARNING, CRITICAL.
    pub(crate) fn census(&self, rule: &str) -> [usize; 4] {
        let mut counts = [0; 4];
        for phase in self.rules.get(rule).into_iter().flat_map(BTreeMap::values) {
            counts[match phase.state() {
                State::Ok => 0,
                State::Unknown => 1,
                State::Warning => 2,
                State::Critical => 3,
            }] += 1;
        }
        counts
    }

    /// Everything, as a snapshot holds it.
    pub(crate) fn saved(&self) -> SavedPhases {
        let series = |phases: &BTreeMap<Labels, Phase>| {
            phases.iter().map(|(labels, phase)| (LabelKey(labels.clone()), phase.clone())).collect()
        };
        self.rules.iter().map(|(rule, phases)| (rule.clone(), series(phases))).collect()
    }

    /// The phases of a snapshot.
    pub(crate) fn restored(saved: SavedPhases) -> Self {
        let series = |phases: Vec<(LabelKey, Phase)>| {
            phases.into_iter().map(|(LabelKey(labels), phase)| (labels, phase)).collect()
        };
        Self { rules: saved.into_iter().map(|(rule, phases)| (rule, series(phases))).collect() }
    }
}

/// [`Phases`] in plain vectors.
pub(crate) type SavedPhases = Vec<(String, Vec<(LabelKey, Phase)>)>;
