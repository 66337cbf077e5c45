//! The head of a series: what every reading changes, in one cache line with its place in the store.

use super::Definition;
use super::consolidate::{Run, Sums};
use super::missing::MissingMut;
use super::open::{ENDED, FORGOTTEN, NEGATIVE, PRIMED};
use super::phase::Phase;
use super::resets::Resets;
use super::touched::Touched;
use crate::calendar::RowWidth;
use crate::{Anchor, Kind, Step, Timestamp};

/// Where a series stands, without its open rows and what follows from the rest.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Its last reading or marker. [`Timestamp::MIN`] until it has begun.
    pub(super) last: Timestamp,
    /// Bits of the last reading: an f64, or the magnitude of a whole number.
    pub(super) reading: u64,
    /// Sum of rate x milliseconds in the open step.
    pub(super) sum: f64,
    /// Milliseconds of the open step that are unknown.
    pub(super) unknown_ms: u64,
    pub(super) touched: Touched,
    /// The journal's second in which the series was last heard; 0 where nobody told.
    pub(super) heard_s: u32,
    /// Which series lives in the column; 0 for none.
    pub(crate) generation: u32,
    /// Milliseconds from the reading before to the last one, little-endian; 0 where that is not known.
    pub(super) before_ms: [u8; 3],
    /// Which definition of the instance is its own.
    pub(crate) class: u16,
    pub(super) flags: u8,
    pub(super) resets: Resets,
}

const _: () = assert!(size_of::<Head>() == 64, "a cache line");
const _: () = assert!(size_of::<Sums>() == 24, "every series holds one an archive");

/// A record has three bytes for the time between two readings: 4.6 hours.
const MOST_BEFORE_MS: u64 = 1 << 24;

/// Silence has closed the step of the last reading. Never written: it follows from the newest row.
pub(super) const HUSHED: u8 = 128;

/// The open end of one series in the arrays of its instance.
pub(crate) struct OpenMut<'a> {
    pub(crate) head: &'a mut Head,
    /// One for each archive but the finest.
    pub(crate) rows: &'a mut [Sums],
    pub(crate) missing: MissingMut<'a>,
}

/// Takes what readings bring about.
pub(crate) trait Out {
    /// Equal closed rows of the finest archive.
    fn fine(&mut self, first_row: i64, count: u64, value: f64);

    /// As [`Out::fine`], a single one: what nearly every reading brings about.
    #[inline]
    fn one(&mut self, row: i64, value: f64) {
        self.fine(row, 1, value);
    }

    /// As [`Out::fine`], where a count may have fallen.
    fn marked(&mut self, run: &Run);

    /// What a counter stood at, to be kept.
    fn anchor(&mut self, anchor: Anchor);

    /// Closed rows of another archive; those of the finest come first.
    fn coarse(&mut self, run: &Run);

    /// The first row begins here.
    fn born(&mut self, birth: Timestamp);
}

impl Head {
    /// A series that has not begun.
    pub(crate) fn unborn(generation: u32, class: u16) -> Self {
        Self {
            last: Timestamp::MIN,
            reading: FORGOTTEN,
            sum: 0.0,
            unknown_ms: 0,
            touched: Touched::default(),
            heard_s: 0,
            generation,
            before_ms: [0; 3],
            class,
            flags: 0,
            resets: Resets::default(),
        }
    }

    /// No series.
    pub(crate) fn none() -> Self {
        Self::unborn(0, 0)
    }

    /// True until the first reading.
    #[inline]
    pub(crate) fn is_unborn(&self) -> bool {
        self.last == Timestamp::MIN
    }

    /// True after a marker, until the next reading: the series is not visible.
    pub(crate) const fn is_ended(&self) -> bool {
        self.flags & ENDED != 0
    }

    pub(crate) const fn last(&self) -> Timestamp {
        self.last
    }

    /// A moment in the open step, its start counted and its end not.
    #[inline]
    pub(super) const fn in_open_step(&self, step: Step) -> Timestamp {
        let ahead = if self.flags & HUSHED == 0 { 0 } else { step.as_millis().cast_signed() };
        Timestamp::from_millis(self.last.as_millis().wrapping_add(ahead))
    }

    /// Where the open step begins: the end of the newest closed row.
    pub(crate) const fn opened(&self, step: Step) -> Timestamp {
        self.in_open_step(step).floor(step)
    }

    /// The journal's second in which a reading was taken: [`super::silence`] counts from it,
    /// so that a sender whose clock is slow is not taken for silent.
    #[inline]
    pub(crate) fn second_of(stamp: Timestamp) -> u32 {
        u32::try_from(stamp.as_millis() / 1000).unwrap_or(0)
    }

