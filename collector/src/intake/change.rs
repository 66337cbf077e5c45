//! Changes of the registry: appended, durable, applied by the worker, and only then read.

use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::timeout;

use super::{Denial, Inner};
use crate::registry::{Change, FRAME_REGISTRY};

/// How long the worker may take to reach a change: it works in memory, so that this means it is
/// stuck.
const APPLY_WAIT: Duration = Duration::from_secs(30);

/// Bytes of changes in one frame, which is applied whole or not at all: half of what the smallest journal
/// takes, with room for one more change of the longest labels.
const FRAME_BYTES: usize = 256 << 10;

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

    /// Makes `changes` last and waits until the registry shows them. Those of one frame are made all or
    /// none; more only come from a relay's first request or a sweep, where each stands for itself.
    ///
    /// The caller is not cancelled before this returns.
    pub(super) async fn change(&self, turn: &mut Turn, changes: &[Change]) -> Result<(), Denial> {
        self.note(turn, changes)?;
        self.shown(turn.appended).await
    }

    /// As [`Inner::change`], and waits for nothing: whoever has the turn next does.
    pub(super) fn note(&self, turn: &mut Turn, changes: &[Change]) -> Result<(), Denial> {
        let mut rest = changes;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |change: &&Change| {
                bytes += change.size();
                bytes <= FRAME_BYTES
            };
            let (part, after) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            let body = Change::encode_all(part);
            turn.appended = self.parts.journal.append_reserved(FRAME_REGISTRY, &body)?;
            rest = after;
        }
        Ok(())
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
