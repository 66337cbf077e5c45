//! Bytes of an unpacked request, in a buffer that later requests use again: a fresh one of a megabyte
//! is page after page of zeroes from the kernel.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

/// Buffers kept for later: requests that are unpacked at once on a few processors.
const KEPT_BUFFERS: usize = 4;
/// A longer buffer is not kept: few senders make requests of that size.
const KEPT_BYTES: usize = 2 << 20;

static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// What a body unpacked to. Dropped, it leaves its buffer to others.
#[derive(Debug)]
pub(crate) struct Unpacked {
    buffer: Vec<u8>,
    len: usize,
}

impl Unpacked {
    /// Lets `unpack` fill a buffer of `len` bytes, which it must overwrite: others used it before. It
    /// answers how many it has filled.
    pub(crate) fn by<E>(
        len: usize,
        unpack: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let kept = buffers().pop();
        let mut unpacked = Self { buffer: kept.unwrap_or_default(), len: 0 };
        if unpacked.buffer.len() < len {
            unpacked.buffer.resize(len, 0);
        }
        unpacked.len = unpack(&mut unpacked.buffer[..len])?;
        Ok(unpacked)
    }
}

impl Deref for Unpacked {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let mut buffers = buffers();
        if buffers.len() < KEPT_BUFFERS && self.buffer.capacity() <= KEPT_BYTES {
            buffers.push(std::mem::take(&mut self.buffer));
        }
    }
}

fn buffers() -> std::sync::MutexGuard<'static, Vec<Vec<u8>>> {
    // A push or a pop is whole or did not happen.
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(len: usize, byte: u8) -> Unpacked {
        let fill = |room: &mut [u8]| -> Result<usize, ()> {
            room.fill(byte);
            Ok(room.len())
        };
        Unpacked::by(len, fill).unwrap()
    }

    #[test]
    fn nothing_of_an_earlier_request_is_seen() {
        for (len, byte) in [(1000, 1), (10, 2), (100, 3), (5000, 4), (0, 5)] {
            assert_eq!(&*filled(len, byte), vec![byte; len]);
        }
        let half = Unpacked::by(100, |room| -> Result<usize, ()> {
            room[..50].fill(6);
            Ok(50)
        });
        assert_eq!(&*half.unwrap(), [6; 50]);
        assert!(Unpacked::by(100, |_| Err::<usize, _>("broken")).is_err());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        drop((0..20).map(|_| filled(1000, 1)).collect::<Vec<_>>());
        drop((0..20).map(|_| filled(KEPT_BYTES + 1, 1)).collect::<Vec<_>>());
        let kept = buffers();
        assert!(kept.len() <= KEPT_BUFFERS, "{}", kept.len());
        assert!(kept.iter().all(|buffer| buffer.capacity() <= KEPT_BYTES));
    }
}
