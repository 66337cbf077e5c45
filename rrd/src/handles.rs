//! Handles: open files and maps, as few as the system allows; those not used for longest are closed.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::map::Map;
use crate::{Disk, File, InstanceId};

/// Processes often may open 1,024 files, and sockets need their share.
const MOST_FILES: usize = 256;
/// Linux allows 65,530 maps a process; a map holds address space, not memory.
const MOST_MAPS: usize = 16_384;

/// Open files and maps of instances.
pub(crate) struct Handles {
    disk: Arc<dyn Disk>,
    files: Mutex<Recent<Arc<dyn File>>>,
    maps: Mutex<Recent<Arc<Map>>>,
}

/// Where a reader takes bytes from.
pub(crate) enum Source {
    Map(Arc<Map>),
    File(Arc<dyn File>),
}

impl Source {
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Map(map) => map.read_at(buffer, offset),
            Self::File(file) => file.read_at(buffer, offset),
        }
    }
}

impl Handles {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        let (files, maps) = (Recent::new(MOST_FILES), Recent::new(MOST_MAPS));
        Self { disk, files: Mutex::new(files), maps: Mutex::new(maps) }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The instance's file, opened if need be.
    pub(crate) fn file(&self, instance: InstanceId, path: &Path) -> io::Result<Arc<dyn File>> {
        if let Some(file) = lock(&self.files).get(instance) {
            return Ok(file);
        }
        // Opened outside the lock; should two do so at once, the second one is kept.
        let file = self.disk.open(path)?;
        lock(&self.files).put(instance, Arc::clone(&file));
        Ok(file)
    }

    /// Uses this file for the instance, which somebody else has opened.
    pub(crate) fn hold(&self, instance: InstanceId, file: Arc<dyn File>) {
        lock(&self.files).put(instance, file);
    }

    /// The first `len` bytes of the instance's file: a map where the system has one, else the file.
    pub(crate) fn source(&self, instance: InstanceId, path: &Path, len: u64) -> io::Result<Source> {
        let known = lock(&self.maps).get(instance).filter(|map| map.len() >= len);
        if let Some(map) = known {
            return Ok(Source::Map(map));
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
        lock(&self.maps).put(instance, Arc::clone(&map));
        Ok(Source::Map(map))
    }

    /// Closes what is open of the instance, after a failure: whoever asks next opens it anew.
    pub(crate) fn forget(&self, instance: InstanceId) {
        lock(&self.files).remove(instance);
        lock(&self.maps).remove(instance);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Things by instance, at most `most`; the one not asked for longest makes room.
struct Recent<T> {
    most: usize,
    tick: u64,
    things: HashMap<InstanceId, (u64, T)>,
    by_tick: BTreeMap<u64, InstanceId>,
}

impl<T: Clone> Recent<T> {
    fn new(most: usize) -> Self {
        Self { most, tick: 0, things: HashMap::new(), by_tick: BTreeMap::new() }
    }

    fn get(&mut self, instance: InstanceId) -> Option<T> {
        let (used_at, thing) = self.things.get_mut(&instance)?;
        self.tick += 1;
        self.by_tick.remove(used_at);
        self.by_tick.insert(self.tick, instance);
        *used_at = self.tick;
        Some(thing.clone())
    }

    fn remove(&mut self, instance: InstanceId) {
        if let Some((used_at, _)) = self.things.remove(&instance) {
            self.by_tick.remove(&used_at);
        }
    }

    fn put(&mut self, instance: InstanceId, thing: T) {
        self.tick += 1;
        if let Some((used_at, _)) = self.things.insert(instance, (self.tick, thing)) {
            self.by_tick.remove(&used_at);
        }
        self.by_tick.insert(self.tick, instance);
        while self.things.len() > self.most {
            let Some((_, oldest)) = self.by_tick.pop_first() else { return };
            self.things.remove(&oldest);
        }
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
        assert_eq!(recent.by_tick.len(), recent.things.len());
    }
}
