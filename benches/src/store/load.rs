//! A store under the load of many series, in a process of its own that will be killed.
//!
//! What it measured goes to its output, a name and a number a line; then it waits for its end.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use journal::{Config, Journal, Record, Refused};
use rrd::{
    Batch, Clock, Column, Disk, GrantFrame, GrantRequest, InstanceId, Kind, Labels, NewSeries,
    OsDisk, Policy, RoundReport, Sample, SampleFrame, Store, Timestamp,
};

use crate::cold;
use crate::data::{self, value};
use crate::meter::{Wall, thread_time};
use crate::procfs::{Process, device_written};
use crate::store::ack::Acknowledged;
use crate::store::order::Order;
use crate::store::reopen::{self, Opened};

pub(crate) const SERIES_EACH: u32 = 100;
/// Frames that wait for the journal at once: far below what it lets wait.
const CHUNK: usize = 1000;
/// Grants under way at once, as intake has them.
const GRANTERS: usize = 4;
const SAMPLER: Duration = Duration::from_millis(10);
/// More than the longest archive keeps.
const AGE_SECS: i64 = 28 * 86_400;
/// From one round of the program to the next.
const PERIOD_SECS: i64 = 16 * 60;

/// What a process is told to load.
pub(crate) struct Load {
    pub(crate) instances: u32,
    pub(crate) step_secs: i64,
    pub(crate) policy: String,
}

impl Load {
    pub(crate) fn arguments(&self) -> [String; 3] {
        [self.instances.to_string(), self.step_secs.to_string(), self.policy.clone()]
    }

    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let [instances, step_secs, policy] = arguments else {
            anyhow::bail!("a load is INSTANCES STEP_SECS POLICY");
        };
        let (instances, step_secs) = (instances.parse()?, step_secs.parse()?);
        Ok(Self { instances, step_secs, policy: policy.clone() })
    }

    pub(crate) fn series_count(&self) -> u64 {
        u64::from(self.instances) * u64::from(SERIES_EACH)
    }
}

/// Runs the whole load, says its figures and waits to be killed.
pub(crate) fn run(folder: &Path, load: Load) -> Result<()> {
    let before = Process::Own.memory()?;
    let mut line = Line::open(folder, load)?;
    line.grant()?;
    line.prime()?;
    line.steady(before)?;
    line.midnight()?;
    line.round()?;
    line.acknowledge()?;
    say("ready", 1.0)?;
    io::stdin().read_exact(&mut [0])?;
    Ok(())
}

/// Goes on with what is there until the journal holds a whole period, and waits to be killed.
pub(crate) fn go_on(folder: &Path, load: Load) -> Result<()> {
    let Opened { journal, store, applied } = reopen::open(folder)?;
    let mut line = Line::new(folder, load, (journal, store))?;
    line.applied = applied;
    for step in line.period() + 1..2 * line.period() {
        line.minute(step)?;
    }
    say("ready", 1.0)?;
    io::stdin().read_exact(&mut [0])?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure to three digits")]
pub(super) const fn float(number: u64) -> f64 {
    number as f64
}

pub(super) fn say(name: &str, number: f64) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{name} {number}")?;
    Ok(out.flush()?)
}

/// The way of frames through journal and store, with the worker's part timed.
struct Line {
    folder: std::path::PathBuf,
    load: Load,
    policy: Policy,
    store: Arc<Store>,
    journal: Journal,
    applied: u64,
    /// Steps are counted from midnight.
    order: Order,
    worker: Duration,
    longest: Duration,
}

