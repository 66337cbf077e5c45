//! A small fixed program whose instructions are counted: `cargo xtask bench counts`.
//!
//! Each run prepares the same store and then does one thing, or nothing; the difference is what
//! that thing costs. Instructions do not depend on what else the machine does.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rrd::{
    Batch, Column, GrantFrame, GrantRequest, InstanceId, Kind, Labels, NewSeries, OsDisk, Policy,
    RowParts, Rows, RowsWanted, Sample, SampleFrame, SeriesRef, Span, Store, Timestamp,
};

const INSTANCE: InstanceId = InstanceId(1);
const SERIES_COUNT: usize = 100;
/// Midnight UTC.
const START: Timestamp = Timestamp::from_secs(1_767_225_600);
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// A day and an hour, so that 24 hours can be read and the newest tile is not a whole one.
const READY_MINUTES: i64 = 1500;
/// 100,000 samples are applied.
const APPLIED_MINUTES: i64 = 1000;
const READS: usize = 20;

fn main() -> ExitCode {
    let outcome = run();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let said = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("counts: {error:#}\n").as_bytes(),
            );
            if said.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().context("name what to do")?;
    let folder = arguments.next().context("name an empty folder")?;
    let prepared = Prepared::new(Path::new(&folder))?;
    match case.as_str() {
        "nothing" => Ok(()),
        "apply" => prepared.apply(),
        "round" => prepared.round(),
        "read" => prepared.read(),
        "aggregate" => prepared.aggregate(),
        other => bail!("nothing is called {other}"),
    }
}

/// A store of one instance with rows in its file, some waiting, and frames to come.
struct Prepared {
    store: Store,
    columns: Vec<Column>,
    frames: Vec<SampleFrame>,
    seq: u64,
}

impl Prepared {
    fn new(folder: &Path) -> Result<Self> {
        let (store, damage) = Store::open(Arc::new(OsDisk), folder, 0)?;
        ensure!(damage.is_empty(), "a new store is damaged: {damage:?}");
        let columns = grant(&store)?;
        let mut seq = 1;
        for minute in 1..=READY_MINUTES {
            seq += 1;
            store.apply(seq, moment(minute), &frame(&columns, minute));
            if minute == READY_MINUTES - 1 {
                write_round(&store, seq)?;
            }
        }
        let later = READY_MINUTES + 1..=READY_MINUTES + APPLIED_MINUTES;
        let frames = later.map(|minute| frame(&columns, minute)).collect();
        Ok(Self { store, columns, frames, seq })
    }

    fn apply(self) -> Result<()> {
        for (number, frame) in (1..).zip(&self.frames) {
            let verdicts = self.store.apply(
                self.seq + number,
                moment(READY_MINUTES + number.cast_signed()),
                frame,
            );
            ensure!(verdicts.stored == SERIES_COUNT as u64, "not all stored: {verdicts:?}");
        }
        Ok(())
    }

    /// One minute of rows waits.
    fn round(self) -> Result<()> {
        write_round(&self.store, self.seq)
    }

    fn read(self) -> Result<()> {
        for number in 0..READS {
            let rows = self.store.rows(self.series(number), 0, last_day()?);
            ensure!(rows.len() == 1440, "{} rows of a day", rows.len());
        }
        Ok(())
    }

    fn aggregate(self) -> Result<()> {
        let mut sums = vec![0.0; 288];
        let mut rows = Rows::default();
        for number in 0..SERIES_COUNT {
            let (series, parts) = (self.series(number), RowParts::Averages);
            let wanted =
                RowsWanted { series, archive: 1, span: last_day()?, parts, every: NonZeroU32::MIN };
            self.store.rows_into(&mut rows, wanted);
            ensure!(rows.len() == 288, "{} rows of a day", rows.len());
            for (sum, value) in sums.iter_mut().zip(&rows.average) {
                *sum += value;
            }
        }
        ensure!(sums.iter().all(|sum: &f64| sum.is_finite()), "an unknown row");
        Ok(())
    }

    fn series(&self, number: usize) -> SeriesRef {
        SeriesRef { instance: INSTANCE, column: self.columns[number] }
    }
}

fn grant(store: &Store) -> Result<Vec<Column>> {
    let series = (0..SERIES_COUNT).map(|number| {
        let number = number.to_string();
        let labels = Labels::from_pairs([(rrd::NAME, "counts"), ("number", number.as_str())])?;
        Ok(NewSeries { labels, kind: Kind::Gauge, first_reading: None })
    });
    let series: Vec<NewSeries> = series.collect::<Result<_>>()?;
    let policy = Policy::parse(Policy::DEFAULT)?;
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

fn frame(columns: &[Column], minute: i64) -> SampleFrame {
    let at = moment(minute);
    let sample = |(series, column): (usize, &Column)| Sample {
        column: *column,
        at,
        value: value(series, minute),
    };
    let samples = columns.iter().enumerate().map(sample).collect();
    SampleFrame { instance: INSTANCE, batch: Batch::default(), samples }
}

fn write_round(store: &Store, seq: u64) -> Result<()> {
    let report = store.begin_round(seq, 1).write();
    ensure!(report.failed.is_empty(), "a round failed: {:?}", report.failed);
    store.finish_round(seq);
    Ok(())
}

fn moment(minute: i64) -> Timestamp {
    START.plus_millis(minute * MINUTE_MS)
}

fn last_day() -> Result<Span> {
    let end = moment(READY_MINUTES);
    Span::new(end.plus_millis(-DAY_MS), end).context("a day ends after it starts")
}

/// Whole and broken numbers, never the same twice in a row.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn value(series: usize, minute: i64) -> f64 {
    (series as f64).mul_add(7919.0, minute as f64 * 104_729.0) % 1009.0 / 8.0
}
