//! Granting columns: room on disk first, then the journal, then the series can be resolved.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::instance::{Form, Growth, Index, Instance};
use super::keys::Key;
use super::places::Places;
use super::takeover::{self, Room, Silent};
use super::{Store, lock, read, write};
use crate::file::{Block, DirectoryEntry, FIRST_BLOCK_AT, Header, Slot};
use crate::file::{slot_at, write_labels};
use crate::{
    Cell, Column, File, GrantError, GrantFrame, GrantedSeries, InstanceId, Kind, Labels,
    MAX_COLUMNS, Policy, Refusal,
};

/// A series seen for the first time.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSeries {
    /// Labels with `__name__`, without those of the instance.
    pub labels: Labels,
    /// How its readings become rates.
    pub kind: Kind,
    /// The reading it comes with, if one is known: a whole number that f32 would change asks for f64.
    pub first_reading: Option<f64>,
}

/// Series of one instance that need columns.
#[derive(Clone, Copy, Debug)]
pub struct GrantRequest<'a> {
    /// Whose series they are.
    pub instance: InstanceId,
    /// The policy for the instance's file, if it has none yet: a file keeps the one it began with.
    pub policy: &'a Policy,
    /// The labels of the instance, if this is its first grant.
    pub labels: &'a Labels,
    /// The series; those that have a column already keep it.
    pub series: &'a [NewSeries],
}

type Grants = Vec<Result<Column, Refusal>>;

impl Store {
    /// Gives each series a column: allocates and syncs its room, hands one frame to `append`, and only
    /// then lets the series be resolved. Without a new series `append` is not called. On an error
    /// nothing has been granted.
    pub fn grant<E>(
        &self,
        request: GrantRequest<'_>,
        append: &mut dyn FnMut(&GrantFrame) -> Result<u64, E>,
    ) -> Result<Grants, GrantError<E>> {
        self.grant_within(Room::default(), request, append)
    }

    /// As [`Store::grant`], for an instance that may have so many series and no more.
    pub fn grant_within<E>(
        &self,
        room: Room,
        request: GrantRequest<'_>,
        append: &mut dyn FnMut(&GrantFrame) -> Result<u64, E>,
    ) -> Result<Grants, GrantError<E>> {
        let id = request.instance;
        if self.is_unavailable(id) {
            return Err(GrantError::Unavailable(id));
        }
        if write_labels(0, 0, request.labels).is_none() {
            return Err(GrantError::LabelsTooLong(id));
        }
        loop {
            let instance = self.instance_for(&request);
            let mut growth = lock(&instance.growing);
            if !growth.is_abandoned {
                return self.grant_in(&instance, &mut growth, (room, &request), append);
            }
        }
    }

    fn instance_for(&self, request: &GrantRequest<'_>) -> Arc<Instance> {
        if let Some(known) = self.instance(request.instance) {
            return known;
        }
        let mut instances = write(&self.instances);
        let new = || {
            let (form, keys) = (self.form_of(request.policy), Arc::clone(&self.keys));
            Arc::new(Instance::new(request.instance, &self.dir, form, keys))
        };
        Arc::clone(instances.entry(request.instance).or_insert_with(new))
    }

    /// The form of this policy, shared with the instance made before if that has the same.
    fn form_of(&self, policy: &Policy) -> Arc<Form> {
        let mut last = lock(&self.last_form);
        match &*last {
            Some(form) if form.policy == *policy => Arc::clone(form),
            _ => Arc::clone(last.insert(Form::of(policy.clone()))),
        }
    }

