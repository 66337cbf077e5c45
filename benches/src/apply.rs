//! Applying samples of known columns, in order, in process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rrd::{
    Batch, Column, GrantFrame, GrantRequest, InstanceId, Kind, Labels, NewSeries, OsDisk, Sample,
    SampleFrame, SeriesRef, Store,
};

use crate::data::{self, STEP_SECS, moment, value};
use crate::meter::{processor_time, rate};
use crate::peer::Rrdtool;
use crate::table::{Table, Theirs};

const SERIES_COUNT: usize = 1000;
/// A day and a half, so that 24 hours can be read back.
const STEP_COUNT: i64 = 2160;
/// A round each hour of data; its time is not the worker's.
const ROUND_STEPS: i64 = 60;
/// rrdtool gets fewer: its rate does not depend on how long it goes on.
const PEER_STEPS: i64 = 20;
const INSTANCE: InstanceId = InstanceId(1);

/// The store that was filled.
pub(crate) struct Applied {
    pub(crate) store: Store,
    pub(crate) columns: Vec<Column>,
}

impl Applied {
    pub(crate) fn series(&self, number: usize) -> SeriesRef {
        SeriesRef { instance: INSTANCE, column: self.columns[number % self.columns.len()] }
    }

    /// The newest moment in it.
    pub(crate) const fn end() -> rrd::Timestamp {
        data::START.plus_millis(STEP_COUNT * STEP_SECS * 1000)
    }
}

pub(crate) fn run(
    scratch: &Path,
    peer: Option<&mut Rrdtool>,
    table: &mut Table,
) -> Result<Applied> {
    let (store, damage) = Store::open(Arc::new(OsDisk), &scratch.join("apply"), 0)?;
    anyhow::ensure!(damage.is_empty(), "a new store is damaged: {damage:?}");
    let columns = grant(&store)?;
    let time = fill(&store, &columns)?;
    let count = SERIES_COUNT as u64 * STEP_COUNT.unsigned_abs();
    let ours = rate(count, time);
    let theirs = match peer {
        None => Theirs::NotRun,
        Some(peer) => {
            let theirs = fill_peer(peer)?;
            Theirs::Measured { figure: millions(theirs), ratio: ours / theirs }
        }
    };
    let note = "in process, 1,000 series x 2,160 minutes in order, resolved columns; \
                rrdtool: 1,000 files x 20 minutes, update by pipe, a call each";
    table.add("apply, samples a CPU second", millions(ours), theirs, note);
    Ok(Applied { store, columns })
}

fn millions(rate: f64) -> String {
    format!("{:.3} M/s", rate / 1e6)
}

fn grant(store: &Store) -> Result<Vec<Column>> {
    let series: Vec<NewSeries> = (0..SERIES_COUNT).map(new_series).collect::<Result<_>>()?;
    let policy = data::policy();
    let labels = Labels::default();
    let request =
        GrantRequest { instance: INSTANCE, policy: &policy, labels: &labels, series: &series };
    let mut granted: Option<GrantFrame> = None;
    let mut keep = |frame: &GrantFrame| {
        granted = Some(frame.clone());
        Ok::<u64, std::convert::Infallible>(1)
    };
    let columns = store.grant(request, &mut keep).map_err(|error| anyhow!("{error}"))?;
    store.apply_grant(1, &granted.context("a grant makes a frame")?)?;
    columns.into_iter().map(|column| column.map_err(|refusal| anyhow!("{refusal:?}"))).collect()
}

fn new_series(number: usize) -> Result<NewSeries> {
    let number = number.to_string();
    let labels = Labels::from_pairs([(rrd::NAME, "bench"), ("number", number.as_str())])?;
    Ok(NewSeries { labels, kind: Kind::Gauge, first_reading: None })
}

/// Processor time of `apply` alone: on a busy machine the wall would measure the others.
fn fill(store: &Store, columns: &[Column]) -> Result<Duration> {
    let mut total = Duration::ZERO;
    let mut seq = 1;
    for step in 1..=STEP_COUNT {
        let at = moment(step);
        let samples = columns
            .iter()
            .enumerate()
            .map(|(series, column)| Sample { column: *column, at, value: value(series, step) })
            .collect();
        let frame = SampleFrame { instance: INSTANCE, batch: Batch::default(), samples };
        seq += 1;
        let before = processor_time();
        let verdicts = store.apply(seq, at, &frame);
        total += processor_time().saturating_sub(before);
        anyhow::ensure!(verdicts.stored == SERIES_COUNT as u64, "not all stored: {verdicts:?}");
        if step % ROUND_STEPS == 0 {
            let report = store.begin_round(seq, 1).write();
            anyhow::ensure!(report.failed.is_empty(), "a round failed: {:?}", report.failed);
            store.finish_round(seq);
        }
    }
    Ok(total)
}

/// The same archives, and all of rrdtool's functions that ours keep.
fn fill_peer(peer: &mut Rrdtool) -> Result<f64> {
    for series in 0..SERIES_COUNT {
        peer.run(&create(&format!("{series}.rrd")))?;
    }
    let before = peer.processor_time()?;
    for step in 1..=PEER_STEPS {
        let at = moment(step).as_millis() / 1000;
        for series in 0..SERIES_COUNT {
            peer.run(&format!("update {series}.rrd {at}:{}", value(series, step)))?;
        }
    }
    let time = peer.processor_time()?.saturating_sub(before);
    Ok(rate(SERIES_COUNT as u64 * PEER_STEPS.unsigned_abs(), time))
}

/// The command that makes an rrdtool file like one of our series.
pub(crate) fn create(file: &str) -> String {
    let start = data::START.as_millis() / 1000;
    let coarse: String = ["AVERAGE", "MIN", "MAX"]
        .map(|cf| format!(" RRA:{cf}:0.5:5:4032 RRA:{cf}:0.5:60:2160 RRA:{cf}:0.5:1440:1825"))
        .concat();
    format!(
        "create {file} --start {start} --step {STEP_SECS} DS:v:GAUGE:300:U:U \
         RRA:AVERAGE:0.5:1:2880{coarse}"
    )
}
