//! Frames set aside: what the journal holds for an archive that cannot be used, kept until it can.
//!
//! A round forgets frames, so they are written before the first one: one file for each instance and
//! start, `aside/<instance>-<epoch>.frames`. Each frame: sequence number (u64), stamp (i64), kind and
//! length of the body (u32 each), the body, CRC32C of all that (u32); little-endian.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use journal::Frame;
use rrd::{ChangeFrame, Disk, GrantFrame, InstanceId, SampleFrame, Store};

/// Frames of instances whose archives cannot be used. Bounded by the journal's size.
pub(crate) struct Aside {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    epoch: u64,
    frames: BTreeMap<InstanceId, Vec<u8>>,
}

impl Aside {
    /// Nothing set aside yet; `epoch` is the journal's, new at every start.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, epoch: u64) -> Self {
        Self { disk, dir, epoch, frames: BTreeMap::new() }
    }

    /// Keeps the frame if it is for an archive that cannot be used.
    pub(crate) fn look(&mut self, store: &Store, frame: &Frame) -> Result<()> {
        if !store.has_unavailable() {
            return Ok(());
        }
        let instance = match frame.kind {
            rrd::FRAME_SAMPLES => SampleFrame::decode(&frame.body)?.instance,
            rrd::FRAME_GRANT => GrantFrame::decode(&frame.body)?.instance,
            rrd::FRAME_CHANGE => ChangeFrame::decode(&frame.body)?.instance,
            _ => return Ok(()),
        };
        if store.is_unavailable(instance) {
            self.frames.entry(instance).or_default().extend(encode(frame));
        }
        Ok(())
    }

    /// Makes all of it last; answers where it is.
    pub(crate) fn write(self) -> Result<Vec<PathBuf>> {
        if self.frames.is_empty() {
            return Ok(Vec::new());
        }
        self.disk.create_dir(&self.dir)?;
        let mut paths = Vec::new();
        for (instance, bytes) in &self.frames {
            let path = self.dir.join(format!("{instance}-{}.frames", self.epoch));
            let file = self.disk.create(&path).with_context(|| path.display().to_string())?;
            file.write_at(bytes, 0)?;
            file.sync_data()?;
            paths.push(path);
        }
        self.disk.sync_dir(&self.dir)?;
        Ok(paths)
    }
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
