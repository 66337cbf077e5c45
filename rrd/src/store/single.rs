//! One archive file by itself, without a journal: made, opened, applied to and committed at once.
//!
//! A commit is a round whose slot is written when all else is synced, so that a kill at any moment
//! leaves the state before or the state after. A commit that would overwrite rows which the state
//! before still shows is made in a copy of the file, and the copy renamed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use super::columns::Class;
use super::first_read::{Problem, Reading};
use super::instance::{Form, Instance};
use super::keys::Keys;
use super::room::fill;
use super::state::NO_ROW;
use super::{Rows, Store, lock};
use crate::codec::{GrantFrame, GrantedSeries};
use crate::disk::lock_file;
use crate::file::{Block, FIRST_BLOCK_AT, HEADER_LEN, Header, Ring};
use crate::handles::Handles;
use crate::series::{self, Definition, Open};
use crate::{Cell, Column, Disk, File, InstanceId, Labels, Policy, Timestamp};

/// Files of a store have ids that enrolment draws, never this one.
const SINGLE: InstanceId = InstanceId(0);
/// No journal numbers them.
const EPOCH: u64 = 1;
/// Bytes before the rows and what describes them.
pub(crate) const SINGLE_HEAD_LEN: u64 = FIRST_BLOCK_AT;
/// Bytes copied at a time.
const COPIED_AT_ONCE: usize = 1 << 20;

/// What somebody wants of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Looks at it while others may write.
    Read,
    /// Has it alone among writers.
    Write,
}

/// One number of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// A decimal number; NaN is unknown.
    Real(f64),
    /// A whole number with all its digits.
    Whole(i128),
}

/// A file to be made.
pub(crate) struct SinglePlan<'a> {
    pub(crate) policy: Policy,
    pub(crate) views: String,
    pub(crate) series: &'a [(Labels, Definition)],
    pub(crate) start: Timestamp,
}

/// Why a file cannot be made, opened or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SingleError {
    #[error("{}", named_once(.path, .reason))]
    Disk { path: PathBuf, reason: io::Error },
    #[error("{}: {what}", .path.display())]
    Unusable { path: PathBuf, what: String },
    #[error("{}: another process is writing it; try again when it has ended", .0.display())]
    Locked(PathBuf),
    #[error("the archives take more than the file's header holds; leave some out")]
    TooManyViews,
}

/// The disk names the file in some of its reasons, and in others it does not.
fn named_once(path: &Path, reason: &io::Error) -> String {
    let (path, reason) = (path.display().to_string(), reason.to_string());
    if reason.starts_with(&path) { reason } else { format!("{path}: {reason}") }
}

/// An open file and its only instance.
pub(crate) struct SingleFile {
    path: PathBuf,
    store: Store,
    instance: Arc<Instance>,
    /// Nothing changes the archives of a file by itself.
    form: Arc<Form>,
    pub(crate) views: String,
    /// As opened: its lock lasts as long as this.
    file: Arc<dyn File>,
}

