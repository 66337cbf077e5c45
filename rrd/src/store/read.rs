//! Reading rows: those in the file and those waiting, as one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::change::Derived;
use super::check::{mismatch, unreadable};
use super::instance::{Form, Instance, block_of};
use super::state::NO_ROW;
use super::{SeriesInfo, Store, lock, read};
use crate::file::{Block, LONGEST_ROW, PLANES, Ring, Shape, TILE_ROWS, add_rows, begin_checksum};
use crate::handles::{self, Handles};
use crate::series::{Run, row_is_known};
use crate::{ArchiveSpec, Column, Damage, SeriesRef, Span, Step, Timestamp};

/// Consecutive rows of one archive: row `i` ends at `first_end + i * step`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// END of the first row.
    pub first_end: Timestamp,
    /// Averages of the known steps, per row; for counters, rates per second. NaN is unknown.
    pub average: Vec<f64>,
    /// Smallest step; the same as `average` in the finest archive.
    pub min: Vec<f64>,
    /// Largest step; the same as `average` in the finest archive.
    pub max: Vec<f64>,
    /// The newest step in each row, known or not; empty where the policy keeps none.
    pub last: Vec<f64>,
    /// Known finest steps in each row: 0 or 1 in the finest archive.
    pub known: Vec<u32>,
}

impl Store {
    /// The closed rows of an archive whose END lies in `span`, oldest first. Rows the ring no longer
    /// holds, and those after the newest, are left out; so are all when the series is not there.
    /// A row of whose steps more than the policy's share is unknown is unknown.
    pub fn rows(&self, series: SeriesRef, archive: usize, span: Span) -> Rows {
        self.rows_if(series, archive, span, |_| true)
    }

    /// As [`Store::rows`], of a series that was found; none where its archives have changed since, and
    /// this one is another by now.
    pub fn rows_of(&self, found: &SeriesInfo, archive: usize, span: Span) -> Rows {
        let is_same =
            |spec: &ArchiveSpec| found.archives.get(archive).is_some_and(|s| s.step == spec.step);
        self.rows_if(found.series, archive, span, is_same)
    }

    fn rows_if(
        &self,
        series: SeriesRef,
        archive: usize,
        span: Span,
        is_wanted: impl FnOnce(&ArchiveSpec) -> bool,
    ) -> Rows {
        let Some(instance) = self.instance(series.instance) else { return Rows::default() };
        let (mut rows, form) = self.stored_rows(&instance, series.column, archive, Some(span));
        let Some(spec) = form.archives.get(archive).filter(|spec| is_wanted(spec)) else {
            return Rows::default();
        };
        if archive > 0 {
            let steps_per_row = spec.steps_per_row(form.policy.step());
            rows.hide(steps_per_row, form.policy.xff());
        }
        rows
    }

    /// Rows as they are stored, before the policy's share decides, and the archives they are of; all
    /// there are without a span.
    pub(super) fn stored_rows(
        &self,
        instance: &Instance,
        column: Column,
        archive: usize,
        span: Option<Span>,
    ) -> (Rows, Arc<Form>) {
        // Held from the copy of what is filed to the last byte read: see `Instance::tiles`.
        let _shared = read(&instance.tiles);
        let layout = instance.layout();
        let state = lock(&instance.state);
        let form = Arc::clone(&state.form);
        let block = block_of(&layout, column.index).map(|(_, block)| state.laid(block));
        let view = block.as_ref().and_then(|block| {
            let extent = state.extent(column, archive)?;
            View::of(&form, block, column, archive, extent, span)
        });
        let Some(view) = view else { return (Rows::default(), form) };
        let mut rows = view.empty();
        for waiting in state.unfiled() {
            for run in waiting.runs(column.index, column.generation, archive) {
                view.put(&mut rows, &run);
            }
        }
        let former = state.former.clone();
        drop(state);
        let failed = |damage, reason: &io::Error| self.cannot_read(instance, damage, reason);
        let source = Source { handles: &self.handles, instance, failed: &failed };
        match former {
            Some(former) => {
                let derived = Derived { former: &former, source: &source, column, form: &form };
                for run in derived.rows(archive, view.first..view.last + 1) {
                    view.put(&mut rows, &run);
                }
            }
            None if view.has_filed() => source.read(&view, &mut rows),
            None => {}
        }
        (rows, form)
    }

