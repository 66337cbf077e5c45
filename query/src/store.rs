//! The store as a source of series.

use rrd::{Matcher, Span, Store};

use crate::read::{Read, Rows, Series};

impl Read for Store {
    fn select(&self, matchers: &[Matcher]) -> Vec<Series> {
        let found = Self::select(self, matchers).into_iter();
        found
            .map(|info| Series {
                handle: info.series,
                labels: info.labels,
                kind: info.kind,
                archives: info.archives,
                newest: info.newest,
                visible_ms: info.visible_ms,
                birth: info.birth,
            })
            .collect()
    }

    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows {
        let rows = Self::rows(self, series.handle, archive, span);
        Rows {
            first_end: rows.first_end,
            average: rows.average,
            min: rows.min,
            max: rows.max,
            known: rows.known,
        }
    }
}
