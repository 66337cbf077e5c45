//! The hold: how a backup keeps the archives still while it copies, by locks on one small file.
//!
//! A round takes `rounds.hold` alone while it writes; a backup shares it while it copies, and rounds
//! are put off. A journal that is nearly full is not kept waiting: the round goes ahead, and counts in
//! the file, odd while it writes, so that the backup copies again what has changed meanwhile.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

pub(crate) const HOLD_NAME: &str = "rounds.hold";
const COUNTER: usize = 8;

/// The server's end.
#[derive(Default)]
pub(crate) struct Hold {
    /// None where there is no folder to copy, as in tests.
    file: Option<File>,
    counter: u64,
    is_locked: bool,
}

impl Hold {
    /// The hold of a data folder. A copy that was begun while another process ran is told to look again.
    pub(crate) fn open(data: &Path) -> Result<Self> {
        let path = data.join(HOLD_NAME);
        let file = open(&path).with_context(|| path.display().to_string())?;
        let counter = (read(&file)? | 1) + 1;
        write(&file, counter)?;
        Ok(Self { file: Some(file), counter, is_locked: false })
    }

    /// True when a round may write now: nobody copies, or it cannot wait.
    pub(crate) fn begin(&mut self, is_urgent: bool) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(true) };
        match file.try_lock() {
            Ok(()) => self.is_locked = true,
            Err(TryLockError::WouldBlock) if !is_urgent => return Ok(false),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        write(file, self.counter + 1)?;
        self.counter += 1;
        Ok(true)
    }

    /// The round has ended, well or not.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.counter % 2 == 1) else {
            return Ok(());
        };
        let written = write(file, self.counter + 1);
        self.counter += 1;
        if std::mem::take(&mut self.is_locked) {
            file.unlock()?;
        }
        written
    }
}

/// The backup's end: rounds are put off while it lives.
pub(crate) struct Still {
    file: File,
}

impl Still {
    /// Waits for a round under way, then keeps others from beginning.
    pub(crate) fn of(data: &Path) -> Result<Self> {
        let path = data.join(HOLD_NAME);
        if !path.exists() {
            bail!(
                "{}: missing, so that the running server would not wait; restart it with this version, or stop it",
                path.display()
            );
        }
        let file = open(&path).with_context(|| path.display().to_string())?;
        file.lock_shared()?;
        Ok(Self { file })
    }

    /// How many rounds there were; odd while one writes in spite of the hold.
    pub(crate) fn counter(&self) -> io::Result<u64> {
        read(&self.file)
    }
}

/// Keeps rounds and backups away, for who mends files.
pub(crate) fn alone(data: &Path) -> Result<File> {
    let path = data.join(HOLD_NAME);
    let file = open(&path).with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => bail!("{}: a backup is copying this folder; wait for it", data.display()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// A file just made counts from zero.
fn read(file: &File) -> io::Result<u64> {
    let mut bytes = [0; COUNTER];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(u64::from_le_bytes(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        Err(error) => Err(error),
    }
}

fn write(file: &File, counter: u64) -> io::Result<()> {
    file.write_all_at(&counter.to_le_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_waits_for_a_copy_unless_it_is_urgent_and_then_it_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Still::of(dir.path()).is_err(), "no server knows of holds");
        let mut hold = Hold::open(dir.path()).unwrap();
        assert!(hold.begin(false).unwrap());
        hold.end().unwrap();
        let still = Still::of(dir.path()).unwrap();
        let before = still.counter().unwrap();
        assert!(!hold.begin(false).unwrap());
        assert_eq!(still.counter().unwrap(), before);
        assert!(hold.begin(true).unwrap());
        assert_eq!(still.counter().unwrap(), before + 1, "odd while it writes");
        hold.end().unwrap();
        assert_eq!(still.counter().unwrap(), before + 2);
        assert!(alone(dir.path()).is_err());
        drop(still);
        assert!(hold.begin(false).unwrap());
        hold.end().unwrap();
        // A server that was killed in a round leaves an odd number; the next one makes it even.
        assert!(hold.begin(false).unwrap());
        drop(hold);
        let hold = Hold::open(dir.path()).unwrap();
        assert!(hold.counter.is_multiple_of(2) && hold.counter > before + 4);
    }
}
