//! Reclaiming: whose archive goes first when the folder is to become smaller.

use std::sync::Arc;

use super::instance::Instance;
use super::{Store, lock};
use crate::{InstanceId, Timestamp};

/// An instance whose archive may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReclaimCandidate {
    /// Which one.
    pub id: InstanceId,
    /// Journal time of the last reading of any of its series; [`Timestamp::MIN`] when there was none.
    pub last_heard: Timestamp,
    /// Bytes that come back when it goes.
    pub file_len: u64,
}

impl Store {
    /// Those of these instances that have an archive, in the order in which to give them up: the one
    /// not heard for longest first, of two the one of the lower id. Which instances may go at all is
    /// the caller's to know; those of which a change is under way are left out.
    pub fn reclaim_candidates(
        &self,
        withdrawn: impl IntoIterator<Item = InstanceId>,
    ) -> Vec<ReclaimCandidate> {
        let mut found: Vec<_> = withdrawn.into_iter().filter_map(|id| self.candidate(id)).collect();
        found.sort_unstable_by_key(|one| (one.last_heard, one.id));
        found
    }

    /// Bytes of the archive of an instance; 0 without one.
    pub fn archive_bytes(&self, id: InstanceId) -> u64 {
        self.instance(id).map_or(0, |instance| instance.file_len())
    }

    /// Bytes of all archives, without those that go with the next round.
    pub fn all_archive_bytes(&self) -> u64 {
        let stays = |instance: &&Arc<Instance>| {
            // Whoever holds it is granting or changing, which one that is to go is not.
            let is_leaving = instance.growing.try_lock().is_ok_and(|growth| growth.is_leaving);
            !is_leaving && !lock(&instance.state).is_removed
        };
        self.all().iter().filter(stays).map(|instance| instance.file_len()).sum()
    }

    fn candidate(&self, id: InstanceId) -> Option<ReclaimCandidate> {
        let instance = self.instance(id)?;
        let file_len = instance.file_len();
        let state = lock(&instance.state);
        if !state.is_granted || state.is_removed || state.former.is_some() {
            return None;
        }
        let born = state.all_series().filter(|series| !series.head.is_unborn());
        let last_heard = born.map(|series| series.head.heard()).max().unwrap_or(Timestamp::MIN);
        Some(ReclaimCandidate { id, last_heard, file_len })
    }
}