    /// What becomes of rows that cannot be read.
    pub(super) fn cannot_read(&self, instance: &Instance, damage: Damage, reason: &io::Error) {
        let is_torn = reason.kind() == io::ErrorKind::InvalidData;
        if is_torn && self.is_replaying.load(Ordering::Acquire) {
            return;
        }
        self.report(damage);
        if !is_torn {
            self.check_length(instance);
        }
    }
}

/// The file of one instance, to be read while its tiles are shared.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) handles: &'a Handles,
    pub(super) instance: &'a Instance,
    /// Hears of what cannot be read, and why; where a checksum does not match, that is invalid data.
    pub(super) failed: &'a dyn Fn(Damage, &io::Error),
}

impl Source<'_> {
    /// Puts the rows that the file has into their places.
    pub(super) fn read(&self, view: &View<'_>, rows: &mut Rows) {
        let instance = self.instance;
        let len = instance.file_len();
        let source = match self.handles.source(instance.id, &instance.path, len) {
            Ok(source) => source,
            Err(reason) => {
                let what =
                    format!("cannot be read: {reason}; its rows are unknown, check the disk");
                return (self.failed)(instance.damage(what), &reason);
            }
        };
        let last = view.filed.min(view.last);
        for tile in Ring::tile_of(view.first)..=Ring::tile_of(last) {
            if let Err(reason) = view.read_tile(&source, tile, rows) {
                let (column, first) = (view.column.index, Ring::first_row(tile));
                let damage = unreadable(instance, column, view.archive, first, &reason);
                (self.failed)(damage, &reason);
                if reason.kind() != io::ErrorKind::InvalidData {
                    return;
                }
            }
        }
    }
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.average.len()
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.average.is_empty()
    }

    /// Each row as a run of its own.
    #[cfg(test)]
    pub(super) fn to_runs(&self, archive: usize, step: Step) -> Vec<Run> {
        let first = self.first_end.row(step);
        (first..).zip(0..self.len()).map(|(row, index)| self.run(archive, row, index)).collect()
    }

    /// Row `index`, whose number is `first_row`.
    pub(super) fn run(&self, archive: usize, first_row: i64, index: usize) -> Run {
        Run {
            archive,
            first_row,
            count: 1,
            average: self.average[index],
            min: self.min[index],
            max: self.max[index],
            last: self.last.get(index).copied().unwrap_or(f64::NAN),
            known: self.known[index],
        }
    }

    pub(super) fn hide(&mut self, steps_per_row: u32, xff: f64) {
        for (index, &known) in self.known.iter().enumerate() {
            if !row_is_known(known, steps_per_row, xff) {
                self.average[index] = f64::NAN;
                self.min[index] = f64::NAN;
                self.max[index] = f64::NAN;
            }
        }
    }

    fn set(&mut self, index: usize, row: &Run) {
        self.average[index] = row.average;
        self.min[index] = row.min;
        self.max[index] = row.max;
        self.known[index] = row.known;
        if let Some(last) = self.last.get_mut(index) {
            *last = row.last;
        }
    }
}

/// How far a column has come, and how much of that the file has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Rows of the finest archive up to this one are before the series began.
    pub(super) birth_row: i64,
    /// The newest closed row of the finest archive.
    pub(super) newest_row: i64,
    /// The newest row of the finest archive that the file has, or [`NO_ROW`].
    pub(super) filed_row: i64,
    /// Checksum of the tile that it is in, so far, in the archive looked at.
    pub(super) checksum: u32,
}

/// Which rows of one column and archive are looked at, and how far the file has them.
pub(super) struct View<'a> {
    ring: &'a Ring,
    shape: Shape,
    step: Step,
    archive: usize,
    column: Column,
    position: u32,
    /// Rows up to this one are before the series began.
    begin: i64,
    /// Rows up to this one are in the file.
    filed: i64,
    /// Checksum of the tile that row `filed` is in, so far.
    checksum: u32,
    pub(super) first: i64,
    last: i64,
}

