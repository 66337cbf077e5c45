//! A disk in memory that can fail, fill up and lose power: the test double of the real one.
//!
//! Every file has two contents: the live one, which programs see, and the durable one, which a
//! power cut leaves. The same holds for the names in folders; folders themselves last at once.

mod image;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, File};
use image::{Change, Dice, Image, NameChange, Node, named};

/// A disk in memory. Clones share one image; [`MemDisk::crash`] and [`MemDisk::kill`] start another.
#[derive(Clone, Default)]
pub struct MemDisk {
    image: Arc<Mutex<Image>>,
}

impl MemDisk {
    /// An empty disk without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `op_count` more changes (create, rename, remove, write, allocate, sync) through; from the
    /// next one on everything fails, reads too, as if the power were off.
    pub fn stop_after(&self, op_count: u64) {
        let mut image = self.lock();
        image.stop_at = Some(image.op_count.saturating_add(op_count));
    }

    /// Changes made so far; the number to count a test's crash points with.
    pub fn op_count(&self) -> u64 {
        self.lock().op_count
    }

    /// Limits the sum of all file lengths to `bytes`.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = Some(bytes);
    }

    /// From now on each sync of the file or folder at `path` fails. As on Linux, what was to be synced
    /// is in part on disk and in part lost, and the system forgets that it was ever unwritten.
    pub fn fail_sync(&self, path: impl Into<PathBuf>) {
        self.lock().failing.insert(path.into());
    }

    /// Takes back every [`MemDisk::fail_sync`].
    pub fn heal(&self) {
        self.lock().failing.clear();
    }

    /// Cuts the power. The disk that the next start finds has everything synced, and of the rest what
    /// `seed` chooses: any sectors of any write, any first part of the folder's changes. This disk is
    /// off for those who still hold it.
    #[must_use = "the disk that the next start finds"]
    pub fn crash(&self, seed: u64) -> Self {
        let mut image = self.lock();
        image.off = true;
        let mut dice = Dice(seed);
        let nodes = image.nodes.iter().map(|node| node.after_power_cut(&mut dice)).collect();
        let mut names = image.durable_names.clone();
        let survivors = dice.below(image.unsynced_names.len() + 1);
        for change in &image.unsynced_names[..survivors] {
            change.apply(&mut names);
        }
        Self::restarted(Image { durable_names: names.clone(), names, nodes, ..Image::default() })
    }

    /// Ends the program that uses the disk, as kill -9 does: the next start sees every write, but
    /// what was not synced still is not. This disk is off for those who still hold it.
    #[must_use = "the disk that the next start finds"]
    pub fn kill(&self) -> Self {
        let mut image = self.lock();
        image.off = true;
        Self::restarted(Image {
            names: image.names.clone(),
            durable_names: image.durable_names.clone(),
            unsynced_names: image.unsynced_names.clone(),
            nodes: image.nodes.clone(),
            ..Image::default()
        })
    }

    fn restarted(image: Image) -> Self {
        Self { image: Arc::new(Mutex::new(image)) }
    }

    fn lock(&self) -> MutexGuard<'_, Image> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, node: usize) -> Arc<dyn File> {
        Arc::new(MemFile { disk: self.clone(), node })
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let node = self.lock().powered()?.node(path)?;
        Ok(self.file(node))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut image = self.lock();
        image.change()?;
        if image.names.contains_key(path) {
            return Err(named(io::ErrorKind::AlreadyExists, path));
        }
        image.nodes.push(Node::default());
        let node = image.nodes.len() - 1;
        image
            .rename_all(NameChange { dir: dir_of(path), set: vec![(path.to_owned(), Some(node))] });
        Ok(self.file(node))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut image = self.lock();
        image.change()?;
        let node = image.node(from)?;
        let set = vec![(from.to_owned(), None), (to.to_owned(), Some(node))];
        image.rename_all(NameChange { dir: dir_of(to), set });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut image = self.lock();
        image.change()?;
        image.node(path)?;
        image.rename_all(NameChange { dir: dir_of(path), set: vec![(path.to_owned(), None)] });
        Ok(())
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        self.lock().powered().map(|_| ())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let image = self.lock();
        let names = image.powered()?.names.keys();
        Ok(names.filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut image = self.lock();
        image.change()?;
        if image.failing.contains(dir) {
            return Err(io::Error::other("injected: the folder does not sync"));
        }
        let changes = std::mem::take(&mut image.unsynced_names);
        // A bare name lies in the folder that the system calls ".".
        let dir = if dir == Path::new(".") { Path::new("") } else { dir };
        let (done, left) = changes.into_iter().partition(|change| change.dir == dir);
        image.unsynced_names = left;
        let done: Vec<NameChange> = done;
        for change in done {
            change.apply(&mut image.durable_names);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let image = self.lock();
        let free = image.powered()?.capacity.map(|bytes| bytes.saturating_sub(image.used_bytes()));
        Ok(free.unwrap_or(u64::MAX))
    }
}

