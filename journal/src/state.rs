//! The state behind the journal's lock: frames that wait for the disk, frames that wait for the worker.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rrd::{Clock, Timestamp};

use crate::error::Refused;
use crate::frame::{ENVELOPE_BYTES, Envelope, Frame, TICK, frame_len};
use crate::plan::{Place, Plan};
use crate::scan::{Mark, Scan};
use crate::segment::{BLOCK, Header, index_of, usize_of};
use crate::setup::{Config, Durability, Folder};
use crate::stamps::Stamps;

/// What must never be refused by a bound in memory may go this far over it.
const RESERVED_SHARE: usize = 4;

pub(crate) struct State {
    pub(crate) plan: Plan,
    pub(crate) stamps: Stamps,
    pub(crate) epoch: u64,
    /// The last number given.
    pub(crate) seq: u64,
    /// The last frame of the log, which differs from `seq` just after an open.
    previous: u64,
    previous_epoch: u64,
    salt: u64,
    limits: Limits,
    /// The epoch's first frame is durable. Before it nothing is accepted.
    pub(crate) opened: bool,
    /// Frames for the next commit, one chunk for each segment they go to.
    pub(crate) pending: Vec<Chunk>,
    pub(crate) pending_since: Duration,
    /// Bytes in `pending` and in the commit under way.
    pub(crate) waiting_bytes: usize,
    pub(crate) committed: u64,
    pub(crate) unread: VecDeque<Frame>,
    pub(crate) unread_bytes: usize,
    /// Bytes of appends to come that were told there is room.
    pub(crate) promised: usize,
    pub(crate) commit_count: u64,
    pub(crate) failed: Option<Arc<str>>,
    pub(crate) closing: bool,
    /// Closed, and nothing will be committed any more.
    pub(crate) ended: bool,
}

struct Limits {
    segment_bytes: u64,
    segment_count: u32,
    body: usize,
    pending: usize,
    unread: usize,
    is_strict: bool,
}

/// A write: frames that follow each other in one segment, from a block's start on.
pub(crate) struct Chunk {
    pub(crate) ordinal: u64,
    pub(crate) offset: u64,
    /// To be written with it, if the chunk opens a lap.
    pub(crate) header: Option<Header>,
    pub(crate) bytes: Vec<u8>,
    /// The last frame durable before this chunk is written.
    follows: u64,
    frames: Vec<Piece>,
}

struct Piece {
    seq: u64,
    stamp: Timestamp,
    kind: u8,
    body: Range<usize>,
}

impl Chunk {
    /// The number of its last frame.
    pub(crate) fn last_seq(&self) -> u64 {
        self.frames.last().map_or(self.follows, |frame| frame.seq)
    }
}

impl State {
    pub(crate) fn new(
        folder: &Folder,
        config: &Config,
        scan: Scan,
        epoch: u64,
        seq: u64,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let Mark { seq: previous, epoch: previous_epoch, stamp } = scan.last;
        let (segment_bytes, segment_count) = (folder.segment_bytes, folder.segment_count);
        Self {
            plan: Plan::new(segment_bytes, segment_count, scan.laps, scan.offset),
            stamps: Stamps::new(clock, stamp),
            epoch,
            seq,
            previous,
            previous_epoch,
            salt: scan.salt,
            limits: Limits {
                segment_bytes,
                segment_count,
                body: folder.body_limit(),
                pending: config.pending_bytes,
                unread: config.unread_bytes,
                is_strict: config.durability == Durability::Strict,
            },
            opened: false,
            pending: Vec::new(),
            pending_since: Duration::ZERO,
            waiting_bytes: 0,
            committed: seq,
            unread: VecDeque::new(),
            unread_bytes: 0,
            promised: 0,
            commit_count: 0,
            failed: None,
            closing: false,
            ended: false,
        }
    }

    /// Appends all of `frames` or none.
    pub(crate) fn append(
        &mut self,
        frames: &[(u8, &[u8])],
        reserved: bool,
    ) -> Result<Range<u64>, Refused> {
        self.check(frames, reserved)?;
        if !self.opened {
            return Err(Refused::Full);
        }
        self.push(frames, reserved)
    }

    /// Appends the epoch's first frame; it is committed before any other is accepted.
    pub(crate) fn push_opening(&mut self) -> Result<Range<u64>, Refused> {
        self.push(&[(TICK, &[])], true)
    }

    fn check(&self, frames: &[(u8, &[u8])], reserved: bool) -> Result<(), Refused> {
        self.check_running()?;
        let limit = self.limits.body;
        if let Some(len) = frames.iter().map(|(_, body)| body.len()).find(|len| *len > limit) {
            return Err(Refused::TooLarge { len, limit });
        }
        let bytes: usize = frames.iter().map(|(_, body)| frame_len(body.len())).sum();
        self.check_waiting(bytes, if reserved { RESERVED_SHARE } else { 0 })
    }

    pub(crate) fn check_running(&self) -> Result<(), Refused> {
        if let Some(reason) = &self.failed {
            return Err(Refused::Failed(reason.to_string()));
        }
        if self.closing {
            return Err(Refused::Failed(CLOSED.to_owned()));
        }
        Ok(())
    }

