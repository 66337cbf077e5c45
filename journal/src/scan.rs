//! The scan at open: which bytes of the segments are the log, where it ends, and what is missing.
//!
//! A commit begins only when the one before is synced, and each frame says which frame was the last
//! before its commit. So a hole is damage if a later frame, or the header of a later lap, proves that
//! the missing frames were durable; without such proof it is the torn end of an unacknowledged commit.

use std::collections::VecDeque;

use rrd::Timestamp;

use crate::error::{Damage, JournalError};
use crate::frame::{ENVELOPE_BYTES, Envelope, FRAME_ALIGN, Found, TICK};
use crate::plan::Lap;
use crate::segment::{self, BLOCK, HEADER_BYTES, Header, usize_of};
use crate::setup::{Folder, read_header};

/// What the segments hold.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Stretches of frames, in log order.
    pub(crate) runs: Vec<Run>,
    pub(crate) damage: Vec<Damage>,
    /// The last frame of the log.
    pub(crate) last: Mark,
    /// No number up to these was left unused, in the log or in its torn end.
    pub(crate) highest_seq: u64,
    pub(crate) highest_epoch: u64,
    /// For the plan: laps in use, the end of the last frame, the salt of the newest lap.
    pub(crate) laps: VecDeque<Lap>,
    pub(crate) offset: u64,
    pub(crate) salt: u64,
}

/// Frames that follow each other in one segment, with nothing but a commit's padding between.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) index: usize,
    pub(crate) salt: u64,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A place in the order of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) stamp: Timestamp,
}

/// Reads the log above sequence `upto`.
pub(crate) fn scan(folder: &Folder, upto: u64) -> Result<Scan, JournalError> {
    let laps = Laps::read(folder, upto)?;
    let mut scanner = Scanner::new(folder, laps.start(upto));
    if let Some(lost_head) = &laps.lost_head {
        scanner.damage.push(lost_head.clone());
    }
    if scanner.last.seq > upto {
        scanner.lose_start(&laps, upto);
    }
    let mut bytes = vec![0; usize_of(folder.segment_bytes)];
    for header in &laps.headers {
        let path = folder.path(header.ordinal);
        folder.file(header.ordinal).read_at(&mut bytes, 0).map_err(JournalError::io(path))?;
        scanner.enter(header);
        scanner.read(&bytes);
    }
    Ok(scanner.finish(&laps, upto))
}

/// The headers of the laps that may hold frames above the checkpoint, oldest first.
struct Laps {
    headers: Vec<Header>,
    lost_head: Option<Damage>,
}

impl Laps {
    fn read(folder: &Folder, upto: u64) -> Result<Self, JournalError> {
        let mut found = vec![None; folder.files.len()];
        let mut broken = Vec::new();
        for (index, file) in folder.files.iter().enumerate() {
            let path = folder.path_at(index);
            match read_header(file.as_ref()).map_err(JournalError::io(path))? {
                Some(header) if header.ordinal > 0 => found[index] = Some(header),
                Some(_) => {}
                None => broken.push(index),
            }
        }
        let newest = found.iter().flatten().map(|header: &Header| header.ordinal).max();
        // After the newest lap comes the segment that was to be used next: if its header is broken it
        // may have been the newest itself. A header is one sector, so no power cut breaks it.
        let next = newest.map_or(0, |ordinal| segment::index_of(ordinal + 1, folder.segment_count));
        let lost_head = broken.contains(&next).then(|| Damage {
            path: folder.path_at(next),
            offset: 0,
            after: upto,
            resumes: None,
        });
        let mut headers: Vec<Header> = found.into_iter().flatten().collect();
        headers.sort_by_key(|header| header.ordinal);
        let needed = headers.iter().rposition(|header| header.follows <= upto).unwrap_or(0);
        headers.drain(..needed);
        Ok(Self { headers, lost_head })
    }

    /// The frame before the first lap.
    fn start(&self, upto: u64) -> Mark {
        let nothing = Mark { seq: upto, epoch: 0, stamp: Timestamp::MIN };
        self.headers.first().map_or(nothing, before)
    }
}

