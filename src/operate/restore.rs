//! `roundel restore`: a data folder from a backup, every file verified before the first is written.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use rrd::disk::lock_dir;
use rrd::{Disk as _, OsDisk};

use super::manifest::{Entry, Manifest};
use super::words::{bytes, count};
use crate::args::Restore;
use crate::report;

const CHUNK: u64 = 1 << 20;

/// Restores, and says what it did.
pub(crate) fn run(arguments: &Restore) -> Result<ExitCode> {
    let (from, data) = (&arguments.from, &arguments.data);
    let manifest = Manifest::read(from)?
        .with_context(|| format!("{}: no backup; it has no manifest", from.display()))?;
    if data.is_dir() && fs::read_dir(data)?.next().is_some() {
        bail!("{}: not empty; restore into a folder that is empty or missing", data.display());
    }
    let problems = manifest.verify(from)?;
    if !problems.is_empty() {
        let lines =
            problems.iter().map(|(name, what)| format!("\n{}: {what}", from.join(name).display()));
        bail!("the backup is damaged, and nothing was restored:{}", lines.collect::<String>());
    }
    let _lock = lock_dir(data)?;
    for name in &manifest.folders {
        fs::create_dir_all(data.join(name))?;
    }
    // The journal comes last: without it a server does not take the folder for a whole one.
    let is_journal = |name: &&String| name.starts_with("journal/");
    let (journal, others): (Vec<_>, Vec<_>) = manifest.files.keys().partition(is_journal);
    for name in others.into_iter().chain(journal.into_iter().rev()) {
        copy(&from.join(name), &data.join(name), &manifest.files[name])
            .with_context(|| data.join(name).display().to_string())?;
    }
    sync_folders(data, &manifest)?;
    let all: u64 = manifest.files.values().map(|entry| entry.len).sum();
    report::print(&format!(
        "restored {} files, {}, at frame {}; a start replays what the journal holds beyond\n",
        count(manifest.files.len() as u64),
        bytes(all),
        manifest.seq,
    ));
    Ok(ExitCode::SUCCESS)
}

/// Copies in full, unwritten rows too: the room of an archive is taken before it is needed.
fn copy(from: &Path, to: &Path, entry: &Entry) -> Result<()> {
    let mut source = File::open(from)?;
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    let file = OsDisk.create(to)?;
    if entry.len > 0 {
        file.allocate(0, entry.len)?;
    }
    let (mut at, mut crc) = (0, 0);
    let mut buffer = Vec::new();
    while at < entry.len {
        buffer.clear();
        (&mut source).take(CHUNK).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            break;
        }
        file.write_at(&buffer, at)?;
        crc = crc32c::crc32c_append(crc, &buffer);
        at += buffer.len() as u64;
    }
    if (at, crc) != (entry.len, entry.crc) {
        bail!("it changed while it was restored; remove the folder and restore again");
    }
    fs::set_permissions(to, source.metadata()?.permissions())?;
    Ok(file.sync_data()?)
}

fn sync_folders(data: &Path, manifest: &Manifest) -> io::Result<()> {
    for name in &manifest.folders {
        OsDisk.sync_dir(&data.join(name))?;
    }
    OsDisk.sync_dir(data)
}
