//! A disk that somebody watches: what is written to its files and synced goes through his hands, so that a
//! test can count, wait and fail where it likes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, File};

/// What happens in the place of a change. Without more it is passed on.
pub trait Watcher: Send + Sync {
    /// In the place of [`File::write_at`].
    fn write(&self, file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_at(bytes, offset)
    }

    /// In the place of [`File::sync_data`].
    fn sync(&self, file: &dyn File) -> io::Result<()> {
        file.sync_data()
    }

    /// In the place of [`Disk::sync_dir`].
    fn sync_dir(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        disk.sync_dir(dir)
    }
}

/// Passes everything on to another disk, and changes of files to its watcher first. Its files are never
/// mapped.
#[derive(Clone)]
pub struct WatchedDisk<D> {
    disk: D,
    watcher: Arc<dyn Watcher>,
}

struct WatchedFile {
    file: Arc<dyn File>,
    watcher: Arc<dyn Watcher>,
}

impl<D: Disk> WatchedDisk<D> {
    /// `disk`, watched.
    pub fn new(disk: D, watcher: Arc<dyn Watcher>) -> Self {
        Self { disk, watcher }
    }

    fn watched(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(WatchedFile { file, watcher: self.watcher.clone() })
    }
}

impl<D: Disk> Disk for WatchedDisk<D> {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.watched(self.disk.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.watched(self.disk.create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.watcher.sync_dir(&self.disk, dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
}

impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.watcher.write(&*self.file, bytes, offset)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watcher.sync(&*self.file)
    }
}
