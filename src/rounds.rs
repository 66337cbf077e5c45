//! Rounds: every 16 minutes everything a restart needs is written at one sequence number; earlier when
//! the journal has much to replay, or somebody waits for it.
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
use rrd::{InstanceId, Round, RoundReport, Step, Store, Timestamp};
use tracing::{error, info, warn};

use crate::aside::Aside;
use crate::operate::hold::Hold;
use crate::snapshot::Snapshot;

/// Rounds come at multiples of this journal time: the tiles of minutes, of ten seconds and of all that
/// divides a minute are full then, and their pages are written once (docs/decisions/003-rounds.md).
const PERIOD: Step = match Step::from_secs(16 * 60) {
    Some(step) => step,
    None => panic!("sixteen minutes are a step"),
};
/// So soon after another one, the round of the period is left out.
const JUST_BEFORE: Duration = Duration::from_mins(4);
/// Between two rounds that somebody waits for, and before a round that failed is tried again. Each
/// writes all files.
const SOON: Duration = Duration::from_mins(1);
/// A journal this full does not wait for the period.
const MUCH: f64 = 0.625;
/// Nor one that holds so much, be it ever so large: a start applies it in two seconds.
const MUCH_BYTES: f64 = 160.0 * (1 << 20) as f64;
/// A journal this full does not wait for a backup.
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

