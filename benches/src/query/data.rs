//! The fleet that all servers are sent: 2,000 instances of ten series, a day of minutes; and one series
//! of a year.

use bytes::Bytes;
use fixtures::remote_write::{Series, body};
use rrd::Timestamp;

use crate::data::value;

pub(crate) const INSTANCES: usize = 2000;
pub(crate) const METRICS: usize = 10;
pub(crate) const REGIONS: usize = 8;
/// The last ones are counters.
const COUNTERS: usize = 2;
pub(crate) const MINUTES: i64 = 1440;
/// Of one request: what comes later in time comes in a later one, as servers want it that keep the
/// newest hours apart. Minutes.
const SLICE: i64 = 30;
/// 18,000 samples a request.
const INSTANCES_EACH: usize = 60;
const YEAR_SECS: i64 = 365 * 86_400;
const YEAR_STEP_SECS: i64 = 120;
const YEAR_READINGS_EACH: usize = 18_000;

/// All bodies of the fleet up to `end`, oldest first.
pub(crate) fn fleet(end: Timestamp) -> impl Iterator<Item = Bytes> {
    let slices = (0..MINUTES / SLICE).map(|slice| slice * SLICE);
    slices.flat_map(move |first| {
        let starts = (0..INSTANCES).step_by(INSTANCES_EACH);
        starts.map(move |start| {
            let instances = start..(start + INSTANCES_EACH).min(INSTANCES);
            let numbers = instances.start * METRICS..instances.end * METRICS;
            let one = |number: usize| {
                (first + 1..=first + SLICE).fold(series(number), |series, minute| {
                    let at = end.plus_millis((minute - MINUTES) * 60_000);
                    series.reading(at.as_millis(), reading(number, minute))
                })
            };
            Bytes::from(body(&numbers.map(one).collect::<Vec<_>>()))
        })
    })
}

/// One reading of every series of some instances, of this moment.
pub(crate) fn live(instances: std::ops::Range<usize>, at: Timestamp, step: i64) -> Bytes {
    let numbers = instances.start * METRICS..instances.end * METRICS;
    let one =
        |number: usize| series(number).reading(at.as_millis(), reading(number, MINUTES + step));
    Bytes::from(body(&numbers.map(one).collect::<Vec<_>>()))
}

/// All bodies of the one series of a year.
pub(crate) fn year(end: Timestamp) -> Vec<Bytes> {
    let steps: Vec<i64> = (1..=YEAR_SECS / YEAR_STEP_SECS).collect();
    let one = |steps: &[i64]| {
        let labels = [("__name__", "bench_year"), ("instance", "host-year"), ("job", "bench")];
        let series = steps.iter().fold(Series::new(&labels), |series, step| {
            let at = end.plus_millis((step * YEAR_STEP_SECS - YEAR_SECS) * 1000);
            series.reading(at.as_millis(), value(0, *step))
        });
        Bytes::from(body(&[series]))
    };
    steps.chunks(YEAR_READINGS_EACH).map(one).collect()
}

/// The name of an instance.
pub(crate) fn host(instance: usize) -> String {
    format!("host-{instance:04}")
}

/// Instance by instance, ten of each.
fn series(number: usize) -> Series {
    let (instance, metric) = (number / METRICS, number % METRICS);
    let (host, region) = (host(instance), format!("region-{}", instance % REGIONS));
    let name = if is_counter(number) {
        format!("bench_requests_{metric}_total")
    } else {
        format!("bench_gauge_{metric}")
    };
    let labels = [
        ("__name__", name.as_str()),
        ("instance", host.as_str()),
        ("job", "bench"),
        ("region", region.as_str()),
    ];
    Series::new(&labels)
}

const fn is_counter(number: usize) -> bool {
    number % METRICS >= METRICS - COUNTERS
}

fn reading(number: usize, minute: i64) -> f64 {
    if is_counter(number) { counted(number, minute) } else { value(number, minute) }
}

/// 60 to 420 a minute.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn counted(number: usize, minute: i64) -> f64 {
    minute as f64 * 60.0 * (number % 7 + 1) as f64
}
