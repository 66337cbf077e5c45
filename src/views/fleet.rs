//! The fleet as pages see it: the registry's instances, with what their archives hold.

use std::collections::HashMap;
use std::sync::Arc;

use collector::Registry;
use collector::registry::{Instance, Source, State};
use rrd::{Clock, InstanceId, InstanceInfo, Labels, Store};
use web::views::{FleetView, InstanceState, InstanceView};

/// Heard from within this time, an instance is up: the longest heartbeat of foreign senders.
const SILENT_AFTER_MS: i64 = 300_000;

/// The fleet.
pub(crate) struct Fleet {
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl FleetView for Fleet {
    fn instances(&self) -> Vec<InstanceView> {
        let archives: HashMap<InstanceId, InstanceInfo> =
            self.store.instances().into_iter().map(|info| (info.id, info)).collect();
        let mut known = self.registry.instances();
        // Of these nothing can be shown: events tell of them.
        known.retain(|instance| !instance.lifecycle.state.is_tombstone());
        known.iter().map(|instance| self.view(instance, archives.get(&instance.id))).collect()
    }

    /// Looked up alone: every graph asks for its instance, and a fleet is large.
    fn instance(&self, id: &str) -> Option<InstanceView> {
        let instance = self.registry.instance(id.parse().ok()?)?;
        Some(self.view(&instance, self.store.info(instance.id).as_ref()))
    }
}

impl Fleet {
    fn view(&self, instance: &Instance, archive: Option<&InstanceInfo>) -> InstanceView {
        let newest = archive.map(|archive| archive.newest).filter(|at| at.as_millis() > 0);
        let last_seen = self.registry.last_seen(instance.id).or(newest);
        let silent_ms = last_seen.map(|at| self.clock.wall().millis_since(at));
        let state = match instance.lifecycle.state {
            State::Approved | State::Active if silent_ms.is_none() => InstanceState::Waiting,
            State::Approved | State::Active if silent_ms > Some(SILENT_AFTER_MS) => {
                InstanceState::Silent
            }
            State::Approved | State::Active => InstanceState::Up,
            State::Pending => InstanceState::Waiting,
            State::Silent => InstanceState::Silent,
            State::Maintenance => InstanceState::Maintenance,
            State::Lost => InstanceState::Lost,
            State::Quarantined => InstanceState::Quarantined,
            State::Withdrawn | State::Expired | State::Rejected => InstanceState::Withdrawn,
            State::Terminated => InstanceState::Terminated,
            State::Revoked => InstanceState::Revoked,
            State::Archived | State::Reclaimed => InstanceState::Archived,
        };
        InstanceView {
            id: instance.id.to_string(),
            name: instance.name.clone(),
            selector: selector(&instance.labels),
            labels: instance.labels.clone(),
            state,
            evidence: instance.lifecycle.sentence(),
            enrolled_at: instance.enrolled_at,
            last_seen,
            source: source(&instance.source).to_owned(),
            series_count: archive.map_or(0, |archive| archive.series_count as u64),
            file_bytes: archive.map_or(0, |archive| archive.file_len),
            policy: archive.map(|archive| archive.policy.to_string()).unwrap_or_default(),
        }
    }
}

/// The two labels by which a query finds exactly this instance's series.
fn selector(labels: &Labels) -> Labels {
    labels.filtered(|name| name == "instance" || name == "job")
}

fn source(source: &Source) -> &'static str {
    match source {
        Source::Enrolled(_) => "roundel agent",
        Source::Relay(_) => "remote write",
    }
}
