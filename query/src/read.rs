//! What the evaluator reads: the seam between PromQL and the archives.

use std::sync::Arc;

use rrd::{ArchiveSpec, Kind, Labels, Matcher, SeriesRef, Span, Timestamp};

/// A source of series. Implemented by the store, and by a vector of rows in tests.
pub trait Read: Send + Sync {
    /// The series whose labels (those of the instance included) satisfy every matcher, always in
    /// the same order: sums depend on it.
    fn select(&self, matchers: &[Matcher]) -> Vec<Series>;

    /// The closed rows of archive number `archive` of `series` whose END lies in `span`, oldest
    /// first, without gaps: an unknown row is NaN. Rows the ring no longer holds are unknown.
    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows;
}

/// One series as a query sees it.
#[derive(Clone, Debug)]
pub struct Series {
    /// Where the source finds it again; means nothing to the evaluator.
    pub handle: SeriesRef,
    /// Labels, those of its instance included.
    pub labels: Labels,
    /// What its rows mean: levels, or rates of a counter.
    pub kind: Kind,
    /// Its archives, finest first; never empty.
    pub archives: Arc<[ArchiveSpec]>,
    /// END of its newest closed finest row; [`Timestamp::MIN`] when none has closed.
    pub newest: Timestamp,
    /// How long after `newest` it is still seen; `None` when a marker ended it.
    pub visible_ms: Option<u64>,
    /// The boundary before its first reading.
    pub birth: Timestamp,
}

/// Consecutive rows of one archive: row `i` ends at `first_end + i * step`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// END of the first row.
    pub first_end: Timestamp,
    /// Averages of the known steps, per row; for counters, rates per second. NaN is unknown.
    pub average: Vec<f64>,
    /// Smallest step; the same as `average` in the finest archive.
    pub min: Vec<f64>,
    /// Largest step; the same as `average` in the finest archive.
    pub max: Vec<f64>,
    /// Known finest steps in each row: 0 or 1 in the finest archive.
    pub known: Vec<u32>,
}
