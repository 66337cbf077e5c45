//! A fleet in memory: bytes a series, and how long the worker stands still. Linux only.
//!
//! `cargo run --release -p rrd --example fleet -- [folder/] [instances] [series each]`
//!
//! With a folder, real files are made in it and opened; else the disk is a double that keeps nothing.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::disallowed_methods, reason = "it measures, and gives a round time to run")]

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rrd::disk::{WatchedDisk, Watcher};
use rrd::{
    Batch, Column, Disk, File, GrantFrame, GrantRequest, InstanceId, Kind, Labels, MatchOp,
    Matcher, NewSeries, OsDisk, Policy, Sample, SampleFrame, Store, Timestamp,
};

/// Midnight UTC.
const START: Timestamp = Timestamp::from_secs(1_767_225_600);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1).peekable();
    let folder = words.next_if(|word| word.contains('/'));
    let mut numbers = words.map(|text| text.parse::<usize>());
    let instances = numbers.next().transpose()?.unwrap_or(10_000);
    let each = numbers.next().transpose()?.unwrap_or(100);
    if let Some(folder) = folder {
        return open_files(Path::new(&folder), instances, each);
    }
    let disk = Arc::new(Nowhere::default());
    let (store, _) = Store::open(Arc::clone(&disk) as Arc<dyn Disk>, Path::new("/a"), 0)?;
    let mut fleet =
        Fleet { store, seq: 0, columns: Vec::new(), series: series(each)?, count: instances };
    fleet.run(&disk)
}

struct Fleet {
    store: Store,
    seq: u64,
    columns: Vec<Column>,
    series: Vec<NewSeries>,
    count: usize,
}

fn series(each: usize) -> Result<Vec<NewSeries>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    for number in 0..each {
        let name = format!("node_filesystem_something_bytes_{number:03}");
        let labels = Labels::from_pairs([
            (rrd::NAME, name.as_str()),
            ("device", "/dev/mapper/vg0-data"),
            ("fstype", "ext4"),
            ("mountpoint", "/var/lib/some/where"),
            ("mode", "read"),
        ])?;
        all.push(NewSeries { labels, kind: Kind::Gauge, first_reading: None });
    }
    Ok(all)
}

fn id(number: usize) -> InstanceId {
    InstanceId(0x1234_5678_9abc_def0_0000 + number as u128)
}

impl Fleet {
    fn run(&mut self, disk: &Arc<Nowhere>) -> Result<(), Box<dyn std::error::Error>> {
        let total = self.count * self.series.len();
        let mut out = io::stdout().lock();
        let key_len: usize = self.series.iter().map(|s| s.labels.to_key().len()).sum();
        writeln!(
            out,
            "{} instances x {} series, keys of {} B",
            self.count,
            self.series.len(),
            key_len / self.series.len()
        )?;
        let before = memory(disk)?;
        let mut show = |out: &mut dyn io::Write, what: &str| -> io::Result<()> {
            let now = memory(disk)?.saturating_sub(before);
            writeln!(out, "{what:<52} {:>7.1} B a series", now as f64 / total as f64)
        };
        self.grant_all(&Policy::parse(Policy::DEFAULT)?)?;
        show(&mut out, "granted and applied: keys, index, hot state, filed")?;
        for minute in 1..=2 {
            self.minute(minute);
        }
        show(&mut out, "and two minutes applied")?;
        let began = Instant::now();
        let round = self.store.begin_round(self.seq, 1);
        writeln!(
            out,
            "begin_round                                           {:?}",
            began.elapsed()
        )?;
        let at = Instant::now();
        let report = round.write();
        writeln!(
            out,
            "round written {:?}: {} files, {} failed",
            at.elapsed(),
            report.files,
            report.failed.len()
        )?;
        let at = cpu();
        self.store.finish_round(self.seq);
        writeln!(
            out,
            "finish_round                                          {:?}",
            cpu().saturating_sub(at)
        )?;
        show(&mut out, "a round has ended")?;
        let frames: Vec<_> = (0..self.count).map(|number| self.frame(number, 3)).collect();
        let at = cpu();
        for frame in &frames {
            self.seq += 1;
            self.store.apply(self.seq, frame.samples[0].at, frame);
        }
        let rate = total as f64 / cpu().saturating_sub(at).as_secs_f64() / 1e6;
        writeln!(out, "a minute of all instances: {rate:.1} M samples a CPU second")?;
        drop(frames);
        show(&mut out, "and one minute waits")?;
        self.shared_round(4, &mut out, &mut show)?;
        let round = self.store.begin_round(self.seq, 1);
        let at = Instant::now();
        let longest = self.minute(5);
        writeln!(
            out,
            "longest frame while a round holds everything          {longest:?} of {:?}",
            at.elapsed()
        )?;
        show(&mut out, "worst: all arrays copied, two minutes wait")?;
        drop(round);
        self.ask(&mut out)?;
        writeln!(out, "a day of one instance: {:.1} M samples a second", self.day())?;
        Ok(())
    }

