//! The key that signed a request, and what is said of a proof that is none.

use std::sync::PoisonError;

use http::HeaderMap;

use super::{Denial, Inner};
use crate::identity::{ProofError, PublicKey, Signed};

impl Inner {
    /// The key that signed this request, if one did.
    pub(in crate::intake) fn proved(
        &self,
        headers: &HeaderMap,
        (method, path): (&str, &str),
        body: &[u8],
    ) -> Result<Option<PublicKey>, Denial> {
        let now = self.parts.clock.wall();
        let signed = Signed { method, path, at: now, body };
        let registry = &self.parts.registry;
        let is_known = |key: &PublicKey| {
            registry.keyed(key).is_some()
                || registry.requests().iter().any(|one| one.key == Some(*key))
        };
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        proofs.key(headers, signed, is_known).map_err(|error| match error {
            ProofError::Malformed => Denial::bad(error.to_string()),
            ProofError::Stale => Denial::stale_proof(error.to_string(), now.as_millis()),
            ProofError::Wrong => Denial::unauthorised("bad_proof", error.to_string()),
            ProofError::Repeated => Denial::unauthorised("repeated_proof", error.to_string()),
            ProofError::Crowded => Denial::crowded("queue_full", error.to_string()),
        })
    }
}
