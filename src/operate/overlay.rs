//! A disk that forgets: files are read from the machine, and what is written stays in memory.
//!
//! So a check runs the very code of a start, and leaves every byte as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rrd::{Disk, File};

const PAGE: u64 = 4096;

/// The disk of the machine, read only, under what has been written since.
#[derive(Clone, Default)]
pub(crate) struct Overlay {
    names: Arc<Mutex<Names>>,
    /// Where this is not empty, folders hold these names alone, each for a file of the machine.
    only: Arc<BTreeMap<PathBuf, PathBuf>>,
}

#[derive(Default)]
struct Names {
    written: BTreeMap<PathBuf, Arc<Mutex<Written>>>,
    removed: BTreeSet<PathBuf>,
    /// By the name it has now: where a renamed file lies on the machine.
    moved: BTreeMap<PathBuf, PathBuf>,
}

/// What has been written to one file.
#[derive(Default)]
struct Written {
    pages: BTreeMap<u64, Box<[u8]>>,
    len: u64,
}

struct OverlayFile {
    below: Option<fs::File>,
    below_len: u64,
    written: Arc<Mutex<Written>>,
}

impl Overlay {
    /// The disk with nothing but one file, under a name of its own.
    pub(crate) fn only(name: PathBuf, file: PathBuf) -> Self {
        Self { only: Arc::new(BTreeMap::from([(name, file)])), ..Self::default() }
    }
}

impl Disk for Overlay {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut names = lock(&self.names);
        let (is_removed, is_written) =
            (names.removed.contains(path), names.written.contains_key(path));
        let below =
            names.moved.get(path).or_else(|| self.only.get(path)).map_or(path, PathBuf::as_path);
        let below = match fs::File::open(below) {
            _ if is_removed && is_written => None,
            _ if is_removed => return Err(io::ErrorKind::NotFound.into()),
            Err(_) if is_written => None,
            other => Some(other?),
        };
        let below_len = below.as_ref().map_or(Ok(0), |file| file.metadata().map(|m| m.len()))?;
        let written = Arc::clone(names.written.entry(path.to_owned()).or_default());
        let mut state = lock(&written);
        state.len = state.len.max(below_len);
        drop(state);
        Ok(Arc::new(OverlayFile { below, below_len, written }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut names = lock(&self.names);
        if (path.exists() && !names.removed.contains(path)) || names.written.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let written = Arc::<Mutex<Written>>::default();
        names.written.insert(path.to_owned(), Arc::clone(&written));
        Ok(Arc::new(OverlayFile { below: None, below_len: 0, written }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = lock(&self.names);
        let is_below = from.exists() && !names.removed.contains(from);
        let below = names.moved.remove(from).or_else(|| is_below.then(|| from.to_owned()));
        let written = names.written.remove(from);
        if written.is_none() && below.is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        names.removed.insert(from.to_owned());
        names.written.insert(to.to_owned(), written.unwrap_or_default());
        if let Some(below) = below {
            names.removed.remove(to);
            names.moved.insert(to.to_owned(), below);
        } else {
            names.removed.insert(to.to_owned());
            names.moved.remove(to);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = lock(&self.names);
        let was_written = names.written.remove(path).is_some();
        names.moved.remove(path);
        if path.exists() {
            names.removed.insert(path.to_owned());
        } else if !was_written {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = match rrd::OsDisk.list(dir) {
            _ if !self.only.is_empty() => self.only.keys().cloned().collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let names = lock(&self.names);
        let made = names.written.keys().filter(|path| path.parent() == Some(dir));
        files.extend(made.cloned());
        files.sort();
        files.dedup();
        files.retain(|path| !names.removed.contains(path) || names.written.contains_key(path));
        Ok(files)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        rrd::OsDisk.free_bytes(dir)
    }
}

impl File for OverlayFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.written).len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let written = lock(&self.written);
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= written.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let below = self.below_len.min(end).saturating_sub(offset);
        let below = usize::try_from(below).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        if let Some(file) = &self.below {
            file.read_exact_at(&mut buffer[..below], offset)?;
        }
        buffer[below..].fill(0);
        for (page, bytes) in written.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let (start, stop) = ((page * PAGE).max(offset), ((page + 1) * PAGE).min(end));
            let within = |at: u64, from: u64| usize::try_from(at - from).expect("within a buffer");
            buffer[within(start, offset)..within(stop, offset)]
                .copy_from_slice(&bytes[within(start, page * PAGE)..within(stop, page * PAGE)]);
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut written = lock(&self.written);
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        for number in offset / PAGE..end.div_ceil(PAGE) {
            let start = number * PAGE;
            let page = match written.pages.entry(number) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(self.page(start)?)
                }
            };
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            let within = |at: u64, from: u64| usize::try_from(at - from).expect("within a buffer");
            page[within(from, start)..within(to, start)]
                .copy_from_slice(&bytes[within(from, offset)..within(to, offset)]);
        }
        written.len = written.len.max(end);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut written = lock(&self.written);
        written.len = written.len.max(offset + len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

impl OverlayFile {
    /// A page as it is on the machine; zeroes beyond its end.
    fn page(&self, start: u64) -> io::Result<Box<[u8]>> {
        let mut page = vec![0; 4096].into_boxed_slice();
        let len = usize::try_from(self.below_len.saturating_sub(start).min(PAGE)).expect("a page");
        if let Some(file) = &self.below {
            file.read_exact_at(&mut page[..len], start)?;
        }
        Ok(page)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_the_machine_keeps_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, vec![7; 10_000]).unwrap();
        let overlay = Overlay::default();
        let file = overlay.open(&path).unwrap();
        file.write_at(&[1; 5000], 4000).unwrap();
        file.write_at(&[2; 10], 12_000).unwrap();
        let mut bytes = vec![9; 12_010];
        overlay.open(&path).unwrap().read_at(&mut bytes, 0).unwrap();
        let expected =
            [vec![7; 4000], vec![1; 5000], vec![7; 1000], vec![0; 2000], vec![2; 10]].concat();
        assert!(bytes == expected);
        assert!(file.read_at(&mut [0], 12_010).is_err());
        overlay.remove(&path).unwrap();
        assert!(overlay.open(&path).is_err() && overlay.list(dir.path()).unwrap().is_empty());
        overlay.create(&path).unwrap().write_at(b"anew", 0).unwrap();
        let anew = overlay.open(&path).unwrap();
        assert_eq!((anew.len().unwrap(), overlay.list(dir.path()).unwrap().len()), (4, 1));
        assert_eq!(fs::read(&path).unwrap(), vec![7; 10_000]);
    }
    #[test]
    fn a_renamed_file_is_read_under_its_new_name_and_the_machine_keeps_both() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["a.next", "a.rrd"].map(|name| dir.path().join(name));
        fs::write(&from, b"new").unwrap();
        fs::write(&to, b"former").unwrap();
        let overlay = Overlay::default();
        overlay.open(&to).unwrap();
        overlay.open(&from).unwrap().write_at(b"N", 0).unwrap();
        overlay.rename(&from, &to).unwrap();
        let file = overlay.open(&to).unwrap();
        let mut bytes = vec![0; 3];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes[..], file.len().unwrap()), (&b"New"[..], 3));
        assert!(overlay.open(&from).is_err());
        assert_eq!(overlay.list(dir.path()).unwrap(), std::slice::from_ref(&to));
        assert_eq!(
            (fs::read(&from).unwrap(), fs::read(&to).unwrap()),
            (b"new".into(), b"former".into())
        );
    }
}
