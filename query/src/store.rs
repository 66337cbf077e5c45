//! The store as a source of series.

use rrd::{Matcher, Span, Store};

use crate::read::{Read, Rows, Series};

impl Read for Store {
    fn select(&self, matchers: &[Matcher]) -> Vec<Series> {
        Self::select(self, matchers)
    }

    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows {
        self.rows_of(series, archive, span)
    }
}
