//! The state of an instance: what frames change, and what of it the file already has.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::alike::Alike;
use super::columns::{Class, Columns, Names, Series};
use super::former::{Ends, Former};
use super::instance::{Form, Instance};
use super::other::is_other;
use super::view::Extent;
use crate::file::{Block, Copy, FIRST_BLOCK_AT};
use crate::series::Run;
use crate::waiting::{Waiting, repairs_of};
use crate::{Batch, Column, Labels, Step, Timestamp};

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
    /// Members whose frame is not above are in the file of this role.
    pub(crate) folded_upto: u64,
    /// The role that this one leaves its rows to.
    pub(crate) rolled_into: Option<Arc<Instance>>,
    /// Where the series stand. A round that has begun shares them until the worker changes them.
    pub(crate) columns: Arc<Columns>,
    /// Which series they are, shared in the same way.
    pub(crate) names: Arc<Names>,
    /// What readings of the series mean.
    pub(crate) classes: Arc<Vec<Class>>,
    pub(crate) series_count: usize,
    /// The instance is to go: nothing of it is shown, and frames for it are stale.
    pub(crate) is_removed: bool,
    /// The newest closed row of the finest archive of any series, or [`NO_ROW`].
    pub(crate) newest_row: i64,
    /// No series falls silent before: nobody needs to look.
    pub(crate) hushed_until: Timestamp,
    /// Something changed since the last round began.
    pub(crate) is_dirty: bool,
    /// Rows closed since the last round began.
    pub(crate) waiting: Waiting,
    /// Rows of rounds that have begun and not been written, oldest first: more than one only after a
    /// failure.
    pub(crate) frozen: Vec<Arc<Waiting>>,
    pub(crate) filed: Filed,
    /// The round that has begun and not ended.
    pub(crate) round: Option<InRound>,
    /// By column: the last frame that changed closed rows, of those that a restart would replay.
    pub(crate) repaired: BTreeMap<u32, u64>,
    /// Bytes that a failed round has overwritten and could not put back, with their offsets.
    pub(crate) torn: Vec<(u64, Vec<u8>)>,
}

/// What the file is known to hold: the copies of the last round that ended, and all rows that have been
/// written and synced, be it by a round that came to nothing. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Filed {
    /// The slot a restart would begin with. The next round writes the other one.
    pub(crate) slot: Copy,
    pub(crate) labels: Written,
    /// By block.
    pub(crate) catalogues: Arc<Vec<Written>>,
    /// By column: the newest row of the finest archive, or [`NO_ROW`].
    pub(crate) rows: Alike<i64>,
    /// By column, then archive: the checksum of the tile that the newest row is in, so far.
    pub(crate) checksums: Arc<Vec<u32>>,
    /// As `rows`, of the slot a restart would begin with: those may not be overwritten before they are
    /// saved.
    pub(crate) counted: Alike<i64>,
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
    /// The first so many of `frozen` are in it; none once they are written.
    pub(crate) frozen_count: usize,
    /// What the file holds once the round counts; `None` until this file is written and synced.
    pub(crate) filed: Option<Filed>,
    /// It writes another file, or none, for the place of the one there is; by column, the generation
    /// that `filed` speaks of.
    pub(crate) successor: Option<Vec<u32>>,
    /// How far it has columns, where it writes another file.
    pub(crate) ends: Ends,
    /// The journal's record has it: a restart begins here, whatever the file is called by now.
    pub(crate) counts: bool,
}

impl Written {
    /// The copy to write next.
    pub(crate) const fn other(self) -> Copy {
        1 - self.copy
    }
}

impl Default for Filed {
    fn default() -> Self {
        Self {
            slot: 0,
            labels: Written::default(),
            catalogues: Arc::default(),
            rows: Alike::none(NO_ROW),
            checksums: Arc::default(),
            counted: Alike::none(NO_ROW),
        }
    }
}

impl Filed {
    /// Room for so many columns.
    pub(crate) fn grow(&mut self, column_count: usize, archive_count: usize) {
        if self.rows.len() < column_count {
            self.rows.grow(column_count, NO_ROW);
            let checksums = Arc::make_mut(&mut self.checksums);
            let count = column_count * archive_count;
            checksums.reserve_exact(count.saturating_sub(checksums.len()));
            checksums.resize(count, 0);
        }
    }

    /// How far the file has a column of which these rows of the finest archive are the birth and the
    /// newest.
    pub(crate) fn extent(
        &self,
        column: Column,
        archive: usize,
        (birth_row, newest_row): (i64, i64),
        archive_count: usize,
    ) -> Extent {
        let place = column.index as usize;
        let filed_row = self.row(place);
        let checksum = self.checksums.get(place * archive_count + archive).copied();
        let checksum = checksum.unwrap_or_default();
        Extent { birth_row, newest_row, filed_row, checksum, tells_resets: false }
    }

    /// The newest row of a column that the file has, or [`NO_ROW`].
    pub(crate) fn row(&self, column: usize) -> i64 {
        self.rows.get(column).unwrap_or(NO_ROW)
    }

    /// The newest row of a column that a restart would find, or [`NO_ROW`].
    pub(crate) fn counted(&self, column: usize) -> i64 {
        self.counted.get(column).unwrap_or(NO_ROW)
    }

