//! A round: everything since the last one, written to files at one sequence number.
//!
//! `begin_round` takes hold of all arrays at a frame boundary and copies none: the worker copies those of
//! an instance when it next changes them. `Round::write` runs on any thread, and lets go of arrays and
//! rows file by file. `finish_round` is called once the journal's record says that the round counts;
//! until then the next round writes to the same copies again: the others stay for a restart.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::columns::{Class, Columns, Names, Series};
use super::former::Ends;
use super::instance::{Form, Instance, block_of};
use super::repair::{self, Repairs};
use super::state::{Filed, InRound, NO_ROW, State, Written};
use super::task::{Change, Task};
use super::unsynced::{Group, Unsynced};
use super::{Store, lock, write};
use crate::file::{
    AccumulatorsHead, Block, Catalogue, Entry, PatchRoom, Patches, Slot, labels_at, record_len,
    slot_at, write_labels,
};
use crate::handles::Handles;
use crate::series::Open;
use crate::waiting::Waiting;
use crate::{Batch, Column, InstanceId, Labels};

/// What stood at the beginning of a round, to be written.
pub struct Round {
    seq: u64,
    epoch: u64,
    handles: Arc<Handles>,
    tasks: Vec<Task>,
    /// No journal says when the round counts: the slots are written when all else is synced.
    slots_last: bool,
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundReport {
    /// Files written and synced.
    pub files: usize,
    /// Bytes written to them.
    pub bytes: u64,
    /// Instances whose file failed, with what the disk said. Memory keeps their rows.
    pub failed: Vec<(InstanceId, String)>,
}

/// One instance as it stood at the beginning of a round.
pub(super) struct Begun {
    pub(super) instance: Arc<Instance>,
    pub(super) form: Arc<Form>,
    pub(super) layout: Arc<Vec<Block>>,
    pub(super) labels: Labels,
    labels_seq: u64,
    pub(super) batch: Batch,
    columns: Arc<Columns>,
    names: Arc<Names>,
    classes: Arc<Vec<Class>>,
    pub(super) frozen: Vec<Arc<Waiting>>,
    /// Columns of which late readings have changed closed rows.
    repaired: Vec<u32>,
    filed: Filed,
}

/// One instance of a round, as bytes for its file.
pub(super) struct Work {
    instance: Arc<Instance>,
    pub(super) layout: Arc<Vec<Block>>,
    slot: Slot,
    labels: Option<Labels>,
    blocks: Vec<BlockWork>,
    /// By column.
    pub(super) columns: Vec<ColumnWork>,
    pub(super) frozen: Vec<Arc<Waiting>>,
    pub(super) repaired: Vec<u32>,
    /// What the file holds now; becomes what it will hold.
    pub(super) filed: Filed,
}

struct BlockWork {
    column_count: u32,
    /// Of the columns that have a series. Without the checksums, which are known once the rows are written.
    records: Vec<u8>,
    catalogue: Option<Vec<u8>>,
}

/// How far a column has come; generation 0 where no series lives.
#[derive(Clone, Copy)]
pub(super) struct ColumnWork {
    pub(super) generation: u32,
    pub(super) birth_row: i64,
    pub(super) newest_row: i64,
    /// It may have anchors.
    pub(super) tells_counts: bool,
}

impl Store {
    /// Takes hold of what has changed, at the boundary after frame `seq`. The worker goes on afterwards.
    pub fn begin_round(&self, seq: u64, epoch: u64) -> Round {
        self.wants_round.store(false, Ordering::Relaxed);
        let all = self.all();
        let mut tasks = Vec::with_capacity(all.len());
        tasks.extend(all.iter().filter_map(|instance| Task::of(instance, seq, epoch)));
        // Members say that they go when their role has written what they hold.
        tasks.sort_by_key(Task::is_removal);
        for id in std::mem::take(&mut *lock(&self.leftovers)) {
            let path = self.dir.join(format!("{id}.next"));
            tasks.push(Task::Change(Change::Tidy(path, self.instance(id))));
        }
        Round { seq, epoch, handles: Arc::clone(&self.handles), tasks, slots_last: false }
    }

    /// True when something waits for a round, and somebody for it: a change of archives, a removal, or
    /// an archive that could not be written.
    pub fn wants_round(&self) -> bool {
        self.wants_round.load(Ordering::Relaxed)
    }

    /// Has a round come soon.
    pub fn ask_for_round(&self) {
        self.wants_round.store(true, Ordering::Relaxed);
    }

