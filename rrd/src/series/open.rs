//! The open end of a series: everything needed to go on from its last reading. Held in memory for
//! every series and written into the checkpoint slots of its file.

use super::consolidate::{ClosedSteps, OpenRow, Run};
use super::touched::Touched;
use crate::policy::ArchiveSpec;
use crate::{Step, Timestamp};

/// Where a series stands: its last reading, its open step and its open rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Open {
    /// Where its first row begins; nothing before is known. [`Timestamp::MIN`] until it has begun.
    pub(crate) birth: Timestamp,
    /// Its last reading or marker. [`Timestamp::MIN`] until it has begun.
    pub(crate) last: Timestamp,
    /// The number of the newest closed row of the finest archive.
    pub(crate) newest_row: i64,
    /// Bits of the last reading: an f64, or the magnitude of a whole number.
    reading: u64,
    /// Sum of rate x milliseconds in the open step.
    sum: f64,
    /// Milliseconds of the open step that are unknown.
    unknown_ms: u64,
    pub(super) touched: Touched,
    /// One for each archive but the finest.
    rows: Box<[OpenRow]>,
    /// The journal's second in which the series was last heard; 0 where nobody told.
    heard_s: u32,
    flags: u8,
}

const _: () = assert!(size_of::<Open>() == 88, "every series holds one");
const _: () = assert!(size_of::<OpenRow>() == 32, "every series holds one an archive");

/// A marker ended the series.
const ENDED: u8 = 1;
/// `reading` is a whole number, and may be subtracted from the next.
const PRIMED: u8 = 2;
/// The whole number in `reading` is below zero.
const NEGATIVE: u8 = 4;
const ALL_FLAGS: u8 = ENDED | PRIMED | NEGATIVE;

/// Bits of a forgotten f64.
const FORGOTTEN: u64 = f64::NAN.to_bits();

/// Why stored bytes are not the open end of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// Too few or too many bytes for any count of archives.
    #[error("{0} bytes are no accumulator; restore the file or let recovery replay it")]
    Length(usize),
    /// A flag this version does not know.
    #[error("accumulator flags {0:#04x} are unknown to this version; upgrade")]
    Flags(u8),
}

impl Open {
    /// A series that has not begun: its first reading decides when.
    pub(crate) fn unborn(coarser_count: usize) -> Self {
        Self {
            birth: Timestamp::MIN,
            last: Timestamp::MIN,
            newest_row: 0,
            reading: FORGOTTEN,
            sum: 0.0,
            unknown_ms: 0,
            touched: Touched::default(),
            rows: vec![OpenRow::empty(u32::MAX); coarser_count].into(),
            heard_s: 0,
            flags: 0,
        }
    }

    /// A series that begins at `start`, as rrdtool's `--start`: what its first step had before is unknown.
    #[cfg_attr(not(test), expect(dead_code, reason = "the command line names a start"))]
    pub(crate) fn begin(start: Timestamp, archives: &[ArchiveSpec]) -> Self {
        let mut open = Self::unborn(archives.len() - 1);
        open.begin_at(start, archives);
        open
    }

    /// True until the first reading.
    #[inline]
    pub(crate) fn is_unborn(&self) -> bool {
        self.last == Timestamp::MIN
    }

    /// Its birth and its newest closed row, as rows of the finest archive; `None` until it has begun.
    pub(crate) fn closed_rows(&self, step: Step) -> Option<(i64, i64)> {
        (!self.is_unborn()).then(|| (self.birth.floor(step).row(step), self.newest_row))
    }

    /// The open row of an archive but the finest, counted from 1 as archives are.
    pub(crate) fn open_row(&self, archive: usize) -> OpenRow {
        self.rows[archive - 1]
    }

    /// The same series in other archives of the same finest step, with these open rows.
    pub(crate) fn with_open_rows(&self, rows: impl Iterator<Item = OpenRow>) -> Self {
        Self { rows: rows.collect(), ..self.clone() }
    }

    /// True after a marker, until the next reading: the series is not visible.
    pub(crate) const fn is_ended(&self) -> bool {
        self.flags & ENDED != 0
    }

