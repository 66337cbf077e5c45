//! Rounds: once a minute everything a restart needs is written at one sequence number.
//!
//! Order matters: archives and snapshots first, all synced; then the journal's record of S; only then
//! does S count, and the journal forgets what is older.
//!
//! A file that fails is excepted: its instance is set apart, its frames are set aside, and the record
//! names it with the S of the last round that could write it. Each round tries it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use journal::{Journal, Record};
use rrd::{InstanceId, Round, RoundReport, Store};
use tracing::{error, info, warn};

use crate::aside::Aside;
use crate::operate::hold::Hold;
use crate::snapshot::Snapshot;

/// Time from the start of one round to the start of the next.
const PERIOD: Duration = Duration::from_mins(1);
/// A journal this full does not wait for the minute.
const NEARLY_FULL: f64 = 0.75;
/// Time after which a nearly full journal has a failed round tried again: a disk that fails shall
/// not be kept busy with it.
const RETRY: Duration = Duration::from_secs(3);

/// More excepted files than this have no place in the record, and are no matter of single files.
const MOST_EXCEPTED: usize = 700;

/// Files that a record excepts, each with its own S.
pub(crate) type Excepted = BTreeMap<InstanceId, u64>;

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

/// What the last record left behind, as recovery found it.
pub(crate) struct Before {
    /// Its S.
    pub(crate) done: u64,
    /// The files that it excepts, and those that could not be opened.
    pub(crate) excepted: Excepted,
    /// Where frames are set aside.
    pub(crate) aside: Aside,
    /// Frames of these are left there, for some are damaged.
    pub(crate) left: BTreeSet<InstanceId>,
}

/// Begins rounds in the worker and writes them in a thread of their own, one at a time.
pub(crate) struct Rounds {
    store: Arc<Store>,
    journal: Journal,
    snapshots: Snapshots,
    before: Before,
    running: Option<(u64, JoinHandle<Result<Excepted, String>>)>,
    begun_at: Duration,
    /// The last round came to nothing.
    failed: bool,
    hold: Hold,
}

impl Rounds {
    /// Rounds that go on after the record that recovery found.
    pub(crate) fn new(
        store: Arc<Store>,
        journal: Journal,
        snapshots: Snapshots,
        before: Before,
    ) -> Self {
        let (running, begun_at, failed) = (None, Duration::ZERO, false);
        let hold = Hold::default();
        Self { store, journal, snapshots, before, running, begun_at, failed, hold }
    }

    /// These rounds, put off while a backup copies.
    pub(crate) fn held_by(self, hold: Hold) -> Self {
        Self { hold, ..self }
    }

    /// Ends a round that has been written, and begins one when it is time. `applied` is the sequence
    /// number of the last frame that the worker has applied.
    pub(crate) fn advance(&mut self, now: Duration, applied: u64, moment: impl FnOnce() -> Moment) {
        if self.running.as_ref().is_some_and(|(_, thread)| thread.is_finished()) {
            self.join();
        }
        if self.running.is_some() || applied <= self.before.done {
            return;
        }
        let wait = match self.journal.fill() >= NEARLY_FULL {
            false => PERIOD,
            true if self.failed => RETRY,
            true => Duration::ZERO,
        };
        if now.saturating_sub(self.begun_at) >= wait && self.may_begin() {
            self.begun_at = now;
            self.begin(applied, moment());
        }
    }

    /// A last round, waited for.
    pub(crate) fn last(&mut self, applied: u64, moment: impl FnOnce() -> Moment) {
        self.join();
        if applied > self.before.done && self.may_begin() {
            self.begin(applied, moment());
            self.join();
        }
    }

    /// False while a backup copies and the journal has room. The journal keeps what is put off.
    fn may_begin(&mut self) -> bool {
        let is_urgent = self.journal.fill() >= NEARLY_FULL;
        self.hold.begin(is_urgent).unwrap_or_else(|reason| {
            error!(%reason, "rounds go on without regard to backups");
            true
        })
    }

