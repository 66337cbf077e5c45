//! The table of what was heard: counters that go on counting, and what came since the last look.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use rrd::Timestamp;
use tokio::time::Instant;

use super::held::{Entry, Held};
use super::line::{Line, Metric, MetricKind, number, parse};
use super::series::{of_key, write_key};
use crate::agent::reading::Readings;

/// Series that all of it becomes: three quarters of what a server grants an instance.
const SERIES_MAX: usize = 1_500;
/// Different values that all sets remember until the next look.
const MEMBERS_MAX: usize = 100_000;
/// Seconds by which the time that a sender gives may differ from ours: what is older belongs to rows that
/// were read.
const TIMED_MAX: i64 = 60;

/// Why values were not taken.
#[derive(Clone, Copy)]
enum Why {
    Malformed,
    TooLong,
    Full,
    /// They have a time of their own, which is not that of a look.
    Timed,
}

const DROPS: [(Why, &str); 4] = [
    (Why::Malformed, "malformed"),
    (Why::TooLong, "too_long"),
    (Why::Full, "full"),
    (Why::Timed, "timed"),
];

/// All that was heard.
pub(super) struct Table {
    expire: Duration,
    /// The moment of the last look on both clocks.
    looked: Option<(Timestamp, Instant)>,
    entries: HashMap<Box<str>, Entry>,
    key: String,
    series_count: usize,
    member_count: usize,
    datagrams: u64,
    events: u64,
    checks: u64,
    dropped: [u64; DROPS.len()],
}

impl Table {
    /// An empty table, whose series are forgotten when nothing was heard of them for `expire`.
    pub(super) fn keeping(expire: Duration) -> Self {
        Self {
            expire,
            looked: None,
            entries: HashMap::new(),
            key: String::new(),
            series_count: 0,
            member_count: 0,
            datagrams: 0,
            events: 0,
            checks: 0,
            dropped: [0; DROPS.len()],
        }
    }

    /// Takes the lines of a datagram.
    pub(super) fn take(&mut self, datagram: &[u8], now: Instant) {
        self.datagrams += 1;
        for line in datagram.split(|byte| *byte == b'\n') {
            let Ok(line) = str::from_utf8(line) else {
                self.drop(Why::Malformed);
                continue;
            };
            let line = line.trim_end_matches('\r');
            if !line.is_empty() {
                self.line(line, now);
            }
        }
    }

    fn line(&mut self, line: &str, now: Instant) {
        match parse(line) {
            None => self.drop(Why::Malformed),
            Some(Line::Event) => self.events += 1,
            Some(Line::Check) => self.checks += 1,
            Some(Line::Metric(metric)) if !self.is_current(&metric, now) => self.drop(Why::Timed),
            Some(Line::Metric(metric)) => self.metric(&metric, now),
        }
    }

    /// True for what belongs to the next look, by the time that its sender gives.
    fn is_current(&self, metric: &Metric<'_>, now: Instant) -> bool {
        let Some(at) = metric.at else { return true };
        self.looked.is_some_and(|(looked_at, looked)| {
            let since = i64::try_from(now.duration_since(looked).as_secs()).unwrap_or(i64::MAX);
            let wall = looked_at.as_millis() / 1000;
            wall.saturating_add(since).abs_diff(at) <= TIMED_MAX.unsigned_abs()
        })
    }

    fn metric(&mut self, metric: &Metric<'_>, now: Instant) {
        let mut key = std::mem::take(&mut self.key);
        if write_key(metric.kind, (metric.name, metric.tags), &mut key).is_none() {
            self.drop(Why::TooLong);
        } else if self.entries.contains_key(key.as_str()) || self.make(&key, metric.kind, now) {
            for value in metric.values() {
                self.value(&key, (value, metric.weight), now);
            }
        } else {
            self.drop(Why::Full);
        }
        self.key = key;
    }

    /// Makes an entry, if there is room.
    fn make(&mut self, key: &str, kind: MetricKind, now: Instant) -> bool {
        let held = Held::of(kind);
        if self.series_count + held.series() > SERIES_MAX {
            return false;
        }
        self.series_count += held.series();
        self.entries.insert(key.into(), Entry { heard: now, held, is_told: false });
        true
    }

