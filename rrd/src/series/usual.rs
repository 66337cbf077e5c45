//! Usual readings: the next of a gauge or of a total, as regular as the one before. Nearly all are, so
//! these have a way of their own; what it does is to the last bit what [`super::take`] does.
//!
//! All that neighbouring series have in common is worked out once. What is left for each is a few
//! comparisons, before anything is changed, and the sums.

use super::phase::MOST_COARSER;
use super::reading::{LARGEST_RATE, per_second};
use super::regular::INTERVALS;
use super::resets::Resets;
use super::{Definition, Head, OpenMut, Phase, Run, Sums, elapsed_ms, is_sane};
use crate::{Kind, Timestamp};

/// Rows of more steps are rare, and their count of known ones fits in no cell that waits.
const MOST_STEPS: u32 = u16::MAX as u32;

/// The way of readings that end in the open step, or close it and end in the next.
pub(crate) struct Usual {
    step_ms: u64,
    opened: Timestamp,
    /// The END of the run of steps that the open one is of: a counter that leaves it keeps an anchor.
    run_end: Timestamp,
    /// The row of the finest archive that all these close; `None` where the step stays open.
    closes: Option<i64>,
    /// Rows of other archives that close with it, by their place among those, and how many steps they
    /// have; the first so many.
    full: [(usize, i64, u32); MOST_COARSER],
    full_count: usize,
    /// Rows in which no count may have fallen.
    resets: Resets,
    gap: Gap,
}

/// What readings of one moment have in common if those before were of one moment, too.
#[derive(Clone, Copy)]
struct Gap {
    last: Timestamp,
    at: Timestamp,
    elapsed_ms: u64,
    /// As a record has it.
    before_ms: [u8; 3],
    /// Milliseconds of the open step, and of the one after it.
    first_ms: f64,
    rest_ms: f64,
    /// The reading is the whole step, to the last bit.
    is_whole: bool,
    /// It is at the very end of the step.
    is_at_end: bool,
    leaves_run: bool,
}

/// What readings of one definition have in common.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    is_count: bool,
    /// Readings further apart are not usual.
    most_ms: u64,
    /// Rates within are known and finite.
    least: f64,
    greatest: f64,
}

/// A reading that is known to be usual.
#[derive(Clone, Copy)]
pub(crate) struct Weighed {
    value: f64,
    rate: f64,
    /// What the step it closes comes to.
    step: f64,
}

/// Takes the rows that usual readings close.
pub(crate) trait Closed {
    /// One of the finest archive.
    fn fine(&mut self, row: i64, value: f64);

    /// One of another archive, the how manieth of those that close now.
    fn coarse(&mut self, nth: usize, run: &Run);
}

impl Way {
    /// Of no series.
    pub(crate) const NONE: Self =
        Self { is_count: false, most_ms: 0, least: f64::INFINITY, greatest: f64::NEG_INFINITY };

    /// That of a definition; where heartbeats are learned, of readings that teach nothing.
    pub(crate) fn of(definition: &Definition, learns: bool) -> Self {
        let most_ms = definition.heartbeat_ms / if learns { INTERVALS } else { 1 };
        let is_count = match definition.kind {
            Kind::Gauge | Kind::Unknown => false,
            Kind::Total => true,
            _ => return Self::NONE,
        };
        // The limits are NaN where there are none.
        let (least, greatest) =
            (definition.min.max(-LARGEST_RATE), definition.max.min(LARGEST_RATE));
        Self { is_count, most_ms, least, greatest }
    }
}

impl Gap {
    const NONE: Self = Self {
        last: Timestamp::MIN,
        at: Timestamp::MIN,
        elapsed_ms: u64::MAX,
        before_ms: [0; 3],
        first_ms: 0.0,
        rest_ms: 0.0,
        is_whole: false,
        is_at_end: false,
        leaves_run: false,
    };
}

impl Usual {
    /// The way of a reading at `at` in the series of a head, and of others like it. The phase follows.
    #[inline]
    pub(crate) fn of(phase: &mut Phase<'_>, head: &Head, at: Timestamp) -> Option<Self> {
        if !head.is_plain() || head.is_unborn() {
            return None;
        }
        let step = phase.step();
        phase.seek(head.last);
        let since_ms = elapsed_ms(phase.opened(), at);
        let closes = since_ms >= step.as_millis();
        let mut usual = Self {
            step_ms: step.as_millis(),
            opened: phase.opened(),
            run_end: phase.run_end(),
            closes: closes.then(|| phase.newest_row() + 1),
            full: [(0, 0, 0); MOST_COARSER],
            full_count: 0,
            resets: Resets::OF_STEP,
            gap: Gap::NONE,
        };
        if closes && phase.fills() {
            usual.resets = Resets::ALL;
            let widths = phase.left().iter().zip(phase.widths()).enumerate();
            for (index, (_, width)) in widths.filter(|(_, (left, _))| **left == 1) {
                let row = width.newest(phase.newest_row()) + 1;
                let steps = width.steps(row);
                if steps > MOST_STEPS {
                    return None;
                }
                usual.full[usual.full_count] = (index, row, steps);
                usual.full_count += 1;
            }
        }
        usual.gap = usual.gap(head.last, at)?;
        Some(usual)
    }