impl Line {
    fn open(folder: &Path, load: Load) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(Wall::start());
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let (journal, _) =
            Journal::open(Arc::clone(&disk), &folder.join("journal"), Config::default(), clock)?;
        let (store, _) = Store::open(disk, &folder.join("archives"), 0)?;
        Self::new(folder, load, (journal, store))
    }

    fn new(folder: &Path, load: Load, (journal, store): (Journal, Store)) -> Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            policy: Policy::parse(&load.policy)?,
            order: Order::rising(load.instances, SERIES_EACH),
            load,
            store: Arc::new(store),
            journal,
            applied: 0,
            worker: Duration::ZERO,
            longest: Duration::ZERO,
        })
    }

    /// All series, by threads as intake has them; rounds make room in the journal meanwhile.
    fn grant(&mut self) -> Result<()> {
        let (next, running) = (AtomicUsize::new(0), AtomicUsize::new(GRANTERS));
        let failure = Mutex::new(None);
        let (store, journal, policy) =
            (Arc::clone(&self.store), self.journal.clone(), self.policy.clone());
        let count = self.load.instances;
        let wall = Wall::start();
        std::thread::scope(|scope| {
            for _ in 0..GRANTERS {
                scope.spawn(|| {
                    let outcome = grant_some(&store, &journal, &policy, &next, count);
                    if let Err(error) = outcome {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                    running.fetch_sub(1, Ordering::Release);
                });
            }
            let mut round = None;
            while running.load(Ordering::Acquire) > 0 {
                self.drain()?;
                if round.as_ref().is_some_and(JoinHandle::is_finished) {
                    self.end_round(round.take())?;
                }
                if round.is_none() && self.journal.fill() > 0.5 {
                    round = Some(self.begin_round().1);
                }
            }
            self.catch_up(self.journal.stats().appended)?;
            let secs = wall.elapsed().as_secs_f64();
            say("first_sight", float(self.load.series_count()) / secs)?;
            self.end_round(round)
        })?;
        let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        failure.map_or(Ok(()), Err)
    }

    /// The readings with which every series begins, two steps before the period that ends at midnight.
    ///
    /// First one long ago, so that a gap takes every ring once around, as in files that are older than
    /// what they keep.
    fn prime(&mut self) -> Result<()> {
        let first = -self.period();
        self.round()?;
        self.minute(-AGE_SECS / self.load.step_secs)?;
        self.minute(first - 2)?;
        self.round()?;
        self.minute(first - 1)
    }

    /// Readings between two rounds of the program.
    const fn period(&self) -> i64 {
        PERIOD_SECS / self.load.step_secs
    }

    /// The period before midnight as the program has it: a reading a step, and one round at its end.
    fn steady(&mut self, before: u64) -> Result<()> {
        let series = float(self.load.series_count());
        self.round()?;
        let written = (Process::Own.written()?, device_written(&self.folder)?);
        let journal_before = self.journal.fill();
        self.worker = Duration::ZERO;
        for step in -self.period()..0 {
            self.minute(step)?;
        }
        let samples = series * float(self.period().unsigned_abs());
        say("apply_in_order", samples / self.worker.as_secs_f64())?;
        say("journal_fill", self.journal.fill() - journal_before)?;
        say("memory_waiting", float(Process::Own.memory()?.saturating_sub(before)) / series)?;
        let (written_round, most) = with_memory(|| self.round())?;
        say("memory_round", float(most.saturating_sub(before)) / series)?;
        say("round_processor", written_round.processor.as_secs_f64() / samples)?;
        say("dirtied", float(Process::Own.written()?.saturating_sub(written.0)) / samples)?;
        say("written", float(device_written(&self.folder)?.saturating_sub(written.1)) / samples)?;
        say("written_by_rounds", float(written_round.report.bytes) / samples)
    }

    /// The minute that ends every row there is, with cold files, and a round with the next minute beside.
    fn midnight(&mut self) -> Result<()> {
        cold::drop_pages(&self.folder.join("archives"))?;
        self.longest = Duration::ZERO;
        self.minute(0)?;
        say("midnight_apply", self.longest.as_secs_f64())?;
        self.longest = Duration::ZERO;
        let wall = Wall::start();
        let (begun, round) = self.begin_round();
        self.minute(1)?;
        let round = round.join().map_err(|_| anyhow!("a round panicked"))??;
        say("midnight_round", wall.elapsed().as_secs_f64())?;
        let wall = Wall::start();
        self.store.finish_round(round.seq);
        say("midnight_finish", wall.elapsed().as_secs_f64())?;
        say("midnight_begin", begun.as_secs_f64())?;
        say("midnight_apply_beside", self.longest.as_secs_f64())
    }

    /// What a sender waits, alone and beside the round of a whole period, of which two minutes come in
    /// no order.
    fn acknowledge(&mut self) -> Result<()> {
        let idle = Acknowledged::measure(&self.journal, || true)?;
        say("ack_idle", idle.p99().as_secs_f64())?;
        let mut random = Duration::ZERO;
        for step in 2..self.period() {
            if step == 3 || step == 5 {
                let seed = step.unsigned_abs();
                self.order = Order::shuffled(self.load.instances, SERIES_EACH, seed);
            }
            self.worker = Duration::ZERO;
            self.minute(step)?;
            if step == 3 || step == 5 {
                random += self.worker;
                self.order = Order::rising(self.load.instances, SERIES_EACH);
            }
        }
        let series = float(self.load.series_count());
        say("apply_random", series * 2.0 / random.as_secs_f64())?;
        let wall = Wall::start();
        let (_, round) = self.begin_round();
        let beside = Acknowledged::measure(&self.journal, || round.is_finished())?;
        say("period_round", wall.elapsed().as_secs_f64())?;
        say("ack_round", beside.p99().as_secs_f64())?;
        self.applied = self.journal.stats().committed;
        self.end_round(Some(round))?;
        self.minute(self.period())
    }

    /// One reading of every series.
    fn minute(&mut self, step: i64) -> Result<()> {
        let at = data::START.plus_millis(step * self.load.step_secs * 1000);
        let order = self.order.clone();
        for instances in order.instances.chunks(CHUNK) {
            let mut last = 0;
            for instance in instances {
                let frame = frame(*instance, &order.columns, at, step);
                last = self.journal.append(rrd::FRAME_SAMPLES, &frame.encode())?;
            }
            self.catch_up(last)?;
        }
        Ok(())
    }

    /// Applies all frames up to this one.
    fn catch_up(&mut self, last: u64) -> Result<()> {
        self.journal.wait_durable(last)?;
        while self.applied < last {
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let frames = self.journal.next(SAMPLER);
        let mut samples = Vec::with_capacity(frames.len());
        for frame in &frames {
            match frame.kind {
                rrd::FRAME_SAMPLES => {
                    samples.push((frame.seq, frame.stamp, SampleFrame::decode(&frame.body)?));
                }
                rrd::FRAME_GRANT => {
                    self.store.apply_grant(frame.seq, &GrantFrame::decode(&frame.body)?)?;
                }
                _ => {}
            }
        }
        let before = thread_time();
        for (seq, stamp, frame) in &samples {
            let wall = Wall::start();
            let verdicts = self.store.apply(*seq, *stamp, frame);
            self.longest = self.longest.max(wall.elapsed());
            ensure!(verdicts.stored == u64::from(SERIES_EACH), "not all stored: {verdicts:?}");
        }
        self.worker += thread_time().saturating_sub(before);
        if let Some(last) = frames.last() {
            self.applied = last.seq;
            self.journal.mark_applied(last.seq);
        }
        Ok(())
    }

    fn round(&mut self) -> Result<Written> {
        let (_, round) = self.begin_round();
        let written = round.join().map_err(|_| anyhow!("a round panicked"))??;
        self.store.finish_round(written.seq);
        Ok(written)
    }

    fn begin_round(&self) -> (Duration, JoinHandle<Result<Written>>) {
        let (epoch, seq) = (self.journal.epoch(), self.applied);
        let wall = Wall::start();
        let round = self.store.begin_round(seq, epoch);
        let begun = wall.elapsed();
        let journal = self.journal.clone();
        let thread = std::thread::spawn(move || {
            let report = round.write();
            ensure!(report.failed.is_empty(), "a round failed: {:?}", report.failed);
            journal.trim(Record { seq, epoch, excepted: Vec::new() })?;
            Ok(Written { seq, report, processor: thread_time() })
        });
        (begun, thread)
    }

    fn end_round(&self, round: Option<JoinHandle<Result<Written>>>) -> Result<()> {
        let Some(round) = round else { return Ok(()) };
        let written = round.join().map_err(|_| anyhow!("a round panicked"))??;
        self.store.finish_round(written.seq);
        Ok(())
    }
}

/// A round whose record is synced.
struct Written {
    seq: u64,
    report: RoundReport,
    /// Of its thread.
    processor: Duration,
}

/// The most memory while something runs.
fn with_memory<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let (stop, stopped) = channel::<()>();
    let watcher = std::thread::spawn(move || -> Result<u64> {
        let mut most = Process::Own.memory()?;
        while stopped.recv_timeout(SAMPLER) == Err(RecvTimeoutError::Timeout) {
            most = most.max(Process::Own.memory()?);
        }
        Ok(most)
    });
    let outcome = work();
    drop(stop);
    let most = watcher.join().map_err(|_| anyhow!("the watcher panicked"))??;
    Ok((outcome?, most))
}

