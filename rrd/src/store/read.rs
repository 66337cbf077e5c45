//! Reading rows: those in the file and those waiting, as one.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::instance::{Instance, block_of};
use super::state::{NO_ROW, State};
use super::{Store, lock, read};
use crate::file::{Block, Part, Ring, Shape, TileBytes};
use crate::handles::Source;
use crate::series::{Run, row_is_known};
use crate::{Column, SeriesRef, Span, Step, Timestamp};

/// Tiles that memory is asked for before the first of them is looked at.
const TILES_AT_ONCE: usize = 32;

/// Consecutive rows of one archive: row `i` ends at `first_end + i * step`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// END of the first row.
    pub first_end: Timestamp,
    /// Averages of the known steps, per row; for counters, rates per second. NaN is unknown.
    pub average: Vec<f64>,
    /// Smallest step; the same as `average` in the finest archive. Empty where averages alone were
    /// asked for.
    pub min: Vec<f64>,
    /// Largest step; the same as `average` in the finest archive. Empty where averages alone were
    /// asked for.
    pub max: Vec<f64>,
    /// The newest step in each row, known or not; empty where the policy keeps none, or averages alone
    /// were asked for.
    pub last: Vec<f64>,
    /// Known finest steps in each row: 0 or 1 in the finest archive.
    pub known: Vec<u32>,
}

/// Rows of one series that a reader of many asks for.
#[derive(Clone, Copy, Debug)]
pub struct RowsWanted {
    /// Whose rows.
    pub series: SeriesRef,
    /// Of which of its archives, the finest being 0.
    pub archive: usize,
    /// Their END lies in here.
    pub span: Span,
    /// Which numbers of them.
    pub parts: RowParts,
}

/// Which numbers of rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowParts {
    /// All that are kept.
    All,
    /// Averages, and how many steps are known.
    Averages,
}

impl Store {
    /// The closed rows of an archive whose END lies in `span`, oldest first. Rows the ring no longer
    /// holds, and those after the newest, are left out; so are all when the series is not there.
    /// A row of whose steps more than the policy's share is unknown is unknown.
    pub fn rows(&self, series: SeriesRef, archive: usize, span: Span) -> Rows {
        let mut rows = Rows::default();
        let parts = RowParts::All;
        self.rows_into(&mut rows, RowsWanted { series, archive, span, parts });
        rows
    }

    /// As [`Store::rows`], into rows whose room is used again, and only what is wanted of them: for
    /// many series one after the other.
    pub fn rows_into(&self, rows: &mut Rows, wanted: RowsWanted) {
        let RowsWanted { series, archive, span, parts } = wanted;
        rows.begin(Timestamp::default(), 0, parts, false);
        let found = self.instance(series.instance);
        let Some(instance) = found.filter(|instance| archive < instance.archives.len()) else {
            return;
        };
        self.read_into(rows, &instance, series.column, archive, (Some(span), parts));
        if archive > 0 {
            let steps_per_row = instance.archives[archive].steps_per_row(instance.policy.step());
            rows.hide(least_known(steps_per_row, instance.policy.xff()));
        }
    }

    /// Rows as they are stored, before the policy's share decides; all there are without a span.
    pub(super) fn stored_rows(
        &self,
        instance: &Instance,
        column: Column,
        archive: usize,
        span: Option<Span>,
    ) -> Rows {
        let mut rows = Rows::default();
        self.read_into(&mut rows, instance, column, archive, (span, RowParts::All));
        rows
    }

    fn read_into(
        &self,
        rows: &mut Rows,
        instance: &Instance,
        column: Column,
        archive: usize,
        (span, parts): (Option<Span>, RowParts),
    ) {
        // Held from the copy of what is filed to the last byte read: see `Instance::tiles`.
        let _shared = read(&instance.tiles);
        let layout = instance.layout();
        let Some((_, block)) = block_of(&layout, column.index) else { return };
        let state = lock(&instance.state);
        let Some(view) = View::of(instance, &state, block, column, archive, span) else { return };
        view.begin(rows, parts);
        for waiting in state.unfiled() {
            for run in waiting.runs(column.index, column.generation, archive) {
                view.put(rows, &run);
            }
        }
        drop(state);
        if view.first <= view.filed {
            self.read_file(instance, &view, rows);
        }
    }