/// How far the worker has come.
#[derive(Clone, Copy)]
pub(crate) struct Reached {
    /// The last frame that it has applied.
    pub(crate) seq: u64,
    /// The journal's time there.
    pub(crate) stamp: Timestamp,
    /// Time since some moment of this process.
    pub(crate) now: Duration,
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
    /// The period that the last round began in; that of the start, before the first.
    period: Option<Timestamp>,
    /// Room of the journal.
    journal_bytes: f64,
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
        if !before.excepted.is_empty() {
            // What was set aside for them is applied, and one that can be written is to be taken back.
            store.ask_for_round();
        }
        let (running, begun_at, period, failed) = (None, Duration::ZERO, None, false);
        let (hold, capacity) = (Hold::default(), journal.stats().capacity_bytes);
        #[expect(clippy::cast_precision_loss, reason = "compared with megabytes")]
        let journal_bytes = capacity as f64;
        Self {
            store,
            journal,
            snapshots,
            before,
            running,
            begun_at,
            period,
            journal_bytes,
            failed,
            hold,
        }
    }

    /// These rounds, put off while a backup copies.
    pub(crate) fn held_by(self, hold: Hold) -> Self {
        Self { hold, ..self }
    }

    /// Ends a round that has been written, and begins one when it is time.
    pub(crate) fn advance(&mut self, at: Reached, moment: impl FnOnce() -> Moment) {
        if self.running.as_ref().is_some_and(|(_, thread)| thread.is_finished()) {
            self.join();
        }
        if self.running.is_some() || at.seq <= self.before.done {
            return;
        }
        if self.is_due(at) && self.may_begin() {
            self.begun_at = at.now;
            self.period = Some(at.stamp.floor(PERIOD));
            self.begin(at.seq, moment());
        }
    }

    fn is_due(&mut self, at: Reached) -> bool {
        let since = at.now.saturating_sub(self.begun_at);
        let fill = self.journal.fill();
        let held = fill * self.journal_bytes;
        if fill >= MUCH || held >= MUCH_BYTES {
            let wait = match self.failed {
                false => Duration::ZERO,
                true if fill >= NEARLY_FULL => RETRY,
                true => SOON,
            };
            return since >= wait;
        }
        if self.failed || self.store.wants_round() {
            return since >= SOON;
        }
        let period = at.stamp.floor(PERIOD);
        if since < JUST_BEFORE {
            self.period = Some(period);
        }
        period != *self.period.get_or_insert(period)
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

    /// Whether a round begins at this moment, which is also the journal's time. It is waited for.
    fn begins(rounds: &mut Rounds, secs: u64, seq: u64) -> bool {
        let stamp = Timestamp::from_secs(i64::try_from(secs).unwrap());
        let at = Reached { seq, stamp, now: Duration::from_secs(secs) };
        rounds.advance(at, || Moment { registry: Vec::new(), alerts: Vec::new() });
        let begun = rounds.running.is_some();
        rounds.join();
        begun
    }

    fn append(journal: &Journal) -> u64 {
        let seq = journal.append_reserved(journal::TICK, &[]).unwrap();
        journal.wait_durable(seq).unwrap();
        seq
    }

    #[test]
    fn rounds_come_every_sixteen_minutes_and_soon_when_somebody_waits() {
        let disk = MemDisk::new();
        let (journal, mut rounds) = rounds_on(&disk);
        let store = Arc::clone(&rounds.store);
        let mut begins = |secs| begins(&mut rounds, secs, append(&journal));
        let begun = [60, 959, 960, 961, 1919, 1921].map(&mut begins);
        assert_eq!(begun, [false, false, true, false, false, true]);
        // What is asked for comes within a minute, and the one of the period after it is left out.
        let gone = rrd::ChangeFrame { instance: InstanceId(1), change: rrd::Change::Remove };
        assert!(
            store.apply_change(1, &gone).is_err(),
            "nobody has it, and so nothing is to be done"
        );
        assert!(!begins(2700));
        store.ask_for_round();
        assert!(begins(2701));
        store.ask_for_round();
        assert_eq!([2702, 2760, 2761, 2762].map(&mut begins), [false, false, true, false]);
        assert_eq!([2881, 3001, 3840].map(&mut begins), [false, false, true]);
        disk.fail_sync("/state/alerts.a");
        disk.fail_sync("/state/alerts.b");
        assert_eq!([4800, 4859, 4860].map(&mut begins), [true, false, true], "a failed one, soon");
    }

    #[test]
    fn a_journal_that_takes_long_to_replay_does_not_wait_for_the_period() {
        let (journal, mut rounds) = rounds_on(&MemDisk::new());
        let mut seq = append(&journal);
        assert!(!begins(&mut rounds, 100, seq));
        while journal.fill() < MUCH {
            seq = append(&journal);
        }
        assert!(journal.fill() < NEARLY_FULL && begins(&mut rounds, 101, seq));
        assert!(journal.fill() < MUCH);
    }

    #[test]
    fn a_failed_round_is_tried_again_at_once_only_after_a_pause() {
        let disk = MemDisk::new();
        let (journal, mut rounds) = rounds_on(&disk);
        let mut applied = 0;
        while journal.fill() < NEARLY_FULL {
            applied = append(&journal);
        }
        disk.fail_sync("/state/alerts.a");
        let mut begins = |secs| begins(&mut rounds, secs, applied);
        let begun = [100, 101, 102, 103, 104].map(&mut begins);
        assert_eq!(begun, [true, false, false, true, false]);
        disk.heal();
        assert!(begins(110));
        assert!(journal.fill() < MUCH);
        assert!(!begins(2000), "everything is written");
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
        let mut begins = |secs, applied| begins(&mut rounds, secs, applied);
        assert!(!begins(0, append(&journal)), "its time has not come");
        assert!(!begins(1000, append(&journal)));
        assert_eq!(still.counter().unwrap(), before);
        let mut applied = append(&journal);
        while journal.fill() < NEARLY_FULL {
            applied = append(&journal);
        }
        assert!(begins(1001, applied), "the journal cannot wait");
        assert_eq!(still.counter().unwrap(), before + 2, "and the backup is told");
        drop(still);
        assert!(begins(2000, append(&journal)));
        disk.fail_sync("/state/alerts.a");
        assert!(begins(3000, append(&journal)));
        assert!(crate::operate::hold::alone(folder.path()).is_ok(), "a failed round lets go too");
    }
}
