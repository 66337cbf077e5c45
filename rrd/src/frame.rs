//! A frame of samples: what the journal carries for the store, drawn by hand, little-endian.
//!
//! Behind the head, a frame of version 2 has runs: samples of neighbouring columns of one generation, read
//! at one moment, as a scrape is. A run is its first column, generation, moment and count, then a value
//! each. A frame of version 1 has each sample whole, which is shorter where few are neighbours.

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
const RUN_LEN: usize = 4 + 4 + 8 + 4;
const VALUE_LEN: usize = 8;
/// Each sample whole.
const WHOLE: u8 = 1;
/// In runs: the newest version.
const RUNS: u8 = 2;

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
    #[error("frame of format {0}, this program reads up to {newest}; upgrade", newest = RUNS)]
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
        let len_in_runs = self.runs().count() * RUN_LEN + self.samples.len() * VALUE_LEN;
        let len_whole = self.samples.len() * SAMPLE_LEN;
        bytes.reserve(HEAD_LEN + len_in_runs.min(len_whole));
        if len_in_runs < len_whole {
            self.encode_head(RUNS, bytes);
            self.runs().for_each(|run| encode_run(run, bytes));
        } else {
            self.encode_head(WHOLE, bytes);
            self.samples.iter().for_each(|sample| bytes.extend_from_slice(&sample.encode()));
        }
    }

    fn encode_head(&self, version: u8, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&[version, 0, 0, 0]);
        bytes.extend_from_slice(&count_of(&self.samples).to_le_bytes());
        bytes.extend_from_slice(&self.instance.0.to_le_bytes());
        bytes.extend_from_slice(&self.batch.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.batch.boot_id.to_le_bytes());
        bytes.extend_from_slice(&self.batch.number.to_le_bytes());
    }

    fn runs(&self) -> impl Iterator<Item = &[Sample]> {
        self.samples.chunk_by(|one, next| {
            one.column.index.checked_add(1) == Some(next.column.index)
                && (one.column.generation, one.at) == (next.column.generation, next.at)
        })
    }

    /// The frame that [`SampleFrame::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let damaged = || FrameError::Damaged(bytes.len());
        let (&[version, ..], body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        if version != WHOLE && version != RUNS {
            return Err(FrameError::Version(version));
        }
        Fields(body).frame(version).ok_or_else(damaged)
    }
}

fn count_of(samples: &[Sample]) -> u32 {
    u32::try_from(samples.len()).expect("intake limits samples a request")
}

