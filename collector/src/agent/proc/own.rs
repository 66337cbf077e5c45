//! The agent's own use of memory and CPU: `/proc/self/status` and `/proc/self/stat`.

use super::USER_HZ;
use super::scan::{fields, lines, named_number, number};
use crate::agent::reading::Readings;

/// Reads `/proc/self/status`.
pub(super) fn status(text: &[u8], out: &mut Readings) {
    let kib = lines(text).filter_map(named_number).find(|(name, _)| *name == b"VmRSS");
    if let Some((_, kib)) = kib {
        out.gauge("agent_rss_bytes", &[], kib * 1024.0);
    }
}

/// Reads `/proc/self/stat`.
pub(super) fn stat(text: &[u8], out: &mut Readings) {
    // The second field is the program's name, which may hold blanks and brackets.
    let after_name = text.iter().rposition(|byte| *byte == b')').and_then(|at| text.get(at + 1..));
    let mut ticks = fields(after_name.unwrap_or_default()).skip(11).map(number);
    if let (Some(Some(user)), Some(Some(system))) = (ticks.next(), ticks.next()) {
        out.total("agent_cpu_seconds_total", &[], (user + system) / USER_HZ);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_in_bytes() {
        let mut out = Readings::default();
        status(b"Name:\troundel\nVmPeak:\t 9 kB\nVmRSS:\t    7340 kB\n", &mut out);
        assert_eq!(out.value("agent_rss_bytes", &[]), Some(7_516_160.0));
    }

    #[test]
    fn cpu_time_is_user_and_system_whatever_the_program_is_called() {
        let mut out = Readings::default();
        stat(b"94 (a) b (c) R 1 2 3 4 -1 5 101 0 0 0 150 50 7 8 20 0 1 0 119953\n", &mut out);
        assert_eq!(out.value("agent_cpu_seconds_total", &[]), Some(2.0));
    }
}
