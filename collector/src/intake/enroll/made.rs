//! The instance that a machine becomes, and the credential it comes with from then on.

use std::collections::HashSet;
use std::sync::Arc;

use rrd::{InstanceId, Labels, Timestamp};

use super::Plan;
use super::checks::declared;
use crate::intake::{Denial, Inner};
use crate::lifecycle::{Lifecycle, State as Life};
use crate::limits::INSTANCE_LIMIT;
use crate::native::EnrollAnswer;
use crate::registry::instance::Credential;
use crate::registry::{Instance, Request, Source};
use crate::secret::{Digest, Holder};

/// How long a credential lasts whose holder has a key: a stolen one ends within a day.
const CREDENTIAL_MS: i64 = 24 * 3_600_000;

impl Inner {
    /// A new instance, or the same machine's with a new credential.
    pub(in crate::intake) fn instance_of(
        &self,
        plan: &Plan,
        asked: &Request,
    ) -> Result<(Instance, String), Denial> {
        let registry = &self.parts.registry;
        let labels = declared(&asked.labels, &plan.forced)?;
        let job = labels.get("job").unwrap_or_default().to_owned();
        let wanted = plan.forced.get("instance").unwrap_or(&asked.name);
        let same = match asked.key {
            Some(_) => None,
            None => self.same_machine((&job, wanted), asked.boot_id, &plan.forced),
        };
        if same.is_none() && registry.instance_count() >= INSTANCE_LIMIT {
            return Err(Denial::no_space("the registry is full; withdraw instances that are gone"));
        }
        let now = self.parts.clock.wall();
        let (id, name) = match &same {
            Some(same) => (same.id, same.name.clone()),
            None => (random_id()?, registry.free_name(&job, wanted, &HashSet::new())),
        };
        let (secret, credential) = credential(id, asked.key.map(|_| now))?;
        let predecessor = asked.key.and_then(|key| registry.keyed(&key)).map(|former| former.id);
        let begun = || Lifecycle::begun(Life::Approved, plan.evidence.clone(), now);
        let instance = Instance {
            id,
            labels: labels.with("instance", &name),
            name,
            source: Source::Enrolled(plan.token),
            lifecycle: same.as_ref().map_or_else(begun, |same| same.lifecycle.clone()),
            enrolled_at: same.map_or(now, |same| same.enrolled_at),
            boot_id: asked.boot_id,
            facts: asked.facts.clone(),
            terms: plan.terms,
            key: asked.key,
            series_quota: plan.series_quota,
            predecessor,
            hint: None,
            credential: Some(credential),
            former_credential: None,
        };
        Ok((instance, secret))
    }

    /// The active instance of that name when it is this very machine: the same boot, under the same
    /// forced labels, and without a key. It lost its credential and gets a new one; anybody else gets
    /// another name.
    fn same_machine(
        &self,
        (job, name): (&str, &str),
        boot_id: u128,
        forced: &Labels,
    ) -> Option<Arc<Instance>> {
        let instance = self.parts.registry.named(job, name)?;
        let last_boot = self.parts.store.last_batch(instance.id).map(|batch| batch.boot_id);
        let same_boot = boot_id != 0
            && (instance.boot_id == boot_id || last_boot == Some(boot_id))
            && instance.key.is_none()
            && matches!(instance.source, Source::Enrolled(_));
        let same_forced =
            forced.iter().all(|(name, value)| instance.labels.get(name) == Some(value));
        (same_boot && same_forced).then_some(instance)
    }

    pub(in crate::intake) fn answer(&self, instance: &Instance, secret: String) -> EnrollAnswer {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let expires_at = instance.credential.as_ref().and_then(|held| held.expires_at);
        EnrollAnswer {
            id: instance.id.0,
            credential: secret,
            labels: instance.labels.iter().map(owned).collect(),
            step_ms: self.parts.agent_step.as_millis(),
            expires_ms: expires_at.map(Timestamp::as_millis),
        }
    }
}

/// A new credential of an instance, which ends where there is a key to renew it with from `now` on.
pub(in crate::intake) fn credential(
    id: InstanceId,
    now: Option<Timestamp>,
) -> Result<(String, Credential), Denial> {
    let secret = Holder::Instance(id).secret().map_err(no_randomness)?;
    let digest = Digest::of(&secret);
    let expires_at = now.map(|now| now.plus_millis(CREDENTIAL_MS));
    Ok((secret, Credential { digest, expires_at }))
}

pub(in crate::intake) fn random_id() -> Result<InstanceId, Denial> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(no_randomness)?;
    Ok(InstanceId(u128::from_le_bytes(bytes)))
}

pub(in crate::intake) fn no_randomness(_: getrandom::Error) -> Denial {
    Denial::later("internal", "the system has no randomness for a secret; send it again later")
}
