//! Atomic numbers of a map, copied out as the bytes they are made of.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// An atomic number of which every pattern of bits is a value.
pub(super) trait Atomic {
    /// Copies its bytes, as many as it has.
    fn copy_to(&self, out: &mut [u8]);
}

impl Atomic for AtomicU8 {
    fn copy_to(&self, out: &mut [u8]) {
        out.copy_from_slice(&[self.load(Ordering::Relaxed)]);
    }
}

impl Atomic for AtomicU32 {
    fn copy_to(&self, out: &mut [u8]) {
        out.copy_from_slice(&u32::from_le(self.load(Ordering::Relaxed)).to_le_bytes());
    }
}

impl Atomic for AtomicU64 {
    fn copy_to(&self, out: &mut [u8]) {
        out.copy_from_slice(&u64::from_le(self.load(Ordering::Relaxed)).to_le_bytes());
    }
}