impl SingleFile {
    /// Makes the file, in place of any that is there. Until it is whole and synced, the former one is.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        path: &Path,
        plan: &SinglePlan<'_>,
    ) -> Result<(), SingleError> {
        let failed = |reason| SingleError::Disk { path: path.to_owned(), reason };
        let header =
            Header { instance: SINGLE, policy: plan.policy.clone(), views: plan.views.clone() };
        if !header.has_room() {
            return Err(SingleError::TooManyViews);
        }
        let width = u32::try_from(plan.series.len()).expect("at most MAX_COLUMNS series");
        let block = Block::plan(&plan.policy, FIRST_BLOCK_AT, 0, width, Cell::F64);
        let unfinished = Unfinished::create(disk, path).map_err(failed)?;
        fill(unfinished.file.as_ref(), &header, std::slice::from_ref(&block)).map_err(failed)?;
        let keys = Arc::default();
        let instance =
            Instance::new(SINGLE, Path::new(""), Form::of(plan.policy.clone()), Arc::clone(&keys));
        let instance = Arc::new(Instance { path: path.to_owned(), ..instance });
        instance.set_layout(vec![block]);
        instance.begin_all(plan, &keys);
        let store = Store::of_one(disk, &instance, keys);
        store.handles.hold(SINGLE, Arc::clone(&unfinished.file));
        store.write_one(1).map_err(failed)?;
        unfinished.take_its_place(disk).map_err(failed)
    }

    /// Opens the file at its newest committed state.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        path: &Path,
        access: Access,
    ) -> Result<Self, SingleError> {
        let failed = |reason| SingleError::Disk { path: path.to_owned(), reason };
        let file = loop {
            let file = disk.open(path).map_err(failed)?;
            let Some(os_file) = file.os_file().filter(|_| access == Access::Write) else {
                break file;
            };
            match lock_file(os_file, path) {
                Ok(true) => break file,
                Ok(false) => {} // It was replaced between opening and locking.
                Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => {
                    return Err(SingleError::Locked(path.to_owned()));
                }
                Err(reason) => return Err(failed(reason)),
            }
        };
        let unusable = |Problem(what)| SingleError::Unusable { path: path.to_owned(), what };
        let views = read_views(file.as_ref()).map_err(unusable)?;
        let keys = Arc::default();
        let (dir, keys) = (Path::new(""), &keys);
        let reading = Reading { id: SINGLE, path, dir, file: file.as_ref(), keys };
        let (instance, _remark) = reading.instance(u64::MAX).map_err(unusable)?;
        let instance = Arc::new(instance);
        let store = Store::of_one(disk, &instance, Arc::clone(keys));
        store.handles.hold(SINGLE, Arc::clone(&file));
        let form = instance.form();
        Ok(Self { path: path.to_owned(), store, instance, form, views, file })
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.form.policy
    }

    /// Its series in order of column: what names them, what they are, where they stand.
    pub(crate) fn series(&self) -> Vec<(Labels, Definition, Open)> {
        let state = lock(&self.instance.state);
        let grid = &self.form.grid;
        let labels = |key: &[u8]| Labels::from_key(key).unwrap_or_default();
        let all = state.all_series();
        all.map(|series| (labels(series.key.bytes()), series.class.definition, series.open(grid)))
            .collect()
    }

    /// Takes one value of each series, read at `at`, which is after every earlier one.
    pub(crate) fn apply(&self, at: Timestamp, values: &[Value]) {
        let mut state = lock(&self.instance.state);
        state.is_dirty = true;
        for (index, value) in values.iter().enumerate() {
            state.for_each(&[index], |class, phase, open, keep| {
                let definition = &class.definition;
                let verdict = match *value {
                    Value::Real(value) => series::take(definition, phase, open, (at, value), keep),
                    Value::Whole(value) => {
                        series::take_whole(definition, phase, open, (at, value), keep)
                    }
                };
                debug_assert_eq!(verdict, series::Verdict::Stored, "later than all before");
            });
        }
    }

    /// Gives a series another name or meaning; one whose kind changes forgets its last reading.
    pub(crate) fn redefine(&self, index: usize, labels: &Labels, definition: Definition) {
        let mut state = lock(&self.instance.state);
        let seq = state.applied_seq + 1;
        state.is_dirty = true;
        let Some(series) = state.series_at(index) else { return };
        let (birth, kept, former) = (series.birth, series.class.kept, series.class.definition);
        let key = self.store.keys.intern(&labels.to_key());
        let names = Arc::make_mut(&mut state.names);
        names.set(index, key, birth);
        names.change_catalogue(0, seq);
        let class = state.class(Class { definition, kept });
        if let Some(open) = Arc::make_mut(&mut state.columns).open(index) {
            open.head.class = class;
            if former.kind != definition.kind {
                open.head.forget_reading();
            }
        }
    }

    /// The rows of an archive that are kept, oldest first, none of them hidden.
    pub(crate) fn rows(&self, index: u32, archive: usize) -> Rows {
        let column = Column { index, generation: 1 };
        self.store.stored_rows(&self.instance, column, archive, None).0
    }

    /// What was found broken since it was opened, in words.
    pub(crate) fn damage(&self) -> Option<String> {
        self.store.damage().first().map(|damage| damage.what.clone())
    }

    /// Writes and syncs what was applied. On an error the file is as it was.
    pub(crate) fn commit(&self, disk: &Arc<dyn Disk>) -> Result<(), SingleError> {
        let failed = |reason| SingleError::Disk { path: self.path.clone(), reason };
        let seq = lock(&self.instance.state).applied_seq + 1;
        if self.fits_beside_the_state_before() {
            return self.store.write_one(seq).map_err(failed);
        }
        let unfinished = Unfinished::create(disk, &self.path).map_err(failed)?;
        copy(self.file.as_ref(), unfinished.file.as_ref()).map_err(failed)?;
        self.store.handles.hold(SINGLE, Arc::clone(&unfinished.file));
        self.store.write_one(seq).map_err(failed)?;
        unfinished.take_its_place(disk).map_err(failed)
    }

    /// True where no tile is written but the one that the next row goes to: its place is the spare
    /// one of the ring, or its older rows stay as they are.
    fn fits_beside_the_state_before(&self) -> bool {
        let layout = self.instance.layout();
        let state = lock(&self.instance.state);
        let rings = || layout.iter().flat_map(|block| &block.rings);
        let step = self.form.policy.step();
        state.all_series().all(|series| {
            let filed = state.filed.row(series.index);
            let newest_row = series.head.opened(step).row(step);
            filed != NO_ROW
                && rings().all(|ring| {
                    let next = ring.newest(filed) + 1;
                    Ring::tile_of(ring.newest(newest_row)) <= Ring::tile_of(next)
                })
        })
    }
}

