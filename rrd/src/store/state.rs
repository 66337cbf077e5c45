//! The state of an instance: what frames change, and what of it the file already has.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::change::Former;
use super::instance::Form;
use super::read::Extent;
use crate::file::{Block, Copy, FIRST_BLOCK_AT};
use crate::series::{Definition, Open};
use crate::waiting::Waiting;
use crate::{Batch, Cell, Column, Labels};

/// "The file has no row of this column."
pub(crate) const NO_ROW: i64 = i64::MIN;

/// All that the worker changes for one instance.
pub(crate) struct State {
    /// The archives as frames have made them; the file follows with the next round.
    pub(crate) form: Arc<Form>,
    /// The archives before them, while the file is still theirs.
    pub(crate) former: Option<Arc<Former>>,
    /// True once a grant has been applied; before, the instance is not shown.
    pub(crate) is_granted: bool,
    pub(crate) labels: Labels,
    /// The frame that set the labels.
    pub(crate) labels_seq: u64,
    pub(crate) batch: Batch,
    /// Frames up to this one are in here; replay passes over them.
    pub(crate) applied_seq: u64,
    /// By column; `None` where no series lives.
    pub(crate) columns: Vec<Option<Series>>,
    /// Columns whose series was dropped, with its generation: `columns` has none there.
    pub(crate) vacant: BTreeMap<u32, u32>,
    /// The instance is to go: nothing of it is shown, and frames for it are stale.
    pub(crate) is_removed: bool,
    /// The frame that last changed the catalogue of each block.
    pub(crate) catalogue_seqs: BTreeMap<usize, u64>,
    /// Something changed since the last round began.
    pub(crate) is_dirty: bool,
    /// Rows closed since the last round began.
    pub(crate) waiting: Waiting,
    /// Rows of rounds that have begun and not ended, oldest first: more than one only after a failure.
    pub(crate) frozen: Vec<Arc<Waiting>>,
    pub(crate) filed: Filed,
    /// The round that has begun and not ended.
    pub(crate) round: Option<InRound>,
}

/// One series and where it stands.
pub(crate) struct Series {
    pub(crate) key: Arc<[u8]>,
    pub(crate) generation: u32,
    pub(crate) cell: Cell,
    pub(crate) definition: Definition,
    pub(crate) open: Open,
}

/// What the file is known to hold: the state of the last round that ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filed {
    /// The slot a restart would begin with. The next round writes the other one.
    pub(crate) slot: Copy,
    pub(crate) labels: Written,
    /// By block.
    pub(crate) catalogues: Vec<Written>,
    /// By column: the newest row of the finest archive, or [`NO_ROW`].
    pub(crate) rows: Vec<i64>,
    /// By column, then archive: the checksum of the tile that the newest row is in, so far.
    pub(crate) checksums: Vec<u32>,
}

/// A copy of labels or of a catalogue that was written at a sequence number; 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) seq: u64,
    pub(crate) copy: Copy,
}

/// A round between its beginning and its end.
pub(crate) struct InRound {
    pub(crate) seq: u64,
    /// The first so many of `frozen` are in it.
    pub(crate) frozen_count: usize,
    /// What the file holds once the round counts; `None` until this file is written and synced.
    pub(crate) filed: Option<Filed>,
    /// The journal's record has it: a restart begins here, whatever the file is called by now.
    pub(crate) counts: bool,
    /// By column: the generation that `filed` speaks of.
    pub(crate) generations: Vec<u32>,
}

impl Written {
    /// The copy to write next.
    pub(crate) const fn other(self) -> Copy {
        1 - self.copy
    }
}

impl Filed {
    /// Room for so many columns.
    pub(crate) fn grow(&mut self, column_count: usize, archive_count: usize) {
        if self.rows.len() < column_count {
            self.rows.resize(column_count, NO_ROW);
            self.checksums.resize(column_count * archive_count, 0);
        }
    }

    /// The file holds nothing of this column that may be read.
    pub(crate) fn forget(&mut self, column: usize) {
        self.rows[column] = NO_ROW;
    }
}

impl State {
    /// Nothing yet, in these archives.
    pub(crate) fn of(form: Arc<Form>) -> Self {
        Self {
            form,
            former: None,
            is_granted: false,
            labels: Labels::default(),
            labels_seq: 0,
            batch: Batch::default(),
            applied_seq: 0,
            columns: Vec::new(),
            vacant: BTreeMap::new(),
            is_removed: false,
            catalogue_seqs: BTreeMap::new(),
            is_dirty: false,
            waiting: Waiting::default(),
            frozen: Vec::new(),
            filed: Filed::default(),
            round: None,
        }
    }

    /// The series of a column, if it is of this generation.
    pub(crate) fn series(&self, column: Column) -> Option<&Series> {
        let series = self.columns.get(usize::try_from(column.index).ok()?)?.as_ref()?;
        (series.generation == column.generation).then_some(series)
    }

    /// How far a column has come in an archive; `None` where nothing has closed or nobody lives.
    pub(crate) fn extent(&self, column: Column, archive: usize) -> Option<Extent> {
        let (birth_row, newest_row) =
            self.series(column)?.open.closed_rows(self.form.policy.step())?;
        let place = usize::try_from(column.index).ok()?;
        let filed_row = self.filed.rows.get(place).copied().unwrap_or(NO_ROW);
        let at = place * self.form.archives.len() + archive;
        let checksum = self.filed.checksums.get(at).copied().unwrap_or_default();
        Some(Extent { birth_row, newest_row, filed_row, checksum })
    }

    /// A block of the file as the archives are by now.
    pub(crate) fn laid<'a>(&self, block: &'a Block) -> Cow<'a, Block> {
        match self.former {
            None => Cow::Borrowed(block),
            Some(_) => Cow::Owned(self.form.lay(block, FIRST_BLOCK_AT)),
        }
    }

    /// By column: the generation of its series, 0 where there is none.
    pub(crate) fn generations(&self) -> Vec<u32> {
        let generation = |series: &Option<Series>| series.as_ref().map_or(0, |s| s.generation);
        self.columns.iter().map(generation).collect()
    }

    /// All columns that ever had a series, with the one that lives there.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Column, Option<&Series>)> {
        self.places_in(0..u32::MAX)
    }

    /// As [`State::places`], of a block: its first so many columns.
    pub(crate) fn places_in(
        &self,
        columns: Range<u32>,
    ) -> impl Iterator<Item = (Column, Option<&Series>)> {
        let (start, end) = (columns.start as usize, columns.end as usize);
        let end = end.min(self.columns.len());
        let series = self.columns.get(start..end).unwrap_or_default();
        (columns.start..).zip(series).filter_map(|(index, series)| {
            let generation = match series {
                Some(series) => series.generation,
                None => self.vacant.get(&index).copied()?,
            };
            Some((Column { index, generation }, series.as_ref()))
        })
    }

    /// Notes that frame `seq` has been applied.
    pub(crate) const fn took(&mut self, seq: u64) {
        self.applied_seq = seq;
        self.is_dirty = true;
    }

    /// All rows that are not known to be in the file, newest chain first.
    pub(crate) fn unfiled(&self) -> impl Iterator<Item = &Waiting> {
        std::iter::once(&self.waiting).chain(self.frozen.iter().rev().map(Arc::as_ref))
    }
}
