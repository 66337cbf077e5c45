//! The first reading of a file: its newest state that counts, with all its series.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use super::columns::Class;
use super::instance::{Form, Growth, Instance};
use super::keys::Keys;
use super::scratch::{Fronts, Scratch};
use super::slots::ONE_SLOT_DAMAGED;
use super::state::{NO_ROW, State, Written};
use super::{repair, write};
use crate::file::{
    AccumulatorsHead, BLOCK_HEAD_LEN, Block, Catalogue, Copy, DirectoryEntry, Entry,
    FIRST_BLOCK_AT, Header, LABELS_LEN, MOST_BLOCKS, Reader, SLOT_LEN, Slot, accumulators_len,
    labels_at, read_labels, record_len, slot_at,
};
use crate::series::{Head, Open};
use crate::waiting::Kept;
use crate::{Calendar, File, InstanceId, Policy};

/// A catalogue as it was read.
type HeadAndEntries<'b> = (&'b [u8; Catalogue::HEAD_LEN], &'b [u8]);

/// Bytes of a catalogue's entry with a key of 96.
const USUAL_ENTRY_LEN: usize = 128;

/// A file being read for the first time.
pub(super) struct Reading<'a> {
    pub(super) id: InstanceId,
    pub(super) path: &'a Path,
    pub(super) dir: &'a Path,
    pub(super) file: &'a dyn File,
    pub(super) keys: &'a Arc<Keys>,
}

