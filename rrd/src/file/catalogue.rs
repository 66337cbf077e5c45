//! The catalogue of a block: which series its columns belong to. Rewritten whole when it changes.

use super::Reader;
use crate::Kind;
use crate::series::Definition;

/// Sequence, epoch, entry count, length, checksum of the entries, checksum of the head.
const HEAD_LEN: usize = 8 + 8 + 4 + 4 + 4 + 4;
/// In place of a kind: no series lives in the column.
const VACANT: u8 = u8::MAX;
/// Generation, key length, kind, a zero, heartbeat, min, max.
const ENTRY_HEAD_LEN: usize = 4 + 2 + 1 + 1 + 8 + 8 + 8;
/// Several times a usual key: a block is left when its keys need more.
const BYTES_PER_COLUMN: u64 = 512;
/// So that even the smallest block takes the longest key.
const LEAST_BYTES: u64 = 4096;

const _: () = assert!(HEAD_LEN == 32 && ENTRY_HEAD_LEN == 32);

/// One column's series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry<'a> {
    pub(crate) generation: u32,
    /// `None` where the series was dropped: the rest says nothing.
    pub(crate) kind: Option<Kind>,
    pub(crate) heartbeat_ms: u64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) key: &'a [u8],
}

/// A catalogue being written or read.
pub(crate) struct Catalogue;

impl Catalogue {
    pub(crate) const HEAD_LEN: usize = HEAD_LEN;
    /// The longest key of a series: the 2 KiB that intake takes, with the lengths in between.
    pub(crate) const LONGEST_KEY: usize = 3072;

    /// Bytes of one copy for a block of `width` columns.
    pub(crate) const fn len(width: u32) -> u64 {
        let wanted = width as u64 * BYTES_PER_COLUMN;
        if wanted < LEAST_BYTES { LEAST_BYTES } else { wanted }
    }

    /// Bytes that entries may take in a block of `width` columns.
    pub(crate) const fn room(width: u32) -> u64 {
        Self::len(width) - HEAD_LEN as u64
    }

    /// Bytes of one entry.
    pub(crate) const fn entry_len(key: &[u8]) -> u64 {
        (ENTRY_HEAD_LEN + key.len()) as u64
    }

    /// The bytes of a copy, without the room left over.
    pub(crate) fn encode<'a>(
        seq: u64,
        epoch: u64,
        entries: impl Iterator<Item = Entry<'a>>,
    ) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_LEN];
        let mut count: u32 = 0;
        for entry in entries {
            entry.write(&mut bytes);
            count += 1;
        }
        let len = u32::try_from(bytes.len() - HEAD_LEN).expect("64 columns, keys of 3 KiB");
        let entries_crc = crc32c::crc32c(&bytes[HEAD_LEN..]);
        bytes[..8].copy_from_slice(&seq.to_le_bytes());
        bytes[8..16].copy_from_slice(&epoch.to_le_bytes());
        bytes[16..20].copy_from_slice(&count.to_le_bytes());
        bytes[20..24].copy_from_slice(&len.to_le_bytes());
        bytes[24..28].copy_from_slice(&entries_crc.to_le_bytes());
        let head_crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..32].copy_from_slice(&head_crc.to_le_bytes());
        bytes
    }

    /// Bytes of the entries behind this head, if it was written whole at `seq`.
    pub(crate) fn entries_len(head: &[u8; HEAD_LEN], seq: u64) -> Option<usize> {
        let (body, crc) = head.split_last_chunk::<4>()?;
        let mut fields = Reader(body);
        let written_at = fields.u64()?;
        let _epoch = fields.u64()?;
        let _count = fields.u32()?;
        let len = fields.u32()?;
        let is_whole = crc32c::crc32c(body) == u32::from_le_bytes(*crc) && written_at == seq;
        is_whole.then(|| usize::try_from(len).ok())?
    }

    /// The entries, if `bytes` are those this head was written for.
    pub(crate) fn decode<'a>(head: &[u8; HEAD_LEN], bytes: &'a [u8]) -> Option<Vec<Entry<'a>>> {
        let mut fields = Reader(&head[16..28]);
        let (count, _len, crc) = (fields.u32()?, fields.u32()?, fields.u32()?);
        if crc32c::crc32c(bytes) != crc {
            return None;
        }
        let mut fields = Reader(bytes);
        (0..count).map(|_| Entry::read(&mut fields)).collect()
    }
}

impl<'a> Entry<'a> {
    pub(crate) fn of(generation: u32, definition: &Definition, key: &'a [u8]) -> Self {
        let &Definition { kind, heartbeat_ms, min, max } = definition;
        Self { generation, kind: Some(kind), heartbeat_ms, min, max, key }
    }

    /// A column whose series, of this generation, was dropped.
    pub(crate) const fn vacant(generation: u32) -> Self {
        Self { generation, kind: None, heartbeat_ms: 0, min: 0.0, max: 0.0, key: &[] }
    }

    /// What the readings of the series mean; `None` where none lives.
    pub(crate) fn definition(&self) -> Option<Definition> {
        let &Self { heartbeat_ms, min, max, .. } = self;
        self.kind.map(|kind| Definition { kind, heartbeat_ms, min, max })
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let key_len = u16::try_from(self.key.len()).expect("grants refuse keys above 3 KiB");
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&key_len.to_le_bytes());
        bytes.extend_from_slice(&[self.kind.map_or(VACANT, |kind| kind as u8), 0]);
        bytes.extend_from_slice(&self.heartbeat_ms.to_le_bytes());
        bytes.extend_from_slice(&self.min.to_le_bytes());
        bytes.extend_from_slice(&self.max.to_le_bytes());
        bytes.extend_from_slice(self.key);
    }

    fn read(fields: &mut Reader<'a>) -> Option<Self> {
        let generation = fields.u32()?;
        let key_len = usize::from(fields.u16()?);
        let [kind, _] = fields.take::<2>()?;
        Some(Self {
            generation,
            kind: if kind == VACANT { None } else { Some(Kind::from_number(kind)?) },
            heartbeat_ms: fields.u64()?,
            min: fields.f64()?,
            max: fields.f64()?,
            key: fields.bytes(key_len)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_reads_back_and_a_changed_bit_is_noticed() {
        let entry = |generation, key| Entry {
            generation,
            kind: Some(Kind::Total),
            heartbeat_ms: 300_000,
            min: 0.0,
            max: f64::INFINITY,
            key,
        };
        let entries = vec![entry(1, &b"one"[..]), entry(3, b""), Entry::vacant(4)];
        let bytes = Catalogue::encode(9, 2, entries.iter().cloned());
        let (head, body) = bytes.split_first_chunk().unwrap();
        assert_eq!(Catalogue::entries_len(head, 9), Some(body.len()));
        assert_eq!(Catalogue::entries_len(head, 8), None);
        assert_eq!(Catalogue::decode(head, body), Some(entries));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let (head, body) = broken.split_first_chunk().unwrap();
            let is_whole = Catalogue::entries_len(head, 9) == Some(body.len());
            assert!(!is_whole || Catalogue::decode(head, body).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn the_smallest_block_takes_the_longest_key() {
        assert!(Catalogue::entry_len(&[0; Catalogue::LONGEST_KEY]) <= Catalogue::room(4));
    }
}
