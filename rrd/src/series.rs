//! A series in time: readings become steps, steps become rows. Nothing here knows of files or clocks.
//!
//! A reading at t covers the time since the previous one, (last, t]. A step is the time-weighted mean
//! of what covers it, and is known if at most half of it is unknown. Closed steps are handed out as
//! runs of rows, for the finest archive and, put together, for every coarser one.

mod consolidate;
mod open;
mod reading;
mod touched;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod life;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod timeline;

use crate::policy::ArchiveSpec;
use crate::{Kind, Timestamp};

pub(crate) use consolidate::{OpenRow, Run, row_is_known};
pub(crate) use open::Open;
use reading::Reading;

/// What a series' readings mean, and which of them count. `NaN` limits are no limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Definition {
    pub(crate) kind: Kind,
    /// A reading covers at most this much time before it.
    pub(crate) heartbeat_ms: u64,
    /// A rate below is unknown, never clamped.
    pub(crate) min: f64,
    /// A rate above is unknown, never clamped.
    pub(crate) max: f64,
}

/// What became of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It counts, as a value or as unknown time.
    Stored,
    /// Its step has had a reading, or it is a marker that came too late to end anything.
    Duplicate,
    /// Older than the series' last reading, in a step without one.
    Late,
}

/// Takes one reading at `at`; `NaN` is a marker, which ends the series until its next reading.
/// Every row this closes is handed to `out`, the finest archive's before the coarser ones'.
#[inline]
pub(crate) fn apply(
    definition: &Definition,
    archives: &[ArchiveSpec],
    open: &mut Open,
    at: Timestamp,
    value: f64,
    out: &mut impl FnMut(Run),
) -> Verdict {
    take(definition, archives, open, at, Reading::Real(value), out)
}

/// As [`apply`], for a whole number that may have more digits than an f64 keeps.
#[cfg_attr(not(test), expect(dead_code, reason = "the command line reads whole numbers as text"))]
pub(crate) fn apply_whole(
    definition: &Definition,
    archives: &[ArchiveSpec],
    open: &mut Open,
    at: Timestamp,
    value: i128,
    out: &mut impl FnMut(Run),
) -> Verdict {
    take(definition, archives, open, at, Reading::Whole(value), out)
}

#[inline]
fn take(
    definition: &Definition,
    archives: &[ArchiveSpec],
    open: &mut Open,
    at: Timestamp,
    reading: Reading,
    out: &mut impl FnMut(Run),
) -> Verdict {
    debug_assert!(definition.heartbeat_ms < 1 << 60, "wrapped times are above any heartbeat");
    let mut elapsed_ms = elapsed_ms(open.last, at);
    // Also true of an earlier reading and of a first one: both wrap to a huge number.
    if elapsed_ms > definition.heartbeat_ms {
        if open.is_unborn() {
            if reading.is_marker() || !is_sane(at) {
                return Verdict::Duplicate;
            }
            open.begin_before(at, archives);
            elapsed_ms = self::elapsed_ms(open.last, at);
        } else if !is_sane(at) {
            return Verdict::Late;
        }
    }
    let step = archives[0].step;
    let opened = open.opened(step);
    let covered_from = open.last.max(opened); // A step that silence closed is not covered again.
    if at <= covered_from {
        return stale(open, at, archives, reading);
    }
    let is_gap = elapsed_ms > definition.heartbeat_ms;
    let rate = open.rate(definition, reading, elapsed_ms, is_gap);
    let end = opened + step;
    let mut age = 0;
    if at < end {
        open.cover(rate, at.millis_since(covered_from).unsigned_abs());
    } else {
        cross(archives, open, &Stretch { from: covered_from, end, to: at, rate, is_gap }, out);
        // A reading on the boundary itself belongs to the step it closes.
        age = u64::from(at == open.opened(step));
    }
    open.touched.set(age, !reading.is_marker());
    open.last = at;
    open.set_ended(reading.is_marker());
    Verdict::Stored
}

/// Closes the open step, the rest of it unknown, when the series has been silent for longer than its
/// heartbeat of journal time. The previous reading is kept: what comes later covers from the step's end.
pub(crate) fn silence(
    definition: &Definition,
    archives: &[ArchiveSpec],
    open: &mut Open,
    now: Timestamp,
    out: &mut impl FnMut(Run),
) {
    let step = archives[0].step;
    let is_open = !open.is_unborn() && open.last > open.opened(step);
    if !is_open || now.millis_since(open.heard()) <= heartbeat(definition) {
        return;
    }
    let end = open.opened(step) + step;
    open.cover(f64::NAN, end.millis_since(open.last).unsigned_abs());
    let value = open.step_value(step);
    open.close(archives, 1, value, out);
}

/// Time that one reading covers, from inside the open step to its end or beyond.
struct Stretch {
    from: Timestamp,
    /// The end of the open step.
    end: Timestamp,
    to: Timestamp,
    rate: f64,
    is_gap: bool,
}

/// Closes the open step and every whole one the stretch covers, and opens the step it ends in.
fn cross(archives: &[ArchiveSpec], open: &mut Open, stretch: &Stretch, out: &mut impl FnMut(Run)) {
    let step = archives[0].step;
    let first_ms = stretch.end.millis_since(stretch.from).unsigned_abs();
    let value = if first_ms == step.as_millis() {
        stretch.rate // One reading is the whole step, to the last bit.
    } else {
        open.cover(stretch.rate, first_ms);
        // rrdtool's rule: a gap closes its first step as unknown, however much of it was known.
        if stretch.is_gap { f64::NAN } else { open.step_value(step) }
    };
    open.close(archives, 1, value, out);
    let mut rest_ms = stretch.to.millis_since(stretch.end).unsigned_abs();
    if rest_ms >= step.as_millis() {
        let whole = rest_ms / step.as_millis();
        open.close(archives, whole, stretch.rate, out);
        rest_ms %= step.as_millis();
    }
    open.cover(stretch.rate, rest_ms);
}

/// What becomes of a reading that is not after the series' last one, or falls in a closed step.
#[cold]
fn stale(open: &Open, at: Timestamp, archives: &[ArchiveSpec], reading: Reading) -> Verdict {
    if reading.is_marker() || at == open.last {
        return Verdict::Duplicate;
    }
    let row = at.row(archives[0].step);
    let age = (open.newest_row + 1 - row).unsigned_abs();
    if open.touched.is_set(age) { Verdict::Duplicate } else { Verdict::Late }
}

/// Milliseconds from `last` to `at`; a huge number when `at` is earlier, or `last` is "never".
fn elapsed_ms(last: Timestamp, at: Timestamp) -> u64 {
    at.as_millis().wrapping_sub(last.as_millis()).cast_unsigned()
}

fn heartbeat(definition: &Definition) -> i64 {
    i64::try_from(definition.heartbeat_ms).unwrap_or(i64::MAX)
}

/// Within 36 million years of 1970, so that no row number times its step overflows.
fn is_sane(at: Timestamp) -> bool {
    at.as_millis().unsigned_abs() < 1 << 60
}
