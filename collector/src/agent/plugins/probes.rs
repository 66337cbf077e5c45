//! Probes that an agent makes: the same as the server's, their targets a label of the agent's series.

use std::time::Duration;

use rrd::Kind;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::crew::{Crew, Job};
use super::finding::Finding;
use crate::agent::source::Source;
use crate::probe::{Probe, ROOM, parse_table};

/// The source that a table describes, running.
pub(in crate::agent) fn build(_: &str, table: toml::Table) -> Result<Box<dyn Source>, String> {
    let probes = parse_table(table)?;
    let jobs = probes.into_iter().map(|probe| Turn { probe, is_troubled: false });
    Ok(Box::new(Crew::start(jobs.collect())))
}

/// One probe, and whether it failed when it was last made.
struct Turn {
    probe: Probe,
    is_troubled: bool,
}

impl Job for Turn {
    fn name(&self) -> &str {
        &self.probe.name
    }

    fn every(&self) -> Duration {
        self.probe.every
    }

    fn room(&self) -> &'static Semaphore {
        &ROOM
    }

    async fn run(&mut self) -> Vec<Finding> {
        let report = self.probe.run().await;
        let was_troubled = std::mem::replace(&mut self.is_troubled, report.trouble.is_some());
        match &report.trouble {
            Some(why) if !was_troubled => warn!(probe = self.probe.name, why, "fails"),
            None if was_troubled => info!(probe = self.probe.name, "succeeds again"),
            _ => {}
        }
        let finding = |value: &crate::probe::Value| {
            let labels =
                [("target", self.probe.name.as_str()), ("phase", value.phase.unwrap_or_default())];
            let mut found = Finding::of(value.metric, &labels, (Kind::Gauge, value.number));
            let more = self.probe.labels.iter();
            found.labels.extend(more.map(|(name, value)| (name.clone().into(), value.clone())));
            found
        };
        report.values().iter().map(finding).collect()
    }
}