    /// Lets go of what the round at `seq` wrote: a restart will find it in the files.
    pub fn finish_round(&self, seq: u64) {
        self.install(seq);
        for instance in self.all() {
            let mut state = lock(&instance.state);
            let is_written =
                |round: &mut InRound| round.seq == seq && round.filed.is_some() && !round.counts;
            if let Some(filed) = state.round.take_if(is_written).and_then(|round| round.filed) {
                state.filed.slot = filed.slot;
                state.filed.labels = filed.labels;
                state.filed.catalogues = filed.catalogues;
                state.count(seq);
                drop(state);
                self.resume(instance.id);
            }
        }
    }
}

impl RoundReport {
    /// Adds the bytes written to an instance's file, or why they could not be.
    pub(super) fn note(
        &mut self,
        handles: &Handles,
        written: Result<u64, (InstanceId, io::Error)>,
    ) {
        match written {
            Ok(0) => {}
            Ok(bytes) => {
                self.files += 1;
                self.bytes += bytes;
            }
            Err((id, reason)) => {
                // Opened anew the next time: this descriptor may never tell of its failure again.
                handles.forget(id);
                self.failed.push((id, reason.to_string()));
            }
        }
    }
}

impl State {
    /// Notes that the round at `seq` has been written to the file and synced. Its rows need not wait
    /// for the round to count: whichever slot a restart uses, the file has them, and a later round goes
    /// on after them.
    pub(super) fn settle(&mut self, seq: u64, mut filed: Filed, columns: &[ColumnWork]) {
        let Some(round) = self.round.as_mut().filter(|round| round.seq == seq) else { return };
        let frozen_count = std::mem::take(&mut round.frozen_count);
        self.frozen.drain(..frozen_count);
        let rows = filed.rows.clone();
        let checksums = std::mem::take(&mut filed.checksums);
        round.filed = Some(filed);
        let per_column = checksums.len().checked_div(rows.len()).unwrap_or(0);
        (self.filed.rows, self.filed.checksums) = (rows, checksums);
        self.filed.grow(self.columns.len(), per_column);
        self.forget_others(columns.iter().map(|column| column.generation));
    }

    /// Notes that a restart begins with what the round at `seq` has written.
    fn count(&mut self, seq: u64) {
        self.filed.counted = self.filed.rows.clone();
        self.repaired.retain(|_, last| *last > seq);
    }

    /// Notes that the file which a round wrote has taken the place of the one there was.
    pub(super) fn succeed(&mut self, round: InRound) {
        let (Some(filed), Some(generations)) = (round.filed, round.successor) else { return };
        self.frozen.drain(..round.frozen_count);
        self.filed = filed;
        let archive_count = self.form.archives.len();
        self.filed.grow(self.columns.len(), archive_count);
        self.count(round.seq);
        self.torn.clear();
        self.forget_others(generations.into_iter());
    }

    /// A column that has changed hands since a round with these generations began holds nothing of its
    /// new series.
    fn forget_others(&mut self, generations: impl Iterator<Item = u32>) {
        for (index, generation) in generations.enumerate() {
            if self.columns.generation(index) != generation {
                self.filed.forget(index);
            }
        }
    }

    /// Takes what waits into a round; rows of rounds that failed are in it already.
    pub(super) fn freeze(&mut self, seq: u64) {
        self.is_dirty = false;
        self.applied_seq = self.applied_seq.max(seq);
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            self.frozen.push(Arc::new(waiting));
        }
    }
}

impl Round {
    /// Writes and syncs every file of the round. One that fails is named; the others go on.
    pub fn write(self) -> RoundReport {
        let mut report = RoundReport::default();
        let mut room = PatchRoom::default();
        let mut group = Group::new(&self.handles);
        let at = (self.seq, self.epoch);
        for task in self.tasks {
            match task {
                Task::Write(begun) => {
                    let id = begun.instance.id;
                    let Some(work) = Work::of(begun, at) else { continue };
                    match work.write(&self.handles, at, self.slots_last, &mut room) {
                        Ok(file) => group.add(file, &mut report),
                        Err(reason) => report.note(&self.handles, Err((id, reason))),
                    }
                }
                Task::Change(change) => {
                    // A member that goes counts on what its role has.
                    group.sync(&mut report);
                    report.note(&self.handles, change.write(&self.handles, at));
                }
            }
        }
        group.sync(&mut report);
        report
    }

    /// The same round, which counts as soon as its slots are in the files.
    pub(super) fn with_slots_last(self) -> Self {
        Self { slots_last: true, ..self }
    }

    /// The sequence number it was begun at.
    pub const fn seq(&self) -> u64 {
        self.seq
    }
}

