//! Folding: a role takes over the rows of a member that is to go.
//!
//! From the frame on the role shows them, derived from the member's file wherever they are read. The
//! next round writes both together to `<role>.next`, as it writes a change of archives, and only then
//! lets the member's file say that it is to go: one record makes both count.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::change::Derived;
use super::former::{End, Former};
use super::instance::{Form, Instance};
use super::read::Source;
use super::rolled::{Of, Rolled, named};
use super::state::{Filed, State};
use super::{Store, lock, read};
use crate::file::TILE_ROWS;
use crate::series::{Open, OpenRow, Run};
use crate::{Column, Damage, InstanceId, Kind, Labels, Timestamp};

/// Rounds of looking for a moment at which rows of all archives end. Widths are mostly multiples of each other,
/// which takes one; else the last row of some may be left out.
const MOST_LOOKS: usize = 64;

/// What a role takes over of one member.
pub(super) struct Fold {
    /// The frame that said so.
    seq: u64,
    member: Arc<Instance>,
    /// By column of the role.
    parts: BTreeMap<u32, Part>,
    /// How far the role's columns have come with it.
    ends: Vec<Option<End>>,
}

/// What becomes of one column of a role.
struct Part {
    of: Of,
    /// The columns of the mean and of the count in the role.
    pair: [Column; 2],
    /// The member's.
    from: Column,
    open: Arc<Open>,
}

/// A series of a member as it leaves.
struct Leaving {
    labels: Labels,
    kind: Kind,
    column: Column,
    open: Open,
}

impl Fold {
    pub(super) const fn seq(&self) -> u64 {
        self.seq
    }

    /// How far the role's columns have come with it.
    pub(super) fn ends(&self) -> &[Option<End>] {
        &self.ends
    }

    pub(super) fn member(&self) -> &Arc<Instance> {
        &self.member
    }

    fn part(&self, column: Column) -> Option<&Part> {
        let part = self.parts.get(&column.index)?;
        part.pair.contains(&column).then_some(part)
    }
}

impl State {
    /// True while the rows of this member are in its own file alone.
    pub(super) fn waits_for(&self, member: InstanceId) -> bool {
        let mut folds = self.former.iter().flat_map(|former| former.folds());
        folds.any(|fold| fold.member.id == member)
    }

    fn has_taken(&self, seq: u64) -> bool {
        let mut folds = self.former.iter().flat_map(|former| former.folds());
        seq <= self.folded_upto || folds.any(|fold| fold.seq == seq)
    }

    /// The columns of the series that are here, by key.
    fn columns_by_key(&self) -> HashMap<&[u8], Column> {
        self.all_series().map(|series| (series.key.bytes(), series.column())).collect()
    }
}

impl Store {
    /// Lets an instance go whose rows a role takes over. One whose role is not there goes without.
    pub(super) fn apply_roll_up(&self, member: &Arc<Instance>, seq: u64, role: InstanceId) {
        let former = {
            let _shared = read(&member.tiles);
            let mut state = lock(&member.state);
            Arc::new(Former::of(&mut state, member.layout()))
        };
        let taker = self.instance(role).filter(|taker| {
            let state = lock(&taker.state);
            state.is_granted && !state.is_removed && !Arc::ptr_eq(taker, member)
        });
        let Some(taker) = taker else {
            let what = format!("goes without its role: there is no archive {role}");
            self.report(Damage { instance: Some(member.id), path: member.path.clone(), what });
            return member.remove(seq);
        };
        let leaving = lock(&member.state).leaving();
        taker.take_over(member, seq, (&former, leaving));
        member.leave(seq, former, taker);
    }
}

impl State {
    fn leaving(&self) -> Vec<Leaving> {
        let all = self.all_series().filter(|series| !series.head.is_unborn());
        let leaving = all.filter_map(|series| {
            let labels = Labels::from_key(series.key.bytes()).ok()?;
            let kind = series.class.definition.kind;
            let open = series.open(&self.form.grid);
            Some(Leaving { labels, kind, column: series.column(), open })
        });
        leaving.collect()
    }
}

