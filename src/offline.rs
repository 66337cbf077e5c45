//! The data folder of a stopped server: locked, and its parts as they stood when it stopped.

use std::path::Path;
use std::sync::{Arc, Mutex};

use alerter::Engine;
use anyhow::{Context as _, Result};
use collector::{Accounting, Registry};
use journal::{Frame, Journal};
use rrd::disk::{DirLock, OsDisk, lock_dir};
use rrd::{Clock, Disk, Store};
use tracing::error;

use crate::aside::Aside;
use crate::clock::SystemClock;
use crate::config::JOURNAL_BYTES;
use crate::operate::refuse_unfinished;
use crate::recovery::{Folders, apply_aside, excepted, registry, shape, snapshots};
use crate::worker::{SILENCE_GRID, State};

/// What a command works on. What it appends to the journal the next start of the server applies; no
/// round is written here.
pub(crate) struct Offline {
    pub(crate) folders: Folders,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) journal: Journal,
    pub(crate) store: Arc<Store>,
    pub(crate) registry: Arc<Registry>,
    _lock: DirLock,
}

impl Offline {
    /// Opens a data folder, or makes one. Errors while a server runs on it.
    pub(crate) fn open(data: &Path) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let folders = Folders { data: data.to_owned() };
        let lock = lock_dir(data).context("this needs a stopped server")?;
        refuse_unfinished(data)?;
        folders.create(disk.as_ref())?;
        folders.check(disk.as_ref())?;
        let dir = folders.at("journal");
        let (journal, recovery) =
            Journal::open(Arc::clone(&disk), &dir, shape(JOURNAL_BYTES), clock)?;
        let upto = recovery.checkpoint.seq;
        let excepted = excepted(&recovery.checkpoint);
        let archives = folders.at("archives");
        let (store, damaged) =
            Store::open_excepting(Arc::clone(&disk), &archives, upto, &excepted)?;
        for damage in damaged {
            error!(%damage, "an archive is damaged; its instance is left out");
        }
        let state = State {
            store: Arc::new(store),
            registry: Arc::new(registry(&snapshots(&disk, &folders.at("state")), upto)?),
            // Alerts are none of our business.
            engine: Arc::new(Mutex::new(Engine::new(Vec::new()))),
            accounting: Arc::new(Accounting::default()),
        };
        state.store.begin_replay();
        let aside = Aside::new(Arc::clone(&disk), folders.at("aside"));
        apply_aside(&state, &aside, (upto, &excepted)).context("frames set aside")?;
        for frame in recovery.frames {
            replay(&state, &frame?);
        }
        state.store.end_replay();
        let State { store, registry, .. } = state;
        Ok(Self { folders, disk, journal, store, registry, _lock: lock })
    }
}

/// Applies a frame as the server would, but for alerts.
fn replay(state: &State, frame: &Frame) {
    state.store.advance(frame.stamp.floor(SILENCE_GRID));
    let is_of_alerts = [alerter::FRAME_RULES, alerter::FRAME_TRANSITIONS, alerter::FRAME_DELIVERY];
    if !is_of_alerts.contains(&frame.kind) {
        state.apply(frame);
    }
}
