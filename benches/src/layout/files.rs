//! Files of one layout, and what rounds and reads of them cost.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rustix::fs::{Advice, fadvise};

use super::plan::{COARSE_ROWS, FINE_ROWS, Plan, usize_of};
use crate::cold;
use crate::meter::{Wall, median, timed};
use crate::procfs::Process;

/// Writes this near are joined, the bytes between them read first, as the store does it.
const NEAR: u64 = 4096;
const ROUNDS: u64 = 5;
const READS: u32 = 101;
const AGGREGATES: u32 = 5;

/// What one layout costs.
pub(super) struct Measured {
    /// Bytes a round, as the kernel counts them.
    pub(super) written: u64,
    pub(super) round: Duration,
    /// A day of minutes of one series.
    pub(super) day_warm: Duration,
    pub(super) day_cold: Duration,
    /// A day of five minutes of one series.
    pub(super) coarse_warm: Duration,
    /// A day of five minutes of one series of each file.
    pub(super) all_warm: Duration,
    pub(super) all_cold: Duration,
}

/// Files that are full.
pub(super) struct Files {
    folder: PathBuf,
    plan: Plan,
    count: u32,
    columns: u64,
}

impl Files {
    pub(super) fn make(folder: &Path, plan: Plan, count: u32, columns: u64) -> Result<Self> {
        let content: Vec<u8> = (1..=251).cycle().take(usize_of(plan.file_len(columns))).collect();
        let files = Self { folder: folder.to_owned(), plan, count, columns };
        for number in 0..count {
            File::create(files.path(number))?.write_all_at(&content, 0)?;
        }
        cold::drop_pages(folder)?; // Written and synced: what rounds write is counted alone.
        Ok(files)
    }

    pub(super) fn measure(&self) -> Result<Measured> {
        let (written, round) = self.rounds()?;
        let column = self.columns / 2;
        let (day, coarse) = (self.plan.fine_day(column), self.plan.coarse_day(column));
        cold::drop_pages(&self.folder)?;
        let day_cold = if self.count > 1 { self.read_some(&day)? } else { self.read_anew(&day)? };
        let day_warm = self.read_some(&day)?;
        cold::drop_pages(&self.folder)?;
        let all_cold = self.read_all(&coarse)?;
        let times: Result<Vec<_>> = (0..AGGREGATES).map(|_| self.read_all(&coarse)).collect();
        let coarse_warm = self.read_some(&coarse)?;
        let all_warm = median(times?);
        Ok(Measured { written, round, day_warm, day_cold, coarse_warm, all_warm, all_cold })
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.join(number.to_string())
    }

    /// As the store maps files: without reading ahead.
    fn open(&self, number: u32) -> Result<File> {
        let file = File::options().read(true).write(true).open(self.path(number))?;
        fadvise(&file, 0, None, Advice::Random)?;
        Ok(file)
    }

    /// Bytes and time of one round, the mean of some.
    fn rounds(&self) -> Result<(u64, Duration)> {
        let (before, wall) = (Process::Own.written()?, Wall::start());
        for minute in 0..ROUNDS {
            let cells = self.cells(minute);
            for number in 0..self.count {
                write(&self.open(number)?, &cells)?;
            }
        }
        let time = wall.elapsed() / u32::try_from(ROUNDS)?;
        Ok(((Process::Own.written()? - before) / ROUNDS, time))
    }

    /// All cells that close with a minute, in order of their places.
    fn cells(&self, minute: u64) -> Vec<Range<u64>> {
        let row = FINE_ROWS / 2 + minute;
        let mut cells: Vec<_> = (0..self.columns).map(|c| self.plan.fine(row, c)).collect();
        if minute == ROUNDS - 1 {
            let row = COARSE_ROWS / 2;
            cells.extend((0..self.columns).flat_map(|c| self.plan.coarse(row, c)));
        }
        cells.sort_unstable_by_key(|cell| cell.start);
        cells
    }

    /// The middle time of reading these bytes from some files.
    fn read_some(&self, ranges: &[Range<u64>]) -> Result<Duration> {
        let mut times = Vec::new();
        for read in 0..READS {
            let file = self.open(read * 19 % self.count)?;
            let (outcome, time) = timed(|| read_ranges(&file, ranges));
            outcome?;
            times.push(time);
        }
        Ok(median(times))
    }

    /// The same of one file, which is cold each time.
    fn read_anew(&self, ranges: &[Range<u64>]) -> Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..AGGREGATES {
            cold::drop_pages(&self.folder)?;
            let file = self.open(0)?;
            let (outcome, time) = timed(|| read_ranges(&file, ranges));
            outcome?;
            times.push(time);
        }
        Ok(median(times))
    }

    fn read_all(&self, ranges: &[Range<u64>]) -> Result<Duration> {
        let wall = Wall::start();
        for number in 0..self.count {
            read_ranges(&self.open(number)?, ranges)?;
        }
        Ok(wall.elapsed())
    }
}

fn read_ranges(file: &File, ranges: &[Range<u64>]) -> Result<()> {
    let longest = ranges.iter().map(|range| range.end - range.start).max().unwrap_or_default();
    let mut buffer = vec![0; usize_of(longest)];
    for range in ranges {
        file.read_exact_at(&mut buffer[..usize_of(range.end - range.start)], range.start)?;
    }
    Ok(())
}

/// Near cells in one write, and one sync for the file.
fn write(file: &File, cells: &[Range<u64>]) -> Result<()> {
    for near in cells.chunk_by(|a, b| b.start <= a.end + NEAR) {
        let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
        let mut buffer = vec![0; usize_of(last.end - first.start)];
        file.read_exact_at(&mut buffer, first.start)?;
        for cell in near {
            let at = usize_of(cell.start - first.start);
            buffer[at..at + usize_of(cell.end - cell.start)].fill(7);
        }
        file.write_all_at(&buffer, first.start)?;
    }
    Ok(file.sync_data()?)
}
