//! Recovery: the state of the last round, and the frames after it applied again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use alerter::Engine;
use anyhow::{Context as _, Result, bail};
use collector::{Accounting, Registry};
use journal::Journal;
use rrd::{Clock, Disk, InstanceId, Store};
use tracing::{error, info};

use crate::aside::{self, Aside};
use crate::config::Config;
use crate::rounds::{Before, Excepted, Rounds, Snapshots};
use crate::snapshot::Snapshot;
use crate::worker::{State, append_transitions, lock};

/// How many segments share the journal's space, at least: more recycle earlier, fewer write longer
/// runs.
const SEGMENTS: u64 = 8;
/// A start reads whole segments into memory.
const LONGEST_SEGMENT: u64 = 128 << 20;
/// Segments are whole blocks.
const BLOCK: u64 = 4096;

/// Where things are in the data folder.
pub(crate) struct Folders {
    pub(crate) data: PathBuf,
}

impl Folders {
    /// The folder `name` of the data folder.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    pub(crate) fn create(&self, disk: &dyn Disk) -> Result<()> {
        for name in ["archives", "journal", "state"] {
            let folder = self.at(name);
            disk.create_dir(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(())
    }

    /// Refuses a data folder whose journal is gone, or not mounted: with a new one nothing in the
    /// other folders would count, and the next rounds would write over it.
    pub(crate) fn check(&self, disk: &dyn Disk) -> Result<()> {
        let journal = self.at("journal");
        let is_used = |path: &PathBuf| path.extension().is_none_or(|extension| extension != "new");
        let mut others = disk.list(&self.at("archives"))?;
        others.extend(disk.list(&self.at("state"))?);
        if disk.list(&journal)?.is_empty() && others.iter().any(is_used) {
            bail!(
                "{}: empty, though there are archives that need the journal; mount it or restore it, \
                 or move the whole data folder away to begin anew",
                journal.display()
            );
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
    /// Acknowledged frames that the journal has lost.
    pub(crate) lost: Vec<journal::Damage>,
    /// Instances of which the journal holds samples that no archive has any more.
    pub(crate) orphaned: BTreeSet<InstanceId>,
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
    folders.check(disk.as_ref())?;
    let shape = journal::Config { durability: config.durability, ..shape(config.journal_bytes) };
    let (journal, recovery) =
        Journal::open(Arc::clone(disk), &folders.at("journal"), shape, Arc::clone(clock))?;
    for damage in &recovery.damage {
        error!(%damage, "the journal is damaged");
    }
    let upto = recovery.checkpoint.seq;
    let mut excepted = excepted(&recovery.checkpoint);
    let archives = folders.at("archives");
    let (store, damaged) = Store::open_excepting(Arc::clone(disk), &archives, upto, &excepted)?;
    for damage in damaged {
        error!(%damage, "an archive is damaged; its instance is left out");
    }
    for instance in store.unavailable().into_iter().filter_map(|damage| damage.instance) {
        excepted.entry(instance).or_insert(upto);
    }
    let store = Arc::new(store);
    let snapshots = snapshots(disk, &folders.at("state"));
    let state = State {
        registry: Arc::new(registry(&snapshots, upto)?),
        engine: Arc::new(Mutex::new(engine(&snapshots, upto, channels)?)),
        accounting: Arc::new(Accounting::default()),
        store: Arc::clone(&store),
    };
    let aside = Aside::new(Arc::clone(disk), folders.at("aside"));
    state.store.begin_replay();
    let left = apply_aside(&state, &aside, (upto, &excepted)).context("frames set aside")?;
    let (applied, orphaned) = replay(&state, recovery.frames, upto, &aside)?;
    state.store.end_replay();
    let owed = lock(&state.engine).end_replay();
    append_transitions(&state, &journal, owed);
    journal.mark_applied(applied);
    let before = Before { done: upto, excepted, aside, left };
    let rounds = Rounds::new(store, journal.clone(), snapshots, before);
    let lost = recovery.damage;
    Ok(Recovered { state, journal, rounds, applied, lost, orphaned })
}

/// Segments for a journal of so many bytes, or a little less.
pub(crate) fn shape(journal_bytes: u64) -> journal::Config {
    let count = journal_bytes.div_ceil(LONGEST_SEGMENT).max(SEGMENTS);
    journal::Config {
        segment_bytes: journal_bytes / count / BLOCK * BLOCK,
        segment_count: u32::try_from(count).unwrap_or(u32::MAX),
        ..journal::Config::default()
    }
}

/// The files that the record excepts, by whose they are.
pub(crate) fn excepted(record: &journal::Record) -> Excepted {
    let known = |(name, seq): &(String, u64)| match name.parse() {
        Ok(instance) => Some((instance, *seq)),
        Err(reason) => {
            error!(name, %reason, "the record excepts a file that is none of ours");
            None
        }
    };
    record.excepted.iter().filter_map(known).collect()
}

/// Applies the frames that were set aside for archives that can be used again, up to the record: those
/// after it are in the journal. Answers whose frames are damaged.
///
/// An archive that the record does not except has been written since, so that these frames change
/// nothing in it; or it is a new one, of an instance that was removed and came again, and they are not its.
pub(crate) fn apply_aside(
    state: &State,
    aside: &Aside,
    (upto, excepted): (u64, &Excepted),
) -> Result<BTreeSet<InstanceId>> {
    let mut left = BTreeSet::new();
    for (instance, _, path) in aside.files()? {
        let is_its_own = excepted.contains_key(&instance) || state.store.has_begun(instance);
        if !state.store.is_loaded(instance) || !is_its_own {
            continue;
        }
        let mut count = 0_u64;
        for frame in aside.read(&path)? {
            match frame {
                Ok(frame) if frame.seq <= upto => state.apply_aside(instance, &frame),
                Ok(_) => break,
                Err(reason) => {
                    error!(path = %path.display(), %reason, "frames set aside are damaged");
                    left.insert(instance);
                    break;
                }
            }
            count += 1;
        }
        info!(path = %path.display(), frames = count, "frames set aside are applied");
        state.take_over(instance, upto);
    }
    Ok(left)
}

/// Answers the last frame, and the instances whose samples have no archive any more.
fn replay(
    state: &State,
    frames: journal::Frames,
    upto: u64,
    aside: &Aside,
) -> Result<(u64, BTreeSet<InstanceId>)> {
    let mut applied = upto;
    let mut homeless = aside.writer(upto);
    let (mut count, mut lost, mut orphaned) = (0_u64, 0_u64, BTreeSet::new());
    for frame in frames {
        let frame = frame?;
        if let Some(instance) = aside::is_homeless(&state.store, &frame) {
            homeless.push(instance, &frame).context("frames of damaged archives")?;
        }
        let owed = state.advance(frame.stamp);
        debug_assert!(owed.is_empty(), "an engine in replay owes nothing");
        let outcome = state.apply(&frame);
        debug_assert!(outcome.transitions.is_empty(), "an engine in replay owes nothing");
        if let Some((instance, verdicts)) = outcome.verdicts
            && verdicts.stale_generation > 0
        {
            lost += verdicts.stale_generation;
            orphaned.insert(instance);
        }
        applied = frame.seq;
        count += 1;
    }
    for path in homeless.finish().context("frames of damaged archives")? {
        error!(path = %path.display(), "acknowledged frames of a damaged archive are set aside");
    }
    if lost > 0 {
        error!(samples = lost, "the journal holds samples of series that no archive has any more");
    }
    info!(frames = count, from = upto, to = applied, "replayed");
    Ok((applied, orphaned))
}

pub(crate) fn snapshots(disk: &Arc<dyn Disk>, dir: &Path) -> Snapshots {
    let of = |name| Snapshot::of(Arc::clone(disk), dir, name);
    Snapshots { registry: of("registry"), alerts: of("alerts") }
}

pub(crate) fn registry(snapshots: &Snapshots, upto: u64) -> Result<Registry> {
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
                error!(
                    part,
                    from, to, "the newest snapshot is damaged; what changed since is lost"
                );
            }
            Ok(Some(copy.body))
        }
        None if upto == 0 => Ok(None),
        None => bail!(
            "both snapshots of the {part} are missing or damaged; restore the data folder from a backup"
        ),
    }
}

#[cfg(test)]
mod tests {
    use rrd::{ManualClock, MemDisk};

    use super::*;

    #[test]
    fn every_size_that_the_configuration_takes_is_a_journal() {
        for bytes in [16 << 20, (16 << 20) + 1024, 256 << 20, 9 << 30, 64_u64 << 30] {
            let shape = shape(bytes);
            let all = shape.segment_bytes * u64::from(shape.segment_count);
            assert!(all <= bytes && bytes - all < 1 << 22, "{shape:?} of {bytes}");
            assert!(shape.segment_bytes <= LONGEST_SEGMENT, "{shape:?}");
        }
    }

    #[test]
    fn an_odd_size_is_taken_too() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let shape = shape((16 << 20) + 1024);
        Journal::open(Arc::new(MemDisk::new()), Path::new("/journal"), shape, clock).unwrap();
    }
}
