//! The head of a file: whose it is, its policy, the labels of its instance, where its blocks are.

use super::{Copy, Reader, seal, unseal};
use crate::{InstanceId, Labels, Policy};

const MAGIC: [u8; 8] = *b"ROUNDEL\x1a";
const VERSION: u32 = 3;

/// In 1 each function had its own array, and checksums lay apart; 2 had no anchors.
fn before_the_first_release(version: u32) -> String {
    format!(
        "written by format {version}, which no release wrote and this program cannot read; move it away, \
         its instance begins a new one"
    )
}

/// Bytes 0..1024: identity and policy. Written once, when the file is made.
pub(crate) const HEADER_LEN: usize = 1024;
/// Bytes before the policy's text.
const FIXED_LEN: usize = 34;
/// Bytes 2048..10240: two copies of the labels.
const LABELS_AT: u64 = 2048;
/// Labels of an instance with their lengths: 32 labels of a usual size several times over.
pub(crate) const LABELS_LEN: usize = 4096;
const LABELS_HEAD_LEN: usize = 24;
/// Bytes 10240..20480: one entry for each block, written once, when the block is made.
pub(crate) const DIRECTORY_AT: u64 = LABELS_AT + 2 * LABELS_LEN as u64;
const ENTRY_LEN: usize = 40;
/// 10,000 columns in blocks of 64 are 157; the rest is room for long keys.
pub(crate) const MOST_BLOCKS: usize = 256;
/// Blocks begin on a page.
pub(crate) const FIRST_BLOCK_AT: u64 = 20_480;

const _: () = assert!(DIRECTORY_AT == 10_240);
const _: () = assert!(DIRECTORY_AT + (MOST_BLOCKS * ENTRY_LEN) as u64 == FIRST_BLOCK_AT);
const _: () = assert!(FIRST_BLOCK_AT.is_multiple_of(4096));

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) instance: InstanceId,
    pub(crate) policy: Policy,
    /// What the owner of a single file keeps beside the policy; empty in files of a store.
    pub(crate) views: String,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let policy = self.policy.to_string();
        let policy_len = u16::try_from(policy.len()).expect("eight archives are 400 characters");
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&1_u32.to_le_bytes()); // The file's generation: restored files will count on.
        bytes.extend_from_slice(&self.instance.0.to_le_bytes());
        bytes.extend_from_slice(&policy_len.to_le_bytes());
        bytes.extend_from_slice(policy.as_bytes());
        let views_len = u16::try_from(self.views.len()).expect("checked by `has_room`");
        bytes.extend_from_slice(&views_len.to_le_bytes());
        bytes.extend_from_slice(self.views.as_bytes());
        seal(bytes, HEADER_LEN)
    }

    /// False where policy and views are longer than the header.
    pub(crate) fn has_room(&self) -> bool {
        FIXED_LEN + self.policy.to_string().len() + 2 + self.views.len() + 4 <= HEADER_LEN
    }

    /// What is wrong is said in words that end in a remedy.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut fields = Reader(bytes);
        if fields.take() != Some(MAGIC) {
            return Err("not an archive of this program; move it away".to_owned());
        }
        let version = fields.u32().unwrap_or_default();
        if version > VERSION {
            return Err(format!(
                "written by format {version}, this program reads {VERSION}; upgrade"
            ));
        }
        let damaged = || "its header is damaged; restore it from a backup".to_owned();
        match version {
            0 => {
                return Err("format 0, which no program wrote; restore it from a backup".to_owned());
            }
            1 | 2 => return Err(before_the_first_release(version)),
            _ => {}
        }
        let body = bytes.get(..HEADER_LEN).and_then(unseal).ok_or_else(damaged)?;
        let mut fields = Reader(&body[MAGIC.len() + 4..]);
        Self::fields(&mut fields).ok_or_else(damaged)
    }

    fn fields(fields: &mut Reader<'_>) -> Option<Self> {
        let _generation = fields.u32()?;
        let instance = InstanceId(fields.u128()?);
        let policy_len = usize::from(fields.u16()?);
        let policy = std::str::from_utf8(fields.bytes(policy_len)?).ok()?.parse().ok()?;
        let views_len = usize::from(fields.u16()?);
        let views = std::str::from_utf8(fields.bytes(views_len)?).ok()?.to_owned();
        Some(Self { instance, policy, views })
    }
}

/// Where one block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryEntry {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) first_column: u32,
    pub(crate) width: u32,
}

impl DirectoryEntry {
    pub(crate) const LEN: usize = ENTRY_LEN;

    pub(crate) fn at(number: usize) -> u64 {
        DIRECTORY_AT + (number * ENTRY_LEN) as u64
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ENTRY_LEN);
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(&self.first_column.to_le_bytes());
        bytes.extend_from_slice(&self.width.to_le_bytes());
        seal(bytes, ENTRY_LEN)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Reader(unseal(bytes)?);
        Some(Self {
            offset: fields.u64()?,
            len: fields.u64()?,
            first_column: fields.u32()?,
            width: fields.u32()?,
        })
    }
}

/// Where a copy of the labels begins.
pub(crate) const fn labels_at(copy: Copy) -> u64 {
    LABELS_AT + (copy * LABELS_LEN) as u64
}

/// The bytes of one copy of the labels; `None` when they are too long for it.
pub(crate) fn write_labels(seq: u64, epoch: u64, labels: &Labels) -> Option<Vec<u8>> {
    let key = labels.to_key();
    if LABELS_HEAD_LEN + key.len() + 4 > LABELS_LEN {
        return None;
    }
    let mut bytes = Vec::with_capacity(LABELS_LEN);
    bytes.extend_from_slice(&seq.to_le_bytes());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.extend_from_slice(&(key.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&key);
    Some(seal(bytes, LABELS_LEN))
}

/// The labels in a copy, if it was written whole at sequence number `seq`.
pub(crate) fn read_labels(bytes: &[u8], seq: u64) -> Option<Labels> {
    let mut fields = Reader(unseal(bytes)?);
    let (written_at, _epoch, len) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let key = fields.bytes(usize::try_from(len).ok()?)?;
    (written_at == seq).then(|| Labels::from_key(key).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let policy = Policy::parse("1m:2d,1h:9d;hb=2m").unwrap();
        Header { instance: InstanceId(7), policy, views: "A:0.5:1:10".to_owned() }
    }

    #[test]
    fn a_header_reads_back_and_every_changed_bit_is_noticed() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&broken).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Header::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_newer_format_asks_for_an_upgrade() {
        let mut bytes = header().encode();
        bytes[8] = 4;
        assert!(Header::decode(&bytes).unwrap_err().contains("format 4"));
    }

    #[test]
    fn a_directory_entry_and_labels_read_back() {
        let entry = DirectoryEntry { offset: 20_480, len: 4096, first_column: 4, width: 16 };
        assert_eq!(DirectoryEntry::decode(&entry.encode()), Some(entry));
        assert_eq!(DirectoryEntry::decode(&[0; ENTRY_LEN]), None);
        let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
        let bytes = write_labels(9, 1, &labels).unwrap();
        assert_eq!(read_labels(&bytes, 9), Some(labels));
        assert_eq!(read_labels(&bytes, 8), None);
        let long = Labels::from_pairs([("a", "x".repeat(5000))]).unwrap();
        assert_eq!(write_labels(9, 1, &long), None);
    }
}
