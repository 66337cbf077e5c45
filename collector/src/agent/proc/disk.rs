//! Whole disks: what was read and written, and how long it took; `/proc/diskstats`.

use super::DEVICES_MAX;
use super::scan::{fields, lines, number, text};
use crate::agent::reading::Readings;

/// Names of disks by their beginnings. Loop devices, RAM disks, floppies and CD drives are left out.
const DISKS: [&str; 11] =
    ["sd", "hd", "vd", "xvd", "nvme", "dm-", "md", "mmcblk", "nbd", "rbd", "dasd"];

/// The kernel counts in sectors of 512 bytes, whatever the disk's own are.
const SECTORS_PER_BYTE: f64 = 1.0 / 512.0;

/// The kernel counts time in milliseconds.
const MILLIS_PER_SECOND: f64 = 1000.0;

/// Where a count stands after the device's name, what it is called, and how many make one unit.
const COLUMNS: [(usize, &str, f64); 7] = [
    (0, "node_disk_reads_completed_total", 1.0),
    (2, "node_disk_read_bytes_total", SECTORS_PER_BYTE),
    (3, "node_disk_read_time_seconds_total", MILLIS_PER_SECOND),
    (4, "node_disk_writes_completed_total", 1.0),
    (6, "node_disk_written_bytes_total", SECTORS_PER_BYTE),
    (7, "node_disk_write_time_seconds_total", MILLIS_PER_SECOND),
    (9, "node_disk_io_time_seconds_total", MILLIS_PER_SECOND),
];

/// Lines of disks and partitions looked at: a partition is told by comparing it with all others.
const LISTED_MAX: usize = 512;

/// Reads `/proc/diskstats`.
pub(super) fn diskstats(bytes: &[u8], out: &mut Readings) {
    let named = lines(bytes).filter_map(|line| Some((fields(line).nth(2).and_then(text)?, line)));
    let is_disk = |name: &str| DISKS.iter().any(|start| name.starts_with(start));
    let listed: Vec<_> = named.filter(|(name, _)| is_disk(name)).take(LISTED_MAX).collect();
    let whole = listed
        .iter()
        .filter(|(device, _)| !listed.iter().any(|(disk, _)| is_partition_of(disk, device)));
    for (device, line) in whole.take(DEVICES_MAX) {
        one(device, line, out);
    }
}

/// A partition continues the name of its disk with a number: `sda1`, `nvme0n1p2`. Some clouds give a
/// machine `xvda1` without an `xvda`: that one is a disk.
fn is_partition_of(disk: &str, device: &str) -> bool {
    let Some(rest) = device.strip_prefix(disk) else { return false };
    let number = match disk.as_bytes().last() {
        Some(last) if last.is_ascii_digit() => rest.strip_prefix('p').unwrap_or_default(),
        _ => rest,
    };
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn one(device: &str, line: &[u8], out: &mut Readings) {
    let labels = [("device", device)];
    for (at, field) in fields(line).skip(3).enumerate() {
        let column = COLUMNS.iter().find(|(column, ..)| *column == at);
        if let (Some((_, metric, per_unit)), Some(value)) = (column, number(field)) {
            out.total(metric, &labels, value / per_unit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
   7       0 loop0 9 9 9 9 9 9 9 9 9 9 9
   1       0 ram0 9 9 9 9 9 9 9 9 9 9 9
 254       0 vda 31417 8358 4160306 19995 5956 23199 3326960 13322 0 7044 33860 4301 11 416616 509 808 32
 254       1 vda1 9 9 9 9 9 9 9 9 9 9 9
 259       0 nvme0n1 1 0 2 3 4 0 6 7 0 9 10
 259       1 nvme0n1p1 9 9 9 9 9 9 9 9 9 9 9
 253       1 dm-1 1 0 8 0 0 0 0 0 0 0 0
 253      10 dm-10 1 0 8 0 0 0 0 0 0 0 0
 202       1 xvdb1 1 0 8 0 0 0 0 0 0 0 0
  11       0 sr0 9 9 9 9 9 9 9 9 9 9 9
 253       0 zram0 9 9 9 9 9 9 9 9 9 9 9
";

    fn devices(out: &Readings) -> Vec<String> {
        let mut names: Vec<String> =
            out.iter().flat_map(|r| r.labels().map(|(_, device)| device.to_owned())).collect();
        names.dedup();
        names
    }

    #[test]
    fn whole_disks_are_kept_and_partitions_loops_and_ram_left_out() {
        let mut out = Readings::default();
        diskstats(TEXT, &mut out);
        assert_eq!(devices(&out), ["vda", "nvme0n1", "dm-1", "dm-10", "xvdb1"]);
    }

    #[test]
    fn sectors_are_bytes_and_milliseconds_are_seconds() {
        let mut out = Readings::default();
        diskstats(TEXT, &mut out);
        for (metric, value) in [
            ("node_disk_reads_completed_total", 31417.0),
            ("node_disk_read_bytes_total", 2_130_076_672.0),
            ("node_disk_read_time_seconds_total", 19.995),
            ("node_disk_writes_completed_total", 5956.0),
            ("node_disk_written_bytes_total", 1_703_403_520.0),
            ("node_disk_write_time_seconds_total", 13.322),
            ("node_disk_io_time_seconds_total", 7.044),
        ] {
            assert_eq!(out.value(metric, &[("device", "vda")]), Some(value), "{metric}");
        }
    }

    #[test]
    fn a_line_cut_short_gives_only_what_it_holds() {
        let mut out = Readings::default();
        diskstats(b" 8 0 sda 12 0\n 8 16\n", &mut out);
        assert_eq!(out.len(), 1);
        let reads = out.value("node_disk_reads_completed_total", &[("device", "sda")]);
        assert_eq!(reads, Some(12.0));
    }
}
