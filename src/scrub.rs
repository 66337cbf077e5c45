//! The scrubber: a thread of low priority that compares every tile with its checksum, once a day.
//!
//! Rot that nobody reads is found while a backup still has what is lost. The thread reads little at a
//! time, past the maps, and leaves the system's cache as it was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use rrd::{Check, Clock, InstanceId, Store, Timestamp};
use tracing::{info, warn};

/// Time from the start of one pass over all archives to the start of the next.
const PERIOD: Duration = Duration::from_hours(24);
/// How often the thread wakes up.
const TICK: Duration = Duration::from_secs(1);
/// Steps of the scheduler's scale behind all other threads.
const NICENESS: i32 = 10;
/// A step reads a page or so; steps that find nothing to read shall not make a busy loop.
const MOST_STEPS: u32 = 2000;

/// What the scrubber has done, for the operator.
#[derive(Default)]
pub(crate) struct Scrubbed {
    bytes: AtomicU64,
    mismatches: AtomicU64,
    /// Milliseconds since 1970; 0 before the first.
    last_pass: AtomicI64,
}

impl Scrubbed {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    /// When the last whole pass ended; `None` before the first since the start.
    pub(crate) fn last_pass(&self) -> Option<Timestamp> {
        let at = self.last_pass.load(Ordering::Relaxed);
        (at > 0).then(|| Timestamp::from_millis(at))
    }
}

/// What the scrubber works with.
pub(crate) struct Scrub {
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) most_bytes_per_s: u64,
    pub(crate) scrubbed: Arc<Scrubbed>,
}

/// When how much is to be read: a pass is spread over its period, and never faster than the rate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Schedule {
    most_bytes_per_s: u64,
    began: Duration,
    /// Bytes of the pass.
    total: u64,
    /// Bytes read in it.
    done: u64,
}

impl Schedule {
    /// Bytes that may be read now. What a machine that slept has missed is not made up for at once.
    fn due(&self, now: Duration) -> u64 {
        let elapsed = now.saturating_sub(self.began).as_secs();
        let even = self.total.div_ceil(PERIOD.as_secs());
        // A little ahead of the even pace, so that the pass ends within its period.
        let rate = (even + even / 8 + 1).min(self.most_bytes_per_s);
        let due = rate.saturating_mul(elapsed + 1).saturating_sub(self.done);
        due.min(self.most_bytes_per_s)
    }

    /// True when the next pass may begin.
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.began) >= PERIOD
    }
}

/// A pass over all archives.
struct Pass {
    schedule: Schedule,
    instances: VecDeque<InstanceId>,
    check: Option<(InstanceId, Check)>,
    is_done: bool,
}

impl Scrub {
    fn begin(&self, now: Duration) -> Pass {
        let instances = self.store.instances();
        let schedule = Schedule {
            most_bytes_per_s: self.most_bytes_per_s,
            began: now,
            total: instances.iter().map(|info| info.file_len).sum(),
            done: 0,
        };
        let instances = instances.iter().map(|info| info.id).collect();
        Pass { schedule, instances, check: None, is_done: false }
    }

    /// Reads what is due; a pass that is over makes room for the next.
    fn advance(&self, pass: &mut Pass, now: Duration) {
        if pass.is_done && pass.schedule.is_over(now) {
            *pass = self.begin(now);
        }
        let due = pass.schedule.due(now);
        let (start, mut steps) = (pass.schedule.done, 0);
        while !pass.is_done && pass.schedule.done - start < due && steps < MOST_STEPS {
            self.step(pass);
            steps += 1;
        }
    }

    fn step(&self, pass: &mut Pass) {
        let Some((instance, check)) = &mut pass.check else { return self.next(pass) };
        match check.step() {
            Ok(None) => pass.check = None,
            Ok(Some(checked)) => {
                pass.schedule.done += checked.bytes;
                self.scrubbed.bytes.fetch_add(checked.bytes, Ordering::Relaxed);
                let mismatches = checked.bad.len() as u64;
                self.scrubbed.mismatches.fetch_add(mismatches, Ordering::Relaxed);
                for tile in &checked.bad {
                    self.store.report_tile(tile);
                }
            }
            Err(reason) => self.store.report_unreadable(*instance, &reason),
        }
    }

    fn next(&self, pass: &mut Pass) {
        let Some(instance) = pass.instances.pop_front() else {
            pass.is_done = true;
            let now = self.clock.wall().as_millis();
            self.scrubbed.last_pass.store(now, Ordering::Relaxed);
            info!(bytes = pass.schedule.done, "all archives are checked");
            return;
        };
        match self.store.check(instance) {
            Ok(check) => pass.check = check.map(|check| (instance, check)),
            Err(reason) => self.store.report_unreadable(instance, &reason),
        }
    }

    fn run(&self, stop: &AtomicBool) {
        if let Err(reason) = rustix::process::nice(NICENESS) {
            warn!(%reason, "the check of the archives runs like any other thread");
        }
        let mut pass = self.begin(self.clock.monotonic());
        while !stop.load(Ordering::Acquire) {
            self.advance(&mut pass, self.clock.monotonic());
            std::thread::park_timeout(TICK);
        }
    }
}

