//! A round: everything since the last one, written to files at one sequence number.
//!
//! `begin_round` copies at a frame boundary; `Round::write` runs on any thread; `finish_round` lets go
//! of what is written, once the journal's record says that the round counts. Until then memory keeps
//! everything, and the next round writes to the same copies again: the others stay for a restart.

use std::io;
use std::sync::Arc;

use super::column_rows::ColumnRows;
use super::instance::{Instance, block_of};
use super::state::{Filed, InRound, NO_ROW, State, Written};
use super::task::Task;
use super::{Store, lock, write};
use crate::file::{
    AccumulatorsHead, Block, Catalogue, Entry, Patches, Slot, labels_at, record_len, slot_at,
    write_labels,
};
use crate::handles::Handles;
use crate::series::Open;
use crate::waiting::Waiting;
use crate::{Column, InstanceId, Labels, Step};

/// What was copied at the beginning of a round, to be written.
pub struct Round {
    seq: u64,
    epoch: u64,
    handles: Arc<Handles>,
    tasks: Vec<Task>,
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

/// One instance of a round.
pub(super) struct Work {
    pub(super) instance: Arc<Instance>,
    archive_count: usize,
    layout: Arc<Vec<Block>>,
    slot: Slot,
    labels: Option<Labels>,
    blocks: Vec<BlockWork>,
    /// By column.
    columns: Vec<ColumnWork>,
    frozen: Vec<Arc<Waiting>>,
    /// What the file holds now; becomes what it will hold.
    filed: Filed,
}

struct BlockWork {
    column_count: u32,
    /// Without the checksums, which are known once the rows are written.
    records: Vec<u8>,
    catalogue: Option<Vec<u8>>,
}

/// How far a column has come; generation 0 where no series lives.
#[derive(Clone, Copy)]
struct ColumnWork {
    generation: u32,
    birth_row: i64,
    newest_row: i64,
}

impl Store {
    /// Copies what has changed, at the boundary after frame `seq`. The worker goes on afterwards.
    pub fn begin_round(&self, seq: u64, epoch: u64) -> Round {
        let mut tasks: Vec<_> =
            self.all().iter().filter_map(|instance| Task::of(instance, seq, epoch)).collect();
        for id in std::mem::take(&mut *lock(&self.leftovers)) {
            let path = self.dir.join(format!("{id}.next"));
            tasks.push(Task::Tidy(path, self.instance(id)));
        }
        Round { seq, epoch, handles: Arc::clone(&self.handles), tasks }
    }

    /// Lets go of what the round at `seq` wrote: a restart will find it in the files.
    pub fn finish_round(&self, seq: u64) {
        self.install(seq);
        for instance in self.all() {
            let mut state = lock(&instance.state);
            let is_written =
                |round: &mut InRound| round.seq == seq && round.filed.is_some() && !round.counts;
            if let Some(round) = state.round.take_if(is_written) {
                let archive_count = state.form.archives.len();
                state.settle(round, archive_count);
            }
        }
    }
}

impl State {
    pub(super) fn settle(&mut self, round: InRound, archive_count: usize) {
        let Some(filed) = round.filed else { return };
        self.filed = filed;
        self.filed.grow(self.columns.len(), archive_count);
        for (index, series) in self.columns.iter().enumerate() {
            // A column that has changed hands since the round began holds nothing of its new series.
            let written = round.generations.get(index).copied();
            if series.as_ref().map(|series| series.generation) != written {
                self.filed.rows[index] = NO_ROW;
            }
        }
        self.frozen.drain(..round.frozen_count);
    }
}

impl Round {
    /// Writes and syncs every file of the round. One that fails is named; the others go on.
    pub fn write(self) -> RoundReport {
        let mut report = RoundReport::default();
        for task in self.tasks {
            match task.write(&self.handles, self.seq, self.epoch) {
                Ok(0) => {}
                Ok(bytes) => {
                    report.files += 1;
                    report.bytes += bytes;
                }
                Err((id, reason)) => report.failed.push((id, reason.to_string())),
            }
        }
        report
    }

    /// The sequence number it was begun at.
    pub const fn seq(&self) -> u64 {
        self.seq
    }
}

/// Takes what waits into the round; rows of rounds that failed are in it already.
pub(super) fn freeze(state: &mut State, seq: u64) {
    state.is_dirty = false;
    state.applied_seq = state.applied_seq.max(seq);
    if !state.waiting.is_empty() {
        let waiting = std::mem::take(&mut state.waiting);
        state.frozen.push(Arc::new(waiting));
    }
}

impl Work {
    pub(super) fn of(
        instance: &Arc<Instance>,
        state: &mut State,
        seq: u64,
        epoch: u64,
    ) -> Option<Self> {
        let layout = instance.layout();
        let form = Arc::clone(&state.form);
        let archive_count = form.archives.len();
        freeze(state, seq);
        let mut filed = state.filed.clone();
        filed.slot = 1 - filed.slot;
        let labels = (state.labels_seq > filed.labels.seq).then(|| state.labels.clone());
        if labels.is_some() {
            filed.labels = Written { seq, copy: filed.labels.other() };
        }
        let last = u32::try_from(state.columns.len()).ok()?.checked_sub(1)?;
        let (last_block, _) = block_of(&layout, last)?;
        let blocks = (0..).zip(&layout[..=last_block]);
        let blocks = blocks.map(|(number, block)| {
            BlockWork::of(state, archive_count, number, block, &mut filed, seq, epoch)
        });
        let blocks: Vec<_> = blocks.collect();
        let slot = Slot {
            seq,
            epoch,
            batch: state.batch,
            labels_seq: filed.labels.seq,
            labels_copy: u8::try_from(filed.labels.copy).expect("0 or 1"),
            block_count: u32::try_from(blocks.len()).expect("at most 256 blocks"),
            is_removed: false,
        };
        let step = form.policy.step();
        let columns: Vec<_> =
            state.columns.iter().map(|s| ColumnWork::of(s.as_ref(), step)).collect();
        state.round = Some(InRound {
            seq,
            frozen_count: state.frozen.len(),
            filed: None,
            counts: false,
            generations: columns.iter().map(|column| column.generation).collect(),
        });
        let frozen = state.frozen.clone();
        let instance = Arc::clone(instance);
        Some(Self { instance, archive_count, layout, slot, labels, blocks, columns, frozen, filed })
    }

