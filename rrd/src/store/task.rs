//! What a round has to do for one instance, and which of several things that is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::remove_if_there;
use super::instance::Instance;
use super::lock;
use super::rebuild::{self, Rebuild};
use super::remove::Removal;
use super::round::Begun;
use crate::InstanceId;
use crate::handles::Handles;

/// What a round has to do for one instance.
pub(super) enum Task {
    /// Not in a box: there is one for each instance, and boxes would leave holes in the heap.
    Write(Begun),
    Change(Change),
}

/// What becomes of a file as a whole.
pub(super) enum Change {
    Rebuild(Box<Rebuild>),
    /// The instance is to go: its file says so before it is removed.
    Remove(Removal),
    /// A round that counts has written a file which could not take its place.
    PutInPlace(Arc<Instance>),
    /// Room for a change that never was.
    Tidy(PathBuf, Option<Arc<Instance>>),
}

impl Task {
    /// `None` for an instance to which nothing happened: a silent one costs nothing.
    pub(super) fn of(instance: &Arc<Instance>, seq: u64, epoch: u64) -> Option<Self> {
        let mut state = lock(&instance.state);
        if !state.is_granted || (!state.is_dirty && state.round.is_none()) {
            return None;
        }
        if state.round.as_ref().is_some_and(|round| round.counts) {
            return Some(Self::Change(Change::PutInPlace(Arc::clone(instance))));
        }
        if state.is_removed {
            state.freeze(seq);
            let removal = Removal::of(instance, &mut state, seq, epoch);
            return Some(Self::Change(Change::Remove(removal)));
        }
        if let Some(former) = state.former.clone() {
            let rebuild = Rebuild::of(instance, &mut state, former, seq);
            return Some(Self::Change(Change::Rebuild(Box::new(rebuild))));
        }
        Some(Self::Write(Begun::of(instance, &mut state, seq)))
    }

    /// True where a file is to go.
    pub(super) fn is_removal(&self) -> bool {
        match self {
            Self::Change(Change::Remove(_)) => true,
            Self::Change(Change::PutInPlace(instance)) => lock(&instance.state).is_removed,
            _ => false,
        }
    }
}

impl Change {
    /// Answers the bytes written, which are synced.
    pub(super) fn write(
        self,
        handles: &Handles,
        (seq, epoch): (u64, u64),
    ) -> Result<u64, (InstanceId, io::Error)> {
        let (id, written) = match self {
            Self::Rebuild(rebuild) => (rebuild.instance(), rebuild.write(handles, seq, epoch)),
            Self::Remove(removal) => (removal.instance.id, removal.write(handles)),
            Self::PutInPlace(instance) => {
                let put = rebuild::retry(handles, &instance);
                let what = "a file of an earlier round took its place only now";
                (instance.id, put.and_then(|()| Err(io::Error::other(what))))
            }
            Self::Tidy(path, instance) => return Ok(tidy(handles, &path, instance.as_deref())),
        };
        written.map_err(|reason| (id, reason))
    }
}

/// Removes room that nobody asked for, as far as the journal knows.
fn tidy(handles: &Handles, path: &Path, instance: Option<&Instance>) -> u64 {
    let growth = instance.map(|instance| lock(&instance.growing));
    // Held until it is gone, or a change that is asked for meanwhile would lose its room.
    let is_wanted = growth.as_ref().is_some_and(|growth| growth.asked.is_some())
        || instance.is_some_and(|instance| lock(&instance.state).former.is_some());
    if !is_wanted {
        // Best effort: it is found again at the next start.
        drop(remove_if_there(handles.disk(), path));
    }
    0
}
