//! A segment: one preallocated file, used lap after lap.

use std::path::{Path, PathBuf};

use rrd::Timestamp;

use crate::frame::{u32_at, u64_at};

/// What the disk is assumed to write as one: commits start on multiples of it.
pub(crate) const BLOCK: u64 = 4096;
/// Two copies of the header, a block each, so that one rotten block does not hide a whole lap.
pub(crate) const HEADER_BYTES: u64 = 2 * BLOCK;

const MAGIC: &[u8; 8] = b"RNDLSEG1";
const CHECKED_BYTES: usize = 64;

/// The header of one lap, synced with the lap's first frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) segment_bytes: u64,
    pub(crate) segment_index: u32,
    pub(crate) segment_count: u32,
    /// Counts laps over all segments, 1 first; 0 in a segment that was never used.
    pub(crate) ordinal: u64,
    /// What the checksums of this lap's frames start from.
    pub(crate) salt: u64,
    /// The last frame before this lap.
    pub(crate) follows: u64,
    /// The epoch of that frame.
    pub(crate) prior_epoch: u64,
    /// The stamp of the lap's first frame, above which no frame before it is.
    pub(crate) stamp: Timestamp,
}

impl Header {
    /// Both copies, as written at the start of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(CHECKED_BYTES + 4);
        copy.extend_from_slice(MAGIC);
        copy.extend_from_slice(&self.segment_bytes.to_le_bytes());
        copy.extend_from_slice(&self.segment_index.to_le_bytes());
        copy.extend_from_slice(&self.segment_count.to_le_bytes());
        for number in [self.ordinal, self.salt, self.follows, self.prior_epoch] {
            copy.extend_from_slice(&number.to_le_bytes());
        }
        copy.extend_from_slice(&self.stamp.as_millis().to_le_bytes());
        copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
        copy.resize(usize_of(BLOCK), 0);
        copy.repeat(2)
    }

    /// The newer sound copy at the start of a file; `None` when neither is.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let copies = bytes.chunks_exact(usize_of(BLOCK)).take(2);
        copies.filter_map(Self::decode_copy).max_by_key(|header| header.ordinal)
    }

    pub(crate) fn decode_copy(copy: &[u8]) -> Option<Self> {
        let checked = copy.get(..CHECKED_BYTES)?;
        let crc = u32_at(copy, CHECKED_BYTES);
        (checked.starts_with(MAGIC) && crc == crc32c::crc32c(checked)).then(|| Self {
            segment_bytes: u64_at(copy, 8),
            segment_index: u32_at(copy, 16),
            segment_count: u32_at(copy, 20),
            ordinal: u64_at(copy, 24),
            salt: u64_at(copy, 32),
            follows: u64_at(copy, 40),
            prior_epoch: u64_at(copy, 48),
            stamp: Timestamp::from_millis(u64_at(copy, 56).cast_signed()),
        })
    }
}

/// The file of segment `index`.
pub(crate) fn path(dir: &Path, index: u32) -> PathBuf {
    dir.join(format!("segment-{index:03}"))
}

/// The segment that lap `ordinal` is written to.
pub(crate) fn index_of(ordinal: u64, segment_count: u32) -> usize {
    usize_of(ordinal % u64::from(segment_count))
}

/// Offsets and lengths within a segment, which is at most 4 GiB.
pub(crate) fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a 64-bit machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(ordinal: u64) -> Header {
        Header {
            segment_bytes: 1 << 20,
            segment_index: 3,
            segment_count: 8,
            ordinal,
            salt: 0x0123_4567_89AB_CDEF,
            follows: 41,
            prior_epoch: 2,
            stamp: Timestamp::from_secs(1),
        }
    }

    #[test]
    fn a_header_is_read_from_either_copy() {
        let bytes = header(11).encode();
        assert_eq!(bytes.len() as u64, HEADER_BYTES);
        assert_eq!(&bytes[..8], b"RNDLSEG1");
        assert_eq!(&bytes[24..32], 11_u64.to_le_bytes());
        for rotten in [0, 4096] {
            let mut bytes = bytes.clone();
            bytes[rotten + 30] ^= 1;
            assert_eq!(Header::decode(&bytes), Some(header(11)));
        }
    }

    #[test]
    fn of_a_half_written_header_the_new_half_counts() {
        let (old, new) = (header(3).encode(), header(11).encode());
        let torn = [&old[..4096], &new[4096..]].concat();
        assert_eq!(Header::decode(&torn), Some(header(11)));
    }

    #[test]
    fn without_a_sound_copy_there_is_no_header() {
        assert_eq!(Header::decode(&[0; 8192]), None);
        assert_eq!(Header::decode(&[]), None);
    }
}
