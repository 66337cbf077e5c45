//! The usual reading: a gauge's that closes one step and no more. Nearly all are, so these have a way of
//! their own; what it does is to the last bit what [`super::take_reading`] does.

use super::{Definition, Head, OpenMut, Out, Phase, Verdict, elapsed_ms};
use crate::{Kind, Timestamp};

/// A reading that is known to be usual.
pub(super) struct Usual {
    at: Timestamp,
    value: f64,
    elapsed_ms: u64,
    /// From the last reading to the end of the open step, and from there on.
    first_ms: u64,
    rest_ms: u64,
}

impl Usual {
    /// `None` where anything is out of the ordinary. Changes nothing.
    #[inline]
    pub(super) fn of(
        definition: &Definition,
        phase: &Phase<'_>,
        head: &Head,
        (at, value): (Timestamp, f64),
    ) -> Option<Self> {
        let step_ms = phase.step().as_millis();
        // A difference below zero wraps to a huge number; so does that of a series that has not begun.
        let since_ms = elapsed_ms(phase.opened(), head.last);
        let rest_ms = elapsed_ms(phase.opened() + phase.step(), at);
        let elapsed_ms = elapsed_ms(head.last, at);
        let is_next = since_ms < step_ms && rest_ms < step_ms;
        let is_usual = is_next
            && elapsed_ms <= definition.heartbeat_ms
            && matches!(definition.kind, Kind::Gauge | Kind::Unknown)
            && head.is_plain()
            && !definition.counted(value).is_nan();
        is_usual.then(|| Self { at, value, elapsed_ms, first_ms: step_ms - since_ms, rest_ms })
    }

    /// Closes the open step and opens the next.
    #[inline]
    pub(super) fn take(
        &self,
        phase: &Phase<'_>,
        open: &mut OpenMut<'_>,
        out: &mut impl Out,
    ) -> Verdict {
        let &Self { at, value, elapsed_ms, first_ms, rest_ms } = self;
        let head = &mut *open.head;
        head.remember_real(value);
        let step = if first_ms == phase.step().as_millis() {
            value // One reading is the whole step, to the last bit.
        } else {
            head.cover(value, first_ms);
            head.step_value(phase.step())
        };
        open.close_one(phase, step, out);
        let head = &mut *open.head;
        head.cover(value, rest_ms);
        // A reading on the boundary itself belongs to the step it closes.
        head.touched.set(u64::from(rest_ms == 0), true);
        head.remember_before(elapsed_ms);
        head.last = at;
        Verdict::Stored
    }
}
