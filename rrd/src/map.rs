//! A map: a file's bytes as memory, for reading only. The one place with `unsafe`.
//!
//! No reference to mapped memory ever leaves: the kernel changes it under us when a round writes the
//! file. Bytes are copied out by relaxed atomic loads, which may be stale or torn, never undefined;
//! the store's own lock keeps rounds and readers apart, and checksums prove what was read.
//!
//! A page that cannot be read (its file was cut, its sector is bad) is a SIGBUS. Ours puts a page of
//! zeroes in its place and marks the map, so that the reader gets an error; any other kills as before.
#![expect(unsafe_code, reason = "mapped memory is reached through raw pointers, here alone")]

mod ahead;
mod number;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{self, AtomicU8, AtomicU32, AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use number::Atomic;
use table::Claim;

/// A read-only map of the first bytes of a file.
#[derive(Debug)]
pub(crate) struct Map {
    /// Given back before the map goes, so that the handler never knows of one that is gone.
    claim: Claim,
    raw: MmapRaw,
}

impl Map {
    /// Maps the first `len` bytes. Errors when the file is shorter, and as `OutOfMemory` when there
    /// are as many maps as the handler can watch: then the file is read without one.
    pub(crate) fn of(file: &std::fs::File, len: u64) -> io::Result<Self> {
        if file.metadata()?.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let raw = MmapOptions::new().len(len).map_raw_read_only(file)?;
        raw.advise(Advice::Random)?;
        watch();
        let claim = Claim::of(raw.as_ptr().addr(), len).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { claim, raw })
    }

    /// Bytes that are mapped.
    pub(crate) fn len(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Copies bytes from `offset`; `UnexpectedEof` outside the map, and an error for ever after one
    /// of its pages could not be read.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.raw.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Words where they lie aligned; tiles begin and end on half a word.
        let (half, word) = (start.next_multiple_of(4).min(end), start.next_multiple_of(8).min(end));
        let (bytes, rest) = buffer.split_at_mut(half - start);
        let (before, rest) = rest.split_at_mut(word - half);
        let (words, after) = rest.split_at_mut(rest.len() / 8 * 8);
        self.copy::<AtomicU8>(start, bytes);
        self.copy_halves(half, before);
        self.copy::<AtomicU64>(word, words);
        self.copy_halves(word + words.len(), after);
        // The bytes first, then the mark: whoever saw the zeroes of a lost page sees it.
        atomic::fence(Ordering::Acquire);
        if self.claim.is_broken() {
            return Err(io::Error::other("a page of the file cannot be read"));
        }
        Ok(())
    }

    /// Copies half words from `at`, a multiple of four, and the bytes behind them.
    fn copy_halves(&self, at: usize, out: &mut [u8]) {
        let (halves, bytes) = out.split_at_mut(out.len() / 4 * 4);
        self.copy::<AtomicU32>(at, halves);
        self.copy::<AtomicU8>(at + halves.len(), bytes);
    }

    fn copy<T: Atomic>(&self, at: usize, out: &mut [u8]) {
        for (at, out) in (at..).step_by(size_of::<T>()).zip(out.chunks_exact_mut(size_of::<T>())) {
            self.place::<T>(at).copy_to(out);
        }
    }

    /// The atomic at `at`, a multiple of its size that the caller has checked to be inside the map.
    fn place<T: Atomic>(&self, at: usize) -> &T {
        debug_assert!(at.is_multiple_of(size_of::<T>()) && at + size_of::<T>() <= self.raw.len());
        // SAFETY: the caller checked that the atomic's bytes are mapped, so the sum stays in the map.
        let place = unsafe { self.raw.as_ptr().add(at) };
        // SAFETY: maps begin on a page, so that it is aligned; it is mapped as long as `self` lives, any
        // bytes are a value of an atomic number, and only ever read through atomics.
        unsafe { &*place.cast::<T>() }
    }
}

/// What the handler needs: the disposition before ours, and the bytes of a page.
static BEFORE: OnceLock<(libc::sigaction, usize)> = OnceLock::new();

/// Puts our handler before the one there was, once.
fn watch() {
    BEFORE.get_or_init(|| {
        // SAFETY: asks for a number, without any pointer.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        // SAFETY: all zeroes are a value of this plain type: the default, with no flag and no mask.
        let blank: libc::sigaction = unsafe { std::mem::zeroed() };
        let (mut ours, mut before) = (blank, blank);
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_bus_error;
        ours.sa_sigaction = handler as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: a whole disposition, whose handler has the signature that SA_SIGINFO asks for, and
        // room for the former. A failure (SIGBUS knows none) leaves faults as deadly as they were.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before) };
        (before, usize::try_from(page).unwrap_or(4096))
    });
}

/// Only atomics and system calls: it interrupts a thread anywhere.
extern "C" fn on_bus_error(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    let Some((before, page)) = BEFORE.get() else { return }; // Tried again until `watch` is done.
    // SAFETY: with SA_SIGINFO the kernel passes a valid `siginfo_t` that outlives the handler.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS has an address; of one that a process sent it is any number, which is no map's.
    let address = unsafe { info.si_addr() };
    if table::mark_broken(address.addr()) && cover(address, *page) {
        return;
    }
    // SAFETY: `before` is what the same call gave. The read is tried again, and faults as before.
    unsafe { libc::sigaction(libc::SIGBUS, before, ptr::null_mut()) };
}

/// Puts zeroes in place of the page that holds `address`.
fn cover(address: *mut c_void, page: usize) -> bool {
    let start = address.map_addr(|at| at & !(page - 1));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page lies in a map of ours, which lives while its reader is interrupted here. It is
    // read through atomics alone, so that its bytes may change, and is unmapped with the rest.
    let mapped = unsafe { libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}
