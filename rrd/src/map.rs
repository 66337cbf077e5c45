//! A map: a file's bytes as memory, for reading only. The one place with `unsafe`.
//!
//! No reference to mapped memory ever leaves: the kernel changes it under us when a round writes the
//! file. Bytes are copied out by relaxed atomic loads, which may be stale or torn, never undefined;
//! the store's own lock keeps rounds and readers apart, and checksums prove what was read.
#![expect(unsafe_code, reason = "mapped memory is reached through raw pointers, here alone")]

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

/// A read-only map of the first bytes of a file.
#[derive(Debug)]
pub(crate) struct Map {
    raw: MmapRaw,
}

impl Map {
    /// Maps the first `len` bytes. Errors when the file is shorter: a read beyond its end would
    /// kill the process.
    pub(crate) fn of(file: &std::fs::File, len: u64) -> io::Result<Self> {
        if file.metadata()?.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let raw = MmapOptions::new().len(len).map_raw_read_only(file)?;
        raw.advise(Advice::Random)?;
        Ok(Self { raw })
    }

    /// Bytes that are mapped.
    pub(crate) fn len(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Copies bytes from `offset`; `UnexpectedEof` outside the map.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.raw.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let words = if start.is_multiple_of(4) { buffer.len() / 4 } else { 0 };
        let (whole, rest) = buffer.split_at_mut(words * 4);
        for (index, word) in whole.chunks_exact_mut(4).enumerate() {
            word.copy_from_slice(&self.word(start + index * 4));
        }
        for (index, byte) in rest.iter_mut().enumerate() {
            *byte = self.byte(start + words * 4 + index);
        }
        Ok(())
    }

    /// Four bytes at `at`, which `read_at` has checked to be inside the map and a multiple of four.
    #[expect(clippy::cast_ptr_alignment, reason = "`at` is a multiple of four from a page's start")]
    fn word(&self, at: usize) -> [u8; 4] {
        debug_assert!(at.is_multiple_of(4) && at + 4 <= self.raw.len(), "checked by read_at");
        // SAFETY: `read_at` checked that `at + 4` bytes are mapped, so the sum stays in the map.
        let place = unsafe { self.raw.as_ptr().add(at) };
        // SAFETY: maps begin on a page and `at` is a multiple of four, so the word is aligned; it is
        // mapped as long as `self` lives, and only ever read through atomics.
        let word = unsafe { &*place.cast::<AtomicU32>() };
        u32::from_le(word.load(Ordering::Relaxed)).to_le_bytes()
    }

    /// The byte at `at`, which `read_at` has checked to be inside the map.
    fn byte(&self, at: usize) -> u8 {
        debug_assert!(at < self.raw.len(), "checked by read_at");
        // SAFETY: `read_at` checked that `at` is inside the map.
        let place = unsafe { self.raw.as_ptr().add(at) };
        // SAFETY: a byte has no alignment; it is mapped as long as `self` lives, and only ever read
        // through atomics.
        let byte = unsafe { &*place.cast::<AtomicU8>() };
        byte.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_map_copies_any_stretch_and_nothing_outside() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        file.write_all(&content).unwrap();
        let map = Map::of(&file, 9_999).unwrap();
        assert_eq!(map.len(), 9_999);
        for (offset, len) in [(0, 9_999), (1, 7), (4, 8), (4, 9), (9_998, 1), (9_999, 0)] {
            let mut bytes = vec![0; len];
            map.read_at(&mut bytes, offset as u64).unwrap();
            assert_eq!(bytes, content[offset..offset + len], "{offset} + {len}");
        }
        for (offset, len) in [(9_999, 1), (0, 10_000), (u64::MAX, 1)] {
            assert!(map.read_at(&mut vec![0; len], offset).is_err(), "{offset} + {len}");
        }
        assert!(Map::of(&file, 10_001).is_err());
    }
}
