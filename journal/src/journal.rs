//! The journal as its callers see it.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rrd::{Clock, Disk};

use crate::commit::{Progress, Shared};
use crate::error::{Failed, JournalError, Refused};
use crate::frame::Frame;
use crate::record::{Record, RecordFile};
use crate::replay::{Frames, Recovery};
use crate::scan::scan;
use crate::setup::{Config, Durability, Folder};
use crate::state::{CLOSED, State};

/// Frames handed to the worker at once: enough to keep it busy, little enough to look up in between.
const READ_BYTES: usize = 4 << 20;

/// The open log. Clones are the same log; the last one dropped closes it.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

/// A few numbers about the journal, for its operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// The last sequence given.
    pub appended: u64,
    /// The last sequence that is durable.
    pub committed: u64,
    /// The last sequence the worker has applied.
    pub applied: u64,
    /// Commits since the open.
    pub commit_count: u64,
    /// Bytes that wait for the disk.
    pub waiting_bytes: usize,
    /// Committed bytes that wait for the worker.
    pub unread_bytes: usize,
    /// The used share of the space, 0 to 1.
    pub fill: f64,
    /// Bytes for frames in all segments.
    pub capacity_bytes: u64,
    /// How far the journal's time is ahead of the wall clock; behind if negative.
    pub ahead_of_wall_ms: i64,
}

struct Handle {
    shared: Arc<Shared>,
    epoch: u64,
    record: Mutex<RecordState>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct RecordState {
    file: RecordFile,
    seq: u64,
    failed: bool,
}

impl Journal {
    /// Opens the journal in the folder `dir`, making it if there is none, and starts a new epoch. The
    /// caller replays `Recovery::frames` before it takes frames with [`Journal::next`].
    #[expect(clippy::needless_pass_by_value, reason = "the caller shares its disk")]
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovery), JournalError> {
        let (folder, mut record_file, checkpoint) = Folder::open(disk.as_ref(), dir, &config)?;
        let folder = Arc::new(folder);
        let mut scan = scan(&folder, checkpoint.seq)?;
        let frames = Frames::new(folder.clone(), checkpoint.seq, std::mem::take(&mut scan.runs));
        let damage = std::mem::take(&mut scan.damage);
        let epoch = scan.highest_epoch.max(checkpoint.epoch) + 1;
        if record_file.is_blank() {
            // From now on a missing segment is a loss, not a folder that was never finished.
            let first = Record { epoch, ..Record::default() };
            record_file.write(&first).map_err(JournalError::io(record_file.path()))?;
        }
        let seq = scan.highest_seq.max(checkpoint.seq).max(config.floor);
        let state = State::new(&folder, &config, scan, epoch, seq, clock.clone());
        let shared = Shared::new(state, folder, clock, &config, checkpoint.seq);
        let record = RecordState { file: record_file, seq: checkpoint.seq, failed: false };
        let handle = Handle {
            shared: Arc::new(shared),
            epoch,
            record: Mutex::new(record),
            thread: Mutex::new(None),
        };
        handle.start_epoch().map_err(JournalError::io(dir))?;
        handle.start_thread().map_err(JournalError::io(dir))?;
        Ok((Self { handle: Arc::new(handle) }, Recovery { checkpoint, frames, damage }))
    }

    /// Appends a frame; never waits. It is durable only when [`Journal::durable`] says so.
    pub fn append(&self, kind: u8, body: &[u8]) -> Result<u64, Refused> {
        self.push(&[(kind, body)], false).map(|range| range.start)
    }

    /// Like [`Journal::append`], for frames that must find room when samples do not: the worker's, the
    /// deliveries', the registry's. They may use the last sixteenth of the space.
    pub fn append_reserved(&self, kind: u8, body: &[u8]) -> Result<u64, Refused> {
        self.push(&[(kind, body)], true).map(|range| range.start)
    }

    /// Appends all frames, next to each other and in one commit where a segment has the room, or none.
    pub fn append_all(&self, frames: &[(u8, &[u8])]) -> Result<Range<u64>, Refused> {
        self.push(frames, false)
    }

    fn push(&self, frames: &[(u8, &[u8])], reserved: bool) -> Result<Range<u64>, Refused> {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        let was_idle = state.pending.is_empty();
        let range = state.append(frames, reserved)?;
        if was_idle && !state.pending.is_empty() {
            state.pending_since = shared.clock.monotonic();
            shared.work.notify_one();
        }
        Ok(range)
    }

    /// Ends when frame `seq` and all before it are durable, or never will be.
    pub async fn durable(&self, seq: u64) -> Result<(), Failed> {
        self.reaches(seq, |progress| progress.committed).await
    }

    /// Ends when frame `seq` and all before it are accepted, as [`Config::durability`] says, or never
    /// will be.
    pub async fn accepted(&self, seq: u64) -> Result<(), Failed> {
        self.reaches(seq, |progress| progress.written).await
    }

    async fn reaches(&self, seq: u64, of: impl Fn(&Progress) -> u64) -> Result<(), Failed> {
        let mut progress = self.handle.shared.progress.subscribe();
        let seen = progress.wait_for(|now| of(now) >= seq || now.stopped.is_some()).await;
        let seen = seen.expect("the sender is in the journal we hold");
        let stopped = seen.stopped.clone().filter(|_| of(&seen) < seq);
        stopped.map_or(Ok(()), |reason| Err(Failed { reason }))
    }

