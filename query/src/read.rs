//! What the evaluator reads: the seam between PromQL and the archives.

use rrd::{Matcher, Span};

pub use rrd::{RowParts, Rows, RowsWanted, SeriesInfo as Series};

/// A source of series. Implemented by the store, and by a vector of rows in tests. Many threads ask
/// it at once.
pub trait Read: Send + Sync {
    /// The series whose labels (those of the instance included) satisfy every matcher, always in
    /// the same order: sums depend on it.
    fn select(&self, matchers: &[Matcher]) -> Vec<Series>;

    /// How many series are looked at to select those of these matchers; `None` where nobody knows at once.
    fn looks_at(&self, _matchers: &[Matcher]) -> Option<usize> {
        None
    }

    /// The closed rows of archive number `archive` of `series` whose END lies in `span`, oldest
    /// first, without gaps: an unknown row is NaN. Rows the ring no longer holds are unknown.
    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows;

    /// As [`Read::rows`], into rows whose room is used again; numbers that are not wanted may be
    /// left out.
    fn rows_into(&self, rows: &mut Rows, series: &Series, wanted: RowsWanted) {
        *rows = self.rows(series, wanted.archive, wanted.span);
        rows.thin(&series.archives[wanted.archive], wanted.span.start(), wanted.every);
    }
}
