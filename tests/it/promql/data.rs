//! The samples: three hours of three hosts, one reading a minute and series, on the minute.

use fixtures::remote_write::Series;

const STEP_MS: i64 = 60_000;
const MOMENTS: i64 = 180;
/// The value by which a series is said to have ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// All series up to a moment on the minute.
pub(crate) struct Data {
    last_ms: i64,
}

/// One series: its labels, and its reading at a minute since the beginning.
struct Stored {
    labels: Vec<(&'static str, String)>,
    reading: Box<dyn Fn(i64) -> Option<f64> + Send>,
}

impl Data {
    /// Samples up to a few minutes before `now_ms`.
    pub(crate) fn until(now_ms: i64) -> Self {
        Self { last_ms: now_ms.div_euclid(STEP_MS) * STEP_MS - 2 * STEP_MS }
    }

    /// The moment asked about, in seconds: an hour and a bit before the end, 30 s off the minute.
    pub(crate) fn asked_secs(&self) -> i64 {
        self.last_ms / 1000 - 3600 - 10 * 60 + 30
    }

    /// The last reading's moment.
    pub(crate) fn newest_secs(&self) -> String {
        (self.last_ms / 1000).to_string()
    }

    /// One request for each minute, oldest first.
    pub(crate) fn batches(&self) -> impl Iterator<Item = (i64, Vec<Series>)> {
        let (all, last_ms) = (all_series(), self.last_ms);
        (0..MOMENTS).map(move |minute| {
            let at_ms = last_ms - (MOMENTS - 1 - minute) * STEP_MS;
            let readings = all.iter().filter_map(|stored| {
                let mut value = (stored.reading)(minute)?;
                if stored.is_moment() {
                    value += whole(at_ms / 1000);
                }
                let labels: Vec<_> = stored.labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
                Some(Series::new(&labels).reading(at_ms, value))
            });
            (at_ms, readings.collect())
        })
    }
}

impl Stored {
    fn is_moment(&self) -> bool {
        self.labels[0].1.ends_with("timestamp_seconds")
    }
}

fn series(
    name: &str,
    host: u8,
    more: &[(&'static str, &str)],
    reading: impl Fn(i64) -> Option<f64> + Send + 'static,
) -> Stored {
    let mut labels = vec![("__name__", name.to_owned())];
    labels.push(("instance", format!("host-{host}")));
    labels.push(("job", "demo".to_owned()));
    labels.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Stored { labels, reading: Box::new(reading) }
}

fn all_series() -> Vec<Stored> {
    (0..3).flat_map(|host| gauges(host).into_iter().chain(counters(host))).collect()
}

fn gauges(host: u8) -> Vec<Stored> {
    let number = f64::from(host);
    let mut all: Vec<Stored> = ["free", "cached", "buffers", "used"]
        .iter()
        .zip(1..)
        .map(|(kind, n)| {
            let seed = i64::from(host) * 10 + n;
            series("memory_bytes", host, &[("type", kind)], move |minute| {
                Some(1e8 * whole(n) * 2.0 + 1e6 * noise(seed, minute))
            })
        })
        .collect();
    all.push(series("cpus", host, &[], move |_| Some(4.0 * 2.0_f64.powf(number))));
    all.push(series("temperature", host, &[], move |minute| {
        Some(noise(i64::from(host) + 100, minute) / 31.0 - 10.0)
    }));
    all.push(series("disk_bytes", host, &[("device", "vda")], move |minute| {
        Some(5e9 + 3.25e6 * whole(minute) + 1e5 * noise(i64::from(host) + 200, minute))
    }));
    // A moment, whenever the test runs: this is what is added to the reading's own.
    all.push(series("done_timestamp_seconds", host, &[], move |minute| {
        Some(-60.0 * whole((minute + i64::from(host)) % 5))
    }));
    for (le, below) in [("1", 10.0), ("8", 25.0), ("64", 27.5), ("+Inf", 30.0)] {
        all.push(series("sizes_bucket", host, &[("le", le)], move |_| Some(below + number)));
    }
    // On host-2 it ends for twenty minutes in the middle of what is asked for.
    all.push(series("leaving", host, &[], move |minute| match minute {
        80..100 if host == 2 => (minute == 80).then_some(f64::from_bits(STALE)),
        _ => Some(noise(i64::from(host) + 300, minute)),
    }));
    all
}

fn counters(host: u8) -> Vec<Stored> {
    let number = f64::from(host) + 1.0;
    let mut all = Vec::new();
    for (mode, share) in [("user", 17.25), ("system", 4.5), ("idle", 38.0)] {
        all.push(series("cpu_seconds_total", host, &[("mode", mode)], move |minute| {
            Some(share * number / 2.0 * whole(minute) + 1000.0)
        }));
    }
    for (status, more) in [("200", 120.0), ("404", 7.0), ("500", 2.0)] {
        let labels = [("method", "get"), ("status", status)];
        all.push(series("requests_total", host, &labels, move |minute| {
            Some(more * number * whole(minute) + 9000.0)
        }));
    }
    for (le, share) in [("0.1", 0.5), ("0.5", 0.8), ("1", 0.9), ("+Inf", 1.0)] {
        all.push(series("latency_seconds_bucket", host, &[("le", le)], move |minute| {
            Some(share * 100.0 * number * whole(minute))
        }));
    }
    all.push(series("latency_seconds_count", host, &[], move |minute| {
        Some(100.0 * number * whole(minute))
    }));
    all.push(series("latency_seconds_sum", host, &[], move |minute| {
        Some(23.5 * number * whole(minute))
    }));
    // It begins again every forty minutes.
    all.push(series("jobs_total", host, &[], move |minute| {
        Some(30.0 * number * whole((minute + i64::from(host)) % 40))
    }));
    all
}

/// A number from 0 to 999.999 that follows from two others and looks like no line.
fn noise(seed: i64, minute: i64) -> f64 {
    let mixed = (seed * 7919 + minute * 104_729).wrapping_mul(2_654_435_761).rem_euclid(1_000_000);
    whole(mixed) / 1000.0
}

fn whole(number: i64) -> f64 {
    i32::try_from(number).map_or_else(
        |_| f64::from(u32::try_from(number).expect("a number of the tests is small")),
        f64::from,
    )
}
