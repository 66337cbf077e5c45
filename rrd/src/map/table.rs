//! The table of live maps: what a fault's handler may look at. Atomics alone, for it can take no lock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The maps that are kept (16,384), and those that readers still hold when others took their place.
const MOST: usize = 20_480;

static TABLE: [Entry; MOST] = [const { Entry::new() }; MOST];
/// Entries from here on were never used.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Some map was broken since the start. Readers look here first: it is in every cache.
static ANY_BROKEN: AtomicBool = AtomicBool::new(false);
/// Entries below that are free again. Short: a map is made or goes.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

struct Entry {
    /// 0 while nobody has it.
    start: AtomicUsize,
    end: AtomicUsize,
    is_broken: AtomicBool,
}

impl Entry {
    const fn new() -> Self {
        let (start, end) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { start, end, is_broken: AtomicBool::new(false) }
    }
}

/// The entry of one map, given back when dropped: before the map itself goes.
#[derive(Debug)]
pub(super) struct Claim(usize);

impl Claim {
    /// An entry for the map of `len` bytes at `start`; `None` when all are taken.
    pub(super) fn of(start: usize, len: usize) -> Option<Self> {
        let mut free = free();
        let number = free.pop().unwrap_or_else(|| USED.load(Ordering::Relaxed));
        let entry = TABLE.get(number)?;
        entry.is_broken.store(false, Ordering::Relaxed);
        entry.end.store(start + len, Ordering::Relaxed);
        entry.start.store(start, Ordering::Release);
        USED.fetch_max(number + 1, Ordering::Release);
        Some(Self(number))
    }

    /// True once a page of the map could not be read.
    pub(super) fn is_broken(&self) -> bool {
        ANY_BROKEN.load(Ordering::Relaxed) && TABLE[self.0].is_broken.load(Ordering::Relaxed)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut free = free();
        TABLE[self.0].start.store(0, Ordering::Release);
        free.push(self.0);
    }
}

fn free() -> MutexGuard<'static, Vec<usize>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks the map that holds `address` as broken; false when it is none of ours. Safe in a handler.
///
/// The map of the faulting read lives, so its entry stands still. An entry that changes hands
/// meanwhile may be taken for a hit too: hence all are marked, and that one reads again.
pub(super) fn mark_broken(address: usize) -> bool {
    let mut is_ours = false;
    for entry in TABLE.iter().take(USED.load(Ordering::Acquire)) {
        let start = entry.start.load(Ordering::Acquire);
        if start != 0 && (start..entry.end.load(Ordering::Relaxed)).contains(&address) {
            entry.is_broken.store(true, Ordering::SeqCst);
            ANY_BROKEN.store(true, Ordering::SeqCst);
            is_ours = true;
        }
    }
    is_ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_ours_as_long_as_its_map_lives() {
        // Far above what any process of this machine can have mapped.
        let start = usize::MAX - (1 << 20);
        let claims: Vec<_> = (0..3).map(|n| Claim::of(start + n * 8192, 4096).unwrap()).collect();
        assert!(mark_broken(start + 8192 + 4095));
        assert!(!mark_broken(start + 8192 + 4096) && !mark_broken(start - 1));
        assert_eq!(claims.iter().map(Claim::is_broken).collect::<Vec<_>>(), [false, true, false]);
        drop(claims);
        assert!(!mark_broken(start + 8192));
        let again = Claim::of(start, 4096).unwrap();
        assert!(!again.is_broken(), "an entry begins anew");
    }
}
