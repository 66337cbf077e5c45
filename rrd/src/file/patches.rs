//! Patches: small writes to one file, put in order and joined, so that a round makes few and large ones.

use std::io;

use crate::File;

/// Two patches this near are written as one, with the bytes between them read first: a read costs
/// less than another write.
const NEAR: u64 = 4096;
/// One write is not longer, so that memory stays small whatever has piled up.
const LONGEST_WRITE: u64 = 1 << 20;
/// Bytes of patches kept before they are written.
const MOST_BYTES: usize = 8 << 20;

/// Bytes to be written to one file.
pub(crate) struct Patches<'a> {
    file: &'a dyn File,
    room: PatchRoom,
    written: u64,
}

/// Memory of patches, which serves one file after the other.
#[derive(Default)]
pub(crate) struct PatchRoom {
    bytes: Vec<u8>,
    list: Vec<Patch>,
    /// What goes to the file in one go. What is in it before means nothing.
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Patch {
    at: u64,
    start: usize,
    len: usize,
}

impl Patch {
    const fn end(self) -> u64 {
        self.at + self.len as u64
    }
}

impl<'a> Patches<'a> {
    pub(crate) fn of(file: &'a dyn File) -> Self {
        Self::in_room(file, PatchRoom::default())
    }

    /// The same, in memory that served another file.
    pub(crate) fn in_room(file: &'a dyn File, mut room: PatchRoom) -> Self {
        room.list.clear();
        room.bytes.clear();
        Self { file, room, written: 0 }
    }

    /// Bytes written to the file so far.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// The memory, for the next file.
    pub(crate) fn into_room(self) -> PatchRoom {
        self.room
    }

    /// Adds a write. No two patches of a round overlap.
    pub(crate) fn push(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.room.bytes.len() + bytes.len() > MOST_BYTES {
            self.write_all()?;
        }
        let PatchRoom { bytes: all, list, .. } = &mut self.room;
        list.push(Patch { at, start: all.len(), len: bytes.len() });
        all.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what is left and syncs the file: what is pushed after it lasts only if all this does.
    pub(crate) fn barrier(&mut self) -> io::Result<()> {
        self.write_all()?;
        self.file.sync_data()
    }

    /// Writes what is left and syncs the file; the number of bytes written in all.
    pub(crate) fn finish(&mut self) -> io::Result<u64> {
        self.write_all()?;
        self.file.sync_data()?;
        Ok(self.written)
    }

    /// Writes what is left, which a reader of this process then sees.
    pub(crate) fn write_all(&mut self) -> io::Result<()> {
        let PatchRoom { bytes, list, buffer } = &mut self.room;
        // Stable, since that is the one which makes use of what is in order already.
        list.sort_by_key(|patch| patch.at);
        let joined = |a: &Patch, b: &Patch| b.at <= a.end() + NEAR;
        for near in list.chunk_by(joined) {
            let mut rest = near;
            while let Some(first) = rest.first() {
                let fits = |patch: &Patch| patch.end() - first.at <= LONGEST_WRITE;
                let (now, later) = rest.split_at(rest.partition_point(fits).max(1));
                self.written += write(self.file, bytes, now, buffer)?;
                rest = later;
            }
        }
        list.clear();
        bytes.clear();
        Ok(())
    }
}

/// Writes neighbouring patches in one go.
fn write(
    file: &dyn File,
    bytes: &[u8],
    patches: &[Patch],
    buffer: &mut Vec<u8>,
) -> io::Result<u64> {
    let (Some(first), Some(last)) = (patches.first(), patches.last()) else { return Ok(0) };
    let (start, len) = (first.at, last.end() - first.at);
    let covered: usize = patches.iter().map(|patch| patch.len).sum();
    let needed = usize::try_from(len).expect("at most a megabyte, or one patch");
    if buffer.len() < needed {
        buffer.resize(needed, 0);
    }
    let buffer = &mut buffer[..needed];
    if covered < needed {
        file.read_at(buffer, start)?;
    }
    for patch in patches {
        let at = usize::try_from(patch.at - start).expect("inside the buffer");
        buffer[at..at + patch.len].copy_from_slice(&bytes[patch.start..patch.start + patch.len]);
    }
    file.write_at(buffer, start)?;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Disk, MemDisk};

    #[test]
    fn near_patches_are_one_write_and_what_lies_between_stays() {
        let disk = MemDisk::new();
        let file = disk.create(Path::new("/a")).unwrap();
        file.write_at(&vec![9; 20_000], 0).unwrap();
        let before = disk.op_count();
        let mut patches = Patches::of(file.as_ref());
        for at in [12_000, 100, 0, 1000] {
            patches.push(at, &[1; 10]).unwrap();
        }
        assert_eq!(patches.finish().unwrap(), 1010 + 10);
        assert_eq!(disk.op_count() - before, 3, "two writes and a sync");
        let mut content = vec![0; 20_000];
        file.read_at(&mut content, 0).unwrap();
        let ones = [0..10, 100..110, 1000..1010, 12_000..12_010];
        for (at, byte) in content.iter().enumerate() {
            let expected = if ones.iter().any(|range| range.contains(&at)) { 1 } else { 9 };
            assert_eq!(*byte, expected, "at {at}");
        }
    }
}
