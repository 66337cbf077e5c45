//! `roundel backup`: a consistent copy of a data folder, also while its server runs.
//!
//! Rounds are put off by [`Still`] while files are copied, so that all archives and snapshots stand at
//! one sequence number. The journal is copied first: a series that a frame of it speaks of had its
//! columns in the archive before that frame was written, so that archives copied later have them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rrd::disk::{DirLock, LockError, lock_dir};
use rrd::{Clock as _, OsDisk};

use super::hold::{HOLD_NAME, Still};
use super::manifest::{Entry, Growing, MANIFEST, Manifest, PARTIAL, is_name};
use super::words::{bytes, count};
use crate::args::Backup;
use crate::clock::SystemClock;
use crate::report;

/// A journal that fills faster than this many copies are made needs to be larger.
const MOST_ATTEMPTS: u32 = 5;
/// How often a round that could not wait is looked at.
const PATIENCE: Duration = Duration::from_millis(50);
/// Bytes copied at once.
const CHUNK: usize = 1 << 20;
/// What the journal writes as one.
const BLOCK: usize = 4096;
/// A file written to this shortly before it is copied may change again within a tick of its clock.
const SETTLED_MS: i64 = 2000;
/// Folders in the data folder, and one more.
const DEEPEST: usize = 4;
/// A segment is read as a whole.
const LONGEST_SEGMENT: u64 = 1 << 30;

/// Copies, and says what it did.
pub(crate) fn run(arguments: &Backup) -> Result<ExitCode> {
    let (data, to) = (&arguments.data, &arguments.to);
    if !data.is_dir() {
        bail!("{}: no such folder; name it with --data", data.display());
    }
    let data = data.canonicalize()?;
    let is_missing = !to.exists();
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let to = to.canonicalize()?;
    if to.starts_with(&data) || data.starts_with(&to) {
        if is_missing {
            fs::remove_dir(&to)?;
        }
        bail!(
            "{}: the copy cannot lie in the data folder, nor around it; choose another --to",
            to.display()
        );
    }
    check_destination(&to)?;
    let _one_at_a_time = lock_dir(&to)?;
    let source = Source::of(&data)?;
    let (growing, known) = Growing::open(&to)?;
    let clock = SystemClock::start();
    let mut copy =
        Copy { data, to, growing, clock, have: known, names: BTreeSet::new(), copied: 0, kept: 0 };
    copy.all(&source)?;
    let manifest = copy.finish()?;
    drop(source);
    let all: u64 = manifest.files.values().map(|entry| entry.len).sum();
    report::print(&format!(
        "backup of {} files, {}, at frame {}: {} copied, {} files were there already\n",
        count(manifest.files.len() as u64),
        bytes(all),
        manifest.seq,
        bytes(copy.copied),
        count(copy.kept),
    ));
    Ok(ExitCode::SUCCESS)
}

/// Refuses a folder that holds something else.
fn check_destination(to: &Path) -> Result<()> {
    let is_backup = [MANIFEST, PARTIAL].iter().any(|name| to.join(name).exists());
    let mut others = fs::read_dir(to)?.filter_map(Result::ok).filter(|e| e.file_name() != "lock");
    if !is_backup && others.next().is_some() {
        bail!("{}: not empty and no backup; choose an empty folder", to.display());
    }
    Ok(())
}

/// What keeps the files still.
enum Source {
    Stopped { _lock: DirLock },
    Running(Still),
}

impl Source {
    fn of(data: &Path) -> Result<Self> {
        match lock_dir(data) {
            Ok(lock) => Ok(Self::Stopped { _lock: lock }),
            Err(LockError::Held { .. }) => Ok(Self::Running(Still::of(data)?)),
            Err(error) => Err(error.into()),
        }
    }

    /// Rounds so far, none of them writing.
    fn rounds(&self) -> io::Result<u64> {
        let Self::Running(still) = self else { return Ok(0) };
        loop {
            let counter = still.counter()?;
            if counter.is_multiple_of(2) {
                return Ok(counter);
            }
            std::thread::park_timeout(PATIENCE);
        }
    }
}

/// A copy being made.
struct Copy {
    data: PathBuf,
    to: PathBuf,
    growing: Growing,
    clock: SystemClock,
    /// What the copy has.
    have: Manifest,
    /// What it should have.
    names: BTreeSet<String>,
    copied: u64,
    kept: u64,
}

impl Copy {
    /// Copies until nothing changed meanwhile.
    fn all(&mut self, source: &Source) -> Result<()> {
        for _ in 0..MOST_ATTEMPTS {
            let before = source.rounds()?;
            self.once()?;
            if source.rounds()? == before {
                return Ok(());
            }
        }
        bail!(
            "the journal is full before a copy is made, {MOST_ATTEMPTS} times; set a larger journal_size, or stop the server for the backup"
        )
    }

    fn once(&mut self) -> Result<()> {
        self.names.clear();
        self.have.folders.clear();
        self.kept = 0;
        let journal = journal::copy_order(&OsDisk, &self.data.join("journal"))?;
        for path in &journal {
            self.file(path)?;
        }
        let data = self.data.clone();
        self.folder(&data, 0)
    }

