//! A write request of version 2.0, visited in place: one call a series.

use rrd::Timestamp;

use super::symbols::{LabelRefs, REF_LIMIT, Symbols};
use crate::limits::{WRITE_SAMPLE_LIMIT, WRITE_SERIES_LIMIT};
use crate::remote_write::visit::sample;
use crate::remote_write::wire::{Content, Fields, WireError};

/// One series of a request. When its counter began (`created_timestamp`, and what samples say since)
/// is left out: archives see a reset by the fall.
pub(super) struct RawSeries<'a> {
    pub(super) labels: LabelRefs<'a>,
    /// Equal bytes are equal labels; `None` where something is wrong with them.
    pub(super) key: Option<&'a [u8]>,
    pub(super) samples: &'a [(Timestamp, f64)],
    pub(super) exemplars: u64,
    pub(super) histograms: u64,
    /// What the sender says about the metric, by the protocol's number.
    pub(super) family: u64,
}

const TIMESERIES: u64 = 5;
// What 1.0 calls series and metadata: read over, such a request would pass for an empty one.
const V1_TIMESERIES: u64 = 1;
const V1_METADATA: u64 = 3;
const LABEL_REFS: u64 = 1;
const SAMPLES: u64 = 2;
const HISTOGRAMS: u64 = 3;
const EXEMPLARS: u64 = 4;
const METADATA: u64 = 5;

/// Visits `request`. An error may come after some visits: whoever visits acts only on success.
pub(super) fn visit(request: &[u8], mut each: impl FnMut(&RawSeries<'_>)) -> Result<(), WireError> {
    let symbols = Symbols::of(request)?;
    let mut scratch = Scratch::default();
    let (mut series_left, mut samples_left) = (WRITE_SERIES_LIMIT, WRITE_SAMPLE_LIMIT);
    let mut fields = Fields::of(request);
    while let Some((field, content)) = fields.next()? {
        match field {
            TIMESERIES => {}
            V1_TIMESERIES | V1_METADATA => return Err(WireError::Version),
            _ => continue,
        }
        series_left = series_left.checked_sub(1).ok_or(WireError::Series(WRITE_SERIES_LIMIT))?;
        let series = scratch.series(&symbols, content.bytes()?, samples_left)?;
        samples_left -= series.samples.len();
        each(&series);
    }
    Ok(())
}

/// Buffers that one request's series share.
#[derive(Default)]
struct Scratch {
    samples: Vec<(Timestamp, f64)>,
    refs: Vec<u32>,
    key: Vec<u8>,
}

impl Scratch {
    fn series<'a>(
        &'a mut self,
        symbols: &'a Symbols<'a>,
        message: &[u8],
        sample_limit: usize,
    ) -> Result<RawSeries<'a>, WireError> {
        self.samples.clear();
        self.refs.clear();
        let (mut count, mut exemplars, mut histograms, mut family) = (0, 0, 0, 0);
        let mut fields = Fields::of(message);
        while let Some((field, content)) = fields.next()? {
            match field {
                LABEL_REFS => count += self.references(content)?,
                SAMPLES if self.samples.len() == sample_limit => {
                    return Err(WireError::Samples(WRITE_SAMPLE_LIMIT));
                }
                SAMPLES => self.samples.push(sample(content.bytes()?)?),
                HISTOGRAMS => histograms += 1,
                EXEMPLARS => exemplars += 1,
                METADATA => family = family_of(content.bytes()?)?,
                _ => {}
            }
        }
        if !self.samples.is_sorted_by_key(|(at, _)| *at) {
            self.samples.sort_by_key(|(at, _)| *at);
        }
        let labels = LabelRefs { symbols, refs: &self.refs, count };
        let key = labels.key(&mut self.key).then_some(self.key.as_slice());
        Ok(RawSeries { labels, key, samples: &self.samples, exemplars, histograms, family })
    }

    /// Keeps references, one or packed, and answers how many came.
    fn references(&mut self, content: Content<'_>) -> Result<usize, WireError> {
        let mut keep = |number: u64| {
            if self.refs.len() < REF_LIMIT {
                // What does not fit refers to nothing either way.
                self.refs.push(u32::try_from(number).unwrap_or(u32::MAX));
            }
        };
        if let Content::Number(number) = content {
            keep(number);
            return Ok(1);
        }
        let mut packed = Fields::of(content.bytes()?);
        let mut count = 0;
        while packed.left() > 0 {
            keep(packed.varint()?);
            count += 1;
        }
        Ok(count)
    }
}

fn family_of(message: &[u8]) -> Result<u64, WireError> {
    let mut fields = Fields::of(message);
    let mut family = 0;
    while let Some((field, content)) = fields.next()? {
        if let (1, Content::Number(number)) = (field, content) {
            family = number;
        }
    }
    Ok(family)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(request: &[u8]) -> Result<Vec<(usize, usize)>, WireError> {
        let mut seen = Vec::new();
        visit(request, |series| seen.push((series.labels.count, series.samples.len())))?;
        Ok(seen)
    }

    #[test]
    fn references_come_packed_or_one_by_one() {
        let packed = [0x2a, 4, 0x0a, 2, 1, 2];
        let single = [0x2a, 4, 0x08, 1, 0x08, 2];
        assert_eq!(seen(&packed).unwrap(), [(2, 0)]);
        assert_eq!(seen(&single).unwrap(), [(2, 0)]);
        assert_eq!(seen(&[0x2a, 3, 0x0a, 1, 0x80]), Err(WireError::Short));
    }

    #[test]
    fn series_and_samples_are_counted_before_anything_is_built() {
        let over = [0x2a, 0].repeat(WRITE_SERIES_LIMIT + 1);
        assert_eq!(seen(&over), Err(WireError::Series(WRITE_SERIES_LIMIT)));
        let sample = [0x12, 2, 0x10, 7].repeat(WRITE_SAMPLE_LIMIT / 2 + 1);
        let len = sample.len();
        let byte = |shift: usize| u8::try_from(len >> shift & 0x7f).unwrap();
        let series = [&[0x2a, byte(0) | 0x80, byte(7) | 0x80, byte(14)][..], &sample].concat();
        assert_eq!(seen(&series).unwrap(), [(0, WRITE_SAMPLE_LIMIT / 2 + 1)]);
        let twice = series.repeat(2);
        assert_eq!(seen(&twice), Err(WireError::Samples(WRITE_SAMPLE_LIMIT)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if seen(&bytes).is_ok() {
                seen(&bytes).unwrap();
            }
        }
    }
}