    fn read_file(&self, instance: &Instance, view: &View<'_>, rows: &mut Rows) {
        let len = instance.file_len();
        let source = match self.handles.source(instance.id, &instance.path, len) {
            Ok(source) => source,
            Err(reason) => {
                let what =
                    format!("cannot be read: {reason}; its rows are unknown, check the disk");
                self.report(instance.damage(what));
                return self.check_length(instance);
            }
        };
        let last = view.filed.min(view.last);
        let tiles = Ring::tile_of(view.first)..Ring::tile_of(last) + 1;
        for (number, tile) in tiles.clone().enumerate() {
            if number.is_multiple_of(TILES_AT_ONCE) {
                view.expect(&source, tile..tiles.end);
            }
            if let Err(reason) = view.read_tile(&source, tile, rows)
                && !self.is_replaying.load(Ordering::Acquire)
            {
                self.report(instance.damage(format!(
                    "column {}, archive {}, rows {}..: {reason}; they are unknown, restore the file to have them back",
                    view.column.index,
                    view.archive,
                    Ring::first_row(tile),
                )));
                if reason.kind() != io::ErrorKind::InvalidData {
                    return self.check_length(instance);
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

    /// So many rows, all unknown.
    fn begin(&mut self, first_end: Timestamp, count: usize, parts: RowParts, keeps_last: bool) {
        let all = if parts == RowParts::All { count } else { 0 };
        self.first_end = first_end;
        let last = if keeps_last { all } else { 0 };
        let columns = [&mut self.average, &mut self.min, &mut self.max, &mut self.last];
        for (column, count) in columns.into_iter().zip([count, all, all, last]) {
            column.clear();
            column.resize(count, f64::NAN);
        }
        self.known.clear();
        self.known.resize(count, 0);
    }

    /// Hides rows of which fewer steps are known.
    fn hide(&mut self, least_known: u32) {
        // Rows are mostly whole.
        if self.known.iter().min().is_none_or(|&known| known >= least_known) {
            return;
        }
        for column in [&mut self.average, &mut self.min, &mut self.max] {
            for (value, &known) in column.iter_mut().zip(&self.known) {
                *value = if known < least_known { f64::NAN } else { *value };
            }
        }
    }

    /// Puts rows as the file has them in their places from `index` on.
    fn fill(&mut self, index: usize, shape: Shape, rows: &[u8]) {
        let places = index..index + rows.len() / shape.row_len();
        let averages = &mut self.average[places.clone()];
        shape.read(Part::Average, rows, averages);
        let known = &mut self.known[places.clone()];
        if shape.known_len == 0 {
            known.iter_mut().zip(&*averages).for_each(|(n, value)| *n = u32::from(!value.is_nan()));
        } else {
            shape.read_known(rows, known);
        }
        let others =
            [(Part::Min, &mut self.min), (Part::Max, &mut self.max), (Part::Last, &mut self.last)];
        for (part, column) in others {
            if let Some(values) = column.get_mut(places.clone()) {
                shape.read(part, rows, values);
            }
        }
    }

    fn set(&mut self, index: usize, row: &Run) {
        self.average[index] = row.average;
        self.known[index] = row.known;
        for (column, value) in
            [(&mut self.min, row.min), (&mut self.max, row.max), (&mut self.last, row.last)]
        {
            if let Some(place) = column.get_mut(index) {
                *place = value;
            }
        }
    }
}

/// How many steps of a row must be known for it to be shown: the more are known, the sooner it is.
fn least_known(steps_per_row: u32, xff: f64) -> u32 {
    let (mut low, mut high) = (1, steps_per_row);
    while low < high {
        let middle = low + (high - low) / 2;
        if row_is_known(middle, steps_per_row, xff) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Which rows of one column and archive are looked at, and how far the file has them.
struct View<'a> {
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
    first: i64,
    last: i64,
}

impl<'a> View<'a> {
    fn of(
        instance: &Instance,
        state: &State,
        block: &'a Block,
        column: Column,
        archive: usize,
        span: Option<Span>,
    ) -> Option<Self> {
        let series = state.series(column)?;
        if series.head.is_unborn() {
            return None;
        }
        let ring = block.rings.get(archive)?;
        let (finest, step) = (instance.policy.step(), instance.archives[archive].step);
        let begin = ring.newest(series.birth.floor(finest).row(finest));
        let newest = ring.newest(series.head.opened(finest).row(finest));
        let oldest = newest.saturating_sub_unsigned(ring.row_count).max(begin) + 1;
        // Rows that end after `start` and not after `end`.
        let wanted = span.map(|span| {
            let floor = |at: Timestamp| at.as_millis().div_euclid(step.as_millis().cast_signed());
            (floor(span.start()).saturating_add(1), floor(span.end()))
        });
        let (from, to) = wanted.unwrap_or((i64::MIN, i64::MAX));
        let (first, last) = (oldest.max(from), newest.min(to));
        if first > last {
            return None;
        }
        let place = usize::try_from(column.index).ok()?;
        let filed_row = state.filed.rows.get(place).copied().unwrap_or(NO_ROW);
        Some(Self {
            ring,
            shape: ring.shape,
            step,
            archive,
            column,
            position: column.index - block.first_column,
            begin,
            filed: if filed_row == NO_ROW { begin } else { ring.newest(filed_row) },
            checksum: *state.filed.checksums.get(place * instance.archives.len() + archive)?,
            first,
            last,
        })
    }

    /// All its rows, unknown as yet.
    fn begin(&self, rows: &mut Rows, parts: RowParts) {
        let count = usize::try_from(self.last - self.first + 1).expect("at most a ring of rows");
        let first_end = Timestamp::row_end(self.first, self.step);
        rows.begin(first_end, count, parts, self.shape.keeps_last);
    }

    fn index(&self, row: i64) -> usize {
        usize::try_from(row - self.first).expect("a row of the view")
    }

    fn put(&self, rows: &mut Rows, run: &Run) {
        let end = run.first_row.saturating_add_unsigned(run.count - 1);
        for row in run.first_row.max(self.first)..=end.min(self.last) {
            rows.set(self.index(row), run);
        }
    }

    /// Says that the first of these tiles will be read.
    fn expect(&self, source: &Source, tiles: Range<i64>) {
        let tiles = tiles.take(TILES_AT_ONCE);
        let offsets = tiles.map(|tile| self.ring.offset_of(tile, self.position));
        source.expect(offsets, self.shape.tile_len() as u64);
    }

    /// Reads the rows of one tile that the file has; those of the view are put in their places.
    fn read_tile(&self, source: &Source, tile: i64, rows: &mut Rows) -> io::Result<()> {
        let first_row = Ring::first_row(tile);
        let (low, high) =
            (first_row.max(self.begin + 1), (Ring::first_row(tile + 1)).min(self.filed + 1));
        if low >= high {
            return Ok(());
        }
        let places = |rows: Range<i64>| {
            let place = |row: i64| usize::try_from(row - first_row).expect("a row of this tile");
            place(rows.start)..place(rows.end)
        };
        let mut bytes = TileBytes::of(self.shape);
        source.read_at(bytes.tile(), self.ring.offset_of(tile, self.position))?;
        // Of a full tile the checksum is behind its rows, of the last one in the slot.
        let is_full = high == Ring::first_row(tile + 1);
        let expected = if is_full { bytes.seal() } else { self.checksum };
        if bytes.checksum(tile, self.column, places(low..high)) != expected {
            let what = "their checksum does not match";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let seen = low.max(self.first)..high.min(self.last + 1);
        if !seen.is_empty() {
            rows.fill(self.index(seen.start), self.shape, bytes.rows(places(seen)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_hidden_exactly_when_too_few_of_its_steps_are_known() {
        for steps in [1, 2, 3, 4, 5, 60, 1440] {
            for xff in [0.0, 0.3, 1.0 / 3.0, 0.5, 0.9, 0.9999] {
                let least = least_known(steps, xff);
                for known in 0..=steps {
                    let is_shown = row_is_known(known, steps, xff);
                    assert_eq!(known >= least, is_shown, "{known} of {steps}, xff {xff}");
                }
            }
        }
    }
}