/// One open file; it stays open under any later name, as on Unix.
struct MemFile {
    disk: MemDisk,
    node: usize,
}

impl File for MemFile {
    fn len(&self) -> io::Result<u64> {
        let image = self.disk.lock();
        Ok(image.powered()?.nodes[self.node].live.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let image = self.disk.lock();
        let live = &image.powered()?.nodes[self.node].live;
        let start = index(offset)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(live.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut image = self.disk.lock();
        image
            .change_file(self.node, Change::Write { offset: index(offset)?, bytes: bytes.to_vec() })
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
        self.disk.lock().change_file(self.node, Change::Grow { len: index(end)? })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut image = self.disk.lock();
        image.change()?;
        let fails = image.failing.iter().any(|path| image.names.get(path) == Some(&self.node));
        let node = &mut image.nodes[self.node];
        if fails {
            node.lose_every_other_sector();
            return Err(io::Error::other("injected: the file does not sync"));
        }
        node.sync();
        Ok(())
    }
}

fn dir_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::image::SECTOR;
    use super::*;

    fn content(disk: &MemDisk, path: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(path)).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        Some(bytes)
    }

    /// A disk with one synced file `/d/a` of four sectors of ones.
    fn disk_with_a_file() -> (MemDisk, Arc<dyn File>) {
        let disk = MemDisk::new();
        let file = disk.create(Path::new("/d/a")).unwrap();
        file.write_at(&[1; 4 * SECTOR], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        (disk, file)
    }

    #[test]
    fn what_is_synced_survives_every_power_cut() {
        for seed in 0..50 {
            let (disk, file) = disk_with_a_file();
            file.write_at(&[2; SECTOR], 0).unwrap();
            let found = content(&disk.crash(seed), "/d/a").unwrap();
            assert_eq!(found[SECTOR..], [1; 3 * SECTOR], "seed {seed}");
            assert!([[1; SECTOR], [2; SECTOR]].iter().any(|whole| found[..SECTOR] == whole[..]));
        }
    }

    #[test]
    fn unsynced_writes_are_lost_kept_or_torn_by_the_seed() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let (disk, file) = disk_with_a_file();
            file.write_at(&[2; 4 * SECTOR], 0).unwrap();
            outcomes.insert(content(&disk.crash(seed), "/d/a").unwrap());
        }
        assert_eq!(outcomes.len(), 16, "each of the four sectors is old or new");
    }

    #[test]
    fn an_unsynced_name_can_vanish_and_a_rename_is_whole() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let (disk, _file) = disk_with_a_file();
            disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
            disk.create(Path::new("/d/c")).unwrap();
            outcomes.insert(disk.crash(seed).list(Path::new("/d")).unwrap());
        }
        let list = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let expected = [list(&["/d/a"]), list(&["/d/b"]), list(&["/d/b", "/d/c"])];
        assert_eq!(outcomes, BTreeSet::from(expected));
    }

    #[test]
    fn kill_keeps_every_write_but_makes_none_of_them_last() {
        let (disk, file) = disk_with_a_file();
        file.write_at(&[2; SECTOR], 0).unwrap();
        let after_kill = disk.kill();
        assert!(file.write_at(&[3; SECTOR], 0).is_err());
        assert_eq!(content(&after_kill, "/d/a").unwrap()[0], 2);
        let lost = (0..50).any(|seed| {
            let again = after_kill.kill();
            content(&again.crash(seed), "/d/a").unwrap()[0] == 1
        });
        assert!(lost);
    }

    #[test]
    fn after_the_last_allowed_change_everything_fails() {
        let (disk, file) = disk_with_a_file();
        disk.stop_after(1);
        file.write_at(&[2; SECTOR], 0).unwrap();
        assert!(file.sync_data().is_err());
        assert!(file.read_at(&mut [0], 0).is_err());
        assert!(disk.create(Path::new("/d/b")).is_err());
        assert!(content(&disk.crash(0), "/d/a").is_some());
    }

    #[test]
    fn a_full_disk_refuses_to_grow_and_still_rewrites() {
        let (disk, file) = disk_with_a_file();
        disk.set_capacity(5 * SECTOR as u64);
        assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), SECTOR as u64);
        let refused = file.allocate(0, 6 * SECTOR as u64).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        file.allocate(0, 5 * SECTOR as u64).unwrap();
        file.write_at(&[2; SECTOR], 0).unwrap();
    }

    #[test]
    fn a_failed_sync_loses_a_part_for_good_even_if_the_next_one_succeeds() {
        let (disk, file) = disk_with_a_file();
        disk.fail_sync("/d/a");
        file.write_at(&[2; 2 * SECTOR], 0).unwrap();
        assert!(file.sync_data().is_err());
        disk.heal();
        file.sync_data().unwrap();
        let found = content(&disk.crash(0), "/d/a").unwrap();
        assert_eq!((found[0], found[SECTOR]), (2, 1));
    }
}
