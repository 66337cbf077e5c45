//! Asking for a change of one instance: room on disk first, then the journal; applying it comes after.

use std::sync::Arc;

use super::grant::is_full;
use super::instance::{Form, Growth, Instance, block_of};
use super::rebuild::reserve;
use super::restep::can_become;
use super::state::{InRound, State};
use super::{Store, lock, write};
use crate::codec::Change;
use crate::file::{Block, FIRST_BLOCK_AT};
use crate::series::Head;
use crate::{ArchiveSpec, ChangeError, ChangeFrame, Column, InstanceId, Policy, Step, StoreError};

/// What a change of archives comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangePlan {
    /// The policy there is.
    pub former: Policy,
    /// Bytes of the archive there is; they come back when the change is done.
    pub file_len: u64,
    /// Bytes of the new archive, which must be free beside it until then.
    pub needed: u64,
    /// Rows that go.
    pub loses: Vec<Loss>,
}

/// Rows of one kind that are kept for less time than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Which: their width, and of which zone they are days.
    pub rows: ArchiveSpec,
    /// Milliseconds that they have been kept for.
    pub kept_ms: u64,
    /// Milliseconds that they will be kept for: 0 where none are left. Where days of another zone
    /// take their place, how far these can be made back, from narrower rows.
    pub keeps_ms: u64,
    /// Days of another zone take their place.
    pub is_other_days: bool,
    /// Wider rows are kept, to which they have been added.
    pub has_wider: bool,
}

impl Loss {
    fn all(former: &Policy, policy: &Policy) -> Vec<Self> {
        let all = former.archives().iter().map(|one| Self::of(*one, former, policy));
        all.filter(|loss| loss.keeps_ms < loss.kept_ms).collect()
    }

    fn of(rows: ArchiveSpec, former: &Policy, policy: &Policy) -> Self {
        let reach = |one: &ArchiveSpec| one.step.as_millis().saturating_mul(one.row_count);
        let same = policy.archives().iter().find(|new| new.step == rows.step);
        let other_days = same.filter(|new| !new.has_rows_of(&rows));
        let keeps_ms = other_days.map_or_else(
            || same.map_or(0, reach),
            |days| {
                let parts = former.archives().iter().filter(|one| is_part_of_days(one, days));
                parts.map(reach).max().unwrap_or(0).min(reach(days))
            },
        );
        Self {
            rows,
            kept_ms: reach(&rows),
            keeps_ms,
            is_other_days: other_days.is_some(),
            has_wider: policy.archives().iter().any(|new| new.step > rows.step),
        }
    }
}

/// Whether whole rows of `one` make a row of `days`.
fn is_part_of_days(one: &ArchiveSpec, days: &ArchiveSpec) -> bool {
    let fits = |step: Step| match days.days {
        Some(calendar) => calendar.fits(step),
        None => days.step.as_millis().is_multiple_of(step.as_millis()),
    };
    one.step < days.step && fits(one.step)
}

impl Store {
    /// Checks a change, makes the room it needs, and hands its frame to `append`, whose answer is
    /// given back. On an error nothing has been changed. Only one change of archives, and no
    /// removal beside it, is under way for an instance: until the round that covers its frame.
    pub fn change<E>(
        &self,
        id: InstanceId,
        change: Change,
        append: &mut dyn FnMut(&ChangeFrame) -> Result<u64, E>,
    ) -> Result<u64, ChangeError<E>> {
        let Some(instance) = self.instance(id) else {
            return match change {
                // Of an archive that cannot be used nothing is known but that it is to go.
                Change::Remove if self.is_unavailable(id) => {
                    append(&ChangeFrame { instance: id, change }).map_err(ChangeError::Append)
                }
                _ => Err(ChangeError::NoInstance(id)),
            };
        };
        let mut growth = lock(&instance.growing);
        instance.check_change(&growth, &change)?;
        let asked = match &change {
            Change::Policy(policy) => Some(self.make_room_for(&instance, policy)?),
            Change::Drop(_) | Change::Remove | Change::RollUp(_) => None,
        };
        let is_leaving = matches!(change, Change::Remove | Change::RollUp(_));
        let seq = match append(&ChangeFrame { instance: id, change }) {
            Ok(seq) => seq,
            Err(refused) => {
                if asked.is_some() {
                    // Best effort: what is left over is removed after the next start.
                    drop(self.handles.disk().remove(&instance.next_path()));
                }
                return Err(ChangeError::Append(refused));
            }
        };
        if asked.is_some() {
            growth.asked = asked;
        }
        growth.is_leaving |= is_leaving;
        Ok(seq)
    }

    /// What a change to this policy would need and lose. Errors where it would be refused.
    pub fn plan_change<E>(
        &self,
        id: InstanceId,
        policy: &Policy,
    ) -> Result<ChangePlan, ChangeError<E>> {
        let instance = self.instance(id).ok_or(ChangeError::NoInstance(id))?;
        let growth = lock(&instance.growing);
        instance.check_change(&growth, &Change::Policy(policy.clone()))?;
        let layout = Form::of(policy.clone()).lay_all(&instance.layout());
        let former = instance.form().policy.clone();
        Ok(ChangePlan {
            file_len: instance.file_len(),
            needed: layout.last().map_or(FIRST_BLOCK_AT, Block::end),
            loses: Loss::all(&former, policy),
            former,
        })
    }