    fn value(&mut self, key: &str, (text, weight): (&str, f64), now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let number = number(text);
        let taken = match (&mut entry.held, number) {
            (Held::Members(members), _) => {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                let member = hasher.finish();
                if !members.contains(&member) && self.member_count >= MEMBERS_MAX {
                    Err(Why::Full)
                } else {
                    self.member_count += usize::from(members.insert(member));
                    Ok(())
                }
            }
            (_, None) => Err(Why::Malformed),
            (Held::Counter { up, .. }, Some(number)) if number >= 0.0 => {
                *up += number * weight;
                Ok(())
            }
            (Held::Counter { down, .. }, Some(number)) => {
                *down -= number * weight;
                Ok(())
            }
            (Held::Gauge(level), Some(number)) => {
                let is_step = text.starts_with(['+', '-']);
                *level = if is_step { *level + number } else { number };
                Ok(())
            }
            (Held::Values { count, sum, recent }, Some(number)) => {
                let number = if key.starts_with('m') { number / 1000.0 } else { number };
                *count += weight;
                *sum += number * weight;
                recent.add(number, weight);
                Ok(())
            }
        };
        match taken {
            Ok(()) => entry.heard = now,
            Err(why) => self.drop(why),
        }
    }

    fn drop(&mut self, why: Why) {
        self.dropped[why as usize] += 1;
    }

