//! A view: which rows of one column and archive a reader looks at, and how far the file has them.

use std::io;
use std::num::NonZeroU32;
use std::ops::Range;

use super::check::mismatch;
use super::instance::Form;
use super::read::RowParts;
use super::rows::Rows;
use super::state::NO_ROW;
use super::warm::WarmRows;
use crate::file::{Block, Ring, Shape, TileBytes};
use crate::handles;
use crate::series::{Run, run_ms};
use crate::{ArchiveSpec, Column, Span, Timestamp};

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
    /// Its rows hold resets.
    pub(super) tells_resets: bool,
}

/// Which rows of one column and archive are looked at, and how far the file has them.
pub(super) struct View<'a> {
    pub(super) ring: &'a Ring,
    pub(super) shape: Shape,
    spec: ArchiveSpec,
    pub(super) archive: usize,
    pub(super) column: Column,
    pub(super) position: u32,
    /// Rows up to this one are before the series began.
    begin: i64,
    /// Rows up to this one are in the file.
    filed: i64,
    /// Checksum of the tile that row `filed` is in, so far.
    checksum: u32,
    tells_resets: bool,
    pub(super) first: i64,
    pub(super) last: i64,
    /// From one row that is looked at to the next one.
    every: usize,
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
        let spec = *form.archives.get(archive)?;
        let begin = ring.newest(extent.birth_row);
        let newest = ring.newest(extent.newest_row);
        let oldest = newest.saturating_sub_unsigned(ring.row_count).max(begin) + 1;
        // Rows that end after `start` and not after `end`.
        let wanted = span.map(|span| {
            (spec.ended_row(span.start()).saturating_add(1), spec.ended_row(span.end()))
        });
        let (from, to) = wanted.unwrap_or((i64::MIN, i64::MAX));
        let (first, last) = (oldest.max(from), newest.min(to));
        let filed = if extent.filed_row == NO_ROW { begin } else { ring.newest(extent.filed_row) };
        (first <= last).then_some(Self {
            ring,
            shape: ring.shape,
            spec,
            archive,
            column,
            position: column.index - block.first_column,
            begin,
            filed,
            checksum: extent.checksum,
            tells_resets: extent.tells_resets,
            first,
            last,
            every: 1,
        })
    }

    /// Only each `every`th of its rows, counted from the first one after `start`, which is not after it;
    /// `None` when there are none.
    pub(super) fn thinned(self, every: NonZeroU32, start: Timestamp) -> Option<Self> {
        let origin = self.spec.ended_row(start).saturating_add(1);
        let width = i64::from(every.get());
        let ahead = (self.first - origin).rem_euclid(width);
        let first = self.first + (width - ahead) % width;
        let every = usize::try_from(every.get()).unwrap_or(usize::MAX);
        (first <= self.last).then_some(Self { first, every, ..self })
    }

    /// Only these of its rows; `None` when there are none.
    pub(super) fn within(self, rows: Range<i64>) -> Option<Self> {
        let (first, last) = (self.first.max(rows.start), self.last.min(rows.end - 1));
        (first <= last).then_some(Self { first, last, ..self })
    }

    pub(super) fn has_filed(&self) -> bool {
        self.first <= self.filed
    }

    /// All its rows, unknown as yet.
    pub(super) fn begin(&self, rows: &mut Rows, parts: RowParts) {
        let count = usize::try_from(self.last - self.first).expect("at most a ring of rows");
        let count = count / self.every + 1;
        let first_end = self.spec.row_end(self.first);
        rows.begin(first_end, count, parts, self.shape);
        if self.tells_resets && parts == RowParts::All {
            rows.resets.resize(count, false);
        }
    }

    /// The time of its rows, and a run of finest steps on either side.
    pub(super) fn near(&self, form: &Form) -> (Timestamp, Timestamp) {
        let run_ms = run_ms(form.policy.step());
        let begin = self.spec.row_end(self.first - 1);
        (begin.plus_millis(-run_ms), self.spec.row_end(self.last).plus_millis(run_ms))
    }

    /// All its rows, with all their numbers, unknown as yet.
    pub(super) fn empty(&self) -> Rows {
        let mut rows = Rows::default();
        self.begin(&mut rows, RowParts::All);
        rows
    }

    fn index(&self, row: i64) -> usize {
        let after = usize::try_from(row - self.first).expect("a row of the view");
        if self.every == 1 { after } else { after / self.every }
    }

    /// The first row that is looked at and not before `row`, which is not before the first one.
    fn on_grid(&self, row: i64) -> i64 {
        if self.every == 1 {
            return row;
        }
        let after = usize::try_from(row - self.first).expect("a row of the view");
        row.saturating_add_unsigned((after.next_multiple_of(self.every) - after) as u64)
    }

    pub(super) fn put(&self, rows: &mut Rows, run: &Run) {
        let end = run.first_row.saturating_add_unsigned(run.count - 1);
        let seen = self.on_grid(run.first_row.max(self.first))..=end.min(self.last);
        for row in seen.step_by(self.every) {
            rows.set(self.index(row), run);
        }
    }

    /// The tiles of its rows that the file has.
    pub(super) fn tiles(&self) -> Range<i64> {
        Ring::tile_of(self.first)..Ring::tile_of(self.filed.min(self.last)) + 1
    }

    /// Those of its rows that the file has, but for the grid; it has some.
    pub(super) fn filed_rows(&self) -> Range<i64> {
        self.first..self.filed.min(self.last) + 1
    }

    /// All rows of these tiles that the file has.
    pub(super) fn rows_of(&self, tiles: &Range<i64>) -> Range<i64> {
        let (first, end) = (Ring::first_row(tiles.start), Ring::first_row(tiles.end));
        first.max(self.begin + 1)..end.min(self.filed + 1)
    }

    /// Puts these of its rows, which were kept, in their places.
    pub(super) fn take_warm(&self, warm: &WarmRows, kept: &Range<i64>, rows: &mut Rows) {
        let seen = self.on_grid(kept.start)..kept.end;
        if !seen.is_empty() {
            let bytes = warm.each(&seen, self.every);
            rows.fill(self.index(seen.start), self.shape, bytes, self.tells_resets);
        }
    }

    /// Has the disk bring all these tiles at once, where they may not be in memory.
    pub(super) fn bring(&self, source: &handles::Source, tiles: Range<i64>) {
        let lap = (tiles.start.div_euclid(self.ring.lap()) + 1) * self.ring.lap();
        let (before, after) = (tiles.start..tiles.end.min(lap), lap..tiles.end);
        for tiles in [before, after].into_iter().filter(|tiles| !tiles.is_empty()) {
            let from = self.ring.offset_of(tiles.start, self.position);
            let last = self.ring.offset_of(tiles.end - 1, self.position);
            let pages = tiles.end - tiles.start;
            source.bring(from..last + self.shape.tile_len() as u64, pages.unsigned_abs());
        }
    }

    /// Reads the rows of one tile that the file has, and says which of the tile these are; those of the
    /// view are put in their places.
    pub(super) fn read_tile(
        &self,
        source: &handles::Source,
        (tile, at): (i64, u64),
        bytes: &mut TileBytes,
        rows: &mut Rows,
    ) -> io::Result<Range<usize>> {
        let first_row = Ring::first_row(tile);
        let Range { start: low, end: high } = self.rows_of(&(tile..tile + 1));
        if low >= high {
            return Ok(0..0);
        }
        let places = |rows: Range<i64>| {
            let place = |row: i64| usize::try_from(row - first_row).expect("a row of this tile");
            place(rows.start)..place(rows.end)
        };
        source.read_at(bytes.tile(), at)?;
        // Of a full tile the checksum is behind its rows, of the last one in the slot.
        let is_full = high == Ring::first_row(tile + 1);
        let expected = if is_full { bytes.seal() } else { self.checksum };
        if bytes.checksum(tile, self.column, places(low..high)) != expected {
            return Err(mismatch());
        }
        let seen = self.on_grid(low.max(self.first))..high.min(self.last + 1);
        if !seen.is_empty() {
            let (index, bytes) = (self.index(seen.start), bytes.rows(places(seen)));
            rows.fill(index, self.shape, (bytes, self.every), self.tells_resets);
        }
        Ok(places(low..high))
    }
}
