//! A write request, visited in place: one call a series, no structures in between.

use rrd::Timestamp;

use super::wire::{Content, Fields, WireError};
use crate::limits::{WRITE_SAMPLE_LIMIT, WRITE_SERIES_LIMIT};

/// Takes what a write request holds.
pub(crate) trait Visit {
    fn series(&mut self, series: &RawSeries<'_>);
    fn family(&mut self, family: &RawFamily<'_>);
}

/// One series of a request: its label fields as they were sent, and its samples.
#[derive(Debug)]
pub(crate) struct RawSeries<'a> {
    /// Label fields with their keys and lengths: equal bytes are equal labels.
    pub(crate) labels: &'a [u8],
    pub(crate) samples: &'a [(Timestamp, f64)],
    pub(crate) exemplars: u64,
    pub(crate) histograms: u64,
}

/// What a sender says about a metric family.
#[derive(Debug)]
pub(crate) struct RawFamily<'a> {
    pub(crate) kind: u64,
    pub(crate) name: &'a [u8],
}

const TIMESERIES: u64 = 1;
const METADATA: u64 = 3;
// What 2.0 calls symbols and series: read over, such a request would pass for an empty one.
const V2_SYMBOLS: u64 = 4;
const V2_TIMESERIES: u64 = 5;
const LABELS: u64 = 1;
const SAMPLES: u64 = 2;
const EXEMPLARS: u64 = 3;
const HISTOGRAMS: u64 = 4;

/// Visits `request`. An error may come after some visits: whoever visits acts only on success.
pub(crate) fn visit(request: &[u8], visitor: &mut impl Visit) -> Result<(), WireError> {
    let mut fields = Fields::of(request);
    let mut scratch = Scratch::default();
    let (mut series_left, mut samples_left) = (WRITE_SERIES_LIMIT, WRITE_SAMPLE_LIMIT);
    while let Some((field, content)) = fields.next()? {
        match field {
            TIMESERIES => {
                series_left =
                    series_left.checked_sub(1).ok_or(WireError::Series(WRITE_SERIES_LIMIT))?;
                let series = scratch.series(content.bytes()?, samples_left)?;
                samples_left -= series.samples.len();
                visitor.series(&series);
            }
            METADATA => visitor.family(&family(content.bytes()?)?),
            V2_SYMBOLS | V2_TIMESERIES => return Err(WireError::Version),
            _ => {}
        }
    }
    Ok(())
}

/// The label pairs of [`RawSeries::labels`], as bytes.
pub(crate) fn label_pairs<'a>(
    labels: &'a [u8],
    mut each: impl FnMut(&'a [u8], &'a [u8]),
) -> Result<(), WireError> {
    let mut fields = Fields::of(labels);
    while let Some((_, content)) = fields.next()? {
        let mut pair = Fields::of(content.bytes()?);
        let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
        while let Some((field, content)) = pair.next()? {
            match field {
                1 => name = content.bytes()?,
                2 => value = content.bytes()?,
                _ => {}
            }
        }
        each(name, value);
    }
    Ok(())
}

/// Buffers that one request's series share.
#[derive(Default)]
struct Scratch {
    samples: Vec<(Timestamp, f64)>,
    labels: Vec<u8>,
}

impl Scratch {
    fn series<'a>(
        &'a mut self,
        message: &'a [u8],
        sample_limit: usize,
    ) -> Result<RawSeries<'a>, WireError> {
        if sample_limit > 0
            && let Some((labels_end, sample)) = usual(message)
        {
            self.samples.clear();
            self.samples.push(sample);
            let (labels, samples) = (&message[..labels_end], &self.samples[..]);
            return Ok(RawSeries { labels, samples, exemplars: 0, histograms: 0 });
        }
        self.any_series(message, sample_limit)
    }

    fn any_series<'a>(
        &'a mut self,
        message: &'a [u8],
        sample_limit: usize,
    ) -> Result<RawSeries<'a>, WireError> {
        self.samples.clear();
        self.labels.clear();
        let (mut exemplars, mut histograms) = (0, 0);
        let mut fields = Fields::of(message);
        // Labels almost always come first and together; then their bytes are used where they lie.
        let mut together = 0..0;
        loop {
            let start = message.len() - fields.left();
            let Some((field, content)) = fields.next()? else { break };
            let end = message.len() - fields.left();
            match field {
                LABELS => {
                    content.bytes()?;
                    if self.labels.is_empty() && (together.is_empty() || together.end == start) {
                        let first = if together.is_empty() { start } else { together.start };
                        together = first..end;
                    } else {
                        if self.labels.is_empty() {
                            self.labels.extend_from_slice(&message[together.clone()]);
                        }
                        self.labels.extend_from_slice(&message[start..end]);
                    }
                }
                SAMPLES if self.samples.len() == sample_limit => {
                    return Err(WireError::Samples(WRITE_SAMPLE_LIMIT));
                }
                SAMPLES => self.samples.push(sample(content.bytes()?)?),
                EXEMPLARS => exemplars += 1,
                HISTOGRAMS => histograms += 1,
                _ => {}
            }
        }
        let labels = if self.labels.is_empty() { &message[together] } else { &self.labels };
        if !self.samples.is_sorted_by_key(|(at, _)| *at) {
            self.samples.sort_by_key(|(at, _)| *at);
        }
        Ok(RawSeries { labels, samples: &self.samples, exemplars, histograms })
    }
}

