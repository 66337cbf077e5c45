//! The data folder of a stopped server: locked, and its parts as they stood when it stopped.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use collector::Registry;
use journal::Journal;
use rrd::disk::{DirLock, OsDisk, lock_dir};
use rrd::{Clock, Disk, InstanceChange, Store};
use tracing::error;

use crate::clock::SystemClock;
use crate::config::JOURNAL_BYTES;
use crate::recovery::{Folders, registry, shape, snapshots};
use crate::worker::SILENCE_GRID;

/// What a command works on. What it appends to the journal the next start of the server applies; no
/// round is written here.
pub(crate) struct Offline {
    pub(crate) folders: Folders,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    _lock: DirLock,
}

impl Offline {
    /// Opens a data folder, or makes one. Errors while a server runs on it.
    pub(crate) fn open(data: &Path) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let folders = Folders { data: data.to_owned() };
        let lock = lock_dir(data).context("this needs a stopped server")?;
        folders.create(disk.as_ref())?;
        folders.check(disk.as_ref())?;
        let dir = folders.at("journal");
        let (journal, recovery) =
            Journal::open(Arc::clone(&disk), &dir, shape(JOURNAL_BYTES), clock)?;
        let upto = recovery.checkpoint.seq;
        let (store, damaged) = Store::open(Arc::clone(&disk), &folders.at("archives"), upto)?;
        for damage in damaged {
            error!(%damage, "an archive is damaged; its instance is left out");
        }
        let registry = registry(&snapshots(&disk, &folders.at("state")), upto)?;
        let offline = Self { folders, disk, journal, store, registry, _lock: lock };
        for frame in recovery.frames {
            let frame = frame?;
            offline.apply(&frame).with_context(|| format!("frame {} of the journal", frame.seq))?;
        }
        Ok(offline)
    }

    /// Applies a frame as the server would, but for alerts, which are none of our business.
    fn apply(&self, frame: &journal::Frame) -> Result<()> {
        let journal::Frame { seq, stamp, kind, body } = frame;
        self.store.advance(stamp.floor(SILENCE_GRID));
        match *kind {
            rrd::FRAME_SAMPLES => {
                self.store.apply(*seq, *stamp, &rrd::SampleFrame::decode(body)?);
            }
            rrd::FRAME_GRANT => {
                self.store.apply_grant(*seq, &rrd::GrantFrame::decode(body)?)?;
            }
            collector::FRAME_REGISTRY => {
                for instance in self.registry.apply(*seq, body)? {
                    let (id, labels, is_gone) =
                        (instance.id, &instance.labels, !instance.is_active());
                    self.store.apply_instance(
                        *seq,
                        *stamp,
                        InstanceChange { id, labels, is_gone },
                    )?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