    /// Whether `bytes` more may wait in memory; `beyond` is the part of its bounds that they may go over
    /// them.
    pub(crate) fn check_waiting(&self, bytes: usize, beyond: usize) -> Result<(), Refused> {
        let over = |now: usize, limit: usize| {
            now > 0 && now + bytes > limit + limit.checked_div(beyond).unwrap_or(0)
        };
        if over(self.waiting_bytes, self.limits.pending)
            || over(self.unread_bytes, self.limits.unread)
        {
            return Err(Refused::Busy);
        }
        Ok(())
    }

    /// What can be held at once at most, whatever bounds it.
    pub(crate) fn whole_room(&self) -> usize {
        let space = usize::try_from(self.plan.capacity()).unwrap_or(usize::MAX);
        space.min(self.limits.pending).min(self.limits.unread)
    }

    fn push(&mut self, frames: &[(u8, &[u8])], reserved: bool) -> Result<Range<u64>, Refused> {
        let mut plan = self.plan.clone();
        let mut places = Vec::with_capacity(frames.len());
        let first_seq = self.seq + 1;
        for ((_, body), seq) in frames.iter().zip(first_seq..) {
            let first_of_commit = self.pending.is_empty() && places.is_empty();
            let place = plan.place(seq, frame_len(body.len()), first_of_commit, reserved);
            places.push(place.ok_or(Refused::Full)?);
        }
        self.plan = plan;
        let stamp = self.stamps.next();
        for ((kind, body), place) in frames.iter().zip(places) {
            self.write(*kind, body, stamp, place);
        }
        Ok(first_seq..self.seq + 1)
    }

    fn write(&mut self, kind: u8, body: &[u8], stamp: Timestamp, place: Place) {
        if place.opens_lap || self.pending.is_empty() {
            let chunk = self.chunk(place, stamp);
            self.pending.push(chunk);
        }
        let (seq, epoch, salt) = (self.seq + 1, self.epoch, self.salt);
        let chunk = self.pending.last_mut().expect("pushed above if there was none");
        assert_eq!(place.offset, chunk.offset + chunk.bytes.len() as u64, "the plan's place");
        let start = chunk.bytes.len() + ENVELOPE_BYTES;
        let envelope =
            Envelope { seq, epoch, stamp, follows: chunk.follows, kind, body_len: body.len() };
        envelope.encode(salt, body, &mut chunk.bytes);
        chunk.frames.push(Piece { seq, stamp, kind, body: start..start + body.len() });
        self.waiting_bytes += envelope.frame_len();
        (self.seq, self.previous, self.previous_epoch) = (seq, seq, epoch);
    }

    fn chunk(&mut self, place: Place, stamp: Timestamp) -> Chunk {
        let header = place.opens_lap.then(|| {
            self.salt = random_salt();
            let index = index_of(place.ordinal, self.limits.segment_count);
            Header {
                segment_bytes: self.limits.segment_bytes,
                segment_index: u32::try_from(index).expect("below the segment count"),
                segment_count: self.limits.segment_count,
                ordinal: place.ordinal,
                salt: self.salt,
                follows: self.previous,
                prior_epoch: self.previous_epoch,
                stamp,
            }
        });
        // A commit begins when the one before is durable, but for those that are only written.
        let is_proven = self.limits.is_strict || !self.opened;
        let follows = if is_proven { self.previous } else { self.committed };
        let (ordinal, offset) = (place.ordinal, place.offset);
        Chunk { ordinal, offset, header, bytes: Vec::new(), follows, frames: Vec::new() }
    }

    /// Takes what is pending for a commit, each chunk filled up to a whole block.
    pub(crate) fn take_pending(&mut self) -> Vec<Chunk> {
        let mut chunks = std::mem::take(&mut self.pending);
        for chunk in &mut chunks {
            let len = chunk.bytes.len().next_multiple_of(usize_of(BLOCK));
            chunk.bytes.resize(len, 0);
        }
        chunks
    }

    /// Hands a synced chunk's frames to the worker.
    pub(crate) fn publish(&mut self, chunk: Chunk) {
        let bytes = Bytes::from(chunk.bytes);
        for Piece { seq, stamp, kind, body } in chunk.frames {
            let len = frame_len(body.len());
            self.waiting_bytes -= len;
            self.unread_bytes += len;
            self.committed = seq;
            self.unread.push_back(Frame { seq, stamp, kind, body: bytes.slice(body) });
        }
        self.commit_count += 1;
    }

    /// True where what waits for the disk takes half of what may.
    pub(crate) const fn is_half_full(&self) -> bool {
        self.waiting_bytes > self.limits.pending / 2
    }

    /// Takes committed frames for the worker, `byte_limit` bytes or a frame more.
    pub(crate) fn take_unread(&mut self, byte_limit: usize) -> Vec<Frame> {
        let mut taken = 0;
        let mut frames = Vec::new();
        while taken < byte_limit {
            let Some(frame) = self.unread.pop_front() else { break };
            taken += frame_len(frame.body.len());
            frames.push(frame);
        }
        self.unread_bytes -= taken;
        frames
    }

    /// Nothing is accepted from here on; what waits will not become durable.
    pub(crate) fn fail(&mut self, reason: Arc<str>) {
        self.failed.get_or_insert(reason);
        self.pending.clear();
        self.waiting_bytes = 0;
    }
}

pub(crate) const CLOSED: &str = "it was closed";

/// Not for secrecy of data, only so that no sender can know it: the keys of std's hash maps come from
/// the system's random source.
fn random_salt() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u64)
}
