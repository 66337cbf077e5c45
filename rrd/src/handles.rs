//! Handles: open files and maps, as few as the system allows; those not used for longest are closed.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::map::Map;
use crate::{Disk, File, InstanceId};

/// Processes often may open 1,024 files, and sockets need their share.
const MOST_FILES: usize = 256;
/// Linux allows 65,530 maps a process; a map holds address space, not memory.
const MOST_MAPS: usize = 16_384;

/// Beyond, pages that nobody looks at would cost more than those that are waited for.
const MOST_BROUGHT: u64 = 1 << 20;
/// The same, for each piece of them: four pages of which one is needed take as long as that one.
const MOST_EACH: u64 = 16 << 10;

/// What memory brings at once.
const CACHE_LINE: usize = 64;

/// Open files and maps of instances.
pub(crate) struct Handles {
    disk: Arc<dyn Disk>,
    /// Every read and round looks here; written when something is opened or closed.
    files: RwLock<Recent<Arc<dyn File>>>,
    maps: RwLock<Recent<Arc<Map>>>,
}

/// Where a reader takes bytes from.
pub(crate) enum Source {
    /// A map, and whether it was made for this reader: then little of the file may be in memory.
    Map(Arc<Map>, bool),
    File(Arc<dyn File>),
}

impl Source {
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Map(map, _) => map.read_at(buffer, offset),
            Self::File(file) => file.read_at(buffer, offset),
        }
    }

    /// True where little of the file may be in memory.
    pub(crate) const fn is_new(&self) -> bool {
        matches!(self, Self::Map(_, true))
    }

    /// Asks the disk for these bytes at once, of which so many pieces will be read: a reader would wait
    /// for page after page.
    pub(crate) fn bring(&self, bytes: Range<u64>, pieces: u64) {
        if let Self::Map(map, _) = self
            && bytes.end - bytes.start <= pieces.saturating_mul(MOST_EACH).min(MOST_BROUGHT)
        {
            map.bring(bytes);
        }
    }

    /// Says that stretches of `len` bytes will be read from these offsets.
    pub(crate) fn expect(&self, offsets: impl Iterator<Item = u64>, len: u64) {
        if let Self::Map(map, _) = self {
            map.touch(offsets.flat_map(|at| (at..at + len).step_by(CACHE_LINE)));
        }
    }
}

impl Handles {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        let (files, maps) = (Recent::new(MOST_FILES), Recent::new(MOST_MAPS));
        Self { disk, files: RwLock::new(files), maps: RwLock::new(maps) }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The instance's file, opened if need be.
    pub(crate) fn file(&self, instance: InstanceId, path: &Path) -> io::Result<Arc<dyn File>> {
        if let Some(file) = read(&self.files).get(instance) {
            return Ok(file);
        }
        // Opened outside the lock; should two do so at once, the second one is kept.
        let file = self.disk.open(path)?;
        // A round reads a few bytes here and there: reading ahead would bring most of the file, or fill
        // as many pages with the zeroes of rows that were never written.
        file.expect_scattered_reads();
        write(&self.files).put(instance, Arc::clone(&file));
        Ok(file)
    }

    /// Uses this file for the instance, which somebody else has opened.
    pub(crate) fn hold(&self, instance: InstanceId, file: Arc<dyn File>) {
        write(&self.files).put(instance, file);
    }

    /// The first `len` bytes of the instance's file: a map where the system has one, else the file.
    pub(crate) fn source(&self, instance: InstanceId, path: &Path, len: u64) -> io::Result<Source> {
        let known = read(&self.maps).get(instance).filter(|map| map.len() >= len);
        if let Some(map) = known {
            return Ok(Source::Map(map, false));
        }
        let file = self.file(instance, path)?;
        let Some(os_file) = file.os_file() else { return Ok(Source::File(file)) };
        let map = match Map::of(os_file, len) {
            Ok(map) => Arc::new(map),
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                return Ok(Source::File(file));
            }
            Err(error) => return Err(error),
        };
        write(&self.maps).put(instance, Arc::clone(&map));
        Ok(Source::Map(map, true))
    }

    /// Closes what is open of the instance, after a failure: whoever asks next opens it anew.
    pub(crate) fn forget(&self, instance: InstanceId) {
        write(&self.files).remove(instance);
        write(&self.maps).remove(instance);
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Things by instance, at most `most`; those not asked for longest make room.
struct Recent<T> {
    most: usize,
    /// Counts what is put: readers on many processors only look at it.
    now: u64,
    /// With the time each was last asked for.
    things: HashMap<InstanceId, (AtomicU64, T)>,
}

/// One in so many things makes room at once, so that the oldest are looked for that much less often.
const SHARE_THAT_GOES: usize = 16;

impl<T: Clone> Recent<T> {
    fn new(most: usize) -> Self {
        Self { most, now: 0, things: HashMap::new() }
    }

    fn get(&self, instance: InstanceId) -> Option<T> {
        let (used_at, thing) = self.things.get(&instance)?;
        if used_at.load(Ordering::Relaxed) != self.now {
            used_at.store(self.now, Ordering::Relaxed);
        }
        Some(thing.clone())
    }

    fn remove(&mut self, instance: InstanceId) {
        self.things.remove(&instance);
    }

    fn put(&mut self, instance: InstanceId, thing: T) {
        self.things.insert(instance, (AtomicU64::new(self.now), thing));
        self.now += 1;
        if self.things.len() > self.most {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        let mut times: Vec<u64> =
            self.things.values().map(|(used_at, _)| used_at.load(Ordering::Relaxed)).collect();
        let (before, &mut last, _) = times.select_nth_unstable(self.most / SHARE_THAT_GOES);
        // As many of those that were asked for at the same time as are needed.
        let mut going = before.iter().filter(|&&time| time == last).count() + 1;
        self.things.retain(|_, (used_at, _)| match (*used_at.get_mut()).cmp(&last) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal if going == 0 => true,
            std::cmp::Ordering::Equal => {
                going -= 1;
                false
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut recent = Recent::new(2);
        recent.put(InstanceId(1), 'a');
        recent.put(InstanceId(2), 'b');
        assert_eq!(recent.get(InstanceId(1)), Some('a'));
        recent.put(InstanceId(3), 'c');
        assert_eq!(recent.get(InstanceId(2)), None);
        recent.put(InstanceId(3), 'd');
        assert_eq!((recent.get(InstanceId(1)), recent.get(InstanceId(3))), (Some('a'), Some('d')));
        recent.remove(InstanceId(3));
        assert_eq!((recent.get(InstanceId(3)), recent.get(InstanceId(1))), (None, Some('a')));
    }

    #[test]
    fn things_that_were_asked_for_together_do_not_all_go_at_once() {
        let mut recent = Recent::new(64);
        (0..64).for_each(|number| recent.put(InstanceId(number), number));
        assert!((0..64).all(|number| recent.get(InstanceId(number)).is_some()));
        recent.put(InstanceId(64), 64);
        assert_eq!(recent.things.len(), 65 - 64 / SHARE_THAT_GOES - 1);
    }

    #[test]
    fn of_many_things_the_newest_stay_and_no_more_than_asked_for() {
        let mut recent = Recent::new(64);
        for number in 0..1000 {
            recent.put(InstanceId(number), number);
            assert_eq!(recent.get(InstanceId(0)), Some(0), "asked for all the time");
            assert!(recent.things.len() <= 64);
        }
        assert!((950..1000).all(|number| recent.get(InstanceId(number)) == Some(number)));
    }
}
