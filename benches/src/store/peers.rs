//! rrdtool by its pipe and rrdcached by its socket, with the same archives.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::apply::create;
use crate::cached::Rrdcached;
use crate::data::{moment, value};
use crate::meter::{Wall, rate, timed};
use crate::peer::Rrdtool;
use crate::read;

/// Enough for steady rates; a million files would need 200 GB.
const FILES: u32 = 1000;
/// Minutes with a sync of all files after each, to count what is written.
const SYNCED_STEPS: i64 = 3;
const STEPS: i64 = 20;
/// Values that rrdcached gathers for a file.
const CACHED_STEPS: i64 = 60;
const FETCHED_FILES: usize = 100;

/// What rrdtool does.
pub(crate) struct Tool {
    /// Files a second.
    pub(crate) creates: f64,
    /// Updates a CPU second.
    pub(crate) updates: f64,
    pub(crate) file_len: u64,
    pub(crate) written: f64,
    pub(crate) read_warm: Duration,
    pub(crate) aggregate: Duration,
}

/// What rrdcached does.
pub(crate) struct Cached {
    /// Updates a second, accepted.
    pub(crate) accepted: f64,
    /// Updates a second, written to the files.
    pub(crate) flushed: f64,
    pub(crate) written: f64,
}

pub(crate) fn measure_tool(folder: &Path) -> Result<Option<Tool>> {
    let Some(mut peer) = Rrdtool::start(folder)? else { return Ok(None) };
    let wall = Wall::start();
    create_files(&mut peer)?;
    let creates = rate(u64::from(FILES), wall.elapsed());
    let file_len = std::fs::metadata(folder.join("0.rrd"))?.len();
    let before = peer.processor_time()?;
    update(&mut peer, 1..=STEPS)?;
    let updates = rate(
        u64::from(FILES) * STEPS.unsigned_abs(),
        peer.processor_time()?.saturating_sub(before),
    );
    sync(folder)?;
    let written = peer.process().written()?;
    for step in STEPS + 1..=STEPS + SYNCED_STEPS {
        update(&mut peer, step..=step)?;
        sync(folder)?;
    }
    let written = per_sample(peer.process().written()? - written, SYNCED_STEPS);
    let read_warm = read::read_peer(&mut peer)?;
    let aggregate = aggregate(&mut peer)?;
    Ok(Some(Tool { creates, updates, file_len, written, read_warm, aggregate }))
}

pub(crate) fn measure_cached(folder: &Path) -> Result<Option<Cached>> {
    let Some(mut tool) = Rrdtool::start(folder)? else { return Ok(None) };
    create_files(&mut tool)?;
    drop(tool);
    let Some(mut cached) = Rrdcached::start(folder)? else { return Ok(None) };
    sync(folder)?;
    let written = cached.process().written()?;
    let before = cached.process().processor_time()?;
    for step in 1..=CACHED_STEPS {
        cached.batch(&batch(step))?;
    }
    let accepted = cached.process().processor_time()?.saturating_sub(before);
    for file in 0..FILES {
        cached.flush(&format!("{file}.rrd"))?;
    }
    let flushed = cached.process().processor_time()?.saturating_sub(before);
    sync(folder)?;
    let count = u64::from(FILES) * CACHED_STEPS.unsigned_abs();
    Ok(Some(Cached {
        accepted: rate(count, accepted),
        flushed: rate(count, flushed),
        written: per_sample(cached.process().written()? - written, CACHED_STEPS),
    }))
}

fn create_files(peer: &mut Rrdtool) -> Result<()> {
    (0..FILES).try_for_each(|file| peer.run(&create(&format!("{file}.rrd"))).map(drop))
}

fn update(peer: &mut Rrdtool, steps: std::ops::RangeInclusive<i64>) -> Result<()> {
    for step in steps {
        let at = moment(step).as_millis() / 1000;
        for file in 0..FILES {
            peer.run(&format!("update {file}.rrd {at}:{}", value(file as usize, step)))?;
        }
    }
    Ok(())
}

fn batch(step: i64) -> String {
    let at = moment(step).as_millis() / 1000;
    let mut commands = String::new();
    for file in 0..FILES {
        let value = value(file as usize, step);
        writeln!(commands, "UPDATE {file}.rrd {at}:{value}").expect("a string takes all");
    }
    commands
}

/// As a minute between two readings would: the kernel writes what is dirty.
fn sync(folder: &Path) -> Result<()> {
    for file in 0..FILES {
        File::open(folder.join(format!("{file}.rrd")))?.sync_data()?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure to three digits")]
fn per_sample(bytes: u64, steps: i64) -> f64 {
    bytes as f64 / f64::from(FILES) / steps as f64
}

/// A day of five-minute rows of 2,000 series: each of some files is read over and over.
fn aggregate(peer: &mut Rrdtool) -> Result<Duration> {
    for file in 0..FETCHED_FILES {
        read::fill(peer, &format!("fetch{file}.rrd"), file)?;
    }
    let (start, end) = (moment(5).as_millis() / 1000, moment(1440).as_millis() / 1000);
    let (outcome, time) = timed(|| -> Result<()> {
        for number in 0..super::fleet::INSTANCES as usize {
            let file = number % FETCHED_FILES;
            peer.run(&format!("fetch fetch{file}.rrd AVERAGE -r 300 -s {start} -e {}", end - 1))?;
        }
        Ok(())
    });
    outcome?;
    Ok(time)
}
