//! Granting columns: room on disk first, then the journal, then the series can be resolved.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, MutexGuard};

use super::instance::{Form, Growth, Index, Instance};
use super::keys::Key;
use super::places::{Coming, Places};
use super::takeover::{Candidates, Other, Room, Silent};
use super::{Store, lock, read, write};
use crate::file::{Block, write_labels};
use crate::{
    Cell, Column, GrantError, GrantFrame, GrantedSeries, InstanceId, Kind, Labels, MAX_COLUMNS,
    Policy, Refusal,
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
type Answer<E> = Result<Grants, GrantError<E>>;

impl Store {
    /// Gives each series a column: allocates and syncs its room, hands one frame to `append`, and only
    /// then lets the series be resolved. Without a new series `append` is not called. On an error
    /// nothing has been granted.
    pub fn grant<E>(
        &self,
        request: GrantRequest<'_>,
        append: &mut dyn FnMut(&GrantFrame) -> Result<u64, E>,
    ) -> Answer<E> {
        self.grant_within(Room::default(), request, append)
    }

    /// As [`Store::grant`], for an instance that may have so many series and no more.
    pub fn grant_within<E>(
        &self,
        room: Room,
        request: GrantRequest<'_>,
        append: &mut dyn FnMut(&GrantFrame) -> Result<u64, E>,
    ) -> Answer<E> {
        let mut answers = self.grant_each(&[(room, request)], append);
        answers.pop().expect("an answer for each request")
    }

    /// As [`Store::grant_within`], for several instances: the room of all is synced together before the
    /// first frame is appended, which takes little longer than that of one. Bytes that one of them takes
    /// are taken from the room of those after it. As many files are open at once.
    ///
    /// # Panics
    /// When an instance is named twice.
    pub fn grant_each<E>(
        &self,
        requests: &[(Room, GrantRequest<'_>)],
        append: &mut dyn FnMut(&GrantFrame) -> Result<u64, E>,
    ) -> Vec<Answer<E>> {
        loop {
            let known: Vec<_> = requests.iter().map(|(_, request)| self.known(request)).collect();
            if let Some(answers) = self.grant_known(requests, &known, append) {
                let known = known.into_iter().zip(answers);
                return known.map(|(known, answer)| known.and(answer)).collect();
            }
        }
    }

    /// The instance of a request, made if need be.
    fn known<E>(&self, request: &GrantRequest<'_>) -> Result<Arc<Instance>, GrantError<E>> {
        let id = request.instance;
        if self.is_unavailable(id) {
            return Err(GrantError::Unavailable(id));
        }
        if write_labels(0, 0, request.labels).is_none() {
            return Err(GrantError::LabelsTooLong(id));
        }
        Ok(self.instance_for(request))
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

    /// Grants to the instances that are known, in the order of the requests; `None` when one of them was
    /// abandoned meanwhile: then it is not in the store any more.
    fn grant_known<E>(
        &self,
        requests: &[(Room, GrantRequest<'_>)],
        known: &[Result<Arc<Instance>, GrantError<E>>],
        append: &mut dyn FnMut(&GrantFrame) -> Result<u64, E>,
    ) -> Option<Vec<Answer<E>>> {
        let mut order: Vec<usize> = (0..requests.len()).collect();
        // Who waits for several waits for them in the same order.
        order.sort_unstable_by_key(|&place| requests[place].1.instance);
        let is_same = |two: &[usize]| requests[two[0]].1.instance == requests[two[1]].1.instance;
        assert!(!order.windows(2).any(is_same), "an instance is asked for once");
        let held = order.into_iter().filter_map(|place| {
            let instance = known[place].as_deref().ok()?;
            Some((place, instance, lock(&instance.growing)))
        });
        let held: Vec<_> = held.collect();
        if held.iter().any(|(_, _, growth)| growth.is_abandoned) {
            return None;
        }
        let mut answers: Vec<Answer<E>> = requests.iter().map(|_| Ok(Grants::new())).collect();
        let mut granting = Vec::with_capacity(held.len());
        let mut spent = 0;
        for (place, instance, growth) in held {
            let (mut room, request) = (requests[place].0, &requests[place].1);
            room.bytes = room.bytes.saturating_sub(spent);
            match self.plan((instance, growth), (room, request)) {
                Ok(Planned::Granted(granted)) => answers[place] = Ok(granted),
                Ok(Planned::Wanted(wanted)) => {
                    spent += grown(&wanted.layout, &wanted.plan.blocks);
                    granting.push((place, wanted));
                }
                Err(refused) => answers[place] = Err(refused),
            }
        }
        let rooms = self.make_rooms(granting.iter_mut().map(|(_, wanted)| wanted.as_mut()));
        for ((place, wanted), made) in granting.into_iter().zip(rooms) {
            answers[place] = match made {
                Ok(()) => self.finish(*wanted, append),
                Err(reason) => Err(self.give_up(*wanted, reason)),
            };
        }
        Some(answers)
    }

    /// Works out what a grant will do.
    fn plan<'a, E>(
        &self,
        (instance, mut growth): (&'a Instance, MutexGuard<'a, Growth>),
        (room, request): (Room, &'a GrantRequest<'a>),
    ) -> Result<Planned<'a>, GrantError<E>> {
        // After a start the state alone knows it, from the frame.
        if growth.is_leaving || lock(&instance.state).is_removed {
            return Err(GrantError::Leaving(instance.id));
        }
        let layout = instance.layout();
        let forms = Forms::of(instance, &growth);
        let count = read(&instance.index).len() + request.series.len();
        let may_take = count > room.most && instance.may_take_over(&growth, room);
        let now = *lock(&self.advanced_to);
        let plan = {
            // Who holds both waits for the state first, as the worker does.
            let state = may_take.then(|| lock(&instance.state));
            let index = read(&instance.index);
            let silent =
                |state: MutexGuard<'_, _>| Candidates::of(&state, &index, request, (now, room));
            let candidates = state.map(silent).unwrap_or_default();
            Plan::of(&forms, &layout, &index, (request, room.most, candidates))
        };
        let needed = grown(&layout, &plan.blocks);
        if plan.series.is_empty() || needed > room.bytes {
            if !growth.has_file {
                self.abandon(instance, &mut growth);
            }
            if plan.series.is_empty() {
                return Ok(Planned::Granted(plan.answers));
            }
            return Err(GrantError::DiskFull { instance: instance.id, needed });
        }
        Ok(Planned::Wanted(Box::new(Granting { instance, growth, request, forms, layout, plan })))
    }

    /// Appends the frame of a grant whose room is on the disk, and lets its series be resolved.
    fn finish<E>(
        &self,
        granting: Granting<'_>,
        append: &mut dyn FnMut(&GrantFrame) -> Result<u64, E>,
    ) -> Answer<E> {
        let Granting { instance, mut growth, request, forms, layout, plan } = granting;
        let Plan { answers, series, names, taken, blocks } = plan;
        if !blocks.is_empty() {
            let layout = layout.iter().chain(&blocks).cloned().collect();
            instance.set_layout(forms.file.shared(layout));
        }
        let labels = {
            let state = lock(&instance.state);
            if state.is_granted { state.labels.clone() } else { request.labels.clone() }
        };
        let reserved =
            if taken.is_empty() { None } else { self.make_room_to_fold(instance, &growth)? };
        let policy = forms.asked().policy.clone();
        let frame = GrantFrame { instance: instance.id, policy, labels, series };
        append(&frame).map_err(|refused| {
            if reserved.is_some() {
                // Best effort: what is left over is removed after the next start.
                drop(self.handles.disk().remove(&instance.next_path()));
            }
            GrantError::Append(refused)
        })?;
        growth.asked = reserved.or(growth.asked.take());
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

    /// What a grant is answered that the disk has no room for.
    fn give_up<E>(&self, granting: Granting<'_>, reason: io::Error) -> GrantError<E> {
        let Granting { instance, mut growth, layout, plan, .. } = granting;
        if !growth.has_file {
            self.abandon(instance, &mut growth);
        }
        if is_full(&reason) {
            let needed = grown(&layout, &plan.blocks);
            return GrantError::DiskFull { instance: instance.id, needed };
        }
        GrantError::Disk { instance: instance.id, reason }
    }

    /// Takes an instance that never got a file out again, as if it had never been asked for.
    fn abandon(&self, instance: &Instance, growth: &mut Growth) {
        growth.is_abandoned = true;
        write(&self.instances).remove(&instance.id);
    }
}

/// What becomes of a request.
enum Planned<'a> {
    /// All its series had columns, or may have none.
    Granted(Grants),
    Wanted(Box<Granting<'a>>),
}

/// A grant on its way, whose instance nobody else grants to meanwhile.
pub(super) struct Granting<'a> {
    pub(super) instance: &'a Instance,
    pub(super) growth: MutexGuard<'a, Growth>,
    request: &'a GrantRequest<'a>,
    pub(super) forms: Forms,
    /// The blocks there are.
    pub(super) layout: Arc<Vec<Block>>,
    plan: Plan,
}

impl Granting<'_> {
    /// The blocks to be added.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.plan.blocks
    }
}

pub(super) fn is_full(reason: &io::Error) -> bool {
    matches!(
        reason.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
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
pub(super) struct Forms {
    pub(super) file: Arc<Form>,
    pub(super) next: Option<Arc<Form>>,
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

/// What is to be found out about a series of a request.
struct Wanted {
    bytes: Vec<u8>,
    /// Where some instance has it already.
    key: Option<Arc<Key>>,
    cell: Cell,
}

impl Wanted {
    fn of(new: &NewSeries, asked: &Form, index: &Index) -> Self {
        let bytes = new.labels.to_key();
        let name = new.labels.metric().unwrap_or_default();
        let cell = Cell::choose(new.kind, name, new.first_reading, asked.policy.all_f64());
        Self { key: index.key(&bytes), bytes, cell }
    }
}

/// Series without a column, each counted once.
fn coming(all: &[Wanted], index: &Index) -> Coming {
    let (mut seen, mut coming) = (HashSet::with_capacity(all.len()), Coming::default());
    for Wanted { bytes, key, cell } in all {
        let is_new = key.as_ref().is_none_or(|key| index.column(key).is_none());
        if is_new && seen.insert(bytes) {
            *coming.of(*cell) += 1;
        }
    }
    coming
}

impl Plan {
    fn of(
        forms: &Forms,
        layout: &[Block],
        index: &Index,
        (request, most, candidates): (&GrantRequest<'_>, usize, Candidates),
    ) -> Self {
        let asked = forms.asked();
        let mut places = Places {
            policy: &forms.file.policy,
            all_f64: asked.policy.all_f64(),
            layout,
            used: (0..layout.len()).map(|number| index.used(number)).collect(),
            blocks: Vec::new(),
            free: index.free.clone(),
            coming: Coming::default(),
            most: most.min(MAX_COLUMNS),
            candidates,
            taken: Vec::new(),
            others: Vec::new(),
        };
        // A request may name a series twice: columns of known keys by their address, of new ones by bytes.
        // A key may become known meanwhile, because another instance is granted a series of it.
        let (mut by_address, mut by_bytes) = (HashMap::new(), HashMap::new());
        let mut plan = Self::default();
        let named: Vec<_> =
            request.series.iter().map(|new| Wanted::of(new, asked, index)).collect();
        let room = places.most.saturating_sub(index.len());
        places.coming = coming(&named, index).at_most(room);
        for (new, Wanted { bytes, key, cell }) in request.series.iter().zip(named) {
            let address = key.as_ref().map_or(std::ptr::null(), Arc::as_ptr);
            let granted = key.as_ref().and_then(|key| index.column(key));
            let granted = granted.or_else(|| by_address.get(&address).copied());
            let granted = granted.or_else(|| by_bytes.get(&bytes).copied());
            if let Some(column) = granted {
                plan.answers.push(Ok(column));
                continue;
            }
            let count = index.len() + plan.series.len() - places.taken.len();
            let answer = places.place(count, cell, &bytes);
            let coming = places.coming.of(cell);
            *coming = coming.saturating_sub(1);
            plan.answers.push(answer);
            for Other { labels, column, cell } in places.others.drain(..) {
                let bytes = labels.to_key();
                let (kind, first_reading) = (Kind::Gauge, None);
                let new = NewSeries { labels, kind, first_reading };
                plan.series.push(grant(asked, &new, column, cell));
                by_bytes.insert(bytes.clone(), column);
                plan.names.push(Named::New(bytes));
            }
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