    /// Notes the journal's time at which a reading was taken: [`super::silence`] counts from it,
    /// so that a sender whose clock is slow is not taken for silent.
    #[inline]
    pub(crate) fn hear(&mut self, stamp: Timestamp) {
        self.heard_s = u32::try_from(stamp.as_millis() / 1000).unwrap_or(0);
    }

    /// Rate x milliseconds so far in the open step, and how much of it is unknown.
    #[cfg(test)]
    pub(super) const fn open_step(&self) -> (f64, u64) {
        (self.sum, self.unknown_ms)
    }

    /// True where these archives can have led here; asserted of what was read from a file.
    pub(crate) fn agrees_with(&self, archives: &[ArchiveSpec]) -> bool {
        self.rows.len() + 1 == archives.len()
            && (self.is_unborn() || self.agrees_when_born(archives))
    }

    fn agrees_when_born(&self, archives: &[ArchiveSpec]) -> bool {
        let step = archives[0].step;
        let opened = self.newest_row.checked_mul(step.as_millis().cast_signed());
        let ends_soon_enough = opened.is_some_and(|opened| {
            self.last.millis_since(Timestamp::from_millis(opened)) < step.as_millis().cast_signed()
        });
        let rows_agree = archives[1..].iter().zip(&self.rows).all(|(archive, row)| {
            let per_row = archive.steps_per_row(step);
            row.left == steps_left(self.newest_row, per_row) && row.known <= per_row - row.left
        });
        ends_soon_enough && self.unknown_ms < step.as_millis() && rows_agree
    }

    /// Begins at the last boundary before `at`: a first gauge covers at most one step.
    #[cold]
    pub(super) fn begin_before(&mut self, at: Timestamp, archives: &[ArchiveSpec]) {
        let step = archives[0].step;
        self.begin_at(Timestamp::row_end(at.row(step) - 1, step), archives);
    }

    fn begin_at(&mut self, start: Timestamp, archives: &[ArchiveSpec]) {
        let step = archives[0].step;
        let opened = start.floor(step);
        (self.birth, self.last) = (start, start);
        self.newest_row = opened.row(step);
        self.unknown_ms = start.millis_since(opened).unsigned_abs();
        for (archive, row) in archives[1..].iter().zip(&mut self.rows) {
            *row = OpenRow::empty(steps_left(self.newest_row, archive.steps_per_row(step)));
        }
    }

    /// Where the open step begins: the end of the newest closed row.
    #[inline]
    pub(crate) fn opened(&self, step: Step) -> Timestamp {
        Timestamp::row_end(self.newest_row, step)
    }

    /// When a reading was last taken, in journal time; the reading's own time where nobody told.
    pub(crate) fn heard(&self) -> Timestamp {
        match self.heard_s {
            0 => self.last,
            secs => Timestamp::from_secs(i64::from(secs)),
        }
    }

    #[inline]
    pub(super) const fn set_ended(&mut self, ended: bool) {
        self.flags = self.flags & !ENDED | if ended { ENDED } else { 0 };
    }

