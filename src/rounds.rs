//! Rounds: once a minute everything a restart needs is written at one sequence number.
//!
//! Order matters: archives and snapshots first, all synced; then the journal's record of S; only then
//! does S count, and the journal forgets what is older.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use journal::{Journal, Record};
use rrd::{Round, Store};
use tracing::{error, info};

use crate::snapshot::Snapshot;

/// Time from the start of one round to the start of the next.
const PERIOD: Duration = Duration::from_mins(1);
/// A journal this full does not wait for the minute.
const NEARLY_FULL: f64 = 0.75;
/// Time after which a nearly full journal has a failed round tried again: a disk that fails shall
/// not be kept busy with it.
const RETRY: Duration = Duration::from_secs(5);

/// The parts beside the store, as they stood at one boundary between two frames.
pub(crate) struct Moment {
    pub(crate) registry: Vec<u8>,
    pub(crate) alerts: Vec<u8>,
}

/// Where the parts beside the store are kept.
#[derive(Clone)]
pub(crate) struct Snapshots {
    pub(crate) registry: Snapshot,
    pub(crate) alerts: Snapshot,
}

/// Begins rounds in the worker and writes them in a thread of their own, one at a time.
pub(crate) struct Rounds {
    store: Arc<Store>,
    journal: Journal,
    snapshots: Snapshots,
    running: Option<(u64, JoinHandle<Result<(), String>>)>,
    begun_at: Duration,
    /// The last S that counts.
    done: u64,
    /// The last round came to nothing.
    failed: bool,
}

impl Rounds {
    /// Rounds that go on after `done`, the S of the record that recovery found.
    pub(crate) fn new(
        store: Arc<Store>,
        journal: Journal,
        snapshots: Snapshots,
        done: u64,
    ) -> Self {
        let (running, begun_at, failed) = (None, Duration::ZERO, false);
        Self { store, journal, snapshots, running, begun_at, done, failed }
    }

    /// Ends a round that has been written, and begins one when it is time. `applied` is the sequence
    /// number of the last frame that the worker has applied.
    pub(crate) fn advance(&mut self, now: Duration, applied: u64, moment: impl FnOnce() -> Moment) {
        if self.running.as_ref().is_some_and(|(_, thread)| thread.is_finished()) {
            self.join();
        }
        if self.running.is_some() || applied <= self.done {
            return;
        }
        let wait = match self.journal.fill() >= NEARLY_FULL {
            false => PERIOD,
            true if self.failed => RETRY,
            true => Duration::ZERO,
        };
        if now.saturating_sub(self.begun_at) >= wait {
            self.begun_at = now;
            self.begin(applied, moment());
        }
    }

    /// A last round, waited for.
    pub(crate) fn last(&mut self, applied: u64, moment: impl FnOnce() -> Moment) {
        self.join();
        if applied > self.done {
            self.begin(applied, moment());
            self.join();
        }
    }

    fn begin(&mut self, seq: u64, moment: Moment) {
        let epoch = self.journal.epoch();
        let round = self.store.begin_round(seq, epoch);
        let (journal, snapshots, done) = (self.journal.clone(), self.snapshots.clone(), self.done);
        let store = Arc::clone(&self.store);
        let write = move || {
            write(epoch, done, round, &moment, &snapshots, &journal)?;
            // Here, because it is work for the disk, of which the worker does none.
            store.install(seq);
            Ok(())
        };
        match std::thread::Builder::new().name("round".to_owned()).spawn(write) {
            Ok(thread) => self.running = Some((seq, thread)),
            Err(reason) => {
                self.failed = true;
                error!(%reason, "no thread for a round; the journal keeps its frames");
            }
        }
    }

    fn join(&mut self) {
        let Some((seq, thread)) = self.running.take() else { return };
        let outcome = thread.join();
        self.failed = !matches!(outcome, Ok(Ok(())));
        match outcome {
            Ok(Ok(())) => {
                self.store.finish_round(seq);
                self.done = seq;
            }
            Ok(Err(reason)) => error!(seq, %reason, "a round failed; the journal keeps its frames"),
            Err(_) => error!(seq, "a round panicked; the journal keeps its frames"),
        }
    }
}

fn write(
    epoch: u64,
    done: u64,
    round: Round,
    moment: &Moment,
    snapshots: &Snapshots,
    journal: &Journal,
) -> Result<(), String> {
    let seq = round.seq();
    let report = round.write();
    if let Some((instance, reason)) = report.failed.first() {
        let others = report.failed.len() - 1;
        return Err(format!("archive {instance} and {others} others: {reason}"));
    }
    snapshots.registry.write(epoch, seq, done, &moment.registry)?;
    snapshots.alerts.write(epoch, seq, done, &moment.alerts)?;
    journal.trim(Record { seq, epoch, excepted: Vec::new() }).map_err(|e| e.to_string())?;
    info!(seq, files = report.files, bytes = report.bytes, "round written");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rrd::{Disk, ManualClock, MemDisk};

    use super::*;

    #[test]
    fn a_failed_round_is_tried_again_at_once_only_after_a_pause() {
        let disk = MemDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let config = journal::Config { segment_bytes: 64 << 10, ..journal::Config::default() };
        let clock = Arc::new(ManualClock::default());
        let (journal, _) =
            Journal::open(Arc::clone(&shared), Path::new("/journal"), config, clock).unwrap();
        let (store, _) = Store::open(Arc::clone(&shared), Path::new("/archives"), 0).unwrap();
        let of = |name| Snapshot::of(Arc::clone(&shared), Path::new("/state"), name);
        let snapshots = Snapshots { registry: of("registry"), alerts: of("alerts") };
        let mut rounds = Rounds::new(Arc::new(store), journal.clone(), snapshots, 0);
        let mut applied = 0;
        while journal.fill() < NEARLY_FULL {
            applied = journal.append_reserved(journal::TICK, &[]).unwrap();
            journal.wait_durable(applied).unwrap();
        }
        let begins = |rounds: &mut Rounds, secs| {
            let moment = || Moment { registry: Vec::new(), alerts: Vec::new() };
            rounds.advance(Duration::from_secs(secs), applied, moment);
            let begun = rounds.running.is_some();
            rounds.join();
            begun
        };
        disk.fail_sync("/state/alerts.a");
        let begun = [100, 101, 104, 105, 106].map(|secs| begins(&mut rounds, secs));
        assert_eq!(begun, [true, false, false, true, false]);
        disk.heal();
        assert!(begins(&mut rounds, 110));
        assert!(journal.fill() < NEARLY_FULL);
        assert!(!begins(&mut rounds, 500), "everything is written");
    }
}
