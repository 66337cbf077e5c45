//! The lock on a data folder: one process at a time.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The file in the data folder that carries the lock.
const LOCK_NAME: &str = "lock";

/// The data folder is ours until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct DirLock {
    _file: fs::File,
}

/// Why a data folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{}: in use by process {holder}; stop that process, or start this one with another data folder",
        .dir.display()
    )]
    Held {
        /// The data folder.
        dir: PathBuf,
        /// The process that holds it, as it wrote itself down.
        holder: String,
    },
    /// The folder or its lock file cannot be made or read.
    #[error("{}: {source}; the data folder must exist or be creatable, and be ours to write", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Locks the data folder `dir`, creating it if it is missing. Never waits.
pub fn lock_dir(dir: &Path) -> Result<DirLock, LockError> {
    let path = dir.join(LOCK_NAME);
    let failed = |source| LockError::Io { path: path.clone(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let holder = holder(&mut file);
            return Err(LockError::Held { dir: dir.to_owned(), holder });
        }
        Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
    }
    write_holder(&mut file).map_err(failed)?;
    Ok(DirLock { _file: file })
}

/// Locks an open file, never waiting: `WouldBlock` when another process has it. False when its path
/// leads to another file by now.
pub(crate) fn lock_file(file: &fs::File, path: &Path) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
        Err(fs::TryLockError::Error(source)) => return Err(source),
    }
    let (locked, found) = (file.metadata()?, fs::metadata(path)?);
    Ok((locked.dev(), locked.ino()) == (found.dev(), found.ino()))
}

/// The number only helps a person; the lock itself is the kernel's and dies with its process.
fn write_holder(file: &mut fs::File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut fs::File) -> String {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "(unknown)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_process_that_holds_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = lock_dir(&data).unwrap();
        let message = lock_dir(&data).unwrap_err().to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        drop(first);
        lock_dir(&data).unwrap();
    }
}
