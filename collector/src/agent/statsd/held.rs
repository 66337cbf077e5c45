//! What is held of one StatsD metric, and the series that a look makes of it.

use std::collections::HashSet;

use tokio::time::Instant;

use super::line::MetricKind;
use super::series::Series;
use super::sketch::Sketch;
use crate::agent::reading::Readings;

/// Series of a timer: count, sum, min, max and three quantiles.
pub(super) const TIMER_SERIES: usize = 7;
/// The quantiles of timers.
const QUANTILES: [(&str, f64); 3] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99)];

/// A metric that was heard.
pub(super) struct Entry {
    pub(super) heard: Instant,
    pub(super) held: Held,
    /// A count was reported, if only its beginning: what is added from then on is seen as an increase.
    pub(super) is_told: bool,
}

/// Its values.
pub(super) enum Held {
    Counter { up: f64, down: f64 },
    Gauge(f64),
    Values { count: f64, sum: f64, recent: Box<Sketch> },
    Members(HashSet<u64>),
}

impl Held {
    /// Nothing yet.
    pub(super) fn of(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Self::Counter { up: 0.0, down: 0.0 },
            MetricKind::Gauge => Self::Gauge(0.0),
            MetricKind::Set => Self::Members(HashSet::new()),
            MetricKind::Timer | MetricKind::Histogram => {
                Self::Values { count: 0.0, sum: 0.0, recent: Box::default() }
            }
        }
    }

    /// How many series it becomes.
    pub(super) fn series(&self) -> usize {
        match self {
            // Those that count down need a second one; they are few.
            Self::Counter { down, .. } => 1 + usize::from(*down > 0.0),
            Self::Gauge(_) | Self::Members(_) => 1,
            Self::Values { .. } => TIMER_SERIES,
        }
    }
}

impl Entry {
    /// Adds its series to the readings of a look, and begins to gather for the next one.
    pub(super) fn tell(&mut self, series: &Series<'_>, out: &mut Readings) {
        let base = series.base();
        let labels = series.labels.as_slice();
        // The first reading of a count is where it begins.
        let told = f64::from(u8::from(std::mem::replace(&mut self.is_told, true)));
        match &mut self.held {
            Held::Gauge(level) => out.gauge(&base, labels, *level),
            Held::Counter { up, down } => {
                out.total(&format!("{base}_total"), labels, *up * told);
                if *down > 0.0 {
                    out.total(&format!("{base}_decreased_total"), labels, *down * told);
                }
            }
            Held::Members(members) => {
                let count = u32::try_from(members.len()).expect("bounded");
                out.gauge(&format!("{base}_unique"), labels, f64::from(count));
                members.clear();
            }
            Held::Values { count, sum, recent } => {
                out.total(&format!("{base}_count"), labels, *count * told);
                out.total(&format!("{base}_sum"), labels, *sum * told);
                if let Some((min, max)) = recent.ends() {
                    out.gauge(&format!("{base}_min"), labels, min);
                    out.gauge(&format!("{base}_max"), labels, max);
                }
                for (word, share) in QUANTILES {
                    if let Some(value) = recent.quantile(share) {
                        let labels = [labels, &[("quantile", word)]].concat();
                        out.gauge(&base, &labels, value);
                    }
                }
                recent.clear();
            }
        }
    }
}
