//! Recovery: the state of the last round, and the frames after it applied again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use alerter::Engine;
use anyhow::{Context as _, Result, bail};
use collector::{Accounting, Registry};
use journal::Journal;
use rrd::{Clock, Disk, Store};
use tracing::{error, info};

use crate::config::Config;
use crate::rounds::{Rounds, Snapshots};
use crate::snapshot::Snapshot;
use crate::worker::{State, lock};

/// How many segments share the journal's space: more recycle earlier, fewer write longer runs.
const SEGMENTS: u64 = 8;

/// Where things are in the data folder.
pub(crate) struct Folders {
    pub(crate) data: PathBuf,
}

impl Folders {
    /// The folder `name` of the data folder.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    fn create(&self, disk: &dyn Disk) -> Result<()> {
        for name in ["archives", "journal", "state"] {
            let folder = self.at(name);
            disk.create_dir(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }
}

/// The parts as they stand after recovery, ready for the worker.
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) journal: Journal,
    pub(crate) rounds: Rounds,
    /// The last frame applied.
    pub(crate) applied: u64,
}

/// Opens everything in the data folder and replays what no round has written yet.
pub(crate) fn recover(
    config: &Config,
    folders: &Folders,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    channels: Vec<String>,
) -> Result<Recovered> {
    folders.create(disk.as_ref())?;
    let shape = journal::Config {
        segment_bytes: config.journal_bytes / SEGMENTS,
        segment_count: u32::try_from(SEGMENTS).unwrap_or(u32::MAX),
        ..journal::Config::default()
    };
    let (journal, recovery) =
        Journal::open(Arc::clone(disk), &folders.at("journal"), shape, Arc::clone(clock))?;
    for damage in &recovery.damage {
        error!(%damage, "the journal is damaged");
    }
    let upto = recovery.checkpoint.seq;
    let (store, damaged) = Store::open(Arc::clone(disk), &folders.at("archives"), upto)?;
    for damage in damaged {
        error!(%damage, "an archive is damaged; its instance is left out");
    }
    let store = Arc::new(store);
    let snapshots = snapshots(disk, &folders.at("state"));
    let state = State {
        registry: Arc::new(registry(&snapshots, upto)?),
        engine: Arc::new(Mutex::new(engine(&snapshots, upto, channels)?)),
        accounting: Arc::new(Accounting::default()),
        store: Arc::clone(&store),
    };
    let applied = replay(&state, recovery.frames, upto)?;
    for body in lock(&state.engine).end_replay() {
        journal.append_reserved(alerter::FRAME_TRANSITIONS, &body)?;
    }
    journal.mark_applied(applied);
    let rounds = Rounds::new(store, journal.clone(), snapshots, upto);
    Ok(Recovered { state, journal, rounds, applied })
}

fn replay(state: &State, frames: journal::Frames, upto: u64) -> Result<u64> {
    let mut applied = upto;
    let mut count = 0_u64;
    for frame in frames {
        let frame = frame?;
        let owed = state.advance(frame.stamp);
        debug_assert!(owed.is_empty(), "an engine in replay owes nothing");
        let outcome = state.apply(&frame);
        debug_assert!(outcome.transitions.is_empty(), "an engine in replay owes nothing");
        applied = frame.seq;
        count += 1;
    }
    info!(frames = count, from = upto, to = applied, "replayed");
    Ok(applied)
}

fn snapshots(disk: &Arc<dyn Disk>, dir: &Path) -> Snapshots {
    let of = |name| Snapshot::of(Arc::clone(disk), dir, name);
    Snapshots { registry: of("registry"), alerts: of("alerts") }
}

fn registry(snapshots: &Snapshots, upto: u64) -> Result<Registry> {
    match found(&snapshots.registry, upto, "registry")? {
        Some(bytes) => Registry::restore(&bytes).context("the registry's snapshot"),
        None => Ok(Registry::default()),
    }
}

fn engine(snapshots: &Snapshots, upto: u64, channels: Vec<String>) -> Result<Engine> {
    match found(&snapshots.alerts, upto, "alerts")? {
        Some(bytes) => Engine::restore(&bytes, channels).context("the alerter's snapshot"),
        None => Ok(Engine::new(channels)),
    }
}

/// The state of a part at the last round. Each round writes every part, so that an older state is
/// damage, and none at all would make the next round overwrite what is left.
fn found(snapshot: &Snapshot, upto: u64, part: &str) -> Result<Option<Vec<u8>>> {
    match snapshot.read(upto)? {
        Some(copy) => {
            if copy.seq < upto {
                let (from, to) = (copy.seq, upto);
                error!(part, from, to, "the newest snapshot is damaged; what changed since is lost");
            }
            Ok(Some(copy.body))
        }
        None if upto == 0 => Ok(None),
        None => bail!(
            "both snapshots of the {part} are missing or damaged; restore the data folder from a backup"
        ),
    }
}
