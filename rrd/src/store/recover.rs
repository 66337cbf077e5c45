//! Opening: each file's newest state not above the checkpoint. Replay brings the rest.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use super::first_read::{Problem, Reading};
use super::instance::Instance;
use super::scratch::Scratch;
use super::state::State;
use super::warm::Warm;
use super::{Store, write};
use crate::file::{SLOT_LEN, Slot, slot_at};
use crate::handles::Handles;
use crate::{Damage, Disk, InstanceId, StoreError, Timestamp};

impl Store {
    /// Opens the folder of archives, as they were at the checkpoint `upto`: what later rounds have
    /// written is passed over. A file that cannot be used is left in its place and reported, and its
    /// instance is not there.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        upto: u64,
    ) -> Result<(Self, Vec<Damage>), StoreError> {
        Self::open_excepting(disk, dir, upto, &BTreeMap::new())
    }

    /// [`Store::open`] where some files stand at a sequence number of their own, below `upto`: the
    /// rounds since then failed for them, and what those have left in them does not count.
    pub fn open_excepting(
        disk: Arc<dyn Disk>,
        dir: &Path,
        upto: u64,
        excepted: &BTreeMap<InstanceId, u64>,
    ) -> Result<(Self, Vec<Damage>), StoreError> {
        let folder = |reason| StoreError::Folder { path: dir.to_owned(), reason };
        disk.create_dir(dir).map_err(folder)?;
        // After kill -9 names may only be in the cache, and grants are acknowledged on their word.
        disk.sync_dir(dir).map_err(folder)?;
        let paths = disk.list(dir).map_err(folder)?;
        let mut store = Self {
            dir: dir.to_owned(),
            handles: Arc::new(Handles::new(disk)),
            warm: Warm::default(),
            instances: RwLock::default(),
            keys: Arc::default(),
            directory: super::Directory::default(),
            unavailable: RwLock::default(),
            leftovers: Mutex::default(),
            given_up: Mutex::default(),
            damage: Mutex::default(),
            advanced_to: Mutex::new(Timestamp::MIN),
            last_form: Mutex::default(),
            is_replaying: AtomicBool::new(false),
            wants_round: AtomicBool::new(false),
        };
        let (mut archives, mut nexts) = (Vec::new(), Vec::new());
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                // A file whose making was cut short; nothing of it was acknowledged.
                Some("new") => store.handles.disk().remove(&path).map_err(folder)?,
                Some("rrd") => archives.push(path),
                Some("next") => nexts.push(path),
                _ => {}
            }
        }
        let archives = store.settle_changes(nexts, archives, (upto, excepted)).map_err(folder)?;
        for opened in store.open_files(&archives, upto, excepted) {
            store.take(opened);
        }
        store.miss(excepted, &archives);
        let damage = store.damage();
        Ok((store, damage))
    }

    /// Reads all files, in their order; a fleet's are shared out among threads.
    fn open_files(
        &self,
        paths: &[PathBuf],
        upto: u64,
        excepted: &BTreeMap<InstanceId, u64>,
    ) -> Vec<Opened> {
        let share = paths.len().div_ceil(MOST_THREADS).max(FILES_WORTH_A_THREAD);
        let open_all = |paths: &[PathBuf]| -> Vec<Opened> {
            let mut scratch = Scratch::default();
            let open = |path: &PathBuf| self.open_file(path, (upto, excepted), &mut scratch);
            paths.iter().map(open).collect()
        };
        let Some((own, others)) = paths.split_at_checked(share) else { return open_all(paths) };
        std::thread::scope(|scope| {
            let shares = others.chunks(share).map(|paths| scope.spawn(move || open_all(paths)));
            let threads: Vec<_> = shares.collect();
            let mut opened = open_all(own);
            for thread in threads {
                match thread.join() {
                    Ok(share) => opened.extend(share),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            opened
        })
    }

    /// Sets the instances apart whose files wait to be written and are not there: a new one in the place
    /// of such a file would be taken for it.
    fn miss(&self, excepted: &BTreeMap<InstanceId, u64>, found: &[PathBuf]) {
        for &id in excepted.keys() {
            let path = self.dir.join(format!("{id}.rrd"));
            if !found.contains(&path) && !self.is_unavailable(id) {
                let what = GONE_WHILE_EXCEPTED.to_owned();
                let damage = Damage { instance: Some(id), path, what };
                write(&self.unavailable).insert(id, damage.clone());
                self.report(damage);
            }
        }
    }

    /// Removes the file of an instance that is no more, as the round that counts would have.
    fn finish_removal(&self, instance: &Instance) {
        self.handles.forget(instance.id);
        let disk = self.handles.disk();
        if let Err(reason) = disk.remove(&instance.path).and_then(|()| disk.sync_dir(&self.dir)) {
            let what = format!("of an instance that was removed, and stays: {reason}; delete it");
            self.report(instance.damage(what));
        }
    }

    /// Gives the files of changes that count the names of archives; what counts not is but room.
    /// Answers the archives that can be opened.
    fn settle_changes(
        &mut self,
        nexts: Vec<PathBuf>,
        mut archives: Vec<PathBuf>,
        at: Checkpoints<'_>,
    ) -> io::Result<Vec<PathBuf>> {
        if nexts.is_empty() {
            return Ok(archives);
        }
        for path in nexts {
            let Some(id) = id_of(&path) else { continue };
            let archive = path.with_extension("rrd");
            match self.settle_change(&path, &archive, counted(id, at)) {
                Ok(true) if !archives.contains(&archive) => archives.push(archive),
                Ok(true) => {}
                Ok(false) => {
                    // The disk wants its room back.
                    *self.wants_round.get_mut() = true;
                    let leftovers = self.leftovers.get_mut();
                    leftovers.unwrap_or_else(std::sync::PoisonError::into_inner).insert(id);
                }
                Err(Problem(what)) => {
                    // Nobody knows which of the two is the archive.
                    archives.retain(|known| *known != archive);
                    let damage = Damage { instance: Some(id), path, what };
                    self.take(Opened { instance: None, damage: Some(damage) });
                }
            }
        }
        self.handles.disk().sync_dir(&self.dir)?;
        archives.sort_unstable();
        Ok(archives)
    }

    /// True where the file of a change is the archive from now on.
    fn settle_change(&self, path: &Path, archive: &Path, upto: u64) -> Result<bool, Problem> {
        let disk = self.handles.disk();
        let counts = counts(disk, path, upto)?;
        if counts {
            disk.rename(path, archive)?;
        }
        Ok(counts)
    }

    fn open_file(&self, path: &Path, at: Checkpoints<'_>, scratch: &mut Scratch) -> Opened {
        let Some(id) = id_of(path) else {
            let what = "not the name of an archive; move it away".to_owned();
            let damage = Damage { instance: None, path: path.to_owned(), what };
            return Opened { instance: None, damage: Some(damage) };
        };
        let damage = |what| Damage { instance: Some(id), path: path.to_owned(), what };
        // Not kept open: there are more files than may be, and few are asked for soon.
        let read = self.handles.disk().open(path).map_err(Problem::from).and_then(|file| {
            file.expect_scattered_reads();
            let keys = &self.keys;
            let reading = Reading { id, path, dir: &self.dir, file: file.as_ref(), keys };
            reading.instance_with(scratch, counted(id, at))
        });
        match read {
            Ok((mut instance, remark)) => {
                if at.1.contains_key(&id) {
                    // Until a round has written it, the record must go on naming it.
                    state_of(&mut instance).is_dirty = true;
                }
                Opened { instance: Some(instance), damage: remark.map(damage) }
            }
            Err(Problem(what)) => Opened { instance: None, damage: Some(damage(what)) },
        }
    }

    fn take(&mut self, Opened { instance, damage }: Opened) {
        match (instance, &damage) {
            (Some(mut instance), _) => {
                if state_of(&mut instance).is_removed {
                    return self.finish_removal(&instance);
                }
                let instances = self.instances.get_mut();
                let instances = instances.unwrap_or_else(std::sync::PoisonError::into_inner);
                instances.insert(instance.id, Arc::new(instance));
            }
            (None, Some(damage)) => {
                if let Some(id) = damage.instance {
                    write(&self.unavailable).insert(id, damage.clone());
                }
            }
            (None, None) => {}
        }
        if let Some(damage) = damage {
            self.report(damage);
        }
    }
}

const GONE_WHILE_EXCEPTED: &str = "missing, and the last rounds could not write it; restore it from a \
                                   backup, or reclaim the instance";

/// The checkpoint, and those of files that stand at their own.
type Checkpoints<'a> = (u64, &'a BTreeMap<InstanceId, u64>);

/// What is later in the file of an instance does not count.
fn counted(id: InstanceId, (upto, excepted): Checkpoints<'_>) -> u64 {
    excepted.get(&id).map_or(upto, |&own| own.min(upto))
}

fn id_of(path: &Path) -> Option<InstanceId> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn state_of(instance: &mut Instance) -> &mut State {
    instance.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// True where a slot of a new file is not above the checkpoint: then it counts. Later rounds may have
/// written either, if its name did not last.
fn counts(disk: &dyn Disk, path: &Path, upto: u64) -> io::Result<bool> {
    let file = disk.open(path)?;
    for copy in 0..2 {
        let mut bytes = [0; SLOT_LEN];
        match file.read_at(&mut bytes, slot_at(copy)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if Slot::decode(&bytes).is_some_and(|slot| 0 < slot.seq && slot.seq <= upto) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Fewer are read sooner than a thread is started.
const FILES_WORTH_A_THREAD: usize = 64;
/// Threads mostly wait for the disk, which serves several at once, however few processors there are.
const MOST_THREADS: usize = 16;

/// What became of a file.
struct Opened {
    /// `None` where it cannot be used.
    instance: Option<Instance>,
    damage: Option<Damage>,
}
