//! Opening: each file's newest state not above the checkpoint. Replay brings the rest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use super::instance::{Form, Growth, Index, Instance, Used};
use super::state::{Filed, NO_ROW, Series, State, Written};
use super::{Store, lock};
use crate::file::{
    AccumulatorsHead, BLOCK_HEAD_LEN, Block, Catalogue, Copy, DIRECTORY_AT, DirectoryEntry,
    FIRST_BLOCK_AT, Header, LABELS_LEN, MOST_BLOCKS, Reader, SLOT_LEN, Slot, accumulators_len,
    labels_at, read_labels, record_len, slot_at,
};
use crate::handles::Handles;
use crate::series::Open;
use crate::{Column, Damage, Disk, File, InstanceId, Policy, StoreError, Timestamp};

impl Store {
    /// Opens the folder of archives, as they were at the checkpoint `upto`: what later rounds have
    /// written is passed over. A file that cannot be used is left in its place and reported, and its
    /// instance is not there.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        upto: u64,
    ) -> Result<(Self, Vec<Damage>), StoreError> {
        let folder = |reason| StoreError::Folder { path: dir.to_owned(), reason };
        disk.create_dir(dir).map_err(folder)?;
        // After kill -9 names may only be in the cache, and grants are acknowledged on their word.
        disk.sync_dir(dir).map_err(folder)?;
        let paths = disk.list(dir).map_err(folder)?;
        let mut store = Self {
            dir: dir.to_owned(),
            handles: Arc::new(Handles::new(disk)),
            instances: RwLock::default(),
            unavailable: std::collections::BTreeSet::new(),
            leftovers: Mutex::default(),
            damage: Mutex::default(),
            advanced_to: Mutex::new(Timestamp::MIN),
        };
        let paths = store.settle_changes(paths, upto).map_err(folder)?;
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                // A file whose making was cut short; nothing of it was acknowledged.
                Some("new") => store.handles.disk().remove(&path).map_err(folder)?,
                Some("rrd") => store.open_file(&path, upto),
                _ => {}
            }
        }
        let damage = store.damage();
        Ok((store, damage))
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
    /// Answers the other files.
    fn settle_changes(&mut self, paths: Vec<PathBuf>, upto: u64) -> io::Result<Vec<PathBuf>> {
        let is_next = |path: &PathBuf| path.extension().is_some_and(|name| name == "next");
        let (nexts, mut others): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_next);
        let disk = self.handles.disk();
        for path in nexts {
            if counts(disk, &path, upto)? {
                let archive = path.with_extension("rrd");
                disk.rename(&path, &archive)?;
                if !others.contains(&archive) {
                    others.push(archive);
                }
            } else if let Some(id) = id_of(&path) {
                let leftovers = self.leftovers.get_mut();
                leftovers.unwrap_or_else(std::sync::PoisonError::into_inner).insert(id);
            }
        }
        disk.sync_dir(&self.dir)?;
        Ok(others)
    }

    fn open_file(&mut self, path: &Path, upto: u64) {
        let Some(id) = id_of(path) else {
            let what = "not the name of an archive; move it away".to_owned();
            return self.report(Damage { instance: None, path: path.to_owned(), what });
        };
        let damage = |what| Damage { instance: Some(id), path: path.to_owned(), what };
        let opened = self.handles.file(id, path).map_err(Problem::from).and_then(|file| {
            let reading = Reading { id, path, dir: &self.dir, file: file.as_ref() };
            reading.instance(upto)
        });
        match opened {
            Ok((instance, _)) if lock(&instance.state).is_removed => self.finish_removal(&instance),
            Ok((instance, remark)) => {
                if let Some(what) = remark {
                    self.report(damage(what));
                }
                let instances = self.instances.get_mut();
                let instances = instances.unwrap_or_else(std::sync::PoisonError::into_inner);
                instances.insert(id, Arc::new(instance));
            }
            Err(Problem(what)) => {
                self.unavailable.insert(id);
                self.report(damage(what));
            }
        }
    }
}

fn id_of(path: &Path) -> Option<InstanceId> {
    path.file_stem()?.to_str()?.parse().ok()
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

/// Why a file cannot be used, in words that end in a remedy.
struct Problem(String);

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

/// A file being read for the first time.
struct Reading<'a> {
    id: InstanceId,
    path: &'a Path,
    dir: &'a Path,
    file: &'a dyn File,
}

