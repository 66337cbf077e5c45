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

fn answer_of(text: &str, fleet: &Counted) -> String {
    let range = Range {
        start: Timestamp::from_secs(300),
        end: Timestamp::from_secs(288 * 300),
        step: Step::from_secs(1800).unwrap(),
    };
    let answer = Expr::parse(text).unwrap().range(fleet, range, &Limits::default()).unwrap();
    let Value::Matrix(lines) = answer.value else { panic!("not lines") };
    let bits = |points: &[(Timestamp, f64)]| -> Vec<u64> {
        points.iter().map(|(_, value)| value.to_bits()).collect()
    };
    let lines = lines.iter().map(|line| (line.labels.to_string(), bits(&line.points)));
    format!("{:?} {:?}", lines.collect::<Vec<_>>(), answer.warnings)
}

#[test]
fn answers_are_the_same_bit_for_bit_however_many_queries_share_the_processors() {
    let fleet = fleet(200);
    for text in [
        "avg by (region) (cpu / 7)",
        "avg by (region) (cpu)",
        "sum(rate(cpu[30m]))",
        "topk(3, cpu)",
        "stddev by (region) (avg_over_time(cpu[30m]))",
    ] {
        let alone = answer_of(text, &fleet);
        std::thread::scope(|scope| {
            let same = || (0..2).for_each(|_| assert_eq!(answer_of(text, &fleet), alone, "{text}"));
            (0..4).for_each(|_| drop(scope.spawn(same)));
        });
    }
}

#[test]
fn series_that_differ_in_their_names_alone_are_refused_where_names_are_dropped() {
    let mut fleet = fleet(2);
    let values = vec![1.0; 288];
    let labels = [("__name__", "disk"), ("region", "r0"), ("instance", "0")];
    fleet.read.add(MemorySeries {
        labels: Labels::from_pairs(labels).unwrap(),
        kind: Kind::Gauge,
        archives: Arc::new([ArchiveSpec::even(Step::from_secs(300).unwrap(), 1000)]),
        visible_ms: None,
        first_end: Timestamp::from_secs(300),
        values,
    });
    let at = |text: &str| {
        let expr = Expr::parse(text).unwrap();
        expr.instant(&fleet, Timestamp::from_secs(288 * 300), &Limits::default())
    };
    let both = "{__name__=~\"cpu|disk\"}";
    let refused = at(&format!("sum(last_over_time({both}[5m]) + 0)")).unwrap_err();
    assert!(refused.to_string().contains("same labelset"), "{refused}");
    let refused = at(&format!("sum(rate({both}[30m]))")).unwrap_err();
    assert!(refused.to_string().contains("same labelset"), "{refused}");
    assert!(at(&format!("sum({both})")).is_ok());
    let named = at(&format!("count by (__name__) (avg_over_time({both}[5m]))"));
    assert!(named.is_err());
    let named = at("count by (__name__) (avg_over_time(cpu[5m]))").unwrap();
    let Value::Vector(points) = named.value else { panic!("not a vector") };
    assert!(points[0].labels.is_empty(), "{points:?}");
}