    fn grant_in<E>(
        &self,
        instance: &Instance,
        growth: &mut Growth,
        (room, request): (Room, &GrantRequest<'_>),
        append: &mut dyn FnMut(&GrantFrame) -> Result<u64, E>,
    ) -> Result<Grants, GrantError<E>> {
        // After a start the state alone knows it, from the frame.
        if growth.is_leaving || lock(&instance.state).is_removed {
            return Err(GrantError::Leaving(instance.id));
        }
        let layout = instance.layout();
        let forms = Forms::of(instance, growth);
        let plan = {
            let index = read(&instance.index);
            let count = index.len() + request.series.len();
            let silent = if count > room.most && room.reuse_after_ms < u64::MAX {
                let now = *lock(&self.advanced_to);
                takeover::silent(instance, &index, request, (now, room))
            } else {
                Vec::new()
            };
            Plan::of(&forms, &layout, &index, (request, room.most, silent))
        };
        if plan.series.is_empty() {
            if !growth.has_file {
                self.abandon(instance, growth);
            }
            return Ok(plan.answers);
        }
        let needed = grown(&layout, &plan.blocks);
        if needed > room.bytes {
            if !growth.has_file {
                self.abandon(instance, growth);
            }
            return Err(GrantError::DiskFull { instance: instance.id, needed });
        }
        if let Err(reason) = self.make_room(instance, growth, &layout, (&forms, &plan.blocks)) {
            if !growth.has_file {
                self.abandon(instance, growth);
            }
            return Err(refused(instance.id, &layout, &plan.blocks, reason));
        }
        instance.set_layout(layout.iter().chain(&plan.blocks).cloned().collect());
        let labels = {
            let state = lock(&instance.state);
            if state.is_granted { state.labels.clone() } else { request.labels.clone() }
        };
        let Plan { answers, series, names, taken, .. } = plan;
        let policy = forms.asked().policy.clone();
        let frame = GrantFrame { instance: instance.id, policy, labels, series };
        append(&frame).map_err(GrantError::Append)?;
        let layout = instance.layout();
        let keys = names.into_iter().map(|name| match name {
            Named::Known(key) => key,
            Named::New(bytes) => self.keys.intern(&bytes),
        });
        let columns = frame.series.iter().map(|granted| granted.column);
        let keyed: Vec<_> = keys.zip(columns).collect();
        let mut index = write(&instance.index);
        for former in &taken {
            index.remove(&layout, &former.key, former.column());
        }
        index.insert(&layout, keyed);
        Ok(answers)
    }

    /// Takes an instance that never got a file out again, as if it had never been asked for.
    fn abandon(&self, instance: &Instance, growth: &mut Growth) {
        growth.is_abandoned = true;
        write(&self.instances).remove(&instance.id);
    }

    fn make_room(
        &self,
        instance: &Instance,
        growth: &mut Growth,
        layout: &[Block],
        (forms, blocks): (&Forms, &[Block]),
    ) -> io::Result<()> {
        let Some(end) = blocks.last().map(Block::end) else { return Ok(()) };
        if growth.has_file {
            if let Some(next) = &forms.next {
                self.make_room_in_next(instance, next, layout, blocks)?;
            }
            let file = self.handles.file(instance.id, &instance.path)?;
            let start = layout.last().map_or(FIRST_BLOCK_AT, Block::end);
            file.allocate(start, end - start)?;
            write_blocks(file.as_ref(), layout.len(), blocks)?;
            return file.sync_data();
        }
        self.make_file(instance, &forms.file.policy, blocks, end)?;
        growth.has_file = true;
        Ok(())
    }

    /// The same columns in the file that the round of a change is to write: it holds them before
    /// their grant is in the journal.
    fn make_room_in_next(
        &self,
        instance: &Instance,
        next: &Form,
        layout: &[Block],
        blocks: &[Block],
    ) -> io::Result<()> {
        let file = match self.handles.disk().open(&instance.next_path()) {
            // The round makes it anew, with all columns there are by then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        let all: Vec<_> = layout.iter().chain(blocks).cloned().collect();
        let laid = next.lay_all(&all);
        let (old, new) = laid.split_at(layout.len());
        let start = old.last().map_or(FIRST_BLOCK_AT, Block::end);
        let end = new.last().map_or(start, Block::end);
        file.allocate(start, end - start)?;
        write_blocks(file.as_ref(), layout.len(), new)?;
        file.sync_data()
    }

    /// Makes the file under another name first, so that an archive is either whole or not there.
    fn make_file(
        &self,
        instance: &Instance,
        policy: &Policy,
        blocks: &[Block],
        end: u64,
    ) -> io::Result<()> {
        let disk = self.handles.disk();
        let unfinished = instance.path.with_extension("new");
        let file = match disk.create(&unfinished) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&unfinished)?;
                disk.create(&unfinished)?
            }
            created => created?,
        };
        let policy = policy.clone();
        let header = Header { instance: instance.id, policy, views: String::new() };
        debug_assert_eq!(blocks.last().map(Block::end), Some(end), "the file ends with them");
        if let Err(error) = fill(file.as_ref(), &header, blocks) {
            // Best effort: what is left over is removed at the next start.
            drop(disk.remove(&unfinished));
            return Err(error);
        }
        disk.rename(&unfinished, &instance.path)?;
        disk.sync_dir(&self.dir)
    }
}

/// Reserves a new file and writes all but what a round does: up to the end of the first block's head at
/// once, since every part written by itself is an extent of its own.
pub(super) fn fill(file: &dyn File, header: &Header, blocks: &[Block]) -> io::Result<()> {
    file.allocate(0, blocks.last().map_or(FIRST_BLOCK_AT, Block::end))?;
    let mut head = vec![0; index(FIRST_BLOCK_AT)];
    let mut put = |bytes: &[u8], at: u64| head[index(at)..][..bytes.len()].copy_from_slice(bytes);
    put(&header.encode(), 0);
    put(&Slot::default().encode(), slot_at(0));
    for (number, block) in blocks.iter().enumerate() {
        put(&block.directory_entry().encode(), DirectoryEntry::at(number));
    }
    let (first, others) = blocks.split_at(blocks.len().min(1));
    head.extend(first.iter().flat_map(Block::encode));
    file.write_at(&head, 0)?;
    for block in others {
        file.write_at(&block.encode(), block.offset)?;
    }
    file.sync_data()
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("within the head of a file, 20 KiB")
}

