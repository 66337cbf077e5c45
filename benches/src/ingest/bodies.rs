//! What is sent: remote write 1.0 of a fleet, encoded before any clock runs.

use std::io::Write as _;

use anyhow::{Context as _, Result};
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
    let mut series = [0_u8; 256];
    let mut room = &mut series[..];
    push_label(&mut room, "__name__", format_args!("node_bench_metric_{metric:02}"))?;
    push_label(&mut room, "device", format_args!("device-{}", metric / 20))?;
    push_label(&mut room, "instance", format_args!("web-{target:05}.example.net:9100"))?;
    push_label(&mut room, "job", format_args!("node"))?;
    push_label(&mut room, "mode", format_args!("system"))?;
    room.write_all(&[0x12, SAMPLE_LEN, 0x09])?;
    room.write_all(&value(number, step).to_le_bytes())?;
    room.write_all(&[0x10])?;
    let mut millis = at.as_millis().cast_unsigned();
    for last in [false, false, false, false, false, true] {
        let bits = u8::try_from(millis & 0x7f).context("seven bits")?;
        room.write_all(&[if last { bits } else { bits | 0x80 }])?;
        millis >>= 7;
    }
    let left = room.len();
    let len = series.len() - left;
    request.push(0x0a);
    // Two bytes: a series has at least 128 bytes, and fewer than 256.
    request.push(u8::try_from(len & 0x7f)? | 0x80);
    request.push(u8::try_from(len >> 7)?);
    request.extend_from_slice(&series[..len]);
    Ok(())
}

fn push_label(room: &mut &mut [u8], name: &str, value: std::fmt::Arguments<'_>) -> Result<()> {
    let mut text = [0_u8; 64];
    let mut rest = &mut text[..];
    rest.write_fmt(value)?;
    let left = rest.len();
    let value = &text[..text.len() - left];
    let (name_len, value_len) = (u8::try_from(name.len())?, u8::try_from(value.len())?);
    room.write_all(&[0x0a, name_len + value_len + 4, 0x0a, name_len])?;
    room.write_all(name.as_bytes())?;
    room.write_all(&[0x12, value_len])?;
    Ok(room.write_all(value)?)
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