    fn begin(&mut self, seq: u64, moment: Moment) {
        let round = self.store.begin_round(seq, self.journal.epoch());
        let writing = Writing {
            store: Arc::clone(&self.store),
            journal: self.journal.clone(),
            snapshots: self.snapshots.clone(),
            aside: self.before.aside.clone(),
            done: self.before.done,
            excepted: self.before.excepted.clone(),
            left: self.before.left.clone(),
        };
        let write = move || writing.write(round, &moment);
        match std::thread::Builder::new().name("round".to_owned()).spawn(write) {
            Ok(thread) => self.running = Some((seq, thread)),
            Err(reason) => {
                self.failed = true;
                self.end_hold();
                error!(%reason, "no thread for a round; the journal keeps its frames");
            }
        }
    }

    fn end_hold(&mut self) {
        if let Err(reason) = self.hold.end() {
            error!(%reason, "a backup that runs now may have to be made again");
        }
    }

    fn join(&mut self) {
        let Some((seq, thread)) = self.running.take() else { return };
        let outcome = thread.join();
        self.end_hold();
        self.failed = !matches!(outcome, Ok(Ok(_)));
        match outcome {
            Ok(Ok(excepted)) => {
                self.store.finish_round(seq);
                self.before.done = seq;
                self.before.excepted = excepted;
            }
            Ok(Err(reason)) => error!(seq, %reason, "a round failed; the journal keeps its frames"),
            Err(_) => error!(seq, "a round panicked; the journal keeps its frames"),
        }
    }
}

/// What the thread of a round works with.
struct Writing {
    store: Arc<Store>,
    journal: Journal,
    snapshots: Snapshots,
    aside: Aside,
    done: u64,
    excepted: Excepted,
    left: BTreeSet<InstanceId>,
}

impl Writing {
    /// Answers the files that the record excepts.
    fn write(self, round: Round, moment: &Moment) -> Result<Excepted, String> {
        let (seq, epoch, done) = (round.seq(), self.journal.epoch(), self.done);
        let report = round.write();
        let excepted = self.except(&report, seq)?;
        let failed = report.failed.iter().map(|(instance, _)| *instance).collect();
        let kept = self.aside.keep(&self.journal, (done, seq), &failed);
        kept.map_err(|reason| format!("frames cannot be set aside: {reason:#}"))?;
        self.snapshots.registry.write(epoch, seq, done, &moment.registry)?;
        self.snapshots.alerts.write(epoch, seq, done, &moment.alerts)?;
        let named = excepted.iter().map(|(id, seq)| (id.to_string(), *seq)).collect();
        self.journal.trim(Record { seq, epoch, excepted: named }).map_err(|e| e.to_string())?;
        info!(seq, files = report.files, bytes = report.bytes, "round written");
        // An archive that cannot be opened wants them when it can, be it named in the record or not.
        let lost = self.store.unavailable().into_iter().filter_map(|damage| damage.instance);
        let lost: BTreeSet<_> = lost.filter(|id| self.is_lost(*id, seq)).collect();
        // Here, because it is work for the disk, of which the worker does none.
        self.store.install(seq);
        let is_kept =
            |id| excepted.contains_key(&id) || self.left.contains(&id) || lost.contains(&id);
        if let Err(reason) = self.aside.remove_but(is_kept) {
            warn!(%reason, "frames set aside that are written by now stay there");
        }
        Ok(excepted)
    }

    /// Sets the instances apart whose files failed. Errors when that is a matter of the disk: then
    /// nobody is set apart, and the round is tried again as a whole.
    fn except(&self, report: &RoundReport, seq: u64) -> Result<Excepted, String> {
        let failed: BTreeSet<_> = report.failed.iter().map(|(instance, _)| *instance).collect();
        let most = (self.store.instance_count() / 2).clamp(1, MOST_EXCEPTED);
        if let Some((instance, reason)) = report.failed.first().filter(|_| failed.len() > most) {
            let others = failed.len() - 1;
            return Err(format!("archive {instance} and {others} others: {reason}"));
        }
        let mut excepted = self.excepted.clone();
        excepted.retain(|id, _| failed.contains(id) || self.is_lost(*id, seq));
        for (instance, reason) in &report.failed {
            excepted.entry(*instance).or_insert(self.done);
            self.store.suspend(*instance, format!("cannot be written: {reason}; check the disk"));
        }
        while excepted.len() > MOST_EXCEPTED {
            // Beyond that only files that no start could open: theirs are whole up to a later S.
            let Some((&id, _)) = excepted.iter().rfind(|(id, _)| self.is_lost(**id, seq)) else {
                break;
            };
            excepted.remove(&id);
        }
        Ok(excepted)
    }