impl Reading<'_> {
    pub(super) fn instance(&self, upto: u64) -> Result<(Instance, Option<String>), Problem> {
        self.instance_with(&mut Scratch::default(), upto)
    }

    /// [`Reading::instance`] with room that the file before has left.
    pub(super) fn instance_with(
        &self,
        scratch: &mut Scratch,
        upto: u64,
    ) -> Result<(Instance, Option<String>), Problem> {
        scratch.fronts.clear();
        scratch.fronts.read(self.file, 0, FIRST_BLOCK_AT)?;
        let header = Header::decode(scratch.fronts.head()).map_err(Problem)?;
        if header.instance != self.id {
            let what =
                format!("the archive of instance {}; give it its name back", header.instance);
            return Err(Problem(what));
        }
        if let Some(tzdb) = Header::other_tzdb(scratch.fronts.head()) {
            tell_of_other_days(tzdb);
        }
        let form = scratch.form(header.policy);
        let path = self.path.to_owned();
        let keys = Arc::clone(self.keys);
        let instance =
            Instance { path, ..Instance::new(self.id, self.dir, Arc::clone(&form), keys) };
        let slots = Candidates::of(scratch.fronts.head(), upto);
        let layout = self.blocks(&form.policy, slots.likely(), &mut scratch.fronts)?;
        let (state, remark) = self.newest_state(&form, &layout, slots, scratch)?;
        if layout.len() > state.filed.catalogues.len() {
            // Blocks that no round has synced: a grant may have been killed just before it did.
            self.file.sync_data()?;
        }
        let mut index = write(&instance.index);
        index.fill(&layout, Arc::clone(state.names.roster()), state.all_series());
        index.insert_free(&layout, &state.names.vacant);
        drop(index);
        let growing = Mutex::new(Growth { has_file: true, ..Growth::default() });
        let layout = RwLock::new(scratch.layout(layout));
        Ok((Instance { growing, layout, state: Mutex::new(state), ..instance }, remark))
    }

    /// The blocks of the directory, up to the first that is not there: a grant that was cut short.
    /// With each head its accumulators are read, of the copy that is likely to be wanted.
    fn blocks(
        &self,
        policy: &Policy,
        likely: Option<Copy>,
        fronts: &mut Fronts,
    ) -> Result<Vec<Block>, Problem> {
        let len = self.file.len()?;
        let mut blocks: Vec<Block> = Vec::new();
        for number in 0..MOST_BLOCKS {
            let at = usize::try_from(DirectoryEntry::at(number)).expect("within the head");
            let bytes = &fronts.head()[at..at + DirectoryEntry::LEN];
            let Some(entry) = DirectoryEntry::decode(bytes) else { break };
            let expected_at = blocks.last().map_or(FIRST_BLOCK_AT, Block::end);
            let expected_column = blocks.last().map_or(0, |block| block.columns().end);
            let is_next = entry.offset == expected_at && entry.first_column == expected_column;
            if !is_next || entry.offset.checked_add(entry.len).is_none_or(|end| end > len) {
                break;
            }
            let least = BLOCK_HEAD_LEN as u64;
            let front = Block::front_len(policy, entry.width, likely);
            fronts.read(self.file, entry.offset, front.min(entry.len).max(least))?;
            let head = fronts.get(entry.offset, BLOCK_HEAD_LEN).expect("it has just been read");
            let Some(block) = Block::decode(head, policy, &entry) else { break };
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// The state of the newest slot not above `upto`; of the other one, with a remark, if that is damaged.
    fn newest_state(
        &self,
        form: &Arc<Form>,
        layout: &[Block],
        Candidates { slots, is_one_damaged }: Candidates,
        scratch: &mut Scratch,
    ) -> Result<(State, Option<String>), Problem> {
        if slots.first().is_some_and(|(slot, _)| slot.is_removed) {
            let state = State { is_removed: true, ..State::of(Arc::clone(form)) };
            return Ok((state, None));
        }
        let mut newest = None;
        for (slot, copy) in slots {
            match self.state(form, layout, (slot, copy), scratch) {
                Ok(state) => {
                    repair::restore(self.file, layout, slot)?;
                    let older =
                        |what| format!("{what}; an older state is used, its newest rows are lost");
                    let damaged = || is_one_damaged.then(|| ONE_SLOT_DAMAGED.to_owned());
                    return Ok((state, newest.map(older).or_else(damaged)));
                }
                Err(Problem(what)) => newest = newest.or(Some(what)),
            }
        }
        let what = newest.unwrap_or_else(|| "no slot of it is valid".to_owned());
        Err(Problem(format!("{what}; restore it from a backup")))
    }

    fn state(
        &self,
        form: &Arc<Form>,
        layout: &[Block],
        (slot, copy): (Slot, Copy),
        scratch: &mut Scratch,
    ) -> Result<State, Problem> {
        let missing = |number| Problem(format!("block {number} is damaged or cut off"));
        let mut state = State {
            is_granted: slot.block_count > 0,
            batch: slot.batch,
            applied_seq: slot.seq,
            folded_upto: slot.seq,
            labels_seq: slot.labels_seq,
            ..State::of(Arc::clone(form))
        };
        state.filed.slot = copy;
        if slot.labels_seq > 0 {
            let labels_copy = usize::from(slot.labels_copy & 1);
            let at = usize::try_from(labels_at(labels_copy)).expect("within the head");
            let bytes = &scratch.fronts.head()[at..at + LABELS_LEN];
            state.labels = read_labels(bytes, slot.labels_seq)
                .ok_or_else(|| Problem("its labels are damaged".to_owned()))?;
            state.filed.labels = Written { seq: slot.labels_seq, copy: labels_copy };
        }
        let block_count = usize::try_from(slot.block_count).unwrap_or(usize::MAX);
        if let Some(last) = block_count.checked_sub(1).and_then(|last| layout.get(last)) {
            // All at once: arrays that grow block by block leave holes behind.
            let head = scratch.fronts.get(last.accumulators_at(copy), AccumulatorsHead::LEN);
            let used = head.and_then(AccumulatorsHead::decode).map_or(0, |head| head.column_count);
            grow(&mut state, (last.first_column + used.min(last.width)) as usize);
        }
        scratch.found.clear();
        for number in 0..block_count {
            let block = layout.get(number).ok_or_else(|| missing(number))?;
            let read = self.columns(block, (slot, copy), &mut state, scratch)?;
            read.ok_or_else(|| missing(number))?;
        }
        scratch.found.grow(state.columns.len());
        state.filed.rows.put(&scratch.found.rows);
        state.filed.counted = state.filed.rows.clone();
        let roster = scratch.found.roster(self.keys);
        Arc::make_mut(&mut state.names).fill(roster, &scratch.found.births);
        state.look_for_newest(form.policy.step());
        Ok(state)
    }

    /// The series of one block; `None` when something of it is not as it was written.
    fn columns(
        &self,
        block: &Block,
        (slot, copy): (Slot, Copy),
        state: &mut State,
        scratch: &mut Scratch,
    ) -> Result<Option<()>, Problem> {
        let archives = Arc::clone(&state.form.archives);
        let archive_count = archives.len();
        let at = block.accumulators_at(copy);
        let len = accumulators_len(block.width, archive_count);
        let Scratch { fronts, entries, found, .. } = scratch;
        let len = usize::try_from(len).expect("at most 10,000 records");
        if fronts.get(at, len).is_none() {
            fronts.read(self.file, at, len as u64)?;
        }
        let bytes = fronts.get(at, len).expect("it has just been read");
        let (head, records) = bytes.split_at(AccumulatorsHead::LEN);
        let Some(head) = AccumulatorsHead::decode(head) else { return Ok(None) };
        let is_of_slot = head.seq == slot.seq && head.epoch == slot.epoch;
        let used = u64::from(head.column_count) * record_len(archive_count) as u64;
        let used = usize::try_from(used).unwrap_or(usize::MAX);
        let Some(records) = records.get(..used) else { return Ok(None) };
        if !is_of_slot || crc32c::crc32c(records) != head.records_crc {
            return Ok(None);
        }
        let written =
            Written { seq: head.catalogue_seq, copy: usize::from(head.catalogue_copy & 1) };
        Arc::make_mut(&mut state.filed.catalogues).push(written);
        if head.column_count == 0 {
            return Ok(Some(()));
        }
        let Some((catalogue_head, entries)) =
            self.catalogue(block, written, head.column_count, entries)?
        else {
            return Ok(None);
        };
        let Some(entries) = Catalogue::decode(catalogue_head, entries) else { return Ok(None) };
        if entries.len() as u64 != u64::from(head.column_count)
            || entries.len() > block.width as usize
        {
            return Ok(None);
        }
        let records = records.chunks_exact(record_len(archive_count));
        let places = block.first_column as usize..;
        let count = block.first_column as usize + entries.len();
        grow(state, count);
        found.grow(count);
        for ((place, entry), record) in places.zip(&entries).zip(records) {
            let Some(record) = Record::decode(record, archive_count) else { return Ok(None) };
            let is_whole = record.generation == entry.generation
                && record.generation > 0
                && record.open.agrees_with(&archives);
            if !is_whole {
                return Ok(None);
            }
            if put(block, state, (place, entry, &record)) {
                found.rows[place] = record.newest_row();
                found.births[place] = record.open.birth;
                found.name(place, entry.key, self.keys);
            } else {
                found.vacate(place);
            }
        }
        Ok(Some(()))
    }

    /// The head and the entries of a copy of a catalogue. Of usual keys one read brings both.
    fn catalogue<'b>(
        &self,
        block: &Block,
        written: Written,
        column_count: u32,
        bytes: &'b mut Vec<u8>,
    ) -> Result<Option<HeadAndEntries<'b>>, Problem> {
        let at = block.catalogue_at(written.copy);
        let room = usize::try_from(Catalogue::len(block.width)).expect("512 bytes a column");
        let usual = Catalogue::HEAD_LEN + column_count as usize * USUAL_ENTRY_LEN;
        let usual = usual.min(room);
        bytes.resize(bytes.len().max(room), 0);
        self.file.read_at(&mut bytes[..usual], at)?;
        let head = bytes.first_chunk().expect("there is room for its head");
        let Some(len) = Catalogue::entries_len(head, written.seq) else { return Ok(None) };
        let Some(end) = len.checked_add(Catalogue::HEAD_LEN).filter(|&end| end <= room) else {
            return Ok(None);
        };
        if end > usual {
            self.file.read_at(&mut bytes[usual..end], at + usual as u64)?;
        }
        Ok(bytes[..end].split_first_chunk())
    }
}

