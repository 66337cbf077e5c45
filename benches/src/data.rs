//! The data of all measurements: the same for every engine.

use rrd::{Policy, Timestamp};

/// Midnight UTC, so that the first row of every archive is a whole one.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_767_225_600);
/// Seconds between readings.
pub(crate) const STEP_SECS: i64 = 60;
/// Roundel's default.
pub(crate) const POLICY: &str = "1m:2d,5m:14d,1h:90d,1d:5y";

/// The default policy.
pub(crate) fn policy() -> Policy {
    Policy::parse(POLICY).expect("the default policy is one")
}

/// The moment of reading `step`, from 1 on.
pub(crate) fn moment(step: i64) -> Timestamp {
    START.plus_millis(step * STEP_SECS * 1000)
}

/// What series `series` reads at `step`: a slow wave with noise, never twice the same.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
pub(crate) fn value(series: usize, step: i64) -> f64 {
    let step = step as f64;
    let noise = (series as f64 * 7919.0 + step * 104_729.0) % 1009.0 / 1009.0;
    50.0 + 40.0 * (step / 180.0 + series as f64).sin() + noise
}