    fn folder(&mut self, dir: &Path, depth: usize) -> Result<()> {
        let mut entries: Vec<PathBuf> = fs::read_dir(dir)
            .with_context(|| dir.display().to_string())?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        entries.sort();
        for path in entries {
            let name = self.name(&path)?;
            let is_unfinished = path.extension().is_some_and(|extension| extension == "new");
            if ["lock", HOLD_NAME].contains(&name.as_str()) || is_unfinished {
                continue;
            }
            let Some(metadata) = found(fs::metadata(&path))? else { continue };
            if metadata.is_dir() && depth < DEEPEST {
                self.have.folders.push(name);
                self.folder(&path, depth + 1)?;
            } else if metadata.is_file() && !self.names.contains(&name) {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn name(&self, path: &Path) -> Result<String> {
        let name = path.strip_prefix(&self.data).ok().and_then(Path::to_str);
        let name = name.filter(|name| is_name(name)).map(str::to_owned);
        name.with_context(|| {
            format!("{}: not a name that a backup can hold; rename it", path.display())
        })
    }

    /// Copies one file, unless the copy has it as it is. One that is gone meanwhile is left out.
    fn file(&mut self, path: &Path) -> Result<()> {
        let name = self.name(path)?;
        let Some(file) = found(File::open(path)).with_context(|| path.display().to_string())?
        else {
            return Ok(());
        };
        let metadata = file.metadata()?;
        let written = (metadata.mtime(), metadata.mtime_nsec());
        let target = self.to.join(&name);
        let is_there = || fs::metadata(&target).is_ok_and(|there| there.len() == metadata.len());
        let is_same = self.have.files.get(&name).is_some_and(|entry| {
            entry.is_settled && entry.written == written && entry.len == metadata.len()
        });
        if is_same && is_there() {
            self.kept += 1;
            self.names.insert(name);
            return Ok(());
        }
        let age_ms =
            self.clock.wall().as_millis() - written.0.saturating_mul(1000) - written.1 / 1_000_000;
        if let Some(dir) = target.parent() {
            fs::create_dir_all(dir)?;
        }
        let part = self.to.join("backup.part");
        let copied = (|| -> io::Result<(u64, u32)> {
            let to = File::create(&part)?;
            to.set_permissions(metadata.permissions())?;
            let copied = if name.starts_with("journal/segment-") {
                copy_segment(&file, &to, metadata.len())?
            } else {
                copy_file(file, &to)?
            };
            to.sync_all()?;
            fs::rename(&part, &target)?;
            File::open(target.parent().unwrap_or(&self.to))?.sync_all()?;
            Ok(copied)
        })();
        let (len, crc) = copied.with_context(|| target.display().to_string())?;
        let entry = Entry { len, written, is_settled: age_ms > SETTLED_MS, crc };
        self.growing.add(&name, &entry)?;
        self.copied += len;
        self.have.files.insert(name.clone(), entry);
        self.names.insert(name);
        Ok(())
    }

    /// Removes what the source has no more, and writes the manifest.
    fn finish(&mut self) -> Result<Manifest> {
        let gone: Vec<String> =
            self.have.files.keys().filter(|name| !self.names.contains(*name)).cloned().collect();
        for name in gone {
            found(fs::remove_file(self.to.join(&name)))?;
            self.have.files.remove(&name);
        }
        let record = journal::checkpoint(&OsDisk, &self.to.join("journal"))?;
        (self.have.seq, self.have.epoch) = (record.seq, record.epoch);
        self.have.write(&self.to)?;
        Ok(self.have.clone())
    }
}

/// From the end to the start, block by block: see [`journal::copy_order`].
fn copy_segment(from: &File, to: &File, len: u64) -> io::Result<(u64, u32)> {
    if len > LONGEST_SEGMENT {
        return Err(io::Error::other("no segment is that long"));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let mut end = bytes.len();
    while end > 0 {
        let start = (end - 1) / BLOCK * BLOCK;
        from.read_exact_at(&mut bytes[start..end], start as u64)?;
        end = start;
    }
    for (number, chunk) in (0..).zip(bytes.chunks(CHUNK)) {
        write_chunk(to, chunk, number * CHUNK as u64)?;
    }
    to.set_len(len)?;
    Ok((len, crc32c::crc32c(&bytes)))
}

/// From the start to the end.
fn copy_file(mut from: File, to: &File) -> io::Result<(u64, u32)> {
    let mut buffer = Vec::with_capacity(CHUNK);
    let (mut len, mut crc) = (0, 0);
    loop {
        buffer.clear();
        (&mut from).take(CHUNK as u64).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            to.set_len(len)?;
            return Ok((len, crc));
        }
        write_chunk(to, &buffer, len)?;
        crc = crc32c::crc32c_append(crc, &buffer);
        len += buffer.len() as u64;
    }
}

/// Rows that were never written take no room in a backup.
fn write_chunk(to: &File, chunk: &[u8], at: u64) -> io::Result<()> {
    for (number, block) in (0..).zip(chunk.chunks(16 * BLOCK)) {
        if block.iter().any(|byte| *byte != 0) {
            to.write_all_at(block, at + number * 16 * BLOCK as u64)?;
        }
    }
    Ok(())
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