    /// The rows that each of these readings closes, by archive.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, i64)> + Clone + '_ {
        let coarser = self.full[..self.full_count].iter().map(|&(index, row, _)| (index + 1, row));
        self.closes.map(|row| (0, row)).into_iter().chain(coarser)
    }

    /// The row of the finest archive that each of these readings closes.
    pub(crate) const fn closes(&self) -> Option<i64> {
        self.closes
    }

    #[inline(never)]
    #[expect(clippy::cast_precision_loss, reason = "at most a step: exact below 285,000 years")]
    fn gap(&self, last: Timestamp, at: Timestamp) -> Option<Gap> {
        let &Self { step_ms, opened, .. } = self;
        // A difference below zero wraps to a huge number; so does that of a series that has not begun.
        let (since_ms, to_ms) = (elapsed_ms(opened, last), elapsed_ms(opened, at));
        let elapsed_ms = elapsed_ms(last, at);
        let (first_ms, rest_ms) = match self.closes {
            Some(_) => (step_ms.wrapping_sub(since_ms), to_ms.wrapping_sub(step_ms)),
            None => (elapsed_ms, 0),
        };
        let is_next =
            since_ms < step_ms && rest_ms < step_ms && 0 < first_ms && first_ms <= step_ms;
        let ends_there = self.closes.is_some() || to_ms < step_ms;
        (is_next && ends_there && is_sane(at)).then(|| Gap {
            last,
            at,
            elapsed_ms,
            before_ms: Head::before_ms(elapsed_ms),
            first_ms: first_ms as f64,
            rest_ms: rest_ms as f64,
            is_whole: first_ms == step_ms,
            is_at_end: rest_ms == 0,
            leaves_run: at >= self.run_end,
        })
    }

    /// `None` where anything is out of the ordinary. Changes nothing of the series.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "a step: exact below 285,000 years")]
    pub(crate) fn weigh(
        &mut self,
        way: &Way,
        head: &Head,
        (at, value): (Timestamp, f64),
    ) -> Option<Weighed> {
        if self.gap.last != head.last || self.gap.at != at {
            self.gap = self.gap(head.last, at)?;
        }
        let gap = &self.gap;
        let is_odd = head.oddities(self.resets) | head.unknown_ms;
        if is_odd != 0 || gap.elapsed_ms > way.most_ms {
            return None;
        }
        let mut rate = value;
        if way.is_count {
            let rise = value - head.previous_real();
            if gap.leaves_run || rise.is_nan() || rise < 0.0 {
                return None;
            }
            rate = per_second(rise.abs(), gap.elapsed_ms);
        }
        if !(rate >= way.least && rate <= way.greatest) {
            return None;
        }
        let mut step = rate;
        if !gap.is_whole {
            step = (head.sum + rate * gap.first_ms) / self.step_ms as f64;
            if step.is_nan() {
                return None;
            }
        }
        Some(Weighed { value, rate, step })
    }

    /// Takes it, and hands out what it closes.
    #[inline]
    pub(crate) fn take(&self, weighed: Weighed, open: &mut OpenMut<'_>, out: &mut impl Closed) {
        let (Weighed { value, rate, step }, gap) = (weighed, &self.gap);
        open.head.remember_real(value);
        open.head.before_ms = gap.before_ms;
        open.head.last = gap.at;
        let Some(row) = self.closes else {
            open.head.sum += rate * gap.first_ms;
            open.head.touched.set(0, true);
            return;
        };
        out.fine(row, step);
        Sums::add_all(open.rows, step);
        if self.full_count > 0 {
            self.hand_out(step, open, out);
        }
        // For a known rate no time at all counts as nothing, too.
        open.head.sum = 0.0 + rate * gap.rest_ms;
        open.head.touched.grow_older(1);
        // A reading on the boundary itself belongs to the step it closes.
        open.head.touched.set(u64::from(gap.is_at_end), true);
    }

    /// Hands out the rows that the step just added has filled, and empties them.
    #[inline(never)]
    fn hand_out(&self, step: f64, open: &mut OpenMut<'_>, out: &mut impl Closed) {
        for (nth, &(index, first_row, steps)) in self.full[..self.full_count].iter().enumerate() {
            let Some(row) = open.rows.get_mut(index) else { continue };
            let known = open.missing.known(index, steps);
            out.coarse(nth, &row.run(index + 1, first_row, known, step));
            *row = Sums::EMPTY;
            if known != steps {
                open.missing.set(index, 0);
            }
        }
    }
}