    /// Counts time of the open step: at a rate, or unknown where that is `NaN`.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "at most a step: exact below 285,000 years")]
    pub(super) fn cover(&mut self, rate: f64, covered_ms: u64) {
        if rate.is_nan() {
            self.unknown_ms += covered_ms;
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

    /// Closes `count` equal steps, hands out the rows this fills and opens the next step.
    #[inline]
    pub(super) fn close(
        &mut self,
        archives: &[ArchiveSpec],
        count: u64,
        value: f64,
        out: &mut impl FnMut(Run),
    ) {
        let steps = ClosedSteps { after: self.newest_row, count, value };
        out(steps.finest_run());
        steps.consolidate(archives, &mut self.rows, out);
        self.newest_row += count.cast_signed();
        self.touched.grow_older(count);
        (self.sum, self.unknown_ms) = (0.0, 0);
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
        let magnitude = i128::from(self.reading);
        let value = if self.flags & NEGATIVE == 0 { magnitude } else { -magnitude };
        (self.flags & PRIMED != 0).then_some(value)
    }

    pub(super) fn remember_whole(&mut self, value: Option<i128>) {
        let magnitude = value.and_then(|value| u64::try_from(value.unsigned_abs()).ok());
        let sign = if value.is_some_and(i128::is_negative) { NEGATIVE } else { 0 };
        self.flags &= !(PRIMED | NEGATIVE);
        self.flags |= if magnitude.is_some() { PRIMED | sign } else { 0 };
        self.reading = magnitude.unwrap_or(FORGOTTEN);
    }
}

/// Steps from row `newest` of the finest archive to the end of the coarser row being filled.
fn steps_left(newest: i64, per_row: u32) -> u32 {
    let begun = newest.rem_euclid(i64::from(per_row));
    per_row - u32::try_from(begun).expect("a remainder of a u32")
}

/// Bytes before the open rows: six words of 8, the touched bits, the second and the flags.
const HEAD_LEN: usize = 6 * 8 + 16 + 4 + 4;
/// Bytes of one open row.
const ROW_LEN: usize = 3 * 8 + 2 * 4;

impl Open {
    /// Bytes that [`Open::encode`] fills for a series with so many archives besides the finest.
    pub(crate) const fn encoded_len(coarser_count: usize) -> usize {
        HEAD_LEN + coarser_count * ROW_LEN
    }

    /// Writes the open end, little-endian, into exactly [`Open::encoded_len`] bytes.
    pub(crate) fn encode(&self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), Self::encoded_len(self.rows.len()), "room for one open end");
        let mut field = Fields(bytes);
        field.put(self.birth.as_millis().to_le_bytes());
        field.put(self.last.as_millis().to_le_bytes());
        field.put(self.newest_row.to_le_bytes());
        field.put(self.reading.to_le_bytes());
        field.put(self.sum.to_le_bytes());
        field.put(self.unknown_ms.to_le_bytes());
        field.put(self.touched.bits().to_le_bytes());
        field.put(self.heard_s.to_le_bytes());
        field.put([self.flags, 0, 0, 0]);
        for row in &self.rows {
            field.put(row.sum.to_le_bytes());
            field.put(row.min.to_le_bytes());
            field.put(row.max.to_le_bytes());
            field.put(row.known.to_le_bytes());
            field.put(row.left.to_le_bytes());
        }
    }

    /// Reads what [`Open::encode`] wrote; the caller has checked its checksum, and still asks [`Open::agrees_with`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let has_length =
            bytes.len() >= HEAD_LEN && (bytes.len() - HEAD_LEN).is_multiple_of(ROW_LEN);
        if !has_length {
            return Err(OpenError::Length(bytes.len()));
        }
        let (head, rows) = bytes.split_at(HEAD_LEN);
        let mut field = Bytes(head);
        let open = Self {
            birth: Timestamp::from_millis(i64::from_le_bytes(field.take())),
            last: Timestamp::from_millis(i64::from_le_bytes(field.take())),
            newest_row: i64::from_le_bytes(field.take()),
            reading: u64::from_le_bytes(field.take()),
            sum: f64::from_le_bytes(field.take()),
            unknown_ms: u64::from_le_bytes(field.take()),
            touched: Touched::from_bits(u128::from_le_bytes(field.take())),
            heard_s: u32::from_le_bytes(field.take()),
            flags: field.take::<4>()[0],
            rows: rows.chunks_exact(ROW_LEN).map(OpenRow::decode).collect(),
        };
        if open.flags & !ALL_FLAGS != 0 {
            return Err(OpenError::Flags(open.flags));
        }
        Ok(open)
    }
}

impl OpenRow {
    fn decode(bytes: &[u8]) -> Self {
        let mut field = Bytes(bytes);
        Self {
            sum: f64::from_le_bytes(field.take()),
            min: f64::from_le_bytes(field.take()),
            max: f64::from_le_bytes(field.take()),
            known: u32::from_le_bytes(field.take()),
            left: u32::from_le_bytes(field.take()),
        }
    }
}

/// Room still to be written.
struct Fields<'a>(&'a mut [u8]);

impl Fields<'_> {
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        let (now, later) = std::mem::take(&mut self.0).split_at_mut(N);
        now.copy_from_slice(&field);
        self.0 = later;
    }
}

/// Bytes still to be read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self.0.split_first_chunk().expect("the length was checked");
        self.0 = later;
        *now
    }
}
