//! Opening a store after its process was killed: the last round's state, and the frames after it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use journal::{Config, Journal};
use rrd::{Clock, Disk, GrantFrame, OsDisk, SampleFrame, Step, Store};

use crate::meter::{Wall, processor_time};
use crate::procfs::Process;
use crate::store::load::{float, say};

/// Silence is judged on this grid, as the program's worker does.
const SILENCE_SECS: u64 = 5;

/// What is there, with all frames applied.
pub(super) struct Opened {
    pub(super) journal: Journal,
    pub(super) store: Store,
    /// The last frame.
    pub(super) applied: u64,
}

/// Opens, replays, says how long it took.
pub(crate) fn run(folder: &Path) -> Result<()> {
    let before = Process::Own.memory()?;
    let opened = open(folder)?;
    say("memory", float(Process::Own.memory()?.saturating_sub(before)))?;
    drop(opened);
    Ok(())
}

pub(super) fn open(folder: &Path) -> Result<Opened> {
    let (wall, used) = (Wall::start(), processor_time());
    let clock: Arc<dyn Clock> = Arc::new(Wall::start());
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let (journal, recovery) =
        Journal::open(Arc::clone(&disk), &folder.join("journal"), Config::default(), clock)?;
    ensure!(recovery.damage.is_empty(), "the journal is damaged: {:?}", recovery.damage);
    let mut applied = recovery.checkpoint.seq;
    let (store, damage) = Store::open(disk, &folder.join("archives"), applied)?;
    ensure!(damage.is_empty(), "archives are damaged: {damage:?}");
    say("opened", wall.elapsed().as_secs_f64())?;
    let mut stored = 0;
    for frame in recovery.frames {
        let frame = frame?;
        store.advance(frame.stamp.floor(grid()));
        match frame.kind {
            rrd::FRAME_SAMPLES => {
                let samples = SampleFrame::decode(&frame.body)?;
                stored += store.apply(frame.seq, frame.stamp, &samples).stored;
            }
            rrd::FRAME_GRANT => store.apply_grant(frame.seq, &GrantFrame::decode(&frame.body)?)?,
            _ => {}
        }
        applied = frame.seq;
    }
    journal.mark_applied(applied);
    say("ready", wall.elapsed().as_secs_f64())?;
    say("processor", processor_time().saturating_sub(used).as_secs_f64())?;
    say("replayed", float(stored))?;
    Ok(Opened { journal, store, applied })
}

fn grid() -> Step {
    Step::from_secs(SILENCE_SECS).expect("five seconds are not zero")
}
