//! Accounting: what became of every sample that was received, by instance, by the way it came, and by
//! reason.
//!
//! Once the worker has applied what intake appended, it balances: received = stored + duplicate +
//! late + stale generation + refused, for each instance, for each way and in total.

mod flights;
mod way;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rrd::{InstanceId, Verdicts};

use flights::Flights;
pub use way::Way;

/// Ways with a line of their own: every protocol of a thousand tokens; tokens come and go.
const WAY_LIMIT: usize = 10_000;
/// Names of client certificates with a line of their own.
const CERTIFICATE_LIMIT: usize = 10_000;

/// Why samples were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Later than the future limit allows.
    Future,
    /// Before every archive.
    TooOld,
    /// A label, or all of them, over a limit.
    LabelLimit,
    /// A label without a name, with control characters, or not UTF-8.
    BadLabel,
    /// A label given twice.
    DuplicateLabel,
    /// No `__name__`.
    NoName,
    /// The instance's grant is used up.
    SeriesLimit,
    /// No more instances may be named.
    InstanceLimit,
    /// The instance was withdrawn.
    Withdrawn,
    /// No space for a new series.
    DiskFull,
    /// A native histogram, which no archive holds.
    NativeHistogram,
    /// A sum or histogram of which no archive can tell since when it counts.
    Temporality,
    /// A point, line or element that contradicts itself or its protocol, or has no value.
    Malformed,
    /// The store could not take the series.
    Store,
    /// A text where a number is kept.
    Text,
    /// The operator's rules leave the series out.
    Relabelled,
    /// No room in the journal or in memory at that moment, and nobody to send it again.
    Unstored,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::Future,
        Self::TooOld,
        Self::LabelLimit,
        Self::BadLabel,
        Self::DuplicateLabel,
        Self::NoName,
        Self::SeriesLimit,
        Self::InstanceLimit,
        Self::Withdrawn,
        Self::DiskFull,
        Self::NativeHistogram,
        Self::Temporality,
        Self::Malformed,
        Self::Store,
        Self::Text,
        Self::Relabelled,
        Self::Unstored,
    ];

    /// The reason as answers and counters spell it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Future => "future",
            Self::TooOld => "too_old",
            Self::LabelLimit => "label_limit",
            Self::BadLabel => "bad_label",
            Self::DuplicateLabel => "duplicate_label",
            Self::NoName => "no_name",
            Self::SeriesLimit => "series_limit",
            Self::InstanceLimit => "instance_limit",
            Self::Withdrawn => "withdrawn",
            Self::DiskFull => "disk_full",
            Self::NativeHistogram => "native_histogram",
            Self::Temporality => "temporality",
            Self::Malformed => "malformed",
            Self::Store => "store",
            Self::Text => "text",
            Self::Relabelled => "relabelled",
            Self::Unstored => "unstored",
        }
    }
}

/// Samples of one instance, or of all, since the server started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples that requests held which got an answer other than "try again".
    pub received: u64,
    /// Samples in an archive.
    pub stored: u64,
    /// Samples known already.
    pub duplicate: u64,
    /// Samples too late to change a row.
    pub late: u64,
    /// Samples for a column that another series has taken since.
    pub stale_generation: u64,
    /// Samples not taken, by reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Exemplars left out: archives hold none. No samples, so not part of the balance.
    pub exemplars: u64,
}

impl Counts {
    /// Samples not taken.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Samples received and not yet accounted for: those between journal and worker, else 0.
    pub fn in_flight(&self) -> i128 {
        let known = [self.stored, self.duplicate, self.late, self.stale_generation];
        let known: i128 = known.into_iter().map(i128::from).sum();
        i128::from(self.received) - known - i128::from(self.refused_total())
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.stored += other.stored;
        self.duplicate += other.duplicate;
        self.late += other.late;
        self.stale_generation += other.stale_generation;
        self.exemplars += other.exemplars;
        for (reason, count) in &other.refused {
            *self.refused.entry(*reason).or_default() += count;
        }
    }

    /// Takes back what [`Counts::add`] added of intake's part.
    fn take_back(&mut self, other: &Self) {
        self.received = self.received.saturating_sub(other.received);
        self.exemplars = self.exemplars.saturating_sub(other.exemplars);
        for (reason, count) in &other.refused {
            let held = self.refused.entry(*reason).or_default();
            *held = held.saturating_sub(*count);
        }
    }
}

/// What one request adds, gathered before its fate is known. `None` is "no instance could be
/// named".
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    way: Way,
    counts: HashMap<Option<InstanceId>, Counts>,
}

impl Tally {
    /// An empty tally of a request that came by `way`.
    pub(crate) fn of(way: Way) -> Self {
        Self { way, counts: HashMap::new() }
    }

    fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        self.counts.values().for_each(|counts| sum.add(counts));
        sum
    }

    /// `count` samples arrived for `instance`.
    pub(crate) fn received(&mut self, instance: Option<InstanceId>, count: u64) {
        self.counts.entry(instance).or_default().received += count;
    }

    /// `count` samples arrived for `instance` and were refused.
    pub(crate) fn refused(&mut self, instance: Option<InstanceId>, reason: Reason, count: u64) {
        let counts = self.counts.entry(instance).or_default();
        counts.received += count;
        *counts.refused.entry(reason).or_default() += count;
    }

    /// `count` exemplars were left out.
    pub(crate) fn exemplars(&mut self, count: u64) {
        if count > 0 {
            self.counts.entry(None).or_default().exemplars += count;
        }
    }
}

