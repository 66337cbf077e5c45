//! The store: all instances, their series and rows, in memory and in files.
//!
//! The worker applies frames in memory; rounds write what it did; readers see both together. Each
//! lock guards one thing and is named with its reason where it is declared.

mod alike;
mod anchors;
mod apply;
mod available;
mod build;
mod change;
mod check;
mod column_rows;
mod columns;
mod counts;
mod directory;
mod dump;
mod export;
mod first_read;
mod fold;
mod former;
mod grant;
mod instance;
mod keys;
mod late;
mod other;
mod places;
mod read;
mod rebuild;
mod reclaim;
mod recover;
mod remove;
mod repair;
mod request;
mod restep;
mod role;
mod rolled;
mod room;
mod roster;
mod round;
mod round_rows;
mod rows;
mod scratch;
mod select;
mod single;
mod slots;
mod state;
mod takeover;
mod taking;
mod task;
mod unsynced;
mod view;
mod warm;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use build::{BuiltSeries, Whole, build};

pub use apply::{InstanceChange, Verdicts};
pub use check::{BadTile, Check, Checked};
pub use grant::{GrantRequest, NewSeries};
pub use read::{RowParts, RowsWanted};
pub use reclaim::ReclaimCandidate;
pub use request::{ChangePlan, Loss};
pub use role::{RollUp, RollUpFrame, RolledUp};
pub use round::{Round, RoundReport};
pub use rows::{Anchor, Rows};
pub use select::{InstanceInfo, SeriesInfo};
pub(crate) use single::{Access, SINGLE_HEAD_LEN, SingleError, SingleFile, SinglePlan, Value};
pub use slots::{ONE_SLOT_DAMAGED, SlotView, Slots, inspect_slots};
pub use takeover::Room;

use crate::handles::Handles;
use crate::{Batch, Column, Damage, InstanceId, Timestamp};
use directory::Directory;
use instance::{Form, Instance};
use keys::Keys;
use warm::Warm;

/// Damage found while reading is kept for the operator; beyond this there is nothing new to say.
const MOST_DAMAGE: usize = 1000;

/// Round-robin archives of many instances, one file each. Shared by all threads.
pub struct Store {
    dir: PathBuf,
    handles: Arc<Handles>,
    /// What was read lately. Readers lock a part of it for one look or one entry.
    warm: Warm,
    /// Which instances there are, in order of id, so that whatever is derived from them is the same
    /// everywhere. Written when one is seen for the first time; everybody else copies and lets go.
    instances: RwLock<BTreeMap<InstanceId, Arc<Instance>>>,
    /// Keys of the series of all instances.
    keys: Arc<Keys>,
    /// Instances by the labels that selections name.
    directory: Directory,
    /// Instances whose file is there but cannot be used, and why. Intake asks for every request; the
    /// start, rounds and readers write.
    unavailable: RwLock<BTreeMap<InstanceId, Damage>>,
    /// Instances with room for a change, found at open: the first round removes what nobody asked for.
    leftovers: Mutex<BTreeSet<InstanceId>>,
    /// Instances whose archive cannot be used and is to go, with the frame that said so. Short: the worker
    /// adds, rounds take.
    given_up: Mutex<BTreeMap<InstanceId, u64>>,
    /// Damage found since the start. Short: readers push, an operator's page copies.
    damage: Mutex<Vec<Damage>>,
    /// The latest journal time that silence was judged at; the worker's own.
    advanced_to: Mutex<Timestamp>,
    /// Of the last instance that was made: most have the same, and share it. Nothing is done under it.
    last_form: Mutex<Option<Arc<Form>>>,
    /// Rows that an unfinished round has overwritten are missing, and that is no damage.
    is_replaying: AtomicBool,
    /// Something is done with the next round, and somebody may wait for it.
    wants_round: AtomicBool,
}

impl Store {
    /// The column of the series with this key ([`crate::Labels::to_key`]), if it has been granted one.
    pub fn resolve(&self, instance: InstanceId, key: &[u8]) -> Option<Column> {
        read(&self.instance(instance)?.index).get(key)
    }

    /// The last numbered batch that was applied for the instance.
    pub fn last_batch(&self, instance: InstanceId) -> Option<Batch> {
        let instance = self.instance(instance)?;
        let batch = lock(&instance.state).batch;
        (batch.number > 0).then_some(batch)
    }

    /// From here on, until [`Store::end_replay`], a tile that does not match its checksum is unknown
    /// without a report: a round that was cut short may have overwritten the oldest rows, until replay
    /// has brought the newest row to where that round was.
    pub fn begin_replay(&self) {
        self.is_replaying.store(true, Ordering::Release);
    }

    /// The journal has been replayed: what does not match now is damage.
    pub fn end_replay(&self) {
        self.is_replaying.store(false, Ordering::Release);
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
