//! Facts of a machine: what it is, as told once at enrolment.

use std::fs;
use std::path::Path;

use crate::native::Facts;

/// What this machine is. A fact that cannot be read is empty or zero.
pub fn machine_facts() -> Facts {
    facts_under(Path::new("/proc"), Path::new("/etc/os-release"))
}

pub(crate) fn facts_under(proc_root: &Path, os_release: &Path) -> Facts {
    let line = |path: &str| {
        let text = fs::read_to_string(proc_root.join(path)).unwrap_or_default();
        text.trim().to_owned()
    };
    Facts {
        hostname: line("sys/kernel/hostname"),
        os: fs::read_to_string(os_release)
            .ok()
            .and_then(|text| pretty_name(&text))
            .unwrap_or_default(),
        kernel: line("sys/kernel/osrelease"),
        cpus: cpu_count(&line("stat")),
        memory_bytes: memory_bytes(&line("meminfo")),
    }
}

/// The kernel's boot id; 0 where it has none, which says that it is unknown.
pub(crate) fn boot_id(proc_root: &Path) -> u128 {
    let text = fs::read_to_string(proc_root.join("sys/kernel/random/boot_id")).unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0)
}

fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

fn cpu_count(stat: &str) -> u32 {
    let cpus = stat.lines().filter_map(|line| line.strip_prefix("cpu"));
    let count = cpus.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn memory_bytes(meminfo: &str) -> u64 {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = value.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_the_kernel_and_the_system() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/kernel/hostname", "web-1\n");
        write("sys/kernel/osrelease", "6.1.0-18-amd64\n");
        write("sys/kernel/random/boot_id", "00000000-0000-0000-0000-0000000000ff\n");
        write("stat", "cpu  1 2\ncpu0 1 1\ncpu1 0 1\nintr 5\n");
        write("meminfo", "MemTotal:       1024 kB\nMemFree: 1 kB\n");
        write("os-release", "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
        let facts = facts_under(root.path(), &root.path().join("os-release"));
        let expected = Facts {
            hostname: "web-1".into(),
            os: "Debian GNU/Linux 12 (bookworm)".into(),
            kernel: "6.1.0-18-amd64".into(),
            cpus: 2,
            memory_bytes: 1 << 20,
        };
        assert_eq!(facts, expected);
        assert_eq!(boot_id(root.path()), 255);
    }

    #[test]
    fn what_cannot_be_read_is_empty() {
        let nowhere = Path::new("/nonexistent");
        assert_eq!(facts_under(nowhere, nowhere), Facts::default());
        assert_eq!(boot_id(nowhere), 0);
    }
}