impl<'a> View<'a> {
    pub(super) fn of(
        form: &Form,
        block: &'a Block,
        column: Column,
        archive: usize,
        extent: Extent,
        span: Option<Span>,
    ) -> Option<Self> {
        let ring = block.rings.get(archive)?;
        let step = form.archives.get(archive)?.step;
        let begin = ring.newest(extent.birth_row);
        let newest = ring.newest(extent.newest_row);
        let oldest = newest.saturating_sub_unsigned(ring.row_count).max(begin) + 1;
        // Rows that end after `start` and not after `end`.
        let wanted = span.map(|span| {
            let floor = |at: Timestamp| at.as_millis().div_euclid(step.as_millis().cast_signed());
            (floor(span.start()).saturating_add(1), floor(span.end()))
        });
        let (from, to) = wanted.unwrap_or((i64::MIN, i64::MAX));
        let (first, last) = (oldest.max(from), newest.min(to));
        let filed = if extent.filed_row == NO_ROW { begin } else { ring.newest(extent.filed_row) };
        (first <= last).then_some(Self {
            ring,
            shape: ring.shape(block.cell),
            step,
            archive,
            column,
            position: column.index - block.first_column,
            begin,
            filed,
            checksum: extent.checksum,
            first,
            last,
        })
    }

    /// Only these of its rows; `None` when there are none.
    pub(super) fn within(self, rows: std::ops::Range<i64>) -> Option<Self> {
        let (first, last) = (self.first.max(rows.start), self.last.min(rows.end - 1));
        (first <= last).then_some(Self { first, last, ..self })
    }

    pub(super) fn has_filed(&self) -> bool {
        self.first <= self.filed
    }

    /// All rows unknown.
    pub(super) fn empty(&self) -> Rows {
        let count = usize::try_from(self.last - self.first + 1).expect("at most a ring of rows");
        Rows {
            first_end: Timestamp::row_end(self.first, self.step),
            average: vec![f64::NAN; count],
            min: vec![f64::NAN; count],
            max: vec![f64::NAN; count],
            last: if self.shape.keeps_last { vec![f64::NAN; count] } else { Vec::new() },
            known: vec![0; count],
        }
    }

    fn index(&self, row: i64) -> usize {
        usize::try_from(row - self.first).expect("a row of the view")
    }

    pub(super) fn put(&self, rows: &mut Rows, run: &Run) {
        let end = run.first_row.saturating_add_unsigned(run.count - 1);
        for row in run.first_row.max(self.first)..=end.min(self.last) {
            rows.set(self.index(row), run);
        }
    }

    /// Reads the rows of one tile that the file has; those of the view are put in their places.
    fn read_tile(&self, source: &handles::Source, tile: i64, rows: &mut Rows) -> io::Result<()> {
        const LONGEST_CELLS: usize = 8 * TILE_ROWS as usize;
        let tile_end = Ring::first_row(tile + 1) - 1;
        let (low, high) = (Ring::first_row(tile).max(self.begin + 1), tile_end.min(self.filed));
        let Ok(count) = usize::try_from(high - low + 1) else { return Ok(()) };
        let first = u32::try_from(low - Ring::first_row(tile)).expect("a row of this tile");
        let lens = self.shape.lens();
        let mut planes = [[0; LONGEST_CELLS]; PLANES];
        let places = self.ring.cells(tile, self.position, first);
        for ((plane, len), (at, _)) in planes.iter_mut().zip(lens).zip(places) {
            source.read_at(&mut plane[..count * len], at)?;
        }
        let row_len = self.shape.row_len();
        let mut cells = [0; LONGEST_ROW * TILE_ROWS as usize];
        let cells = &mut cells[..count * row_len];
        let mut planes = planes.iter().zip(lens).map(|(plane, len)| &plane[..count * len]);
        self.shape.gather([(); PLANES].map(|()| planes.next().unwrap_or_default()), cells);
        let checksum = add_rows(begin_checksum(tile, self.column), cells);
        if checksum != self.expected(source, tile, tile_end)? {
            return Err(mismatch());
        }
        for (row, cells) in (low..).zip(cells.chunks_exact(row_len)) {
            if (self.first..=self.last).contains(&row) {
                rows.set(self.index(row), &self.shape.read(row, cells));
            }
        }
        Ok(())
    }

    /// What the checksum of a tile must be: of a full one it is in the file, of the last one in the slot.
    fn expected(&self, source: &handles::Source, tile: i64, tile_end: i64) -> io::Result<u32> {
        if tile_end > self.filed {
            return Ok(self.checksum);
        }
        let mut bytes = [0; 4];
        source.read_at(&mut bytes, self.ring.checksum_at(tile, self.position))?;
        Ok(u32::from_le_bytes(bytes))
    }
}
