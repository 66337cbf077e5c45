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
        let found = self.instance(series.instance);
        let Some(instance) = found.filter(|instance| archive < instance.archives.len()) else {
            return Rows::default();
        };
        let mut rows = self.stored_rows(&instance, series.column, archive, Some(span));
        let spec = instance.archives[archive];
        let steps_per_row = spec.steps_per_row(instance.policy.step());
        if archive > 0 {
            rows.hide(steps_per_row, instance.policy.xff());
        }
        rows
    }

    /// Rows as they are stored, before the policy's share decides; all there are without a span.
    pub(super) fn stored_rows(
        &self,
        instance: &Instance,
        column: Column,
        archive: usize,
        span: Option<Span>,
    ) -> Rows {
        // Held from the copy of what is filed to the last byte read: see `Instance::tiles`.
        let _shared = read(&instance.tiles);
        let layout = instance.layout();
        let Some((_, block)) = block_of(&layout, column.index) else { return Rows::default() };
        let state = lock(&instance.state);
        let Some(view) = View::of(instance, &state, block, column, archive, span) else {
            return Rows::default();
        };
        let mut rows = view.empty();
        for waiting in state.unfiled() {
            for run in waiting.runs(column.index, column.generation, archive) {
                view.put(&mut rows, &run);
            }
        }
        drop(state);
        if view.first <= view.filed {
            self.read_file(instance, &view, &mut rows);
        }
        rows
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
        for tile in Ring::tile_of(view.first)..=Ring::tile_of(last) {
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

    fn hide(&mut self, steps_per_row: u32, xff: f64) {
        for (index, &known) in self.known.iter().enumerate() {
            if !row_is_known(known, steps_per_row, xff) {
                self.average[index] = f64::NAN;
                self.min[index] = f64::NAN;
                self.max[index] = f64::NAN;
            }
        }
    }

    /// Puts rows as the file has them in their places from `index` on.
    fn fill(&mut self, index: usize, shape: Shape, rows: &[u8]) {
        let places = index..index + rows.len() / shape.row_len();
        shape.read(Part::Average, rows, &mut self.average[places.clone()]);
        shape.read(Part::Min, rows, &mut self.min[places.clone()]);
        shape.read(Part::Max, rows, &mut self.max[places.clone()]);
        shape.read_known(rows, &mut self.known[places.clone()]);
        if let Some(last) = self.last.get_mut(places) {
            shape.read(Part::Last, rows, last);
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

    /// All rows unknown.
    fn empty(&self) -> Rows {
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

    fn put(&self, rows: &mut Rows, run: &Run) {
        let end = run.first_row.saturating_add_unsigned(run.count - 1);
        for row in run.first_row.max(self.first)..=end.min(self.last) {
            rows.set(self.index(row), run);
        }
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
