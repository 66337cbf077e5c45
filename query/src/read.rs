//! What the evaluator reads: the seam between PromQL and the archives.

use rrd::{Matcher, Span};

pub use rrd::{Rows, SeriesInfo as Series};

/// A source of series. Implemented by the store, and by a vector of rows in tests.
pub trait Read: Send + Sync {
    /// The series whose labels (those of the instance included) satisfy every matcher, always in
    /// the same order: sums depend on it.
    fn select(&self, matchers: &[Matcher]) -> Vec<Series>;

    /// The closed rows of archive number `archive` of `series` whose END lies in `span`, oldest
    /// first, without gaps: an unknown row is NaN. Rows the ring no longer holds are unknown.
    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows;
}
