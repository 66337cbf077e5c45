//! Pressure stall: how long tasks waited for CPU, memory and disks; `/proc/pressure/*`.

use super::scan::{fields, lines, number};
use crate::agent::reading::Readings;

/// The kernel counts stalls in microseconds.
const MICROS_PER_SECOND: f64 = 1_000_000.0;

/// Reads `/proc/pressure/cpu`. The line `full` means nothing for a whole machine's CPU.
pub(super) fn cpu(text: &[u8], out: &mut Readings) {
    total(text, b"some", "node_pressure_cpu_waiting_seconds_total", out);
}

/// Reads `/proc/pressure/memory`.
pub(super) fn memory(text: &[u8], out: &mut Readings) {
    total(text, b"some", "node_pressure_memory_waiting_seconds_total", out);
    total(text, b"full", "node_pressure_memory_stalled_seconds_total", out);
}

/// Reads `/proc/pressure/io`.
pub(super) fn io(text: &[u8], out: &mut Readings) {
    total(text, b"some", "node_pressure_io_waiting_seconds_total", out);
    total(text, b"full", "node_pressure_io_stalled_seconds_total", out);
}

fn total(text: &[u8], share: &[u8], metric: &'static str, out: &mut Readings) {
    let line = lines(text).find(|line| fields(line).next() == Some(share));
    let micros = line
        .and_then(|line| fields(line).find_map(|field| field.strip_prefix(b"total=")))
        .and_then(number);
    if let Some(micros) = micros {
        out.total(metric, &[], micros / MICROS_PER_SECOND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
some avg10=6.66 avg60=3.55 avg300=1.34 total=15634251
full avg10=0.00 avg60=0.00 avg300=0.00 total=2500000
";

    #[test]
    fn waiting_and_stalled_are_given_in_seconds() {
        let mut out = Readings::default();
        cpu(TEXT, &mut out);
        memory(TEXT, &mut out);
        io(TEXT, &mut out);
        let found: Vec<_> = out.iter().map(|r| (r.metric, r.value)).collect();
        let expected = [
            ("node_pressure_cpu_waiting_seconds_total", 15.634_251),
            ("node_pressure_memory_waiting_seconds_total", 15.634_251),
            ("node_pressure_memory_stalled_seconds_total", 2.5),
            ("node_pressure_io_waiting_seconds_total", 15.634_251),
            ("node_pressure_io_stalled_seconds_total", 2.5),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_text_without_totals_gives_nothing() {
        let mut out = Readings::default();
        io(b"some avg10=6.66\nfull total=\n", &mut out);
        assert!(out.is_empty());
    }
}
