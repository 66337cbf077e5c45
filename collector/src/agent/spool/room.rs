//! Where segments lie: in places of one file that is reserved at the start, or in memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rrd::disk::{Disk, File};

use super::segment::{HEADER_BYTES, Header, SEGMENT_BYTES};

/// The file's name in the agent's state folder.
const FILE_NAME: &str = "spool";

/// What stands before the first segment: two marks, each in a sector of its own.
const FRONT_BYTES: u64 = 4096;
const MARK_STRIDE: u64 = 512;
const MARK_BYTES: usize = 40;
const MARK_MAGIC: [u8; 8] = *b"RNDLMRK1";

/// Segments there are at least: one that is written, one that is sent, one to put together older ones
/// in, and some that wait.
pub(super) const SEGMENTS_MIN: usize = 8;

/// A place in the spool: everything before it has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::agent) struct Place {
    /// The segment.
    pub(super) seq: u64,
    /// The byte of it where the next record begins.
    pub(super) offset: usize,
    /// Samples of that record that have left.
    pub(super) part: usize,
}

impl Place {
    /// The first record of a segment.
    pub(super) fn start_of(seq: u64) -> Self {
        Self { seq, offset: HEADER_BYTES, part: 0 }
    }
}

/// Where one segment's bytes are.
#[derive(Debug)]
pub(super) enum Slot {
    File(u32),
    Memory(Vec<u8>),
}

/// Room for a bounded number of segments.
pub(super) struct Room {
    /// Absent in memory, and once the disk has failed.
    file: Option<Arc<dyn File>>,
    free_slots: Vec<u32>,
    segments_max: usize,
    mark_count: u64,
    /// The disk failed: segments are begun in memory.
    is_left: bool,
}

impl Room {
    /// Room in memory.
    pub(super) fn in_memory(bytes_max: usize) -> Self {
        let segments_max = segments(bytes_max);
        Self { file: None, free_slots: Vec::new(), segments_max, mark_count: 0, is_left: false }
    }

    /// Room in the file in `dir`, which is made and reserved in full when it is not there. Every slot
    /// counts as used until [`Room::free`] says otherwise.
    pub(super) fn on_disk(disk: &dyn Disk, dir: &Path, bytes_max: usize) -> io::Result<Self> {
        let path = dir.join(FILE_NAME);
        let segments_max = segments(bytes_max);
        let len = FRONT_BYTES + segments_max as u64 * SEGMENT_BYTES as u64;
        let file = match disk.open(&path) {
            Ok(file) if file.len()? == len => file,
            Ok(file) => resized(file, len)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(disk, dir, &path, len)?,
            Err(error) => return Err(error),
        };
        let slots = file.len()?.saturating_sub(FRONT_BYTES) / SEGMENT_BYTES as u64;
        let segments_max = usize::try_from(slots).unwrap_or(segments_max);
        Ok(Self {
            file: Some(file),
            free_slots: Vec::new(),
            segments_max,
            mark_count: 0,
            is_left: false,
        })
    }