    fn make_room_for<E>(
        &self,
        instance: &Instance,
        policy: &Policy,
    ) -> Result<Arc<Form>, ChangeError<E>> {
        self.make_room_of(instance, Form::of(policy.clone()))
    }

    /// Makes `<id>.next`, with all columns there are, for archives of this form.
    pub(super) fn make_room_of<E>(
        &self,
        instance: &Instance,
        form: Arc<Form>,
    ) -> Result<Arc<Form>, ChangeError<E>> {
        let layout = form.lay_all(&instance.layout());
        match reserve(self.handles.disk(), instance, &form, &layout) {
            Ok(_) => Ok(form),
            Err(reason) if is_full(&reason) => {
                let needed = layout.last().map_or(FIRST_BLOCK_AT, Block::end);
                Err(ChangeError::DiskFull { instance: instance.id, needed })
            }
            Err(reason) => Err(ChangeError::Disk { instance: instance.id, reason }),
        }
    }

    /// Applies a change. Applied again it changes nothing.
    pub fn apply_change(&self, seq: u64, frame: &ChangeFrame) -> Result<(), StoreError> {
        let id = frame.instance;
        let Some(instance) = self.instance(id) else {
            let goes = matches!(frame.change, Change::Remove | Change::RollUp(_));
            if !goes || !self.is_unavailable(id) {
                return Err(StoreError::NoArchive(id));
            }
            lock(&self.given_up).insert(id, seq);
            self.ask_for_round();
            return Ok(());
        };
        if seq <= lock(&instance.state).applied_seq {
            return Ok(());
        }
        match &frame.change {
            Change::Policy(policy) => self.apply_policy(&instance, seq, policy),
            Change::Drop(columns) => instance.drop_series(seq, columns),
            Change::Remove => instance.remove(seq),
            Change::RollUp(role) => self.apply_roll_up(&instance, seq, *role),
        }
        self.ask_for_round();
        Ok(())
    }
}

impl Instance {
    pub(super) fn check_change<E>(
        &self,
        growth: &Growth,
        change: &Change,
    ) -> Result<(), ChangeError<E>> {
        let state = lock(&self.state);
        if !state.is_granted || !growth.has_file || growth.is_leaving || state.is_removed {
            return Err(ChangeError::NoInstance(self.id));
        }
        let is_under_way = growth.asked.is_some() || state.former.is_some();
        match change {
            Change::Policy(_) | Change::Remove | Change::RollUp(_) if is_under_way => {
                Err(ChangeError::UnderWay(self.id))
            }
            Change::Policy(policy) if !can_become(&state.form.policy, policy) => {
                let (instance, finest) = (self.id, state.form.policy.step());
                Err(ChangeError::OtherStep { instance, finest })
            }
            Change::Drop(columns) => match columns.iter().find(|c| state.series(**c).is_none()) {
                Some(&column) => Err(ChangeError::NoSeries { instance: self.id, column }),
                None => Ok(()),
            },
            Change::Policy(_) | Change::Remove | Change::RollUp(_) => Ok(()),
        }
    }

    /// Ends series for good: their columns are free for others.
    fn drop_series(&self, seq: u64, columns: &[Column]) {
        let layout = self.layout();
        let mut state = lock(&self.state);
        for &column in columns {
            self.vacate(&mut state, &layout, seq, column);
        }
        let step = state.form.policy.step();
        state.look_for_newest(step);
        state.took(seq);
    }

    fn vacate(&self, state: &mut State, layout: &[Block], seq: u64, column: Column) {
        let Some(key) = state.series(column).map(|series| Arc::clone(series.key)) else { return };
        let place = column.index as usize;
        let names = Arc::make_mut(&mut state.names);
        names.vacate(column);
        if let Some((number, _)) = block_of(layout, column.index) {
            names.change_catalogue(number, seq);
        }
        Arc::make_mut(&mut state.columns).begin(place, Head::none());
        state.filed.forget(place);
        state.series_count -= 1;
        write(&self.index).vacate(layout, &key, column);
    }

    /// Nothing of it is shown any more; its file goes with the next round that counts.
    pub(super) fn remove(&self, seq: u64) {
        let mut state = lock(&self.state);
        let form = Arc::clone(&state.form);
        let filed = std::mem::take(&mut state.filed);
        // What a round is writing still counts: it says which slot the next one must leave alone.
        let begun = state.round.take().filter(|round| round.successor.is_none());
        let round = begun.map(|round| InRound { frozen_count: 0, ..round });
        *state = State { is_granted: true, is_removed: true, filed, round, ..State::of(form) };
        state.took(seq);
        write(&self.index).clear();
    }
}
