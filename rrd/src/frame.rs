//! A frame of samples: what the journal carries for the store, drawn by hand, little-endian.

use thiserror::Error;

use crate::{Column, InstanceId, Timestamp};

/// The journal's kind number of a [`SampleFrame`].
pub const FRAME_SAMPLES: u8 = 1;
/// The journal's kind number of a [`crate::GrantFrame`].
pub const FRAME_GRANT: u8 = 2;

/// The journal's kind number of a [`crate::ChangeFrame`].
pub const FRAME_CHANGE: u8 = 3;

/// Version, three bytes of zero, sample count, instance, incarnation, boot id, batch number.
const HEAD_LEN: usize = 1 + 3 + 4 + 16 + 8 + 16 + 8;
const SAMPLE_LEN: usize = 4 + 4 + 8 + 8;
const VERSION: u8 = 1;

const _: () = assert!(HEAD_LEN == 56 && SAMPLE_LEN == 24);

/// One reading of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The series' place in its instance's file.
    pub column: Column,
    /// When it was read.
    pub at: Timestamp,
    /// What was read; NaN is unknown and ends the series until its next reading.
    pub value: f64,
}

/// Which batch of a sender this is, so that a repeated one is recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Grows with each start of the sender's spool.
    pub incarnation: u64,
    /// The sender's machine boot.
    pub boot_id: u128,
    /// Counts from 1; 0 is a sender that does not number its batches.
    pub number: u64,
}

/// Samples of one instance, to be applied together.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleFrame {
    /// Whose samples they are.
    pub instance: InstanceId,
    /// Which batch they came in.
    pub batch: Batch,
    /// The readings, in the order they came.
    pub samples: Vec<Sample>,
}

/// Why bytes are no frame this program can read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Written by a later version.
    #[error("frame of format {0}, this program reads up to {newest}; upgrade", newest = VERSION)]
    Version(u8),
    /// Too short, too long, or not a frame at all.
    #[error("a frame of {0} bytes is damaged; it is passed over")]
    Damaged(usize),
    /// A policy, labels or number inside that means nothing.
    #[error("a frame is damaged: {0}; it is passed over")]
    Content(String),
}

impl SampleFrame {
    /// The bytes of this frame.
    ///
    /// # Panics
    /// Above `u32::MAX` samples; intake takes 20,000 a request.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes);
        bytes
    }

    /// Writes the bytes of this frame behind those there are.
    ///
    /// # Panics
    /// Above `u32::MAX` samples; intake takes 20,000 a request.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        let count = u32::try_from(self.samples.len()).expect("intake limits samples a request");
        bytes.reserve(HEAD_LEN + self.samples.len() * SAMPLE_LEN);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&self.instance.0.to_le_bytes());
        bytes.extend_from_slice(&self.batch.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.batch.boot_id.to_le_bytes());
        bytes.extend_from_slice(&self.batch.number.to_le_bytes());
        for sample in &self.samples {
            bytes.extend_from_slice(&sample.encode());
        }
    }

    /// The frame that [`SampleFrame::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let damaged = || FrameError::Damaged(bytes.len());
        let (&[version, ..], body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let mut fields = Fields(body);
        let frame = fields.frame().ok_or_else(damaged)?;
        if fields.0.is_empty() { Ok(frame) } else { Err(damaged()) }
    }
}

impl Sample {
    #[inline]
    fn encode(self) -> [u8; SAMPLE_LEN] {
        let mut bytes = [0; SAMPLE_LEN];
        bytes[..4].copy_from_slice(&self.column.index.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.column.generation.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.as_millis().to_le_bytes());
        bytes[16..].copy_from_slice(&self.value.to_le_bytes());
        bytes
    }

    #[inline]
    fn decode(bytes: &[u8; SAMPLE_LEN]) -> Self {
        fn part<const N: usize>(bytes: &[u8; SAMPLE_LEN], at: usize) -> [u8; N] {
            *bytes[at..].first_chunk().expect("all parts lie within a sample")
        }
        Self {
            column: Column {
                index: u32::from_le_bytes(part(bytes, 0)),
                generation: u32::from_le_bytes(part(bytes, 4)),
            },
            at: Timestamp::from_millis(i64::from_le_bytes(part(bytes, 8))),
            value: f64::from_le_bytes(part(bytes, 16)),
        }
    }
}

/// Bytes still to be read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (now, later) = self.0.split_first_chunk()?;
        self.0 = later;
        Some(*now)
    }

    fn frame(&mut self) -> Option<SampleFrame> {
        let count = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        let instance = InstanceId(u128::from_le_bytes(self.take()?));
        let batch = Batch {
            incarnation: u64::from_le_bytes(self.take()?),
            boot_id: u128::from_le_bytes(self.take()?),
            number: u64::from_le_bytes(self.take()?),
        };
        // The count is compared with the bytes there are before anything is reserved for it.
        let (samples, rest) = self.0.as_chunks::<SAMPLE_LEN>();
        if samples.len() != count || !rest.is_empty() {
            return None;
        }
        self.0 = &[];
        Some(SampleFrame { instance, batch, samples: samples.iter().map(Sample::decode).collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> SampleFrame {
        let sample = |index, value| Sample {
            column: Column { index, generation: 1 },
            at: Timestamp::from_millis(1_700_000_000_123),
            value,
        };
        SampleFrame {
            instance: InstanceId(7),
            batch: Batch { incarnation: 2, boot_id: 3, number: 4 },
            samples: vec![sample(0, 1.5), sample(9, -0.0)],
        }
    }

    #[test]
    fn a_frame_reads_back_and_takes_24_bytes_a_sample() {
        let bytes = frame().encode();
        assert_eq!(bytes.len(), 56 + 2 * 24);
        assert_eq!(SampleFrame::decode(&bytes), Ok(frame()));
    }

    #[test]
    fn a_cut_frame_is_no_frame() {
        let bytes = frame().encode();
        for cut in 0..bytes.len() {
            assert!(SampleFrame::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(SampleFrame::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_later_version_asks_for_an_upgrade() {
        let mut bytes = frame().encode();
        bytes[0] = 2;
        assert_eq!(SampleFrame::decode(&bytes), Err(FrameError::Version(2)));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(frame) = SampleFrame::decode(&bytes) {
                prop_assert_eq!(frame.samples.len() * SAMPLE_LEN + HEAD_LEN, bytes.len());
            }
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
                drop(SampleFrame::decode(&bytes));
            }
        }
    }
}
