//! The series of an instance, as arrays by column: what every sample changes, and what it does not.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::alike::Alike;
use super::keys::Key;
use super::roster::Roster;
use crate::series::{Definition, Grid, Head, Missing, MissingMut, MissingRef, Open, OpenMut, Sums};
use crate::waiting::Kept;
use crate::{Column, Sample, Step, Timestamp};

/// So many of these are about a cache line; a line that is left out is beside one that is not.
const SUMS_A_LINE: usize = 3;

/// What samples change. Cloned by the worker when a round that has begun still needs it as it was.
#[derive(Clone)]
pub(crate) struct Columns {
    heads: Vec<Head>,
    /// By column, then archive but the finest.
    rows: Vec<Sums>,
    /// Of these rows.
    missing: Missing,
    coarser_count: usize,
}

/// What grants and first readings change.
#[derive(Clone)]
pub(crate) struct Names {
    roster: Arc<Roster>,
    /// Where first rows begin; [`Timestamp::MIN`] of series that have not begun.
    births: Alike<Timestamp>,
    /// Columns whose series was dropped, with its generation: the roster has none there.
    pub(crate) vacant: BTreeMap<u32, u32>,
    /// By block: the frame that last changed its catalogue.
    pub(crate) catalogue_seqs: Vec<u64>,
}

/// A definition that several series of an instance share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    pub(crate) definition: Definition,
    pub(crate) kept: Kept,
}

/// One series and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Series<'a> {
    pub(crate) index: usize,
    pub(crate) key: &'a Arc<Key>,
    /// Where its first row begins; [`Timestamp::MIN`] until it has begun.
    pub(crate) birth: Timestamp,
    pub(crate) class: &'a Class,
    pub(crate) head: &'a Head,
    rows: &'a [Sums],
    missing: MissingRef<'a>,
}

impl Columns {
    pub(crate) fn new(grid: &Grid) -> Self {
        let (heads, rows, missing) = (Vec::new(), Vec::new(), Missing::none(grid));
        Self { heads, rows, missing, coarser_count: grid.coarser_count() }
    }

    /// How many columns there are, with or without a series.
    pub(crate) const fn len(&self) -> usize {
        self.heads.len()
    }

    /// Room for so many columns, and no more: many instances have few series each.
    pub(crate) fn grow(&mut self, count: usize) {
        if let Some(more) = count.checked_sub(self.len()).filter(|&more| more > 0) {
            let sums = more * self.coarser_count;
            self.heads.reserve_exact(more);
            self.rows.reserve_exact(sums);
            self.heads.resize(count, Head::none());
            self.rows.resize(count * self.coarser_count, Sums::EMPTY);
            self.missing.grow(count * self.coarser_count);
        }
    }

    /// The generation of a column's series; 0 where there is none.
    pub(crate) fn generation(&self, index: usize) -> u32 {
        self.heads.get(index).map_or(0, |head| head.generation)
    }

    pub(crate) fn head(&self, index: usize) -> Option<&Head> {
        self.heads.get(index)
    }

    /// All heads, in order of column.
    pub(crate) fn heads(&self) -> impl Iterator<Item = &Head> {
        self.heads.iter()
    }

    /// Begins a series in a column.
    pub(crate) fn begin(&mut self, index: usize, head: Head) {
        if let Some(mut open) = self.open(index) {
            *open.head = head;
            open.empty();
        }
    }

    /// Looks at all that samples of these columns will change before any of it is changed: memory is
    /// then asked for all of it at once, and not for one column after the other.
    #[inline]
    pub(crate) fn look_ahead(&self, samples: &[Sample]) {
        let mut seen = 0;
        if let Some(columns) = self.neighbours(samples) {
            let rows = columns.start * self.coarser_count..columns.end * self.coarser_count;
            seen = self.heads[columns].iter().fold(seen, |seen, head| seen ^ head.generation);
            let sums = self.rows[rows].iter().step_by(SUMS_A_LINE);
            seen = sums.fold(seen, |seen, sums| seen ^ sums.word());
            std::hint::black_box(seen);
            return;
        }
        for sample in samples {
            let index = sample.column.index as usize;
            let first = index * self.coarser_count;
            let last = first + self.coarser_count.saturating_sub(1);
            seen ^= self.heads.get(index).map_or(0, |head| head.generation);
            // A column's rows lie in two or three cache lines.
            for row in [first, last] {
                seen ^= self.rows.get(row).map_or(0, Sums::word);
            }
        }
        std::hint::black_box(seen);
    }

    /// The columns of samples that seem to be of neighbours, as nearly all are; none is looked at.
    fn neighbours(&self, samples: &[Sample]) -> Option<Range<usize>> {
        let first = samples.first()?.column.index as usize;
        let last = samples.last()?.column.index as usize;
        let is_so = last.checked_sub(first)? < samples.len() && last < self.len();
        is_so.then_some(first..last + 1)
    }

    /// The open end of a column there is.
    #[inline]
    pub(crate) fn open(&mut self, index: usize) -> Option<OpenMut<'_>> {
        let head = self.heads.get_mut(index)?;
        let first = index * self.coarser_count;
        let rows = self.rows.get_mut(first..first + self.coarser_count)?;
        Some(OpenMut { head, rows, missing: MissingMut { all: &mut self.missing, first } })
    }
}

