//! What the tests need from Debian: peers unpacked into `target/peers`, and installed programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::outcome::say;
use crate::{root, run};

/// Static programs, and libraries of Python alone: unpacked, never installed, so that no daemon of
/// theirs starts. (package, program)
const UNPACKED: [(&str, &str); 10] = [
    ("prometheus", "usr/bin/prometheus"),
    ("prometheus-node-exporter", "usr/bin/prometheus-node-exporter"),
    ("prometheus-alertmanager", "usr/bin/prometheus-alertmanager"),
    ("victoria-metrics", "usr/bin/victoria-metrics"),
    ("monitoring-plugins-basic", "usr/lib/nagios/plugins/check_load"),
    ("munin-plugins-core", "usr/share/munin/plugins/load"),
    ("munin-common", "usr/share/munin/plugins/plugin.sh"),
    ("python3-statsd", "usr/lib/python3/dist-packages/statsd/__init__.py"),
    ("python3-decorator", "usr/lib/python3/dist-packages/decorator.py"),
    ("python3-prometheus-client", "usr/lib/python3/dist-packages/prometheus_client/__init__.py"),
];

/// Senders of other makes, with the libraries and modules of theirs that a small machine lacks.
/// (package, what shows that it is there)
const SENDERS: [(&str, &str); 16] = [
    ("collectd-core", "usr/sbin/collectd"),
    ("libyajl2", "usr/share/doc/libyajl2"),
    ("libmicrohttpd12", "usr/share/doc/libmicrohttpd12"),
    ("libprotobuf-c1", "usr/share/doc/libprotobuf-c1"),
    ("zabbix-agent", "usr/bin/zabbix_sender"),
    ("influxdb-client", "usr/bin/influx"),
    ("python3-influxdb", "usr/lib/python3/dist-packages/influxdb"),
    ("python3-requests", "usr/lib/python3/dist-packages/requests"),
    ("python3-urllib3", "usr/lib/python3/dist-packages/urllib3"),
    ("python3-certifi", "usr/lib/python3/dist-packages/certifi"),
    ("python3-chardet", "usr/lib/python3/dist-packages/chardet"),
    ("python3-idna", "usr/lib/python3/dist-packages/idna"),
    ("python3-dateutil", "usr/lib/python3/dist-packages/dateutil"),
    ("python3-msgpack", "usr/lib/python3/dist-packages/msgpack"),
    ("python3-six", "usr/lib/python3/dist-packages/six.py"),
    ("python3-tz", "usr/lib/python3/dist-packages/pytz"),
];

/// Programs that bring libraries and so are installed, by root only. (package, program)
const INSTALLED: [(&str, &str); 10] = [
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
    ("python3-minimal", "/usr/bin/python3"),
];

/// Where the unpacked peers lie.
pub(crate) fn folder() -> PathBuf {
    root().join("target/peers")
}

/// Brings whatever is missing. What cannot be brought is said; the tests that need it say so too.
pub(crate) fn bring() -> Result<()> {
    bring_or_say("rrdtool's own tests", bring_rrdtool_tests)?;
    let unpacked = UNPACKED.iter().chain(&SENDERS);
    let absent: Vec<_> = unpacked.filter(|(_, p)| !folder().join(p).exists()).collect();
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

fn bring_or_say(what: &str, bring: impl FnOnce() -> Result<()>) -> Result<()> {
    match bring() {
        Err(error) if !required() => say(&format!("not brought: {what} ({error:#})")),
        outcome => return outcome,
    }
    Ok(())
}

/// The folder `tests/` of rrdtool's source package. It is GPL: fetched, run, never kept with ours.
fn bring_rrdtool_tests() -> Result<()> {
    let tests = folder().join("rrdtool-tests");
    if tests.exists() || !Path::new("/usr/bin/apt-get").exists() {
        return Ok(());
    }
    let downloads = root().join("target/peers-downloads/rrdtool-source");
    for folder in ["lists/partial", "cache/archives/partial", "tests"] {
        std::fs::create_dir_all(downloads.join(folder))?;
    }
    let sources = downloads.join("source.list");
    let line = match source_line() {
        // A machine that has just been made has no lists of packages yet.
        Err(_) if is_root() => {
            run(apt().arg("update"))?;
            source_line()?
        }
        line => line?,
    };
    std::fs::write(&sources, line)?;
    let apt_source = || {
        let mut command = apt();
        command.current_dir(&downloads);
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        command.args(["-o", &option("Dir::Etc::SourceList", &sources)]);
        command.args(["-o", "Dir::Etc::SourceParts=-"]);
        command.args(["-o", &option("Dir::State::Lists", &downloads.join("lists"))]);
        command.args(["-o", &option("Dir::Cache", &downloads.join("cache"))]);
        // Read by nobody but us, and so by no other user of apt's.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    };
    run(apt_source().arg("update"))?;
    run(apt_source().args(["source", "--download-only", "rrdtool"]))?;
    let archive = std::fs::read_dir(&downloads)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains(".orig.tar"))
        .context("the source package of rrdtool holds no .orig.tar")?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(&archive).arg("-C").arg(downloads.join("tests"));
    unpack.args(["--exclude=*/bindings/*", "--wildcards", "--strip-components=2"]);
    run(unpack.arg("rrdtool*/tests/*"))?;
    std::fs::create_dir_all(folder())?;
    std::fs::rename(downloads.join("tests"), &tests)?;
    std::fs::remove_dir_all(&downloads)?;
    Ok(())
}

/// A `deb-src` line for the mirror and suite that this machine takes its packages from.
fn source_line() -> Result<String> {
    let policy = Command::new("apt-cache").args(["policy", "rrdtool"]).output()?;
    let policy = String::from_utf8_lossy(&policy.stdout).into_owned();
    // Such as: `500 http://deb.debian.org/debian bookworm/main amd64 Packages`.
    let words = policy.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mirror = words.filter(|words| words.last() == Some(&"Packages")).find_map(|words| {
        let (suite, component) = words.get(2)?.split_once('/')?;
        let url = words.get(1).filter(|url| url.starts_with("http"))?;
        Some((url.to_string(), suite.to_owned(), component.to_owned()))
    });
    let (url, suite, component) = mirror.context("apt knows no package rrdtool")?;
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let signed =
        if Path::new(keys).exists() { format!("[signed-by={keys}] ") } else { String::new() };
    Ok(format!("deb-src {signed}{url} {suite} {component}\n"))
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
