//! Removal: an instance that is to go says so in its file, which is removed once that counts.

use std::io;
use std::sync::Arc;

use super::former::Ends;
use super::instance::Instance;
use super::lock;
use super::state::{InRound, State};
use crate::File;
use crate::file::{Patches, Slot, slot_at};
use crate::handles::Handles;

/// One instance of a round that is to go.
pub(super) struct Removal {
    pub(super) instance: Arc<Instance>,
    /// In the place of the slot that a restart would not use.
    at: u64,
    slot: Slot,
}

impl Removal {
    /// What is to be written of an instance, whose state is locked.
    pub(super) fn of(instance: &Arc<Instance>, state: &mut State, seq: u64, epoch: u64) -> Self {
        let mut filed = state.filed.clone();
        filed.slot = 1 - filed.slot;
        let at = slot_at(filed.slot);
        let successor = Some(Vec::new());
        let frozen_count = state.frozen.len();
        let (filed_then, ends, counts) = (None, Ends::new(), false);
        state.round =
            Some(InRound { seq, frozen_count, filed: filed_then, successor, ends, counts });
        let slot = Slot { seq, epoch, is_removed: true, ..Slot::default() };
        Self { instance: Arc::clone(instance), at, slot }
    }

    /// Writes the slot: a restart from this round on removes the file.
    pub(super) fn write(self, handles: &Handles) -> io::Result<u64> {
        self.instance.check_rolled_up(Some(self.slot.seq))?;
        let written = match handles.file(self.instance.id, &self.instance.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            file => self.mark(file?.as_ref())?,
        };
        let mut state = lock(&self.instance.state);
        let filed = state.filed.clone();
        if let Some(round) = state.round.as_mut().filter(|round| round.seq == self.slot.seq) {
            round.filed = Some(filed);
        }
        Ok(written)
    }
    fn mark(&self, file: &dyn File) -> io::Result<u64> {
        let mut patches = Patches::of(file);
        patches.push(self.at, &self.slot.encode())?;
        patches.finish()
    }
}
