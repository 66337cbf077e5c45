//! What the cloud is about to do to this machine: watched at each look, and said at the goodbye.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Cloud, Identity, Imds};
use crate::agent::reading::Readings;
use crate::agent::source::{Answer, Look, Source};

/// Why this machine is about to end, as its cloud said; shared with the goodbye.
pub(in crate::agent) type Ending = Arc<Mutex<Option<String>>>;

/// Watches for the end of a spot instance, for maintenance, and for a group that lets the machine go.
pub(in crate::agent) struct Watch {
    imds: Imds,
    identity: Identity,
    ending: Ending,
}

/// What the cloud says now.
#[derive(Debug, Default, PartialEq)]
struct Fate {
    /// It takes the machine away.
    interruption: Option<String>,
    /// It ends the machine for another reason.
    termination: Option<String>,
    is_maintained: bool,
}

impl Watch {
    pub(in crate::agent) fn of(imds: Imds, identity: Identity, ending: Ending) -> Self {
        Self { imds, identity, ending }
    }

    async fn look(&mut self, out: &mut Readings) {
        let fate = match self.identity.cloud {
            Cloud::Ec2 => self.ec2().await,
            Cloud::Gce => self.gce().await,
            Cloud::Azure => self.azure().await,
        };
        let flag = |is_so| f64::from(u8::from(is_so));
        out.gauge("agent_cloud_spot_interruption", &[], flag(fate.interruption.is_some()));
        out.gauge("agent_cloud_termination", &[], flag(fate.termination.is_some()));
        out.gauge("agent_cloud_maintenance", &[], flag(fate.is_maintained));
        let ending = fate.interruption.or(fate.termination);
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = ending;
    }

    async fn ec2(&mut self) -> Fate {
        let state = "/latest/meta-data/autoscaling/target-lifecycle-state";
        // Nearly always there, so that its absence says that the token has ended.
        if self.imds.ec2_text("/latest/meta-data/instance-id").await.is_none() {
            self.imds.renew_token().await;
        }
        let (action, state) = tokio::join!(
            self.imds.ec2_text("/latest/meta-data/spot/instance-action"),
            self.imds.ec2_text(state),
        );
        Fate {
            interruption: action.map(|action| format!("spot interruption: {}", short(&action))),
            termination: state
                .filter(|state| is_let_go(state.trim()))
                .map(|state| format!("its group lets it go: {}", short(&state))),
            is_maintained: false,
        }
    }

    async fn gce(&mut self) -> Fate {
        let (preempted, maintenance) = tokio::join!(
            self.imds.gce_text("/computeMetadata/v1/instance/preempted"),
            self.imds.gce_text("/computeMetadata/v1/instance/maintenance-event"),
        );
        let maintenance = maintenance.map(|event| event.trim().to_owned()).unwrap_or_default();
        let is_ended = maintenance == "TERMINATE_ON_HOST_MAINTENANCE";
        Fate {
            interruption: preempted
                .filter(|preempted| preempted.trim() == "TRUE")
                .map(|_| "spot interruption: preempted".to_owned()),
            termination: is_ended.then(|| "host maintenance ends it".to_owned()),
            is_maintained: !matches!(maintenance.as_str(), "" | "NONE"),
        }
    }

    async fn azure(&mut self) -> Fate {
        let path = "/metadata/scheduledevents?api-version=2020-07-01";
        let answer = self.imds.azure_json(path).await.unwrap_or_default();
        let events = answer["Events"].as_array().map(Vec::as_slice).unwrap_or_default();
        let kinds = || events.iter().filter_map(|event| event["EventType"].as_str());
        let has = |kind: &str| kinds().any(|found| found == kind);
        Fate {
            interruption: has("Preempt").then(|| "spot interruption: preempted".to_owned()),
            termination: has("Terminate").then(|| "terminated by its owner".to_owned()),
            is_maintained: ["Reboot", "Redeploy", "Freeze"].into_iter().any(has),
        }
    }
}

/// True for the states of a group's machine that ends, as `Terminating:Wait` too.
fn is_let_go(state: &str) -> bool {
    ["Terminating", "Terminated"].iter().any(|word| state.starts_with(word))
}

/// The start of what a cloud said, on one line.
fn short(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

impl Source for Watch {
    fn read<'a>(&'a mut self, _: Look, out: &'a mut Readings) -> Answer<'a> {
        Box::pin(async move {
            self.look(out).await;
            Ok(())
        })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(2)
    }
}
