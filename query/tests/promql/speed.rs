//! A fleet's aggregate: one select, and one read a series however many moments are asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use query::memory::{MemoryRead, MemorySeries};
use query::{Expr, Limits, Range, Read, Rows, Series, Value};
use rrd::{ArchiveSpec, Kind, Labels, Matcher, Span, Step, Timestamp};

/// Counts what is asked of it.
struct Counted {
    read: MemoryRead,
    selects: AtomicUsize,
    reads: AtomicUsize,
}

impl Read for Counted {
    fn select(&self, matchers: &[Matcher]) -> Vec<Series> {
        self.selects.fetch_add(1, Ordering::Relaxed);
        self.read.select(matchers)
    }

    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read.rows(series, archive, span)
    }
}

fn fleet(count: u32) -> Counted {
    let step = Step::from_secs(300).unwrap();
    let archives: Arc<[ArchiveSpec]> = Arc::new([ArchiveSpec::even(step, 1000)]);
    let mut read = MemoryRead::default();
    for number in 0..count {
        let region = format!("r{}", number % 5);
        let pairs = [("__name__", "cpu"), ("region", &region), ("instance", &number.to_string())];
        read.add(MemorySeries {
            labels: Labels::from_pairs(pairs).unwrap(),
            kind: Kind::Gauge,
            archives: Arc::clone(&archives),
            visible_ms: None,
            first_end: Timestamp::from_secs(300),
            values: vec![f64::from(number); 288],
        });
    }
    Counted { read, selects: AtomicUsize::default(), reads: AtomicUsize::default() }
}

#[test]
fn an_aggregate_selects_once_and_reads_each_series_once() {
    let fleet = fleet(200);
    let range = Range {
        start: Timestamp::from_secs(300),
        end: Timestamp::from_secs(288 * 300),
        step: Step::from_secs(300).unwrap(),
    };
    let expr = Expr::parse("avg by (region) (cpu)").unwrap();
    let answer = expr.range(&fleet, range, &Limits::default()).unwrap();
    let Value::Matrix(lines) = answer.value else { panic!("not lines") };
    assert_eq!((lines.len(), lines[0].points.len()), (5, 288));
    assert_eq!(fleet.selects.into_inner(), 1);
    assert_eq!(fleet.reads.into_inner(), 200);
}
