//! A change of archives: the new rows follow from the old ones, wherever and whenever they are asked for.
//!
//! From the frame on, memory is as if the archives had always been so; older rows are derived from the
//! former file for readers, and by the next round for the new file. Both do it here, so that nobody
//! sees a difference.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::anchors::{Anchors, runs_kept};
use super::columns::Columns;
use super::former::{End, Former};
use super::instance::{Form, Instance, block_of};
use super::read::Source;
use super::restep::Restepped;
use super::state::{Filed, State};
use super::view::View;
use super::{Store, lock, read};
use crate::calendar::RowWidth;
use crate::file::{Block, TILE_ROWS};
use crate::series::{Head, Open, OpenRow, Run};
use crate::waiting::repairs_of;
use crate::{Cell, Column, Policy, Timestamp};

impl Form {
    pub(super) fn width(&self, archive: usize) -> RowWidth {
        self.archives[archive].width(self.policy.step())
    }
}

impl Store {
    /// Gives an instance the archives of another policy. Reads what its
    /// open rows need of the file, and writes nothing.
    pub(super) fn apply_policy(&self, instance: &Instance, seq: u64, policy: &Policy) {
        let form = Form::of(policy.clone());
        // Held until memory knows of the change, so that no round writes in place what is read here.
        let _shared = read(&instance.tiles);
        let (former, series) = {
            let mut state = lock(&instance.state);
            let former = Arc::new(Former::of(&mut state, instance.layout()));
            let all = state.all_series();
            let series = all.map(|series| (series.column(), series.open(&state.form.grid)));
            (former, series.collect::<Vec<_>>())
        };
        let opens: Vec<_> = {
            let failed = |damage, reason: &io::Error| self.cannot_read(instance, damage, reason);
            let source = Source { handles: &self.handles, instance, failed: &failed, warm: None };
            let open = |(column, open): (Column, Open)| {
                let derived = Derived { former: &former, source: &source, column, form: &form };
                (column, derived.open(&open))
            };
            series.into_iter().map(open).collect()
        };
        lock(&instance.state).change_form(seq, form, former, opens);
    }
}

impl State {
    fn change_form(
        &mut self,
        seq: u64,
        form: Arc<Form>,
        former: Arc<Former>,
        opens: Vec<(Column, Open)>,
    ) {
        let (old, new) = (former.form().policy.heartbeat_ms(), form.policy.heartbeat_ms());
        let least_ms = if new.is_none() { form.usual_heartbeat_ms() } else { 0 };
        for class in Arc::make_mut(&mut self.classes) {
            class.kept.last = form.policy.keeps_last();
            if form.policy.all_f64() {
                class.kept.cell = Cell::F64;
            }
            if old != new {
                class.definition.heartbeat_ms = new.unwrap_or(form.usual_heartbeat_ms());
            }
            class.definition.heartbeat_ms = class.definition.heartbeat_ms.max(least_ms);
        }
        let mut columns = Columns::new(&form.grid);
        columns.grow(self.columns.len());
        for (column, open) in opens {
            let place = column.index as usize;
            let Some(head) = self.columns.head(place) else { continue };
            columns.begin(place, Head::unborn(column.generation, head.class));
            if let Some(mut stored) = columns.open(place) {
                open.store(&mut stored, &form.grid);
            }
            if self.series(column).is_some_and(|series| series.birth != open.birth) {
                Arc::make_mut(&mut self.names).bear(place, open.birth);
            }
        }
        Arc::make_mut(&mut self.names).settle();
        self.columns = Arc::new(columns);
        // A shorter heartbeat may have passed already.
        self.hushed_until = Timestamp::MIN;
        self.filed = Filed::default();
        self.filed.grow(self.columns.len(), form.archives.len());
        self.frozen.clear();
        self.repaired.clear();
        self.round = None;
        self.look_for_newest(form.policy.step());
        self.form = form;
        self.former = Some(former);
        self.took(seq);
    }
}

/// The rows of one column in the archives that it has by now, as far as the former ones tell.
pub(super) struct Derived<'a> {
    pub(super) former: &'a Former,
    pub(super) source: &'a Source<'a>,
    pub(super) column: Column,
    pub(super) form: &'a Form,
}

