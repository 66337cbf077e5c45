//! Prometheus remote write 1.0: from a body to samples of known columns and series not seen before.

pub(crate) mod cache;
pub(crate) mod kinds;
mod visit;
mod wire;

use std::collections::HashMap;
use std::fmt::Write as _;

use rrd::{InstanceId, Labels, Sample, Timestamp};
use thiserror::Error;

use crate::accounting::Reason;
use crate::limits::{WRITE_DECODED_LIMIT, Window, checked_series};
use crate::refusals::Refusals;
use crate::registry::{Namespace, TokenId};
use cache::{Keys, Place, SeriesCache, SeriesKey};
use kinds::FamilyKind;
use visit::{RawFamily, RawSeries, Visit, label_pairs};
use wire::WireError;

/// Snappy's longest copy makes 64 bytes of 3; a header that claims more lies.
const SNAPPY_RATIO_LIMIT: usize = 22;

/// Why a body is not a write request.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    #[error("the body is not a snappy block: {0}; remote write 1.0 sends one")]
    Snappy(#[from] snap::Error),
    #[error(
        "the body claims to hold {0} bytes, at most {WRITE_DECODED_LIMIT} are taken; send less"
    )]
    Large(usize),
    #[error("the body claims to hold {0} bytes, more than snappy can pack into it; send it whole")]
    Bomb(usize),
    #[error("the body is not a remote-write 1.0 request: {0}")]
    Wire(#[from] WireError),
}

/// The bytes of the request inside a body. Its claimed size is checked before anything is
/// allocated.
pub(crate) fn decompress(body: &[u8]) -> Result<Vec<u8>, WriteError> {
    let size = snap::raw::decompress_len(body)?;
    if size > WRITE_DECODED_LIMIT {
        return Err(WriteError::Large(size));
    }
    if size > body.len().saturating_mul(SNAPPY_RATIO_LIMIT) {
        return Err(WriteError::Bomb(size));
    }
    Ok(snap::raw::Decoder::new().decompress_vec(body)?)
}

/// A request, sorted into what is known and what is not.
#[derive(Debug)]
pub(crate) struct Sorted {
    /// Samples of known columns, by instance.
    pub(crate) groups: Groups,
    /// Series whose label bytes were not seen before.
    pub(crate) strangers: Vec<Stranger>,
    /// What the sender said about families.
    pub(crate) families: Vec<(String, FamilyKind)>,
    pub(crate) refusals: Refusals,
    pub(crate) exemplars: u64,
}

/// A series whose label bytes were not seen before.
#[derive(Debug)]
pub(crate) struct Stranger {
    pub(crate) key: SeriesKey,
    pub(crate) space: Namespace,
    /// Labels without `job` and `instance`.
    pub(crate) labels: Labels,
    pub(crate) samples: Vec<(Timestamp, f64)>,
}

/// Sorts the request in `bytes`. Changes nothing anywhere.
pub(crate) fn sort(
    bytes: &[u8],
    cache: &SeriesCache,
    relay: Option<TokenId>,
    window: Window,
) -> Result<Sorted, WriteError> {
    let mut sorter = Sorter {
        cache,
        keys: cache.keys(relay),
        relay,
        window,
        sorted: Sorted {
            groups: Groups::default(),
            strangers: Vec::new(),
            families: Vec::new(),
            refusals: Refusals::default(),
            exemplars: 0,
        },
    };
    visit::visit(bytes, &mut sorter)?;
    Ok(sorter.sorted)
}

struct Sorter<'a> {
    cache: &'a SeriesCache,
    keys: Keys,
    relay: Option<TokenId>,
    window: Window,
    sorted: Sorted,
}

impl Visit for Sorter<'_> {
    fn series(&mut self, series: &RawSeries<'_>) {
        self.sorted.exemplars += series.exemplars;
        if series.samples.is_empty() && series.histograms == 0 {
            return;
        }
        let key = self.keys.of(series.labels);
        match self.cache.get(key) {
            Some(place) => self.known(place, series),
            None => self.stranger(key, series),
        }
    }

    fn family(&mut self, family: &RawFamily<'_>) {
        let name = str::from_utf8(family.name);
        if let (Some(kind), Ok(name)) = (FamilyKind::from_number(family.kind), name) {
            self.sorted.families.push((name.to_owned(), kind));
        }
    }
}