impl Instance {
    /// Adds the series of a member to those of this role, in memory. Done again it changes nothing.
    fn take_over(
        &self,
        member: &Arc<Self>,
        seq: u64,
        (member_former, leaving): (&Former, Vec<Leaving>),
    ) {
        let layout = self.layout();
        let mut state = lock(&self.state);
        if state.has_taken(seq) {
            return;
        }
        let mut parts = BTreeMap::new();
        let mut grown = Vec::new();
        let known = state.columns_by_key();
        for series in leaving {
            let Some(names) = named(&series.labels, series.kind) else { continue };
            let columns = names.each_ref().map(|(_, labels)| known.get(&*labels.to_key()).copied());
            let ([Some(mean), Some(count)], Some(span)) =
                (columns, member_former.span(series.column, &series.open))
            else {
                continue;
            };
            let (pair, open) = ([mean, count], Arc::new(series.open));
            for (column, of) in [(mean, Of::Average), (count, Of::Count)] {
                let (from, open) = (series.column, Arc::clone(&open));
                parts.insert(column.index, Part { of, pair, from, open });
                grown.push((column, span));
            }
        }
        let former = match state.former.take() {
            Some(former) => former,
            None => state.begin_folding(layout),
        };
        for (column, span) in grown {
            state.reach(column, span);
        }
        let ends = Former::ends_of(&state);
        let fold = Arc::new(Fold { seq, member: Arc::clone(member), parts, ends });
        state.former = Some(Arc::new(former.with_fold(fold)));
        let step = state.form.policy.step();
        state.look_for_newest(step);
        state.applied_seq = state.applied_seq.max(seq);
        state.is_dirty = true;
    }

    /// Nothing of it is shown any more; its file goes once its role has what it holds.
    fn leave(&self, seq: u64, former: Arc<Former>, role: Arc<Self>) {
        let torn = std::mem::take(&mut lock(&self.state).torn);
        self.remove(seq);
        let mut state = lock(&self.state);
        state.torn = torn;
        state.former = Some(former);
        state.rolled_into = Some(role);
    }

    /// Errors while the role of an instance that leaves has not written its rows, in the round at `seq`
    /// or before.
    pub(super) fn check_rolled_up(&self, seq: Option<u64>) -> io::Result<()> {
        let Some(role) = lock(&self.state).rolled_into.clone() else { return Ok(()) };
        let state = lock(&role.state);
        let is_written = |seq| {
            let round = state.round.as_ref().filter(|round| Some(round.seq) == seq);
            round.is_some_and(|round| round.filed.is_some())
        };
        if state.waits_for(self.id) && !is_written(seq) {
            return Err(io::Error::other(format!("waits for the archive {} of its role", role.id)));
        }
        Ok(())
    }
}

impl State {
    /// From here on rows are derived from the file as it is, until a round has written them anew.
    fn begin_folding(&mut self, layout: Arc<Vec<crate::file::Block>>) -> Arc<Former> {
        let former = Arc::new(Former::of(self, layout));
        self.filed = Filed::default();
        self.filed.grow(self.columns.len(), self.form.archives.len());
        self.frozen.clear();
        self.repaired.clear();
        self.round = None;
        former
    }

    /// Makes a column of a role reach over this time too, to the end of the widest row.
    fn reach(&mut self, column: Column, (begin, end): (Timestamp, Timestamp)) {
        let (form, place) = (Arc::clone(&self.form), column.index as usize);
        let step = form.policy.step();
        let Some(series) = self.series(column) else { return };
        let own = series.closed_rows(step);
        let (mut birth_row, mut newest_row) = (begin.floor(step).row(step), form.sealed(end));
        if let Some((birth, newest)) = own {
            (birth_row, newest_row) = (birth_row.min(birth), newest_row.max(newest));
        }
        let open = Open::ended(birth_row, newest_row, &form.archives);
        if let Some(mut stored) = Arc::make_mut(&mut self.columns).open(place) {
            open.store(&mut stored, &form.grid);
        }
        Arc::make_mut(&mut self.names).bear(place, open.birth);
    }
}

impl Form {
    /// The first row of the finest archive, not before `at`, with which rows of all archives end.
    fn sealed(&self, at: Timestamp) -> i64 {
        let step = self.policy.step();
        let mut row = at.row(step);
        if Timestamp::row_end(row, step) < at {
            row += 1;
        }
        for _ in 0..MOST_LOOKS {
            let before = row;
            for archive in 1..self.archives.len() {
                let width = self.width(archive);
                let newest = width.newest(row);
                if width.end(newest) != row {
                    row = width.end(newest + 1);
                }
            }
            if row == before {
                break;
            }
        }
        row
    }
}