    /// Notes the second of [`Head::second_of`].
    #[inline]
    pub(crate) const fn hear(&mut self, second: u32) {
        self.heard_s = second;
    }

    /// The last moment before silence closes the open step; `None` where silence has done so, and
    /// where the series has not begun.
    pub(crate) fn hushed_after(&self, definition: &Definition) -> Option<Timestamp> {
        if self.is_unborn() || self.flags & HUSHED != 0 {
            return None;
        }
        let heartbeat_ms = i64::try_from(definition.heartbeat_ms).unwrap_or(i64::MAX);
        Some(self.heard().plus_millis(heartbeat_ms))
    }

    /// When a reading was last taken, in journal time; the reading's own time where nobody told.
    pub(crate) fn heard(&self) -> Timestamp {
        match self.heard_s {
            0 => self.last,
            secs => Timestamp::from_secs(i64::from(secs)),
        }
    }

    /// True where the open step has had a reading that is not its very start.
    pub(crate) const fn has_open_step(&self, step: Step) -> bool {
        self.last.as_millis() > self.opened(step).as_millis()
    }

    /// When the reading before the last one was.
    pub(super) fn before_last(&self) -> Option<Timestamp> {
        let [low, middle, high] = self.before_ms;
        let before_ms = u32::from_le_bytes([low, middle, high, 0]);
        (before_ms > 0).then(|| self.last.plus_millis(-i64::from(before_ms)))
    }

    /// Notes how long before the last reading the one before was; more than a record keeps is forgotten.
    #[inline]
    pub(super) const fn remember_before(&mut self, elapsed_ms: u64) {
        self.before_ms = Self::before_ms(elapsed_ms);
    }

    /// As [`Head::remember_before`] keeps it.
    #[inline]
    pub(super) const fn before_ms(elapsed_ms: u64) -> [u8; 3] {
        let kept = if elapsed_ms < MOST_BEFORE_MS { elapsed_ms } else { 0 };
        let [low, middle, high, ..] = kept.to_le_bytes();
        [low, middle, high]
    }

    /// Neither ended nor silent, and no count fell in the open step.
    #[inline]
    pub(super) const fn is_plain(&self) -> bool {
        self.flags & (ENDED | HUSHED) == 0 && self.resets.is_quiet()
    }

    /// As [`Head::is_plain`], where no count is to have fallen in any of these rows: 0 if that is so.
    #[inline]
    pub(super) fn oddities(&self, resets: Resets) -> u64 {
        u64::from(self.flags & (ENDED | HUSHED)) | u64::from(self.resets.among(resets))
    }

    #[inline]
    pub(super) const fn set_ended(&mut self, ended: bool) {
        self.flags = self.flags & !(ENDED | HUSHED) | if ended { ENDED } else { 0 };
    }

    /// Notes that silence has closed the step of the last reading.
    pub(super) const fn set_hushed(&mut self) {
        self.flags |= HUSHED;
    }

    /// Counts time of the open step: at a rate, or unknown where that is `NaN`.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "at most a step: exact below 285,000 years")]
    pub(super) fn cover(&mut self, rate: f64, covered_ms: u64) {
        if rate.is_nan() {
            self.unknown_ms += covered_ms;
            self.resets.settle();
        } else if covered_ms > 0 {
            // An infinite rate times no time at all would be no number.
            self.sum += rate * covered_ms as f64;
        }
    }

    /// The mean over the known time of a step all of which is covered; unknown if more than half is.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "at most a step: exact below 285,000 years")]
    pub(super) fn step_value(&self, step: Step) -> f64 {
        let known_ms = step.as_millis().saturating_sub(self.unknown_ms);
        if known_ms < self.unknown_ms { f64::NAN } else { self.sum / known_ms as f64 }
    }

    #[inline]
    pub(super) const fn previous_real(&self) -> f64 {
        f64::from_bits(self.reading)
    }

    #[inline]
    pub(super) const fn remember_real(&mut self, value: f64) {
        self.reading = value.to_bits();
    }

    pub(super) fn previous_whole(&self) -> Option<i128> {
        whole_reading(self.reading, self.flags)
    }

    /// Forgets the last reading: the next one is of another kind.
    pub(crate) const fn forget_reading(&mut self) {
        self.flags &= !(PRIMED | NEGATIVE);
        self.reading = FORGOTTEN;
    }

