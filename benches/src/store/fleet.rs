//! Reading: a fleet of instances with a day and more of one-minute rows, warm and cold.

use std::num::NonZeroU32;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rrd::disk::{WatchedDisk, Watcher};
use rrd::parallel::in_pieces;
use rrd::{
    Batch, Column, Disk, GrantFrame, GrantRequest, InstanceId, Kind, Labels, NewSeries, OsDisk,
    RowParts, Rows, RowsWanted, Sample, SampleFrame, SeriesRef, Span, Store,
};

use crate::cold;
use crate::data::{self, moment, value};
use crate::meter::{median, timed};

pub(crate) const INSTANCES: u32 = 2000;
/// A day, and half an hour, so that the day does not begin with a tile.
const STEPS: i64 = 1470;
const ROUND_STEPS: i64 = 360;
const DAY_MS: i64 = 86_400_000;
const READS: u32 = 1001;
/// So few that their files stay open where nothing is mapped.
const OPEN_INSTANCES: u32 = 200;
const AGGREGATES: u32 = 21;
/// Instances that a thread averages before it asks for more.
const PIECE: usize = 64;

/// Times of one read, and of one aggregate over all instances.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) read_warm: Duration,
    pub(crate) read_cold: Duration,
    pub(crate) aggregate_warm: Duration,
    pub(crate) aggregate_cold: Duration,
    /// The same without maps.
    pub(crate) read_pread: Duration,
    pub(crate) aggregate_pread: Duration,
}

/// Files in somebody's hands cannot be mapped, so that the store reads them by `pread`.
struct Unmapped;

impl Watcher for Unmapped {}

pub(crate) fn measure(folder: &Path) -> Result<Times> {
    let seq = fill(folder)?;
    let mapped: Arc<dyn Disk> = Arc::new(OsDisk);
    let store = cold_store(folder, seq, &mapped)?;
    let (first, aggregate_cold) = timed(|| aggregate(&store));
    first?;
    let aggregate_warm = aggregates(&store)?;
    drop(store);
    let store = cold_store(folder, seq, &mapped)?;
    let (read_cold, read_warm) = (reads(&store, INSTANCES)?, reads(&store, OPEN_INSTANCES)?);
    drop(store);
    let unmapped: Arc<dyn Disk> = Arc::new(WatchedDisk::new(OsDisk, Arc::new(Unmapped)));
    let store = cold_store(folder, seq, &unmapped)?;
    aggregate(&store)?;
    let aggregate_pread = aggregates(&store)?;
    let read_pread = reads(&store, OPEN_INSTANCES)?;
    Ok(Times { read_warm, read_cold, aggregate_warm, aggregate_cold, read_pread, aggregate_pread })
}

fn reads(store: &Store, instances: u32) -> Result<Duration> {
    let mut times = Vec::new();
    for number in 0..READS {
        let (rows, time) = timed(|| store.rows(series(number % instances), 0, day()));
        ensure!(rows.average.iter().filter(|v| v.is_finite()).count() == 1440, "unknown rows");
        times.push(time);
    }
    Ok(median(times))
}

fn aggregates(store: &Store) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..AGGREGATES {
        let (sum, time) = timed(|| aggregate(store));
        sum?;
        times.push(time);
    }
    Ok(median(times))
}

fn day() -> Span {
    let end = moment(STEPS);
    Span::new(end.plus_millis(-DAY_MS), end).expect("a day ends after it starts")
}

fn series(instance: u32) -> SeriesRef {
    SeriesRef { instance: id(instance), column: Column { index: 0, generation: 1 } }
}

fn id(instance: u32) -> InstanceId {
    InstanceId(u128::from(instance) + 1)
}

/// Sums and counts of each five minutes of a day.
struct Sums {
    sums: [f64; 288],
    counts: [u32; 288],
}

/// The average of all instances, in each five minutes of a day, on all processors.
fn aggregate(store: &Store) -> Result<Vec<f64>> {
    let pieces = in_pieces(INSTANCES as usize, PIECE, |range| sums(store, range));
    let mut all = Sums { sums: [0.0; 288], counts: [0; 288] };
    for piece in pieces {
        let Sums { sums, counts } = piece?;
        all.sums.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
        all.counts.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
    }
    ensure!(all.counts == [INSTANCES; 288], "unknown rows");
    Ok(all.sums.iter().zip(all.counts).map(|(sum, count)| sum / f64::from(count)).collect())
}

fn sums(store: &Store, instances: Range<usize>) -> Result<Sums> {
    let Sums { mut sums, mut counts } = Sums { sums: [0.0; 288], counts: [0; 288] };
    let mut rows = Rows::default();
    for instance in instances {
        let series = series(u32::try_from(instance)?);
        let (parts, every) = (RowParts::Averages, NonZeroU32::MIN);
        store.rows_into(&mut rows, RowsWanted { series, archive: 1, span: day(), parts, every });
        ensure!(rows.len() == 288, "{} rows of a day", rows.len());
        for ((sum, count), value) in sums.iter_mut().zip(&mut counts).zip(&rows.average) {
            let is_known = value.is_finite();
            *sum += if is_known { *value } else { 0.0 };
            *count += u32::from(is_known);
        }
    }
    Ok(Sums { sums, counts })
}

/// Opened again after the page cache has lost its files.
fn cold_store(folder: &Path, seq: u64, disk: &Arc<dyn Disk>) -> Result<Store> {
    cold::drop_pages(folder)?;
    let (store, damage) = Store::open(Arc::clone(disk), folder, seq)?;
    ensure!(damage.is_empty(), "archives are damaged: {damage:?}");
    Ok(store)
}

fn fill(folder: &Path) -> Result<u64> {
    let (store, _) = Store::open(Arc::new(OsDisk), folder, 0)?;
    let mut seq = 0;
    for instance in 0..INSTANCES {
        seq += 1;
        grant(&store, instance, seq)?;
    }
    for step in 1..=STEPS {
        for instance in 0..INSTANCES {
            seq += 1;
            let value = value(instance as usize, step);
            let sample = Sample { column: series(instance).column, at: moment(step), value };
            let (instance, batch) = (id(instance), Batch::default());
            let frame = SampleFrame { instance, batch, samples: vec![sample] };
            ensure!(store.apply(seq, moment(step), &frame).stored == 1, "a sample was not stored");
        }
        if step % ROUND_STEPS == 0 || step == STEPS {
            let report = store.begin_round(seq, 1).write();
            ensure!(report.failed.is_empty(), "a round failed: {:?}", report.failed);
            store.finish_round(seq);
        }
    }
    Ok(seq)
}

fn grant(store: &Store, instance: u32, seq: u64) -> Result<()> {
    let labels = Labels::from_pairs([(rrd::NAME, "bench")])?;
    let series = [NewSeries { labels, kind: Kind::Gauge, first_reading: None }];
    let (policy, labels) = (data::policy(), Labels::default());
    let request =
        GrantRequest { instance: id(instance), policy: &policy, labels: &labels, series: &series };
    let mut granted: Option<GrantFrame> = None;
    let mut keep = |frame: &GrantFrame| {
        granted = Some(frame.clone());
        Ok::<u64, std::convert::Infallible>(seq)
    };
    store.grant(request, &mut keep).map_err(|error| anyhow!("{error}"))?;
    Ok(store.apply_grant(seq, &granted.context("a grant makes a frame")?)?)
}