/// The frame before a lap.
fn before(header: &Header) -> Mark {
    Mark { seq: header.follows, epoch: header.prior_epoch, stamp: header.stamp }
}

/// A stretch without readable frames.
struct Hole {
    index: usize,
    offset: usize,
    after: Mark,
    /// The frame found after it; `None` while none is.
    resumes: Option<u64>,
    /// Runs before it.
    run_count: usize,
}

struct Scanner<'a> {
    folder: &'a Folder,
    header: Option<Header>,
    index: usize,
    last: Mark,
    runs: Vec<Run>,
    /// Where nothing readable follows, so far.
    gap: Option<Hole>,
    /// Holes that frames were found after, but no proof that the missing ones were durable.
    holes: Vec<Hole>,
    damage: Vec<Damage>,
    highest_seq: u64,
    highest_epoch: u64,
}

impl<'a> Scanner<'a> {
    fn new(folder: &'a Folder, last: Mark) -> Self {
        Self {
            folder,
            header: None,
            index: 0,
            last,
            runs: Vec::new(),
            gap: None,
            holes: Vec::new(),
            damage: Vec::new(),
            highest_seq: last.seq,
            highest_epoch: last.epoch,
        }
    }

    /// The oldest readable lap starts above the checkpoint: the one before it is gone.
    fn lose_start(&mut self, laps: &Laps, upto: u64) {
        let ordinal = laps.headers[0].ordinal - 1;
        let resumes = Some(self.last.seq + 1);
        let path = self.folder.path(ordinal);
        self.damage.push(Damage { path, offset: 0, after: upto, resumes });
    }

    /// Goes on to a lap. Its header was written when all frames before it were durable.
    fn enter(&mut self, header: &Header) {
        self.prove(header.follows);
        self.cut();
        if header.follows > self.last.seq {
            let hole = self.hole_before(header);
            self.report(&Hole { resumes: Some(header.follows + 1), ..hole });
            self.last = before(header);
        }
        self.gap = None;
        self.header = Some(*header);
        self.index = segment::index_of(header.ordinal, self.folder.segment_count);
        self.highest_seq = self.highest_seq.max(header.follows);
        self.highest_epoch = self.highest_epoch.max(header.prior_epoch);
    }

    /// Where the frames that should precede a lap are missing.
    fn hole_before(&mut self, header: &Header) -> Hole {
        let previous = self.header.map_or(0, |previous| previous.ordinal);
        if previous + 1 != header.ordinal {
            let index = segment::index_of(previous + 1, self.folder.segment_count);
            return Hole { index, ..self.hole(0) };
        }
        let gap = self.gap.take();
        gap.unwrap_or_else(|| self.hole(usize_of(self.folder.segment_bytes)))
    }

    /// Reads one lap. `following` is true where the next frame of the log is expected, false where
    /// any frame is searched for.
    fn read(&mut self, bytes: &[u8]) {
        let salt = self.header.expect("a lap was entered").salt;
        let mut at = usize_of(HEADER_BYTES);
        let mut following = true;
        while at + ENVELOPE_BYTES <= bytes.len() {
            match Envelope::find(&bytes[at..], salt) {
                Found::Whole(frame) => {
                    self.note(&frame);
                    following = self.take(at, &frame, following);
                    at += frame.frame_len();
                }
                found => {
                    if let Found::Broken(frame) = found {
                        self.note(&frame);
                    }
                    let next_block = at.next_multiple_of(usize_of(BLOCK));
                    if following && at < next_block && is_zero(&bytes[at..next_block]) {
                        at = next_block;
                    } else {
                        following = false;
                        self.open_gap(at);
                        at += FRAME_ALIGN;
                    }
                }
            }
        }
        self.open_gap(at);
    }