    /// The last reading of a counter, while it can be told from the next; `None` for other kinds.
    #[cold]
    pub(crate) fn count(&self, kind: Kind) -> Option<f64> {
        if !kind.is_count() || self.is_ended() {
            return None;
        }
        let reading = match kind {
            Kind::Counter | Kind::Derive => whole_as_real(self.previous_whole()?),
            _ => self.previous_real(),
        };
        reading.is_finite().then_some(reading)
    }

    /// What a counter stood at, as late as it can be told: at the END of the newest row where all since then
    /// is known, else when it was last read.
    pub(crate) fn stand(&self, kind: Kind, step: Step) -> Option<Anchor> {
        let count = self.count(kind)?;
        let at_end = count - self.sum / 1000.0;
        let opened = self.opened(step);
        let is_known = self.unknown_ms == 0 && self.last >= opened && at_end.is_finite();
        if is_known && (at_end >= 0.0 || kind != Kind::Counter) {
            return Some(Anchor { at: opened, reading: at_end });
        }
        Some(Anchor { at: self.last, reading: count })
    }

    pub(super) fn remember_whole(&mut self, value: Option<i128>) {
        let magnitude = value.and_then(|value| u64::try_from(value.unsigned_abs()).ok());
        let sign = if value.is_some_and(i128::is_negative) { NEGATIVE } else { 0 };
        self.flags &= !(PRIMED | NEGATIVE);
        self.flags |= if magnitude.is_some() { PRIMED | sign } else { 0 };
        self.reading = magnitude.unwrap_or(FORGOTTEN);
    }
}

/// The whole number that these bits and flags remember, if any.
pub(super) fn whole_reading(magnitude: u64, flags: u8) -> Option<i128> {
    let magnitude = i128::from(magnitude);
    let value = if flags & NEGATIVE == 0 { magnitude } else { -magnitude };
    (flags & PRIMED != 0).then_some(value)
}

#[expect(clippy::cast_precision_loss, reason = "a count is told as f64, whatever was sent")]
fn whole_as_real(value: i128) -> f64 {
    value as f64
}

impl OpenMut<'_> {
    /// Begins at the last boundary before `at`: a first gauge covers at most one step.
    #[cold]
    pub(super) fn begin_before(&mut self, at: Timestamp, step: Step) -> Timestamp {
        let birth = Timestamp::row_end(at.row(step) - 1, step);
        self.head.last = birth;
        self.head.unknown_ms = 0;
        self.head.resets = Resets::default();
        self.rows.fill(Sums::EMPTY);
        birth
    }

    /// Has rows of which nothing has come.
    pub(crate) fn empty(&mut self) {
        self.rows.fill(Sums::EMPTY);
        (0..self.rows.len()).for_each(|index| self.missing.set(index, 0));
    }

    /// What came before the first step of rows that have begun is not known.
    #[cold]
    pub(super) fn miss_begun(&mut self, phase: &Phase<'_>) {
        for (index, width) in (0..self.rows.len()).zip(phase.widths()) {
            self.missing.set(index, width.begun(phase.newest_row()));
        }
    }

    /// Closes the open step and hands out the rows this fills; the phase stays where it is.
    #[inline]
    pub(super) fn close_one(&mut self, phase: &Phase<'_>, value: f64, out: &mut impl Out) {
        out.one(phase.newest_row() + 1, value);
        if value.is_nan() {
            (0..self.rows.len()).for_each(|index| self.missing.add(index, 1));
        } else {
            Sums::add_all(self.rows, value);
        }
        if phase.fills() {
            self.hand_out(phase, value, out);
        }
        self.head.touched.grow_older(1);
        (self.head.sum, self.head.unknown_ms) = (0.0, 0);
    }

    /// As [`OpenMut::close_one`], where a count may have fallen.
    pub(super) fn close_marked(&mut self, phase: &Phase<'_>, value: f64, out: &mut impl Out) {
        let reset = self.head.resets.take(0);
        if reset {
            (1..=self.rows.len()).for_each(|archive| self.head.resets.set(archive));
        }
        self.close_one(phase, value, &mut Marked { out, reset });
    }

    /// Hands out the rows that the step just added has filled, and empties them.
    #[inline(never)]
    fn hand_out(&mut self, phase: &Phase<'_>, value: f64, out: &mut impl Out) {
        let widths = phase.left().iter().zip(phase.widths());
        for (index, (row, (&left, &width))) in self.rows.iter_mut().zip(widths).enumerate() {
            if left == 1 {
                let first_row = width.newest(phase.newest_row()) + 1;
                let reset = self.head.resets.take(index + 1);
                let known = self.missing.known(index, width.steps(first_row));
                out.coarse(&Run { reset, ..row.run(index + 1, first_row, known, value) });
                *row = Sums::EMPTY;
                self.missing.set(index, 0);
            }
        }
    }

    /// Closes `count` equal steps, at least one, and hands out the rows this fills.
    pub(super) fn close_many(
        &mut self,
        phase: &Phase<'_>,
        count: u64,
        value: f64,
        out: &mut impl Out,
    ) {
        out.fine(phase.newest_row() + 1, count, value);
        let widths = phase.left().iter().zip(phase.widths());
        for (index, (row, (&left, &width))) in self.rows.iter_mut().zip(widths).enumerate() {
            match u32::try_from(count) {
                Ok(count) if count < left => {
                    row.add_many(value, count);
                    if value.is_nan() {
                        self.missing.add(index, count);
                    }
                }
                _ => {
                    let reset = self.head.resets.take(index + 1);
                    let after = phase.newest_row();
                    let steps = Steps { after, count, left, width, value, reset };
                    steps.fill(index + 1, row, &mut self.missing, out);
                }
            }
        }
        self.head.touched.grow_older(count);
        (self.head.sum, self.head.unknown_ms) = (0.0, 0);
    }
}