    /// The file holds nothing of this column that may be read.
    pub(crate) fn forget(&mut self, column: usize) {
        self.rows.set(column, NO_ROW);
        self.counted.set(column, NO_ROW);
    }
}

impl State {
    /// Without a series, in these archives.
    pub(crate) fn of(form: Arc<Form>) -> Self {
        Self {
            columns: Arc::new(Columns::new(&form.grid)),
            form,
            former: None,
            is_granted: false,
            labels: Labels::default(),
            labels_seq: 0,
            batch: Batch::default(),
            applied_seq: 0,
            folded_upto: 0,
            rolled_into: None,
            names: Arc::default(),
            classes: Arc::default(),
            series_count: 0,
            is_removed: false,
            newest_row: NO_ROW,
            hushed_until: Timestamp::MIN,
            is_dirty: false,
            waiting: Waiting::default(),
            frozen: Vec::new(),
            filed: Filed::default(),
            round: None,
            repaired: BTreeMap::new(),
            torn: Vec::new(),
        }
    }

    /// The series of a column, if it is of this generation.
    pub(crate) fn series(&self, column: Column) -> Option<Series<'_>> {
        let series = self.series_at(usize::try_from(column.index).ok()?)?;
        (series.head.generation == column.generation).then_some(series)
    }

    /// The series of a column, whichever it is.
    pub(crate) fn series_at(&self, index: usize) -> Option<Series<'_>> {
        self.names.series(&self.columns, &self.classes, index)
    }

    /// All series, in order of column.
    pub(crate) fn all_series(&self) -> impl Iterator<Item = Series<'_>> {
        (0..self.columns.len()).filter_map(|index| self.series_at(index))
    }

    /// How far a column has come in an archive; `None` where nothing has closed or nobody lives.
    pub(crate) fn extent(&self, column: Column, archive: usize) -> Option<Extent> {
        let series = self.series(column)?;
        let rows = series.closed_rows(self.form.policy.step())?;
        let tells_resets = series.class.definition.kind.tells_resets();
        let extent = self.filed.extent(column, archive, rows, self.form.archives.len());
        Some(Extent { tells_resets, ..extent })
    }

    /// A block of the file as the archives are by now.
    pub(crate) fn laid<'a>(&self, block: &'a Block) -> Cow<'a, Block> {
        match self.former {
            None => Cow::Borrowed(block),
            Some(_) => Cow::Owned(self.form.lay(block, FIRST_BLOCK_AT)),
        }
    }

    /// The number of a class, added if need be.
    pub(crate) fn class(&mut self, class: Class) -> u16 {
        number_of(&mut self.classes, class)
    }

    /// Room for so many columns.
    pub(crate) fn grow(&mut self, count: usize) {
        Arc::make_mut(&mut self.columns).grow(count);
        Arc::make_mut(&mut self.names).grow(count);
    }

    /// The columns whose open steps silence closes at `now`, and until when no others will be.
    pub(crate) fn silent(&self, now: Timestamp, step: Step) -> (Vec<usize>, Timestamp) {
        let (mut due, mut next) = (Vec::new(), Timestamp::MAX);
        for (index, head) in self.columns.heads().enumerate() {
            let Some(class) = self.classes.get(usize::from(head.class)) else { continue };
            match head.hushed_after(&class.definition) {
                Some(deadline) if now <= deadline => next = next.min(deadline),
                Some(_) if head.has_open_step(step) => due.push(index),
                _ => {}
            }
        }
        (due, next)
    }

    /// Looks for the newest row after a series has gone.
    pub(crate) fn look_for_newest(&mut self, step: Step) {
        // Rows of what was folded end later than anybody was heard.
        let living = self.all_series().filter(|series| !is_other(series.key.bytes()));
        let newest = living.map(|series| series.newest(step)).max();
        let newest = newest.filter(|&newest| newest > Timestamp::MIN);
        self.newest_row = newest.map_or(NO_ROW, |newest| newest.row(step));
    }

    /// Notes that frame `seq` has been applied.
    pub(crate) const fn took(&mut self, seq: u64) {
        self.applied_seq = seq;
        self.is_dirty = true;
    }

    /// Closed rows that late readings have changed and the file may not have so, the oldest first.
    pub(crate) fn repairs(&self, column: Column, archive: usize) -> Vec<Run> {
        let chains = self.frozen.iter().map(Arc::as_ref).chain([&self.waiting]);
        repairs_of(chains, column, archive)
    }

    /// All rows that are not known to be in the file, newest chain first.
    pub(crate) fn unfiled(&self) -> impl Iterator<Item = &Waiting> {
        std::iter::once(&self.waiting).chain(self.frozen.iter().rev().map(Arc::as_ref))
    }
}

/// The number of a class among these, added if need be.
pub(crate) fn number_of(classes: &mut Arc<Vec<Class>>, class: Class) -> u16 {
    let known = classes.iter().position(|known| known.is_same(&class));
    let number = known.unwrap_or_else(|| {
        Arc::make_mut(classes).push(class);
        classes.len() - 1
    });
    u16::try_from(number).expect("one for each of 10,000 columns and 40,000 that are learned")
}
