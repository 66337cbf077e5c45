//! A store with a journal of its own: a list of frames that no crash can touch.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rrd::{
    Batch, Change, ChangeError, ChangeFrame, Column, Damage, Disk, GrantError, GrantFrame,
    GrantRequest, InstanceChange, InstanceId, Kind, Labels, MatchOp, Matcher, MemDisk, NewSeries,
    Policy, RoundReport, Rows, Sample, SampleFrame, SeriesRef, Span, Step, Store, Timestamp,
    Verdicts,
};

pub(crate) const DIR: &str = "/archives";
pub(crate) const WEB: InstanceId = InstanceId(0xfeed);

/// A frame as the journal would hold it.
#[derive(Clone)]
pub(crate) enum Frame {
    Grant(GrantFrame),
    Samples(SampleFrame),
    Labels(InstanceId, Labels),
    Gone(InstanceId, Labels),
    Change(ChangeFrame),
}

pub(crate) struct World {
    pub(crate) disk: MemDisk,
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) frames: Vec<(Timestamp, Frame)>,
    /// The S that counts: recovery goes on after it.
    pub(crate) checkpoint: u64,
    pub(crate) now: Timestamp,
}

pub(crate) fn secs(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(crate) fn span(start: i64, end: i64) -> Span {
    Span::new(secs(start), secs(end)).unwrap()
}

pub(crate) fn name(text: &str) -> Labels {
    Labels::from_pairs([("__name__", text)]).unwrap()
}

pub(crate) fn gauge(text: &str) -> NewSeries {
    NewSeries { labels: name(text), kind: Kind::Gauge, first_reading: None }
}

/// Averages as text, so that unknown rows can be compared: `1 2 - 4`.
pub(crate) fn shown(values: &[f64]) -> String {
    let one = |v: &f64| if v.is_nan() { "-".to_owned() } else { v.to_string() };
    values.iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(crate) fn dump(store: &Store) -> String {
    let mut text = String::new();
    store.canonical_dump(&mut text).unwrap();
    text
}

impl World {
    pub(crate) fn new(policy: &str) -> Self {
        Self::on(MemDisk::new(), policy)
    }

    pub(crate) fn on(disk: MemDisk, policy: &str) -> Self {
        let (store, damage) = open(&disk, 0);
        assert_eq!(damage, []);
        let policy = Policy::parse(policy).unwrap();
        Self { disk, store, policy, frames: Vec::new(), checkpoint: 0, now: secs(0) }
    }

    /// Names of the archives, without the noughts in front.
    pub(crate) fn files(&self) -> Vec<String> {
        let paths = self.disk.list(Path::new(DIR)).unwrap();
        let name = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.trim_start_matches('0').to_owned()
        };
        let mut names: Vec<_> = paths.iter().map(name).collect();
        names.sort();
        names
    }

    /// The same journal on the disk that a crash left.
    pub(crate) fn restarted(self, disk: MemDisk) -> (Self, Vec<Damage>) {
        let (store, damage) = open(&disk, self.checkpoint);
        let world = Self { disk, store, ..self };
        let first = usize::try_from(world.checkpoint).unwrap();
        for seq in first..world.frames.len() {
            let (stamp, frame) = &world.frames[seq];
            world.apply(seq as u64 + 1, *stamp, frame);
        }
        (world, damage)
    }

    pub(crate) fn seq(&self) -> u64 {
        self.frames.len() as u64
    }

    pub(crate) fn grant(
        &mut self,
        series: &[NewSeries],
    ) -> Result<Vec<Column>, GrantError<Infallible>> {
        let (policy, labels) =
            (self.policy.clone(), Labels::from_pairs([("instance", "web-1")]).unwrap());
        let request = GrantRequest { instance: WEB, policy: &policy, labels: &labels, series };
        let mut appended = Vec::new();
        let answers = self.store.grant(request, &mut |frame| {
            appended.push(frame.clone());
            Ok(0)
        })?;
        for frame in appended {
            self.append(Frame::Grant(frame));
        }
        Ok(answers.into_iter().map(Result::unwrap).collect())
    }

    pub(crate) fn change(&mut self, change: Change) -> Result<(), ChangeError<Infallible>> {
        let mut appended = None;
        self.store.change(WEB, change, &mut |frame| {
            appended = Some(frame.clone());
            Ok(0)
        })?;
        self.append(Frame::Change(appended.unwrap()));
        Ok(())
    }

    pub(crate) fn column(&self, series: &str) -> Column {
        self.store.resolve(WEB, &name(series).to_key()).unwrap()
    }

    /// Readings of series by name, at seconds.
    pub(crate) fn push(&mut self, readings: &[(&str, i64, f64)]) -> Verdicts {
        let sample = |&(series, at, value): &(&str, i64, f64)| Sample {
            column: self.column(series),
            at: secs(at),
            value,
        };
        let samples = readings.iter().map(sample).collect();
        self.now = readings.iter().map(|r| secs(r.1)).max().unwrap_or(self.now).max(self.now);
        let batch = Batch { incarnation: 1, boot_id: 2, number: self.seq() };
        self.append(Frame::Samples(SampleFrame { instance: WEB, batch, samples }))
    }

    /// Journals and applies a frame.
    pub(crate) fn append(&mut self, frame: Frame) -> Verdicts {
        let verdicts = self.apply(self.seq() + 1, self.now, &frame);
        self.frames.push((self.now, frame));
        verdicts
    }

    /// As the worker does.
    fn apply(&self, seq: u64, stamp: Timestamp, frame: &Frame) -> Verdicts {
        Self::apply_to(&self.store, seq, stamp, frame)
    }

    /// The same to another store.
    pub(crate) fn apply_to(store: &Store, seq: u64, stamp: Timestamp, frame: &Frame) -> Verdicts {
        store.advance(stamp.floor(Step::from_secs(5).unwrap()));
        match frame {
            Frame::Grant(frame) => store.apply_grant(seq, frame).unwrap(),
            Frame::Labels(id, labels) => {
                let told = InstanceChange { id: *id, labels, is_gone: false };
                store.apply_instance(seq, stamp, told).unwrap();
            }
            Frame::Gone(id, labels) => {
                let told = InstanceChange { id: *id, labels, is_gone: true };
                store.apply_instance(seq, stamp, told).unwrap();
            }
            Frame::Change(frame) => store.apply_change(seq, frame).unwrap(),
            Frame::Samples(frame) => return store.apply(seq, stamp, frame),
        }
        Verdicts::default()
    }

    /// A whole round; it counts if every file was written.
    pub(crate) fn round(&mut self) -> RoundReport {
        let seq = self.seq();
        let report = self.store.begin_round(seq, 1).write();
        if report.failed.is_empty() {
            self.checkpoint = seq;
            self.store.finish_round(seq);
        }
        report
    }

    pub(crate) fn rows(&self, series: &str, archive: usize, start: i64, end: i64) -> Rows {
        let series = SeriesRef { instance: WEB, column: self.column(series) };
        self.store.rows(series, archive, span(start, end))
    }

    pub(crate) fn averages(&self, series: &str, archive: usize, start: i64, end: i64) -> String {
        shown(&self.rows(series, archive, start, end).average)
    }

    pub(crate) fn names(&self, op: MatchOp, label: &str, value: &str) -> Vec<String> {
        let matcher = Matcher::new(label, op, value).unwrap();
        let found = self.store.select(&[matcher]);
        found.iter().map(|series| series.labels.to_string()).collect()
    }

    /// Bytes of all files in the folder.
    pub(crate) fn used_bytes(&self) -> u64 {
        let paths = self.disk.list(Path::new(DIR)).unwrap();
        paths.iter().map(|path| self.disk.open(path).unwrap().len().unwrap()).sum()
    }

    pub(crate) fn file_path() -> String {
        format!("{DIR}/{WEB}.rrd")
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.try_file_len().unwrap()
    }

    pub(crate) fn try_file_len(&self) -> Option<u64> {
        self.disk.open(Path::new(&Self::file_path())).ok()?.len().ok()
    }
}

pub(crate) fn open(disk: &MemDisk, upto: u64) -> (Store, Vec<Damage>) {
    Store::open(Arc::new(disk.clone()), Path::new(DIR), upto).unwrap()
}
