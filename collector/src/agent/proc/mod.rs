//! What the kernel tells of this machine under `/proc`, read by our own byte scanners.
//!
//! A file that cannot be read gives no readings and is counted; nothing is ever reported as zero
//! for want of an answer.

mod cpu;
mod disk;
mod filesystem;
mod memory;
mod network;
mod own;
mod pressure;
mod scan;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use self::filesystem::Filesystems;
use super::reading::Readings;

/// Ticks per second in the kernel's texts: `USER_HZ` is 100 on every architecture this program runs on.
const USER_HZ: f64 = 100.0;

/// Disks, interfaces or filesystems reported of one machine: with six to eight series each they stay
/// below the default grant of 2,000 series.
const DEVICES_MAX: usize = 64;

/// Bytes read of one file. `/proc/stat` of a machine with a thousand interrupts has 20 KB.
const SOURCE_BYTES_MAX: u64 = 1 << 20;

/// One file and its reader.
struct Source {
    name: &'static str,
    path: &'static str,
    /// Many machines lack it: a kernel's module that is not loaded is no failure.
    is_optional: bool,
    parse: fn(&[u8], &mut Readings),
}

const SOURCES: [Source; 17] = [
    Source { name: "stat", path: "stat", is_optional: false, parse: cpu::stat },
    Source { name: "loadavg", path: "loadavg", is_optional: false, parse: cpu::loadavg },
    Source { name: "meminfo", path: "meminfo", is_optional: false, parse: memory::meminfo },
    Source { name: "vmstat", path: "vmstat", is_optional: false, parse: memory::vmstat },
    Source { name: "pressure_cpu", path: "pressure/cpu", is_optional: false, parse: pressure::cpu },
    Source {
        name: "pressure_memory",
        path: "pressure/memory",
        is_optional: false,
        parse: pressure::memory,
    },
    Source { name: "pressure_io", path: "pressure/io", is_optional: false, parse: pressure::io },
    Source { name: "diskstats", path: "diskstats", is_optional: false, parse: disk::diskstats },
    Source { name: "netdev", path: "net/dev", is_optional: false, parse: network::dev },
    Source { name: "sockstat", path: "net/sockstat", is_optional: false, parse: network::sockstat },
    Source { name: "snmp", path: "net/snmp", is_optional: false, parse: network::snmp },
    Source { name: "netstat", path: "net/netstat", is_optional: false, parse: network::netstat },
    Source {
        name: "conntrack",
        path: "sys/net/netfilter/nf_conntrack_count",
        is_optional: true,
        parse: network::conntrack_count,
    },
    Source {
        name: "conntrack_max",
        path: "sys/net/netfilter/nf_conntrack_max",
        is_optional: true,
        parse: network::conntrack_max,
    },
    Source { name: "filefd", path: "sys/fs/file-nr", is_optional: false, parse: network::file_nr },
    Source { name: "self_status", path: "self/status", is_optional: false, parse: own::status },
    Source { name: "self_stat", path: "self/stat", is_optional: false, parse: own::stat },
];

/// This machine, as seen through its `/proc`.
pub(crate) struct Host {
    root: PathBuf,
    /// `/sys` beside it.
    sys: PathBuf,
    text: Vec<u8>,
    filesystems: Filesystems,
    cpu: cpu::Steady,
    failures: [u32; SOURCES.len()],
    filesystem_failures: u32,
}

impl Host {
    /// The machine whose `/proc` is mounted at `root`.
    pub(crate) fn under(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            sys: root.parent().unwrap_or(root).join("sys"),
            text: Vec::new(),
            filesystems: Filesystems::default(),
            cpu: cpu::Steady::default(),
            failures: [0; SOURCES.len()],
            filesystem_failures: 0,
        }
    }

    /// Adds all readings of this moment. Blocks for some milliseconds, and for half a second more
    /// when a filesystem hangs for the first time.
    pub(crate) fn read(&mut self, out: &mut Readings) {
        for (source, failures) in SOURCES.iter().zip(&mut self.failures) {
            match read_into(&mut self.text, &self.root.join(source.path)) {
                Ok(()) => (source.parse)(&self.text, out),
                Err(error) if source.is_optional && error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => *failures += 1,
            }
        }
        network::up(&self.sys, out);
        self.cpu.hold(out);
        self.filesystem_failures += match read_into(&mut self.text, &self.root.join("self/mounts"))
        {
            Ok(()) => self.filesystems.read(&self.text, out),
            Err(_) => 1,
        };
        self.report_failures(out);
    }

    /// A source that never failed has no series: most machines lack nothing.
    fn report_failures(&self, out: &mut Readings) {
        let sources = SOURCES.iter().map(|source| source.name).zip(self.failures);
        let all = sources.chain([("filesystem", self.filesystem_failures)]);
        for (source, failures) in all.filter(|(_, failures)| *failures > 0) {
            out.total("agent_source_errors_total", &[("source", source)], f64::from(failures));
        }
    }
}

fn read_into(text: &mut Vec<u8>, path: &Path) -> io::Result<()> {
    text.clear();
    File::open(path)?.take(SOURCE_BYTES_MAX).read_to_end(text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(root: &Path) -> Readings {
        let mut out = Readings::default();
        Host::under(root).read(&mut out);
        out
    }

    #[test]
    fn this_machine_reports_what_every_linux_has() {
        let out = read(Path::new("/proc"));
        for metric in ["node_load1", "node_memory_MemTotal_bytes", "node_cpus", "agent_rss_bytes"] {
            assert!(out.value(metric, &[]).is_some(), "{metric}");
        }
        let idle = out.value("node_cpu_seconds_total", &[("mode", "idle")]);
        assert!(idle.is_some_and(|seconds| seconds > 0.0));
        assert!(out.iter().all(|reading| reading.value.is_finite()));
    }

    #[test]
    fn no_series_is_reported_twice() {
        let out = read(Path::new("/proc"));
        let mut series: Vec<_> = out.iter().map(|r| (r.metric, r.key().to_owned())).collect();
        series.sort();
        let count = series.len();
        series.dedup();
        assert_eq!(series.len(), count);
    }

    #[test]
    fn a_file_that_is_not_there_gives_nothing_and_is_counted() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("loadavg"), "0.5 0.4 0.3 1/94 9456\n").unwrap();
        let mut host = Host::under(root.path());
        for look in [1.0, 2.0] {
            let mut out = Readings::default();
            host.read(&mut out);
            assert_eq!(out.value("node_load1", &[]), Some(0.5));
            let missing = [("source", "meminfo")];
            assert_eq!(out.value("agent_source_errors_total", &missing), Some(look));
            assert_eq!(out.value("node_memory_MemTotal_bytes", &[]), None);
        }
    }
}