impl Begun {
    /// Of an instance whose state is locked.
    pub(super) fn of(instance: &Arc<Instance>, state: &mut State, seq: u64) -> Self {
        state.freeze(seq);
        let frozen_count = state.frozen.len();
        let (filed, successor, ends, counts) = (None, None, Ends::new(), false);
        state.round = Some(InRound { seq, frozen_count, filed, successor, ends, counts });
        Self {
            form: Arc::clone(&state.form),
            layout: instance.layout(),
            labels: state.labels.clone(),
            labels_seq: state.labels_seq,
            batch: state.batch,
            columns: Arc::clone(&state.columns),
            names: Arc::clone(&state.names),
            classes: Arc::clone(&state.classes),
            frozen: state.frozen.clone(),
            repaired: state.repaired.keys().copied().collect(),
            filed: state.filed.clone(),
            instance: Arc::clone(instance),
        }
    }

    /// All columns that ever had a series.
    pub(super) fn places(&self) -> impl Iterator<Item = (Column, Option<Series<'_>>)> {
        self.names.places(&self.columns, &self.classes, 0..u32::MAX)
    }

    /// As [`Begun::places`], of a block: those granted so far.
    fn block(&self, block: &Block) -> impl Iterator<Item = (Column, Option<Series<'_>>)> {
        self.names.places(&self.columns, &self.classes, block.columns())
    }

    /// By column: the generation of its series, 0 where there is none.
    pub(super) fn generations(&self) -> Vec<u32> {
        self.columns.heads().map(|head| head.generation).collect()
    }
}

impl Work {
    /// The bytes to write; `None` where no column has been granted.
    pub(super) fn of(begun: Begun, (seq, epoch): (u64, u64)) -> Option<Self> {
        let mut filed = begun.filed.clone();
        filed.slot = 1 - filed.slot;
        let labels = (begun.labels_seq > filed.labels.seq).then(|| begun.labels.clone());
        if labels.is_some() {
            filed.labels = Written { seq, copy: filed.labels.other() };
        }
        let last = u32::try_from(begun.columns.len()).ok()?.checked_sub(1)?;
        let (last_block, _) = block_of(&begun.layout, last)?;
        let blocks = (0..).zip(&begun.layout[..=last_block]);
        let blocks = blocks
            .map(|(number, block)| BlockWork::of(&begun, number, block, &mut filed, seq, epoch));
        let blocks: Vec<_> = blocks.collect();
        let slot = Slot {
            seq,
            epoch,
            batch: begun.batch,
            labels_seq: filed.labels.seq,
            labels_copy: u8::try_from(filed.labels.copy).expect("0 or 1"),
            block_count: u32::try_from(blocks.len()).expect("at most 256 blocks"),
            is_removed: false,
        };
        let places = 0..begun.columns.len();
        let columns = places.map(|index| ColumnWork::of(&begun, index)).collect();
        let Begun { instance, layout, frozen, repaired, .. } = begun;
        Some(Self { instance, layout, slot, labels, blocks, columns, frozen, repaired, filed })
    }