impl Store {
    fn of_one(disk: &Arc<dyn Disk>, instance: &Arc<Instance>, keys: Arc<Keys>) -> Self {
        let instances = BTreeMap::from([(SINGLE, Arc::clone(instance))]);
        Self {
            dir: PathBuf::new(),
            handles: Arc::new(Handles::new(Arc::clone(disk))),
            warm: super::Warm::default(),
            instances: RwLock::new(instances),
            keys,
            directory: super::Directory::default(),
            unavailable: RwLock::default(),
            leftovers: Mutex::default(),
            given_up: Mutex::default(),
            damage: Mutex::default(),
            advanced_to: Mutex::new(Timestamp::MIN),
            last_form: Mutex::default(),
            is_replaying: AtomicBool::new(false),
            wants_round: AtomicBool::new(false),
        }
    }

    fn write_one(&self, seq: u64) -> io::Result<()> {
        let report = self.begin_round(seq, EPOCH).with_slots_last().write();
        if let Some((_, reason)) = report.failed.into_iter().next() {
            return Err(io::Error::other(reason));
        }
        self.finish_round(seq);
        Ok(())
    }
}

impl Instance {
    fn begin_all(&self, plan: &SinglePlan<'_>, keys: &Keys) {
        let layout = self.layout();
        let mut state = lock(&self.state);
        state.is_granted = true;
        state.is_dirty = true;
        let series = (0..).zip(plan.series);
        let series = series
            .map(|(index, (labels, definition))| GrantedSeries {
                column: Column { index, generation: 1 },
                labels: labels.clone(),
                kind: definition.kind,
                heartbeat_ms: definition.heartbeat_ms,
                cell: Cell::F64,
                min: definition.min,
                max: definition.max,
            })
            .collect();
        let (policy, labels) = (plan.policy.clone(), Labels::default());
        let frame = GrantFrame { instance: SINGLE, policy, labels, series };
        self.define(&mut state, &layout, 1, &frame, |key| keys.intern(key));
        let form = Arc::clone(&state.form);
        let begun = Open::begin(plan.start, &form.archives);
        for index in 0..state.columns.len() {
            Arc::make_mut(&mut state.names).bear(index, begun.birth);
            if let Some(mut open) = Arc::make_mut(&mut state.columns).open(index) {
                begun.store(&mut open, &form.grid);
            }
        }
    }
}

/// A file beside the one it is to replace. Dropped before, it is removed.
struct Unfinished<'a> {
    disk: &'a Arc<dyn Disk>,
    file: Arc<dyn File>,
    path: PathBuf,
    becomes: &'a Path,
    is_finished: bool,
}

impl<'a> Unfinished<'a> {
    fn create(disk: &'a Arc<dyn Disk>, becomes: &'a Path) -> io::Result<Self> {
        let mut name = becomes.as_os_str().to_owned();
        name.push(".new");
        let path = PathBuf::from(name);
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(&path)?;
        Ok(Self { disk, file, path, becomes, is_finished: false })
    }

    fn take_its_place(mut self, disk: &Arc<dyn Disk>) -> io::Result<()> {
        disk.rename(&self.path, self.becomes)?;
        self.is_finished = true;
        let dir = self.becomes.parent().filter(|dir| !dir.as_os_str().is_empty());
        disk.sync_dir(dir.unwrap_or(Path::new(".")))
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // Best effort: what is left over is removed by whoever comes next.
            drop(self.disk.remove(&self.path));
        }
    }
}

fn copy(from: &dyn File, to: &dyn File) -> io::Result<()> {
    let len = from.len()?;
    to.allocate(0, len)?;
    let mut buffer = vec![0; COPIED_AT_ONCE];
    let mut at = 0;
    while at < len {
        let part = (len - at).min(COPIED_AT_ONCE as u64);
        let bytes = &mut buffer[..usize::try_from(part).expect("at most a mebibyte")];
        from.read_at(bytes, at)?;
        to.write_at(bytes, at)?;
        at += part;
    }
    Ok(())
}

fn read_views(file: &dyn File) -> Result<String, Problem> {
    let mut bytes = [0; HEADER_LEN];
    file.read_at(&mut bytes, 0)?;
    let header = Header::decode(&bytes).map_err(Problem)?;
    if header.instance != SINGLE || header.views.is_empty() {
        let what = "an archive of a server; ask the server for its rows";
        return Err(Problem(what.to_owned()));
    }
    Ok(header.views)
}