/// Keys of a label and a sample within a series, and of a sample's two fields.
const LABEL_KEY: u8 = 0x0a;
const SAMPLE_KEY: u8 = 0x12;
const VALUE_KEY: u8 = 0x09;
const TIME_KEY: u8 = 0x10;

/// The end of the labels, and the sample, of a series as nearly every sender writes it: labels below 128
/// bytes each, then one sample, whose time takes six bytes as from 1971 to 2109. `None` where anything is
/// otherwise.
#[inline]
fn usual(message: &[u8]) -> Option<(usize, (Timestamp, f64))> {
    let mut at = 0;
    while *message.get(at)? == LABEL_KEY {
        let len = *message.get(at + 1)?;
        if len >= 0x80 {
            return None;
        }
        at += 2 + usize::from(len);
    }
    let (head, time) = message[at..].split_first_chunk::<12>()?;
    let [SAMPLE_KEY, 16, VALUE_KEY, value @ .., TIME_KEY] = head else { return None };
    let time: &[u8; 6] = time.try_into().ok()?;
    let (last, others) = time.split_last()?;
    if *last >= 0x80 || others.iter().any(|byte| *byte < 0x80) {
        return None;
    }
    let millis = time.iter().rev().fold(0, |high, byte| high << 7 | u64::from(byte & 0x7f));
    Some((at, kept(millis, f64::from_le_bytes(*value))))
}

pub(super) fn sample(message: &[u8]) -> Result<(Timestamp, f64), WireError> {
    let mut fields = Fields::of(message);
    let (mut value, mut at) = (0.0, 0_u64);
    while let Some((field, content)) = fields.next()? {
        match field {
            1 => value = content.double()?,
            2 => at = content.number()?,
            _ => {}
        }
    }
    Ok(kept(at, value))
}

/// A sample as it is kept. A stale marker is a NaN with its own bits; here every NaN says the same:
/// unknown from now on.
fn kept(millis: u64, value: f64) -> (Timestamp, f64) {
    let value = if value.is_nan() { f64::NAN } else { value };
    (Timestamp::from_millis(millis.cast_signed()), value)
}

fn family(message: &[u8]) -> Result<RawFamily<'_>, WireError> {
    let mut fields = Fields::of(message);
    let mut family = RawFamily { kind: 0, name: &[] };
    while let Some((field, content)) = fields.next()? {
        match (field, content) {
            (1, Content::Number(kind)) => family.kind = kind,
            (2, Content::Bytes(name)) => family.name = name,
            _ => {}
        }
    }
    Ok(family)
}

#[cfg(test)]
mod tests {
    use super::*;

    type SeenSeries = (Vec<u8>, Vec<(i64, f64)>);

    #[derive(Default)]
    struct Seen(Vec<SeenSeries>);

    impl Visit for Seen {
        fn series(&mut self, series: &RawSeries<'_>) {
            let samples = series.samples.iter().map(|(at, v)| (at.as_millis(), *v)).collect();
            self.0.push((series.labels.to_vec(), samples));
        }
        fn family(&mut self, _: &RawFamily<'_>) {}
    }

    fn seen(request: &[u8]) -> Result<Vec<SeenSeries>, WireError> {
        let mut seen = Seen::default();
        visit(request, &mut seen).map(|()| seen.0)
    }

    #[test]
    fn labels_between_samples_read_as_if_they_came_first() {
        let (label, sample) = ([0x0a, 2, 0x0a, 0], [0x12, 2, 0x10, 7]);
        let apart = [&label[..], &sample, &label].concat();
        let together = [&label[..], &label, &sample].concat();
        let request =
            |message: &[u8]| [&[0x0a, u8::try_from(message.len()).unwrap()], message].concat();
        assert_eq!(seen(&request(&apart)), seen(&request(&together)));
        assert_eq!(seen(&request(&apart)).unwrap()[0].1, [(7, 0.0)]);
    }

