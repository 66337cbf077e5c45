//! What the documents of clouds are worth that machines show at the door.

use std::sync::{Arc, PoisonError};

use super::enroll::Knock;
use super::{Inner, Intake};
use crate::identity::PublicKey;
use crate::identity::clouds::{CloudTrust, Clouds, Now};
use crate::identity::document::Attestation;
use crate::lifecycle::State as Life;
use crate::native::EnrollRequest;

impl Intake {
    /// Sets whose signatures are believed. Errors with what is wrong with it.
    pub fn trust_clouds(&self, trust: CloudTrust) -> Result<(), String> {
        let clouds = Clouds::trusting(trust)?;
        *self.0.clouds.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(clouds));
        Ok(())
    }
}

impl Inner {
    /// The time, for what is fetched and what expires.
    pub(super) fn both_clocks(&self) -> Now {
        let clock = &self.parts.clock;
        Now { wall: clock.wall(), monotonic: clock.monotonic() }
    }

    pub(super) fn clouds(&self) -> Option<Arc<Clouds>> {
        self.clouds.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the document is worth that came with a request signed by `key`.
    pub(super) async fn attested(
        &self,
        request: &EnrollRequest,
        key: Option<&PublicKey>,
    ) -> Attestation {
        let Some(document) = &request.document else { return Attestation::None };
        let Some(clouds) = self.clouds() else {
            let why = "nothing to check it with is given here; see [cloud] of the configuration";
            return Attestation::Unverified(why.to_owned());
        };
        let attestation = clouds.attested(document, key, self.both_clocks()).await;
        attestation.held_against(&request.labels)
    }

    /// The same, held against who is here: a document of AWS is good for whoever got hold of it, so
    /// that a machine that reports already, by another key, is not believed a second time.
    pub(super) fn held_against_known(&self, knock: &Knock) -> Attestation {
        let Attestation::Verified(attested) = &knock.attestation else {
            return knock.attestation.clone();
        };
        let machine = attested.labels.get("cloud_instance_id").map(String::as_str);
        let other = self.machine(machine.unwrap_or_default());
        match other.filter(|one| one.key != knock.key && one.lifecycle.state != Life::Lost) {
            None => knock.attestation.clone(),
            Some(other) => {
                let name = &other.name;
                let what = format!("instance {name:?} is this machine already, by another key");
                Attestation::Contradicted(what)
            }
        }
    }
}