    fn grant_all(&mut self, policy: &Policy) -> Result<(), Box<dyn std::error::Error>> {
        for number in 0..self.count {
            let name = format!("host-{number:05}");
            let labels = Labels::from_pairs([("instance", name.as_str()), ("job", "node")])?;
            let series = &self.series;
            let request = GrantRequest { instance: id(number), policy, labels: &labels, series };
            let mut frame = None;
            let mut keep = |granted: &GrantFrame| {
                frame = Some(granted.clone());
                Ok::<u64, std::convert::Infallible>(1)
            };
            let granted = self.store.grant(request, &mut keep)?;
            if self.columns.is_empty() {
                self.columns = granted.into_iter().filter_map(Result::ok).collect();
            }
            self.seq += 1;
            self.store.apply_grant(self.seq, &frame.ok_or("a grant makes a frame")?)?;
        }
        Ok(())
    }

    /// Applies one reading of each series; how long the longest frame took.
    fn minute(&mut self, minute: i64) -> Duration {
        (0..self.count).map(|number| self.push(number, minute)).max().unwrap_or_default()
    }

    /// A day of the first instance, in order: millions of samples a second.
    fn day(&mut self) -> f64 {
        let (mut count, mut took) = (0, Duration::ZERO);
        for hour in 1..=24 {
            let minutes = hour * 60..hour * 60 + 60;
            let frames: Vec<_> = minutes.map(|minute| self.frame(0, minute)).collect();
            let began = Instant::now();
            for frame in &frames {
                self.seq += 1;
                count += self.store.apply(self.seq, frame.samples[0].at, frame).stored;
            }
            took += began.elapsed();
            self.store.begin_round(self.seq, 1).write();
            self.store.finish_round(self.seq);
        }
        count as f64 / took.as_secs_f64() / 1e6
    }

    fn frame(&self, number: usize, minute: i64) -> SampleFrame {
        let at = START.plus_millis(minute * 60_000);
        let value = |column: &Column| f64::from(column.index) + minute as f64 + number as f64;
        let sample = |column: &Column| Sample { column: *column, at, value: value(column) };
        let samples = self.columns.iter().map(sample).collect();
        SampleFrame { instance: id(number), batch: Batch::default(), samples }
    }

    fn push(&mut self, number: usize, minute: i64) -> Duration {
        let frame = self.frame(number, minute);
        self.seq += 1;
        let began = cpu();
        let verdicts = self.store.apply(self.seq, frame.samples[0].at, &frame);
        assert_eq!(verdicts.stored, self.columns.len() as u64);
        cpu().saturating_sub(began)
    }

    /// A round beside the next minute, both a few seconds long: what a server has at most.
    fn shared_round(
        &mut self,
        minute: i64,
        out: &mut dyn io::Write,
        show: &mut dyn FnMut(&mut dyn io::Write, &str) -> io::Result<()>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let round = self.store.begin_round(self.seq, 1);
        let seq = self.seq;
        let (steps, count) = (20, self.count);
        std::thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
            let writer = scope.spawn(move || round.write());
            for step in 0..steps {
                let from = count * step / steps;
                for number in from..count * (step + 1) / steps {
                    self.push(number * 7919 % count, minute);
                }
                if step % 4 == 3 {
                    show(
                        &mut *out,
                        &format!("beside a round, {} of {steps} of a minute", step + 1),
                    )?;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            let report = writer.join().expect("the round ends");
            writeln!(out, "the round wrote {} files", report.files)?;
            Ok(())
        })?;
        self.store.finish_round(seq);
        show(out, "the round has ended, one minute waits")?;
        Ok(())
    }

