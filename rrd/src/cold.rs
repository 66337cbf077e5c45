//! A file read without a trace: what was not in the system's cache before is not in it afterwards.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

use crate::File;

/// An open file of its own, so that its advice concerns no other reader.
pub(crate) struct ColdFile {
    file: Arc<dyn File>,
}

impl ColdFile {
    pub(crate) fn of(file: Arc<dyn File>) -> Self {
        if let Some(os_file) = file.os_file() {
            // No reading ahead: it would bring in what is dropped again. Advice may be ignored.
            let _ignored = fadvise(os_file, 0, None, Advice::Random);
        }
        Self { file }
    }

    /// Fills `buffer` from `offset`. What the cache had stays there, the rest leaves it again.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if buffer.is_empty() || self.read_cached(buffer, offset) {
            return Ok(());
        }
        self.file.read_at(buffer, offset)?;
        self.forget(offset, buffer.len());
        Ok(())
    }

    /// True when the cache had all of it; a system that cannot say has not.
    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> bool {
        let Some(file) = self.file.os_file() else { return false };
        let len = buffer.len();
        let mut buffers = [io::IoSliceMut::new(buffer)];
        let read = preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT);
        read.is_ok_and(|read| read == len)
    }

    /// Drops the bytes from the cache, unless they are mapped or not yet written.
    pub(crate) fn forget(&self, offset: u64, len: usize) {
        if let (Some(file), Some(len)) = (self.file.os_file(), NonZeroU64::new(len as u64)) {
            let _ignored = fadvise(file, offset, Some(len), Advice::DontNeed);
        }
    }
}