impl Reading<'_> {
    fn instance(&self, upto: u64) -> Result<(Instance, Option<String>), Problem> {
        let mut head = vec![0; usize::try_from(FIRST_BLOCK_AT).expect("20 KiB")];
        self.file.read_at(&mut head, 0)?;
        let header = Header::decode(&head).map_err(Problem)?;
        if header.instance != self.id {
            let what =
                format!("the archive of instance {}; give it its name back", header.instance);
            return Err(Problem(what));
        }
        let form = Form::of(header.policy);
        let instance = Instance::new(self.id, self.dir, form.policy.clone());
        debug_assert_eq!(instance.path, PathBuf::from(self.path), "the name is the id");
        let layout = self.blocks(&form.policy, &head)?;
        let (state, used, remark) = self.newest_state(&form, &layout, &head, upto)?;
        if layout.len() > state.filed.catalogues.len() {
            // Blocks that no round has synced: a grant may have been killed just before it did.
            self.file.sync_data()?;
        }
        let mut index = Index { used, free: state.vacant.clone(), ..Index::default() };
        for (number, series) in (0..).zip(&state.columns) {
            if let Some(series) = series {
                let column = Column { index: number, generation: series.generation };
                index.columns.insert(Arc::clone(&series.key), column);
            }
        }
        let growing = Mutex::new(Growth { has_file: true, ..Growth::default() });
        let layout = RwLock::new(Arc::new(layout));
        let (state, index) = (Mutex::new(state), RwLock::new(index));
        Ok((Instance { growing, layout, state, index, ..instance }, remark))
    }

    /// The blocks of the directory, up to the first that is not there: a grant that was cut short.
    fn blocks(&self, policy: &Policy, head: &[u8]) -> Result<Vec<Block>, Problem> {
        let len = self.file.len()?;
        let mut blocks: Vec<Block> = Vec::new();
        let at = usize::try_from(DIRECTORY_AT).expect("10 KiB");
        for bytes in head[at..].chunks_exact(DirectoryEntry::LEN).take(MOST_BLOCKS) {
            let Some(entry) = DirectoryEntry::decode(bytes) else { break };
            let expected_at = blocks.last().map_or(FIRST_BLOCK_AT, Block::end);
            let expected_column = blocks.last().map_or(0, |block| block.columns().end);
            let is_next = entry.offset == expected_at && entry.first_column == expected_column;
            if !is_next || entry.offset.checked_add(entry.len).is_none_or(|end| end > len) {
                break;
            }
            let mut bytes = [0; BLOCK_HEAD_LEN];
            self.file.read_at(&mut bytes, entry.offset)?;
            let Some(block) = Block::decode(&bytes, policy, &entry) else { break };
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// The state of the newest slot not above `upto`; of the other one, with a remark, if that is damaged.
    fn newest_state(
        &self,
        form: &Arc<Form>,
        layout: &[Block],
        head: &[u8],
        upto: u64,
    ) -> Result<(State, Vec<Used>, Option<String>), Problem> {
        let mut remark = None;
        let mut slots = Vec::new();
        for copy in 0..2 {
            let at = usize::try_from(slot_at(copy)).expect("within the head");
            let bytes = &head[at..at + SLOT_LEN];
            match Slot::decode(bytes) {
                Some(slot) if slot.seq <= upto => slots.push((slot, copy)),
                Some(_) => {}
                None if bytes.iter().all(|&byte| byte == 0) => {}
                None => remark = Some("one of its two slots is damaged; the other one is used, compare its newest rows".to_owned()),
            }
        }
        slots.sort_by_key(|(slot, _)| std::cmp::Reverse(slot.seq));
        if slots.first().is_some_and(|(slot, _)| slot.is_removed) {
            let state = State { is_removed: true, ..State::of(Arc::clone(form)) };
            return Ok((state, Vec::new(), None));
        }
        for (slot, copy) in slots {
            match self.state(form, layout, head, slot, copy) {
                Ok((state, used)) => return Ok((state, used, remark)),
                Err(Problem(what)) => {
                    remark =
                        Some(format!("{what}; an older state is used, its newest rows are lost"));
                }
            }
        }
        let what = remark.unwrap_or_else(|| "no slot of it is valid".to_owned());
        Err(Problem(format!("{what}; restore it from a backup")))
    }

    fn state(
        &self,
        form: &Arc<Form>,
        layout: &[Block],
        head: &[u8],
        slot: Slot,
        copy: Copy,
    ) -> Result<(State, Vec<Used>), Problem> {
        let missing = |number| Problem(format!("block {number} is damaged or cut off"));
        let mut state = State {
            is_granted: slot.block_count > 0,
            batch: slot.batch,
            applied_seq: slot.seq,
            labels_seq: slot.labels_seq,
            ..State::of(Arc::clone(form))
        };
        state.filed.slot = copy;
        if slot.labels_seq > 0 {
            let labels_copy = usize::from(slot.labels_copy & 1);
            let at = usize::try_from(labels_at(labels_copy)).expect("within the head");
            state.labels = read_labels(&head[at..at + LABELS_LEN], slot.labels_seq)
                .ok_or_else(|| Problem("its labels are damaged".to_owned()))?;
            state.filed.labels = Written { seq: slot.labels_seq, copy: labels_copy };
        }
        let mut used = Vec::new();
        let block_count = usize::try_from(slot.block_count).unwrap_or(usize::MAX);
        for number in 0..block_count {
            let block = layout.get(number).ok_or_else(|| missing(number))?;
            let columns = self.columns(form, block, slot, copy, &mut state.filed);
            let columns = columns?.ok_or_else(|| missing(number))?;
            used.push(Used::default());
            state.columns.resize_with(block.first_column as usize, || None);
            for (position, (generation, series)) in (0..).zip(columns) {
                used[number].add(position, series.as_ref().map_or(&[], |series| &series.key));
                if series.is_none() {
                    state.vacant.insert(block.first_column + position, generation);
                }
                state.columns.push(series);
            }
        }
        Ok((state, used))
    }

    /// The series of one block; `None` when something of it is not as it was written.
    fn columns(
        &self,
        form: &Form,
        block: &Block,
        slot: Slot,
        copy: Copy,
        filed: &mut Filed,
    ) -> Result<Option<Vec<Place>>, Problem> {
        let archive_count = form.archives.len();
        let len = accumulators_len(block.width, archive_count);
        let mut bytes = vec![0; usize::try_from(len).expect("64 columns of records")];
        self.file.read_at(&mut bytes, block.accumulators_at(copy))?;
        let (head, records) = bytes.split_at(AccumulatorsHead::LEN);
        let Some(head) = AccumulatorsHead::decode(head) else { return Ok(None) };
        let is_of_slot = head.seq == slot.seq && head.epoch == slot.epoch;
        if !is_of_slot || crc32c::crc32c(records) != head.records_crc {
            return Ok(None);
        }
        let written =
            Written { seq: head.catalogue_seq, copy: usize::from(head.catalogue_copy & 1) };
        filed.catalogues.push(written);
        filed.grow(block.columns().end as usize, archive_count);
        if head.column_count == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut catalogue_head = [0; Catalogue::HEAD_LEN];
        let at = block.catalogue_at(written.copy);
        self.file.read_at(&mut catalogue_head, at)?;
        let Some(len) = Catalogue::entries_len(&catalogue_head, written.seq) else {
            return Ok(None);
        };
        if len as u64 > Catalogue::room(block.width) {
            return Ok(None);
        }
        let mut entries = vec![0; len];
        self.file.read_at(&mut entries, at + Catalogue::HEAD_LEN as u64)?;
        let Some(entries) = Catalogue::decode(&catalogue_head, &entries) else { return Ok(None) };
        if entries.len() as u64 != u64::from(head.column_count)
            || entries.len() > block.width as usize
        {
            return Ok(None);
        }
        let records = records.chunks_exact(record_len(archive_count));
        let mut columns = Vec::with_capacity(entries.len());
        for ((index, entry), record) in (block.first_column..).zip(entries).zip(records) {
            let Some(record) = Record::decode(record, archive_count) else { return Ok(None) };
            let open = record.open;
            if record.generation != entry.generation || !open.agrees_with(&form.archives) {
                return Ok(None);
            }
            let Some(definition) = entry.definition() else {
                columns.push((entry.generation, None));
                continue;
            };
            let place = index as usize;
            filed.rows[place] = if open.is_unborn() { NO_ROW } else { open.newest_row };
            filed.checksums[place * archive_count..][..archive_count]
                .copy_from_slice(&record.checksums);
            let series = Series {
                key: entry.key.into(),
                generation: entry.generation,
                cell: block.cell,
                definition,
                open,
            };
            columns.push((entry.generation, Some(series)));
        }
        Ok(Some(columns))
    }
}

/// A column as a file has it: its generation, and the series if one lives there.
type Place = (u32, Option<Series>);

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
}
