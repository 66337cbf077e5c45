//! Late readings of gauges: the worker's decision, and the rows that follow from it.
//!
//! The one place where the worker reads rows of a file: what a late reading replaces. It is rare, and
//! bounded, since each step is filled once. Nothing is written here: changed rows wait for the round.

use std::cell::Cell as Flag;
use std::io;
use std::sync::Arc;

use super::apply::Verdicts;
use super::columns::Class;
use super::instance::{Form, Instance};
use super::read::{Seen, Source};
use super::rows::Rows;
use super::state::State;
use super::{Store, lock, read};
use crate::series::{Change, Late, Reach, Run};
use crate::{Column, Damage, Sample, Span, Timestamp};

/// A late reading that its touched bit lets in.
struct Filling {
    column: Column,
    class: Class,
    form: Arc<Form>,
    reach: Reach,
    /// The row of the finest archive that it is the value of, and that value as its cell keeps it.
    row: i64,
    value: f64,
}

/// A row of a coarser archive that the step belongs to.
struct Above {
    archive: usize,
    row: i64,
    is_closed: bool,
    is_newest: bool,
    /// Its closed steps, where all of them can be had.
    steps: Option<(i64, i64)>,
}

/// What a filling does to the rows above it.
struct Rises {
    closed: Vec<Run>,
    /// Archive but the finest, and the steps of its open row where they can be had.
    open: Vec<(usize, Option<Vec<f64>>)>,
    change: Change,
}

impl Store {
    /// Fills the late readings of a frame that has been applied in all else. The caller holds no lock.
    pub(super) fn fill_late(
        &self,
        instance: &Instance,
        seq: u64,
        late: &[Sample],
        verdicts: &mut Verdicts,
    ) {
        let is_one_filled = {
            let state = lock(&instance.state);
            late.iter().any(|sample| matches!(state.late(sample).0, Late::Fills(_)))
        };
        // A round that is writing this file right now is waited for; what only counts waits for nothing.
        let _shared = is_one_filled.then(|| read(&instance.tiles));
        for sample in late {
            match self.fill_one(instance, seq, sample) {
                Late::Fills(_) => verdicts.stored += 1,
                Late::Duplicate => verdicts.duplicate += 1,
                Late::Ignored => verdicts.late += 1,
            }
        }
    }

    fn fill_one(&self, instance: &Instance, seq: u64, sample: &Sample) -> Late {
        let (late, filling) = {
            let state = lock(&instance.state);
            match state.late(sample) {
                (late, Some(filling)) => (late, filling),
                (late, None) => return late,
            }
        };
        let rises = filling.rises(self, instance);
        // Only the worker, which is here, changes where a series stands.
        filling.put(&mut lock(&instance.state), seq, rises);
        late
    }
}

impl State {
    fn late(&self, sample: &Sample) -> (Late, Option<Filling>) {
        let step = self.form.policy.step();
        let Some(series) = self.series(sample.column) else { return (Late::Ignored, None) };
        let Some((birth_row, newest_row)) = series.closed_rows(step) else {
            return (Late::Ignored, None);
        };
        let row_count = self.form.archives[0].row_count;
        let reach = Reach { birth_row, newest_row, row_count };
        let value = series.class.kept.cell.kept(sample.value);
        let late =
            series.head.late(&series.class.definition, reach, step, (sample.at, sample.value));
        let Late::Fills(row) = late else { return (late, None) };
        if value.is_nan() {
            return (Late::Ignored, None);
        }
        let form = Arc::clone(&self.form);
        let (column, class) = (sample.column, *series.class);
        (late, Some(Filling { column, class, form, reach, row, value }))
    }
}

impl Filling {
    /// The rows above the step, the closed ones as far as their archives still have them.
    fn above(&self) -> impl Iterator<Item = Above> {
        let of = |archive: usize| {
            let spec = self.form.archives[archive];
            let width = spec.width(self.form.policy.step());
            let row = width.newest(self.row - 1) + 1;
            let newest = width.newest(self.reach.newest_row);
            let is_kept = row > newest.saturating_sub_unsigned(spec.row_count);
            is_kept.then(|| Above {
                archive,
                row,
                is_closed: row <= newest,
                is_newest: self.row == width.end(row),
                steps: self.reach.steps(row, width),
            })
        };
        (1..self.form.archives.len()).filter_map(of)
    }