impl Derived<'_> {
    /// Rows of a role that has taken over members since its file was written.
    pub(super) fn rolled_rows(&self, archive: usize, rows: Range<i64>) -> Vec<Run> {
        let folds = self.former.folds();
        let column = self.column;
        let Some((of, [mean, count])) =
            folds.iter().find_map(|fold| fold.part(column)).map(|part| (part.of, part.pair))
        else {
            return self.own_rows(archive, rows);
        };
        let Some(rows) = self.reached(archive, &rows) else { return Vec::new() };
        let width = self.form.width(archive);
        let mut all = vec![Rolled::NONE; usize::try_from(rows.end - rows.start).unwrap_or(0)];
        let place = |row: i64| usize::try_from(row - rows.start).expect("a row of these");
        let own = |column| {
            let own = Derived { column, ..*self }.own_rows(archive, rows.clone());
            singles(own, rows.clone())
        };
        let counts: HashMap<i64, Run> = own(count).collect();
        for (row, mean) in own(mean) {
            all[place(row)] = counts.get(&row).map_or(Rolled::NONE, |n| Rolled::of(&mean, n));
        }
        for fold in folds {
            let Some(part) = fold.part(mean) else { continue };
            for (row, run) in self.member_rows(fold, part, (archive, rows.clone())) {
                all[place(row)].add(&run, width.steps(row));
            }
        }
        let run = |(row, rolled): (i64, Rolled)| rolled.run(of, archive, (row, width.steps(row)));
        rows.clone().zip(all).map(run).collect()
    }

    /// Those of these rows that the role's ring has, with all its members.
    fn reached(&self, archive: usize, rows: &Range<i64>) -> Option<Range<i64>> {
        let folds = self.former.folds().iter();
        let ends = folds.filter_map(|fold| Some(End::find(&fold.ends, self.column)?.rows()));
        let (birth_row, newest_row) =
            ends.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))?;
        let width = self.form.width(archive);
        let (begin, newest) = (width.newest(birth_row), width.newest(newest_row));
        // Rows before the ring share a tile with those in it, at most.
        let kept = self.form.archives[archive].row_count + u64::from(2 * TILE_ROWS);
        let oldest = newest.saturating_sub_unsigned(kept).max(begin) + 1;
        let rows = rows.start.max(oldest)..rows.end.min(newest + 1);
        (rows.start < rows.end).then_some(rows)
    }

    /// What a member knows of these rows, the one that was still open when it left among them.
    fn member_rows(
        &self,
        fold: &Fold,
        part: &Part,
        (archive, rows): (usize, Range<i64>),
    ) -> Vec<(i64, Run)> {
        let member = fold.member.as_ref();
        let _shared = read(&member.tiles);
        // None once its file is gone, which is after the role's was written.
        let Some(former) = lock(&member.state).former.clone() else { return Vec::new() };
        let Source { handles, failed, .. } = *self.source;
        let source = Source { handles, instance: member, failed, warm: None };
        let derived =
            Derived { former: &former, source: &source, column: part.from, form: self.form };
        let mut found: Vec<_> = singles(derived.own_rows(archive, rows.clone()), rows.clone())
            .filter(|(_, run)| run.known > 0)
            .collect();
        if archive > 0 {
            let open = derived.open(&part.open);
            let row = self.form.width(archive).newest(open.newest_row) + 1;
            let begun = open.open_row(archive).copied().unwrap_or(OpenRow::empty(0));
            if begun.known > 0 && rows.contains(&row) {
                found.push((row, begun.run(archive, row, f64::NAN)));
            }
        }
        found
    }
}

/// Runs as single rows, those of `rows`.
fn singles(runs: Vec<Run>, rows: Range<i64>) -> impl Iterator<Item = (i64, Run)> {
    runs.into_iter().flat_map(move |run| {
        let end = run.first_row.saturating_add_unsigned(run.count);
        (run.first_row.max(rows.start)..end.min(rows.end)).map(move |row| (row, run))
    })
}
