//! Heartbeats of jobs that run now and then: what one tells, and the series that keep it.

use rrd::{NAME, Timestamp};
use thiserror::Error;

use crate::foreign::spelling::{Pairs, number};

/// The job of every instance that beats.
pub(crate) const JOB: &str = "beat";
/// When it last went well, seconds since 1970.
pub(crate) const SUCCESS: &str = "beat_last_success_timestamp_seconds";
/// When it last failed.
pub(crate) const FAILURE: &str = "beat_last_failure_timestamp_seconds";
/// What the last run took that said so.
pub(crate) const DURATION: &str = "beat_duration_seconds";

/// Longest duration: nothing that beats runs for ten years.
const DURATION_LIMIT_SECS: f64 = 3.2e8;

/// What is known of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) success: Option<f64>,
    pub(crate) failure: Option<f64>,
    pub(crate) duration: Option<f64>,
}

/// One beat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beat {
    failed: bool,
    duration: Option<f64>,
}

/// Why a beat is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum BeatError {
    #[error("status: ok or fail")]
    Status,
    #[error("duration: seconds, at most ten years of them")]
    Duration,
}

impl Beat {
    /// A beat of these parameters; without any it says that all went well.
    pub(crate) fn read(status: &str, duration: &str) -> Result<Self, BeatError> {
        let failed = match status {
            "" | "ok" => false,
            "fail" => true,
            _ => return Err(BeatError::Status),
        };
        let secs = |text| number(text).filter(|secs| (0.0..=DURATION_LIMIT_SECS).contains(secs));
        let duration = match duration {
            "" => None,
            text => Some(secs(text).ok_or(BeatError::Duration)?),
        };
        Ok(Self { failed, duration })
    }
}

impl State {
    /// What is known after `beat` at `now`.
    #[must_use]
    pub(crate) fn after(self, beat: Beat, now: Timestamp) -> Self {
        let at = Some(now.as_secs_f64());
        let (success, failure) = if beat.failed { (self.success, at) } else { (at, self.failure) };
        Self { success, failure, duration: beat.duration.or(self.duration) }
    }

    /// With the value of a series that an earlier process kept, unless something newer is known.
    #[must_use]
    pub(crate) fn restored(mut self, metric: &str, value: f64) -> Self {
        let held = match metric {
            SUCCESS => &mut self.success,
            FAILURE => &mut self.failure,
            DURATION => &mut self.duration,
            _ => return self,
        };
        held.get_or_insert(value);
        self
    }

    /// The series of the job `name`, with their labels.
    pub(crate) fn series(self, name: &str) -> impl Iterator<Item = (Pairs, f64)> {
        let known = [(SUCCESS, self.success), (FAILURE, self.failure), (DURATION, self.duration)];
        known.into_iter().filter_map(move |(metric, value)| {
            let labels = [(NAME, metric), ("job", JOB), ("instance", name)];
            Some((labels.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(), value?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_says_how_it_went_and_how_long_it_took() {
        for (status, duration, expected) in [
            ("", "", Ok((false, None))),
            ("ok", "1.5", Ok((false, Some(1.5)))),
            ("fail", "0", Ok((true, Some(0.0)))),
            ("failed", "", Err(BeatError::Status)),
            ("ok", "-1", Err(BeatError::Duration)),
            ("ok", "1e9", Err(BeatError::Duration)),
            ("ok", "nan", Err(BeatError::Duration)),
        ] {
            let read = Beat::read(status, duration).map(|beat| (beat.failed, beat.duration));
            assert_eq!(read, expected, "{status:?} {duration:?}");
        }
    }

    #[test]
    fn a_failure_leaves_the_last_success_as_it_was() {
        let at = Timestamp::from_secs;
        let ok = Beat { failed: false, duration: Some(2.0) };
        let fail = Beat { failed: true, duration: None };
        let state = State::default().after(ok, at(100)).after(fail, at(200));
        let expected = State { success: Some(100.0), failure: Some(200.0), duration: Some(2.0) };
        assert_eq!(state, expected);
        let again = state.after(ok, at(300));
        assert_eq!((again.success, again.failure), (Some(300.0), Some(200.0)));
        let mut restored = State::default();
        for (labels, value) in again.series("backup") {
            restored = restored.restored(&labels[0].1, value);
        }
        assert_eq!(restored, again);
        assert_eq!(again.restored(SUCCESS, 1.0), again, "what is newer stays");
    }
}
