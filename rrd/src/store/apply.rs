//! Applying frames: the worker's side of the store, in memory only, the same live and in replay.

use std::sync::Arc;

use super::columns::Class;
use super::instance::{Form, Instance, block_of};
use super::keys::Key;
use super::other::Going;
use super::state::{NO_ROW, State, number_of};
use super::taking::{Hearing, Taken};
use super::{Store, lock, write};
use crate::codec::GrantedSeries;
use crate::file::Block;
use crate::series::{self, Definition, Head, OpenMut, Out, Phase, Run};
use crate::waiting::{Kept, Waiting};
use crate::{
    Anchor, Column, Damage, GrantFrame, InstanceId, Labels, SampleFrame, StoreError, Timestamp,
};

/// Classes of an instance beyond which no heartbeat is learned: series differ in kind, cell and minutes of
/// heartbeat, unless an import gave each limits of its own.
const MOST_CLASSES: usize = 40_000;

/// What became of the samples of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Counted into a step.
    pub stored: u64,
    /// Their step had its reading already, or they repeat the last one.
    pub duplicate: u64,
    /// Older than the last reading, in a step without one that it may not fill: it is of a counter, or
    /// the step is not among the last 128.
    pub late: u64,
    /// For a column that no series has, or whose series is another by now.
    pub stale_generation: u64,
}

/// What the registry says of an instance.
#[derive(Clone, Copy, Debug)]
pub struct InstanceChange<'a> {
    /// Which one.
    pub id: InstanceId,
    /// All its labels, in place of the former ones.
    pub labels: &'a Labels,
    /// It said goodbye or was withdrawn: its series end.
    pub is_gone: bool,
}

impl Store {
    /// Applies samples. A frame that was applied before changes nothing and counts nothing.
    pub fn apply(&self, seq: u64, stamp: Timestamp, frame: &SampleFrame) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let Some(instance) = self.instance(frame.instance) else {
            self.report_lost(frame.instance);
            verdicts.stale_generation = frame.samples.len() as u64;
            return verdicts;
        };
        let mut state = lock(&instance.state);
        if seq <= state.applied_seq {
            return verdicts;
        }
        if state.is_removed {
            verdicts.stale_generation = frame.samples.len() as u64;
            return verdicts;
        }
        state.took(seq);
        if frame.batch.number > 0 {
            state.batch = frame.batch;
        }
        let second = Head::second_of(stamp);
        state.listen(second);
        // Our agents number their batches and are told how often to read.
        let learns = state.form.policy.heartbeat_ms().is_none() && frame.batch.number == 0;
        let taken = state.take(&frame.samples, Hearing { second, learns });
        let Taken { births, late, learned, .. } = taken;
        verdicts = taken.verdicts;
        let names = &mut state.names;
        if !births.is_empty() {
            let names = Arc::make_mut(names);
            for (index, birth) in births {
                names.bear(index, birth);
            }
            names.settle();
        }
        if !learned.is_empty() {
            let (layout, names) = (instance.layout(), Arc::make_mut(names));
            for number in learned.iter().filter_map(|&index| Some(block_of(&layout, index)?.0)) {
                names.change_catalogue(number, seq);
            }
        }
        if !late.is_empty() {
            drop(state);
            self.fill_late(&instance, seq, &late, &mut verdicts);
        }
        verdicts
    }

    /// Says that samples acknowledged while the instance's file was whole have nowhere to go.
    fn report_lost(&self, id: InstanceId) {
        if self.is_unavailable(id) {
            let path = self.dir.join(format!("{id}.rrd"));
            let what = "samples that the journal holds for it are not applied";
            self.report(Damage { instance: Some(id), path, what: what.to_owned() });
        }
    }

    /// Gives columns to series. Applied again it changes nothing.
    pub fn apply_grant(&self, seq: u64, frame: &GrantFrame) -> Result<(), StoreError> {
        let id = frame.instance;
        let instance = self.instance(id).ok_or(StoreError::NoArchive(id))?;
        let layout = instance.layout();
        let mut state = lock(&instance.state);
        for granted in &frame.series {
            check_place(id, &layout, &state, granted)?;
        }
        if seq <= state.applied_seq {
            return Ok(());
        }
        if !state.is_granted {
            state.is_granted = true;
            state.labels = frame.labels.clone();
            state.labels_seq = seq;
            self.directory.has_changed();
        }
        let going = Going::of(&instance, &mut state, frame);
        instance.define(&mut state, &layout, seq, frame, |bytes| self.keys.intern(bytes));
        if let Some(going) = going {
            going.fold(&mut state, seq);
            if state.has_many_folds() {
                self.ask_for_round();
            }
        }
        state.took(seq);
        Ok(())
    }

    /// Takes over what the registry says of an instance in the frame of this number and stamp. One
    /// that has no series yet gets its labels with them.
    pub fn apply_instance(
        &self,
        seq: u64,
        stamp: Timestamp,
        told: InstanceChange<'_>,
    ) -> Result<(), StoreError> {
        let Some(instance) = self.instance(told.id) else { return Ok(()) };
        if crate::file::write_labels(0, 0, told.labels).is_none() {
            return Err(StoreError::LabelsTooLong(told.id));
        }
        let mut state = lock(&instance.state);
        if seq <= state.applied_seq || !state.is_granted || state.is_removed {
            return Ok(());
        }
        if state.labels != *told.labels {
            state.labels = told.labels.clone();
            state.labels_seq = seq;
            self.directory.has_changed();
            state.took(seq);
        }
        if told.is_gone {
            state.took(seq);
            end_all(&mut state, stamp);
        }
        Ok(())
    }

    /// Moves journal time on: closes the open steps of series that were silent for a heartbeat.
    pub fn advance(&self, stamp: Timestamp) {
        let mut advanced_to = lock(&self.advanced_to);
        if stamp <= *advanced_to {
            return;
        }
        *advanced_to = stamp;
        for instance in self.all() {
            instance.hush(stamp);
        }
    }
}