    #[test]
    fn samples_come_in_order_of_time() {
        let request = [0x0a, 8, 0x12, 2, 0x10, 9, 0x12, 2, 0x10, 7];
        assert_eq!(seen(&request).unwrap()[0].1, [(7, 0.0), (9, 0.0)]);
    }

    #[test]
    fn series_and_samples_are_counted_before_anything_is_built() {
        let empty = [0x0a, 0].repeat(WRITE_SERIES_LIMIT);
        assert_eq!(seen(&empty).unwrap().len(), WRITE_SERIES_LIMIT);
        let over = [0x0a, 0].repeat(WRITE_SERIES_LIMIT + 1);
        assert_eq!(seen(&over), Err(WireError::Series(WRITE_SERIES_LIMIT)));
    }

    #[test]
    fn a_metadata_only_and_an_empty_request_are_fine() {
        assert_eq!(seen(&[]), Ok(vec![]));
        assert_eq!(seen(&[0x1a, 5, 0x08, 1, 0x12, 1, b'm']), Ok(vec![]));
    }

    /// A series of labels of these lengths and one sample.
    fn series_of(labels: &[u8], value: f64, millis: i64) -> Vec<u8> {
        let mut message = Vec::new();
        for len in labels {
            message.extend([LABEL_KEY, *len]);
            message.extend(std::iter::repeat_n(7, usize::from(*len)));
        }
        let mut sample = vec![VALUE_KEY];
        sample.extend(value.to_le_bytes());
        sample.push(TIME_KEY);
        let mut left = millis.cast_unsigned();
        while left >= 0x80 {
            sample.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
            left >>= 7;
        }
        sample.push(u8::try_from(left).unwrap());
        message.extend([SAMPLE_KEY, u8::try_from(sample.len()).unwrap()]);
        message.extend(sample);
        message
    }

    /// Whether the short way reads it; what it reads must be what the long way does.
    #[track_caller]
    fn is_usual(message: &[u8]) -> bool {
        let Some((end, (at, value))) = usual(message) else { return false };
        let mut scratch = Scratch::default();
        let series = scratch.any_series(message, 1).unwrap();
        assert_eq!(series.labels, &message[..end]);
        let [(its_at, its_value)] = series.samples else { panic!("{:?}", series.samples) };
        assert_eq!((*its_at, its_value.to_bits()), (at, value.to_bits()));
        assert_eq!((series.exemplars, series.histograms), (0, 0));
        true
    }

    #[test]
    fn a_usual_series_is_read_the_short_way_and_no_other() {
        const NOW: i64 = 1_790_000_000_000;
        for (labels, value, millis, expected) in [
            (&[31, 20, 13][..], 1.5, NOW, true),
            (&[127], f64::from_bits(0x7ff0_0000_0000_0002), NOW, true),
            (&[0], -0.0, (1 << 42) - 1, true),
            (&[], 1.5, 1 << 35, true),
            (&[31], 1.5, (1 << 35) - 1, false),
            (&[31], 1.5, 1 << 42, false),
            (&[31], 1.5, -1, false),
        ] {
            let message = series_of(labels, value, millis);
            assert_eq!(is_usual(&message), expected, "{labels:?} {value} {millis}");
            for cut in 0..message.len() {
                assert!(!is_usual(&message[..cut]), "cut at {cut}");
            }
        }
        let long = [&[LABEL_KEY, 0x80, 1][..], &[7; 128], &series_of(&[], 1.0, NOW)].concat();
        let doubled = [series_of(&[3], 1.0, NOW), series_of(&[], 2.0, NOW + 1)].concat();
        let exemplar = [series_of(&[3], 1.0, NOW), vec![0x1a, 0]].concat();
        assert!([long, doubled, exemplar].iter().all(|message| !is_usual(message)));
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_reads_what_the_long_way_does(
            labels in proptest::collection::vec(0..=127_u8, 0..4),
            value: f64,
            millis in 0..1_i64 << 43,
            change: (u8, u8),
        ) {
            let mut message = series_of(&labels, value, millis);
            is_usual(&message);
            let at = usize::from(change.0) % message.len();
            message[at] ^= change.1;
            if usual(&message).is_some() && Scratch::default().any_series(&message, 1).is_ok() {
                is_usual(&message);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if seen(&bytes).is_ok() {
                seen(&bytes).unwrap();
            }
        }
    }
}
