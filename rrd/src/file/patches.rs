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
    bytes: Vec<u8>,
    list: Vec<Patch>,
    written: u64,
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
    pub(crate) const fn of(file: &'a dyn File) -> Self {
        Self { file, bytes: Vec::new(), list: Vec::new(), written: 0 }
    }

    /// Adds a write. No two patches of a round overlap.
    pub(crate) fn push(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.bytes.len() + bytes.len() > MOST_BYTES {
            self.write_all()?;
        }
        self.list.push(Patch { at, start: self.bytes.len(), len: bytes.len() });
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what is left and syncs the file: what is pushed after it lasts only if all this does.
    pub(crate) fn barrier(&mut self) -> io::Result<()> {
        self.write_all()?;
        self.file.sync_data()
    }

    /// Writes what is left and syncs the file; the number of bytes written in all.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.write_all()?;
        self.file.sync_data()?;
        Ok(self.written)
    }

    /// Writes what is left, which a reader of this process then sees.
    pub(crate) fn write_all(&mut self) -> io::Result<()> {
        self.list.sort_unstable_by_key(|patch| patch.at);
        let mut buffer = Vec::new();
        let joined = |a: &Patch, b: &Patch| b.at <= a.end() + NEAR;
        for near in self.list.chunk_by(joined) {
            let mut rest = near;
            while let Some(first) = rest.first() {
                let fits = |patch: &Patch| patch.end() - first.at <= LONGEST_WRITE;
                let (now, later) = rest.split_at(rest.partition_point(fits).max(1));
                self.written += write(self.file, &self.bytes, now, &mut buffer)?;
                rest = later;
            }
        }
        self.list.clear();
        self.bytes.clear();
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
    buffer.clear();
    buffer.resize(usize::try_from(len).expect("at most a megabyte, or one patch"), 0);
    if covered < buffer.len() {
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
