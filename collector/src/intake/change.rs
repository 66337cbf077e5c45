//! Changes of the registry: appended, durable, applied by the worker, and only then read.

use std::time::Duration;

use tokio::time::timeout;

use super::{Denial, Inner};
use crate::registry::{Change, FRAME_REGISTRY};

/// How long the worker may take to reach a change: it works in memory, so that this means it is
/// stuck.
const APPLY_WAIT: Duration = Duration::from_secs(30);

/// Changes in one frame, which is applied whole or not at all. A thousand of the longest labels fit.
const CHANGES_IN_FRAME: usize = 1_000;

impl Inner {
    /// Makes `changes` last and waits until the registry shows them. Up to a thousand are made all or
    /// none; more only come from a relay's first request, where each instance stands for itself.
    ///
    /// The caller holds the registry's turn and is not cancelled before this returns.
    pub(super) async fn change(&self, changes: &[Change]) -> Result<(), Denial> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut seq = 0;
        for part in changes.chunks(CHANGES_IN_FRAME) {
            let body = Change::encode_all(part);
            seq = self.parts.journal.append_reserved(FRAME_REGISTRY, &body)?;
        }
        let applied = timeout(APPLY_WAIT, self.parts.journal.applied(seq)).await;
        match applied {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failed)) => Err(Denial::later("journal", failed.to_string())),
            Err(_) => Err(Denial::later("busy", "the worker is behind; send it again later")),
        }
    }
}
