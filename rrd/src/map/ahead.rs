//! Reading ahead: pages that a reader is about to look at, brought together.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::Advice;

use super::Map;

impl Map {
    /// Has the system read the pages of these bytes ahead of those who look at them.
    pub(crate) fn bring(&self, bytes: Range<u64>) {
        let within = |at| usize::try_from(at).map_or(self.raw.len(), |at| at.min(self.raw.len()));
        let (from, upto) = (within(bytes.start), within(bytes.end));
        // Where it does not, the pages come one by one.
        let _ignored = self.raw.advise_range(Advice::WillNeed, from, upto.saturating_sub(from));
    }
    /// Looks at bytes in many places: memory brings them at once, where a reader would wait for each.
    pub(crate) fn touch(&self, places: impl Iterator<Item = u64>) {
        let places = places.filter_map(|at| usize::try_from(at).ok());
        let bytes = places.filter(|&at| at < self.raw.len()).map(|at| self.place::<AtomicU8>(at));
        std::hint::black_box(bytes.fold(0, |seen, byte| seen ^ byte.load(Ordering::Relaxed)));
    }
}
