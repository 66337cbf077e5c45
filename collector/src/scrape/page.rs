//! One scrape: a page, or that there was none, as series of its target.

use std::sync::{Arc, Mutex, PoisonError};

use rrd::{Kind, NAME, Timestamp};

use super::fetch::Fetched;
use super::seen::Seen;
use super::targets::Target;
use crate::exposition::{self, Labelled, Page, Series};
use crate::foreign::Sorter;

/// Samples of a page: as many as a remote-write request has.
const SAMPLES: usize = 20_000;
/// Samples that tell how a scrape went.
const OWN: usize = 4;

/// What is remembered of a target between two scrapes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    seen: Seen,
    /// What `seen` will be once the last page that was read is stored, where it differs.
    next: Option<Seen>,
    /// Scrapes lost one after the other.
    lost: u64,
    /// What is wrong with the page, for a person; `None` when nothing is.
    pub(crate) problem: Option<String>,
}

impl Memory {
    /// Remembers the page that was read last if it is stored: else the next one tells again what
    /// vanished. Returns how many scrapes in a row are, or were, lost.
    pub(crate) fn settle(&mut self, is_stored: bool, is_over: bool) -> u64 {
        let next = self.next.take();
        if is_over {
            self.seen = Seen::default();
        } else if let (true, Some(next)) = (is_stored, next) {
            self.seen = next;
        }
        if is_stored {
            return std::mem::take(&mut self.lost);
        }
        self.lost += 1;
        self.lost
    }
}

/// One scrape of a target.
pub(crate) struct Scrape {
    pub(crate) target: Arc<Target>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) at: Timestamp,
    pub(crate) took_s: f64,
    pub(crate) outcome: Outcome,
}

/// What came of it.
pub(crate) enum Outcome {
    Page(Fetched),
    /// No page, and why.
    Nothing(String),
    /// It is no target any more: all of its series end.
    Over,
}

impl Scrape {
    /// Bytes that are worked on.
    pub(crate) fn byte_count(&self) -> usize {
        match &self.outcome {
            Outcome::Page(fetched) => fetched.body.len(),
            _ => 0,
        }
    }

    /// Samples that are lost with it: the lines of its page that hold some, and our own.
    pub(crate) fn sample_count(&self) -> u64 {
        let body = match &self.outcome {
            Outcome::Page(fetched) => &fetched.body[..],
            _ => &[],
        };
        let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let count = lines.filter(|line| !line.is_empty() && line[0] != b'#').count();
        u64::try_from(count.min(SAMPLES) + OWN).expect("limited")
    }

    /// Hands all series of the target to `sorter`.
    pub(crate) fn sort(&self, sorter: &mut Sorter<'_>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let page = match &self.outcome {
            Outcome::Page(fetched) => exposition::read(&fetched.body, fetched.format, SAMPLES)
                .map_err(|fault| fault.to_string()),
            Outcome::Nothing(why) => Err(why.clone()),
            Outcome::Over => Err(String::new()),
        };
        memory.problem = match &page {
            Ok(page) => page.faults.first().map(|first| {
                format!("{} lines are not taken; first: {first}", page.faults.count())
            }),
            Err(why) => Some(why.clone()),
        };
        if matches!(self.outcome, Outcome::Over) {
            memory.problem = None;
        }
        let is_up = page.is_ok();
        let page = page.unwrap_or_default();
        let mut hand = Hand::of(&self.target.labels, true, (self.at, sorter));
        for series in memory.seen.vanished(&page.samples) {
            hand.series(series, f64::NAN, None);
        }
        for sample in &page.samples {
            hand.series(sample.series, sample.value, sample.kind);
        }
        self.report(is_up, &page, &mut hand);
        sorter.sorted.exemplars += page.exemplars;
        memory.next = memory.seen.next(&page.samples);
    }

    /// How the scrape went, as series of the target. Last, so that they win over the page's.
    fn report(&self, is_up: bool, page: &Page<'_>, hand: &mut Hand<'_, '_>) {
        #[expect(clippy::cast_precision_loss, reason = "counts of one page stay below 2^53")]
        let count = |number: usize| number as f64;
        let own: [(&str, f64); OWN] = [
            ("up", f64::from(u8::from(is_up))),
            ("scrape_duration_seconds", self.took_s),
            ("scrape_samples_scraped", count(page.samples.len())),
            ("scrape_faulty_lines", count(page.faults.count())),
        ];
        for (metric, value) in own {
            let is_over = matches!(self.outcome, Outcome::Over);
            hand.own(metric, if is_over { f64::NAN } else { value });
        }
    }
}

/// Hands series under the same labels, at the same moment, to a sorter.
pub(crate) struct Hand<'h, 's> {
    over: &'h [(String, String)],
    keeps_hidden: bool,
    at: Timestamp,
    sorter: &'h mut Sorter<'s>,
    /// The bytes in front of every series' text, equal only for equal labels, and room for the text.
    key: Vec<u8>,
}

impl<'h, 's> Hand<'h, 's> {
    /// A hand for series under the labels `over`; what they hide is kept as `exported_…` or not.
    pub(crate) fn of(
        over: &'h [(String, String)],
        keeps_hidden: bool,
        (at, sorter): (Timestamp, &'h mut Sorter<'s>),
    ) -> Self {
        // Lengths first: values may hold any byte.
        let mut key = over.len().to_le_bytes().to_vec();
        for text in over.iter().flat_map(|(name, value)| [name, value]) {
            key.extend(text.len().to_le_bytes());
            key.extend(text.bytes());
        }
        Self { over, keeps_hidden, at, sorter, key }
    }

    /// Hands a series of a page.
    pub(crate) fn series(&mut self, series: Series<'_>, value: f64, kind: Option<Kind>) {
        let name = Labelled { series, over: self.over, keeps_hidden: self.keeps_hidden };
        let start = self.key.len();
        self.key.extend_from_slice(series.text().as_bytes());
        self.sorter.series(&self.key, &name, (&[(self.at, value)], kind));
        self.key.truncate(start);
    }

    /// Hands a gauge of our own.
    pub(crate) fn own(&mut self, metric: &str, value: f64) {
        let start = self.key.len();
        // No text of a page begins so.
        self.key.push(b'=');
        self.key.extend_from_slice(metric.as_bytes());
        let pairs = self.over.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs: Vec<(&str, &str)> = pairs.chain([(NAME, metric)]).collect();
        let samples = [(self.at, value)];
        self.sorter.series(&self.key, &pairs.as_slice(), (&samples, Some(Kind::Gauge)));
        self.key.truncate(start);
    }
}
