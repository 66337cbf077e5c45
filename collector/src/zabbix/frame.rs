//! Frames: `ZBXD`, flags, two lengths, and a packet that may be packed.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use thiserror::Error;

/// Bytes before the packet; a large packet has eight more.
pub(crate) const HEADER_SIZE: usize = 13;
/// Bytes of a packet as it comes: `zabbix_sender` puts 250 values into one.
const PACKET_LIMIT: u64 = 4 << 20;
/// Bytes of a packet when it is unpacked.
const UNPACKED_LIMIT: u64 = 8 << 20;

const MAGIC: &[u8] = b"ZBXD";
const FLAG_PROTOCOL: u8 = 0x01;
const FLAG_PACKED: u8 = 0x02;
const FLAG_LARGE: u8 = 0x04;

/// What comes before a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the packet as it comes.
    pub(crate) length: usize,
    /// Bytes of the packet unpacked, where it is packed.
    unpacked: Option<u64>,
}

/// Why bytes are no frame.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("no ZBXD header; plain text is not taken")]
    Magic,
    #[error("flags {0:#04x} are not known here")]
    Flags(u8),
    #[error(
        "a packet of {0} bytes; at most {PACKET_LIMIT}, and {UNPACKED_LIMIT} unpacked, are taken"
    )]
    Large(u64),
    #[error("the packet cannot be unpacked: {0}")]
    Packed(std::io::Error),
    #[error("the packet unpacks to another size than its header says")]
    Size,
}

impl Header {
    /// True when eight more bytes belong to the header that begins so.
    pub(crate) fn is_large(start: [u8; HEADER_SIZE]) -> bool {
        &start[..4] == MAGIC && start[4] & FLAG_LARGE != 0
    }

    /// The header in `bytes`, 13 or, of a large packet, 21. Lengths over the limits are refused
    /// before anything of the packet is read.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        let (start, lengths) = bytes.split_at_checked(5).ok_or(FrameError::Magic)?;
        let flags = start[4];
        if &start[..4] != MAGIC {
            return Err(FrameError::Magic);
        }
        if flags & FLAG_PROTOCOL == 0 || flags > FLAG_PROTOCOL | FLAG_PACKED | FLAG_LARGE {
            return Err(FrameError::Flags(flags));
        }
        let (length, unpacked) = lengths.split_at(lengths.len() / 2);
        let (length, unpacked) = (little(length), little(unpacked));
        if length > PACKET_LIMIT {
            return Err(FrameError::Large(length));
        }
        let is_packed = flags & FLAG_PACKED != 0;
        if is_packed && unpacked > UNPACKED_LIMIT {
            return Err(FrameError::Large(unpacked));
        }
        let length = usize::try_from(length).map_err(|_| FrameError::Large(length))?;
        Ok(Self { length, unpacked: is_packed.then_some(unpacked) })
    }

    /// Bytes to hold for the packet when it is unpacked.
    pub(crate) fn more(self) -> usize {
        self.unpacked.and_then(|size| usize::try_from(size).ok()).unwrap_or(0)
    }
}

/// The packet's text; what unpacks to more than its header says is refused at that byte.
pub(crate) fn unpacked(header: Header, packet: Vec<u8>) -> Result<Vec<u8>, FrameError> {
    let Some(size) = header.unpacked else { return Ok(packet) };
    let mut text = Vec::new();
    let mut packed = ZlibDecoder::new(&packet[..]).take(size + 1);
    packed.read_to_end(&mut text).map_err(FrameError::Packed)?;
    if u64::try_from(text.len()).is_ok_and(|read| read == size) {
        Ok(text)
    } else {
        Err(FrameError::Size)
    }
}

/// A packet in its frame.
pub(crate) fn framed(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("answers are short");
    [MAGIC, &[FLAG_PROTOCOL], &length.to_le_bytes(), &[0; 4], text.as_bytes()].concat()
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
