//! The promise of fixed size: three simulated years of mixed load, a file of the same bytes.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use rrd::{
    Batch, Column, GrantFrame, GrantRequest, InstanceChange, InstanceId, Kind, Labels, NewSeries,
    OsDisk, Policy, Sample, SampleFrame, Store, Timestamp,
};

use crate::cold;
use crate::data::{moment, value};
use crate::store::order::Chance;

const INSTANCE: InstanceId = InstanceId(1);
/// As the default, but for the days: three years shall be more than a lap of every ring.
pub(crate) const POLICY: &str = "1m:2d,5m:14d,1h:90d,1d:2y";
const MINUTES: i64 = 3 * 365 * 1440;
/// A file is synced for each round; one in six hours writes as many rows as one a minute.
const ROUND_MINUTES: i64 = 360;
const RESTART_MINUTES: i64 = 10 * 1440;
const GOODBYE_MINUTES: i64 = 31 * 1440;
const LONGEST_GAP_MINUTES: u64 = 3 * 1440;
/// A gap begins in one of so many minutes.
const GAP_CHANCE: u64 = 20_000;

/// What was seen of the file.
pub(crate) struct Seen {
    /// Bytes when it was made.
    pub(crate) begun: u64,
    /// The most by which its length was ever another.
    pub(crate) differed: u64,
    /// What it takes on the disk at the end.
    pub(crate) taken: u64,
    pub(crate) samples: u64,
    pub(crate) gaps: u64,
    pub(crate) rounds: u64,
    pub(crate) restarts: u64,
    pub(crate) goodbyes: u64,
}

pub(crate) fn measure(folder: &Path) -> Result<Seen> {
    let mut life = Life::begin(folder)?;
    let mut chance = Chance::new(1);
    let mut minute = 1;
    while minute <= MINUTES {
        if chance.below(GAP_CHANCE) == 0 {
            minute += i64::try_from(chance.below(LONGEST_GAP_MINUTES)).unwrap_or_default();
            life.seen.gaps += 1;
        }
        life.read(minute)?;
        let is_due = |every: i64| minute % every == 0;
        if is_due(GOODBYE_MINUTES) {
            life.say_goodbye(minute)?;
        }
        if is_due(ROUND_MINUTES) {
            life.round(folder)?;
        }
        if is_due(RESTART_MINUTES) {
            life.restart(folder)?;
        }
        minute += 1;
    }
    life.round(folder)?;
    life.seen.taken = cold::sizes(folder)?.1;
    Ok(life.seen)
}

struct Life {
    store: Store,
    seq: u64,
    labels: Labels,
    seen: Seen,
}

/// Two gauges and two counters.
const KINDS: [Kind; 4] = [Kind::Gauge, Kind::Gauge, Kind::Counter, Kind::Total];

impl Life {
    fn begin(folder: &Path) -> Result<Self> {
        let store = open(folder, 0)?;
        let labels = Labels::from_pairs([("instance", "web-1")])?;
        let series = KINDS.iter().enumerate().map(|(number, kind)| {
            let number = number.to_string();
            let labels = Labels::from_pairs([(rrd::NAME, "m"), ("number", number.as_str())])?;
            Ok(NewSeries { labels, kind: *kind, first_reading: None })
        });
        let series: Vec<NewSeries> = series.collect::<Result<_>>()?;
        let policy = Policy::parse(POLICY)?;
        let request =
            GrantRequest { instance: INSTANCE, policy: &policy, labels: &labels, series: &series };
        let mut granted: Option<GrantFrame> = None;
        let mut keep = |frame: &GrantFrame| {
            granted = Some(frame.clone());
            Ok::<u64, std::convert::Infallible>(1)
        };
        store.grant(request, &mut keep).map_err(|error| anyhow!("{error}"))?;
        store.apply_grant(1, &granted.context("a grant makes a frame")?)?;
        let (begun, taken) = cold::sizes(folder)?;
        let (differed, samples, gaps, rounds, restarts, goodbyes) = (0, 0, 0, 0, 0, 0);
        let seen = Seen { begun, differed, taken, samples, gaps, rounds, restarts, goodbyes };
        Ok(Self { store, seq: 1, labels, seen })
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn read(&mut self, minute: i64) -> Result<()> {
        let columns = (0..).zip(KINDS).map(|(index, kind)| {
            // A counter begins anew now and then, as its process does.
            let value = match kind {
                Kind::Gauge => value(index as usize, minute),
                _ => (minute % 100_000 * 60) as f64,
            };
            Sample { column: Column { index, generation: 1 }, at: moment(minute), value }
        });
        let samples: Vec<Sample> = columns.collect();
        self.seen.samples += samples.len() as u64;
        self.seq += 1;
        let frame = SampleFrame { instance: INSTANCE, batch: Batch::default(), samples };
        let verdicts = self.store.apply(self.seq, moment(minute), &frame);
        ensure!(verdicts.stale_generation == 0, "series are gone: {verdicts:?}");
        Ok(())
    }

    fn say_goodbye(&mut self, minute: i64) -> Result<()> {
        self.seq += 1;
        self.seen.goodbyes += 1;
        let told = InstanceChange { id: INSTANCE, labels: &self.labels, is_gone: true };
        Ok(self.store.apply_instance(self.seq, later(minute), told)?)
    }

    fn round(&mut self, folder: &Path) -> Result<()> {
        let report = self.store.begin_round(self.seq, 1).write();
        ensure!(report.failed.is_empty(), "a round failed: {:?}", report.failed);
        self.store.finish_round(self.seq);
        self.seen.rounds += 1;
        let differed = cold::sizes(folder)?.0.abs_diff(self.seen.begun);
        self.seen.differed = self.seen.differed.max(differed);
        Ok(())
    }

    /// Begins anew at the last round.
    fn restart(&mut self, folder: &Path) -> Result<()> {
        self.round(folder)?;
        self.store = open(folder, self.seq)?;
        self.seen.restarts += 1;
        Ok(())
    }
}

fn open(folder: &Path, seq: u64) -> Result<Store> {
    let (store, damage) = Store::open(Arc::new(OsDisk), folder, seq)?;
    ensure!(damage.is_empty(), "archives are damaged: {damage:?}");
    Ok(store)
}

fn later(minute: i64) -> Timestamp {
    moment(minute).plus_millis(1)
}
