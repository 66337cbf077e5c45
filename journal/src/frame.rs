//! A frame: a kind and a body in a drawn envelope.
//!
//! The envelope has two checksums, so that a search for frames in damaged bytes never has to trust a
//! length it has not checked. Both start from the segment's salt: bytes that a sender puts into a
//! body, and frames of a segment's earlier lap, never pass for frames.

use bytes::Bytes;
use rrd::Timestamp;

/// The kind of a frame that only says what time it is. Its body is empty.
pub const TICK: u8 = 0;
/// The longest body. A sender's batch is a tenth of it; it bounds what one frame can hold up.
pub const MAX_BODY_BYTES: usize = 4 << 20;

pub(crate) const ENVELOPE_BYTES: usize = 56;
const MAGIC: u32 = u32::from_le_bytes(*b"RNDF");
/// Frames start on multiples of this, which bounds the search for them.
pub(crate) const FRAME_ALIGN: usize = 8;

/// One committed frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its place in the log: 1, 2, 3… with gaps only where the journal was opened anew.
    pub seq: u64,
    /// The journal's own time when it was appended.
    pub stamp: Timestamp,
    /// What the body is; 0 is a [`TICK`].
    pub kind: u8,
    /// The bytes as appended.
    pub body: Bytes,
}

/// All of a frame but its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) stamp: Timestamp,
    /// The last frame that was durable before this frame's commit began: its proof of what came first.
    pub(crate) follows: u64,
    pub(crate) kind: u8,
    pub(crate) body_len: usize,
}

/// What stands at a place in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No envelope of this lap.
    Nothing,
    /// A sound envelope whose body is not.
    Broken(Envelope),
    /// A frame.
    Whole(Envelope),
}

impl Envelope {
    /// Bytes of the whole frame, its padding included.
    pub(crate) const fn frame_len(&self) -> usize {
        frame_len(self.body_len)
    }

    pub(crate) fn encode(&self, salt: u64, body: &[u8], out: &mut Vec<u8>) {
        assert_eq!(body.len(), self.body_len, "the envelope describes this body");
        let body_len = u32::try_from(body.len()).expect("a body is at most 4 MiB");
        let start = out.len();
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&body_len.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.stamp.as_millis().to_le_bytes());
        out.extend_from_slice(&self.follows.to_le_bytes());
        out.extend_from_slice(&[self.kind, 0, 0, 0]);
        out.extend_from_slice(&salted(salt, body).to_le_bytes());
        let crc = salted(salt, &out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(body);
        out.resize(start + self.frame_len(), 0);
    }

    /// Reads what stands at the start of `bytes`, which may be anything.
    pub(crate) fn find(bytes: &[u8], salt: u64) -> Found {
        let Some(head) = bytes.first_chunk::<ENVELOPE_BYTES>() else { return Found::Nothing };
        if u32_at(head, 0) != MAGIC || u32_at(head, 48) != salted(salt, &head[..48]) {
            return Found::Nothing;
        }
        let envelope = Self {
            seq: u64_at(head, 8),
            epoch: u64_at(head, 16),
            stamp: Timestamp::from_millis(u64_at(head, 24).cast_signed()),
            follows: u64_at(head, 32),
            kind: head[40],
            body_len: usize::try_from(u32_at(head, 4)).expect("32 bits fit a usize"),
        };
        match bytes.get(ENVELOPE_BYTES..ENVELOPE_BYTES + envelope.body_len) {
            Some(body) if salted(salt, body) == u32_at(head, 44) => Found::Whole(envelope),
            _ => Found::Broken(envelope),
        }
    }
}

/// Bytes a frame takes with a body of `body_len` bytes.
pub(crate) const fn frame_len(body_len: usize) -> usize {
    (ENVELOPE_BYTES + body_len).next_multiple_of(FRAME_ALIGN)
}

fn salted(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes, checked by the caller"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes, checked by the caller"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        let stamp = Timestamp::from_millis(1_700_000_000_000);
        Envelope { seq: 7, epoch: 2, stamp, follows: 6, kind: 1, body_len: 3 }
    }

    fn encoded(salt: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        envelope().encode(salt, b"abc", &mut bytes);
        bytes
    }

    #[test]
    fn a_frame_is_these_bytes() {
        let bytes = encoded(1);
        assert_eq!(bytes.len(), 64);
        assert_eq!(&bytes[..8], b"RNDF\x03\0\0\0");
        assert_eq!(&bytes[8..16], 7_u64.to_le_bytes());
        assert_eq!(&bytes[16..24], 2_u64.to_le_bytes());
        assert_eq!(&bytes[24..32], 1_700_000_000_000_u64.to_le_bytes());
        assert_eq!(&bytes[32..40], 6_u64.to_le_bytes());
        assert_eq!(&bytes[40..44], &[1, 0, 0, 0]);
        assert_eq!(&bytes[56..], b"abc\0\0\0\0\0");
        assert_eq!(Envelope::find(&bytes, 1), Found::Whole(envelope()));
    }

    #[test]
    fn a_frame_of_another_lap_is_nothing() {
        assert_eq!(Envelope::find(&encoded(1), 2), Found::Nothing);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        for bit in 0..encoded(1).len() * 8 {
            let mut bytes = encoded(1);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = Envelope::find(&bytes, 1);
            let in_padding = (52..56).contains(&(bit / 8)) || bit / 8 >= 59;
            assert_eq!(found == Found::Whole(envelope()), in_padding, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_cut_short_is_broken_or_nothing() {
        let bytes = encoded(1);
        assert_eq!(Envelope::find(&bytes[..58], 1), Found::Broken(envelope()));
        assert_eq!(Envelope::find(&bytes[..50], 1), Found::Nothing);
        assert_eq!(Envelope::find(&[], 1), Found::Nothing);
    }
}
