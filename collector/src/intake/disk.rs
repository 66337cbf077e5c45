//! The disk limit: what all archives may take together, and whose go first when a grant would take more.
//!
//! What is taken is counted as it is granted, and summed up anew before anything is given back. Requests
//! that are granted series at the same moment may go beyond the limit by a block each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rrd::{Change, ChangeError, InstanceId};
use tokio::runtime::Handle;

use super::change::Turn;
use super::{Denial, Inner, Intake};
use crate::lifecycle::{Act, Who};
use crate::registry;

/// How much may be taken and is.
pub(super) struct Disk {
    limit: AtomicU64,
    used: AtomicU64,
    /// The log has it that the limit is reached; it is not said again until there was room.
    is_told: AtomicBool,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(u64::MAX),
            used: AtomicU64::new(0),
            is_told: AtomicBool::new(false),
        }
    }
}

impl Intake {
    /// Bounds what all archives take together. Without it only the disk does.
    pub fn limit_disk(&self, bytes: u64) {
        self.0.disk.limit.store(bytes, Ordering::Relaxed);
        self.0.sum_up();
    }
}

impl Inner {
    /// Bytes by which archives may still grow.
    pub(super) fn disk_room(&self) -> u64 {
        match self.disk.limit.load(Ordering::Relaxed) {
            u64::MAX => u64::MAX,
            limit => limit.saturating_sub(self.disk.used.load(Ordering::Relaxed)),
        }
    }

    /// Notes that the archive of an instance, which had so many bytes, may have grown.
    pub(super) fn has_grown(&self, id: InstanceId, former_bytes: u64) {
        let bytes = self.parts.store.archive_bytes(id);
        if bytes > former_bytes {
            self.disk.is_told.store(false, Ordering::Relaxed);
        }
        self.disk.used.fetch_add(bytes.saturating_sub(former_bytes), Ordering::Relaxed);
    }

    /// Tells the log that new series are refused for the limit, once until there was room again.
    pub(super) fn limit_reached(&self, instance: InstanceId) {
        if !self.disk.is_told.swap(true, Ordering::Relaxed) {
            let limit = self.disk.limit.load(Ordering::Relaxed);
            let used = self.disk.used.load(Ordering::Relaxed);
            tracing::warn!(%instance, limit, used, "the disk limit is reached: new series are refused");
        }
    }

    /// Makes room for a grant that the limit refused; false when nobody has any to give. It comes from the
    /// withdrawn instances not heard for longest, and is counted from now on, though their files go with
    /// the next round.
    ///
    /// The caller waits for the disk, off the reactor, and does not have the registry's turn.
    pub(super) fn make_room(&self, needed: u64) -> bool {
        // Nobody of these becomes active again meanwhile: samples accepted from then on would go too.
        let Ok(mut turn) = Handle::current().block_on(self.turn()) else { return false };
        self.sum_up();
        if self.disk_room() >= needed {
            return true;
        }
        let all = self.parts.registry.instances();
        let gone = all.iter().filter(|instance| !instance.is_active()).map(|instance| instance.id);
        for candidate in self.parts.store.reclaim_candidates(gone) {
            let (instance, bytes) = (candidate.id, candidate.file_len);
            let appended = match self.append_leaving(instance) {
                // Who sends now does not wait for a round.
                Err(ChangeError::UnderWay(role)) if role != instance => {
                    tracing::warn!(%instance, %role, "goes without leaving its rows: its role is busy");
                    self.append_change(instance, Change::Remove)
                }
                appended => appended,
            };
            match appended {
                Ok(seq) => {
                    tracing::info!(%instance, bytes, seq, "reclaimed: the disk limit is reached");
                    self.gives_back(bytes);
                    self.cache.forget(instance);
                    self.sessions.forget(instance);
                    self.note_reclaimed(&mut turn, instance);
                }
                Err(reason) => tracing::warn!(%instance, %reason, "cannot be reclaimed"),
            }
            if self.disk_room() >= needed {
                return true;
            }
        }
        false
    }

    /// Writes down that an archive went for want of room. If that fails the sweep finds out.
    fn note_reclaimed(&self, turn: &mut Turn, id: InstanceId) {
        let Some(instance) = self.parts.registry.instance(id) else { return };
        let act = Act::Reclaim(Who::Collector, "the disk limit was reached".to_owned());
        let Ok(Some(moved)) = self.moved(&instance, act) else { return };
        if let Err(reason) = self.note(turn, &[registry::Change::Instance(moved)]) {
            tracing::warn!(instance = %id, %reason, "its line does not say yet that it was reclaimed");
        }
    }

    /// Refuses another archive in the place of one of these bytes that the limit has no room for.
    pub(super) fn check_limit(&self, bytes: u64, needed: u64) -> Result<(), Denial> {
        self.sum_up();
        if needed.saturating_sub(bytes) > self.disk_room() {
            return Err(Denial::no_space(format!(
                "the disk limit has no room for an archive of {needed} bytes; raise it, reclaim withdrawn \
                 instances or keep less"
            )));
        }
        Ok(())
    }

    /// Another request may have summed up without these bytes meanwhile.
    fn gives_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _former = self.disk.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn sum_up(&self) {
        self.disk.used.store(self.parts.store.all_archive_bytes(), Ordering::Relaxed);
    }
}