    fn write(
        mut self,
        handles: &Handles,
        (seq, epoch): (u64, u64),
        slot_last: bool,
        room: &mut PatchRoom,
    ) -> io::Result<Unsynced> {
        let file = handles.file(self.instance.id, &self.instance.path)?;
        if file.len()? < self.layout.last().map_or(0, Block::end) {
            // Written to, it would grow again, with holes where its rows were.
            let what = "shorter than it was made; stop the server and restore it from a backup";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        let instance = Arc::clone(&self.instance);
        repair::put_back(file.as_ref(), &instance)?;
        let repairs = Repairs::plan(file.as_ref(), &self)?;
        repairs.keep(file.as_ref(), &self)?;
        let mut patches = Patches::in_room(file.as_ref(), std::mem::take(room));
        let mut alone = write(&instance.tiles);
        if !repairs.patches.is_empty() {
            alone.change();
        }
        match self.write_all(&mut patches, &repairs, (seq, epoch), slot_last) {
            Ok(()) => repairs.tell(&instance),
            Err(reason) => {
                repairs.take_back(file.as_ref(), &instance);
                return Err(reason);
            }
        }
        drop(alone); // Readers need not wait for the sync.
        let bytes = patches.written();
        *room = patches.into_room();
        let (filed, columns) = (self.filed, self.columns);
        Ok(Unsynced { instance, file: Arc::clone(&file), seq, filed, columns, repairs, bytes })
    }

    /// Everything but what keeps the state before. Nothing of it is synced.
    fn write_all(
        &mut self,
        patches: &mut Patches<'_>,
        repairs: &Repairs,
        (seq, epoch): (u64, u64),
        slot_last: bool,
    ) -> io::Result<()> {
        for (at, bytes) in &repairs.patches {
            patches.push(*at, bytes)?;
        }
        for checksum in &repairs.checksums {
            Arc::make_mut(&mut self.filed.checksums)[checksum.place] = checksum.after;
        }
        self.write_rows(patches)?;
        for (number, work) in self.blocks.iter_mut().enumerate() {
            let block = &self.layout[number];
            work.write(patches, number, block, &self.filed, self.slot)?;
        }
        if let Some(labels) = &self.labels {
            let bytes = write_labels(seq, epoch, labels).ok_or(io::ErrorKind::InvalidData)?;
            patches.push(labels_at(self.filed.labels.copy), &bytes)?;
        }
        if slot_last {
            patches.barrier()?;
        }
        patches.push(slot_at(self.filed.slot), &self.slot.encode())?;
        patches.write_all()
    }
}

fn entry((column, series): (Column, Option<Series<'_>>)) -> Entry<'_> {
    series.map_or_else(|| Entry::vacant(column.generation), Entry::from)
}

impl BlockWork {
    fn of(
        begun: &Begun,
        number: usize,
        block: &Block,
        filed: &mut Filed,
        seq: u64,
        epoch: u64,
    ) -> Self {
        if filed.catalogues.len() <= number {
            Arc::make_mut(&mut filed.catalogues).resize(number + 1, Written::default());
        }
        let changed_at = begun.names.catalogue_seqs.get(number).copied().unwrap_or_default();
        let catalogue = (changed_at > filed.catalogues[number].seq).then(|| {
            let written = &mut Arc::make_mut(&mut filed.catalogues)[number];
            *written = Written { seq, copy: written.other() };
            Catalogue::encode(seq, epoch, begun.block(block).map(entry))
        });
        let grid = &begun.form.grid;
        let record_len = record_len(begun.form.archives.len());
        let open_at = record_len - Open::encoded_len(grid.coarser_count());
        let mut records = Vec::with_capacity(block.width as usize * record_len);
        let unborn = || Open::unborn(grid.coarser_count());
        for (column, series) in begun.block(block) {
            let at = records.len();
            records.resize(at + record_len, 0);
            records[at..at + 4].copy_from_slice(&column.generation.to_le_bytes());
            let open = series.map_or_else(unborn, |series| series.open(grid));
            open.encode(&mut records[at + open_at..]);
        }
        let column_count = u32::try_from(records.len() / record_len).expect("at most 64 columns");
        Self { column_count, records, catalogue }
    }

    fn write(
        &mut self,
        patches: &mut Patches<'_>,
        number: usize,
        block: &Block,
        filed: &Filed,
        slot: Slot,
    ) -> io::Result<()> {
        let archive_count = block.rings.len();
        let record_len = record_len(archive_count);
        let first = block.first_column as usize * archive_count;
        let checksums = filed.checksums.get(first..).unwrap_or_default();
        for (record, checksums) in
            self.records.chunks_exact_mut(record_len).zip(checksums.chunks_exact(archive_count))
        {
            for (bytes, checksum) in record[4..].chunks_exact_mut(4).zip(checksums) {
                bytes.copy_from_slice(&checksum.to_le_bytes());
            }
        }
        let catalogue = filed.catalogues[number];
        let head = AccumulatorsHead {
            seq: slot.seq,
            epoch: slot.epoch,
            catalogue_seq: catalogue.seq,
            records_crc: crc32c::crc32c(&self.records),
            column_count: self.column_count,
            catalogue_copy: u8::try_from(catalogue.copy).expect("0 or 1"),
        };
        let at = block.accumulators_at(filed.slot);
        patches.push(at, &head.encode())?;
        patches.push(at + AccumulatorsHead::LEN as u64, &self.records)?;
        match &self.catalogue {
            Some(bytes) => patches.push(block.catalogue_at(catalogue.copy), bytes),
            None => Ok(()),
        }
    }
}

impl ColumnWork {
    /// True where a series has closed rows after this one, which the file has.
    pub(super) const fn has_rows_after(&self, filed: i64) -> bool {
        self.generation > 0 && self.newest_row > filed
    }

    fn of(begun: &Begun, index: usize) -> Self {
        let (generation, none) = (0, NO_ROW);
        let nothing = Self { generation, birth_row: none, newest_row: none, tells_counts: false };
        let series = begun.names.series(&begun.columns, &begun.classes, index);
        let Some(series) = series else { return nothing };
        let generation = series.head.generation;
        let closed = series.closed_rows(begun.form.policy.step());
        let (birth_row, newest_row) = closed.unwrap_or((NO_ROW, NO_ROW));
        let tells_counts = series.class.definition.kind.is_count();
        Self { generation, birth_row, newest_row, tells_counts }
    }
}