impl Default for Names {
    fn default() -> Self {
        let (roster, births) = (Arc::default(), Alike::none(Timestamp::MIN));
        Self { roster, births, vacant: BTreeMap::new(), catalogue_seqs: Vec::new() }
    }
}

impl Names {
    /// Begins a series in a column.
    pub(crate) fn set(&mut self, index: usize, key: Arc<Key>, birth: Timestamp) {
        Arc::make_mut(&mut self.roster).set(index, key);
        self.births.grow(index + 1, Timestamp::MIN);
        self.births.set(index, birth);
        if let Ok(index) = u32::try_from(index) {
            self.vacant.remove(&index);
        }
    }

    /// Ends the series of a column, whose generation this was.
    pub(crate) fn vacate(&mut self, column: Column) {
        Arc::make_mut(&mut self.roster).clear(column.index as usize);
        self.vacant.insert(column.index, column.generation);
    }

    /// Room for so many columns.
    pub(crate) fn grow(&mut self, count: usize) {
        if count > self.births.len() {
            Arc::make_mut(&mut self.roster).grow(count);
            self.births.grow(count, Timestamp::MIN);
        }
    }

    /// Notes the first reading of a series. After many, [`Names::settle`].
    pub(crate) fn bear(&mut self, index: usize, birth: Timestamp) {
        self.births.set(index, birth);
    }

    /// Most series begin together.
    pub(crate) fn settle(&mut self) {
        self.births.settle();
    }

    /// Who lives where.
    pub(crate) const fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// Has these keys and births, those of a file.
    pub(crate) fn fill(&mut self, roster: Arc<Roster>, births: &[Timestamp]) {
        self.roster = roster;
        self.births.put(births);
    }

    /// The same roster as somebody else's.
    pub(crate) fn share(&mut self, roster: Arc<Roster>) {
        self.roster = roster;
    }

    /// Notes that frame `seq` changed the catalogue of a block.
    pub(crate) fn change_catalogue(&mut self, block: usize, seq: u64) {
        if block >= self.catalogue_seqs.len() {
            self.catalogue_seqs.resize(block + 1, 0);
        }
        self.catalogue_seqs[block] = seq;
    }

    /// The series of a column.
    pub(crate) fn series<'a>(
        &'a self,
        columns: &'a Columns,
        classes: &'a [Class],
        index: usize,
    ) -> Option<Series<'a>> {
        let key = self.roster.key(index)?;
        let birth = self.births.get(index).unwrap_or(Timestamp::MIN);
        let head = columns.head(index)?;
        let first = index * columns.coarser_count;
        let rows = columns.rows.get(first..first + columns.coarser_count)?;
        let missing = MissingRef { all: &columns.missing, first };
        let class = classes.get(usize::from(head.class))?;
        Some(Series { index, key, birth, class, head, rows, missing })
    }
}

impl Names {
    /// Those of these columns that ever had a series, with the one that lives there.
    pub(crate) fn places<'a>(
        &'a self,
        columns: &'a Columns,
        classes: &'a [Class],
        range: Range<u32>,
    ) -> impl Iterator<Item = (Column, Option<Series<'a>>)> {
        let count = u32::try_from(columns.len()).unwrap_or(u32::MAX);
        (range.start..range.end.min(count)).filter_map(move |index| {
            let series = self.series(columns, classes, index as usize);
            let generation = match &series {
                Some(series) => series.head.generation,
                None => *self.vacant.get(&index)?,
            };
            Some((Column { index, generation }, series))
        })
    }
}

impl Class {
    /// Equal to the last bit: limits may be `NaN`.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let parts = |class: &Self| {
            let Definition { kind, heartbeat_ms, min, max } = class.definition;
            let Kept { cell, last } = class.kept;
            (kind, heartbeat_ms, min.to_bits(), max.to_bits(), cell, last)
        };
        parts(self) == parts(other)
    }
}

impl Series<'_> {
    /// Its place in the file.
    pub(crate) fn column(&self) -> Column {
        let index = u32::try_from(self.index).expect("at most 256 blocks of 64 columns");
        Column { index, generation: self.head.generation }
    }

    /// The END of its newest closed finest row; [`Timestamp::MIN`] when none has closed.
    pub(crate) fn newest(&self, step: Step) -> Timestamp {
        if self.head.is_unborn() {
            return Timestamp::MIN;
        }
        let opened = self.head.opened(step);
        if opened <= self.birth { Timestamp::MIN } else { opened }
    }

    /// Its birth and its newest closed row, as rows of the finest archive; `None` until it has begun.
    pub(crate) fn closed_rows(&self, step: Step) -> Option<(i64, i64)> {
        let newest_row = || self.head.opened(step).row(step);
        (!self.head.is_unborn()).then(|| (self.birth.floor(step).row(step), newest_row()))
    }

    /// Its open end as files have it.
    pub(crate) fn open(&self, grid: &Grid) -> Open {
        Open::load(self.birth, self.head, (self.rows, self.missing), grid)
    }
}
