//! Alerts as pages see them: the engine's view, with instances named.

use std::sync::{Arc, Mutex};

use alerter::{Engine, OpenAlert, State, Transition, View};
use collector::Registry;
use rrd::Labels;
use web::views::{
    AlertView, AlertsView, ChannelView, DeadLetterView, DeliveriesView, InstanceRef, Level,
    TransitionView,
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
        open.iter().map(|alert| self.alert(alert)).collect()
    }

    fn history(&self, limit: usize) -> Vec<TransitionView> {
        let history = lock(&self.engine).view().history;
        history.iter().take(limit).map(|transition| self.transition(transition)).collect()
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
}

impl Alerts {
    fn alert(&self, alert: &OpenAlert) -> AlertView {
        let last = &alert.last;
        AlertView {
            rule: alert.rule.clone(),
            summary: last.summary.clone(),
            labels: alert.labels.clone(),
            instance: self.instance(&alert.labels),
            level: level(alert.state),
            pending: false,
            value: alert.reading(),
            threshold: last.threshold.clone(),
            since: last.since,
        }
    }

    fn transition(&self, transition: &Transition) -> TransitionView {
        TransitionView {
            at: transition.at,
            rule: transition.rule.clone(),
            labels: transition.labels.clone(),
            instance: self.instance(&transition.labels),
            from: level(transition.from),
            to: level(transition.to),
            value: transition.reading(),
            threshold: transition.threshold.clone(),
        }
    }

    /// The instance that labels speak of; its job may have been summed away.
    fn instance(&self, labels: &Labels) -> Option<InstanceRef> {
        let name = labels.get("instance")?;
        let job = labels.get("job");
        let found = self.registry.instances().into_iter().find(|instance| {
            instance.name == name && job.is_none_or(|job| instance.job() == job)
        })?;
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
