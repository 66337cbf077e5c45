//! A series in time: readings become steps, steps become rows. Nothing here knows of files or clocks.
//!
//! A reading at t covers the time since the previous one, (last, t]. A step is the time-weighted mean
//! of what covers it, and is known if at most half of it is unknown. Closed steps are handed out as
//! runs of rows, for the finest archive and, put together, for every coarser one.

mod consolidate;
mod head;
mod late;
mod missing;
mod open;
mod phase;
mod reading;
mod regular;
mod resets;
mod touched;
mod usual;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod falls;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod life;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod single;
#[cfg(test)]
mod timeline;

use crate::{Anchor, Kind, Timestamp};

pub(crate) use consolidate::{OpenRow, Run, Sums, row_is_known};
use head::Marked;
pub(crate) use head::{Head, OpenMut, Out};
pub(crate) use late::{Change, LATE_ROWS, Late, Reach};
pub(crate) use missing::{Missing, MissingMut, MissingRef};
pub(crate) use open::{LastReading, Open, OpenStep, Resumed};
pub(crate) use phase::{Grid, Phase, RUN_STEPS, run_ms};
use reading::Reading;
#[cfg(test)]
use single::{apply, apply_whole, silence};
pub(crate) use usual::{Closed, Usual, Way};

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
    /// Older than the series' last reading, in a step without one: a gauge's may fill it (see [`Late`]).
    Late,
}

/// Takes one reading at `at`; `NaN` is a marker, which ends the series until its next reading.
/// Every row this closes is handed to `out`, the finest archive's before the coarser ones'. The phase
/// is that of the series before.
pub(crate) fn take(
    definition: &Definition,
    phase: &mut Phase<'_>,
    open: &mut OpenMut<'_>,
    (at, value): (Timestamp, f64),
    out: &mut impl Out,
) -> Verdict {
    take_reading(definition, phase, open, (at, Reading::Real(value)), out)
}

/// As [`take`], for a whole number that may have more digits than an f64 keeps.
pub(crate) fn take_whole(
    definition: &Definition,
    phase: &mut Phase<'_>,
    open: &mut OpenMut<'_>,
    (at, value): (Timestamp, i128),
    out: &mut impl Out,
) -> Verdict {
    take_reading(definition, phase, open, (at, Reading::Whole(value)), out)
}

#[inline(never)]
fn take_reading(
    definition: &Definition,
    phase: &mut Phase<'_>,
    open: &mut OpenMut<'_>,
    (at, reading): (Timestamp, Reading),
    out: &mut impl Out,
) -> Verdict {
    debug_assert!(definition.heartbeat_ms < 1 << 60, "wrapped times are above any heartbeat");
    let step = phase.step();
    let mut elapsed_ms = elapsed_ms(open.head.last, at);
    let mut is_first = false;
    // Also true of an earlier reading and of a first one: both wrap to a huge number.
    if elapsed_ms > definition.heartbeat_ms || !is_sane(at) {
        if open.head.is_unborn() {
            if reading.is_marker() || !is_sane(at) {
                return Verdict::Duplicate;
            }
            out.born(open.begin_before(at, step));
            is_first = true;
            elapsed_ms = self::elapsed_ms(open.head.last, at);
        } else if !is_sane(at) {
            return Verdict::Late;
        }
    }
    phase.seek(open.head.in_open_step(step));
    if is_first {
        open.miss_begun(phase);
    }
    let opened = phase.opened();
    let covered_from = open.head.last.max(opened); // A step that silence closed is not covered again.
    if at <= covered_from {
        return stale(definition, open.head, at, phase, reading);
    }
    let is_gap = elapsed_ms > definition.heartbeat_ms;
    let leaves = at >= phase.run_end() || reading.is_marker();
    let before = if leaves { open.head.count(definition.kind) } else { None };
    let rate = open.head.rate(definition, reading, elapsed_ms, is_gap);
    if let Some(before) = before {
        let left = Left { kind: definition.kind, last: open.head.last, before, rate };
        out.anchor(left.anchor((at, reading), phase.run_end_before(at)));
    }
    let end = opened + step;
    let mut age = 0;
    if at < end {
        open.head.cover(rate, at.millis_since(covered_from).unsigned_abs());
    } else {
        let stretch = Stretch { from: covered_from, end, to: at, rate, is_gap };
        // A reading on the boundary itself belongs to the step it closes.
        age = u64::from(cross(phase, open, &stretch, out));
    }
    open.head.touched.set(age, !reading.is_marker());
    open.head.remember_before(elapsed_ms);
    open.head.last = at;
    open.head.set_ended(reading.is_marker());
    Verdict::Stored
}

/// Closes the open step, the rest of it unknown, when the series has been silent for longer than its
/// heartbeat of journal time. The previous reading is kept: what comes later covers from the step's end.
pub(crate) fn hush(
    definition: &Definition,
    phase: &mut Phase<'_>,
    open: &mut OpenMut<'_>,
    now: Timestamp,
    out: &mut impl Out,
) {
    if open.head.hushed_after(definition).is_none_or(|deadline| now <= deadline) {
        return;
    }
    phase.seek(open.head.last);
    if open.head.last <= phase.opened() {
        return;
    }
    let end = phase.opened() + phase.step();
    if let Some(count) = open.head.count(definition.kind).filter(|_| end >= phase.run_end()) {
        out.anchor(Anchor { at: open.head.last, reading: count });
    }
    open.head.cover(f64::NAN, end.millis_since(open.head.last).unsigned_abs());
    let value = open.head.step_value(phase.step());
    open.close_marked(phase, value, out);
    open.head.set_hushed();
}

