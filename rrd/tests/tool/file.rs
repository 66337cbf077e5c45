//! A file under test, and what commands answer about it.

use std::sync::Arc;

use rrd::tool::{self, Answer, Caller};
use rrd::{MemDisk, Timestamp};

/// Midnight of UTC, a Tuesday.
pub(crate) const START_S: i64 = 1_699_920_000;

/// Runs a command on a disk, at a moment an hour after [`START_S`], in UTC.
pub(crate) fn run_on(disk: &MemDisk, words: &[&str]) -> Answer {
    let caller = Caller {
        disk: Arc::new(disk.clone()),
        now: Timestamp::from_secs(START_S + 3600),
        offset_s: &|_| 0,
    };
    tool::run(&caller, words)
}

/// One file, `f`, on a disk of its own.
pub(crate) struct Case {
    pub(crate) disk: MemDisk,
}

impl Case {
    /// A file of minutes that begins at [`START_S`].
    #[track_caller]
    pub(crate) fn create(definitions: &[&str]) -> Self {
        let case = Self { disk: MemDisk::new() };
        let start = START_S.to_string();
        let options = ["create", "f", "--start", &start, "--step", "60"];
        case.does(&[&options, definitions].concat());
        case
    }

    /// What a command says.
    pub(crate) fn run(&self, words: &[&str]) -> Answer {
        run_on(&self.disk, words)
    }

    /// What a command prints that must succeed.
    #[track_caller]
    pub(crate) fn does(&self, words: &[&str]) -> String {
        let answer = self.run(words);
        assert!(answer.is_ok(), "{words:?}: {}", answer.error);
        answer.output
    }

    /// Updates with samples written `OFFSET:VALUE...`, seconds after [`START_S`].
    pub(crate) fn update(&self, samples: &[&str]) -> Answer {
        let samples: Vec<String> = samples.iter().map(|sample| at(sample)).collect();
        let samples: Vec<&str> = samples.iter().map(String::as_str).collect();
        self.run(&[&["update", "f", "--"], &samples[..]].concat())
    }

    /// As [`Case::update`], which must succeed.
    #[track_caller]
    pub(crate) fn updates(&self, samples: &[&str]) {
        let answer = self.update(samples);
        assert!(answer.is_ok(), "{samples:?}: {}", answer.error);
    }

    /// Rows as `offset=value` after `from` up to `to`, and the extra one; values as Rust prints them.
    #[track_caller]
    pub(crate) fn rows(&self, function: &str, span: (i64, i64)) -> String {
        let (start, end) = ((START_S + span.0).to_string(), (START_S + span.1).to_string());
        let text = self.does(&["fetch", "f", function, "-s", &start, "-e", &end]);
        let rows = text.lines().skip(2).map(|line| {
            let (end, values) = line.split_once(": ").unwrap();
            let offset = end.trim().parse::<i64>().unwrap() - START_S;
            let values = values.split(' ').map(|value| match value {
                "-nan" => "U".to_owned(),
                value => value.parse::<f64>().unwrap().to_string(),
            });
            format!("{offset}={}", values.collect::<Vec<_>>().join(","))
        });
        rows.collect::<Vec<_>>().join(" ")
    }
}

fn at(sample: &str) -> String {
    let (offset, values) = sample.split_once(':').unwrap();
    format!("{}:{values}", START_S as f64 + offset.parse::<f64>().unwrap())
}