    /// [`Journal::durable`] for a caller outside the async runtime; blocks its thread.
    pub fn wait_durable(&self, seq: u64) -> Result<(), Failed> {
        let shared = &self.handle.shared;
        let waiting =
            |state: &mut State| state.committed < seq && state.failed.is_none() && !state.ended;
        let state = shared.lock();
        let state = shared.readable.wait_while(state, waiting);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        if state.committed >= seq {
            return Ok(());
        }
        Err(Failed { reason: state.failed.clone().unwrap_or_else(|| CLOSED.into()) })
    }

    /// Committed frames in log order, for the one worker. Waits up to `max_wait` for the first; an
    /// empty answer means that there was none. After a failure the committed ones still come.
    pub fn next(&self, max_wait: Duration) -> Vec<Frame> {
        let shared = &self.handle.shared;
        let waiting = |state: &mut State| state.unread.is_empty() && !state.ended;
        let state = shared.lock();
        let waited = shared.readable.wait_timeout_while(state, max_wait, waiting);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let frames = state.take_unread(READ_BYTES);
        drop(state);
        shared.freed.notify_waiters();
        frames
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// The worker has applied every frame up to `seq`.
    pub fn mark_applied(&self, seq: u64) {
        self.handle.shared.applied.send_if_modified(|applied| {
            let risen = seq > applied.seq;
            applied.seq = applied.seq.max(seq);
            risen
        });
    }

    /// Ends when the worker has applied frame `seq`, or never will.
    pub async fn applied(&self, seq: u64) -> Result<(), Failed> {
        self.durable(seq).await?;
        let mut applied = self.handle.shared.applied.subscribe();
        let seen = applied.wait_for(|now| now.seq >= seq || now.closed).await;
        let seen = *seen.expect("the sender is in the journal we hold");
        if seen.seq >= seq { Ok(()) } else { Err(Failed { reason: CLOSED.into() }) }
    }

    /// When frames are accepted.
    pub fn durability(&self) -> Durability {
        self.handle.shared.durability
    }

    /// Why the journal has stopped; `None` while it accepts frames, or is merely full.
    pub fn failure(&self) -> Option<Failed> {
        let reason = self.handle.shared.lock().failed.clone()?;
        Some(Failed { reason })
    }

    /// The number of this opening of the journal; each is above all before it.
    pub fn epoch(&self) -> u64 {
        self.handle.epoch
    }

    /// The used share of the space, 0 to 1. At three quarters a checkpoint is due.
    pub fn fill(&self) -> f64 {
        self.handle.shared.lock().plan.fill()
    }

    /// A few numbers for the operator.
    pub fn stats(&self) -> Stats {
        let applied = self.handle.shared.applied.borrow().seq;
        let mut state = self.handle.shared.lock();
        Stats {
            appended: state.seq,
            committed: state.committed,
            applied,
            commit_count: state.commit_count,
            waiting_bytes: state.waiting_bytes,
            unread_bytes: state.unread_bytes,
            fill: state.plan.fill(),
            capacity_bytes: state.plan.capacity(),
            ahead_of_wall_ms: state.stamps.ahead_of_wall_ms(),
        }
    }

    /// Records a finished checkpoint, durably, and frees the segments wholly at or below its sequence.
    /// If the record cannot be written the journal stops: its file must not be trusted again.
    #[expect(clippy::needless_pass_by_value, reason = "a record is made for this call")]
    pub fn trim(&self, record: Record) -> io::Result<()> {
        let mut kept = self.handle.record.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = self.handle.shared.lock().committed;
        if kept.failed {
            return Err(io::Error::other("the checkpoint record failed before; restart to go on"));
        }
        if record.seq < kept.seq || record.seq > committed {
            let problem = format!("checkpoint {} is not in {}..={committed}", record.seq, kept.seq);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        match kept.file.write(&record) {
            Ok(()) => kept.seq = record.seq,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
            Err(error) => {
                kept.failed = true;
                self.handle.shared.fail(&format!("{}: {error}", kept.file.path().display()));
                return Err(error);
            }
        }
        self.handle.shared.lock().plan.recycle(record.seq);
        let opened = self.handle.start_epoch();
        self.handle.shared.freed.notify_waiters();
        opened
    }

    /// Reads the frames after `after` back from the files, up to some frame that was durable when this
    /// was called, or a later one. For a round that must keep what it cannot write; no checkpoint at or
    /// above `after` may be recorded meanwhile.
    pub fn reread(&self, after: u64) -> Result<Frames, JournalError> {
        let folder = &self.handle.shared.folder;
        // Commits go on meanwhile: an end that looks torn is one that is being written.
        let scan = scan(folder, after)?;
        Ok(Frames::new(Arc::clone(folder), after, scan.runs))
    }

    /// Commits what is pending and accepts no more. [`Journal::next`] still hands out what is left.
    pub fn close(&self) {
        self.handle.close();
    }
}

impl Handle {
    /// Commits the epoch's first frame, alone. Without room for it the journal stays shut for appends
    /// until a checkpoint makes some, which calls this again.
    fn start_epoch(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        if state.opened || state.failed.is_some() || state.push_opening().is_err() {
            return Ok(());
        }
        let chunks = state.take_pending();
        drop(state);
        self.shared.commit(chunks)?;
        self.shared.lock().opened = true;
        Ok(())
    }

    fn start_thread(&self) -> io::Result<()> {
        let shared = self.shared.clone();
        let builder = std::thread::Builder::new().name("journal".to_owned());
        let thread = builder.spawn(move || shared.run())?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.freed.notify_waiters();
        self.shared.work.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            self.shared.fail("its thread has panicked");
        }
        self.shared.lock().ended = true;
        self.shared.readable.notify_all();
        self.shared.applied.send_modify(|applied| applied.closed = true);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("epoch", &self.handle.epoch).finish_non_exhaustive()
    }
}