    /// Its archive is damaged or missing, memory has nothing of it, and nobody has given it up by `seq`.
    fn is_lost(&self, id: InstanceId, seq: u64) -> bool {
        let store = &self.store;
        store.is_unavailable(id) && !store.is_loaded(id) && !store.is_given_up(id, seq)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rrd::{Disk, ManualClock, MemDisk};

    use super::*;

    /// Rounds over a small journal and an empty store, all on one disk.
    fn rounds_on(disk: &MemDisk) -> (Journal, Rounds) {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let config = journal::Config { segment_bytes: 64 << 10, ..journal::Config::default() };
        let clock = Arc::new(ManualClock::default());
        let (journal, _) =
            Journal::open(Arc::clone(&shared), Path::new("/journal"), config, clock).unwrap();
        let (store, _) = Store::open(Arc::clone(&shared), Path::new("/archives"), 0).unwrap();
        let of = |name| Snapshot::of(Arc::clone(&shared), Path::new("/state"), name);
        let snapshots = Snapshots { registry: of("registry"), alerts: of("alerts") };
        let aside = Aside::new(shared, "/aside".into());
        let before = Before { done: 0, excepted: BTreeMap::new(), aside, left: BTreeSet::new() };
        let rounds = Rounds::new(Arc::new(store), journal.clone(), snapshots, before);
        (journal, rounds)
    }

    #[test]
    fn a_failed_round_is_tried_again_at_once_only_after_a_pause() {
        let disk = MemDisk::new();
        let (journal, mut rounds) = rounds_on(&disk);
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
        let begun = [100, 101, 102, 103, 104].map(|secs| begins(&mut rounds, secs));
        assert_eq!(begun, [true, false, false, true, false]);
        disk.heal();
        assert!(begins(&mut rounds, 110));
        assert!(journal.fill() < NEARLY_FULL);
        assert!(!begins(&mut rounds, 500), "everything is written");
    }

    #[test]
    fn a_round_waits_for_a_backup_until_the_journal_is_nearly_full() {
        let folder = tempfile::tempdir().unwrap();
        let hold = Hold::open(folder.path()).unwrap();
        let still = crate::operate::hold::Still::of(folder.path()).unwrap();
        let disk = MemDisk::new();
        let (journal, rounds) = rounds_on(&disk);
        let mut rounds = rounds.held_by(hold);
        let before = still.counter().unwrap();
        let mut begins = |secs, applied| {
            let moment = || Moment { registry: Vec::new(), alerts: Vec::new() };
            rounds.advance(Duration::from_secs(secs), applied, moment);
            let begun = rounds.running.is_some();
            rounds.join();
            begun
        };
        let append = || {
            let seq = journal.append_reserved(journal::TICK, &[]).unwrap();
            journal.wait_durable(seq).unwrap();
            seq
        };
        assert!(!begins(1000, append()));
        assert_eq!(still.counter().unwrap(), before);
        let mut applied = append();
        while journal.fill() < NEARLY_FULL {
            applied = append();
        }
        assert!(begins(1001, applied), "the journal cannot wait");
        assert_eq!(still.counter().unwrap(), before + 2, "and the backup is told");
        drop(still);
        assert!(begins(2000, append()));
        disk.fail_sync("/state/alerts.a");
        assert!(begins(3000, append()));
        assert!(crate::operate::hold::alone(folder.path()).is_ok(), "a failed round lets go too");
    }
}
