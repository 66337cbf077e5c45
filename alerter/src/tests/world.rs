//! A world in memory: rows to judge, a journal as a list of frames, a worker that drives an engine.

use std::collections::BTreeMap;
use std::fmt::Write;

use query::memory::MemoryRead;
use query::{Read, Rows, Series};
use rrd::{Matcher, Span, Step, Timestamp};

use crate::{Engine, FRAME_DELIVERY, FRAME_RULES, FRAME_TRANSITIONS};

/// A frame that is not the alerter's: one row of `load` of one instance.
pub(super) const FRAME_LOAD: u8 = 1;

/// Rows of a gauge `load` for each instance, ten seconds wide.
#[derive(Clone, Default)]
pub(super) struct Loads(BTreeMap<String, BTreeMap<i64, f64>>);

pub(super) fn ten_seconds() -> Step {
    Step::from_secs(10).unwrap()
}

impl Loads {
    pub(super) fn put(&mut self, instance: &str, at: Timestamp, value: f64) {
        let row = at.ceil(ten_seconds()).as_millis();
        self.0.entry(instance.to_owned()).or_default().insert(row, value);
    }
}

impl Loads {
    /// The rows so far, from the first known one on.
    fn memory(&self) -> MemoryRead {
        let mut text = "archives 10s:100000\nvisible 20s\n".to_owned();
        for (instance, stored) in &self.0 {
            let (first, last) = (stored.keys().min().unwrap(), stored.keys().max().unwrap());
            write!(text, "start {first}ms\nload{{instance={instance:?}}}").unwrap();
            for end in (*first..=*last).step_by(10_000) {
                match stored.get(&end) {
                    Some(value) => write!(text, " {value}").unwrap(),
                    None => text.push_str(" _"),
                }
            }
            text.push('\n');
        }
        MemoryRead::load(&text).unwrap()
    }
}

impl Read for Loads {
    fn select(&self, matchers: &[Matcher]) -> Vec<Series> {
        self.memory().select(matchers)
    }

    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows {
        self.memory().rows(series, archive, span)
    }
}

/// A committed frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) stamp: Timestamp,
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// A frame that brings one row.
pub(super) fn load_frame(second: i64, instance: &str, value: f64) -> Frame {
    let mut body = value.to_le_bytes().to_vec();
    body.extend_from_slice(instance.as_bytes());
    Frame { stamp: Timestamp::from_secs(second), kind: FRAME_LOAD, body }
}

/// A frame that brings nothing but time.
pub(super) fn tick(second: i64) -> Frame {
    Frame { stamp: Timestamp::from_secs(second), kind: 0, body: Vec::new() }
}

/// What the program's worker does, over a journal in memory.
pub(super) struct Worker {
    pub(super) engine: Engine,
    pub(super) loads: Loads,
    pub(super) journal: Vec<Frame>,
    done: usize,
}

pub(super) const CHANNELS: [&str; 2] = ["mail:ops@example.org", "webhook:scaler"];

pub(super) fn channels() -> Vec<String> {
    CHANNELS.map(str::to_owned).to_vec()
}

impl Worker {
    /// A worker over an empty journal, with rules.
    pub(super) fn with_rules(text: &str) -> Self {
        let mut worker = Self::replaying(Vec::new());
        worker.go_live();
        let files = [("rules/test.toml".to_owned(), text.to_owned())];
        let body = Engine::rules_frame(&files).unwrap();
        worker.feed(Frame { stamp: Timestamp::from_secs(0), kind: FRAME_RULES, body });
        worker
    }

    /// A worker that has replayed `journal`, and is not live yet.
    pub(super) fn replaying(journal: Vec<Frame>) -> Self {
        let engine = Engine::new(channels());
        let mut worker = Self { engine, loads: Loads::default(), journal, done: 0 };
        worker.drain();
        worker
    }

    /// A worker from this one's checkpoint that has replayed the rest of `journal`.
    pub(super) fn restarted(&self, journal: Vec<Frame>) -> Self {
        let engine = Engine::restore(&self.engine.snapshot(), channels()).unwrap();
        let mut worker = Self { engine, loads: self.loads.clone(), journal, done: self.done };
        worker.drain();
        worker
    }

    pub(super) fn go_live(&mut self) {
        let stamp = self.journal.last().map_or(Timestamp::MIN, |frame| frame.stamp);
        let owed = self.engine.end_replay();
        self.append(owed, stamp);
        self.drain();
    }

    /// Appends a frame and applies all there is.
    pub(super) fn feed(&mut self, frame: Frame) {
        self.journal.push(frame);
        self.drain();
    }

    fn append(&mut self, bodies: Vec<Vec<u8>>, stamp: Timestamp) {
        let frames = bodies.into_iter().map(|body| Frame { stamp, kind: FRAME_TRANSITIONS, body });
        self.journal.extend(frames);
    }

    fn drain(&mut self) {
        while let Some(frame) = self.journal.get(self.done).cloned() {
            let bodies = self.engine.advance(frame.stamp, &self.loads);
            self.append(bodies, frame.stamp);
            self.done += 1;
            match frame.kind {
                FRAME_LOAD => self.take(&frame),
                FRAME_RULES | FRAME_TRANSITIONS | FRAME_DELIVERY => {
                    let seq = u64::try_from(self.done).unwrap();
                    self.engine.apply(seq, frame.kind, &frame.body).unwrap();
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, frame: &Frame) {
        let (value, instance) = frame.body.split_first_chunk::<8>().unwrap();
        let instance = std::str::from_utf8(instance).unwrap();
        self.loads.put(instance, frame.stamp, f64::from_le_bytes(*value));
    }

    /// All that was told, as (second, title), oldest first.
    pub(super) fn told(&self) -> Vec<(i64, String)> {
        let history = self.engine.view().history;
        history.iter().rev().map(|t| (t.at.as_millis() / 1000, t.title())).collect()
    }
}
