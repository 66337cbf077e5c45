//! The committer: the one thread that writes and syncs, one group of frames after the other.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rrd::Clock;
use tokio::sync::{Notify, watch};
use tracing::error;

use crate::setup::{Config, Durability, Folder};
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
    /// There is more room than before, or never will be.
    pub(crate) freed: Notify,
    pub(crate) folder: Arc<Folder>,
    pub(crate) clock: Arc<dyn Clock>,
    commit_delay: Duration,
    pub(crate) durability: Durability,
}

/// How far the log is written and durable, and whether it will be any further.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) written: u64,
    pub(crate) committed: u64,
    pub(crate) stopped: Option<Arc<str>>,
}

/// Chunks that are written and not synced.
#[derive(Default)]
struct Unsynced {
    chunks: Vec<Chunk>,
    /// When they are to be, in monotonic time; `None` while there is none.
    due: Option<Duration>,
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
        config: &Config,
        applied: u64,
    ) -> Self {
        let committed = state.committed;
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            readable: Condvar::new(),
            progress: watch::Sender::new(Progress { written: committed, committed, stopped: None }),
            applied: watch::Sender::new(Applied { seq: applied, closed: false }),
            freed: Notify::new(),
            folder,
            clock,
            commit_delay: config.commit_delay,
            durability: config.durability,
        }
    }

    /// The lock is held for memory work only. A panic under it leaves whole values behind.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits until the journal is closed or a write fails.
    pub(crate) fn run(&self) {
        let mut unsynced = Unsynced::default();
        while let Some(chunks) = self.wait_for_work(&unsynced) {
            let done = match self.durability {
                Durability::Strict => self.commit(chunks),
                Durability::Relaxed { sync_every } => {
                    self.write_all(chunks, &mut unsynced, sync_every)
                }
            };
            if done.is_err() {
                break;
            }
        }
        let reason = self.lock().failed.clone().unwrap_or_else(|| CLOSED.into());
        self.progress.send_modify(|progress| progress.stopped = Some(reason));
    }

    /// Chunks to be written; none when the time has come to sync those that are. Ends when the journal
    /// is closed and nothing is left to do.
    fn wait_for_work(&self, unsynced: &Unsynced) -> Option<Vec<Chunk>> {
        let idle = |state: &mut State| state.pending.is_empty() && !state.closing;
        let mut state = self.lock();
        match unsynced.due {
            None => {
                let woken = self.work.wait_while(state, idle);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
            Some(due) => {
                let rest = due.saturating_sub(self.clock.monotonic());
                let woken = self.work.wait_timeout_while(state, rest, idle);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        if state.pending.is_empty() {
            return unsynced.due.map(|_| Vec::new());
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
            let synced = self.write(&chunk).and_then(|()| self.sync(&chunk));
            synced.map_err(|reason| self.broken(&chunk, reason))?;
            self.publish(chunk);
        }
        Ok(())
    }

    /// Writes chunk by chunk, which is when they are accepted. Syncs all of them when it is time, when
    /// none has come since, and before they take half the room of what waits.
    fn write_all(
        &self,
        chunks: Vec<Chunk>,
        unsynced: &mut Unsynced,
        sync_every: Duration,
    ) -> io::Result<()> {
        let has_none = chunks.is_empty();
        for chunk in chunks {
            if chunk.header.is_some() {
                // It says that the segment before is whole.
                self.sync_all(unsynced)?;
            }
            self.write(&chunk).map_err(|reason| self.broken(&chunk, reason))?;
            let written = chunk.last_seq();
            self.progress.send_modify(|progress| progress.written = written);
            unsynced.due.get_or_insert(self.clock.monotonic() + sync_every);
            unsynced.chunks.push(chunk);
        }
        let is_due = unsynced.due.is_some_and(|due| due <= self.clock.monotonic());
        if has_none || is_due || self.lock().is_half_full() {
            self.sync_all(unsynced)
        } else {
            Ok(())
        }
    }

    fn sync_all(&self, unsynced: &mut Unsynced) -> io::Result<()> {
        let Unsynced { chunks, .. } = std::mem::take(unsynced);
        // All are of one segment.
        if let Some(last) = chunks.last() {
            self.sync(last).map_err(|reason| self.broken(last, reason))?;
        }
        for chunk in chunks {
            self.publish(chunk);
        }
        Ok(())
    }

    /// Hands a durable chunk out.
    fn publish(&self, chunk: Chunk) {
        let mut state = self.lock();
        state.publish(chunk);
        let committed = state.committed;
        drop(state);
        self.readable.notify_all();
        self.freed.notify_waiters();
        self.progress.send_modify(|progress| {
            progress.committed = committed;
            progress.written = progress.written.max(committed);
        });
    }

    fn write(&self, chunk: &Chunk) -> io::Result<()> {
        let file = self.folder.file(chunk.ordinal);
        if let Some(header) = &chunk.header {
            // In one sync with its first frames: without its header the lap is not looked at.
            file.write_at(&header.encode(), 0)?;
        }
        file.write_at(&chunk.bytes, chunk.offset)
    }

    fn sync(&self, chunk: &Chunk) -> io::Result<()> {
        self.folder.file(chunk.ordinal).sync_data()
    }

    fn broken(&self, chunk: &Chunk, reason: io::Error) -> io::Error {
        self.fail(&format!("{}: {reason}", self.folder.path(chunk.ordinal).display()));
        reason
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
        self.freed.notify_waiters();
    }
}
