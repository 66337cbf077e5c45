//! The journal's own time: it goes on with the monotonic clock and never back.

use std::sync::Arc;
use std::time::Duration;

use rrd::{Clock, Timestamp};

/// Gives stamps. They start at the wall time, or at the last stamp of the log if that is later.
pub(crate) struct Stamps {
    clock: Arc<dyn Clock>,
    start: Timestamp,
    started: Duration,
    last: Timestamp,
}

impl Stamps {
    /// Stamps not below `floor`, the last one found in the log.
    pub(crate) fn new(clock: Arc<dyn Clock>, floor: Timestamp) -> Self {
        let start = clock.wall().max(floor);
        Self { start, started: clock.monotonic(), last: start, clock }
    }

    pub(crate) fn next(&mut self) -> Timestamp {
        let elapsed = self.clock.monotonic().saturating_sub(self.started);
        let now = self.start.plus_millis(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX));
        self.last = self.last.max(now);
        self.last
    }

    /// How far the journal's time is ahead of the wall clock, in milliseconds.
    pub(crate) fn ahead_of_wall_ms(&mut self) -> i64 {
        self.next().millis_since(self.clock.wall())
    }
}

#[cfg(test)]
mod tests {
    use rrd::ManualClock;

    use super::*;

    #[test]
    fn stamps_go_on_when_the_wall_clock_jumps_back() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1000)));
        let mut stamps = Stamps::new(clock.clone(), Timestamp::MIN);
        assert_eq!(stamps.next(), Timestamp::from_secs(1000));
        clock.set_wall(Timestamp::from_secs(10));
        clock.advance(Duration::from_secs(5));
        assert_eq!(stamps.next(), Timestamp::from_secs(1005));
        assert_eq!(stamps.ahead_of_wall_ms(), 990_000);
    }

    #[test]
    fn stamps_go_on_from_the_last_one_in_the_log() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(10)));
        let mut stamps = Stamps::new(clock.clone(), Timestamp::from_secs(1000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(stamps.next(), Timestamp::from_secs(1001));
    }
}
