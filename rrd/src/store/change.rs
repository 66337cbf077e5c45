//! A change of archives: the new rows follow from the old ones, wherever and whenever they are asked for.
//!
//! From the frame on, memory is as if the archives had always been so; older rows are derived from the
//! former file for readers, and by the next round for the new file. Both do it here, so that nobody
//! sees a difference.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::anchors::{Anchors, runs_kept};
use super::columns::{Columns, Series};
use super::fold::Fold;
use super::instance::{Form, Instance, block_of};
use super::read::Source;
use super::restep::Restepped;
use super::state::{Filed, State};
use super::view::{Extent, View};
use super::{Store, lock, read};
use crate::calendar::RowWidth;
use crate::file::{Block, TILE_ROWS};
use crate::series::{Head, Open, OpenRow, Run};
use crate::waiting::{Waiting, repairs_of};
use crate::{Cell, Column, Policy, Step, Timestamp};

/// The archives that an instance had, as they were when the frame of the change was applied.
#[derive(Clone)]
pub(crate) struct Former {
    form: Arc<Form>,
    layout: Arc<Vec<Block>>,
    filed: Filed,
    /// Rows that were not yet in the file.
    waiting: Vec<Arc<Waiting>>,
    ends: Ends,
    /// Members whose rows are to be added to those of a role, in order of their frames.
    folds: Vec<Arc<Fold>>,
}

/// How far columns had come, by their number.
pub(super) type Ends = BTreeMap<u32, End>;

/// How far a column had come.
#[derive(Clone, Copy)]
pub(super) struct End {
    generation: u32,
    birth_row: i64,
    pub(super) newest_row: i64,
    tells_resets: bool,
    /// Its last reading or marker.
    pub(super) last: Timestamp,
}

impl End {
    /// That of a column among these.
    pub(super) fn find(ends: &Ends, column: Column) -> Option<Self> {
        let end = *ends.get(&column.index)?;
        (end.generation == column.generation).then_some(end)
    }

    fn of(series: &Series<'_>, step: Step) -> Option<Self> {
        let (birth_row, newest_row) = series.closed_rows(step)?;
        let tells_resets = series.class.definition.kind.tells_resets();
        let (generation, last) = (series.head.generation, series.head.last());
        Some(Self { generation, birth_row, newest_row, tells_resets, last })
    }

    /// Its birth and its newest closed row, as rows of the finest archive.
    pub(super) const fn rows(self) -> (i64, i64) {
        (self.birth_row, self.newest_row)
    }

    /// Where its first row began, in steps of this width.
    pub(super) const fn birth_ms(self, step: Step) -> i64 {
        Timestamp::row_end(self.birth_row, step).as_millis()
    }
}

impl Former {
    pub(super) fn of(state: &mut State, layout: Arc<Vec<Block>>) -> Self {
        if !state.waiting.is_empty() {
            let waiting = std::mem::take(&mut state.waiting);
            state.frozen.push(Arc::new(waiting));
        }
        Self {
            form: Arc::clone(&state.form),
            layout,
            filed: state.filed.clone(),
            waiting: state.frozen.clone(),
            ends: Self::ends_of(state),
            folds: Vec::new(),
        }
    }

    /// How far each column has come.
    pub(super) fn ends_of(state: &State) -> Ends {
        let columns = 0..u32::try_from(state.columns.len()).unwrap_or(u32::MAX);
        Self::ends_among(state, columns)
    }

    /// How far these columns have come.
    pub(super) fn ends_among(state: &State, columns: impl IntoIterator<Item = u32>) -> Ends {
        let step = state.form.policy.step();
        let end = |index: u32| {
            let series = state.series_at(usize::try_from(index).ok()?)?;
            Some((index, End::of(&series, step)?))
        };
        columns.into_iter().filter_map(end).collect()
    }

    /// What tells of these series, which are to go from their columns, as `state` has them now: the file
    /// of this one, and all that came since.
    pub(super) fn with_later(
        &self,
        state: &mut State,
        layout: Arc<Vec<Block>>,
        going: impl Iterator<Item = u32>,
    ) -> Self {
        if !state.waiting.is_empty() {
            let waiting = std::mem::take(&mut state.waiting);
            state.frozen.push(Arc::new(waiting));
        }
        let later = state.frozen.iter().cloned();
        let going = Self {
            waiting: self.waiting.iter().cloned().chain(later).collect(),
            ends: Self::ends_among(state, going),
            folds: Vec::new(),
            ..self.clone()
        };
        going.in_file((layout, self.filed.clone()), &self.ends)
    }

