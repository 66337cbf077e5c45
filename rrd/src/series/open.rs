//! The open end of a series: everything needed to go on from its last reading, as the checkpoint slots
//! of its file have it. Memory keeps less for each series: see [`super::Head`].

use super::consolidate::{OpenRow, Sums};
use super::head::{HUSHED, Head, OpenMut, whole_reading};
use super::is_sane;
use super::missing::MissingRef;
use super::phase::Grid;
use super::resets::Resets;
use super::touched::Touched;
use crate::calendar::RowWidth;
use crate::policy::ArchiveSpec;
use crate::{Kind, Step, Timestamp};

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
    /// Milliseconds from the reading before to the last one, 24 bits; 0 where that is not known.
    before_ms: [u8; 3],
    flags: u8,
    /// A count fell in the open step.
    reset: bool,
}

/// The reading before the next one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LastReading {
    Real(f64),
    Whole(i128),
}

/// Where a series of another program stands, to go on from there.
pub(crate) struct Resumed {
    pub(crate) birth: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) newest_row: i64,
    pub(crate) reading: Option<LastReading>,
    /// Rate x milliseconds in the open step.
    pub(crate) sum: f64,
    /// Unknown milliseconds of the open step.
    pub(crate) unknown_ms: u64,
    /// One for each archive but the finest.
    pub(crate) rows: Vec<OpenRow>,
}

/// An open step, and the rows before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenStep {
    pub(crate) birth: Timestamp,
    pub(crate) newest_row: i64,
    /// Rate x milliseconds.
    pub(crate) sum: f64,
    pub(crate) unknown_ms: u64,
    /// A count fell in it.
    pub(crate) reset: bool,
}

impl OpenStep {
    /// One of which this much is known; where it lies is still to be said.
    pub(crate) const fn of(sum: f64, unknown_ms: u64) -> Self {
        Self { birth: Timestamp::MIN, newest_row: 0, sum, unknown_ms, reset: false }
    }
}

/// A marker ended the series.
pub(super) const ENDED: u8 = 1;
/// `reading` is a whole number, and may be subtracted from the next.
pub(super) const PRIMED: u8 = 2;
/// The whole number in `reading` is below zero.
pub(super) const NEGATIVE: u8 = 4;
const ALL_FLAGS: u8 = ENDED | PRIMED | NEGATIVE;

/// Bits of a forgotten f64.
pub(super) const FORGOTTEN: u64 = f64::NAN.to_bits();

/// Characters that rrdtool keeps of a reading.
const LONGEST_READING: usize = 29;

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

