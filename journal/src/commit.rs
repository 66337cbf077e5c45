//! The committer: the one thread that writes and syncs, one group of frames after the other.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rrd::Clock;
use tokio::sync::watch;
use tracing::error;

use crate::setup::Folder;
use crate::state::{CLOSED, Chunk, State};

/// What the committer and the callers share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The first frame is pending, or the journal is closing.
    pub(crate) work: Condvar,
    /// Frames are there for the worker, or will never be again.
    pub(crate) readable: Condvar,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) applied: watch::Sender<Applied>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) clock: Arc<dyn Clock>,
    commit_delay: Duration,
}

/// How far the log is durable, and whether it will be any further.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) committed: u64,
    pub(crate) stopped: Option<Arc<str>>,
}

/// How far the worker is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Applied {
    pub(crate) seq: u64,
    pub(crate) closed: bool,
}

impl Shared {
    pub(crate) fn new(
        state: State,
        folder: Arc<Folder>,
        clock: Arc<dyn Clock>,
        commit_delay: Duration,
        applied: u64,
    ) -> Self {
        let committed = state.committed;
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            readable: Condvar::new(),
            progress: watch::Sender::new(Progress { committed, stopped: None }),
            applied: watch::Sender::new(Applied { seq: applied, closed: false }),
            folder,
            clock,
            commit_delay,
        }
    }

    /// The lock is held for memory work only. A panic under it leaves whole values behind.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits until the journal is closed or a write fails.
    pub(crate) fn run(&self) {
        while let Some(chunks) = self.wait_for_work() {
            if self.commit(chunks).is_err() {
                break;
            }
        }
        let reason = self.lock().failed.clone().unwrap_or_else(|| CLOSED.into());
        self.progress.send_modify(|progress| progress.stopped = Some(reason));
    }

    fn wait_for_work(&self) -> Option<Vec<Chunk>> {
        let idle = |state: &mut State| state.pending.is_empty() && !state.closing;
        let state = self.lock();
        let mut state = self.work.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        if state.pending.is_empty() {
            return None;
        }
        let waited = self.clock.monotonic().saturating_sub(state.pending_since);
        let rest = self.commit_delay.saturating_sub(waited);
        if !state.closing && !rest.is_zero() {
            // Nobody signals while frames are pending, but for closing: this is the delay itself.
            let woken = self.work.wait_timeout(state, rest);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(state.take_pending())
    }

    /// Writes and syncs chunk by chunk; the next is not begun before this one is durable.
    pub(crate) fn commit(&self, chunks: Vec<Chunk>) -> io::Result<()> {
        for chunk in chunks {
            if let Err(reason) = self.write(&chunk) {
                let path = self.folder.path(chunk.ordinal);
                self.fail(&format!("{}: {reason}", path.display()));
                return Err(reason);
            }
            let mut state = self.lock();
            state.publish(chunk);
            let committed = state.committed;
            drop(state);
            self.readable.notify_all();
            self.progress.send_modify(|progress| progress.committed = committed);
        }
        Ok(())
    }

    fn write(&self, chunk: &Chunk) -> io::Result<()> {
        let file = self.folder.file(chunk.ordinal);
        if let Some(header) = &chunk.header {
            // In one sync with its first frames: without its header the lap is not looked at.
            file.write_at(&header.encode(), 0)?;
        }
        file.write_at(&chunk.bytes, chunk.offset)?;
        file.sync_data()
    }

    /// Stops acknowledging for good: after a failed sync nobody knows what the file holds.
    pub(crate) fn fail(&self, reason: &str) {
        error!(reason, "the journal has stopped; restart to replay what is committed");
        let reason: Arc<str> = reason.into();
        self.lock().fail(reason.clone());
        self.progress.send_modify(|progress| {
            progress.stopped.get_or_insert(reason);
        });
        self.readable.notify_all();
    }
}
