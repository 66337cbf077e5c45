//! Machines whose key is known: an instance that comes back, or a request that was made before.

use std::collections::HashSet;
use std::sync::Arc;

use rrd::Labels;

use super::{Change, Denial, Inner, Knock, Welcome, credential};
use crate::identity::PublicKey;
use crate::lifecycle::{Act, Evidence, State, Who, after};
use crate::registry::{Event, Instance, Request, What};

/// What a key is known as.
pub(in crate::intake) enum Known {
    Instance(Arc<Instance>),
    Waits(Arc<Request>),
    Rejected(Arc<Request>),
}

impl Inner {
    pub(super) fn known(&self, key: &PublicKey) -> Option<Known> {
        let registry = &self.parts.registry;
        let is_kept = |one: &Arc<Instance>| {
            one.lifecycle.state != State::Reclaimed || one.lifecycle.is_revoked()
        };
        let kept = registry.keyed(key).filter(is_kept);
        if let Some(instance) = kept {
            return Some(Known::Instance(instance));
        }
        let last = registry.requests().into_iter().rev().find(|one| one.key == Some(*key))?;
        match (last.lifecycle.state, last.lifecycle.evidence.who) {
            (State::Pending, _) => Some(Known::Waits(last)),
            (State::Rejected, Who::Operator) => Some(Known::Rejected(last)),
            _ => None,
        }
    }

    pub(super) fn welcome_back(
        &self,
        known: &Known,
        knock: &Knock,
    ) -> Result<(Vec<Change>, Welcome), Denial> {
        match known {
            Known::Instance(instance) => self.resumed(instance, Some(knock)),
            Known::Waits(request) => {
                let key = knock.key.as_ref().expect("known by its key");
                Ok((Vec::new(), Welcome::Waits(self.pending(request.id, key))))
            }
            Known::Rejected(request) => Err(rejected(request)),
        }
    }

    /// A new credential for an instance that proved its key. Who is gone is back with its rows; a gap in
    /// them stays unknown.
    pub(in crate::intake) fn resumed(
        &self,
        instance: &Instance,
        knock: Option<&Knock>,
    ) -> Result<(Vec<Change>, Welcome), Denial> {
        if instance.lifecycle.is_revoked() {
            let message = "the instance was revoked; ask who runs the collector";
            return Err(Denial::not_allowed("revoked", message));
        }
        self.is_no_clone(instance, knock)?;
        let now = self.parts.clock.wall();
        let back = after(&instance.lifecycle, instance.terms.permanence, Act::Return);
        let back = back.map_err(|bad| {
            let message = format!("an instance of this key is {}", bad.state);
            Denial::identity_conflict(message, bad.state)
        })?;
        let (secret, credential) = credential(instance.id, Some(now))?;
        // Where two machines have one key neither shuts the other out, so that their turns are seen.
        let former = instance.credential.clone().filter(|_| instance.is_active());
        let mut resumed = Instance {
            credential: Some(credential),
            former_credential: former,
            ..instance.clone()
        };
        if let Some(knock) = knock {
            resumed.boot_id = knock.request.boot_id;
            resumed.facts = knock.request.facts.clone();
        }
        if let Some(back) = back {
            tracing::info!(instance = %instance.id, name = instance.name, "back with its key");
            resumed.lifecycle = instance.lifecycle.moved(back, now);
            resumed.hint = None;
            (resumed.name, resumed.labels) = self.name_again(instance);
            self.sessions.forget(instance.id);
        }
        let answer = self.answer(&resumed, secret);
        Ok((vec![Change::Instance(resumed)], Welcome::Enrolled(answer)))
    }

    /// Somebody else may have its name by now.
    fn name_again(&self, instance: &Instance) -> (String, Labels) {
        let registry = &self.parts.registry;
        let name = match registry.named(instance.job(), &instance.name) {
            Some(other) if other.id != instance.id => {
                registry.free_name(instance.job(), &instance.name, &HashSet::new())
            }
            _ => instance.name.clone(),
        };
        let labels = instance.labels.with("instance", &name);
        (name, labels)
    }

    /// A key that asks from another boot while its instance reports is on two machines.
    fn is_no_clone(&self, instance: &Instance, knock: Option<&Knock>) -> Result<(), Denial> {
        let Some(knock) = knock else { return Ok(()) };
        let registry = &self.parts.registry;
        let last_boot = self.parts.store.last_batch(instance.id).map(|batch| batch.boot_id);
        let boots = [Some(instance.boot_id), last_boot];
        let other_boot = knock.request.boot_id != 0
            && !boots.contains(&Some(knock.request.boot_id))
            && !boots.contains(&Some(0));
        let heard = registry.seen(instance.id).filter(|_| other_boot && instance.is_active());
        let Some(seen) = heard else { return Ok(()) };
        let patience_ms = instance.terms.silent_ms(self.usual_silent_ms(instance), seen.gap_ms());
        let silent_ms = self.parts.clock.wall().millis_since(seen.at);
        if silent_ms >= i64::try_from(patience_ms).unwrap_or(i64::MAX) {
            return Ok(());
        }
        self.tell_conflict(instance, "its key asked from another boot while it reports");
        let message = "another machine reports with this key; make a new one and enrol with it";
        Err(Denial::identity_conflict(message, instance.lifecycle.state))
    }

    /// Tells that two machines are one instance, and by what that was seen.
    pub(in crate::intake) fn tell_conflict(&self, instance: &Instance, seen: &str) {
        self.tell_later(Event {
            number: 0,
            at: self.parts.clock.wall(),
            what: What::IdentityConflict,
            instance: Some(instance.id),
            name: instance.name.clone(),
            evidence: Evidence::of(Who::Collector, seen),
        });
    }
}

/// A request that a person refused.
pub(in crate::intake) fn rejected(request: &Request) -> Denial {
    Denial::not_allowed("rejected", request.lifecycle.evidence.what.clone())
}
