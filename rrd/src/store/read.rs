//! Reading rows: those in the file and those waiting, as one.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::anchors::Anchors;
use super::change::Derived;
use super::check::{mismatch, unreadable};
use super::instance::{Form, Instance, block_of};
use super::state::NO_ROW;
use super::{SeriesInfo, Store, lock, read};
use crate::file::{Block, Part, Ring, Shape, TileBytes};
use crate::handles::{self, Handles};
use crate::series::{Run, row_is_known, run_ms};
use crate::{ArchiveSpec, Column, Damage, Policy, SeriesRef, Span, Timestamp};

/// Tiles that memory is asked for before the first of them is looked at.
const TILES_AT_ONCE: usize = 32;

/// Consecutive rows of one archive: row `i` ends at `first_end + i * step`, or, where they are days of
/// a zone, where [`ArchiveSpec::row_end`] says.
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
    /// True where a counter began anew within the row, known or not. Empty where no kind of reset is
    /// told from a fall, or averages alone were asked for.
    pub resets: Vec<bool>,
    /// What a counter stood at now and then, up to 64 finest steps before and after these rows, oldest
    /// first: its count is rebuilt from them. Empty for other kinds, or where averages alone were asked for.
    pub anchors: Vec<Anchor>,
}

/// What a counter stood at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Anchor {
    /// When it did.
    pub at: Timestamp,
    /// Its reading, or what two readings make of the moment between them.
    pub reading: f64,
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

    /// As [`Store::rows`], of a series that was found; none where its archives have changed since, and
    /// this one is another by now.
    pub fn rows_of(&self, found: &SeriesInfo, archive: usize, span: Span) -> Rows {
        let mut rows = Rows::default();
        let wanted = RowsWanted { series: found.series, archive, span, parts: RowParts::All };
        self.rows_of_into(&mut rows, found, wanted);
        rows
    }

    /// As [`Store::rows_of`], into rows whose room is used again, and only what is wanted of them.
    pub fn rows_of_into(&self, rows: &mut Rows, found: &SeriesInfo, wanted: RowsWanted) {
        let known = found.archives.get(wanted.archive);
        self.rows_if(rows, wanted, |spec| known.is_some_and(|known| known.has_rows_of(spec)));
    }

    /// As [`Store::rows`], into rows whose room is used again, and only what is wanted of them: for
    /// many series one after the other.
    pub fn rows_into(&self, rows: &mut Rows, wanted: RowsWanted) {
        self.rows_if(rows, wanted, |_| true);
    }

    fn rows_if(
        &self,
        rows: &mut Rows,
        wanted: RowsWanted,
        is_wanted: impl FnOnce(&ArchiveSpec) -> bool,
    ) {
        let RowsWanted { series, archive, span, parts } = wanted;
        rows.begin(Timestamp::default(), 0, parts, false);
        let Some(instance) = self.instance(series.instance) else { return };
        let form = self.read_into(rows, &instance, series.column, archive, (Some(span), parts));
        let Some(spec) = form.archives.get(archive).filter(|spec| is_wanted(spec)) else {
            return rows.begin(Timestamp::default(), 0, parts, false);
        };
        if archive > 0 {
            rows.hide_unless_known(spec, &form.policy);
        }
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
        let mut rows = Rows::default();
        let form = self.read_into(&mut rows, instance, column, archive, (span, RowParts::All));
        (rows, form)
    }

    fn read_into(
        &self,
        rows: &mut Rows,
        instance: &Instance,
        column: Column,
        archive: usize,
        (span, parts): (Option<Span>, RowParts),
    ) -> Arc<Form> {
        // Held from the copy of what is filed to the last byte read: see `Instance::tiles`.
        let _shared = read(&instance.tiles);
        let failed = |damage, reason: &io::Error| self.cannot_read(instance, damage, reason);
        let source = Source { handles: &self.handles, instance, failed: &failed };
        source.read_all(rows, column, archive, (span, parts))
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

impl Source<'_> {
    /// Rows of a series, wherever they are; the caller holds the tiles.
    pub(super) fn read_all(
        &self,
        rows: &mut Rows,
        column: Column,
        archive: usize,
        (span, parts): (Option<Span>, RowParts),
    ) -> Arc<Form> {
        let instance = self.instance;
        let layout = instance.layout();
        let state = lock(&instance.state);
        let form = Arc::clone(&state.form);
        let block = block_of(&layout, column.index).map(|(_, block)| state.laid(block));
        let view = block.as_ref().and_then(|block| {
            let extent = state.extent(column, archive)?;
            View::of(&form, block, column, archive, extent, span)
        });
        let Some(view) = view else { return form };
        view.begin(rows, parts);
        for waiting in state.unfiled() {
            for run in waiting.runs(column.index, column.generation, archive) {
                view.put(rows, &run);
            }
        }
        let mut anchors = match (parts, state.series(column)) {
            (RowParts::All, Some(series)) => Anchors::of(&form, &series, view.near(&form)),
            _ => None,
        };
        if let Some(anchors) = &mut anchors {
            anchors.add_waiting(state.unfiled());
        }
        let repairs = state.repairs(column, archive);
        let former = state.former.clone();
        drop(state);
        if let Some(former) = former {
            let derived = Derived { former: &former, source: self, column, form: &form };
            for run in derived.rows(archive, view.first..view.last + 1) {
                view.put(rows, &run);
            }
            if let Some(anchors) = &mut anchors {
                derived.add_anchors(anchors);
            }
        } else {
            if view.has_filed() {
                self.read(&view, rows);
            }
            if let (Some(anchors), Some(block)) = (&mut anchors, &block) {
                anchors.add_filed(self, block);
            }
        }
        for run in &repairs {
            view.put(rows, run);
        }
        rows.anchors.extend(anchors.into_iter().flat_map(Anchors::into_vec));
        form
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
        let tiles = Ring::tile_of(view.first)..Ring::tile_of(last) + 1;
        if source.is_new() {
            view.bring(&source, tiles.clone());
        }
        // One room for all: to clear it takes as long as to fill it.
        let mut bytes = TileBytes::of(view.shape);
        let offsets = view.ring.offsets_of(tiles.clone(), view.position);
        let mut ahead = offsets.clone();
        for (number, (tile, at)) in tiles.zip(offsets).enumerate() {
            if number.is_multiple_of(TILES_AT_ONCE) {
                let soon = ahead.by_ref().take(TILES_AT_ONCE);
                source.expect(soon, view.shape.tile_len() as u64);
            }
            if let Err(reason) = view.read_tile(&source, (tile, at), &mut bytes, rows) {
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
    pub(super) fn to_runs(&self, archive: usize, spec: &ArchiveSpec) -> Vec<Run> {
        let first = spec.ended_row(self.first_end);
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
            reset: self.resets.get(index).is_some_and(|&is_reset| is_reset),
        }
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
        self.resets.clear();
        self.anchors.clear();
    }

    /// Hides rows of a coarser archive of which more steps are unknown than the policy's share.
    pub(super) fn hide_unless_known(&mut self, spec: &ArchiveSpec, policy: &Policy) {
        let (step, xff) = (policy.step(), policy.xff());
        if spec.days.is_none() {
            return self.hide(least_known(spec.steps_per_row(step), xff));
        }
        let first = spec.ended_row(self.first_end);
        for (index, row) in (first..).take(self.len()).enumerate() {
            if !row_is_known(self.known[index], spec.steps_in(row, step), xff) {
                for column in [&mut self.average, &mut self.min, &mut self.max] {
                    if let Some(value) = column.get_mut(index) {
                        *value = f64::NAN;
                    }
                }
            }
        }
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
    fn fill(&mut self, index: usize, shape: Shape, rows: &[u8], tells_resets: bool) {
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
        if tells_resets {
            self.take_signs(places);
        }
    }

    /// Makes resets of the signs that averages have in the file. Where rows have one number, it is all
    /// that is read of them.
    #[inline(never)]
    fn take_signs(&mut self, places: Range<usize>) {
        if let Some(resets) = self.resets.get_mut(places.clone()) {
            for (reset, average) in resets.iter_mut().zip(&self.average[places.clone()]) {
                *reset = average.is_sign_negative();
            }
        }
        for column in [&mut self.average, &mut self.min, &mut self.max] {
            if let Some(values) = column.get_mut(places.clone()) {
                for value in values {
                    *value = value.abs();
                }
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
        if let Some(reset) = self.resets.get_mut(index) {
            *reset = row.reset;
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
    ring: &'a Ring,
    shape: Shape,
    spec: ArchiveSpec,
    archive: usize,
    column: Column,
    position: u32,
    /// Rows up to this one are before the series began.
    begin: i64,
    /// Rows up to this one are in the file.
    filed: i64,
    /// Checksum of the tile that row `filed` is in, so far.
    checksum: u32,
    tells_resets: bool,
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
        })
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
        let count = usize::try_from(self.last - self.first + 1).expect("at most a ring of rows");
        let first_end = self.spec.row_end(self.first);
        rows.begin(first_end, count, parts, self.shape.keeps_last);
        if self.tells_resets && parts == RowParts::All {
            rows.resets.resize(count, false);
        }
    }

    /// The time of its rows, and a run of finest steps on either side.
    fn near(&self, form: &Form) -> (Timestamp, Timestamp) {
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
        usize::try_from(row - self.first).expect("a row of the view")
    }

    pub(super) fn put(&self, rows: &mut Rows, run: &Run) {
        let end = run.first_row.saturating_add_unsigned(run.count - 1);
        for row in run.first_row.max(self.first)..=end.min(self.last) {
            rows.set(self.index(row), run);
        }
    }

    /// Has the disk bring all these tiles at once, where they may not be in memory.
    fn bring(&self, source: &handles::Source, tiles: Range<i64>) {
        let lap = (tiles.start.div_euclid(self.ring.lap()) + 1) * self.ring.lap();
        let (before, after) = (tiles.start..tiles.end.min(lap), lap..tiles.end);
        for tiles in [before, after].into_iter().filter(|tiles| !tiles.is_empty()) {
            let from = self.ring.offset_of(tiles.start, self.position);
            let last = self.ring.offset_of(tiles.end - 1, self.position);
            let pages = tiles.end - tiles.start;
            source.bring(from..last + self.shape.tile_len() as u64, pages.unsigned_abs());
        }
    }

    /// Reads the rows of one tile that the file has; those of the view are put in their places.
    fn read_tile(
        &self,
        source: &handles::Source,
        (tile, at): (i64, u64),
        bytes: &mut TileBytes,
        rows: &mut Rows,
    ) -> io::Result<()> {
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
        source.read_at(bytes.tile(), at)?;
        // Of a full tile the checksum is behind its rows, of the last one in the slot.
        let is_full = high == Ring::first_row(tile + 1);
        let expected = if is_full { bytes.seal() } else { self.checksum };
        if bytes.checksum(tile, self.column, places(low..high)) != expected {
            return Err(mismatch());
        }
        let seen = low.max(self.first)..high.min(self.last + 1);
        if !seen.is_empty() {
            let (index, bytes) = (self.index(seen.start), bytes.rows(places(seen)));
            rows.fill(index, self.shape, bytes, self.tells_resets);
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
