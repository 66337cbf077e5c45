//! What is sent: remote write 1.0 of a fleet, encoded before any clock runs.

use std::fmt::Arguments;
use std::io::Write as _;

use anyhow::Result;
use rrd::Timestamp;

use crate::data::value;

/// Series of one target, as a small exporter has them.
pub(crate) const SERIES_EACH: usize = 100;
/// Targets of one request: 10,000 samples, as senders do that are told to send many.
const TARGETS_EACH: usize = 100;
/// One sample: two keys, a double, a time of six bytes.
const SAMPLE_LEN: u8 = 16;

/// The bodies of one reading of `targets` targets, always in the same order.
pub(crate) fn tick(targets: usize, step: i64, at: Timestamp) -> Result<Vec<Vec<u8>>> {
    let firsts: Vec<usize> = (0..targets).step_by(TARGETS_EACH).collect();
    let mut bodies = Vec::with_capacity(firsts.len());
    let mut packer = snap::raw::Encoder::new();
    for first in firsts {
        let last = (first + TARGETS_EACH).min(targets);
        let mut request = Vec::with_capacity((last - first) * SERIES_EACH * 180);
        for number in first * SERIES_EACH..last * SERIES_EACH {
            push_series(&mut request, number, step, at)?;
        }
        bodies.push(packer.compress_vec(&request)?);
    }
    Ok(bodies)
}

/// The metric that a peer is asked to count: one of each target.
pub(crate) const COUNTED: &str = "node_bench_metric_07";

/// Labels like those of a machine's exporter, about 130 bytes.
fn push_series(request: &mut Vec<u8>, number: usize, step: i64, at: Timestamp) -> Result<()> {
    let (target, metric) = (number / SERIES_EACH, number % SERIES_EACH);
    let start = request.len();
    // The length takes two bytes: a series has at least 128 bytes, and fewer than 256.
    request.extend_from_slice(&[0x0a, 0, 0]);
    push_label(request, "__name__", format_args!("node_bench_metric_{metric:02}"))?;
    push_label(request, "device", format_args!("device-{}", metric / 20))?;
    push_label(request, "instance", format_args!("web-{target:05}.example.net:9100"))?;
    push_label(request, "job", format_args!("node"))?;
    push_label(request, "mode", format_args!("system"))?;
    request.extend_from_slice(&[0x12, SAMPLE_LEN, 0x09]);
    request.extend_from_slice(&value(number, step).to_le_bytes());
    request.push(0x10);
    let mut millis = at.as_millis().cast_unsigned();
    for last in [false, false, false, false, false, true] {
        let bits = u8::try_from(millis & 0x7f)?;
        request.push(if last { bits } else { bits | 0x80 });
        millis >>= 7;
    }
    let len = request.len() - start - 3;
    request[start + 1] = u8::try_from(len & 0x7f)? | 0x80;
    request[start + 2] = u8::try_from(len >> 7)?;
    Ok(())
}

fn push_label(request: &mut Vec<u8>, name: &str, value: Arguments<'_>) -> Result<()> {
    let start = request.len();
    request.extend_from_slice(&[0x0a, 0, 0x0a, u8::try_from(name.len())?]);
    request.extend_from_slice(name.as_bytes());
    request.extend_from_slice(&[0x12, 0]);
    let value_at = request.len();
    request.write_fmt(value)?;
    request[value_at - 1] = u8::try_from(request.len() - value_at)?;
    request[start + 1] = u8::try_from(request.len() - start - 2)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use fixtures::remote_write::{Series, body};

    use super::*;

    #[test]
    fn a_body_is_what_a_protobuf_library_writes() {
        let at = Timestamp::from_secs(1_790_000_000);
        let series: Vec<Series> = (0..SERIES_EACH)
            .map(|number| {
                let (name, device) =
                    (format!("node_bench_metric_{number:02}"), format!("device-{}", number / 20));
                let labels = [
                    ("__name__", name.as_str()),
                    ("device", device.as_str()),
                    ("instance", "web-00000.example.net:9100"),
                    ("job", "node"),
                    ("mode", "system"),
                ];
                Series::new(&labels).reading(at.as_millis(), value(number, 3))
            })
            .collect();
        assert_eq!(tick(1, 3, at).unwrap(), [body(&series)]);
    }
}
