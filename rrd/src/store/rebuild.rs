//! The round's part of a change of archives: the new file is written beside the old one, and takes its
//! name once the journal's record says that the round counts.
//!
//! `<id>.next` is there, allocated in full, before the frame of the change is appended. A restart
//! gives it the archive's name if its slot is not above the checkpoint; otherwise it is but room.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::anchors::Anchors;
use super::build::{BuiltSeries, Whole, fill, remove_if_there};
use super::change::Derived;
use super::columns::Series;
use super::former::Former;
use super::instance::{Form, Growth, Instance};
use super::read::Source;
use super::round::Begun;
use super::state::State;
use super::{Store, lock, read, repair, write};
use crate::file::{Block, Header};
use crate::handles::Handles;
use crate::series::Run;
use crate::waiting::{repairs_of, with_repairs};
use crate::{Anchor, Column, Damage, Disk, File, InstanceId};

/// One instance of a round whose archives have changed since its file was written.
pub(super) struct Rebuild {
    begun: Begun,
    former: Arc<Former>,
}

impl Rebuild {
    /// What is to be written of an instance, whose state is locked.
    pub(super) fn of(
        instance: &Arc<Instance>,
        state: &mut State,
        former: Arc<Former>,
        seq: u64,
    ) -> Self {
        let begun = Begun::of(instance, state, seq);
        if let Some(round) = &mut state.round {
            round.successor = Some(begun.generations());
        }
        Self { begun, former }
    }

    pub(super) fn instance(&self) -> InstanceId {
        self.begun.instance.id
    }

    /// Writes the new file and syncs it; nobody reads it yet.
    pub(super) fn write(self, handles: &Handles, seq: u64, epoch: u64) -> io::Result<u64> {
        let Begun { instance, form, labels, .. } = &self.begun;
        let layout = form.lay_all(&self.begun.layout);
        repair::put_back(handles.file(instance.id, &instance.path)?.as_ref(), instance)?;
        for fold in self.former.folds() {
            let member = fold.member();
            if !lock(&member.state).torn.is_empty() {
                repair::put_back(handles.file(member.id, &member.path)?.as_ref(), member)?;
            }
        }
        let file = match handles.disk().open(&instance.next_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                reserve(handles.disk(), instance, form, &layout)?
            }
            found => found?,
        };
        let (policy, batch) = (&form.policy, self.begun.batch);
        let whole = Whole { instance: instance.id, policy, labels, batch, seq, epoch };
        let series = self.begun.places().map(|(column, tenant)| {
            (column, tenant.map(|tenant| self.series(column, tenant, handles)))
        });
        let built = fill(file.as_ref(), &whole, &layout, series)?;
        let mut state = lock(&instance.state);
        if let Some(round) = state.round.as_mut().filter(|round| round.seq == seq) {
            round.filed = Some(built.filed);
        }
        Ok(built.bytes)
    }

    fn series(&self, column: Column, tenant: Series<'_>, handles: &Handles) -> BuiltSeries {
        let form = &self.begun.form;
        let rows = (0..form.archives.len()).map(|archive| self.rows(column, archive, handles));
        BuiltSeries {
            key: tenant.key.bytes().into(),
            generation: column.generation,
            definition: tenant.class.definition,
            cell: tenant.class.kept.cell,
            open: tenant.open(&form.grid),
            rows: rows.collect(),
            anchors: self.anchors(&tenant, handles),
        }
    }

    fn anchors(&self, tenant: &Series<'_>, handles: &Handles) -> Vec<Anchor> {
        let (instance, form) = (self.begun.instance.as_ref(), &*self.begun.form);
        let Some(mut anchors) = Anchors::of(form, tenant, Anchors::always()) else {
            return Vec::new();
        };
        anchors.add_waiting(self.begun.frozen.iter().rev().map(Arc::as_ref));
        let failed = |damage: Damage, _: &io::Error| {
            tracing::error!(%damage, "lost in a change of archives");
        };
        let source = Source { handles, instance, failed: &failed, warm: None };
        let (former, column) = (&*self.former, tenant.column());
        let _shared = read(&instance.tiles);
        Derived { former, source: &source, column, form }.add_anchors(&mut anchors);
        anchors.into_kept()
    }

    fn rows(&self, column: Column, archive: usize, handles: &Handles) -> Vec<Run> {
        // A tile that cannot be read is named in the log: afterwards it is gone with its file.
        let failed = |damage: Damage, _: &io::Error| {
            tracing::error!(%damage, "lost in a change of archives");
        };
        let instance = self.begun.instance.as_ref();
        let source = Source { handles, instance, failed: &failed, warm: None };
        let (former, form) = (&*self.former, &*self.begun.form);
        let derived = Derived { former, source: &source, column, form };
        let mut rows = {
            let _shared = read(&instance.tiles);
            derived.rows(archive, i64::MIN..i64::MAX)
        };
        let mut later = Vec::new();
        for waiting in self.begun.frozen.iter().rev() {
            later.extend(waiting.runs(column.index, column.generation, archive));
        }
        later.reverse();
        rows.extend(later);
        let frozen = self.begun.frozen.iter().map(Arc::as_ref);
        with_repairs(rows, &repairs_of(frozen, column, archive))
    }
}