    /// The headers of all slots, where there are any; the others are free.
    pub(super) fn headers(&mut self) -> io::Result<Vec<(u32, Header)>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for slot in 0..u32::try_from(self.segments_max).unwrap_or(u32::MAX) {
            let mut bytes = [0; HEADER_BYTES];
            file.read_at(&mut bytes, offset_of(slot))?;
            match Header::decode(&bytes) {
                Some(header) => found.push((slot, header)),
                None => self.free_slots.push(slot),
            }
        }
        Ok(found)
    }

    /// How many segments there are at most.
    pub(super) fn segments_max(&self) -> usize {
        self.segments_max
    }

    /// Segments that may still be begun while `held` are there.
    pub(super) fn free(&self, held: usize) -> usize {
        match &self.file {
            Some(_) if !self.is_left => self.free_slots.len(),
            _ => self.segments_max.saturating_sub(held),
        }
    }

    /// A slot for one more segment.
    pub(super) fn begin(&mut self) -> Slot {
        match self.free_slots.pop() {
            Some(slot) if !self.is_left => Slot::File(slot),
            _ => Slot::Memory(Vec::new()),
        }
    }

    /// Takes a segment's room back.
    pub(super) fn end(&mut self, slot: &Slot) {
        if let Slot::File(slot) = slot {
            self.free_slots.push(*slot);
        }
    }

    /// Writes to a segment.
    pub(super) fn write(&self, slot: &mut Slot, offset: usize, bytes: &[u8]) -> io::Result<()> {
        match slot {
            Slot::Memory(memory) => {
                memory.resize(memory.len().max(offset + bytes.len()), 0);
                memory[offset..offset + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            Slot::File(slot) => self.file()?.write_at(bytes, offset_of(*slot) + offset as u64),
        }
    }

    /// Fills `buffer` from a segment.
    pub(super) fn read(&self, slot: &Slot, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        match slot {
            Slot::Memory(memory) => {
                let bytes = memory.get(offset..offset + buffer.len());
                buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Slot::File(slot) => self.file()?.read_at(buffer, offset_of(*slot) + offset as u64),
        }
    }

    /// Makes all that was written last.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.sync_data())
    }

    /// The file, to be synced by somebody who may wait.
    pub(super) fn to_sync(&self) -> Option<Arc<dyn File>> {
        self.file.clone()
    }

    /// From now on segments are begun in memory; those in the file can still be read.
    pub(super) fn leave_disk(&mut self) {
        self.is_left = true;
    }

    fn file(&self) -> io::Result<&Arc<dyn File>> {
        self.file.as_ref().ok_or_else(|| io::Error::other("this spool has no file"))
    }

    /// Notes up to where everything has left. Not synced: a mark that a power cut takes back costs
    /// samples sent twice, which changes nothing on the server.
    pub(super) fn mark(&mut self, place: Place) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        self.mark_count += 1;
        let mut bytes = Vec::with_capacity(MARK_BYTES + 4);
        bytes.extend(MARK_MAGIC);
        for number in [self.mark_count, place.seq, place.offset as u64, place.part as u64] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        file.write_at(&bytes, (self.mark_count % 2) * MARK_STRIDE)
    }

    /// The newest mark.
    pub(super) fn marked(&mut self) -> io::Result<Place> {
        let Some(file) = &self.file else { return Ok(Place::default()) };
        let mut newest = (0, Place::default());
        for at in 0..2 {
            let mut bytes = [0; MARK_BYTES + 4];
            file.read_at(&mut bytes, at * MARK_STRIDE)?;
            newest = newest.max(mark(&bytes).unwrap_or_default());
        }
        self.mark_count = newest.0;
        Ok(newest.1)
    }
}

fn mark(bytes: &[u8]) -> Option<(u64, Place)> {
    let (body, crc) = bytes.split_at_checked(MARK_BYTES)?;
    let numbers = body.strip_prefix(&MARK_MAGIC)?;
    if crc != crc32c::crc32c(body).to_le_bytes() {
        return None;
    }
    let mut numbers = numbers.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
    let (count, seq) = (numbers.next()?, numbers.next()?);
    let offset = usize::try_from(numbers.next()?).ok()?;
    let part = usize::try_from(numbers.next()?).ok()?;
    Some((count, Place { seq, offset, part }))
}

fn segments(bytes_max: usize) -> usize {
    (bytes_max / SEGMENT_BYTES).max(SEGMENTS_MIN)
}

fn offset_of(slot: u32) -> u64 {
    FRONT_BYTES + u64::from(slot) * SEGMENT_BYTES as u64
}

fn create(disk: &dyn Disk, dir: &Path, path: &Path, len: u64) -> io::Result<Arc<dyn File>> {
    disk.create_dir(dir)?;
    let file = disk.create(path)?;
    let made = file.allocate(0, len).and_then(|()| file.sync_data());
    if let Err(error) = made.and_then(|()| disk.sync_dir(dir)) {
        // What is half reserved would only be in the way.
        disk.remove(path).unwrap_or_default();
        return Err(error);
    }
    Ok(file)
}

/// A file that was reserved for another size: it grows, and does not shrink.
fn resized(file: Arc<dyn File>, len: u64) -> io::Result<Arc<dyn File>> {
    let old = file.len()?;
    if old < len {
        file.allocate(old, len - old)?;
        file.sync_data()?;
    }
    Ok(file)
}
