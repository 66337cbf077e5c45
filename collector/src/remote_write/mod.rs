//! Prometheus remote write, 1.0 here and 2.0 in `v2`: from a body to series.

mod unpacked;
pub(crate) mod v2;
mod visit;
pub(crate) mod wire;

use rrd::Labels;
use thiserror::Error;

use crate::accounting::Reason;
use crate::foreign::family::FamilyKind;
use crate::foreign::{Named, Sorted, Sorter, shown_pairs};
use crate::limits::{LABEL_COUNT_LIMIT, WRITE_DECODED_LIMIT, checked_series};
use unpacked::Unpacked;
use visit::{RawFamily, RawSeries, Visit, label_pairs};
use wire::WireError;

/// Snappy's longest copy makes 64 bytes of 3; a header that claims more lies.
const SNAPPY_RATIO_LIMIT: usize = 22;

/// Why a body is not a write request.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    #[error("the body is not a snappy block: {0}; remote write sends one")]
    Snappy(#[from] snap::Error),
    #[error(
        "the body claims to hold {0} bytes, at most {WRITE_DECODED_LIMIT} are taken; send less"
    )]
    Large(usize),
    #[error("the body claims to hold {0} bytes, more than snappy can pack into it; send it whole")]
    Bomb(usize),
    #[error("the body is not the remote-write request that Content-Type says: {0}")]
    Wire(#[from] WireError),
}

/// The bytes of the request inside a body. Its claimed size is checked before anything is
/// allocated.
pub(crate) fn decompress(body: &[u8]) -> Result<Unpacked, WriteError> {
    let size = snap::raw::decompress_len(body)?;
    if size > WRITE_DECODED_LIMIT {
        return Err(WriteError::Large(size));
    }
    if size > body.len().saturating_mul(SNAPPY_RATIO_LIMIT) {
        return Err(WriteError::Bomb(size));
    }
    Ok(Unpacked::by(size, |room| snap::raw::Decoder::new().decompress(body, room))?)
}

/// Reads the request in `bytes` into `sorter`.
pub(crate) fn sort(bytes: &[u8], sorter: Sorter<'_>) -> Result<Sorted, WriteError> {
    let mut reader = Reader(sorter);
    visit::visit(bytes, &mut reader)?;
    Ok(reader.0.sorted)
}

struct Reader<'a>(Sorter<'a>);

impl Visit for Reader<'_> {
    fn series(&mut self, series: &RawSeries<'_>) {
        self.0.sorted.exemplars += series.exemplars;
        let name = RawLabels(series.labels);
        if !series.samples.is_empty() {
            self.0.series(series.labels, &name, (series.samples, None));
        }
        let message = "native histograms are not kept; send classic ones";
        self.0.refuse(Reason::NativeHistogram, series.histograms, &name, message);
    }

    fn family(&mut self, family: &RawFamily<'_>) {
        let name = str::from_utf8(family.name);
        if let (Some(kind), Ok(name)) = (FamilyKind::from_number(family.kind), name) {
            self.0.sorted.families.push((name.to_owned(), kind));
        }
    }
}

/// Label fields as they were sent.
struct RawLabels<'a>(&'a [u8]);

impl Named for RawLabels<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        read_labels(self.0)
    }

    fn shown(&self) -> String {
        let mut pairs = Vec::new();
        let lossy = String::from_utf8_lossy;
        let read = label_pairs(self.0, |name, value| {
            if pairs.len() < LABEL_COUNT_LIMIT {
                pairs.push((lossy(name), lossy(value)));
            }
        });
        match read {
            Ok(()) => shown_pairs(pairs.into_iter()),
            Err(error) => error.to_string(),
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