impl Sorter<'_> {
    fn known(&mut self, place: Place, series: &RawSeries<'_>) {
        let group = self.sorted.groups.of(place.instance);
        let mut refused = [0_u64; 2];
        for (at, value) in series.samples {
            match self.window.refuses(*at) {
                None => group.push(Sample { column: place.column, at: *at, value: *value }),
                Some(Reason::Future) => refused[0] += 1,
                Some(_) => refused[1] += 1,
            }
        }
        self.refuse_times(Some(place.instance), refused, series);
        self.refuse_histograms(Some(place.instance), series);
    }

    fn stranger(&mut self, key: SeriesKey, series: &RawSeries<'_>) {
        let count = u64::try_from(series.samples.len()).expect("limited") + series.histograms;
        let labels = match read_labels(series.labels) {
            Ok(labels) => labels,
            Err((reason, message)) => {
                let shown = || shown(series.labels);
                return self.sorted.refusals.add(None, reason, count, shown, &message);
            }
        };
        let mut refused = [0_u64; 2];
        let keep = |sample: &&(Timestamp, f64)| match self.window.refuses(sample.0) {
            None => true,
            Some(reason) => {
                refused[usize::from(reason != Reason::Future)] += 1;
                false
            }
        };
        let samples: Vec<_> = series.samples.iter().filter(keep).copied().collect();
        self.refuse_times(None, refused, series);
        self.refuse_histograms(None, series);
        if samples.is_empty() {
            return;
        }
        let space = Namespace {
            relay: self.relay,
            job: labels.get("job").unwrap_or_default().to_owned(),
            instance: labels.get("instance").unwrap_or_default().to_owned(),
        };
        let labels = labels.filtered(|name| name != "job" && name != "instance");
        self.sorted.strangers.push(Stranger { key, space, labels, samples });
    }

    fn refuse_times(
        &mut self,
        instance: Option<InstanceId>,
        counts: [u64; 2],
        series: &RawSeries<'_>,
    ) {
        for (reason, count) in [Reason::Future, Reason::TooOld].into_iter().zip(counts) {
            if count > 0 {
                let shown = || shown(series.labels);
                self.sorted.refusals.add(instance, reason, count, shown, time_message(reason));
            }
        }
    }

    fn refuse_histograms(&mut self, instance: Option<InstanceId>, series: &RawSeries<'_>) {
        if series.histograms > 0 {
            let message = "native histograms are not kept; send classic ones";
            let shown = || shown(series.labels);
            let reason = Reason::NativeHistogram;
            self.sorted.refusals.add(instance, reason, series.histograms, shown, message);
        }
    }
}

/// What a person is told about a sample at a moment that is not taken.
pub(crate) const fn time_message(reason: Reason) -> &'static str {
    match reason {
        Reason::Future => {
            "the sample is more than 10 minutes in the future; set the sender's clock"
        }
        _ => {
            "the sample is older than every archive of the instance; set the sender's clock, or keep longer"
        }
    }
}

fn read_labels(bytes: &[u8]) -> Result<Labels, (Reason, String)> {
    let mut pairs = Vec::with_capacity(16);
    let mut readable = true;
    let read =
        label_pairs(bytes, |name, value| match (str::from_utf8(name), str::from_utf8(value)) {
            (Ok(name), Ok(value)) => pairs.push((name, value)),
            _ => readable = false,
        });
    if read.is_err() || !readable {
        return Err((
            Reason::BadLabel,
            "a label cannot be read as UTF-8; send it as UTF-8".to_owned(),
        ));
    }
    checked_series(&pairs)
}

/// A series for a person, whatever is wrong with it; cut where it gets long.
fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    let mut text = String::from("{");
    let read = label_pairs(bytes, |name, value| {
        if text.len() < LONGEST {
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            let value: String = value.chars().take(LONGEST).collect();
            let name: String = name.chars().take(LONGEST).collect();
            write!(text, "{name}={value:?},").expect("a string takes what is written to it");
        }
    });
    match read {
        Ok(()) => format!("{}}}", text.trim_end_matches(',')),
        Err(error) => error.to_string(),
    }
}

/// Samples by instance, in the order instances were met.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    members: Vec<(InstanceId, Vec<Sample>)>,
    index: HashMap<InstanceId, usize>,
    last: usize,
}

impl Groups {
    /// The samples of `instance`. Series of one target come in a row, so the last one is tried
    /// first.
    pub(crate) fn of(&mut self, instance: InstanceId) -> &mut Vec<Sample> {
        if self.members.get(self.last).is_none_or(|(id, _)| *id != instance) {
            self.last = *self.index.entry(instance).or_insert_with(|| {
                self.members.push((instance, Vec::new()));
                self.members.len() - 1
            });
        }
        &mut self.members[self.last].1
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = InstanceId> {
        self.members.iter().map(|(id, _)| *id)
    }

    /// Takes an instance's samples out.
    pub(crate) fn take(&mut self, instance: InstanceId) -> Vec<Sample> {
        std::mem::take(self.of(instance))
    }

    pub(crate) fn into_parts(self) -> impl Iterator<Item = (InstanceId, Vec<Sample>)> {
        self.members.into_iter().filter(|(_, samples)| !samples.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_lies_is_refused_before_anything_is_allocated() {
        let four_gib = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0];
        assert!(matches!(decompress(&four_gib), Err(WriteError::Large(4_294_967_295))));
        let eight_mib = [0x80, 0x80, 0x80, 0x04, 0, 0, 0, 0, 0, 0];
        assert!(matches!(decompress(&eight_mib), Err(WriteError::Bomb(_))));
        assert!(matches!(decompress(b"\xff\xff\xff"), Err(WriteError::Snappy(_))));
    }

    #[test]
    fn what_compresses_best_is_still_taken() {
        let zeros = vec![0; WRITE_DECODED_LIMIT];
        let body = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
        assert_eq!(decompress(&body).unwrap().len(), WRITE_DECODED_LIMIT);
    }
}