/// Heads first, the directory after them; one sync covers both, and an entry without its block is
/// taken for a grant that was cut short.
pub(super) fn write_blocks(
    file: &dyn File,
    first_number: usize,
    blocks: &[Block],
) -> io::Result<()> {
    for (number, block) in (first_number..).zip(blocks) {
        file.write_at(&block.encode(), block.offset)?;
        file.write_at(&block.directory_entry().encode(), DirectoryEntry::at(number))?;
    }
    Ok(())
}

pub(super) fn is_full(reason: &io::Error) -> bool {
    matches!(
        reason.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

fn refused<E>(
    id: InstanceId,
    layout: &[Block],
    blocks: &[Block],
    reason: io::Error,
) -> GrantError<E> {
    if is_full(&reason) {
        return GrantError::DiskFull { instance: id, needed: grown(layout, blocks) };
    }
    GrantError::Disk { instance: id, reason }
}

/// Bytes by which these blocks make a file longer.
fn grown(layout: &[Block], blocks: &[Block]) -> u64 {
    let end = layout.last().map_or(0, Block::end);
    blocks.last().map_or(0, |last| last.end() - end)
}

/// The key of a series to be granted.
enum Named {
    /// Members of a fleet send the same series: some instance has it already.
    Known(Arc<Key>),
    New(Vec<u8>),
}

/// The archives of the file, and those it will have when a change is under way.
struct Forms {
    file: Arc<Form>,
    next: Option<Arc<Form>>,
}

impl Forms {
    /// `growth` is locked, so that no other file takes the name meanwhile.
    fn of(instance: &Instance, growth: &Growth) -> Self {
        let state = lock(&instance.state);
        let applied = state.former.as_ref().map(|_| Arc::clone(&state.form));
        let file = state.former.as_ref().map_or(&state.form, |former| former.form());
        Self { file: Arc::clone(file), next: growth.asked.clone().or(applied) }
    }

    /// What the journal was last told.
    fn asked(&self) -> &Form {
        self.next.as_ref().unwrap_or(&self.file)
    }
}

/// What a grant will do, worked out before anything is touched.
#[derive(Default)]
struct Plan {
    answers: Grants,
    series: Vec<GrantedSeries>,
    /// What names them, in the same order.
    names: Vec<Named>,
    /// Series whose columns others get.
    taken: Vec<Silent>,
    /// Blocks to be added to the file.
    blocks: Vec<Block>,
}

impl Plan {
    fn of(
        forms: &Forms,
        layout: &[Block],
        index: &Index,
        (request, most, silent): (&GrantRequest<'_>, usize, Vec<Silent>),
    ) -> Self {
        let asked = forms.asked();
        let mut places = Places {
            policy: &forms.file.policy,
            all_f64: asked.policy.all_f64(),
            layout,
            used: (0..layout.len()).map(|number| index.used(number)).collect(),
            blocks: Vec::new(),
            free: index.free.clone(),
            most: most.min(MAX_COLUMNS),
            silent,
            taken: Vec::new(),
        };
        // A request may name a series twice: columns of known keys by their address, of new ones by bytes.
        // A key may become known meanwhile, because another instance is granted a series of it.
        let (mut by_address, mut by_bytes) = (HashMap::new(), HashMap::new());
        let mut plan = Self::default();
        for new in request.series {
            let bytes = new.labels.to_key();
            let key = index.key(&bytes);
            let address = key.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
            let granted = key.as_ref().and_then(|key| index.column(key));
            let granted = granted.or_else(|| by_address.get(&address).copied());
            let granted = granted.or_else(|| by_bytes.get(&bytes).copied());
            if let Some(column) = granted {
                plan.answers.push(Ok(column));
                continue;
            }
            let count = index.len() + plan.series.len() - places.taken.len();
            let name = new.labels.metric().unwrap_or_default();
            let cell = Cell::choose(new.kind, name, new.first_reading, asked.policy.all_f64());
            let answer = places.place(count, cell, &bytes);
            plan.answers.push(answer);
            let Ok(column) = answer else { continue };
            plan.series.push(grant(asked, new, column, cell));
            plan.names.push(if let Some(key) = key {
                by_address.insert(address, column);
                Named::Known(key)
            } else {
                by_bytes.insert(bytes.clone(), column);
                Named::New(bytes)
            });
        }
        (plan.blocks, plan.taken) = (places.blocks, places.taken);
        plan
    }
}

fn grant(form: &Form, new: &NewSeries, column: Column, cell: Cell) -> GrantedSeries {
    GrantedSeries {
        column,
        labels: new.labels.clone(),
        kind: new.kind,
        heartbeat_ms: form.policy.heartbeat_ms().unwrap_or(form.usual_heartbeat_ms()),
        cell,
        min: f64::NAN,
        max: f64::NAN,
    }
}
