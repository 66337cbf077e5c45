//! The disk: every byte that must last goes through this trait, so that tests can own its faults.

mod lock;
mod mem;
mod os;
mod watched;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use lock::lock_file;
pub use lock::{DirLock, LockError, lock_dir};
pub use mem::MemDisk;
pub use os::{OsDisk, OsFile};
pub use watched::{WatchedDisk, Watcher};

/// A file system as the store and the journal use it. Paths are used as given.
pub trait Disk: Send + Sync {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates an empty file; `AlreadyExists` when there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Moves `from` to `to`, replacing it in one step. Lasts after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a folder and its parents; succeeds when it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The files directly in a folder, sorted by name. Links count as files, whatever they lead to, and
    /// so do folders with an extension: they stand where a file should, and opening them says so.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes created, renamed and removed names in a folder last.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes free for this program on the disk that holds `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// [`File::sync_data`] of each of these files, whose answers are in the same order. A disk that can
    /// do several things at once does.
    fn sync_each(&self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        files.iter().map(|file| file.sync_data()).collect()
    }
}

/// One open file. Reads and writes are at offsets, whole or an error.
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
pub trait File: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`; `UnexpectedEof` when the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Reserves `len` bytes at `offset`, growing the file; new bytes read as zero and a later
    /// write to them cannot fail for want of space. `StorageFull` when the disk refuses.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes all written bytes and the length last.
    fn sync_data(&self) -> io::Result<()>;

    /// Says that a few small parts will be read, here and there: what follows them is not worth reading ahead.
    fn expect_scattered_reads(&self) {}

    /// The operating system's file, for maps; `None` where there is none behind.
    fn os_file(&self) -> Option<&std::fs::File> {
        None
    }
}