/// Why a file cannot be used, in words that end in a remedy.
pub(super) struct Problem(pub(super) String);

impl From<io::Error> for Problem {
    fn from(reason: io::Error) -> Self {
        Self(match reason.kind() {
            io::ErrorKind::UnexpectedEof => {
                "shorter than it was made; restore it from a backup".to_owned()
            }
            _ => format!("cannot be read: {reason}; check the disk"),
        })
    }
}

/// Says once for each version that days may now begin at other moments.
fn tell_of_other_days(written_with: &str) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if told.insert(written_with.to_owned()) {
        let now = Calendar::tzdb_version();
        tracing::warn!(
            written_with,
            now,
            "archives have days of another version of the time zones"
        );
    }
}

/// Room for so many columns.
fn grow(state: &mut State, count: usize) {
    let archive_count = state.form.archives.len();
    Arc::make_mut(&mut state.columns).grow(count);
    state.filed.grow(count, archive_count);
}

/// Lays one column into the arrays; false where no series lives there.
fn put(
    block: &Block,
    state: &mut State,
    (place, entry, record): (usize, &Entry<'_>, &Record),
) -> bool {
    let Some(definition) = entry.definition() else {
        let index = u32::try_from(place).expect("at most 256 blocks of 64 columns");
        Arc::make_mut(&mut state.names).vacant.insert(index, record.generation);
        return false;
    };
    let open = &record.open;
    let archive_count = state.form.archives.len();
    Arc::make_mut(&mut state.filed.checksums)[place * archive_count..][..archive_count]
        .copy_from_slice(&record.checksums);
    let kept = Kept { cell: block.cell, last: state.form.policy.keeps_last() };
    let class = state.class(Class { definition, kept });
    let columns = Arc::make_mut(&mut state.columns);
    columns.begin(place, Head::unborn(record.generation, class));
    if let Some(mut stored) = columns.open(place) {
        open.store(&mut stored, &state.form.grid);
    }
    state.series_count += 1;
    true
}

/// The slots that a start may begin with, the newest first.
struct Candidates {
    slots: Vec<(Slot, Copy)>,
    is_one_damaged: bool,
}

impl Candidates {
    /// Those in the head of a file that are not above `upto`.
    fn of(head: &[u8], upto: u64) -> Self {
        let mut is_one_damaged = false;
        let mut is_first = false;
        let mut slots: Vec<(Slot, Copy)> = Vec::new();
        for copy in 0..2 {
            let at = usize::try_from(slot_at(copy)).expect("within the head");
            let bytes = &head[at..at + SLOT_LEN];
            match Slot::decode(bytes) {
                Some(slot) if slot.seq <= upto => slots.push((slot, copy)),
                Some(_) => {}
                // The second slot of a new file.
                None if copy == 1 && is_first && bytes.iter().all(|&byte| byte == 0) => {}
                None => is_one_damaged = true,
            }
            is_first = slots.iter().any(|(slot, _)| slot.seq == 0);
        }
        slots.sort_by_key(|(slot, _)| std::cmp::Reverse(slot.seq));
        Self { slots, is_one_damaged }
    }

    /// The copy that will be used unless it is damaged; `None` where the file has no series yet.
    fn likely(&self) -> Option<Copy> {
        let (slot, copy) = self.slots.first()?;
        (slot.block_count > 0).then_some(*copy)
    }
}

/// One column's accumulators.
struct Record {
    generation: u32,
    checksums: Vec<u32>,
    open: Open,
}

impl Record {
    fn decode(bytes: &[u8], archive_count: usize) -> Option<Self> {
        let mut fields = Reader(bytes);
        let generation = fields.u32()?;
        let checksums = (0..archive_count).map(|_| fields.u32()).collect::<Option<_>>()?;
        Some(Self { generation, checksums, open: Open::decode(fields.0).ok()? })
    }

    /// That the file has, or [`NO_ROW`].
    fn newest_row(&self) -> i64 {
        if self.open.is_unborn() { NO_ROW } else { self.open.newest_row }
    }
}
