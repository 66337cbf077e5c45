//! Room promised to an append before its frames are made: whoever gets none waits until a checkpoint, the
//! disk or the worker makes some, instead of doing work that would be refused.

use std::pin::pin;
use std::sync::Arc;

use crate::commit::Shared;
use crate::error::{Failed, Refused};
use crate::journal::Journal;
use crate::state::State;

/// No promise takes more than this part of what there is: each is kept sooner or later, however small the
/// journal.
const SHARE: usize = 8;

/// Room for one append, kept from other promises until this is dropped. An append does not ask for it: it
/// only makes it likely that there is room.
#[derive(Debug)]
pub struct Room {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Journal {
    /// Why `bytes` of frames would find no room now beside all that is promised, if so.
    pub fn check_room(&self, bytes: usize) -> Result<(), Refused> {
        self.shared().lock().check_room(bytes).map(|_| ())
    }

    /// Promises room for `bytes` of frames, if there is some now.
    pub fn try_room(&self, bytes: usize) -> Result<Room, Refused> {
        let shared = self.shared();
        let mut state = shared.lock();
        let bytes = state.check_room(bytes)?;
        state.promised += bytes;
        Ok(Room { shared: Arc::clone(shared), bytes })
    }

    /// Promises room for `bytes` of frames, and waits for it. Errors when the journal has stopped.
    pub async fn room(&self, bytes: usize) -> Result<Room, Failed> {
        let shared = self.shared();
        loop {
            // Before the look, so that no room is missed that is made after it.
            let mut freed = pin!(shared.freed.notified());
            freed.as_mut().enable();
            match self.try_room(bytes) {
                Ok(room) => return Ok(room),
                Err(Refused::Failed(reason)) => return Err(Failed { reason: reason.into() }),
                Err(_) => freed.await,
            }
        }
    }
}

impl State {
    /// Answers the bytes that are to be promised.
    fn check_room(&self, bytes: usize) -> Result<usize, Refused> {
        self.check_running()?;
        let bytes = bytes.min(self.whole_room() / SHARE);
        let wanted = self.promised + bytes;
        if !self.opened || !self.plan.has_room(wanted) {
            return Err(Refused::Full);
        }
        self.check_waiting(wanted, 0)?;
        Ok(bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.lock().promised -= self.bytes;
        self.shared.freed.notify_waiters();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
