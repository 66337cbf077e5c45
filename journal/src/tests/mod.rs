//! The journal's rules, one test each, on a disk in memory that fails as told.

mod crash;
mod durability;
mod random;
mod recovery;
mod relaxed;
mod room;
mod rot;
mod space;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rrd::disk::MemDisk;
use rrd::{Disk, ManualClock, Timestamp};

use crate::{Config, Damage, Frame, Journal, JournalError, Record, TICK};

const DIR: &str = "/data/journal";
const SEGMENT: u64 = 64 << 10;
/// Long enough that only a deadlock reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> Config {
    Config {
        segment_bytes: SEGMENT,
        segment_count: 4,
        commit_delay: Duration::ZERO,
        ..Config::default()
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_000)))
}

/// An open journal and what its start found.
struct Opened {
    journal: Journal,
    frames: Vec<Frame>,
    damage: Vec<Damage>,
    checkpoint: Record,
}

fn try_open(disk: &MemDisk, config: Config) -> Result<Opened, JournalError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (journal, found) = Journal::open(disk, Path::new(DIR), config, clock())?;
    let frames = found.frames.collect::<Result<_, _>>()?;
    let (damage, checkpoint) = (found.damage, found.checkpoint);
    Ok(Opened { journal, frames, damage, checkpoint })
}

#[track_caller]
fn open(disk: &MemDisk) -> Opened {
    try_open(disk, config()).unwrap()
}

impl Opened {
    /// The bodies found at the start, without ticks.
    fn bodies(&self) -> Vec<&[u8]> {
        bodies(&self.frames)
    }

    #[track_caller]
    fn append_durably(&self, body: &[u8]) -> u64 {
        let seq = self.journal.append(1, body).unwrap();
        self.journal.wait_durable(seq).unwrap();
        seq
    }
}

fn bodies(frames: &[Frame]) -> Vec<&[u8]> {
    frames.iter().filter(|frame| frame.kind != TICK).map(|frame| &frame.body[..]).collect()
}

/// Everything committed so far, read as the worker does.
fn read_all(journal: &Journal) -> Vec<Frame> {
    let committed = journal.stats().committed;
    let mut frames = Vec::new();
    while journal.stats().unread_bytes > 0 {
        frames.extend(journal.next(PATIENCE));
    }
    assert!(frames.last().is_none_or(|frame| frame.seq >= committed));
    frames
}

fn record(seq: u64, epoch: u64) -> Record {
    Record { seq, epoch, excepted: Vec::new() }
}

fn segment(index: u32) -> PathBuf {
    crate::segment::path(Path::new(DIR), index)
}

/// Where `body` stands in segment `index`; its frame starts an envelope earlier.
#[track_caller]
fn find(disk: &MemDisk, index: u32, body: &[u8]) -> u64 {
    let file = disk.open(&segment(index)).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    let at = bytes.windows(body.len()).position(|window| window == body);
    at.expect("the body is in the segment") as u64
}

/// Changes a byte behind everybody's back, as a failing disk does.
#[track_caller]
fn rot(disk: &MemDisk, index: u32, offset: u64) {
    let file = disk.open(&segment(index)).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, offset).unwrap();
    file.write_at(&[byte[0] ^ 0xFF], offset).unwrap();
    file.sync_data().unwrap();
}
