//! Alerts as pages see them: the engine's view, with instances named.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use alerter::{Engine, OpenAlert, Rule, State, Transition, View};
use collector::Registry;
use collector::registry::Instance;
use rrd::Labels;
use web::views::{
    AlertView, AlertsView, ChannelView, DeadLetterView, DeliveriesView, InstanceRef, Level,
    RuleAlert, RuleView, TransitionView,
};

use crate::worker::lock;

/// Alerts and what became of their notices.
pub(crate) struct Alerts {
    pub(crate) engine: Arc<Mutex<Engine>>,
    pub(crate) registry: Arc<Registry>,
    /// Every channel, and where its notices go, in words that may be shown.
    pub(crate) targets: Vec<(String, String)>,
}

impl AlertsView for Alerts {
    fn open(&self) -> Vec<AlertView> {
        let open = lock(&self.engine).view().open;
        let names = Names::of(&self.registry);
        open.iter().map(|alert| alert_view(alert, &names)).collect()
    }

    fn history(&self, limit: usize) -> Vec<TransitionView> {
        let history = lock(&self.engine).view().history;
        let names = Names::of(&self.registry);
        history.iter().take(limit).map(|change| transition_view(change, &names)).collect()
    }

    fn deliveries(&self) -> DeliveriesView {
        let view = lock(&self.engine).view();
        let channels = self.targets.iter().map(|(name, target)| channel(&view, name, target));
        let dead = view.dead.iter().map(|letter| DeadLetterView {
            at: letter.died(),
            channel: letter.row.channel.clone(),
            subject: letter.row.transition.title(),
            reason: letter.row.error.clone(),
        });
        DeliveriesView { channels: channels.collect(), dead: dead.collect() }
    }

    fn rules(&self) -> Vec<RuleView> {
        let engine = lock(&self.engine);
        let view = engine.view();
        let rules = engine.rules().iter().zip(&view.rules);
        rules.map(|(rule, state)| rule_view(rule, state, &view.open)).collect()
    }
}

fn rule_view(rule: &Rule, state: &alerter::RuleView, open: &[OpenAlert]) -> RuleView {
    let mildest = rule.warning.as_ref().or(rule.critical.as_ref());
    let open = open.iter().filter(|alert| alert.rule == rule.name);
    RuleView {
        name: rule.name.clone(),
        file: rule.file.clone(),
        query: rule.text.clone(),
        every_ms: rule.every.as_millis(),
        for_ms: mildest.map_or(0, |level| level.for_ms),
        labels: rule.labels.clone(),
        summary: rule.summary.clone(),
        problem: state.problem.clone(),
        evaluated: state.evaluated,
        alerts: open.map(rule_alert).collect(),
    }
}

fn rule_alert(alert: &OpenAlert) -> RuleAlert {
    RuleAlert {
        labels: alert.labels.clone(),
        level: level(alert.state),
        opened: alert.opened,
        value: alert.value,
        summary: alert.last.summary.clone(),
        reading: alert.reading(),
        threshold: alert.last.threshold.clone(),
    }
}

fn alert_view(alert: &OpenAlert, names: &Names) -> AlertView {
    let last = &alert.last;
    AlertView {
        rule: alert.rule.clone(),
        summary: last.summary.clone(),
        labels: alert.labels.clone(),
        instance: names.find(&alert.labels),
        level: level(alert.state),
        pending: false,
        value: alert.reading(),
        threshold: last.threshold.clone(),
        since: last.since,
    }
}

fn transition_view(transition: &Transition, names: &Names) -> TransitionView {
    TransitionView {
        at: transition.at,
        rule: transition.rule.clone(),
        labels: transition.labels.clone(),
        instance: names.find(&transition.labels),
        from: level(transition.from),
        to: level(transition.to),
        value: transition.reading(),
        threshold: transition.threshold.clone(),
    }
}

/// Instances by name, made once for a whole list of alerts.
struct Names(HashMap<String, Vec<Arc<Instance>>>);

impl Names {
    fn of(registry: &Registry) -> Self {
        let mut names: HashMap<String, Vec<Arc<Instance>>> = HashMap::new();
        for instance in registry.instances() {
            names.entry(instance.name.clone()).or_default().push(instance);
        }
        Self(names)
    }

    /// The instance that labels speak of; its job may have been summed away.
    fn find(&self, labels: &Labels) -> Option<InstanceRef> {
        let job = labels.get("job");
        let namesakes = self.0.get(labels.get("instance")?)?;
        let found =
            namesakes.iter().find(|instance| job.is_none_or(|job| instance.job() == job))?;
        Some(InstanceRef { id: found.id.to_string(), name: found.name.clone() })
    }
}

fn level(state: State) -> Level {
    match state {
        State::Ok => Level::Ok,
        State::Unknown => Level::Unknown,
        State::Warning => Level::Warning,
        State::Critical => Level::Critical,
    }
}

fn channel(view: &View, name: &str, target: &str) -> ChannelView {
    let mut waiting = view.waiting.iter().filter(|row| row.channel == name).peekable();
    let last_error = waiting.peek().map(|row| row.error.clone()).filter(|error| !error.is_empty());
    let counts = view.counts.get(name).copied().unwrap_or_default();
    ChannelView {
        name: name.to_owned(),
        target: target.to_owned(),
        delivered: counts.delivered,
        waiting: waiting.count() as u64,
        dead: counts.dead,
        last_error,
    }
}
