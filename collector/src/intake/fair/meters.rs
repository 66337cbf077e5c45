//! Token buckets: samples and bytes that a sender may bring in a second, and a burst of them.
//!
//! What a request costs is known when it is decoded, so a sender is admitted while its buckets hold
//! anything and may leave them in debt; the next request waits until that is paid.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Sender;

/// Seconds of a rate that may come at once: an agent that was cut off brings what it kept.
const BURST_SECS: f64 = 20.0;

/// Senders metered at most: all instances and tokens there can be. Beyond it full buckets are
/// forgotten, which changes nothing.
const METER_LIMIT: usize = 120_000;

/// What one sender may bring in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Samples; 0 is without limit.
    pub samples: u64,
    /// Bytes of bodies as they are sent; 0 is without limit.
    pub bytes: u64,
}

/// What senders may bring in a second, each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// An instance with an agent of its own.
    pub instance: Rate,
    /// A relay token, and the operator's.
    pub relay: Rate,
}

impl Default for Rates {
    /// Far above what one machine or one Prometheus sends, and below what one of them in a loop
    /// does.
    fn default() -> Self {
        Self {
            instance: Rate { samples: 1_000_000, bytes: 16 << 20 },
            relay: Rate { samples: 5_000_000, bytes: 128 << 20 },
        }
    }
}

impl Rates {
    fn of(&self, sender: Sender) -> Rate {
        match sender {
            Sender::Instance(_) => self.instance,
            Sender::Relay(_) => self.relay,
        }
    }
}

/// The buckets of all senders.
#[derive(Debug, Default)]
pub(in crate::intake) struct Meters(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    rates: Rates,
    meters: HashMap<Sender, Meter>,
}

#[derive(Clone, Copy, Debug)]
struct Meter {
    samples: Bucket,
    bytes: Bucket,
}

impl Meters {
    /// Sets what senders may bring from now on.
    pub(in crate::intake) fn set(&self, rates: Rates) {
        let mut inside = self.lock();
        inside.rates = rates;
        inside.meters.clear();
    }

    /// How long `sender` has to wait before it may bring more; `None` when it may now.
    pub(in crate::intake) fn wait(&self, sender: Sender, now: Duration) -> Option<Duration> {
        let mut inside = self.lock();
        let rate = inside.rates.of(sender);
        let meter = inside.meters.get_mut(&sender)?;
        let samples = meter.samples.wait(rate.samples, now);
        samples.max(meter.bytes.wait(rate.bytes, now))
    }

    /// Takes what a request brought out of its sender's buckets.
    pub(in crate::intake) fn charge(&self, sender: Sender, brought: Rate, now: Duration) {
        let mut inside = self.lock();
        let (rates, rate) = (inside.rates, inside.rates.of(sender));
        if inside.meters.len() >= METER_LIMIT && !inside.meters.contains_key(&sender) {
            inside.meters.retain(|sender, meter| !meter.is_full(rates.of(*sender), now));
        }
        let full = Meter {
            samples: Bucket::full(rate.samples, now),
            bytes: Bucket::full(rate.bytes, now),
        };
        let meter = inside.meters.entry(sender).or_insert(full);
        meter.samples.charge(brought.samples, rate.samples, now);
        meter.bytes.charge(brought.bytes, rate.bytes, now);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    fn is_full(mut self, rate: Rate, now: Duration) -> bool {
        self.samples.is_full(rate.samples, now) && self.bytes.is_full(rate.bytes, now)
    }
}

/// One bucket; its level falls below zero by at most one request.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    at: Duration,
}

impl Bucket {
    fn full(rate: u64, now: Duration) -> Self {
        Self { level: float(rate) * BURST_SECS, at: now }
    }

    fn refill(&mut self, rate: u64, now: Duration) {
        let secs = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + secs * float(rate)).min(float(rate) * BURST_SECS);
        self.at = now.max(self.at);
    }

    fn wait(&mut self, rate: u64, now: Duration) -> Option<Duration> {
        self.refill(rate, now);
        let is_empty = rate > 0 && self.level <= 0.0;
        is_empty.then(|| Duration::from_secs_f64((1.0 - self.level) / float(rate)))
    }

    fn charge(&mut self, amount: u64, rate: u64, now: Duration) {
        self.refill(rate, now);
        if rate > 0 {
            self.level -= float(amount);
        }
    }

    fn is_full(&mut self, rate: u64, now: Duration) -> bool {
        self.refill(rate, now);
        self.level >= float(rate) * BURST_SECS
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no exact number beyond 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Sender = Sender::Relay(None);

    fn samples(samples: u64) -> Rate {
        Rate { samples, bytes: 0 }
    }

    fn metered(rate: Rate) -> Meters {
        let meters = Meters::default();
        meters.set(Rates { instance: rate, relay: rate });
        meters
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_burst_is_taken_and_its_debt_is_paid_before_more_is() {
        let meters = metered(samples(100));
        assert_eq!(meters.wait(ONE, secs(0)), None);
        meters.charge(ONE, samples(1_999), secs(0));
        assert_eq!(meters.wait(ONE, secs(0)), None, "one of the burst is left");
        meters.charge(ONE, samples(1_001), secs(0));
        let wait = meters.wait(ONE, secs(0)).unwrap();
        assert_eq!(wait.as_secs(), 10, "a thousand in debt at a hundred a second");
        assert_eq!(meters.wait(ONE, secs(11)), None);
    }

    #[test]
    fn a_steady_sender_below_its_rate_never_waits() {
        let meters = metered(samples(100));
        for second in 0..1_000 {
            assert_eq!(meters.wait(ONE, secs(second)), None, "second {second}");
            meters.charge(ONE, samples(100), secs(second));
        }
    }

    #[test]
    fn one_sender_pays_for_itself_alone() {
        let meters = metered(Rate { samples: 0, bytes: 10 });
        meters.charge(ONE, Rate { samples: u64::MAX, bytes: 1_000 }, secs(0));
        assert!(meters.wait(ONE, secs(0)).is_some());
        assert_eq!(meters.wait(Sender::Instance(rrd::InstanceId(1)), secs(0)), None);
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let meters = metered(samples(0));
        meters.charge(ONE, Rate { samples: u64::MAX, bytes: u64::MAX }, secs(0));
        assert_eq!(meters.wait(ONE, secs(0)), None);
    }

    #[test]
    fn full_buckets_are_forgotten_when_there_are_too_many() {
        let meters = metered(samples(100));
        for id in 0..=METER_LIMIT {
            let id = rrd::InstanceId(u128::try_from(id).unwrap());
            meters.charge(Sender::Instance(id), samples(1), secs(0));
        }
        meters.charge(ONE, samples(1), secs(100));
        assert_eq!(meters.lock().meters.len(), 1);
    }
}