    /// Works out the rows above. Where what they need cannot be read they stay as they are, since
    /// unknown is better than wrong.
    fn rises(&self, store: &Store, instance: &Instance) -> Rises {
        let look = Look { store, instance, column: self.column, form: &self.form };
        let spans = self.above().filter_map(|above| above.steps);
        let (first, last) = spans.fold((self.row, self.row), |(first, last), (from, to)| {
            (first.min(from), last.max(to))
        });
        let all = look.steps(first, last);
        let old = match &all {
            Some(steps) => Some(steps[place(self.row - first)]),
            None => look.steps(self.row, self.row).map(|steps| steps[0]),
        };
        let mut rises = Rises {
            closed: Vec::new(),
            open: Vec::new(),
            change: Change { old: old.unwrap_or(f64::NAN), new: self.value, is_newest: false },
        };
        if old.is_none() {
            return rises;
        }
        for above in self.above() {
            let steps = above.steps.zip(all.as_ref()).map(|((from, to), all)| {
                let mut steps = all[place(from - first)..=place(to - first)].to_vec();
                steps[place(self.row - from)] = self.value;
                steps
            });
            if !above.is_closed {
                rises.open.push((above.archive - 1, steps));
            } else if let Some(before) = look.row(above.archive, above.row) {
                let change = Change { is_newest: above.is_newest, ..rises.change };
                let cell = self.class.kept.cell;
                rises.closed.push(before.replaced(change, steps.as_deref(), cell));
            }
        }
        rises
    }

    /// Lets memory have the step and what follows from it.
    fn put(&self, state: &mut State, seq: u64, rises: Rises) {
        let Column { index, .. } = self.column;
        let State { form, columns, waiting, repaired, .. } = state;
        let Some(mut open) = Arc::make_mut(columns).open(index as usize) else { return };
        open.head.touch(self.row, self.reach.newest_row);
        for (coarser, steps) in rises.open {
            let begun = form.grid.begun(coarser, self.reach.newest_row);
            open.replace((coarser, begun), rises.change, steps.as_deref());
        }
        let fine = Run::of_equal(0, self.row, 1, (self.value, 1));
        for run in rises.closed.iter().chain([&fine]) {
            waiting.repair(self.column, run);
        }
        repaired.insert(index, seq);
    }
}

/// Where a late reading finds what it replaces.
struct Look<'a> {
    store: &'a Store,
    instance: &'a Instance,
    column: Column,
    form: &'a Form,
}

impl Look<'_> {
    /// Values of rows of the finest archive; `None` where one of them cannot be read.
    fn steps(&self, first: i64, last: i64) -> Option<Vec<f64>> {
        let (rows, count) = (self.rows(0, first, last)?, place(last - first) + 1);
        (rows.average.len() == count).then_some(rows.average)
    }

    /// One row of an archive.
    fn row(&self, archive: usize, row: i64) -> Option<Run> {
        let rows = self.rows(archive, row, row)?;
        (rows.len() == 1).then(|| rows.run(archive, row, 0))
    }

    fn rows(&self, archive: usize, first: i64, last: i64) -> Option<Rows> {
        let is_broken = Flag::new(false);
        // Readers and the scrubber report it.
        let failed = |_: Damage, _: &io::Error| is_broken.set(true);
        let Self { store, instance, .. } = self;
        let source = Source { handles: &store.handles, instance, failed: &failed, warm: None };
        let step = self.form.archives[archive].step;
        let end = |row| Timestamp::row_end(row, step);
        let span = Span::new(end(first - 1), end(last))?;
        let mut rows = Rows::default();
        source.read_all(&mut rows, (self.column, archive), Seen::all(Some(span)));
        (!is_broken.get()).then_some(rows)
    }
}

fn place(distance: i64) -> usize {
    usize::try_from(distance).expect("rows are looked up from the first on")
}