fn grant_some(
    store: &Store,
    journal: &Journal,
    policy: &Policy,
    next: &AtomicUsize,
    count: u32,
) -> Result<()> {
    loop {
        let number = u32::try_from(next.fetch_add(1, Ordering::Relaxed))?;
        if number >= count {
            return Ok(());
        }
        let series = (0..SERIES_EACH).map(new_series).collect::<Result<Vec<_>>>()?;
        let host = format!("web-{number:05}.example.net:9100");
        let labels = Labels::from_pairs([("instance", host.as_str()), ("job", "node")])?;
        let request =
            GrantRequest { instance: id(number), policy, labels: &labels, series: &series };
        let mut append = |frame: &GrantFrame| {
            let body = frame.encode();
            loop {
                match journal.append(rrd::FRAME_GRANT, &body) {
                    Err(Refused::Full | Refused::Busy) => std::thread::yield_now(),
                    other => return other,
                }
            }
        };
        let granted = store.grant(request, &mut append).map_err(|error| anyhow!("{error}"))?;
        let first = granted.first().context("columns for all series")?;
        ensure!(first.is_ok(), "refused: {first:?}");
    }
}

/// Labels of some 130 bytes, those of the instance included.
fn new_series(number: u32) -> Result<NewSeries> {
    let (name, device) = (
        format!("node_bench_seconds_of_kind_{:02}", number / 10),
        format!("device-{}", number % 10),
    );
    let pairs = [(rrd::NAME, name.as_str()), ("device", device.as_str()), ("mode", "system")];
    let labels = Labels::from_pairs(pairs)?;
    Ok(NewSeries { labels, kind: Kind::Gauge, first_reading: None })
}

fn id(number: u32) -> InstanceId {
    InstanceId(u128::from(number) + 1)
}

/// Columns were given in order, each in its first generation.
fn frame(instance: u32, columns: &[u32], at: Timestamp, step: i64) -> SampleFrame {
    let sample = |&index: &u32| Sample {
        column: Column { index, generation: 1 },
        at,
        value: value((instance + index) as usize, step),
    };
    let samples = columns.iter().map(sample).collect();
    SampleFrame { instance: id(instance), batch: Batch::default(), samples }
}
