//! Applying frames: the worker's side of the store, in memory only, the same live and in replay.

use std::sync::Arc;

use super::instance::{Instance, block_of};
use super::state::{Series, State};
use super::{Store, lock, write};
use crate::codec::GrantedSeries;
use crate::file::Block;
use crate::series::{self, Definition, Open, Verdict};
use crate::{Damage, GrantFrame, InstanceId, Labels, SampleFrame, StoreError, Timestamp};

/// What became of the samples of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Counted into a step.
    pub stored: u64,
    /// Their step had its reading already, or they repeat the last one.
    pub duplicate: u64,
    /// Older than the last reading, in a step without one.
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
        state.took(seq);
        if frame.batch.number > 0 {
            state.batch = frame.batch;
        }
        let State { columns, waiting, form, .. } = &mut *state;
        for sample in &frame.samples {
            let column = sample.column;
            let series = columns.get_mut(column.index as usize).and_then(Option::as_mut);
            let Some(series) = series.filter(|series| series.generation == column.generation)
            else {
                verdicts.stale_generation += 1;
                continue;
            };
            let cell = series.cell;
            let mut keep = |run| waiting.push(column.index, column.generation, cell, run);
            let Series { definition, open, .. } = series;
            let verdict =
                series::apply(definition, &form.archives, open, sample.at, sample.value, &mut keep);
            match verdict {
                Verdict::Stored => {
                    open.hear(stamp);
                    verdicts.stored += 1;
                }
                Verdict::Duplicate => verdicts.duplicate += 1,
                Verdict::Late => verdicts.late += 1,
            }
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
        }
        for granted in &frame.series {
            instance.define(&mut state, &layout, seq, granted);
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

impl Instance {
    /// Begins a series in its column, whoever lived there before, and makes it resolvable; live, its
    /// grant has done that already.
    fn define(&self, state: &mut State, layout: &[Block], seq: u64, granted: &GrantedSeries) {
        let index = granted.column.index as usize;
        if index >= state.columns.len() {
            state.columns.resize_with(index + 1, || None);
        }
        let archive_count = state.form.archives.len();
        state.filed.grow(index + 1, archive_count);
        if let Some(former) = &state.columns[index] {
            if former.generation >= granted.column.generation {
                return;
            }
            let column = crate::Column { generation: former.generation, ..granted.column };
            write(&self.index).remove(layout, &former.key, column);
        }
        state.filed.forget(index);
        state.vacant.remove(&granted.column.index);
        if let Some((number, _)) = block_of(layout, granted.column.index) {
            state.catalogue_seqs.insert(number, seq);
        }
        let key: Arc<[u8]> = granted.labels.to_key().into();
        write(&self.index).insert(layout, &key, granted.column);
        state.columns[index] = Some(Series {
            key,
            generation: granted.column.generation,
            cell: granted.cell,
            definition: Definition {
                kind: granted.kind,
                heartbeat_ms: granted.heartbeat_ms,
                min: granted.min,
                max: granted.max,
            },
            open: Open::unborn(archive_count - 1),
        });
    }

    fn hush(&self, stamp: Timestamp) {
        let mut state = lock(&self.state);
        let State { columns, waiting, is_dirty, form, .. } = &mut *state;
        for (index, series) in (0..).zip(columns) {
            let Some(Series { generation, cell, definition, open, .. }) = series else { continue };
            let mut keep = |run| {
                *is_dirty = true;
                waiting.push(index, *generation, *cell, run);
            };
            series::silence(definition, &form.archives, open, stamp, &mut keep);
        }
    }
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
fn end_all(state: &mut State, stamp: Timestamp) {
    let State { columns, waiting, form, .. } = state;
    for (index, series) in (0..).zip(columns) {
        let Some(Series { definition, open, cell, generation, .. }) = series else { continue };
        let mut keep = |run| waiting.push(index, *generation, *cell, run);
        // A sender whose clock is ahead has readings later than the marker, which would be ignored.
        let at = stamp.max(open.last.plus_millis(1));
        series::apply(definition, &form.archives, open, at, f64::NAN, &mut keep);
    }
}
