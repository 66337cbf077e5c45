//! What the tests need from Debian: peers unpacked into `target/peers`, and installed programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::outcome::say;
use crate::{root, run};

/// Static programs: unpacked, never installed, so that no daemon of theirs starts. (package, program)
const UNPACKED: [(&str, &str); 4] = [
    ("prometheus", "usr/bin/prometheus"),
    ("prometheus-node-exporter", "usr/bin/prometheus-node-exporter"),
    ("prometheus-alertmanager", "usr/bin/prometheus-alertmanager"),
    ("victoria-metrics", "usr/bin/victoria-metrics"),
];

/// Programs that bring libraries and so are installed, by root only. (package, program)
const INSTALLED: [(&str, &str); 9] = [
    ("chromium", "/usr/bin/chromium"),
    ("chromium-driver", "/usr/bin/chromedriver"),
    ("rrdtool", "/usr/bin/rrdtool"),
    ("rrdcached", "/usr/bin/rrdcached"),
    ("strace", "/usr/bin/strace"),
    ("valgrind", "/usr/bin/valgrind"),
    // A file system whose power can be cut: fixtures/src/power.rs.
    ("e2fsprogs", "/sbin/mkfs.ext4"),
    ("mount", "/bin/mount"),
    ("perl-base", "/usr/bin/perl"),
];

/// Where the unpacked peers lie.
pub(crate) fn folder() -> PathBuf {
    root().join("target/peers")
}

/// Brings whatever is missing. What cannot be brought is said; the tests that need it say so too.
pub(crate) fn bring() -> Result<()> {
    let absent: Vec<_> = UNPACKED.iter().filter(|(_, p)| !folder().join(p).exists()).collect();
    let uninstalled: Vec<_> = INSTALLED.iter().filter(|(_, p)| !Path::new(p).exists()).collect();
    if absent.is_empty() && uninstalled.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        say("not a Debian machine: tests that need peers will not run");
        return Ok(());
    }
    if is_root() {
        run(apt().arg("update"))?;
    }
    if !uninstalled.is_empty() {
        install(uninstalled.iter().map(|(package, _)| *package))?;
    }
    for (package, program) in absent {
        if let Err(error) = unpack(package, program) {
            if required() {
                return Err(error);
            }
            say(&format!("not brought: {package} ({error:#})"));
        }
    }
    Ok(())
}

/// In CI, as root, everything can be had: then nothing may be missing.
pub(crate) fn required() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true") && is_root()
}

fn install<'a>(packages: impl Iterator<Item = &'a str>) -> Result<()> {
    let packages: Vec<&str> = packages.collect();
    if !is_root() {
        say(&format!("not root: not installing {}", packages.join(" ")));
        return Ok(());
    }
    let outcome = run(apt().args(["install", "-y", "--no-install-recommends"]).args(&packages));
    match outcome {
        Err(error) if !required() => say(&format!("not installed: {error:#}")),
        other => other?,
    }
    Ok(())
}

fn unpack(package: &str, program: &str) -> Result<()> {
    let downloads = root().join("target/peers-downloads").join(package);
    std::fs::create_dir_all(&downloads)?;
    run(apt().arg("download").arg(package).current_dir(&downloads))?;
    let archive = std::fs::read_dir(&downloads)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get brought no file for {package}"))?;
    run(Command::new("dpkg").arg("-x").arg(&archive).arg(folder()))?;
    std::fs::remove_dir_all(&downloads)?;
    if !folder().join(program).exists() {
        bail!("the package {package} holds no {program}");
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-qq").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1).map(|effective| effective == "0"))
        .unwrap_or(false)
}