    /// Decides on a sound frame; true if it belongs to the log as far as is known.
    fn take(&mut self, at: usize, frame: &Envelope, following: bool) -> bool {
        let next = self.is_next(frame);
        if !next && (frame.epoch < self.last.epoch || frame.seq <= self.last.seq) {
            self.open_gap(at);
            return false;
        }
        let gap = self.gap.take();
        if !next {
            let hole = gap.unwrap_or_else(|| self.hole(at));
            self.holes.push(Hole { resumes: Some(frame.seq), ..hole });
        }
        self.prove(frame.follows);
        let end = at + frame.frame_len();
        match self.runs.last_mut() {
            Some(run) if next && following && run.index == self.index => run.end = end,
            _ => {
                let salt = self.header.expect("a lap was entered").salt;
                self.runs.push(Run { index: self.index, salt, start: at, end });
            }
        }
        self.last = Mark { seq: frame.seq, epoch: frame.epoch, stamp: frame.stamp };
        true
    }

    /// Within an epoch frames count up; an epoch opens with a tick that names the frame before it.
    fn is_next(&self, frame: &Envelope) -> bool {
        let Mark { seq, epoch, .. } = self.last;
        let opens_epoch = frame.epoch > epoch && frame.kind == TICK && frame.follows == seq;
        (frame.epoch == epoch && frame.seq == seq + 1) || (opens_epoch && frame.seq > seq)
    }

    /// Everything up to `follows` was durable: what is missing of it is damage.
    fn prove(&mut self, follows: u64) {
        let proven = self.holes.iter().take_while(|hole| hole.after.seq < follows).count();
        for hole in self.holes.drain(..proven).collect::<Vec<_>>() {
            self.report(&hole);
        }
    }

    /// The log ends at the first hole that nothing proves to be damage.
    fn cut(&mut self) {
        if let Some(hole) = self.holes.drain(..).next() {
            self.runs.truncate(hole.run_count);
            self.last = hole.after;
        }
    }

    fn report(&mut self, hole: &Hole) {
        let path = self.folder.path_at(hole.index);
        let (offset, after) = (hole.offset as u64, hole.after.seq);
        self.damage.push(Damage { path, offset, after, resumes: hole.resumes });
    }

    fn open_gap(&mut self, at: usize) {
        if self.gap.is_none() {
            self.gap = Some(self.hole(at));
        }
    }

    fn hole(&self, offset: usize) -> Hole {
        let run_count = self.runs.len();
        Hole { index: self.index, offset, after: self.last, resumes: None, run_count }
    }

    fn note(&mut self, frame: &Envelope) {
        self.highest_seq = self.highest_seq.max(frame.seq);
        self.highest_epoch = self.highest_epoch.max(frame.epoch);
    }

    fn finish(mut self, laps: &Laps, upto: u64) -> Scan {
        self.cut();
        // What a checkpoint holds is not lost.
        self.damage.retain(|damage| damage.resumes.is_none_or(|resumes| resumes > upto + 1));
        let in_newest = self.runs.last().filter(|run| run.index == self.index);
        let offset = in_newest.map_or(HEADER_BYTES, |run| run.end as u64);
        Scan {
            offset,
            laps: laps_in_use(&laps.headers, self.last.seq, upto),
            salt: self.header.map_or(0, |header| header.salt),
            runs: self.runs,
            damage: self.damage,
            last: self.last,
            highest_seq: self.highest_seq,
            highest_epoch: self.highest_epoch,
        }
    }
}

/// Laps with unreadable headers between others stay in use until a checkpoint has passed them.
fn laps_in_use(headers: &[Header], last_seq: u64, upto: u64) -> VecDeque<Lap> {
    let mut laps = VecDeque::new();
    for (this, next) in headers.iter().zip(headers.iter().skip(1)) {
        let last_seq = next.follows;
        laps.extend((this.ordinal..next.ordinal).map(|ordinal| Lap { ordinal, last_seq }));
    }
    laps.extend(headers.last().map(|header| Lap { ordinal: header.ordinal, last_seq }));
    while laps.len() > 1 && laps.front().is_some_and(|lap| lap.last_seq <= upto) {
        laps.pop_front();
    }
    laps
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
