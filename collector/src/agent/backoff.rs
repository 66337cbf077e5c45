//! Backoff: how long to leave a server alone that did not take what it was sent.

use std::time::Duration;

/// The longest wait a `Retry-After` may ask for: beyond an hour it is a mistake of something between
/// us and the server, and it would cost the data of the spool.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Full-jitter exponential backoff: after the n-th failure in a row a random time below
/// `first · 2ⁿ⁻¹`, at most `longest`, so that a fleet does not return as one.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    until: Option<Duration>,
}

impl Backoff {
    /// No failure yet.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0, until: None }
    }

    /// One more failure at `now`; `random` is spread evenly over all its values. A server that
    /// names the time is obeyed, never early.
    pub(super) fn failed(&mut self, now: Duration, retry_after: Option<Duration>, random: u64) {
        let doublings = self.failures.min(31);
        let bound = self.first.saturating_mul(1 << doublings).min(self.longest);
        let wait = match retry_after {
            Some(asked) => asked.min(RETRY_AFTER_MAX),
            None => share(bound, random),
        };
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now.saturating_add(wait));
    }

    /// The server is there again.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.until = None;
    }

    /// How many times in a row it failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The moment to wait for, if it is still ahead.
    pub(super) fn until(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| *until > now)
    }
}

/// The share of `bound` that `random` is of all its values.
fn share(bound: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(nanos) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(part).expect("a share of a u64 is a u64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_bound_doubles_to_the_longest_and_jitter_takes_a_share_of_it() {
        let mut backoff = Backoff::new(secs(1), secs(60));
        for bound in [1, 2, 4, 8, 16, 32, 60, 60] {
            backoff.failed(secs(100), None, 1 << 63);
            assert_eq!(backoff.until(secs(100)), Some(secs(100) + secs(bound) / 2));
        }
    }

    #[test]
    fn jitter_reaches_from_nothing_to_the_bound() {
        assert_eq!(share(secs(60), 0), Duration::ZERO);
        assert!(share(secs(60), u64::MAX) < secs(60));
        assert!(share(secs(60), u64::MAX) > secs(59));
    }

    #[test]
    fn retry_after_is_obeyed_up_to_an_hour() {
        for (asked, waited) in [(7, 7), (3600, 3600), (1_000_000, 3600)] {
            let mut backoff = Backoff::new(secs(1), secs(60));
            backoff.failed(secs(0), Some(secs(asked)), u64::MAX);
            assert_eq!(backoff.until(secs(0)), Some(secs(waited)));
        }
    }

    #[test]
    fn success_starts_again_from_the_first_bound() {
        let mut backoff = Backoff::new(secs(1), secs(60));
        backoff.failed(secs(0), None, 0);
        backoff.failed(secs(0), None, 0);
        backoff.succeeded();
        assert_eq!((backoff.until(secs(0)), backoff.failures()), (None, 0));
        backoff.failed(secs(0), None, 1 << 63);
        assert_eq!(backoff.until(secs(0)), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = Backoff::new(secs(1), secs(60));
        for _ in 0..1000 {
            backoff.failed(secs(0), None, u64::MAX);
        }
        assert!(backoff.until(secs(0)).unwrap() <= secs(60));
    }
}