impl State {
    /// Notes that readings were heard in this second, so that silence is looked for in time.
    fn listen(&mut self, second: u32) {
        let least_ms = self.classes.iter().map(|class| class.definition.heartbeat_ms).min();
        let least_ms = i64::try_from(least_ms.unwrap_or(0)).unwrap_or(i64::MAX);
        let until = match second {
            0 => Timestamp::MIN,
            _ => Timestamp::from_secs(i64::from(second)).plus_millis(least_ms),
        };
        self.hushed_until = self.hushed_until.min(until);
    }
}

/// Where the worker puts what samples bring about.
pub(super) struct Keep<'a> {
    pub(super) waiting: &'a mut Waiting,
    column: (u32, u32),
    kept: Kept,
    pub(super) newest_row: i64,
    pub(super) birth: Option<Timestamp>,
}

impl<'a> Keep<'a> {
    pub(super) fn into(waiting: &'a mut Waiting, column_count: usize) -> Self {
        waiting.grow(column_count);
        let kept = Kept { cell: crate::Cell::F64, last: false };
        Self { waiting, column: (0, 0), kept, newest_row: NO_ROW, birth: None }
    }

    /// What follows is of this series.
    #[inline]
    pub(super) const fn of(&mut self, column: Column, kept: Kept) {
        self.column = (column.index, column.generation);
        self.kept = kept;
    }
}

impl Out for Keep<'_> {
    fn fine(&mut self, first_row: i64, count: u64, value: f64) {
        self.newest_row = self.newest_row.max(first_row.saturating_add_unsigned(count - 1));
        self.waiting.push_equal(self.column, self.kept, (first_row, count), value);
    }

    #[inline]
    fn one(&mut self, row: i64, value: f64) {
        self.newest_row = self.newest_row.max(row);
        self.waiting.push_one(self.column, self.kept, row, value);
    }

    #[cold]
    fn marked(&mut self, run: &Run) {
        let newest = run.first_row.saturating_add_unsigned(run.count - 1);
        self.newest_row = self.newest_row.max(newest);
        self.coarse(run);
    }

    fn anchor(&mut self, anchor: Anchor) {
        self.waiting.push_anchor(self.column, anchor);
    }

    fn coarse(&mut self, run: &Run) {
        let (column, generation) = self.column;
        self.waiting.push(column, generation, self.kept, run);
    }

    #[inline]
    fn born(&mut self, birth: Timestamp) {
        self.birth = Some(birth);
    }
}

impl Instance {
    /// Begins series in their columns, whoever lived there before, and makes them resolvable; live,
    /// their grant has done that already.
    pub(super) fn define(
        &self,
        state: &mut State,
        layout: &[Block],
        seq: u64,
        frame: &GrantFrame,
        intern: impl Fn(&[u8]) -> Arc<Key>,
    ) {
        let last = frame.series.iter().map(|granted| granted.column.index).max();
        let count = last.map_or(0, |last| last as usize + 1);
        state.grow(count);
        let archive_count = state.form.archives.len();
        state.filed.grow(count, archive_count);
        let mut keyed = Vec::with_capacity(frame.series.len());
        for granted in &frame.series {
            let key = intern(&granted.labels.to_key());
            if self.begin(state, layout, seq, granted, &key) {
                keyed.push((key, granted.column));
            }
        }
        let mut index = write(&self.index);
        index.insert(layout, keyed);
        // The index is ahead of the worker: what it has may be more.
        if index.is_of(state.names.roster()) {
            Arc::make_mut(&mut state.names).share(index.roster());
        }
    }

