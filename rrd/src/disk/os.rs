//! The operating system's disk: plain files, reserved and synced as the trait promises.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, statvfs};
use rustix::io::Errno;

use super::{Disk, File};

/// Readable by the operator's group, by nobody else: labels and addresses are in these files.
const FILE_MODE: u32 = 0o640;

/// Files synced at once. Most of a sync is waiting for the device, which takes several orders as fast as one.
const SYNC_THREADS: usize = 4;

/// The disk of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

/// One open file of the machine.
#[derive(Debug)]
pub struct OsFile {
    file: fs::File,
}

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path);
        file.map(OsFile::shared).map_err(|error| named(path, &error))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        options.open(path).map(OsFile::shared).map_err(|error| named(path, &error))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|error| named(from, &error))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|error| named(path, &error))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path).map_err(|error| named(path, &error))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(|error| named(dir, &error))? {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_type()?.is_dir() || path.extension().is_some() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir).and_then(|file| file.sync_all()).map_err(|error| named(dir, &error))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let space = statvfs(dir)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn sync_each(&self, files: &[Arc<dyn File>]) -> Vec<io::Result<()>> {
        let each = files.len().div_ceil(SYNC_THREADS).max(1);
        let sync = |files: &[Arc<dyn File>]| -> Vec<_> {
            files.iter().map(|file| file.sync_data()).collect()
        };
        std::thread::scope(|scope| {
            let mut parts = files.chunks(each);
            let own = parts.next().unwrap_or_default();
            let others: Vec<_> = parts
                .map(|part| {
                    let thread = std::thread::Builder::new().name("sync".to_owned());
                    (part, thread.spawn_scoped(scope, move || sync(part)))
                })
                .collect();
            let mut answers = sync(own);
            for (part, thread) in others {
                answers.extend(match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                    // No thread to be had: it is done here.
                    Err(_) => sync(part),
                });
            }
            answers
        })
    }
}

impl OsFile {
    fn shared(file: fs::File) -> Arc<dyn File> {
        Arc::new(Self { file })
    }
}

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), offset, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP) => return self.fill_with_zeroes(offset, len),
                Err(error) => return Err(refused(error)),
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn expect_scattered_reads(&self) {
        // A system that does not take the advice reads more than is asked for, and that is all.
        fadvise(&self.file, 0, None, Advice::Random).unwrap_or_default();
    }

    fn os_file(&self) -> Option<&fs::File> {
        Some(&self.file)
    }
}

impl OsFile {
    /// Reserves by writing, on the few file systems without `fallocate`. Existing bytes stay.
    fn fill_with_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        static ZEROES: [u8; 65_536] = [0; 65_536];
        let end = offset.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut at = offset.max(self.len()?);
        while at < end {
            let part = (end - at).min(ZEROES.len() as u64);
            let part_len = usize::try_from(part).expect("part is at most 65,536");
            self.file.write_all_at(&ZEROES[..part_len], at)?;
            at += part;
        }
        Ok(())
    }
}

/// A quota is as good as a full disk: both are the operator's to lift, and both refuse a grant.
fn refused(error: Errno) -> io::Error {
    let error = io::Error::from(error);
    match error.kind() {
        io::ErrorKind::QuotaExceeded => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => error,
    }
}

/// The same kind of error, with the file's name in front.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocated_bytes_read_as_zero_and_take_room() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = OsDisk.create(&path).unwrap();
        file.allocate(0, 1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20);
        let mut bytes = [1; 16];
        file.read_at(&mut bytes, (1 << 20) - 16).unwrap();
        assert_eq!(bytes, [0; 16]);
    }

    #[test]
    fn a_full_disk_and_a_full_quota_are_both_storage_full() {
        for error in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(refused(error).kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn reads_are_whole_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsDisk.create(&dir.path().join("a")).unwrap();
        file.write_at(b"abc", 4).unwrap();
        file.sync_data().unwrap();
        let mut bytes = [9; 7];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"\0\0\0\0abc");
        let kind = file.read_at(&mut [0; 8], 0).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn each_file_synced_at_once_has_its_own_answer() {
        struct Failing(bool);
        impl File for Failing {
            fn len(&self) -> io::Result<u64> {
                Ok(0)
            }
            fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
                Ok(())
            }
            fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
                Ok(())
            }
            fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
                Ok(())
            }
            fn sync_data(&self) -> io::Result<()> {
                if self.0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
            }
        }
        for count in [0, 1, SYNC_THREADS, 3 * SYNC_THREADS + 1] {
            let fails = |number: usize| number % 5 == 1;
            let files = (0..count).map(|number| Arc::new(Failing(fails(number))) as Arc<dyn File>);
            let answers = OsDisk.sync_each(&files.collect::<Vec<_>>());
            let failed: Vec<_> = answers.iter().map(Result::is_err).collect();
            assert_eq!(failed, (0..count).map(fails).collect::<Vec<_>>(), "{count} files");
        }
    }

    #[test]
    fn a_file_is_created_once_listed_by_name_and_replaced_by_a_rename() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        OsDisk.create(&b).unwrap().write_at(b"b", 0).unwrap();
        OsDisk.create(&a).unwrap().write_at(b"a", 0).unwrap();
        assert_eq!(OsDisk.create(&a).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        OsDisk.create_dir(&dir.path().join("sub/folder")).unwrap();
        assert_eq!(OsDisk.list(dir.path()).unwrap(), [a.clone(), b.clone()]);
        OsDisk.rename(&b, &a).unwrap();
        OsDisk.sync_dir(dir.path()).unwrap();
        assert_eq!(OsDisk.open(&a).unwrap().len().unwrap(), 1);
        assert_eq!(OsDisk.list(dir.path()).unwrap(), [a]);
    }

    #[test]
    fn zero_filling_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create_new(dir.path().join("a")).unwrap();
        let file = OsFile { file };
        file.write_at(b"x", 0).unwrap();
        file.fill_with_zeroes(0, 100_000).unwrap();
        assert_eq!(file.len().unwrap(), 100_000);
    }
}
