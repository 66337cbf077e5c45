//! Changes of the registry: appended, durable, applied by the worker, and only then read.

use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::timeout;

use super::{Denial, Inner};
use crate::registry::{Change, FRAME_REGISTRY};

/// How long the worker may take to reach a change: it works in memory, so that this means it is
/// stuck.
const APPLY_WAIT: Duration = Duration::from_secs(30);

/// Changes in one frame, which is applied whole or not at all. A thousand of the longest labels fit.
const CHANGES_IN_FRAME: usize = 1_000;

/// The right to change the registry. Taken with [`Inner::turn`], before the registry is read.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The last change appended. Whoever appended it may have been turned away before it was applied.
    appended: u64,
}

impl Inner {
    /// The registry's turn, when the registry shows every change of those who had it before.
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, Turn>, Denial> {
        let turn = self.registry_turn.lock().await;
        self.shown(turn.appended).await?;
        Ok(turn)
    }

    /// Makes `changes` last and waits until the registry shows them. Up to a thousand are made all or
    /// none; more only come from a relay's first request, where each instance stands for itself.
    ///
    /// The caller is not cancelled before this returns.
    pub(super) async fn change(&self, turn: &mut Turn, changes: &[Change]) -> Result<(), Denial> {
        for part in changes.chunks(CHANGES_IN_FRAME) {
            let body = Change::encode_all(part);
            turn.appended = self.parts.journal.append_reserved(FRAME_REGISTRY, &body)?;
        }
        self.shown(turn.appended).await
    }

    /// Waits until the registry shows frame `seq`.
    pub(super) async fn shown(&self, seq: u64) -> Result<(), Denial> {
        let applied = timeout(APPLY_WAIT, self.parts.journal.applied(seq)).await;
        match applied {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failed)) => Err(Denial::later("journal", failed.to_string())),
            Err(_) => Err(Denial::later("busy", "the worker is behind; send it again later")),
        }
    }
}