    /// False where a later series lives in the column.
    fn begin(
        &self,
        state: &mut State,
        layout: &[Block],
        seq: u64,
        granted: &GrantedSeries,
        key: &Arc<Key>,
    ) -> bool {
        let index = granted.column.index as usize;
        let former = state.series_at(index);
        let is_new = former.is_none();
        if let Some(former) = former {
            if former.head.generation >= granted.column.generation {
                return false;
            }
            write(&self.index).remove(layout, former.key, former.column());
        }
        state.filed.forget(index);
        let names = Arc::make_mut(&mut state.names);
        if let Some((number, _)) = block_of(layout, granted.column.index) {
            names.change_catalogue(number, seq);
        }
        names.set(index, Arc::clone(key), Timestamp::MIN);
        let class = state.class(class(&state.form, granted));
        let columns = Arc::make_mut(&mut state.columns);
        columns.begin(index, Head::unborn(granted.column.generation, class));
        if is_new {
            state.series_count += 1;
        } else {
            state.look_for_newest(state.form.policy.step());
        }
        true
    }

    /// Closes the open steps of series that have been silent for a heartbeat.
    pub(super) fn hush(&self, stamp: Timestamp) {
        let mut state = lock(&self.state);
        if stamp <= state.hushed_until {
            return;
        }
        let (due, next) = state.silent(stamp, state.form.policy.step());
        state.hushed_until = next;
        if due.is_empty() {
            return;
        }
        state.is_dirty = true;
        state.for_each(&due, |class, phase, open, keep| {
            series::hush(&class.definition, phase, open, stamp, keep);
        });
    }
}

impl State {
    /// Changes the series of these columns.
    pub(super) fn for_each(
        &mut self,
        indices: &[usize],
        change: impl Fn(&Class, &mut Phase<'_>, &mut OpenMut<'_>, &mut Keep<'_>),
    ) {
        let Self { form, columns, classes, waiting, newest_row, .. } = self;
        let columns = Arc::make_mut(columns);
        let mut keep = Keep::into(waiting, columns.len());
        let mut phase = Phase::new(&form.grid);
        for &place in indices {
            let (Some(mut open), Ok(index)) = (columns.open(place), u32::try_from(place)) else {
                continue;
            };
            let class = &classes[usize::from(open.head.class)];
            keep.of(Column { index, generation: open.head.generation }, class.kept);
            change(class, &mut phase, &mut open, &mut keep);
        }
        *newest_row = keep.newest_row.max(*newest_row);
    }
}

/// The number of the class that is as another but for a wider heartbeat.
#[cold]
pub(super) fn widened(classes: &mut Arc<Vec<Class>>, number: u16, heartbeat_ms: u64) -> u16 {
    let former = classes[usize::from(number)];
    if classes.len() >= MOST_CLASSES {
        return number;
    }
    let definition = Definition { heartbeat_ms, ..former.definition };
    number_of(classes, Class { definition, ..former })
}

fn class(form: &Form, granted: &GrantedSeries) -> Class {
    let definition = Definition {
        kind: granted.kind,
        heartbeat_ms: granted.heartbeat_ms,
        min: granted.min,
        max: granted.max,
    };
    Class { definition, kept: Kept { cell: granted.cell, last: form.policy.keeps_last() } }
}

fn check_place(
    id: InstanceId,
    layout: &[Block],
    state: &State,
    granted: &GrantedSeries,
) -> Result<(), StoreError> {
    let column = granted.column;
    match block_of(layout, column.index) {
        Some((_, block)) if state.form.cell(block) == granted.cell => Ok(()),
        _ => Err(StoreError::NoBlock { instance: id, column }),
    }
}

/// A marker for every series: unknown from its last reading on, until there is another.
pub(super) fn end_all(state: &mut State, stamp: Timestamp) {
    let all: Vec<usize> = state.all_series().map(|series| series.index).collect();
    state.for_each(&all, |class, phase, open, keep| {
        // A sender whose clock is ahead has readings later than the marker, which would be ignored.
        let at = stamp.max(open.head.last().plus_millis(1));
        series::take(&class.definition, phase, open, (at, f64::NAN), keep);
        // The marker opens a step. Of a series that has been silent it is closed at once: after a start
        // silence is looked for anew, and would close it when the same stamp comes again.
        series::hush(&class.definition, phase, open, stamp, keep);
    });
    // The steps that are left open are to be closed as after a start.
    state.hushed_until = Timestamp::MIN;
}