    /// The same, of a file that holds columns up to these ends; of later series in them it holds nothing.
    fn in_file(&self, (layout, mut filed): (Arc<Vec<Block>>, Filed), ends: &Ends) -> Self {
        let last = self.ends.last_key_value().map_or(0, |(&index, _)| index as usize);
        filed.grow(last + 1, self.form.archives.len());
        for (&index, end) in &self.ends {
            if ends.get(&index).is_none_or(|filed| filed.generation != end.generation) {
                filed.forget(index as usize);
            }
        }
        Self { layout, filed, ..self.clone() }
    }

    pub(super) fn folds(&self) -> &[Arc<Fold>] {
        &self.folds
    }

    /// The same with one more member.
    pub(super) fn with_fold(&self, fold: Arc<Fold>) -> Self {
        let mut folds = self.folds.clone();
        folds.insert(folds.partition_point(|known| known.seq() < fold.seq()), fold);
        Self { folds, ..self.clone() }
    }

    /// What is left to be done once the file, which holds this much up to these ends now, has the
    /// members up to `seq`.
    pub(super) fn after(
        &self,
        seq: u64,
        form: &Arc<Form>,
        (layout, filed, ends): (Arc<Vec<Block>>, Filed, Ends),
    ) -> Option<Self> {
        let left = &self.folds[self.folds.partition_point(|fold| fold.seq() <= seq)..];
        for fold in left.iter().filter(|fold| fold.is_own()) {
            let member = fold.member();
            member.set_layout(layout.to_vec());
            let mut state = lock(&member.state);
            let moved = |former: &Arc<Self>| {
                Arc::new(former.in_file((Arc::clone(&layout), filed.clone()), &ends))
            };
            state.former = state.former.as_ref().map(moved);
        }
        (!left.is_empty()).then(|| Self {
            form: Arc::clone(form),
            layout,
            filed,
            waiting: Vec::new(),
            ends,
            folds: left.to_vec(),
        })
    }

    /// The time that a column's rows tell of, the one still open among them.
    pub(super) fn span(&self, column: Column, open: &Open) -> Option<(Timestamp, Timestamp)> {
        let (end, step) = (self.end(column)?, self.form.policy.step());
        let begin = Timestamp::from_millis(end.birth_ms(step));
        Some((begin, Timestamp::row_end(end.newest_row, step).max(open.last)))
    }

    /// The same, of a file that holds this.
    pub(super) fn with_filed(&self, filed: Filed) -> Self {
        Self { filed, ..self.clone() }
    }

    /// What the file is known to hold.
    pub(super) const fn filed(&self) -> &Filed {
        &self.filed
    }

    /// The archives that the file still has.
    pub(super) const fn form(&self) -> &Arc<Form> {
        &self.form
    }

    fn end(&self, column: Column) -> Option<End> {
        End::find(&self.ends, column)
    }

    fn extent(&self, column: Column, archive: usize) -> Option<Extent> {
        let End { birth_row, newest_row, tells_resets, .. } = self.end(column)?;
        let rows = (birth_row, newest_row);
        let extent = self.filed.extent(column, archive, rows, self.form.archives.len());
        Some(Extent { tells_resets, ..extent })
    }

    /// How wide the rows of an archive are.
    fn width(&self, archive: usize) -> RowWidth {
        self.form.width(archive)
    }

    /// Milliseconds of a row of an archive.
    pub(super) fn width_ms(&self, archive: usize) -> i64 {
        self.form.archives[archive].step.as_millis().cast_signed()
    }
}

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
        let (old, new) = (former.form.policy.heartbeat_ms(), form.policy.heartbeat_ms());
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
        let mut columns = Columns::new(form.grid.coarser_count());
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
        let (spec, former_step) = (self.form.archives[archive], self.former.form.policy.step());
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
        let runs = runs_kept(&former.form, end.newest_row);
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
        let all = || (0..self.former.form.archives.len()).map(|n| (n, self.former.width(n)));
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
        let kept = self.former.form.archives[from].row_count;
        newest.saturating_sub_unsigned(kept).max(begin) + 1
    }

    /// The first row of an archive of which a former one has all steps since the series' birth.
    fn first_whole(&self, from: usize, archive: usize, end: End) -> i64 {
        let before = self.oldest(from, end) - 1;
        if before <= self.former.width(from).newest(end.birth_row) {
            return i64::MIN;
        }
        let begun = self.former.form.archives[from].row_end(before);
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
            _ if self.former.form.policy.keeps_last() => newest.last,
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
            View::of(&former.form, block, self.column, from, extent, None)?.within(rows)
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
