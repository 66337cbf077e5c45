//! The store: all instances, their series and rows, in memory and in files.
//!
//! The worker applies frames in memory; rounds write what it did; readers see both together. Each
//! lock guards one thing and is named with its reason where it is declared.

mod apply;
mod build;
mod change;
mod column_rows;
mod dump;
mod grant;
mod instance;
mod places;
mod read;
mod rebuild;
mod reclaim;
mod recover;
mod remove;
mod request;
mod round;
mod select;
mod state;
mod takeover;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use apply::{InstanceChange, Verdicts};
pub use grant::{GrantRequest, NewSeries};
pub use read::Rows;
pub use reclaim::ReclaimCandidate;
pub use round::{Round, RoundReport};
pub use select::{InstanceInfo, SeriesInfo};
pub use takeover::Room;

use crate::handles::Handles;
use crate::{Batch, Column, Damage, InstanceId, Timestamp};
use instance::Instance;

/// Damage found while reading is kept for the operator; beyond this there is nothing new to say.
const MOST_DAMAGE: usize = 1000;

/// Round-robin archives of many instances, one file each. Shared by all threads.
pub struct Store {
    dir: PathBuf,
    handles: Arc<Handles>,
    /// Which instances there are, in order of id, so that whatever is derived from them is the same
    /// everywhere. Written when one is seen for the first time; everybody else copies and lets go.
    instances: RwLock<BTreeMap<InstanceId, Arc<Instance>>>,
    /// Instances whose file is there but cannot be used. Written by `open` alone.
    unavailable: BTreeSet<InstanceId>,
    /// Instances with room for a change, found at open: the first round removes what nobody asked for.
    leftovers: Mutex<BTreeSet<InstanceId>>,
    /// Damage found since the start. Short: readers push, an operator's page copies.
    damage: Mutex<Vec<Damage>>,
    /// The latest journal time that silence was judged at; the worker's own.
    advanced_to: Mutex<Timestamp>,
}

impl Store {
    /// The column of the series with this key ([`crate::Labels::to_key`]), if it has been granted one.
    pub fn resolve(&self, instance: InstanceId, key: &[u8]) -> Option<Column> {
        read(&self.instance(instance)?.index).columns.get(key).copied()
    }

    /// The last numbered batch that was applied for the instance.
    pub fn last_batch(&self, instance: InstanceId) -> Option<Batch> {
        let instance = self.instance(instance)?;
        let batch = lock(&instance.state).batch;
        (batch.number > 0).then_some(batch)
    }

    /// True when some instance's file is there and cannot be used.
    pub fn has_unavailable(&self) -> bool {
        !self.unavailable.is_empty()
    }

    /// True when this instance's file is there and cannot be used: its frames are not applied.
    pub fn is_unavailable(&self, instance: InstanceId) -> bool {
        self.unavailable.contains(&instance)
    }

    /// Damage found at open and since, the oldest first, at most a thousand.
    pub fn damage(&self) -> Vec<Damage> {
        lock(&self.damage).clone()
    }

    fn instance(&self, id: InstanceId) -> Option<Arc<Instance>> {
        read(&self.instances).get(&id).map(Arc::clone)
    }

    fn all(&self) -> Vec<Arc<Instance>> {
        read(&self.instances).values().map(Arc::clone).collect()
    }

    fn report(&self, damage: Damage) {
        let mut known = lock(&self.damage);
        if known.len() < MOST_DAMAGE && !known.contains(&damage) {
            tracing::error!(path = %damage.path.display(), what = %damage.what, "damage");
            known.push(damage);
        }
    }
}

/// A lock whose holder panicked is taken all the same: what it guards is changed in single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