/// The books. Instances are bounded by the registry's limit.
#[derive(Debug, Default)]
pub struct Accounting {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    instances: HashMap<Option<InstanceId>, Counts>,
    ways: HashMap<Way, Counts>,
    flights: Flights,
    certificates: BTreeMap<Arc<str>, u64>,
    total: Counts,
}

impl Books {
    /// The line of `way`; beyond the limit all new ones share one.
    fn way(&mut self, way: Way) -> &mut Counts {
        let has_room = self.ways.len() < WAY_LIMIT || self.ways.contains_key(&way);
        self.ways.entry(if has_room { way } else { Way::REST }).or_default()
    }
}

impl Accounting {
    /// Enters what a request brought. Before the append, so that the worker is never ahead.
    pub(crate) fn enter(&self, tally: &Tally) {
        let mut books = self.books();
        let sum = tally.sum();
        for (instance, counts) in &tally.counts {
            books.instances.entry(*instance).or_default().add(counts);
        }
        books.way(tally.way).add(&sum);
        books.total.add(&sum);
    }

    /// Takes back what was entered for a request that the journal refused: its sender sends it
    /// again.
    pub(crate) fn take_back(&self, tally: &Tally) {
        let mut books = self.books();
        let sum = tally.sum();
        for (instance, counts) in &tally.counts {
            books.instances.entry(*instance).or_default().take_back(counts);
        }
        books.way(tally.way).take_back(&sum);
        books.total.take_back(&sum);
    }

    /// Notes which frames a tally that was entered became, so that what the worker does with them is
    /// entered by its way.
    pub(crate) fn appended(&self, tally: &Tally, seqs: Range<u64>) {
        let mut books = self.books();
        for verdicts in books.flights.depart(seqs, tally.way) {
            books.way(tally.way).add(&of(&verdicts));
        }
    }

    /// Counts a request of a client that its certificate calls `name`.
    pub(crate) fn certificate(&self, name: &Arc<str>) {
        let mut books = self.books();
        let certificates = &mut books.certificates;
        if certificates.len() < CERTIFICATE_LIMIT || certificates.contains_key(name) {
            *certificates.entry(name.clone()).or_default() += 1;
        }
    }

    /// Enters what the worker did with live frame `seq`; replayed frames were received by an earlier
    /// process.
    pub fn applied(&self, seq: u64, instance: InstanceId, verdicts: &Verdicts) {
        let counts = of(verdicts);
        let mut books = self.books();
        books.instances.entry(Some(instance)).or_default().add(&counts);
        books.total.add(&counts);
        if let Some(way) = books.flights.land(seq, verdicts) {
            books.way(way).add(&counts);
        }
    }

    /// All samples since the start.
    pub fn total(&self) -> Counts {
        self.books().total.clone()
    }

    /// Samples of each instance; `None` holds those that named no instance.
    pub fn instances(&self) -> Vec<(Option<InstanceId>, Counts)> {
        let mut all: Vec<_> =
            self.books().instances.iter().map(|(id, counts)| (*id, counts.clone())).collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }

    /// Samples by the way they came.
    pub fn ways(&self) -> Vec<(Way, Counts)> {
        let mut all: Vec<_> =
            self.books().ways.iter().map(|(way, counts)| (*way, counts.clone())).collect();
        all.sort_by_key(|(way, _)| *way);
        all
    }

    /// Requests by the name in the client's certificate, where there was one.
    pub fn certificates(&self) -> Vec<(Arc<str>, u64)> {
        self.books().certificates.iter().map(|(name, count)| (name.clone(), *count)).collect()
    }

    /// Samples of one instance.
    pub fn instance(&self, id: InstanceId) -> Counts {
        self.books().instances.get(&Some(id)).cloned().unwrap_or_default()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Counters stay meaningful after a panic elsewhere: every entry is one addition.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of(verdicts: &Verdicts) -> Counts {
    Counts {
        stored: verdicts.stored,
        duplicate: verdicts.duplicate,
        late: verdicts.late,
        stale_generation: verdicts.stale_generation,
        ..Counts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_balance_by_instance_and_in_total() {
        let accounting = Accounting::default();
        let (one, two) = (InstanceId(1), InstanceId(2));
        let mut tally = Tally::of(Way::native(None));
        tally.received(Some(one), 10);
        tally.refused(Some(one), Reason::Future, 2);
        tally.refused(None, Reason::NoName, 3);
        tally.received(Some(two), 1);
        accounting.enter(&tally);
        accounting.appended(&tally, 1..3);
        assert_eq!(accounting.instance(one).in_flight(), 10);
        let verdicts = Verdicts { stored: 7, duplicate: 2, late: 1, ..Verdicts::default() };
        accounting.applied(1, one, &verdicts);
        accounting.applied(2, two, &Verdicts { stored: 1, ..Verdicts::default() });
        let total = accounting.total();
        assert_eq!((total.received, total.in_flight(), total.refused_total()), (16, 0, 5));
        assert!(accounting.instances().iter().all(|(_, counts)| counts.in_flight() == 0));
        assert_eq!(accounting.ways(), [(Way::native(None), total)]);
    }

    #[test]
    fn a_request_the_journal_refused_leaves_no_trace() {
        let accounting = Accounting::default();
        let mut tally = Tally::of(Way::native(None));
        tally.received(Some(InstanceId(1)), 10);
        tally.refused(None, Reason::NoName, 3);
        accounting.enter(&tally);
        accounting.take_back(&tally);
        let total = accounting.total();
        assert_eq!((total.received, total.refused_total(), total.in_flight()), (0, 0, 0));
    }
}
