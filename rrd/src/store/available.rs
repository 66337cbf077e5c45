//! Which instances' files can be used: a file that fails is set apart, the others go on.

use super::build::remove_if_there;
use super::instance::Instance;
use super::{Store, lock, read, write};
use crate::{Damage, InstanceChange, InstanceId, Timestamp};

impl Store {
    /// True when some instance's file is there and cannot be used.
    pub fn has_unavailable(&self) -> bool {
        !read(&self.unavailable).is_empty()
    }

    /// True when this instance's file is there and cannot be used: nothing is to be taken for it.
    pub fn is_unavailable(&self, instance: InstanceId) -> bool {
        read(&self.unavailable).contains_key(&instance)
    }

    /// The instances whose files cannot be used, with what is wrong.
    pub fn unavailable(&self) -> Vec<Damage> {
        read(&self.unavailable).values().cloned().collect()
    }

    /// True when the instance's state is in memory, whether its file can be used or not.
    pub fn is_loaded(&self, instance: InstanceId) -> bool {
        self.instance(instance).is_some()
    }

    /// True when the instance's archive has been in a round or holds frames: false where it has just
    /// been made, or is not there.
    pub fn has_begun(&self, instance: InstanceId) -> bool {
        self.instance(instance).is_some_and(|instance| lock(&instance.state).applied_seq > 0)
    }

    /// True when the archive of this instance, which cannot be used, is to go with the round at `seq`.
    pub fn is_given_up(&self, instance: InstanceId, seq: u64) -> bool {
        lock(&self.given_up).get(&instance).is_some_and(|&said| said <= seq)
    }

    /// Lets go of archives that could not be used and are to go: the record of the round at `seq` counts.
    pub(super) fn let_go_of_given_up(&self, seq: u64) {
        let due: Vec<_> = lock(&self.given_up).extract_if(.., |_, said| *said <= seq).collect();
        for (id, _) in due {
            let path = self.dir.join(format!("{id}.rrd"));
            let disk = self.handles.disk();
            self.handles.forget(id);
            let removed = remove_if_there(disk, &path.with_extension("next"))
                .and_then(|()| remove_if_there(disk, &path))
                .and_then(|()| disk.sync_dir(&self.dir));
            if let Err(reason) = removed {
                let what =
                    format!("of an instance that was removed, and stays: {reason}; delete it");
                self.report(Damage { instance: Some(id), path, what });
                continue;
            }
            if let Some(damage) = write(&self.unavailable).remove(&id) {
                lock(&self.damage).retain(|known| *known != damage);
            }
        }
    }

    /// Instances in memory.
    pub fn instance_count(&self) -> usize {
        read(&self.instances).len()
    }

    /// Sets an instance apart whose file fails. Memory keeps all of it; each round tries its file
    /// again, and the first that can be finished makes it available again.
    pub fn suspend(&self, instance: InstanceId, what: String) {
        let Some(instance) = self.instance(instance) else { return };
        // A silent one would not be tried again.
        lock(&instance.state).is_dirty = true;
        self.ask_for_round();
        let damage = instance.damage(what);
        write(&self.unavailable).entry(instance.id).or_insert_with(|| damage.clone());
        self.report(damage);
    }

    /// The file of this instance has been written whole.
    pub(super) fn resume(&self, instance: InstanceId) {
        if !self.is_unavailable(instance) {
            return;
        }
        let Some(damage) = write(&self.unavailable).remove(&instance) else { return };
        lock(&self.damage).retain(|known| *known != damage);
        tracing::info!(path = %damage.path.display(), "the archive can be written again");
    }

    /// After a read has failed: a file that is no longer as long as it was made is set apart. One of
    /// which only a part cannot be read has unknown rows there, and goes on.
    pub(super) fn check_length(&self, instance: &Instance) {
        self.handles.forget(instance.id);
        let len = self.handles.file(instance.id, &instance.path).and_then(|file| file.len());
        let made = instance.file_len();
        let what = match len {
            Ok(len) if len < made => format!("cut from {made} to {len} bytes"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "gone".to_owned(),
            _ => return,
        };
        let remedy = "stop the server and restore it from a backup";
        self.suspend(instance.id, format!("{what}; {remedy}"));
    }

    /// Before a frame of this stamp that was set aside is applied: closes the steps of series of its
    /// instance that were silent until then, as [`Store::advance`] did when the frame was new.
    pub fn advance_one(&self, instance: InstanceId, stamp: Timestamp) {
        if let Some(instance) = self.instance(instance) {
            instance.hush(stamp);
        }
    }

    /// Takes over what the registry says of an instance as of frame `seq`, after its frames that were
    /// set aside: changes of the registry are not among them. `ended` is when it went, if it is gone.
    pub fn take_over(&self, seq: u64, told: InstanceChange<'_>, ended: Timestamp) {
        let Some(instance) = self.instance(told.id) else { return };
        let mut state = lock(&instance.state);
        if !state.is_granted || state.is_removed || state.applied_seq > seq {
            return;
        }
        if state.labels != *told.labels && crate::file::write_labels(0, 0, told.labels).is_some() {
            state.labels = told.labels.clone();
            state.labels_seq = seq;
            self.directory.has_changed();
            state.took(seq);
        }
        let lives = |series: super::columns::Series<'_>| !series.head.is_ended();
        if told.is_gone && state.all_series().any(lives) {
            state.took(seq);
            super::apply::end_all(&mut state, ended);
        }
    }
}