/// Says of rows of the finest archive whether a count fell in them. A type of its own, so that rows in which
/// none can have fallen keep their short way.
pub(super) struct Marked<'a, O> {
    pub(super) out: &'a mut O,
    pub(super) reset: bool,
}

impl<O: Out> Out for Marked<'_, O> {
    fn fine(&mut self, first_row: i64, count: u64, value: f64) {
        let run = Run::of_equal(0, first_row, count, (value, 1));
        self.out.marked(&Run { reset: self.reset, ..run });
    }

    fn marked(&mut self, run: &Run) {
        self.out.marked(run);
    }

    fn anchor(&mut self, anchor: Anchor) {
        self.out.anchor(anchor);
    }

    fn coarse(&mut self, run: &Run) {
        self.out.coarse(run);
    }

    fn born(&mut self, birth: Timestamp) {
        self.out.born(birth);
    }
}

/// Equal steps that fill at least one row of a coarser archive.
struct Steps {
    /// The number of the newest row of the finest archive before them.
    after: i64,
    count: u64,
    /// How many the open row still takes.
    left: u32,
    width: RowWidth,
    value: f64,
    /// A count fell in the open row.
    reset: bool,
}

impl Steps {
    /// Fills up the open row, then whole rows, then begins the next.
    fn fill(
        &self,
        archive: usize,
        row: &mut Sums,
        missing: &mut MissingMut<'_>,
        out: &mut impl Out,
    ) {
        let &Self { after, count, left, width, value, reset } = self;
        let first_row = width.newest(after) + 1;
        let rest = count - u64::from(left);
        row.add_many(value, left);
        let not_known = |steps: u32| if value.is_nan() { steps } else { 0 };
        missing.add(archive - 1, not_known(left));
        let known = missing.known(archive - 1, width.steps(first_row));
        out.coarse(&Run { reset, ..row.run(archive, first_row, known, value) });
        *row = Sums::EMPTY;
        let (whole, begun) = match width {
            RowWidth::Even(steps) => (rest / u64::from(steps), rest % u64::from(steps)),
            RowWidth::Days(..) => {
                let newest = after.saturating_add_unsigned(count);
                let whole = width.newest(newest) - first_row;
                let begun = newest - width.end(first_row + whole);
                (whole.unsigned_abs(), begun.unsigned_abs())
            }
        };
        self.fill_whole(archive, (first_row + 1, whole), out);
        let begun = u32::try_from(begun).expect("less than a row, which is a u32");
        if begun > 0 {
            row.add_many(value, begun);
        }
        missing.set(archive - 1, not_known(begun));
    }

    /// Hands out so many rows from `first_row` on, every step of which has the value.
    fn fill_whole(&self, archive: usize, (first_row, count): (i64, u64), out: &mut impl Out) {
        let &Self { width, value, .. } = self;
        match width {
            _ if count == 0 => {}
            RowWidth::Even(steps) => {
                out.coarse(&Run::of_equal(archive, first_row, count, (value, steps)));
            }
            RowWidth::Days(..) if value.is_nan() => {
                out.coarse(&Run::of_equal(archive, first_row, count, (value, 0)));
            }
            // A reading covers no more than its heartbeat, a century at most.
            RowWidth::Days(..) => {
                for row in first_row..first_row.saturating_add_unsigned(count) {
                    out.coarse(&Run::of_equal(archive, row, 1, (value, width.steps(row))));
                }
            }
        }
    }
}