/// The scrubber in a thread of its own.
pub(crate) struct ScrubThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl ScrubThread {
    pub(crate) fn start(scrub: Scrub) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let run = move || scrub.run(&told);
        let thread = std::thread::Builder::new().name("scrub".to_owned()).spawn(run)?;
        Ok(Self { stop, thread })
    }

    /// Stops it and waits for its step.
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            warn!("the check of the archives had panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::{Path, PathBuf};

    use rrd::{
        Batch, Disk, GrantRequest, Kind, Labels, ManualClock, MemDisk, NewSeries, Policy, Sample,
        SampleFrame,
    };

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_pass_is_spread_over_its_day_and_never_faster_than_the_rate() {
        let day = 86_400;
        let schedule =
            |total, done| Schedule { most_bytes_per_s: 1000, began: secs(50), total, done };
        for (total, done, at, due) in [
            (day * 8, 0, 50, 10),         // 8 a second, a little ahead, and one for luck
            (day * 8, 0, 149, 1000),      // a hundred seconds at 10
            (day * 8, 900, 149, 100),     // what is left of it
            (day * 8, 5000, 149, 0),      // ahead already
            (day * 90_000, 0, 50, 1000),  // more than the rate allows
            (day * 90_000, 0, 900, 1000), // a machine that slept does not make up for it at once
            (0, 0, 50, 1),
        ] {
            assert_eq!(schedule(total, done).due(secs(at)), due, "{total} {done} {at}");
        }
        let mut whole = schedule(day * 8, 0);
        let ended = (50..50 + day).find(|at| {
            whole.done += whole.due(secs(*at));
            whole.done >= whole.total
        });
        assert!(ended.unwrap() < 50 + day && !whole.is_over(secs(ended.unwrap())));
        assert!(whole.is_over(secs(50 + day)));
    }

    /// A store with one series that has some full tiles on the disk.
    fn store(disk: &MemDisk) -> Store {
        let (store, _) = Store::open(Arc::new(disk.clone()), Path::new("/a"), 0).unwrap();
        let policy = Policy::parse("10s:1h,1m:1d").unwrap();
        let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
        let series = [NewSeries { labels, kind: Kind::Gauge, first_reading: None }];
        let instance = InstanceId(1);
        let request =
            GrantRequest { instance, policy: &policy, labels: &Labels::default(), series: &series };
        let mut frames = Vec::new();
        let columns = store.grant(request, &mut |frame| {
            frames.push(frame.clone());
            Ok::<u64, Infallible>(1)
        });
        let column = *columns.unwrap()[0].as_ref().unwrap();
        store.apply_grant(1, &frames[0]).unwrap();
        for n in 1..200_u32 {
            let at = Timestamp::from_secs(i64::from(n) * 10);
            let samples = vec![Sample { column, at, value: f64::from(n) }];
            let frame = SampleFrame { instance, batch: Batch::default(), samples };
            store.apply(u64::from(n) + 1, at, &frame);
        }
        assert_eq!(store.begin_round(200, 1).write().failed, []);
        store.finish_round(200);
        store
    }

    #[test]
    fn rot_is_found_within_a_day_and_told_once() {
        let disk = MemDisk::new();
        let store = Arc::new(store(&disk));
        let clock = Arc::new(ManualClock::default());
        let scrubbed = Arc::<Scrubbed>::default();
        let scrub = Scrub {
            store: Arc::clone(&store),
            clock,
            most_bytes_per_s: 1 << 20,
            scrubbed: Arc::clone(&scrubbed),
        };
        let mut pass = scrub.begin(secs(0));
        let day = |pass: &mut Pass, day: u64| {
            let ticks = (day * 86_400..(day + 1) * 86_400).step_by(600);
            ticks.for_each(|at| scrub.advance(pass, secs(at)));
        };
        day(&mut pass, 0);
        assert!(pass.is_done && scrubbed.last_pass().is_none(), "the clock stands at 1970");
        assert_eq!((store.damage(), scrubbed.mismatches()), (Vec::new(), 0));
        let path = PathBuf::from(format!("/a/{}.rrd", InstanceId(1)));
        let file = disk.open(&path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        // The first cells of a ring hold what was written: 17.0 as f32, with NaN's bits turned.
        let cell = (17.0_f32.to_bits() ^ f32::NAN.to_bits()).to_le_bytes();
        let at = bytes.windows(4).rposition(|window| window == cell).unwrap() as u64;
        file.write_at(&[0xff], at).unwrap();
        for n in 1..3 {
            day(&mut pass, n);
            assert_eq!(store.damage().len(), 1, "day {n}: {:?}", store.damage());
        }
        assert_eq!(scrubbed.mismatches(), 2, "seen on both days");
        assert!(store.damage()[0].what.contains("checksum does not match"));
    }
}