/// A counter of which a reading leaves a run of steps, or that ends.
struct Left {
    kind: Kind,
    /// The reading before.
    last: Timestamp,
    before: f64,
    /// `NaN` where nothing is known of the time between.
    rate: f64,
}

impl Left {
    /// What the counter stood at, to be kept: at the run's END where that lies between two readings of
    /// which the rate is known, else at the last reading.
    #[cold]
    fn anchor(&self, (at, reading): (Timestamp, Reading), run_end: Timestamp) -> Anchor {
        let since = seconds(at.millis_since(run_end));
        let at_end = reading.real() - if since > 0.0 { self.rate * since } else { 0.0 };
        // A counter that wrapped has no such moment.
        let is_before_wrap = at_end < 0.0 && self.kind == Kind::Counter;
        if self.rate.is_nan() || !at_end.is_finite() || is_before_wrap {
            return Anchor { at: self.last, reading: self.before };
        }
        Anchor { at: run_end, reading: at_end }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 285,000 years")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
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

/// Closes the open step and every whole one the stretch covers, and opens the step it ends in; true
/// where that begins at the stretch's very end.
#[inline]
fn cross(
    phase: &mut Phase<'_>,
    open: &mut OpenMut<'_>,
    stretch: &Stretch,
    out: &mut impl Out,
) -> bool {
    if !open.head.resets.is_quiet() {
        return cross_marked(phase, open, stretch, out);
    }
    let step = phase.step();
    let first_ms = stretch.end.millis_since(stretch.from).unsigned_abs();
    let mut rest_ms = stretch.to.millis_since(stretch.end).unsigned_abs();
    let value = if first_ms == step.as_millis() {
        stretch.rate // One reading is the whole step, to the last bit.
    } else {
        open.head.cover(stretch.rate, first_ms);
        // rrdtool's rule: a gap that closes a single step leaves it unknown, however much of it was
        // known; one that closes more leaves the first as it was.
        let is_single = rest_ms < step.as_millis();
        if stretch.is_gap && is_single { f64::NAN } else { open.head.step_value(step) }
    };
    open.close_one(phase, value, out);
    if rest_ms >= step.as_millis() {
        let whole = rest_ms / step.as_millis();
        phase.next();
        open.close_many(phase, whole, stretch.rate, out);
        rest_ms %= step.as_millis();
    }
    open.head.cover(stretch.rate, rest_ms);
    rest_ms == 0
}

/// As [`cross`], where a count has fallen: the reading at hand, or an earlier one of the open rows.
#[cold]
fn cross_marked(
    phase: &mut Phase<'_>,
    open: &mut OpenMut<'_>,
    stretch: &Stretch,
    out: &mut impl Out,
) -> bool {
    let step = phase.step();
    let fell = open.head.resets.take_fall();
    let first_ms = stretch.end.millis_since(stretch.from).unsigned_abs();
    let beyond_ms = stretch.to.millis_since(stretch.end).unsigned_abs();
    let (whole, rest_ms) = (beyond_ms / step.as_millis(), beyond_ms % step.as_millis());
    // The step that a fall belongs to: a reading at a boundary is of the step before.
    let falls_in_first = fell && beyond_ms == 0;
    let falls_in_whole = fell && beyond_ms > 0 && rest_ms == 0;
    if falls_in_first {
        open.head.resets.set(0);
    }
    open.head.cover(stretch.rate, first_ms);
    let is_rate = first_ms == step.as_millis();
    let value = match open.head.step_value(step) {
        _ if is_rate => stretch.rate,
        _ if stretch.is_gap && whole == 0 => f64::NAN,
        value => value,
    };
    open.close_marked(phase, value, out);
    if whole > 0 {
        phase.next();
        let equal = whole - u64::from(falls_in_whole);
        if equal > 0 {
            open.close_many(phase, equal, stretch.rate, &mut Marked { out, reset: false });
        }
        if falls_in_whole {
            phase.seek(stretch.to.plus_millis(-step.as_millis().cast_signed()));
            open.head.resets.set(0);
            open.close_marked(phase, stretch.rate, out);
        }
    }
    open.head.cover(stretch.rate, rest_ms);
    if fell && rest_ms > 0 {
        open.head.resets.set(0);
    }
    rest_ms == 0
}

/// What becomes of a reading that is not after the series' last one, or falls in a closed step. A gauge's
/// in the open step that is after the last but one splits what the last one covers.
#[cold]
fn stale(
    definition: &Definition,
    head: &mut Head,
    at: Timestamp,
    phase: &Phase<'_>,
    reading: Reading,
) -> Verdict {
    if reading.is_marker() || at == head.last {
        return Verdict::Duplicate;
    }
    if at > phase.opened()
        && let Some(verdict) = head.split(definition, phase.opened(), (at, reading.real()))
    {
        return verdict;
    }
    let row = at.row(phase.step());
    let age = (phase.newest_row() + 1 - row).unsigned_abs();
    if head.touched.is_set(age) { Verdict::Duplicate } else { Verdict::Late }
}

/// Milliseconds from `last` to `at`; a huge number when `at` is earlier, or `last` is "never".
fn elapsed_ms(last: Timestamp, at: Timestamp) -> u64 {
    at.as_millis().wrapping_sub(last.as_millis()).cast_unsigned()
}

/// Within 36 million years of 1970, so that no row number times its step overflows.
fn is_sane(at: Timestamp) -> bool {
    at.as_millis().unsigned_abs() < 1 << 60
}