impl Derived<'_> {
    /// These rows of an archive, up to the newest that had closed; those nobody can know are unknown.
    pub(super) fn rows(&self, archive: usize, rows: Range<i64>) -> Vec<Run> {
        match self.former.folds() {
            [] => self.own_rows(archive, rows),
            _ => self.rolled_rows(archive, rows),
        }
    }

    /// As [`Derived::rows`], without those of members that are to be added.
    pub(super) fn own_rows(&self, archive: usize, rows: Range<i64>) -> Vec<Run> {
        let Some(end) = self.former.end(self.column) else { return Vec::new() };
        let restepped = Restepped::of(self, end);
        let (spec, former_step) = (self.form.archives[archive], self.former.form().policy.step());
        let newest_at = match &restepped {
            Some(restepped) => restepped.newest(),
            None => Timestamp::row_end(end.newest_row, former_step),
        };
        let begin = spec.ended_row(Timestamp::from_millis(end.birth_ms(former_step)));
        let newest = spec.ended_row(newest_at);
        // Rows before the ring share a tile with those in it, at most.
        let kept = self.form.archives[archive].row_count + u64::from(2 * TILE_ROWS);
        let oldest = newest.saturating_sub_unsigned(kept).max(begin) + 1;
        let rows = rows.start.max(oldest)..rows.end;
        let mut upto = rows.end.min(newest + 1);
        let mut parts = Vec::new();
        let sources: Vec<usize> = match &restepped {
            Some(restepped) => restepped.sources(archive).collect(),
            None => self.sources(archive).collect(),
        };
        for from in sources {
            let first = self.first_whole(from, archive, end).max(rows.start);
            if first < upto {
                parts.push(match &restepped {
                    Some(restepped) => restepped.put_together(from, archive, first..upto),
                    None => self.put_together(from, archive, first..upto),
                });
                upto = first;
            }
        }
        parts.push(Run::unknown(archive, rows.start..upto).into_iter().collect());
        let cell = self.cell(&self.former.layout, self.column);
        let kept = |run: Run| Run {
            archive,
            average: cell.kept(run.average),
            min: cell.kept(run.min),
            max: cell.kept(run.max),
            last: cell.kept(run.last),
            ..run
        };
        parts.into_iter().rev().flatten().map(kept).collect()
    }

    /// Adds the anchors that the former archives have.
    pub(super) fn add_anchors(&self, anchors: &mut Anchors) {
        let former = self.former;
        let (Some(end), Some((_, block))) =
            (former.end(self.column), block_of(&former.layout, self.column.index))
        else {
            return;
        };
        // What its ring had no more room for is gone, be it that it never left memory.
        let runs = runs_kept(former.form(), end.newest_row);
        let waiting = former.waiting.iter().rev().map(Arc::as_ref);
        anchors.add_former(waiting, self.source, (block, runs));
    }

    /// The series in its new archives, with open rows of what has closed since they began.
    pub(super) fn open(&self, open: &Open) -> Open {
        let end = self.former.end(self.column);
        if let Some(restepped) = end.and_then(|end| Restepped::of(self, end)) {
            return restepped.open(open);
        }
        let coarser = 1..self.form.archives.len();
        open.with_open_rows(coarser.map(|archive| self.open_row(archive, open)))
    }

    fn open_row(&self, archive: usize, open: &Open) -> OpenRow {
        let width = self.form.width(archive);
        let Some(end) = self.former.end(self.column) else { return OpenRow::empty(u32::MAX) };
        let left = width.left(end.newest_row);
        let after = width.end(width.newest(end.newest_row)).max(end.birth_row);
        for from in self.sources(archive) {
            let narrow = self.former.width(from);
            if narrow == width {
                return open.open_row(from).copied().unwrap_or(OpenRow::empty(left));
            }
            if narrow.newest(after) + 1 >= self.oldest(from, end) {
                let mut row = OpenRow::empty(left);
                let closed = narrow.newest(after) + 1..narrow.newest(end.newest_row) + 1;
                for run in self.kept(from, closed) {
                    row.add_row(&OpenRow::of_run(&run));
                }
                if let Some(begun) = open.open_row(from) {
                    row.add_row(begun);
                }
                return row;
            }
        }
        OpenRow::empty(left)
    }

    /// Former archives that rows of this one can be put together from, the best first: one with rows
    /// of the same step, then the finer ones.
    fn sources(&self, archive: usize) -> impl Iterator<Item = usize> {
        let width = self.form.width(archive);
        let all = || (0..self.former.form().archives.len()).map(|n| (n, self.former.width(n)));
        let same = all().filter(move |(_, narrow)| *narrow == width);
        let finer = all().filter(move |(_, narrow)| *narrow != width && width.is_made_of(*narrow));
        same.chain(finer).map(|(from, _)| from)
    }

    /// Milliseconds of a row of an archive.
    pub(super) fn width_ms(&self, archive: usize) -> i64 {
        self.form.archives[archive].step.as_millis().cast_signed()
    }

    /// The oldest row that a former archive has.
    pub(super) fn oldest(&self, from: usize, end: End) -> i64 {
        let narrow = self.former.width(from);
        let (begin, newest) = (narrow.newest(end.birth_row), narrow.newest(end.newest_row));
        let kept = self.former.form().archives[from].row_count;
        newest.saturating_sub_unsigned(kept).max(begin) + 1
    }

    /// The first row of an archive of which a former one has all steps since the series' birth.
    fn first_whole(&self, from: usize, archive: usize, end: End) -> i64 {
        let before = self.oldest(from, end) - 1;
        if before <= self.former.width(from).newest(end.birth_row) {
            return i64::MIN;
        }
        let begun = self.former.form().archives[from].row_end(before);
        self.form.archives[archive].first_after(begun)
    }

    /// Rows of an archive, all of whose steps a former one has.
    fn put_together(&self, from: usize, archive: usize, rows: Range<i64>) -> Vec<Run> {
        let (width, narrow) = (self.form.width(archive), self.former.width(from));
        let is_same = width == narrow;
        // Its newest row within a row of this archive.
        let newest_in = |row| if is_same { row } else { narrow.newest(width.end(row)) };
        let mut narrow = self
            .kept(from, newest_in(rows.start - 1) + 1..newest_in(rows.end - 1) + 1)
            .into_iter()
            .peekable();
        let mut wide = Vec::new();
        for row in rows {
            let mut sum = OpenRow::empty(u32::MAX);
            let mut newest = None;
            let upto = newest_in(row);
            while let Some(run) = narrow.next_if(|run| run.first_row <= upto) {
                if !is_same {
                    sum.add_row(&OpenRow::of_run(&run));
                }
                newest = Some(run);
            }
            let Some(newest) = newest else { continue };
            let last = self.last(from, archive, row, &newest);
            wide.push(if is_same { Run { last, ..newest } } else { sum.run(archive, row, last) });
        }
        wide
    }

    /// The cell of a column of this layout.
    pub(super) fn cell(&self, layout: &[Block], column: Column) -> Cell {
        block_of(layout, column.index).map_or(Cell::F64, |(_, block)| self.form.cell(block))
    }

    /// The newest step in a row, where rows keep it.
    fn last(&self, from: usize, archive: usize, row: i64, newest: &Run) -> f64 {
        if archive == 0 || !self.form.policy.keeps_last() {
            return f64::NAN;
        }
        match from {
            0 => newest.average,
            _ if self.former.form().policy.keeps_last() => newest.last,
            _ => {
                let step = self.form.width(archive).end(row);
                let found = self.kept(0, step..step + 1);
                found.first().map_or(f64::NAN, |run| run.average)
            }
        }
    }

    /// Those of these rows that a former archive has.
    pub(super) fn kept(&self, from: usize, rows: Range<i64>) -> Vec<Run> {
        let former = self.former;
        let found = block_of(&former.layout, self.column.index).and_then(|(_, block)| {
            let extent = former.extent(self.column, from)?;
            View::of(former.form(), block, self.column, from, extent, None)?.within(rows)
        });
        let Some(view) = found else { return Vec::new() };
        let mut rows = view.empty();
        for waiting in &former.waiting {
            for run in waiting.runs(self.column.index, self.column.generation, from) {
                view.put(&mut rows, &run);
            }
        }
        if view.has_filed() {
            self.source.read(&view, &mut rows);
        }
        for run in repairs_of(former.waiting.iter().map(Arc::as_ref), self.column, from) {
            view.put(&mut rows, &run);
        }
        (view.first..).zip(0..rows.len()).map(|(row, n)| rows.run(from, row, n)).collect()
    }
}