impl Store {
    /// Puts the new files of the round at `seq` into the place of the old ones, and removes those of
    /// instances that are no more. The journal's record must say that the round counts.
    pub fn install(&self, seq: u64) {
        self.let_go_of_given_up(seq);
        let mut all = self.all();
        // Members go when their role has what they hold.
        all.sort_by_key(|instance| lock(&instance.state).is_removed);
        for instance in all {
            let mut state = lock(&instance.state);
            let is_removed = state.is_removed;
            // Of a file that failed, which the record excepts, nothing counts.
            let written = state.round.as_mut().filter(|round| {
                round.seq == seq && round.filed.is_some() && round.successor.is_some()
            });
            let is_due = written.map(|round| round.counts = true).is_some();
            drop(state);
            if is_due {
                match self.put_in_place(&instance) {
                    Ok(()) => self.resume(instance.id),
                    Err(reason) => {
                        self.ask_for_round();
                        let what = format!("cannot take its place: {reason}; check the disk");
                        self.report(instance.damage(what));
                    }
                }
            }
            if is_removed {
                self.let_go(&instance);
            }
        }
    }

    fn put_in_place(&self, instance: &Instance) -> io::Result<()> {
        let mut growth = lock(&instance.growing);
        put_in_place(&self.handles, &self.dir, instance, &mut growth)
    }

    /// Takes an instance out whose file is gone: it may come again as a new one.
    fn let_go(&self, instance: &Instance) {
        let mut growth = lock(&instance.growing);
        let is_gone = {
            let state = lock(&instance.state);
            state.is_removed && state.round.is_none() && !state.is_dirty
        };
        if is_gone {
            growth.is_abandoned = true;
            self.resume(instance.id);
            write(&self.instances).remove(&instance.id);
        }
    }
}

/// What [`Store::install`] could not do, once more: until it is done no other round may write.
pub(super) fn retry(handles: &Handles, instance: &Instance) -> io::Result<()> {
    let mut growth = lock(&instance.growing);
    let dir = instance.path.parent().unwrap_or(Path::new("."));
    put_in_place(handles, dir, instance, &mut growth)
}

/// Renames (or removes) and lets memory follow, while nobody reads the file and none is granted.
fn put_in_place(
    handles: &Handles,
    dir: &Path,
    instance: &Instance,
    growth: &mut Growth,
) -> io::Result<()> {
    let disk = handles.disk();
    instance.check_rolled_up(None)?;
    let mut alone = write(&instance.tiles);
    alone.change();
    if lock(&instance.state).is_removed {
        remove_if_there(disk, &instance.path)?;
    } else {
        disk.rename(&instance.next_path(), &instance.path)?;
    }
    handles.forget(instance.id);
    let mut state = lock(&instance.state);
    let layout = state.form.lay_all(&instance.layout());
    instance.set_layout(layout);
    let former = state.former.take();
    if let Some(round) = state.round.take() {
        let seq = round.seq;
        state.succeed(round);
        state.folded_upto = seq;
        let now = (instance.layout(), state.filed.clone());
        let left = former.and_then(|former| former.after(seq, &state.form, now));
        state.former = left.map(Arc::new);
    }
    state.rolled_into = None;
    growth.asked = None;
    drop((state, alone));
    // The new file has its name already; should power take it back, the next start gives it again.
    disk.sync_dir(dir)
}

/// Makes `<id>.next` with all its blocks, allocated and synced: the room for a change.
pub(super) fn reserve(
    disk: &dyn Disk,
    instance: &Instance,
    form: &Form,
    layout: &[Block],
) -> io::Result<Arc<dyn File>> {
    let path = instance.next_path();
    remove_if_there(disk, &path)?;
    let file = disk.create(&path)?;
    let end = layout.last().map_or(0, Block::end);
    let policy = form.policy.clone();
    let header = Header { instance: instance.id, policy, views: String::new() };
    let filled = file
        .allocate(0, end)
        .and_then(|()| file.write_at(&header.encode(), 0))
        .and_then(|()| super::room::write_blocks(file.as_ref(), 0, layout))
        .and_then(|()| file.sync_data())
        .and_then(|()| disk.sync_dir(path.parent().unwrap_or(Path::new("."))));
    match filled {
        Ok(()) => Ok(file),
        Err(error) => {
            // Best effort: what is left over is removed with the next round after a start.
            drop(disk.remove(&path));
            Err(error)
        }
    }
}
