//! Fixed little-endian fields, and the seal that tells whole bytes from damaged ones.

/// Bytes still to be read; `None` where they end too soon.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (now, later) = self.0.split_first_chunk()?;
        self.0 = later;
        Some(*now)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (now, later) = self.0.split_at_checked(len)?;
        self.0 = later;
        Some(now)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    pub(crate) fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }
}

/// Fills `bytes` with zeroes up to `len` and puts the checksum of all before into the last four.
pub(crate) fn seal(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    assert!(bytes.len() + 4 <= len, "{} bytes do not fit in {len} with their seal", bytes.len());
    bytes.resize(len - 4, 0);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// What [`seal`] sealed, with its zeroes; `None` when a bit of it has changed.
pub(crate) fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (body, seal) = bytes.split_last_chunk::<4>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*seal)).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_holds_until_any_bit_changes_and_zeroes_are_not_sealed() {
        let sealed = seal(vec![1, 2, 3], 16);
        assert_eq!(unseal(&sealed), Some(&[1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]));
        for bit in 0..16 * 8 {
            let mut broken = sealed.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(&broken), None, "bit {bit}");
        }
        assert_eq!(unseal(&[0; 512]), None);
        assert_eq!(unseal(&[0; 3]), None);
    }
}
