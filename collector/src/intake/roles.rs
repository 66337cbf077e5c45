//! Roles: the archive of an instance that goes leaves its rows to that of its role.
//!
//! The role is the instance's label `role`. Its archive is an instance of the store that the registry
//! does not know: nobody sends for it, and it has no life that could end.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use rrd::{Change, ChangeError, InstanceId, Labels, RollUp, RollUpFrame, RolledUp, Room};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::instances::Archive;
use super::{Denial, Inner, Intake};
use crate::registry::Instance;

/// The label that names the role of an instance.
const ROLE: &str = "role";
/// Series of a role, two for each of its members': what one file takes.
const SERIES_OF_ROLE: usize = rrd::MAX_COLUMNS;

/// The archive of a role.
struct Role {
    id: InstanceId,
    labels: Labels,
}

impl Role {
    /// That of an instance; `None` where it has none.
    fn of(instance: &Instance) -> Option<Self> {
        let name = instance.labels.get(ROLE).filter(|name| !name.is_empty())?;
        let labels =
            Labels::default().with("job", "rollup").with("instance", name).with(ROLE, name);
        Some(Self { id: id_of(name), labels })
    }

    fn takes(&self, member: InstanceId, bytes: u64) -> RollUp<'_> {
        let room = Room { most: SERIES_OF_ROLE, bytes, ..Room::default() };
        RollUp { member, role: self.id, labels: &self.labels, room }
    }
}

/// The archive of the role of this name, the same at every server. Below those of instances, which are
/// made of all 128 bits: what is set aside for a role is applied before what is set aside for its members.
fn id_of(name: &str) -> InstanceId {
    let digest: [u8; 32] = Sha256::digest(format!("roundel role {name}")).into();
    let (half, _) = digest.split_first_chunk::<8>().expect("32 bytes have 8");
    InstanceId(u128::from(u64::from_le_bytes(*half)))
}

/// A role as the list shows it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: String,
    name: String,
    labels: BTreeMap<String, String>,
    /// END of its newest row, which may be later than now: members' rows end with the widest.
    newest_ms: Option<i64>,
    archive: Archive,
}

/// The roles that have an archive, by name. They are no instances: the registry knows none of them.
pub(super) async fn list(
    State(intake): State<Intake>,
    headers: HeaderMap,
) -> Result<Json<Vec<Shown>>, Denial> {
    intake.0.reader(&headers)?;
    let shown = |info: rrd::InstanceInfo| {
        let name = info.labels.get(ROLE)?.to_owned();
        // The archive of a role has an id of its name; an instance may have the same labels.
        (info.id == id_of(&name)).then(|| Shown {
            id: info.id.to_string(),
            name,
            labels: info.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            newest_ms: (info.newest > rrd::Timestamp::MIN).then(|| info.newest.as_millis()),
            archive: Archive::from(info),
        })
    };
    let instances = intake.0.parts.store.instances();
    let mut roles: Vec<_> = instances.into_iter().filter_map(shown).collect();
    roles.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(roles))
}

impl Inner {
    /// Has the archive of an instance go, its rows left to its role where it has one and that can take
    /// them. Waits for the disk; answers the frame. [`ChangeError::UnderWay`] of the role is for now.
    pub(super) fn append_leaving(
        &self,
        id: InstanceId,
    ) -> Result<u64, ChangeError<journal::Refused>> {
        let instance = self.parts.registry.instance(id);
        let Some(role) = instance.as_deref().and_then(Role::of) else {
            return self.append_change(id, Change::Remove);
        };
        match self.leave_to(&role, id) {
            Ok(RolledUp { seq, series, left_out }) => {
                tracing::info!(instance = %id, role = %role.labels, series, left_out, "left its rows to its role");
                Ok(seq)
            }
            Err(error @ (ChangeError::Append(_) | ChangeError::UnderWay(_))) => Err(error),
            Err(reason) => {
                tracing::warn!(instance = %id, role = %role.labels, %reason, "goes without leaving its rows");
                self.append_change(id, Change::Remove)
            }
        }
    }

    /// Gives the role of an instance that is gone columns for its series, so that there is room for its rows
    /// when its archive has to go for want of room.
    pub(super) fn prepare_role(&self, instance: &Instance) {
        let Some(role) = Role::of(instance) else { return };
        let before = self.parts.store.archive_bytes(role.id);
        let wanted = role.takes(instance.id, self.disk_room());
        match self.parts.store.prepare_role(wanted, &mut |frame| self.append_of_role(frame)) {
            Ok(0) | Err(ChangeError::NoInstance(_)) => {}
            Ok(left_out) => {
                tracing::warn!(instance = %instance.id, left_out, "its role has no column for some series");
            }
            Err(reason) => {
                tracing::warn!(instance = %instance.id, %reason, "its role cannot be prepared");
            }
        }
        self.has_grown(role.id, before);
    }

    fn leave_to(
        &self,
        role: &Role,
        member: InstanceId,
    ) -> Result<RolledUp, ChangeError<journal::Refused>> {
        let before = self.parts.store.archive_bytes(role.id);
        let wanted = role.takes(member, self.disk_room());
        let done = self.parts.store.roll_up(wanted, &mut |frame| self.append_of_role(frame));
        self.has_grown(role.id, before);
        done
    }

    fn append_of_role(&self, frame: RollUpFrame<'_>) -> Result<u64, journal::Refused> {
        let (kind, body) = match frame {
            RollUpFrame::Grant(grant) => (rrd::FRAME_GRANT, grant.encode()),
            RollUpFrame::Change(change) => (rrd::FRAME_CHANGE, change.encode()),
        };
        self.parts.journal.append(kind, &body)
    }
}
