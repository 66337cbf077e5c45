//! The one codec: a versioned, checksummed frame around a bounded bincode body.
//!
//! A frame is `magic [4] | version u8 | kind u8 | 0 u16 | body length u32 | CRC32C u32 | body`,
//! little-endian; the checksum covers the twelve bytes before it and the body. Nothing is decoded
//! before it holds.

use bincode::{Decode, Encode, config};
use thiserror::Error;

/// Bytes before the body.
pub const HEADER_SIZE: usize = 16;

/// The body layout this program reads and writes: bincode 2 `standard()`, structures as of version
/// 1.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"RDLf";
const CRC_AT: usize = 12;

/// Decoded bytes a frame may take in memory: the intake's 8 MiB with room for the vectors around
/// it.
const DECODED_LIMIT: usize = 16 << 20;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A [`crate::native::Push`].
    Push = 1,
    /// A change of the registry, as the journal keeps it.
    RegistryChange = 2,
    /// One record of a registry snapshot.
    RegistryRecord = 3,
}

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Shorter than its header says, or than a header.
    #[error("the frame is cut short: {have} bytes of {need}; send it whole")]
    Short {
        /// Bytes at hand.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Not one of our frames at all.
    #[error("this is not a roundel frame; send what `roundel agent` sends")]
    Magic,
    /// A layout of another program version.
    #[error("the frame has version {0}, this program reads {VERSION}; upgrade the older side")]
    Version(u8),
    /// A frame of another kind than expected.
    #[error("the frame is of kind {found}, expected {expected}; send it to its own address")]
    Kind {
        /// The kind it claims.
        found: u8,
        /// The kind that belongs here.
        expected: u8,
    },
    /// The checksum does not hold.
    #[error("the frame's checksum does not hold; send it again")]
    Checksum,
    /// The body is not what its kind promises, or too large.
    #[error("the frame's body cannot be read: {0}")]
    Body(String),
    /// Bytes follow the body.
    #[error("{0} bytes follow the frame; send one frame a request")]
    Trailing(usize),
}

/// The frame of `kind` around `body`.
pub fn encode<T: Encode>(kind: FrameKind, body: &T) -> Vec<u8> {
    let mut frame = vec![0_u8; HEADER_SIZE];
    bincode::encode_into_std_write(body, &mut frame, config::standard())
        .expect("a vector takes all that is written to it, and no wire type can refuse");
    let length =
        u32::try_from(frame.len() - HEADER_SIZE).expect("limits keep frames far below 4 GiB");
    frame[..4].copy_from_slice(&MAGIC);
    frame[4] = VERSION;
    frame[5] = kind as u8;
    frame[8..CRC_AT].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&frame);
    frame[CRC_AT..HEADER_SIZE].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// The body of the one frame of `kind` that `bytes` are.
pub fn decode<T: Decode<()>>(kind: FrameKind, bytes: &[u8]) -> Result<T, CodecError> {
    match split(kind, bytes)? {
        (body, []) => Ok(body),
        (_, rest) => Err(CodecError::Trailing(rest.len())),
    }
}

/// The body of the first frame of `kind` in `bytes`, and what follows it.
pub fn split<T: Decode<()>>(kind: FrameKind, bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (frame, rest) = check(kind, bytes)?;
    let (body, used) = bincode::decode_from_slice(
        &frame[HEADER_SIZE..],
        config::standard().with_limit::<DECODED_LIMIT>(),
    )
    .map_err(|error| CodecError::Body(error.to_string()))?;
    let unread = frame.len() - HEADER_SIZE - used;
    if unread > 0 {
        return Err(CodecError::Trailing(unread));
    }
    Ok((body, rest))
}

/// The whole frame at the start of `bytes`, its header and checksum proved, and the rest.
fn check(kind: FrameKind, bytes: &[u8]) -> Result<(&[u8], &[u8]), CodecError> {
    let header = bytes
        .get(..HEADER_SIZE)
        .ok_or(CodecError::Short { have: bytes.len(), need: HEADER_SIZE })?;
    if header[..4] != MAGIC {
        return Err(CodecError::Magic);
    }
    if header[4] != VERSION {
        return Err(CodecError::Version(header[4]));
    }
    if header[5] != kind as u8 {
        return Err(CodecError::Kind { found: header[5], expected: kind as u8 });
    }
    let length = usize::try_from(word(header, 8)).map_err(|_| CodecError::Checksum)?;
    let need = HEADER_SIZE.saturating_add(length);
    let frame = bytes.get(..need).ok_or(CodecError::Short { have: bytes.len(), need })?;
    if word(header, CRC_AT) != checksum(frame) {
        return Err(CodecError::Checksum);
    }
    Ok((frame, &bytes[need..]))
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), &frame[HEADER_SIZE..])
}

fn word(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes of a checked header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_every_damage_is_named() {
        let frame = encode(FrameKind::Push, &(7_u32, String::from("x")));
        assert_eq!(decode::<(u32, String)>(FrameKind::Push, &frame), Ok((7, "x".into())));
        let damaged = |at: usize| {
            let mut copy = frame.clone();
            copy[at] ^= 0x40;
            decode::<(u32, String)>(FrameKind::Push, &copy).unwrap_err()
        };
        assert_eq!(damaged(0), CodecError::Magic);
        assert_eq!(damaged(4), CodecError::Version(VERSION ^ 0x40));
        assert_eq!(damaged(5), CodecError::Kind { found: 0x41, expected: 1 });
        assert_eq!(damaged(6), CodecError::Checksum);
        assert!(matches!(damaged(9), CodecError::Short { .. }));
        assert_eq!(damaged(13), CodecError::Checksum);
        assert_eq!(damaged(HEADER_SIZE), CodecError::Checksum);
        for cut in 0..frame.len() {
            let error = decode::<(u32, String)>(FrameKind::Push, &frame[..cut]).unwrap_err();
            assert!(matches!(error, CodecError::Short { .. }), "cut at {cut}: {error}");
        }
        let longer = [frame.as_slice(), &[0]].concat();
        assert_eq!(decode::<(u32, String)>(FrameKind::Push, &longer), Err(CodecError::Trailing(1)));
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        // A vector that claims 2^40 elements inside a body of nine bytes.
        let frame = encode(FrameKind::Push, &(1_u64 << 40));
        let error = decode::<Vec<u64>>(FrameKind::Push, &frame).unwrap_err();
        assert!(matches!(error, CodecError::Body(_)), "{error}");
    }
}