fn encode_run(run: &[Sample], bytes: &mut Vec<u8>) {
    let Some(Sample { column, at, .. }) = run.first() else { return };
    bytes.extend_from_slice(&column.index.to_le_bytes());
    bytes.extend_from_slice(&column.generation.to_le_bytes());
    bytes.extend_from_slice(&at.as_millis().to_le_bytes());
    bytes.extend_from_slice(&count_of(run).to_le_bytes());
    for sample in run {
        bytes.extend_from_slice(&sample.value.to_le_bytes());
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

    fn frame(&mut self, version: u8) -> Option<SampleFrame> {
        let count = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        let instance = InstanceId(u128::from_le_bytes(self.take()?));
        let batch = Batch {
            incarnation: u64::from_le_bytes(self.take()?),
            boot_id: u128::from_le_bytes(self.take()?),
            number: u64::from_le_bytes(self.take()?),
        };
        let samples = if version == RUNS { self.runs(count)? } else { self.whole(count)? };
        Some(SampleFrame { instance, batch, samples })
    }

    fn whole(&mut self, count: usize) -> Option<Vec<Sample>> {
        let (samples, rest) = self.0.as_chunks::<SAMPLE_LEN>();
        let is_all = samples.len() == count && rest.is_empty();
        is_all.then(|| samples.iter().map(Sample::decode).collect())
    }

    fn runs(&mut self, count: usize) -> Option<Vec<Sample>> {
        // The count is compared with the bytes there are before anything is reserved for it.
        if count > self.0.len() / VALUE_LEN {
            return None;
        }
        let mut samples = Vec::with_capacity(count);
        while !self.0.is_empty() {
            self.run(&mut samples)?;
        }
        (samples.len() == count).then_some(samples)
    }

    fn run(&mut self, samples: &mut Vec<Sample>) -> Option<()> {
        let first = u32::from_le_bytes(self.take()?);
        let generation = u32::from_le_bytes(self.take()?);
        let at = Timestamp::from_millis(i64::from_le_bytes(self.take()?));
        let count = u32::from_le_bytes(self.take()?);
        let len = usize::try_from(count).ok()?.checked_mul(VALUE_LEN)?;
        let (values, rest) = self.0.split_at_checked(len)?;
        // Columns count up from the first: the last one has a number, too.
        first.checked_add(count.checked_sub(1)?)?;
        let (values, _) = values.as_chunks::<VALUE_LEN>();
        let sample = |(offset, value): (u32, &[u8; VALUE_LEN])| {
            let column = Column { index: first + offset, generation };
            Sample { column, at, value: f64::from_le_bytes(*value) }
        };
        samples.extend((0..count).zip(values).map(sample));
        self.0 = rest;
        Some(())
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

    /// A frame of samples of these columns, generations and moments.
    fn frame_of(samples: &[(u32, u32, i64, f64)]) -> SampleFrame {
        let samples = samples.iter().map(|&(index, generation, millis, value)| Sample {
            column: Column { index, generation },
            at: Timestamp::from_millis(millis),
            value,
        });
        SampleFrame { samples: samples.collect(), ..frame() }
    }

    #[test]
    fn a_frame_reads_back_and_neighbours_take_eight_bytes_each() {
        let scrape: Vec<_> = (0..100).map(|index| (index, 1, 7, 1.5)).collect();
        for (frame, version, body_len) in [
            (frame(), WHOLE, 2 * 24),
            (frame_of(&[]), WHOLE, 0),
            (frame_of(&[(3, 1, 7, f64::INFINITY)]), WHOLE, 24),
            (frame_of(&scrape), RUNS, 20 + 100 * 8),
            (frame_of(&[(3, 1, 7, 1.0), (4, 1, 7, 2.0), (5, 1, 7, 3.0)]), RUNS, 20 + 3 * 8),
            (frame_of(&[(3, 1, 7, 1.0), (4, 2, 7, 2.0), (5, 2, 8, 3.0)]), WHOLE, 3 * 24),
            (frame_of(&[(3, 1, 7, 1.0), (3, 1, 8, 2.0), (2, 1, 8, 3.0)]), WHOLE, 3 * 24),
            (frame_of(&[(u32::MAX - 1, 1, 7, 1.0), (u32::MAX, 1, 7, 2.0)]), RUNS, 20 + 2 * 8),
            (frame_of(&[(u32::MAX, 1, 7, 1.0), (0, 1, 7, 2.0)]), WHOLE, 2 * 24),
        ] {
            let bytes = frame.encode();
            assert_eq!((bytes[0], bytes.len()), (version, HEAD_LEN + body_len), "{frame:?}");
            assert_eq!(SampleFrame::decode(&bytes), Ok(frame));
        }
    }

    #[test]
    fn a_run_of_columns_beyond_the_last_or_of_none_is_damaged() {
        let good = frame_of(&[(u32::MAX - 1, 1, 7, 1.0), (u32::MAX, 1, 7, 2.0)]).encode();
        let damaged = Err(FrameError::Damaged(good.len()));
        let mut beyond = good.clone();
        beyond[HEAD_LEN..HEAD_LEN + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(SampleFrame::decode(&beyond), damaged);
        let mut fewer = good;
        fewer[4] = 1;
        assert_eq!(SampleFrame::decode(&fewer), damaged);
        let mut none = frame_of(&[]).encode();
        none[0] = RUNS;
        none.extend([0; RUN_LEN]);
        assert_eq!(SampleFrame::decode(&none), Err(FrameError::Damaged(none.len())));
    }

    #[test]
    fn frames_of_the_first_version_are_read() {
        let frame = frame_of(&[(3, 1, 7, 1.0), (4, 1, 7, 2.0), (5, 1, 7, 3.0)]);
        let mut bytes = Vec::new();
        frame.encode_head(WHOLE, &mut bytes);
        frame.samples.iter().for_each(|sample| bytes.extend(sample.encode()));
        assert_eq!(SampleFrame::decode(&bytes), Ok(frame));
    }

    #[test]
    fn a_cut_frame_is_no_frame() {
        let neighbours = [(3, 1, 7, 1.0), (4, 1, 7, 2.0), (5, 1, 7, 3.0), (9, 1, 7, 4.0)];
        for frame in [frame(), frame_of(&neighbours)] {
            let bytes = frame.encode();
            for cut in 0..bytes.len() {
                assert!(SampleFrame::decode(&bytes[..cut]).is_err(), "cut at {cut}");
            }
            assert!(SampleFrame::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn a_later_version_asks_for_an_upgrade() {
        let mut bytes = frame().encode();
        bytes[0] = 3;
        assert_eq!(SampleFrame::decode(&bytes), Err(FrameError::Version(3)));
    }

    proptest! {
        #[test]
        fn any_samples_read_back(
            samples in proptest::collection::vec((0..9_u32, 0..2_u32, 0..2_i64, -9.0..9.0), 0..60),
            sorted: bool,
        ) {
            let mut samples = samples;
            if sorted {
                samples.sort_by_key(|(index, generation, at, _)| (*generation, *at, *index));
                samples.dedup_by_key(|(index, generation, at, _)| (*generation, *at, *index));
            }
            let frame = frame_of(&samples);
            let bytes = frame.encode();
            prop_assert!(bytes.len() <= HEAD_LEN + samples.len() * SAMPLE_LEN);
            prop_assert_eq!(SampleFrame::decode(&bytes), Ok(frame));
        }

        #[test]
        fn garbage_is_refused_and_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
            for version in [bytes[0], WHOLE, RUNS] {
                bytes[0] = version;
                if let Ok(frame) = SampleFrame::decode(&bytes) {
                    prop_assert!(HEAD_LEN + frame.samples.len() * VALUE_LEN <= bytes.len());
                }
            }
        }
    }
}