impl std::fmt::Display for LastReading {
    /// As a number that rrdtool takes back whole.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Real(value) => match value.to_string() {
                plain if plain.len() <= LONGEST_READING => f.write_str(&plain),
                _ => write!(f, "{value:e}"),
            },
        }
    }
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
            before_ms: [0; 3],
            flags: 0,
            reset: false,
        }
    }

    /// A series that begins at `start`, as rrdtool's `--start`: what its first step had before is unknown.
    pub(crate) fn begin(start: Timestamp, archives: &[ArchiveSpec]) -> Self {
        let mut open = Self::unborn(archives.len() - 1);
        open.begin_at(start, archives);
        open
    }

    /// A series that goes on where another program left it.
    pub(crate) fn resumed(from: Resumed) -> Self {
        let mut head = Head::none();
        match from.reading {
            None => {}
            Some(LastReading::Real(value)) => head.remember_real(value),
            Some(LastReading::Whole(value)) => head.remember_whole(Some(value)),
        }
        Self {
            birth: from.birth,
            last: from.last,
            newest_row: from.newest_row,
            reading: head.reading,
            flags: head.flags,
            sum: from.sum,
            unknown_ms: from.unknown_ms,
            rows: from.rows.into(),
            ..Self::unborn(0)
        }
    }

    /// A series that has ended with a row, and has no reading to go on from.
    pub(crate) fn ended(birth_row: i64, newest_row: i64, archives: &[ArchiveSpec]) -> Self {
        let step = archives[0].step;
        let end = |row| Timestamp::row_end(row, step);
        let left = |archive: &ArchiveSpec| archive.width(step).left(newest_row);
        let rows = archives[1..].iter().map(|archive| OpenRow::empty(left(archive))).collect();
        let (birth, last) = (end(birth_row), end(newest_row));
        Self { birth, last, newest_row, rows, flags: ENDED, ..Self::unborn(0) }
    }

    /// Where the series stands, for another program to go on from there.
    pub(crate) fn resumable(&self, kind: Kind) -> Resumed {
        Resumed {
            birth: self.birth,
            last: self.last,
            newest_row: self.newest_row,
            reading: self.last_reading(kind),
            sum: self.sum,
            unknown_ms: self.unknown_ms,
            rows: self.rows.to_vec(),
        }
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

    /// The same series in other archives of the same finest step, with these open rows.
    pub(crate) fn with_open_rows(&self, rows: impl Iterator<Item = OpenRow>) -> Self {
        Self { rows: rows.collect(), ..self.clone() }
    }

    /// The same series in archives of another finest step, `(former, new)`, with these open rows. What
    /// silence has closed is open again.
    pub(crate) fn restepped(
        &self,
        step: OpenStep,
        rows: Vec<OpenRow>,
        steps: (Step, Step),
    ) -> Self {
        let OpenStep { birth, newest_row, sum, unknown_ms, reset } = step;
        let former_row = self.newest_row + 1;
        let (newest, last_row) = (newest_row + 1, self.last.row(steps.1));
        let touched = self.touched.moved(|age| {
            let row = former_row.saturating_sub_unsigned(age);
            let end = Timestamp::row_end(row, steps.0);
            // The first that ends after the former step began, and the last that ends with it.
            let first = Timestamp::row_end(row - 1, steps.0).floor(steps.1).row(steps.1) + 1;
            let last = end.row(steps.1).min(last_row);
            (newest - last, newest - first)
        });
        let rows = rows.into();
        // What a late reading would take out of the step is not in it as it was read.
        let forgetful = Self { before_ms: [0; 3], ..self.clone() };
        Self { birth, newest_row, sum, unknown_ms, touched, rows, reset, ..forgetful }
    }

    /// True after a marker, until the next reading: the series is not visible.
    #[cfg(test)]
    pub(super) const fn is_ended(&self) -> bool {
        self.flags & ENDED != 0
    }

    /// As [`Head::hear`].
    #[cfg(test)]
    pub(super) fn hear(&mut self, stamp: Timestamp) {
        self.heard_s = Head::second_of(stamp);
    }

    /// What is known so far of the open step.
    pub(crate) const fn open_step(&self) -> OpenStep {
        let &Self { birth, newest_row, sum, unknown_ms, reset, .. } = self;
        OpenStep { birth, newest_row, sum, unknown_ms, reset }
    }

    /// What was last read, as this kind keeps it; `None` for unknown.
    pub(crate) fn last_reading(&self, kind: Kind) -> Option<LastReading> {
        if matches!(kind, Kind::Counter | Kind::Derive) {
            return whole_reading(self.reading, self.flags).map(LastReading::Whole);
        }
        // A marker leaves the reading of such a counter: only whether the next one falls is asked of it.
        let is_forgotten = kind == Kind::Total && self.flags & ENDED != 0;
        let value = f64::from_bits(self.reading);
        (!value.is_nan() && !is_forgotten).then_some(LastReading::Real(value))
    }

    /// The row being filled in an archive coarser than the finest.
    pub(crate) fn open_row(&self, archive: usize) -> Option<&OpenRow> {
        self.rows.get(archive.checked_sub(1)?)
    }

    /// True where these archives can have led here; asserted of what was read from a file.
    pub(crate) fn agrees_with(&self, archives: &[ArchiveSpec]) -> bool {
        self.rows.len() + 1 == archives.len()
            && (self.is_unborn() || self.agrees_when_born(archives))
    }

    fn agrees_when_born(&self, archives: &[ArchiveSpec]) -> bool {
        let step = archives[0].step;
        // Silence closes the step of the last reading, and none after it.
        let of_last = self.last.floor(step).row(step);
        let ends_soon_enough =
            is_sane(self.last) && (self.newest_row == of_last || self.newest_row == of_last + 1);
        let rows_agree = archives[1..].iter().zip(&self.rows).all(|(archive, row)| {
            // Where a day ends may have been another matter for the program that wrote this.
            let width = archive.width(step);
            archive.days.is_some()
                || row.left == width.left(self.newest_row)
                    && row.known <= width.begun(self.newest_row)
        });
        ends_soon_enough && self.unknown_ms < step.as_millis() && rows_agree
    }

    fn begin_at(&mut self, start: Timestamp, archives: &[ArchiveSpec]) {
        let step = archives[0].step;
        let opened = start.floor(step);
        (self.birth, self.last) = (start, start);
        self.newest_row = opened.row(step);
        self.unknown_ms = start.millis_since(opened).unsigned_abs();
        for (archive, row) in archives[1..].iter().zip(&mut self.rows) {
            *row = OpenRow::empty(archive.width(step).left(self.newest_row));
        }
    }

    /// Lays it into the arrays of an instance.
    pub(crate) fn store(&self, open: &mut OpenMut<'_>, grid: &Grid) {
        let Head { generation, class, .. } = *open.head;
        // Silence closes the step of the last reading, and none after it.
        let is_hushed =
            !self.is_unborn() && self.newest_row > self.last.floor(grid.step()).row(grid.step());
        *open.head = Head {
            last: self.last,
            reading: self.reading,
            sum: self.sum,
            unknown_ms: self.unknown_ms,
            touched: self.touched,
            heard_s: self.heard_s,
            generation,
            before_ms: self.before_ms,
            class,
            flags: self.flags | if is_hushed { HUSHED } else { 0 },
            resets: Resets::default(),
        };
        let resets = std::iter::once(self.reset).chain(self.rows.iter().map(|row| row.reset));
        for (archive, _) in resets.enumerate().filter(|(_, is_set)| *is_set) {
            open.head.resets.set(archive);
        }
        for (index, (row, width)) in self.rows.iter().zip(grid.widths()).enumerate() {
            let begun = if self.is_unborn() { 0 } else { width.begun(self.newest_row) };
            let is_day = matches!(width, RowWidth::Days(..)) && !self.is_unborn();
            if is_day && row.known > begun {
                // The day began later than the program that wrote this believed.
                open.rows[index] = Sums::EMPTY;
                open.missing.know(index, (0, begun));
                continue;
            }
            open.rows[index] = row.sums();
            open.missing.know(index, (row.known, begun));
        }
    }

    /// What [`Open::store`] has laid there, and what has become of it.
    pub(crate) fn load(
        birth: Timestamp,
        head: &Head,
        (rows, missing): (&[Sums], MissingRef<'_>),
        grid: &Grid,
    ) -> Self {
        let is_unborn = head.is_unborn();
        let newest_row = if is_unborn { 0 } else { head.opened(grid.step()).row(grid.step()) };
        let rows = rows.iter().zip(grid.widths()).enumerate().map(|(index, (sums, width))| {
            let (begun, left) = if is_unborn {
                (0, u32::MAX)
            } else {
                (width.begun(newest_row), width.left(newest_row))
            };
            let (known, reset) = (missing.known(index, begun), head.resets.has(index + 1));
            OpenRow { known, left, reset, ..sums.open() }
        });
        Self {
            birth,
            last: head.last,
            newest_row,
            reading: head.reading,
            sum: head.sum,
            unknown_ms: head.unknown_ms,
            touched: head.touched,
            rows: rows.collect(),
            heard_s: head.heard_s,
            before_ms: head.before_ms,
            flags: head.flags & ALL_FLAGS,
            reset: head.resets.has(0),
        }
    }

    /// How many archives it has open rows of.
    #[cfg(test)]
    pub(super) fn coarser_count(&self) -> usize {
        self.rows.len()
    }
}

/// Bytes before the open rows: six words of 8, the touched bits, the second, the flags with three bytes
/// for the time between the last two readings, and the resets.
const HEAD_LEN: usize = 6 * 8 + 16 + 4 + 4 + 4;
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
        let [low, middle, high] = self.before_ms;
        field.put([self.flags, low, middle, high]);
        field.put([self.resets(), 0, 0, 0]);
        for row in &self.rows {
            field.put(row.sum.to_le_bytes());
            field.put(row.min.to_le_bytes());
            field.put(row.max.to_le_bytes());
            field.put(row.known.to_le_bytes());
            field.put(row.left.to_le_bytes());
        }
    }

    /// Bit 0 for the open step, bit n for the open row of archive n.
    fn resets(&self) -> u8 {
        let of_rows = (1..).zip(&self.rows).map(|(archive, row)| u8::from(row.reset) << archive);
        of_rows.fold(u8::from(self.reset), |all, bit| all | bit)
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
        let mut open = Self {
            birth: Timestamp::from_millis(i64::from_le_bytes(field.take())),
            last: Timestamp::from_millis(i64::from_le_bytes(field.take())),
            newest_row: i64::from_le_bytes(field.take()),
            reading: u64::from_le_bytes(field.take()),
            sum: f64::from_le_bytes(field.take()),
            unknown_ms: u64::from_le_bytes(field.take()),
            touched: Touched::from_bits(u128::from_le_bytes(field.take())),
            heard_s: u32::from_le_bytes(field.take()),
            flags: 0,
            reset: false,
            before_ms: [0; 3],
            rows: rows.chunks_exact(ROW_LEN).map(OpenRow::decode).collect(),
        };
        let [flags, low, middle, high] = field.take();
        (open.flags, open.before_ms) = (flags, [low, middle, high]);
        let [resets, ..] = field.take::<4>();
        open.reset = resets & 1 != 0;
        for (archive, row) in (1..).zip(&mut open.rows) {
            row.reset = resets >> archive & 1 != 0;
        }
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
            reset: false,
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

#[cfg(test)]
mod tests {
    use super::super::{Missing, MissingMut};
    use super::*;
    use crate::Policy;

    /// What a program with other days has summed of an open one.
    fn taken_over(known: u32) -> u32 {
        let policy = Policy::parse("1m:2d,1d@Europe/Paris:5y").unwrap();
        // Two hours after the midnight before 29 March 2026.
        let at = Timestamp::from_secs(1_774_738_800 + 7200);
        let row = OpenRow { sum: 7.0, min: 1.0, max: 2.0, known, left: 1, reset: false };
        let open = Open::begin(at, policy.archives()).with_open_rows(std::iter::once(row));
        assert!(open.agrees_with(policy.archives()), "whatever is left of its day");
        let grid = Grid::of(policy.archives());
        let (mut head, mut rows, mut all) =
            (Head::unborn(1, 0), [Sums::EMPTY], Missing::none(&grid));
        all.grow(1);
        let missing = MissingMut { all: &mut all, first: 0 };
        open.store(&mut OpenMut { head: &mut head, rows: &mut rows, missing }, &grid);
        let loaded = Open::load(at, &head, (&rows, MissingRef { all: &all, first: 0 }), &grid);
        let row = loaded.open_row(1).unwrap();
        assert_eq!(row.left, 21 * 60);
        row.known
    }

    #[test]
    fn a_day_that_begins_later_by_now_does_not_keep_more_than_it_has() {
        for (known, kept) in [(0, 0), (119, 119), (120, 120), (121, 0), (1440, 0)] {
            assert_eq!(taken_over(known), kept, "{known} minutes of the first two hours");
        }
    }
}
