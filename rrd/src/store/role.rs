//! Asking a role to take over a member that is to go: columns first, then room for its file, then the journal.

use std::sync::Arc;

use super::instance::{Growth, Instance};
use super::restep::can_become;
use super::rolled::named;
use super::{Store, lock};
use crate::{
    Change, ChangeError, ChangeFrame, GrantError, GrantFrame, GrantRequest, InstanceId, Kind,
    Labels, NewSeries, Policy, Room,
};

/// Members that a role takes over between two rounds: the next one reads all that they have.
const MOST_FOLDS: usize = 256;

/// Series of one grant frame, two of which belong together: of the longest labels that many fit a frame of
/// the smallest journal.
const SERIES_IN_FRAME: usize = 200;

/// A member that is to go, and the role that is to have its rows.
#[derive(Clone, Copy, Debug)]
pub struct RollUp<'a> {
    /// Who goes.
    pub member: InstanceId,
    /// Whose archive takes the rows; made if it is not there.
    pub role: InstanceId,
    /// Labels of the role, where it is made.
    pub labels: &'a Labels,
    /// What the role may have; columns are not taken from one series for another.
    pub room: Room,
}

/// What the journal is told, in this order.
#[derive(Clone, Copy, Debug)]
pub enum RollUpFrame<'a> {
    /// Columns of the role for series that it has not had so far.
    Grant(&'a GrantFrame),
    /// The member goes.
    Change(&'a ChangeFrame),
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolledUp {
    /// The frame with which the member goes.
    pub seq: u64,
    /// Its series.
    pub series: usize,
    /// Those of them whose rows go, because the role has no column for them.
    pub left_out: usize,
}

/// What a role is asked to hand to the journal.
type Append<'a, E> = &'a mut dyn FnMut(RollUpFrame<'_>) -> Result<u64, E>;

impl Store {
    /// Removes an instance once the archive of its role has its rows. On an error nothing of it has
    /// been changed; at worst the role has columns without rows.
    pub fn roll_up<E>(
        &self,
        wanted: RollUp<'_>,
        append: Append<'_, E>,
    ) -> Result<RolledUp, ChangeError<E>> {
        let RollUp { member: id, role, .. } = wanted;
        let member = self.instance(id).ok_or(ChangeError::NoInstance(id))?;
        if id == role {
            return Err(refused(role, "it is the role itself; remove it instead"));
        }
        let series = member.legacy();
        let taken = self.grant_role(&wanted, (&member, &series), append)?;
        let taker = self.instance(role).ok_or_else(|| {
            refused(role, "it has room for none of its series; raise what it may have")
        })?;
        // In this order everywhere: a role never goes into another.
        let mut of_role = lock(&taker.growing);
        let mut of_member = lock(&member.growing);
        let change = Change::RollUp(role);
        member.check_change(&of_member, &change)?;
        taker.check_taking(&of_role, &member)?;
        let reserved = self.make_room_to_take(&taker, &of_role)?;
        let frame = ChangeFrame { instance: id, change };
        let seq = append(RollUpFrame::Change(&frame)).map_err(|refused| {
            if reserved.is_some() {
                // Best effort: what is left over is removed after the next start.
                drop(self.handles.disk().remove(&taker.next_path()));
            }
            ChangeError::Append(refused)
        })?;
        if reserved.is_some() {
            of_role.asked = reserved;
        }
        of_member.is_leaving = true;
        Ok(RolledUp { seq, series: series.len(), left_out: series.len() - taken })
    }

    /// Gives a role columns, with room on the disk, for the series of a member that may go some day.
    /// Answers how many of its series find none.
    pub fn prepare_role<E>(
        &self,
        wanted: RollUp<'_>,
        append: Append<'_, E>,
    ) -> Result<usize, ChangeError<E>> {
        let id = wanted.member;
        let member = self.instance(id).ok_or(ChangeError::NoInstance(id))?;
        let series = member.legacy();
        let taken = self.grant_role(&wanted, (&member, &series), append)?;
        Ok(series.len() - taken)
    }

    /// Gives the role columns for these series; answers for how many of them it has both.
    fn grant_role<E>(
        &self,
        wanted: &RollUp<'_>,
        (member, series): (&Instance, &[(Labels, Kind)]),
        append: Append<'_, E>,
    ) -> Result<usize, ChangeError<E>> {
        let RollUp { role, labels, room, .. } = *wanted;
        let named = series.iter().filter_map(|(labels, kind)| named(labels, *kind));
        let new = |labels| NewSeries { labels, kind: Kind::Gauge, first_reading: None };
        let series: Vec<_> = named.flatten().map(|(_, labels)| new(labels)).collect();
        let policy = role_policy(&member.form().policy);
        let mut append = |frame: &GrantFrame| append(RollUpFrame::Grant(frame));
        let (mut bytes, mut taken) = (room.bytes, 0);
        for series in series.chunks(SERIES_IN_FRAME) {
            let before = self.archive_bytes(role);
            let room = Room { reuse_after_ms: u64::MAX, bytes, ..room };
            let request = GrantRequest { instance: role, policy: &policy, labels, series };
            let granted = self.grant_within(room, request, &mut append);
            let granted = granted.map_err(|error| cannot_grant(role, error))?;
            taken += granted.chunks(2).filter(|pair| pair.iter().all(Result::is_ok)).count();
            bytes = bytes.saturating_sub(self.archive_bytes(role).saturating_sub(before));
        }
        Ok(taken)
    }

    /// `None` where the room is there, for a member that goes with the same round.
    fn make_room_to_take<E>(
        &self,
        role: &Instance,
        growth: &Growth,
    ) -> Result<Option<Arc<super::instance::Form>>, ChangeError<E>> {
        let is_under_way = growth.asked.is_some() || lock(&role.state).former.is_some();
        if is_under_way {
            return Ok(None);
        }
        self.make_room_of(role, role.form()).map(Some)
    }
}

impl Instance {
    /// What a role would take over of it, in order of column.
    fn legacy(&self) -> Vec<(Labels, Kind)> {
        let state = lock(&self.state);
        let born = state.all_series().filter(|series| !series.head.is_unborn());
        let series = born.filter_map(|series| {
            let labels = Labels::from_key(series.key.bytes()).ok()?;
            Some((labels, series.class.definition.kind))
        });
        series.collect()
    }

    /// Errors where this role cannot take a member over now.
    fn check_taking<E>(&self, growth: &Growth, member: &Self) -> Result<(), ChangeError<E>> {
        let state = lock(&self.state);
        if !growth.has_file || growth.is_leaving || state.is_removed {
            return Err(ChangeError::NoInstance(self.id));
        }
        // A role asks for room for the archives that it has.
        let is_asked = |policy: &Policy| growth.asked.as_ref().is_some_and(|a| a.policy != *policy);
        let is_other_change = is_asked(&state.form.policy)
            || state.former.as_ref().is_some_and(|former| former.folds().is_empty());
        let folds = state.former.as_ref().map_or(0, |former| former.folds().len());
        if is_other_change || folds >= MOST_FOLDS {
            return Err(ChangeError::UnderWay(self.id));
        }
        let form = Arc::clone(&state.form);
        drop(state);
        let finest = form.policy.step();
        if !can_become(&member.form().policy, &form.policy) {
            return Err(ChangeError::OtherStep { instance: self.id, finest });
        }
        Ok(())
    }
}

fn refused<E>(role: InstanceId, why: &str) -> ChangeError<E> {
    ChangeError::Role { role, why: why.to_owned() }
}

fn cannot_grant<E>(role: InstanceId, error: GrantError<E>) -> ChangeError<E> {
    match error {
        GrantError::DiskFull { instance, needed } => ChangeError::DiskFull { instance, needed },
        GrantError::Disk { instance, reason } => ChangeError::Disk { instance, reason },
        GrantError::Leaving(id) => ChangeError::UnderWay(id),
        GrantError::Append(refused) => ChangeError::Append(refused),
        GrantError::Unavailable(id) => {
            refused(role, &format!("archive {id} cannot be used; restore it from a backup"))
        }
        GrantError::LabelsTooLong(_) => refused(role, "its labels are too long; shorten them"),
    }
}

/// The archives of a role's members, in f64: what is added a thousand times shall not be rounded
/// each time. Of a day the hour that one lived is worth showing, so that nearly all of a row may be unknown.
fn role_policy(member: &Policy) -> Policy {
    let archives = member.to_string();
    let archives = archives.split(';').next().unwrap_or_default();
    let text = format!("{archives};f64;xff=0.9999");
    text.parse().unwrap_or_else(|_| member.clone())
}
