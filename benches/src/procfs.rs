//! What the kernel counts of a process: memory, bytes written, processor time; and free space.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rrd::{Disk as _, OsDisk};
use rustix::fs::{major, minor};

/// A process by its number, or this one.
#[derive(Clone, Copy)]
pub(crate) enum Process {
    Own,
    Other(u32),
}

impl Process {
    /// Anonymous memory and page tables, in bytes.
    pub(crate) fn memory(self) -> Result<u64> {
        let text = self.read("status")?;
        let kib = |name| field(&text, name);
        Ok((kib("RssAnon:")? + kib("VmPTE:")?) * 1024)
    }

    /// Bytes it caused to be written, as the kernel counts them: all of a stretch of its cache, which may
    /// be many pages, when one page of it becomes dirty.
    pub(crate) fn written(self) -> Result<u64> {
        field(&self.read("io")?, "write_bytes:")
    }

    /// Processor time of all its threads that live.
    pub(crate) fn processor_time(self) -> Result<Duration> {
        let mut nanos = 0_u64;
        for task in fs::read_dir(self.path("task"))? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Processor time of all its threads, ended ones included, to the hundredth of a second.
    pub(crate) fn whole_processor_time(self) -> Result<Duration> {
        const TICK_MS: u64 = 10;
        let text = self.read("stat")?;
        // Behind its name, which may hold anything.
        let fields = text.rsplit_once(')').context("a process without a name")?.1;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        Ok(Duration::from_millis(ticks.sum::<Result<u64, _>>()? * TICK_MS))
    }

    fn path(self, name: &str) -> String {
        match self {
            Self::Own => format!("/proc/self/{name}"),
            Self::Other(number) => format!("/proc/{number}/{name}"),
        }
    }

    fn read(self, name: &str) -> Result<String> {
        let path = self.path(name);
        fs::read_to_string(&path).context(path)
    }
}

/// Bytes that the device of this folder was told to write, whoever wrote them.
pub(crate) fn device_written(folder: &Path) -> Result<u64> {
    const SECTOR_BYTES: u64 = 512;
    let device = fs::metadata(folder)?.dev();
    let path = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
    let text = fs::read_to_string(&path).context(path)?;
    let sectors = text.split_whitespace().nth(6).context("the kernel counts no sectors")?;
    Ok(sectors.parse::<u64>()? * SECTOR_BYTES)
}

fn field(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("the kernel does not say {name}"))?.parse()?)
}

/// Refuses to begin where the disk would get full: others use it, too.
pub(crate) fn check_space(folder: &Path, needed: u64) -> Result<()> {
    const LEFT_TO_OTHERS: u64 = 4 << 30;
    let free = OsDisk.free_bytes(folder)?;
    if free < needed + LEFT_TO_OTHERS {
        bail!(
            "{}: {} MiB are free and {} MiB are needed beside 4 GiB for others; free some, or measure less \
             with --instances",
            folder.display(),
            free >> 20,
            needed >> 20
        );
    }
    Ok(())
}
