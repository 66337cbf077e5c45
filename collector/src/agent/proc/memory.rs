//! Memory and paging: `/proc/meminfo` and `/proc/vmstat`.

use super::scan::{lines, named_number};
use crate::agent::reading::Readings;

const MEMINFO: [(&[u8], &str); 9] = [
    (b"MemTotal", "node_memory_MemTotal_bytes"),
    (b"MemFree", "node_memory_MemFree_bytes"),
    (b"MemAvailable", "node_memory_MemAvailable_bytes"),
    (b"Buffers", "node_memory_Buffers_bytes"),
    (b"Cached", "node_memory_Cached_bytes"),
    (b"SwapTotal", "node_memory_SwapTotal_bytes"),
    (b"SwapFree", "node_memory_SwapFree_bytes"),
    (b"Dirty", "node_memory_Dirty_bytes"),
    (b"Slab", "node_memory_Slab_bytes"),
];

const VMSTAT: [(&[u8], &str); 4] = [
    (b"pswpin", "node_vmstat_pswpin"),
    (b"pswpout", "node_vmstat_pswpout"),
    (b"pgmajfault", "node_vmstat_pgmajfault"),
    (b"oom_kill", "node_vmstat_oom_kill"),
];

/// The kernel's kB are units of 1024 bytes.
const KIB: f64 = 1024.0;

/// Reads `/proc/meminfo`.
pub(super) fn meminfo(text: &[u8], out: &mut Readings) {
    for (name, value) in lines(text).filter_map(named_number) {
        if let Some((_, metric)) = MEMINFO.iter().find(|(known, _)| *known == name) {
            out.gauge(metric, &[], value * KIB);
        }
    }
}

/// Reads `/proc/vmstat`.
pub(super) fn vmstat(text: &[u8], out: &mut Readings) {
    for (name, value) in lines(text).filter_map(named_number) {
        if let Some((_, metric)) = VMSTAT.iter().find(|(known, _)| *known == name) {
            out.total(metric, &[], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_in_bytes_and_unlisted_lines_are_left_out() {
        let text = b"\
MemTotal:       24684092 kB
MemFree:        23524764 kB
MemAvailable:   24209236 kB
Buffers:           23036 kB
Cached:           834348 kB
SwapCached:            5 kB
SwapTotal:             0 kB
SwapFree:              0 kB
Dirty:             28816 kB
Slab:             115356 kB
HugePages_Total:       0
";
        let mut out = Readings::default();
        meminfo(text, &mut out);
        assert_eq!(out.len(), 9);
        let total = out.value("node_memory_MemTotal_bytes", &[]);
        assert_eq!(total, Some(25_276_510_208.0));
        assert_eq!(out.value("node_memory_SwapTotal_bytes", &[]), Some(0.0));
    }

    #[test]
    fn paging_counts_are_read() {
        let mut out = Readings::default();
        vmstat(b"nr_free_pages 9\npswpin 1\npswpout 2\npgmajfault 3\noom_kill 4\n", &mut out);
        let found: Vec<_> = out.iter().map(|r| (r.metric, r.value)).collect();
        let expected = [
            ("node_vmstat_pswpin", 1.0),
            ("node_vmstat_pswpout", 2.0),
            ("node_vmstat_pgmajfault", 3.0),
            ("node_vmstat_oom_kill", 4.0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_line_cut_short_is_left_out() {
        let mut out = Readings::default();
        meminfo(b"MemTotal:  24684092 kB\nMemFree:", &mut out);
        assert_eq!(out.len(), 1);
    }
}