    /// Adds all series to the readings of a look, and begins to gather for the next one.
    pub(super) fn tell(&mut self, (at, now): (Timestamp, Instant), out: &mut Readings) {
        self.looked = Some((at, now));
        let expire = self.expire;
        let is_heard = |entry: &mut Entry| now.duration_since(entry.heard) <= expire;
        self.entries.retain(|_, entry| is_heard(entry));
        self.series_count = self.entries.values().map(|entry| entry.held.series()).sum();
        self.member_count = 0;
        for (key, entry) in &mut self.entries {
            entry.tell(&of_key(key), out);
        }
        self.tell_of_itself(out);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one process stay below 2^53")]
    fn tell_of_itself(&self, out: &mut Readings) {
        out.gauge("agent_statsd_series", &[], self.series_count as f64);
        out.total("agent_statsd_datagrams_total", &[], self.datagrams as f64);
        let counts = DROPS.iter().map(|(drop, reason)| (*reason, self.dropped[*drop as usize]));
        for (reason, count) in counts.filter(|(_, count)| *count > 0) {
            out.total("agent_statsd_dropped_total", &[("reason", reason)], count as f64);
        }
        for (kind, count) in [("event", self.events), ("check", self.checks)] {
            if count > 0 {
                out.total("agent_statsd_ignored_total", &[("kind", kind)], count as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::TIMER_SERIES;
    use super::*;

    const EXPIRE: Duration = Duration::from_mins(5);

    /// A table, and the clock that it is told.
    struct Heard(Table, Instant);

    impl Heard {
        fn new() -> Self {
            Self(Table::keeping(EXPIRE), Instant::now())
        }

        fn hears(&mut self, text: &str) -> &mut Self {
            self.0.take(text.as_bytes(), self.1);
            self
        }

        fn after(&mut self, secs: u64) -> &mut Self {
            self.1 += Duration::from_secs(secs);
            self
        }

        fn tells(&mut self) -> Readings {
            let mut out = Readings::default();
            self.0.tell((Timestamp::from_secs(1_656_581_400), self.1), &mut out);
            out
        }
    }

    #[test]
    fn counters_are_running_totals_from_zero_on() {
        let mut heard = Heard::new();
        let out = heard.hears("hits:1|c\nhits:2|c|@0.1\nhits:0|c").tells();
        assert_eq!(out.value("hits_total", &[]), Some(0.0), "the first reading is the beginning");
        assert_eq!(heard.after(10).tells().value("hits_total", &[]), Some(21.0));
        let out = heard.hears("hits:4:5|c").after(10).tells();
        assert_eq!(out.value("hits_total", &[]), Some(30.0));
        assert_eq!(out.value("hits_decreased_total", &[]), None);
        let out = heard.hears("hits:-2|c").tells();
        assert_eq!(out.value("hits_total", &[]), Some(30.0));
        assert_eq!(out.value("hits_decreased_total", &[]), Some(2.0));
    }

    #[test]
    fn gauges_are_set_and_moved() {
        let mut heard = Heard::new();
        heard.hears("room:10|g\nroom:+4|g\nroom:-1.5|g\nnew:-3|g\nset:2:7|g");
        let out = heard.tells();
        for (metric, level) in [("room", 12.5), ("new", -3.0), ("set", 7.0)] {
            assert_eq!(out.value(metric, &[]), Some(level), "{metric}");
        }
    }

    #[test]
    fn timers_have_counts_for_ever_and_quantiles_of_the_last_look() {
        let mut heard = Heard::new();
        heard.tells();
        let many: Vec<String> = (1..=100).map(|ms| format!("q:{ms}|ms|#db:a")).collect();
        let out = heard.hears(&many.join("\n")).tells();
        let db = [("db", "a")];
        assert_eq!(out.value("q_seconds_min", &db), Some(0.001));
        assert_eq!(out.value("q_seconds_max", &db), Some(0.1));
        for (quantile, expected) in [("0.5", 0.05), ("0.9", 0.09), ("0.99", 0.099)] {
            let found = out.value("q_seconds", &[("db", "a"), ("quantile", quantile)]).unwrap();
            assert!((found - expected).abs() < 0.02 * expected + 1e-3, "{quantile}: {found}");
        }
        let out = heard.after(10).tells();
        assert_eq!(out.value("q_seconds_count", &db), Some(100.0));
        assert!((out.value("q_seconds_sum", &db).unwrap() - 5.05).abs() < 1e-9);
        assert_eq!(out.value("q_seconds_max", &db), None, "nothing came since");
        let out = heard.hears("size:3:5|h\nsize:1|d|@0.5").tells();
        assert_eq!(out.value("size_max", &[]), Some(5.0), "no unit is changed");
        let out = heard.tells();
        assert_eq!(out.value("size_count", &[]), Some(4.0));
        assert_eq!(out.value("size_sum", &[]), Some(10.0));
    }

    #[test]
    fn sets_count_different_values_since_the_last_look() {
        let mut heard = Heard::new();
        let out = heard.hears("users:a|s\nusers:b|s\nusers:a|s").tells();
        assert_eq!(out.value("users_unique", &[]), Some(2.0));
        assert_eq!(heard.hears("users:a|s").tells().value("users_unique", &[]), Some(1.0));
        assert_eq!(heard.tells().value("users_unique", &[]), Some(0.0));
    }

    #[test]
    fn what_is_not_heard_of_is_forgotten() {
        let mut heard = Heard::new();
        heard.hears("idle:1|g\nbusy:1|g\nhits:1|c").after(299).hears("busy:2|g");
        assert_eq!(heard.tells().value("idle", &[]), Some(1.0));
        let out = heard.after(2).tells();
        assert_eq!((out.value("idle", &[]), out.value("hits_total", &[])), (None, None));
        assert_eq!(out.value("busy", &[]), Some(2.0));
        assert_eq!(out.value("agent_statsd_series", &[]), Some(1.0));
    }

    #[test]
    fn what_is_not_taken_is_counted() {
        let mut heard = Heard::new();
        heard.tells();
        heard.after(5).hears("timely:1|g|T1656581390\n");
        heard.hears("x\na:b|c\n_e{1,1}:a|b\n_sc|a|0\na:1|c|T1656581300\n\n");
        heard.hears(&format!("{}:1|c\n", "n".repeat(300)));
        heard.0.take(b"\xff:1|c", heard.1);
        let out = heard.tells();
        let dropped = |reason| out.value("agent_statsd_dropped_total", &[("reason", reason)]);
        assert_eq!(dropped("malformed"), Some(3.0));
        assert_eq!(
            (dropped("timed"), dropped("too_long"), dropped("full")),
            (Some(1.0), Some(1.0), None)
        );
        for kind in ["event", "check"] {
            assert_eq!(out.value("agent_statsd_ignored_total", &[("kind", kind)]), Some(1.0));
        }
        assert_eq!(out.value("agent_statsd_datagrams_total", &[]), Some(4.0));
        assert_eq!(out.value("timely", &[]), Some(1.0), "nearly now is now");
    }

    #[test]
    fn there_is_a_bound_to_series_and_to_members() {
        let mut heard = Heard::new();
        for number in 0..SERIES_MAX {
            heard.hears(&format!("t{number}:1|ms"));
        }
        let out = heard.hears("g:1|g\nt0:2|ms").tells();
        let timers = SERIES_MAX / TIMER_SERIES;
        let dropped = out.value("agent_statsd_dropped_total", &[("reason", "full")]).unwrap();
        assert!((dropped - f64::from(u32::try_from(SERIES_MAX - timers).unwrap())).abs() < 0.5);
        assert_eq!(out.value("g", &[]), Some(1.0), "a small one fits behind the timers");
        assert_eq!(heard.tells().value("t0_seconds_count", &[]), Some(2.0));
        heard.after(301).hears("s:x|s").tells();
        assert_eq!(heard.0.series_count, 1, "room comes back");
        for number in 0..=MEMBERS_MAX {
            heard.hears(&format!("s:{number}|s"));
        }
        assert_eq!(heard.tells().value("s_unique", &[]), Some(100_000.0));
        assert_eq!(heard.hears("s:y|s").tells().value("s_unique", &[]), Some(1.0));
    }
}
