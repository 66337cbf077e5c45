//! The checkpoint record: up to where the files hold everything, in two slots written in turn.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rrd::{Disk, File};

use crate::error::JournalError;
use crate::frame::{u32_at, u64_at};
use crate::segment::usize_of;

/// Where a finished checkpoint round stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// S: every frame up to this one is in the files.
    pub seq: u64,
    /// The journal's epoch when the round was written.
    pub epoch: u64,
    /// Files that could not be written, each with the sequence it stands at.
    pub excepted: Vec<(String, u64)>,
}

pub(crate) const FILE_NAME: &str = "checkpoint";
/// Room for some hundreds of excepted files: a disk with more of them fails as a whole.
const SLOT_BYTES: u64 = 32 * 1024;
pub(crate) const FILE_BYTES: u64 = 2 * SLOT_BYTES;
const MAGIC: &[u8; 8] = b"RNDLCKP1";
const HEAD_BYTES: usize = 40;

/// The record of the last finished checkpoint in the journal folder `dir`; the default where there
/// is no journal yet. For a caller who needs S before it can open the journal.
pub fn checkpoint(disk: &dyn Disk, dir: &Path) -> Result<Record, JournalError> {
    let path = dir.join(FILE_NAME);
    match disk.open(&path) {
        Ok(file) => Ok(RecordFile::open(file, path)?.1),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
        Err(error) => Err(JournalError::io(path)(error)),
    }
}

/// The open file and the number of the record in it.
pub(crate) struct RecordFile {
    file: Arc<dyn File>,
    path: PathBuf,
    generation: u64,
}

impl RecordFile {
    /// Reads the newest sound record and makes it last: after kill -9 it may only be in the cache,
    /// and segments are written over on its word.
    pub(crate) fn open(file: Arc<dyn File>, path: PathBuf) -> Result<(Self, Record), JournalError> {
        file.sync_data().map_err(JournalError::io(&path))?;
        let mut bytes = vec![0; usize_of(FILE_BYTES)];
        file.read_at(&mut bytes, 0).map_err(JournalError::io(&path))?;
        let slots = bytes.chunks_exact(usize_of(SLOT_BYTES));
        let Some((generation, record)) = slots.filter_map(decode).max_by_key(|slot| slot.0) else {
            return Err(JournalError::Record(path));
        };
        Ok((Self { file, path, generation }, record))
    }

    /// Writes `record` over the older slot and syncs it.
    pub(crate) fn write(&mut self, record: &Record) -> io::Result<()> {
        let generation = self.generation + 1;
        let bytes = encode(generation, record)?;
        self.file.write_at(&bytes, generation % 2 * SLOT_BYTES)?;
        self.file.sync_data()?;
        self.generation = generation;
        Ok(())
    }

    /// No record was ever written.
    pub(crate) fn is_blank(&self) -> bool {
        self.generation == 0
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn encode(generation: u64, record: &Record) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "too many excepted files");
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    for number in [generation, record.seq, record.epoch] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&[0; 8]); // The body's length and the checksum, known below.
    for (name, seq) in &record.excepted {
        let name_len = u16::try_from(name.len()).map_err(|_| too_long())?;
        bytes.extend_from_slice(&seq.to_le_bytes());
        bytes.extend_from_slice(&name_len.to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
    }
    if bytes.len() as u64 > SLOT_BYTES {
        return Err(too_long());
    }
    let body_len = u32::try_from(bytes.len() - HEAD_BYTES).map_err(|_| too_long())?;
    bytes[32..36].copy_from_slice(&body_len.to_le_bytes());
    let crc = checksum(&bytes);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

/// A slot never written to is the record of no checkpoint at all.
fn decode(slot: &[u8]) -> Option<(u64, Record)> {
    if slot.iter().all(|byte| *byte == 0) {
        return Some((0, Record::default()));
    }
    let body_len = usize::try_from(u32_at(slot, 32)).ok()?;
    let bytes = slot.get(..HEAD_BYTES.checked_add(body_len)?)?;
    if !bytes.starts_with(MAGIC) || checksum(bytes) != u32_at(bytes, 36) {
        return None;
    }
    let mut excepted = Vec::new();
    let mut rest = &bytes[HEAD_BYTES..];
    while let Some((seq, tail)) = rest.split_first_chunk() {
        let (name_len, tail) = tail.split_first_chunk()?;
        let (name, tail) = tail.split_at_checked(u16::from_le_bytes(*name_len).into())?;
        excepted.push((str::from_utf8(name).ok()?.to_owned(), u64::from_le_bytes(*seq)));
        rest = tail;
    }
    let record = Record { seq: u64_at(bytes, 16), epoch: u64_at(bytes, 24), excepted };
    Some((u64_at(bytes, 8), record))
}

/// True for a slot that is whole, or was never written.
pub(crate) fn is_sound(slot: &[u8]) -> bool {
    decode(slot).is_some()
}

/// Over everything but the checksum itself.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..36]), &bytes[HEAD_BYTES..])
}

#[cfg(test)]
mod tests {
    use rrd::disk::MemDisk;

    use super::*;

    fn disk() -> MemDisk {
        let disk = MemDisk::new();
        let file = disk.create(Path::new("/j/checkpoint")).unwrap();
        file.allocate(0, FILE_BYTES).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/j")).unwrap();
        disk
    }

    fn open(disk: &MemDisk) -> Result<(RecordFile, Record), JournalError> {
        let path = PathBuf::from("/j/checkpoint");
        RecordFile::open(disk.open(&path).unwrap(), path)
    }

    fn record(seq: u64) -> Record {
        Record { seq, epoch: 3, excepted: vec![("web-1.rrd".to_owned(), 5), (String::new(), 6)] }
    }

    #[test]
    fn the_last_record_written_is_read_back() {
        let disk = disk();
        assert_eq!(open(&disk).unwrap().1, Record::default());
        for seq in 1..5 {
            open(&disk).unwrap().0.write(&record(seq)).unwrap();
            assert_eq!(checkpoint(&disk, Path::new("/j")).unwrap(), record(seq));
        }
    }

    #[test]
    fn a_power_cut_in_a_write_leaves_the_old_record_or_the_new() {
        for (op_count, seed) in (0..2).flat_map(|ops| (0..20).map(move |seed| (ops, seed))) {
            let disk = disk();
            let mut file = open(&disk).unwrap().0;
            file.write(&record(1)).unwrap();
            disk.stop_after(op_count);
            file.write(&record(2)).unwrap_err();
            let found = open(&disk.crash(seed)).unwrap().1;
            assert!(found == record(1) || found == record(2), "{op_count} {seed}");
        }
    }

    #[test]
    fn a_broken_slot_gives_way_to_the_other_and_two_are_an_error() {
        let disk = disk();
        let mut file = open(&disk).unwrap().0;
        file.write(&record(1)).unwrap();
        file.write(&record(2)).unwrap();
        let raw = disk.open(Path::new("/j/checkpoint")).unwrap();
        raw.write_at(b"x", 20).unwrap();
        assert_eq!(open(&disk).unwrap().1, record(1));
        raw.write_at(b"x", SLOT_BYTES + 20).unwrap();
        assert!(matches!(open(&disk), Err(JournalError::Record(_))));
    }

    #[test]
    fn a_record_too_long_for_its_slot_is_refused() {
        let excepted = vec![("n".repeat(1000), 1); 40];
        let error = encode(1, &Record { seq: 1, epoch: 1, excepted }).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
