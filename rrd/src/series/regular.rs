//! A regular sender: how far apart its readings come, and the heartbeat that follows from it.
//!
//! Nothing is kept for it: the touched steps tell the distances between the readings before, the present
//! one its own. So a replay learns the same at the same reading.

use super::{Definition, Head};
use crate::{Step, Timestamp};

/// A sender is regular when the last so many distances before the present one are like it, or all that
/// the touched steps know where that is fewer...
const MOST_DISTANCES: usize = 4;
/// ...but not fewer than these: any two outages may be of like length.
const LEAST_DISTANCES: usize = 2;
/// Distances are alike that differ by at most this share of the present one: a quarter.
const SHARE: u64 = 4;
/// Readings that a heartbeat spans, as for our own agents.
pub(super) const INTERVALS: u64 = 3;
/// Heartbeats that are learned are whole minutes, so that few differ, and at most a day.
const GRAIN_MS: u64 = 60_000;
const MOST_MS: u64 = 86_400_000;

impl Head {
    /// The heartbeat that a reading at `at` asks for, where it is regular and needs a wider one.
    #[inline]
    pub(crate) fn wider_heartbeat(
        &self,
        definition: &Definition,
        step: Step,
        at: Timestamp,
    ) -> Option<u64> {
        // Also true of an earlier reading and of a first one.
        let is_far = super::elapsed_ms(self.last, at) > definition.heartbeat_ms / INTERVALS;
        if is_far { self.learn(definition, step, at) } else { None }
    }

    #[cold]
    fn learn(&self, definition: &Definition, step: Step, at: Timestamp) -> Option<u64> {
        if self.is_unborn() || self.is_ended() || at <= self.last || !super::is_sane(at) {
            return None;
        }
        let interval_ms = super::elapsed_ms(self.last, at);
        let is_alike =
            |steps: u64| (steps * step.as_millis()).abs_diff(interval_ms) <= interval_ms / SHARE;
        let mut known = 0;
        for steps in self.touched.distances().take(MOST_DISTANCES) {
            if !is_alike(steps) {
                return None;
            }
            known += 1;
        }
        let wider_ms = (INTERVALS.saturating_mul(interval_ms)).div_ceil(GRAIN_MS) * GRAIN_MS;
        let wider_ms = wider_ms.min(MOST_MS);
        (known >= LEAST_DISTANCES && wider_ms > definition.heartbeat_ms).then_some(wider_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::super::timeline::{Timeline, archives, gauge};
    use super::*;

    const MINUTE: Step = match Step::from_secs(60) {
        Some(step) => step,
        None => panic!("a minute is a step"),
    };

    /// Readings at these seconds with a heartbeat of five minutes at first, as the worker takes them;
    /// answers the heartbeat after each.
    fn heartbeats(at: &[i64]) -> Vec<u64> {
        let mut series = Timeline::unborn(gauge(300), archives(60_000, &[5]));
        let mut heartbeats = Vec::new();
        for &at in at {
            let at = Timestamp::from_secs(at);
            let wider = series.head().wider_heartbeat(&series.definition, MINUTE, at);
            series.definition.heartbeat_ms = wider.unwrap_or(series.definition.heartbeat_ms);
            series.read(at, 1.0);
            heartbeats.push(series.definition.heartbeat_ms / 60_000);
        }
        heartbeats
    }

    fn every(secs: i64, count: i64) -> Vec<i64> {
        (0..count).map(|n| 1_000_020 + n * secs).collect()
    }

    #[test]
    fn a_regular_sender_is_known_by_its_fourth_reading() {
        for (secs, minutes) in [(60, 5), (300, 15), (600, 30), (3600, 180), (3700, 185)] {
            assert_eq!(heartbeats(&every(secs, 5))[2..], [5, minutes, minutes], "every {secs} s");
        }
    }

    #[test]
    fn some_seconds_early_or_late_make_no_difference() {
        let late = [0, 50, -40, 20, 70, -10, 0, 30];
        let readings: Vec<i64> =
            every(600, 8).iter().zip(late).map(|(at, late)| at + late).collect();
        assert!((30..=33).contains(heartbeats(&readings).last().unwrap()));
    }

    #[test]
    fn irregular_senders_and_outages_widen_nothing() {
        let mut dense = every(60, 20);
        dense.extend([1_000_020 + 3000, 1_000_020 + 4800, 1_000_020 + 6600]); // Two alike outages.
        let alternating: Vec<i64> = (0..40).map(|n| n / 2 * 1500 + n % 2 * 300).collect();
        let doubling: Vec<i64> = (0..20).map(|n| 100 << n).collect();
        for readings in [dense, alternating, doubling] {
            assert_eq!(heartbeats(&readings).last(), Some(&5), "{readings:?}");
        }
    }

    #[test]
    fn a_heartbeat_is_never_narrowed_and_at_most_a_day() {
        let mut readings = every(1800, 6);
        let last = *readings.last().unwrap();
        readings.extend((1..60).map(|n| last + n * 60));
        assert_eq!(heartbeats(&readings).last(), Some(&90));
        let mut series = Timeline::unborn(gauge(3 * 3600), archives(3_600_000, &[]));
        let hour = Step::from_secs(3600).unwrap();
        for n in 1..8 {
            let at = Timestamp::from_secs(n * 36_000);
            let wider = series.head().wider_heartbeat(&series.definition, hour, at);
            series.definition.heartbeat_ms = wider.unwrap_or(series.definition.heartbeat_ms);
            series.read(at, 1.0);
        }
        assert_eq!(series.definition.heartbeat_ms, MOST_MS);
    }

    #[test]
    fn markers_and_readings_that_are_late_teach_nothing() {
        let mut series = Timeline::unborn(gauge(300), archives(60_000, &[5]));
        for n in 0..3 {
            series.at(600 + n * 600, 1.0);
        }
        let asked = |series: &Timeline, at: i64| {
            series.head().wider_heartbeat(&series.definition, MINUTE, Timestamp::from_secs(at))
        };
        assert_eq!(asked(&series, 2400), Some(1_800_000));
        assert_eq!((asked(&series, 1800), asked(&series, 1200)), (None, None));
        assert_eq!(asked(&series, i64::MAX / 1000), None);
        series.at(1900, f64::NAN);
        assert_eq!(asked(&series, 2400), None);
    }
}
