//! CPU time by mode, processes, interrupts and load: `/proc/stat` and `/proc/loadavg`.

use super::USER_HZ;
use super::scan::{fields, lines, number};
use crate::agent::reading::Readings;

/// The modes of the line `cpu`, in the kernel's order. Guest time is part of `user` and is not
/// counted a second time.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// Reads `/proc/stat`.
pub(super) fn stat(text: &[u8], out: &mut Readings) {
    let mut cpu_count = 0.0;
    for line in lines(text) {
        let mut rest = fields(line);
        let Some(name) = rest.next() else { continue };
        match name {
            b"cpu" => {
                for (mode, ticks) in MODES.iter().zip(rest) {
                    if let Some(ticks) = number(ticks) {
                        let labels = [("mode", *mode)];
                        out.total("node_cpu_seconds_total", &labels, ticks / USER_HZ);
                    }
                }
            }
            b"btime" => first(rest, |v| out.gauge("node_boot_time_seconds", &[], v)),
            b"ctxt" => first(rest, |v| out.total("node_context_switches_total", &[], v)),
            b"processes" => first(rest, |v| out.total("node_forks_total", &[], v)),
            b"intr" => first(rest, |v| out.total("node_intr_total", &[], v)),
            b"procs_running" => first(rest, |v| out.gauge("node_procs_running", &[], v)),
            b"procs_blocked" => first(rest, |v| out.gauge("node_procs_blocked", &[], v)),
            _ if name.starts_with(b"cpu") => cpu_count += 1.0,
            _ => {}
        }
    }
    if cpu_count > 0.0 {
        out.gauge("node_cpus", &[], cpu_count);
    }
}

/// A fall of a mode's time by less than this is the kernel's, not a new boot's.
const FALL_MAX_S: f64 = 3.0;

/// The last seconds of each mode. The kernel estimates idle and waiting time while a CPU sleeps and
/// takes some of it back later; a total that falls would be a reset to everyone who reads it.
#[derive(Default)]
pub(super) struct Steady {
    last: [f64; MODES.len()],
}

impl Steady {
    /// Holds a mode that fell a little at its last value.
    pub(super) fn hold(&mut self, out: &mut Readings) {
        out.adjust("node_cpu_seconds_total", |key, seconds| {
            let mode = key.split('\0').nth(1);
            let Some(at) = MODES.iter().position(|known| Some(*known) == mode) else {
                return seconds;
            };
            let fall = self.last[at] - seconds;
            if fall <= 0.0 || fall >= FALL_MAX_S {
                self.last[at] = seconds;
            }
            self.last[at]
        });
    }
}

fn first<'a>(mut fields: impl Iterator<Item = &'a [u8]>, found: impl FnOnce(f64)) {
    if let Some(value) = fields.next().and_then(number) {
        found(value);
    }
}

/// Reads `/proc/loadavg`.
pub(super) fn loadavg(text: &[u8], out: &mut Readings) {
    for (metric, field) in ["node_load1", "node_load5", "node_load15"].into_iter().zip(fields(text))
    {
        if let Some(value) = number(field) {
            out.gauge(metric, &[], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"\
cpu  15565 7 5704 217215 518 3 47 29 100 0
cpu0 7335 7 2573 109530 107 3 9 10 100 0
cpu1 8230 0 3131 107685 410 0 38 19 0 0
intr 203099 0 0 14 0 239
ctxt 401770
btime 1795243326
processes 9482
procs_running 2
procs_blocked 1
softirq 77110 0 12801 9
";

    #[test]
    fn cpu_time_is_summed_over_cpus_and_given_in_seconds() {
        let mut out = Readings::default();
        stat(STAT, &mut out);
        for (mode, seconds) in [
            ("user", 155.65),
            ("nice", 0.07),
            ("system", 57.04),
            ("idle", 2172.15),
            ("iowait", 5.18),
            ("irq", 0.03),
            ("softirq", 0.47),
            ("steal", 0.29),
        ] {
            assert_eq!(out.value("node_cpu_seconds_total", &[("mode", mode)]), Some(seconds));
        }
        assert_eq!(out.value("node_cpus", &[]), Some(2.0));
    }

    #[test]
    fn counts_of_the_whole_machine_are_read() {
        let mut out = Readings::default();
        stat(STAT, &mut out);
        for (metric, value) in [
            ("node_intr_total", 203_099.0),
            ("node_context_switches_total", 401_770.0),
            ("node_boot_time_seconds", 1_795_243_326.0),
            ("node_forks_total", 9482.0),
            ("node_procs_running", 2.0),
            ("node_procs_blocked", 1.0),
        ] {
            assert_eq!(out.value(metric, &[]), Some(value), "{metric}");
        }
    }

    #[test]
    fn a_kernel_without_steal_reports_no_steal() {
        let mut out = Readings::default();
        stat(b"cpu 100 0 200 300\n", &mut out);
        assert_eq!(out.value("node_cpu_seconds_total", &[("mode", "idle")]), Some(3.0));
        assert_eq!(out.value("node_cpu_seconds_total", &[("mode", "steal")]), None);
    }

    #[test]
    fn the_three_loads_are_read() {
        let mut out = Readings::default();
        loadavg(b"0.14 0.11 2.50 1/94 9456\n", &mut out);
        for (metric, value) in [("node_load1", 0.14), ("node_load5", 0.11), ("node_load15", 2.5)] {
            assert_eq!(out.value(metric, &[]), Some(value));
        }
    }

    #[test]
    fn a_small_fall_is_held_and_a_large_one_is_a_new_boot() {
        let mut steady = Steady::default();
        for (ticks, seconds) in [(5000, 50.0), (4990, 50.0), (5010, 50.1), (100, 1.0)] {
            let mut out = Readings::default();
            stat(format!("cpu 0 0 0 0 {ticks}\n").as_bytes(), &mut out);
            steady.hold(&mut out);
            let iowait = [("mode", "iowait")];
            assert_eq!(out.value("node_cpu_seconds_total", &iowait), Some(seconds), "{ticks}");
        }
    }

    #[test]
    fn an_empty_or_foreign_text_gives_nothing() {
        for text in [&b""[..], b"\n\n", b"cpu\n", b"btime x\nctxt\n", b"\xff\xfe\x00"] {
            let mut out = Readings::default();
            stat(text, &mut out);
            loadavg(text, &mut out);
            assert!(out.is_empty(), "{text:?}");
        }
    }
}
