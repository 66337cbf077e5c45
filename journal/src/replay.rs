//! Replay: the frames above the checkpoint, read one stretch of a segment at a time.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Damage, JournalError};
use crate::frame::{ENVELOPE_BYTES, Envelope, Found, Frame};
use crate::record::Record;
use crate::scan::Run;
use crate::segment::{BLOCK, usize_of};
use crate::setup::Folder;

/// What a start finds in the journal.
#[derive(Debug)]
pub struct Recovery {
    /// The last finished checkpoint; the default if there is none.
    pub checkpoint: Record,
    /// The frames after it, all durable.
    pub frames: Frames,
    /// Acknowledged frames that are lost. Empty unless the disk changed bytes after they were synced.
    pub damage: Vec<Damage>,
}

/// An iterator over frames. It reads a segment's stretch at once and holds no more than that.
pub struct Frames {
    folder: Arc<Folder>,
    upto: u64,
    runs: std::vec::IntoIter<Run>,
    current: Option<Stretch>,
}

struct Stretch {
    bytes: Bytes,
    salt: u64,
    /// Where in the segment the bytes start: padding ends on blocks of the segment.
    base: usize,
    at: usize,
}

impl Frames {
    pub(crate) fn new(folder: Arc<Folder>, upto: u64, runs: Vec<Run>) -> Self {
        Self { folder, upto, runs: runs.into_iter(), current: None }
    }

    fn load(&self, run: &Run) -> Result<Stretch, JournalError> {
        let mut bytes = vec![0; run.end - run.start];
        let read = self.folder.files[run.index].read_at(&mut bytes, run.start as u64);
        read.map_err(JournalError::io(self.folder.path_at(run.index)))?;
        Ok(Stretch { bytes: bytes.into(), salt: run.salt, base: run.start, at: 0 })
    }
}

impl Stretch {
    fn next(&mut self) -> Option<Frame> {
        while self.at + ENVELOPE_BYTES <= self.bytes.len() {
            if let Found::Whole(found) = Envelope::find(&self.bytes[self.at..], self.salt) {
                let start = self.at + ENVELOPE_BYTES;
                let body = self.bytes.slice(start..start + found.body_len);
                self.at += found.frame_len();
                return Some(Frame { seq: found.seq, stamp: found.stamp, kind: found.kind, body });
            }
            self.at = (self.base + self.at + 1).next_multiple_of(usize_of(BLOCK)) - self.base;
        }
        None
    }
}

impl Iterator for Frames {
    type Item = Result<Frame, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(frame) = self.current.as_mut().and_then(Stretch::next) {
                if frame.seq > self.upto {
                    return Some(Ok(frame));
                }
            }
            let run = self.runs.next()?;
            match self.load(&run) {
                Ok(stretch) => self.current = Some(stretch),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames").field("upto", &self.upto).finish_non_exhaustive()
    }
}