    fn ask(&self, out: &mut dyn io::Write) -> Result<(), Box<dyn std::error::Error>> {
        let name = "node_filesystem_something_bytes_042";
        for conditions in [
            vec![(MatchOp::Equal, rrd::NAME, name)],
            vec![(MatchOp::Equal, rrd::NAME, name), (MatchOp::Equal, "instance", "host-00042")],
            vec![(MatchOp::Regex, rrd::NAME, ".*_042"), (MatchOp::NotEqual, "fstype", "xfs")],
            vec![(MatchOp::Equal, rrd::NAME, "none")],
            vec![(MatchOp::Equal, "instance", "host-00042")],
            vec![],
        ] {
            let matchers: Result<Vec<Matcher>, _> =
                conditions.iter().map(|&(op, name, value)| Matcher::new(name, op, value)).collect();
            let matchers = matchers?;
            let mut best = Duration::MAX;
            let mut count = 0;
            for _ in 0..3 {
                let at = cpu();
                count = self.store.select(&matchers).len();
                best = best.min(cpu().saturating_sub(at));
            }
            writeln!(out, "select {conditions:?}: {count} in {best:?}")?;
        }
        for _ in 0..2 {
            let at = cpu();
            let count = self.store.instances().len();
            writeln!(out, "instances: {count} in {:?}", cpu().saturating_sub(at))?;
        }
        for second in 0..3 {
            let at = cpu();
            self.store.advance(START.plus_millis((600 + 5 * second) * 1000));
            writeln!(out, "advance: {:?}", cpu().saturating_sub(at))?;
        }
        Ok(())
    }
}

/// What this thread has had of the processor.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent = text.split_whitespace().next().and_then(|text| text.parse().ok());
    Duration::from_nanos(spent.unwrap_or(0))
}

/// Real files of a short policy with as many archives as the default, opened warm.
fn open_files(folder: &Path, count: usize, each: usize) -> Result<(), Box<dyn std::error::Error>> {
    let disk: Arc<dyn Disk> = Arc::new(WatchedDisk::new(OsDisk, Arc::new(Unsynced)));
    let mut out = io::stdout().lock();
    let (store, _) = Store::open(Arc::clone(&disk), folder, u64::MAX)?;
    let is_empty = store.instances().is_empty();
    let mut fleet = Fleet { store, seq: 0, columns: Vec::new(), series: series(each)?, count };
    if is_empty {
        let at = Instant::now();
        fleet.grant_all(&Policy::parse("1m:16m,5m:80m,1h:16h,1d:16d")?)?;
        for minute in 1..4 {
            fleet.minute(minute);
        }
        let report = fleet.store.begin_round(fleet.seq, 1).write();
        fleet.store.finish_round(fleet.seq);
        writeln!(out, "made {} files in {:?}", report.files, at.elapsed())?;
    }
    drop(fleet);
    for _ in 0..3 {
        let at = Instant::now();
        let (store, damage) = Store::open(Arc::clone(&disk), folder, u64::MAX)?;
        let took = at.elapsed();
        let series: usize = store.instances().iter().map(|info| info.series_count).sum();
        writeln!(out, "opened {series} series in {took:?}, {} damaged", damage.len())?;
    }
    Ok(())
}

/// Syncs of the real disk that are left out: making the files is not what is measured.
struct Unsynced;

impl Watcher for Unsynced {
    fn sync(&self, _: &dyn File) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &dyn Disk, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Anonymous memory and page tables, without what the disk's double keeps.
fn memory(disk: &Nowhere) -> io::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0)
    };
    let kept = disk.0.lock().expect("no holder panics").len() * 150;
    Ok(((field("RssAnon:") + field("VmPTE:")) << 10).saturating_sub(kept))
}

/// A disk that forgets what is written, for measuring memory: only lengths are kept.
#[derive(Default)]
struct Nowhere(Mutex<HashMap<PathBuf, Arc<Nothing>>>);

struct Nothing(Mutex<u64>);

impl Disk for Nowhere {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let files = self.0.lock().expect("no holder panics");
        let file = files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(file) as Arc<dyn File>)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(Nothing(Mutex::new(0)));
        self.0.lock().expect("no holder panics").insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.0.lock().expect("no holder panics");
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.0.lock().expect("no holder panics").remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.lock().expect("no holder panics").keys().cloned().collect())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl File for Nothing {
    fn len(&self) -> io::Result<u64> {
        Ok(*self.0.lock().expect("no holder panics"))
    }

    fn read_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
        buffer.fill(0);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        *self.0.lock().expect("no holder panics") = offset + len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        std::thread::sleep(Duration::from_micros(300));
        Ok(())
    }
}
