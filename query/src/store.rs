//! The store as a source of series.

use rrd::{Matcher, Span, Store};

use crate::read::{Read, Rows, RowsWanted, Series};

impl Read for Store {
    fn select(&self, matchers: &[Matcher]) -> Vec<Series> {
        Self::select(self, matchers)
    }

    fn looks_at(&self, matchers: &[Matcher]) -> Option<usize> {
        Self::looks_at(self, matchers)
    }

    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows {
        self.rows_of(series, archive, span)
    }

    fn rows_into(&self, rows: &mut Rows, series: &Series, wanted: RowsWanted) {
        self.rows_of_into(rows, series, wanted);
    }
}