    pub(super) fn write(mut self, handles: &Handles, seq: u64, epoch: u64) -> io::Result<u64> {
        let file = handles.file(self.instance.id, &self.instance.path)?;
        let mut patches = Patches::of(file.as_ref());
        let instance = Arc::clone(&self.instance);
        let alone = write(&instance.tiles);
        self.write_rows(&mut patches)?;
        for (number, work) in self.blocks.iter_mut().enumerate() {
            let block = &self.layout[number];
            work.write(&mut patches, number, block, &self.filed, self.slot)?;
        }
        if let Some(labels) = &self.labels {
            let bytes = write_labels(seq, epoch, labels).ok_or(io::ErrorKind::InvalidData)?;
            patches.push(labels_at(self.filed.labels.copy), &bytes)?;
        }
        patches.push(slot_at(self.filed.slot), &self.slot.encode())?;
        patches.write_all()?;
        drop(alone); // Readers need not wait for the sync.
        let written = patches.finish()?;
        let mut state = lock(&instance.state);
        if let Some(round) = state.round.as_mut().filter(|round| round.seq == seq) {
            round.filed = Some(self.filed);
        }
        Ok(written)
    }

    fn write_rows(&mut self, patches: &mut Patches<'_>) -> io::Result<()> {
        let archive_count = self.archive_count;
        let mut runs = Vec::new();
        for (index, work) in (0..).zip(&self.columns) {
            let Some((_, block)) = block_of(&self.layout, index) else { continue };
            let place = index as usize;
            if work.generation == 0 || work.newest_row <= self.filed.rows[place] {
                continue;
            }
            let checksums = &mut self.filed.checksums[place * archive_count..][..archive_count];
            for (archive, (ring, checksum)) in block.rings.iter().zip(checksums).enumerate() {
                runs.clear();
                let waiting = self.frozen.iter().rev();
                runs.extend(waiting.flat_map(|w| w.runs(index, work.generation, archive)));
                runs.reverse();
                let column = ColumnRows {
                    ring,
                    shape: ring.shape(block.cell),
                    column: Column { index, generation: work.generation },
                    position: index - block.first_column,
                    begin: ring.newest(work.birth_row),
                    filed: match self.filed.rows[place] {
                        NO_ROW => ring.newest(work.birth_row),
                        row => ring.newest(row),
                    },
                    newest: ring.newest(work.newest_row),
                };
                *checksum = column.write(&runs, *checksum, patches)?;
            }
            self.filed.rows[place] = work.newest_row;
        }
        Ok(())
    }
}

fn entries<'a>(state: &'a State, block: &Block) -> impl Iterator<Item = Entry<'a>> {
    state.places_in(block.columns()).map(|(column, series)| match series {
        Some(series) => Entry::from(series),
        None => Entry::vacant(column.generation),
    })
}

impl BlockWork {
    fn of(
        state: &State,
        archive_count: usize,
        number: usize,
        block: &Block,
        filed: &mut Filed,
        seq: u64,
        epoch: u64,
    ) -> Self {
        if filed.catalogues.len() <= number {
            filed.catalogues.resize(number + 1, Written::default());
        }
        let changed_at = state.catalogue_seqs.get(&number).copied().unwrap_or_default();
        let written = &mut filed.catalogues[number];
        let catalogue = (changed_at > written.seq).then(|| {
            *written = Written { seq, copy: written.other() };
            Catalogue::encode(seq, epoch, entries(state, block))
        });
        let record_len = record_len(archive_count);
        let open_at = record_len - Open::encoded_len(archive_count - 1);
        let mut records = vec![0; block.width as usize * record_len];
        let mut column_count = 0;
        let unborn = Open::unborn(archive_count - 1);
        for (record, (column, series)) in
            records.chunks_exact_mut(record_len).zip(state.places_in(block.columns()))
        {
            record[..4].copy_from_slice(&column.generation.to_le_bytes());
            series.map_or(&unborn, |series| &series.open).encode(&mut record[open_at..]);
            column_count += 1;
        }
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
    fn of(series: Option<&super::state::Series>, step: Step) -> Self {
        let Some(series) = series else {
            return Self { generation: 0, birth_row: NO_ROW, newest_row: NO_ROW };
        };
        let (generation, open) = (series.generation, &series.open);
        let (birth_row, newest_row) = open.closed_rows(step).unwrap_or((NO_ROW, NO_ROW));
        Self { generation, birth_row, newest_row }
    }
}
