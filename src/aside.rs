//! Frames set aside: what the journal holds for an archive that cannot be written, kept until it can.
//!
//! A record forgets frames, so they are written and synced before it: one file for each instance and
//! record, `aside/<instance>-<S of the record before>.frames`. Each frame: sequence number (u64), stamp
//! (i64), kind and length of the body (u32 each), the body, CRC32C of all that (u32); little-endian.
//! An instance that is set apart takes no frames, so that all its files together are bounded by what
//! the journal held when it failed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use journal::{Frame, Journal};
use rrd::{ChangeFrame, Disk, File, GrantFrame, InstanceId, SampleFrame, Store, Timestamp};

/// Bytes of an instance's frames that are kept before they are written.
const WRITE_BYTES: usize = 64 << 10;
/// Bytes in front of a body.
const HEAD: usize = 24;
/// Longer bodies are not of a journal.
const LONGEST_BODY: usize = journal::MAX_BODY_BYTES;

/// The folder of frames set aside.
#[derive(Clone)]
pub(crate) struct Aside {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Aside {
    /// The folder `dir`, which need not be there.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir }
    }

    /// Sets aside what the journal holds after `after` and up to `upto` for these instances; synced
    /// when this returns.
    pub(crate) fn keep(
        &self,
        journal: &Journal,
        (after, upto): (u64, u64),
        instances: &BTreeSet<InstanceId>,
    ) -> Result<()> {
        if instances.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer(after);
        let mut last = after;
        for frame in journal.reread(after)? {
            let frame = frame?;
            if frame.seq > upto {
                break;
            }
            last = frame.seq;
            if let Some(instance) = owner(&frame).filter(|id| instances.contains(id)) {
                writer.push(instance, &frame)?;
            }
        }
        ensure!(last == upto, "the journal reads back to frame {last} only, not to {upto}");
        writer.finish().map(drop)
    }

    /// A writer of frames after the record at `after`.
    pub(crate) fn writer(&self, after: u64) -> Writer {
        Writer { aside: self.clone(), after, files: BTreeMap::new() }
    }

    /// The files there are, by instance and then in the order of their frames.
    pub(crate) fn files(&self) -> Result<Vec<(InstanceId, u64, PathBuf)>> {
        self.disk.create_dir(&self.dir)?;
        let paths = self.disk.list(&self.dir)?.into_iter();
        let mut files: Vec<_> = paths.filter_map(named).collect();
        files.sort();
        Ok(files)
    }

    /// The frames of a file, the first broken one an error.
    pub(crate) fn read(&self, path: &Path) -> Result<Frames> {
        let file = self.disk.open(path)?;
        let len = file.len()?;
        Ok(Frames { file, at: 0, len })
    }

    /// Removes the files of instances that are not among `kept`: a round has written what they hold.
    pub(crate) fn remove_but(&self, kept: impl Fn(InstanceId) -> bool) -> Result<()> {
        let mut is_changed = false;
        for (instance, _, path) in self.files()? {
            if !kept(instance) {
                self.disk.remove(&path)?;
                is_changed = true;
            }
        }
        if is_changed {
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }
}

/// Writes frames by instance.
pub(crate) struct Writer {
    aside: Aside,
    after: u64,
    files: BTreeMap<InstanceId, Growing>,
}

/// A file and the bytes that are not written to it yet.
struct Growing {
    path: PathBuf,
    file: Arc<dyn File>,
    at: u64,
    bytes: Vec<u8>,
}

impl Writer {
    /// Adds a frame of `instance`.
    pub(crate) fn push(&mut self, instance: InstanceId, frame: &Frame) -> Result<()> {
        if !self.files.contains_key(&instance) {
            let growing = self.create(instance)?;
            self.files.insert(instance, growing);
        }
        let growing = self.files.get_mut(&instance).expect("made above if it was not there");
        growing.bytes.extend(encode(frame));
        if growing.bytes.len() >= WRITE_BYTES { growing.write() } else { Ok(()) }
    }

