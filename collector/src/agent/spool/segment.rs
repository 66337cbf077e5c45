//! A segment's bytes: a header that says where it stands in the order, and a chain of records.
//!
//! Each record's checksum covers that of the record before, from the header's salt on. What an earlier use of
//! the same place left behind a torn record is therefore never taken for a record of this one.

/// Bytes of one segment. A machine with 100 series fills one in half a day, and its names take a
/// hundredth of it; with 2,000 series they take a quarter.
pub(super) const SEGMENT_BYTES: usize = 512 << 10;

/// Bytes of the header: within one sector, so that it is written whole or not at all.
pub(super) const HEADER_BYTES: usize = 128;

/// Bytes before each record's body: its length and checksum.
pub(super) const FRAME_BYTES: usize = 8;

const MAGIC: [u8; 8] = *b"RNDLSPL1";

/// What stands before the records of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its place in the order; greater is newer.
    pub(super) seq: u64,
    /// It replaces all segments from this one to its own place; its own place when it replaces none.
    pub(super) from: u64,
    /// A random number that its chain of records begins with, so that no two segments share one.
    pub(super) salt: u64,
    /// The boot that its readings were made in.
    pub(super) boot_id: u128,
    /// Time between readings when they were made.
    pub(super) step_ms: u64,
    /// Length of the cells its readings were put into; 0 as long as they are as they were made.
    pub(super) cell_ms: u64,
    /// What was learnt later about the clock they were made with: added to every moment.
    pub(super) shift_ms: i64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        for number in [self.seq, self.from, self.salt] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.boot_id.to_le_bytes());
        for number in [self.step_ms, self.cell_ms, self.shift_ms.cast_unsigned()] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(HEADER_BYTES - 4, 0);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.try_into().expect("just brought to its length")
    }

    /// The header in these bytes; `None` when there is none, or a torn one.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (body, crc) = bytes.split_at(HEADER_BYTES - 4);
        let is_whole = crc == crc32c::crc32c(body).to_le_bytes();
        let (magic, mut rest) = body.split_at(MAGIC.len());
        if !is_whole || magic != MAGIC {
            return None;
        }
        let mut number = || {
            let (first, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            Some(u64::from_le_bytes(*first))
        };
        let (seq, from, salt) = (number()?, number()?, number()?);
        let (low, high) = (number()?, number()?);
        let boot_id = (u128::from(high) << 64) | u128::from(low);
        let (step_ms, cell_ms, shift_ms) = (number()?, number()?, number()?.cast_signed());
        let header = Self { seq, from, salt, boot_id, step_ms, cell_ms, shift_ms };
        (from <= seq).then_some(header)
    }

    /// What the first record's checksum begins with.
    pub(super) fn chain(&self) -> u32 {
        crc32c::crc32c(&self.salt.to_le_bytes())
    }
}

/// Puts a record's length and checksum before its body; returns the checksum for the next one.
pub(super) fn seal(body: &[u8], chain: u32, out: &mut Vec<u8>) -> u32 {
    let len = u32::try_from(body.len()).expect("a body is shorter than its segment").to_le_bytes();
    let crc = checksum(len, body, chain);
    out.extend(len);
    out.extend(crc.to_le_bytes());
    out.extend_from_slice(body);
    crc
}

/// The length of the body after these bytes, when it can be one.
pub(super) fn body_len(frame: [u8; FRAME_BYTES]) -> Option<usize> {
    let [a, b, c, d, ..] = frame;
    let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    (1..=SEGMENT_BYTES - HEADER_BYTES - FRAME_BYTES).contains(&len).then_some(len)
}

/// The checksum for the next record, when this one is whole and follows on `chain`.
pub(super) fn verify(frame: [u8; FRAME_BYTES], body: &[u8], chain: u32) -> Option<u32> {
    let [a, b, c, d, crc @ ..] = frame;
    let expected = checksum([a, b, c, d], body, chain);
    (crc == expected.to_le_bytes()).then_some(expected)
}

fn checksum(len: [u8; 4], body: &[u8], chain: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(chain, &len), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        seq: 9,
        from: 7,
        salt: 5,
        boot_id: 3 << 70 | 1,
        step_ms: 10_000,
        cell_ms: 0,
        shift_ms: -3_600_000,
    };

    #[test]
    fn a_header_comes_back_and_a_torn_one_does_not() {
        let bytes = HEADER.encode();
        assert_eq!(Header::decode(&bytes), Some(HEADER));
        for at in 0..HEADER_BYTES {
            let mut torn = bytes;
            torn[at] ^= 1;
            assert_eq!(Header::decode(&torn), None, "byte {at}");
        }
    }

    #[test]
    fn a_record_follows_only_on_the_one_it_was_written_after() {
        let mut bytes = Vec::new();
        let first = seal(b"one", HEADER.chain(), &mut bytes);
        let at = bytes.len();
        let second = seal(b"two", first, &mut bytes);
        let frame =
            |at: usize| <[u8; FRAME_BYTES]>::try_from(&bytes[at..at + FRAME_BYTES]).unwrap();
        assert_eq!(verify(frame(0), b"one", HEADER.chain()), Some(first));
        assert_eq!(verify(frame(at), b"two", first), Some(second));
        let other = Header { salt: 6, ..HEADER };
        assert_eq!(verify(frame(0), b"one", other.chain()), None);
        assert_eq!(verify(frame(at), b"two", HEADER.chain()), None);
    }
}