    /// A file of this name is left by a round whose record never came to be: all of it is in the
    /// journal still.
    fn create(&self, instance: InstanceId) -> Result<Growing> {
        let Aside { disk, dir } = &self.aside;
        disk.create_dir(dir)?;
        let path = dir.join(format!("{instance}-{}.frames", self.after));
        match disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let file = disk.create(&path).with_context(|| path.display().to_string())?;
        Ok(Growing { path, file, at: 0, bytes: Vec::new() })
    }

    /// Makes all of it last; answers where it is.
    pub(crate) fn finish(mut self) -> Result<Vec<PathBuf>> {
        for growing in self.files.values_mut() {
            growing.write()?;
            growing.file.sync_data().with_context(|| growing.path.display().to_string())?;
        }
        if !self.files.is_empty() {
            self.aside.disk.sync_dir(&self.aside.dir)?;
        }
        Ok(self.files.into_values().map(|growing| growing.path).collect())
    }
}

impl Growing {
    fn write(&mut self) -> Result<()> {
        let written = self.file.write_at(&self.bytes, self.at);
        written.with_context(|| self.path.display().to_string())?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// The frames of one file, in order.
pub(crate) struct Frames {
    file: Arc<dyn File>,
    at: u64,
    len: u64,
}

impl Iterator for Frames {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.at < self.len).then(|| {
            let frame = self.frame();
            if frame.is_err() {
                self.at = self.len;
            }
            frame
        })
    }
}

impl Frames {
    fn frame(&mut self) -> Result<Frame> {
        let mut head = [0; HEAD];
        self.file.read_at(&mut head, self.at)?;
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
        let body_len = usize::try_from(number(20)).unwrap_or(usize::MAX);
        ensure!(body_len <= LONGEST_BODY, "a frame that says it has {body_len} bytes");
        let mut rest = vec![0; body_len + 4];
        self.file.read_at(&mut rest, self.at + HEAD as u64)?;
        let (body, crc) = rest.split_at(body_len);
        let right = crc32c::crc32c_append(crc32c::crc32c(&head), body).to_le_bytes();
        ensure!(crc == right, "a frame whose checksum does not match");
        let kind = u8::try_from(number(16)).context("a kind of frame that there is not")?;
        let body = body.to_vec().into();
        self.at += (HEAD + body_len + 4) as u64;
        Ok(Frame { seq: long(0), stamp: stamp(long(8)), kind, body })
    }
}

fn stamp(bits: u64) -> Timestamp {
    Timestamp::from_millis(bits.cast_signed())
}

/// Whose frame it is; `None` for those that belong to no archive, and those that cannot be read: the
/// worker passes over them too.
pub(crate) fn owner(frame: &Frame) -> Option<InstanceId> {
    match frame.kind {
        rrd::FRAME_SAMPLES => Some(SampleFrame::decode(&frame.body).ok()?.instance),
        rrd::FRAME_GRANT => Some(GrantFrame::decode(&frame.body).ok()?.instance),
        rrd::FRAME_CHANGE => Some(ChangeFrame::decode(&frame.body).ok()?.instance),
        _ => None,
    }
}

/// True for a frame of an instance whose archive could not be opened.
pub(crate) fn is_homeless(store: &Store, frame: &Frame) -> Option<InstanceId> {
    if !store.has_unavailable() {
        return None;
    }
    owner(frame).filter(|id| store.is_unavailable(*id) && !store.is_loaded(*id))
}

/// Whose frames after which record's S a file holds, by its name.
pub(crate) fn named(path: PathBuf) -> Option<(InstanceId, u64, PathBuf)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".frames")?;
    let (instance, after) = stem.split_once('-')?;
    Some((instance.parse().ok()?, after.parse().ok()?, path))
}

fn encode(frame: &Frame) -> Vec<u8> {
    let len = u32::try_from(frame.body.len()).expect("the journal limits bodies to 4 MiB");
    let mut bytes = frame.seq.to_le_bytes().to_vec();
    bytes.extend_from_slice(&frame.stamp.as_millis().to_le_bytes());
    bytes.extend_from_slice(&u32::from(frame.kind).to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&frame.body);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}
